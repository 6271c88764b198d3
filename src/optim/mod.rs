//! Optimizers: parameter updates on the device, with clipping, averages of the weights, and the learning
//! rate's schedules.
//!
//! [`Optimizer`] says how parameters move, [`Update`] what else a training step does with them: clipping,
//! groups of parameters, averaging. Numbers that change from step to step travel in the control words
//! ([`Control`]): the host makes them of [`Schedule`] and [`Averaging`], whose states are plain data that a
//! checkpoint can keep.

mod average;
mod schedule;
mod text;
mod update;

pub use average::{Averaging, AveragingState, averaged};
pub use schedule::{Mode, Plateau, Schedule, ScheduleState, Shape};
pub use update::{GRADIENT_NORM, ParameterGroup, Update};

use crate::error::{Error, Result};
use crate::kernel::Control;
use crate::schedule::Recorder;
use serde::{Deserialize, Serialize};

/// How parameters move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// v = μ·v + g + λ·w; w −= lr·v.
    Sgd {
        /// μ; 0 for plain gradient descent.
        momentum: f32,
        /// λ.
        weight_decay: f32,
    },
    /// v = μ·v + g + λ·w; w −= lr·(g + λ·w + μ·v) (Sutskever, Martens, Dahl and Hinton 2013, "On the
    /// importance of initialization and momentum in deep learning", as PyTorch has it).
    Nesterov {
        /// μ.
        momentum: f32,
        /// λ.
        weight_decay: f32,
    },
    /// s = α·s + (1−α)·(g + λ·w)²; w −= lr·(g + λ·w) / (√s + ε) (Tieleman and Hinton 2012, "Lecture 6.5",
    /// as PyTorch has it).
    RmsProp {
        /// α.
        alpha: f32,
        /// ε, outside the root.
        epsilon: f32,
        /// μ: v = μ·v + (g + λ·w) / (√s + ε); w −= lr·v. 0 for none.
        momentum: f32,
        /// λ.
        weight_decay: f32,
        /// s is the variance of the gradient, E g² − (E g)² (Graves 2013, "Generating sequences with
        /// recurrent neural networks", equations 38 to 41).
        centered: bool,
    },
    /// Adam (Kingma and Ba 2015); AdamW (Loshchilov and Hutter 2019) when decoupled.
    Adam {
        /// β₁ and β₂.
        betas: (f32, f32),
        /// ε.
        epsilon: f32,
        /// λ.
        weight_decay: f32,
        /// Decay acts on the parameter, not through the gradient.
        decoupled: bool,
    },
}

impl Optimizer {
    /// Gradient descent with momentum μ, 0 for none.
    pub fn sgd(momentum: f32) -> Self {
        Optimizer::Sgd { momentum, weight_decay: 0.0 }
    }

    /// Gradient descent with Nesterov's momentum μ.
    pub fn nesterov(momentum: f32) -> Self {
        Optimizer::Nesterov { momentum, weight_decay: 0.0 }
    }

    /// RMSProp with PyTorch's constants: α 0.99, ε 1e-8, no momentum, not centered.
    pub fn rms_prop() -> Self {
        let (alpha, epsilon, momentum, weight_decay) = (0.99, 1e-8, 0.0, 0.0);
        Optimizer::RmsProp { alpha, epsilon, momentum, weight_decay, centered: false }
    }

    /// Adam with its usual constants.
    pub fn adam() -> Self {
        let betas = (0.9, 0.999);
        Optimizer::Adam { betas, epsilon: 1e-8, weight_decay: 0.0, decoupled: false }
    }

    /// AdamW with its usual constants.
    pub fn adamw(weight_decay: f32) -> Self {
        Optimizer::Adam { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay, decoupled: true }
    }

    /// The same with another λ.
    pub fn with_weight_decay(mut self, decay: f32) -> Self {
        let (Optimizer::Sgd { weight_decay, .. }
        | Optimizer::Nesterov { weight_decay, .. }
        | Optimizer::RmsProp { weight_decay, .. }
        | Optimizer::Adam { weight_decay, .. }) = &mut self;
        *weight_decay = decay;
        self
    }

