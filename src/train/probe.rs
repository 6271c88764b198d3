//! Looks at a task before it is trained: a dry run, the losses at rising learning rates, its gradients against
//! differences of the loss.

use super::checkpoint::seeds;
use super::trainer::zero_states;
use super::{Phase, RateSweep, StopRule, Task, TrainOptions, Trainer, record_training};
use crate::clock::Instant;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::loss::LOSS;
use crate::optim::{Optimizer, Update};
use crate::tensor::Precision;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What one step of training and an evaluation gave.
#[derive(Clone, Copy, Debug)]
pub struct DryRun {
    /// The loss of the first training step; of an ensemble, the mean.
    pub loss: f32,
    /// The validation loss after it.
    pub validation: Option<f32>,
    /// Seconds of the second training step: the first compiles.
    pub step_seconds: f64,
}

impl<T: Task> Trainer<'_, T> {
    /// Two training steps and one evaluation; nothing is written.
    ///
    /// # Errors
    /// What a run of training would fail with in its first steps.
    pub fn dry_run(&mut self) -> Result<DryRun> {
        self.train_step()?;
        let loss = self.loss_now()?;
        let start = Instant::now();
        self.train_step()?;
        self.training.iter().try_for_each(|loaded| loaded.program.wait())?;
        let step_seconds = start.elapsed().as_secs_f64();
        let validation = self.evaluate()?.map(|losses| losses.mean());
        if let Some(bad) = [Some(loss), validation].into_iter().flatten().find(|l| !l.is_finite()) {
            return Err(self.not_finite("the loss", 1, bad, 0));
        }
        Ok(DryRun { loss, validation, step_seconds })
    }

    /// Trains at the rising rates of a sweep (Smith 2017, "Cyclical learning rates for training neural networks"):
    /// each rate, and the loss before its step, for [`find_rate`](super::find_rate). Ends where the loss has
    /// diverged.
    ///
    /// # Errors
    /// The device failed.
    pub fn sweep(&mut self, sweep: &RateSweep, steps: u64) -> Result<(Vec<f32>, Vec<f32>)> {
        let (mut rates, mut losses) = (Vec::new(), Vec::new());
        let mut rule = StopRule::default();
        for step in 1..=steps {
            let rate = sweep.rate(step);
            let feeds = self.maker()(self.step)?;
            let shape = self.prepare_step(feeds, Some(rate))?;
            self.training[shape].program.run()?;
            let loss = self.loss_now()?;
            rates.push(rate);
            losses.push(loss);
            if rule.stops(loss) {
                break;
            }
        }
        Ok((rates, losses))
    }

    /// The loss of the last step.
    fn loss_now(&self) -> Result<f32> {
        let losses = self.ring(LOSS, self.step - 1)?;
        Ok(losses.and_then(|mut list| list.pop()).map_or(f32::NAN, |losses| losses.mean()))
    }
}

/// A parameter's gradient against differences of the loss, in one direction.
#[derive(Clone, Debug)]
pub struct GradientCheck {
    /// The parameter's name.
    pub parameter: String,
    /// The slope of the loss along the direction, by the gradient.
    pub gradient: f64,
    /// The same by central differences of the loss.
    pub difference: f64,
    /// How far a difference may be from the slope because the loss is rounded to f32: a slope that is not many times
    /// as large can't be checked.
    pub resolution: f64,
}

impl GradientCheck {
    /// |gradient − difference|, relative to the larger.
    pub fn error(&self) -> f64 {
        let largest = self.gradient.abs().max(self.difference.abs());
        if largest == 0.0 { 0.0 } else { (self.gradient - self.difference).abs() / largest }
    }

    /// Whether gradient and difference are apart by more than a part `bound` of the larger, and by more than rounding.
    pub fn is_wrong(&self, bound: f64) -> bool {
        let error = self.error();
        let apart = (self.gradient - self.difference).abs();
        error.is_nan() || error > bound && apart > self.resolution
    }

    /// Whether an error of a part `bound` would be seen.
    pub fn is_resolved(&self, bound: f64) -> bool {
        self.resolution <= bound * self.gradient.abs().max(self.difference.abs())
    }
}

/// How much a loss should change between the two ends of a difference, relative to itself: far above the rounding
/// of a mean in f32, far below where it bends.
const CHANGE: f64 = 4e-3;
/// How far a parameter is moved at most, as a part of its norm.
const FARTHEST: f64 = 0.02;

