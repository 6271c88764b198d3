//! `sequence_forward`.

use super::input::Input;
use super::slab::Slab;
use super::split::{Member, Split};
use super::{MemberRoom, Targets, Work, chunk_blocks, chunks, run, saved_blocks, split};
use super::{of_chunk, pack_units, zeros};
use crate::engine::WeightFormat;
use crate::engine::cpu::cell::{ForwardRow, STATES, cell_forward};
use crate::engine::cpu::panel::{
    Base, Column, PackedRows, Panels, Product, Sums, WIDTH, pack_panels,
};
use crate::engine::cpu::step::{Few, Shared};
use crate::engine::cpu::team::{Exchange, ThreadTeam};
use crate::engine::cpu::{Bound, Context, Scratch};
use crate::kernel::StepForward;
use pulp::Simd;
use std::ops::Range;

/// The steps one after another, in the direction's order. What cells leave in the gates is written on request.
pub fn sequence_forward(
    context: &Context,
    kernels: &[&StepForward],
    mut bound: Bound,
    scratch: &mut Scratch,
    keeps_gates: bool,
) {
    let (p, kind) = (&kernels[0].params, &kernels[0].kind);
    let [time, batch, hidden] = [p.time, p.batch, p.hidden].map(|x| x as usize);
    let (states, saved) = (kind.cell.states(), kind.cell.saved());
    let steps: Few<Shared> =
        kernels.iter().map(|k| Shared::new(&k.params, &k.kind, &bound, &[])).collect();
    let team = ThreadTeam::new(context, context.threads);
    let shares = scratch.insists || team.may_share();
    let split = split(p, kind, kernels[0].products(), kernels.len(), team.size(), shares);

    let exchanges: Few<_> = (0..split.groups()).map(|_| Exchange::new(split.shares())).collect();

    let input = Input::new(&bound, kernels);

    // Steps lie in the order of time, and so do the slots that they write.
    let span = |of: fn(&StepForward) -> u32| {
        let all = kernels.iter().map(|k| of(k) as usize);
        all.clone().min().unwrap_or(0)..all.max().unwrap_or(0) + 1
    };
    let (times, slots) = (span(|k| k.params.t), span(|k| k.params.new_slot));
    let words = batch * saved * hidden;
    let gates = &mut bound.write("gates")[p.gates_offset as usize..];
    let gates = Slab::of_members(&mut gates[times.start * words..times.end * words], saved, &split);
    let words = batch * hidden;
    let mut initial = [&[][..]; STATES];
    let mut new: [Few<Slab>; STATES] = Default::default();
    let all_states = bound.write("states").chunks_mut((time + 1) * words);
    for ((state, initial), new) in all_states.zip(&mut initial).zip(&mut new).take(states) {
        let old = p.old_slot as usize;
        let (before, written) = match old < slots.start {
            true => state.split_at_mut(slots.start * words),
            false => {
                let (written, before) = state.split_at_mut(old * words);
                (before, &mut written[slots.start * words..])
            }
        };
        let at = if old < slots.start { old * words } else { 0 };
        *initial = &before[at..at + words];
        *new = Slab::of_members(&mut written[..slots.len() * words], 1, &split);
    }
    let mut new = new.map(Few::into_iter);

    let members = split.members().zip(gates).map(|(member, gates)| {
        let exchange = &exchanges[member.group];
        let work = ForwardMember {
            member: member.clone(),
            split: &split,
            steps: &steps,
            first: [times.start, slots.start],
            targets: saved_blocks(&kind.cell),
            gates,
            new: new.each_mut().map(Iterator::next).map(Option::unwrap_or_default),
            initial: &initial[..states],
            exchange,
            label: bound.label,
            format: bound.format,
            input: input.as_ref(),
            keeps_gates,
        };
        (member, work)
    });
    run(&team, &split, &exchanges, scratch, members);
}

/// How a chunk's gates lie in the tile, and which rows a call of the cell takes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Units of a row, with whole blocks.
    units: usize,
    /// Rows that go together in one call: 1, \[row, saved block, unit\]; or all, \[saved block, row, unit\].
    together: usize,
    saved: usize,
}

impl Layout {
    /// Words from one row to the next.
    #[inline(always)]
    fn row_stride(self) -> usize {
        if self.together > 1 { self.units } else { self.saved * self.units }
    }

