//! A model of forecasts with the series it is trained on.

use super::series::ForecastData;
use super::{ForecastModel, Parts, Split, Table};
use crate::data::{Draw, LastPass, random};
use crate::error::{Error, Result};
use crate::layer::{InitialState, Recurrent};
use crate::loss::{Objective, Target};
use crate::schedule::Recorder;
use crate::task::TaskModel;
use crate::tensor::NamedTensors;
use crate::train::{Feed, Phase, Task};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// How series are cut for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Steps of a window T, at most; a shorter series has shorter ones.
    pub time: usize,
    /// Steps at its beginning whose forecasts don't count, as the state is still empty; less than T.
    pub warm_up: usize,
    /// Windows of a batch B, at most.
    pub batch: usize,
}

/// A window: steps from `from` on; those of `origins` count.
#[derive(Clone, Debug)]
struct Window {
    series: usize,
    from: usize,
    origins: Range<usize>,
    /// Rows from here on are not looked at.
    end: usize,
}

type Batches = Vec<Vec<Window>>;

/// A model of forecasts with the series it is trained on, in shuffled windows that are cut anew for every pass: every
/// origin counts once a pass. What is missing, and what lies behind the training part, counts for nothing.
pub struct ForecastTask {
    model: ForecastModel,
    data: ForecastData,
    parts: Vec<Parts>,
    windows: Windows,
    /// Rows of training and validation batches.
    rows: [usize; 2],
    batches: usize,
    passes: LastPass<Batches>,
    validation: Batches,
}

impl ForecastTask {
    /// Trains `model` on the first part of each series of a table.
    ///
    /// # Errors
    /// As [`ForecastModel::prepare`] and [`Split::parts`]; a warm-up that is no shorter than a window; no value to
    /// train on.
    pub fn new(
        model: ForecastModel,
        table: &Table,
        split: &Split,
        windows: Windows,
    ) -> Result<Self> {
        let data = model.prepare(table)?;
        let parts: Vec<Parts> =
            data.series.iter().map(|of| split.parts(of.rows)).collect::<Result<_>>()?;
        let longest = parts.iter().map(|p| p.training.end - 1).max().unwrap_or(1);
        if windows.warm_up >= windows.time || windows.batch == 0 {
            return Err(Error::invalid(format!(
                "a warm-up of {} steps leaves none of {} that count",
                windows.warm_up, windows.time
            )));
        }
        let time = windows.time.min(longest);
        // Shorter windows have a shorter warm-up.
        let warm_up = (windows.warm_up * time / windows.time).min(time - 1);
        let windows = Windows { time, warm_up, ..windows };
        let mut task = ForecastTask {
            model,
            data,
            parts,
            windows,
            rows: [1; 2],
            batches: 1,
            passes: LastPass::default(),
            validation: Vec::new(),
        };
        let stride = time - windows.warm_up;
        let origins = task.parts.iter().map(|p| p.training.end - 1);
        // A window more of each series where the first is cut short.
        let most = origins.map(|n| n.div_ceil(stride) + 1).sum::<usize>();
        task.batches = most.div_ceil(windows.batch).max(1);
        task.rows[0] = most.div_ceil(task.batches);
        let mut held: Vec<Window> = Vec::new();
        for (series, parts) in task.parts.iter().enumerate() {
            let range = parts.validation.clone();
            if !range.is_empty() {
                task.cut(&mut held, series, range.start - 1..range.end - 1, [0, range.end]);
            }
        }
        task.rows[1] = held.len().clamp(1, windows.batch);
        task.validation = held.chunks(task.rows[1]).map(<[Window]>::to_vec).collect();
        if task.pass([0, 0]).iter().all(|batch| task.counted(batch) == 0) {
            return Err(Error::invalid("there is no value to train on"));
        }
        Ok(task)
    }

    /// The model.
    pub fn model(&self) -> &ForecastModel {
        &self.model
    }

    /// The series.
    pub fn data(&self) -> &ForecastData {
        &self.data
    }

    /// Each series' parts.
    pub fn parts(&self) -> &[Parts] {
        &self.parts
    }

    /// T and B of training batches.
    pub fn shape(&self) -> [usize; 2] {
        [self.windows.time, self.rows[0]]
    }

    /// Cuts origins into windows, the first after `first` of them.
    fn cut(
        &self,
        into: &mut Vec<Window>,
        series: usize,
        all: Range<usize>,
        [first, end]: [usize; 2],
    ) {
        let stride = self.windows.time - self.windows.warm_up;
        let mut from = all.start;
        let mut to = if first == 0 { from + stride } else { from + first };
        while from < all.end {
            let origins = from..to.min(all.end);
            let begin = from.saturating_sub(self.windows.warm_up);
            into.push(Window { series, from: begin, origins, end });
            (from, to) = (to, to + stride);
        }
    }

