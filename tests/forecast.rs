//! Forecasts: nothing of the future leaks, what is there is learned, figures are right, and the command line.

mod common;

use common::command::{fails, good, text};
use common::outside::{browse, chromium};
use recurra::engine::Engine;
use recurra::task::forecast::{
    BacktestOptions, Calendar, Forecast, ForecastConfig, ForecastModel, ForecastOptions,
    ForecastTask, Head, Mode, Parts, Request, Residual, Scores, Split, Table, Transform, Windows,
};
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::{Checkpoint, TrainOptions, Trainer};
use recurra::{CellKind, Result};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Numbers between 0 and 1 that look random.
fn noise(i: usize) -> f64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 24) as f64
}

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

/// What is changed behind a row changes no forecast at it or before, whatever the model looks at; behind it, it does.
/// And the forecast behind the end of a table that is cut off is that of the backtest over all of it.
#[test]
fn nothing_behind_an_origin_matters() {
    let plain = ForecastOptions { lags: vec![3, 24], ..ForecastOptions::new(HORIZON) };
    let calendar = Some(vec![Calendar::Day, Calendar::Week]);
    let cases = [
        (CellKind::Lstm, plain.clone()),
        (CellKind::Gru, ForecastOptions { centre: 5, residual: Residual::None, ..plain.clone() }),
        (
            CellKind::Gru,
            ForecastOptions { residual: Residual::Season, head: Head::Gaussian, ..plain.clone() },
        ),
        (
            CellKind::Lstm,
            ForecastOptions {
                residual: Residual::None,
                head: Head::StudentT,
                transform: Transform::Log,
                calendar: calendar.clone(),
                ..plain.clone()
            },
        ),
        (
            CellKind::Lstm,
            ForecastOptions {
                mode: Mode::Recursive,
                head: Head::Gaussian,
                centre: 3,
                calendar,
                ..plain.clone()
            },
        ),
        (
            CellKind::Gru,
            ForecastOptions {
                mode: Mode::Recursive,
                residual: Residual::Season,
                season: Some(2),
                ..plain.clone()
            },
        ),
        (CellKind::RnnTanh, ForecastOptions { mode: Mode::Recursive, head: Head::Mean, ..plain }),
    ];
    for (number, (cell, options)) in cases.into_iter().enumerate() {
        let request = request(options.mode == Mode::Direct);
        let whole = table(&hours(None), &request);
        let config =
            ForecastConfig::new(&whole, &SPLIT.parse().unwrap(), options, recurrent(cell, 6, 2));
        let model = ForecastModel::new(config.unwrap()).unwrap();
        let count = ROWS - HORIZON;
        let before = all_of(&model, &whole, count);
        assert_eq!(before.len(), 2 * count);
        for cut in [0, 41, 60, ROWS - HORIZON - 3] {
            let after = all_of(&model, &table(&hours(Some(cut)), &request), count);
            for (old, new) in before.iter().zip(&after) {
                let told = (number, cut, old.series, old.origin);
                assert_eq!((old.series, old.origin), (new.series, new.origin));
                if old.series == 1 || old.origin <= cut {
                    assert!(same(old, new), "{told:?}: the future leaks");
                } else if old.origin == cut + 1 {
                    // Nor is it deaf.
                    assert!(!same(old, new), "{told:?}: nothing is heard");
                }
            }
            // The table up to the cut, with what is known ahead and nothing else behind it.
            let mut lines: Vec<String> = Vec::new();
            for line in hours(None).lines().take(1 + 2 * (cut + 1 + HORIZON)) {
                let cells: Vec<&str> = line.split(',').collect();
                let row = lines.len().saturating_sub(1) / 2;
                match lines.is_empty() || row <= cut {
                    true => lines.push(line.to_string()),
                    false => lines.push(format!("{},{},,,{},,", cells[0], cells[1], cells[4])),
                }
            }
            let short = lines.join("\n");
            let short =
                Table::from_reader_as(Path::new("short.csv"), short.as_bytes(), &whole.layout);
            let short = short.unwrap();
            let data = model.prepare(&short).unwrap();
            // A last row of holes alone is not seen as a row.
            let engine = Engine::cpu(Some(1)).unwrap();
            let how = BacktestOptions { paths: 3, ..BacktestOptions::default() };
            let last = model.forecast(&engine, &model.initial_weights(5), &data, how).unwrap();
            for forecast in last {
                let wanted = before
                    .iter()
                    .find(|f| (f.series, f.origin) == (forecast.series, forecast.origin))
                    .unwrap();
                assert!(forecast.origin <= cut && forecast.origin + 2 > cut);
                let apart = wanted.points.iter().zip(&forecast.points);
                let apart = apart.map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
                assert!(apart < 1e-4, "{number} {cut}: off by {apart}");
            }
        }
    }
}