    /// Words of one saved block.
    #[inline(always)]
    pub(super) fn block_words(self) -> usize {
        self.together * self.units
    }
}

struct ForwardMember<'a> {
    member: Member,
    split: &'a Split,
    steps: &'a [Shared<'a>],
    /// The first step, and the first slot, of the slabs.
    first: [usize; 2],
    /// The saved block of each gate's product.
    targets: Targets,
    gates: Slab<'a>,
    new: [Slab<'a>; STATES],
    /// The states before the first step, \[B, H\] each.
    initial: &'a [&'a [f32]],
    exchange: &'a Exchange,
    /// Of the weights, for as long as they stay.
    label: Option<u64>,
    format: WeightFormat,
    input: Option<&'a Input<'a>>,
    keeps_gates: bool,
}

impl Work for ForwardMember<'_> {
    #[inline(always)]
    fn work<S: Simd>(mut self, simd: S, room: &mut MemberRoom) {
        let (exchange, steps) = (self.exchange, self.steps);
        let _attends = exchange.attend();
        let told = self.member.turn * (steps.len() - 1);
        let (hidden, line, rows) = (self.split.hidden(), self.line(), self.member.rows.clone());
        let (direct, states) = (self.is_direct(), steps[0].cell.states());
        self.start(room);
        let taken = [&mut room.source, &mut room.next, &mut room.states, &mut room.next_states];
        let [mut source, mut next, mut others, mut next_others] = taken.map(std::mem::take);
        let zeros = std::mem::take(&mut room.zeros);
        let most = self.chunk_blocks();
        let mut packed = std::mem::take(&mut room.packed);
        let mut packed_input = std::mem::take(&mut room.packed_input);
        let mut active: Few<usize> = Few::with_capacity(rows.len());
        let mut new = std::mem::take(&mut self.new);
        let mut gates = std::mem::take(&mut self.gates);
        let mut tile = std::mem::take(&mut room.tile);
        let mut before = None;
        for (number, step) in steps.iter().enumerate() {
            let slot = step.p.new_slot as usize - self.first[1];
            let mut between =
                Between { old: [&[]; STATES], new: Default::default(), zeros: &zeros };
            if direct {
                for (s, slab) in new.iter_mut().enumerate().take(states) {
                    let initial = &self.initial[s][rows.start * hidden..rows.end * hidden];
                    let (old, new) = slab.pair(before, slot);
                    (between.old[s], between.new[s]) = (old.unwrap_or(initial), new);
                }
            } else {
                (between.old[0], between.new[0]) = (&source, &mut next);
                let each = rows.len() * self.own();
                let others = others.chunks(each).zip(next_others.chunks_mut(each));
                for (s, (old, new)) in others.enumerate() {
                    (between.old[1 + s], between.new[1 + s]) = (old, new);
                }
            }
            active.clear();
            active.extend((0..rows.len()).filter(|row| step.valid(rows.start + row)));
            let heard = between.old[0];
            let of = |i: usize| match step.reset(rows.start + active[i]) {
                true => &zeros[..],
                false => &heard[active[i] * line..],
            };
            let shape = [active.len(), hidden];
            let heard = PackedRows::new(simd, self.format, shape, of, &mut packed);
            let x = self.input.map(|input| {
                let of = |i: usize| input.row(number, rows.start + active[i]);
                let shape = [active.len(), input.terms()];
                PackedRows::new(simd, input.format, shape, of, &mut packed_input)
            });
            let t = step.p.t as usize - self.first[0];
            for some in chunks(self.member.blocks.clone(), most) {
                let whole = some == self.member.blocks && active.len() == rows.len();
                // Gates that are kept are made where they are to lie.
                let in_place = whole && direct && self.keeps_gates;
                let layout = self.layout(step, &some, whole && !in_place);
                let mut all = Gates { t, tile: &mut tile, kept: None };
                match in_place {
                    true => all.tile = gates.step(t),
                    false => all.kept = Some(&mut gates),
                }
                self.fill(room, step, layout, &some, &active, &mut all);
                let stride = layout.row_stride();
                if let Some((input, rows)) = self.input.zip(x) {
                    let first = some.start - self.member.blocks.start;
                    let blocks = first..first + some.len();
                    let sums = Sums { words: all.tile, stride };
                    input.multiply(room, simd, layout, &blocks, rows, sums);
                }
                let sums = Sums { words: all.tile, stride };
                self.multiply(room, simd, layout, &some, heard, sums);
                self.settle(room, step, layout, &some, &active, &mut between, &mut all);
            }
            if active.len() < rows.len() {
                self.keep(step, &mut between);
            }
            if !direct {
                self.leave(&mut new, slot, &next, &next_others);
                if number + 1 < steps.len() {
                    let number = told + number;
                    self.split.tell(exchange, self.member.share, number, &mut next, line);
                }
                std::mem::swap(&mut source, &mut next);
                std::mem::swap(&mut others, &mut next_others);
            }
            before = Some(slot);
        }
        (room.source, room.next, room.states, room.next_states) =
            (source, next, others, next_others);
        (room.packed, room.packed_input, room.zeros) = (packed, packed_input, zeros);
        room.tile = tile;
    }
}

