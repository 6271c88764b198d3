//! Backpropagation through time, in full: no truncation.

use ndarray::{Array1, Array2, Array3};

use super::recurrent::{Forward, Trace};
use super::{Cell, State, Weights, same_shape};
use crate::error::{Error, Result};

/// The gradients of a scalar loss with respect to everything that went in.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// With respect to the input `[T, B, I]`.
    pub x: Array3<f64>,
    /// With respect to each layer's weights.
    pub layers: Vec<Weights>,
    /// With respect to each layer's initial state.
    pub initial: Vec<State>,
}

/// Backpropagation through time in full (Werbos 1990), from the gradients with respect to the
/// outputs, `d_outputs` `[T, B, H]`, and to each layer's final state, `d_finals`.
pub fn backward(
    cell: Cell,
    layers: &[Weights],
    forward: &Forward,
    d_outputs: &Array3<f64>,
    d_finals: &[State],
) -> Result<Gradients> {
    if cell != forward.cell {
        let reason = format!("the forward run was a {:?}, this is a {cell:?}", forward.cell);
        return Err(Error::invalid(reason));
    }
    same_shape("layers (how many)", &[forward.traces.len()], &[layers.len()])?;
    same_shape("d_finals (how many)", &[layers.len()], &[d_finals.len()])?;
    for (l, (w, trace)) in layers.iter().zip(&forward.traces).enumerate() {
        let (_, batch, hidden) = trace.h.dim();
        w.check(cell, l, trace.x.dim().2)?;
        same_shape(&format!("weight_hh_l{l}"), &[cell.gates() * hidden, hidden], w.w_hh.shape())?;
        d_finals[l].check(cell, "d_finals", l, &[batch, hidden])?;
    }
    same_shape("d_outputs", forward.outputs.shape(), d_outputs.shape())?;

    let mut gradients = Gradients { x: d_outputs.clone(), layers: vec![], initial: vec![] };
    for (l, (w, trace)) in layers.iter().zip(&forward.traces).enumerate().rev() {
        // gradients.x is what came down from above. The outputs of layer l were multiplied by m
        // on their way up: the gradient with respect to them is m⊙(the gradient above).
        if let Some(multipliers) = forward.dropout.get(l) {
            gradients.x = &gradients.x * multipliers;
        }
        let (d_x, d_w, d_initial) = backward_layer(cell, w, trace, &gradients.x, &d_finals[l]);
        gradients.x = d_x;
        gradients.layers.insert(0, d_w);
        gradients.initial.insert(0, d_initial);
    }
    Ok(gradients)
}

/// One layer, from the last step to the first; `d_outputs` `[T, B, H]`.
/// Returns the gradients with respect to x `[T, B, I]`, the weights and the initial state.
fn backward_layer(
    cell: Cell,
    w: &Weights,
    trace: &Trace,
    d_outputs: &Array3<f64>,
    d_final: &State,
) -> (Array3<f64>, Weights, State) {
    let (steps, batch, inputs) = trace.x.dim();
    let hidden = w.hidden();
    let rows = cell.gates() * hidden;
    let mut d_x = Array3::zeros((steps, batch, inputs));
    let mut d_w = Weights::zeros(cell, inputs, hidden);
    // The gradients with respect to h(t) and c(t) through all later steps.
    let mut d_h = d_final.h.clone();
    let mut d_c = d_final.c.clone().unwrap_or_else(|| Array2::zeros((batch, hidden)));
    for t in (0..steps).rev() {
        for b in 0..batch {
            // The gradients with respect to W·x(t) + b and to U·h(t−1) + b', [G·H].
            let mut d_from_x = Array1::<f64>::zeros(rows);
            let mut d_from_h = Array1::<f64>::zeros(rows);
            for j in 0..hidden {
                let gate = |k: usize| trace.gates[[t, b, k, j]];
                // h(t) goes out and goes on to step t+1.
                let dh = d_outputs[[t, b, j]] + d_h[[b, j]];
                match cell {
                    Cell::RnnTanh => {
                        // tanh'(a) = 1 − tanh²(a)
                        d_from_x[j] = dh * (1.0 - gate(0) * gate(0));
                        d_from_h[j] = d_from_x[j];
                        d_h[[b, j]] = 0.0;
                    }
                    Cell::RnnRelu => {
                        // relu'(a) = 1 for a > 0, else 0
                        d_from_x[j] = if gate(0) > 0.0 { dh } else { 0.0 };
                        d_from_h[j] = d_from_x[j];
                        d_h[[b, j]] = 0.0;
                    }
                    Cell::Lstm => {
                        let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
                        let tanh_c = trace.c[[t + 1, b, j]].tanh();
                        // h(t) = o⊙tanh(c(t)), and c(t) goes on to step t+1.
                        let d_o = dh * tanh_c;
                        let dc = d_c[[b, j]] + dh * o * (1.0 - tanh_c * tanh_c);
                        // c(t) = f⊙c(t−1) + i⊙g
                        let d_i = dc * g;
                        let d_f = dc * trace.c[[t, b, j]];
                        let d_g = dc * i;
                        d_c[[b, j]] = dc * f;
                        // σ'(a) = σ(a)·(1 − σ(a))
                        d_from_x[j] = d_i * i * (1.0 - i);
                        d_from_x[hidden + j] = d_f * f * (1.0 - f);
                        d_from_x[2 * hidden + j] = d_g * (1.0 - g * g);
                        d_from_x[3 * hidden + j] = d_o * o * (1.0 - o);
                        for k in 0..4 {
                            d_from_h[k * hidden + j] = d_from_x[k * hidden + j];
                        }
                        d_h[[b, j]] = 0.0;
                    }
                    Cell::Gru => {
                        let (r, z, n) = (gate(0), gate(1), gate(2));
                        // h(t) = (1 − z)⊙n + z⊙h(t−1)
                        let d_n = dh * (1.0 - z);
                        let d_z = dh * (trace.h[[t, b, j]] - n);
                        d_h[[b, j]] = dh * z;
                        // n = tanh(a), a = W_n·x + b_n + r⊙u
                        let d_a = d_n * (1.0 - n * n);
                        let d_r = d_a * trace.u[[t, b, j]];
                        let d_u = d_a * r;
                        d_from_x[j] = d_r * r * (1.0 - r);
                        d_from_x[hidden + j] = d_z * z * (1.0 - z);
                        d_from_x[2 * hidden + j] = d_a;
                        d_from_h[j] = d_from_x[j];
                        d_from_h[hidden + j] = d_from_x[hidden + j];
                        d_from_h[2 * hidden + j] = d_u;
                    }
                }
            }
            // a = W·x + b: dW = da·xᵀ, db = da, dx = Wᵀ·da; the same for U, h(t−1) and b'.
            for row in 0..rows {
                d_w.b_ih[row] += d_from_x[row];
                d_w.b_hh[row] += d_from_h[row];
                for k in 0..inputs {
                    d_w.w_ih[[row, k]] += d_from_x[row] * trace.x[[t, b, k]];
                    d_x[[t, b, k]] += w.w_ih[[row, k]] * d_from_x[row];
                }
                for k in 0..hidden {
                    d_w.w_hh[[row, k]] += d_from_h[row] * trace.h[[t, b, k]];
                    d_h[[b, k]] += w.w_hh[[row, k]] * d_from_h[row];
                }
            }
        }
    }
    (d_x, d_w, State { h: d_h, c: cell.has_c().then_some(d_c) })
}
