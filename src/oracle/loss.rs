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

/// A loss and its gradient with respect to the predictions.
pub type Valued = (f64, Array2<f64>);

/// Cross-entropy with class weights w `[V]`, label smoothing ε, and rows that take part:
/// Σₙ (1 − ε)·w(tₙ)·(−log p(tₙ)) + ε/V·Σᵥ w(v)·(−log p(v)), divided by Σₙ w(tₙ); 0 where that is 0.
/// Targets of rows that take no part may be anything.
pub fn weighted_cross_entropy(
    logits: &Array2<f64>,
    targets: &[usize],
    takes_part: &[bool],
    weights: &[f64],
    smoothing: f64,
) -> Result<Valued> {
    let (rows, classes) = logits.dim();
    same_shape("targets", &[rows], &[targets.len()])?;
    same_shape("rows that take part", &[rows], &[takes_part.len()])?;
    same_shape("class weights", &[classes], &[weights.len()])?;
    let taken: Vec<usize> = (0..rows).filter(|&n| takes_part[n]).collect();
    let labels: Vec<usize> = taken.iter().map(|&n| targets[n]).collect();
    check_ids("target", classes, &labels)?;
    let total: f64 = labels.iter().map(|&t| weights[t]).sum();
    let (mut loss, mut d) = (0.0, Array2::zeros((rows, classes)));
    if total == 0.0 {
        return Ok((loss, d));
    }
    for &n in &taken {
        let m = logits.row(n).iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.row(n).iter().map(|a| (a - m).exp()).sum();
        for v in 0..classes {
            // The weight of −log p(v); of all of them p has the derivative of the log.
            let own = if v == targets[n] { (1.0 - smoothing) * weights[v] } else { 0.0 };
            let a = own + smoothing / classes as f64 * weights[v];
            loss += a * (m + sum.ln() - logits[[n, v]]) / total;
            d[[n, v]] -= a / total;
            for k in 0..classes {
                d[[n, k]] += a * ((logits[[n, k]] - m).exp() / sum) / total;
            }
        }
    }
    Ok((loss, d))
}

/// A loss of one wanted value.
#[derive(Clone, Debug, PartialEq)]
pub enum ElementLoss {
    /// −w·y·log σ(x) − (1 − y)·log(1 − σ(x)) with the weight of each column.
    BinaryCrossEntropy(Vec<f64>),
    /// (x − y)².
    Squared,
    /// |x − y|.
    Absolute,
    /// Huber's, with δ.
    Huber(f64),
    /// The pinball loss of each level.
    Quantile(Vec<f64>),
    /// −log of the normal density of (μ, s), σ = the least + log(1 + eˢ).
    Gaussian(f64),
    /// −log of Student's density of (μ, s, r), σ as above, ν = 2 + log(1 + eʳ).
    StudentT(f64),
}

/// log(1 + eˣ) and its derivative.
fn softplus(x: f64) -> [f64; 2] {
    [x.max(0.0) + (-x.abs()).exp().ln_1p(), 1.0 / (1.0 + (-x).exp())]
}

/// log Γ(x) and its derivative ψ(x), x > 0: Stirling's series beyond 20, and Γ(x + 1) = x·Γ(x) before.
fn log_gamma(x: f64) -> [f64; 2] {
    let (mut x, mut shift, mut d_shift) = (x, 0.0, 0.0);
    while x < 20.0 {
        shift -= x.ln();
        d_shift -= 1.0 / x;
        x += 1.0;
    }
    let s = 1.0 / (x * x);
    let series = (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1260.0 - s / 1680.0))) / x;
    let d = s * (1.0 / 12.0 - s * (1.0 / 120.0 - s * (1.0 / 252.0 - s / 240.0)));
    let log = (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series;
    [log + shift, x.ln() - 0.5 / x - d + d_shift]
}

impl ElementLoss {
    /// Predictions of one wanted value.
    pub fn predictions(&self) -> usize {
        match self {
            ElementLoss::Quantile(levels) => levels.len(),
            ElementLoss::Gaussian(_) => 2,
            ElementLoss::StudentT(_) => 3,
            _ => 1,
        }
    }

