//! `recurra predict`.

mod classify;
mod forecast;
mod lm;
mod music;
mod tag;

use crate::args::{DeviceArgs, WeightArgs};
use crate::eval::unknown_task;
use clap::Args;
use recurra::engine::Engine;
use recurra::task::{self, Description};
use recurra::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Say what a trained model makes of each line of a file or of standard input.
///
/// A language model: how likely the line is, and what would come next; of notes, the same of each tune; of classes, the
/// likeliest ones of each line of text, or of each sequence of a file of numbers, or of each row of a table like the
/// one it was trained with; of forecasts, what comes behind the end of a CSV file; of a tagger, the tags of each
/// sentence, a line of words.
#[derive(Args)]
pub struct PredictArgs {
    /// Lines; - or nothing is standard input
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// Of texts, notes and classes: so many of the likeliest next tokens or notes, or classes [default: 3]
    #[arg(long, value_name = "N")]
    next: Option<usize>,
    /// Of a tagger: the input has columns, a word a line, and this one (from 1) is the word
    #[arg(long, value_name = "N", value_parser = crate::train::size)]
    token_column: Option<usize>,
    /// Of a tagger: how likely each tag is, too
    #[arg(long)]
    probabilities: bool,
    /// A line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl PredictArgs {
    /// So many of the likeliest are told.
    fn likeliest(&self) -> usize {
        self.next.unwrap_or(3)
    }

    fn engine(&self) -> Result<Engine> {
        self.weights.engine(&self.device)
    }
}

pub fn run(args: &PredictArgs) -> Result<ExitCode> {
    let description = Description::read(&args.model)?;
    let task = description.task.as_str();
    let tags = task == task::tag::NAME;
    let ranked = [task::lm::NAME, task::music::NAME, task::classify::NAME].contains(&task);
    for (asked, served, option, whose) in [
        (args.token_column.is_some(), tags, "--token-column", "taggers"),
        (args.probabilities, tags, "--probabilities", "taggers"),
        (args.next.is_some(), ranked, "--next", "texts, notes and classes"),
    ] {
        if asked && !served {
            let what = format!("{option} is of {whose}, and this is a model of '{task}'");
            return Err(Error::Invalid(what));
        }
    }
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

/// The name of the input in messages, and its lines.
fn lines(input: Option<&Path>) -> Result<(PathBuf, Box<dyn BufRead>)> {
    match input.filter(|path| *path != Path::new("-")) {
        None => Ok((PathBuf::from("standard input"), Box::new(std::io::stdin().lock()))),
        Some(path) => {
            let file = File::open(path).map_err(|e| Error::io(path, "read", e))?;
            Ok((path.to_path_buf(), Box::new(BufReader::new(file))))
        }
    }
}
