//! A task on an engine: its programs, its weights, a step, an evaluation, a checkpoint.

use super::checkpoint::{member_tensor, seeds};
use super::watcher::Watcher;
use super::{Checkpoint, LoopState, MemberLosses, Phase, STATE_PREFIX, Task, TrainOptions};
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::LossScale;
use crate::loss::{LOSS, RING};
use crate::measure::Profile;
use crate::recording::{Recording, Role};
use crate::schedule::Recorder;
use crate::tensor::{HostTensor, NamedTensors};
use std::collections::BTreeMap;
use std::path::Path;

/// A task on an engine, with its weights.
pub struct Trainer<'a, T: Task> {
    pub(super) task: &'a mut T,
    pub(super) options: TrainOptions,
    pub(super) store: Store,
    pub(super) training: Program,
    pub(super) recording: Recording,
    validation: Option<(Program, Recording)>,
    pub(super) step: u64,
    pub(super) state: LoopState,
    pub(super) best: NamedTensors,
    pub(super) members: usize,
    pub(super) watcher: Option<Watcher>,
}

/// The recording of a task's training step: forward, loss, backward, the optimizer.
///
/// # Errors
/// Sizes that make no sense; no parameter has a gradient.
pub fn record_training(task: &impl Task, options: &TrainOptions) -> Result<Recording> {
    let mut rec = Recorder::training().with_precision(options.precision);
    task.record(&mut rec, Phase::Training)?;
    rec.backward()?;
    options.optimizer.record(&mut rec, options.max_norm)?;
    Ok(rec.finish())
}

/// The recording of a task's validation batch.
///
/// # Errors
/// Sizes that make no sense.
pub fn record_validation(task: &impl Task, options: &TrainOptions) -> Result<Recording> {
    let mut rec = Recorder::inference().with_precision(options.precision);
    task.record(&mut rec, Phase::Validation)?;
    Ok(rec.finish())
}

