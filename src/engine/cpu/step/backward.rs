//! `step_backward`: the gradients of one time step.

use super::product::{Blocks, backward_product};
use super::{Active, Shared, WorkingRows, accumulate, carries, multiply, old_slots, own_words};
use crate::engine::cpu::cell::{
    BackwardRow, Chosen, STATES, cell_backward, gru_candidate_backward,
};
use crate::engine::cpu::rows::{PartRows, row, row_mut};
use crate::engine::cpu::{Bound, Context, Scratch};
use crate::kernel::{BackwardPhase, CellKind, NONE, RESET, StepBackward, StepParams, VALID};

// Parts behind the states'.
const SOURCE: usize = STATES;
const D_OUTPUT: usize = STATES + 1;
const GATES: usize = STATES;
const TARGET: usize = STATES + 2;
const SCRATCH: usize = STATES + 3;
type BackwardRows<'a> = PartRows<'a, { STATES + 2 }, { STATES + 4 }>;

pub fn step_backward(
    context: &Context,
    kernel: &StepBackward,
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, cell) = (&kernel.params, &kernel.kind.cell);
    let [batch, hidden, width, units] = [p.batch, p.hidden, p.width, p.units].map(|x| x as usize);
    scratch.zero(hidden.max(width));
    let Scratch { rows: scratch_rows, zeros, .. } = scratch;
    let shared = Shared::new(p, &kernel.kind, &bound, zeros);
    let row_words = cell.saved() * hidden;
    let (later, gates) = gate_rows(p, batch * row_words, &mut bound);
    let source = source(kernel, later, &bound);
    let d_output = match bound.read("d_output") {
        [] => &[],
        d => &d[p.d_output_offset as usize + p.t as usize * batch * width..][..batch * width],
    };
    let old = old_slots(bound.read("states"), p, cell);
    let [carry_0, carry_1, carry_2, carry_3] = carries(bound.write("carry"), p, cell);
    let unit_words = cell.unit_vectors() * hidden;
    let target = match kernel.phase {
        _ if kernel.to_columns() => (bound.write("d_columns"), units * kernel.column_parts()),
        BackwardPhase::Raw => (bound.write("d_unprojected"), units),
        BackwardPhase::Project => {
            let d = bound.write("d_candidate");
            (&mut d[p.candidate_offset as usize..][..batch * width], width)
        }
        _ => (&mut [][..], 0),
    };
    let columns = bound.read("d_columns");
    let scratch_words = kernel.products() * hidden.max(p.terms as usize)
        + units.max(hidden)
        + STATES * hidden.max(width);
    scratch_rows.resize(scratch_rows.len().max(batch * scratch_words), 0.0);
    let rows = PartRows {
        first: 0,
        count: batch,
        read: [old[0], old[1], old[2], old[3], source, (d_output, width)],
        write: [
            carry_0,
            carry_1,
            carry_2,
            carry_3,
            (gates, row_words),
            (bound.write("d_unit"), unit_words),
            target,
            (scratch_rows, scratch_words),
        ],
    };
    let shared = &shared;
    rows.run(context.threads, &|row| shared.valid(row), &move |rows| {
        backward_part(shared, kernel, columns, rows)
    });
}

/// The later step's gate rows, on either side of step t's, and step t's where they are written.
fn gate_rows<'a>(p: &StepParams, slab: usize, bound: &mut Bound<'a>) -> (&'a [f32], &'a mut [f32]) {
    let slab_at = |t: u32| p.gates_offset as usize + t as usize * slab;
    let all = bound.write("gates");
    if all.is_empty() {
        let later = match p.later {
            NONE => &[],
            later => bound.read("gates").get(slab_at(later)..).unwrap_or_default(),
        };
        return (later, all);
    }
    let (before, rest) = all.split_at_mut(slab_at(p.t));
    let (gates, after) = rest.split_at_mut(slab);
    let later = match p.later {
        NONE => &[],
        // The phase Initial behind the steps of a sequence: it only reads.
        later if later == p.t => return (gates, &mut []),
        later if later > p.t => &after[..slab],
        _ => &before[before.len() - slab..],
    };
    (later, gates)
}

