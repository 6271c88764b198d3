//! How far forecasts are from what came, beside the naive and the seasonal naive forecast.

use super::series::{ForecastData, Prepared, season_ago};
use super::{Forecast, ForecastConfig, ForecastModel};
use crate::error::{Error, Result};
use crate::task::TaskModel;
use serde::Serialize;

/// Measures of forecasts, means over values whose truth is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// The mean absolute error, in the columns' units.
    pub mae: f64,
    /// The root of the mean squared error, in the columns' units.
    pub rmse: f64,
    /// The absolute error by that of the seasonal naive forecast in the training part (Hyndman and Koehler 2006);
    /// none where that is 0.
    pub mase: Option<f64>,
    /// 200·|y − f|/(|y| + |f|), in percent; 0 where both are 0.
    pub smape: f64,
    /// The continuous ranked probability score, in the columns' units; of a point the absolute error.
    pub crps: f64,
    /// The mean squared error of values in standard deviations of the training part.
    pub standard_mse: f64,
    /// The mean absolute error of such.
    pub standard_mae: f64,
}

/// The measures of one column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetScores {
    /// The column.
    pub target: String,
    /// The model's.
    pub model: Measures,
    /// The last value's.
    pub naive: Measures,
    /// The last season's.
    pub seasonal_naive: Measures,
}

/// The measures of a backtest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Origins.
    pub origins: usize,
    /// Values that were compared.
    pub values: usize,
    /// Steps of a season.
    pub season: usize,
    /// The model's.
    pub model: Measures,
    /// The forecast that the last value stays.
    pub naive: Measures,
    /// The forecast that the last season comes again.
    pub seasonal_naive: Measures,
    /// The share of values between the outermost quantiles, and what it should be; none of points.
    pub coverage: Option<[f64; 2]>,
    /// For each step ahead the mean absolute error in standard deviations: the model's, the naive, the seasonal naive.
    pub by_step: Vec<[f64; 3]>,
    /// By column.
    pub by_target: Vec<TargetScores>,
}

#[derive(Clone, Default)]
struct Sums {
    count: usize,
    absolute: f64,
    squared: f64,
    scaled: f64,
    scaled_count: usize,
    percent: f64,
    crps: f64,
    standard_squared: f64,
    standard_absolute: f64,
}

impl Sums {
    fn add(&mut self, truth: f64, forecast: f64, crps: f64, [deviation, seasonal]: [f64; 2]) {
        let apart = (truth - forecast).abs();
        self.count += 1;
        self.absolute += apart;
        self.squared += apart * apart;
        if seasonal > 0.0 {
            self.scaled += apart / seasonal;
            self.scaled_count += 1;
        }
        let size = truth.abs() + forecast.abs();
        self.percent += if size > 0.0 { 200.0 * apart / size } else { 0.0 };
        self.crps += crps;
        self.standard_squared += (apart / deviation).powi(2);
        self.standard_absolute += apart / deviation;
    }

    fn measures(&self) -> Measures {
        let n = self.count.max(1) as f64;
        Measures {
            mae: self.absolute / n,
            rmse: (self.squared / n).sqrt(),
            mase: (self.scaled_count > 0).then(|| self.scaled / self.scaled_count as f64),
            smape: self.percent / n,
            crps: self.crps / n,
            standard_mse: self.standard_squared / n,
            standard_mae: self.standard_absolute / n,
        }
    }
}

/// The last value that is known at a row; the mean of the training part where there is none.
fn last_known(of: &Prepared, config: &ForecastConfig, row: usize, j: usize) -> f64 {
    let targets = config.targets();
    let found = (0..=row).rev().map(|row| of.truth[row * targets + j]).find(|x| !x.is_nan());
    found.unwrap_or(config.series[of.scale].targets[j].raw.mean)
}

impl ForecastData {
    /// The naive and the seasonal naive forecast of a step ahead (from 1) behind a row.
    pub fn baselines(
        &self,
        model: &ForecastModel,
        [series, origin, step, target]: [usize; 4],
    ) -> Option<[f64; 2]> {
        let (of, config) = (self.series.get(series)?, model.config());
        if origin >= of.rows || target >= config.targets() {
            return None;
        }
        let row = season_ago(origin, step, config.season);
        Some([last_known(of, config, origin, target), last_known(of, config, row, target)])
    }
}