    fn pass(&self, [seed, epoch]: [u64; 2]) -> Batches {
        let mut random = random(Draw::Order, seed, epoch);
        let stride = self.windows.time - self.windows.warm_up;
        let mut all = Vec::new();
        for (series, parts) in self.parts.iter().enumerate() {
            let (first, end) = (random.random_range(0..stride), parts.training.end);
            self.cut(&mut all, series, 0..end - 1, [first, end]);
        }
        all.shuffle(&mut random);
        let mut batches = vec![Vec::new(); self.batches];
        all.into_iter().enumerate().for_each(|(i, window)| batches[i % self.batches].push(window));
        batches
    }

    fn rows_of(&self, phase: Phase) -> usize {
        self.rows[usize::from(phase == Phase::Validation)]
    }

    /// Values that count in a batch.
    fn counted(&self, windows: &[Window]) -> usize {
        let mut count = 0;
        for window in windows {
            self.each_target(window, |_, _, value| count += usize::from(value.is_some()));
        }
        count
    }

    /// Calls with the step in the window, the place in the row, and the wanted value, if it counts.
    fn each_target(&self, window: &Window, mut call: impl FnMut(usize, usize, Option<f32>)) {
        let config = self.model.config();
        let (of, targets) = (&self.data.series[window.series], config.targets());
        let y = |row: usize, j: usize| of.y[row * targets + j];
        for t in window.origins.clone() {
            for step in 1..=config.steps() {
                for j in 0..targets {
                    let place = (t + step) * targets + j;
                    let counts = t + step < window.end && !of.truth[place].is_nan();
                    let value = counts.then(|| of.y[place] - of.base(config, [t, step, j], &y));
                    call(t - window.from, (step - 1) * targets + j, value);
                }
            }
        }
    }

    fn batch(&self, phase: Phase, windows: &[Window]) -> Feed {
        let config = self.model.config();
        let (time, batch) = (self.windows.time, self.rows_of(phase));
        let (width, targets) = (config.inputs(), config.targets());
        let wanted_width = config.steps() * targets;
        let mut x = vec![0.0; time * batch * width];
        let mut wanted = vec![0.0; time * batch * wanted_width];
        let mut mask = vec![0.0; wanted.len()];
        for (b, window) in windows.iter().enumerate() {
            let of = &self.data.series[window.series];
            let y = |row: usize, j: usize| of.y[row * targets + j];
            for t in window.from..window.origins.end {
                let row = ((t - window.from) * batch + b) * width;
                of.inputs(config, [t, t], &y, &mut x[row..row + width]);
            }
            self.each_target(window, |t, place, value| {
                if let Some(value) = value {
                    let at = (t * batch + b) * wanted_width + place;
                    (wanted[at], mask[at]) = (value, 1.0);
                }
            });
        }
        let mut feed = Feed::new(0);
        for (name, values) in [("x", x), ("targets", wanted), ("mask", mask)] {
            feed.put(name, values);
        }
        feed
    }
}

impl Task for ForecastTask {
    fn record(&self, rec: &mut Recorder, phase: Phase, _shape: usize) -> Result<()> {
        let config = self.model.config();
        let (time, batch) = (self.windows.time, self.rows_of(phase));
        let (rows, wanted) = (time * batch, config.steps() * config.targets());
        let x = rec.input("x", [rows, config.inputs()], false)?;
        let targets = rec.input("targets", [rows, wanted], false)?.view;
        let mask = rec.input("mask", [rows, wanted], false)?.view;
        let (told, _) = self.model.record(rec, x, [time, batch], &InitialState::Zero)?;
        config.head.loss().record(rec, told, Target::Values(targets), Some(mask))
    }

    fn initial_weights(&self, seed: u64) -> NamedTensors {
        self.model.initial_weights(seed)
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.model.weight_shapes()
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches as u64
    }

    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed> {
        if phase == Phase::Validation {
            return Ok(self.batch(phase, &self.validation[batch as usize]));
        }
        let (epoch, number) = (batch / self.batches as u64, batch % self.batches as u64);
        let pass = self.passes.get(seed, epoch, |epoch| self.pass([seed, epoch]));
        Ok(self.batch(phase, &pass[number as usize]))
    }

    fn validation_batches(&self) -> u64 {
        self.validation.len() as u64
    }

    /// Its values that are not missing.
    fn validation_weight(&self, batch: u64) -> f64 {
        self.counted(&self.validation[batch as usize]) as f64
    }

    fn symbols_per_batch(&self) -> u64 {
        (self.windows.time * self.rows[0]) as u64
    }

    fn symbol(&self) -> &'static str {
        "step"
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        vec![self.model.recurrent()]
    }
}
