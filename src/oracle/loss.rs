//! What stands before and after the recurrent layers: embedding, linear map, cross entropy.

use ndarray::{Array1, Array2, Array3};

use super::same_shape;
use crate::error::{Error, Result};

/// Looks up the rows `ids` `[N]` of `table` `[V, E]`; returns `[N, E]`.
pub fn embedding(table: &Array2<f64>, ids: &[usize]) -> Result<Array2<f64>> {
    check_ids("id", table.nrows(), ids)?;
    let mut out = Array2::zeros((ids.len(), table.ncols()));
    for (n, &id) in ids.iter().enumerate() {
        for e in 0..table.ncols() {
            // y(n) = table(id(n))
            out[[n, e]] = table[[id, e]];
        }
    }
    Ok(out)
}

/// The gradient with respect to a table of `vocabulary` V rows, from `d_out` `[N, E]`; `[V, E]`.
/// A row looked up several times gets the sum.
pub fn embedding_backward(
    vocabulary: usize,
    ids: &[usize],
    d_out: &Array2<f64>,
) -> Result<Array2<f64>> {
    check_ids("id", vocabulary, ids)?;
    same_shape("d_out of the embedding", &[ids.len(), d_out.ncols()], d_out.shape())?;
    let mut d_table = Array2::zeros((vocabulary, d_out.ncols()));
    for (n, &id) in ids.iter().enumerate() {
        for e in 0..d_out.ncols() {
            d_table[[id, e]] += d_out[[n, e]];
        }
    }
    Ok(d_table)
}

/// y = x·Wᵀ + b, with `x` `[N, I]`, `w` `[O, I]`, `b` `[O]`; returns `[N, O]`.
pub fn linear(x: &Array2<f64>, w: &Array2<f64>, b: &Array1<f64>) -> Result<Array2<f64>> {
    let (rows, inputs) = x.dim();
    let outputs = w.nrows();
    same_shape("weight of the linear map", &[outputs, inputs], w.shape())?;
    same_shape("bias of the linear map", &[outputs], b.shape())?;
    let mut y = Array2::zeros((rows, outputs));
    for n in 0..rows {
        for o in 0..outputs {
            // y(n, o) = b(o) + Σ_i w(o, i)·x(n, i)
            y[[n, o]] = b[o];
            for i in 0..inputs {
                y[[n, o]] += w[[o, i]] * x[[n, i]];
            }
        }
    }
    Ok(y)
}

/// The gradients of [`linear`].
#[derive(Clone, Debug)]
pub struct LinearGradients {
    /// With respect to the input `[N, I]`.
    pub x: Array2<f64>,
    /// With respect to the weights `[O, I]`.
    pub w: Array2<f64>,
    /// With respect to the bias `[O]`.
    pub b: Array1<f64>,
}

/// The gradients of [`linear`] from `d_y` `[N, O]`.
pub fn linear_backward(
    x: &Array2<f64>,
    w: &Array2<f64>,
    d_y: &Array2<f64>,
) -> Result<LinearGradients> {
    let (rows, inputs) = x.dim();
    let outputs = w.nrows();
    same_shape("weight of the linear map", &[outputs, inputs], w.shape())?;
    same_shape("d_y of the linear map", &[rows, outputs], d_y.shape())?;
    let mut d = LinearGradients {
        x: Array2::zeros((rows, inputs)),
        w: Array2::zeros((outputs, inputs)),
        b: Array1::zeros(outputs),
    };
    for n in 0..rows {
        for o in 0..outputs {
            // db = Σ_n dy(n), dW = Σ_n dy(n)·x(n)ᵀ, dx(n) = Wᵀ·dy(n)
            d.b[o] += d_y[[n, o]];
            for i in 0..inputs {
                d.w[[o, i]] += d_y[[n, o]] * x[[n, i]];
                d.x[[n, i]] += d_y[[n, o]] * w[[o, i]];
            }
        }
    }
    Ok(d)
}

