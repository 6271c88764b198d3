//! The optimizers, as PyTorch's documentation states them, over flat parameter vectors.
//!
//! Each keeps the state of one vector, made zero at its first step; its length must not change.

use super::same_shape;
use crate::error::Result;

/// Scales all of `grads` so that their common Euclidean norm is at most `max_norm`; returns the
/// norm before. As PyTorch's `clip_grad_norm_` (Pascanu, Mikolov, Bengio 2013, with 1e-6 added):
/// g ← g·s, s = max_norm / (norm + 1e-6), if s < 1. A norm that isn't a number scales nothing.
pub fn clip_norm(grads: &mut [Vec<f64>], max_norm: f64) -> f64 {
    let mut sum = 0.0;
    for g in grads.iter().flatten() {
        sum += g * g;
    }
    let norm = f64::sqrt(sum);
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 {
        for g in grads.iter_mut().flatten() {
            *g *= scale;
        }
    }
    norm
}

/// Clips each element of `grads` to ±`bound`, as PyTorch's `clip_grad_value_`: g ← min(max(g, −b), b).
pub fn clip_value(grads: &mut [Vec<f64>], bound: f64) {
    for g in grads.iter_mut().flatten() {
        *g = f64::max(-bound, f64::min(bound, *g));
    }
}

/// Stochastic gradient descent with heavy-ball momentum (Polyak 1964) or Nesterov's, and coupled weight decay.
#[derive(Clone, Debug)]
pub struct Sgd {
    /// The learning rate.
    pub lr: f64,
    /// μ; 0 for none.
    pub momentum: f64,
    /// λ, added to the gradient as λ·p.
    pub weight_decay: f64,
    /// The gradient is taken as if the velocity had moved the parameters already.
    pub nesterov: bool,
    velocity: Vec<f64>,
}

impl Sgd {
    /// With no velocity yet.
    pub fn new(lr: f64, momentum: f64, weight_decay: f64) -> Self {
        Sgd { lr, momentum, weight_decay, nesterov: false, velocity: Vec::new() }
    }

    /// One step on `params` with `grads` of the same length.
    pub fn step(&mut self, params: &mut [f64], grads: &[f64]) -> Result<()> {
        check(params, grads, &mut [&mut self.velocity])?;
        for k in 0..params.len() {
            // g ← g + λ·p;  v ← μ·v + g (v = g at the first step);  p ← p − lr·v, Nesterov: lr·(g + μ·v)
            let g = grads[k] + self.weight_decay * params[k];
            self.velocity[k] = self.momentum * self.velocity[k] + g;
            let along = match self.nesterov {
                true => g + self.momentum * self.velocity[k],
                false => self.velocity[k],
            };
            params[k] -= self.lr * along;
        }
        Ok(())
    }
}

/// RMSProp (Tieleman, Hinton 2012), with coupled weight decay.
#[derive(Clone, Debug)]
pub struct RmsProp {
    /// The learning rate.
    pub lr: f64,
    /// α.
    pub alpha: f64,
    /// ε, added outside the square root.
    pub eps: f64,
    /// λ, added to the gradient as λ·p.
    pub weight_decay: f64,
    /// μ; 0 for none.
    pub momentum: f64,
    /// Divides by the standard deviation of the gradient, not by its root mean square.
    pub centered: bool,
    square: Vec<f64>,
    mean: Vec<f64>,
    buffer: Vec<f64>,
}

impl RmsProp {
    /// With nothing averaged yet, without momentum, not centered.
    pub fn new(lr: f64, alpha: f64, eps: f64, weight_decay: f64) -> Self {
        let (square, mean, buffer) = (Vec::new(), Vec::new(), Vec::new());
        let (momentum, centered) = (0.0, false);
        RmsProp { lr, alpha, eps, weight_decay, momentum, centered, square, mean, buffer }
    }

    /// One step on `params` with `grads` of the same length.
    pub fn step(&mut self, params: &mut [f64], grads: &[f64]) -> Result<()> {
        check(params, grads, &mut [&mut self.square, &mut self.mean, &mut self.buffer])?;
        let alpha = self.alpha;
        for k in 0..params.len() {
            // g ← g + λ·p;  v ← α·v + (1 − α)·g²;  m ← α·m + (1 − α)·g;
            // u = v, or centered v − m²;  b ← μ·b + g / (√u + ε);  p ← p − lr·b
            let g = grads[k] + self.weight_decay * params[k];
            self.square[k] = alpha * self.square[k] + (1.0 - alpha) * g * g;
            self.mean[k] = alpha * self.mean[k] + (1.0 - alpha) * g;
            let centre = if self.centered { self.mean[k] * self.mean[k] } else { 0.0 };
            let root = f64::sqrt(self.square[k] - centre);
            self.buffer[k] = self.momentum * self.buffer[k] + g / (root + self.eps);
            params[k] -= self.lr * self.buffer[k];
        }
        Ok(())
    }
}

