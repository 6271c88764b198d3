//! Norms of the input product over all steps, and sums over rows.

use super::{Bound, Context};
use crate::kernel::{ColumnSum, InputNormBackward, InputNormForward, NormAxis, VALID};
use rayon::prelude::*;

pub fn input_norm_forward(_: &Context, kernel: &InputNormForward, mut bound: Bound) {
    let p = &kernel.params;
    let [rows, columns] = [p.rows, p.columns].map(|x| x as usize);
    let [offset, stride] = [p.gates_offset, p.gates_stride].map(|x| x as usize);
    let first = p.first as usize;
    let normal = &mut bound.write("normal")[first * columns..][..rows * columns];
    let gates = &mut bound.write("gates")[offset..];
    let scales = &mut bound.write("scales")[first..];
    let gain = &bound.read("gain")[p.gain_offset as usize..][..columns];
    let bias = &bound.read("bias")[p.bias_offset as usize..][..columns];
    match kernel.axis {
        NormAxis::Row => {
            let rows = normal.par_chunks_mut(columns).zip(gates.par_chunks_mut(stride));
            rows.zip(scales).for_each(|((v, gates), scale)| {
                let n = columns as f32;
                let mean = v.iter().sum::<f32>() / n;
                let variance = v.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
                *scale = 1.0 / (variance + p.epsilon).sqrt();
                for c in 0..columns {
                    v[c] = (v[c] - mean) * *scale;
                    gates[c] = gain[c] * v[c] + bias[c];
                }
            });
        }
        NormAxis::Column { running, .. } => {
            let flags = bound.read("flags");
            let valid = |r: usize| {
                flags.get(r / p.places as usize).is_none_or(|f| f.to_bits() & VALID != 0)
            };
            let n = (0..rows).filter(|&r| valid(r)).count() as f32;
            let (mut mean, mut variance) = (vec![0.0; columns], vec![1.0; columns]);
            if running {
                let given = bound.read("running");
                mean.copy_from_slice(&given[..columns]);
                variance.copy_from_slice(&given[columns..2 * columns]);
                variance.iter_mut().for_each(|v| *v += 1.0);
            } else if n > 0.0 {
                for v in normal.chunks(columns).enumerate().filter(|v| valid(v.0)) {
                    mean.iter_mut().zip(v.1).for_each(|(m, v)| *m += v);
                }
                mean.iter_mut().for_each(|m| *m /= n);
                let mut squares = vec![0f32; columns];
                for v in normal.chunks(columns).enumerate().filter(|v| valid(v.0)) {
                    for c in 0..columns {
                        let d = v.1[c] - mean[c];
                        squares[c] += d * d;
                    }
                }
                let average = bound.write("running");
                for c in 0..columns {
                    variance[c] = squares[c] / n;
                    if n > 1.0 {
                        average[c] += p.momentum * (mean[c] - average[c]);
                        let at = columns + c;
                        average[at] += p.momentum * (squares[c] / (n - 1.0) - 1.0 - average[at]);
                    }
                }
            }
            for c in 0..columns {
                scales[c] = 1.0 / (variance[c] + p.epsilon).sqrt();
            }
            let pairs = normal.chunks_mut(columns).zip(gates.chunks_mut(stride));
            for (r, (v, gates)) in pairs.enumerate() {
                for c in 0..columns {
                    v[c] = if valid(r) { (v[c] - mean[c]) * scales[c] } else { 0.0 };
                    gates[c] = gain[c] * v[c] + bias[c];
                }
            }
        }
    }
}

pub fn input_norm_backward(_: &Context, kernel: &InputNormBackward, mut bound: Bound) {
    let p = &kernel.params;
    let [rows, columns] = [p.rows, p.columns].map(|x| x as usize);
    let [offset, stride] = [p.gates_offset, p.gates_stride].map(|x| x as usize);
    let first = p.first as usize;
    let normal = &mut bound.write("normal")[first * columns..][..rows * columns];
    let gates = &bound.read("gates")[offset..];
    let scales = &bound.read("scales")[first..];
    let gain = &bound.read("gain")[p.gain_offset as usize..][..columns];
    match kernel.axis {
        NormAxis::Row => {
            let rows = normal.par_chunks_mut(columns).zip(gates.par_chunks(stride));
            rows.zip(scales).for_each(|((v, d), scale)| {
                let (mut sum, mut dot) = (0.0, 0.0);
                for c in 0..columns {
                    sum += d[c] * gain[c];
                    dot += d[c] * gain[c] * v[c];
                }
                let n = columns as f32;
                for c in 0..columns {
                    v[c] = (d[c] * gain[c] - sum / n - v[c] * (dot / n)) * scale;
                }
            });
        }
        NormAxis::Column { .. } => {
            let flags = bound.read("flags");
            let valid = |r: usize| {
                flags.get(r / p.places as usize).is_none_or(|f| f.to_bits() & VALID != 0)
            };
            let n = ((0..rows).filter(|&r| valid(r)).count() as f32).max(1.0);
            let (mut sum, mut dot) = (vec![0f32; columns], vec![0f32; columns]);
            for (r, v) in normal.chunks(columns).enumerate().filter(|v| valid(v.0)) {
                let d = &gates[r * stride..][..columns];
                for c in 0..columns {
                    sum[c] += d[c];
                    dot[c] += d[c] * v[c];
                }
            }
            for (r, v) in normal.chunks_mut(columns).enumerate() {
                let d = &gates[r * stride..][..columns];
                for c in 0..columns {
                    let value = (d[c] - sum[c] / n - v[c] * (dot[c] / n)) * (gain[c] * scales[c]);
                    v[c] = if valid(r) { value } else { 0.0 };
                }
            }
        }
    }
}

/// Rows that are summed before the next partial sum begins.
const STRETCH: usize = 64;

pub fn column_sum(_: &Context, kernel: &ColumnSum, mut bound: Bound) {
    let p = &kernel.params;
    let [rows, columns] = [p.rows, p.columns].map(|x| x as usize);
    let row = |slice: &[f32], [offset, stride]: [u32; 2], r: usize| {
        let from = offset as usize + r * stride as usize;
        from..(from + columns).min(slice.len())
    };
    let (a, b) = (bound.read("a"), bound.read("b"));
    let sums = &mut bound.write("sums")[p.target_offset as usize..][..columns];
    if !kernel.accumulate {
        sums.fill(0.0);
    }
    let mut part = vec![0f32; columns];
    let block = p.block as usize;
    let blocks = rows.div_ceil(block);
    for number in 0..blocks {
        let start = block * if p.descending == 1 { blocks - 1 - number } else { number };
        let end = rows.min(start + block);
        for first in (start..end).step_by(STRETCH) {
            part.fill(0.0);
            for r in first..(first + STRETCH).min(end) {
                let a = &a[row(a, [p.a_offset, p.a_stride], r)];
                if kernel.product {
                    let b = &b[row(b, [p.b_offset, p.b_stride], r)];
                    part.iter_mut().zip(a).zip(b).for_each(|((s, a), b)| *s += a * b);
                } else {
                    part.iter_mut().zip(a).for_each(|(s, a)| *s += a);
                }
            }
            sums.iter_mut().zip(&part).for_each(|(s, p)| *s += p);
        }
    }
}
