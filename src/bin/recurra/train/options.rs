//! What all tasks' training has in common: its options, and what of them the model's folder keeps.

use crate::args::{DeviceArgs, MemoryArgs, PrecisionArgs, ProfileArgs};
use clap::Args;
use recurra::optim::{Averaging, Optimizer, ParameterGroup, Schedule, Shape, Update};
use recurra::tensor::Precision;
use recurra::train::TrainOptions;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Steps between two looks at the loss.
const REPORT_EVERY: u64 = 10;

pub fn size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".to_string()),
        Ok(n) => Ok(n),
        Err(e) => Err(e.to_string()),
    }
}

/// A text that the library understands, kept as it is.
fn parsed<T: FromStr<Err = recurra::Error>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_string()).map_err(|e| e.to_string())
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
    /// How weights move: sgd, nesterov (:MOMENTUM, 0.9), rms-prop (:ALPHA, 0.99), adam, adamw (:WEIGHT-DECAY, 0 and
    /// 0.01)
    #[arg(long, value_name = "NAME[:X]", default_value = "adam", value_parser = parsed::<Optimizer>,
          conflicts_with = "resume")]
    pub optimizer: String,
    /// How the rate goes over the steps: constant, step:EVERY:FACTOR, multi-step:AT,AT:FACTOR, exponential:FACTOR,
    /// cosine[:MINIMUM], one-cycle[:RISE], plateau[:FACTOR[:PATIENCE]]; before any of them warm-up:STEPS+ [default:
    /// a warm-up of a 50th of all steps, at most 100, and cosine:0.05]
    #[arg(long, value_name = "SHAPE", value_parser = parsed::<Schedule>, conflicts_with = "resume")]
    pub schedule: Option<String>,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", default_value = "0.004", value_parser = positive,
          conflicts_with = "resume")]
    pub lr: f32,
    /// The largest gradient norm
    #[arg(long, value_name = "NORM", default_value = "1", value_parser = positive,
          conflicts_with = "resume")]
    pub clip: f32,
    /// The largest size of a gradient's element, before the norm is clipped
    #[arg(long, value_name = "VALUE", value_parser = positive, conflicts_with = "resume")]
    pub clip_value: Option<f32>,
    /// Average the weights over the steps, and evaluate and save the average: ema[:DECAY, 0.999], or nt-asgd[:CHECKS,
    /// 5], which begins where validation gets no better
    #[arg(long, value_name = "KIND", value_parser = parsed::<Averaging>, conflicts_with = "resume")]
    pub average: Option<String>,
    /// Parameters with a rate and a weight decay of their own: parts of their names with + between them, a factor of
    /// the rate (0 keeps them as they are), a weight decay (0 without it); each belongs to the first group that fits
    #[arg(long, value_name = "NAMES:RATE[:DECAY]", value_parser = parsed::<ParameterGroup>,
          conflicts_with = "resume")]
    pub group: Vec<String>,
    /// Batches whose gradients add up to one step's
    #[arg(long, value_name = "N", default_value = "1", value_parser = size,
          conflicts_with = "resume")]
    pub accumulate: usize,
    /// Steps in all [default: 3000 of a language model, 20 passes over the data of a tagger, 60 else]
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
          conflicts_with_all = ["resume", "overfit"])]
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
    /// One JSON line a step on stdout, instead of the progress bar; at the end, where the task
    /// measures more than losses, a line of what eval --json would say of the validation and the
    /// test part
    #[arg(long)]
    pub json: bool,
    /// Show the run as it goes, in the whole terminal: curves, speed, samples (q ends the run, saved)
    #[cfg(feature = "dashboard")]
    #[arg(long, conflicts_with = "json")]
    pub dashboard: bool,
    /// Write event files for TensorBoard into the model's folder
    #[arg(long)]
    pub tensorboard: bool,
    /// Look at what flows through each step of the recurrent layers, every N steps [default of N: as often as takes a
    /// twentieth of the time, at most 50 times]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0")]
    pub microscope: Option<u64>,
    #[command(flatten)]
    pub probe: ProbeArgs,
}

