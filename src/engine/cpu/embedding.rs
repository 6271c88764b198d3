//! `embedding_forward` and `embedding_backward`.

use super::{Bound, Context};
use crate::kernel::{EmbeddingBackward, EmbeddingForward, EmbeddingParams};

/// (place, table row) of each token.
fn tokens<'a>(p: &'a EmbeddingParams, ids: &'a [f32]) -> impl Iterator<Item = usize> + 'a {
    let ids = &ids[p.ids_offset as usize..][..p.count as usize];
    let ids: &[u32] = bytemuck::cast_slice(ids);
    ids.iter().map(|&id| id.min(p.vocabulary - 1) as usize)
}

pub fn embedding_forward(_: &Context, kernel: &EmbeddingForward, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let width = p.width as usize;
    let table = &read[1][p.table_offset as usize..];
    let output = &mut write[0][p.output_offset as usize..];
    for (row, id) in output.chunks_mut(width).zip(tokens(p, read[0])) {
        row.copy_from_slice(&table[id * width..][..width]);
    }
}

pub fn embedding_backward(_: &Context, kernel: &EmbeddingBackward, mut bound: Bound) {
    let (read, write) = (bound.reads, &mut bound.writes);
    let p = &kernel.params;
    let width = p.width as usize;
    let d_output = &read[1][p.output_offset as usize..];
    let d_table = &mut write[0][p.table_offset as usize..][..p.vocabulary as usize * width];
    if !kernel.accumulate {
        d_table.fill(0.0);
    }
    for (row, id) in d_output.chunks(width).zip(tokens(p, read[0])) {
        for (sum, value) in d_table[id * width..][..width].iter_mut().zip(row) {
            *sum += value;
        }
    }
}
