//! The command line: it parses, calls the library and prints. Results go to stdout, all else to
//! stderr. Exit codes: 0 done, 1 failed, 2 options that the parser refuses by themselves; what
//! contradicts data, a model or another option may be found later, and has failed.

mod args;
mod bench;
#[cfg(feature = "dashboard")]
mod dashboard;
mod devices;
mod eval;
mod explain;
mod export;
mod import;
mod microscope;
mod predict;
mod run;
mod sample;
mod train;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The version, and the commit it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("RECURRA_COMMIT"), ")");

/// Train, sample, verify and measure recurrent networks on any GPU, or the CPU.
///
/// Without a command: `recurra train`, a character language model trained on this program's own
/// sources.
#[derive(Parser)]
#[command(name = "recurra", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What each does, its options say: a comment here would take the place of theirs in the help.
#[derive(Subcommand)]
enum Command {
    Train(Box<train::TrainArgs>),
    Sample(sample::SampleArgs),
    Eval(eval::EvalArgs),
    Predict(predict::PredictArgs),
    Microscope(microscope::MicroscopeArgs),
    Devices(devices::DevicesArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
    Explain(explain::ExplainArgs),
    Run(run::RunArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let result = match command {
        None => train::run(train::TrainArgs::default_job()),
        Some(Command::Train(args)) => train::run(*args),
        Some(Command::Sample(args)) => sample::run(args),
        Some(Command::Eval(args)) => eval::run(&args),
        Some(Command::Predict(args)) => predict::run(&args),
        Some(Command::Microscope(args)) => microscope::run(&args),
        Some(Command::Devices(args)) => devices::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Explain(args)) => explain::run(args),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Export(args)) => export::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
