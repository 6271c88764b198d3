//! `recurra eval` of a language model.

use super::EvalArgs;
use crate::args::{json_line, print_line};
use recurra::data::{Tokens, read_bytes, read_text};
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, Scorer};
use recurra::{Error, Result};
use serde::Serialize;

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

pub fn run(args: &EvalArgs) -> Result<()> {
    let (model, weights) = LanguageModel::load(&args.model)?;
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
    let mut scorer = Scorer::new(&args.engine()?, model, weights);
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