/// Compares every parameter's gradient of a task's first batch, with freshly drawn weights, with
/// central differences of the loss (over two distances; the one that is nearer to the gradient is
/// told), along the gradient itself and along a random half of it. In f32, with the masks that the
/// step draws.
///
/// # Errors
/// What recording and loading the task fail with; an ensemble; a gradient that is no number.
pub fn check_gradients(
    engine: &Engine,
    task: &impl Task,
    options: &TrainOptions,
) -> Result<Vec<GradientCheck>> {
    if engine.members() > 1 {
        return Err(Error::invalid("gradients are checked for one model, not for an ensemble"));
    }
    // A velocity of momentum 0 is the gradient, and a rate of 0 leaves the weights.
    let optimizer = Optimizer::sgd(0.0);
    let plain = TrainOptions {
        update: Update::new(optimizer),
        micro_batches: 1,
        precision: Precision::F32,
        ..options.clone()
    };
    let seed = seeds(options.seed, 1).next().unwrap_or_default();
    let feed = task.feed(Phase::Training, 0, seed)?;
    let recording = record_training(task, &plain, feed.shape())?;
    let loss = recording.require(LOSS)?;
    let store = engine.store();
    let weights = task.initial_weights(options.seed);
    store.set_all(&weights)?;
    let mut program = engine.load(&recording, &store)?;
    let mut run = || -> Result<f64> {
        zero_states(&store, &recording)?;
        let mut inputs = program.inputs();
        feed.clone().write(&mut inputs)?;
        inputs.set_control(optimizer.control(1, seed, 0.0));
        program.run()?;
        Ok(f64::from(program.read(loss)?[0]))
    };
    let at_rest = run()?;
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut list = Vec::new();
    let parameters: Vec<_> = weights.keys().cloned().collect();
    let gradient = |name: &String| {
        let moment = Optimizer::moment_name(name, "velocity");
        store.names().contains(&moment).then(|| store.get(&moment)).transpose()
    };
    let mut gradients = Vec::new();
    for name in parameters {
        gradients.extend(gradient(&name)?.map(|g| (name, g)));
    }
    for (name, gradient) in gradients {
        if let Some(&value) = gradient.iter().find(|g| !g.is_finite()) {
            let what = format!("the gradient of '{name}'");
            let hint = "of the first batch, with freshly drawn weights".to_string();
            return Err(Error::NotFinite { what, step: 1, value, hint });
        }
        let weight: Vec<f32> = weights[&name].iter().copied().collect();
        for half in [false, true] {
            let kept = |g: &f32| if half && random.random::<bool>() { 0.0 } else { *g };
            let direction: Vec<f32> = gradient.iter().map(kept).collect();
            let square: f64 = direction.iter().map(|&d| f64::from(d).powi(2)).sum();
            if square == 0.0 {
                list.push(GradientCheck {
                    parameter: name.clone(),
                    gradient: 0.0,
                    difference: 0.0,
                    resolution: 0.0,
                });
                continue;
            }
            // The loss changes by 2·h·|d| between the ends: by so much, but no weight is moved far.
            let norm = square.sqrt();
            let length: f64 = weight.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
            let h = 0.5 * CHANGE * at_rest.abs().max(1e-3) / norm;
            let h = h.min(FARTHEST * length.max(1.0));
            // Where the loss bends, a shorter step is nearer to its slope; where it is flat, a longer one.
            let mut nearest = f64::INFINITY;
            for h in [h, h / 8.0] {
                let mut ends = [0.0; 2];
                let mut moved = weight.clone();
                for (end, sign) in ends.iter_mut().zip([1.0, -1.0]) {
                    let step = sign * h / norm;
                    let each = moved.iter_mut().zip(&weight).zip(&direction);
                    each.for_each(|((m, w), d)| *m = (f64::from(*w) + step * f64::from(*d)) as f32);
                    store.set(&name, &moved)?;
                    *end = run()?;
                }
                let difference = (ends[0] - ends[1]) / (2.0 * h);
                if (difference - norm).abs() < (nearest - norm).abs() {
                    nearest = difference;
                }
            }
            store.set(&name, &weight)?;
            // Two roundings of the loss at either end.
            let resolution = 4.0 * f64::from(f32::EPSILON) * at_rest.abs() / (2.0 * h);
            let (parameter, difference) = (name.clone(), nearest);
            list.push(GradientCheck { parameter, gradient: norm, difference, resolution });
        }
    }
    Ok(list)
}
