//! Forecasts at every origin of a series, in one pass of the recurrent state over its rows.

use super::draws::{draw, generator};
use super::series::{ForecastData, Prepared};
use super::step::{RowState, Step, row_of, set_row};
use super::{Distribution, ForecastModel, Mode, Parts};
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::layer::InitialState;
use crate::schedule::Recorder;
use crate::task::{TaskModel, load_recording};
use crate::tensor::NamedTensors;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Steps of a run of direct forecasts.
const WINDOW: usize = 128;
/// Series that go side by side.
const SIDE_BY_SIDE: usize = 32;
/// Paths of recursive forecasts that go side by side.
const LANES: usize = 256;

/// How a backtest is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacktestOptions {
    /// Rows from an origin to the next.
    pub stride: usize,
    /// Paths of a recursive forecast whose head tells how sure it is.
    pub paths: usize,
    /// What they are drawn from.
    pub seed: u64,
}

impl Default for BacktestOptions {
    /// Every origin, 100 paths.
    fn default() -> Self {
        BacktestOptions { stride: 1, paths: 100, seed: 1 }
    }
}

/// What is forecast behind one row of a series, in the columns' units.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// The series' number.
    pub series: usize,
    /// The last row that is known.
    pub origin: usize,
    /// The medians \[K, J\].
    pub points: Vec<f64>,
    /// The quantiles of the head's levels \[K, J, levels\]; empty of a head that tells points alone.
    pub quantiles: Vec<f64>,
    /// The continuous ranked probability score of each value \[K, J\]; NaN where what came is unknown.
    pub crps: Vec<f64>,
}

impl Parts {
    /// Origins whose K values all lie in a part.
    pub fn origins(part: &Range<usize>, horizon: usize) -> Range<usize> {
        let from = part.start.max(1) - 1;
        from..part.end.saturating_sub(horizon).max(from)
    }
}

/// A run over a few steps with the state carried on the device.
struct Carried {
    program: Program,
    /// Keeps the states.
    _store: Store,
    x: BufferId,
    told: BufferId,
}

/// An origin with what is known of it, from where paths go on.
struct Branch {
    series: usize,
    origin: usize,
    told: Vec<f32>,
    state: RowState,
}

impl ForecastModel {
    /// Forecasts behind given rows of each series (see [`Parts::origins`]), in the order of series and origins. The
    /// state goes over the rows once, from the first on, so that a forecast depends on the rows up to its origin (and
    /// what is known ahead) alone.
    ///
    /// # Errors
    /// The device failed; weights that give no numbers; a stride or a number of paths of 0; an origin behind which what
    /// should be known ahead is not there.
    pub fn backtest(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        data: &ForecastData,
        origins: &[Range<usize>],
        options: BacktestOptions,
    ) -> Result<Vec<Forecast>> {
        if options.stride == 0 || options.paths == 0 {
            return Err(Error::invalid("a stride and a number of paths are at least 1"));
        }
        for (series, range) in origins.iter().enumerate() {
            let Some(of) = data.series.get(series) else { continue };
            if let Some(last) = range.clone().next_back()
                && (last >= of.rows || !of.can_forecast(self.config(), last))
            {
                let names: Vec<&str> =
                    self.config().layout.known.iter().map(|c| c.name.as_str()).collect();
                return Err(Error::invalid(format!(
                    "behind {} there must be {} rows with {}",
                    data.time(self, series, last),
                    self.config().horizon,
                    names.join(", ")
                )));
            }
        }
        let mut all = Vec::new();
        let count = data.series.len().min(origins.len());
        let mut from = 0;
        while from < count {
            let to = (from + SIDE_BY_SIDE).min(count);
            let group = Group { data, from, origins: &origins[from..to], options };
            match self.config().mode {
                Mode::Direct => self.direct(engine, weights, &group, &mut all)?,
                Mode::Recursive => self.recursive(engine, weights, &group, &mut all)?,
            }
            from = to;
        }
        all.sort_by_key(|forecast| (forecast.series, forecast.origin));
        Ok(all)
    }

    /// Forecasts behind the last row of each series.
    ///
    /// # Errors
    /// As [`ForecastModel::backtest`].
    pub fn forecast(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        data: &ForecastData,
        options: BacktestOptions,
    ) -> Result<Vec<Forecast>> {
        let last: Vec<Range<usize>> = data.series.iter().map(|of| of.rows - 1..of.rows).collect();
        self.backtest(engine, weights, data, &last, BacktestOptions { stride: 1, ..options })
    }

