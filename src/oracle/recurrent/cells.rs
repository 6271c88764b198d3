//! The cells' equations: new states from the products and the old states.

use std::sync::Arc;

use super::super::tape::{Node, Tape};
use super::product::RecurrentProduct;
use super::{Activation, Cell, CustomCell, LayerSpec, WeightNodes};

/// What a step of a layer is made of, the same for all steps.
pub(super) struct Equations<'a, 't> {
    pub(super) tape: &'t Tape,
    pub(super) spec: &'a LayerSpec,
    pub(super) weights: &'a WeightNodes<'t>,
    /// None for the cells that have no recurrent product.
    pub(super) recurrent: Option<RecurrentProduct<'t>>,
}

impl<'t> Equations<'_, 't> {
    /// The candidates for the new states from X `[B, G·H]` and the old states, h `[B, P]` first.
    pub(super) fn step(&self, x: Node<'t>, old: &[Node<'t>]) -> Vec<Node<'t>> {
        match (&self.spec.cell, &self.recurrent, old) {
            (Cell::MinGru, _, &[h]) => vec![self.min_gru(x, h)],
            (Cell::MinLstm, _, &[h]) => vec![self.min_lstm(x, h)],
            (Cell::Rnn, Some(u), &[h]) => vec![self.rnn(x, u.all(h))],
            (Cell::Lstm, Some(u), &[h, c]) => self.lstm(x, u.all(h), c),
            (Cell::Gru, Some(u), &[h]) => vec![self.gru(x, u.all(h), h)],
            (Cell::GruResetBefore, Some(u), &[h]) => vec![self.gru_reset_before(x, u, h)],
            (Cell::SLstm, Some(u), &[h, c, n, m]) => self.slstm(x, u.all(h), [c, n, m]),
            (Cell::Custom(cell), Some(u), &[h, ..]) => self.custom(cell, x, u.all(h), old),
            _ => unreachable!("the layer checked how many states there are"),
        }
    }

    /// h = f(X + R).
    fn rnn(&self, x: Node<'t>, r: Node<'t>) -> Node<'t> {
        let [f] = self.activations([Activation::Tanh]);
        f.of(self.clip(x + r))
    }

    fn lstm(&self, x: Node<'t>, r: Node<'t>, c: Node<'t>) -> Vec<Node<'t>> {
        let options = &self.spec.options;
        let [i_of, f_of, g_of, o_of, h_of] = self.lstm_activations();
        // a + p⊙c, clipped; peepholes and gates are counted without f where it is coupled.
        let gate = |k: usize| self.gate(x, k) + self.gate(r, k);
        let seeing = |k: usize, p: usize, c: Node<'t>| match self.weights.get("weight_peephole") {
            Some(&peepholes) => self.clip(gate(k) + self.gate(peepholes, p) * c),
            None => self.clip(gate(k)),
        };
        // i = σ(a_i + p_i⊙c), f = σ(a_f + p_f⊙c) or 1 − i, g = tanh(a_g)
        let i = i_of.of(seeing(0, 0, c));
        let (f, next) = match options.coupled {
            true => (i.complement(), 1),
            false => (f_of.of(seeing(1, 1, c)), 2),
        };
        let g = g_of.of(self.clip(gate(next)));
        // ĉ = f⊙c + i⊙g, o = σ(a_o + p_o⊙ĉ), h = o⊙tanh(ĉ)
        let c = f * c + i * g;
        let c = options.cell_clip.map_or(c, |limit| c.clamp(limit));
        let o = o_of.of(seeing(next + 1, next, c));
        let shown = match options.layer_norm {
            // γ_c⊙N(ĉ) + β_c
            Some(epsilon) => {
                let normal = c.normalize_rows(epsilon);
                normal * self.weights["norm_cell_weight"] + self.weights["norm_cell_bias"]
            }
            None => c,
        };
        let h = o * h_of.of(shown);
        let h = match self.weights.get("weight_hr") {
            Some(&projection) => h.matmul_transposed(projection),
            None => h,
        };
        vec![h, c]
    }

    /// r = σ(a_r), z = σ(a_z), n = tanh(X_n + r⊙R_n), h = (1 − z)⊙n + z⊙h.
    fn gru(&self, x: Node<'t>, r_all: Node<'t>, h: Node<'t>) -> Node<'t> {
        let [r_of, z_of, n_of] = self.gru_activations();
        let r = r_of.of(self.clip(self.gate(x, 0) + self.gate(r_all, 0)));
        let z = z_of.of(self.clip(self.gate(x, 1) + self.gate(r_all, 1)));
        let n = n_of.of(self.clip(self.gate(x, 2) + r * self.gate(r_all, 2)));
        z.complement() * n + z * h
    }

    /// The same with n = tanh(X_n + U_n·(r⊙h̃) + b′_n).
    fn gru_reset_before(&self, x: Node<'t>, u: &RecurrentProduct<'t>, h: Node<'t>) -> Node<'t> {
        let [r_of, z_of, n_of] = self.gru_activations();
        let rz = u.gates(0..2, h, None);
        let r = r_of.of(self.clip(self.gate(x, 0) + self.gate(rz, 0)));
        let z = z_of.of(self.clip(self.gate(x, 1) + self.gate(rz, 1)));
        let n = n_of.of(self.clip(self.gate(x, 2) + u.gates(2..3, h, Some(r))));
        z.complement() * n + z * h
    }

    fn slstm(&self, x: Node<'t>, r: Node<'t>, [c, n, m]: [Node<'t>; 3]) -> Vec<Node<'t>> {
        let [a_i, a_f, a_z, a_o] =
            [0, 1, 2, 3].map(|k| self.clip(self.gate(x, k) + self.gate(r, k)));
        // l = log σ(a_f) + m, or −∞ where n = 0: such a state is empty, and its m says nothing.
        let filled = n.value().mapv(|n| n != 0.0);
        let nothing = n.value().mapv(|_| f64::NEG_INFINITY);
        let l = (a_f.log_sigmoid() + m).choose(&filled, self.tape.input(nothing));
        // m′ = max(l, a_i), i = e^(a_i − m′), f = e^(l − m′)
        let m = l.max(a_i);
        let (i, f) = ((a_i - m).exp(), (l - m).exp());
        // c′ = f⊙c + i⊙tanh(a_z), n′ = f⊙n + i, h = σ(a_o)⊙c′/n′
        let c = f * c + i * a_z.tanh();
        let n = f * n + i;
        let h = a_o.sigmoid() * c / n;
        vec![h, c, n, m]
    }

    /// z = σ(X_z), n = X_n, h = (1 − z)⊙h + z⊙n.
    fn min_gru(&self, x: Node<'t>, h: Node<'t>) -> Node<'t> {
        let z = self.clip(self.gate(x, 0)).sigmoid();
        let n = self.clip(self.gate(x, 1));
        z.complement() * h + z * n
    }

    /// f = σ(X_f), i = σ(X_i), h = (f⊙h + i⊙X_n)/(f + i), with f/(f + i) = σ(log f − log i), which
    /// stays a number where both are 0.
    fn min_lstm(&self, x: Node<'t>, h: Node<'t>) -> Node<'t> {
        let log_f = self.clip(self.gate(x, 0)).log_sigmoid();
        let log_i = self.clip(self.gate(x, 1)).log_sigmoid();
        let n = self.clip(self.gate(x, 2));
        let f = (log_f - log_i).sigmoid();
        f * h + f.complement() * n
    }

    fn custom(
        &self,
        cell: &Arc<dyn CustomCell>,
        x: Node<'t>,
        r: Node<'t>,
        old: &[Node<'t>],
    ) -> Vec<Node<'t>> {
        let gates = self.spec.gates();
        let mut inputs: Vec<_> = (0..gates).map(|k| self.gate(x, k)).collect();
        inputs.extend((0..gates).map(|k| self.gate(r, k)));
        inputs.extend(old);
        let cell = cell.clone();
        self.tape.local(&inputs, old.len(), move |all, new| {
            let (x, rest) = all.split_at(gates);
            let (r, old) = rest.split_at(gates);
            cell.forward(x, r, old, new);
        })
    }

    /// Block k of H columns.
    fn gate(&self, a: Node<'t>, k: usize) -> Node<'t> {
        a.columns(k * self.spec.hidden..(k + 1) * self.spec.hidden)
    }

    /// max(−clip, min(a, clip)).
    fn clip(&self, a: Node<'t>) -> Node<'t> {
        self.spec.options.clip.map_or(a, |limit| a.clamp(limit))
    }

    /// The chosen activations, or the usual ones.
    fn activations<const N: usize>(&self, usual: [Activation; N]) -> [Activation; N] {
        let chosen = self.spec.options.activations.as_deref();
        chosen.and_then(|chosen| chosen.try_into().ok()).unwrap_or(usual)
    }

    /// Of i, f, g, o and the cell state: one by one, or f for i, f and o.
    fn lstm_activations(&self) -> [Activation; 5] {
        let [f, g, h] = self.activations([Activation::Sigmoid, Activation::Tanh, Activation::Tanh]);
        self.activations([f, f, g, f, h])
    }

    /// Of r, z and n: one by one, or f for r and z.
    fn gru_activations(&self) -> [Activation; 3] {
        let [f, g] = self.activations([Activation::Sigmoid, Activation::Tanh]);
        self.activations([f, f, g])
    }
}
