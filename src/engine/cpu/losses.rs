//! `element_loss`, `loss_total`: losses of elements, and how much takes part.

use super::math::{Plain, exp, log_one_plus, sigmoid};
use super::{Bound, Context};
use crate::kernel::{ElementForm, ElementLoss, LOSS_CHUNK, LossScale, LossTotal, VALID};
use rayon::prelude::*;

pub fn loss_total(_: &Context, kernel: &LossTotal, mut bound: Bound) {
    let p = &kernel.params;
    let (flags, weights) = (bound.read("flags"), bound.read("class_weights"));
    let targets: &[u32] = bytemuck::cast_slice(bound.read("targets"));
    let weight = |n: usize| {
        let flag = flags.get(p.flags_offset as usize + n / p.run as usize);
        let label = targets.get(p.targets_offset as usize + n).copied().unwrap_or(0);
        if flag.is_some_and(|flag| flag.to_bits() & VALID == 0)
            || (kernel.ignoring && label == p.ignored)
        {
            return 0.0;
        }
        let class = label.min(p.classes - 1) as usize;
        f64::from(weights.get(p.weights_offset as usize + class).copied().unwrap_or(1.0))
    };
    let total: f64 = (0..p.count as usize).map(weight).sum();
    bound.write("total")[0] = p.factor * total as f32;
}

pub fn element_loss(_: &Context, kernel: &ElementLoss, mut bound: Bound) {
    let p = &kernel.params;
    let (count, width, run) = (p.count as usize, p.width as usize, p.run as usize);
    let each = kernel.form.each();
    let prediction = &bound.read("prediction")[p.prediction_offset as usize..][..count * each];
    let wanted = &bound.read("wanted")[p.wanted_offset as usize..][..count];
    let positive = bound.read("positive").get(p.positive_offset as usize..).unwrap_or_default();
    let flags = bound.read("flags");
    let mut scale = p.factor;
    if let Some(&total) = bound.read("total").first() {
        scale = if total > 0.0 { scale / total } else { 0.0 };
    }
    if kernel.scaled {
        scale *= LossScale::new(bound.read("loss_scale")).scale();
    }
    let takes_part = |n: usize| {
        let flag = flags.get(p.flags_offset as usize + n / run);
        flag.is_none_or(|flag| flag.to_bits() & VALID != 0)
    };
    // The elements of one partial sum.
    let part = |number: usize, mut gradient: Option<&mut [f32]>| {
        let first = number * LOSS_CHUNK;
        let mut sum = 0.0;
        // The slopes of the widest losses are many.
        let mut slopes = [0f32; 3];
        for n in first..(first + LOSS_CHUNK).min(count) {
            let x = &prediction[n * each..][..each];
            let d = gradient.as_deref_mut().map(|d| &mut d[(n - first) * each..][..each]);
            if !takes_part(n) {
                d.filter(|_| !kernel.accumulate).into_iter().for_each(|d| d.fill(0.0));
                continue;
            }
            if let ElementForm::Quantile(levels) = &kernel.form {
                for (place, (x, &level)) in x.iter().zip(levels).enumerate() {
                    let [loss, slope] = pinball(*x, wanted[n], level);
                    sum += f64::from(loss);
                    slopes[0] = slope;
                    if let Some(d) = gradient.as_deref_mut() {
                        let at = (n - first) * each + place;
                        give(&mut d[at..=at], &slopes, scale, kernel.accumulate);
                    }
                }
                continue;
            }
            let weight = positive.get(n % width).copied().unwrap_or(1.0);
            let loss = term(&kernel.form, x, wanted[n], weight, p.shape, &mut slopes);
            sum += f64::from(loss);
            if let Some(d) = d {
                give(d, &slopes, scale, kernel.accumulate);
            }
        }
        sum as f32
    };
    let losses = &mut bound.write("losses")[..ElementLoss::partials(count)];
    match kernel.gradient {
        true => {
            let gradient = bound.write("gradient");
            let gradient = &mut gradient[p.gradient_offset as usize..][..count * each];
            let chunks = gradient.par_chunks_mut(LOSS_CHUNK * each);
            let parts = losses.par_iter_mut().zip(chunks).enumerate();
            parts.for_each(|(number, (loss, d))| *loss = part(number, Some(d)));
        }
        false => {
            let parts = losses.par_iter_mut().enumerate();
            parts.for_each(|(number, loss)| *loss = part(number, None));
        }
    }
}

