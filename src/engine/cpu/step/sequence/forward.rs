//! `sequence_forward`.

use super::slab::Slab;
use super::split::{Member, Split};
use super::{Room, Targets, Work, chunk_blocks, chunks, run, saved_blocks, split};
use super::{of_chunk, pack_units, zeros};
use crate::engine::WeightFormat;
use crate::engine::cpu::cell::{ForwardRow, STATES, cell_forward};
use crate::engine::cpu::panel::{Column, Panels, Product, Rows, Sums, WIDTH, pack_panels};
use crate::engine::cpu::step::{Few, Shared};
use crate::engine::cpu::team::{Exchange, Team};
use crate::engine::cpu::{Bound, Context, Scratch};
use crate::kernel::StepForward;
use pulp::{Simd, WithSimd};
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
    let team = Team::new(context, context.threads);
    let shares = scratch.insists || team.may_share();
    let split = split(p, kind, kernels[0].products(), kernels.len(), team.size(), shares);

    let exchanges: Few<_> = (0..split.groups()).map(|_| Exchange::new(split.shares())).collect();

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
            keeps_gates,
        };
        (member, work)
    });
    run(&team, &split, &exchanges, scratch, members);
}

/// How a chunk's gates lie in the tile, and which rows a call of the cell takes.
#[derive(Clone, Copy)]
struct Layout {
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
    fn block_words(self) -> usize {
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
    keeps_gates: bool,
}

impl Work for ForwardMember<'_> {
    #[inline(always)]
    fn work<S: Simd>(mut self, simd: S, room: &mut Room) {
        let (exchange, steps) = (self.exchange, self.steps);
        let _attends = exchange.attend();
        let told = self.member.turn * (steps.len() - 1);
        let [mut source, mut next] = self.start(room);
        let (hidden, line, rows) = (self.split.hidden(), self.line(), self.member.rows.clone());
        let most = self.chunk_blocks();
        let mut rounded = std::mem::take(&mut room.rounded);
        let mut active: Few<usize> = Few::with_capacity(rows.len());
        for (number, step) in steps.iter().enumerate() {
            active.clear();
            active.extend((0..rows.len()).filter(|row| step.valid(rows.start + row)));
            let of = |&row: &usize| &source[self.source_row(step, row) * line..][..hidden];
            let lines: Few<&[f32]> = active.iter().map(of).collect();
            let heard = Rows::new(simd, self.format, &lines, hidden, &mut rounded);
            for some in chunks(self.member.blocks.clone(), most) {
                let layout = self.layout(step, &some, active.len());
                self.fill(room, step, layout, &some, &active);
                self.multiply(room, simd, layout, &some, heard);
                self.settle(room, step, layout, &some, &active, (&source, &mut next));
            }
            if active.len() < rows.len() {
                self.keep(room, step, &source, &mut next);
            }
            if number + 1 < steps.len() {
                let number = told + number;
                self.split.tell(exchange, self.member.share, number, &mut next, line);
            }
            drop(lines);
            std::mem::swap(&mut source, &mut next);
            let Room { states, next_states, .. } = &mut *room;
            std::mem::swap(states, next_states);
        }
        (room.source, room.next) = (source, next);
        room.rounded = rounded;
    }
}

impl<'a> ForwardMember<'a> {
    /// Words of a row of h: with whole blocks, so that one can be read wherever it is.
    #[inline(always)]
    fn line(&self) -> usize {
        self.split.hidden().next_multiple_of(WIDTH)
    }

    /// The row that a step's product reads: one that is reset reads the zeros behind the last.
    #[inline(always)]
    fn source_row(&self, step: &Shared, row: usize) -> usize {
        if step.reset(self.member.rows.start + row) { self.member.rows.len() } else { row }
    }

    /// Words of a row of another state.
    #[inline(always)]
    fn own(&self) -> usize {
        self.member.blocks.len() * WIDTH
    }

    fn chunk_blocks(&self) -> usize {
        chunk_blocks(self.member.rows.len(), self.steps[0].cell.saved() * WIDTH)
    }

