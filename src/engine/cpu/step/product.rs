//! The products of a step, with dense weights or by heads.

use super::Shared;
use crate::engine::cpu::product::{Strided, product};

/// Rᵀ \[K, rows\] from R \[rows, K\].
pub fn transpose(weights: &[f32], columns: usize, rows: usize, out: &mut Vec<f32>) {
    out.resize(rows * columns, 0.0);
    // Blocks that fit the first-level cache, so that neither side is walked by long strides.
    const BLOCK: usize = 32;
    for i0 in (0..rows).step_by(BLOCK) {
        for k0 in (0..columns).step_by(BLOCK) {
            for i in i0..(i0 + BLOCK).min(rows) {
                for k in k0..(k0 + BLOCK).min(columns) {
                    out[k * rows + i] = weights[i * columns + k];
                }
            }
        }
    }
}

/// A product over one gate or several: which weight block comes first, and how many.
#[derive(Clone, Copy)]
pub struct Blocks {
    pub first: usize,
    pub count: usize,
}

/// target\[n, count·units\] (+)= source\[n, ·\]·Uᵀ for some weight blocks.
pub fn forward_product(
    shared: &Shared,
    n: usize,
    source: (&[f32], usize),
    blocks: Blocks,
    target: (&mut [f32], usize),
    accumulate: bool,
) {
    let p = shared.p;
    let [units, depth] = [p.units, p.depth].map(|x| x as usize);
    if p.heads() > 1 {
        return head_products(shared, true, n, source, blocks, target, accumulate);
    }
    let columns = blocks.count * units;
    let weights = if shared.transposed {
        let all = shared.weights.len() / depth;
        Strided::new(&shared.weights[blocks.first * units..], all, false)
    } else {
        Strided::new(&shared.weights[blocks.first * units * depth..], depth, true)
    };
    let left = Strided::new(source.0, source.1, false);
    product([n, columns, depth], left, weights, target.0, target.1, accumulate, 1);
}

/// target\[n, units\] (+)= source\[n, terms\]·U for the rows of some weight blocks.
pub fn backward_product(
    shared: &Shared,
    n: usize,
    source: (&[f32], usize),
    blocks: Blocks,
    target: (&mut [f32], usize),
    accumulate: bool,
) {
    let p = shared.p;
    let [units, depth, hidden] = [p.units, p.depth, p.hidden].map(|x| x as usize);
    if p.heads() > 1 {
        return head_products(shared, false, n, source, blocks, target, accumulate);
    }
    // Blocks follow each other without gaps, in the source and in the weights.
    let terms = (blocks.count - 1) * hidden + p.terms as usize;
    let left = Strided::new(source.0, source.1, false);
    let weights = Strided::new(&shared.weights[blocks.first * hidden * depth..], depth, false);
    product([n, units, terms], left, weights, target.0, target.1, accumulate, 1);
}

/// Either product with block-diagonal weights: each head's units hear only their own. Forward the
/// blocks lie side by side in the target, backward in the source, and there they add up.
fn head_products(
    shared: &Shared,
    forward: bool,
    n: usize,
    (source, from_stride): (&[f32], usize),
    blocks: Blocks,
    (target, to_stride): (&mut [f32], usize),
    accumulate: bool,
) {
    let p = shared.p;
    let [units, hidden, depth] = [p.units, p.hidden, p.depth].map(|x| x as usize);
    let own = p.head as usize;
    // Rows of the weights in a block and in a head of it, and terms of a sum.
    let (all, rows, terms) = match forward {
        true => (units, own, depth),
        false => (hidden, p.terms as usize, p.terms as usize),
    };
    let weights = &shared.weights[blocks.first * all * depth..];
    for block in 0..blocks.count {
        let accumulate = accumulate || !forward && block > 0;
        for head in 0..p.heads() {
            let row = block * all + head * rows;
            let (from, to) = if forward { (head * depth, row) } else { (row, head * own) };
            if own * depth * terms == 1 {
                for i in 0..n {
                    let value = source[i * from_stride + from] * weights[row];
                    let at = &mut target[i * to_stride + to];
                    *at = if accumulate { *at + value } else { value };
                }
                continue;
            }
            let left = Strided::new(&source[from..], from_stride, false);
            let right = Strided::new(&weights[row * depth..], depth, forward);
            product([n, own, terms], left, right, &mut target[to..], to_stride, accumulate, 1);
        }
    }
}