    /// The control words of step `step` (from 1) at learning rate `rate`.
    pub fn control(&self, step: u32, seed: u64, rate: f32) -> Control {
        let mut control = Control { learning_rate: rate, ..Control::new(step, seed) };
        if let Optimizer::Adam { betas, .. } = self {
            let correction = |beta: f32| 1.0 / (1.0 - f64::from(beta).powi(step.max(1) as i32));
            control.correction_1 = correction(betas.0) as f32;
            control.correction_2 = correction(betas.1) as f32;
        }
        control
    }

    /// The name on the command line, without numbers: what a checkpoint says of its moments.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::Nesterov { .. } => "nesterov",
            Optimizer::RmsProp { .. } => "rms-prop",
            Optimizer::Adam { decoupled: false, .. } => "adam",
            Optimizer::Adam { decoupled: true, .. } => "adamw",
        }
    }

    /// The names of what is kept for a parameter, as suffixes of its name.
    pub fn moments(&self) -> &'static [&'static str] {
        match *self {
            Optimizer::Sgd { .. } | Optimizer::Nesterov { .. } => &["velocity"],
            Optimizer::RmsProp { centered, momentum, .. } => match (centered, momentum != 0.0) {
                (false, false) => &["second"],
                (false, true) => &["second", "velocity"],
                (true, false) => &["second", "mean"],
                (true, true) => &["second", "mean", "velocity"],
            },
            Optimizer::Adam { .. } => &["first", "second"],
        }
    }

    /// The store's name for a moment of a parameter.
    pub fn moment_name(parameter: &str, moment: &str) -> String {
        format!("optimizer.{parameter}.{moment}")
    }

    /// λ of parameters that belong to no group.
    pub fn weight_decay(&self) -> f32 {
        let (Optimizer::Sgd { weight_decay, .. }
        | Optimizer::Nesterov { weight_decay, .. }
        | Optimizer::RmsProp { weight_decay, .. }
        | Optimizer::Adam { weight_decay, .. }) = *self;
        weight_decay
    }

    /// Whether its numbers make sense: momenta, α and β in \[0, 1), ε and λ 0 or more.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<()> {
        check_decay(self.weight_decay())?;
        let (shares, epsilon): (Vec<(&str, f32)>, f32) = match *self {
            Optimizer::Sgd { momentum, .. } | Optimizer::Nesterov { momentum, .. } => {
                (vec![("momentum", momentum)], 0.0)
            }
            Optimizer::RmsProp { alpha, epsilon, momentum, .. } => {
                (vec![("alpha", alpha), ("momentum", momentum)], epsilon)
            }
            Optimizer::Adam { betas, epsilon, .. } => {
                (vec![("beta 1", betas.0), ("beta 2", betas.1)], epsilon)
            }
        };
        if let Some((name, share)) = shares.into_iter().find(|s| !(0.0..1.0).contains(&s.1)) {
            return Err(Error::invalid(format!("{name} must be in [0, 1), not {share}")));
        }
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(Error::invalid(format!("epsilon must be 0 or more, not {epsilon}")));
        }
        Ok(())
    }

    /// Records the update of every parameter that has a gradient. With `max_norm` the gradients
    /// are scaled so that their common norm stays under it. [`Update`] can do more.
    ///
    /// # Errors
    /// As [`Update::record`].
    pub fn record(&self, rec: &mut Recorder, max_norm: Option<f32>) -> Result<()> {
        self.record_groups(rec, max_norm, &[])
    }

    /// The same with a weight decay and a learning rate of their own for groups of parameters.
    ///
    /// # Errors
    /// As [`Update::record`].
    pub fn record_groups(
        &self,
        rec: &mut Recorder,
        max_norm: Option<f32>,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        Update { max_norm, groups: groups.to_vec(), ..Update::new(*self) }.record(rec)
    }
}

fn check_decay(decay: f32) -> Result<()> {
    match decay >= 0.0 && decay.is_finite() {
        true => Ok(()),
        false => Err(Error::invalid(format!("a weight decay must be 0 or more, not {decay}"))),
    }
}