    /// The loss of `x` against `y` in a column, and the slopes.
    fn at(&self, x: &[f64], y: f64, column: usize) -> (f64, Vec<f64>) {
        let r = x[0] - y;
        match self {
            ElementLoss::BinaryCrossEntropy(weights) => {
                // −log σ(x) = log(1 + e⁻ˣ), −log(1 − σ(x)) = log(1 + eˣ)
                let ([no, d_no], [yes, d_yes]) = (softplus(x[0]), softplus(-x[0]));
                let w = weights[column];
                (w * y * yes + (1.0 - y) * no, vec![-w * y * d_yes + (1.0 - y) * d_no])
            }
            ElementLoss::Squared => (r * r, vec![2.0 * r]),
            ElementLoss::Absolute => (r.abs(), vec![if r == 0.0 { 0.0 } else { r.signum() }]),
            ElementLoss::Huber(delta) if r.abs() <= *delta => (0.5 * r * r, vec![r]),
            ElementLoss::Huber(delta) => {
                (delta * (r.abs() - 0.5 * delta), vec![delta * r.signum()])
            }
            ElementLoss::Quantile(levels) => {
                let mut sum = 0.0;
                let mut slopes = Vec::new();
                for (level, x) in levels.iter().zip(x) {
                    let u = y - x;
                    sum += (level * u).max((level - 1.0) * u);
                    slopes.push(match u.partial_cmp(&0.0) {
                        Some(std::cmp::Ordering::Greater) => -level,
                        Some(std::cmp::Ordering::Less) => 1.0 - level,
                        _ => 0.0,
                    });
                }
                (sum, slopes)
            }
            ElementLoss::Gaussian(least) => {
                let [soft, d_soft] = softplus(x[1]);
                let sigma = least + soft;
                let z = r / sigma;
                let loss = sigma.ln() + 0.5 * z * z + 0.5 * std::f64::consts::TAU.ln();
                (loss, vec![z / sigma, (1.0 - z * z) / sigma * d_soft])
            }
            ElementLoss::StudentT(least) => {
                let ([soft, d_soft], [more, d_more]) = (softplus(x[1]), softplus(x[2]));
                let (sigma, nu) = (least + soft, 2.0 + more);
                let z = r / sigma;
                let ([low, d_low], [high, d_high]) =
                    (log_gamma(0.5 * nu), log_gamma(0.5 * (nu + 1.0)));
                let tail = (z * z / nu).ln_1p();
                // −log p = log Γ(ν/2) − log Γ((ν+1)/2) + ½log(πν) + log σ + (ν+1)/2·log(1 + z²/ν)
                let loss = low - high
                    + 0.5 * (std::f64::consts::PI * nu).ln()
                    + sigma.ln()
                    + 0.5 * (nu + 1.0) * tail;
                let d_z = (nu + 1.0) * z / (nu + z * z);
                let d_nu = 0.5 * (d_low - d_high) + 0.5 / nu + 0.5 * tail
                    - 0.5 * (nu + 1.0) * z * z / (nu * (nu + z * z));
                (loss, vec![d_z / sigma, (1.0 - z * d_z) / sigma * d_soft, d_nu * d_more])
            }
        }
    }
}

/// The mean of a loss of `predictions` `[N, D·k]` (those of a wanted value side by side) against `wanted` `[N, D]` over
/// the elements that take part `[N, D]`, for quantiles over the levels too, and its gradient. Nothing taking part: 0.
pub fn element_loss(
    loss: &ElementLoss,
    predictions: &Array2<f64>,
    wanted: &Array2<f64>,
    takes_part: &Array2<bool>,
) -> Result<Valued> {
    let ((rows, width), each) = (wanted.dim(), loss.predictions());
    same_shape("predictions", &[rows, width * each], predictions.shape())?;
    same_shape("elements that take part", &[rows, width], takes_part.shape())?;
    let terms = takes_part.iter().filter(|&&t| t).count();
    let levels = if let ElementLoss::Quantile(levels) = loss { levels.len() } else { 1 };
    let scale = 1.0 / (terms * levels) as f64;
    let (mut sum, mut d) = (0.0, Array2::zeros(predictions.dim()));
    for ((n, c), _) in takes_part.indexed_iter().filter(|t| *t.1) {
        let x: Vec<f64> = (0..each).map(|k| predictions[[n, c * each + k]]).collect();
        let (value, slopes) = loss.at(&x, wanted[[n, c]], c);
        sum += scale * value;
        for (k, slope) in slopes.into_iter().enumerate() {
            d[[n, c * each + k]] = scale * slope;
        }
    }
    Ok((sum, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// log Γ(½) = log √π, Γ(n + 1) = n!, ψ(1) = −γ.
    #[test]
    fn log_gamma_has_its_known_values() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(log_gamma(0.5)[0], std::f64::consts::PI.ln() / 2.0);
        close(log_gamma(6.0)[0], 120f64.ln());
        close(log_gamma(1.0)[1], -0.577_215_664_901_532_9);
        close(log_gamma(40.0)[0], (1..40).map(|n| f64::from(n).ln()).sum());
    }
}
