//! `sequence_backward`.

use super::slab::Slab;
use super::split::{Member, Split};
use super::{Room, TILE_WORDS, Targets, Values, saved_blocks, split};
use super::{of_block, pack_units, padded, present, present_mut, put, sixteen, zeros};
use crate::engine::cpu::cell::{BackwardRow, STATES, cell_backward};
use crate::engine::cpu::panel::{Sums, WIDTH, add_products};
use crate::engine::cpu::step::{Few, Shared, old_slots};
use crate::engine::cpu::team::{Exchange, Team};
use crate::engine::cpu::{Bound, Context, Scratch};
use crate::kernel::{BackwardPhase, NONE, RESET, StepBackward, VALID};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// The steps one after another, against the direction's order; the phase Initial may come last.
pub fn sequence_backward(
    context: &Context,
    kernels: &[&StepBackward],
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, kind) = (&kernels[0].params, &kernels[0].kind);
    let [batch, hidden] = [p.batch, p.hidden].map(|x| x as usize);
    let cell = &kind.cell;
    let (states, saved) = (cell.states(), cell.saved());
    let steps: Vec<Shared> =
        kernels.iter().map(|k| Shared::new(&k.params, &k.kind, &bound, &[])).collect();
    let ends = kernels.iter().filter(|k| k.phase == BackwardPhase::Initial).count();
    let team = Team::new(context, context.threads);
    let split = split(p, kind, kernels[0].products(), kernels.len(), team.size());

    let times = kernels[..kernels.len() - ends].iter().map(|k| k.params.t as usize);
    let (first, last) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    let words = batch * saved * hidden;
    let gates = &mut bound.write("gates")[p.gates_offset as usize..];
    // What the step after the first of these handed on.
    let later = match p.later {
        NONE => Vec::new(),
        later => gates[later as usize * words..][..words].to_vec(),
    };
    let carry = &mut bound.write("carry")[..states * batch * hidden];
    let old_carry = carry.to_vec();
    let on = Sources {
        old: bound.read("states"),
        d_output: bound.read("d_output").get(p.d_output_offset as usize..).unwrap_or_default(),
        later: &later,
        carry: &old_carry,
    };
    let exchanges: Vec<_> = split.groups().iter().map(|_| Exchange::new(split.shares())).collect();

    let gates = Slab::of_members(&mut gates[first * words..(last + 1) * words], saved, &split);
    let carries = carry.chunks_mut(batch * hidden);
    let carries: Vec<_> = carries.map(|state| Slab::of_members(state, 1, &split)).collect();
    let mut carries: Vec<_> = carries.into_iter().map(Few::into_iter).collect();
    let d_unit = Slab::of_members(bound.write("d_unit"), cell.unit_vectors(), &split);
    let rooms = scratch.rooms(split.members().count());
    let members = split.members().zip(gates).zip(d_unit).zip(rooms);
    let members = members.map(|(((member, gates), d_unit), room)| BackwardMember {
        split: &split,
        steps: &steps,
        ends,
        first,
        targets: saved_blocks(cell),
        gates,
        carries: carries.iter_mut().filter_map(Iterator::next).collect(),
        d_unit,
        on: &on,
        version: bound.version,
        exchange: &exchanges[member.group],
        room,
        member,
    });
    let members: Vec<_> = members.collect();
    team.run(members.into_iter(), |member| pulp::Arch::new().dispatch(member));
}

/// What all members read.
struct Sources<'a> {
    /// \[S, T+1, B, H\].
    old: &'a [f32],
    /// \[T, B, H\], or nothing.
    d_output: &'a [f32],
    /// The gate rows of the step after the first of these, or nothing.
    later: &'a [f32],
    carry: &'a [f32],
}

struct BackwardMember<'a> {
    member: Member,
    split: &'a Split,
    steps: &'a [Shared<'a>],
    /// 1 where the last step is the phase Initial.
    ends: usize,
    /// The first time of the slabs.
    first: usize,
    /// The saved block of each gate's product.
    targets: Targets,
    gates: Slab<'a>,
    carries: Vec<Slab<'a>>,
    d_unit: Slab<'a>,
    on: &'a Sources<'a>,
    /// Of the weights, where they last.
    version: Option<u64>,
    exchange: &'a Exchange,
    room: &'a mut Room,
}

