//! `norm_forward` and `norm_backward`: a time step's epilogue with layer norm, by whole rows.

use super::cell::{
    BackwardRow, Chosen, ForwardRow, STATES, cell_backward, cell_forward, output, output_backward,
};
use super::rows::{Rows, row, row_mut};
use super::step::{Shared, carries, old_slots, own_words, slots};
use super::{Bound, Context, Scratch};
use crate::kernel::{Cell, CellKind, NORM_WORDS, NormBackward, NormForward, StepParams};

/// Mean and 1/√(variance + ε).
fn statistics(values: &[f32], epsilon: f32) -> [f32; 2] {
    let n = values.len() as f32;
    let mean = lanes_sum(values, |v| v) / n;
    let variance = lanes_sum(values, |v| (v - mean) * (v - mean)) / n;
    [mean, 1.0 / (variance + epsilon).sqrt()]
}

/// A sum by 16 partial sums, which vectorises and rounds less than one after the other.
fn lanes_sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&v| f(v)).sum::<f32>()
}

/// Vectors by unit before the gains: the peepholes.
fn gain(cell: &Cell, unit: &[f32], hidden: usize) -> usize {
    let own = cell.gates() + if cell.kind == CellKind::Lstm { 2 } else { 0 };
    unit.len() / hidden - own
}

/// The saved block with R of `gate`, and of its gradient.
fn block(cell: &Cell, gate: usize) -> usize {
    if cell.kind == CellKind::Gru && gate == 2 { 3 } else { gate }
}

/// This step's rows of a buffer with `words` words a row.
fn at_step<'a>(p: &StepParams, all: &'a mut [f32], first: usize, words: usize) -> &'a mut [f32] {
    let batch = p.batch as usize;
    &mut all[first + p.t as usize * batch * words..][..batch * words]
}

pub fn norm_forward(
    context: &Context,
    kernel: &NormForward,
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, cell) = (&kernel.params, &kernel.kind.cell);
    let [batch, hidden] = [p.batch, p.hidden].map(|x| x as usize);
    scratch.zero((cell.gates() * hidden).max(p.width as usize));
    let Scratch { rows: scratch_rows, zeros, .. } = scratch;
    let shared = Shared::new(p, &kernel.kind, &bound, zeros);
    let (row_words, sums) = (cell.saved() * hidden, cell.gates() * hidden);
    let recurrent = &bound.read("recurrent")[p.t as usize * batch * sums..][..batch * sums];
    let gates = at_step(p, bound.write("gates"), p.gates_offset as usize, row_words);
    let norms = at_step(p, bound.write("norms"), 0, NORM_WORDS);
    let (old, [h, c, n, m]) = slots(bound.write("states"), p, cell);
    scratch_rows.resize(scratch_rows.len().max(batch * hidden), 0.0);
    let rows = Rows {
        first: 0,
        count: batch,
        read: [old[0], old[1], old[2], old[3], (recurrent, sums)],
        write: [h, c, n, m, (gates, row_words), (norms, NORM_WORDS), (scratch_rows, hidden)],
    };
    let shared = &shared;
    rows.run(context.threads, &|row| shared.valid(row), &move |mut rows: Rows<'_, 5, 7>| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                for b in 0..rows.count {
                    forward_row(shared, &mut rows, b);
                }
            },
        );
    });
}

/// R = γ⊙N(U·h̃) + b′, the cell, and for the LSTM h' = o⊙h(γ_c⊙N(c') + β_c).
#[inline(always)]
fn forward_row(shared: &Shared, rows: &mut Rows<'_, 5, 7>, b: usize) {
    let (p, cell) = (shared.p, shared.cell);
    let (h, global) = (p.hidden as usize, rows.first + b);
    let old = shared.old(&rows.read, rows.first, b);
    let raw = row(rows.read[STATES], b);
    let [s0, s1, s2, s3, gates, norms, y] = &mut rows.write;
    let mut new = [row_mut(s0, b), row_mut(s1, b), row_mut(s2, b), row_mut(s3, b)];
    let gates = row_mut(gates, b);
    let (gates, unprojected) = gates.split_at_mut(own_words(cell, h));
    let norms = row_mut(norms, b);
    let [mean, scale] = statistics(raw, p.epsilon);
    norms[..2].copy_from_slice(&[mean, scale]);
    if !shared.valid(global) {
        for s in 0..cell.states() {
            if s > 0 || cell.projection.is_none() {
                new[s].copy_from_slice(old[s]);
            }
        }
        gates.fill(0.0);
        norms[2..].fill(0.0);
        return;
    }
    let gains = gain(cell, shared.unit, h);
    for g in 0..cell.gates() {
        let gain = &shared.unit[(gains + g) * h..][..h];
        let (raw, bias) = (&raw[g * h..][..h], &shared.bias[g * h..][..h]);
        let target = &mut gates[block(cell, g) * h..][..h];
        let keep = if block(cell, g) == g { 1.0 } else { 0.0 };
        for j in 0..h {
            // A block of its own holds nothing yet, not even numbers.
            let x = if keep == 1.0 { target[j] } else { 0.0 };
            target[j] = x + (gain[j] * ((raw[j] - mean) * scale) + bias[j]);
        }
    }
    let [h_new, c_new, n_new, m_new] = &mut new;
    let to = if cell.projection.is_some() { unprojected } else { &mut **h_new };
    let bias = &shared.zeros[..cell.gates() * h];
    let states = [&mut *to, &mut **c_new, &mut **n_new, &mut **m_new];
    let (unit, r, mask) = (shared.unit, &[][..], &[][..]);
    cell_forward(cell, ForwardRow { gates: &mut *gates, bias, old, new: states, unit, r, mask });
    if cell.kind == CellKind::Lstm {
        let [mean_c, scale_c] = statistics(c_new, p.epsilon);
        norms[2..].copy_from_slice(&[mean_c, scale_c]);
        let y = row_mut(y, b);
        normal_cell(cell, shared.unit, c_new, [mean_c, scale_c], y);
        let o = &gates[(cell.gates() - 1) * h..];
        output(Chosen::new(cell), o, y, to);
    }
    if shared.zone.is_on() {
        for s in usize::from(cell.projection.is_some())..cell.states() {
            shared.zone.mix(s, global, old[s], new[s]);
        }
    }
}

