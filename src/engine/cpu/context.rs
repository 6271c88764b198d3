//! The engine's threads.

use super::team::Calm;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What kernels know of the engine, or a lane of its share of it.
pub struct Context {
    pub threads: usize,
    /// A lane of one thread stays where it is, and so does all work in a browser.
    pub pool: Option<rayon::ThreadPool>,
    /// Held by the team at work: see [`super::team::ThreadTeam`].
    pub team: Mutex<()>,
    /// Whether its members find cores at once.
    pub calm: Calm,
    /// Those of lanes that have several threads, by the lane's number and its threads.
    lanes: Mutex<HashMap<[usize; 2], Arc<Context>>>,
}

impl Context {
    pub fn new(threads: usize) -> Result<Self> {
        if cfg!(target_arch = "wasm32") && threads == 1 {
            // There are no threads to start; rayon makes do with the caller's.
            return Ok(Self::alone(1));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool =
            pool.map_err(|e| Error::Device(format!("could not start {threads} threads: {e}")))?;
        Ok(Context { pool: Some(pool), ..Self::alone(threads) })
    }

    fn alone(threads: usize) -> Self {
        Context {
            threads,
            pool: None,
            team: Mutex::new(()),
            calm: Calm::default(),
            lanes: Mutex::default(),
        }
    }

    /// The threads of a lane, of which one program at a time makes use. Those of several are threads of their own,
    /// so that a team of them can gather while the lane beside it is at work.
    pub fn lane(&self, number: usize, threads: usize) -> Result<Arc<Self>> {
        if threads == 1 {
            return Ok(Arc::new(Self::alone(1)));
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lanes.get(&[number, threads]) {
            return Ok(known.clone());
        }
        let context = Arc::new(Self::new(threads)?);
        lanes.insert([number, threads], context.clone());
        Ok(context)
    }

    /// Runs something in these threads.
    pub fn within<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}
