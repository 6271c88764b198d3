//! `recurra eval` of a language model.

use super::EvalArgs;
use crate::args::{json_line, print_line};
use recurra::data::{Tokens, UNKNOWN, read_bytes, read_text};
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
    /// None where there are unknown words: which they are costs no bits.
    bits_per_byte: Option<f64>,
    /// Of words: the share that the model does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_words: Option<f64>,
    /// The share of tokens that were the likeliest one.
    accuracy: f64,
}

pub fn run(args: &EvalArgs) -> Result<()> {
    let (model, weights) = LanguageModel::load(&args.model)?;
    let unit = model.vocabulary().tokens().singular();
    let in_file = |e: Error| Error::format(&args.data, e.to_string());
    let mut unknown = None;
    let (tokens, bytes) = match model.vocabulary().tokens() {
        Tokens::Bytes => {
            let bytes = read_bytes(&args.data)?;
            (bytes.iter().map(|&byte| u32::from(byte)).collect(), bytes.len() - 1)
        }
        kind => {
            let text = read_text(&args.data)?;
            let first = model.vocabulary().first_bytes(&text);
            let tokens = model.vocabulary().encode(&text).map_err(in_file)?;
            if kind == Tokens::Words {
                let number = model.vocabulary().word(UNKNOWN);
                // Some texts have the mark itself, which is known.
                let marks = text.split_whitespace().filter(|word| *word == UNKNOWN).count();
                unknown = Some(tokens.iter().filter(|&&t| t == number).count() - marks);
            }
            (tokens, text.len() - first)
        }
    };
    let mut scorer = Scorer::new(&args.engine()?, model, weights);
    let score = scorer.score_tokens(&tokens, bytes)?;
    let (Some(loss), Some(perplexity)) = (score.mean(), score.perplexity()) else {
        return Err(Error::format(&args.data, "a text of fewer than two tokens has no loss"));
    };
    let right = score.likeliest.iter().zip(&tokens[1..]).filter(|(a, b)| a == b).count();
    let measures = TextMeasures {
        tokens: score.nats.len(),
        loss,
        perplexity,
        bits: loss / std::f64::consts::LN_2,
        bits_per_byte: score.bits_per_byte().filter(|_| unknown.is_none_or(|n| n == 0)),
        unknown_words: unknown.map(|n| n as f64 / tokens.len() as f64),
        accuracy: right as f64 / score.nats.len() as f64,
    };
    if args.json {
        return print_line(&json_line(&measures)?);
    }
    print_line(&format!("tokens         {} {unit}s, all but the first", measures.tokens))?;
    print_line(&format!("loss           {loss:.4} nats, {:.4} bits a {unit}", measures.bits))?;
    print_line(&format!("perplexity     {perplexity:.3}"))?;
    if let Some(bits) = measures.bits_per_byte {
        print_line(&format!("bits per byte  {bits:.4}"))?;
    }
    if let Some(share) = measures.unknown_words {
        print_line(&format!(
            "unknown        {:.2} % of the words, all alike to the model",
            100.0 * share
        ))?;
    }
    print_line(&format!("accuracy       {:.2} % were the likeliest", 100.0 * measures.accuracy))
}