/// y = γ_c⊙N(c) + β_c.
#[inline(always)]
fn normal_cell(cell: &Cell, unit: &[f32], c: &[f32], [mean, scale]: [f32; 2], y: &mut [f32]) {
    let h = c.len();
    let first = (unit.len() / h - 2) * h;
    debug_assert_eq!(cell.kind, CellKind::Lstm);
    let (gain, shift) = unit[first..].split_at(h);
    for j in 0..h {
        y[j] = gain[j] * ((c[j] - mean) * scale) + shift[j];
    }
}

pub fn norm_backward(
    context: &Context,
    kernel: &NormBackward,
    mut bound: Bound,
    scratch: &mut Scratch,
) {
    let (p, cell) = (&kernel.params, &kernel.kind.cell);
    let [batch, hidden, width] = [p.batch, p.hidden, p.width].map(|x| x as usize);
    scratch.zero((cell.gates() * hidden).max(width));
    let Scratch { rows: scratch_rows, zeros, .. } = scratch;
    let shared = Shared::new(p, &kernel.kind, &bound, zeros);
    let (row_words, sums) = (cell.saved() * hidden, cell.gates() * hidden);
    let unit_words = cell.unit_vectors() * hidden;
    let norms = &bound.read("norms")[p.t as usize * batch * NORM_WORDS..][..batch * NORM_WORDS];
    let d_hidden = match cell.projection {
        Some(_) => (bound.read("d_unprojected"), hidden),
        None => (&bound.read("d_candidate")[p.candidate_offset as usize..][..batch * width], width),
    };
    let gates = at_step(p, bound.write("gates"), p.gates_offset as usize, row_words);
    let recurrent = at_step(p, bound.write("recurrent"), 0, sums);
    let old = old_slots(bound.read("states"), p, cell);
    let [c0, c1, c2, c3] = carries(bound.write("carry"), p, cell);
    let words = 4 * hidden;
    scratch_rows.resize(scratch_rows.len().max(batch * words), 0.0);
    let rows = Rows {
        first: 0,
        count: batch,
        read: [old[0], old[1], old[2], old[3], (norms, NORM_WORDS), d_hidden],
        write: [
            c0,
            c1,
            c2,
            c3,
            (gates, row_words),
            (recurrent, sums),
            (bound.write("d_unit"), unit_words),
            (scratch_rows, words),
        ],
    };
    let shared = &shared;
    rows.run(context.threads, &|row| shared.valid(row), &move |mut rows: Rows<'_, 6, 8>| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                for b in 0..rows.count {
                    backward_row(shared, &mut rows, b);
                }
            },
        );
    });
}

/// dv = (dv̂ − Σdv̂/n − v̂⊙Σ(dv̂⊙v̂)/n)·scale: `d` holds dv̂ and receives dv, `normal` is v̂.
#[inline(always)]
fn norm_gradient(d: &mut [f32], normal: impl Fn(usize) -> f32, scale: f32) {
    let n = d.len() as f32;
    let (mut sum, mut dot) = ([0f32; 16], [0f32; 16]);
    for (i, d) in d.iter().enumerate() {
        sum[i % 16] += d;
        dot[i % 16] += d * normal(i);
    }
    let (sum, dot) = (sum.iter().sum::<f32>() / n, dot.iter().sum::<f32>() / n);
    for (i, d) in d.iter_mut().enumerate() {
        *d = (*d - sum - normal(i) * dot) * scale;
    }
}