impl<'a, T: Task> Trainer<'a, T> {
    /// Loads a task. Without a checkpoint, weights are drawn from the seed.
    ///
    /// # Errors
    /// What the recordings or the device refuse; a checkpoint of another model.
    pub fn new(
        engine: &Engine,
        task: &'a mut T,
        options: TrainOptions,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Self> {
        options.check()?;
        let recording = record_training(task, &options)?;
        let validation_recording = match options.overfit.is_none() && task.validation_batches() > 0
        {
            true => Some(record_validation(task, &options)?),
            false => None,
        };
        // Before any weight is drawn: a model that is far too large fails here.
        engine.check(&recording)?;
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
        set_tensors(&store, &recording, &shapes, members, &tensors, all)?;
        let training = engine.load(&recording, &store)?;
        let validation = match validation_recording {
            Some(recording) => Some((engine.load(&recording, &store)?, recording)),
            None => None,
        };
        Ok(Trainer {
            task,
            options,
            store,
            training,
            recording,
            validation,
            step,
            state,
            best,
            members,
            watcher: None,
        })
    }

    /// Puts weights, moments and states back to what they were at a checkpoint of this run.
    pub(super) fn set_back(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (shapes, members) = (self.task.weight_shapes(), self.members);
        let tensors = &checkpoint.tensors;
        set_tensors(&self.store, &self.recording, &shapes, members, tensors, true)?;
        self.step = checkpoint.step;
        Ok(())
    }

    /// The recording of the training step.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The loaded training step.
    pub fn program(&self) -> &Program {
        &self.training
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
        if self.recording.find(LossScale::NAME).is_none() {
            return Ok(Vec::new());
        }
        let scale = |member| Ok(LossScale::new(&self.store.member(member)?.get(LossScale::NAME)?));
        (0..self.members).map(scale).collect()
    }

    /// Takes the next steps and profiles them: two to warm up, `runs` as they are, one taken apart.
    ///
    /// # Errors
    /// As a run; a GPU without timestamps.
    pub fn profile(&mut self, engine: &Engine, runs: usize) -> Result<Profile> {
        for _ in 0..2 {
            self.one_step()?;
        }
        self.training.watch(runs)?;
        for _ in 0..runs {
            self.one_step()?;
        }
        let runs = self.training.watched()?;
        self.prepare_step(None)?;
        let launches = self.training.profile()?;
        Ok(Profile { device: engine.name(), launches, runs })
    }

    /// One training step.
    pub(super) fn one_step(&mut self) -> Result<()> {
        self.prepare_step(None)?;
        self.training.run()
    }

    /// Steps until the states begin anew.
    pub fn steps_per_epoch(&self) -> u64 {
        let all = self.task.steps_per_epoch().max(1);
        self.options.overfit.map_or(all, |batches| batches.min(all))
    }

    /// Whether the states begin anew with the next step.
    pub(super) fn begins_anew(&self) -> bool {
        self.step.is_multiple_of(self.steps_per_epoch())
    }

    /// What the next step is to the task.
    pub(super) fn next_batch(&self) -> u64 {
        match self.options.overfit {
            Some(_) => self.step % self.steps_per_epoch(),
            None => self.step,
        }
    }

    /// Writes the inputs of the next step, with its learning rate or another, and counts it.
    pub(super) fn prepare_step(&mut self, rate: Option<f32>) -> Result<()> {
        if self.begins_anew() {
            zero_states(&self.store, &self.recording)?;
        }
        let done = self.next_batch();
        self.step += 1;
        let step = u32::try_from(self.step)
            .map_err(|_| Error::invalid("more than 2^32 training steps"))?;
        let rate = rate.unwrap_or_else(|| self.options.rate(self.step));
        for (member, seed) in seeds(self.options.seed, self.members).enumerate() {
            let mut inputs = self.training.member(member)?;
            self.task.feed(&mut inputs, done, seed)?;
            inputs.set_control(self.options.optimizer.control(step, seed, rate));
        }
        Ok(())
    }

    /// The members' mean losses over the validation data; none where the task has no such data.
    ///
    /// # Errors
    /// The device failed.
    pub fn evaluate(&mut self) -> Result<Option<MemberLosses>> {
        let Some((program, recording)) = &mut self.validation else { return Ok(None) };
        zero_states(&self.store, recording)?;
        let loss = recording.require(LOSS)?;
        let batches = self.task.validation_batches();
        let mut sums = vec![0.0; self.members];
        let (mut summed, mut weights) = (0, 0.0);
        for batch in 0..batches {
            self.task.feed_validation(&mut program.inputs(), batch)?;
            program.set_control(crate::kernel::Control::new(batch as u32 + 1, 0));
            program.run()?;
            if (batch + 1).is_multiple_of(RING as u64) || batch + 1 == batches {
                let ring = program.read(loss)?;
                for batch in summed..=batch {
                    let weight = self.task.validation_weight(batch);
                    let at = (batch % RING as u64) as usize;
                    let each = sums.iter_mut().zip(ring.chunks(RING));
                    each.for_each(|(sum, ring)| *sum += weight * f64::from(ring[at]));
                    weights += weight;
                }
                summed = batch + 1;
            }
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
        for buffer in self.recording.buffers() {
            if !matches!(buffer.role, Role::Parameter | Role::State) {
                continue;
            }
            let values = self.store.get(&buffer.name)?;
            let shape = shapes.get(&buffer.name).cloned().unwrap_or(vec![buffer.len]);
            for (member, values) in values.chunks(buffer.len).enumerate() {
                let name = member_tensor(&buffer.name, member, self.members);
                let tensor = HostTensor::from_shape_vec(shape.clone(), values.to_vec())
                    .map_err(|e| Error::invalid(format!("'{name}': {e}")))?;
                tensors.insert(name, tensor);
            }
        }
        let (seed, members, state) = (self.options.seed, self.members, self.state.clone());
        let best = self.best.clone();
        Ok(Checkpoint { step: self.step, seed, members, state, tensors, best })
    }

    /// Writes a checkpoint of now: at the start of a run, before anything says that the folder holds
    /// a model, and on resuming, so that the two files agree whatever was killed before.
    ///
    /// # Errors
    /// A weight is no number, or the folder can't be written: the files are as they were.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.finite_checkpoint()?.save(folder, |name| self.is_weight(name))
    }

    /// Keeps the weights of members as they are now as their best.
    pub(super) fn keep_best(&mut self, better: &[usize]) -> Result<()> {
        for (name, shape) in self.task.weight_shapes() {
            for &member in better {
                let values = self.store.member(member)?.get(&name)?;
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
        let found = self.recording.find(name);
        found.is_some_and(|id| self.recording.get(id).role == Role::Parameter)
    }

    fn finite_checkpoint(&self) -> Result<Checkpoint> {
        let checkpoint = self.checkpoint()?;
        let bad = checkpoint.tensors.iter().find(|t| t.1.iter().any(|x| !x.is_finite()));
        match bad {
            Some((name, _)) => {
                let what = format!("'{name}'");
                Err(self.not_finite(&what, self.step, f32::NAN, self.members))
            }
            None => Ok(checkpoint),
        }
    }

    pub(super) fn not_finite(&self, what: &str, step: u64, value: f32, member: usize) -> Error {
        let hint = "the last checkpoint holds the weights from before; \
                    try a smaller learning rate or clipping norm";
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
