//! Figures by hand.

use super::*;

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
    // The last value that is known is 6 behind either origin: errors 1, 1, 3. Two steps before the
    // values that are known stand 6, the hole, for which the 6 before it is taken, and 6 again.
    close(scores.naive.mae, 5.0 / 3.0);
    close(scores.seasonal_naive.mae, 5.0 / 3.0);
    close(data.baselines(&model, [0, 4, 1, 0]).unwrap()[1], 7.0);
    close(data.baselines(&model, [0, 4, 2, 0]).unwrap()[1], 6.0);
    close(data.baselines(&model, [0, 4, 3, 0]).unwrap()[1], 7.0);
    let words = scores.verdict().join("; ");
    assert!(words.contains("does not beat the naive forecast: MAE 1.06"), "{words}");
    assert!(model.score(&data, &[given(7, [1.0, 1.0])]).is_err(), "nothing to compare with");
}
