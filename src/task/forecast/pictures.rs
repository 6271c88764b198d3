//! Pictures of forecasts: fans with what came and the baseline, errors by how far ahead, tables.

use super::{Forecast, ForecastData, ForecastModel, Measures, Scores};
use crate::report::{Band, LineChart, Report, Series, Stroke, Table};
use crate::task::TaskModel;

/// Fans of one column, at most.
const FANS: usize = 3;
/// Columns that have fans.
const COLUMNS: usize = 4;
/// Columns of the table by column.
const ROWS: usize = 40;

/// Adds a section with the measures of a backtest, its errors by how far ahead, and fans of some origins.
pub fn pictures(
    report: &mut Report,
    heading: &str,
    model: &ForecastModel,
    data: &ForecastData,
    forecasts: &[Forecast],
    scores: &Scores,
) {
    report.section(heading);
    let verdict = scores.verdict();
    report.text(match verdict.is_empty() {
        true => "The model beats the naive and the seasonal naive forecast, by MAE and by MSE."
            .to_string(),
        false => verdict.join("\n\n"),
    });
    let header =
        ["", "MAE", "RMSE", "MASE", "sMAPE", "CRPS", "MSE, standardised", "MAE, standardised"];
    let title = format!("{} values behind {} origins", scores.values, scores.origins);
    let mut table = Table::new(title, header);
    for (name, measures) in scores.rows() {
        table = table.row(row(name, &measures));
    }
    report.add(table);
    if let Some([share, level]) = scores.coverage {
        report.text(format!(
            "{:.1} % of the values lie between the outermost quantiles, where {:.0} % should.",
            100.0 * share,
            100.0 * level
        ));
    }
    if scores.by_target.len() > 1 {
        let mut table = Table::new("By column", header);
        for of in scores.by_target.iter().take(ROWS) {
            table = table.row(row(of.target.clone(), &of.model));
            table = table.row(row("  seasonal naive".to_string(), &of.seasonal_naive));
        }
        report.add(table);
    }
    let ahead = format!("steps ahead ({} each)", model.config().layout.clock.step_name());
    let mut chart = LineChart::new("Error by how far ahead", ahead, "MAE, standardised");
    for (i, (name, _)) in scores.rows().into_iter().enumerate() {
        let points = scores.by_step.iter().enumerate();
        let points = points.map(|(step, errors)| (step as f64 + 1.0, errors[i]));
        let stroke = if i == 0 { Stroke::Dots } else { Stroke::Dashed };
        chart = chart.series(Series::new(name, points).stroke(stroke));
    }
    report.add(chart);
    for (j, name) in model.config().layout.targets.iter().enumerate().take(COLUMNS) {
        // The first, one between, the last.
        let fans = FANS.min(forecasts.len());
        for i in 0..fans {
            let place = i * (forecasts.len() - 1) / (fans - 1).max(1);
            if let Some(forecast) = forecasts.get(place) {
                report.add(fan(model, data, forecast, j, name));
            }
        }
    }
}

fn row(name: String, of: &Measures) -> Vec<String> {
    vec![
        name,
        format!("{:.4}", of.mae),
        format!("{:.4}", of.rmse),
        of.mase.map_or("–".to_string(), |mase| format!("{mase:.3}")),
        format!("{:.2}\u{a0}%", of.smape),
        format!("{:.4}", of.crps),
        format!("{:.4}", of.standard_mse),
        format!("{:.4}", of.standard_mae),
    ]
}

/// One forecast of one column: what came before and behind, the median, the outermost quantiles, the seasonal naive.
pub(super) fn fan(
    model: &ForecastModel,
    data: &ForecastData,
    forecast: &Forecast,
    j: usize,
    name: &str,
) -> LineChart {
    let config = model.config();
    let (targets, horizon, levels) = (config.targets(), config.horizon, config.head.levels());
    let (series, origin) = (forecast.series, forecast.origin);
    let of_series = match data.name(series) {
        "" => String::new(),
        series => format!(" of {series}"),
    };
    let clock = &config.layout.clock;
    let title = format!("{name}{of_series} behind {}", data.time(model, series, origin));
    let x = format!("steps from there ({} each)", clock.step_name());
    let before = (2 * horizon).max(config.season).min(origin);
    let truth = (0..=before + horizon).map(|i| {
        let row = origin - before + i;
        (i as f64 - before as f64, data.truth(series, row, j))
    });
    let ahead = |values: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        (0..horizon).map(|step| (step as f64 + 1.0, values(step))).collect()
    };
    let at = |list: &[f64], place: usize| list.get(place).copied().unwrap_or(f64::NAN);
    let mut chart = LineChart::new(title, x, name);
    if let [low, .., high] = levels.as_slice() {
        let of = |step: usize, level: usize| {
            at(&forecast.quantiles, (step * targets + j) * levels.len() + level)
        };
        let points =
            (0..horizon).map(|step| (step as f64 + 1.0, [of(step, 0), of(step, levels.len() - 1)]));
        chart = chart.band(Band::new(format!("{:.0} %", 100.0 * (high - low)), points));
    }
    let median = ahead(&|step| at(&forecast.points, step * targets + j));
    let seasonal = ahead(&|step| {
        data.baselines(model, [series, origin, step + 1, j]).map_or(f64::NAN, |both| both[1])
    });
    chart
        .series(Series::new("forecast", median))
        .series(Series::new("truth", truth))
        .series(Series::new("seasonal naive", seasonal).stroke(Stroke::Dashed))
        .mark(0.0, "the last value that is known")
}
