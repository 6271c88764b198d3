//! `sgd`, `adam`, `rms_prop`, `average`, `clip_value`: updates, element by element.

use super::{Bound, Context, PARALLEL_CHUNK, control};
use crate::kernel::{Adam, Average, ClipValue, LossScale, RmsProp, Sgd};
use rayon::prelude::*;

/// What the updates have in common.
struct Update {
    /// The learning rate, times the factor of the parameter's group.
    rate: f32,
    /// The clipping factor.
    clip: f32,
    /// Adam's.
    corrections: [f32; 2],
}

impl Update {
    /// None where the step is left out.
    fn new(bound: &Bound, factor: f32, scaled: bool) -> Option<Self> {
        let (control, clip) = (control(bound.read("control")), bound.read("clip"));
        if scaled && clip[2] == 0.0 {
            return None;
        }
        let corrections = match scaled {
            true => [clip[3], clip[4]],
            false => [control.correction_1, control.correction_2],
        };
        let rate = control.learning_rate * factor;
        Some(Update { rate, clip: clip.first().copied().unwrap_or(1.0), corrections })
    }
}

pub fn sgd(_: &Context, kernel: &Sgd, mut bound: Bound) {
    let p = kernel.params;
    let Some(update) = Update::new(&bound, p.rate, kernel.scaled) else { return };
    let gradient = &bound.read("gradient")[p.gradient_offset as usize..];
    let (parameter, velocity) = (bound.write("parameter"), bound.write("velocity"));
    for ((w, v), g) in parameter.iter_mut().zip(velocity).zip(gradient) {
        let g = g * update.clip + p.weight_decay * *w;
        *v = p.momentum * *v + g;
        *w -= update.rate * if kernel.nesterov { g + p.momentum * *v } else { *v };
    }
}

pub fn adam(_: &Context, kernel: &Adam, mut bound: Bound) {
    let p = kernel.params;
    let Some(update) = Update::new(&bound, p.rate, kernel.scaled) else { return };
    let Update { rate, clip, corrections: [correction_1, correction_2] } = update;
    let gradient = &bound.read("gradient")[p.gradient_offset as usize..][..p.count as usize];
    let parameter = bound.write("parameter");
    let (first, second) = (bound.write("first"), bound.write("second"));
    let chunks = (parameter.par_chunks_mut(PARALLEL_CHUNK), first.par_chunks_mut(PARALLEL_CHUNK));
    let chunks = chunks.into_par_iter().zip(second.par_chunks_mut(PARALLEL_CHUNK));
    chunks.zip(gradient.par_chunks(PARALLEL_CHUNK)).for_each(|(((w, m), v), g)| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
                    let mut g = g * clip;
                    if kernel.decoupled {
                        *w -= rate * p.weight_decay * *w;
                    } else {
                        g += p.weight_decay * *w;
                    }
                    *m = p.beta_1 * *m + p.rest_1 * g;
                    *v = p.beta_2 * *v + p.rest_2 * g * g;
                    let m_hat = *m * correction_1;
                    let v_hat = *v * correction_2;
                    *w -= rate * m_hat / (v_hat.sqrt() + p.epsilon);
                }
            },
        );
    });
}

pub fn rms_prop(_: &Context, kernel: &RmsProp, mut bound: Bound) {
    let p = kernel.params;
    let Some(update) = Update::new(&bound, p.rate, kernel.scaled) else { return };
    let gradient = &bound.read("gradient")[p.gradient_offset as usize..][..p.count as usize];
    let [parameter, second, mean, velocity] =
        ["parameter", "second", "mean", "velocity"].map(|name| bound.write(name));
    // Of what the kernel does not keep there are no chunks.
    let mut means = mean.chunks_mut(PARALLEL_CHUNK);
    let mut velocities = velocity.chunks_mut(PARALLEL_CHUNK);
    let chunks = parameter.chunks_mut(PARALLEL_CHUNK).zip(second.chunks_mut(PARALLEL_CHUNK));
    let chunks = chunks.zip(gradient.chunks(PARALLEL_CHUNK)).map(|((w, s), g)| RmsChunk {
        w,
        s,
        m: means.next().unwrap_or_default(),
        v: velocities.next().unwrap_or_default(),
        g,
    });
    let chunks: Vec<_> = chunks.collect();
    chunks.into_par_iter().for_each(|chunk| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || match (kernel.centered, kernel.momentum) {
                (false, false) => chunk.step::<false, false>(kernel, &update),
                (false, true) => chunk.step::<false, true>(kernel, &update),
                (true, false) => chunk.step::<true, false>(kernel, &update),
                (true, true) => chunk.step::<true, true>(kernel, &update),
            },
        );
    });
}

/// Weights with their gradient, and its second moment, mean and velocity, some of which may be empty.
struct RmsChunk<'a> {
    w: &'a mut [f32],
    s: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
}

impl RmsChunk<'_> {
    #[inline(always)]
    fn step<const CENTERED: bool, const MOMENTUM: bool>(self, kernel: &RmsProp, update: &Update) {
        let (p, n) = (&kernel.params, self.w.len());
        let (s, g) = (&mut self.s[..n], &self.g[..n]);
        let m = if CENTERED { &mut self.m[..n] } else { self.m };
        let velocity = if MOMENTUM { &mut self.v[..n] } else { self.v };
        for i in 0..n {
            let g = g[i] * update.clip + p.weight_decay * self.w[i];
            if CENTERED {
                let d = g - m[i];
                m[i] += p.rest * d;
                s[i] = p.alpha * (s[i] + p.rest * d * d);
            } else {
                s[i] = p.alpha * s[i] + p.rest * g * g;
            }
            let mut v = g / (s[i].sqrt() + p.epsilon);
            if MOMENTUM {
                v += p.momentum * velocity[i];
                velocity[i] = v;
            }
            self.w[i] -= update.rate * v;
        }
    }
}

pub fn average(_: &Context, kernel: &Average, mut bound: Bound) {
    let count = kernel.params.count as usize;
    let share = control(bound.read("control")).average_share;
    let (parameter, average) = (&bound.read("parameter")[..count], bound.write("average"));
    if share == 1.0 {
        return average[..count].copy_from_slice(parameter);
    }
    let chunks = average.par_chunks_mut(PARALLEL_CHUNK).zip(parameter.par_chunks(PARALLEL_CHUNK));
    chunks.for_each(|(average, parameter)| {
        average.iter_mut().zip(parameter).for_each(|(a, w)| *a += share * (w - *a));
    });
}

pub fn clip_value(_: &Context, kernel: &ClipValue, mut bound: Bound) {
    let p = &kernel.params;
    let scale = match kernel.scaled {
        true => LossScale::new(bound.read("loss_scale")).scale(),
        false => 1.0,
    };
    let most = p.bound * scale;
    let gradient = &mut bound.write("gradient")[p.offset as usize..][..p.count as usize];
    gradient.par_chunks_mut(PARALLEL_CHUNK).for_each(|gradient| {
        for g in gradient.iter_mut().filter(|g| !kernel.scaled || g.is_finite()) {
            // NaN stays.
            *g = g.clamp(-most, most);
        }
    });
}
