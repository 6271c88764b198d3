//! `recurra predict` of a model of forecasts.

use super::PredictArgs;
use crate::args::{json_line, print_line};
use crate::train::folder::trained;
use crate::train::forecast::ForecastTraining;
use recurra::task::TaskModel;
use recurra::task::forecast::{ForecastModel, Table};
use recurra::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<&'a str>,
    time: String,
    /// Steps ahead, from 1.
    step: usize,
    target: &'a str,
    forecast: f64,
    /// By their levels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quantiles: BTreeMap<String, f64>,
}

/// A line of CSV.
fn csv_line(cells: &[String]) -> Result<String> {
    let bad = |e: String| Error::Invalid(e);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).map_err(|e| bad(e.to_string()))?;
    let bytes = writer.into_inner().map_err(|e| bad(e.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_string())
}

/// The rows behind the end of each series: CSV, or a line of JSON for each value.
pub fn run(args: &PredictArgs) -> Result<()> {
    let (model, training): (ForecastModel, ForecastTraining) = trained(&args.model)?;
    let weights = model.load_weights(&args.model)?;
    let config = model.config();
    let (name, from) = super::lines(args.input.as_deref())?;
    let table = Table::from_reader_as(&name, from, &config.layout)?;
    let in_file = |e: Error| match e {
        Error::Invalid(what) => Error::format(&name, what),
        other => other,
    };
    let data = model.prepare(&table).map_err(in_file)?;
    let engine = args.engine()?;
    let forecasts = model.forecast(&engine, &weights, &data, training.backtest());
    let forecasts = forecasts.map_err(in_file)?;
    let (targets, levels) = (config.targets(), config.head.levels());
    let several = config.layout.series.as_ref();
    if !args.json {
        let mut header: Vec<String> = several.into_iter().cloned().collect();
        header.push(match config.layout.time.as_slice() {
            [] => "row".to_string(),
            [one] => one.clone(),
            _ => "time".to_string(),
        });
        for target in &config.layout.targets {
            header.push(target.clone());
            header.extend(levels.iter().map(|level| format!("{target}:{level}")));
        }
        print_line(&csv_line(&header)?)?;
    }
    for forecast in &forecasts {
        let series = data.name(forecast.series);
        for step in 1..=config.horizon {
            let time = data.time(&model, forecast.series, forecast.origin + step);
            let mut cells: Vec<String> =
                several.map(|_| series.to_string()).into_iter().chain([time.clone()]).collect();
            for (j, target) in config.layout.targets.iter().enumerate() {
                let place = (step - 1) * targets + j;
                let point = forecast.points.get(place).copied().unwrap_or(f64::NAN);
                let own = forecast.quantiles.chunks(levels.len().max(1)).nth(place);
                let own = own.unwrap_or_default();
                if args.json {
                    let quantiles =
                        levels.iter().map(f32::to_string).zip(own.iter().copied()).collect();
                    print_line(&json_line(&Told {
                        series: several.map(|_| series),
                        time: time.clone(),
                        step,
                        target,
                        forecast: point,
                        quantiles,
                    })?)?;
                }
                cells.push(rounded(point));
                cells.extend(own.iter().map(|&x| rounded(x)));
            }
            if !args.json {
                print_line(&csv_line(&cells)?)?;
            }
        }
    }
    Ok(())
}

/// As many digits as f32 computes.
fn rounded(x: f64) -> String {
    (x as f32).to_string()
}
