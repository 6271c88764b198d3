//! `embedding_forward` and `embedding_backward`.

use super::memory::PARALLEL_FROM;
use super::{Bound, Context};
use crate::kernel::{EmbeddingBackward, EmbeddingForward, EmbeddingParams};
use rayon::prelude::*;
use std::ops::Range;

/// It never asks for other threads.
pub fn is_small(kernel: &EmbeddingForward) -> bool {
    words(&kernel.params) < PARALLEL_FROM
}

/// Elements of all tokens' rows.
fn words(p: &EmbeddingParams) -> usize {
    p.count as usize * p.width as usize
}

/// The tokens.
fn tokens<'a>(p: &EmbeddingParams, ids: &'a [f32]) -> &'a [u32] {
    bytemuck::cast_slice(&ids[p.ids_offset as usize..][..p.count as usize])
}

fn row_of(p: &EmbeddingParams, id: u32) -> usize {
    id.min(p.vocabulary - 1) as usize
}

pub fn embedding_forward(context: &Context, kernel: &EmbeddingForward, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let [width, stride] = [p.width, p.output_stride].map(|x| x as usize);
    let table = &read[1][p.table_offset as usize..];
    let output = &mut write[0][p.output_offset as usize..];
    let ids = tokens(p, read[0]);
    let one = |(row, &id): (&mut [f32], &u32)| {
        row[..width].copy_from_slice(&table[row_of(p, id) * width..][..width]);
    };
    if is_small(kernel) {
        return output.chunks_mut(stride).zip(ids).for_each(one);
    }
    let each = ids.len().div_ceil(context.threads);
    output.par_chunks_mut(stride).zip(ids).with_min_len(each).for_each(one);
}

/// Each thread sums some of the table's rows, over all tokens block by block.
pub fn embedding_backward(context: &Context, kernel: &EmbeddingBackward, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let [width, stride] = [p.width, p.output_stride].map(|x| x as usize);
    let d_output = &read[1][p.output_offset as usize..];
    let mut d_table = &mut write[0][p.table_offset as usize..][..p.vocabulary as usize * width];
    let ids: Vec<usize> = tokens(p, read[0]).iter().map(|&id| row_of(p, id)).collect();
    let (each, blocks) = (p.block as usize, p.count.div_ceil(p.block) as usize);
    let threads = if words(p) < PARALLEL_FROM { 1 } else { context.threads };
    let (mut parts, mut first) = (Vec::new(), 0);
    for end in borders(&ids, p.vocabulary as usize, threads) {
        let own;
        (own, d_table) = d_table.split_at_mut((end - first) * width);
        parts.push((first..end, own));
        first = end;
    }
    let one = |(own, d_table): (Range<usize>, &mut [f32])| {
        if !kernel.accumulate {
            d_table.fill(0.0);
        }
        for block in 0..blocks {
            let first = if p.descending != 0 { blocks - 1 - block } else { block } * each;
            let rows = d_output[first * stride..].chunks(stride).zip(&ids[first..]).take(each);
            for (row, &id) in rows.filter(|(_, id)| own.contains(id)) {
                let sums = &mut d_table[(id - own.start) * width..][..width];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
    };
    match threads {
        1 => parts.into_iter().for_each(one),
        _ => parts.into_par_iter().for_each(one),
    }
}

/// Where each of so many parts of a table ends that have about as many tokens each.
fn borders(ids: &[usize], vocabulary: usize, parts: usize) -> Vec<usize> {
    let mut counts = vec![0; vocabulary];
    ids.iter().for_each(|&id| counts[id] += 1);
    let (mut ends, mut before) = (Vec::new(), 0);
    for (id, count) in counts.iter().enumerate() {
        before += count;
        if ends.len() + 1 < parts && before * parts >= ids.len() * (ends.len() + 1) {
            ends.push(id + 1);
        }
    }
    ends.push(vocabulary);
    ends
}

#[cfg(test)]
mod tests {
    use super::borders;

    #[test]
    fn parts_have_about_as_many_tokens() {
        let ids: Vec<usize> = (0..90).map(|n| if n < 40 { 2 } else { n % 10 }).collect();
        for parts in 1..12 {
            let ends = borders(&ids, 10, parts);
            assert!(
                ends.is_sorted() && ends.len() <= parts && ends.last() == Some(&10),
                "{ends:?}"
            );
        }
        assert_eq!(borders(&ids, 10, 2), [3, 10]);
        assert_eq!(borders(&[0, 0, 0], 1, 4), [1, 1]);
    }
}
