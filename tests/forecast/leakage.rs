//! What is behind an origin, or behind the training part, matters nowhere.

use super::*;
use recurra::train::Checkpoint;

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
        let task = ForecastTask::new(model, &table, &split, windows).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions { evaluate_every: 10, ..TrainOptions::new(10) };
        let mut trainer = Trainer::new(&engine, &task, options, None).unwrap();
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
