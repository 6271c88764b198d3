//! The whole gradient of a cell's state: what later steps give to c(t), and what goes by way of h(t).

use super::{Microscope, Place};
use crate::cell::{Cell, CellKind};
use crate::error::Result;

/// Whether a layer's cell says how h(t) comes from the other states: an LSTM or an sLSTM with its own activations.
/// Zoneout's masks are not seen, and a custom cell's equations are its own.
pub(super) fn is_known(place: Place) -> bool {
    let stack = place.stack;
    let known = matches!(stack.cell.kind, CellKind::Lstm | CellKind::Slstm);
    known && stack.cell.activations.is_none() && stack.zoneout == [0.0; 2]
}

/// How h comes from c in one layer and direction.
pub(super) struct Output {
    cell: Cell,
    hidden: usize,
    width: usize,
    /// weight_hr \[P, H\].
    projection: Option<Vec<f32>>,
    /// p_o \[H\].
    peephole: Option<Vec<f32>>,
    /// The scale of the norm of c \[H\], its shift, and ε.
    norm: Option<(Vec<f32>, Vec<f32>, f64)>,
}

/// What a row has at a step: dL/dh \[P\] whole, dL/d of the other states from later steps \[(S − 1)·H\], those
/// states, and the gates \[K·H\].
pub(super) struct Row<'a> {
    pub d_h: Vec<f64>,
    pub later: Vec<f64>,
    pub states: Vec<f64>,
    pub gates: &'a [f32],
}

impl Output {
    pub fn read(scope: &Microscope, place: Place) -> Result<Self> {
        let (stack, h) = (place.stack, place.stack.hidden);
        let suffix = if place.direction == 1 { "_reverse" } else { "" };
        let parameter = |name: &str| {
            scope.store.get(&format!("{}.{name}_l{}{suffix}", stack.name, place.layer))
        };
        let cell = stack.cell.clone();
        let projection = cell.projection.map(|_| parameter("weight_hr")).transpose()?;
        let peephole = match cell.peepholes {
            // Those of i, f where there is one, and o.
            true => Some(parameter("weight_peephole")?[(cell.gates() - 2) * h..].to_vec()),
            false => None,
        };
        let norm = match cell.layer_norm.filter(|_| cell.kind == CellKind::Lstm) {
            Some(epsilon) => {
                let scale = parameter("norm_cell_weight")?;
                Some((scale, parameter("norm_cell_bias")?, f64::from(epsilon)))
            }
            None => None,
        };
        Ok(Output { width: cell.width(h), hidden: h, cell, projection, peephole, norm })
    }

    /// The whole gradient of the other states \[(S − 1)·H\]. With m = h before a projection:
    ///
    /// - LSTM, m = o⊙tanh(y), y = c or LN(c): dc += LN′(dm⊙o⊙(1 − tanh²y)) + p_o⊙dm⊙tanh(y)⊙o⊙(1 − o)
    /// - sLSTM, h = o⊙c/n: dc += dh⊙o/n, dn −= dh⊙o⊙c/n²
    pub fn whole(&self, row: &Row) -> Vec<f64> {
        let h = self.hidden;
        let d_m: Vec<f64> = match &self.projection {
            None => row.d_h.clone(),
            Some(weights) => (0..h)
                .map(|j| {
                    let each = row.d_h.iter().enumerate();
                    each.map(|(p, d)| d * f64::from(weights[p * h + j])).sum()
                })
                .collect(),
        };
        let o = |j: usize| f64::from(row.gates[(self.cell.gates() - 1) * h + j]);
        let mut whole = row.later.clone();
        if self.cell.kind == CellKind::Slstm {
            for j in 0..h {
                let (c, n) = (row.states[j], row.states[h + j]);
                // Before the first step of a row n is 0, and h does not come from it.
                if n != 0.0 {
                    whole[j] += d_m[j] * o(j) / n;
                    whole[h + j] -= d_m[j] * o(j) * c / (n * n);
                }
            }
            return whole;
        }
        let c = &row.states[..h];
        let (seen, deviation) = self.seen(c);
        let mut d_seen: Vec<f64> =
            (0..h).map(|j| d_m[j] * o(j) * (1.0 - seen[j].tanh().powi(2))).collect();
        if let Some((scale, shift, _)) = &self.norm {
            // x = (c − mean)/σ: dc = (dx − mean(dx) − x·mean(dx⊙x))/σ.
            let x: Vec<f64> = (0..h)
                .map(|j| match f64::from(scale[j]) {
                    0.0 => 0.0,
                    scale => (seen[j] - f64::from(shift[j])) / scale,
                })
                .collect();
            d_seen.iter_mut().zip(scale).for_each(|(d, &scale)| *d *= f64::from(scale));
            let mean = d_seen.iter().sum::<f64>() / h as f64;
            let with_x = d_seen.iter().zip(&x).map(|(d, x)| d * x).sum::<f64>() / h as f64;
            d_seen.iter_mut().zip(&x).for_each(|(d, x)| *d = (*d - mean - x * with_x) / deviation);
        }
        for j in 0..h {
            whole[j] += d_seen[j];
            if let Some(peephole) = &self.peephole {
                let slope = o(j) * (1.0 - o(j));
                whole[j] += f64::from(peephole[j]) * d_m[j] * seen[j].tanh() * slope;
            }
        }
        whole
    }