/// The gates of a step while it is made.
struct Gates<'r, 'a> {
    /// Of the slab.
    t: usize,
    /// Where they are made.
    tile: &'r mut [f32],
    /// Where they are found and left, if that is elsewhere.
    kept: Option<&'r mut Slab<'a>>,
}

/// The states of a member's rows before a step and behind it, each \[rows, units\]: h with all
/// units, the others with the member's, all with whole blocks.
struct Between<'r> {
    old: [&'r [f32]; STATES],
    new: [&'r mut [f32]; STATES],
    zeros: &'r [f32],
}

impl<'a> ForwardMember<'a> {
    /// Words of a row of h: with whole blocks, so that one can be read wherever it is.
    #[inline(always)]
    fn line(&self) -> usize {
        self.split.hidden().next_multiple_of(WIDTH)
    }

    /// The states lie in the buffer as the cell takes them, rows one after another with whole blocks: it works there.
    #[inline(always)]
    fn is_direct(&self) -> bool {
        self.split.shares() == 1 && self.split.hidden().is_multiple_of(WIDTH)
    }

    /// Words of a row of another state.
    #[inline(always)]
    fn own(&self) -> usize {
        self.member.blocks.len() * WIDTH
    }

    fn chunk_blocks(&self) -> usize {
        chunk_blocks(self.member.rows.len(), self.steps[0].cell.saved() * WIDTH)
    }

    /// Packs the weights, and puts the initial states in place, where the cell does not find them in the buffer.
    #[inline(always)]
    fn start(&mut self, room: &mut MemberRoom) {
        let (step, member, hidden) = (&self.steps[0], &self.member, self.split.hidden());
        let (cell, count, line) = (step.cell, member.rows.len(), self.line());
        let products = cell.gates();
        if member.turn == 0 {
            room.weights.pack(self.label, step.p.w_offset, member.blocks.clone(), |blocks, to| {
                pack(self.format, step.weights, hidden, [products, hidden], blocks, to);
            });
            if let Some(input) = self.input {
                input.pack(room, self.split, &member.blocks, &self.targets, step);
            }
        }
        let most = chunk_blocks(count, cell.saved() * WIDTH);
        let parts = || chunks(member.blocks.clone(), most);
        pack_units(step.bias, products, hidden, parts(), &mut room.bias);
        pack_units(step.unit, cell.unit_vectors(), hidden, parts(), &mut room.unit);
        let chunk = most.min(member.blocks.len()) * WIDTH;
        zeros(&mut room.zeros, (count * products * chunk).max(hidden));
        zeros(&mut room.tile, count * cell.saved() * chunk);
        if self.is_direct() {
            return;
        }
        let own = member.blocks.len() * WIDTH;
        for h in [&mut room.source, &mut room.next] {
            zeros(h, count * line);
        }
        for others in [&mut room.states, &mut room.next_states] {
            zeros(others, (cell.states() - 1) * count * own);
        }
        for row in 0..count {
            let of = |state: &'a [f32]| &state[(member.rows.start + row) * hidden..][..hidden];
            room.source[row * line..][..hidden].copy_from_slice(of(self.initial[0]));
            let states = room.states.chunks_mut(count * own).zip(&self.initial[1..]);
            for (to, state) in states {
                let units = &of(state)[member.units.clone()];
                to[row * own..][..units.len()].copy_from_slice(units);
            }
        }
    }

    /// Rows go together where their states lie one after another and they need nothing of their
    /// own; `whole`: all rows take part, with all units.
    #[inline(always)]
    fn layout(&self, step: &Shared, some: &Range<usize>, whole: bool) -> Layout {
        let (cell, rows) = (step.cell, self.member.rows.clone());
        let alike = whole
            && self.split.shares() == 1
            && cell.unit_vectors() == 0
            && (step.flags.is_empty() || !rows.clone().any(|row| step.reset(row)));
        let together = if alike { rows.len() } else { 1 };
        Layout { units: some.len() * WIDTH, together, saved: cell.saved() }
    }

    /// What the gates of some blocks have of x, with their biases, into the tile; zeros where a sum
    /// starts anew. The biases come first, as often nothing is lost in their sum, and a product is
    /// rounded to it once.
    #[inline(always)]
    fn fill(
        &self,
        room: &MemberRoom,
        step: &Shared,
        layout: Layout,
        some: &Range<usize>,
        active: &[usize],
        gates: &mut Gates,
    ) {
        let inputs = step.cell.gates();
        let (units, within) = (layout.units, self.member.within(some));
        let before = some.start - self.member.blocks.start;
        let bias = of_chunk(&room.bias, before, inputs, units);
        // Which product's bias is a saved block's.
        let mut bias_of = [None; SAVED];
        for (bias, &target) in bias.chunks_exact(units).zip(&self.targets) {
            bias_of[target] = Some(bias);
        }
        let made = if self.input.is_some() { inputs } else { 0 };
        for (a, &row) in active.iter().enumerate() {
            for (block, bias) in bias_of.iter().enumerate().take(layout.saved).skip(made) {
                let at = a * layout.row_stride() + block * layout.block_words();
                let words = &mut gates.tile[at..][..units];
                let (own, padding) = words.split_at_mut(within.len());
                padding.fill(0.0);
                match (block < inputs, &mut gates.kept, bias) {
                    (true, Some(kept), Some(bias)) => {
                        let x = kept.of(gates.t, row, block, within.clone());
                        own.iter_mut().zip(x).zip(*bias).for_each(|((own, x), b)| *own = *x + b);
                    }
                    (true, Some(kept), None) => {
                        own.copy_from_slice(kept.of(gates.t, row, block, within.clone()));
                    }
                    (true, None, Some(bias)) => {
                        own.iter_mut().zip(*bias).for_each(|(own, b)| *own += b);
                    }
                    (true, None, None) => {}
                    (false, _, Some(bias)) => own.copy_from_slice(&bias[..within.len()]),
                    (false, _, None) => own.fill(0.0),
                }
            }
        }
    }

    /// Adds the recurrent products.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        room: &MemberRoom,
        simd: S,
        layout: Layout,
        some: &Range<usize>,
        heard: PackedRows,
        sums: Sums,
    ) {
        let (cell, hidden) = (self.steps[0].cell, self.split.hidden());
        let products = cell.gates();
        let first = (some.start - self.member.blocks.start) * products;
        let panels = Panels::new(&room.weights.words, self.format, hidden);
        let panels = panels.from(first);
        let at =
            |i: usize| self.targets[i % products] * layout.block_words() + i / products * WIDTH;
        let count = some.len() * products;
        Product { rows: heard, panels, count, base: Base::There, at: &at, sums }.add(simd);
    }

    /// The cell's equations, for the rows that take part.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a step has its gates and its states")]
    fn settle(
        &self,
        room: &MemberRoom,
        step: &Shared,
        layout: Layout,
        some: &Range<usize>,
        active: &[usize],
        between: &mut Between,
        gates: &mut Gates,
    ) {
        let arch = pulp::Arch::new();
        let (cell, line, own) = (step.cell, self.line(), self.own());
        let (states, rows) = (cell.states(), self.member.rows.clone());
        let (units, within) = (layout.units, self.member.within(some));
        let before = some.start - self.member.blocks.start;
        let zeros = between.zeros;
        let unit = of_chunk(&room.unit, before, cell.unit_vectors(), units);
        // Words of a state in one call.
        let words_at_once = layout.block_words();
        let parts = gates.tile.chunks_exact_mut(cell.saved() * words_at_once);
        for (words, rows_at_once) in parts.zip(active.chunks(layout.together)) {
            let row = rows_at_once[0];
            let global = rows.start + row;
            let (of_h, of_others) = (row * line + some.start * WIDTH, row * own + before * WIDTH);
            let mut old = [&[][..]; STATES];
            let mut new: [&mut [f32]; STATES] = Default::default();
            let all = between.new.iter_mut().enumerate().zip(&mut new);
            for ((s, all), new) in all.take(states) {
                let at = if s == 0 { of_h } else { of_others };
                old[s] = match step.reset(global) {
                    true => &zeros[..units],
                    false => &between.old[s][at..at + words_at_once],
                };
                *new = &mut all[at..at + words_at_once];
            }
            let of_cell = ForwardRow {
                gates: &mut *words,
                // They are in the sums already.
                bias: &zeros[..cell.gates() * words_at_once],
                old,
                new: new.each_mut().map(|new| &mut **new),
                unit,
                r: &[],
                mask: &[],
            };
            cell_forward(arch, cell, of_cell);
            if let Some(kept) = gates.kept.as_mut().filter(|_| self.keeps_gates) {
                for (gate, words) in words.chunks_exact(words_at_once).enumerate() {
                    for (&row, words) in rows_at_once.iter().zip(words.chunks_exact(units)) {
                        let to = kept.of(gates.t, row, gate, within.clone());
                        to.copy_from_slice(&words[..within.len()]);
                    }
                }
            }
            for s in (0..states).filter(|_| step.zone.is_on()) {
                for (i, &row) in rows_at_once.iter().enumerate() {
                    let (at, global) = (i * units..(i + 1) * units, rows.start + row);
                    let (old, new) = (&old[s][at.clone()], &mut new[s][at]);
                    step.zone.mix(s, global, some.start * WIDTH, old, new);
                }
            }
        }
    }

    /// Rows that take no part keep their states, or what a reset leaves of them.
    #[inline(always)]
    fn keep(&self, step: &Shared, between: &mut Between) {
        let (line, own) = (self.line(), self.own());
        let (rows, units) = (self.member.rows.clone(), self.member.units.clone());
        for row in (0..rows.len()).filter(|row| !step.valid(rows.start + row)) {
            let reset = step.reset(rows.start + row);
            for s in 0..step.cell.states() {
                let first = if s == 0 { row * line + units.start } else { row * own };
                let kept = &mut between.new[s][first..first + units.len()];
                match reset {
                    true => kept.fill(0.0),
                    false => kept.copy_from_slice(&between.old[s][first..first + units.len()]),
                }
            }
        }
    }

    /// Puts the member's new states into the buffer.
    #[inline(always)]
    fn leave(&self, to: &mut [Slab; STATES], slot: usize, h: &[f32], others: &[f32]) {
        let (line, own, units) = (self.line(), self.own(), self.member.units.clone());
        let rows = self.member.rows.len();
        let others = others.chunks(rows * own).map(|state| (state, own, 0));
        let states = std::iter::once((h, line, units.start)).chain(others);
        for (to, (new, stride, first)) in to.iter_mut().zip(states) {
            for (row, new) in new.chunks(stride).enumerate() {
                let new = &new[first..first + units.len()];
                to.of(slot, row, 0, 0..units.len()).copy_from_slice(new);
            }
        }
    }
}

/// Saved blocks of a cell at most.
const SAVED: usize = 5;

/// Panels of sixteen units of a gate, \[block, gate, term, sixteen\].
pub(super) fn pack(
    format: WeightFormat,
    weights: &[f32],
    hidden: usize,
    [products, terms]: [usize; 2],
    blocks: Range<usize>,
    to: &mut Vec<f32>,
) {
    let row = |panel: usize, column: usize| {
        let (block, gate) = (blocks.start + panel / products, panel % products);
        let unit = block * WIDTH + column;
        let words = |unit| &weights[(gate * hidden + unit) * terms..];
        (unit < hidden).then(|| Column { words: words(unit), stride: 1 })
    };
    pack_panels(format, terms, blocks.len() * products, row, to);
}