/// What the phase's product is over, with its words a row; empty where there is no product.
fn source<'a>(
    kernel: &StepBackward,
    later_gates: &'a [f32],
    bound: &Bound<'a>,
) -> (&'a [f32], usize) {
    let (p, cell) = (&kernel.params, &kernel.kind.cell);
    let [batch, hidden, width] = [p.batch, p.hidden, p.width].map(|x| x as usize);
    let (row_words, sums_words) = (cell.saved() * hidden, cell.gates() * hidden);
    match (kernel.phase, bound.read("recurrent")) {
        (BackwardPhase::Unproject | BackwardPhase::Raw, _) => {
            (&bound.read("d_candidate")[p.candidate_offset as usize..][..batch * width], width)
        }
        // Without a norm the operand lies in the gate rows, which are written as well.
        (BackwardPhase::Candidate, []) => (&[], row_words),
        (BackwardPhase::CandidateColumns, []) => {
            let at = p.gates_offset as usize + p.t as usize * batch * row_words;
            (&bound.read("gates")[at..][..batch * row_words], row_words)
        }
        (_, recurrent) if kernel.of_candidate() => {
            let words = batch * sums_words;
            (&recurrent[p.t as usize * words..][..words], sums_words)
        }
        (_, []) => (later_gates.get(..batch * row_words).unwrap_or_default(), row_words),
        _ if p.later == NONE => (&[], sums_words),
        (_, recurrent) => {
            let words = batch * sums_words;
            (&recurrent[p.later as usize * words..][..words], sums_words)
        }
    }
}

fn backward_part(shared: &Shared, kernel: &StepBackward, columns: &[f32], mut rows: BackwardRows) {
    let (p, phase) = (shared.p, kernel.phase);
    let [hidden, units, width] = [p.hidden, p.units, p.width].map(|x| x as usize);
    let (scratch, words) = std::mem::take(&mut rows.write[SCRATCH]);
    let state_words = STATES * hidden.max(width);
    let sum_words = units.max(hidden);
    let (passed, scratch) = scratch.split_at_mut(rows.count * state_words);
    let (sums, sources) = scratch.split_at_mut(rows.count * sum_words);
    let source_words = words - state_words - sum_words;
    let mut room = WorkingRows { sources: (sources, source_words), sums: (sums, sum_words) };
    if phase == BackwardPhase::Candidate {
        return candidate(shared, columns, &mut rows, &mut room);
    } else if kernel.from_columns() {
        add_columns(shared, kernel, columns, &mut rows);
    } else if !rows.read[SOURCE].0.is_empty() {
        products(shared, kernel, &mut rows, &mut room);
    }
    if kernel.to_columns() || matches!(phase, BackwardPhase::Raw | BackwardPhase::Initial) {
        return;
    }
    let sums = room.sums.0;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        move || {
            for b in 0..rows.count {
                let passed = &mut passed[b * state_words..][..state_words];
                let sum = &mut sums[b * sum_words..][..hidden];
                backward_row(shared, kernel, &mut rows, b, sum, passed);
            }
        },
    );
}

/// Reset-before GRU's second phase: ds = dn·U_n, with dn in block 2 of the gate rows (with a norm of the
/// recurrent rows), or what a convolution's columns give; then what follows from s = r⊙h.
fn candidate(shared: &Shared, columns: &[f32], rows: &mut BackwardRows, room: &mut WorkingRows) {
    let (first, hidden) = (rows.first, shared.p.hidden as usize);
    let active = Active::new(rows.count, !shared.flags.is_empty(), |b| shared.valid(first + b));
    if columns.is_empty() {
        for i in 0..active.len() {
            let b = active.get(i);
            let d = match row(rows.read[SOURCE], b) {
                [] => &*row_mut(&mut rows.write[GATES], b),
                normed => normed,
            };
            let target = &mut row_mut(&mut room.sources, i)[..hidden];
            target.copy_from_slice(&d[2 * hidden..3 * hidden]);
        }
        let source = (&*room.sources.0, room.sources.1);
        let target = (&mut *room.sums.0, room.sums.1);
        let blocks = Blocks { first: 0, count: 1 };
        backward_product(shared, active.len(), source, blocks, target, false);
    }
    for i in 0..active.len() {
        let b = active.get(i);
        let old = shared.old(&rows.read, first, b)[0];
        let ds = &mut row_mut(&mut room.sums, i)[..hidden];
        if !columns.is_empty() {
            ds.fill(0.0);
            from_columns(shared.p, (columns, 1), 0, first + b, &[], ds);
        }
        let [carry, _, _, _, gates, ..] = &mut rows.write;
        let (gates, carry) = (row_mut(gates, b), row_mut(carry, b));
        let mask = shared.candidate_mask(first + b);
        gru_candidate_backward(Chosen::new(shared.cell), gates, old, mask, ds, carry);
        if shared.reset(first + b) {
            carry.fill(0.0);
        }
    }
}

