//! `recurra eval` of a model of forecasts.

use super::EvalArgs;
use crate::args::{json_line, print_line};
use crate::train::folder::{file_hash, trained};
use crate::train::forecast::ForecastTraining;
use recurra::task::TaskModel;
use recurra::task::forecast::{ForecastModel, Parts, Scores, Table};
use recurra::{Error, Result};
use serde::Serialize;
use std::ops::Range;

/// The measures as JSON has them.
#[derive(Serialize)]
pub struct Measured {
    /// Which rows are forecast.
    rows: &'static str,
    #[serde(flatten)]
    scores: Scores,
    /// What the model does not do better than a baseline.
    verdict: Vec<String>,
}

impl Measured {
    pub fn new(rows: &'static str, scores: Scores) -> Self {
        let verdict = scores.verdict();
        Measured { rows, scores, verdict }
    }
}

/// A backtest over the part to test of the file that the model was trained with, or over what is new in another.
pub fn run(args: &EvalArgs) -> Result<()> {
    let (model, training): (ForecastModel, ForecastTraining) = trained(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let layout = &model.config().layout;
    let table = Table::read_as(&args.data, layout)?;
    let in_file = |e: Error| match e {
        Error::Invalid(what) => Error::format(&args.data, what),
        other => other,
    };
    let data = model.prepare(&table).map_err(in_file)?;
    let horizon = model.config().horizon;
    let (mut what, mut origins) = ("to test", Vec::new());
    if file_hash(&args.data)? == training.data_hash {
        for series in 0..data.len() {
            let parts = training.split.parts(data.rows(series)).map_err(in_file)?;
            origins.push(Parts::origins(&parts.test, horizon));
        }
    } else {
        let mut new: Vec<Range<usize>> = Vec::new();
        for (series, rows) in table.series.iter().enumerate() {
            let seen = training.seen.get(&rows.name);
            let steps = seen.and_then(|&seen| layout.clock.between(rows.start, seen));
            // The first row behind those that were trained or validated with. Where that can't be told (rows without a
            // time, or of another clock) there is none; a series that is new is new all over.
            let from = match (seen, steps) {
                (None, _) => 0,
                (Some(_), Some(steps)) if !layout.time.is_empty() => (steps + 1).max(0) as usize,
                _ => usize::MAX,
            };
            new.push(from.min(data.rows(series))..data.rows(series));
        }
        what = "behind those that were trained with";
        if new.iter().all(|part| part.len() < horizon) {
            what = "of the whole file, some of which may have been trained with";
            new = (0..data.len()).map(|series| 0..data.rows(series)).collect();
        }
        // An empty state needs some rows first.
        let warm = |(series, part): (usize, Range<usize>)| {
            let from = part.start.max(training.windows.warm_up.min(data.rows(series) / 2)).max(1);
            Parts::origins(&(from..part.end), horizon)
        };
        origins.extend(new.into_iter().enumerate().map(warm));
    }
    if origins.iter().all(|range| range.is_empty()) {
        let reason = format!("there are no {horizon} rows in a row to forecast");
        return Err(Error::format(&args.data, reason));
    }
    let engine = args.engine()?;
    let forecasts = model.backtest(&engine, &weights, &data, &origins, training.backtest());
    let forecasts = forecasts.map_err(in_file)?;
    let scores = model.score(&data, &forecasts).map_err(in_file)?;
    if args.json {
        return print_line(&json_line(&Measured::new(what, scores))?);
    }
    print_line(&format!("rows {what}"))?;
    lines(&scores).iter().try_for_each(|line| print_line(line))
}

/// The measures as lines.
pub fn lines(scores: &Scores) -> Vec<String> {
    let head = ["MAE", "RMSE", "MASE", "sMAPE", "CRPS", "std MSE", "std MAE"];
    let head: String = head.iter().map(|name| format!("{name:>11}")).collect();
    let mut lines = vec![format!("{} values behind {} origins", scores.values, scores.origins)];
    lines.push(format!("{:<24}{head}", ""));
    for (name, of) in scores.rows() {
        let mase = of.mase.map_or("-".to_string(), |mase| format!("{mase:.3}"));
        lines.push(format!(
            "{name:<24} {:>10.4} {:>10.4} {mase:>10} {:>8.2} % {:>10.4} {:>10.4} {:>10.4}",
            of.mae, of.rmse, of.smape, of.crps, of.standard_mse, of.standard_mae
        ));
    }
    if let Some([share, level]) = scores.coverage {
        let (share, level) = (100.0 * share, 100.0 * level);
        lines.push(format!(
            "{share:.1} % of the values between the outermost quantiles ({level:.0} % should be)"
        ));
    }
    lines.extend(scores.verdict());
    lines
}
