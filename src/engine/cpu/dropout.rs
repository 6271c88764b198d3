//! `dropout`: the same counter-based masks as the shader.

use super::{Bound, Context, PARALLEL_CHUNK, control};
use crate::kernel::Dropout;
use rayon::prelude::*;

/// Threefry-2x32 with 20 rounds (Salmon et al., SC 2011); `shaders/shared/threefry.wgsl`.
#[inline(always)]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for round in 0..5 {
        for by in ROTATIONS[round % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(by) ^ x[0];
        }
        x[0] = x[0].wrapping_add(keys[(round + 1) % 3]);
        x[1] = x[1].wrapping_add(keys[(round + 2) % 3]).wrapping_add(round as u32 + 1);
    }
    x
}

pub fn dropout(_: &Context, kernel: &Dropout, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let n = p.count as usize;
    let control = control(read[1]);
    let key = [control.seed_low, control.seed_high ^ p.stream];
    let input = &read[0][p.input_offset as usize..][..n];
    let output = &mut write[0][p.output_offset as usize..][..n];
    let chunks = output.par_chunks_mut(PARALLEL_CHUNK).zip(input.par_chunks(PARALLEL_CHUNK));
    chunks.enumerate().for_each(|(chunk, (output, input))| {
        let first = (p.first as usize + chunk * PARALLEL_CHUNK) / 2;
        for (pair, (output, input)) in output.chunks_mut(2).zip(input.chunks(2)).enumerate() {
            let words = threefry2x32(key, [(first + pair) as u32, control.step]);
            for ((output, input), word) in output.iter_mut().zip(input).zip(words) {
                let u = (word >> 8) as f32 / (1 << 24) as f32;
                let value = if u < p.keep { input * p.scale } else { 0.0 };
                *output = if kernel.accumulate { *output + value } else { value };
            }
        }
    });
}
