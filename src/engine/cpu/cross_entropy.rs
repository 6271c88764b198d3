//! `cross_entropy`: a row at a time.

use super::math::exp;
use super::{Context, Reads, Writes};
use crate::kernel::CrossEntropy;
use rayon::prelude::*;

pub fn cross_entropy(_: &Context, kernel: &CrossEntropy, read: Reads, write: Writes) {
    let p = &kernel.params;
    let (rows, classes) = (p.rows as usize, p.classes as usize);
    let logits = &read[0][p.logits_offset as usize..][..rows * classes];
    let targets: &[u32] = bytemuck::cast_slice(&read[1][p.targets_offset as usize..][..rows]);
    let (losses, d_logits) = write.split_first_mut().expect("the losses are written");
    let losses = &mut losses[..rows];
    match d_logits.first_mut() {
        Some(d_logits) => losses
            .par_iter_mut()
            .zip(d_logits.par_chunks_mut(classes))
            .zip(logits.par_chunks(classes).zip(targets))
            .with_min_len(64)
            .for_each(|((loss, d), (x, &target))| *loss = row(x, target, Some((d, p.scale)))),
        None => losses
            .par_iter_mut()
            .zip(logits.par_chunks(classes).zip(targets))
            .with_min_len(64)
            .for_each(|(loss, (x, &target))| *loss = row(x, target, None)),
    }
}

/// loss = log Σᵥ exp(xᵥ − max) + max − x_target; d = scale·(exp(xᵥ − max)/Σ − \[v = target\]).
fn row(x: &[f32], target: u32, d: Option<(&mut [f32], f32)>) -> f32 {
    let target = (target as usize).min(x.len() - 1);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let most = x.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a });
            let mut sum = 0.0;
            match d {
                Some((d, scale)) => {
                    for (d, x) in d.iter_mut().zip(x) {
                        *d = exp(x - most);
                    }
                    sum += d.iter().sum::<f32>();
                    for d in d.iter_mut() {
                        *d = scale * (*d / sum);
                    }
                    d[target] -= scale;
                }
                None => {
                    for x in x {
                        sum += exp(x - most);
                    }
                }
            }
            sum.ln() + (most - x[target])
        },
    )
}
