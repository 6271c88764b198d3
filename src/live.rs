//! Streaming: sequences that come a step at a time, and join and leave a batch as they like.

use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::layer::{InitialState, Recurrent, Sequence};
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;

/// A batch of slots, each of which may hold a session: a sequence whose steps come one after another.
/// States stay on the device. All slots are computed at each step, whoever is there, so that a
/// session's numbers are the same to the bit whatever the others do.
pub struct LiveBatch {
    program: Program,
    store: Store,
    x: BufferId,
    resets: BufferId,
    output: BufferId,
    widths: [usize; 2],
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    /// Joined, and its states are still those of whoever was there before.
    New,
    Running,
}

/// A session of a [`LiveBatch`]: its slot's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session(usize);

impl Session {
    /// The number of the slot: the session's row of inputs and outputs.
    pub fn slot(self) -> usize {
        self.0
    }
}

impl LiveBatch {
    /// A batch of `capacity` slots for a stack that goes forward, with its weights.
    ///
    /// # Errors
    /// No slot; a stack that hears the future (a reverse direction) or is a convolution; a weight that is
    /// missing or has another shape.
    pub fn new(
        engine: &Engine,
        stack: &Recurrent,
        weights: &NamedTensors,
        capacity: usize,
    ) -> Result<Self> {
        if stack.direction != Default::default() || stack.convolution.is_some() {
            let what = "a live batch needs a stack that goes forward, without maps";
            return Err(Error::invalid(what));
        }
        let mut rec = Recorder::inference();
        let x = rec.input("x", [capacity, stack.input], false)?;
        let resets = rec.input("resets", [1, capacity], false)?;
        let sequence = Sequence::new(1, capacity).with_resets(resets.view);
        let initial = InitialState::Carried("live".to_string());
        let y = stack.record(&mut rec, x, sequence, &initial)?.output;
        let output = rec.output("output", y)?;
        let store = engine.store();
        store.set_all(weights)?;
        let program = engine.load(&rec.finish(), &store)?;
        Ok(LiveBatch {
            program,
            store,
            x: x.view.buffer,
            resets: resets.view.buffer,
            output: output.view.buffer,
            widths: [stack.input, y.columns],
            slots: vec![Slot::Free; capacity],
        })
    }

    /// How many sessions there can be.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// A new session, whose states are zeros before its first step. None where every slot is taken.
    pub fn join(&mut self) -> Option<Session> {
        let free = self.slots.iter().position(|&slot| slot == Slot::Free)?;
        self.slots[free] = Slot::New;
        Some(Session(free))
    }

    /// Ends a session; its slot is free again.
    ///
    /// # Errors
    /// There is no such session.
    pub fn leave(&mut self, session: Session) -> Result<()> {
        self.check(session)?;
        self.slots[session.0] = Slot::Free;
        Ok(())
    }

    fn check(&self, session: Session) -> Result<()> {
        match self.slots.get(session.0) {
            Some(Slot::New | Slot::Running) => Ok(()),
            _ => Err(Error::invalid(format!("there is no session in slot {}", session.0))),
        }
    }

    /// One step of every session: x \[capacity, I\] by slots (rows of free slots are not looked at) to
    /// the outputs \[capacity, P\]. Sessions that joined since the last step start from zeros.
    ///
    /// # Errors
    /// Another size of x, a value of a session that is not finite, or the device failed.
    pub fn step(&mut self, x: &[f32]) -> Result<Vec<f32>> {
        let [input, _] = self.widths;
        let want = self.slots.len() * input;
        if x.len() != want {
            return Err(Error::shape("input of the live batch", &[want], &[x.len()]));
        }
        let mut rows = x.to_vec();
        for ((number, slot), row) in self.slots.iter().enumerate().zip(rows.chunks_mut(input)) {
            if *slot == Slot::Free {
                row.fill(0.0);
            } else if let Some(value) = row.iter().find(|v| !v.is_finite()) {
                return Err(Error::invalid(format!("slot {number} was given {value}")));
            }
        }
        // A free slot stays at zeros, so that it can't run away.
        let resets: Vec<f32> =
            self.slots.iter().map(|&slot| f32::from(slot != Slot::Running)).collect();
        self.program.write(self.x, &rows)?;
        self.program.write(self.resets, &resets)?;
        self.program.run()?;
        for slot in self.slots.iter_mut().filter(|slot| **slot == Slot::New) {
            *slot = Slot::Running;
        }
        self.program.read(self.output)
    }

    /// The store with the weights and the states (`live.l0` and so on).
    pub fn store(&self) -> &Store {
        &self.store
    }
}
