//! What a model of forecasts is to be.

use super::{Calendar, Layout, SeriesScale, Split, Table};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::task::RecurrentConfig;
use crate::task::network::is_false;
use serde::{Deserialize, Serialize};

/// The least σ of a head, in standard deviations of the training part.
pub(super) const LEAST_SIGMA: f32 = 1e-3;
/// The most steps ahead, or back.
const MOST_STEPS: usize = 1 << 20;
/// The most series that the model tells apart by an input each.
const MOST_SERIES: usize = 64;

/// How several steps ahead are forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All steps at once.
    Direct,
    /// One step, and the forecast is the next input: of a head that tells how sure it is, on many drawn paths.
    Recursive,
}

/// What is forecast of a value, and the loss it is trained by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Its mean: squared errors.
    Mean,
    /// Its median: absolute errors.
    Absolute,
    /// Between the two: squared errors up to one standard deviation.
    Huber,
    /// Quantiles of rising levels: pinball losses. Where they cross, they are sorted.
    Quantiles(Vec<f32>),
    /// A normal distribution: its likelihood.
    Gaussian,
    /// Student's distribution: its likelihood.
    StudentT,
}

impl Head {
    /// The loss, of values in standard deviations.
    pub fn loss(&self) -> Loss {
        match self {
            Head::Mean => Loss::MeanSquared,
            Head::Absolute => Loss::MeanAbsolute,
            Head::Huber => Loss::Huber { delta: 1.0 },
            Head::Quantiles(levels) => Loss::Quantile { levels: levels.clone() },
            Head::Gaussian => Loss::Gaussian { least: LEAST_SIGMA },
            Head::StudentT => Loss::StudentT { least: LEAST_SIGMA },
        }
    }

    /// Whether it tells how sure it is.
    pub fn has_spread(&self) -> bool {
        matches!(self, Head::Quantiles(_) | Head::Gaussian | Head::StudentT)
    }

    /// Levels of the quantiles that are told: its own, or the tenth, the middle and the ninetieth; none of a point.
    pub fn levels(&self) -> Vec<f32> {
        match self {
            Head::Quantiles(levels) => levels.clone(),
            Head::Gaussian | Head::StudentT => vec![0.1, 0.5, 0.9],
            Head::Mean | Head::Absolute | Head::Huber => Vec::new(),
        }
    }
}

/// What the output is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// Nothing.
    None,
    /// The last known value.
    Last,
    /// The value of the last known season.
    Season,
}

/// What is done to values before they are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Nothing.
    None,
    /// Their logarithm: for what grows by shares.
    Log,
}

/// What a forecast is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ForecastOptions {
    /// Steps ahead K.
    pub horizon: usize,
    /// All at once, or one after another.
    pub mode: Mode,
    /// What is told of each value.
    pub head: Head,
    /// What the output is added to.
    pub residual: Residual,
    /// Before scaling.
    pub transform: Transform,
    /// The targets so many steps ago are inputs too.
    pub lags: Vec<usize>,
    /// Targets are inputs less their mean over so many last steps, so that levels that training did not see are none
    /// to the model; 0: as they are.
    pub centre: usize,
    /// Cycles that are inputs; none: those that suit the spacing and are covered twice by the training part.
    pub calendar: Option<Vec<Calendar>>,
    /// Steps after which things come again; none: by the spacing, or 1 where that is longer than the training part.
    pub season: Option<usize>,
}

impl ForecastOptions {
    /// Directly, three quantiles, as changes of the last value.
    pub fn new(horizon: usize) -> Self {
        ForecastOptions {
            horizon,
            mode: Mode::Direct,
            head: Head::Quantiles(vec![0.1, 0.5, 0.9]),
            residual: Residual::Last,
            transform: Transform::None,
            lags: Vec::new(),
            centre: 0,
            calendar: None,
            season: None,
        }
    }
}

/// What a model of forecasts is: all but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForecastConfig {
    /// Its layers.
    pub recurrent: RecurrentConfig,
    /// Which columns are what.
    pub layout: Layout,
    /// Steps ahead K.
    pub horizon: usize,
    /// All at once, or one after another.
    pub mode: Mode,
    /// What is told of each value.
    pub head: Head,
    /// What the output is added to.
    pub residual: Residual,
    /// Before scaling.
    pub transform: Transform,
    /// The targets so many steps ago are inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lags: Vec<usize>,
    /// Targets are inputs less their mean over so many last steps; 0: as they are.
    #[serde(default)]
    pub centre: usize,
    /// Cycles that are inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendar: Vec<Calendar>,
    /// Steps after which things come again.
    pub season: usize,
    /// Whether what is missing is told by inputs of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gaps: bool,
    /// Each series' scales, from its training part.
    pub series: Vec<SeriesScale>,
}

/// An error about a series, which has a name where there are several.
pub(super) fn in_series(name: &str, error: Error) -> Error {
    match name {
        "" => error,
        name => Error::invalid(format!("series '{name}': {error}")),
    }
}

/// What lies further back than all that is trained with.
fn never(what: &str, steps: usize, longest: usize) -> Error {
    Error::invalid(format!(
        "a {what} of {steps} steps, and there are {longest} rows to train on at most: it never comes"
    ))
}