impl ForecastModel {
    /// The measures of forecasts against what came.
    ///
    /// # Errors
    /// Nothing that came is known.
    pub fn score(&self, data: &ForecastData, forecasts: &[Forecast]) -> Result<Scores> {
        let config = self.config();
        let (targets, horizon) = (config.targets(), config.horizon);
        let mut by_target = vec![[0; 3].map(|_| Sums::default()); targets];
        let mut by_step = vec![[0; 3].map(|_| Sums::default()); horizon];
        let levels = config.head.levels();
        let (mut inside, mut compared) = (0usize, 0usize);
        for forecast in forecasts {
            let Some(of) = data.series.get(forecast.series) else { continue };
            for place in 0..horizon * targets {
                let (step, j) = (place / targets + 1, place % targets);
                let truth = data.truth(forecast.series, forecast.origin + step, j);
                let key = [forecast.series, forecast.origin, step, j];
                let (false, Some([naive, seasonal]), Some(&point), Some(&crps)) = (
                    truth.is_nan(),
                    data.baselines(self, key),
                    forecast.points.get(place),
                    forecast.crps.get(place),
                ) else {
                    continue;
                };
                let scale = &config.series[of.scale].targets[j];
                let by = [scale.raw.deviation, scale.seasonal];
                for (i, (told, crps)) in [
                    (point, crps),
                    (naive, (truth - naive).abs()),
                    (seasonal, (truth - seasonal).abs()),
                ]
                .into_iter()
                .enumerate()
                {
                    by_target[j][i].add(truth, told, crps, by);
                    by_step[step - 1][i].add(truth, told, crps, by);
                }
                compared += 1;
                let own = forecast.quantiles.chunks(levels.len().max(1)).nth(place);
                if let Some([low, .., high]) = own {
                    inside += usize::from((*low..=*high).contains(&truth));
                }
            }
        }
        if compared == 0 {
            return Err(Error::invalid("there is no value that forecasts could be compared with"));
        }
        let all = |i: usize| {
            let mut sum = Sums::default();
            for own in by_target.iter().map(|sums| &sums[i]) {
                sum.count += own.count;
                sum.absolute += own.absolute;
                sum.squared += own.squared;
                sum.scaled += own.scaled;
                sum.scaled_count += own.scaled_count;
                sum.percent += own.percent;
                sum.crps += own.crps;
                sum.standard_squared += own.standard_squared;
                sum.standard_absolute += own.standard_absolute;
            }
            sum.measures()
        };
        let coverage = match levels.as_slice() {
            [low, .., high] => {
                Some([inside as f64 / compared as f64, f64::from(*high) - f64::from(*low)])
            }
            _ => None,
        };
        let names = config.layout.targets.iter().zip(&by_target);
        Ok(Scores {
            origins: forecasts.len(),
            values: compared,
            season: config.season,
            model: all(0),
            naive: all(1),
            seasonal_naive: all(2),
            coverage,
            by_step: by_step
                .iter()
                .map(|sums| [0, 1, 2].map(|i| sums[i].measures().standard_mae))
                .collect(),
            by_target: names
                .map(|(name, sums)| TargetScores {
                    target: name.clone(),
                    model: sums[0].measures(),
                    naive: sums[1].measures(),
                    seasonal_naive: sums[2].measures(),
                })
                .collect(),
        })
    }
}

impl Scores {
    /// The rows of a table: a name and its measures.
    pub fn rows(&self) -> [(String, Measures); 3] {
        let seasonal = match self.season {
            1 => "seasonal naive (no season)".to_string(),
            season => format!("seasonal naive ({season})"),
        };
        [
            ("model".to_string(), self.model),
            ("naive".to_string(), self.naive),
            (seasonal, self.seasonal_naive),
        ]
    }

    /// What the model does not do better than a baseline, in words; empty where it beats both.
    pub fn verdict(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, baseline) in [("naive", self.naive), ("seasonal naive", self.seasonal_naive)] {
            for (what, own, its) in [
                ("MAE", self.model.standard_mae, baseline.standard_mae),
                ("MSE", self.model.standard_mse, baseline.standard_mse),
            ] {
                // A model that is no number beats nothing.
                let beats = own < its;
                if !beats {
                    lines.push(format!(
                        "the model does not beat the {name} forecast: {what} {own:.4} against {its:.4}, standardised"
                    ));
                }
            }
        }
        lines
    }
}
