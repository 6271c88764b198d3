//! What all tasks' training has in common: its options, and what of them the model's folder keeps.

use crate::args::{DeviceArgs, MemoryArgs, PrecisionArgs, ProfileArgs};
use clap::{Args, ValueEnum};
use recurra::optim::Optimizer;
use recurra::tensor::Precision;
use recurra::train::TrainOptions;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Steps between two looks at the loss.
const REPORT_EVERY: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    Adam,
    /// Adam with decoupled weight decay of 0.01
    Adamw,
    /// Stochastic gradient descent with momentum 0.9
    Sgd,
}

pub fn size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".to_string()),
        Ok(n) => Ok(n),
        Err(e) => Err(e.to_string()),
    }
}

pub fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        Ok(_) => Err("must be a number above 0".to_string()),
        Err(e) => Err(e.to_string()),
    }
}

pub fn rate(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..1.0).contains(&x) => Ok(x),
        Ok(_) => Err("must be 0 or more and less than 1".to_string()),
        Err(e) => Err(e.to_string()),
    }
}

/// Options that hold for a whole run: they can't be given with --resume.
#[derive(Args)]
pub struct RunArgs {
    /// How weights move
    #[arg(long, value_enum, default_value = "adam", conflicts_with = "resume")]
    pub optimizer: OptimizerName,
    /// The highest learning rate (it rises first, then falls along a cosine)
    #[arg(long, value_name = "RATE", default_value = "0.004", value_parser = positive,
          conflicts_with = "resume")]
    pub lr: f32,
    /// The largest gradient norm
    #[arg(long, value_name = "NORM", default_value = "1", value_parser = positive,
          conflicts_with = "resume")]
    pub clip: f32,
    /// Steps in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with = "resume")]
    pub steps: Option<u64>,
    /// Passes over the data, instead of steps
    #[arg(long, value_name = "N", conflicts_with_all = ["steps", "resume"],
          value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,
    /// Seed of weights, masks and data order
    #[arg(long, value_name = "S", default_value = "1", conflicts_with = "resume")]
    pub seed: u64,
    /// Train N models side by side, with the seeds S, S+1, …: each as it would be alone
    #[arg(long, value_name = "N", default_value = "1", value_parser = size,
          conflicts_with = "resume")]
    pub ensemble: usize,
    /// Steps between evaluations [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with = "resume")]
    pub eval_every: Option<u64>,
    /// Steps between checkpoints [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with = "resume")]
    pub save_every: Option<u64>,
    /// End after N evaluations in a row that are no better than the best
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with = "resume")]
    pub patience: Option<u64>,
    /// Learn the first N batches by heart, again and again: what can't do that has a fault
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with = "resume")]
    pub overfit: Option<u64>,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// The model's folder [default: recurra-model, or the next number that is free]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder: its options hold, but for device, threads and memory
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// One JSON line a step on stdout, instead of the progress bar
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub probe: ProbeArgs,
}

/// Looks at the task instead of training it. Nothing is written but the picture.
#[derive(Args)]
#[group(multiple = false)]
pub struct ProbeArgs {
    /// Take two steps and one evaluation, and say what they cost
    #[arg(long)]
    pub dry_run: bool,
    /// Train at rising learning rates, say which one suits, and draw the losses (FILE.svg)
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "learning-rate.svg")]
    pub find_lr: Option<PathBuf>,
    /// Compare every parameter's gradient with differences of the loss
    #[arg(long)]
    pub check_gradients: bool,
}

/// How any model is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunConfig {
    pub optimizer: OptimizerName,
    pub learning_rate: f32,
    pub clip: f32,
    pub steps: u64,
    pub evaluate_every: u64,
    pub save_every: u64,
    pub seed: u64,
    /// Models that are trained side by side.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ensemble: usize,
    /// Absent in folders of version 0.1, which had none but f32.
    #[serde(default)]
    pub precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overfit: Option<u64>,
}

fn one() -> usize {
    1
}

fn is_one(members: &usize) -> bool {
    *members == 1
}

impl RunConfig {
    /// A run of `default_steps` if nothing else is asked for, over data of so many steps a pass.
    pub fn new(args: &RunArgs, default_steps: u64, per_epoch: u64) -> Self {
        let steps = match (args.steps, args.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => epochs.saturating_mul(per_epoch),
            (None, None) => default_steps,
        };
        let often = (steps / 10).max(1);
        RunConfig {
            optimizer: args.optimizer,
            learning_rate: args.lr,
            clip: args.clip,
            steps,
            evaluate_every: args.eval_every.unwrap_or(often),
            save_every: args.save_every.unwrap_or(often),
            seed: args.seed,
            ensemble: args.ensemble,
            precision: args.precision.precision,
            patience: args.patience,
            overfit: args.overfit,
        }
    }

    /// How one member of the ensemble is trained: as if it were alone.
    pub fn member(&self, seed: u64) -> Self {
        RunConfig { seed, ensemble: 1, ..self.clone() }
    }

    /// The members' seeds.
    pub fn seeds(&self) -> impl Iterator<Item = u64> {
        (0..self.ensemble as u64).map(|member| self.seed.wrapping_add(member))
    }

    pub fn options(&self, stop: Option<Arc<AtomicBool>>) -> TrainOptions {
        TrainOptions {
            steps: self.steps,
            learning_rate: self.learning_rate,
            optimizer: match self.optimizer {
                OptimizerName::Adam => Optimizer::adam(),
                OptimizerName::Adamw => Optimizer::adamw(0.01),
                OptimizerName::Sgd => Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0 },
            },
            max_norm: Some(self.clip),
            precision: self.precision,
            seed: self.seed,
            evaluate_every: self.evaluate_every,
            save_every: self.save_every,
            report_every: REPORT_EVERY,
            patience: self.patience,
            overfit: self.overfit,
            stop,
        }
    }
}
