//! Examples as a model reads them, with the loss that it is fitted by.

use super::text::{END_ID, UNKNOWN_ID};
use super::{ClassModel, Examples, InputConfig};
use crate::data::Tokens;
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::loss::{CrossEntropyOptions, Loss, Objective, Target};
use crate::model::{Fit, Samples, Targets};
use crate::schedule::{Recorder, Var};
use crate::task::TaskModel;

/// The input that holds the weights of the classes, \[C\].
const CLASS_WEIGHTS: &str = "class_weights";

/// What training does with labels and tokens. Validation is by plain cross-entropy, in nats, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassLoss {
    /// ε of label smoothing, in \[0, 1\] ([`CrossEntropyOptions::smoothing`]).
    pub smoothing: f32,
    /// A sequence weighs N/(C·n), with n of all N training sequences in its class: so that rare classes count as much
    /// as frequent ones.
    pub balance: bool,
    /// The share of words (or characters) that are read as unknown ones in training ([`Fit::with_token_dropout`]).
    pub token_dropout: f32,
}

/// The loss by itself; plain where nothing is trained.
#[derive(Clone, Copy, Debug)]
struct Smoothed(ClassLoss);

impl Objective for Smoothed {
    fn record(
        &self,
        rec: &mut Recorder,
        prediction: Var,
        target: Target,
        mask: Option<View>,
    ) -> Result<()> {
        let mut options = CrossEntropyOptions::default();
        if rec.is_training() {
            options.smoothing = self.0.smoothing;
            if self.0.balance {
                let weights = rec.input(CLASS_WEIGHTS, [1, prediction.columns], false)?;
                options.weights = Some(weights.view);
            }
        }
        Loss::CrossEntropy(options).record(rec, prediction, target, mask)
    }
}

/// Examples as a model reads them, and how they are learned.
#[derive(Clone, Debug)]
pub struct ClassData {
    training: Samples,
    validation: Option<Samples>,
    objective: Smoothed,
    weights: Vec<f32>,
}

impl ClassData {
    /// Of examples to train on, and others to choose the best weights by.
    ///
    /// # Errors
    /// Examples of another kind than the model reads, or labels that it hasn't: file and line are named; no examples; a
    /// smoothing outside \[0, 1\].
    pub fn new(
        model: &ClassModel,
        training: &Examples,
        validation: Option<&Examples>,
        loss: ClassLoss,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&loss.smoothing) {
            let what = format!("label smoothing must be in [0, 1], not {}", loss.smoothing);
            return Err(Error::invalid(what));
        }
        let samples = |examples: &Examples| {
            let targets = Targets::class(examples.targets(&model.config().classes)?);
            let sequences = model.sequences(examples.content());
            Samples::new(sequences.map_err(|e| examples.error_at(0, &e.to_string()))?, targets)
        };
        let counts = &model.config().counts;
        let all = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let weights = counts.iter().map(|&n| if n > 0 { (all / n as f64) as f32 } else { 0.0 });
        Ok(ClassData {
            training: samples(training)?,
            validation: validation.map(samples).transpose()?,
            objective: Smoothed(loss),
            weights: weights.collect(),
        })
    }

    /// What a [`Trainer`](crate::train::Trainer) trains, or [`Fit::run`]: in batches of `batch` sequences of like
    /// lengths, of `shapes` shapes at most.
    ///
    /// # Errors
    /// As [`Fit::new`]; a batch or shapes of 0; token dropout on numbers or bytes.
    pub fn fit<'a>(
        &'a self,
        model: &'a ClassModel,
        batch: usize,
        shapes: usize,
    ) -> Result<Fit<'a>> {
        let ClassLoss { token_dropout, balance, .. } = self.objective.0;
        let mut fit = Fit::new(model.layers(), &self.training)?.with_loss(&self.objective);
        if let Some(samples) = &self.validation {
            fit = fit.with_validation(samples)?;
        }
        if token_dropout > 0.0 {
            match &model.config().input {
                InputConfig::Text(text) if text.tokens != Tokens::Bytes => {}
                _ => {
                    let what = "only words and characters can be read as unknown ones in training";
                    return Err(Error::invalid(what));
                }
            }
            fit = fit.with_token_dropout(token_dropout, UNKNOWN_ID, &[END_ID])?;
        }
        if balance {
            fit = fit.with_input(CLASS_WEIGHTS, self.weights.clone());
        }
        fit.with_batch(batch)?.with_shapes(shapes)?.with_equal_rows()
    }
}
