//! `scan_forward` and `scan_backward`: minGRU and minLSTM, h(t+1) = a(t)⊙h(t) + c(t).
//!
//! The steps are cut into a stretch a thread. Each stretch is summed up to one pair (a, c) a unit,
//! the pairs give each stretch its start, and then the stretches run side by side.

use super::math::{log_sigmoid, sigmoid};
use super::zoneout::Zone;
use super::{Bound, Context};
use crate::kernel::{CellKind, RESET, ScanBackward, ScanForward, StepKind, StepParams, VALID};
use rayon::prelude::*;

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
        match self.flags.get((self.p.first as usize + t) * self.p.batch as usize + row) {
            Some(word) => word.to_bits() & flag != 0,
            None => flag == VALID,
        }
    }

    /// (a, c) of one unit.
    #[inline(always)]
    fn coefficients(&self, gates: &[f32], h: usize, j: usize) -> [f32; 2] {
        if self.kind.cell.kind == CellKind::MinGru {
            let x = gates[j];
            [sigmoid(-x), sigmoid(x) * gates[h + j]]
        } else {
            let d = log_sigmoid(gates[j]) - log_sigmoid(gates[h + j]);
            [sigmoid(d), sigmoid(-d) * gates[2 * h + j]]
        }
    }

    /// Calls `each` with (unit of the batch, a, c) for all rows of step t.
    #[inline(always)]
    fn pairs(&self, t: usize, gates: &[f32], mut each: impl FnMut(usize, f32, f32)) {
        let (h, batch) = (self.p.hidden as usize, self.p.batch as usize);
        let words = self.kind.cell.gates() * h;
        let zone = self.zone.at(self.p.first as usize + t, batch);
        for row in 0..batch {
            let (valid, reset) = (self.has(t, row, VALID), self.has(t, row, RESET));
            let gates = &gates[row * words..][..words];
            for j in 0..h {
                let [mut a, mut c] = [1.0, 0.0];
                if valid {
                    let z = zone.get(0, row, j);
                    [a, c] = self.coefficients(gates, h, j);
                    (a, c) = (z + (1.0 - z) * a, (1.0 - z) * c);
                }
                each(row * h + j, if reset { 0.0 } else { a }, c);
            }
        }
    }

    /// The gates' gradients of step t, over the input products: `total` is dh after the step.
    #[inline(always)]
    fn gradients(&self, t: usize, gates: &mut [f32], old: &[f32], total: &[f32]) {
        let (h, batch) = (self.p.hidden as usize, self.p.batch as usize);
        let words = self.kind.cell.gates() * h;
        let zone = self.zone.at(self.p.first as usize + t, batch);
        for row in 0..batch {
            let gates = &mut gates[row * words..][..words];
            if !self.has(t, row, VALID) {
                gates.fill(0.0);
                continue;
            }
            let reset = self.has(t, row, RESET);
            for j in 0..h {
                let d = (1.0 - zone.get(0, row, j)) * total[row * h + j];
                let old = if reset { 0.0 } else { old[row * h + j] };
                if self.kind.cell.kind == CellKind::MinGru {
                    let (x, n) = (gates[j], gates[h + j]);
                    let z = sigmoid(x);
                    gates[j] = d * (n - old) * z * sigmoid(-x);
                    gates[h + j] = d * z;
                } else {
                    let (x_f, x_i, n) = (gates[j], gates[h + j], gates[2 * h + j]);
                    let share = log_sigmoid(x_f) - log_sigmoid(x_i);
                    let rest = sigmoid(-share);
                    let da = d * (old - n) * sigmoid(share) * rest;
                    gates[j] = da * sigmoid(-x_f);
                    gates[h + j] = -da * sigmoid(-x_i);
                    gates[2 * h + j] = d * rest;
                }
            }
        }
    }

    /// Steps of a stretch when there are so many threads.
    fn length(&self, threads: usize) -> usize {
        (self.p.time as usize).div_ceil(threads.max(1))
    }
}

