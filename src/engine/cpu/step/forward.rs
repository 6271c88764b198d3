//! `step_forward`: the recurrent product and the gates of one time step.

use super::product::{Blocks, forward_product, transpose};
use super::{Active, Shared, WorkingRows, accumulate, multiply, old_slots, own_words, slots};
use crate::engine::cpu::cell::{Chosen, ForwardRow, STATES, cell_forward, gru_candidate_forward};
use crate::engine::cpu::rows::{PartRows, row, row_mut};
use crate::engine::cpu::{Bound, Context, Scratch};
use crate::kernel::{CellKind, ForwardPhase, StepForward};

// Parts behind the states'.
const COLUMNS: usize = STATES;
const GATES: usize = STATES;
const SUMS: usize = STATES + 1;
const SCRATCH: usize = STATES + 2;
type ForwardRows<'a> = PartRows<'a, { STATES + 1 }, { STATES + 3 }>;

/// `scratch` is this layer's own: step 0 fills it with Rᵀ, which the product of the later steps reads
/// in the order it lies in. A single step is not worth it.
pub fn step_forward(
    context: &Context,
    kernel: &StepForward,
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, cell) = (&kernel.params, &kernel.kind.cell);
    let [time, batch, hidden, units, depth] =
        [p.time, p.batch, p.hidden, p.units, p.depth].map(|x| x as usize);
    let heard = depth * p.heads() * kernel.sources();
    scratch.zero(hidden.max(p.width as usize));
    let Scratch { weights: transposed, rows: scratch_rows, zeros, .. } = scratch;
    let mut shared = Shared::new(p, &kernel.kind, &bound, zeros);
    // One row reads the weights once either way.
    if time > 1 && batch > 1 && p.heads() == 1 {
        let first = p.old_slot == 0 && p.new_slot == 1 || p.old_slot == p.time;
        let rows = kernel.products() * units;
        if first || transposed.len() != rows * depth {
            transpose(&shared.weights[..rows * depth], depth, rows, transposed);
        }
        (shared.weights, shared.transposed) = (transposed, true);
    }
    let row_words = cell.saved() * hidden;
    let first_gate = p.gates_offset as usize + p.t as usize * batch * row_words;
    let step = first_gate..first_gate + batch * row_words;
    let gates = bound.write("gates").get_mut(step.clone()).unwrap_or_default();
    let columns = match bound.read("columns") {
        // Gates that are only read.
        [] => (bound.read("gates").get(step).unwrap_or_default(), row_words),
        columns => (columns, heard),
    };
    let states = bound.write("states");
    let (old, new) = if states.is_empty() {
        (old_slots(bound.read("states"), p, cell), std::array::from_fn(|_| Default::default()))
    } else {
        slots(states, p, cell)
    };
    let [new_h, new_1, new_2, new_3] = new;
    let sums_words = cell.gates() * hidden;
    let at = p.t as usize * batch * sums_words;
    let sums = bound.write("recurrent").get_mut(at..at + batch * sums_words).unwrap_or_default();
    let scratch_words = heard.max(p.width as usize) + kernel.products() * units;
    scratch_rows.resize(scratch_rows.len().max(batch * scratch_words), 0.0);
    let rows = PartRows {
        first: 0,
        count: batch,
        read: [old[0], old[1], old[2], old[3], columns],
        write: [
            new_h,
            new_1,
            new_2,
            new_3,
            (gates, row_words),
            (sums, sums_words),
            (scratch_rows, scratch_words),
        ],
    };
    let shared = &shared;
    rows.run(context.threads, &|row| shared.valid(row), &move |rows| {
        forward_part(shared, kernel, rows)
    });
}

/// What a phase's product is of.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Hidden,
    Columns,
    /// A block of the gate rows.
    Block(usize),
}

impl Source {
    fn of(kernel: &StepForward) -> Self {
        match kernel.source_block() {
            Some(block) => Source::Block(block),
            None if kernel.reads_columns() => Source::Columns,
            None => Source::Hidden,
        }
    }
}

