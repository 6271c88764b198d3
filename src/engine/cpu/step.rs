//! `step_forward` and `step_backward`: the recurrent product and the gates of one time step.
//!
//! Batch rows are independent, so a step is halved by rows until there is a part for each thread.

use super::cell::{BackwardRow, ForwardRow, cell_backward, cell_forward};
use super::product::{Strided, product};
use super::{Context, Reads, Writes};
use crate::kernel::{CellKind, StepBackward, StepForward};

/// Splits `[S,T+1,B,H]` into each state's slots `t` (read) and `t + 1` (written).
fn slots(
    states: &mut [f32],
    slot: usize,
    words: usize,
    time: usize,
) -> ([&[f32]; 2], [&mut [f32]; 2]) {
    let (mut old, mut new): ([&[f32]; 2], [&mut [f32]; 2]) = Default::default();
    for (s, state) in states.chunks_mut((time + 1) * words).take(2).enumerate() {
        let (before, after) = state.split_at_mut((slot + 1) * words);
        old[s] = &before[slot * words..];
        new[s] = &mut after[..words];
    }
    (old, new)
}

/// The first `n` words of each state, and the rest; an absent state stays empty.
fn halve(parts: [&[f32]; 2], n: usize) -> ([&[f32]; 2], [&[f32]; 2]) {
    let [a, b] = parts.map(|p| p.split_at(n.min(p.len())));
    ([a.0, b.0], [a.1, b.1])
}

fn halve_mut(parts: [&mut [f32]; 2], n: usize) -> ([&mut [f32]; 2], [&mut [f32]; 2]) {
    let [a, b] = parts.map(|p| {
        let n = n.min(p.len());
        p.split_at_mut(n)
    });
    ([a.0, b.0], [a.1, b.1])
}

/// What all rows of a step share.
struct Shared<'a> {
    cell: CellKind,
    hidden: usize,
    /// R \[G·H, H\], or its transpose.
    weights: &'a [f32],
    transposed: bool,
    bias: &'a [f32],
}

impl Shared<'_> {
    /// Words of one row of the gate buffer.
    fn row(&self) -> usize {
        self.cell.saved() * self.hidden
    }

    /// Rᵀ from weight block `first` on, as the right operand of h·Rᵀ.
    fn recurrent(&self, first: usize) -> Strided<'_> {
        let h = self.hidden;
        if self.transposed {
            Strided::new(&self.weights[first * h..], self.cell.gates() * h, false)
        } else {
            Strided::new(&self.weights[first * h * h..], h, true)
        }
    }
}

/// Some rows of a forward step.
struct Forward<'a> {
    rows: usize,
    gates: &'a mut [f32],
    old: [&'a [f32]; 2],
    new: [&'a mut [f32]; 2],
}

impl Forward<'_> {
    fn run(self, shared: &Shared, threads: usize) {
        if threads > 1 && self.rows > 1 {
            let rows = self.rows / 2;
            let n = rows * shared.hidden;
            let (gates_a, gates_b) = self.gates.split_at_mut(rows * shared.row());
            let (old_a, old_b) = halve(self.old, n);
            let (new_a, new_b) = halve_mut(self.new, n);
            let a = Forward { rows, gates: gates_a, old: old_a, new: new_a };
            let b = Forward { rows: self.rows - rows, gates: gates_b, old: old_b, new: new_b };
            rayon::join(|| a.run(shared, threads / 2), || b.run(shared, threads - threads / 2));
            return;
        }
        let (h, row) = (shared.hidden, shared.row());
        for &(saved, first, count) in shared.cell.recurrent_blocks() {
            product(
                [self.rows, count * h, h],
                Strided::new(self.old[0], h, false),
                shared.recurrent(first),
                &mut self.gates[saved * h..],
                row,
                // A product with a place of its own replaces what was there.
                saved == first,
                1,
            );
        }
        let [h_new, c_new] = self.new;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            // `move`: a closure that only borrows is called through a shim that is not compiled for
            // the instruction set.
            move || {
                let gates = self.gates;
                for b in 0..self.rows {
                    let part = b * h..(b + 1) * h;
                    cell_forward(
                        shared.cell,
                        ForwardRow {
                            gates: &mut gates[b * row..(b + 1) * row],
                            bias: shared.bias,
                            old: self.old.map(|s| s.get(part.clone()).unwrap_or_default()),
                            new: [
                                &mut h_new[part.clone()],
                                c_new.get_mut(part).unwrap_or_default(),
                            ],
                        },
                    );
                }
            },
        );
    }
}

/// Rᵀ \[H, G·H\] from R \[G·H, H\].
fn transpose(weights: &[f32], hidden: usize, rows: usize, out: &mut Vec<f32>) {
    out.resize(rows * hidden, 0.0);
    // Blocks that fit the first-level cache, so that neither side is walked by long strides.
    const BLOCK: usize = 32;
    for i0 in (0..rows).step_by(BLOCK) {
        for k0 in (0..hidden).step_by(BLOCK) {
            for i in i0..(i0 + BLOCK).min(rows) {
                for k in k0..(k0 + BLOCK).min(hidden) {
                    out[k * rows + i] = weights[i * hidden + k];
                }
            }
        }
    }
}