/// The mean over the rows of `−log softmax(logits)[target]`, and its gradient with respect to the
/// `logits` `[N, V]`; `targets` `[N]`. At least one row is needed.
pub fn softmax_cross_entropy(
    logits: &Array2<f64>,
    targets: &[usize],
) -> Result<(f64, Array2<f64>)> {
    let (rows, classes) = logits.dim();
    same_shape("targets", &[rows], &[targets.len()])?;
    check_ids("target", classes, targets)?;
    if rows == 0 {
        return Err(Error::invalid("the mean cross entropy of no rows is undefined"));
    }
    let mut loss = 0.0;
    let mut d_logits = Array2::zeros((rows, classes));
    for (n, &target) in targets.iter().enumerate() {
        // log softmax(a)[v] = a(v) − m − log Σ_k e^(a(k) − m), m = max a, which no exp overflows.
        let m = logits.row(n).iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.row(n).iter().map(|a| (a - m).exp()).sum();
        loss += -(logits[[n, target]] - m - sum.ln()) / rows as f64;
        // dL/da(v) = (softmax(a)[v] − [v = target]) / N
        for v in 0..classes {
            let p = (logits[[n, v]] - m).exp() / sum;
            let one_hot = if v == target { 1.0 } else { 0.0 };
            d_logits[[n, v]] = (p - one_hot) / rows as f64;
        }
    }
    Ok((loss, d_logits))
}

/// `Ok` when every id is below `size`.
fn check_ids(what: &str, size: usize, ids: &[usize]) -> Result<()> {
    match ids.iter().enumerate().find(|&(_, &id)| id >= size) {
        None => Ok(()),
        Some((n, id)) => {
            Err(Error::invalid(format!("{what} {id} at position {n} is not below {size}")))
        }
    }
}

/// α·mean h² over the rows of `h` `[T, B, W]` that are `valid` `[T, B]` (activation regularisation), and its
/// gradient. Nothing valid, no penalty.
pub fn activation_penalty(
    h: &Array3<f64>,
    valid: &Array2<bool>,
    alpha: f64,
) -> Result<(f64, Array3<f64>)> {
    let (time, batch, width) = h.dim();
    same_shape("validity of the outputs", &[time, batch], valid.shape())?;
    let count = valid.iter().filter(|&&v| v).count() * width;
    let (mut loss, mut d_h) = (0.0, Array3::zeros(h.dim()));
    for ((t, b, w), &value) in h.indexed_iter().filter(|((t, b, _), _)| valid[[*t, *b]]) {
        // α/n·Σ h(t,b,w)²
        loss += alpha / count as f64 * value * value;
        d_h[[t, b, w]] = 2.0 * alpha / count as f64 * value;
    }
    Ok((loss, d_h))
}

/// β·mean (h(t+1) − h(t))² over the rows that are valid at both steps (temporal activation
/// regularisation), and its gradient.
pub fn temporal_penalty(
    h: &Array3<f64>,
    valid: &Array2<bool>,
    beta: f64,
) -> Result<(f64, Array3<f64>)> {
    let (time, batch, width) = h.dim();
    same_shape("validity of the outputs", &[time, batch], valid.shape())?;
    let mut pairs = Vec::new();
    for t in 1..time {
        pairs.extend((0..batch).filter(|&b| valid[[t - 1, b]] && valid[[t, b]]).map(|b| (t, b)));
    }
    let scale = beta / (pairs.len() * width) as f64;
    let (mut loss, mut d_h) = (0.0, Array3::zeros(h.dim()));
    for (t, b) in pairs {
        for w in 0..width {
            // β/n·Σ (h(t,b,w) − h(t−1,b,w))²
            let change = h[[t, b, w]] - h[[t - 1, b, w]];
            loss += scale * change * change;
            d_h[[t, b, w]] += 2.0 * scale * change;
            d_h[[t - 1, b, w]] -= 2.0 * scale * change;
        }
    }
    Ok((loss, d_h))
}
