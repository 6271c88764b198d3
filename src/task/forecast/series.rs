//! Series as a model sees them: scaled, without holes, and the inputs of each step.

use super::config::in_series;
use super::{
    Distribution, ForecastConfig, ForecastModel, Layout, Mode, Residual, Rows, Scale, Table,
    Transform,
};
use crate::error::{Error, Result};
use crate::task::TaskModel;

impl Rows {
    /// Rows up to the last one with a target or something that is not known ahead. What comes behind is known ahead.
    pub fn observed(&self) -> usize {
        let seen = self.targets.iter().chain(&self.past);
        let last = seen.filter_map(|column| column.iter().rposition(|x| !x.is_nan()));
        last.max().map_or(0, |last| last + 1)
    }

    /// Whether targets or what is not known ahead are missing somewhere in the first rows.
    pub(super) fn has_gaps(&self, end: usize) -> bool {
        let seen = self.targets.iter().chain(&self.past);
        seen.into_iter().any(|column| column.iter().take(end).any(|x| x.is_nan()))
    }
}

/// A series as the model sees it. Every row's numbers depend on that row and those before it alone.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// Its scales in the configuration.
    pub scale: usize,
    /// Rows that are observed; those behind are known ahead.
    pub rows: usize,
    /// The targets by row, scaled; missing ones are the last known, or the mean.
    pub y: Vec<f32>,
    /// What inputs are centred by, by row and target; empty where they are not.
    centres: Vec<f32>,
    /// The targets in the columns' units, NaN where they are missing.
    pub truth: Vec<f64>,
    past: Vec<f32>,
    known: Vec<f32>,
    past_missing: Vec<f32>,
    calendar: Vec<f32>,
}

/// Series as a model sees them.
#[derive(Clone, Debug)]
pub struct ForecastData {
    pub(super) series: Vec<Prepared>,
    pub(super) starts: Vec<i64>,
    names: Vec<String>,
    targets: usize,
}

impl ForecastData {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// A series' name; empty where there is one alone.
    pub fn name(&self, series: usize) -> &str {
        self.names.get(series).map_or("", String::as_str)
    }

    /// Rows of a series that are observed.
    pub fn rows(&self, series: usize) -> usize {
        self.series.get(series).map_or(0, |of| of.rows)
    }

    /// A target's value in the column's unit; NaN where it is missing.
    pub fn truth(&self, series: usize, row: usize, target: usize) -> f64 {
        let of = self.series.get(series);
        let place = row.checked_mul(self.targets).and_then(|n| n.checked_add(target));
        place.and_then(|place| of?.truth.get(place).copied()).unwrap_or(f64::NAN)
    }

    /// The time of a row, observed or to come.
    pub fn time(&self, model: &ForecastModel, series: usize, row: usize) -> String {
        let clock = &model.config().layout.clock;
        clock.text(clock.after(self.starts.get(series).copied().unwrap_or_default(), row))
    }
}

/// Columns side by side by row, scaled; what is missing is the last known, or the mean. And what was missing.
fn side_by_side(columns: &[Vec<f64>], scales: &[Scale], rows: usize) -> (Vec<f32>, Vec<f32>) {
    let width = columns.len();
    let (mut values, mut missing) = (vec![0.0; rows * width], vec![0.0; rows * width]);
    for (i, (column, scale)) in columns.iter().zip(scales).enumerate() {
        let mut last = 0.0;
        for (row, &x) in column.iter().take(rows).enumerate() {
            if x.is_nan() {
                missing[row * width + i] = 1.0;
            } else {
                last = scale.scaled(x);
            }
            values[row * width + i] = last;
        }
    }
    (values, missing)
}