/// `transposed` is this layer's own scratch: step 0 fills it with Rᵀ, which the product of the later
/// steps reads in the order it lies in. A single step is not worth it.
pub fn step_forward(
    context: &Context,
    kernel: &StepForward,
    read: Reads,
    write: Writes,
    transposed: &mut Vec<f32>,
) {
    let [weights, bias] = read[..] else { unreachable!("two read bindings") };
    let [gates, states] = write else { unreachable!("two written bindings") };
    let p = &kernel.params;
    let [time, batch, hidden, t] = [p.time, p.batch, p.hidden, p.step].map(|x| x as usize);
    let mut weights = &weights[p.w_offset as usize..];
    // One row reads the weights once either way.
    let use_transposed = time > 1 && batch > 1;
    if use_transposed {
        if t == 0 {
            transpose(weights, hidden, kernel.cell.gates() * hidden, transposed);
        }
        weights = transposed;
    }
    let bias = &bias[p.b_offset as usize..];
    let shared = Shared { cell: kernel.cell, hidden, weights, transposed: use_transposed, bias };
    let row = shared.row();
    let (old, new) = slots(states, t, batch * hidden, time);
    let gates = &mut gates[p.gates_offset as usize + t * batch * row..][..batch * row];
    Forward { rows: batch, gates, old, new }.run(&shared, context.threads);
}

/// Some rows of a backward step. `later` is empty at the last step, `gates` at the initial state.
struct Backward<'a> {
    rows: usize,
    later: &'a [f32],
    gates: &'a mut [f32],
    old: [&'a [f32]; 2],
    new: [&'a [f32]; 2],
    carry: [&'a mut [f32]; 2],
    d_output: Option<&'a [f32]>,
}

impl Backward<'_> {
    fn run(self, shared: &Shared, threads: usize) {
        let (h, row) = (shared.hidden, shared.row());
        if threads > 1 && self.rows > 1 {
            let rows = self.rows / 2;
            let (n, g) = (rows * h, rows * row);
            let (later_a, later_b) = self.later.split_at(g.min(self.later.len()));
            let mid = g.min(self.gates.len());
            let (gates_a, gates_b) = self.gates.split_at_mut(mid);
            let (old_a, old_b) = halve(self.old, n);
            let (new_a, new_b) = halve(self.new, n);
            let (carry_a, carry_b) = halve_mut(self.carry, n);
            let (d_a, d_b) = self.d_output.map(|d| d.split_at(n)).unzip();
            let a = Backward {
                rows,
                later: later_a,
                gates: gates_a,
                old: old_a,
                new: new_a,
                carry: carry_a,
                d_output: d_a,
            };
            let b = Backward {
                rows: self.rows - rows,
                later: later_b,
                gates: gates_b,
                old: old_b,
                new: new_b,
                carry: carry_b,
                d_output: d_b,
            };
            rayon::join(|| a.run(shared, threads / 2), || b.run(shared, threads - threads / 2));
            return;
        }
        let [dh, dc] = self.carry;
        if !self.later.is_empty() {
            for &(saved, first, count) in shared.cell.recurrent_blocks() {
                product(
                    [self.rows, h, count * h],
                    Strided::new(&self.later[saved * h..], row, false),
                    Strided::new(&shared.weights[first * h * h..], h, false),
                    dh,
                    h,
                    true,
                    1,
                );
            }
        }
        if self.gates.is_empty() {
            return;
        }
        pulp::Arch::new().dispatch(
            #[inline(always)]
            // `move`: a closure that only borrows is called through a shim that is not compiled for
            // the instruction set.
            move || {
                let gates = self.gates;
                for b in 0..self.rows {
                    let part = b * h..(b + 1) * h;
                    cell_backward(
                        shared.cell,
                        BackwardRow {
                            gates: &mut gates[b * row..(b + 1) * row],
                            old: self.old.map(|s| s.get(part.clone()).unwrap_or_default()),
                            new: self.new.map(|s| s.get(part.clone()).unwrap_or_default()),
                            d_output: self.d_output.map(|d| &d[part.clone()]),
                            carry: [&mut dh[part.clone()], dc.get_mut(part).unwrap_or_default()],
                        },
                    );
                }
            },
        );
    }
}

pub fn step_backward(context: &Context, kernel: &StepBackward, read: Reads, write: Writes) {
    let p = &kernel.params;
    let [time, batch, hidden, step] = [p.time, p.batch, p.hidden, p.step].map(|x| x as usize);
    let words = batch * hidden;
    let weights = if kernel.is_initial() { read[1] } else { read[0] };
    let weights = &weights[p.w_offset as usize..];
    let shared = Shared { cell: kernel.cell, hidden, weights, transposed: false, bias: &[] };
    let slab = batch * shared.row();
    let first = p.gates_offset as usize;
    let (mut old, mut new): ([&[f32]; 2], [&[f32]; 2]) = Default::default();
    let Some(t) = step.checked_sub(1) else {
        let (dh, dc) = write[0].split_at_mut(words);
        let later = &read[0][first..][..slab];
        let (gates, carry, d_output): (&mut [f32], _, _) = (&mut [], [dh, dc], None);
        let rows = Backward { rows: batch, later, gates, old, new, carry, d_output };
        return rows.run(&shared, context.threads);
    };
    let [gates, carry] = write else { unreachable!("two written bindings") };
    let (before, later) = gates[first..][..time * slab].split_at_mut(step * slab);
    let later = if step < time { &later[..slab] } else { &[] };
    for (s, state) in read[1].chunks((time + 1) * words).take(kernel.cell.states()).enumerate() {
        old[s] = &state[t * words..][..words];
        new[s] = &state[(t + 1) * words..][..words];
    }
    let d_output = read.get(2).map(|d| &d[p.d_output_offset as usize + t * words..][..words]);
    let (dh, dc) = carry.split_at_mut(words);
    let (gates, carry) = (&mut before[t * slab..], [dh, dc]);
    let rows = Backward { rows: batch, later, gates, old, new, carry, d_output };
    rows.run(&shared, context.threads);
}
