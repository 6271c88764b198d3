//! `scan_forward` and `scan_backward`: minGRU and minLSTM, h(t+1) = a(t)⊙h(t) + c(t).
//!
//! Block by block of time, so that a cut at a block's border changes nothing. Where there are rows for
//! all threads, they take them step by step. Else the steps of a block are cut into a stretch a
//! thread: each is summed up to one pair (a, c) a unit, the pairs give each stretch its start, and then
//! the stretches run side by side.

use super::math::{Plain, exp, sigmoids};
use super::zoneout::Zone;
use super::{Bound, Context};
use crate::kernel::{
    CellKind, RESET, SCAN_BLOCK, ScanBackward, ScanForward, StepKind, StepParams, VALID,
};
use rayon::prelude::*;
use std::ops::Range;

/// One scan's numbers.
struct Scan<'a> {
    p: &'a StepParams,
    kind: &'a StepKind,
    flags: &'a [f32],
    zone: Zone,
    reverse: bool,
}

impl<'a> Scan<'a> {
    fn new(p: &'a StepParams, kind: &'a StepKind, reverse: bool, bound: &Bound<'a>) -> Self {
        Scan {
            p,
            kind,
            flags: bound.read("flags"),
            zone: Zone::new(p, kind.zoneout, bound.read("control")),
            reverse,
        }
    }

    fn has(&self, t: usize, row: usize, flag: u32) -> bool {
        match self.flags.get(self.p.flag(t, row)) {
            Some(word) => word.to_bits() & flag != 0,
            None => flag == VALID,
        }
    }

    /// (a, c) of one unit.
    #[inline(always)]
    fn coefficients(&self, gates: &[f32], h: usize, j: usize) -> [f32; 2] {
        if self.kind.cell.kind == CellKind::MinGru {
            let [z, rest] = sigmoids::<Plain>(gates[j]);
            [rest, z * gates[h + j]]
        } else {
            let [a, rest] = shares(gates[j], gates[h + j]);
            [a, rest * gates[2 * h + j]]
        }
    }

    /// Calls `each` with (unit, a, c) for some rows of step t, whose gates are given.
    #[inline(always)]
    fn pairs(
        &self,
        t: usize,
        rows: Range<usize>,
        gates: &[f32],
        mut each: impl FnMut(usize, f32, f32),
    ) {
        let h = self.p.hidden as usize;
        let words = self.kind.cell.gates() * h;
        let zone = self.zone.at(self.p.first as usize + t, self.p.batch as usize);
        for (i, row) in rows.enumerate() {
            let (valid, reset) = (self.has(t, row, VALID), self.has(t, row, RESET));
            let gates = &gates[i * words..][..words];
            for j in 0..h {
                let [mut a, mut c] = [1.0, 0.0];
                if valid {
                    let z = zone.get(0, row, j);
                    [a, c] = self.coefficients(gates, h, j);
                    (a, c) = (z + (1.0 - z) * a, (1.0 - z) * c);
                }
                each(i * h + j, if reset { 0.0 } else { a }, c);
            }
        }
    }

    /// One step backward over some rows: `g` is dh after the step without the output's own gradient,
    /// then dh before it; the gates' gradients take the place of the input products.
    #[inline(always)]
    fn backward(
        &self,
        t: usize,
        rows: Range<usize>,
        gates: &mut [f32],
        old: &[f32],
        g: &mut [f32],
    ) {
        let h = self.p.hidden as usize;
        let words = self.kind.cell.gates() * h;
        let zone = self.zone.at(self.p.first as usize + t, self.p.batch as usize);
        for (i, row) in rows.enumerate() {
            let gates = &mut gates[i * words..][..words];
            let (old, g) = (&old[i * h..][..h], &mut g[i * h..][..h]);
            let reset = self.has(t, row, RESET);
            if !self.has(t, row, VALID) {
                gates.fill(0.0);
                if reset {
                    g.fill(0.0);
                }
                continue;
            }
            for j in 0..h {
                let z = zone.get(0, row, j);
                let d = (1.0 - z) * g[j];
                let old = if reset { 0.0 } else { old[j] };
                let a = if self.kind.cell.kind == CellKind::MinGru {
                    let ([share, rest], n) = (sigmoids::<Plain>(gates[j]), gates[h + j]);
                    gates[j] = d * (n - old) * share * rest;
                    gates[h + j] = d * share;
                    rest
                } else {
                    let (x_f, x_i, n) = (gates[j], gates[h + j], gates[2 * h + j]);
                    let [a, rest] = shares(x_f, x_i);
                    let da = d * (old - n) * a * rest;
                    gates[j] = da * sigmoids::<Plain>(x_f)[1];
                    gates[h + j] = -da * sigmoids::<Plain>(x_i)[1];
                    gates[2 * h + j] = d * rest;
                    a
                };
                g[j] *= if reset { 0.0 } else { z + (1.0 - z) * a };
            }
        }
    }

