//! `recurra eval` of a model of notes.

use super::EvalArgs;
use crate::args::{json_line, print_line};
use recurra::task::TaskModel;
use recurra::task::music::{MusicModel, Tunes};
use recurra::{Error, Result};

/// The measures of a model of notes on the tunes to test; of a file without such, on those for validation.
pub fn run(args: &EvalArgs) -> Result<()> {
    let (model, weights) = MusicModel::load(&args.model)?;
    let tunes = Tunes::read(&args.data, model.config().quarters)?;
    let (what, list) = match tunes.test.is_empty() {
        false => ("test", &tunes.test),
        true => ("validation", &tunes.validation),
    };
    if list.is_empty() {
        let what = "there are no tunes to test or to validate with, but some to train on alone";
        return Err(Error::format(&args.data, what));
    }
    let score = model.mean_score(&args.engine()?, &weights, list);
    let score = score.map_err(|e| Error::format(&args.data, e.to_string()))?;
    if args.json {
        return print_line(&json_line(&score)?);
    }
    print_line(&format!("tunes     {} for {what}, {} steps", list.len(), score.steps))?;
    print_line(&format!("loss      {:.4} nats a step", score.loss))?;
    print_line(&format!("accuracy  {:.2} % of a frame's notes, mean", 100.0 * score.accuracy))
}