/// Scales, cycles and what is learned come from the training part alone.
#[test]
fn training_knows_nothing_of_later_rows() {
    let request = request(true);
    let engine = Engine::cpu(Some(1)).unwrap();
    let learn = |csv: &str| {
        let table = table(csv, &request);
        let split: Split = SPLIT.parse().unwrap();
        let options = ForecastOptions::new(HORIZON);
        let config =
            ForecastConfig::new(&table, &split, options, recurrent(CellKind::Gru, 6, 1)).unwrap();
        let model = ForecastModel::new(config.clone()).unwrap();
        let windows = Windows { time: 16, warm_up: 4, batch: 3 };
        let mut task = ForecastTask::new(model, &table, &split, windows).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions { evaluate_every: 10, ..TrainOptions::new(10) };
        let mut trainer = Trainer::new(&engine, &mut task, options, None).unwrap();
        trainer.run(Some(folder.path()), |_| Ok(())).unwrap();
        let loss = trainer.state().best[0].loss;
        (config, Checkpoint::load(folder.path()).unwrap().tensors, loss)
    };
    let (before, same, other) =
        (learn(&hours(None)), learn(&hours(Some(39))), learn(&hours(Some(38))));
    assert_eq!(before.0, same.0);
    assert!(before.1 == same.1, "weights depend on what is behind the training part");
    assert_ne!(before.2, same.2, "the validation loss is of the validation part");
    assert!(before.0 != other.0 && before.1 != other.1, "the last row of training counts");
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
    let mut task = ForecastTask::new(model.clone(), table, &split, windows).unwrap();
    let engine = Engine::cpu(Some(1)).unwrap();
    let options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(steps) };
    let mut trainer = Trainer::new(&engine, &mut task, options, None).unwrap();
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

/// Each measure of a few values by hand, of forecasts that are given.
#[test]
fn measures_are_those_of_the_papers() {
    let csv = "m,y\n1,2\n2,4\n3,3\n4,7\n5,6\n6,\n7,5\n8,9\n";
    let table = table(csv, &Request { untimed: true, ..Request::of("y") });
    let split: Split = "4/2/2".parse().unwrap();
    let options = ForecastOptions {
        head: Head::Mean,
        season: Some(2),
        calendar: Some(Vec::new()),
        ..ForecastOptions::new(2)
    };
    let config =
        ForecastConfig::new(&table, &split, options, recurrent(CellKind::Gru, 2, 1)).unwrap();
    // Of 2, 4, 3, 7: mean 4, variance (4 + 0 + 1 + 9)/4 = 3.5; seasonal errors |3 − 2|, |7 − 4|: mean 2.
    let scale = config.series[0].targets[0];
    assert!(
        (scale.raw.mean - 4.0).abs() < 1e-12 && (scale.raw.deviation.powi(2) - 3.5).abs() < 1e-12
    );
    assert!((scale.seasonal - 2.0).abs() < 1e-12);
    let model = ForecastModel::new(config).unwrap();
    let data = model.prepare(&table).unwrap();
    // Behind row 6 of value 6 come nothing and 5; behind the hole come 5 and 9.
    let given = |origin: usize, points: [f64; 2]| {
        let crps = (1..=2).zip(points).map(|(s, p)| (data.truth(0, origin + s, 0) - p).abs());
        Forecast {
            series: 0,
            origin,
            points: points.to_vec(),
            quantiles: Vec::new(),
            crps: crps.collect(),
        }
    };
    let scores = model.score(&data, &[given(4, [1.0, 4.0]), given(5, [7.0, 6.0])]).unwrap();
    // Errors 1, 2, 3 of 5, 5, 9.
    let own = scores.model;
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    assert_eq!((scores.values, scores.origins, scores.coverage), (3, 2, None));
    close(own.mae, 2.0);
    close(own.rmse, (14f64 / 3.0).sqrt());
    close(own.mase.unwrap(), 1.0);
    close(own.crps, 2.0);
    close(own.smape, 200.0 / 3.0 * (1.0 / 9.0 + 2.0 / 12.0 + 3.0 / 15.0));
    close(own.standard_mse, 14.0 / 3.0 / 3.5);
    close(own.standard_mae, 2.0 / 3.5f64.sqrt());
    // The last value that is known is 6 behind either origin: errors 1, 1, 3. Two steps before the values that are known
    // stand 6, the hole, for which the 6 before it is taken, and 6 again.
    close(scores.naive.mae, 5.0 / 3.0);
    close(scores.seasonal_naive.mae, 5.0 / 3.0);
    close(data.baselines(&model, [0, 4, 1, 0]).unwrap()[1], 7.0);
    close(data.baselines(&model, [0, 4, 2, 0]).unwrap()[1], 6.0);
    close(data.baselines(&model, [0, 4, 3, 0]).unwrap()[1], 7.0);
    let words = scores.verdict().join("; ");
    assert!(words.contains("does not beat the naive forecast: MAE 1.06"), "{words}");
    assert!(model.score(&data, &[given(7, [1.0, 1.0])]).is_err(), "nothing to compare with");
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
            let mut task = ForecastTask::new(model, &table, &split, windows).unwrap();
            let options = TrainOptions { save_every: 5, ..TrainOptions::new(20) };
            let mut trainer = Trainer::new(&engine, &mut task, options, checkpoint).unwrap();
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

const SMALL: [&str; 10] =
    ["--hidden", "12", "--layers", "1", "--device", "cpu", "--threads", "1", "--batch", "8"];

fn train<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "forecast", "--data", data, "--out", out];
    all.extend(SMALL);
    all.extend(more);
    all
}

