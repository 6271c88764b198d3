//! The options of `recurra train`, and what of them the model's folder keeps.

use crate::args::{DeviceArgs, MemoryArgs, PrecisionArgs, ProfileArgs, cell_parser};
use clap::{Args, ValueEnum};
use recurra::cell::CellKind;
use recurra::optim::Optimizer;
use recurra::tensor::Precision;
use recurra::train::TrainOptions;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Steps between two looks at the loss.
const REPORT_EVERY: u64 = 10;
/// Steps of the default job: about two minutes on a laptop's CPU.
pub const DEFAULT_STEPS: u64 = 3000;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TaskName {
    /// A character language model
    Lm,
}

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

/// Train a character language model: embedding, recurrent layers, linear.
#[derive(Args)]
pub struct TrainArgs {
    /// What to train
    #[arg(value_enum, default_value = "lm")]
    pub task: TaskName,
    /// A UTF-8 text; the last tenth is held out for validation [default: this program's own sources]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// The recurrent cell; rnn is rnn_tanh
    #[arg(long, default_value = "lstm", value_parser = cell_parser())]
    pub cell: CellKind,
    /// Hidden units of a layer
    #[arg(long, value_name = "H", default_value = "128", value_parser = size)]
    pub hidden: usize,
    /// Recurrent layers
    #[arg(long, value_name = "L", default_value = "2", value_parser = size)]
    pub layers: usize,
    /// Width of the embedding [default: the hidden size, at most 128]
    #[arg(long, value_name = "E", value_parser = size)]
    pub embedding: Option<usize>,
    /// Characters of a window of truncated backpropagation
    #[arg(long, value_name = "T", default_value = "64", value_parser = size)]
    pub seq: usize,
    /// Streams of text side by side
    #[arg(long, value_name = "B", default_value = "32", value_parser = size)]
    pub batch: usize,
    /// Dropout between the layers and before the linear one
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = rate)]
    pub dropout: f32,
    /// How weights move
    #[arg(long, value_enum, default_value = "adam")]
    pub optimizer: OptimizerName,
    /// The highest learning rate (it rises first, then falls along a cosine)
    #[arg(long, value_name = "RATE", default_value = "0.004", value_parser = positive)]
    pub lr: f32,
    /// The largest gradient norm
    #[arg(long, value_name = "NORM", default_value = "1", value_parser = positive)]
    pub clip: f32,
    /// Steps in all [default: 3000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Passes over the text, instead of steps
    #[arg(long, value_name = "N", conflicts_with = "steps",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,
    /// Seed of weights, masks and data order
    #[arg(long, value_name = "S", default_value = "1")]
    pub seed: u64,
    /// Train N models side by side, with the seeds S, S+1, …: each as it would be alone
    #[arg(long, value_name = "N", default_value = "1", value_parser = size)]
    pub ensemble: usize,
    /// Steps between evaluations [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub eval_every: Option<u64>,
    /// Steps between checkpoints [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
    #[command(flatten)]
    pub precision: PrecisionArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// The model's folder [default: recurra-model, or the next number that is free]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder: its options hold, but for device, threads and memory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "cell", "hidden", "layers",
          "embedding", "seq", "batch", "dropout", "optimizer", "lr", "clip", "steps", "epochs",
          "seed", "ensemble", "eval_every", "save_every", "precision"])]
    pub resume: Option<PathBuf>,
    /// One JSON line a step on stdout, instead of the progress bar
    #[arg(long)]
    pub json: bool,
}

/// How a model is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// The text's file; none is the embedded corpus.
    pub data: Option<PathBuf>,
    /// Length and hash of the text, so that another one is noticed.
    pub characters: usize,
    pub text_hash: String,
    pub seq: usize,
    pub batch: usize,
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
}

fn one() -> usize {
    1
}

fn is_one(members: &usize) -> bool {
    *members == 1
}

impl TrainingConfig {
    /// How one member of the ensemble is trained: as if it were alone.
    pub fn member(&self, seed: u64) -> Self {
        TrainingConfig { seed, ensemble: 1, ..self.clone() }
    }

    /// The members' seeds.
    pub fn seeds(&self) -> impl Iterator<Item = u64> {
        (0..self.ensemble as u64).map(|member| self.seed.wrapping_add(member))
    }

    pub fn options(&self) -> TrainOptions {
        TrainOptions {
            steps: self.steps,
            learning_rate: self.learning_rate,
            optimizer: match self.optimizer {
                OptimizerName::Adam => Optimizer::adam(),
                OptimizerName::Adamw => Optimizer::adamw(0.01),
                OptimizerName::Sgd => Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0 },
            },
            max_norm: Some(self.clip),
            seed: self.seed,
            evaluate_every: self.evaluate_every,
            save_every: self.save_every,
            report_every: REPORT_EVERY,
        }
    }
}

impl TrainArgs {
    /// What `recurra` alone runs.
    pub fn default_job() -> Self {
        use clap::Parser;
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            args: TrainArgs,
        }
        Defaults::parse_from(["recurra"]).args
    }
}
