//! `recurra train`.

pub mod classify;
pub mod folder;
pub mod forecast;
pub mod lm;
pub mod music;
mod network;
mod options;
pub mod report;
mod session;
mod show;
pub mod tag;
pub mod tag_report;
mod watch;

pub use options::size;

use clap::{Args, Subcommand};
use recurra::Result;
use std::process::ExitCode;

/// Train a model and save it as a folder. Without a task: a language model.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TrainArgs {
    #[command(subcommand)]
    task: Option<TaskArgs>,
    #[command(flatten)]
    lm: lm::LmArgs,
}

#[derive(Subcommand)]
enum TaskArgs {
    /// A language model: embedding, recurrent layers, linear
    Lm(Box<lm::LmArgs>),
    /// A label for each sequence, of text or of numbers
    Classify(Box<classify::ClassArgs>),
    /// Forecasts of the columns of a CSV file
    Forecast(Box<forecast::ForecastArgs>),
    /// Which notes sound at each step of tunes
    Music(Box<music::MusicArgs>),
    /// A tag for each word of a sentence, and an intent for the sentence
    Tag(Box<tag::TagArgs>),
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

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    match args.task {
        None => lm::run(&args.lm),
        Some(TaskArgs::Lm(args)) => lm::run(&args),
        Some(TaskArgs::Classify(args)) => classify::run(&args),
        Some(TaskArgs::Forecast(args)) => forecast::run(&args),
        Some(TaskArgs::Music(args)) => music::run(&args),
        Some(TaskArgs::Tag(args)) => tag::run(&args),
    }
}
