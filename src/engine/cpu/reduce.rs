//! `record_loss`, `sum_squares`, `clip_scale`: sums in a fixed order.

use super::{Bound, Context, control};
use crate::kernel::{ClipScale, LossScale, RecordLoss, SumSquares};

/// Partial sums that a loop keeps side by side, so that it vectorises in a fixed order.
const LANES: usize = 16;

fn sum(values: &[f32], map: impl Fn(f32) -> f32 + Copy) -> f32 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut lanes = [0f32; LANES];
            let (whole, rest) = values.as_chunks::<LANES>();
            for chunk in whole {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *lane += map(*value);
                }
            }
            lanes.iter().sum::<f32>() + rest.iter().map(|&x| map(x)).sum::<f32>()
        },
    )
}

pub fn record_loss(_: &Context, kernel: &RecordLoss, mut bound: Bound) {
    let read = bound.reads;
    let p = &kernel.params;
    let slot = (control(read[1]).step.max(1) - 1) % p.ring;
    let mut value = sum(&read[0][p.first as usize..][..p.count as usize], |x| x);
    if let Some(&total) = bound.read("total").first() {
        value = if total > 0.0 { value / total } else { 0.0 };
    }
    let entry = &mut bound.write("ring")[slot as usize];
    *entry = value * p.scale + if kernel.accumulate { *entry } else { 0.0 };
}

pub fn sum_squares(_: &Context, kernel: &SumSquares, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let input = &read[0][p.input_offset as usize..][..p.count as usize];
    let partials = &mut write[0][p.partial_offset as usize..];
    for (partial, chunk) in partials.iter_mut().zip(input.chunks(p.chunk as usize)) {
        *partial = sum(chunk, |x| x * x);
    }
}

pub fn clip_scale(_: &Context, kernel: &ClipScale, mut bound: Bound) {
    let p = &kernel.params;
    let sum = sum(&bound.read("partials")[..p.count as usize], |x| x);
    let (clip, state) = (bound.write("clip"), bound.write("loss_scale"));
    let inverse = if kernel.scaled { 1.0 / LossScale::new(state).scale() } else { 1.0 };
    let share = p.share * inverse;
    let norm = sum.sqrt() * share;
    let factor = p.max_norm / (norm + 1e-6);
    // Written so that a NaN norm gives a NaN factor.
    clip[0] = share * if factor > 1.0 { 1.0 } else { factor };
    clip[1] = norm;
    if kernel.scaled {
        let next = LossScale::new(state).after(sum.is_finite(), [p.beta_1, p.beta_2]);
        clip[2] = f32::from(u8::from(sum.is_finite()));
        clip[3] = 1.0 / next.corrections[0];
        clip[4] = 1.0 / next.corrections[1];
        state[..LossScale::WORDS].copy_from_slice(&next.words());
    }
}
