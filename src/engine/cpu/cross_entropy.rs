//! `cross_entropy`: a row at a time.

use super::math::{Plain, exp};
use super::{Bound, Context};
use crate::kernel::{CrossEntropy, LossScale, VALID};
use rayon::prelude::*;

pub fn cross_entropy(_: &Context, kernel: &CrossEntropy, mut bound: Bound) {
    let read = bound.reads;
    let p = &kernel.params;
    let (rows, classes) = (p.rows as usize, p.classes as usize);
    let logits = &read[0][p.logits_offset as usize..][..rows * classes];
    let targets: &[u32] = bytemuck::cast_slice(&read[1][p.targets_offset as usize..][..rows]);
    let losses = &mut bound.write("losses")[..rows];
    let mut scale = p.scale;
    if kernel.scaled {
        scale *= LossScale::new(bound.read("loss_scale")).scale();
    }
    if let Some(&total) = bound.read("total").first() {
        scale = if total > 0.0 { scale / total } else { 0.0 };
    }
    let flags = bound.read("flags");
    let takes_part = |n: usize| {
        let flag = flags.get(p.flags_offset as usize + n / p.run as usize);
        let ignored = kernel.ignoring && targets[n] == p.ignored;
        !ignored && flag.is_none_or(|flag| flag.to_bits() & VALID != 0)
    };
    let weights = bound.read("class_weights");
    let options = Options {
        weights: weights.get(p.weights_offset as usize..).unwrap_or_default(),
        smoothing: p.smoothing,
    };
    let optioned = kernel.counted() || kernel.smoothing;
    let loss_of = |n: usize, d: Option<(&mut [f32], f32)>| {
        let (x, target) = (&logits[n * classes..][..classes], targets[n]);
        match (optioned, takes_part(n), d) {
            (false, _, d) => row(x, target, d).loss,
            (true, true, d) => options.row(x, target, d),
            (true, false, Some((d, _))) => {
                d.fill(0.0);
                0.0
            }
            (true, false, None) => 0.0,
        }
    };
    match bound.write("d_logits") {
        d_logits if !d_logits.is_empty() => losses
            .par_iter_mut()
            .zip(d_logits.par_chunks_mut(classes))
            .enumerate()
            .with_min_len(64)
            .for_each(|(n, (loss, d))| *loss = loss_of(n, Some((d, scale)))),
        _ => losses
            .par_iter_mut()
            .enumerate()
            .with_min_len(64)
            .for_each(|(n, loss)| *loss = loss_of(n, None)),
    }
}

/// What changes a row that takes part.
struct Options<'a> {
    /// w, or nothing: then it is 1.
    weights: &'a [f32],
    /// ε.
    smoothing: f32,
}

impl Options<'_> {
    /// (1 − ε)·w(target)·(the plain loss) + ε/V·Σᵥ wᵥ·(log Σ + max − xᵥ), and its gradient, scale·((1 − ε)·w(target)·
    /// (the plain one) + ε/V·(W·softmax − w)), W = Σᵥ wᵥ.
    fn row(&self, x: &[f32], target: u32, d: Option<(&mut [f32], f32)>) -> f32 {
        let weight = |v: usize| self.weights.get(v).copied().unwrap_or(1.0);
        let sharp = weight((target as usize).min(x.len() - 1)) * (1.0 - self.smoothing);
        let spread = self.smoothing / x.len() as f32;
        let (d, scale) = d.unzip();
        let Some(d) = d else {
            let plain = row(x, target, None);
            return sharp * plain.loss + spread * self.smooth(x, &plain);
        };
        let plain = row(x, target, Some((&mut *d, 1.0)));
        let all = (0..x.len()).map(weight).sum::<f32>();
        let scale = scale.unwrap_or(1.0);
        for (v, (d, x)) in d.iter_mut().zip(x).enumerate() {
            let mut value = sharp * *d;
            if spread != 0.0 {
                value += spread * (all * (exp::<Plain>(x - plain.most) / plain.sum) - weight(v));
            }
            *d = scale * value;
        }
        sharp * plain.loss + spread * self.smooth(x, &plain)
    }

    /// Σᵥ wᵥ·(log Σ + max − xᵥ).
    fn smooth(&self, x: &[f32], plain: &Row) -> f32 {
        if self.smoothing == 0.0 {
            return 0.0;
        }
        let weight = |v: usize| self.weights.get(v).copied().unwrap_or(1.0);
        let all = (0..x.len()).map(weight).sum::<f32>();
        let gaps = x.iter().enumerate().map(|(v, x)| weight(v) * (plain.most - x)).sum::<f32>();
        all * plain.sum.ln() + gaps
    }
}

/// A row's loss, and what it was made of: max and Σ = Σᵥ exp(xᵥ − max).
struct Row {
    loss: f32,
    most: f32,
    sum: f32,
}

/// loss = log Σᵥ exp(xᵥ − max) + max − x_target; d = scale·(exp(xᵥ − max)/Σ − \[v = target\]), at the
/// target written as minus the others' share, which keeps its digits where that of the target is
/// near 1.
fn row(x: &[f32], target: u32, d: Option<(&mut [f32], f32)>) -> Row {
    let target = (target as usize).min(x.len() - 1);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let most = x.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a });
            let own = exp::<Plain>(x[target] - most);
            let others = match d {
                Some((d, scale)) => {
                    for (d, x) in d.iter_mut().zip(x) {
                        *d = exp::<Plain>(x - most);
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
                    let share = |(v, x): (usize, &f32)| {
                        if v == target { 0.0 } else { exp::<Plain>(x - most) }
                    };
                    x.iter().enumerate().map(share).sum::<f32>()
                }
            };
            let sum = others + own;
            // Where the target is the largest, its own share is 1 and a small loss keeps its digits.
            let loss = if own == 1.0 { others.ln_1p() } else { sum.ln() + (most - x[target]) };
            Row { loss, most, sum }
        },
    )
}
