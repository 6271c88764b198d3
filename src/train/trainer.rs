//! The loop.

use super::Checkpoint;
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::LossScale;
use crate::loss::{LOSS, RING};
use crate::measure::Profile;
use crate::optim::Optimizer;
use crate::recording::{Recording, Role};
use crate::tensor::{HostTensor, NamedTensors};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Recurrent states that a task carries from window to window have names that start so.
pub const STATE_PREFIX: &str = "state.";

/// What is trained: its recordings and its data.
pub trait Task {
    /// One training step, the optimizer included, the loss in the output `loss`.
    ///
    /// # Errors
    /// Sizes that make no sense.
    fn record_training(&self, optimizer: &Optimizer, max_norm: Option<f32>) -> Result<Recording>;
    /// The loss of one validation batch, in the output `loss`.
    ///
    /// # Errors
    /// Sizes that make no sense.
    fn record_validation(&self) -> Result<Recording>;
    /// Initial weights by their names.
    fn initial_weights(&self, seed: u64) -> NamedTensors;
    /// The shapes of the weights by their names.
    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>>;
    /// Training steps in one pass over the data.
    fn steps_per_epoch(&self) -> u64;
    /// Writes the inputs of training step `step` (from 0).
    ///
    /// # Errors
    /// The device failed.
    fn feed(&mut self, program: &mut Program, step: u64, seed: u64) -> Result<()>;
    /// Validation batches of one evaluation.
    fn validation_batches(&self) -> u64;
    /// Writes the inputs of a validation batch.
    ///
    /// # Errors
    /// The device failed.
    fn feed_validation(&mut self, program: &mut Program, batch: u64) -> Result<()>;
    /// Symbols (characters) that one training step sees.
    fn symbols_per_step(&self) -> u64;
}

/// How long and how fast.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Steps in all.
    pub steps: u64,
    /// The learning rate at its highest; it rises over the first steps and falls along a cosine.
    pub learning_rate: f32,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The largest gradient norm.
    pub max_norm: Option<f32>,
    /// The seed of masks and data order.
    pub seed: u64,
    /// Steps from one evaluation to the next.
    pub evaluate_every: u64,
    /// Steps from one checkpoint to the next.
    pub save_every: u64,
    /// Steps from one look at the loss to the next, at most the ring's length.
    pub report_every: u64,
}

impl TrainOptions {
    /// Adam over `steps` steps at most at rate 0.004, norm 1, evaluated and saved ten times.
    pub fn new(steps: u64) -> Self {
        let often = (steps / 10).max(1);
        TrainOptions {
            steps,
            learning_rate: 0.004,
            optimizer: Optimizer::adam(),
            max_norm: Some(1.0),
            seed: 1,
            evaluate_every: often,
            save_every: often,
            report_every: 10,
        }
    }

    /// The rate of step `step` (from 1): linear over the first steps (a 50th of all, at most 100),
    /// then a cosine down to a 20th (Loshchilov and Hutter 2017).
    pub fn rate(&self, step: u64) -> f32 {
        let warm = (self.steps / 50).clamp(1, 100) as f64;
        let (step, steps) = (step as f64, self.steps as f64);
        let factor = if step < warm {
            step / warm
        } else {
            let part = ((step - warm) / (steps - warm).max(1.0)).min(1.0);
            0.05 + 0.95 * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
        };
        self.learning_rate * factor as f32
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// The loss of the last step.
    pub loss: f32,
    /// Symbols a second since the last report, evaluation and saving left out.
    pub symbols_per_second: f64,
    /// Seconds since the run (or its resumption) began.
    pub elapsed: f64,
}

/// What a run tells while it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// Losses of the steps since the last report, the last of them at `progress.step`.
    Losses(Progress, Vec<f32>),
    /// The validation loss after a step.
    Validation(Progress, f32),
    /// A checkpoint is about to be written: whatever should be on the disk before it, now.
    Saving(u64),
    /// A checkpoint was written.
    Saved(u64),
}

