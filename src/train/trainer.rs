//! A task on an engine: its programs, its weights, a step, an evaluation, a checkpoint.

use super::checkpoint::{member_tensor, seeds};
use super::feed::Ahead;
use super::watcher::Watcher;
use super::{Checkpoint, LoopState, MemberLosses, Phase, STATE_PREFIX, Task, TrainOptions};
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::LossScale;
use crate::loss::{LOSS, RING};
use crate::recording::{Recording, Role};
use crate::schedule::{AVERAGE_PREFIX, Recorder, average_name};
use crate::tensor::{HostTensor, NamedTensors};
use std::collections::BTreeMap;
use std::path::Path;

/// A task on an engine, with its weights.
pub struct Trainer<'a, T: Task> {
    pub(super) task: &'a T,
    pub(super) options: TrainOptions,
    pub(super) store: Store,
    /// One for each shape of the batches.
    pub(super) training: Vec<Loaded>,
    validation: Vec<Loaded>,
    /// The shapes of the last steps, as many as a ring has entries.
    pub(super) shapes: Vec<usize>,
    pub(super) step: u64,
    pub(super) state: LoopState,
    pub(super) best: NamedTensors,
    pub(super) members: usize,
    pub(super) watcher: Option<Watcher>,
    /// The run has a folder, which holds a checkpoint of before.
    pub(super) saves: bool,
}

/// A recording, and what runs it.
pub(super) struct Loaded {
    pub recording: Recording,
    pub program: Program,
}

/// The recording of a task's training step: forward, loss, backward, the optimizer.
///
/// # Errors
/// Sizes that make no sense; no parameter has a gradient.
pub fn record_training(
    task: &impl Task,
    options: &TrainOptions,
    shape: usize,
) -> Result<Recording> {
    let mut rec = Recorder::training().with_precision(options.precision);
    options.update.freeze(&mut rec);
    rec.micro_batches(options.micro_batches, |rec, _| task.record(rec, Phase::Training, shape))?;
    options.update.record(&mut rec)?;
    Ok(rec.finish())
}

/// The recording of a task's validation batch, with averaged weights if there are some.
///
/// # Errors
/// Sizes that make no sense.
pub fn record_validation(
    task: &impl Task,
    options: &TrainOptions,
    shape: usize,
) -> Result<Recording> {
    let mut rec = Recorder::inference().with_precision(options.precision);
    if options.update.averaging.is_some() {
        rec = rec.averaged();
    }
    task.record(&mut rec, Phase::Validation, shape)?;
    Ok(rec.finish())
}

