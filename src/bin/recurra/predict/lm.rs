//! `recurra predict` of a language model.

use super::PredictArgs;
use crate::args::{json_line, print_line};
use recurra::data::{Tokens, text_lines};
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, Scorer};
use recurra::{Error, Result};
use serde::Serialize;
use std::io::BufRead;

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

pub fn run(args: &PredictArgs) -> Result<()> {
    let (model, weights) = LanguageModel::load(&args.model)?;
    let vocabulary = model.vocabulary().clone();
    let mut scorer = Scorer::new(&args.engine()?, model, weights);
    let (name, mut lines) = super::lines(args.input.as_deref())?;
    // Bytes are read as they are, whatever they mean.
    if vocabulary.tokens() != Tokens::Bytes {
        lines = text_lines(&name, lines)?;
    }
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
        let next = order.into_iter().take(args.likeliest()).map(|token| NextToken {
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
