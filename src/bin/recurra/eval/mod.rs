//! `recurra eval`.

mod classify;
mod forecast;
mod lm;
mod music;
mod tag;

pub use forecast::{Measured, lines as forecast_lines};
pub use tag::TagMeasures;

use crate::args::{DeviceArgs, WeightArgs};
use clap::Args;
use recurra::engine::Engine;
use recurra::task::{self, Description};
use recurra::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measure how well a trained model does on a file, by its task's own measures.
///
/// Of classes, tags and forecasts beside simple baselines.
#[derive(Args)]
pub struct EvalArgs {
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// A file (or folder) of the kind that the model was trained on
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The labels of the data, where they lie in a file of their own
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl EvalArgs {
    fn engine(&self) -> Result<Engine> {
        self.weights.engine(&self.device)
    }
}

pub fn run(args: &EvalArgs) -> Result<ExitCode> {
    let description = Description::read(&args.model)?;
    of_classes(args.labels.as_deref(), &description.task)?;
    match description.task.as_str() {
        task::lm::NAME => lm::run(args)?,
        task::classify::NAME => classify::run(args)?,
        task::forecast::NAME => forecast::run(args)?,
        task::music::NAME => music::run(args)?,
        task::tag::NAME => tag::run(args)?,
        other => return Err(unknown_task(&args.model, other)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses files of labels for other tasks.
pub fn of_classes(labels: Option<&Path>, task: &str) -> Result<()> {
    if labels.is_some() && task != task::classify::NAME {
        let what = "--labels is of models of classes: of other tasks there are no files of labels";
        return Err(Error::Invalid(what.to_string()));
    }
    Ok(())
}

/// A folder of a task that this program does not have.
pub fn unknown_task(folder: &Path, task: &str) -> Error {
    Error::format(folder, format!("this program has no task '{task}'"))
}