impl<'a, T: Task> Trainer<'a, T> {
    /// Loads a task. Without a checkpoint, weights are drawn from the seed.
    ///
    /// # Errors
    /// What the recordings or the device refuse; a checkpoint of another model, seed, number of members or optimizer
    /// (where it says which: folders of version 0.1 don't); batches of several shapes in an ensemble or as
    /// micro-batches; more micro-batches than a pass has batches.
    pub fn new(
        engine: &Engine,
        task: &'a T,
        options: TrainOptions,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self> {
        options.check()?;
        let several = task.shapes(Phase::Training) > 1;
        if several && (engine.members() > 1 || options.micro_batches > 1) {
            return Err(Error::invalid(
                "batches of several shapes can't be an ensemble's or micro-batches of one step: \
                 batches need one shape here (Fit::with_shapes(1))",
            ));
        }
        let all = task.batches_per_epoch();
        if options.micro_batches as u64 > all {
            let n = options.micro_batches;
            return Err(Error::invalid(format!(
                "{n} micro-batches are more than the {all} batches of a pass over the data"
            )));
        }
        let recordings: Vec<Recording> = (0..task.shapes(Phase::Training))
            .map(|shape| record_training(task, &options, shape))
            .collect::<Result<_>>()?;
        let validates = options.overfit.is_none() && task.validation_batches() > 0;
        let count = if validates { task.shapes(Phase::Validation) } else { 0 };
        let validation_recordings: Vec<Recording> = (0..count)
            .map(|shape| record_validation(task, &options, shape))
            .collect::<Result<_>>()?;
        let Some(recording) = recordings.first() else {
            return Err(Error::invalid("the task has no shape of batches"));
        };
        // Before any weight is drawn: a model that is far too large fails here.
        recordings.iter().try_for_each(|recording| engine.check(recording))?;
        let store = engine.store();
        let members = engine.members();
        let shapes = task.weight_shapes();
        let (step, state, tensors, best) = match checkpoint {
            Some(checkpoint) => {
                let reason = if checkpoint.seed != options.seed {
                    let (found, asked) = (checkpoint.seed, options.seed);
                    format!("seed is {found}, not {asked}: masks and data order would change")
                } else {
                    format!("members are {}, not {members}", checkpoint.members)
                };
                if checkpoint.seed != options.seed || checkpoint.members != members {
                    return Err(Error::invalid(format!("the checkpoint's {reason}")));
                }
                let optimizer = options.update.optimizer.name();
                if let Some(found) = checkpoint.optimizer.filter(|found| found != optimizer)
                    && checkpoint.step > 0
                {
                    return Err(Error::invalid(format!(
                        "the checkpoint's optimizer is {found}, not {optimizer}: what it has kept of the \
                         gradients means something else"
                    )));
                }
                (checkpoint.step, checkpoint.state, checkpoint.tensors, checkpoint.best)
            }
            None => {
                let mut all = NamedTensors::new();
                for (member, seed) in seeds(options.seed, members).enumerate() {
                    let of = |name: &str| member_tensor(name, member, members);
                    let weights = task.initial_weights(seed).into_iter();
                    all.extend(weights.map(|(name, tensor)| (of(&name), tensor)));
                }
                (0, LoopState::default(), all, NamedTensors::new())
            }
        };
        let all = step > 0;
        let mut tensors = tensors;
        if !all && options.update.averaging.is_some() {
            // An average of nothing yet is what it will begin as.
            let copies = tensors.iter().map(|(name, tensor)| {
                let (member, own) = match members {
                    1 => ("", name.as_str()),
                    _ => name.split_once('/').unwrap_or(("", name)),
                };
                let number = member.parse().unwrap_or(0);
                (member_tensor(&average_name(own), number, members), tensor.clone())
            });
            let copies: NamedTensors = copies.collect();
            tensors.extend(copies);
        }
        set_tensors(&store, recording, &shapes, members, &tensors, all)?;
        let load = |recording: Recording| -> Result<Loaded> {
            Ok(Loaded { program: engine.load(&recording, &store)?, recording })
        };
        let training = recordings.into_iter().map(load).collect::<Result<_>>()?;
        let validation = validation_recordings.into_iter().map(load).collect::<Result<_>>()?;
        let shapes = vec![0; RING];
        Ok(Trainer {
            task,
            options,
            store,
            training,
            validation,
            shapes,
            step,
            state,
            best,
            members,
            watcher: None,
            saves: false,
        })
    }

    /// Puts weights, moments and states back to what they were at a checkpoint of this run.
    pub(super) fn set_back(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (shapes, members) = (self.task.weight_shapes(), self.members);
        let tensors = &checkpoint.tensors;
        set_tensors(&self.store, self.recording(), &shapes, members, tensors, true)?;
        (self.step, self.state) = (checkpoint.step, checkpoint.state.clone());
        Ok(())
    }

    /// The recording of the training step, of several shapes the first.
    pub fn recording(&self) -> &Recording {
        &self.training[0].recording
    }

    /// The loaded training step, of several shapes the first.
    pub fn program(&self) -> &Program {
        &self.training[0].program
    }

    /// The loaded training steps, one for each shape of the batches.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.training.iter().map(|loaded| &loaded.program)
    }

