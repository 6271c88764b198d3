//! Streaming: sequences that come a step at a time, and join and leave a batch as they like.

use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::layer::{InitialState, Recurrent, Sequence};
use crate::schedule::Recorder;
use crate::tensor::{NamedTensors, require_shapes};
use crate::wait;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the names of the states in the store begin with.
const STATES: &str = "live";

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
    /// Each slot's session, so that an old handle, or one of another batch, isn't taken for it.
    numbers: Vec<u64>,
    /// What sessions start from, where the stack has learned it.
    initial: Vec<Initial>,
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

/// The learned initial states of a layer.
struct Initial {
    /// The states' name in the store.
    state: String,
    /// h, then the other states, one after the other, each with its width.
    values: Vec<(usize, Vec<f32>)>,
}

impl Initial {
    /// Of all layers of a stack that goes forward; the weights have its parameters.
    fn of(stack: &Recurrent, weights: &NamedTensors) -> Vec<Self> {
        if !stack.learned_initial {
            return Vec::new();
        }
        let of_layer = |layer: usize| {
            let name = format!("{}.initial_l{layer}", stack.name);
            let mut all = weights.get(&name)?.iter().copied();
            let widths = (0..stack.cell.states()).map(|state| match state {
                0 => stack.cell.width(stack.hidden),
                _ => stack.hidden,
            });
            let values = widths.map(|n| (n, all.by_ref().take(n).collect())).collect();
            Some(Initial { state: format!("{STATES}.l{layer}"), values })
        };
        (0..stack.layers).filter_map(of_layer).collect()
    }

    /// Puts them into the rows of the slots that are new.
    fn write(&self, store: &Store, slots: &[Slot]) -> Result<()> {
        let mut states = store.get(&self.state)?;
        let mut rest = &mut states[..];
        for (width, own) in &self.values {
            let (rows, more) = rest.split_at_mut(slots.len() * width);
            let new = rows.chunks_mut(*width).zip(slots).filter(|(_, slot)| **slot == Slot::New);
            new.for_each(|(row, _)| row.copy_from_slice(own));
            rest = more;
        }
        // Another session's states may have become no numbers: that is no error of this one.
        store.put(&self.state, &states)
    }
}

/// A session of a [`LiveBatch`]: its slot's number, and which session of the process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    slot: usize,
    number: u64,
}

/// Sessions of all batches so far: a handle is of one batch alone.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

impl Session {
    /// The number of the slot: the session's row of inputs and outputs.
    pub fn slot(self) -> usize {
        self.slot
    }
}

impl LiveBatch {
    /// A batch of `capacity` slots for a stack that goes forward, with its weights; others may be among them.
    ///
    /// # Errors
    /// No slot; a stack that hears the future (a reverse direction) or is a convolution; a weight that is
    /// missing or has another shape; an engine for an ensemble.
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
        if engine.members() > 1 {
            return Err(Error::invalid("a live batch is of one model, on an engine for one"));
        }
        stack.check()?;
        let shapes = stack.all_parameters().into_iter().map(|p| (p.name, p.shape));
        require_shapes(&shapes.collect::<BTreeMap<_, _>>(), weights)?;
        let initial = Initial::of(stack, weights);
        // Sessions begin at different times: their learned states are put into their slots when they join.
        let stack = &Recurrent { learned_initial: false, ..stack.clone() };
        let mut rec = Recorder::inference();
        let x = rec.input("x", [capacity, stack.input], false)?;
        let resets = rec.input("resets", [1, capacity], false)?;
        let sequence = Sequence::new(1, capacity).with_resets(resets.view);
        let carried = InitialState::Carried(STATES.to_string());
        let y = stack.record(&mut rec, x, sequence, &carried)?.output;
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
            numbers: vec![0; capacity],
            initial,
            rows: vec![0.0; capacity * stack.input],
            reset_words: vec![1.0; capacity],
        })
    }

    /// How many sessions there can be.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// A new session, whose states are zeros before its first step, or the stack's learned initial ones. None where every
    /// slot is taken.
    pub fn join(&mut self) -> Option<Session> {
        let free = self.slots.iter().position(|&slot| slot == Slot::Free)?;
        self.slots[free] = Slot::New;
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        self.numbers[free] = number;
        Some(Session { slot: free, number })
    }

    /// Ends a session; its slot is free again.
    ///
    /// # Errors
    /// There is no such session, or it ended before; the slot may have another by now.
    pub fn leave(&mut self, session: Session) -> Result<()> {
        self.check(session)?;
        self.slots[session.slot] = Slot::Free;
        Ok(())
    }

    fn check(&self, Session { slot, number }: Session) -> Result<()> {
        match self.slots.get(slot) {
            Some(Slot::New | Slot::Running) if self.numbers[slot] == number => Ok(()),
            Some(Slot::New | Slot::Running) => {
                let what = format!(
                    "the session has ended, or is another batch's: slot {slot} has another one"
                );
                Err(Error::invalid(what))
            }
            _ => Err(Error::invalid(format!("there is no session in slot {slot}"))),
        }
    }

    /// One step of every session: x \[capacity, I\] by slots (rows of free slots are not looked at) to
    /// the outputs \[capacity, P\]. Sessions that joined since the last step start from
    /// zeros, or from the learned initial states.
    ///
    /// # Errors
    /// Another size of x, a value of a session that is not finite, or the device failed.
    pub fn step(&mut self, x: &[f32]) -> Result<Vec<f32>> {
        wait::here(self.step_async(x))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`LiveBatch::step`].
    pub async fn step_async(&mut self, x: &[f32]) -> Result<Vec<f32>> {
        self.run_step(x)?;
        self.program.read_async(self.output).await
    }

    /// The same, to where the caller says. On the CPU a step of a small stack asks for no memory and no other thread (but
    /// for the first step of a session that starts from learned states): this is the way for a single stream in real
    /// time.
    ///
    /// # Errors
    /// As [`LiveBatch::step`], and another size of the output.
    pub fn step_into(&mut self, x: &[f32], output: &mut [f32]) -> Result<()> {
        let want = self.slots.len() * self.widths[1];
        if output.len() != want {
            return Err(Error::shape("output of the live batch", &[want], &[output.len()]));
        }
        self.run_step(x)?;
        self.program.read_into(self.output, output)
    }

    fn run_step(&mut self, x: &[f32]) -> Result<()> {
        let input = self.widths[0];
        let want = self.slots.len() * input;
        if x.len() != want {
            return Err(Error::shape("input of the live batch", &[want], &[x.len()]));
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
            let starts = *slot == Slot::New && self.initial.is_empty();
            *reset = f32::from(*slot == Slot::Free || starts);
        }
        if self.slots.contains(&Slot::New) {
            self.initial.iter().try_for_each(|initial| initial.write(&self.store, &self.slots))?;
        }
        self.program.write(self.x, &self.rows)?;
        self.program.write(self.resets, &self.reset_words)?;
        self.program.run()?;
        for slot in self.slots.iter_mut().filter(|slot| **slot == Slot::New) {
            *slot = Slot::Running;
        }
        Ok(())
    }

    /// The store with the weights and the states (`live.l0` and so on, which hold learned initial states from a session's
    /// first step on).
    pub fn store(&self) -> &Store {
        &self.store
    }
}
