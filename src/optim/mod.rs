//! Optimizers: parameter updates on the device, with the global gradient norm and its clipping.

use crate::error::{Error, Result};
use crate::kernel::{self, AdamParams, ClipScale, Control, SumSquares, View};
use crate::schedule::{Recorder, Var};

/// How parameters move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// v = μ·v + g + λ·w; w −= lr·v.
    Sgd {
        /// μ; 0 for plain gradient descent.
        momentum: f32,
        /// λ.
        weight_decay: f32,
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

/// Parameters with a weight decay of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// A parameter belongs to the first group with a part of its name: `bias`, `lstm.weight_hh`.
    pub names: Vec<String>,
    /// λ of these parameters.
    pub weight_decay: f32,
}

impl ParameterGroup {
    /// Parameters whose names contain one of `names`.
    pub fn new(names: &[&str], weight_decay: f32) -> Self {
        ParameterGroup { names: names.iter().map(ToString::to_string).collect(), weight_decay }
    }

    fn has(&self, parameter: &str) -> bool {
        self.names.iter().any(|part| parameter.contains(part.as_str()))
    }
}

impl Optimizer {
    /// Adam with its usual constants.
    pub fn adam() -> Self {
        let betas = (0.9, 0.999);
        Optimizer::Adam { betas, epsilon: 1e-8, weight_decay: 0.0, decoupled: false }
    }

    /// AdamW with its usual constants.
    pub fn adamw(weight_decay: f32) -> Self {
        Optimizer::Adam { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay, decoupled: true }
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

    /// The names of what is kept for a parameter, as suffixes of its name.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { .. } => &["velocity"],
            Optimizer::Adam { .. } => &["first", "second"],
        }
    }

    /// The store's name for a moment of a parameter.
    pub fn moment_name(parameter: &str, moment: &str) -> String {
        format!("optimizer.{parameter}.{moment}")
    }

    /// λ of parameters that belong to no group.
    pub fn weight_decay(&self) -> f32 {
        let (Optimizer::Sgd { weight_decay, .. } | Optimizer::Adam { weight_decay, .. }) = *self;
        weight_decay
    }

    /// Records the update of every parameter that has a gradient. With `max_norm` the gradients
    /// are scaled so that their common norm stays under it.
    ///
    /// # Errors
    /// No parameter has a gradient; a norm or rate that makes no sense.
    pub fn record(&self, rec: &mut Recorder, max_norm: Option<f32>) -> Result<()> {
        self.record_groups(rec, max_norm, &[])
    }

    /// The same with a weight decay of their own for groups of parameters.
    ///
    /// # Errors
    /// As [`Optimizer::record`]; a group that no parameter belongs to.
    pub fn record_groups(
        &self,
        rec: &mut Recorder,
        max_norm: Option<f32>,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        let mut updates: Vec<(String, Var, View)> = Vec::new();
        for (name, parameter) in rec.parameters() {
            updates.extend(rec.gradient(parameter).map(|gradient| (name, parameter, gradient)));
        }
        if updates.is_empty() {
            return Err(Error::invalid("no parameter has a gradient: record backward first"));
        }
        let group = |name: &str| groups.iter().position(|group| group.has(name));
        for (number, of) in groups.iter().enumerate() {
            if !updates.iter().any(|update| group(&update.0) == Some(number)) {
                let names = of.names.join("', '");
                return Err(Error::invalid(format!("no parameter is in the group '{names}'")));
            }
        }
        let mut decays: Vec<f32> = groups.iter().map(|group| group.weight_decay).collect();
        decays.push(self.weight_decay());
        if let Some(decay) = decays.iter().find(|decay| !(**decay >= 0.0 && decay.is_finite())) {
            return Err(Error::invalid(format!("a weight decay must be 0 or more, not {decay}")));
        }
        let scale = rec.loss_scale()?;
        let clip = match max_norm {
            None if scale.is_none() => None,
            None => Some(self.record_clip(rec, &updates, f32::INFINITY, scale)?),
            Some(norm) if norm > 0.0 => Some(self.record_clip(rec, &updates, norm, scale)?),
            Some(norm) => {
                return Err(Error::invalid(format!(
                    "the clipping norm must be positive, not {norm}"
                )));
            }
        };
        let control = rec.control();
        for (name, parameter, gradient) in updates {
            let mut buffers = vec![parameter.view, gradient];
            for moment in self.moments() {
                let name = Self::moment_name(&name, moment);
                buffers.push(rec.state(&name, [1, parameter.view.len])?.view);
            }
            buffers.push(control);
            buffers.extend(clip);
            let (clip, scaled) = (clip.is_some(), scale.is_some());
            let weight_decay = decays[group(&name).unwrap_or(groups.len())];
            match *self {
                Optimizer::Sgd { momentum, .. } => {
                    let op = kernel::Sgd::new(gradient, momentum, weight_decay, clip);
                    rec.launch(kernel::Sgd { scaled, ..op }, &buffers)?
                }
                Optimizer::Adam { betas: (beta_1, beta_2), epsilon, decoupled, .. } => {
                    let params = AdamParams {
                        count: gradient.len as u32,
                        gradient_offset: gradient.offset as u32,
                        beta_1,
                        beta_2,
                        rest_1: (1.0 - f64::from(beta_1)) as f32,
                        rest_2: (1.0 - f64::from(beta_2)) as f32,
                        epsilon,
                        weight_decay,
                    };
                    rec.launch(kernel::Adam { params, decoupled, clip, scaled }, &buffers)?
                }
            }
        }
        Ok(())
    }

    /// norm = √Σ g² over all gradients, and the factor that keeps it under `max_norm`; under a loss scale
    /// also whether to update, and the scale of the next step.
    fn record_clip(
        &self,
        rec: &mut Recorder,
        updates: &[(String, Var, View)],
        max_norm: f32,
        scale: Option<View>,
    ) -> Result<View> {
        let count = updates.iter().map(|u| SumSquares::partials(u.2.len)).sum();
        let partials = rec.temporary_f32("partials", [1, count])?.view;
        let mut offset = 0;
        for (_, _, gradient) in updates {
            rec.launch(SumSquares::new(*gradient, offset), &[*gradient, partials])?;
            offset += SumSquares::partials(gradient.len);
        }
        let clip = rec.temporary_f32("clip", [1, ClipScale::words(scale.is_some())])?.view;
        let op = ClipScale::new(count, max_norm);
        let Some(scale) = scale else {
            rec.launch(op, &[partials, clip])?;
            return Ok(clip);
        };
        let betas = match *self {
            Optimizer::Adam { betas, .. } => betas,
            Optimizer::Sgd { .. } => (0.0, 0.0),
        };
        rec.launch(op.under_scale(betas), &[partials, clip, scale])?;
        Ok(clip)
    }
}