    /// The blocks of time, each a first step and a number of steps, from the first to the last of
    /// the direction's order.
    fn blocks(&self) -> Vec<(usize, usize)> {
        let time = self.p.time as usize;
        let block = |first| (first, SCAN_BLOCK.min(time - first));
        let mut list: Vec<_> = (0..time).step_by(SCAN_BLOCK).map(block).collect();
        if self.reverse {
            list.reverse();
        }
        list
    }
}

/// f/(f + i) and i/(f + i) with f = σ(x_f), i = σ(x_i), from the ratio of the smaller to the larger:
/// σ(x) = e^min(x,0) / (1 + e^−|x|).
#[inline(always)]
fn shares(x_f: f32, x_i: f32) -> [f32; 2] {
    let ratio = (1.0 + exp::<Plain>(-x_f.abs())) / (1.0 + exp::<Plain>(-x_i.abs()));
    let low = |x: f32| if x < 0.0 { x } else { 0.0 };
    let e = low(x_i) - low(x_f);
    let q = exp::<Plain>(-e.abs()) * if e > 0.0 { 1.0 / ratio } else { ratio };
    let [large, small] = [1.0 / (1.0 + q), q / (1.0 + q)];
    if e > 0.0 { [small, large] } else { [large, small] }
}

/// Where each of `count` stretches starts, from the sums of the stretches in the order of the scan;
/// none for a single one.
fn starts(first: &[f32], sums: &[[Vec<f32>; 2]], count: usize) -> Vec<Vec<f32>> {
    let mut list = Vec::with_capacity(count);
    let mut state = first.to_vec();
    for k in 0..count {
        list.push(state.clone());
        if let Some([a, c]) = sums.get(k) {
            for ((state, a), c) in state.iter_mut().zip(a).zip(c) {
                *state = a * *state + c;
            }
        }
    }
    list
}

/// `n − 1 − k` where the order is turned round.
fn turned(k: usize, n: usize, turn: bool) -> usize {
    if turn { n - 1 - k } else { k }
}

/// What the blocks of a scan share.
struct Sizes {
    /// Elements of a step's states, and of its gates.
    units: usize,
    words: usize,
    /// Rows that each thread takes, where there are enough of them; else steps are split.
    rows: Option<usize>,
}

impl Sizes {
    fn new(context: &Context, p: &StepParams, kind: &StepKind) -> Self {
        let [batch, hidden] = [p.batch, p.hidden].map(|x| x as usize);
        let rows = (batch >= context.threads).then(|| batch.div_ceil(context.threads.max(1)));
        let words = batch * kind.cell.saved() * hidden;
        Sizes { units: batch * hidden, words, rows }
    }
}

pub fn scan_forward(context: &Context, kernel: &ScanForward, mut bound: Bound) {
    let p = &kernel.params;
    let sizes = Sizes::new(context, p, &kernel.kind);
    let states = bound.write("states");
    let gates = &bound.read("gates")[p.gates_offset as usize..][..p.time as usize * sizes.words];
    let scan = Scan::new(p, &kernel.kind, kernel.reverse, &bound);
    for (first, n) in scan.blocks() {
        let slots = &mut states[first * sizes.units..][..(n + 1) * sizes.units];
        match sizes.rows {
            Some(rows) => scan.forward_by_rows(gates, slots, first, rows, &sizes),
            None => scan.forward_by_stretches(context, gates, slots, first, &sizes),
        }
    }
}

