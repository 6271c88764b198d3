//! Losses, computed on the device together with their gradient.

use crate::error::{Error, Result};
use crate::kernel::{CrossEntropy, RecordLoss, View};
use crate::schedule::{Recorder, Var};

/// The output that holds the last losses, one a training step: entry (step − 1) mod [`RING`].
pub const LOSS: &str = "loss";

/// Entries of the loss ring: the host must read it at least once in so many steps to see all.
pub const RING: usize = 64;

/// Softmax and cross-entropy of `logits` \[N, V\] against `targets` \[N\], the mean over the rows, in
/// nats. Its value goes to the output [`LOSS`]. Writing a target that is no class is an error.
///
/// # Errors
/// Unequal numbers of rows; logits that already have a gradient.
pub fn cross_entropy(rec: &mut Recorder, logits: Var, targets: View) -> Result<()> {
    if targets.len != logits.rows {
        return Err(Error::shape("targets", &[logits.rows], &[targets.len]));
    }
    rec.bound(targets, logits.columns.saturating_sub(1));
    let losses = rec.temporary("losses", [1, logits.rows])?;
    let mut buffers = vec![logits.view, targets, losses.view];
    let gradient = match rec.gradient_target(logits)? {
        Some((_, true)) => return Err(Error::invalid("the logits already have a gradient")),
        Some((view, false)) => {
            buffers.push(view);
            true
        }
        None => false,
    };
    let op = CrossEntropy::new(logits.columns, logits.view, targets, gradient);
    rec.launch(op, &buffers)?;
    let ring = rec.output_buffer(LOSS, [1, RING])?;
    let control = rec.control();
    rec.launch(RecordLoss::new(logits.rows, RING), &[losses.view, ring.view, control])
}