    /// Packs the weights, and puts the initial states in place; h of a step, and of the next.
    #[inline(always)]
    fn start(&mut self, room: &mut Room) -> [Vec<f32>; 2] {
        let (step, member, hidden) = (&self.steps[0], &self.member, self.split.hidden());
        let (cell, count, line) = (step.cell, member.rows.len(), self.line());
        let products = cell.gates();
        if member.turn == 0 {
            room.weights.pack(self.label, step.p.w_offset, member.blocks.clone(), |blocks, to| {
                pack(self.format, step.weights, hidden, products, blocks, to);
            });
        }
        let most = chunk_blocks(count, cell.saved() * WIDTH);
        let parts = || chunks(member.blocks.clone(), most);
        pack_units(step.bias, products, hidden, parts(), &mut room.bias);
        pack_units(step.unit, cell.unit_vectors(), hidden, parts(), &mut room.unit);
        let chunk = most.min(member.blocks.len()) * WIDTH;
        zeros(&mut room.zeros, count * products * chunk);
        zeros(&mut room.tile, count * cell.saved() * chunk);
        let [mut source, mut next] = [&mut room.source, &mut room.next].map(std::mem::take);
        zeros(&mut source, (count + 1) * line);
        zeros(&mut next, (count + 1) * line);
        let own = member.blocks.len() * WIDTH;
        zeros(&mut room.states, (cell.states() - 1) * count * own);
        zeros(&mut room.next_states, (cell.states() - 1) * count * own);
        for row in 0..count {
            let of = |state: &'a [f32]| &state[(member.rows.start + row) * hidden..][..hidden];
            source[row * line..][..hidden].copy_from_slice(of(self.initial[0]));
            let states = room.states.chunks_mut(count * own).zip(&self.initial[1..]);
            for (to, state) in states {
                let units = &of(state)[member.units.clone()];
                to[row * own..][..units.len()].copy_from_slice(units);
            }
        }
        [source, next]
    }

    /// Rows go together where their states lie one after another and they need nothing of their own.
    #[inline(always)]
    fn layout(&self, step: &Shared, some: &Range<usize>, active: usize) -> Layout {
        let (cell, rows) = (step.cell, self.member.rows.clone());
        let whole = self.split.shares() == 1 && *some == self.member.blocks;
        let alike = whole
            && active == rows.len()
            && cell.unit_vectors() == 0
            && (step.flags.is_empty() || !rows.clone().any(|row| step.reset(row)));
        let together = if alike { rows.len() } else { 1 };
        Layout { units: some.len() * WIDTH, together, saved: cell.saved() }
    }

    /// What the gates of some blocks have of x, with their biases, into the tile; zeros where a sum starts anew. The biases
    /// come first, as often nothing is lost in their sum, and a product is rounded to it once.
    #[inline(always)]
    fn fill(
        &mut self,
        room: &mut Room,
        step: &Shared,
        layout: Layout,
        some: &Range<usize>,
        active: &[usize],
    ) {
        let (t, inputs) = (step.p.t as usize - self.first[0], step.cell.gates());
        let (units, within) = (layout.units, self.member.within(some));
        let before = some.start - self.member.blocks.start;
        let Room { tile, bias, .. } = &mut *room;
        let bias = of_chunk(bias, before, inputs, units);
        // Which product's bias is a saved block's.
        let mut bias_of = [None; SAVED];
        for (bias, &target) in bias.chunks_exact(units).zip(&self.targets) {
            bias_of[target] = Some(bias);
        }
        for (a, &row) in active.iter().enumerate() {
            for (block, bias) in bias_of.iter().enumerate().take(layout.saved) {
                let words =
                    &mut tile[a * layout.row_stride() + block * layout.block_words()..][..units];
                let (own, padding) = words.split_at_mut(within.len());
                padding.fill(0.0);
                match (block < inputs, bias) {
                    (true, Some(bias)) => {
                        let x = self.gates.of(t, row, block, within.clone());
                        own.iter_mut().zip(x).zip(*bias).for_each(|((own, x), b)| *own = *x + b);
                    }
                    (true, None) => {
                        own.copy_from_slice(self.gates.of(t, row, block, within.clone()))
                    }
                    (false, Some(bias)) => own.copy_from_slice(&bias[..within.len()]),
                    (false, None) => own.fill(0.0),
                }
            }
        }
    }

    /// Adds the recurrent products.
    #[inline(always)]
    fn multiply<S: Simd>(
        &mut self,
        room: &mut Room,
        simd: S,
        layout: Layout,
        some: &Range<usize>,
        heard: Rows,
    ) {
        let (cell, hidden) = (self.steps[0].cell, self.split.hidden());
        let products = cell.gates();
        let first = (some.start - self.member.blocks.start) * products;
        let Room { weights, tile, .. } = &mut *room;
        let panels = Panels { words: &weights.words, format: self.format, terms: hidden };
        let panels = panels.from(first);
        let at =
            |i: usize| self.targets[i % products] * layout.block_words() + i / products * WIDTH;
        let sums = Sums { words: tile, stride: layout.row_stride() };
        let count = some.len() * products;
        Product { rows: heard, panels, count, at, sums }.with_simd(simd);
    }

