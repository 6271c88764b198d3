//! Averages of the weights over training steps.

use crate::error::{Error, Result};
use crate::schedule::AVERAGE_PREFIX;
use crate::tensor::NamedTensors;
use serde::{Deserialize, Serialize};

/// How weights are averaged over the steps. A training step with an average has a tensor
/// `average.PARAMETER` for each parameter in the store, which [`Recorder::averaged`] reads in the parameter's
/// place and [`averaged`] saves in its place. From the first step on it holds weights that can be used.
///
/// [`Recorder::averaged`]: crate::schedule::Recorder::averaged
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Averaging {
    /// An exponential moving average: a = decay·a + (1 − decay)·w, which begins as the weights after the
    /// first step (as PyTorch's `get_ema_multi_avg_fn`).
    Exponential {
        /// What the average keeps of itself at each step.
        decay: f32,
    },
    /// The mean of all weights since a step T, Σ w_i / (k − T + 1) over i = T … k, and the weights themselves
    /// until then: with [`Optimizer::Sgd`](super::Optimizer) without momentum the non-monotonically triggered
    /// ASGD of Merity, Keskar and Socher 2017 ("Regularizing and optimizing LSTM language models", section 3).
    /// [`Averaging::observe`] finds T.
    Triggered {
        /// n: T is the step of the first check whose loss is above the least loss before the last n checks.
        /// The paper and its authors take 5.
        patience: usize,
    },
}

/// What averaging remembers from check to check; a checkpoint must keep it where averaging is triggered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AveragingState {
    /// T, once there is one.
    pub since: Option<u64>,
    /// The least loss before the last n checks.
    least: Option<f32>,
    /// The losses of the last n checks, the oldest first.
    last: Vec<f32>,
}

impl Averaging {
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            Averaging::Exponential { decay } if !(0.0..1.0).contains(&decay) => Err(
                Error::invalid(format!("the decay of an average must be in [0, 1), not {decay}")),
            ),
            _ => Ok(()),
        }
    }

    /// The share of the weights in their average after step `step` (from 1), for the control words.
    pub fn share(&self, step: u64, state: &AveragingState) -> f32 {
        match *self {
            // Rounded once, as decays are close to 1.
            Averaging::Exponential { decay } if step > 1 => (1.0 - f64::from(decay)) as f32,
            Averaging::Exponential { .. } => 1.0,
            Averaging::Triggered { .. } => match state.since {
                Some(since) => 1.0 / (step.saturating_sub(since) + 1) as f32,
                None => 1.0,
            },
        }
    }

    /// Takes in the loss of a validation after step `step`; whether averaging begins now. What is evaluated
    /// should be what [`Recorder::averaged`](crate::schedule::Recorder::averaged) reads: until then these are
    /// the weights. An exponential average asks for nothing.
    pub fn observe(&self, state: &mut AveragingState, step: u64, loss: f32) -> bool {
        let Averaging::Triggered { patience } = *self else { return false };
        if state.since.is_some() {
            return false;
        }
        if state.least.is_some_and(|least| loss > least) {
            // They are of no use any more.
            *state = AveragingState { since: Some(step), ..AveragingState::default() };
            return true;
        }
        state.last.push(loss);
        if state.last.len() > patience {
            let oldest = state.last.remove(0);
            state.least = Some(state.least.map_or(oldest, |least| least.min(oldest)));
        }
        false
    }
}

/// The averages of a checkpoint's tensors by the names of their parameters, for saving the model: none where
/// there are no averages. `prefix` is what names of one member of an ensemble begin with, or nothing.
pub fn averaged(tensors: &NamedTensors, prefix: &str) -> NamedTensors {
    let start = format!("{prefix}{AVERAGE_PREFIX}");
    let of = |name: &String| Some(format!("{prefix}{}", name.strip_prefix(&start)?));
    tensors.iter().filter_map(|(name, tensor)| Some((of(name)?, tensor.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the condition as it is written: t > n and v > min logs[0 … t − n − 1].
    #[test]
    fn averaging_begins_where_losses_have_not_got_better() {
        let series = [
            vec![5.0, 4.0, 3.0, 3.5, 3.2, 2.9, 3.0, 3.0, 3.0, 2.95, 3.0, 3.0],
            vec![1.0, 2.0, 3.0, 4.0, 5.0],
            vec![5.0, 4.0, 3.0, 2.0, 1.0, 0.5],
            vec![1.0; 9],
            vec![2.0, f32::NAN, 2.5, f32::NAN, 2.0, 1.9, 3.0, 3.0],
        ];
        for patience in 0..5 {
            let averaging = Averaging::Triggered { patience };
            for losses in &series {
                let mut state = AveragingState::default();
                let mut begun = None;
                for (t, &v) in losses.iter().enumerate() {
                    let older = &losses[..t.saturating_sub(patience)];
                    let least = older.iter().copied().reduce(f32::min);
                    let wanted = begun.is_none() && least.is_some_and(|least| v > least);
                    let step = 10 * (t as u64 + 1);
                    assert_eq!(averaging.observe(&mut state, step, v), wanted, "{patience} {t}");
                    if wanted {
                        begun = Some(step);
                    }
                    assert_eq!(state.since, begun);
                    // NaN is no JSON.
                    if losses.iter().all(|l| !l.is_nan()) {
                        let text = serde_json::to_string(&state).unwrap();
                        state = serde_json::from_str(&text).unwrap();
                    }
                    assert!(state.last.len() <= patience);
                }
            }
        }
    }

    #[test]
    fn shares_are_those_of_means() {
        let triggered = Averaging::Triggered { patience: 5 };
        let mut state = AveragingState::default();
        assert_eq!(triggered.share(7, &state), 1.0);
        state.since = Some(7);
        assert_eq!(
            [7, 8, 9, 106].map(|step| triggered.share(step, &state)),
            [1.0, 0.5, 1.0 / 3.0, 0.01]
        );
        let moving = Averaging::Exponential { decay: 0.75 };
        assert_eq!([1, 2, 900].map(|step| moving.share(step, &state)), [1.0, 0.25, 0.25]);
        assert!(Averaging::Exponential { decay: 1.0 }.check().is_err());
    }
}
