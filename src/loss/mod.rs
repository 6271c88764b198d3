//! Losses, computed on the device together with their gradient.
//!
//! [`Loss`] has them all; an [`Objective`] of one's own is recorded the same way. A loss is a mean over what takes
//! part: rows or elements whose mask is set, rows whose target isn't ignored. How many those are is counted on the
//! device at every run, so that masks may change from batch to batch. Where nothing takes part, loss and gradient
//! are 0. Means follow PyTorch's conventions: with class weights the sum is divided by the weights of the targets
//! that take part. Gradients are written by the kernel that computes the loss, times the loss scale
//! ([`Recorder::loss_scale`]) where activations are f16.
//!
//! ```
//! use recurra::{Loss, Objective, Recorder, Target};
//! # fn main() -> recurra::Result<()> {
//! // Six rows, of which those take part whose mask isn't 0; a mean and a raw scale each.
//! let mut rec = Recorder::training();
//! let prediction = rec.input("prediction", [6, 2], true)?;
//! let wanted = rec.input("wanted", [6, 1], false)?.view;
//! let mask = rec.input("mask", [6, 1], false)?.view;
//! let loss = Loss::Gaussian { least: 1e-3 };
//! loss.record(&mut rec, prediction, Target::Values(wanted), Some(mask))?;
//! assert!(rec.gradient(prediction).is_some());
//! # Ok(())
//! # }
//! ```

mod classes;
mod elements;
mod penalty;

pub use classes::{CrossEntropyOptions, cross_entropy, cross_entropy_with};
pub use elements::{ElementOptions, elements};
pub use penalty::{Penalty, penalise};

use crate::error::{Error, Result};
use crate::kernel::{
    ElementForm, LossTotal, RecordLoss, RecordLossParams, SequenceFlags, SequenceFlagsParams, View,
};
use crate::schedule::{Recorder, Var};
use crate::tensor::DType;

/// The output that holds the last losses, one a training step: entry (step − 1) mod [`RING`].
pub const LOSS: &str = "loss";

/// Entries of the loss ring: the host must read it at least once in so many steps to see all.
pub const RING: usize = 64;

/// What a prediction is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Class ids, u32 \[N\].
    Classes(View),
    /// Numbers, f32 \[N, D\].
    Values(View),
}

impl Target {
    fn classes(self, loss: &str) -> Result<View> {
        match self {
            Target::Classes(view) => Ok(view),
            Target::Values(_) => Err(Error::invalid(format!("{loss} needs class ids as targets"))),
        }
    }

    fn values(self, loss: &str) -> Result<View> {
        match self {
            Target::Values(view) => Ok(view),
            Target::Classes(_) => Err(Error::invalid(format!("{loss} needs numbers as targets"))),
        }
    }
}

/// Something to make small. Implement it for a loss of your own: record launches, put gradients where
/// [`Recorder::gradient_target`] says (times [`Recorder::loss_scale`], if there is one, or by
/// [`Recorder::seed_gradient`], which does that), and the value into the ring by [`record_value`].
pub trait Objective: Sync {
    /// Records the loss of `prediction` \[N, C\] against `target`, over the rows (or elements) whose `mask` is set:
    /// a view of u32, whose lowest bit counts (as
    /// [`RecurrentOutput::flags`](crate::layer::RecurrentOutput)), or of f32, which count where they are not 0. It has
    /// one flag a row \[N\], or one an element of the target; fewer are refused: which rows they were of would be a
    /// guess.
    /// In a recording without gradients it records the value alone.
    ///
    /// # Errors
    /// Shapes that do not belong together, a target of the wrong type, options out of their range.
    fn record(
        &self,
        rec: &mut Recorder,
        prediction: Var,
        target: Target,
        mask: Option<View>,
    ) -> Result<()>;

    /// What it asks of targets, for those who have them at hand before anything runs. Nothing, unless it says so.
    fn asks(&self) -> Asks {
        Asks::default()
    }
}