/// A task on an engine, with its weights.
pub struct Trainer<'a, T: Task> {
    task: &'a mut T,
    options: TrainOptions,
    store: Store,
    training: Program,
    recording: Recording,
    validation: Program,
    validation_recording: Recording,
    step: u64,
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
        if options.steps == 0 || options.evaluate_every == 0 || options.save_every == 0 {
            return Err(Error::invalid("the numbers of steps must be at least 1"));
        }
        let report = options.report_every;
        if !(1..=RING as u64).contains(&report) {
            let reason = format!("report_every must be 1 to {RING}, not {report}");
            return Err(Error::invalid(reason));
        }
        let recording = task.record_training(&options.optimizer, options.max_norm)?;
        let validation_recording = task.record_validation()?;
        // Before any weight is drawn: a model that is far too large fails here.
        engine.check(&recording)?;
        let store = engine.store();
        let (step, tensors) = match checkpoint {
            Some(checkpoint) if checkpoint.seed != options.seed => {
                return Err(Error::invalid(format!(
                    "the checkpoint's seed is {}, not {}: masks and data order would change",
                    checkpoint.seed, options.seed
                )));
            }
            Some(checkpoint) => (checkpoint.step, checkpoint.tensors),
            None => (0, task.initial_weights(options.seed)),
        };
        let shapes = task.weight_shapes();
        for buffer in recording.buffers() {
            let found = tensors.get(&buffer.name);
            if let (Some(shape), Some(tensor)) = (shapes.get(&buffer.name), found)
                && tensor.shape() != shape.as_slice()
            {
                return Err(Error::shape(buffer.name.as_str(), shape, tensor.shape()));
            }
            match (buffer.role, found) {
                (Role::Parameter | Role::State, Some(tensor)) => {
                    if tensor.len() != buffer.len {
                        let (want, got) = ([buffer.len], [tensor.len()]);
                        return Err(Error::shape(buffer.name.as_str(), &want, &got));
                    }
                    let values: Vec<f32> = tensor.iter().copied().collect();
                    store.set(&buffer.name, &values)?;
                }
                (Role::State, None) if step > 0 => {
                    let place = "the checkpoint".to_string();
                    return Err(Error::Missing { tensor: buffer.name.clone(), place });
                }
                _ => {}
            }
        }
        let training = engine.load(&recording, &store)?;
        let validation = engine.load(&validation_recording, &store)?;
        Ok(Trainer {
            task,
            options,
            store,
            training,
            recording,
            validation,
            validation_recording,
            step,
        })
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

    /// Where the loss scale stands; none where activations are f32.
    ///
    /// # Errors
    /// The device failed.
    pub fn loss_scale(&self) -> Result<Option<LossScale>> {
        if self.recording.find(LossScale::NAME).is_none() {
            return Ok(None);
        }
        Ok(Some(LossScale::new(&self.store.get(LossScale::NAME)?)))
    }

    /// Trains to the last step. Saves to `folder` at intervals and at the end.
    ///
    /// # Errors
    /// The loss is no number any more: the last good checkpoint is kept. The device or the disk
    /// failed.
    pub fn run(
        &mut self,
        folder: Option<&Path>,
        mut on_event: impl FnMut(&Event) -> Result<()>,
    ) -> Result<()> {
        let start = Instant::now();
        let loss = self.recording.require(LOSS)?;
        let mut reported = self.step;
        let mut since = Instant::now();
        while self.step < self.options.steps {
            self.one_step()?;
            let done = self.step;
            let last = done == self.options.steps;
            let evaluate = done.is_multiple_of(self.options.evaluate_every) || last;
            let save = done.is_multiple_of(self.options.save_every) || last;
            if !(evaluate || save || done.is_multiple_of(self.options.report_every)) {
                continue;
            }
            let ring = self.training.read(loss)?;
            let losses: Vec<f32> =
                (reported..done).map(|s| ring[(s % RING as u64) as usize]).collect();
            let symbols = (done - reported) * self.task.symbols_per_step();
            let rate = symbols as f64 / since.elapsed().as_secs_f64().max(1e-9);
            let progress = |step: u64, loss: f32| Progress {
                step,
                loss,
                symbols_per_second: rate,
                elapsed: start.elapsed().as_secs_f64(),
            };
            if let Some(bad) = losses.iter().position(|l| !l.is_finite()) {
                let step = reported + bad as u64 + 1;
                let value = losses[bad];
                let (whole, _) = losses.split_at(bad);
                if let Some(&loss) = whole.last() {
                    on_event(&Event::Losses(progress(step - 1, loss), whole.to_vec()))?;
                }
                return Err(not_finite("the loss", step, value));
            }
            let progress = progress(done, losses.last().copied().unwrap_or(f32::NAN));
            on_event(&Event::Losses(progress, losses))?;
            if evaluate {
                let loss = self.evaluate()?;
                if !loss.is_finite() {
                    return Err(not_finite("the validation loss", done, loss));
                }
                let elapsed = start.elapsed().as_secs_f64();
                on_event(&Event::Validation(Progress { elapsed, ..progress }, loss))?;
            }
            if save && let Some(folder) = folder {
                on_event(&Event::Saving(done))?;
                self.save(folder)?;
                on_event(&Event::Saved(done))?;
            }
            reported = done;
            since = Instant::now();
        }
        Ok(())
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
        self.prepare_step()?;
        let launches = self.training.profile()?;
        Ok(Profile { device: engine.name(), launches, runs })
    }

    /// One training step.
    fn one_step(&mut self) -> Result<()> {
        self.prepare_step()?;
        self.training.run()
    }

    /// Writes the inputs of the next step and counts it.
    fn prepare_step(&mut self) -> Result<()> {
        if self.step.is_multiple_of(self.task.steps_per_epoch()) {
            zero_states(&self.store, &self.recording)?;
        }
        self.task.feed(&mut self.training, self.step, self.options.seed)?;
        self.step += 1;
        let step = u32::try_from(self.step)
            .map_err(|_| Error::invalid("more than 2^32 training steps"))?;
        let rate = self.options.rate(self.step);
        let control = self.options.optimizer.control(step, self.options.seed, rate);
        self.training.set_control(control);
        Ok(())
    }

    /// The mean loss over the validation data.
    ///
    /// # Errors
    /// The device failed.
    pub fn evaluate(&mut self) -> Result<f32> {
        zero_states(&self.store, &self.validation_recording)?;
        let loss = self.validation_recording.require(LOSS)?;
        let batches = self.task.validation_batches();
        let mut sum = 0.0;
        let mut summed = 0;
        for batch in 0..batches {
            self.task.feed_validation(&mut self.validation, batch)?;
            self.validation.set_control(crate::kernel::Control::new(batch as u32 + 1, 0));
            self.validation.run()?;
            if (batch + 1).is_multiple_of(RING as u64) || batch + 1 == batches {
                let ring = self.validation.read(loss)?;
                let entries = (summed..=batch).map(|b| f64::from(ring[(b % RING as u64) as usize]));
                sum += entries.sum::<f64>();
                summed = batch + 1;
            }
        }
        Ok((sum / batches.max(1) as f64) as f32)
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
            let shape = shapes.get(&buffer.name).cloned().unwrap_or(vec![values.len()]);
            let tensor = HostTensor::from_shape_vec(shape, values)
                .map_err(|e| Error::invalid(format!("'{}': {e}", buffer.name)))?;
            tensors.insert(buffer.name.clone(), tensor);
        }
        Ok(Checkpoint { step: self.step, seed: self.options.seed, tensors })
    }

    /// Writes a checkpoint of now: at the start of a run, before anything says that the folder holds
    /// a model, and on resuming, so that the two files agree whatever was killed before.
    ///
    /// # Errors
    /// A weight is no number, or the folder can't be written: the files are as they were.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let checkpoint = self.checkpoint()?;
        let bad = checkpoint.tensors.iter().find(|t| t.1.iter().any(|x| !x.is_finite()));
        if let Some((name, _)) = bad {
            return Err(not_finite(&format!("'{name}'"), self.step, f32::NAN));
        }
        let recording = &self.recording;
        let is_weight = |name: &str| {
            recording.find(name).is_some_and(|id| recording.get(id).role == Role::Parameter)
        };
        checkpoint.save(folder, is_weight)
    }
}

fn not_finite(what: &str, step: u64, value: f32) -> Error {
    let hint = "the last checkpoint holds the weights from before; \
                try a smaller learning rate or clipping norm";
    Error::NotFinite { what: what.to_string(), step, value, hint: hint.to_string() }
}

/// Zeros in every carried state of a recording.
fn zero_states(store: &Store, recording: &Recording) -> Result<()> {
    for buffer in recording.buffers() {
        if buffer.role == Role::State && buffer.name.starts_with(STATE_PREFIX) {
            store.set(&buffer.name, &vec![0.0; buffer.len])?;
        }
    }
    Ok(())
}
