//! Values against the equations written out once more, row by row in scalars, without the tape.

use ndarray::s;
use recurra::oracle::recurrent::{
    Cell, LayerSpec, Masks, Options, Padding, StackInput, Weights, forward,
};
use std::ops::Range;

use crate::by_hand::{assert_close, sigma};
use crate::problem::{Case, Variational, plain_stack, spec};

/// N(v), then times weights.
fn norm(v: &[f64], epsilon: f64, weights: &[f64]) -> Vec<f64> {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    let variance = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / v.len() as f64;
    let root = (variance + epsilon).sqrt();
    v.iter().zip(weights).map(|(v, w)| w * (v - mean) / root).collect()
}

/// One row's run of one layer and one direction, in scalars.
struct Row<'a> {
    spec: &'a LayerSpec,
    w: &'a Weights,
    masks: &'a Masks,
    row: usize,
    batch: usize,
}

impl Row<'_> {
    fn vector(&self, name: &str) -> Vec<f64> {
        self.w[name].iter().copied().collect()
    }

    /// W·x, or the recurrent product; `column` maps a unit and a weight's column to the input's.
    fn product(&self, name: &str, seen: impl Fn(usize, usize, usize) -> f64) -> Vec<f64> {
        let (w, h) = (&self.w[name], self.spec.hidden);
        let dot = |row: usize| -> f64 {
            (0..w.ncols()).map(|k| w[[row, k]] * seen(row / h, row % h, k)).sum()
        };
        (0..w.nrows()).map(dot).collect()
    }

    fn x_part(&self, x: &[f64]) -> Vec<f64> {
        let mut a = self.product("weight_ih", |_, _, k| x[k]);
        if let Some(epsilon) = self.spec.options.layer_norm {
            a = norm(&a, epsilon, &self.vector("norm_ih_weight"));
        }
        a.iter().zip(self.vector("bias_ih")).map(|(a, b)| a + b).collect()
    }

    /// h as a gate sees it: of its own head, with that gate's mask.
    fn heard(&self, h: &[f64], gate: usize, unit: usize, k: usize) -> f64 {
        let heads = self.spec.options.heads;
        let p = unit / (self.spec.hidden / heads) * (h.len() / heads) + k;
        let masks = &self.masks.recurrent;
        let mask = masks.get(if masks.len() == 1 { 0 } else { gate });
        h[p] * mask.map_or(1.0, |m| m[[self.row, p]])
    }

    fn h_part(&self, h: &[f64]) -> Vec<f64> {
        self.h_gates(h, 0..self.vector("bias_hh").len() / self.spec.hidden)
    }

    /// The recurrent product of some gates, normalised by itself.
    fn h_gates(&self, h: &[f64], gates: Range<usize>) -> Vec<f64> {
        let own = gates.start * self.spec.hidden..gates.end * self.spec.hidden;
        let all = self.product("weight_hh", |gate, unit, k| self.heard(h, gate, unit, k));
        let mut a = all[own.clone()].to_vec();
        if let Some(epsilon) = self.spec.options.layer_norm {
            a = norm(&a, epsilon, &self.vector("norm_hh_weight")[own.clone()]);
        }
        a.iter().zip(&self.vector("bias_hh")[own]).map(|(a, b)| a + b).collect()
    }

    fn clip(&self, a: f64) -> f64 {
        self.spec.options.clip.map_or(a, |limit| a.clamp(-limit, limit))
    }

    /// New h and c.
    fn lstm(&self, x: &[f64], h: &[f64], c: &[f64]) -> Vec<Vec<f64>> {
        let (options, units) = (&self.spec.options, self.spec.hidden);
        let (x, r) = (self.x_part(x), self.h_part(h));
        let pre = |gate: usize, j: usize| x[gate * units + j] + r[gate * units + j];
        let peephole = |p: usize, j: usize| match options.peepholes {
            true => self.w["weight_peephole"][[0, p * units + j]],
            false => 0.0,
        };
        let (mut new_c, mut o) = (vec![], vec![]);
        for (j, &old) in c.iter().enumerate() {
            let i = sigma(self.clip(pre(0, j) + peephole(0, j) * old));
            let (f, g, o_gate, o_peephole) = match options.coupled {
                true => (1.0 - i, 1, 2, 1),
                false => (sigma(self.clip(pre(1, j) + peephole(1, j) * old)), 2, 3, 2),
            };
            let mut cell = f * old + i * self.clip(pre(g, j)).tanh();
            if let Some(limit) = options.cell_clip {
                cell = cell.clamp(-limit, limit);
            }
            new_c.push(cell);
            o.push(sigma(self.clip(pre(o_gate, j) + peephole(o_peephole, j) * cell)));
        }
        let mut shown = new_c.clone();
        if let Some(epsilon) = options.layer_norm {
            shown = norm(&shown, epsilon, &self.vector("norm_cell_weight"));
            shown.iter_mut().zip(self.vector("norm_cell_bias")).for_each(|(c, b)| *c += b);
        }
        let full: Vec<f64> = o.iter().zip(&shown).map(|(o, c)| o * c.tanh()).collect();
        let new_h = match options.projection {
            Some(width) => (0..width)
                .map(|p| (0..units).map(|j| self.w["weight_hr"][[p, j]] * full[j]).sum())
                .collect(),
            None => full,
        };
        vec![new_h, new_c]
    }

    fn gru(&self, x: &[f64], h: &[f64], before: bool) -> Vec<Vec<f64>> {
        let units = self.spec.hidden;
        let x = self.x_part(x);
        let r_part = self.h_gates(h, if before { 0..2 } else { 0..3 });
        let gate = |g: usize, j: usize| sigma(self.clip(x[g * units + j] + r_part[g * units + j]));
        let r: Vec<f64> = (0..units).map(|j| gate(0, j)).collect();
        let reset: Vec<f64> = r.iter().zip(h).map(|(r, h)| r * h).collect();
        let after_reset = if before { self.h_gates(&reset, 2..3) } else { Vec::new() };
        let unit = |j: usize| {
            let n = 2 * units + j;
            let from_h = if before { after_reset[j] } else { r[j] * r_part[n] };
            let z = gate(1, j);
            (1.0 - z) * self.clip(x[n] + from_h).tanh() + z * h[j]
        };
        vec![(0..units).map(unit).collect()]
    }

    /// The equations without the stabiliser: c = σ(f)·c + e^i·tanh(z), n the same with 1, on the
    /// true c·e^m and n·e^m. (Gates that are clipped stay within e's range.)
    fn slstm(&self, x: &[f64], old: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let units = self.spec.hidden;
        let (x, r) = (self.x_part(x), self.h_part(&old[0]));
        let mut new = vec![vec![]; 4];
        for j in 0..units {
            let [a_i, a_f, a_z, a_o] =
                [0, 1, 2, 3].map(|g| self.clip(x[g * units + j] + r[g * units + j]));
            let scale = old[3][j].exp();
            let (true_c, true_n) = (old[1][j] * scale, old[2][j] * scale);
            let c = sigma(a_f) * true_c + a_i.exp() * a_z.tanh();
            let n = sigma(a_f) * true_n + a_i.exp();
            let empty = old[2][j] == 0.0;
            let m = if empty { a_i } else { a_i.max(sigma(a_f).ln() + old[3][j]) };
            let all = [sigma(a_o) * c / n, c / m.exp(), n / m.exp(), m];
            new.iter_mut().zip(all).for_each(|(state, value)| state.push(value));
        }
        new
    }

    fn minimal(&self, x: &[f64], h: &[f64]) -> Vec<Vec<f64>> {
        let units = self.spec.hidden;
        let x = self.x_part(x);
        let pre = |g: usize, j: usize| self.clip(x[g * units + j]);
        let unit = |j: usize| match self.spec.cell {
            Cell::MinGru => h[j] + sigma(pre(0, j)) * (pre(1, j) - h[j]),
            _ => {
                let (f, i) = (sigma(pre(0, j)), sigma(pre(1, j)));
                f / (f + i) * h[j] + i / (f + i) * pre(2, j)
            }
        };
        vec![(0..units).map(unit).collect()]
    }

    fn step(&self, x: &[f64], old: &[Vec<f64>]) -> Vec<Vec<f64>> {
        match self.spec.cell {
            Cell::Rnn => {
                let sums = self.x_part(x).into_iter().zip(self.h_part(&old[0]));
                vec![sums.map(|(x, r)| self.clip(x + r).tanh()).collect()]
            }
            Cell::Lstm => self.lstm(x, &old[0], &old[1]),
            Cell::Gru => self.gru(x, &old[0], false),
            Cell::GruResetBefore => self.gru(x, &old[0], true),
            Cell::SLstm => self.slstm(x, old),
            _ => self.minimal(x, &old[0]),
        }
    }

    /// h of all steps, and the final states.
    fn run(&self, input: &StackInput) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let mut states: Vec<Vec<f64>> =
            input.initial[0][0].iter().map(|s| s.row(self.row).to_vec()).collect();
        let steps = input.x.dim().0;
        let mut outputs = vec![vec![]; steps];
        for k in 0..steps {
            let t = if self.spec.options.reverse { steps - 1 - k } else { k };
            if self.masks.resets.as_ref().is_some_and(|m| m[[t, self.row]]) {
                states.iter_mut().for_each(|state| state.fill(0.0));
            }
            if self.masks.valid.as_ref().is_none_or(|m| m[[t, self.row]]) {
                let x = input.x.slice(s![t, self.row, ..]).to_vec();
                let candidates = self.step(&x, &states);
                for (s, candidate) in candidates.iter().enumerate() {
                    let z = self.masks.zoneout.get(s).and_then(|z| z.as_ref());
                    for (j, &new) in candidate.iter().enumerate() {
                        let z = z.map_or(0.0, |z| z[[t * self.batch + self.row, j]]);
                        states[s][j] = z * states[s][j] + (1.0 - z) * new;
                    }
                }
            }
            outputs[t].clone_from(&states[0]);
        }
        (outputs, states)
    }
}