    /// The cell's equations, for the rows that take part.
    #[inline(always)]
    fn settle(
        &mut self,
        room: &mut Room,
        step: &Shared,
        layout: Layout,
        some: &Range<usize>,
        active: &[usize],
        (source, next): (&[f32], &mut [f32]),
    ) {
        let arch = pulp::Arch::new();
        let (cell, line, own) = (step.cell, self.line(), self.own());
        let (states, rows) = (cell.states(), self.member.rows.clone());
        let [t, slot] =
            [step.p.t as usize - self.first[0], step.p.new_slot as usize - self.first[1]];
        let (units, within) = (layout.units, self.member.within(some));
        let before = some.start - self.member.blocks.start;
        let Room { tile, unit, states: old_states, next_states, zeros, .. } = &mut *room;
        let unit = of_chunk(unit, before, cell.unit_vectors(), units);
        // Words of a state in one call.
        let words_at_once = layout.block_words();
        let parts = tile.chunks_exact_mut(cell.saved() * words_at_once);
        for (words, rows_at_once) in parts.zip(active.chunks(layout.together)) {
            let row = rows_at_once[0];
            let global = rows.start + row;
            let (of_h, of_others) = (row * line + some.start * WIDTH, row * own + before * WIDTH);
            let mut old = [&[][..]; STATES];
            old[0] = &source[of_h..of_h + words_at_once];
            for (old, state) in old[1..].iter_mut().zip(old_states.chunks(rows.len() * own)) {
                *old = &state[of_others..of_others + words_at_once];
            }
            if step.reset(global) {
                old[..states].fill(&zeros[..units]);
            }
            let mut new: [&mut [f32]; STATES] = Default::default();
            new[0] = &mut next[of_h..of_h + words_at_once];
            let others = next_states.chunks_mut(rows.len() * own);
            for (new, state) in new[1..].iter_mut().zip(others) {
                *new = &mut state[of_others..of_others + words_at_once];
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
            if self.keeps_gates {
                for (gate, words) in words.chunks_exact(words_at_once).enumerate() {
                    for (&row, words) in rows_at_once.iter().zip(words.chunks_exact(units)) {
                        let to = self.gates.of(t, row, gate, within.clone());
                        to.copy_from_slice(&words[..within.len()]);
                    }
                }
            }
            for s in 0..states {
                if step.zone.is_on() {
                    for (i, &row) in rows_at_once.iter().enumerate() {
                        let (at, global) = (i * units..(i + 1) * units, rows.start + row);
                        let (old, new) = (&old[s][at.clone()], &mut new[s][at]);
                        step.zone.mix(s, global, some.start * WIDTH, old, new);
                    }
                }
                // All rows, with whole blocks, lie as they do in the buffer.
                let alike = layout.together == rows.len() && within.len() == units;
                let whole = self.new[s].whole_step(slot);
                match whole.filter(|to| alike && to.len() == new[s].len()) {
                    Some(to) => to.copy_from_slice(new[s]),
                    None => {
                        for (&row, new) in rows_at_once.iter().zip(new[s].chunks_exact(units)) {
                            let to = self.new[s].of(slot, row, 0, within.clone());
                            to.copy_from_slice(&new[..within.len()]);
                        }
                    }
                }
            }
        }
    }

    /// Rows that take no part keep their states, or what a reset leaves of them.
    #[inline(always)]
    fn keep(&mut self, room: &mut Room, step: &Shared, source: &[f32], next: &mut [f32]) {
        let (slot, line, own) = (step.p.new_slot as usize - self.first[1], self.line(), self.own());
        let (rows, units) = (self.member.rows.clone(), self.member.units.clone());
        let Room { states, next_states, .. } = &mut *room;
        for row in (0..rows.len()).filter(|row| !step.valid(rows.start + row)) {
            let reset = step.reset(rows.start + row);
            let from = if reset { rows.len() } else { row } * line;
            let h = &source[from + units.start..from + units.end];
            next[row * line + units.start..][..units.len()].copy_from_slice(h);
            self.new[0].of(slot, row, 0, 0..units.len()).copy_from_slice(h);
            let others =
                states.chunks(rows.len() * own).zip(next_states.chunks_mut(rows.len() * own));
            for (new, (state, next)) in self.new[1..].iter_mut().zip(others) {
                let kept = &mut next[row * own..][..units.len()];
                if reset {
                    kept.fill(0.0);
                } else {
                    kept.copy_from_slice(&state[row * own..][..units.len()]);
                }
                new.of(slot, row, 0, 0..units.len()).copy_from_slice(kept);
            }
        }
    }
}

/// Saved blocks of a cell at most.
const SAVED: usize = 5;

/// Panels of sixteen units of a gate, \[block, gate, term, sixteen\].
fn pack(
    format: WeightFormat,
    weights: &[f32],
    hidden: usize,
    products: usize,
    blocks: Range<usize>,
    to: &mut Vec<f32>,
) {
    let row = |panel: usize, column: usize| {
        let (block, gate) = (blocks.start + panel / products, panel % products);
        let unit = block * WIDTH + column;
        let words = |unit| &weights[(gate * hidden + unit) * hidden..];
        (unit < hidden).then(|| Column { words: words(unit), stride: 1 })
    };
    pack_panels(format, hidden, blocks.len() * products, row, to);
}
