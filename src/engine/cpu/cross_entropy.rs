//! `cross_entropy`: a row at a time.

use super::math::exp;
use super::{Bound, Context};
use crate::kernel::{CrossEntropy, LossScale};
use rayon::prelude::*;

pub fn cross_entropy(_: &Context, kernel: &CrossEntropy, mut bound: Bound) {
    let read = bound.reads;
    let p = &kernel.params;
    let (rows, classes) = (p.rows as usize, p.classes as usize);
    let logits = &read[0][p.logits_offset as usize..][..rows * classes];
    let targets: &[u32] = bytemuck::cast_slice(&read[1][p.targets_offset as usize..][..rows]);
    let losses = &mut bound.write("losses")[..rows];
    let factor = match kernel.scaled {
        true => LossScale::new(bound.read("loss_scale")).scale(),
        false => 1.0,
    };
    let scale = p.scale * factor;
    match bound.write("d_logits") {
        d_logits if !d_logits.is_empty() => losses
            .par_iter_mut()
            .zip(d_logits.par_chunks_mut(classes))
            .zip(logits.par_chunks(classes).zip(targets))
            .with_min_len(64)
            .for_each(|((loss, d), (x, &target))| *loss = row(x, target, Some((d, scale)))),
        _ => losses
            .par_iter_mut()
            .zip(logits.par_chunks(classes).zip(targets))
            .with_min_len(64)
            .for_each(|(loss, (x, &target))| *loss = row(x, target, None)),
    }
}

/// loss = log Σᵥ exp(xᵥ − max) + max − x_target; d = scale·(exp(xᵥ − max)/Σ − \[v = target\]), at the
/// target written as minus the others' share, which keeps its digits where that of the target is
/// near 1.
fn row(x: &[f32], target: u32, d: Option<(&mut [f32], f32)>) -> f32 {
    let target = (target as usize).min(x.len() - 1);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let most = x.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a });
            let own = exp(x[target] - most);
            let others = match d {
                Some((d, scale)) => {
                    for (d, x) in d.iter_mut().zip(x) {
                        *d = exp(x - most);
                    }
                    d[target] = 0.0;
                    let others = d.iter().sum::<f32>();
                    let sum = others + own;
                    d[target] = -others;
                    for d in d.iter_mut() {
                        *d = scale * (*d / sum);
                    }
                    others
                }
                None => {
                    let share =
                        |(v, x): (usize, &f32)| if v == target { 0.0 } else { exp(x - most) };
                    x.iter().enumerate().map(share).sum::<f32>()
                }
            };
            // Where the target is the largest, its own share is 1 and a small loss keeps its digits.
            if own == 1.0 { others.ln_1p() } else { (others + own).ln() + (most - x[target]) }
        },
    )
}
