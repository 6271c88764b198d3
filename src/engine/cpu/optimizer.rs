//! `sgd` and `adam`: parameter updates, element by element.

use super::{Bound, Context, PARALLEL_CHUNK, control};
use crate::kernel::{Adam, Sgd};
use rayon::prelude::*;

pub fn sgd(_: &Context, kernel: &Sgd, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = kernel.params;
    let rate = control(read[1]).learning_rate;
    if kernel.scaled && read[2][2] == 0.0 {
        return;
    }
    let clip = if kernel.clip { read[2][0] } else { 1.0 };
    let gradient = &read[0][p.gradient_offset as usize..];
    let [parameter, velocity, ..] = write;
    for ((w, v), g) in parameter.iter_mut().zip(velocity.iter_mut()).zip(gradient) {
        let g = g * clip + p.weight_decay * *w;
        *v = p.momentum * *v + g;
        *w -= rate * *v;
    }
}

pub fn adam(_: &Context, kernel: &Adam, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = kernel.params;
    let control = control(read[1]);
    let rate = control.learning_rate;
    if kernel.scaled && read[2][2] == 0.0 {
        return;
    }
    let [correction_1, correction_2] = match kernel.scaled {
        true => [read[2][3], read[2][4]],
        false => [control.correction_1, control.correction_2],
    };
    let clip = if kernel.clip { read[2][0] } else { 1.0 };
    let gradient = &read[0][p.gradient_offset as usize..][..p.count as usize];
    let [parameter, first, second, ..] = write;
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
