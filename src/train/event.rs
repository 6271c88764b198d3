//! What a run tells while it goes.

use super::View;

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// The loss of the last step; of an ensemble, the mean.
    pub loss: f32,
    /// The learning rate of the last step.
    pub learning_rate: f32,
    /// The norm of all gradients in the last step, before clipping; of an ensemble, the largest. None where
    /// nothing needed it.
    pub gradient_norm: Option<f32>,
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

    /// The first member whose loss is no number, with it.
    pub(super) fn first_bad(&self) -> Option<(usize, f32)> {
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
    /// A member's validation loss is the lowest so far: its weights are the model's now.
    Best {
        /// The member.
        member: usize,
        /// The step.
        step: u64,
        /// Its validation loss.
        loss: f32,
    },
    /// What the microscope saw of a step, where it looks ([`Trainer::with_microscope`](super::Trainer)).
    Look(Box<View>),
    /// A checkpoint is about to be written: whatever should be on the disk before it, now.
    Saving(u64),
    /// A checkpoint was written.
    Saved(u64),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Validation has not got better for long enough.
    StoppedEarly,
    /// Somebody asked for it ([`TrainOptions::stop`](super::TrainOptions)): the run can be taken up again.
    Interrupted,
}
