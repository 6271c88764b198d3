//! `sequence_backward`.

use super::slab::Slab;
use super::split::{Member, Split};
use super::{GATES, MemberRoom, Targets, Work, chunk_blocks, chunks, run, saved_blocks, split};
use super::{of_chunk, pack_units, padded, zeros};
use crate::engine::WeightFormat;
use crate::engine::cpu::cell::{BackwardRow, STATES, cell_backward};
use crate::engine::cpu::panel::{Base, PackedRows, Panels, Product, Sums, WIDTH};
use crate::engine::cpu::step::{Few, Shared, old_slots};
use crate::engine::cpu::team::{Exchange, ThreadTeam};
use crate::engine::cpu::{Bound, Context, Scratch};
use crate::kernel::{BackwardPhase, NONE, RESET, StepBackward, VALID};
use pulp::Simd;
use smallvec::SmallVec;
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
    let team = ThreadTeam::new(context, context.threads);
    let shares = scratch.insists || team.may_share();
    let split = split(p, kind, kernels[0].products(), kernels.len(), team.size(), shares);

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
    let exchanges: Vec<_> = (0..split.groups()).map(|_| Exchange::new(split.shares())).collect();

    let gates = Slab::of_members(&mut gates[first * words..(last + 1) * words], saved, &split);
    let carries = carry.chunks_mut(batch * hidden);
    let carries: Vec<_> = carries.map(|state| Slab::of_members(state, 1, &split)).collect();
    let mut carries: Vec<_> = carries.into_iter().map(Few::into_iter).collect();
    let d_unit = Slab::of_members(bound.write("d_unit"), cell.unit_vectors(), &split);
    let members = split.members().zip(gates).zip(d_unit).map(|((member, gates), d_unit)| {
        let work = BackwardMember {
            split: &split,
            steps: &steps,
            ends,
            first,
            targets: saved_blocks(cell),
            gates,
            carries: carries.iter_mut().filter_map(Iterator::next).collect(),
            d_unit,
            on: &on,
            label: bound.label,
            exchange: &exchanges[member.group],
            member: member.clone(),
        };
        (member, work)
    });
    run(&team, &split, &exchanges, scratch, members);
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
    /// Of the weights, for as long as they stay.
    label: Option<u64>,
    exchange: &'a Exchange,
}

impl Work for BackwardMember<'_> {
    #[inline(always)]
    fn work<S: Simd>(mut self, simd: S, room: &mut MemberRoom) {
        let (exchange, steps) = (self.exchange, self.steps);
        let _attends = exchange.attend();
        let told = self.member.turn * (steps.len() - 1);
        let [mut source, mut next] = self.start(room);
        let (hidden, rows) = (self.split.hidden(), self.member.rows.clone());
        let line = self.targets.len() * hidden;
        let most = chunk_blocks(rows.len(), WIDTH);
        // The gates of a row lie as the cell takes them: their gradients take their place, and are
        // handed back from there.
        let direct = self.split.shares() == 1
            && hidden.is_multiple_of(WIDTH)
            && most >= self.member.blocks.len();
        let mut later = None;
        let mut packed = std::mem::take(&mut room.handed);
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
            let mut handed: SmallVec<[PackedRows; GATES]> = SmallVec::new();
            let made = later.map(|t| self.gates.step(t));
            for ((gate, saved), packed) in self.targets.iter().enumerate().zip(&mut packed) {
                let of = |i: usize| match &made {
                    Some(made) => &made[(active[i] * step.cell.saved() + saved) * hidden..],
                    None => &source[active[i] * line + gate * hidden..],
                };
                let shape = [active.len(), hidden];
                handed.push(PackedRows::new(simd, WeightFormat::F32, shape, of, packed));
            }
            for some in chunks(self.member.blocks.clone(), most) {
                self.multiply(room, simd, &some, &active, &handed);
                if !is_initial {
                    self.settle(room, step, &some, (!direct).then_some(&mut next));
                }
            }
            if direct {
                later = (!is_initial).then(|| step.p.t as usize - self.first);
                continue;
            }
            if number + 1 < steps.len() {
                let number = told + number;
                self.split.tell(exchange, self.member.share, number, &mut next, hidden);
            }
            std::mem::swap(&mut source, &mut next);
        }
        (room.source, room.next, room.handed) = (source, next, packed);
        let (units, own) = (self.member.units.len(), self.own());
        for (to, carry) in self.carries.iter_mut().zip(room.states.chunks(rows.len() * own)) {
            for (row, carry) in carry.chunks(own).enumerate() {
                to.of(0, row, 0, 0..units).copy_from_slice(&carry[..units]);
            }
        }
    }
}

