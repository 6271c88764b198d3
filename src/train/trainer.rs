//! The loop.

use super::Checkpoint;
use super::checkpoint::{member_tensor, seeds};
use crate::engine::{Engine, Inputs, Program, Store};
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
    fn feed(&mut self, inputs: &mut Inputs, step: u64, seed: u64) -> Result<()>;
    /// Validation batches of one evaluation.
    fn validation_batches(&self) -> u64;
    /// Writes the inputs of a validation batch.
    ///
    /// # Errors
    /// The device failed.
    fn feed_validation(&mut self, inputs: &mut Inputs, batch: u64) -> Result<()>;
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
    /// The seed of masks and data order; member m of an ensemble has the one m further on.
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
    /// The loss of the last step; of an ensemble, the mean.
    pub loss: f32,
    /// Symbols a second, of all members, since the last report, evaluation and saving left out.
    pub symbols_per_second: f64,
    /// Seconds since the run (or its resumption) began.
    pub elapsed: f64,
}

/// A loss of each member of an ensemble; of one model, its own.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberLosses(pub Vec<f32>);

impl MemberLosses {
    /// The mean over the members.
    pub fn mean(&self) -> f32 {
        let sum: f64 = self.0.iter().map(|&loss| f64::from(loss)).sum();
        (sum / self.0.len().max(1) as f64) as f32
    }

    /// The standard deviation over the members (of a sample: n − 1); none of one model.
    pub fn spread(&self) -> Option<f32> {
        let (count, mean) = (self.0.len(), f64::from(self.mean()));
        let squares: f64 = self.0.iter().map(|&loss| (f64::from(loss) - mean).powi(2)).sum();
        (count > 1).then(|| (squares / (count - 1) as f64).sqrt() as f32)
    }

    fn first_bad(&self) -> Option<(usize, f32)> {
        let bad = self.0.iter().position(|loss| !loss.is_finite())?;
        Some((bad, self.0[bad]))
    }
}

/// What a run tells while it goes.
#[derive(Clone, Debug)]
pub enum Event {
    /// Losses of the steps since the last report, the last of them at `progress.step`.
    Losses(Progress, Vec<MemberLosses>),
    /// The validation loss after a step.
    Validation(Progress, MemberLosses),
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
    members: usize,
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
        let members = engine.members();
        let shapes = task.weight_shapes();
        let (step, tensors) = match checkpoint {
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
                (checkpoint.step, checkpoint.tensors)
            }
            None => {
                let mut all = NamedTensors::new();
                for (member, seed) in seeds(options.seed, members).enumerate() {
                    let of = |name: &str| member_tensor(name, member, members);
                    let weights = task.initial_weights(seed).into_iter();
                    all.extend(weights.map(|(name, tensor)| (of(&name), tensor)));
                }
                (0, all)
            }
        };
        for buffer in recording.buffers() {
            if !matches!(buffer.role, Role::Parameter | Role::State) {
                continue;
            }
            for member in 0..members {
                let name = member_tensor(&buffer.name, member, members);
                let Some(tensor) = tensors.get(&name) else {
                    if step > 0 {
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
            members,
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
            let losses: Vec<_> = (reported..done).map(|step| entry(&ring, step)).collect();
            let symbols = (done - reported) * self.task.symbols_per_step() * self.members as u64;
            let rate = symbols as f64 / since.elapsed().as_secs_f64().max(1e-9);
            let progress = |step: u64, loss: f32| Progress {
                step,
                loss,
                symbols_per_second: rate,
                elapsed: start.elapsed().as_secs_f64(),
            };
            let bad = losses.iter().enumerate().find_map(|(at, l)| Some((at, l.first_bad()?)));
            if let Some((at, (member, value))) = bad {
                let step = reported + at as u64 + 1;
                let (whole, _) = losses.split_at(at);
                if let Some(last) = whole.last() {
                    on_event(&Event::Losses(progress(step - 1, last.mean()), whole.to_vec()))?;
                }
                return Err(self.not_finite("the loss", step, value, member));
            }
            let progress = progress(done, losses.last().map_or(f32::NAN, MemberLosses::mean));
            on_event(&Event::Losses(progress, losses))?;
            if evaluate {
                let losses = self.evaluate()?;
                if let Some((member, value)) = losses.first_bad() {
                    return Err(self.not_finite("the validation loss", done, value, member));
                }
                let elapsed = start.elapsed().as_secs_f64();
                on_event(&Event::Validation(Progress { elapsed, ..progress }, losses))?;
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
        let done = self.step;
        self.step += 1;
        let step = u32::try_from(self.step)
            .map_err(|_| Error::invalid("more than 2^32 training steps"))?;
        let rate = self.options.rate(self.step);
        for (member, seed) in seeds(self.options.seed, self.members).enumerate() {
            let mut inputs = self.training.member(member)?;
            self.task.feed(&mut inputs, done, seed)?;
            inputs.set_control(self.options.optimizer.control(step, seed, rate));
        }
        Ok(())
    }

    /// The members' mean losses over the validation data.
    ///
    /// # Errors
    /// The device failed.
    pub fn evaluate(&mut self) -> Result<MemberLosses> {
        zero_states(&self.store, &self.validation_recording)?;
        let loss = self.validation_recording.require(LOSS)?;
        let batches = self.task.validation_batches();
        let mut sums = vec![0.0; self.members];
        let mut summed = 0;
        for batch in 0..batches {
            self.task.feed_validation(&mut self.validation.inputs(), batch)?;
            self.validation.set_control(crate::kernel::Control::new(batch as u32 + 1, 0));
            self.validation.run()?;
            if (batch + 1).is_multiple_of(RING as u64) || batch + 1 == batches {
                let ring = self.validation.read(loss)?;
                for (sum, ring) in sums.iter_mut().zip(ring.chunks(RING)) {
                    let entries = (summed..=batch).map(|b| ring[(b % RING as u64) as usize]);
                    *sum += entries.map(f64::from).sum::<f64>();
                }
                summed = batch + 1;
            }
        }
        let mean = |sum: f64| (sum / batches.max(1) as f64) as f32;
        Ok(MemberLosses(sums.into_iter().map(mean).collect()))
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
        let (seed, members) = (self.options.seed, self.members);
        Ok(Checkpoint { step: self.step, seed, members, tensors })
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
            let what = format!("'{name}'");
            return Err(self.not_finite(&what, self.step, f32::NAN, self.members));
        }
        let recording = &self.recording;
        let is_weight = |name: &str| {
            recording.find(name).is_some_and(|id| recording.get(id).role == Role::Parameter)
        };
        checkpoint.save(folder, is_weight)
    }

    fn not_finite(&self, what: &str, step: u64, value: f32, member: usize) -> Error {
        let hint = "the last checkpoint holds the weights from before; \
                    try a smaller learning rate or clipping norm";
        let of = match seeds(self.options.seed, self.members).nth(member) {
            Some(seed) if self.members > 1 => format!(" of seed {seed}"),
            _ => String::new(),
        };
        Error::NotFinite { what: format!("{what}{of}"), step, value, hint: hint.to_string() }
    }
}

/// The members' losses of a step, from their rings one after another.
fn entry(rings: &[f32], step: u64) -> MemberLosses {
    let of = |ring: &[f32]| ring[(step % RING as u64) as usize];
    MemberLosses(rings.chunks(RING).map(of).collect())
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
