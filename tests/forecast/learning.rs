//! What can be learned is learned, and goes on after an interruption.

use super::commands::train;
use super::*;
use crate::common::command::good;
use recurra::Result;
use recurra::train::{Checkpoint, Task};
use serde_json::Value;

/// Days of which random ones, known ahead, have a campaign that sells 10 more: who does not know which days, or takes
/// the day before or behind for it, is off by 10·2·p·(1 − p) or more, and a little noise is left to who does.
fn campaigns() -> String {
    let mut lines = String::from("day;campaign;sold\n");
    for i in 0..700 {
        let campaign = u32::from(noise(i) < 0.4);
        let sold = 20.0 + 10.0 * f64::from(campaign) + noise(i + 9000);
        lines += &format!("{i};{campaign};{sold:.3}\n");
    }
    lines
}

#[test]
fn what_is_known_ahead_is_used_at_its_step() {
    let known = Request { known: vec!["campaign".to_string()], ..Request::of("sold") };
    for mode in [Mode::Direct, Mode::Recursive] {
        let options = ForecastOptions {
            mode,
            residual: Residual::None,
            head: Head::Gaussian,
            ..ForecastOptions::new(3)
        };
        let table = table(&campaigns(), &known);
        let (_, scores, forecasts) = scored(&table, options, 250);
        println!("{mode:?}: {scores:?}");
        // Without the campaign 4.8; the noise alone is 0.25.
        assert!(scores.model.mae < 0.6, "{mode:?}: {}", scores.model.mae);
        assert!(scores.by_step.iter().all(|errors| errors[0] < 0.2 * errors[1]), "{mode:?}");
        assert!(scores.verdict().is_empty() && scores.model.crps < scores.model.mae);
        assert_eq!(forecasts[1].origin - forecasts[0].origin, 3);
    }
    let table = table(&campaigns(), &Request::of("sold"));
    let (_, blind, _) = scored(&table, ForecastOptions::new(3), 250);
    assert!(blind.model.mae > 3.0, "what can't be known is known: {}", blind.model.mae);
}

/// A wave with noise, in original units far from 0, with holes: learned in both modes, with intervals that hold.
#[test]
fn waves_are_learned_with_intervals() {
    let mut lines = String::from("hour,load\n");
    for i in 0..900 {
        let wave = (std::f64::consts::TAU * i as f64 / 20.0).sin();
        let load = 5000.0 + 100.0 * wave + 20.0 * (noise(i) + noise(i + 7777) - 1.0);
        let load = if noise(i + 555) < 0.05 { String::new() } else { format!("{load:.2}") };
        lines += &format!("{i},{load}\n");
    }
    let table = table(&lines, &Request { untimed: true, ..Request::of("load") });
    for (mode, head, residual) in [
        (Mode::Direct, Head::Quantiles(vec![0.1, 0.5, 0.9]), Residual::Last),
        (Mode::Direct, Head::StudentT, Residual::None),
        (Mode::Recursive, Head::Gaussian, Residual::Last),
    ] {
        let options =
            ForecastOptions { mode, head, residual, season: Some(20), ..ForecastOptions::new(8) };
        let (_, scores, _) = scored(&table, options, 400);
        println!("{mode:?}: {scores:?}");
        // The noise has a mean size of 6.7 and a standard deviation of 8.2; the seasonal naive doubles its variance.
        let (own, seasonal) = (scores.model, scores.seasonal_naive);
        assert!(own.mae < 8.5 && own.rmse < 0.87 * seasonal.rmse, "{own:?} {seasonal:?}");
        assert!(own.crps < 0.8 * own.mae, "{own:?}");
        let [share, level] = scores.coverage.unwrap();
        assert!((share - level).abs() < 0.13, "{share} of {level}");
        assert!(scores.naive.mae > 3.0 * own.mae && scores.verdict().is_empty());
    }
}

