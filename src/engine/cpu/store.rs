//! The store's tensors on the CPU.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Tensors by name, shared by programs. Programs of one store run one after another.
#[derive(Clone, Default)]
pub struct CpuStore {
    tensors: Arc<Mutex<Tensors>>,
}

#[derive(Default)]
pub struct Tensors {
    pub by_name: HashMap<String, Tensor>,
    /// Versions so far.
    pub versions: u64,
}

pub struct Tensor {
    pub words: Vec<f32>,
    /// Another one whenever the words may be others: what was made of them can be kept until then.
    pub version: u64,
}

impl Tensors {
    pub fn set(&mut self, name: &str, words: Vec<f32>) {
        self.versions += 1;
        let tensor = Tensor { words, version: self.versions };
        self.by_name.insert(name.to_string(), tensor);
    }
}

impl CpuStore {
    pub fn lock(&self) -> MutexGuard<'_, Tensors> {
        // A run checks every length before it takes anything, so a poisoned store is noticed there.
        self.tensors.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn set(&self, name: &str, words: &[f32]) {
        self.lock().set(name, words.to_vec());
    }

    pub fn get(&self, name: &str) -> Option<Vec<f32>> {
        self.lock().by_name.get(name).map(|tensor| tensor.words.clone())
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().by_name.keys().cloned().collect()
    }
}