    /// What the loop remembers: the best evaluations, and how long ago they were.
    pub fn state(&self) -> &LoopState {
        &self.state
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The store with weights, moments and states.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where the members' loss scales stand; none where activations are f32.
    ///
    /// # Errors
    /// The device failed.
    pub fn loss_scales(&self) -> Result<Vec<LossScale>> {
        if self.recording().find(LossScale::NAME).is_none() {
            return Ok(Vec::new());
        }
        let scale = |member| Ok(LossScale::new(&self.store.member(member)?.get(LossScale::NAME)?));
        (0..self.members).map(scale).collect()
    }

    /// Whether there is something to evaluate with.
    pub fn validates(&self) -> bool {
        !self.validation.is_empty()
    }

    /// The members' mean losses over the validation data; none where the task has no such data.
    ///
    /// # Errors
    /// The device failed.
    pub fn evaluate(&mut self) -> Result<Option<MemberLosses>> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        for Loaded { recording, .. } in &self.validation {
            zero_states(&self.store, recording)?;
        }
        let batches = self.task.validation_batches();
        let (mut sums, mut weights) = (vec![0.0; self.members], 0.0);
        // Of each shape the weights of the batches that lie in its ring.
        let mut pending: Vec<Vec<f64>> = vec![Vec::new(); self.validation.len()];
        let mut take = |shape: &Loaded, pending: &mut Vec<f64>| -> Result<()> {
            if pending.is_empty() {
                return Ok(());
            }
            let rings = shape.program.read(shape.recording.require(LOSS)?)?;
            for (at, weight) in pending.drain(..).enumerate() {
                let each = sums.iter_mut().zip(rings.chunks(RING));
                each.for_each(|(sum, ring)| *sum += weight * f64::from(ring[at]));
                weights += weight;
            }
            Ok(())
        };
        let (task, seed) = (self.task, self.options.seed);
        std::thread::scope(|scope| -> Result<()> {
            let make = |batch| task.feed(Phase::Validation, batch, seed);
            let mut feeds = Ahead::start(scope, 0..batches, make);
            for batch in 0..batches {
                let feed = feeds.take(batch)?;
                let shape = feed.shape();
                let Some(loaded) = self.validation.get_mut(shape) else {
                    return Err(Error::invalid(format!("a validation batch of shape {shape}")));
                };
                let own = &mut pending[shape];
                feed.write(&mut loaded.program.inputs())?;
                own.push(task.validation_weight(batch));
                loaded.program.set_control(crate::kernel::Control::new(own.len() as u32, 0));
                loaded.program.run()?;
                if own.len() == RING {
                    take(loaded, own)?;
                }
            }
            Ok(())
        })?;
        for (loaded, own) in self.validation.iter().zip(&mut pending) {
            take(loaded, own)?;
        }
        if weights == 0.0 {
            let what = "nothing counts in the validation data: all targets are missing or ignored";
            return Err(Error::invalid(what));
        }
        let mean = |sum: f64| (sum / weights) as f32;
        Ok(Some(MemberLosses(sums.into_iter().map(mean).collect())))
    }

