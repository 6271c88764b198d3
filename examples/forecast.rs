//! Sales of three shops by the day, with a campaign that is known ahead: a GRU with quantiles, a backtest beside the
//! naive forecasts, and the next week.
//!
//!     cargo run --release --example forecast
//!
//! The sales are made here, as CSV. `recurra train forecast` does the same with a file, and has everything that belongs
//! to a run around it, pictures too.

use recurra::task::forecast::{
    BacktestOptions, ForecastConfig, ForecastModel, ForecastOptions, ForecastTask, Parts, Request,
    Split, Table, Windows,
};
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::{Event, TrainOptions, Trainer};
use recurra::{CellKind, Engine, Result};
use std::path::Path;

/// Two years of days, and a week of which the campaign alone is known.
fn sales() -> String {
    let mut lines = String::from("date,shop,campaign,sold\n");
    let months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let year = |year: u32| {
        let days = |month: usize| (1..=months[month]).map(move |day| (month + 1, day));
        (0..12).flat_map(days).map(move |(month, day)| format!("{year}-{month:02}-{day:02}"))
    };
    let dates: Vec<String> = year(2022).chain(year(2023)).collect();
    for (shop, level) in [("north", 90.0), ("south", 30.0), ("west", 200.0)] {
        for (day, date) in dates.iter().enumerate() {
            let campaign = usize::from((day * day / 7) % 9 == 0);
            let week = [1.0, 0.9, 0.9, 1.0, 1.3, 1.6, 0.4][day % 7];
            let noise = 0.2 * ((day * 7919 + level as usize) % 101) as f64 / 101.0;
            let sold = level * (week + noise + 0.5 * campaign as f64) * (1.0 + 0.0005 * day as f64);
            let sold = if day + 7 < dates.len() { format!("{sold:.1}") } else { String::new() };
            lines += &format!("{date},{shop},{campaign},{sold}\n");
        }
    }
    lines
}

fn main() -> Result<()> {
    let request = Request {
        series: Some("shop".to_string()),
        known: vec!["campaign".to_string()],
        ..Request::of("sold")
    };
    let table = Table::from_reader(Path::new("sales"), sales().as_bytes(), &request)?;
    println!("{} series, {} days lack", table.series.len(), table.filled);

    let split = Split::default();
    let options = ForecastOptions { lags: vec![6], ..ForecastOptions::new(7) };
    let recurrent = RecurrentConfig::new(CellKind::Gru, 32);
    let model = ForecastModel::new(ForecastConfig::new(&table, &split, options, recurrent)?)?;
    let windows = Windows { time: 64, warm_up: 16, batch: 16 };
    let task = ForecastTask::new(model.clone(), &table, &split, windows)?;

    let engine = Engine::cpu(Some(1))?;
    let options = TrainOptions { learning_rate: 0.01, ..TrainOptions::new(400) };
    let mut trainer = Trainer::new(&engine, &task, options, None)?;
    trainer.run(None, |event| {
        if let Event::Validation(progress, losses) = event {
            println!("step {:4}  loss {:.4}", progress.step, losses.mean());
        }
        Ok(())
    })?;
    let weights = trainer.best_weights().clone();
    drop(trainer);

    let (data, how) = (task.data(), BacktestOptions::default());
    let origins: Vec<_> = task.parts().iter().map(|p| Parts::origins(&p.test, 7)).collect();
    let forecasts = model.backtest(&engine, &weights, data, &origins, how)?;
    let scores = model.score(data, &forecasts)?;
    for (name, measures) in scores.rows() {
        println!("{name:<20} MAE {:.2}, CRPS {:.2}", measures.mae, measures.crps);
    }
    scores.verdict().iter().for_each(|line| println!("{line}"));
    for forecast in model.forecast(&engine, &weights, data, how)? {
        let shop = data.name(forecast.series);
        for (step, band) in forecast.quantiles.chunks(3).enumerate() {
            let time = data.time(&model, forecast.series, forecast.origin + 1 + step);
            println!("{time} {shop}: {:.0} ({:.0} to {:.0})", band[1], band[0], band[2]);
        }
    }
    Ok(())
}
