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

/// Train a model and save it as a folder.
///
/// Without a task: a language model.
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
    Lm(Box<lm::LmArgs>),
    Classify(Box<classify::ClassArgs>),
    Forecast(Box<forecast::ForecastArgs>),
    Music(Box<music::MusicArgs>),
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