#[test]
fn a_table_is_forecast_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("shops.csv"), path("model"));
    std::fs::write(&data, hours(None)).unwrap();
    let asked = [
        "--target",
        "sold,price",
        "--series",
        "shop",
        "--known",
        "event",
        "--past",
        "heat,sky",
        "--horizon",
        "4",
        "--split",
        "50/16/20",
        "--seq",
        "24",
        "--steps",
        "40",
        "--lags",
        "2",
    ];
    let (_, said) = good(&train(&data, &out, &asked));
    for word in
        ["2 series", "by the hour", "season 24", "seasonal naive (24)", "std MSE", "the report:"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    let page = Path::new(&out).join("report.html");
    let html = std::fs::read_to_string(&page).unwrap();
    for word in ["Error by how far ahead", "sold of a behind 2024-03-", "80 %", "By column", "MASE"]
    {
        assert!(html.contains(word), "{word}");
    }
    if let Some(browser) = chromium() {
        let (dom, complaints) = browse(&browser, folder.path(), &page, &["--dump-dom"]);
        assert!(
            !complaints.contains("CONSOLE") && dom.contains("data-ready=\"yes\""),
            "{complaints}"
        );
        // Three fans of two columns, in two parts, each for windows and phones: a band in each.
        assert_eq!(dom.matches("class=\"band area s0\"").count(), 2 * 2 * 2 * 3);
        assert!(dom.contains("the last value that is known"));
    }

    let (json, _) = good(&["eval", "--model", &out, "--data", &data, "--json"]);
    let scores: Value = serde_json::from_str(&json).unwrap();
    // 20 rows to test, the last four of them hold the last origin's values.
    assert_eq!((&scores["origins"], &scores["rows"]), (&(2 * 17).into(), &"to test".into()));
    assert_eq!(scores["by_step"].as_array().unwrap().len(), 4);
    let own = scores["model"]["mae"].as_f64().unwrap();
    assert!(own > 1.0 && own < 10.0 && scores["seasonal_naive"]["mase"].as_f64().unwrap() > 0.5);
    let (lines, _) = good(&["eval", "--model", &out, "--data", &data]);
    assert!(
        lines.contains(&format!("{own:.4}")) && lines.contains("seasonal naive (24)"),
        "{lines}"
    );
    assert!(said.contains(&format!("{own:.4}")), "training says the same of the test part: {said}");

    // The same file with more rows: those alone count that were not seen.
    let (longer, rows) = (path("longer.csv"), hours(None));
    let extra: String = rows
        .lines()
        .skip(1)
        .take(24)
        .map(|l| l.replace("2024-03-01", "2024-03-05") + "\n")
        .collect();
    let filled = rows.lines().skip(1 + 2 * 72).count();
    std::fs::write(&longer, rows.clone() + &extra).unwrap();
    let (json, _) = good(&["eval", "--model", &out, "--data", &longer, "--json"]);
    let scores: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(filled, 36);
    // Rows to 2024-03-05 11:00 are 108; 66 were seen.
    assert_eq!(scores["origins"], 2 * (108 - 66 - 4 + 1), "{scores}");
    assert!(scores["rows"].as_str().unwrap().contains("behind"));

    // Behind the end: what is known ahead has to be there.
    let arguments = ["predict", &data, "--model", &out];
    fails(&arguments, 1, &["shops.csv", "there must be 4 rows with event"]);
    let ahead: String = (18..22)
        .flat_map(|hour| ["a", "b"].map(|shop| format!("2024-03-04 {hour}:00,{shop},,,1,,\n")))
        .collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_recurra"))
        .args(["predict", "--model", &out, "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all((rows.clone() + &ahead).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let csv = text(&output.stdout);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "shop,time,sold,sold:0.1,sold:0.5,sold:0.9,price,price:0.1,price:0.5,price:0.9"
    );
    assert_eq!(lines.len(), 1 + 2 * 4);
    assert!(
        lines[1].starts_with("a,2024-03-04 18:00,") && lines[8].starts_with("b,2024-03-04 21:00,")
    );
    let cells: Vec<f64> = lines[1].split(',').skip(2).map(|c| c.parse().unwrap()).collect();
    assert!(
        cells[1] <= cells[0] && cells[0] == cells[2] && cells[2] <= cells[3] && cells[3] < 60.0
    );
    let known = path("ahead.csv");
    std::fs::write(&known, rows + &ahead).unwrap();
    let (json, _) = good(&["predict", &known, "--model", &out, "--json"]);
    let told: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(told.len(), 2 * 4 * 2);
    assert!((told[0]["forecast"].as_f64().unwrap() - cells[0]).abs() < 1e-3);
    assert_eq!(
        (&told[0]["series"], &told[0]["time"], &told[0]["step"]),
        (&"a".into(), &"2024-03-04 18:00".into(), &1.into())
    );
    assert!(told[0]["quantiles"]["0.9"].as_f64().is_some());

    let (json, _) = good(&["microscope", "--model", &out, "--json", "--device", "cpu"]);
    assert!(json.contains("lstm"));
    let (_, again) = good(&["train", "forecast", "--resume", &out, "--device", "cpu"]);
    assert!(again.contains("complete") && again.contains(&format!("{own:.4}")), "{again}");
    std::fs::write(&data, hours(Some(3))).unwrap();
    fails(&["train", "forecast", "--resume", &out], 1, &["not the file that the run began with"]);
    // A label and a series that the model never saw; a column that went.
    let odd = hours(None).replacen("blue", "green", 1);
    std::fs::write(&data, odd).unwrap();
    fails(
        &["eval", "--model", &out, "--data", &data],
        1,
        &["shops.csv", "line ", "'sky'", "unknown label 'green'"],
    );
    std::fs::write(&data, hours(None).replace(",b,", ",c,")).unwrap();
    fails(&["predict", &data, "--model", &out], 1, &["line 3", "'shop'", "unknown series 'c'"]);
    std::fs::write(&data, hours(None).replace("heat", "cold")).unwrap();
    fails(&["eval", "--model", &out, "--data", &data], 1, &["line 1", "'heat'", "no such column"]);
}

#[test]
fn recursive_runs_and_points_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("months.csv"), path("model"));
    let mut lines = String::from("\"Month\",\"Sold\"\n");
    for i in 0..96 {
        let wave = (std::f64::consts::TAU * f64::from(i) / 12.0).sin();
        let sold = (4.0 + 0.01 * f64::from(i) + 0.3 * wave + 0.03 * noise(i as usize)).exp();
        lines += &format!("\"{}-{:02}\",{sold:.2}\n", 2001 + i / 12, 1 + i % 12);
    }
    std::fs::write(&data, &lines).unwrap();
    let asked = [
        "--target",
        "Sold",
        "--horizon",
        "6",
        "--recursive",
        "--head",
        "student-t",
        "--log",
        "--residual",
        "season",
        "--split",
        "60/18/18",
        "--steps",
        "30",
        "--paths",
        "20",
    ];
    let (_, said) = good(&train(&data, &out, &asked));
    assert!(said.contains("one after another") && said.contains("by the month"), "{said}");
    let (csv, _) = good(&["predict", &data, "--model", &out]);
    assert!(csv.contains("Month,Sold,Sold:0.1,") && csv.contains("\n2009-01,"), "{csv}");
    let (again, _) = good(&["predict", &data, "--model", &out]);
    assert_eq!(csv, again, "paths are drawn from the seed");
    let out = path("points");
    let asked =
        ["--target", "Sold", "--horizon", "6", "--head", "huber", "--steps", "5", "--lr", "1e-9"];
    let (_, said) = good(&train(&data, &out, &asked));
    // What has not learned says so, at the end and in the report.
    assert!(said.contains("the model does not beat the seasonal naive forecast"), "{said}");
    let html = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(html.contains("the model does not beat the seasonal naive forecast"));
    let (csv, _) = good(&["predict", &data, "--model", &out]);
    assert!(csv.starts_with("Month,Sold\n2009-01,"), "{csv}");
    let (told, _) = good(&["eval", "--model", &out, "--data", &data]);
    assert!(told.contains("does not beat") && !told.contains("outermost"), "{told}");
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, out) = (path("bad.csv"), path("model"));
    let day = |i: usize| format!("2024-01-{:02}", i + 1);
    let plain: Vec<String> = (0..30).map(|i| format!("{},{}", day(i), i * i % 7)).collect();
    let with = |line: usize, text: &str| {
        let mut lines = plain.clone();
        lines[line - 2] = text.to_string();
        format!("day,y\n{}\n", lines.join("\n"))
    };
    let asked = ["--target", "y", "--horizon", "2", "--steps", "1"];
    for (content, words) in [
        (String::new(), &["the file is empty"][..]),
        ("day,y\n".to_string(), &["line 1", "no row"]),
        ("day,y,y\n2024-01-01,1,2\n".to_string(), &["line 1", "'y'", "two columns"]),
        (with(5, "2024-01-04"), &["line 5", "1 fields", "the header has 2"]),
        (with(5, "2024-01-04,1,2"), &["line 5", "3 fields"]),
        (with(7, "2024-01-06,1x"), &["line 7", "column 'y'", "'1x' is no number"]),
        (with(7, "2024-01-06,inf"), &["line 7", "column 'y'", "'inf' is no number"]),
        (
            with(8, "7.1.24,1"),
            &["line 8", "column 'day'", "'7.1.24' is no time of the form %Y-%m-%d"],
        ),
        (with(9, "2024-01-01,1"), &["line 9", "column 'day'", "does not come behind"]),
        (with(31, "2030-01-01,1"), &["line 31", "too large a gap"]),
        ("day,y\n2024-01-01,1\n".to_string(), &["no series has two rows"]),
        (plain[..3].join("\n").replace("2024-01-01,0", "day,y"), &["too few"]),
        ("day,y\n2024-01-01,\n2024-01-02,\n2024-01-03,\n".to_string(), &["too few"]),
    ] {
        std::fs::write(&data, &content).unwrap();
        let words: Vec<&str> = ["bad.csv"].into_iter().chain(words.iter().copied()).collect();
        fails(&train(&data, &out, &asked), 1, &words);
        assert!(!Path::new(&out).exists());
    }
    let hours =
        "day,y\n2024-01-01 00:00,1\n2024-01-01 01:00,1\n2024-01-01 02:00,1\n2024-01-01 02:20,1\n";
    std::fs::write(&data, hours).unwrap();
    fails(&train(&data, &out, &asked), 1, &["line 5", "no whole number of steps (hour)"]);
    std::fs::write(&data, b"day,y\n2024-01-01,1\n2024-01-02,\xff\xfe\n").unwrap();
    fails(&train(&data, &out, &asked), 1, &["bad.csv", "line 3", "field 2", "no UTF-8"]);
    let zeros: String = plain.iter().map(|l| l.clone() + ",k\n").collect();
    std::fs::write(&data, format!("day,y,kind\n{zeros}")).unwrap();
    let with = |more: &[&'static str]| [&asked[..], more].concat();
    for (more, words) in [
        (&["--log"][..], &["bad.csv", "line 2", "column 'y'", "0 has no logarithm"][..]),
        (&["--past", "x"], &["line 1", "'x'", "no such column", "day, y, kind"]),
        (&["--past", "y"], &["'y'", "asked for twice"]),
        (&["--past", "kind", "--recursive"], &["recursive", "kind"]),
        (&["--both"], &["both ways"]),
        (&["--split", "100/1/1"], &["bad.csv", "30 rows are fewer than the 102"]),
        (&["--quantiles", "0.5,0.1"], &["quantile levels rise"]),
        (&["--quantiles", "0,1"], &["quantile levels"]),
        (&["--calendar", "day,moon"], &["'moon'", "week"]),
        (&["--warm-up", "96"], &["warm-up of 96"]),
        (&["--lags", "9999999"], &["9999999"]),
        (&["--time", "none", "--calendar", "week"], &["no times"]),
        (
            &["--time-format", "%d/%m/%Y", "--time", "day"],
            &["line 2", "'2024-01-01' is no time of the form %d"],
        ),
        (&["--horizon", "99999999"], &["99999999"]),
    ] {
        let mut asked = with(more);
        if more[0] == "--horizon" {
            asked.drain(2..4);
        }
        fails(&train(&data, &out, &asked), 1, words);
    }
    fails(
        &train(&data, &out, &["--target", "kind", "--horizon", "2"]),
        1,
        &["line 2", "'kind'", "'k' is no number"],
    );
    fails(&train(&path("none.csv"), &out, &asked), 1, &["none.csv", "read"]);
    fails(&train(&data, &out, &with(&["--split", "7/x"])), 2, &["a split is"]);
    fails(&["train", "forecast", "--data", &data], 2, &["--target", "--horizon"]);
    // Gaps are filled, and it is said.
    let gaps: String = plain
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 9 != 4)
        .map(|(_, l)| l.clone() + "\n")
        .collect();
    std::fs::write(&data, format!("day,y\n{gaps}")).unwrap();
    let (_, said) = good(&train(&data, &out, &asked));
    assert!(said.contains("3 rows lack") && said.contains("30 rows"), "{said}");
    assert!(Path::new(&out).exists());
}