    /// What h sees of c, and the deviation that a norm divided by.
    fn seen(&self, c: &[f64]) -> (Vec<f64>, f64) {
        let Some((scale, shift, epsilon)) = &self.norm else { return (c.to_vec(), 1.0) };
        let n = c.len() as f64;
        let mean = c.iter().sum::<f64>() / n;
        let variance = c.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / n;
        let deviation = (variance + epsilon).sqrt();
        let each = c.iter().zip(scale).zip(shift);
        let seen = each.map(|((c, &scale), &shift)| {
            (c - mean) / deviation * f64::from(scale) + f64::from(shift)
        });
        (seen.collect(), deviation)
    }

    /// The same of all rows of a step. Buffers have h of all rows, then each other state of all rows.
    pub fn of_step(&self, [carry, above, states, gates]: [&[f32]; 4], batch: usize) -> Vec<f32> {
        let (h, p, others) = (self.hidden, self.width, self.cell.states() - 1);
        let saved = self.cell.saved() * h;
        let mut whole = vec![0.0; batch * others * h];
        for b in 0..batch {
            let other = |all: &[f32]| -> Vec<f64> {
                let state = |s: usize| &all[batch * p + (s * batch + b) * h..][..h];
                (0..others).flat_map(state).map(|&x| f64::from(x)).collect()
            };
            let sums = carry[b * p..][..p].iter().zip(&above[b * p..][..p]);
            let row = Row {
                d_h: sums.map(|(a, b)| f64::from(*a) + f64::from(*b)).collect(),
                later: other(carry),
                states: other(states),
                gates: &gates[b * saved..][..saved],
            };
            let own = self.whole(&row);
            whole[b * others * h..][..others * h]
                .iter_mut()
                .zip(own)
                .for_each(|(to, d)| *to = d as f32);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: usize = 3;
    const SCALE: [f32; H] = [1.2, 0.7, -0.4];
    const SHIFT: [f32; H] = [0.1, -0.3, 0.2];
    const PEEPHOLE: [f32; H] = [0.5, -0.8, 0.3];
    const HR: [f32; 2 * H] = [0.3, -0.2, 0.9, 0.4, 0.8, -0.5];
    const C: [f64; H] = [0.4, -1.1, 0.8];
    /// What o's pre-activation has besides its peephole.
    const BASE: [f64; H] = [0.3, -0.5, 0.2];

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn output(peephole: bool, norm: bool, projection: bool) -> Output {
        let cell = Cell {
            peepholes: peephole,
            layer_norm: norm.then_some(1e-5),
            projection: projection.then_some(2),
            ..CellKind::Lstm.into()
        };
        Output {
            width: cell.width(H),
            cell,
            hidden: H,
            projection: projection.then(|| HR.to_vec()),
            peephole: peephole.then(|| PEEPHOLE.to_vec()),
            norm: norm.then(|| (SCALE.to_vec(), SHIFT.to_vec(), f64::from(1e-5f32))),
        }
    }

    /// h by the equations, from c alone.
    fn h_of(c: &[f64], [peephole, norm, projection]: [bool; 3]) -> (Vec<f64>, Vec<f64>) {
        let mean = c.iter().sum::<f64>() / H as f64;
        let variance = c.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>() / H as f64;
        let seen = |j: usize| match norm {
            false => c[j],
            true => {
                let x = (c[j] - mean) / (variance + f64::from(1e-5f32)).sqrt();
                x * f64::from(SCALE[j]) + f64::from(SHIFT[j])
            }
        };
        let see = |j: usize| if peephole { f64::from(PEEPHOLE[j]) * c[j] } else { 0.0 };
        let o: Vec<f64> = (0..H).map(|j| sigmoid(BASE[j] + see(j))).collect();
        let m: Vec<f64> = (0..H).map(|j| o[j] * seen(j).tanh()).collect();
        let h = match projection {
            false => m,
            true => (0..2).map(|p| (0..H).map(|j| f64::from(HR[p * H + j]) * m[j]).sum()).collect(),
        };
        (h, o)
    }

    #[test]
    fn the_way_by_h_is_what_differences_say() {
        let d_h = [0.7, -0.4, 1.1];
        let later = vec![0.2, 0.1, -0.6];
        for options in 0..8 {
            let on @ [peephole, norm, projection] = [0, 1, 2].map(|bit| options >> bit & 1 == 1);
            let d_h = d_h[..if projection { 2 } else { H }].to_vec();
            let loss = |c: &[f64]| -> f64 {
                h_of(c, on).0.iter().zip(&d_h).map(|(h, d)| h * d).sum::<f64>()
            };
            let o = h_of(&C, on).1;
            let mut gates = vec![9.0; 3 * H];
            gates.extend(o.iter().map(|&o| o as f32));
            let row =
                Row { d_h: d_h.clone(), later: later.clone(), states: C.to_vec(), gates: &gates };
            let whole = output(peephole, norm, projection).whole(&row);
            for j in 0..H {
                let at = |e: f64| {
                    let mut c = C;
                    c[j] += e;
                    loss(&c)
                };
                let want = later[j] + (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((whole[j] - want).abs() < 1e-6, "{on:?}: {} {want}", whole[j]);
            }
        }
    }

    #[test]
    fn slstm_divides_by_its_normaliser() {
        let output = Output {
            cell: CellKind::Slstm.into(),
            width: 1,
            hidden: 1,
            ..output(false, false, false)
        };
        let gates = [0.0, 0.0, 0.0, 0.25];
        let later = vec![0.5, -0.5, 0.125];
        let row = Row { d_h: vec![2.0], later, states: vec![3.0, 2.0, 0.0], gates: &gates };
        // o/n = 1/8, o·c/n² = 3/16.
        assert_eq!(output.whole(&row), [0.5 + 0.25, -0.5 - 0.375, 0.125]);
    }

    /// Two rows of two units: h of both rows first, then each other state of both.
    #[test]
    fn rows_lie_beside_each_other() {
        let cell = Cell::from(CellKind::Lstm);
        let output = Output { cell, width: 2, hidden: 2, ..output(false, false, false) };
        let carry = [1.0, 0.0, 0.0, 1.0, 10.0, 20.0, 30.0, 40.0];
        let above = [1.0, 0.0, 0.0, 2.0];
        // tanh 0 = 0: the way by h is dh⊙o.
        let states = [0.0; 8];
        let mut gates = vec![0.0; 16];
        (gates[6], gates[7], gates[14], gates[15]) = (0.5, 0.25, 0.125, 0.0625);
        let whole = output.of_step([&carry, &above, &states, &gates], 2);
        assert_eq!(whole, [10.0 + 2.0 * 0.5, 20.0, 30.0, 40.0 + 3.0 * 0.0625]);
    }
}