/// The product over the later step's gate gradients, or over what the projection's phase left, of
/// the rows that take part: added to dh, or in the phase's target, or (Unproject) in `room.sums`.
fn products(
    shared: &Shared,
    kernel: &StepBackward,
    rows: &mut BackwardRows,
    room: &mut WorkingRows,
) {
    let (cell, first) = (shared.cell, rows.first);
    let from_later = !matches!(kernel.phase, BackwardPhase::Unproject | BackwardPhase::Raw)
        && !kernel.of_candidate();
    let flags = if from_later { shared.later_flags } else { shared.flags };
    let active = Active::new(rows.count, !flags.is_empty(), |b| {
        // The later step heard nothing of this one's states where it reset them.
        let reset = kernel.completes() && shared.has(flags, first + b, RESET);
        shared.has(flags, first + b, VALID) && !reset
    });
    // n's product has weights of its own, and its gradient lies in block 2.
    let own = [(if kernel.of_candidate() { 2 } else { 0 }, 0, kernel.products())];
    let blocks = match from_later && cell.layer_norm.is_none() && cell.kind != CellKind::Custom {
        true => cell.recurrent_blocks(),
        false => &own[..],
    };
    let masked = from_later && shared.mask_count > 0;
    if active.all() && !masked && kernel.column_parts() == 1 {
        return straight_products(shared, kernel, blocks, rows, room);
    }
    gather(shared, kernel, &active, blocks, rows, room);
    gathered_products(shared, kernel, &active, masked, rows, room);
    if kernel.phase == BackwardPhase::Unproject {
        // Back to their own rows, from the last: row i lies at or before its own place.
        let (sums, words) = &mut room.sums;
        for i in (0..active.len()).rev() {
            let from = i * *words;
            sums.copy_within(from..from + shared.p.units as usize, active.get(i) * *words);
        }
    }
    if kernel.to_columns() || kernel.phase == BackwardPhase::Raw {
        for b in (0..rows.count).filter(|&b| !shared.has(flags, first + b, VALID)) {
            row_mut(&mut rows.write[TARGET], b).fill(0.0);
        }
    }
}

/// Where every row takes part with its source as it lies.
fn straight_products(
    shared: &Shared,
    kernel: &StepBackward,
    blocks: &[(usize, usize, usize)],
    rows: &mut BackwardRows,
    room: &mut WorkingRows,
) {
    let [hidden, units] = [shared.p.hidden, shared.p.units].map(|x| x as usize);
    let (source, words) = rows.read[SOURCE];
    for (i, &(saved, block, count)) in blocks.iter().enumerate() {
        let (target, adds) = match kernel.phase {
            BackwardPhase::Unproject => ((&mut *room.sums.0, room.sums.1), i > 0),
            BackwardPhase::Raw => ((&mut *rows.write[TARGET].0, units), i > 0),
            _ if kernel.to_columns() => ((&mut *rows.write[TARGET].0, units), i > 0),
            _ => ((&mut *rows.write[0].0, units), true),
        };
        let source = (&source[saved * hidden..], words);
        let blocks = Blocks { first: block, count };
        backward_product(shared, rows.count, source, blocks, target, adds);
    }
}

/// The operands of the rows that take part, one row after the other, in the order of the weights.
fn gather(
    shared: &Shared,
    kernel: &StepBackward,
    active: &Active,
    blocks: &[(usize, usize, usize)],
    rows: &BackwardRows,
    room: &mut WorkingRows,
) {
    let hidden = shared.p.hidden as usize;
    let whole = matches!(kernel.phase, BackwardPhase::Unproject | BackwardPhase::Raw);
    for i in 0..active.len() {
        let from = row(rows.read[SOURCE], active.get(i));
        let target = row_mut(&mut room.sources, i);
        for &(saved, block, count) in blocks {
            let len = if whole { from.len() } else { count * hidden };
            target[block * hidden..][..len].copy_from_slice(&from[saved * hidden..][..len]);
        }
    }
}

/// Their products: all gates at once, or gate by gate under its mask.
fn gathered_products(
    shared: &Shared,
    kernel: &StepBackward,
    active: &Active,
    masked: bool,
    rows: &mut BackwardRows,
    room: &mut WorkingRows,
) {
    let [hidden, units] = [shared.p.hidden, shared.p.units].map(|x| x as usize);
    let products = kernel.products();
    let parts = kernel.column_parts();
    let shares = if masked && shared.mask_count > 1 || parts > 1 { products } else { 1 };
    for share in 0..shares {
        let blocks = match shares {
            1 => Blocks { first: 0, count: products },
            _ => Blocks { first: share, count: 1 },
        };
        let source = (&room.sources.0[blocks.first * hidden..], room.sources.1);
        let target = (&mut *room.sums.0, room.sums.1);
        backward_product(shared, active.len(), source, blocks, target, false);
        for i in 0..active.len() {
            let b = active.get(i);
            let sum = &mut row_mut(&mut room.sums, i)[..units];
            if masked {
                multiply(sum, shared.mask(share, rows.first + b));
            }
            match kernel.phase {
                BackwardPhase::Unproject => {}
                BackwardPhase::Raw => row_mut(&mut rows.write[TARGET], b).copy_from_slice(sum),
                _ if kernel.to_columns() => {
                    let target = row_mut(&mut rows.write[TARGET], b);
                    target[share % parts * units..][..units].copy_from_slice(sum);
                }
                _ => accumulate(row_mut(&mut rows.write[0], b), sum),
            }
        }
    }
}