impl ForecastModel {
    /// A table as this model sees it.
    ///
    /// # Errors
    /// Other columns than the model's; an unknown series; one without any value; what has no logarithm.
    pub fn prepare(&self, table: &Table) -> Result<ForecastData> {
        let config = self.config();
        let (own, other) = (&config.layout, &table.layout);
        if own.targets != other.targets || own.known != other.known || own.past != other.past {
            return Err(Error::invalid("the table's columns are not those of the model"));
        }
        let mut data = ForecastData {
            series: Vec::new(),
            starts: Vec::new(),
            names: Vec::new(),
            targets: config.targets(),
        };
        for rows in &table.series {
            let found = config.series.iter().position(|scale| scale.name == rows.name);
            let scale = found.ok_or_else(|| {
                let line = rows.lines.first().copied().unwrap_or_default();
                let column = own.series.as_deref().unwrap_or_default();
                let known: Vec<&str> = config.series.iter().map(|s| s.name.as_str()).collect();
                Error::invalid(format!(
                    "line {line}, column '{column}': unknown series '{}'; there are {}",
                    rows.name,
                    known.join(", ")
                ))
            })?;
            data.series.push(self.prepare_rows(rows, scale)?);
            data.starts.push(rows.start);
            data.names.push(rows.name.clone());
        }
        Ok(data)
    }

    fn prepare_rows(&self, rows: &Rows, scale: usize) -> Result<Prepared> {
        let config = self.config();
        let scales = &config.series[scale];
        let observed = rows.observed();
        if observed == 0 {
            let what = "there is no value to forecast from";
            return Err(in_series(&rows.name, Error::invalid(what)));
        }
        let names = &config.layout.targets;
        let changed: Vec<Vec<f64>> = names
            .iter()
            .zip(&rows.targets)
            .map(|(name, column)| {
                let cells = column.iter().zip(&rows.lines).take(observed);
                cells.map(|(&x, &line)| config.transform.apply(x, line, name)).collect()
            })
            .collect::<Result<_>>()?;
        let value: Vec<Scale> = scales.targets.iter().map(|t| t.value).collect();
        let (y, _) = side_by_side(&changed, &value, observed);
        let own = |row: usize, j: usize| y[row * names.len() + j];
        let places = (0..observed).flat_map(|t| (0..names.len()).map(move |j| [t, j]));
        let centres = match config.centre {
            0 => Vec::new(),
            _ => places.map(|[t, j]| centre(config, t, j, &own)).collect(),
        };
        let mut truth = vec![f64::NAN; observed * names.len()];
        for (j, column) in rows.targets.iter().enumerate() {
            for (row, &x) in column.iter().take(observed).enumerate() {
                truth[row * names.len() + j] = x;
            }
        }
        let (past, past_missing) = side_by_side(&rows.past, &scales.past, observed);
        let (known, _) = side_by_side(&rows.known, &scales.known, rows.len());
        let clock = &config.layout.clock;
        // The time behind each row, and behind those that are forecast.
        let times = (1..=observed + config.horizon).map(|row| clock.after(rows.start, row));
        let calendar =
            times.flat_map(|t| config.calendar.iter().flat_map(move |c| c.at(t))).collect();
        Ok(Prepared {
            scale,
            rows: observed,
            y,
            centres,
            truth,
            past,
            known,
            past_missing,
            calendar,
        })
    }
}

impl Prepared {
    /// Rows for which there is what is known ahead; all where nothing needs to be.
    pub fn known_rows(&self, config: &ForecastConfig) -> usize {
        let width = Layout::channels(&config.layout.known);
        self.known.len().checked_div(width).unwrap_or(usize::MAX)
    }

