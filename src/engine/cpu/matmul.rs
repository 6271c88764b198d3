//! `matmul`: the large products, on all threads.

use super::product::{Strided, product};
use super::{Context, Reads, Writes};
use crate::kernel::Matmul;

/// Products of fewer multiply-adds stay on one thread.
const PARALLEL_FROM: usize = 1 << 18;

pub fn matmul(context: &Context, kernel: &Matmul, read: Reads, write: Writes) {
    let p = &kernel.params;
    let [m, n, k] = [p.m, p.n, p.k].map(|x| x as usize);
    let a = &read[0][p.a_offset as usize..];
    let b = &read[1][p.b_offset as usize..];
    let stride = p.c_stride as usize;
    let (c, row_sum) = write.split_first_mut().expect("C is written");
    let c = &mut c[p.c_offset as usize..];
    let threads = if m * n * k >= PARALLEL_FROM { context.threads } else { 1 };
    let mut accumulate = kernel.accumulate;
    if kernel.bias {
        let bias = &read[2][p.bias_offset as usize..][..n];
        for row in c.chunks_mut(stride).take(m) {
            for (c, b) in row.iter_mut().zip(bias) {
                *c = if accumulate { *c + b } else { *b };
            }
        }
        accumulate = true;
    }
    product(
        [m, n, k],
        Strided::new(a, p.a_stride as usize, kernel.a_transposed),
        Strided::new(b, p.b_stride as usize, kernel.b_transposed),
        c,
        stride,
        accumulate,
        threads,
    );
    if let Some(row_sum) = row_sum.first_mut() {
        let row_sum = &mut row_sum[p.row_sum_offset as usize..][..m];
        if !kernel.accumulate {
            row_sum.fill(0.0);
        }
        let stride = p.a_stride as usize;
        if kernel.a_transposed {
            for row in a.chunks(stride).take(k) {
                for (sum, value) in row_sum.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        } else {
            for (sum, row) in row_sum.iter_mut().zip(a.chunks(stride)) {
                *sum += row[..k].iter().sum::<f32>();
            }
        }
    }
}
