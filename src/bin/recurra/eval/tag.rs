//! `recurra eval` of a tagger.

use super::EvalArgs;
use crate::args::{json_line, print_line};
use crate::train::folder::trained;
use crate::train::tag::TagTraining;
use crate::train::tag_report::{line, unknown};
use recurra::task::TaskModel;
use recurra::task::tag::{TagModel, TagScore};
use recurra::{Error, Result};
use serde::Serialize;

/// The measures of a tagger on sentences, and the baseline's.
#[derive(Serialize)]
pub struct TagMeasures {
    #[serde(flatten)]
    model: TagScore,
    baseline: TagScore,
    /// In words, where the model is no better.
    complaints: Vec<String>,
}

impl TagMeasures {
    pub fn new([model, baseline]: [TagScore; 2]) -> Self {
        let complaints = model.complaints(&baseline);
        TagMeasures { model, baseline, complaints }
    }
}

pub fn run(args: &EvalArgs) -> Result<()> {
    let (model, training): (TagModel, TagTraining) = trained(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let sentences = training.read(std::slice::from_ref(&args.data))?;
    let engine = args.engine()?;
    let scores = model.score(&engine, &weights, &sentences).map_err(|e| {
        if let Error::Invalid(what) = e { Error::format(&args.data, what) } else { e }
    })?;
    // The first of those that can't be right, with its place.
    if let Err(unknown) = model.check(&sentences) {
        eprintln!("{unknown}; such words and sentences count as wrong");
    }
    let measures = TagMeasures::new(scores);
    if args.json {
        return print_line(&json_line(&measures)?);
    }
    let TagMeasures { model: score, baseline, complaints } = measures;
    print_line(&format!("sentences {}, {} words", score.sentences, score.words))?;
    print_line(&line("all", "model", &score))?;
    print_line(&line("all", "baseline", &baseline))?;
    if let Some(unknown) = unknown(&score) {
        print_line(&unknown)?;
    }
    for (kind, counts) in &score.types {
        print_line(&format!(
            "    {kind:<32} F1 {:6.2} %, precision {:6.2} %, recall {:6.2} % of {}",
            100.0 * counts.f1(),
            100.0 * counts.precision(),
            100.0 * counts.recall(),
            counts.wanted
        ))?;
    }
    complaints.iter().try_for_each(|complaint| print_line(complaint))
}
