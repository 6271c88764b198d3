//! What a training step does with its gradients: clipping, groups, the optimizer, averages.

use super::{Averaging, AveragingState, Optimizer, check_decay};
use crate::error::{Error, Result};
use crate::kernel::{
    self, AdamParams, ClipScale, ClipValue, Control, Op, RecordLoss, RecordLossParams,
    RmsPropParams, SumSquares, View,
};
use crate::loss::RING;
use crate::schedule::{Recorder, Var, average_name};
use serde::{Deserialize, Serialize};

/// The output that holds the norms of all gradients in the last steps, behind a clipping of single values and before that
/// of the norm: entry (step − 1) mod [`RING`], where there is a clipping norm.
pub const GRADIENT_NORM: &str = "gradient_norm";

/// Parameters with a weight decay and a learning rate of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// A parameter belongs to the first group with a part of its name: `bias`, `lstm.weight_hh`.
    pub names: Vec<String>,
    /// λ of these parameters.
    #[serde(default)]
    pub weight_decay: f32,
    /// Factor of the learning rate; 0 freezes them: they don't move, and nothing is kept for them.
    #[serde(default = "whole")]
    pub rate: f32,
}

fn whole() -> f32 {
    1.0
}

impl ParameterGroup {
    /// Parameters whose names contain one of `names`.
    pub fn new(names: &[&str], weight_decay: f32) -> Self {
        let names = names.iter().map(ToString::to_string).collect();
        ParameterGroup { names, weight_decay, rate: 1.0 }
    }

    /// Parameters that stay as they are.
    pub fn frozen(names: &[&str]) -> Self {
        Self::new(names, 0.0).at_rate(0.0)
    }

    /// The same at `rate` times the learning rate.
    pub fn at_rate(self, rate: f32) -> Self {
        ParameterGroup { rate, ..self }
    }

    fn has(&self, parameter: &str) -> bool {
        self.names.iter().any(|part| parameter.contains(part.as_str()))
    }
}

/// What a training step does with its gradients, in this order: each element is clipped to
/// ±[`max_value`](Update::max_value), then all are scaled so that their common norm is at most
/// [`max_norm`](Update::max_norm), then the optimizer moves each group of parameters, then their average
/// follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// How parameters move.
    pub optimizer: Optimizer,
    /// The largest size of a gradient's element (as PyTorch's `clip_grad_value_`). Infinities are clipped
    /// too, but under a loss scale, where they leave the step out; what is no number stays so.
    #[serde(default)]
    pub max_value: Option<f32>,
    /// The largest Euclidean norm of all gradients together (Pascanu, Mikolov and Bengio 2013, as PyTorch's
    /// `clip_grad_norm_`).
    #[serde(default)]
    pub max_norm: Option<f32>,
    /// Parameters with a weight decay or a learning rate of their own.
    #[serde(default)]
    pub groups: Vec<ParameterGroup>,
    /// An average of the weights over the steps, in tensors of their own ([`average_name`]).
    #[serde(default)]
    pub averaging: Option<Averaging>,
}

/// One parameter's update.
struct Step {
    name: String,
    parameter: Var,
    gradient: View,
    weight_decay: f32,
    rate: f32,
}

impl Update {
    /// The optimizer alone.
    pub fn new(optimizer: Optimizer) -> Self {
        Update { optimizer, max_value: None, max_norm: None, groups: Vec::new(), averaging: None }
    }