pub fn scan_backward(context: &Context, kernel: &ScanBackward, mut bound: Bound) {
    let p = &kernel.params;
    let sizes = Sizes::new(context, p, &kernel.kind);
    let all = p.time as usize * sizes.words;
    let gates = &mut bound.write("gates")[p.gates_offset as usize..][..all];
    let (carry, states) = (bound.read("carry"), bound.read("states"));
    let d_output = bound.read("d_output").get(p.d_output_offset as usize..).unwrap_or_default();
    let scan = Scan::new(p, &kernel.kind, kernel.reverse, &bound);
    let mut g = carry[..sizes.units].to_vec();
    for (first, n) in scan.blocks().into_iter().rev() {
        let gates = &mut gates[first * sizes.words..][..n * sizes.words];
        let around = Around { states, d_output, first };
        match sizes.rows {
            Some(rows) => scan.backward_by_rows(gates, &around, &mut g, rows, &sizes),
            None => scan.backward_by_stretches(context, gates, &around, &mut g, &sizes),
        }
    }
    bound.write("d_initial")[..sizes.units].copy_from_slice(&g);
}

/// What a block reads, of all steps; and its first step.
struct Around<'a> {
    states: &'a [f32],
    d_output: &'a [f32],
    first: usize,
}

impl Around<'_> {
    fn add_output(&self, g: &mut [f32], t: usize, units: usize, first_unit: usize) {
        let at = t * units + first_unit;
        if let Some(d) = self.d_output.get(at..at + g.len()) {
            g.iter_mut().zip(d).for_each(|(g, d)| *g += d);
        }
    }
}