    fn direct(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        group: &Group,
        all: &mut Vec<Forecast>,
    ) -> Result<()> {
        let config = self.config();
        let (width, batch, targets) = (config.inputs(), group.origins.len(), config.targets());
        let end = group.end();
        let time = WINDOW.min(end.max(1));
        let mut rec = Recorder::inference();
        let x = rec.input("x", [time * batch, width], false)?;
        let initial = InitialState::Carried("state".to_string());
        let (told, _) = self.record(&mut rec, x, [time, batch], &initial)?;
        let told = rec.output("told", told)?.view.buffer;
        let (program, store) = load_recording(engine, rec, weights)?;
        let mut run = Carried { program, _store: store, x: x.view.buffer, told };
        let mut inputs = vec![0.0; time * batch * width];
        for start in (0..end).step_by(time) {
            for t in start..start + time {
                for b in 0..batch {
                    let place = ((t - start) * batch + b) * width;
                    group.inputs(self, b, t, &mut inputs[place..place + width]);
                }
            }
            run.program.write(run.x, &inputs)?;
            run.program.run()?;
            let told = run.program.read(run.told)?;
            let row = told.len() / (time * batch);
            for b in 0..batch {
                for t in (start..start + time).filter(|&t| group.is_origin(b, t)) {
                    let of = &group.data.series[group.from + b];
                    let y = |row: usize, j: usize| of.y[row * targets + j];
                    let own = &told[((t - start) * batch + b) * row..][..row];
                    let mut list = Vec::new();
                    for (place, numbers) in own.chunks(self.each()).enumerate() {
                        let (step, j) = (place / targets + 1, place % targets);
                        let base = f64::from(of.base(config, [t, step, j], &y));
                        let told = self.distribution(numbers, base)?;
                        list.push(of.original(config, j, told));
                    }
                    all.push(self.told(of, group.from + b, t, &list));
                }
            }
        }
        Ok(())
    }

    /// What distributions \[K, J\] say, in the columns' units.
    fn told(&self, of: &Prepared, series: usize, origin: usize, list: &[Distribution]) -> Forecast {
        let (levels, targets) = (self.config().head.levels(), self.config().targets());
        let points = list.iter().map(Distribution::point).collect();
        let told = |one: &Distribution| -> Vec<f64> {
            levels.iter().map(|&level| one.quantile(f64::from(level))).collect()
        };
        let quantiles = list.iter().flat_map(told).collect();
        let crps = list.iter().enumerate().map(|(place, one)| {
            let truth = of.truth.get((origin + 1) * targets + place).copied();
            truth.filter(|x| !x.is_nan()).map_or(f64::NAN, |truth| one.crps(truth))
        });
        Forecast { series, origin, points, quantiles, crps: crps.collect() }
    }

    fn recursive(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        group: &Group,
        all: &mut Vec<Forecast>,
    ) -> Result<()> {
        let config = self.config();
        let (width, batch) = (config.inputs(), group.origins.len());
        let hidden = config.recurrent.hidden;
        let paths = if config.head.has_spread() { group.options.paths } else { 1 };
        let mut along = Step::new(self, engine, weights, batch)?;
        let mut ahead = Step::new(self, engine, weights, LANES.min(paths * batch * WINDOW))?;
        let mut states = along.zeros(self);
        let mut x = vec![0.0; batch * width];
        let mut branches = Vec::new();
        let end = group.end();
        for t in 0..end {
            for (b, x) in x.chunks_mut(width).enumerate() {
                group.inputs(self, b, t, x);
            }
            let told = along.go(&x, &mut states)?;
            let row = told.len() / batch;
            for b in (0..batch).filter(|&b| group.is_origin(b, t)) {
                let state = row_of(&states, b, [batch, hidden]);
                let told = told[b * row..(b + 1) * row].to_vec();
                branches.push(Branch { series: group.from + b, origin: t, told, state });
            }
            if branches.len() * paths >= ahead.rows || t + 1 == end {
                self.branch_out(&mut ahead, group, &branches, paths, all)?;
                branches.clear();
            }
        }
        Ok(())
    }

