//! Penalties on a layer's outputs.

use super::RING;
use crate::error::{Error, Result};
use crate::kernel::{
    ActivationPenalty, ActivationPenaltyParams, RecordLoss, RecordLossParams, View,
};
use crate::schedule::{Recorder, Var};

/// A penalty on a layer's outputs, with its rate (Merity, Keskar and Socher 2017, "Regularizing and
/// optimizing LSTM language models", section 4.8; they penalise the last layer's outputs, activations
/// after dropout and their change before it).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Penalty {
    /// Activation regularisation (AR): α·mean h².
    Activation(f32),
    /// Temporal activation regularisation (TAR): β·mean (h(t+1) − h(t))².
    Temporal(f32),
}

/// Adds a penalty on outputs `h` \[T·B, W\] of `shape` T, B to what is trained: its gradient joins that of
/// `h`, its value goes to the output `name`, a ring as [`LOSS`](super::LOSS). The mean is over the elements that take
/// part by `flags` ([`RecurrentOutput::flags`](crate::layer::RecurrentOutput)): padding is not penalised.
///
/// # Errors
/// A rate that is no number or negative; a shape that is not that of `h`; a taken name.
pub fn penalise(
    rec: &mut Recorder,
    name: &str,
    penalty: Penalty,
    h: Var,
    [time, batch]: [usize; 2],
    flags: Option<View>,
) -> Result<()> {
    let (Penalty::Activation(rate) | Penalty::Temporal(rate)) = penalty;
    if !(rate >= 0.0 && rate.is_finite()) {
        let what = format!("the rate of penalty '{name}' must be 0 or more, not {rate}");
        return Err(Error::invalid(what));
    }
    if h.rows != time * batch || batch == 0 {
        return Err(Error::shape("penalised outputs", &[time * batch], &[h.rows]));
    }
    let rows_of_flags = flags.map_or(h.rows, |f| f.len);
    if rows_of_flags == 0 || !h.rows.is_multiple_of(rows_of_flags) {
        return Err(Error::shape("flags of the penalty", &[h.rows], &[rows_of_flags]));
    }
    let partials = ActivationPenalty::partials(h.view.len);
    let losses = rec.temporary_f32("penalties", [1, partials])?;
    let target = rec.gradient_target(h)?;
    let scale = if target.is_some() { rec.loss_scale()? } else { None };
    let params = ActivationPenaltyParams {
        rows: h.rows as u32,
        batch: batch as u32,
        width: h.columns as u32,
        h_offset: h.view.offset as u32,
        gradient_offset: target.map_or(0, |t| t.0.offset) as u32,
        places: (h.rows / rows_of_flags) as u32,
        rate,
    };
    let op = ActivationPenalty {
        params,
        temporal: matches!(penalty, Penalty::Temporal(_)),
        flags: flags.is_some(),
        gradient: target.is_some(),
        accumulate: target.is_some_and(|t| t.1),
        scaled: scale.is_some(),
    };
    let mut buffers = vec![h.view, losses.view];
    buffers.extend(target.map(|t| t.0));
    buffers.extend(flags);
    buffers.extend(scale);
    rec.launch(op, &buffers)?;
    let ring = rec.output_buffer(name, [1, RING])?;
    let control = rec.control();
    let params =
        RecordLossParams { count: partials as u32, ring: RING as u32, scale: 1.0, first: 0 };
    rec.launch(
        RecordLoss { params, ..RecordLoss::new(1, RING) },
        &[losses.view, ring.view, control],
    )
}
