//! The part of a launch that belongs to some steps of a sequence, where the launch goes over its rows step by step
//! and computes each for itself.

use super::{
    Combine, Dropout, EmbeddingForward, InputNormForward, Matmul, NormAxis, Op, SelectRows,
    SequenceSide,
};
use std::ops::Range;

impl Op {
    /// The part that belongs to some of `time` steps; none where there is no such part.
    pub(crate) fn of_steps(&self, time: usize, steps: &Range<usize>) -> Option<Op> {
        match self {
            Op::Matmul(op) => Some(of_product(op, time, steps)?.into()),
            Op::Combine(op) => Some(of_combine(op, time, steps)?.into()),
            Op::SelectRows(op) => Some(of_select(op, time, steps)?.into()),
            Op::Dropout(op) => Some(of_dropout(op, time, steps)?.into()),
            Op::EmbeddingForward(op) => Some(of_gather(op, time, steps)?.into()),
            Op::InputNormForward(op) => Some(of_norm(op, time, steps)?.into()),
            _ => None,
        }
    }
}

/// The first of some steps' `all` rows (or elements), and how many they have.
fn share(all: u32, time: usize, steps: &Range<usize>) -> Option<[u32; 2]> {
    let each = all as usize / time;
    let whole = each > 0 && each * time == all as usize && steps.end <= time && !steps.is_empty();
    whole.then(|| [steps.start * each, steps.len() * each].map(|n| n as u32))
}

fn of_product(op: &Matmul, time: usize, steps: &Range<usize>) -> Option<Matmul> {
    let by_rows = !op.a_transposed && !op.row_sum && op.side != Some(SequenceSide::Terms);
    let [first, count] = share(op.params.m, time, steps).filter(|_| by_rows)?;
    let mut part = op.clone();
    let p = &mut part.params;
    p.m = count;
    p.a_offset += first * p.a_stride;
    p.c_offset += first * p.c_stride;
    p.first += first;
    let tile = part.tile;
    Some(part.with_tile(tile))
}

fn of_combine(op: &Combine, time: usize, steps: &Range<usize>) -> Option<Combine> {
    let mut part = op.clone();
    let p = &mut part.params;
    if p.swap > 0 {
        return None;
    }
    if p.rows == 1 {
        // A row of all elements.
        let [first, count] = share(p.columns, time, steps)?;
        p.columns = count;
        for offset in [&mut p.source_offset, &mut p.other_offset, &mut p.target_offset] {
            *offset += first;
        }
        return Some(part);
    }
    let [first, count] = share(p.rows, time, steps)?;
    p.rows = count;
    p.source_offset += first * p.source_stride;
    p.other_offset += first * p.other_stride;
    p.target_offset += first * p.target_stride;
    Some(part)
}

fn of_select(op: &SelectRows, time: usize, steps: &Range<usize>) -> Option<SelectRows> {
    let mut part = op.clone();
    let p = &mut part.params;
    let [first, count] = share(p.rows, time, steps)?;
    if op.mask && first % p.batch != 0 {
        return None;
    }
    p.rows = count;
    p.source_offset += first * p.columns;
    p.target_offset += first * p.columns;
    p.first += first;
    Some(part)
}

fn of_dropout(op: &Dropout, time: usize, steps: &Range<usize>) -> Option<Dropout> {
    let mut part = op.clone();
    let p = &mut part.params;
    let [first, count] = share(p.count, time, steps)?;
    p.count = count;
    p.input_offset += first;
    p.output_offset += first;
    p.first += first;
    // One call of the generator makes two elements.
    p.first.is_multiple_of(2).then_some(part)
}

fn of_gather(op: &EmbeddingForward, time: usize, steps: &Range<usize>) -> Option<EmbeddingForward> {
    let mut part = op.clone();
    let p = &mut part.params;
    let [first, count] = share(p.count, time, steps)?;
    p.count = count;
    p.ids_offset += first;
    p.output_offset += first * p.output_stride;
    Some(part)
}

fn of_norm(op: &InputNormForward, time: usize, steps: &Range<usize>) -> Option<InputNormForward> {
    let mut part = op.clone();
    let p = &mut part.params;
    let [first, count] = share(p.rows, time, steps).filter(|_| op.axis == NormAxis::Row)?;
    p.rows = count;
    p.gates_offset += first * p.gates_stride;
    p.first += first;
    Some(part)
}
