//! `sequence_forward`.

use super::slab::Slab;
use super::split::{Member, Split};
use super::{Room, TILE_WORDS, Targets, saved_blocks, split};
use super::{of_block, pack_units, padded, present, present_mut, put, sixteen, zeros};
use crate::engine::cpu::cell::{ForwardRow, STATES, cell_forward};
use crate::engine::cpu::panel::{Sums, WIDTH, add_products};
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
    let split = split(p, kind, kernels[0].products(), kernels.len(), team.size());

    let exchanges: Few<_> = split.groups().iter().map(|_| Exchange::new(split.shares())).collect();

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

    let rooms = scratch.rooms(split.members().count());
    let members = split.members().zip(gates).zip(rooms).map(|((member, gates), room)| {
        let exchange = &exchanges[member.group];
        ForwardMember {
            member,
            split: &split,
            steps: &steps,
            first: [times.start, slots.start],
            targets: saved_blocks(&kind.cell),
            gates,
            new: new.each_mut().map(Iterator::next).map(Option::unwrap_or_default),
            initial: &initial[..states],
            exchange,
            room,
            version: bound.version,
            keeps_gates,
        }
    });
    let members: Few<_> = members.collect();
    team.run(members.into_iter(), |member| pulp::Arch::new().dispatch(member));
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
    room: &'a mut Room,
    /// Of the weights, where they last.
    version: Option<u64>,
    keeps_gates: bool,
}

