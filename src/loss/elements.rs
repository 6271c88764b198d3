//! Losses of elements: regression, and yes-or-no questions.

use super::{count_flags, flags_of, record_value};
use crate::error::{Error, Result};
use crate::kernel::{ElementForm, ElementLoss, ElementLossParams, View};
use crate::schedule::{Recorder, Var};
use crate::tensor::DType;

/// What a loss of elements takes besides predictions and targets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ElementOptions {
    /// Which rows \[N\] or elements \[N·D\] take part; none: all.
    pub mask: Option<View>,
    /// The weight of the positive class by column, f32 \[D\].
    pub positive: Option<View>,
    /// δ, or the least σ.
    pub shape: f32,
    /// What the mean is multiplied with: D makes it a mean over rows of sums over their elements.
    pub weight: f32,
}

impl Default for ElementOptions {
    /// All elements, a plain mean.
    fn default() -> Self {
        ElementOptions { mask: None, positive: None, shape: 0.0, weight: 1.0 }
    }
}

/// The mean of a loss of predictions \[N, D·k\] against `targets` \[N, D\] (f32) over the elements that take part, and
/// its gradient, which is added to that of the predictions where there is one; [`Loss`](super::Loss) has the
/// equations. The k predictions of an element lie side by side. What takes no part is not looked at.
///
/// # Errors
/// Sizes that do not belong together; levels outside (0, 1), or none; a δ or a least σ out of its range; weights
/// of the positive class where there are none.
pub fn elements(
    rec: &mut Recorder,
    prediction: Var,
    targets: View,
    form: ElementForm,
    options: ElementOptions,
) -> Result<()> {
    check(&form, options.shape)?;
    if !(options.weight > 0.0 && options.weight.is_finite()) {
        let what = format!("a loss's weight must be more than 0, not {}", options.weight);
        return Err(Error::invalid(what));
    }
    let each = form.each();
    if !prediction.columns.is_multiple_of(each) {
        let what = format!(
            "{} needs {each} predictions for each wanted value, and a row has {}",
            form.name(),
            prediction.columns
        );
        return Err(Error::invalid(what));
    }
    let width = prediction.columns / each;
    let count = prediction.rows * width;
    if targets.len != count || rec.dtype(targets) != DType::F32 {
        return Err(Error::shape("targets (f32)", &[prediction.rows, width], &[targets.len]));
    }
    if options.positive.is_some() != form.positive() {
        let what = "weights of the positive class are for binary cross-entropy";
        return Err(Error::invalid(what));
    }
    if let Some(positive) = options.positive
        && (positive.len != width || rec.dtype(positive) != DType::F32)
    {
        return Err(Error::shape("positive weights (f32)", &[width], &[positive.len]));
    }
    // The mean over the levels too.
    let levels = if let ElementForm::Quantile(levels) = &form { levels.len() } else { 1 };
    let (mut total, mut flags, mut run) = (None, None, 1);
    let weight = f64::from(options.weight);
    let mut factor = weight / (levels as f64 * count as f64);
    if let Some(mask) = options.mask {
        let (view, neighbours) = flags_of(rec, mask, count, width)?;
        factor = weight / levels as f64;
        total = Some(count_flags(rec, view, neighbours as f32)?);
        (flags, run) = (Some(view), neighbours);
    }
    let losses = rec.temporary_f32("losses", [1, ElementLoss::partials(count)])?.view;
    let target = rec.gradient_target(prediction)?;
    let scale = if target.is_some() { rec.loss_scale()? } else { None };
    let params = ElementLossParams {
        count: count as u32,
        width: width as u32,
        run: run as u32,
        prediction_offset: prediction.view.offset as u32,
        wanted_offset: targets.offset as u32,
        gradient_offset: target.map_or(0, |t| t.0.offset) as u32,
        flags_offset: flags.map_or(0, |f| f.offset) as u32,
        positive_offset: options.positive.map_or(0, |p| p.offset) as u32,
        factor: factor as f32,
        shape: options.shape,
    };
    let op = ElementLoss {
        params,
        form,
        flags: flags.is_some(),
        gradient: target.is_some(),
        accumulate: target.is_some_and(|t| t.1),
        scaled: scale.is_some(),
    };
    let mut buffers = vec![prediction.view, targets, losses];
    buffers.extend(target.map(|t| t.0));
    buffers.extend(flags);
    buffers.extend(total.filter(|_| target.is_some()));
    buffers.extend(options.positive);
    buffers.extend(scale);
    rec.launch(op, &buffers)?;
    record_value(rec, losses, factor as f32, total)
}

fn check(form: &ElementForm, shape: f32) -> Result<()> {
    let refuse = |what: String| Err(Error::invalid(what));
    match form {
        ElementForm::Huber if !(shape > 0.0 && shape.is_finite()) => {
            refuse(format!("Huber's δ must be more than 0, not {shape}"))
        }
        ElementForm::Gaussian | ElementForm::StudentT if !(shape >= 0.0 && shape.is_finite()) => {
            refuse(format!("the least scale must be 0 or more, not {shape}"))
        }
        ElementForm::Quantile(levels) if levels.is_empty() || levels.len() > MOST_LEVELS => {
            refuse(format!("there must be 1 to {MOST_LEVELS} quantile levels"))
        }
        ElementForm::Quantile(levels) => match levels.iter().find(|&&l| !(l > 0.0 && l < 1.0)) {
            Some(level) => refuse(format!("a quantile level must be in (0, 1), not {level}")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The shader names each level.
const MOST_LEVELS: usize = 256;
