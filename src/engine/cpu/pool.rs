//! `max_over_time` and `max_over_time_backward`.

use super::{Bound, Context};
use crate::kernel::{MaxOverTime, MaxOverTimeBackward};

pub fn max_over_time(_: &Context, kernel: &MaxOverTime, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let [time, batch, columns] = [p.time, p.batch, p.columns].map(|x| x as usize);
    let words = batch * columns;
    let x = &read[0][p.x_offset as usize..][..time * words];
    let lengths = if kernel.lengths { read[1] } else { &[] };
    let (y, places) = write.split_at_mut(1);
    let y = &mut y[0][p.y_offset as usize..][..words];
    let places = &mut places[0][..words];
    y.fill(0.0);
    places.fill(f32::from_bits(p.time));
    for b in 0..batch {
        let end = lengths.get(b).map_or(time, |n| (n.to_bits() as usize).min(time));
        let own = b * columns..(b + 1) * columns;
        for t in 0..end {
            let step = &x[t * words..][own.clone()];
            let best = y[own.clone()].iter_mut().zip(&mut places[own.clone()]);
            for ((y, place), &value) in best.zip(step) {
                if t == 0 || value > *y {
                    (*y, *place) = (value, f32::from_bits(t as u32));
                }
            }
        }
    }
}

pub fn max_over_time_backward(_: &Context, kernel: &MaxOverTimeBackward, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let words = p.batch as usize * p.columns as usize;
    let places = &read[0][..words];
    let d_y = &read[1][p.y_offset as usize..][..words];
    let d_x = &mut write[0][p.x_offset as usize..][..p.time as usize * words];
    for (t, step) in d_x.chunks_mut(words).enumerate() {
        for ((d_x, place), &d_y) in step.iter_mut().zip(places).zip(d_y) {
            let own = if place.to_bits() as usize == t { d_y } else { 0.0 };
            *d_x = if kernel.accumulate { *d_x + own } else { own };
        }
    }
}