/// A case of one layer, one direction, against the scalars.
fn check(mut case: Case, seed: u64) {
    case.stack.padding = Padding::Repeat;
    let input = case.input(seed);
    let got = forward(&case.stack, &input).unwrap();
    let spec = &case.stack.layers[0][0];
    let batch = case.sizes[1];
    for row in 0..batch {
        let masks = &input.masks[0][0];
        let scalar = Row { spec, w: &input.weights[0][0], masks, row, batch };
        let (outputs, finals) = scalar.run(&input);
        let what = format!("row {row}, {case:?}");
        for (t, h) in outputs.iter().enumerate() {
            for (j, &want) in h.iter().enumerate() {
                assert_close(got.output[[t, row, j]], want, &format!("t {t}, unit {j}, {what}"));
            }
        }
        for (s, state) in finals.iter().enumerate() {
            for (j, &want) in state.iter().enumerate() {
                assert_close(got.finals[0][0][s][[row, j]], want, &format!("state {s}, {what}"));
            }
        }
    }
}

#[test]
fn every_cell_in_scalars() {
    let cells = [
        Cell::Rnn,
        Cell::Lstm,
        Cell::Gru,
        Cell::GruResetBefore,
        Cell::SLstm,
        Cell::MinGru,
        Cell::MinLstm,
    ];
    for cell in cells {
        let recurrent = !matches!(cell, Cell::MinGru | Cell::MinLstm);
        for variant in 0..8 {
            let usual = Options { reverse: variant % 2 == 1, ..Options::default() };
            let options = match variant / 2 {
                0 => usual,
                1 => Options { clip: Some(0.7), ..usual },
                2 if recurrent => Options { heads: 2, ..usual },
                3 => Options { layer_norm: Some(1e-2), ..usual },
                _ => continue,
            };
            let mut case =
                Case::of(plain_stack(vec![vec![spec(cell.clone(), 4, options)]]), [6, 5, 3]);
            check(case.clone(), variant);
            case.zero_initial = true;
            (case.valid, case.resets, case.zoneout) = (true, true, variant > 2);
            case.variational = [Variational::Shared, Variational::PerGate][variant as usize % 2];
            check(case, 100 + variant);
        }
    }
}

#[test]
fn every_lstm_in_scalars() {
    for bits in 0..64 {
        let on = |bit: u32| bits >> bit & 1 == 1;
        let options = Options {
            peepholes: on(0),
            coupled: on(1),
            clip: on(2).then_some(0.8),
            cell_clip: on(3).then_some(0.5),
            layer_norm: on(4).then_some(1e-3),
            projection: on(5).then_some(2),
            heads: 1 + usize::from(bits % 3 == 0),
            reverse: bits % 5 == 0,
            ..Options::default()
        };
        let mut case = Case::one(spec(Cell::Lstm, 6, options));
        case.variational = [Variational::No, Variational::PerGate][bits % 2];
        (case.valid, case.zoneout) = (bits % 7 == 0, bits % 3 == 1);
        check(case, bits as u64);
    }
}
