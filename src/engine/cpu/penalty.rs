//! `activation_penalty`: penalties on outputs and on their change from step to step.

use super::{Bound, Context};
use crate::kernel::{ActivationPenalty, LossScale, VALID};

pub fn activation_penalty(_: &Context, kernel: &ActivationPenalty, mut bound: Bound) {
    let p = &kernel.params;
    let [rows, batch, width, places] = [p.rows, p.batch, p.width, p.places].map(|x| x as usize);
    let h = &bound.read("h")[p.h_offset as usize..][..rows * width];
    let flags = bound.read("flags");
    let valid = |row: usize| match flags.get(row / places) {
        Some(word) => word.to_bits() & VALID != 0,
        None => true,
    };
    let counts = |row: usize| match kernel.temporal {
        true => row + batch < rows && valid(row) && valid(row + batch),
        false => valid(row),
    };
    let terms = (0..rows).filter(|&row| counts(row)).count() * width;
    let scale = if terms == 0 { 0.0 } else { p.rate / terms as f32 };
    let gradient = bound.write("gradient").get_mut(p.gradient_offset as usize..);
    let gradient = gradient.unwrap_or_default();
    if kernel.gradient && !kernel.accumulate {
        gradient[..rows * width].fill(0.0);
    }
    let mut factor = 2.0 * scale;
    if kernel.scaled {
        factor *= LossScale::new(bound.read("loss_scale")).scale();
    }
    let row = |r: usize| &h[r * width..][..width];
    let mut total = 0f64;
    for r in (0..rows).filter(|&r| counts(r)) {
        let here = row(r);
        if kernel.temporal {
            let later = row(r + batch);
            total += square(here.iter().zip(later).map(|(a, b)| b - a));
            if kernel.gradient {
                let (low, high) = gradient.split_at_mut((r + batch) * width);
                let both = low[r * width..].iter_mut().zip(high).zip(here.iter().zip(later));
                for ((d_here, d_later), (a, b)) in both {
                    *d_here -= factor * (b - a);
                    *d_later += factor * (b - a);
                }
            }
        } else {
            total += square(here.iter().copied());
            if kernel.gradient {
                let d = &mut gradient[r * width..][..width];
                d.iter_mut().zip(here).for_each(|(d, h)| *d += factor * h);
            }
        }
    }
    let losses = bound.write("losses");
    losses.fill(0.0);
    losses[0] = (total * f64::from(scale)) as f32;
}

/// The sum of squares of a row, added up in double precision over the rows.
fn square(values: impl Iterator<Item = f32>) -> f64 {
    f64::from(values.map(|x| x * x).sum::<f32>())
}