/// Forms of files that people have.
#[test]
fn tables_are_read_as_they_are_written() {
    let request = Request { past: vec!["all".to_string()], ..Request::of("y") };
    let table = |csv: &str, request: &Request| table(csv, request);
    let csv = "\u{feff}when;y;a;label\r\n01.02.2024;1,5\r\n";
    let error = Table::from_reader(Path::new("f"), csv.as_bytes(), &request).unwrap_err();
    assert!(
        error.to_string().contains("f: line 2, column 'a': 2 fields, where the header has 4"),
        "{error}"
    );
    let csv = "when,y\n\n2024-01-01,1\n\n\n2024-01-02,x\n";
    let error = Table::from_reader(Path::new("f"), csv.as_bytes(), &request).unwrap_err();
    assert!(error.to_string().contains("line 6, column 'y'"), "{error}");
    let csv = "\u{feff}when;y;a;label\r\n01.02.2024; 1.5 ;NA;x\r\n02.02.2024;2.5;3;y\r\n";
    let found = table(csv, &request);
    assert_eq!(found.layout.time, ["when"]);
    assert_eq!(found.layout.past.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(found.series[0].targets, [[1.5, 2.5]]);
    assert!(found.series[0].past[0][0].is_nan() && found.series[0].past[0][1] == 3.0);
    let parts = Request {
        time: ["year", "month", "day", "hour"].map(str::to_string).to_vec(),
        past: vec!["wind".to_string()],
        ..Request::of("y")
    };
    let csv = "year,month,day,hour,y,wind\n2010,1,1,22,1,NW\n2010,1,1,23,2,cv\n2010,1,2,1,4,NW\n";
    let found = table(csv, &parts);
    assert_eq!((found.filled, found.series[0].len()), (1, 4));
    assert_eq!(found.layout.past[0].labels, ["NW", "cv"]);
    assert_eq!(found.series[0].past[0][..2], [1.0, 0.0]);
    assert!(found.series[0].targets[0][2].is_nan() && found.series[0].past[1][2].is_nan());
    let all = Request { targets: vec!["all".to_string()], ..Request::default() };
    assert_eq!(table(csv, &all).layout.targets, ["year", "month", "day", "hour", "y"]);
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