impl BackwardMember<'_> {
    /// Words of a row of a state's carry.
    #[inline(always)]
    fn own(&self) -> usize {
        self.member.blocks.len() * WIDTH
    }

    /// Packs the weights, and puts in place what comes from later; the gradients of the recurrent products, gate by
    /// gate in the order of the weights, of the later step and of this one.
    #[inline(always)]
    fn start(&mut self, room: &mut MemberRoom) -> [Vec<f32>; 2] {
        let (step, member, hidden) = (&self.steps[0], &self.member, self.split.hidden());
        let (cell, count, products) = (step.cell, member.rows.len(), self.targets.len());
        let (batch, line) = (step.p.batch as usize, products * hidden);
        if member.turn == 0 {
            room.weights.pack(self.label, step.p.w_offset, member.blocks.clone(), |blocks, to| {
                pack(step.weights, hidden, products, blocks, to);
            });
        }
        let most = chunk_blocks(count, WIDTH);
        let parts = chunks(member.blocks.clone(), most);
        pack_units(step.unit, cell.unit_vectors(), hidden, parts, &mut room.unit);
        let chunk = most.min(member.blocks.len()) * WIDTH;
        zeros(&mut room.tile, count * chunk);
        zeros(&mut room.zeros, chunk);
        zeros(&mut room.row, cell.saved() * chunk);
        zeros(&mut room.before, cell.states() * chunk);
        zeros(&mut room.passed, cell.states() * chunk);
        zeros(&mut room.d_unit, cell.unit_vectors() * chunk);
        let [mut source, mut next] = [&mut room.source, &mut room.next].map(std::mem::take);
        zeros(&mut source, count * line);
        zeros(&mut next, count * line);
        let own = member.blocks.len() * WIDTH;
        zeros(&mut room.states, cell.states() * count * own);
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
                let to = &mut room.states[(s * count + row) * own..][..member.units.len()];
                to.copy_from_slice(&from[member.units.clone()]);
            }
        }
        [source, next]
    }

    /// dh += what the later step's gates hand back; by way of the tile where some rows have nothing of it.
    #[inline(always)]
    fn multiply<S: Simd>(
        &mut self,
        room: &mut MemberRoom,
        simd: S,
        some: &Range<usize>,
        active: &[usize],
        handed: &[PackedRows],
    ) {
        let (hidden, products, own) = (self.split.hidden(), handed.len(), self.own());
        let units = some.len() * WIDTH;
        let before = some.start - self.member.blocks.start;
        let whole = active.len() == self.member.rows.len();
        let MemberRoom { tile, states: carry, weights, .. } = &mut *room;
        let panels = Panels::new(&weights.words, WeightFormat::F32, hidden);
        let panels = Panels { every: products, ..panels.from(before * products) };
        let at = |row: usize| row * own + before * WIDTH;
        if !whole {
            for (tile, &row) in tile.chunks_exact_mut(units).zip(active) {
                tile.copy_from_slice(&carry[at(row)..][..units]);
            }
        }
        let (sums, stride) = match whole {
            true => (&mut carry[at(0)..], own),
            false => (&mut tile[..], units),
        };
        for (gate, &rows) in handed.iter().enumerate() {
            let (panels, sums) = (panels.from(gate), Sums { words: &mut *sums, stride });
            let (count, at) = (some.len(), &|i| i * WIDTH);
            Product { rows, panels, count, base: Base::There, at, sums }.add(simd);
        }
        if !whole {
            for (tile, &row) in tile.chunks_exact(units).zip(active) {
                carry[at(row)..][..units].copy_from_slice(tile);
            }
        }
    }

    /// The cell's derivative.
    #[inline(always)]
    fn settle(
        &mut self,
        room: &mut MemberRoom,
        step: &Shared,
        some: &Range<usize>,
        mut next: Option<&mut Vec<f32>>,
    ) {
        let arch = pulp::Arch::new();
        let (cell, hidden, own) = (step.cell, self.split.hidden(), self.own());
        let [states, vectors] = [cell.states(), cell.unit_vectors()];
        let (t, batch) = (step.p.t as usize, step.p.batch as usize);
        let all_old = old_slots(self.on.old, step.p, cell);
        let (units, within) = (some.len() * WIDTH, self.member.within(some));
        let (first, count) = (some.start * WIDTH, within.len());
        let blocks_before = some.start - self.member.blocks.start;
        let rows = self.member.rows.clone();
        let MemberRoom { states: carry, unit, zeros, row: words, before, passed, d_unit, .. } =
            &mut *room;
        let unit = of_chunk(unit, blocks_before, vectors, units);
        let copy = &mut words[..cell.saved() * units];
        let d_unit = &mut d_unit[..vectors * units];
        for row in 0..rows.len() {
            let global = rows.start + row;
            let (valid, reset) = (step.valid(global), step.reset(global));
            let words = match next {
                None => &mut self.gates.step(t - self.first)[row * copy.len()..][..copy.len()],
                Some(_) => {
                    for (gate, words) in copy.chunks_exact_mut(units).enumerate() {
                        let kept = self.gates.of(t - self.first, row, gate, within.clone());
                        words[..count].copy_from_slice(kept);
                        words[count..].fill(0.0);
                    }
                    &mut *copy
                }
            };
            let mut d: [&mut [f32]; STATES] = Default::default();
            for (d, carry) in d.iter_mut().zip(carry.chunks_mut(rows.len() * own)) {
                *d = &mut carry[row * own + blocks_before * WIDTH..][..units];
            }
            if !self.on.d_output.is_empty() {
                add(d[0], &self.on.d_output[(t * batch + global) * hidden + first..][..count]);
            }
            if valid {
                let mut old = [&zeros[..0]; STATES];
                let copies = before.chunks_exact_mut(units).zip(&all_old);
                for (old, (copy, all)) in old.iter_mut().zip(copies).take(states) {
                    *old = match all.0.get(global * hidden + first..) {
                        _ if reset => &zeros[..units],
                        Some(whole) if count == units => &whole[..units],
                        // The last block reaches beyond the end.
                        all => {
                            copy[..count].copy_from_slice(&all.unwrap_or_default()[..count]);
                            copy
                        }
                    };
                }
                for (s, passed) in passed.chunks_exact_mut(units).enumerate().take(states) {
                    if step.zone.is_on() {
                        step.zone.split(s, global, first, d[s], passed);
                    }
                }
                for (vector, sums) in d_unit.chunks_exact_mut(units).enumerate() {
                    let so_far = self.d_unit.of(0, row, vector, within.clone());
                    sums[..count].copy_from_slice(so_far);
                }
                let of_cell = BackwardRow {
                    gates: &mut *words,
                    old,
                    carry: d.each_mut().map(|d| &mut **d),
                    unit,
                    d_unit: &mut *d_unit,
                    normed: None,
                };
                cell_backward(arch, cell, of_cell);
                for (vector, sums) in d_unit.chunks_exact(units).enumerate() {
                    let to = self.d_unit.of(0, row, vector, within.clone());
                    to.copy_from_slice(&sums[..count]);
                }
                if step.zone.is_on() {
                    let passed = passed.chunks_exact(units);
                    d.iter_mut().zip(passed).for_each(|(d, passed)| add(d, passed));
                }
            } else {
                words.fill(0.0);
            }
            if let Some(next) = &mut next {
                for (gate, words) in copy.chunks_exact(units).enumerate() {
                    let to = self.gates.of(t - self.first, row, gate, within.clone());
                    to.copy_from_slice(&words[..count]);
                }
                let of_gates = next.chunks_exact_mut(hidden).skip(row * self.targets.len());
                for (of_gate, saved) in of_gates.zip(&self.targets) {
                    of_gate[first..first + count].copy_from_slice(&copy[saved * units..][..count]);
                }
            }
            if reset {
                d.iter_mut().for_each(|d| d.fill(0.0));
            }
        }
    }
}

#[inline(always)]
fn add(a: &mut [f32], b: &[f32]) {
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