#[inline(always)]
fn backward_row(shared: &Shared, rows: &mut Rows<'_, 6, 8>, b: usize) {
    let (p, cell) = (shared.p, shared.cell);
    let (h, global) = (p.hidden as usize, rows.first + b);
    let old = shared.old(&rows.read, rows.first, b);
    let norms = row(rows.read[STATES], b);
    let d_hidden = row(rows.read[STATES + 1], b);
    let [c0, c1, c2, c3, gates, recurrent, d_unit, scratch] = &mut rows.write;
    let mut carry = [row_mut(c0, b), row_mut(c1, b), row_mut(c2, b), row_mut(c3, b)];
    let gates = row_mut(gates, b);
    let gates = &mut gates[..own_words(cell, h)];
    let recurrent = row_mut(recurrent, b);
    let d_unit = row_mut(d_unit, b);
    let (valid, reset) = (shared.valid(global), shared.reset(global));
    let gains = gain(cell, shared.unit, h);
    if !valid {
        gates.fill(0.0);
        recurrent.fill(0.0);
        if reset {
            carry[1..].iter_mut().for_each(|c| c.fill(0.0));
        }
        return;
    }
    let scratch = row_mut(scratch, b);
    let (d_o, rest) = scratch.split_at_mut(h);
    let (d_y, rest) = rest.split_at_mut(h);
    let (normal, passed) = rest.split_at_mut(h);
    if cell.kind == CellKind::Lstm {
        let coupled = cell.coupled;
        // The candidate of c once more, as the forward pass had it.
        let clip = cell.cell_clip.unwrap_or(f32::INFINITY);
        let (i, f, g) = (&gates[..h], &gates[h..2 * h], &gates[(cell.gates() - 2) * h..][..h]);
        for j in 0..h {
            let f = if coupled { 1.0 - i[j] } else { f[j] };
            let c = (f * old[1][j] + i[j] * g[j]).clamp(-clip, clip);
            normal[j] = (c - norms[2]) * norms[3];
        }
        let first = (shared.unit.len() / h - 2) * h;
        let (gain_c, shift_c) = shared.unit[first..].split_at(h);
        for j in 0..h {
            d_y[j] = gain_c[j] * normal[j] + shift_c[j];
            d_o[j] = d_hidden[j];
        }
        output_backward(Chosen::new(cell), &gates[(cell.gates() - 1) * h..], d_y, d_o);
        let (d_gain, d_shift) = d_unit[first..].split_at_mut(h);
        for j in 0..h {
            d_gain[j] += d_y[j] * normal[j];
            d_shift[j] += d_y[j];
            d_y[j] *= gain_c[j];
        }
        norm_gradient(d_y, |j| normal[j], norms[3]);
        let [_, c1, ..] = &mut carry;
        if shared.zone.is_on() {
            shared.zone.split(1, global, c1, passed);
        }
        let row = BackwardRow {
            gates: &mut *gates,
            old,
            carry: [&mut [], &mut **c1, &mut [], &mut []],
            unit: shared.unit,
            d_unit: &mut *d_unit,
            normed: Some([&*d_o, &*d_y]),
        };
        cell_backward(cell, row);
        if shared.zone.is_on() {
            for (c, passed) in c1.iter_mut().zip(&*passed) {
                *c += passed;
            }
        }
        if reset {
            c1.fill(0.0);
        }
    } else {
        // h's zoneout was split in the phase before; what passed lies in the carry.
        d_o.copy_from_slice(d_hidden);
        let row = BackwardRow {
            gates: &mut *gates,
            old,
            carry: [&mut *d_o, &mut [], &mut [], &mut []],
            unit: shared.unit,
            d_unit: &mut *d_unit,
            normed: None,
        };
        cell_backward(cell, row);
        for (c, d) in carry[0].iter_mut().zip(&*d_o) {
            *c = if reset { 0.0 } else { *c + d };
        }
    }
    let (mean, scale) = (norms[0], norms[1]);
    let n = cell.gates() * h;
    let (mut sum, mut dot) = ([0f32; 16], [0f32; 16]);
    for g in 0..cell.gates() {
        let d_r = &gates[block(cell, g) * h..][..h];
        let gain = &shared.unit[(gains + g) * h..][..h];
        let d_gain = &mut d_unit[(gains + g) * h..][..h];
        let raw = &recurrent[g * h..][..h];
        for j in 0..h {
            let normal = (raw[j] - mean) * scale;
            let d = d_r[j] * gain[j];
            sum[j % 16] += d;
            dot[j % 16] += d * normal;
            d_gain[j] += d_r[j] * normal;
        }
    }
    let (sum, dot) = (sum.iter().sum::<f32>() / n as f32, dot.iter().sum::<f32>() / n as f32);
    for g in 0..cell.gates() {
        let d_r = &gates[block(cell, g) * h..][..h];
        let gain = &shared.unit[(gains + g) * h..][..h];
        let raw = &mut recurrent[g * h..][..h];
        for j in 0..h {
            let normal = (raw[j] - mean) * scale;
            raw[j] = (d_r[j] * gain[j] - sum - normal * dot) * scale;
        }
    }
}