fn forward_part(shared: &Shared, kernel: &StepForward, mut rows: ForwardRows) {
    let (first, phase) = (rows.first, kernel.phase);
    let flags = !shared.flags.is_empty();
    let takes_part = |b| shared.valid(first + b);
    let active = Active::new(rows.count, flags && !kernel.is_bare(), takes_part);
    let n = active.len();
    let products = kernel.products();
    let (scratch, scratch_words) = std::mem::take(&mut rows.write[SCRATCH]);
    let sum_words = products * shared.p.units as usize;
    let source_words = scratch_words - sum_words;
    let (sources, sums) = scratch.split_at_mut(rows.count * source_words);
    let mut room = WorkingRows { sources: (sources, source_words), sums: (sums, sum_words) };
    let custom = shared.cell.kind == CellKind::Custom;
    // Which weight blocks go to which saved blocks.
    let own = [(0, 0, products)];
    let blocks = match phase {
        ForwardPhase::Cell if !custom => shared.cell.recurrent_blocks(),
        ForwardPhase::Candidate => &[(2, 0, 1)][..],
        _ => &own[..],
    };
    let resets = || flags && (0..rows.count).any(|b| shared.reset(first + b));
    let changed = match Source::of(kernel) {
        Source::Hidden => shared.mask_count > 0 || resets(),
        _ => kernel.sources() > 1,
    };
    // A custom cell takes its sums apart from x.
    if active.all() && !changed && !custom {
        straight_products(shared, kernel, blocks, &mut rows, &mut room);
    } else {
        gathered_products(shared, kernel, &active, &rows, &mut room);
        if !custom || phase != ForwardPhase::Cell {
            put_sums(shared, kernel, &active, blocks, &mut rows, &room);
        }
    }
    if kernel.is_bare() {
        return;
    }
    let sums = &*room.sums.0;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        // `move`: a closure that only borrows is called through a shim that is not compiled for
        // the instruction set.
        move || {
            for i in 0..n {
                let b = active.get(i);
                forward_row(shared, phase, &mut rows, b, &sums[(i * sum_words).min(sums.len())..]);
            }
            if !active.all() {
                for b in (0..rows.count).filter(|&b| !shared.valid(first + b)) {
                    keep_row(shared, phase, &mut rows, b);
                }
            }
        },
    );
}

/// The products where every row takes part with its source as it lies: in rows of a buffer, or in a
/// block of the gate rows.
fn straight_products(
    shared: &Shared,
    kernel: &StepForward,
    blocks: &[(usize, usize, usize)],
    rows: &mut ForwardRows,
    room: &mut WorkingRows,
) {
    let [hidden, units] = [shared.p.hidden, shared.p.units].map(|x| x as usize);
    let (n, row_words) = (rows.count, rows.write[GATES].1);
    for &(saved, block, count) in blocks {
        let source = match Source::of(kernel) {
            Source::Hidden => rows.read[0],
            Source::Columns => rows.read[COLUMNS],
            Source::Block(from) if kernel.phase == ForwardPhase::Candidate => {
                // Source and target are blocks of the same rows: by way of the scratch.
                for b in 0..n {
                    let s = &row((&*rows.write[GATES].0, row_words), b)[from * hidden..][..hidden];
                    row_mut(&mut room.sources, b)[..hidden].copy_from_slice(s);
                }
                (&*room.sources.0, room.sources.1)
            }
            Source::Block(from) => (&rows.read[COLUMNS].0[from * hidden..], row_words),
        };
        let (target, adds) = match kernel.phase {
            ForwardPhase::Project => ((&mut *rows.write[0].0, units), false),
            _ if kernel.is_bare() => {
                let (sums, words) = &mut rows.write[SUMS];
                ((&mut sums[kernel.first_gate() * hidden..], *words), false)
            }
            // A product with a place of its own replaces what was there.
            phase => {
                let adds = saved == block || phase == ForwardPhase::Candidate;
                ((&mut rows.write[GATES].0[saved * hidden..], row_words), adds)
            }
        };
        forward_product(shared, n, source, Blocks { first: block, count }, target, adds);
    }
}

/// The products of the rows that take part, gathered one after the other, into `room.sums`: all
/// gates at once, or gate by gate under its mask.
fn gathered_products(
    shared: &Shared,
    kernel: &StepForward,
    active: &Active,
    rows: &ForwardRows,
    room: &mut WorkingRows,
) {
    let [hidden, units] = [shared.p.hidden, shared.p.units].map(|x| x as usize);
    let (products, from) = (kernel.products(), Source::of(kernel));
    let by_gate = kernel.sources() > 1;
    for share in 0..kernel.sources() {
        for i in 0..active.len() {
            let b = active.get(i);
            let source = match from {
                Source::Hidden => shared.old(&rows.read, rows.first, b)[0],
                Source::Columns => {
                    let columns = row(rows.read[COLUMNS], b);
                    let words = columns.len() / kernel.sources();
                    &columns[share * words..][..words]
                }
                Source::Block(block) => {
                    let (written, words) = &rows.write[GATES];
                    let gates = match row((rows.read[COLUMNS].0, *words), b) {
                        [] => row((&**written, *words), b),
                        read => read,
                    };
                    &gates[block * hidden..][..hidden]
                }
            };
            let target = &mut row_mut(&mut room.sources, i)[..source.len()];
            target.copy_from_slice(source);
            if from == Source::Hidden {
                multiply(target, shared.mask(share, rows.first + b));
            }
        }
        let blocks = if by_gate {
            Blocks { first: share, count: 1 }
        } else {
            Blocks { first: 0, count: products }
        };
        let target = (&mut room.sums.0[blocks.first * units..], room.sums.1);
        let source = (&*room.sources.0, room.sources.1);
        forward_product(shared, active.len(), source, blocks, target, false);
    }
}

