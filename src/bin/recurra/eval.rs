//! `recurra eval`.

use crate::args::{DeviceArgs, json_line, print_line};
use clap::Args;
use recurra::data::{Tokens, read_bytes, read_text};
use recurra::task::{Description, lm, music};
use recurra::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How well a trained model does on a file, by its task's own measures.
#[derive(Args)]
pub struct EvalArgs {
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// A file of the kind that the model was trained on
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &EvalArgs) -> Result<ExitCode> {
    let description = Description::read(&args.model)?;
    match description.task.as_str() {
        lm::NAME => language_model(args)?,
        music::NAME => notes(args)?,
        task => return Err(unknown_task(&args.model, task)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder of a task that this program does not have.
pub fn unknown_task(folder: &Path, task: &str) -> Error {
    Error::format(folder, format!("this program has no task '{task}'"))
}

/// The measures of a language model on a text.
#[derive(Serialize)]
struct TextMeasures {
    tokens: usize,
    /// Nats a token.
    loss: f64,
    perplexity: f64,
    /// Bits a token.
    bits: f64,
    bits_per_byte: f64,
    /// The share of tokens that were the likeliest one.
    accuracy: f64,
}

fn language_model(args: &EvalArgs) -> Result<()> {
    let (model, _) = lm::LanguageModel::load_config(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let unit = model.vocabulary().tokens().singular();
    let in_file = |e: Error| Error::format(&args.data, e.to_string());
    let (tokens, bytes) = match model.vocabulary().tokens() {
        Tokens::Bytes => {
            let bytes = read_bytes(&args.data)?;
            (bytes.iter().map(|&byte| u32::from(byte)).collect(), bytes.len() - 1)
        }
        _ => {
            let text = read_text(&args.data)?;
            let first = model.vocabulary().first_bytes(&text);
            (model.vocabulary().encode(&text).map_err(in_file)?, text.len() - first)
        }
    };
    let mut scorer = lm::Scorer::new(&args.device.engine()?, model, weights);
    let score = scorer.score_tokens(&tokens, bytes)?;
    let (Some(loss), Some(perplexity), Some(bits_per_byte)) =
        (score.mean(), score.perplexity(), score.bits_per_byte())
    else {
        return Err(Error::format(&args.data, "a text of fewer than two tokens has no loss"));
    };
    let right = score.likeliest.iter().zip(&tokens[1..]).filter(|(a, b)| a == b).count();
    let measures = TextMeasures {
        tokens: score.nats.len(),
        loss,
        perplexity,
        bits: loss / std::f64::consts::LN_2,
        bits_per_byte,
        accuracy: right as f64 / score.nats.len() as f64,
    };
    if args.json {
        return print_line(&json_line(&measures)?);
    }
    print_line(&format!("tokens         {} {unit}s, all but the first", measures.tokens))?;
    print_line(&format!("loss           {loss:.4} nats, {:.4} bits a {unit}", measures.bits))?;
    print_line(&format!("perplexity     {perplexity:.3}"))?;
    print_line(&format!("bits per byte  {bits_per_byte:.4}"))?;
    print_line(&format!("accuracy       {:.2} % were the likeliest", 100.0 * measures.accuracy))
}

/// The measures of a model of notes on the tunes to test; of a file without such, on those for validation.
fn notes(args: &EvalArgs) -> Result<()> {
    let (model, _) = music::MusicModel::load_config(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let tunes = music::Tunes::read(&args.data)?;
    let (what, list) = match tunes.test.is_empty() {
        false => ("test", &tunes.test),
        true => ("validation", &tunes.validation),
    };
    let score = model.mean_score(&args.device.engine()?, &weights, list);
    let score = score.map_err(|e| Error::format(&args.data, e.to_string()))?;
    if args.json {
        return print_line(&json_line(&score)?);
    }
    print_line(&format!("tunes     {} for {what}, {} steps", list.len(), score.steps))?;
    print_line(&format!("loss      {:.4} nats a step", score.loss))?;
    print_line(&format!("accuracy  {:.2} % of a frame's notes, mean", 100.0 * score.accuracy))
}