fn give(d: &mut [f32], slopes: &[f32], scale: f32, accumulate: bool) {
    for (d, slope) in d.iter_mut().zip(slopes) {
        *d = if accumulate { scale * slope + *d } else { scale * slope };
    }
}

/// Half of log 2π.
const HALF_LOG_TAU: f32 = 0.918_938_5;

fn softplus(x: f32) -> f32 {
    x.max(0.0) + log_one_plus(exp::<Plain>(-x.abs()))
}

/// (g(x), g′(x)) of g(x) = log Γ(x + ½) − log Γ(x) − ½·log x, x ≥ 1: with z = x + 4 and Γ(x + 1) = x·Γ(x),
/// g(x) = g(z) + ½·log(z/x) − Σ_{j<4} log(1 + ½/(x + j)), and by Stirling's series
/// g(z) = −1/(8z) + 1/(192z³) − 1/(640z⁵) + 17/(14336z⁷) − …
fn gamma_step(x: f32) -> [f32; 2] {
    let z = x + 4.0;
    let i = 1.0 / z;
    let s = i * i;
    let series = i * (-1.0 / 8.0 + s * (1.0 / 192.0 + s * (-1.0 / 640.0 + s * (17.0 / 14336.0))));
    let slope = s * (1.0 / 8.0 + s * (-3.0 / 192.0 + s * (5.0 / 640.0 + s * (-119.0 / 14336.0))));
    let (mut value, mut d) = (series + 0.5 * (4.0 / x).ln_1p(), slope - 2.0 / (x * z));
    for j in 0..4u8 {
        let y = x + f32::from(j);
        value -= log_one_plus(0.5 / y);
        d += 0.5 / (y * (y + 0.5));
    }
    [value, d]
}

/// max(τ·u, (τ − 1)·u), u = y − x, and its slope.
fn pinball(x: f32, y: f32, level: f32) -> [f32; 2] {
    let u = y - x;
    let slope = if u > 0.0 {
        -level
    } else if u < 0.0 {
        1.0 - level
    } else {
        0.0
    };
    [(level * u).max((level - 1.0) * u), slope]
}

/// An element's loss, and its slopes; the equations stand in `shaders/element_loss.wgsl`.
fn term(
    form: &ElementForm,
    x: &[f32],
    y: f32,
    weight: f32,
    shape: f32,
    slopes: &mut [f32; 3],
) -> f32 {
    let r = x[0] - y;
    match form {
        ElementForm::BinaryCrossEntropy { .. } => {
            let (x, own) = (x[0], y * weight);
            slopes[0] = (1.0 - y) * sigmoid::<Plain>(x) - own * sigmoid::<Plain>(-x);
            own * softplus(-x) + (1.0 - y) * softplus(x)
        }
        ElementForm::Squared => {
            slopes[0] = 2.0 * r;
            r * r
        }
        ElementForm::Absolute => {
            slopes[0] = if r == 0.0 { 0.0 } else { r.signum() };
            r.abs()
        }
        ElementForm::Huber => {
            slopes[0] = r.clamp(-shape, shape);
            if r.abs() <= shape { 0.5 * r * r } else { shape * (r.abs() - 0.5 * shape) }
        }
        // It has any number of slopes.
        ElementForm::Quantile(_) => 0.0,
        ElementForm::Gaussian => {
            let deviation = shape + softplus(x[1]);
            let z = -r / deviation;
            slopes[0] = -z / deviation;
            slopes[1] = (1.0 - z * z) / deviation * sigmoid::<Plain>(x[1]);
            deviation.ln() + 0.5 * z * z + HALF_LOG_TAU
        }
        ElementForm::StudentT => {
            let (deviation, freedom) = (shape + softplus(x[1]), 2.0 + softplus(x[2]));
            let z = -r / deviation;
            let q = z * (z / freedom);
            let bent = 1.0 / (1.0 + q);
            let part = (freedom + 1.0) / freedom;
            let tail = q.ln_1p();
            let [step, d_step] = gamma_step(0.5 * freedom);
            slopes[0] = -(part * z * bent / deviation);
            slopes[1] = (1.0 - (freedom + 1.0) * (q * bent)) / deviation * sigmoid::<Plain>(x[1]);
            slopes[2] = 0.5 * (tail - part * (q * bent) - d_step) * sigmoid::<Plain>(x[2]);
            deviation.ln() + 0.5 * (freedom + 1.0) * tail - step + HALF_LOG_TAU
        }
    }
}