impl WithSimd for BackwardMember<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (exchange, steps) = (self.exchange, self.steps);
        let _attends = exchange.attend();
        let [mut source, mut next] = self.start();
        let (hidden, rows) = (self.split.hidden(), self.member.rows.clone());
        let line = self.targets.len() * hidden;
        let mut active: Vec<usize> = Vec::with_capacity(rows.len());
        for (number, step) in steps.iter().enumerate() {
            let is_initial = number + self.ends == steps.len() && self.ends > 0;
            active.clear();
            if step.p.later != NONE {
                let flags = step.later_flags;
                // The later step heard nothing of this one's states where it reset them.
                let heard =
                    |row: usize| step.has(flags, row, VALID) && !step.has(flags, row, RESET);
                active.extend((0..rows.len()).filter(|row| heard(rows.start + row)));
            }
            let of_gate = |gate: usize| -> Vec<&[f32]> {
                let of = |&row: &usize| &source[row * line + gate * hidden..][..hidden];
                active.iter().map(of).collect()
            };
            let handed: Vec<_> = (0..self.targets.len()).map(of_gate).collect();
            let blocks = self.member.blocks.clone();
            let most = (TILE_WORDS / (active.len().max(1) * WIDTH)).max(1);
            for first in blocks.clone().step_by(most) {
                let some = first..blocks.end.min(first + most);
                self.multiply(simd, some.clone(), &active, &handed);
                if !is_initial {
                    self.settle(step, some, &mut next);
                }
            }
            if number + 1 < steps.len() {
                self.split.tell(exchange, self.member.share, number, &mut next, hidden);
            }
            std::mem::swap(&mut source, &mut next);
        }
        (self.room.source, self.room.next) = (source, next);
        let units = self.member.units.clone();
        for row in 0..rows.len() {
            for s in 0..self.carries.len() {
                let at = self.carry_at(s, row, self.member.blocks.start);
                let to = self.carries[s].of(0, row, 0, 0..units.len());
                to.copy_from_slice(&self.room.states[at..][..units.len()]);
            }
        }
    }
}

