//! Cross-entropy of classes.

use super::{count, flags_of, record_value};
use crate::error::{Error, Result};
use crate::kernel::{CrossEntropy, LossTotal, LossTotalParams, View};
use crate::schedule::{Recorder, Var};
use crate::tensor::DType;

/// Softmax and cross-entropy of `logits` \[N, V\] against `targets` \[N\], the mean over the rows, in
/// nats. Its value goes to the output [`LOSS`](super::LOSS). Writing a target that is no class is an error.
///
/// # Errors
/// Unequal numbers of rows; logits that already have a gradient.
pub fn cross_entropy(rec: &mut Recorder, logits: Var, targets: View) -> Result<()> {
    let op = CrossEntropy::new(logits.columns, logits.view, targets, false);
    rec.bound(targets, logits.columns.saturating_sub(1));
    let losses = launch(rec, op, logits, targets, &[])?;
    record_value(rec, losses, 1.0 / logits.rows as f32, None)
}

/// What changes a cross-entropy of classes. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropyOptions {
    /// The target whose rows take no part; it need not be a class (PyTorch's −100 is `-100i32 as u32`).
    pub ignore: Option<u32>,
    /// ε in \[0, 1\]: the target's probability is 1 − ε + ε/V, each other's ε/V (Szegedy 2016, "Rethinking the
    /// Inception architecture", section 7).
    pub smoothing: f32,
    /// A weight of 0 or more for each class, f32 \[V\], which the host may write; none: 1.
    pub weights: Option<View>,
}

/// [`cross_entropy`] over the rows whose `mask` is set (one flag a row;
/// [`Objective::record`](super::Objective::record) says how masks look), with options: the sum over these of
///
/// (1 − ε)·w(target)·(−log softmax(x)\[target\]) + ε/V·Σᵥ w(v)·(−log softmax(x)\[v\])
///
/// divided by the sum of their w(target), as PyTorch's `CrossEntropyLoss` has it. Without any option it is
/// [`cross_entropy`] itself.
///
/// # Errors
/// As [`cross_entropy`]; another number of masks or weights; a smoothing outside \[0, 1\].
pub fn cross_entropy_with(
    rec: &mut Recorder,
    logits: Var,
    targets: View,
    mask: Option<View>,
    options: &CrossEntropyOptions,
) -> Result<()> {
    let (rows, classes) = (logits.rows, logits.columns);
    if mask.is_none() && *options == CrossEntropyOptions::default() {
        return cross_entropy(rec, logits, targets);
    }
    if !(0.0..=1.0).contains(&options.smoothing) {
        let what = format!("label smoothing must be in [0, 1], not {}", options.smoothing);
        return Err(Error::invalid(what));
    }
    if let Some(weights) = options.weights
        && (weights.len != classes || rec.dtype(weights) != DType::F32)
    {
        return Err(Error::shape("class weights (f32)", &[classes], &[weights.len]));
    }
    if targets.len != rows {
        return Err(Error::shape("targets", &[rows], &[targets.len]));
    }
    match options.ignore {
        Some(ignore) => rec.bound_but(targets, classes.saturating_sub(1), ignore),
        None => rec.bound(targets, classes.saturating_sub(1)),
    }
    let mut op = CrossEntropy::new(classes, logits.view, targets, false);
    op.ignoring = options.ignore.is_some();
    op.params.ignored = options.ignore.unwrap_or(0);
    op.smoothing = options.smoothing > 0.0;
    op.params.smoothing = options.smoothing;
    op.weights = options.weights.is_some();
    op.params.weights_offset = options.weights.map_or(0, |view| view.offset) as u32;
    let mut more = Vec::new();
    if let Some(mask) = mask {
        let (flags, run) = flags_of(rec, mask, rows, 1)?;
        op.flags = true;
        (op.params.flags_offset, op.params.run) = (flags.offset as u32, run as u32);
        more.push(flags);
    }
    let mut total = None;
    if op.counted() {
        let p = &op.params;
        let params = LossTotalParams {
            count: rows as u32,
            run: p.run,
            flags_offset: p.flags_offset,
            targets_offset: p.targets_offset,
            ignored: p.ignored,
            classes: p.classes,
            weights_offset: p.weights_offset,
            factor: 1.0,
        };
        let (flags, ignoring, weights) = (op.flags, op.ignoring, op.weights);
        let mut views = more.clone();
        if ignoring || weights {
            views.push(targets);
        }
        views.extend(options.weights);
        total = Some(count(rec, LossTotal { params, flags, ignoring, weights }, &views)?);
        op.params.scale = 1.0;
    }
    more.extend(options.weights);
    let scale = op.params.scale;
    let losses = launch(rec, op, logits, targets, &[&more[..], total.as_slice()].concat())?;
    record_value(rec, losses, scale, total)
}

/// Launches the kernel, with the gradient where there is one to compute: the losses of the rows. The last of the
/// `more` buffers is the total, if the kernel is counted.
fn launch(
    rec: &mut Recorder,
    op: CrossEntropy,
    logits: Var,
    targets: View,
    more: &[View],
) -> Result<View> {
    if targets.len != logits.rows {
        return Err(Error::shape("targets", &[logits.rows], &[targets.len]));
    }
    let losses = rec.temporary_f32("losses", [1, logits.rows])?.view;
    let mut buffers = vec![logits.view, targets, losses];
    let gradient = match rec.gradient_target(logits)? {
        Some((_, true)) => return Err(Error::invalid("the logits already have a gradient")),
        Some((view, false)) => {
            buffers.push(view);
            true
        }
        None => false,
    };
    let scale = if gradient { rec.loss_scale()? } else { None };
    buffers.extend(scale);
    // The total divides the gradient.
    let kept = if op.counted() && !gradient { &more[..more.len() - 1] } else { more };
    buffers.extend(kept);
    rec.launch(CrossEntropy { gradient, scaled: scale.is_some(), ..op }, &buffers)?;
    Ok(losses)
}
