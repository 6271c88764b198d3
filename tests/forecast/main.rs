//! Forecasts: nothing of the future leaks, what is there is learned, figures are right, and the command line.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod files;
mod leakage;
mod learning;
mod measures;

use common::random::noise;
use recurra::CellKind;
use recurra::engine::Engine;
use recurra::task::forecast::*;
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::{TrainOptions, Trainer};
use std::path::Path;

const ROWS: usize = 90;
const HORIZON: usize = 4;

/// Two series by the hour with holes: two targets, one column that is known ahead, a number and labels that are not.
/// What is behind row `cut` (of series 'a'; known ahead: behind the last step forecast there) is other numbers.
fn hours(cut: Option<usize>) -> String {
    let mut lines = String::from("time,shop,sold,price,event,heat,sky\n");
    for row in 0..ROWS {
        for shop in ["a", "b"] {
            let cut = cut.filter(|_| shop == "a");
            let key = row * 10 + usize::from(shop == "b");
            let other = |ahead: usize| 5000 * usize::from(cut.is_some_and(|cut| row > cut + ahead));
            let value = |what: usize| 10.0 + 20.0 * noise(key * 7 + what + other(0));
            let hole = |what: usize| noise(key * 11 + what + other(0)) < 0.1;
            let cell = |what: usize| match hole(what) {
                true => ["", "NA", "nan"][row % 3].to_string(),
                false => format!("{:.3}", value(what)),
            };
            let event = u32::from(noise(key * 13 + other(HORIZON)) < 0.3);
            let sky = ["blue", "grey", ""][(value(5) as usize) % 3];
            let time = format!("2024-03-{:02} {:02}:00", 1 + row / 24, row % 24);
            let (sold, price, heat) = (cell(0), cell(1), cell(2));
            lines += &format!("{time},{shop},{sold},{price},{event},{heat},{sky}\n");
        }
    }
    lines
}

fn request(past: bool) -> Request {
    Request {
        series: Some("shop".to_string()),
        known: vec!["event".to_string()],
        past: if past { vec!["heat".to_string(), "sky".to_string()] } else { Vec::new() },
        targets: vec!["sold".to_string(), "price".to_string()],
        ..Request::default()
    }
}

fn table(csv: &str, request: &Request) -> Table {
    Table::from_reader(Path::new("table.csv"), csv.as_bytes(), request).unwrap()
}

fn recurrent(cell: CellKind, hidden: usize, layers: usize) -> RecurrentConfig {
    RecurrentConfig { layers, ..RecurrentConfig::new(cell, hidden) }
}

const SPLIT: &str = "40/10/40";

/// Every forecast, of weights that were not trained.
fn all_of(model: &ForecastModel, table: &Table, last: usize) -> Vec<Forecast> {
    let engine = Engine::cpu(Some(1)).unwrap();
    let data = model.prepare(table).unwrap();
    let weights = model.initial_weights(5);
    let origins = vec![0..last; data.len()];
    let options = BacktestOptions { paths: 3, ..BacktestOptions::default() };
    model.backtest(&engine, &weights, &data, &origins, options).unwrap()
}

fn same(a: &Forecast, b: &Forecast) -> bool {
    a.points == b.points && a.quantiles == b.quantiles
}

/// Trains a model on a table: its scores in the part to test, and their forecasts.
fn scored(
    table: &Table,
    options: ForecastOptions,
    steps: u64,
) -> (ForecastModel, Scores, Vec<Forecast>) {
    let split = Split::default();
    let config =
        ForecastConfig::new(table, &split, options, recurrent(CellKind::Gru, 24, 1)).unwrap();
    let model = ForecastModel::new(config).unwrap();
    let windows = Windows { time: 48, warm_up: 8, batch: 8 };
    let task = ForecastTask::new(model.clone(), table, &split, windows).unwrap();
    let engine = Engine::cpu(Some(1)).unwrap();
    let options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(steps) };
    let mut trainer = Trainer::new(&engine, &task, options, None).unwrap();
    trainer.run(None, |_| Ok(())).unwrap();
    let weights = trainer.best_weights().clone();
    drop(trainer);
    let horizon = model.config().horizon;
    let origins: Vec<_> = task.parts().iter().map(|p| Parts::origins(&p.test, horizon)).collect();
    let how = BacktestOptions { stride: 3, ..BacktestOptions::default() };
    let forecasts = model.backtest(&engine, &weights, task.data(), &origins, how).unwrap();
    let scores = model.score(task.data(), &forecasts).unwrap();
    (model, scores, forecasts)
}
