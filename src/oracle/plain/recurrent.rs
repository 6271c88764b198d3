//! The recurrent layers, forward over time.

use ndarray::{Array1, Array2, Array3, Array4, ArrayView1, Axis, s};

use super::{Cell, State, Weights, same_shape};
use crate::error::{Error, Result};

/// What [`forward`] computed, and what [`backward`](super::backward) needs of it.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The last layer's h at every step `[T, B, H]`; no dropout is applied to it.
    pub outputs: Array3<f64>,
    /// Each layer's state after the last step.
    pub finals: Vec<State>,
    /// The cell it was computed with.
    pub(super) cell: Cell,
    /// One a layer, from the first.
    pub(super) traces: Vec<Trace>,
    /// The multipliers between the layers; empty, or one for each layer but the last.
    pub(super) dropout: Vec<Array3<f64>>,
}

/// What one layer saw and did at every step.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// What came in `[T, B, I]`, after the dropout of the layer below.
    pub(super) x: Array3<f64>,
    /// h(0), h(1) … h(T) [T+1, B, H]; index t holds h before step t.
    pub(super) h: Array3<f64>,
    /// c(0), c(1) … c(T) [T+1, B, H]; zero unless the cell is an LSTM.
    pub(super) c: Array3<f64>,
    /// The gates after their activation `[T, B, G, H]`.
    pub(super) gates: Array4<f64>,
    /// GRU only: U_n·h + b'_n before the reset `[T, B, H]`.
    pub(super) u: Array3<f64>,
}

/// Runs `layers` over the input `x` `[T, B, I]` from the states `initial` (one a layer).
///
/// `dropout` is empty or has one array `[T, B, H]` for each layer but the last: multipliers (0 or
/// 1/keep) on that layer's outputs on their way up, not on the state that it carries on.
pub fn forward(
    cell: Cell,
    layers: &[Weights],
    x: &Array3<f64>,
    initial: &[State],
    dropout: &[Array3<f64>],
) -> Result<Forward> {
    let (steps, batch, mut inputs) = x.dim();
    if layers.is_empty() {
        return Err(Error::invalid("a recurrent network needs at least one layer"));
    }
    same_shape("initial states (how many)", &[layers.len()], &[initial.len()])?;
    if !dropout.is_empty() {
        let got = [dropout.len()];
        same_shape("dropout multipliers (how many)", &[layers.len() - 1], &got)?;
    }
    for (l, (w, state)) in layers.iter().zip(initial).enumerate() {
        w.check(cell, l, inputs)?;
        state.check(cell, "the initial state", l, &[batch, w.hidden()])?;
        if let Some(m) = dropout.get(l) {
            let name = format!("dropout multipliers of layer {l}");
            same_shape(&name, &[steps, batch, w.hidden()], m.shape())?;
        }
        inputs = w.hidden();
    }

    let mut traces: Vec<Trace> = Vec::new();
    let mut finals = Vec::new();
    let mut carried = x.clone();
    for (l, (w, state)) in layers.iter().zip(initial).enumerate() {
        let trace = forward_layer(cell, w, carried, state);
        carried = trace.h.slice(s![1.., .., ..]).to_owned();
        if let Some(multipliers) = dropout.get(l) {
            carried = &carried * multipliers;
        }
        finals.push(State {
            h: trace.h.index_axis(Axis(0), steps).to_owned(),
            c: cell.has_c().then(|| trace.c.index_axis(Axis(0), steps).to_owned()),
        });
        traces.push(trace);
    }
    Ok(Forward { outputs: carried, finals, cell, traces, dropout: dropout.to_vec() })
}

