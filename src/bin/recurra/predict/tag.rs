//! `recurra predict` of a tagger.

use super::PredictArgs;
use crate::args::{json_line, print_line};
use recurra::data::text_lines;
use recurra::engine::Engine;
use recurra::task::TaskModel;
use recurra::task::tag::{Columns, Entity, Predicted, TagModel, entities, parse};
use recurra::tensor::NamedTensors;
use recurra::{Error, Result};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Read};

/// Lines that are tagged together.
const TOGETHER: usize = 1000;

#[derive(Serialize)]
struct TaggedSentence<'a> {
    tokens: &'a [String],
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<&'a [f64]>,
    entities: Vec<TaggedEntity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<NamedIntent<'a>>,
}

#[derive(Serialize)]
struct TaggedEntity<'a> {
    #[serde(flatten)]
    entity: Entity<'a>,
    text: String,
}

#[derive(Serialize)]
struct NamedIntent<'a> {
    name: &'a str,
    probability: f64,
}

pub fn run(args: &PredictArgs) -> Result<()> {
    let (model, weights) = TagModel::load(&args.model)?;
    let engine = args.engine()?;
    let (name, lines) = super::lines(args.input.as_deref())?;
    let mut lines = text_lines(&name, lines)?;
    let tagger = Tagger { args, model, weights, engine };
    if let Some(token) = args.token_column {
        let mut bytes = Vec::new();
        lines.read_to_end(&mut bytes).map_err(|e| Error::io(&name, "read", e))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let e = e.utf8_error();
            Error::format(&name, format!("no UTF-8 behind byte {}", e.valid_up_to()))
        })?;
        let columns = Columns { token, tag: None };
        let sentences = parse(&text, &name, columns, false)?;
        let sentences: Vec<Vec<String>> = sentences.into_iter().map(|s| s.tokens).collect();
        return sentences.chunks(TOGETHER).try_for_each(|some| tagger.tell(some));
    }
    // Whoever types sees each sentence at once.
    let typed = args.input.is_none() && std::io::stdin().is_terminal();
    let together = if typed { 1 } else { TOGETHER };
    let mut pending: Vec<Vec<String>> = Vec::new();
    for (number, line) in lines.split(b'\n').enumerate() {
        let line = line.map_err(|e| Error::io(&name, "read", e))?;
        let line = String::from_utf8(line)
            .map_err(|e| Error::format(&name, format!("line {}: no UTF-8: {e}", number + 1)))?;
        pending.push(line.split_whitespace().map(String::from).collect());
        if pending.len() == together {
            tagger.tell(&std::mem::take(&mut pending))?;
        }
    }
    tagger.tell(&pending)
}

struct Tagger<'a> {
    args: &'a PredictArgs,
    model: TagModel,
    weights: NamedTensors,
    engine: Engine,
}

impl Tagger<'_> {
    fn tell(&self, sentences: &[Vec<String>]) -> Result<()> {
        let words: Vec<&[String]> = sentences.iter().map(Vec::as_slice).collect();
        let with = self.args.probabilities;
        let all = self.model.tag(&self.engine, &self.weights, &words, with)?;
        sentences.iter().zip(&all).try_for_each(|(words, predicted)| {
            if self.args.json {
                self.json(words, predicted)
            } else {
                self.columns(words, predicted)
            }
        })
    }

    fn json(&self, tokens: &[String], predicted: &Predicted) -> Result<()> {
        let guess = self.model.guess(predicted);
        let entity = |entity: Entity<'_>| tokens[entity.start..entity.end].join(" ");
        let entities = entities(&guess.tags);
        let entities =
            entities.into_iter().map(|e| TaggedEntity { text: entity(e), entity: e }).collect();
        let probability = predicted.intent().map_or(0.0, |intent| intent.1);
        let sentence = TaggedSentence {
            tokens,
            probabilities: self.args.probabilities.then_some(&predicted.probabilities[..]),
            entities,
            intent: guess.intent.map(|name| NamedIntent { name, probability }),
            tags: guess.tags,
        };
        print_line(&json_line(&sentence)?)
    }

    /// As training reads them.
    fn columns(&self, tokens: &[String], predicted: &Predicted) -> Result<()> {
        let guess = self.model.guess(predicted);
        if let Some(intent) = guess.intent {
            print_line(&format!("# intent = {intent}"))?;
        }
        for (place, (word, tag)) in tokens.iter().zip(&guess.tags).enumerate() {
            match predicted.probabilities.get(place) {
                Some(p) => print_line(&format!("{word}\t{p:.4}\t{tag}"))?,
                None => print_line(&format!("{word}\t{tag}"))?,
            }
        }
        print_line("")
    }
}