/// Takes the gathered rows' sums to where the phase wants them.
fn put_sums(
    shared: &Shared,
    kernel: &StepForward,
    active: &Active,
    blocks: &[(usize, usize, usize)],
    rows: &mut ForwardRows,
    room: &WorkingRows,
) {
    let [hidden, units] = [shared.p.hidden, shared.p.units].map(|x| x as usize);
    for i in 0..active.len() {
        let b = active.get(i);
        let sum = row((&*room.sums.0, room.sums.1), i);
        match kernel.phase {
            ForwardPhase::Project => row_mut(&mut rows.write[0], b).copy_from_slice(sum),
            _ if kernel.is_bare() => {
                let sums = row_mut(&mut rows.write[SUMS], b);
                sums[kernel.first_gate() * hidden..][..sum.len()].copy_from_slice(sum);
            }
            phase => {
                let gates = row_mut(&mut rows.write[GATES], b);
                for &(saved, block, count) in blocks {
                    let sum = &sum[block * units..][..count * units];
                    let target = &mut gates[saved * hidden..][..count * units];
                    if saved == block || phase == ForwardPhase::Candidate {
                        accumulate(target, sum);
                    } else {
                        target.copy_from_slice(sum);
                    }
                }
            }
        }
    }
}

/// The epilogue of one row.
#[inline(always)]
fn forward_row(shared: &Shared, phase: ForwardPhase, rows: &mut ForwardRows, b: usize, r: &[f32]) {
    let cell = shared.cell;
    let global = rows.first + b;
    let old = shared.old(&rows.read, rows.first, b);
    let [h, c, n, m, gates, ..] = &mut rows.write;
    let mut new = [row_mut(h, b), row_mut(c, b), row_mut(n, b), row_mut(m, b)];
    match phase {
        ForwardPhase::Cell => {
            let gates = row_mut(gates, b);
            let (gates, unprojected) =
                gates.split_at_mut(own_words(cell, shared.p.hidden as usize));
            let [h, c, n, m] = &mut new;
            let h = if cell.projection.is_some() { unprojected } else { &mut **h };
            let mask = match cell.kind {
                CellKind::GruResetBefore => shared.candidate_mask(global),
                _ => &[],
            };
            let (bias, unit) = (shared.bias, shared.unit);
            let new = [h, &mut **c, &mut **n, &mut **m];
            cell_forward(
                pulp::Arch::new(),
                cell,
                ForwardRow { gates, bias, old, new, unit, r, mask },
            );
            if cell.kind == CellKind::GruResetBefore {
                return;
            }
        }
        ForwardPhase::Candidate => {
            let [h, c, n, m] = &mut new;
            let (bias, unit) = (shared.bias, shared.unit);
            let new = [&mut **h, &mut **c, &mut **n, &mut **m];
            let row = ForwardRow { gates: row_mut(gates, b), bias, old, new, unit, r, mask: &[] };
            gru_candidate_forward(Chosen::new(cell), row);
        }
        ForwardPhase::Project | ForwardPhase::Product | ForwardPhase::CandidateProduct => {}
    }
    if shared.zone.is_on() {
        let from = usize::from(phase == ForwardPhase::Cell && cell.projection.is_some());
        let to = if phase == ForwardPhase::Project { 1 } else { cell.states() };
        for s in from..to {
            shared.zone.mix(s, global, 0, old[s], new[s]);
        }
    }
}

/// A row that is not valid keeps its states.
#[inline(always)]
fn keep_row(shared: &Shared, phase: ForwardPhase, rows: &mut ForwardRows, b: usize) {
    let cell = shared.cell;
    let old = shared.old(&rows.read, rows.first, b);
    if phase == ForwardPhase::Cell && cell.kind == CellKind::GruResetBefore {
        let h = shared.p.hidden as usize;
        return row_mut(&mut rows.write[GATES], b)[3 * h..4 * h].fill(0.0);
    }
    let from = usize::from(phase == ForwardPhase::Cell && cell.projection.is_some());
    let to = if phase == ForwardPhase::Project { 1 } else { cell.states() };
    for (new, old) in rows.write[from..to].iter_mut().zip(&old[from..to]) {
        row_mut(new, b).copy_from_slice(old);
    }
}