    /// The inputs of step `t` of which the rows to `last` are seen, with what the target values
    /// are, by row and target (behind `last` they are forecasts). In this order: the targets, less
    /// their means; their changes against what the residual begins with; lags, as changes where the
    /// residual is the last value; what is not known ahead; what was missing; the calendar of the
    /// next step; what is known of the steps ahead; which series it is.
    pub fn inputs(
        &self,
        config: &ForecastConfig,
        [t, last]: [usize; 2],
        y: &impl Fn(usize, usize) -> f32,
        out: &mut [f32],
    ) {
        let targets = config.targets();
        let mut out = out.iter_mut();
        let mut put = |x: f32| {
            if let Some(place) = out.next() {
                *place = x;
            }
        };
        let ago = |back: usize, j: usize| y(t.saturating_sub(back), j);
        // Where no forecast is among the rows, it was made once for all.
        let mean = |j: usize| match self.centres.get(t * targets + j) {
            Some(&known) if t <= last => known,
            _ => centre(config, t, j, y),
        };
        let centres: Vec<f32> =
            (0..targets).map(|j| if config.centre > 0 { mean(j) } else { 0.0 }).collect();
        centres.iter().enumerate().for_each(|(j, &centre)| put(y(t, j) - centre));
        match config.residual {
            Residual::None => {}
            Residual::Last => (0..targets).for_each(|j| put(y(t, j) - ago(1, j))),
            Residual::Season => (0..targets).for_each(|j| put(y(t, j) - ago(config.season, j))),
        }
        for &lag in &config.lags {
            for (j, &centre) in centres.iter().enumerate() {
                let last = config.residual == Residual::Last;
                put(ago(lag, j) - if last { y(t, j) } else { centre });
            }
        }
        let past = Layout::channels(&config.layout.past);
        let row = |of: &[f32], width: usize, i: usize| of.get(t * width + i).copied();
        (0..past).for_each(|i| put(row(&self.past, past, i).unwrap_or_default()));
        if config.gaps {
            for j in 0..targets {
                // A forecast that is fed back is not missing.
                let missing = self.truth.get(t * targets + j).is_some_and(|x| x.is_nan());
                put(f32::from(missing && t <= last));
            }
            (0..past).for_each(|i| put(row(&self.past_missing, past, i).unwrap_or_default()));
        }
        let cycles = 2 * config.calendar.len();
        (0..cycles).for_each(|i| put(row(&self.calendar, cycles, i).unwrap_or_default()));
        let known = Layout::channels(&config.layout.known);
        for step in 1..=config.steps() {
            (0..known).for_each(|i| {
                put(self.known.get((t + step) * known + i).copied().unwrap_or_default());
            });
        }
        (0..config.identities()).for_each(|i| put(f32::from(i == self.scale)));
    }

    /// What the forecast of a step ahead (from 1) is added to, behind row `t`.
    pub fn base(
        &self,
        config: &ForecastConfig,
        [t, step, j]: [usize; 3],
        y: &impl Fn(usize, usize) -> f32,
    ) -> f32 {
        match config.residual {
            Residual::None => 0.0,
            Residual::Last => y(t, j),
            Residual::Season => y(season_ago(t, step, config.season), j),
        }
    }

    /// A forecast in the column's unit.
    pub fn original(&self, config: &ForecastConfig, j: usize, of: Distribution) -> Distribution {
        let scale = &config.series[self.scale].targets[j].value;
        let of = of.scaled(scale.deviation, scale.mean);
        match config.transform {
            Transform::None => of,
            Transform::Log => of.map(f64::exp),
        }
    }

    /// Rows from which all that is known ahead is there.
    pub fn can_forecast(&self, config: &ForecastConfig, t: usize) -> bool {
        let ahead = if config.mode == Mode::Direct || !config.layout.known.is_empty() {
            config.horizon
        } else {
            0
        };
        config.layout.known.is_empty() || t + ahead < self.known_rows(config)
    }
}

/// The mean of a target over the last rows up to `t`, as many as inputs are centred over.
fn centre(config: &ForecastConfig, t: usize, j: usize, y: &impl Fn(usize, usize) -> f32) -> f32 {
    let rows = t.saturating_sub(config.centre.saturating_sub(1))..=t;
    let count = rows.clone().count() as f32;
    rows.map(|row| y(row, j)).sum::<f32>() / count
}

/// The row that the seasonal naive forecast of a step ahead (from 1) takes: whole seasons before it, not behind `t`;
/// `t` itself where the series begins later.
pub(super) fn season_ago(t: usize, step: usize, season: usize) -> usize {
    let season = season.max(1);
    (t + step).checked_sub(season * step.div_ceil(season)).unwrap_or(t)
}