pub fn scan_forward(context: &Context, kernel: &ScanForward, mut bound: Bound) {
    let p = &kernel.params;
    let [time, batch, hidden] = [p.time, p.batch, p.hidden].map(|x| x as usize);
    let (units, words) = (batch * hidden, batch * kernel.kind.cell.saved() * hidden);
    let states = bound.write("states");
    let gates = &bound.read("gates")[p.gates_offset as usize..][..time * words];
    let scan = Scan::new(p, &kernel.kind, kernel.reverse, &bound);
    let length = scan.length(context.threads);
    // Slots in time order, without the initial one.
    let (initial, slots) = if scan.reverse {
        let (slots, initial) = states.split_at_mut(time * units);
        (&*initial, slots)
    } else {
        let (initial, slots) = states.split_at_mut(units);
        (&*initial, slots)
    };
    let order = |k: usize, n: usize| if scan.reverse { n - 1 - k } else { k };
    let run = |stretch: &mut [f32], first: usize, start: &[f32]| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let n = stretch.len() / units;
                for k in 0..n {
                    let at = order(k, n);
                    let t = first + at;
                    // The state before lies beside this one, or is the start.
                    let (low, high) = stretch
                        .split_at_mut(at.max(if scan.reverse { at + 1 } else { at }) * units);
                    let (before, now): (&[f32], &mut [f32]) = match (k, scan.reverse) {
                        (0, false) => (start, &mut high[..units]),
                        (0, true) => (start, &mut low[at * units..]),
                        (_, false) => (&low[(at - 1) * units..], &mut high[..units]),
                        (_, true) => (&high[..units], &mut low[at * units..]),
                    };
                    scan.pairs(t, &gates[t * words..], |i, a, c| now[i] = a * before[i] + c);
                }
            },
        );
    };
    if time <= length {
        return run(slots, 0, initial);
    }
    let mut starts: Vec<Vec<f32>> = Vec::new();
    let count = time.div_ceil(length);
    let sums: Vec<[Vec<f32>; 2]> = (0..count)
        .into_par_iter()
        .map(|stretch| {
            let (mut a, mut c) = (vec![1.0; units], vec![0.0; units]);
            let first = stretch * length;
            let n = length.min(time - first);
            for k in 0..n {
                let t = first + order(k, n);
                scan.pairs(t, &gates[t * words..], |i, pa, pc| {
                    a[i] *= pa;
                    c[i] = pa * c[i] + pc;
                });
            }
            [a, c]
        })
        .collect();
    let mut state = initial.to_vec();
    for k in 0..count {
        starts.push(state.clone());
        let [a, c] = &sums[order(k, count)];
        for i in 0..units {
            state[i] = a[i] * state[i] + c[i];
        }
    }
    slots.par_chunks_mut(length * units).enumerate().for_each(|(stretch, slots)| {
        run(slots, stretch * length, &starts[order(stretch, count)]);
    });
}

pub fn scan_backward(context: &Context, kernel: &ScanBackward, mut bound: Bound) {
    let p = &kernel.params;
    let [time, batch, hidden] = [p.time, p.batch, p.hidden].map(|x| x as usize);
    let (units, words) = (batch * hidden, batch * kernel.kind.cell.saved() * hidden);
    let gates = &mut bound.write("gates")[p.gates_offset as usize..][..time * words];
    let d_initial = bound.write("d_initial");
    let (carry, states) = (bound.read("carry"), bound.read("states"));
    let d_output = bound.read("d_output").get(p.d_output_offset as usize..).unwrap_or_default();
    let scan = Scan::new(p, &kernel.kind, kernel.reverse, &bound);
    let length = scan.length(context.threads);
    let count = time.div_ceil(length);
    // From the last step of the forward order to the first.
    let order = |k: usize, n: usize| if scan.reverse { k } else { n - 1 - k };
    let add_output = |g: &mut [f32], t: usize| {
        if let Some(d) = d_output.get(t * units..(t + 1) * units) {
            g.iter_mut().zip(d).for_each(|(g, d)| *g += d);
        }
    };
    let sums: Vec<[Vec<f32>; 2]> = (0..if count > 1 { count } else { 0 })
        .into_par_iter()
        .map(|stretch| {
            let (mut a, mut c) = (vec![1.0; units], vec![0.0; units]);
            let first = stretch * length;
            let n = length.min(time - first);
            for k in 0..n {
                let t = first + order(k, n);
                add_output(&mut c, t);
                scan.pairs(t, &gates[t * words..], |i, pa, _| {
                    a[i] *= pa;
                    c[i] *= pa;
                });
            }
            [a, c]
        })
        .collect();
    let mut starts: Vec<Vec<f32>> = Vec::new();
    let mut g = carry[..units].to_vec();
    for k in 0..count {
        starts.push(g.clone());
        if let Some([a, c]) = sums.get(order(k, count)) {
            for i in 0..units {
                g[i] = a[i] * g[i] + c[i];
            }
        }
    }
    let ends: Vec<(usize, Vec<f32>)> = gates
        .par_chunks_mut(length * words)
        .enumerate()
        .map(|(stretch, gates)| {
            let mut g = starts[order(stretch, count)].clone();
            let n = gates.len() / words;
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for k in 0..n {
                        let at = order(k, n);
                        let t = stretch * length + at;
                        add_output(&mut g, t);
                        let total = g.clone();
                        let gates = &mut gates[at * words..][..words];
                        scan.pairs(t, gates, |i, a, _| g[i] *= a);
                        let slot = if scan.reverse { t + 1 } else { t };
                        scan.gradients(t, gates, &states[slot * units..], &total);
                    }
                },
            );
            (stretch, g)
        })
        .collect();
    if let Some((_, g)) = ends.iter().find(|(stretch, _)| order(*stretch, count) == count - 1) {
        d_initial[..units].copy_from_slice(g);
    }
}