    /// Weights, moments and states as they are now.
    ///
    /// # Errors
    /// The device failed.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let mut tensors = NamedTensors::new();
        let shapes = self.task.weight_shapes();
        for buffer in self.recording().buffers() {
            if !matches!(buffer.role, Role::Parameter | Role::State) {
                continue;
            }
            let values = self.store.get(&buffer.name)?;
            // An average has its parameter's shape.
            let weight = buffer.name.strip_prefix(AVERAGE_PREFIX).unwrap_or(&buffer.name);
            let shape = shapes.get(weight).cloned().unwrap_or(vec![buffer.len]);
            for (member, values) in values.chunks(buffer.len).enumerate() {
                let name = member_tensor(&buffer.name, member, self.members);
                let tensor = HostTensor::from_shape_vec(shape.clone(), values.to_vec())
                    .map_err(|e| Error::invalid(format!("'{name}': {e}")))?;
                tensors.insert(name, tensor);
            }
        }
        let (seed, members, state) = (self.options.seed, self.members, self.state.clone());
        let best = self.best.clone();
        let optimizer = Some(self.options.update.optimizer.name().to_string());
        Ok(Checkpoint { step: self.step, seed, members, optimizer, state, tensors, best })
    }

    /// Writes a checkpoint of now: at the start of a run, before anything says that the folder holds
    /// a model, and on resuming, so that the two files agree whatever was killed before.
    ///
    /// # Errors
    /// A weight is no number, or the folder can't be written: the files are as they were.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.finite_checkpoint()?.save(folder, |name| self.is_weight(name))
    }

    /// Keeps the weights of members as they were evaluated now as their best.
    pub(super) fn keep_best(&mut self, better: &[usize]) -> Result<()> {
        let averages = self.options.update.averaging.is_some();
        for (name, shape) in self.task.weight_shapes() {
            for &member in better {
                let stored = if averages { average_name(&name) } else { name.clone() };
                let values = self.store.member(member)?.get(&stored)?;
                let tensor = HostTensor::from_shape_vec(shape.clone(), values)
                    .map_err(|e| Error::invalid(format!("'{name}': {e}")))?;
                self.best.insert(member_tensor(&name, member, self.members), tensor);
            }
        }
        Ok(())
    }

    /// The weights of each member's best evaluation, by the names that checkpoints have; none before the first.
    pub fn best_weights(&self) -> &NamedTensors {
        &self.best
    }

    fn is_weight(&self, name: &str) -> bool {
        let recording = self.recording();
        recording.find(name).is_some_and(|id| recording.get(id).role == Role::Parameter)
    }

    fn finite_checkpoint(&self) -> Result<Checkpoint> {
        let checkpoint = self.checkpoint()?;
        self.require_numbers(&checkpoint.tensors, self.step)?;
        Ok(checkpoint)
    }

    /// Whether all tensors, as they were after a step, are numbers.
    pub(crate) fn require_numbers(&self, tensors: &NamedTensors, step: u64) -> Result<()> {
        for (name, tensor) in tensors {
            if let Some(&value) = tensor.iter().find(|x| !x.is_finite()) {
                return Err(self.not_finite(&format!("'{name}'"), step, value, self.members));
            }
        }
        Ok(())
    }

    pub(super) fn not_finite(&self, what: &str, step: u64, value: f32, member: usize) -> Error {
        let hint = match self.saves {
            true => {
                "the last checkpoint holds the weights from before; try a smaller learning rate or \
                 clipping norm"
            }
            false => "try a smaller learning rate or clipping norm",
        };
        let of = match seeds(self.options.seed, self.members).nth(member) {
            Some(seed) if self.members > 1 => format!(" of seed {seed}"),
            _ => String::new(),
        };
        Error::NotFinite { what: format!("{what}{of}"), step, value, hint: hint.to_string() }
    }
}

/// Sets parameters and states of a recording; with `all` none may be missing.
fn set_tensors(
    store: &Store,
    recording: &Recording,
    shapes: &BTreeMap<String, Vec<usize>>,
    members: usize,
    tensors: &NamedTensors,
    all: bool,
) -> Result<()> {
    for buffer in recording.buffers() {
        if !matches!(buffer.role, Role::Parameter | Role::State) {
            continue;
        }
        for member in 0..members {
            let name = member_tensor(&buffer.name, member, members);
            let Some(tensor) = tensors.get(&name) else {
                if all {
                    let place = "the checkpoint".to_string();
                    return Err(Error::Missing { tensor: name, place });
                }
                continue;
            };
            let shape = shapes.get(&buffer.name).cloned().unwrap_or(vec![buffer.len]);
            let same = match shapes.contains_key(&buffer.name) {
                true => tensor.shape() == shape,
                false => tensor.len() == buffer.len,
            };
            if !same {
                return Err(Error::shape(name, &shape, tensor.shape()));
            }
            let values: Vec<f32> = tensor.iter().copied().collect();
            store.member(member)?.set(&buffer.name, &values)?;
        }
    }
    Ok(())
}

/// Zeros in every carried state of a recording.
pub(super) fn zero_states(store: &Store, recording: &Recording) -> Result<()> {
    for buffer in recording.buffers() {
        if buffer.role == Role::State && buffer.name.starts_with(STATE_PREFIX) {
            store.set(&buffer.name, &vec![0.0; buffer.len])?;
        }
    }
    Ok(())
}