impl ForecastConfig {
    /// A model of a table's columns, scaled by the training part of each series.
    ///
    /// # Errors
    /// A series that is too short for the split, or all for a lag or a season that is asked for; a
    /// column without a value in the training part; what has no logarithm.
    pub fn new(
        table: &Table,
        split: &Split,
        options: ForecastOptions,
        recurrent: RecurrentConfig,
    ) -> Result<Self> {
        let clock = &table.layout.clock;
        let (mut longest, mut gaps) = (0, false);
        let mut ends = Vec::new();
        for rows in &table.series {
            let parts = split.parts(rows.observed()).map_err(|e| in_series(&rows.name, e))?;
            ends.push(parts.training.end);
            longest = longest.max(parts.training.end);
            gaps |= rows.has_gaps(parts.training.end);
        }
        // A season that never comes is none.
        let usual = Some(clock.season()).filter(|&season| season < longest);
        if options.residual == Residual::Season && options.season.or(usual).is_none() {
            return Err(never("season", clock.season(), longest));
        }
        let season = options.season.or(usual).unwrap_or(1);
        let mut series = Vec::new();
        for (rows, end) in table.series.iter().zip(ends) {
            let scale = SeriesScale::of(&table.layout, rows, end, season, options.transform);
            series.push(scale.map_err(|e| in_series(&rows.name, e))?);
        }
        let asked = options.lags.iter().map(|&lag| ("lag", lag));
        let asked = asked.chain(options.season.map(|season| ("season", season)));
        if let Some((what, steps)) = asked.into_iter().find(|asked| asked.1 >= longest) {
            return Err(never(what, steps, longest));
        }
        let calendar = options.calendar.unwrap_or_else(|| clock.calendar(longest));
        Ok(ForecastConfig {
            recurrent,
            layout: table.layout.clone(),
            horizon: options.horizon,
            mode: options.mode,
            head: options.head,
            residual: options.residual,
            transform: options.transform,
            lags: options.lags,
            centre: options.centre,
            calendar,
            season,
            gaps,
            series,
        })
    }

    /// Steps ahead that the head tells: K, or 1 of a recursive one.
    pub fn steps(&self) -> usize {
        if self.mode == Mode::Direct { self.horizon } else { 1 }
    }

    /// Targets J.
    pub fn targets(&self) -> usize {
        self.layout.targets.len()
    }

    /// Inputs of a step.
    pub fn inputs(&self) -> usize {
        let targets = self.targets();
        let past = Layout::channels(&self.layout.past);
        let known = Layout::channels(&self.layout.known);
        let change = usize::from(self.residual != Residual::None);
        let own = targets * (1 + change + self.lags.len()) + past;
        let gaps = if self.gaps { targets + past } else { 0 };
        own + gaps + 2 * self.calendar.len() + known * self.steps() + self.identities()
    }

    /// Inputs that tell series apart.
    pub(super) fn identities(&self) -> usize {
        if (2..=MOST_SERIES).contains(&self.series.len()) { self.series.len() } else { 0 }
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::invalid(what));
        if self.recurrent.both {
            return refuse("a model of what comes next can't read both ways");
        }
        let lengths = self.lags.iter().chain([&self.horizon, &self.season]);
        if let Some(bad) = lengths.into_iter().find(|&&n| n == 0 || n > MOST_STEPS) {
            return Err(Error::invalid(format!(
                "horizon, season and lags are 1 to {MOST_STEPS} steps, not {bad}"
            )));
        }
        if self.centre > MOST_STEPS {
            return Err(Error::invalid(format!("a mean is of {MOST_STEPS} steps at most")));
        }
        if let Head::Quantiles(levels) = &self.head
            && (levels.is_empty()
                || !levels.iter().all(|l| *l > 0.0 && *l < 1.0)
                || levels.windows(2).any(|pair| pair[0] >= pair[1]))
        {
            return refuse("quantile levels rise, and lie between 0 and 1");
        }
        if let Head::Quantiles(levels) = &self.head
            && !(levels.first() <= Some(&0.5) && levels.last() >= Some(&0.5))
        {
            return refuse(
                "quantile levels lie on both sides of 0.5, or one is 0.5: the forecast is the median",
            );
        }
        if self.mode == Mode::Recursive && !self.layout.past.is_empty() {
            let past: Vec<&str> = self.layout.past.iter().map(|c| c.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "a recursive forecast needs {} ahead of time: make it a target, or forecast directly",
                past.join(", ")
            )));
        }
        if !self.calendar.is_empty() && self.layout.time.is_empty() {
            return refuse("there are no times for a calendar");
        }
        if self.layout.targets.is_empty() || self.series.is_empty() {
            return refuse("there is nothing to forecast");
        }
        if self.layout.clock.step < 1 {
            return refuse("rows lie no time apart");
        }
        let known = Layout::channels(&self.layout.known);
        let channels = known + Layout::channels(&self.layout.past);
        for scale in &self.series {
            let numbers = scale.targets.iter().flat_map(|t| [t.value, t.raw]);
            let numbers = numbers.chain(scale.known.iter().chain(&scale.past).copied());
            let sane = |s: super::Scale| {
                s.mean.is_finite() && s.deviation > 0.0 && s.deviation.is_finite()
            };
            if scale.targets.len() != self.targets()
                || scale.known.len() + scale.past.len() != channels
                || scale.known.len() != known
                || !numbers.into_iter().all(sane)
            {
                let what = "the scales are not those of the columns";
                return Err(in_series(&scale.name, Error::invalid(what)));
            }
        }
        // What a step tells and hears must fit the device's counting.
        let many = self.steps().saturating_mul(self.targets().max(known)).saturating_mul(256);
        if many >= u32::MAX as usize {
            return refuse("so many steps ahead of so many columns are too many");
        }
        Ok(())
    }
}