/// What an [`Objective`] asks of targets. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asks {
    /// Predictions for each wanted value.
    pub predictions: Option<usize>,
    /// The lowest and the highest wanted value.
    pub range: Option<[f32; 2]>,
    /// Classes lie below the predictions' width.
    pub classes: bool,
    /// A class that may lie beyond.
    pub ignore: Option<u32>,
}

/// A loss by its name. N rows, D wanted values a row, V classes.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// −log softmax(x)\[target\] of logits \[N, V\] against class ids, in nats, with options.
    CrossEntropy(CrossEntropyOptions),
    /// −y·w·log σ(x) − (1 − y)·log(1 − σ(x)) of logits \[N, D\] against y in \[0, 1\], in nats: D yes-or-no questions
    /// a row (PyTorch's `BCEWithLogitsLoss`). On the device nothing looks whether y is; a [`Fit`](crate::model::Fit)
    /// does before the first step.
    BinaryCrossEntropy {
        /// The weight w of the positive class by column, f32 \[D\]; none: 1.
        positive: Option<View>,
    },
    /// (x − y)².
    MeanSquared,
    /// |x − y|, of gradient 0 at 0.
    MeanAbsolute,
    /// r²/2 where r = |x − y| ≤ δ, else δ·(r − δ/2) (Huber 1964, "Robust estimation of a location parameter").
    Huber {
        /// δ > 0, in the unit of y.
        delta: f32,
    },
    /// max(τ·(y − x), (τ − 1)·(y − x)), the mean over the levels τ as well, of predictions \[N, D·Q\], the Q of one
    /// wanted value side by side (Koenker and Bassett 1978, "Regression quantiles"); of gradient 0 at x = y.
    Quantile {
        /// The levels τ, each in (0, 1).
        levels: Vec<f32>,
    },
    /// −log of the normal density, log σ + (y − μ)²/(2σ²) + log(2π)/2, of predictions \[N, D·2\], (μ, s) side by
    /// side, σ = least + log(1 + eˢ) (Nix and Weigend 1994; in nats).
    Gaussian {
        /// The least σ, 0 or more, in the unit of y.
        least: f32,
    },
    /// −log of Student's density, log σ + (ν + 1)/2·log(1 + z²/ν) + log Γ(ν/2) − log Γ((ν + 1)/2) + log(πν)/2,
    /// z = (y − μ)/σ, of predictions \[N, D·3\], (μ, s, r) side by side, σ = least + log(1 + eˢ),
    /// ν = 2 + log(1 + eʳ), so that there is a variance (Lange, Little and Taylor 1989; in nats).
    StudentT {
        /// The least σ, 0 or more, in the unit of y.
        least: f32,
    },
}

impl Loss {
    /// How many predictions a wanted value needs; of cross-entropy, 1.
    pub fn predictions(&self) -> usize {
        match self {
            Loss::Quantile { levels } => levels.len(),
            Loss::Gaussian { .. } => 2,
            Loss::StudentT { .. } => 3,
            _ => 1,
        }
    }
}

impl Objective for Loss {
    fn record(
        &self,
        rec: &mut Recorder,
        prediction: Var,
        target: Target,
        mask: Option<View>,
    ) -> Result<()> {
        let options = ElementOptions { mask, ..ElementOptions::default() };
        let (form, options) = match self {
            Loss::CrossEntropy(more) => {
                let targets = target.classes("cross-entropy")?;
                return cross_entropy_with(rec, prediction, targets, mask, more);
            }
            Loss::BinaryCrossEntropy { positive } => {
                let form = ElementForm::BinaryCrossEntropy { positive: positive.is_some() };
                (form, ElementOptions { positive: *positive, ..options })
            }
            Loss::MeanSquared => (ElementForm::Squared, options),
            Loss::MeanAbsolute => (ElementForm::Absolute, options),
            Loss::Huber { delta } => {
                (ElementForm::Huber, ElementOptions { shape: *delta, ..options })
            }
            Loss::Quantile { levels } => (ElementForm::Quantile(levels.clone()), options),
            Loss::Gaussian { least } => {
                (ElementForm::Gaussian, ElementOptions { shape: *least, ..options })
            }
            Loss::StudentT { least } => {
                (ElementForm::StudentT, ElementOptions { shape: *least, ..options })
            }
        };
        let targets = target.values(form.name())?;
        elements(rec, prediction, targets, form, options)
    }

