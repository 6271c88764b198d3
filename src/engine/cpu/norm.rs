//! `norm_forward` and `norm_backward`: a time step's epilogue with layer norm, by whole rows.

use super::cell::{
    BackwardRow, Chosen, ForwardRow, STATES, cell_backward, cell_forward, gru_candidate_forward,
    output, output_backward,
};
use super::rows::{PartRows, row, row_mut};
use super::step::{Shared, carries, old_slots, own_words, slots};
use super::{Bound, Context, Scratch};
use crate::kernel::{
    BackwardPhase, Cell, CellKind, ForwardPhase, NORM_WORDS, NormBackward, NormForward, StepParams,
};

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
    let own = cell.gates() + if norms_cell(cell) { 2 } else { 0 };
    unit.len() / hidden - own
}

/// Whether h sees the cell state through a norm.
fn norms_cell(cell: &Cell) -> bool {
    cell.kind == CellKind::Lstm
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
    let states = bound.write("states");
    let (old, [h, c, n, m]) = match states.is_empty() {
        true => (old_slots(bound.read("states"), p, cell), Default::default()),
        false => slots(states, p, cell),
    };
    scratch_rows.resize(scratch_rows.len().max(batch * sums), 0.0);
    let rows = PartRows {
        first: 0,
        count: batch,
        read: [old[0], old[1], old[2], old[3], (recurrent, sums)],
        write: [h, c, n, m, (gates, row_words), (norms, NORM_WORDS), (scratch_rows, sums)],
    };
    let shared = &shared;
    rows.run(context.threads, &|row| shared.valid(row), &move |mut rows: PartRows<'_, 5, 7>| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                for b in 0..rows.count {
                    forward_row(shared, kernel, &mut rows, b);
                }
            },
        );
    });
}

/// R = γ⊙N(U·h̃) + b′, the cell, and for the LSTM h' = o⊙h(γ_c⊙N(c') + β_c).
#[inline(always)]
fn forward_row(shared: &Shared, kernel: &NormForward, rows: &mut PartRows<'_, 5, 7>, b: usize) {
    let (p, cell) = (shared.p, shared.cell);
    let (h, global) = (p.hidden as usize, rows.first + b);
    let old = shared.old(&rows.read, rows.first, b);
    let normed = kernel.gates();
    let raw = &row(rows.read[STATES], b)[normed.start * h..normed.end * h];
    let [s0, s1, s2, s3, gates, norms, scratch] = &mut rows.write;
    let mut new = [row_mut(s0, b), row_mut(s1, b), row_mut(s2, b), row_mut(s3, b)];
    let gates = row_mut(gates, b);
    let (gates, unprojected) = gates.split_at_mut(own_words(cell, h));
    let (norms, scratch) = (row_mut(norms, b), row_mut(scratch, b));
    let [mean, scale] = statistics(raw, p.epsilon);
    // The second norm of a step lies behind the first.
    norms[normed.start..][..2].copy_from_slice(&[mean, scale]);
    let candidate = kernel.phase == ForwardPhase::Candidate;
    let own_state = usize::from(cell.projection.is_some());
    if !shared.valid(global) {
        for s in own_state..cell.states() {
            let old = &old[s][..new[s].len()];
            new[s].copy_from_slice(old);
        }
        if !candidate {
            gates.fill(0.0);
            norms[2..].fill(0.0);
        }
        return;
    }
    let gains = gain(cell, shared.unit, h);
    let custom = cell.kind == CellKind::Custom;
    for (i, g) in normed.enumerate() {
        let gain = &shared.unit[(gains + g) * h..][..h];
        let (raw, bias) = (&raw[i * h..][..h], &shared.bias[g * h..][..h]);
        let target = match custom {
            // Its sums come apart from x.
            true => &mut scratch[g * h..][..h],
            false => &mut gates[block(cell, g) * h..][..h],
        };
        let added = if !custom && block(cell, g) == g { 1.0 } else { 0.0 };
        for j in 0..h {
            // A block of its own holds nothing yet, not even numbers.
            let x = if added == 1.0 { target[j] } else { 0.0 };
            target[j] = x + (gain[j] * ((raw[j] - mean) * scale) + bias[j]);
        }
    }
    let [h_new, c_new, n_new, m_new] = &mut new;
    let to = if cell.projection.is_some() { unprojected } else { &mut **h_new };
    let bias = &shared.zeros[..cell.gates() * h];
    let states = [&mut *to, &mut **c_new, &mut **n_new, &mut **m_new];
    let (unit, r) = (shared.unit, &*scratch);
    let before = cell.kind == CellKind::GruResetBefore;
    let mask = if before { shared.candidate_mask(global) } else { &[] };
    let row = ForwardRow { gates: &mut *gates, bias, old, new: states, unit, r, mask };
    if candidate {
        gru_candidate_forward(Chosen::new(cell), row);
    } else {
        cell_forward(pulp::Arch::new(), cell, row);
    }
    if norms_cell(cell) {
        let [mean_c, scale_c] = statistics(c_new, p.epsilon);
        norms[2..].copy_from_slice(&[mean_c, scale_c]);
        let y = &mut scratch[..h];
        normal_cell(cell, shared.unit, c_new, [mean_c, scale_c], y);
        let o = &gates[(cell.gates() - 1) * h..];
        output(Chosen::new(cell), o, y, to);
    }
    if shared.zone.is_on() && (candidate || !before) {
        for s in own_state..cell.states() {
            shared.zone.mix(s, global, 0, old[s], new[s]);
        }
    }
}