impl RunArgs {
    /// Whether options go together that the parser can't tell.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self, resumes: bool, config: &RunConfig) -> recurra::Result<()> {
        let refuse = |what: &str| Err(recurra::Error::Invalid(what.to_string()));
        let probe = &self.probe;
        let looks = probe.dry_run || probe.find_lr.is_some() || probe.check_gradients;
        let tells = self.json || self.tensorboard || self.microscope.is_some();
        #[cfg(feature = "dashboard")]
        let tells = tells || self.dashboard;
        if looks && (tells || self.profile.profile.is_some()) {
            return refuse(
                "a look at the task (--dry-run, --find-lr, --check-gradients) is no run that --json, \
                 --tensorboard, --dashboard, --microscope or --profile could follow",
            );
        }
        if resumes && (probe.find_lr.is_some() || probe.check_gradients) {
            return refuse("--find-lr and --check-gradients are of a new run: leave out --resume");
        }
        if probe.check_gradients && self.precision.precision == Precision::F16 {
            return refuse("--check-gradients computes in f32: leave out --precision");
        }
        if self.precision.precision == Precision::F16 && config.precision != Precision::F16 {
            return refuse("the run began in f32 and goes on in it: leave out --precision");
        }
        #[cfg(feature = "dashboard")]
        if self.dashboard && !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            return refuse("the dashboard needs a terminal on standard error");
        }
        Ok(())
    }
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
    pub optimizer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    pub learning_rate: f32,
    pub clip: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
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
            (None, Some(epochs)) => {
                epochs.saturating_mul((per_epoch / args.accumulate as u64).max(1))
            }
            (None, None) => default_steps,
        };
        let often = (steps / 10).max(1);
        RunConfig {
            optimizer: args.optimizer.clone(),
            schedule: args.schedule.clone(),
            learning_rate: args.lr,
            clip: args.clip,
            clip_value: args.clip_value,
            average: args.average.clone(),
            groups: args.group.clone(),
            accumulate: args.accumulate,
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

    /// Refuses what is decided by validation, of a run that has none.
    ///
    /// # Errors
    /// The option is named.
    pub fn check_unvalidated(&self) -> recurra::Result<()> {
        let options = self.options(None)?;
        let plateau = matches!(options.schedule.shape, Shape::Plateau(_));
        let triggered = matches!(options.update.averaging, Some(Averaging::Triggered { .. }));
        let asked = [
            (self.patience.is_some(), "--patience"),
            (plateau, "--schedule plateau"),
            (triggered, "--average nt-asgd"),
        ];
        match asked.into_iter().find(|(asked, _)| *asked) {
            None => Ok(()),
            Some((_, option)) => Err(recurra::Error::Invalid(format!(
                "{option} goes by the validation loss, and nothing is held out to validate with"
            ))),
        }
    }

    /// What the loop takes.
    ///
    /// # Errors
    /// A text of another version's.
    pub fn options(&self, stop: Option<Arc<AtomicBool>>) -> recurra::Result<TrainOptions> {
        let plain = TrainOptions::new(self.steps);
        let update = Update {
            max_norm: Some(self.clip),
            max_value: self.clip_value,
            groups: self.groups.iter().map(|g| g.parse()).collect::<recurra::Result<_>>()?,
            averaging: self.average.as_deref().map(Averaging::from_str).transpose()?,
            ..Update::new(self.optimizer.parse()?)
        };
        let schedule = self.schedule.as_deref().map(Schedule::from_str).transpose()?;
        Ok(TrainOptions {
            learning_rate: self.learning_rate,
            schedule: schedule.unwrap_or(plain.schedule.clone()),
            update,
            micro_batches: self.accumulate,
            precision: self.precision,
            seed: self.seed,
            evaluate_every: self.evaluate_every,
            save_every: self.save_every,
            report_every: REPORT_EVERY,
            patience: self.patience,
            overfit: self.overfit,
            stop,
            ..plain
        })
    }
}