    fn asks(&self) -> Asks {
        match self {
            Loss::CrossEntropy(options) => {
                Asks { classes: true, ignore: options.ignore, ..Asks::default() }
            }
            _ => Asks {
                predictions: Some(self.predictions()),
                range: matches!(self, Loss::BinaryCrossEntropy { .. }).then_some([0.0, 1.0]),
                ..Asks::default()
            },
        }
    }
}

/// Puts a loss into the output [`LOSS`]: scale·Σ `losses`, divided by `total` (one number on the device) where there
/// is one, or 0 where that is 0. A recording has one loss, unless it adds them up
/// ([`Recorder::add_losses`]).
///
/// # Errors
/// There is a loss already; a view that is not f32.
pub fn record_value(
    rec: &mut Recorder,
    losses: View,
    scale: f32,
    total: Option<View>,
) -> Result<()> {
    // The kernel reads from the buffers' beginning.
    if losses.offset > 0 || total.is_some_and(|total| total.offset > 0) {
        return Err(Error::invalid("losses and their total must begin at their buffers' start"));
    }
    let (ring, accumulate) = match rec.loss_to_add_to(LOSS) {
        Some(ring) => (ring, true),
        None => (rec.output_buffer(LOSS, [1, RING])?.view, false),
    };
    let control = rec.control();
    let params = RecordLossParams { count: losses.len as u32, ring: RING as u32, scale, first: 0 };
    let mut buffers = vec![losses, ring, control];
    buffers.extend(total);
    rec.launch(RecordLoss { params, total: total.is_some(), accumulate }, &buffers)
}

/// A mask as flags of u32, one for so many of `terms` neighbouring terms of rows of `width`, and how many that are.
///
/// # Errors
/// Another number of flags than one a row or one a term.
fn flags_of(rec: &mut Recorder, mask: View, terms: usize, width: usize) -> Result<(View, usize)> {
    let rows = terms / width.max(1);
    // Rows of sequences are time-major: a flag for each sequence would be spread over blocks of time, not sequences.
    if mask.len == 0 || (mask.len != rows && mask.len != terms) {
        return Err(Error::shape("mask (one a row)", &[rows], &[mask.len]));
    }
    let run = terms / mask.len;
    if rec.dtype(mask) == DType::U32 {
        return Ok((mask, run));
    }
    let mut values = mask;
    if mask.offset > 0 {
        values = rec.temporary_f32("mask", [1, mask.len])?.view;
        rec.copy_rows([1, mask.len], (mask, mask.len), (values, mask.len))?;
    }
    let flags = rec.temporary_ids("flags", mask.len)?;
    let params = SequenceFlagsParams { time: mask.len as u32, batch: 1 };
    let op = SequenceFlags { params, lengths: false, mask: true, resets: false };
    rec.launch(op, &[flags, values])?;
    Ok((flags, run))
}

/// How many of the terms take part, on the device.
fn count(rec: &mut Recorder, op: LossTotal, views: &[View]) -> Result<View> {
    let total = rec.temporary_f32("total", [1, 1])?.view;
    let mut buffers = vec![total];
    buffers.extend(views);
    rec.launch(op, &buffers)?;
    Ok(total)
}

/// How many flags are set, times `factor`, on the device.
pub(crate) fn count_flags(rec: &mut Recorder, flags: View, factor: f32) -> Result<View> {
    count(rec, LossTotal::of_flags(flags, factor), &[flags])
}