/// y = γ_c⊙N(c) + β_c.
#[inline(always)]
fn normal_cell(cell: &Cell, unit: &[f32], c: &[f32], [mean, scale]: [f32; 2], y: &mut [f32]) {
    let h = c.len();
    let first = (unit.len() / h - 2) * h;
    debug_assert!(norms_cell(cell));
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
    // The gradient of h; after the cell's derivative what it left in the gate rows.
    let given = match (bound.read("gates"), bound.read("d_unprojected")) {
        ([], []) => (&bound.read("d_candidate")[p.candidate_offset as usize..], width),
        ([], unprojected) => (unprojected, hidden),
        (gates, _) => {
            let at = p.gates_offset as usize + p.t as usize * batch * row_words;
            (&gates[at..][..batch * row_words], row_words)
        }
    };
    let gates = match bound.write("gates") {
        [] => &mut [],
        all => at_step(p, all, p.gates_offset as usize, row_words),
    };
    let recurrent = at_step(p, bound.write("recurrent"), 0, sums);
    let old = old_slots(bound.read("states"), p, cell);
    let [c0, c1, c2, c3] = carries(bound.write("carry"), p, cell);
    let words = 4 * hidden;
    scratch_rows.resize(scratch_rows.len().max(batch * words), 0.0);
    let rows = PartRows {
        first: 0,
        count: batch,
        read: [old[0], old[1], old[2], old[3], (norms, NORM_WORDS), given],
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
    rows.run(context.threads, &|row| shared.valid(row), &move |mut rows: PartRows<'_, 6, 8>| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            move || {
                for b in 0..rows.count {
                    backward_row(shared, kernel, &mut rows, b);
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
fn backward_row(shared: &Shared, kernel: &NormBackward, rows: &mut PartRows<'_, 6, 8>, b: usize) {
    let (p, cell) = (shared.p, shared.cell);
    let h = p.hidden as usize;
    let valid = shared.valid(rows.first + b);
    if kernel.phase == BackwardPhase::Cell {
        cell_row(shared, rows, b, valid);
    }
    let normed = kernel.gates();
    let gains = gain(cell, shared.unit, h);
    let [mean, scale] = [0, 1].map(|i| row(rows.read[STATES], b)[normed.start + i]);
    let [.., gates, recurrent, d_unit, _] = &mut rows.write;
    let gates = match row_mut(gates, b) {
        [] => row(rows.read[STATES + 1], b),
        written => written,
    };
    let (recurrent, d_unit) = (row_mut(recurrent, b), row_mut(d_unit, b));
    if !valid {
        return recurrent[normed.start * h..normed.end * h].fill(0.0);
    }
    let n = (normed.len() * h) as f32;
    let (mut sum, mut dot) = ([0f32; 16], [0f32; 16]);
    for g in normed.clone() {
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
    let (sum, dot) = (sum.iter().sum::<f32>() / n, dot.iter().sum::<f32>() / n);
    for g in normed {
        let d_r = &gates[block(cell, g) * h..][..h];
        let gain = &shared.unit[(gains + g) * h..][..h];
        let raw = &mut recurrent[g * h..][..h];
        for j in 0..h {
            let normal = (raw[j] - mean) * scale;
            raw[j] = (d_r[j] * gain[j] - sum - normal * dot) * scale;
        }
    }
}

/// The cell's derivative of one row, from h's gradient: gate gradients, and the carry of the step
/// before.
#[inline(always)]
fn cell_row(shared: &Shared, rows: &mut PartRows<'_, 6, 8>, b: usize, valid: bool) {
    let (p, cell) = (shared.p, shared.cell);
    let (h, global) = (p.hidden as usize, rows.first + b);
    let old = shared.old(&rows.read, rows.first, b);
    let norms = row(rows.read[STATES], b);
    let d_hidden = row(rows.read[STATES + 1], b);
    let [c0, c1, c2, c3, gates, _, d_unit, scratch] = &mut rows.write;
    let mut carry = [row_mut(c0, b), row_mut(c1, b), row_mut(c2, b), row_mut(c3, b)];
    let gates = &mut row_mut(gates, b)[..own_words(cell, h)];
    let (d_unit, reset) = (row_mut(d_unit, b), shared.reset(global));
    if !valid {
        gates.fill(0.0);
        if reset {
            carry[1..].iter_mut().for_each(|c| c.fill(0.0));
        }
        return;
    }
    let (d_h, scratch) = row_mut(scratch, b).split_at_mut(h);
    let (passed, scratch) = scratch.split_at_mut((cell.states() - 1) * h);
    d_h.copy_from_slice(d_hidden);
    let (d_h, through) = if norms_cell(cell) {
        let (d_c, normal) = scratch.split_at_mut(h);
        let norms = [norms[2], norms[3]];
        output_row(shared, gates, old[1], norms, [&mut *d_h, &mut *d_c, normal], d_unit);
        (&mut [][..], Some([&*d_h, &*d_c]))
    } else {
        (d_h, None)
    };
    // h's zoneout was split in the phase before; what passed lies in the carry.
    for (s, passed) in (1..).zip(passed.chunks_exact_mut(h)) {
        if shared.zone.is_on() {
            shared.zone.split(s, global, 0, carry[s], passed);
        }
    }
    let [c0, c1, c2, c3] = &mut carry;
    let row = BackwardRow {
        gates,
        old,
        carry: [&mut *d_h, &mut **c1, &mut **c2, &mut **c3],
        unit: shared.unit,
        d_unit,
        normed: through,
    };
    cell_backward(pulp::Arch::new(), cell, row);
    for (c, d) in c0.iter_mut().zip(&*d_h) {
        *c = if reset { 0.0 } else { *c + d };
    }
    for (s, passed) in (1..).zip(passed.chunks_exact(h)) {
        for (c, passed) in carry[s].iter_mut().zip(passed) {
            *c = match (reset, shared.zone.is_on()) {
                (true, _) => 0.0,
                (false, true) => *c + passed,
                (false, false) => *c,
            };
        }
    }
}

/// LSTM's h = o⊙h(γ_c⊙N(c) + β_c): from `d_o`, which holds h's gradient, that of o's pre-activation,
/// and in `d_c` that of c through the norm.
#[inline(always)]
fn output_row(
    shared: &Shared,
    gates: &[f32],
    old_c: &[f32],
    [mean, scale]: [f32; 2],
    [d_o, d_c, normal]: [&mut [f32]; 3],
    d_unit: &mut [f32],
) {
    let (cell, h) = (shared.cell, shared.p.hidden as usize);
    // The candidate of c once more, as the forward pass had it.
    let clip = cell.cell_clip.unwrap_or(f32::INFINITY);
    let (i, f, g) = (&gates[..h], &gates[h..2 * h], &gates[(cell.gates() - 2) * h..][..h]);
    for j in 0..h {
        let f = if cell.coupled { 1.0 - i[j] } else { f[j] };
        let c = (f * old_c[j] + i[j] * g[j]).clamp(-clip, clip);
        normal[j] = (c - mean) * scale;
    }
    let first = (shared.unit.len() / h - 2) * h;
    let (gain, shift) = shared.unit[first..].split_at(h);
    for j in 0..h {
        d_c[j] = gain[j] * normal[j] + shift[j];
    }
    output_backward(Chosen::new(cell), &gates[(cell.gates() - 1) * h..], d_c, d_o);
    let (d_gain, d_shift) = d_unit[first..].split_at_mut(h);
    for j in 0..h {
        d_gain[j] += d_c[j] * normal[j];
        d_shift[j] += d_c[j];
        d_c[j] *= gain[j];
    }
    norm_gradient(d_c, |j| normal[j], scale);
}
