//! `combine`, `select_rows`, `sequence_flags`, `fill`; how much memory there is.

use super::{Bound, Context};
use crate::kernel::{Combine, Fill, LossScale, RESET, SelectRows, SequenceFlags, VALID, With};
use rayon::prelude::*;

/// Elements from which on an elementwise kernel uses all threads.
pub const PARALLEL_FROM: usize = 1 << 16;

/// It never asks for other threads.
pub fn is_small(kernel: &Combine) -> bool {
    let [rows, columns] = [kernel.params.rows, kernel.params.columns].map(|x| x as usize);
    rows * columns < PARALLEL_FROM
}

pub fn combine(_: &Context, kernel: &Combine, mut bound: Bound) {
    let p = &kernel.params;
    let [rows, columns] = [p.rows, p.columns].map(|x| x as usize);
    let from = |name, offset: u32| bound.read(name).get(offset as usize..).unwrap_or_default();
    let source = (from("source", p.source_offset), p.source_stride as usize);
    let other = (from("other", p.other_offset), p.other_stride as usize);
    let [offset, stride] = [p.target_offset, p.target_stride].map(|x| x as usize);
    let target = &mut bound.write("destination")[offset..];
    let factor = match kernel.scaled {
        true => LossScale::new(bound.read("loss_scale")).scale(),
        false => 1.0,
    };
    let scale = p.scale * factor;
    let one = |r: usize, target: &mut [f32]| {
        let target = &mut target[..columns];
        let from = match p.swap as usize {
            0 => r,
            inner => (r % inner) * (rows / inner) + r / inner,
        };
        let source = &source.0[from * source.1..][..columns];
        let other = |r: usize| &other.0[r * other.1..][..columns];
        match (kernel.with, kernel.accumulate) {
            (With::Nothing, false) if scale == 1.0 => target.copy_from_slice(source),
            (With::Nothing, false) => zip(target, source, source, |_, a, _| scale * a),
            (With::Nothing, true) => zip(target, source, source, |t, a, _| t + scale * a),
            (With::Sum, false) => zip(target, source, other(r), |_, a, b| scale * (a + b)),
            (With::Sum, true) => zip(target, source, other(r), |t, a, b| t + scale * (a + b)),
            (With::Product, false) => zip(target, source, other(r), |_, a, b| scale * (a * b)),
            (With::Product, true) => zip(target, source, other(r), |t, a, b| t + scale * (a * b)),
        }
    };
    if rows == 1 {
        return one(0, target);
    }
    if rows * columns < PARALLEL_FROM {
        target.chunks_mut(stride).take(rows).enumerate().for_each(|(r, target)| one(r, target));
    } else {
        let chunks = target.par_chunks_mut(stride).take(rows).enumerate();
        chunks.with_min_len(PARALLEL_FROM / 4 / columns.max(1) + 1).for_each(|(r, t)| one(r, t));
    }
}

#[inline(always)]
fn zip(target: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32, f32) -> f32) {
    for ((t, a), b) in target.iter_mut().zip(a).zip(b) {
        *t = f(*t, *a, *b);
    }
}

pub fn select_rows(_: &Context, kernel: &SelectRows, mut bound: Bound) {
    let p = &kernel.params;
    let [rows, columns, batch, places] = [p.rows, p.columns, p.batch, p.places].map(|x| x as usize);
    let source = &bound.read("source")[p.source_offset as usize..];
    let target = &mut bound.write("destination")[p.target_offset as usize..];
    let flags = bound.read("flags");
    let mask = bound.read("mask").get(p.mask_offset as usize..).unwrap_or_default();
    let pairs = target.chunks_mut(columns).zip(source.chunks(columns)).take(rows).enumerate();
    for (r, (target, source)) in pairs {
        let kept = flags
            .get((p.first as usize + r) / places)
            .is_none_or(|f| f.to_bits() & p.flag == p.wanted);
        let mask = mask.get((r % batch) * columns..(r % batch + 1) * columns);
        for c in 0..columns {
            let m = mask.map_or(1.0, |m| m[c]);
            let value = if kept { source[c] * m } else { p.value };
            target[c] = if kernel.accumulate { target[c] + value } else { value };
        }
    }
}

pub fn sequence_flags(_: &Context, kernel: &SequenceFlags, mut bound: Bound) {
    let [time, batch] = [kernel.params.time, kernel.params.batch].map(|x| x as usize);
    let (lengths, mask) = (bound.read("lengths"), bound.read("mask"));
    let resets = bound.read("resets");
    for (i, flag) in bound.write("flags")[..time * batch].iter_mut().enumerate() {
        let within = lengths.get(i % batch).is_none_or(|l| i / batch < l.to_bits() as usize);
        let valid = within && mask.get(i).is_none_or(|&m| m != 0.0);
        let reset = resets.get(i).is_some_and(|&r| r != 0.0);
        let word = if valid { VALID } else { 0 } | if reset { RESET } else { 0 };
        *flag = f32::from_bits(word);
    }
}

pub fn fill(_: &Context, kernel: &Fill, mut bound: Bound) {
    let p = &kernel.params;
    bound.write("destination")[p.offset as usize..][..p.count as usize].fill(p.value);
}

/// Memory that is free for new buffers, where the system tells (Linux does).
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