#[test]
fn interrupted_runs_go_on_with_the_same_bits() {
    let table = table(&campaigns(), &Request::of("sold"));
    let engine = Engine::cpu(Some(1)).unwrap();
    let run = |cut: Option<u64>| {
        let folder = tempfile::tempdir().unwrap();
        let mut checkpoint = None;
        for cut in cut.into_iter().map(Some).chain([None]) {
            let split = Split::default();
            let config = ForecastConfig::new(
                &table,
                &split,
                ForecastOptions::new(3),
                recurrent(CellKind::Lstm, 5, 1),
            );
            let model = ForecastModel::new(config.unwrap()).unwrap();
            let windows = Windows { time: 24, warm_up: 6, batch: 4 };
            let task = ForecastTask::new(model, &table, &split, windows).unwrap();
            let options = TrainOptions { save_every: 5, ..TrainOptions::new(20) };
            let mut trainer = Trainer::new(&engine, &task, options, checkpoint).unwrap();
            let result: Result<_> = trainer.run(Some(folder.path()), |event| match event {
                recurra::train::Event::Saved(step) if Some(*step) == cut => {
                    Err(recurra::Error::Invalid("cut off".to_string()))
                }
                _ => Ok(()),
            });
            assert_eq!(result.is_err(), cut.is_some());
            checkpoint = Some(Checkpoint::load(folder.path()).unwrap());
        }
        checkpoint.unwrap().tensors
    };
    assert!(run(None) == run(Some(10)));
}

/// The electricity transformer data, if they are there: a slice, learned for seconds, in the setting of Zhou 2021.
#[test]
fn transformers_beat_the_naive_forecasts() {
    let Some(data) = common::data_folder("ts_ett") else { return };
    let data = data.join("ETTh1.csv");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model");
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    let asked = [
        "--target",
        "all",
        "--horizon",
        "24",
        "--split",
        "3000/500/500",
        "--head",
        "mean",
        "--steps",
        "150",
        "--lr",
        "0.01",
        "--hidden",
        "32",
    ];
    let mut all = train(data, out, &[]);
    all.drain(6..8);
    all.extend(asked);
    good(&all);
    let (json, _) = good(&["eval", "--model", out, "--data", data, "--json"]);
    let scores: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&scores["origins"], &scores["values"]), (&477.into(), &(477 * 24 * 7).into()));
    let mse = |who: &str| scores[who]["standard_mse"].as_f64().unwrap();
    println!("ETTh1 slice: {} {} {}", mse("model"), mse("naive"), mse("seasonal_naive"));
    assert!(mse("model") < 0.9 * mse("naive").min(mse("seasonal_naive")), "{scores}");
}

/// Windows that are shortened to a short series have a shorter warm-up, and no more of them lie side by side than were
/// asked for.
#[test]
fn short_series_have_short_warm_ups() {
    let lines: String = (0..40).map(|i| format!("{}\n", i % 7)).collect();
    let table = table(&format!("load\n{lines}"), &Request { untimed: true, ..Request::of("load") });
    let split = Split::default();
    for (batch, time) in [(1, 96), (4, 96), (3, 12)] {
        let config = ForecastConfig::new(
            &table,
            &split,
            ForecastOptions::new(2),
            recurrent(CellKind::Gru, 5, 1),
        );
        let model = ForecastModel::new(config.unwrap()).unwrap();
        let windows = Windows { time, warm_up: time / 4, batch };
        let task = ForecastTask::new(model, &table, &split, windows).unwrap();
        let [steps, rows] = task.shape();
        assert!(rows <= batch, "{rows} rows of {batch}");
        let length = task.parts()[0].training.end - 1;
        assert_eq!(steps, time.min(length));
        // Three quarters of a window count: as many windows as cover the series so, and one that is cut short.
        let windows = length.div_ceil(steps - steps / 4) + 1;
        assert_eq!(task.batches_per_epoch(), windows.div_ceil(batch) as u64);
    }
}
