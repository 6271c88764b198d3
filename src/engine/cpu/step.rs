//! `step_forward` and `step_backward`: the recurrent product and the gates of one time step.
//!
//! Batch rows are independent, so a step is halved by rows until there is a part for each thread. A
//! product that needs nothing but h goes straight into the gate buffer; where rows are masked, reset
//! or dropped, those that take part are gathered first, so that the others cost nothing.

use super::cell::{
    BackwardRow, Chosen, ForwardRow, STATES, cell_backward, cell_forward, gru_candidate_backward,
    gru_candidate_forward,
};
use super::product::{Strided, product};
use super::rows::{Rows, row, row_mut};
use super::zoneout::Zone;
use super::{Bound, Context, Scratch};
use crate::kernel::{
    BackwardPhase, Cell, CellKind, ForwardPhase, NONE, RESET, StepBackward, StepForward, StepKind,
    StepParams, VALID,
};

/// What all rows of a step share.
pub(super) struct Shared<'a> {
    pub p: &'a StepParams,
    pub cell: &'a Cell,
    /// Flags of step t, of the later step; empty where every row takes part.
    pub flags: &'a [f32],
    pub later_flags: &'a [f32],
    /// Masks \[M,B,P\] of the recurrent dropout.
    masks: &'a [f32],
    mask_count: usize,
    pub zone: Zone,
    weights: &'a [f32],
    /// `weights` holds the transpose.
    transposed: bool,
    pub bias: &'a [f32],
    pub unit: &'a [f32],
    /// Zeros in place of states that a reset cleared.
    pub zeros: &'a [f32],
}

impl<'a> Shared<'a> {
    pub fn new(p: &'a StepParams, kind: &'a StepKind, bound: &Bound<'a>, zeros: &'a [f32]) -> Self {
        let maps = (p.batch / p.places) as usize;
        let flags = bound.read("flags");
        let of = |t: u32| match flags.is_empty() || t == NONE {
            true => &[][..],
            false => &flags[(p.first + t) as usize * maps..][..maps],
        };
        Shared {
            p,
            cell: &kind.cell,
            flags: of(p.t),
            later_flags: of(p.later),
            masks: bound.read("hidden_mask"),
            mask_count: if bound.read("hidden_mask").is_empty() { 0 } else { kind.masks },
            zone: Zone::new(p, kind.zoneout, bound.read("control")),
            weights: bound.read("w").get(p.w_offset as usize..).unwrap_or_default(),
            transposed: false,
            bias: bound.read("b").get(p.b_offset as usize..).unwrap_or_default(),
            unit: bound.read("unit_parameters"),
            zeros,
        }
    }

    pub fn has(&self, flags: &[f32], row: usize, flag: u32) -> bool {
        match flags.get(row / self.p.places as usize) {
            Some(word) => word.to_bits() & flag != 0,
            None => flag == VALID,
        }
    }

    pub fn valid(&self, row: usize) -> bool {
        self.has(self.flags, row, VALID)
    }

    pub fn reset(&self, row: usize) -> bool {
        self.has(self.flags, row, RESET)
    }

    /// Mask `gate` (or the only one) of batch row `row`.
    fn mask(&self, gate: usize, row: usize) -> &'a [f32] {
        if self.mask_count == 0 {
            return &[];
        }
        let (b, p) = (self.p.batch as usize, self.p.width as usize);
        &self.masks[(gate.min(self.mask_count - 1) * b + row) * p..][..p]
    }

    /// The mask of h in n's product of reset-before GRU.
    fn candidate_mask(&self, row: usize) -> &'a [f32] {
        self.mask(2, row)
    }

    /// The states of a row before the step.
    #[inline(always)]
    pub fn old<'r, const R: usize>(
        &self,
        states: &[(&'r [f32], usize); R],
        first: usize,
        b: usize,
    ) -> [&'r [f32]; STATES]
    where
        'a: 'r,
    {
        let reset = self.reset(first + b);
        std::array::from_fn(|s| {
            let old = row(states[s], b);
            if reset { &self.zeros[..old.len()] } else { old }
        })
    }
}

/// Each state's slots before the step (read) and behind it (written), with their words a row.
#[allow(clippy::type_complexity)]
pub(super) fn slots<'a>(
    mut states: &'a mut [f32],
    p: &StepParams,
    cell: &Cell,
) -> ([(&'a [f32], usize); STATES], [(&'a mut [f32], usize); STATES]) {
    let mut old = [(&[][..], 0); STATES];
    let mut new: [(&mut [f32], usize); STATES] = std::array::from_fn(|_| Default::default());
    let [batch, slots] = [p.batch as usize, p.time as usize + 1];
    for s in 0..cell.states() {
        let width = if s == 0 { p.width } else { p.hidden } as usize;
        let words = batch * width;
        let (state, rest) = states.split_at_mut(slots * words);
        states = rest;
        let border = p.old_slot.max(p.new_slot) as usize * words;
        let (low, high) = state.split_at_mut(border);
        let (low, high) = (&mut low[border - words..], &mut high[..words]);
        let (before, behind) = if p.old_slot < p.new_slot { (low, high) } else { (high, low) };
        (old[s], new[s]) = ((&*before, width), (behind, width));
    }
    (old, new)
}