/// One layer over all steps; `x` `[T, B, I]`. The shapes are checked already.
fn forward_layer(cell: Cell, w: &Weights, x: Array3<f64>, initial: &State) -> Trace {
    let (steps, batch, _) = x.dim();
    let hidden = w.hidden();
    let mut h = Array3::zeros((steps + 1, batch, hidden));
    let mut c = Array3::zeros((steps + 1, batch, hidden));
    let mut gates = Array4::zeros((steps, batch, cell.gates(), hidden));
    let mut u = Array3::zeros((steps, batch, hidden));
    h.index_axis_mut(Axis(0), 0).assign(&initial.h);
    if let Some(c0) = &initial.c {
        c.index_axis_mut(Axis(0), 0).assign(c0);
    }
    for t in 0..steps {
        for b in 0..batch {
            // W·x(t) + b and U·h(t−1) + b', each [G·H], the gates' blocks one after the other.
            let from_x = affine(&w.w_ih, x.slice(s![t, b, ..]), &w.b_ih);
            let from_h = affine(&w.w_hh, h.slice(s![t, b, ..]), &w.b_hh);
            for j in 0..hidden {
                let x_part = |gate: usize| from_x[gate * hidden + j];
                let h_part = |gate: usize| from_h[gate * hidden + j];
                match cell {
                    // Elman (1990): h(t) = tanh(W·x(t) + b + U·h(t−1) + b').
                    Cell::RnnTanh => {
                        gates[[t, b, 0, j]] = (x_part(0) + h_part(0)).tanh();
                        h[[t + 1, b, j]] = gates[[t, b, 0, j]];
                    }
                    // The same with max(0, ·): Le, Jaitly, Hinton (2015).
                    Cell::RnnRelu => {
                        gates[[t, b, 0, j]] = relu(x_part(0) + h_part(0));
                        h[[t + 1, b, j]] = gates[[t, b, 0, j]];
                    }
                    // Hochreiter, Schmidhuber (1997); Gers, Schmidhuber, Cummins (2000):
                    //   i = σ(W_i·x + b_i + U_i·h + b'_i)     f = σ(W_f·x + b_f + U_f·h + b'_f)
                    //   g = tanh(W_g·x + b_g + U_g·h + b'_g)  o = σ(W_o·x + b_o + U_o·h + b'_o)
                    //   c(t) = f⊙c(t−1) + i⊙g                 h(t) = o⊙tanh(c(t))
                    Cell::Lstm => {
                        let i = sigmoid(x_part(0) + h_part(0));
                        let f = sigmoid(x_part(1) + h_part(1));
                        let g = (x_part(2) + h_part(2)).tanh();
                        let o = sigmoid(x_part(3) + h_part(3));
                        c[[t + 1, b, j]] = f * c[[t, b, j]] + i * g;
                        h[[t + 1, b, j]] = o * f64::tanh(c[[t + 1, b, j]]);
                        gates[[t, b, 0, j]] = i;
                        gates[[t, b, 1, j]] = f;
                        gates[[t, b, 2, j]] = g;
                        gates[[t, b, 3, j]] = o;
                    }
                    // Cho et al. (2014), the reset after the product as cuDNN and PyTorch have it:
                    //   r = σ(W_r·x + b_r + U_r·h + b'_r)     z = σ(W_z·x + b_z + U_z·h + b'_z)
                    //   u = U_n·h + b'_n                      n = tanh(W_n·x + b_n + r⊙u)
                    //   h(t) = (1 − z)⊙n + z⊙h(t−1)
                    Cell::Gru => {
                        let r = sigmoid(x_part(0) + h_part(0));
                        let z = sigmoid(x_part(1) + h_part(1));
                        u[[t, b, j]] = h_part(2);
                        let n = (x_part(2) + r * u[[t, b, j]]).tanh();
                        h[[t + 1, b, j]] = (1.0 - z) * n + z * h[[t, b, j]];
                        gates[[t, b, 0, j]] = r;
                        gates[[t, b, 1, j]] = z;
                        gates[[t, b, 2, j]] = n;
                    }
                }
            }
        }
    }
    Trace { x, h, c, gates, u }
}

/// W·x + b, with w `[R, K]`, x `[K]`, b `[R]`.
fn affine(w: &Array2<f64>, x: ArrayView1<f64>, b: &Array1<f64>) -> Array1<f64> {
    let mut y = b.clone();
    for row in 0..w.nrows() {
        for k in 0..w.ncols() {
            y[row] += w[[row, k]] * x[k];
        }
    }
    y
}

/// σ(a) = 1 / (1 + e^(−a)); e^(−a) may overflow to infinity, which gives the right 0.
fn sigmoid(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

/// max(0, a), a NaN staying a NaN.
fn relu(a: f64) -> f64 {
    if a < 0.0 { 0.0 } else { a }
}
