//! `recurra eval` of a model of classes.

use super::EvalArgs;
use crate::args::{json_line, print_line};
use crate::train::classify::{load, report};
use recurra::Result;
use recurra::task::TaskModel;

/// The measures on the sequences of a file; of an archive that has some for tests, on those.
pub fn run(args: &EvalArgs) -> Result<()> {
    let (model, training) = load(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let found = training.reading().read(&args.data, args.labels.as_deref(), true)?;
    let examples = found.test.unwrap_or(found.examples);
    let whole = model.sequences(examples.content());
    whole.map_err(|e| examples.error_at(0, &e.to_string()))?;
    let score = model.score(&args.engine()?, &weights, &examples)?;
    // The first of those that can't be right, with its place.
    if let Err(unknown) = examples.targets(&model.config().classes) {
        eprintln!("{unknown}; such ones count as wrong");
    }
    if args.json {
        return print_line(&json_line(&score)?);
    }
    report::lines(&score).iter().try_for_each(|line| print_line(line))
}
