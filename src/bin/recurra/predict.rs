//! `recurra predict`.

use crate::args::{DeviceArgs, json_line, print_line};
use crate::eval::unknown_task;
use clap::Args;
use recurra::data::Tokens;
use recurra::task::{Description, lm, music};
use recurra::{Error, Result};
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a trained model says of each line of a file or of standard input. A language model: how likely the
/// line is, and what would come next; of notes, the same of each tune of a JSON file.
#[derive(Args)]
pub struct PredictArgs {
    /// Lines; - or nothing is standard input
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// So many of the likeliest next tokens or notes
    #[arg(long, value_name = "N", default_value = "3")]
    next: usize,
    /// A line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &PredictArgs) -> Result<ExitCode> {
    let description = Description::read(&args.model)?;
    match description.task.as_str() {
        lm::NAME => language_model(args)?,
        music::NAME => notes(args)?,
        task => return Err(unknown_task(&args.model, task)),
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

#[derive(Serialize)]
struct LineScore {
    line: usize,
    tokens: usize,
    /// The sum over the line, but for its first token, in nats.
    nats: f64,
    /// None of a line of fewer than two tokens.
    perplexity: Option<f64>,
    next: Vec<NextToken>,
}

#[derive(Serialize)]
struct NextToken {
    token: String,
    probability: f32,
}

fn language_model(args: &PredictArgs) -> Result<()> {
    let (model, _) = lm::LanguageModel::load_config(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let vocabulary = model.vocabulary().clone();
    let mut scorer = lm::Scorer::new(&args.device.engine()?, model, weights);
    let (name, lines) = lines(args.input.as_deref())?;
    for (number, line) in lines.split(b'\n').enumerate() {
        let mut line = line.map_err(|e| Error::io(&name, "read", e))?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let at = |e: String| Error::format(&name, format!("line {}: {e}", number + 1));
        let score = match vocabulary.tokens() {
            Tokens::Bytes => {
                let tokens: Vec<u32> = line.iter().map(|&byte| u32::from(byte)).collect();
                scorer.score_tokens(&tokens, line.len().saturating_sub(1))
            }
            _ => {
                let text = std::str::from_utf8(&line).map_err(|e| at(format!("no UTF-8: {e}")))?;
                scorer.score(text)
            }
        };
        let score = score.map_err(|e| at(e.to_string()))?;
        let line = String::from_utf8_lossy(&line);
        let mut order: Vec<usize> = (0..score.next.len()).collect();
        order.sort_by(|&a, &b| score.next[b].total_cmp(&score.next[a]));
        let next = order.into_iter().take(args.next).map(|token| NextToken {
            token: vocabulary.name(token).unwrap_or_default(),
            probability: score.next[token],
        });
        let result = LineScore {
            line: number + 1,
            tokens: score.nats.len() + usize::from(!score.next.is_empty()),
            nats: score.total(),
            perplexity: score.perplexity(),
            next: next.collect(),
        };
        if args.json {
            print_line(&json_line(&result)?)?;
            continue;
        }
        let perplexity = result.perplexity.map_or("-".to_string(), |p| format!("{p:.2}"));
        let next = result.next.iter();
        let next: Vec<_> =
            next.map(|n| format!("{:?} {:.0} %", n.token, 100.0 * n.probability)).collect();
        print_line(&format!(
            "{perplexity:>10}  {:>9.2} nats  {line}  [next: {}]",
            result.nats,
            next.join(", ")
        ))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct TuneScore {
    tune: usize,
    steps: usize,
    /// Nats a step; none of an empty tune.
    loss: Option<f64>,
    next: Vec<NextNote>,
}

#[derive(Serialize)]
struct NextNote {
    /// The number in MIDI.
    note: u32,
    probability: f32,
}

fn notes(args: &PredictArgs) -> Result<()> {
    let (model, _) = music::MusicModel::load_config(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let Some(file) = args.input.as_deref().filter(|path| *path != Path::new("-")) else {
        return Err(Error::Invalid("a model of notes reads a JSON file of tunes: name it".into()));
    };
    let tunes = music::Tunes::read(file)?;
    let list = if tunes.test.is_empty() { &tunes.validation } else { &tunes.test };
    if list.is_empty() {
        return Err(Error::format(file, "there are no tunes under 'test' or 'valid'"));
    }
    let scores = model.score(&args.device.engine()?, &weights, list)?;
    for (number, (score, next)) in scores.into_iter().enumerate() {
        let mut order: Vec<usize> = (0..next.len()).collect();
        order.sort_by(|&a, &b| next[b].total_cmp(&next[a]));
        let note =
            |key: usize| NextNote { note: key as u32 + music::LOWEST, probability: next[key] };
        let result = TuneScore {
            tune: number + 1,
            steps: score.steps,
            loss: (score.steps > 0).then_some(score.loss),
            next: order.into_iter().take(args.next).map(note).collect(),
        };
        if args.json {
            print_line(&json_line(&result)?)?;
            continue;
        }
        let loss = result.loss.map_or("-".to_string(), |loss| format!("{loss:.3}"));
        let next = result.next.iter();
        let next: Vec<_> =
            next.map(|n| format!("{} {:.0} %", n.note, 100.0 * n.probability)).collect();
        print_line(&format!(
            "tune {:<5} {:>5} steps {loss:>9} nats a step  [next: {}]",
            result.tune,
            result.steps,
            next.join(", ")
        ))?;
    }
    Ok(())
}