impl BackwardMember<'_> {
    /// Where the sixteen units of a block of a state's carry are.
    #[inline(always)]
    fn carry_at(&self, state: usize, row: usize, block: usize) -> usize {
        let own = self.member.blocks.len() * WIDTH;
        let within = (block - self.member.blocks.start) * WIDTH;
        (state * self.member.rows.len() + row) * own + within
    }

    /// Packs the weights, and puts in place what comes from later; the gradients of the recurrent products, gate by
    /// gate in the order of the weights, of the later step and of this one.
    #[inline(always)]
    fn start(&mut self) -> [Vec<f32>; 2] {
        let (step, member, hidden) = (&self.steps[0], &self.member, self.split.hidden());
        let (cell, count, products) = (step.cell, member.rows.len(), self.targets.len());
        let (batch, line) = (step.p.batch as usize, products * hidden);
        let room = &mut *self.room;
        room.weights.pack(self.version, step.p.w_offset, member.blocks.clone(), |blocks, to| {
            pack(step.weights, hidden, products, blocks, to);
        });
        pack_units(step.unit, cell.unit_vectors(), hidden, member.blocks.clone(), &mut room.unit);
        zeros(&mut room.tile, (TILE_WORDS + WIDTH).max(count * WIDTH));
        let [mut source, mut next] = [&mut room.source, &mut room.next].map(std::mem::take);
        zeros(&mut source, count * line);
        zeros(&mut next, count * line);
        zeros(&mut room.states, cell.states() * count * member.blocks.len() * WIDTH);
        for row in 0..count {
            let global = member.rows.start + row;
            for (gate, block) in
                self.targets.iter().enumerate().filter(|_| !self.on.later.is_empty())
            {
                let from = &self.on.later[(global * cell.saved() + block) * hidden..][..hidden];
                source[row * line + gate * hidden..][..hidden].copy_from_slice(from);
            }
            for s in 0..cell.states() {
                let from = &self.on.carry[(s * batch + global) * hidden..][..hidden];
                let at = self.carry_at(s, row, member.blocks.start);
                self.room.states[at..][..member.units.len()]
                    .copy_from_slice(&from[member.units.clone()]);
            }
        }
        [source, next]
    }

    /// dh += what the later step's gates hand back, by way of the tile.
    #[inline(always)]
    fn multiply<S: Simd>(
        &mut self,
        simd: S,
        some: Range<usize>,
        active: &[usize],
        handed: &[Vec<&[f32]>],
    ) {
        let (hidden, products) = (self.split.hidden(), handed.len());
        let panel = hidden * WIDTH;
        let first = (some.start - self.member.blocks.start) * products;
        let places = some.clone().flat_map(|block| active.iter().map(move |&row| (row, block)));
        let places: Vec<_> = places.map(|(row, block)| self.carry_at(0, row, block)).collect();
        let Room { tile, states: carry, weights, .. } = &mut *self.room;
        for (tile, &at) in tile.chunks_exact_mut(WIDTH).zip(&places) {
            tile.copy_from_slice(&carry[at..at + WIDTH]);
        }
        let weights = &weights.words[first * panel..];
        for (gate, handed) in handed.iter().enumerate() {
            add_products(
                simd,
                hidden,
                handed,
                some.len(),
                |i| &weights[(i * products + gate) * panel..][..panel],
                |i| i * active.len() * WIDTH,
                &mut Sums { words: &mut *tile, stride: WIDTH },
            );
        }
        for (tile, &at) in tile.chunks_exact(WIDTH).zip(&places) {
            carry[at..at + WIDTH].copy_from_slice(tile);
        }
    }

    /// The cell's derivative.
    #[inline(always)]
    fn settle(&mut self, step: &Shared, some: Range<usize>, next: &mut [f32]) {
        let arch = pulp::Arch::new();
        let (cell, hidden) = (step.cell, self.split.hidden());
        let [states, saved, vectors] = [cell.states(), cell.saved(), cell.unit_vectors()];
        let (t, batch) = (step.p.t as usize, step.p.batch as usize);
        let old = old_slots(self.on.old, step.p, cell);
        let mut words = [0.0; MOST_SAVED * WIDTH];
        let words = &mut words[..saved * WIDTH];
        for row in 0..self.member.rows.len() {
            for block in some.clone() {
                let within = self.member.within(block);
                let number = block - self.member.blocks.start;
                let global = self.member.rows.start + row;
                let (valid, reset) = (step.valid(global), step.reset(global));
                let mut d = [[0.0; WIDTH]; STATES];
                for (s, d) in d.iter_mut().enumerate().take(states) {
                    *d = sixteen(&self.room.states, self.carry_at(s, row, block));
                }
                if !self.on.d_output.is_empty() {
                    let d_output = &self.on.d_output[(t * batch + global) * hidden..][..hidden];
                    add(&mut d[0], &padded(d_output, block));
                }
                words.fill(0.0);
                if valid {
                    let mut before = [[0.0; WIDTH]; STATES];
                    for (before, old) in before.iter_mut().zip(&old).take(states).filter(|_| !reset)
                    {
                        *before = padded(&old.0[global * hidden..][..hidden], block);
                    }
                    let mut passed = [[0.0; WIDTH]; STATES];
                    for s in (0..states).filter(|_| step.zone.is_on()) {
                        step.zone.split(s, global, block * WIDTH, &mut d[s], &mut passed[s]);
                    }
                    for (gate, words) in words.chunks_exact_mut(WIDTH).enumerate() {
                        let kept = self.gates.of(t - self.first, row, gate, within.clone());
                        words.copy_from_slice(&padded(kept, 0));
                    }
                    let mut d_unit = [0.0; MOST_SAVED * WIDTH];
                    let d_unit = &mut d_unit[..vectors * WIDTH];
                    for (vector, sum) in d_unit.chunks_exact_mut(WIDTH).enumerate() {
                        let so_far = self.d_unit.of(0, row, vector, within.clone());
                        sum.copy_from_slice(&padded(so_far, 0));
                    }
                    let of_cell = BackwardRow {
                        gates: &mut *words,
                        old: present(&before, states),
                        carry: present_mut(&mut d, states),
                        unit: of_block(&self.room.unit, number, vectors),
                        d_unit: &mut *d_unit,
                        normed: None,
                    };
                    cell_backward(arch, cell, of_cell);
                    for (vector, sum) in d_unit.chunks_exact(WIDTH).enumerate() {
                        put(sum, self.d_unit.of(0, row, vector, within.clone()));
                    }
                    for (d, passed) in d.iter_mut().zip(&passed) {
                        add(d, passed);
                    }
                }
                for (gate, words) in words.chunks_exact(WIDTH).enumerate() {
                    put(words, self.gates.of(t - self.first, row, gate, within.clone()));
                }
                let of_gates = next.chunks_exact_mut(hidden).skip(row * self.targets.len());
                for (of_gate, saved) in of_gates.zip(&self.targets) {
                    put(&words[saved * WIDTH..], &mut of_gate[block * WIDTH..][..within.len()]);
                }
                for (s, d) in d.iter().enumerate().take(states) {
                    let at = self.carry_at(s, row, block);
                    let to = &mut self.room.states[at..at + WIDTH];
                    if reset { to.fill(0.0) } else { to.copy_from_slice(d) }
                }
            }
        }
    }
}

/// Saved blocks of a cell, or parameters by unit, at most.
const MOST_SAVED: usize = 5;

#[inline(always)]
fn add(a: &mut Values, b: &Values) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Panels of sixteen units of h by gate, \[block, gate, term, sixteen\]; the terms are the gate's units.
fn pack(weights: &[f32], hidden: usize, products: usize, blocks: Range<usize>, to: &mut Vec<f32>) {
    to.clear();
    for block in blocks {
        for row in weights.chunks(hidden).take(products * hidden) {
            to.extend(padded(row, block));
        }
    }
}