impl WithSimd for ForwardMember<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (exchange, steps) = (self.exchange, self.steps);
        let _attends = exchange.attend();
        let [mut source, mut next] = self.start();
        let (hidden, line, rows) = (self.split.hidden(), self.line(), self.member.rows.clone());
        let row_words = steps[0].cell.saved() * WIDTH;
        let mut active: Few<usize> = Few::with_capacity(rows.len());
        for (number, step) in steps.iter().enumerate() {
            active.clear();
            active.extend((0..rows.len()).filter(|row| step.valid(rows.start + row)));
            let of = |&row: &usize| &source[self.source_row(step, row) * line..][..hidden];
            let heard: Few<&[f32]> = active.iter().map(of).collect();
            let blocks = self.member.blocks.clone();
            let most = (TILE_WORDS / (active.len().max(1) * row_words)).max(1);
            for first in blocks.clone().step_by(most) {
                let some = first..blocks.end.min(first + most);
                self.fill(step, some.clone(), &active);
                self.multiply(simd, some.clone(), &heard);
                self.settle(step, some, &active, &source, &mut next);
            }
            if active.len() < rows.len() {
                self.keep(step, &source, &mut next);
            }
            if number + 1 < steps.len() {
                self.split.tell(exchange, self.member.share, number, &mut next, line);
            }
            drop(heard);
            std::mem::swap(&mut source, &mut next);
        }
        (self.room.source, self.room.next) = (source, next);
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

    /// Where the sixteen units of a block of a state other than h are.
    #[inline(always)]
    fn state_at(&self, state: usize, row: usize, block: usize) -> usize {
        let own = self.member.blocks.len() * WIDTH;
        let within = (block - self.member.blocks.start) * WIDTH;
        ((state - 1) * self.member.rows.len() + row) * own + within
    }

    /// Packs the weights, and puts the initial states in place; h of a step, and of the next.
    #[inline(always)]
    fn start(&mut self) -> [Vec<f32>; 2] {
        let (step, member, hidden) = (&self.steps[0], &self.member, self.split.hidden());
        let (cell, count, line) = (step.cell, member.rows.len(), self.line());
        let room = &mut *self.room;
        let products = cell.gates();
        room.weights.pack(self.version, step.p.w_offset, member.blocks.clone(), |blocks, to| {
            pack(step.weights, hidden, products, blocks, to);
        });
        pack_units(step.bias, products, hidden, member.blocks.clone(), &mut room.bias);
        pack_units(step.unit, cell.unit_vectors(), hidden, member.blocks.clone(), &mut room.unit);
        let row_words = cell.saved() * WIDTH;
        zeros(&mut room.tile, (TILE_WORDS + row_words).max(count * row_words));
        let [mut source, mut next] = [&mut room.source, &mut room.next].map(std::mem::take);
        zeros(&mut source, (count + 1) * line);
        zeros(&mut next, (count + 1) * line);
        zeros(&mut room.states, (cell.states() - 1) * count * member.blocks.len() * WIDTH);
        for row in 0..count {
            let of = |state: &'a [f32]| &state[(member.rows.start + row) * hidden..][..hidden];
            source[row * line..][..hidden].copy_from_slice(of(self.initial[0]));
            for (s, state) in self.initial.iter().enumerate().skip(1) {
                let at = self.state_at(s, row, member.blocks.start);
                let own = &of(state)[member.units.clone()];
                self.room.states[at..][..own.len()].copy_from_slice(own);
            }
        }
        [source, next]
    }

    /// What the gates of some blocks have of x, into the tile; zeros where a sum starts anew.
    #[inline(always)]
    fn fill(&mut self, step: &Shared, some: Range<usize>, active: &[usize]) {
        let (t, inputs) = (step.p.t as usize - self.first[0], step.cell.gates());
        let row_words = step.cell.saved() * WIDTH;
        // Row by row: blocks of a gate that follow one another in memory are read one after another.
        for (a, &row) in active.iter().enumerate() {
            for (i, block) in some.clone().enumerate() {
                let within = self.member.within(block);
                let words = &mut self.room.tile[(i * active.len() + a) * row_words..][..row_words];
                let (x, rest) = words.split_at_mut(inputs * WIDTH);
                for (gate, words) in x.chunks_exact_mut(WIDTH).enumerate() {
                    let x = self.gates.of(t, row, gate, within.clone());
                    words.copy_from_slice(&padded(x, 0));
                }
                rest.fill(0.0);
            }
        }
    }

    /// Adds the recurrent products.
    #[inline(always)]
    fn multiply<S: Simd>(&mut self, simd: S, some: Range<usize>, heard: &[&[f32]]) {
        let (cell, hidden) = (self.steps[0].cell, self.split.hidden());
        let (products, row_words, panel) = (cell.gates(), cell.saved() * WIDTH, hidden * WIDTH);
        let first = (some.start - self.member.blocks.start) * products;
        let weights = &self.room.weights.words[first * panel..];
        add_products(
            simd,
            hidden,
            heard,
            some.len() * products,
            |i| &weights[i * panel..][..panel],
            |i| i / products * heard.len() * row_words + self.targets[i % products] * WIDTH,
            &mut Sums { words: &mut self.room.tile, stride: row_words },
        );
    }

    /// The cell's equations, for the rows that take part.
    #[inline(always)]
    fn settle(
        &mut self,
        step: &Shared,
        some: Range<usize>,
        active: &[usize],
        source: &[f32],
        next: &mut [f32],
    ) {
        let arch = pulp::Arch::new();
        let (cell, line) = (step.cell, self.line());
        let [states, saved] = [cell.states(), cell.saved()];
        let (t, slot) =
            (step.p.t as usize - self.first[0], step.p.new_slot as usize - self.first[1]);
        for (a, &row) in active.iter().enumerate() {
            for (i, block) in some.clone().enumerate() {
                let within = self.member.within(block);
                let number = block - self.member.blocks.start;
                let global = self.member.rows.start + row;
                let mut old = [[0.0; WIDTH]; STATES];
                if !step.reset(global) {
                    old[0] = sixteen(source, row * line + block * WIDTH);
                    for (s, old) in old.iter_mut().enumerate().take(states).skip(1) {
                        *old = sixteen(&self.room.states, self.state_at(s, row, block));
                    }
                }
                let mut new = [[0.0; WIDTH]; STATES];
                let Room { tile, bias, unit, .. } = &mut *self.room;
                let words = &mut tile[(i * active.len() + a) * saved * WIDTH..][..saved * WIDTH];
                let of_cell = ForwardRow {
                    gates: words,
                    bias: of_block(bias, number, cell.gates()),
                    old: present(&old, states),
                    new: present_mut(&mut new, states),
                    unit: of_block(unit, number, cell.unit_vectors()),
                    r: &[],
                    mask: &[],
                };
                cell_forward(arch, cell, of_cell);
                let kept = words.chunks_exact(WIDTH).enumerate().filter(|_| self.keeps_gates);
                for (gate, words) in kept {
                    put(words, self.gates.of(t, row, gate, within.clone()));
                }
                for s in 0..states {
                    if step.zone.is_on() {
                        step.zone.mix(s, global, block * WIDTH, &old[s], &mut new[s]);
                    }
                    put(&new[s], self.new[s].of(slot, row, 0, within.clone()));
                    let (to, at) = match s {
                        0 => (&mut *next, row * line + block * WIDTH),
                        _ => {
                            let at = self.state_at(s, row, block);
                            (&mut self.room.states[..], at)
                        }
                    };
                    to[at..][..WIDTH].copy_from_slice(&new[s]);
                }
            }
        }
    }

    /// Rows that take no part keep their states, or what a reset leaves of them.
    #[inline(always)]
    fn keep(&mut self, step: &Shared, source: &[f32], next: &mut [f32]) {
        let (slot, line) = (step.p.new_slot as usize - self.first[1], self.line());
        let rows = self.member.rows.clone();
        for row in (0..rows.len()).filter(|row| !step.valid(rows.start + row)) {
            let from = self.source_row(step, row) * line;
            for block in self.member.blocks.clone() {
                let within = self.member.within(block);
                let h = sixteen(source, from + block * WIDTH);
                next[row * line + block * WIDTH..][..WIDTH].copy_from_slice(&h);
                put(&h, self.new[0].of(slot, row, 0, within.clone()));
                for s in 1..step.cell.states() {
                    let at = self.state_at(s, row, block);
                    let kept = &mut self.room.states[at..at + WIDTH];
                    if step.reset(rows.start + row) {
                        kept.fill(0.0);
                    }
                    put(kept, self.new[s].of(slot, row, 0, within.clone()));
                }
            }
        }
    }
}

/// Panels of sixteen units of a gate, \[block, gate, term, sixteen\].
fn pack(weights: &[f32], hidden: usize, products: usize, blocks: Range<usize>, to: &mut Vec<f32>) {
    let panel = hidden * WIDTH;
    zeros(to, blocks.len() * products * panel);
    for (i, panel) in to.chunks_mut(panel).enumerate() {
        let (block, gate) = (blocks.start + i / products, i % products);
        let end = hidden.min((block + 1) * WIDTH);
        for (column, unit) in (block * WIDTH..end).enumerate() {
            let row = &weights[(gate * hidden + unit) * hidden..][..hidden];
            for (terms, value) in panel.chunks_mut(WIDTH).zip(row) {
                terms[column] = *value;
            }
        }
    }
}