    /// Goes on from origins on paths of its own forecasts.
    fn branch_out(
        &self,
        ahead: &mut Step,
        group: &Group,
        branches: &[Branch],
        paths: usize,
        all: &mut Vec<Forecast>,
    ) -> Result<()> {
        let config = self.config();
        let (width, targets, horizon) = (config.inputs(), config.targets(), config.horizon);
        let shape = [ahead.rows, config.recurrent.hidden];
        let mut found = vec![Vec::new(); branches.len() * paths];
        let lanes: Vec<usize> = (0..found.len()).collect();
        for lanes in lanes.chunks(ahead.rows) {
            let mut states = ahead.zeros(self);
            let mut random: Vec<ChaCha8Rng> = Vec::new();
            for (row, lane) in lanes.iter().enumerate() {
                let branch = &branches[lane / paths];
                set_row(&mut states, row, shape, &branch.state);
                let key = [branch.series, branch.origin, lane % paths];
                random.push(generator(group.options.seed, key));
            }
            let mut x = vec![0.0; ahead.rows * width];
            let mut told = Vec::new();
            for step in 0..horizon {
                for (row, lane) in lanes.iter().enumerate() {
                    let branch = &branches[lane / paths];
                    let of = &group.data.series[branch.series];
                    let at = branch.origin + step;
                    let path: &Vec<f32> = &found[*lane];
                    let y = |row: usize, j: usize| match row.checked_sub(branch.origin + 1) {
                        None => of.y[row * targets + j],
                        Some(behind) => path[behind * targets + j],
                    };
                    // The first is known from the origin; every other one comes from the step to it.
                    let own = match told.chunks(branch.told.len()).nth(row) {
                        Some(own) if step > 0 => own,
                        _ => &branch.told,
                    };
                    let mut next = Vec::new();
                    for (j, numbers) in own.chunks(self.each()).enumerate() {
                        let base = f64::from(of.base(config, [at, 1, j], &y));
                        let told = self.distribution(numbers, base)?;
                        next.push(draw(&told, &mut random[row]) as f32);
                    }
                    found[*lane].extend(next);
                    if step + 1 < horizon {
                        let path: &Vec<f32> = &found[*lane];
                        let y = |row: usize, j: usize| match row.checked_sub(branch.origin + 1) {
                            None => of.y[row * targets + j],
                            Some(behind) => path[behind * targets + j],
                        };
                        of.inputs(
                            config,
                            [at + 1, branch.origin],
                            &y,
                            &mut x[row * width..(row + 1) * width],
                        );
                    }
                }
                if step + 1 < horizon {
                    told = ahead.go(&x, &mut states)?;
                }
            }
        }
        for (branch, found) in branches.iter().zip(found.chunks(paths)) {
            let of = &group.data.series[branch.series];
            let value = |place: usize| {
                let values = found.iter().map(|path| f64::from(path[place]));
                let told = match config.head.has_spread() {
                    false => Distribution::Point(f64::from(found[0][place])),
                    true => {
                        let mut values: Vec<f64> = values.collect();
                        values.sort_by(f64::total_cmp);
                        Distribution::Samples(values)
                    }
                };
                of.original(config, place % targets, told)
            };
            let list: Vec<Distribution> = (0..horizon * targets).map(value).collect();
            all.push(self.told(of, branch.series, branch.origin, &list));
        }
        Ok(())
    }
}

/// Series that go side by side.
struct Group<'a> {
    data: &'a ForecastData,
    /// The first one's number.
    from: usize,
    origins: &'a [Range<usize>],
    options: BacktestOptions,
}

impl Group<'_> {
    /// Steps until the last origin.
    fn end(&self) -> usize {
        let ends = self.origins.iter().filter(|range| !range.is_empty()).map(|range| range.end);
        ends.max().unwrap_or(0)
    }

    fn is_origin(&self, b: usize, t: usize) -> bool {
        let range = &self.origins[b];
        range.contains(&t) && (t - range.start).is_multiple_of(self.options.stride)
    }

    /// The inputs of a row; zeros behind the last one.
    fn inputs(&self, model: &ForecastModel, b: usize, t: usize, out: &mut [f32]) {
        let of = &self.data.series[self.from + b];
        let targets = model.config().targets();
        if t < of.rows {
            of.inputs(model.config(), [t, t], &|row, j| of.y[row * targets + j], out);
        } else {
            out.fill(0.0);
        }
    }
}