    /// The group that a parameter belongs to.
    fn group(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.has(name))
    }

    /// Tells a recorder which parameters are frozen, before layers are recorded: then their gradients are
    /// not even computed. Without it frozen parameters stay as they are all the same.
    pub fn freeze(&self, rec: &mut Recorder) {
        let groups = self.groups.clone();
        rec.freeze(move |name| groups.iter().find(|g| g.has(name)).is_some_and(|g| g.rate == 0.0));
    }

    /// The control words of step `step` (from 1) at learning rate `rate`; the averaging's state may be
    /// [`AveragingState::default`] where there is none.
    pub fn control(&self, step: u32, seed: u64, rate: f32, averaging: &AveragingState) -> Control {
        let share = self.averaging.map_or(0.0, |a| a.share(step.into(), averaging));
        Control { average_share: share, ..self.optimizer.control(step, seed, rate) }
    }

    /// Records the update of every parameter that has a gradient. Gradients of micro-batches
    /// ([`Recorder::micro_batches`]) are sums: the update takes their mean.
    ///
    /// # Errors
    /// No parameter has a gradient; a group that no parameter belongs to; a clipping norm or value, a decay,
    /// a rate or another number that makes no sense.
    pub fn record(&self, rec: &mut Recorder) -> Result<()> {
        self.check()?;
        let parameters = rec.parameters();
        for (number, of) in self.groups.iter().enumerate() {
            // A group of frozen ones may have lost its gradients.
            let is_of = |p: &(String, Var)| {
                (of.rate == 0.0 || rec.gradient(p.1).is_some()) && self.group(&p.0) == Some(number)
            };
            if !parameters.iter().any(is_of) {
                let names = of.names.join("', '");
                return Err(Error::invalid(format!("no parameter is in the group '{names}'")));
            }
        }
        let mut steps = Vec::new();
        for (name, parameter) in parameters {
            let group = self.group(&name).map(|number| &self.groups[number]);
            let rate = group.map_or(1.0, |group| group.rate);
            let weight_decay = group.map_or(self.optimizer.weight_decay(), |g| g.weight_decay);
            if let Some(gradient) = rec.gradient(parameter).filter(|_| rate != 0.0) {
                steps.push(Step { name, parameter, gradient, weight_decay, rate });
            }
        }
        if steps.is_empty() {
            return Err(Error::invalid("no parameter has a gradient: record backward first"));
        }
        let scale = rec.loss_scale()?;
        if let Some(bound) = self.max_value {
            for step in &steps {
                let op = ClipValue::new(step.gradient, bound * rec.micro_batch_count() as f32);
                let buffers: Vec<View> = [step.gradient].into_iter().chain(scale).collect();
                rec.launch(ClipValue { scaled: scale.is_some(), ..op }, &buffers)?;
            }
        }
        let plain = scale.is_none() && rec.micro_batch_count() == 1;
        let clip = match self.max_norm {
            None if plain => None,
            norm => Some(self.record_clip(rec, &steps, norm.unwrap_or(f32::INFINITY), scale)?),
        };
        let control = rec.control();
        for step in &steps {
            let mut buffers = vec![step.parameter.view, step.gradient];
            for moment in self.optimizer.moments() {
                let name = Optimizer::moment_name(&step.name, moment);
                buffers.push(rec.state(&name, [1, step.parameter.view.len])?.view);
            }
            buffers.push(control);
            buffers.extend(clip);
            rec.launch(step.op(&self.optimizer, clip.is_some(), scale.is_some()), &buffers)?;
        }
        if self.averaging.is_some() {
            // All of them, so that the averages make a whole model.
            for (name, Var { view, .. }) in rec.parameters() {
                let average = rec.state(&average_name(&name), [1, view.len])?.view;
                rec.launch(kernel::Average::new(view.len), &[view, average, control])?;
            }
        }
        Ok(())
    }

    /// Whether its numbers make sense, before anything is recorded.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<()> {
        self.optimizer.check()?;
        if let Some(averaging) = self.averaging {
            averaging.check()?;
        }
        for ParameterGroup { weight_decay, rate, .. } in &self.groups {
            check_decay(*weight_decay)?;
            if !(*rate >= 0.0 && rate.is_finite()) {
                let what = "a group's factor of the learning rate must be 0 or more";
                return Err(Error::invalid(format!("{what}, not {rate}")));
            }
        }
        // An infinite norm asks for the norm alone.
        for (what, bound, most) in
            [("norm", self.max_norm, f32::INFINITY), ("value", self.max_value, f32::MAX)]
        {
            if let Some(bound) = bound.filter(|bound| !(*bound > 0.0 && *bound <= most)) {
                let reason = format!("the clipping {what} must be positive, not {bound}");
                return Err(Error::invalid(reason));
            }
        }
        Ok(())
    }

    /// norm = √Σ g² over all gradients, and the factor that keeps it under `max_norm`; under a loss scale
    /// also whether to update, and the scale of the next step.
    fn record_clip(
        &self,
        rec: &mut Recorder,
        steps: &[Step],
        max_norm: f32,
        scale: Option<View>,
    ) -> Result<View> {
        let count = steps.iter().map(|step| SumSquares::partials(step.gradient.len)).sum();
        let partials = rec.temporary_f32("partials", [1, count])?.view;
        let mut offset = 0;
        for Step { gradient, .. } in steps {
            rec.launch(SumSquares::new(*gradient, offset), &[*gradient, partials])?;
            offset += SumSquares::partials(gradient.len);
        }
        let clip = rec.temporary_f32("clip", [1, ClipScale::words(scale.is_some())])?.view;
        let op = ClipScale::new(count, max_norm).of_micro_batches(rec.micro_batch_count());
        match scale {
            None => rec.launch(op, &[partials, clip])?,
            Some(scale) => {
                let betas = match self.optimizer {
                    Optimizer::Adam { betas, .. } => betas,
                    _ => (0.0, 0.0),
                };
                rec.launch(op.under_scale(betas), &[partials, clip, scale])?;
            }
        }
        // The norm, the second word.
        let ring = rec.output_buffer(GRADIENT_NORM, [1, RING])?;
        let control = rec.control();
        let op = RecordLoss::new(1, RING);
        let params = RecordLossParams { first: 1, ..op.params };
        rec.launch(RecordLoss { params, ..op }, &[clip, ring.view, control])?;
        Ok(clip)
    }
}

impl Step {
    fn op(&self, optimizer: &Optimizer, clip: bool, scaled: bool) -> Op {
        let (count, gradient_offset) = (self.gradient.len as u32, self.gradient.offset as u32);
        let (weight_decay, rate) = (self.weight_decay, self.rate);
        let rest = |share: f32| (1.0 - f64::from(share)) as f32;
        match *optimizer {
            Optimizer::Sgd { momentum, .. } | Optimizer::Nesterov { momentum, .. } => {
                let mut op = kernel::Sgd::new(self.gradient, momentum, weight_decay, clip);
                op.params.rate = rate;
                let nesterov = matches!(optimizer, Optimizer::Nesterov { .. });
                kernel::Sgd { nesterov, scaled, ..op }.into()
            }
            Optimizer::RmsProp { alpha, epsilon, momentum, centered, .. } => {
                let params = RmsPropParams {
                    count,
                    gradient_offset,
                    alpha,
                    rest: rest(alpha),
                    epsilon,
                    momentum,
                    weight_decay,
                    rate,
                };
                let momentum = momentum != 0.0;
                kernel::RmsProp { params, centered, momentum, clip, scaled }.into()
            }
            Optimizer::Adam { betas: (beta_1, beta_2), epsilon, decoupled, .. } => {
                let params = AdamParams {
                    count,
                    gradient_offset,
                    beta_1,
                    beta_2,
                    rest_1: rest(beta_1),
                    rest_2: rest(beta_2),
                    epsilon,
                    weight_decay,
                    rate,
                };
                kernel::Adam { params, decoupled, clip, scaled }.into()
            }
        }
    }
}
