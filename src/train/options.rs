//! How long and how fast.

use crate::loss::RING;
use crate::optim::{Mode, Optimizer, Plateau, Schedule, ScheduleState, Shape, Update};
use crate::tensor::Precision;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How long and how fast.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Steps in all.
    pub steps: u64,
    /// The learning rate at its highest, above 0. (A group's factor of 0 is what leaves parameters as they are.)
    pub learning_rate: f32,
    /// How the rate goes over the steps.
    pub schedule: Schedule,
    /// Optimizer, clipping, groups of parameters, averages of the weights. Where there is an average, it is what is
    /// evaluated and saved as the model.
    pub update: Update,
    /// Batches whose gradients add up to one step's.
    pub micro_batches: usize,
    /// How activations are stored, in training and validation.
    pub precision: Precision,
    /// The seed of masks and data order; member m of an ensemble has the one m further on.
    pub seed: u64,
    /// Steps from one evaluation to the next.
    pub evaluate_every: u64,
    /// Steps from one checkpoint to the next.
    pub save_every: u64,
    /// Steps from one look at the loss to the next, at most the ring's length.
    pub report_every: u64,
    /// The run ends after so many evaluations in a row that are no better than the best (by the mean of an
    /// ensemble).
    pub patience: Option<u64>,
    /// Trains on the first so many batches alone, again and again: a model that can't learn them by heart has a
    /// fault. Nothing is evaluated then.
    pub overfit: Option<u64>,
    /// Once this is true the run ends after the step that it is in, saved.
    pub stop: Option<Arc<AtomicBool>>,
}

impl TrainOptions {
    /// Adam over `steps` steps at most at rate 0.004, norm 1, evaluated and saved ten times. The rate rises over the
    /// first steps (a 50th of all, at most 100), then falls along a cosine to a 20th.
    pub fn new(steps: u64) -> Self {
        let often = (steps / 10).max(1);
        TrainOptions {
            steps,
            learning_rate: 0.004,
            schedule: Schedule { warm_up: (steps / 50).clamp(1, 100), shape: Shape::cosine(0.05) },
            update: Update { max_norm: Some(1.0), ..Update::new(Optimizer::adam()) },
            micro_batches: 1,
            precision: Precision::F32,
            seed: 1,
            evaluate_every: often,
            save_every: often,
            report_every: 10,
            patience: None,
            overfit: None,
            stop: None,
        }
    }

    /// The rate of step `step` (from 1).
    pub fn rate(&self, step: u64, state: &ScheduleState) -> f32 {
        self.schedule.rate(self.learning_rate, step, self.steps, state)
    }

    pub(super) fn check(&self) -> Result<()> {
        self.update.check()?;
        self.schedule.check()?;
        if let Shape::Plateau(Plateau { mode: Mode::Max, .. }) = self.schedule.shape {
            return Err(Error::invalid("what a run validates is a loss: it gets better downwards"));
        }
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            let what = format!("the learning rate must be a finite number above 0, not {rate}");
            return Err(Error::invalid(what));
        }
        for (count, what) in [
            (Some(self.steps), "the number of steps"),
            (Some(self.evaluate_every), "evaluate_every"),
            (Some(self.save_every), "save_every"),
            (Some(self.micro_batches as u64), "the number of micro-batches"),
            (self.patience, "the patience, in evaluations,"),
            (self.overfit, "the number of batches to learn by heart"),
        ] {
            if count == Some(0) {
                return Err(Error::invalid(format!("{what} must be at least 1")));
            }
        }
        if self.overfit.is_some_and(|batches| batches < self.micro_batches as u64) {
            return Err(Error::invalid(
                "a step has more micro-batches than are to be learned by heart",
            ));
        }
        let report = self.report_every;
        if !(1..=RING as u64).contains(&report) {
            return Err(Error::invalid(format!("report_every must be 1 to {RING}, not {report}")));
        }
        Ok(())
    }
}
