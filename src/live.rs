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
    /// What goes in: rows of free slots are zeros; 1 for each slot that is not running.
    rows: Vec<f32>,
    reset_words: Vec<f32>,
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
            rows: vec![0.0; capacity * stack.input],
            reset_words: vec![1.0; capacity],
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
        let mut output = vec![0.0; self.slots.len() * self.widths[1]];
        self.step_into(x, &mut output)?;
        Ok(output)
    }

    /// The same, to where the caller says. On the CPU a step of a small stack asks for no memory
    /// and no other thread: this is the way for a single stream in real time.
    ///
    /// # Errors
    /// As [`LiveBatch::step`], and another size of the output.
    pub fn step_into(&mut self, x: &[f32], output: &mut [f32]) -> Result<()> {
        let [input, width] = self.widths;
        let want = self.slots.len() * input;
        if x.len() != want {
            return Err(Error::shape("input of the live batch", &[want], &[x.len()]));
        }
        let want = self.slots.len() * width;
        if output.len() != want {
            return Err(Error::shape("output of the live batch", &[want], &[output.len()]));
        }
        let rows = self.rows.chunks_mut(input).zip(x.chunks(input));
        let slots = self.slots.iter().zip(&mut self.reset_words).enumerate();
        for ((number, (slot, reset)), (row, x)) in slots.zip(rows) {
            if *slot == Slot::Free {
                row.fill(0.0);
            } else if let Some(value) = x.iter().find(|v| !v.is_finite()) {
                return Err(Error::invalid(format!("slot {number} was given {value}")));
            } else {
                row.copy_from_slice(x);
            }
            // A free slot stays at zeros, so that it can't run away.
            *reset = f32::from(*slot != Slot::Running);
        }
        self.program.write(self.x, &self.rows)?;
        self.program.write(self.resets, &self.reset_words)?;
        self.program.run()?;
        for slot in self.slots.iter_mut().filter(|slot| **slot == Slot::New) {
            *slot = Slot::Running;
        }
        self.program.read_into(self.output, output)
    }

    /// The store with the weights and the states (`live.l0` and so on).
    pub fn store(&self) -> &Store {
        &self.store
    }
}
