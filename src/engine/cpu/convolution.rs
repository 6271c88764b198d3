//! `columns_forward` and `columns_backward`: neighbourhoods side by side, and back.

use super::{Bound, Context};
use crate::kernel::{ColumnsBackward, ColumnsForward, ColumnsParams, RESET};
use rayon::prelude::*;

/// Calls `each` with (tap, neighbour's row) for the neighbours of `row` that lie inside. `towards`
/// is 1 for what the place reads, −1 for the places that read it.
fn neighbours(p: &ColumnsParams, row: usize, towards: isize, mut each: impl FnMut(usize, usize)) {
    let [map_h, map_w] = [p.map_height, p.map_width].map(|x| x as isize);
    let [kernel_h, kernel_w] = [p.kernel_height, p.kernel_width].map(|x| x as isize);
    let place = row as isize % (map_h * map_w);
    let first = row as isize - place;
    for tap in 0..kernel_h * kernel_w {
        let y = place / map_w + towards * (tap / kernel_w - kernel_h / 2);
        let x = place % map_w + towards * (tap % kernel_w - kernel_w / 2);
        if (0..map_h).contains(&y) && (0..map_w).contains(&x) {
            each(tap as usize, (first + y * map_w + x) as usize);
        }
    }
}

pub fn columns_forward(_: &Context, kernel: &ColumnsForward, mut bound: Bound) {
    let p = &kernel.params;
    let (channels, taps) = (p.channels as usize, (p.kernel_height * p.kernel_width) as usize);
    let places = (p.map_height * p.map_width) as usize;
    let [stride, first_column] = [p.source_stride, p.columns_offset].map(|x| x as usize);
    let source = &bound.read("source")[p.source_offset as usize..];
    let (mask, flags) = (bound.read("mask"), bound.read("flags"));
    let mask = mask.get(p.mask_offset as usize..).unwrap_or_default();
    let flags = flags.get(p.flags_offset as usize..).unwrap_or_default();
    let rows = bound.write("columns").par_chunks_mut(p.columns_stride as usize);
    rows.take(p.rows as usize).enumerate().for_each(|(row, columns)| {
        let columns = &mut columns[first_column..][..channels * taps];
        columns.fill(0.0);
        if flags.get(row / places).is_some_and(|f| f.to_bits() & RESET != 0) {
            return;
        }
        neighbours(p, row, 1, |tap, from| {
            let values = &source[from * stride..][..channels];
            for (c, value) in values.iter().enumerate() {
                let m = mask.get(from * channels + c).copied().unwrap_or(1.0);
                columns[c * taps + tap] = value * m;
            }
        });
    });
}

pub fn columns_backward(_: &Context, kernel: &ColumnsBackward, mut bound: Bound) {
    let p = &kernel.params;
    let (channels, taps) = (p.channels as usize, (p.kernel_height * p.kernel_width) as usize);
    let columns = &bound.read("columns")[p.columns_offset as usize..];
    let target = &mut bound.write("destination")[p.source_offset as usize..];
    let rows = target.par_chunks_mut(p.source_stride as usize).take(p.rows as usize).enumerate();
    rows.for_each(|(row, target)| {
        let target = &mut target[..channels];
        if !kernel.accumulate {
            target.fill(0.0);
        }
        neighbours(p, row, -1, |tap, from| {
            let from = &columns[from * p.columns_stride as usize..][..channels * taps];
            for (c, target) in target.iter_mut().enumerate() {
                *target += from[c * taps + tap];
            }
        });
    });
}