/// A convolution's product: dh from the later step's columns, each part under its mask.
fn add_columns(shared: &Shared, kernel: &StepBackward, columns: &[f32], rows: &mut BackwardRows) {
    if shared.p.later == NONE {
        return;
    }
    let parts = kernel.column_parts();
    for b in 0..rows.count {
        let global = rows.first + b;
        if !shared.has(shared.later_flags, global, RESET) {
            for part in 0..parts {
                let (dh, mask) = (row_mut(&mut rows.write[0], b), shared.mask(part, global));
                from_columns(shared.p, (columns, parts), part, global, mask, dh);
            }
        }
    }
}

/// The epilogue of one row; `dm` is the product's result where it is not in `carry`.
#[inline(always)]
fn backward_row(
    shared: &Shared,
    kernel: &StepBackward,
    rows: &mut BackwardRows,
    b: usize,
    dm: &mut [f32],
    passed: &mut [f32],
) {
    let (cell, phase) = (shared.cell, kernel.phase);
    let global = rows.first + b;
    let old = shared.old(&rows.read, rows.first, b);
    let d_output = row(rows.read[D_OUTPUT], b);
    let (valid, reset) = (shared.valid(global), shared.reset(global));
    let [c0, c1, c2, c3, gates, d_unit, target, _] = &mut rows.write;
    let mut carry = [row_mut(c0, b), row_mut(c1, b), row_mut(c2, b), row_mut(c3, b)];
    let gates = row_mut(gates, b);
    let own = own_words(cell, shared.p.hidden as usize);
    let unprojects = phase == BackwardPhase::Unproject;
    if !unprojects {
        accumulate(carry[0], d_output);
    }
    // The states whose gradients this phase finishes.
    let states = match phase {
        BackwardPhase::Project => 0..1,
        BackwardPhase::Unproject => 1..cell.states(),
        _ => 0..cell.states(),
    };
    if !valid {
        if phase != BackwardPhase::Project {
            gates[..own].fill(0.0);
        }
        row_mut(target, b).fill(0.0);
        if reset {
            states.for_each(|s| carry[s].fill(0.0));
        }
        return;
    }
    let stride = passed.len() / STATES;
    let zoned = shared.zone.is_on();
    if zoned {
        for s in states.clone() {
            let passed = &mut passed[s * stride..][..carry[s].len()];
            shared.zone.split(s, global, 0, carry[s], passed);
        }
    }
    if phase == BackwardPhase::Project {
        row_mut(target, b).copy_from_slice(carry[0]);
        carry[0].fill(0.0);
    } else {
        let [c0, c1, c2, c3] = &mut carry;
        let c0 = if unprojects { dm } else { &mut **c0 };
        let row = BackwardRow {
            gates: &mut gates[..own],
            old,
            carry: [c0, &mut **c1, &mut **c2, &mut **c3],
            unit: shared.unit,
            d_unit: row_mut(d_unit, b),
            normed: None,
        };
        cell_backward(pulp::Arch::new(), cell, row);
    }
    for s in states {
        if zoned {
            let passed = &passed[s * stride..][..carry[s].len()];
            accumulate(carry[s], passed);
        }
        if reset {
            carry[s].fill(0.0);
        }
    }
}

/// dh += what the places around took of this one, in one of the parts of their rows of columns; see
/// `shaders/shared/from_columns.wgsl`.
fn from_columns(
    p: &StepParams,
    (columns, parts): (&[f32], usize),
    part: usize,
    row: usize,
    mask: &[f32],
    dh: &mut [f32],
) {
    let [map_h, map_w, kernel_h, kernel_w, places, channels] =
        [p.map_height, p.map_width, p.kernel_height, p.kernel_width, p.places, p.width]
            .map(|x| x as usize);
    let (place, taps) = (row % places, kernel_h * kernel_w);
    for tap in 0..taps {
        let y = (place / map_w + kernel_h / 2).wrapping_sub(tap / kernel_w);
        let x = (place % map_w + kernel_w / 2).wrapping_sub(tap % kernel_w);
        if y < map_h && x < map_w {
            let neighbour = row - place + y * map_w + x;
            let from = &columns[(neighbour * parts + part) * channels * taps..][..channels * taps];
            for (c, dh) in dh.iter_mut().enumerate() {
                let m = if mask.is_empty() { 1.0 } else { mask[c] };
                *dh += from[c * taps + tap] * m;
            }
        }
    }
}