impl Scan<'_> {
    /// A block step after step, the rows of each side by side. `slots` are the states before, between
    /// and behind its steps.
    fn forward_by_rows(
        &self,
        gates: &[f32],
        slots: &mut [f32],
        first: usize,
        rows: usize,
        &Sizes { units, words, .. }: &Sizes,
    ) {
        let (batch, h) = (self.p.batch as usize, self.p.hidden as usize);
        let n = slots.len() / units - 1;
        for k in 0..n {
            let at = turned(k, n, self.reverse);
            let t = first + at;
            let (low, high) = slots.split_at_mut((at + 1) * units);
            let (before, now) = match self.reverse {
                false => (&low[at * units..], &mut high[..units]),
                true => (&high[..units], &mut low[at * units..]),
            };
            let now = now.par_chunks_mut(rows * h).zip(before.par_chunks(rows * h));
            let gates = gates[t * words..][..words].par_chunks(rows * words / batch);
            now.zip(gates).enumerate().for_each(|(part, ((now, before), gates))| {
                let part = part * rows..(part * rows + rows).min(batch);
                vectorised(
                    #[inline(always)]
                    || self.pairs(t, part, gates, |i, a, c| now[i] = a * before[i] + c),
                );
            });
        }
    }

    fn backward_by_rows(
        &self,
        gates: &mut [f32],
        around: &Around,
        g: &mut [f32],
        rows: usize,
        &Sizes { units, words, .. }: &Sizes,
    ) {
        let (batch, h) = (self.p.batch as usize, self.p.hidden as usize);
        let n = gates.len() / words;
        for k in 0..n {
            let at = turned(k, n, !self.reverse);
            let t = around.first + at;
            let slot = if self.reverse { t + 1 } else { t };
            let old = around.states[slot * units..][..units].par_chunks(rows * h);
            let gates = gates[at * words..][..words].par_chunks_mut(rows * words / batch);
            let parts = g.par_chunks_mut(rows * h).zip(gates).zip(old).enumerate();
            parts.for_each(|(part, ((g, gates), old))| {
                around.add_output(g, t, units, part * rows * h);
                let part = part * rows..(part * rows + rows).min(batch);
                vectorised(
                    #[inline(always)]
                    || self.backward(t, part, gates, old, g),
                );
            });
        }
    }

    /// A block with a stretch of its steps for each thread.
    fn forward_by_stretches(
        &self,
        context: &Context,
        gates: &[f32],
        slots: &mut [f32],
        block: usize,
        &Sizes { units, words, .. }: &Sizes,
    ) {
        let (reverse, batch) = (self.reverse, self.p.batch as usize);
        let time = slots.len() / units - 1;
        // Slots in time order, without the initial one.
        let (initial, slots) = if reverse {
            let (slots, initial) = slots.split_at_mut(time * units);
            (&*initial, slots)
        } else {
            let (initial, slots) = slots.split_at_mut(units);
            (&*initial, slots)
        };
        let length = time.div_ceil(context.threads.max(1));
        let count = time.div_ceil(length);
        let sums: Vec<[Vec<f32>; 2]> = (0..if count > 1 { count } else { 0 })
            .into_par_iter()
            .map(|k| {
                let first = turned(k, count, reverse) * length;
                let n = length.min(time - first);
                let (mut a, mut c) = (vec![1.0; units], vec![0.0; units]);
                for k in 0..n {
                    let t = block + first + turned(k, n, reverse);
                    self.pairs(t, 0..batch, &gates[t * words..], |i, pa, pc| {
                        a[i] *= pa;
                        c[i] = pa * c[i] + pc;
                    });
                }
                [a, c]
            })
            .collect();
        let starts = starts(initial, &sums, count);
        slots.par_chunks_mut(length * units).enumerate().for_each(|(stretch, slots)| {
            let n = slots.len() / units;
            let mut state = starts[turned(stretch, count, reverse)].clone();
            for k in 0..n {
                let at = turned(k, n, reverse);
                let t = block + stretch * length + at;
                vectorised(
                    #[inline(always)]
                    || {
                        self.pairs(t, 0..batch, &gates[t * words..], |i, a, c| {
                            state[i] = a * state[i] + c;
                        });
                    },
                );
                slots[at * units..][..units].copy_from_slice(&state);
            }
        });
    }

    fn backward_by_stretches(
        &self,
        context: &Context,
        gates: &mut [f32],
        around: &Around,
        g: &mut Vec<f32>,
        &Sizes { units, words, .. }: &Sizes,
    ) {
        // From the last step of the forward order to the first.
        let (turn, batch) = (!self.reverse, self.p.batch as usize);
        let time = gates.len() / words;
        let length = time.div_ceil(context.threads.max(1));
        let count = time.div_ceil(length);
        let sums: Vec<[Vec<f32>; 2]> = (0..if count > 1 { count } else { 0 })
            .into_par_iter()
            .map(|k| {
                let first = turned(k, count, turn) * length;
                let n = length.min(time - first);
                let (mut a, mut c) = (vec![1.0; units], vec![0.0; units]);
                for k in 0..n {
                    let at = first + turned(k, n, turn);
                    around.add_output(&mut c, around.first + at, units, 0);
                    self.pairs(around.first + at, 0..batch, &gates[at * words..], |i, pa, _| {
                        a[i] *= pa;
                        c[i] *= pa;
                    });
                }
                [a, c]
            })
            .collect();
        let starts = starts(g, &sums, count);
        let ends: Vec<Vec<f32>> = gates
            .par_chunks_mut(length * words)
            .enumerate()
            .map(|(stretch, gates)| {
                let mut g = starts[turned(stretch, count, turn)].clone();
                let n = gates.len() / words;
                for k in 0..n {
                    let at = turned(k, n, turn);
                    let t = around.first + stretch * length + at;
                    let slot = if self.reverse { t + 1 } else { t };
                    around.add_output(&mut g, t, units, 0);
                    let (gates, old) = (&mut gates[at * words..], &around.states[slot * units..]);
                    vectorised(
                        #[inline(always)]
                        || self.backward(t, 0..batch, gates, old, &mut g),
                    );
                }
                g
            })
            .collect();
        g.clone_from(&ends[turned(count - 1, count, turn)]);
    }
}

/// With the machine's widest instructions.
#[inline(always)]
fn vectorised(run: impl FnOnce()) {
    pulp::Arch::new().dispatch(run);
}