/// The slots before the step.
pub(super) fn old_slots<'a>(
    states: &'a [f32],
    p: &StepParams,
    cell: &Cell,
) -> [(&'a [f32], usize); STATES] {
    let mut old = [(&[][..], 0); STATES];
    let [batch, slots] = [p.batch as usize, p.time as usize + 1];
    let mut first = 0;
    for (s, old) in old.iter_mut().enumerate().take(cell.states().min(1 + states.len())) {
        let width = if s == 0 { p.width } else { p.hidden } as usize;
        let at = first + p.old_slot as usize * batch * width;
        *old = (states.get(at..at + batch * width).unwrap_or_default(), width);
        first += slots * batch * width;
    }
    old
}

/// Carries of all states, with their words a row.
pub(super) fn carries<'a>(
    mut carry: &'a mut [f32],
    p: &StepParams,
    cell: &Cell,
) -> [(&'a mut [f32], usize); STATES] {
    let mut parts: [(&mut [f32], usize); STATES] = std::array::from_fn(|_| Default::default());
    for (s, part) in parts.iter_mut().enumerate().take(cell.states()) {
        let width = if s == 0 { p.width } else { p.hidden } as usize;
        let (state, rest) = carry.split_at_mut((p.batch as usize * width).min(carry.len()));
        *part = (state, width);
        carry = rest;
    }
    parts
}

/// Which rows of a part take part.
enum Active {
    All(usize),
    Some(Vec<usize>),
}

impl Active {
    fn new(count: usize, flagged: bool, takes_part: impl Fn(usize) -> bool) -> Self {
        if !flagged {
            return Active::All(count);
        }
        let list: Vec<usize> = (0..count).filter(|&b| takes_part(b)).collect();
        if list.len() == count { Active::All(count) } else { Active::Some(list) }
    }

    fn len(&self) -> usize {
        match self {
            Active::All(n) => *n,
            Active::Some(list) => list.len(),
        }
    }

    fn get(&self, i: usize) -> usize {
        match self {
            Active::All(_) => i,
            Active::Some(list) => list[i],
        }
    }
}

/// Rᵀ \[K, rows\] from R \[rows, K\].
fn transpose(weights: &[f32], columns: usize, rows: usize, out: &mut Vec<f32>) {
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
struct Blocks {
    first: usize,
    count: usize,
}

/// target\[n, count·units\] (+)= source\[n, ·\]·Uᵀ for some weight blocks. With heads, each head's units
/// hear only their own.
fn forward_product(
    shared: &Shared,
    n: usize,
    source: (&[f32], usize),
    blocks: Blocks,
    (target, stride): (&mut [f32], usize),
    accumulate: bool,
) {
    let p = shared.p;
    let [units, depth, head] = [p.units, p.depth, p.head].map(|x| x as usize);
    if head == units {
        let columns = blocks.count * units;
        let weights = if shared.transposed {
            let all = shared.weights.len() / depth;
            Strided::new(&shared.weights[blocks.first * units..], all, false)
        } else {
            Strided::new(&shared.weights[blocks.first * units * depth..], depth, true)
        };
        let left = Strided::new(source.0, source.1, false);
        return product([n, columns, depth], left, weights, target, stride, accumulate, 1);
    }
    for block in 0..blocks.count {
        let weights = &shared.weights[(blocks.first + block) * units * depth..][..units * depth];
        for first in (0..units).step_by(head) {
            let column = block * units + first;
            if head == 1 {
                for i in 0..n {
                    let value = source.0[i * source.1 + first] * weights[first];
                    let at = &mut target[i * stride + column];
                    *at = if accumulate { *at + value } else { value };
                }
                continue;
            }
            let left = Strided::new(&source.0[first..], source.1, false);
            let right = Strided::new(&weights[first * depth..], depth, true);
            product([n, head, depth], left, right, &mut target[column..], stride, accumulate, 1);
        }
    }
}

/// target\[n, units\] (+)= source\[n, terms\]·U for one weight block's rows.
fn backward_product(
    shared: &Shared,
    n: usize,
    source: (&[f32], usize),
    blocks: Blocks,
    (target, stride): (&mut [f32], usize),
    accumulate: bool,
) {
    let p = shared.p;
    let [units, depth, head, hidden] = [p.units, p.depth, p.head, p.hidden].map(|x| x as usize);
    let weights = &shared.weights[blocks.first * hidden * depth..];
    if head == units {
        // Blocks follow each other without gaps, in the source and in the weights.
        let terms = (blocks.count - 1) * hidden + p.terms as usize;
        let (left, right) =
            (Strided::new(source.0, source.1, false), Strided::new(weights, depth, false));
        return product([n, units, terms], left, right, target, stride, accumulate, 1);
    }
    for block in 0..blocks.count {
        let accumulate = accumulate || block > 0;
        for first in (0..units).step_by(head) {
            let term = block * hidden + first;
            if head == 1 {
                for i in 0..n {
                    let value = source.0[i * source.1 + term] * weights[term];
                    let at = &mut target[i * stride + first];
                    *at = if accumulate { *at + value } else { value };
                }
                continue;
            }
            let left = Strided::new(&source.0[term..], source.1, false);
            let right = Strided::new(&weights[term * depth..], depth, false);
            product([n, head, head], left, right, &mut target[first..], stride, accumulate, 1);
        }
    }
}

/// `a` = a ⊙ b, where there is a b.
#[inline(always)]
fn multiply(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a *= b;
    }
}

#[inline(always)]
fn accumulate(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

// Parts of a forward step.
const GATES: usize = STATES;
const SUMS: usize = STATES + 1;
const SCRATCH: usize = STATES + 2;
const COLUMNS: usize = STATES;

/// `scratch` is this layer's own: step 0 fills it with Rᵀ, which the product of the later steps reads
/// in the order it lies in. A single step is not worth it.
pub fn step_forward(
    context: &Context,
    kernel: &StepForward,
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, cell, phase) = (&kernel.params, &kernel.kind.cell, kernel.phase);
    let [time, batch, hidden, units, depth] =
        [p.time, p.batch, p.hidden, p.units, p.depth].map(|x| x as usize);
    scratch.zero(hidden.max(p.width as usize));
    let Scratch { weights: transposed, rows: scratch_rows, zeros } = scratch;
    let mut shared = Shared::new(p, &kernel.kind, &bound, zeros);
    // One row reads the weights once either way.
    if time > 1 && batch > 1 && p.head == p.units {
        let first = p.old_slot == 0 && p.new_slot == 1 || p.old_slot == p.time;
        let rows = kernel.products() * units;
        if first || transposed.len() != rows * depth {
            transpose(&shared.weights[..rows * depth], depth, rows, transposed);
        }
        (shared.weights, shared.transposed) = (transposed, true);
    }
    let row_words = cell.saved() * hidden;
    let first_gate = p.gates_offset as usize + p.t as usize * batch * row_words;
    let gates = bound.write("gates");
    // The projection's gates are only read.
    let source_gates = bound.read("gates");
    let source_gates = source_gates.get(first_gate..first_gate + batch * row_words);
    let gates = gates.get_mut(first_gate..first_gate + batch * row_words).unwrap_or_default();
    let states_read = bound.read("states");
    let states = bound.write("states");
    let (old, new) = if states.is_empty() {
        let none = std::array::from_fn(|_| Default::default());
        (old_slots(states_read, p, cell), none)
    } else {
        slots(states, p, cell)
    };
    let [new_h, new_1, new_2, new_3] = new;
    let sums_words = cell.gates() * hidden;
    let recurrent = bound.write("recurrent");
    let at = p.t as usize * batch * sums_words;
    let sums = recurrent.get_mut(at..at + batch * sums_words).unwrap_or_default();
    let scratch_words = depth.max(p.width as usize) + kernel.products() * units;
    scratch_rows.resize(scratch_rows.len().max(batch * scratch_words), 0.0);
    let columns = match bound.read("columns") {
        [] => (source_gates.unwrap_or_default(), row_words),
        columns => (columns, depth),
    };
    let rows = Rows {
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
    rows.run(context.threads, &move |rows| forward_part(shared, kernel, phase, rows));
}

type ForwardRows<'a> = Rows<'a, { STATES + 1 }, { STATES + 3 }>;

fn forward_part(shared: &Shared, kernel: &StepForward, phase: ForwardPhase, mut rows: ForwardRows) {
    let (cell, p) = (shared.cell, shared.p);
    let [hidden, units] = [p.hidden, p.units].map(|x| x as usize);
    let first = rows.first;
    let flagged = !shared.flags.is_empty() && phase != ForwardPhase::Product;
    let resets = !shared.flags.is_empty() && (0..rows.count).any(|b| shared.reset(first + b));
    let active = Active::new(rows.count, flagged, |b| shared.valid(first + b));
    let n = active.len();
    let columns = kernel.kind.columns && kernel.source_block().is_none();
    let from_h = kernel.source_block().is_none() && !columns;
    let some = matches!(active, Active::Some(_));
    let gathers = some || from_h && (resets || shared.mask_count > 0);
    let custom = cell.kind == CellKind::Custom;
    let straight = !gathers && !custom;
    let products = kernel.products();
    let sum_words = products * units;
    let source_words = rows.write[SCRATCH].1 - sum_words;
    let (row_words, scratch) = (rows.write[GATES].1, std::mem::take(&mut rows.write[SCRATCH].0));
    let (sources, sums) = scratch.split_at_mut(rows.count * source_words);
    // Which weight blocks go to which saved blocks.
    let own = [(0, 0, products)];
    let blocks = match phase {
        ForwardPhase::Cell if !custom => cell.recurrent_blocks(),
        ForwardPhase::Candidate => &[(2, 0, 1)][..],
        _ => &own[..],
    };
    if straight {
        // The source lies in rows of a buffer, or in a block of the gate rows.
        for &(saved, block, count) in blocks {
            let blocks = Blocks { first: block, count };
            match (phase, kernel.source_block()) {
                (ForwardPhase::Candidate, Some(from)) => {
                    // Source and target are blocks of the same rows: by way of the scratch.
                    let gates = &mut rows.write[GATES].0;
                    for b in 0..n {
                        let s = &gates[b * row_words + from * hidden..][..hidden];
                        sources[b * source_words..][..hidden].copy_from_slice(s);
                    }
                    let target = (&mut gates[saved * hidden..], row_words);
                    forward_product(shared, n, (sources, source_words), blocks, target, true);
                }
                (_, from) => {
                    let (source, words) = match from {
                        Some(block) => (&rows.read[COLUMNS].0[block * hidden..], row_words),
                        None if columns => rows.read[COLUMNS],
                        None => rows.read[0],
                    };
                    let (target, words_out, adds) = match phase {
                        ForwardPhase::Project => (&mut *rows.write[0].0, units, false),
                        ForwardPhase::Product => (&mut *rows.write[SUMS].0, sum_words, false),
                        // A product with a place of its own replaces what was there.
                        _ => {
                            (&mut rows.write[GATES].0[saved * hidden..], row_words, saved == block)
                        }
                    };
                    let target = (target, words_out);
                    forward_product(shared, n, (source, words), blocks, target, adds);
                }
            }
        }
    } else {
        let masks = if from_h { shared.mask_count.max(1) } else { 1 };
        // One gather a mask: all gates at once, or gate by gate.
        for mask in 0..masks {
            for i in 0..n {
                let b = active.get(i);
                let source = match kernel.source_block() {
                    Some(block) => {
                        let gates = row((rows.read[COLUMNS].0, row_words), b);
                        let gates = if gates.is_empty() {
                            row((&*rows.write[GATES].0, row_words), b)
                        } else {
                            gates
                        };
                        &gates[block * hidden..][..hidden]
                    }
                    None if columns => row(rows.read[COLUMNS], b),
                    None => shared.old(&rows.read, first, b)[0],
                };
                let target = &mut sources[i * source_words..][..source.len()];
                target.copy_from_slice(source);
                if from_h {
                    multiply(target, shared.mask(mask, first + b));
                }
            }
            let blocks = match masks {
                1 => Blocks { first: 0, count: products },
                _ => Blocks { first: mask, count: 1 },
            };
            if mask >= products {
                break;
            }
            let target = (&mut sums[blocks.first * units..], sum_words);
            forward_product(shared, n, (sources, source_words), blocks, target, false);
        }
        for i in 0..n {
            let b = active.get(i);
            let sum = &sums[i * sum_words..][..sum_words];
            match phase {
                ForwardPhase::Project => row_mut(&mut rows.write[0], b).copy_from_slice(sum),
                ForwardPhase::Product => row_mut(&mut rows.write[SUMS], b).copy_from_slice(sum),
                _ if custom => {}
                _ => {
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
    if phase == ForwardPhase::Product {
        return;
    }
    let sums = &*sums;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        // `move`: a closure that only borrows is called through a shim that is not compiled for
        // the instruction set.
        move || {
            for i in 0..n {
                let b = active.get(i);
                forward_row(shared, phase, &mut rows, b, &sums[(i * sum_words).min(sums.len())..]);
            }
            if some {
                for b in (0..rows.count).filter(|&b| !shared.valid(first + b)) {
                    keep_row(shared, phase, &mut rows, b);
                }
            }
        },
    );
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
            // The unprojected output is the last saved block.
            let own =
                gates.len() - if cell.projection.is_some() { shared.p.hidden as usize } else { 0 };
            let (gates, unprojected) = gates.split_at_mut(own);
            let [h, c, n, m] = &mut new;
            let h = if cell.projection.is_some() { unprojected } else { &mut **h };
            let mask = match cell.kind {
                CellKind::GruResetBefore => shared.candidate_mask(global),
                _ => &[],
            };
            let (bias, unit) = (shared.bias, shared.unit);
            let new = [h, &mut **c, &mut **n, &mut **m];
            cell_forward(cell, ForwardRow { gates, bias, old, new, unit, r, mask });
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
        ForwardPhase::Project | ForwardPhase::Product => {}
    }
    if shared.zone.is_on() {
        let from = usize::from(phase == ForwardPhase::Cell && cell.projection.is_some());
        let to = if phase == ForwardPhase::Project { 1 } else { cell.states() };
        for s in from..to {
            shared.zone.mix(s, global, old[s], new[s]);
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

// Parts of a backward step.
const SOURCE: usize = STATES;
const D_OUTPUT: usize = STATES + 1;
const TARGET: usize = STATES + 2;
const B_SCRATCH: usize = STATES + 3;
type BackwardRows<'a> = Rows<'a, { STATES + 2 }, { STATES + 4 }>;

pub fn step_backward(
    context: &Context,
    kernel: &StepBackward,
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, cell, phase) = (&kernel.params, &kernel.kind.cell, kernel.phase);
    let [batch, hidden, width, units] = [p.batch, p.hidden, p.width, p.units].map(|x| x as usize);
    scratch.zero(hidden.max(width));
    let Scratch { rows: scratch_rows, zeros, .. } = scratch;
    let shared = Shared::new(p, &kernel.kind, &bound, zeros);
    let row_words = cell.saved() * hidden;
    let slab = batch * row_words;
    let slab_at = |t: u32| p.gates_offset as usize + t as usize * slab;
    let all = bound.write("gates");
    let read_gates = bound.read("gates");
    // Step t is written; the later step, on either side of it, is read.
    let (later, gates): (&[f32], &mut [f32]) = if all.is_empty() {
        let later = if p.later == NONE {
            &[]
        } else {
            read_gates.get(slab_at(p.later)..).unwrap_or_default()
        };
        (later, &mut [])
    } else {
        let at = slab_at(p.t);
        let (before, rest) = all.split_at_mut(at);
        let (gates, after) = rest.split_at_mut(slab);
        let later = match p.later {
            NONE => &[][..],
            later if later > p.t => &after[..slab],
            _ => &before[at - slab..],
        };
        (later, gates)
    };
    let sums_words = cell.gates() * hidden;
    let recurrent = bound.read("recurrent");
    let d_candidate = bound.read("d_candidate").get(p.candidate_offset as usize..);
    let d_candidate = d_candidate.unwrap_or_default();
    let source = match phase {
        BackwardPhase::Unproject | BackwardPhase::Raw => (&d_candidate[..batch * width], width),
        BackwardPhase::Candidate => (&[][..], row_words),
        _ if recurrent.is_empty() => (later.get(..slab).unwrap_or_default(), row_words),
        _ if p.later == NONE => (&[][..], sums_words),
        _ => {
            (&recurrent[p.later as usize * batch * sums_words..][..batch * sums_words], sums_words)
        }
    };
    let d_output = bound.read("d_output");
    let d_output = match d_output {
        [] => d_output,
        d => &d[p.d_output_offset as usize + p.t as usize * batch * width..][..batch * width],
    };
    let old = old_slots(bound.read("states"), p, cell);
    let [carry_0, carry_1, carry_2, carry_3] = carries(bound.write("carry"), p, cell);
    let unit_words = cell.unit_vectors() * hidden;
    let (target, target_words) = match phase {
        BackwardPhase::Columns => (bound.write("d_columns"), units),
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
    let rows = Rows {
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
            (target, target_words),
            (scratch_rows, scratch_words),
        ],
    };
    let shared = &shared;
    rows.run(context.threads, &move |rows| backward_part(shared, kernel, columns, rows));
}

fn backward_part(shared: &Shared, kernel: &StepBackward, columns: &[f32], mut rows: BackwardRows) {
    let (cell, p, phase) = (shared.cell, shared.p, kernel.phase);
    let [hidden, units, width] = [p.hidden, p.units, p.width].map(|x| x as usize);
    let (first, row_words) = (rows.first, rows.write[GATES].1);
    let completes = kernel.completes();
    let products = kernel.products();
    let words = rows.write[B_SCRATCH].1;
    let state_words = STATES * hidden.max(width);
    let scratch = std::mem::take(&mut rows.write[B_SCRATCH].0);
    let (passed, scratch) = scratch.split_at_mut(rows.count * state_words);
    let sum_words = units.max(hidden);
    let (sums, sources) = scratch.split_at_mut(rows.count * sum_words);
    let source_words = words - state_words - sum_words;
    if kernel.from_columns() {
        if p.later != NONE {
            for b in 0..rows.count {
                if !shared.has(shared.later_flags, first + b, RESET) {
                    let (dh, mask) = (row_mut(&mut rows.write[0], b), shared.mask(0, first + b));
                    from_columns(p, columns, first + b, mask, dh);
                }
            }
        }
    } else if phase == BackwardPhase::Candidate {
        // ds = dn·U_n, with dn in block 2 of the same rows.
        let active = Active::new(rows.count, !shared.flags.is_empty(), |b| shared.valid(first + b));
        for i in 0..active.len() {
            let gates = row_mut(&mut rows.write[GATES], active.get(i));
            sources[i * source_words..][..hidden].copy_from_slice(&gates[2 * hidden..3 * hidden]);
        }
        let blocks = Blocks { first: 0, count: 1 };
        let target = (&mut *sums, sum_words);
        backward_product(shared, active.len(), (sources, source_words), blocks, target, false);
        for i in 0..active.len() {
            let b = active.get(i);
            let old = shared.old(&rows.read, first, b)[0];
            let ds = &sums[i * sum_words..][..hidden];
            let [carry, _, _, _, gates, ..] = &mut rows.write;
            let (gates, carry) = (row_mut(gates, b), row_mut(carry, b));
            let mask = shared.candidate_mask(first + b);
            gru_candidate_backward(Chosen::new(cell), gates, old, mask, ds, carry);
            if shared.reset(first + b) {
                carry.fill(0.0);
            }
        }
        return;
    } else if !rows.read[SOURCE].0.is_empty() {
        let from_later = phase != BackwardPhase::Unproject && phase != BackwardPhase::Raw;
        let flags = if from_later { shared.later_flags } else { shared.flags };
        let clears = completes;
        let active = Active::new(rows.count, !flags.is_empty(), |b| {
            let reset = clears && shared.has(flags, first + b, RESET);
            shared.has(flags, first + b, VALID) && !reset
        });
        let own = [(0, 0, products)];
        let blocks = match from_later && cell.layer_norm.is_none() {
            true if cell.kind != CellKind::Custom => cell.recurrent_blocks(),
            _ => &own[..],
        };
        let masked = from_later && shared.mask_count > 0;
        let n = active.len();
        let source = rows.read[SOURCE];
        let gathers = matches!(active, Active::Some(_));
        if !gathers && !masked {
            for (i, &(saved, block, count)) in blocks.iter().enumerate() {
                let (target, stride, adds) = match phase {
                    _ if completes => (&mut *rows.write[0].0, units, true),
                    BackwardPhase::Columns | BackwardPhase::Raw => {
                        (&mut *rows.write[TARGET].0, units, i > 0)
                    }
                    _ => (&mut *sums, sum_words, i > 0),
                };
                let source = (&source.0[saved * hidden..], source.1);
                let blocks = Blocks { first: block, count };
                backward_product(shared, n, source, blocks, (target, stride), adds);
            }
        } else {
            for i in 0..n {
                let from = row(source, active.get(i));
                for &(saved, block, count) in blocks {
                    let len = if from_later { count * hidden } else { from.len() };
                    let target = &mut sources[i * source_words + block * hidden..][..len];
                    target.copy_from_slice(&from[saved * hidden..][..len]);
                }
            }
            // All gates at once, or gate by gate under its mask.
            let shares = if masked && shared.mask_count > 1 { products } else { 1 };
            for share in 0..shares {
                let blocks = match shares {
                    1 => Blocks { first: 0, count: products },
                    _ => Blocks { first: share, count: 1 },
                };
                let source = (&sources[blocks.first * hidden..], source_words);
                backward_product(shared, n, source, blocks, (&mut *sums, sum_words), false);
                for i in 0..n {
                    let b = active.get(i);
                    let sum = &mut sums[i * sum_words..][..units];
                    if masked {
                        multiply(sum, shared.mask(share, first + b));
                    }
                    match phase {
                        _ if completes => accumulate(row_mut(&mut rows.write[0], b), sum),
                        BackwardPhase::Columns | BackwardPhase::Raw => {
                            row_mut(&mut rows.write[TARGET], b).copy_from_slice(sum);
                        }
                        _ => {}
                    }
                }
            }
            if phase == BackwardPhase::Unproject {
                // Back to their own rows, from the last: row i lies at or before its own place.
                for i in (0..n).rev() {
                    let b = active.get(i);
                    sums.copy_within(i * sum_words..i * sum_words + units, b * sum_words);
                }
            }
            if gathers && matches!(phase, BackwardPhase::Columns | BackwardPhase::Raw) {
                for b in 0..rows.count {
                    if !shared.has(flags, first + b, VALID) {
                        row_mut(&mut rows.write[TARGET], b).fill(0.0);
                    }
                }
            }
        }
    }
    if matches!(phase, BackwardPhase::Columns | BackwardPhase::Raw | BackwardPhase::Initial) {
        return;
    }
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
    let _ = row_words;
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
        let own =
            gates.len() - if cell.projection.is_some() { shared.p.hidden as usize } else { 0 };
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
            shared.zone.split(s, global, carry[s], passed);
        }
    }
    if phase == BackwardPhase::Project {
        row_mut(target, b).copy_from_slice(carry[0]);
        carry[0].fill(0.0);
    } else {
        let own =
            gates.len() - if cell.projection.is_some() { shared.p.hidden as usize } else { 0 };
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
        cell_backward(cell, row);
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

/// dh += what the places around took of this one; see `shaders/shared/from_columns.wgsl`.
fn from_columns(p: &StepParams, columns: &[f32], row: usize, mask: &[f32], dh: &mut [f32]) {
    let [map_h, map_w, kernel_h, kernel_w, places, channels] =
        [p.map_height, p.map_width, p.kernel_height, p.kernel_width, p.places, p.width]
            .map(|x| x as usize);
    let (place, taps) = (row % places, kernel_h * kernel_w);
    for tap in 0..taps {
        let y = (place / map_w + kernel_h / 2).wrapping_sub(tap / kernel_w);
        let x = (place % map_w + kernel_w / 2).wrapping_sub(tap % kernel_w);
        if y < map_h && x < map_w {
            let neighbour = row - place + y * map_w + x;
            let from = &columns[neighbour * channels * taps..][..channels * taps];
            for (c, dh) in dh.iter_mut().enumerate() {
                let m = if mask.is_empty() { 1.0 } else { mask[c] };
                *dh += from[c * taps + tap] * m;
            }
        }
    }
}