/// Adam (Kingma, Ba 2015) with coupled weight decay: λ·p is added to the gradient.
#[derive(Clone, Debug)]
pub struct Adam {
    /// The learning rate.
    pub lr: f64,
    /// β1 and β2.
    pub betas: (f64, f64),
    /// ε, added outside the square root of the bias-corrected second moment.
    pub eps: f64,
    /// λ.
    pub weight_decay: f64,
    moments: Moments,
}

impl Adam {
    /// With moments zero; the first step is step 1.
    pub fn new(lr: f64, betas: (f64, f64), eps: f64, weight_decay: f64) -> Self {
        Adam { lr, betas, eps, weight_decay, moments: Moments::default() }
    }

    /// One step on `params` with `grads` of the same length.
    pub fn step(&mut self, params: &mut [f64], grads: &[f64]) -> Result<()> {
        check(params, grads, &mut [&mut self.moments.m, &mut self.moments.v])?;
        self.moments.step += 1;
        for k in 0..params.len() {
            // g ← g + λ·p;  p ← p − lr·m̂ / (√v̂ + ε)
            let g = grads[k] + self.weight_decay * params[k];
            params[k] -= self.lr * self.moments.direction(k, g, self.betas, self.eps);
        }
        Ok(())
    }
}

/// AdamW (Loshchilov, Hutter 2019): weight decay decoupled from the gradient.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// The learning rate.
    pub lr: f64,
    /// β1 and β2.
    pub betas: (f64, f64),
    /// ε, added outside the square root of the bias-corrected second moment.
    pub eps: f64,
    /// λ; the parameters shrink by lr·λ a step.
    pub weight_decay: f64,
    moments: Moments,
}

impl AdamW {
    /// With moments zero; the first step is step 1.
    pub fn new(lr: f64, betas: (f64, f64), eps: f64, weight_decay: f64) -> Self {
        AdamW { lr, betas, eps, weight_decay, moments: Moments::default() }
    }

    /// One step on `params` with `grads` of the same length.
    pub fn step(&mut self, params: &mut [f64], grads: &[f64]) -> Result<()> {
        check(params, grads, &mut [&mut self.moments.m, &mut self.moments.v])?;
        self.moments.step += 1;
        for k in 0..params.len() {
            // p ← p − lr·λ·p;  p ← p − lr·m̂ / (√v̂ + ε)
            params[k] -= self.lr * self.weight_decay * params[k];
            params[k] -= self.lr * self.moments.direction(k, grads[k], self.betas, self.eps);
        }
        Ok(())
    }
}

/// The first and second moment of every parameter.
#[derive(Clone, Debug, Default)]
struct Moments {
    m: Vec<f64>,
    v: Vec<f64>,
    /// The steps taken, the present one included.
    step: i32,
}

impl Moments {
    /// Takes g into the moments of parameter `k`; returns m̂ / (√v̂ + ε) (Kingma, Ba, algorithm 1):
    /// m ← β1·m + (1 − β1)·g,  v ← β2·v + (1 − β2)·g²,  m̂ = m / (1 − β1^t),  v̂ = v / (1 − β2^t).
    fn direction(&mut self, k: usize, g: f64, (beta1, beta2): (f64, f64), eps: f64) -> f64 {
        self.m[k] = beta1 * self.m[k] + (1.0 - beta1) * g;
        self.v[k] = beta2 * self.v[k] + (1.0 - beta2) * g * g;
        let m_hat = self.m[k] / (1.0 - beta1.powi(self.step));
        let v_hat = self.v[k] / (1.0 - beta2.powi(self.step));
        m_hat / (v_hat.sqrt() + eps)
    }
}

/// Checks the lengths of the gradients and of the state; makes a state that isn't there yet.
fn check(params: &[f64], grads: &[f64], state: &mut [&mut Vec<f64>]) -> Result<()> {
    same_shape("gradients", &[params.len()], &[grads.len()])?;
    for vector in state {
        if vector.is_empty() {
            vector.resize(params.len(), 0.0);
        }
        same_shape("parameters", &[vector.len()], &[params.len()])?;
    }
    Ok(())
}
