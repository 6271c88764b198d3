//! The gradient microscope: what flows through each step of recurrent layers, forward and back.
//!
//! [`Microscope::look`] runs the task's next training step once more, recorded so that every step of every
//! recurrent layer shows its gates, its states and the gradients that reach it
//! ([`Recorder::with_scope`]), in a program of its own over the same weights. A run that never looks has
//! nothing of it.

mod spectral;
mod total;
mod trouble;
mod verdict;
mod view;

pub use spectral::spectral_radius;
pub use trouble::Trouble;
pub use view::{GateView, Gradients, LayerView, UpdateRatio, View};

use super::trainer::zero_states;
use super::{Phase, STATE_PREFIX, Task};
use crate::engine::{Engine, Inputs, Program, Store};
use crate::error::{Error, Result};
use crate::layer::{Recurrent, Scope};
use crate::recording::{Recording, Role};
use crate::schedule::Recorder;

/// A task's training step under the microscope.
pub struct Microscope {
    program: Program,
    recording: Recording,
    store: Store,
    stacks: Vec<Recurrent>,
}

/// One layer and direction of a stack.
#[derive(Clone, Copy)]
struct Place<'a> {
    stack: &'a Recurrent,
    layer: usize,
    direction: usize,
}

impl Place<'_> {
    fn scope(&self) -> Scope {
        Scope::of(self.stack, [self.layer, self.direction])
    }
}

impl Microscope {
    /// Looks at a task's training step of a shape with the weights in a store. In f32, whatever
    /// precision is trained in.
    ///
    /// # Errors
    /// The task has no recurrent layers ([`Task::recurrent`]), or one that can't be looked at: batch norm goes over
    /// all steps at once. An ensemble.
    pub fn new(engine: &Engine, store: &Store, task: &impl Task, shape: usize) -> Result<Self> {
        let stacks: Vec<Recurrent> = task.recurrent().into_iter().cloned().collect();
        if stacks.is_empty() {
            return Err(Error::invalid("the task has no recurrent layers to look at"));
        }
        if engine.members() > 1 {
            return Err(Error::invalid("the microscope looks at one model, not at an ensemble"));
        }
        let mut rec = Recorder::training().with_scope();
        task.record(&mut rec, Phase::Training, shape)?;
        rec.backward()?;
        let recording = rec.finish();
        let program = engine.load(&recording, store)?;
        Ok(Microscope { program, recording, store: store.clone(), stacks })
    }

    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.stacks.iter().flat_map(|stack| {
            (0..stack.layers).flat_map(move |layer| {
                let directions = 0..stack.direction.count();
                directions.map(move |direction| Place { stack, layer, direction })
            })
        })
    }

    /// Runs the step whose inputs `feed` writes and shows what flowed. The recurrent states that the task carries
    /// are what they were afterwards; `anew` takes zeros in their place, as at the start of a pass.
    ///
    /// # Errors
    /// The device failed.
    pub fn look(
        &mut self,
        anew: bool,
        feed: impl FnOnce(&mut Inputs) -> Result<()>,
    ) -> Result<View> {
        if let Some(Trouble { place, value, .. }) = self.run(anew, feed)? {
            let hint = "there is nothing to be seen behind it".to_string();
            return Err(Error::NotFinite { what: format!("'{place}'"), step: 0, value, hint });
        }
        let layers = self.places().map(|place| LayerView::read(self, place));
        Ok(View { step: 0, layers: layers.collect::<Result<_>>()?, updates: Vec::new() })
    }

    /// Runs the same step and says where the first value lies that is no number, in the order in which they are
    /// computed: none where there is none.
    ///
    /// # Errors
    /// The device failed.
    pub fn find_trouble(
        &mut self,
        anew: bool,
        feed: impl FnOnce(&mut Inputs) -> Result<()>,
    ) -> Result<Option<Trouble>> {
        match self.run(anew, feed)? {
            Some(trouble) => Ok(Some(trouble)),
            None => Trouble::find(self),
        }
    }

    /// Runs, unless a carried state is no number: then this is returned.
    fn run(
        &mut self,
        anew: bool,
        feed: impl FnOnce(&mut Inputs) -> Result<()>,
    ) -> Result<Option<Trouble>> {
        let carried: Vec<(String, Vec<f32>)> = self
            .recording
            .buffers()
            .iter()
            .filter(|b| b.role == Role::State && b.name.starts_with(STATE_PREFIX))
            .map(|b| Ok((b.name.clone(), self.store.get(&b.name)?)))
            .collect::<Result<_>>()?;
        if !anew && let Some(trouble) = carried.iter().find_map(|(n, v)| Trouble::of(n, "value", v))
        {
            return Ok(Some(trouble));
        }
        if anew {
            zero_states(&self.store, &self.recording)?;
        }
        feed(&mut self.program.inputs())?;
        let run = self.program.run().and_then(|()| self.program.wait());
        for (name, values) in carried.into_iter().filter(|(_, v)| v.iter().all(|x| x.is_finite())) {
            self.store.set(&name, &values)?;
        }
        run.map(|()| None)
    }

    /// T and B.
    fn shape(&self, place: Place) -> Result<[usize; 2]> {
        let (stack, names) = (place.stack, place.scope());
        let len = |name: &str| Ok(self.recording.get(self.recording.require(name)?).len);
        // T·B rows of outputs, and T + 1 states of B rows.
        let rows = len(&names.d_output())? / stack.cell.width(stack.hidden);
        let batch = len(&names.carry())? / stack.cell.state_words(stack.hidden) - rows;
        Ok([rows / batch, batch])
    }

    fn output(&self, name: &str) -> Result<Vec<f32>> {
        self.program.read(self.recording.require(name)?)
    }
}
