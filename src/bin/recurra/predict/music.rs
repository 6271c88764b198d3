//! `recurra predict` of a model of notes.

use super::PredictArgs;
use crate::args::{json_line, print_line};
use recurra::task::TaskModel;
use recurra::task::music::{LOWEST, MusicModel, Tunes};
use recurra::{Error, Result};
use serde::Serialize;
use std::path::Path;

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

pub fn run(args: &PredictArgs) -> Result<()> {
    let (model, weights) = MusicModel::load(&args.model)?;
    let Some(file) = args.input.as_deref().filter(|path| *path != Path::new("-")) else {
        return Err(Error::Invalid(
            "a model of notes reads MIDI files or tunes as JSON: name a file or a folder".into(),
        ));
    };
    let tunes = Tunes::read(file, model.config().quarters)?;
    let list = if tunes.test.is_empty() { &tunes.validation } else { &tunes.test };
    if list.is_empty() {
        return Err(Error::format(file, "there are no tunes to test or to validate with"));
    }
    let scores = model.score(&args.engine()?, &weights, list)?;
    for (number, (score, next)) in scores.into_iter().enumerate() {
        let mut order: Vec<usize> = (0..next.len()).collect();
        order.sort_by(|&a, &b| next[b].total_cmp(&next[a]));
        let note = |key: usize| NextNote { note: key as u32 + LOWEST, probability: next[key] };
        let result = TuneScore {
            tune: number + 1,
            steps: score.steps,
            loss: (score.steps > 0).then_some(score.loss),
            next: order.into_iter().take(args.likeliest()).map(note).collect(),
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
