//! `recurra train forecast`.

use super::folder::{check_same, hash_to_keep, kept, refuse_pipe, take_up, trained};
use super::network::NetworkArgs;
use super::options::{RunArgs, RunConfig, size};
use super::session::{About, Session, Unit};
use crate::args::{json_line, print_line};
use crate::eval::{Measured, forecast_lines};
use clap::{Args, ValueEnum};
use recurra::engine::Engine;
use recurra::task::TaskModel;
use recurra::task::forecast::{
    self, BacktestOptions, Calendar, ForecastConfig, ForecastData, ForecastModel, ForecastOptions,
    ForecastTask, Head, Mode, Parts, Request, Residual, Split, Table, Transform, Windows, pictures,
};
use recurra::train::View;
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Passes over the series of the default job.
const DEFAULT_EPOCHS: u64 = 60;
/// Its steps, at least: of short series a pass is one.
const LEAST_STEPS: u64 = 600;
/// Paths of a recursive forecast.
const DEFAULT_PATHS: usize = 100;
/// Levels of quantiles.
const DEFAULT_LEVELS: [f32; 3] = [0.1, 0.5, 0.9];

/// Forecasts of the columns of a CSV file.
///
/// Recurrent layers over the columns. Without --steps or --epochs: 60 passes, 600 steps at least.
#[derive(Args)]
pub struct ForecastArgs {
    /// A CSV file with a header; empty cells and NA are missing
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    columns: ColumnArgs,
    #[command(flatten)]
    wanted: WantedArgs,
    /// Which rows of each series train, validate and test: shares of them, or numbers
    #[arg(long, value_name = "A/B/C", default_value = "0.7/0.1/0.2", conflicts_with = "resume")]
    pub split: Split,
    /// Steps of a window
    #[arg(long = "seq", value_name = "STEPS", default_value = "96", value_parser = size,
          conflicts_with = "resume")]
    pub window: usize,
    /// Steps at a window's beginning that don't count [default: a quarter of --seq]
    #[arg(long, value_name = "STEPS", conflicts_with = "resume")]
    pub warm_up: Option<usize>,
    /// Windows of a batch
    #[arg(long, value_name = "B", default_value = "16", value_parser = size,
          conflicts_with = "resume")]
    pub batch: usize,
    /// Paths of a recursive forecast with quantiles [default: 100]
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    pub paths: Option<usize>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Which columns are what.
#[derive(Args)]
struct ColumnArgs {
    /// What is forecast: columns, or all with numbers
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        required_unless_present = "resume",
        conflicts_with = "resume"
    )]
    target: Vec<String>,
    /// The column of the time, or those of year, month, day, hour …; none: rows are counted [default: the first
    /// column that looks like a time]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "resume")]
    time: Vec<String>,
    /// How times are written, as %d/%m/%Y %H:%M
    #[arg(long, value_name = "FORM", conflicts_with = "resume")]
    time_format: Option<String>,
    /// The column that says which series a row belongs to
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    series: Option<String>,
    /// Columns that are known ahead of time; predict needs rows with them behind the last
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "resume")]
    known: Vec<String>,
    /// Columns that are known only as they happen, or all other ones with numbers
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', conflicts_with = "resume")]
    past: Vec<String>,
}

/// What is told of each value.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HeadName {
    /// Squared errors
    Mean,
    /// Absolute errors
    Absolute,
    /// Squared errors up to a standard deviation, absolute ones beyond
    Huber,
    /// Pinball losses of the levels of --quantiles
    Quantiles,
    /// The likelihood of a normal distribution
    Gaussian,
    /// That of Student's distribution
    StudentT,
}

/// What forecasts are added to.
#[derive(Clone, Copy, ValueEnum)]
enum ResidualName {
    /// Nothing
    None,
    /// The last value
    Last,
    /// The last season's value
    Season,
}

/// What a forecast is to be.
#[derive(Args)]
struct WantedArgs {
    /// Steps ahead
    #[arg(long, value_name = "K", value_parser = size, required_unless_present = "resume",
          conflicts_with = "resume")]
    horizon: Option<usize>,
    /// A step at a time, each forecast being the next input, instead of all at once
    #[arg(long, conflicts_with = "resume")]
    recursive: bool,
    /// What is told of each value
    #[arg(long, value_enum, default_value = "quantiles", conflicts_with = "resume")]
    head: HeadName,
    /// The levels of quantiles [default: 0.1,0.5,0.9]
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', conflicts_with = "resume")]
    quantiles: Vec<f32>,
    /// What forecasts are added to
    #[arg(long, value_enum, default_value = "last", conflicts_with = "resume")]
    residual: ResidualName,
    /// Take logarithms of the targets
    #[arg(long, conflicts_with = "resume")]
    log: bool,
    /// The targets so many steps ago are inputs too
    #[arg(long, value_name = "STEPS,…", value_delimiter = ',', value_parser = size,
          conflicts_with = "resume")]
    lags: Vec<usize>,
    /// The targets go in less their mean over the last N steps: for levels that move away [default: as they are]
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    centre: Option<usize>,
    /// Inputs from the time: auto (what the spacing and the length of training suit), none, or of day, week, month,
    /// year
    #[arg(
        long,
        value_name = "CYCLES",
        value_delimiter = ',',
        default_value = "auto",
        conflicts_with = "resume"
    )]
    calendar: Vec<String>,
    /// Steps of a season, for the baseline and MASE [default: by the spacing: a day of hours, a week of days, a year of
    /// months]
    #[arg(long, value_name = "STEPS", value_parser = size, conflicts_with = "resume")]
    season: Option<usize>,
}

/// How a model of forecasts is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForecastTraining {
    pub data: PathBuf,
    pub data_hash: String,
    pub split: Split,
    pub windows: Windows,
    pub paths: usize,
    /// The time of the last row of each series that was trained or validated with.
    pub seen: BTreeMap<String, i64>,
    #[serde(flatten)]
    run: RunConfig,
}

impl ForecastTraining {
    /// How backtests are made.
    pub fn backtest(&self) -> BacktestOptions {
        BacktestOptions { paths: self.paths, seed: self.run.seed, ..BacktestOptions::default() }
    }
}

impl ColumnArgs {
    fn request(&self) -> Request {
        let untimed = self.time == ["none"];
        Request {
            time: if untimed { Vec::new() } else { self.time.clone() },
            untimed,
            time_format: self.time_format.clone(),
            series: self.series.clone(),
            targets: self.target.clone(),
            known: self.known.clone(),
            past: self.past.clone(),
        }
    }
}

impl WantedArgs {
    fn options(&self) -> Result<ForecastOptions> {
        let calendar = match self.calendar.as_slice() {
            [one] if one == "auto" => None,
            [one] if one == "none" => Some(Vec::new()),
            list => {
                let parsed: Result<Vec<Calendar>> = list.iter().map(|text| text.parse()).collect();
                Some(parsed?)
            }
        };
        if !self.quantiles.is_empty() && self.head != HeadName::Quantiles {
            let what = "--quantiles are of --head quantiles";
            return Err(Error::Invalid(what.to_string()));
        }
        let head = match self.head {
            HeadName::Mean => Head::Mean,
            HeadName::Absolute => Head::Absolute,
            HeadName::Huber => Head::Huber,
            HeadName::Quantiles if self.quantiles.is_empty() => {
                Head::Quantiles(DEFAULT_LEVELS.to_vec())
            }
            HeadName::Quantiles => Head::Quantiles(self.quantiles.clone()),
            HeadName::Gaussian => Head::Gaussian,
            HeadName::StudentT => Head::StudentT,
        };
        Ok(ForecastOptions {
            mode: if self.recursive { Mode::Recursive } else { Mode::Direct },
            head,
            residual: match self.residual {
                ResidualName::None => Residual::None,
                ResidualName::Last => Residual::Last,
                ResidualName::Season => Residual::Season,
            },
            transform: if self.log { Transform::Log } else { Transform::None },
            lags: self.lags.clone(),
            centre: self.centre.unwrap_or(0),
            calendar,
            season: self.season,
            ..ForecastOptions::new(self.horizon.unwrap_or(1))
        })
    }
}

pub fn run(args: &ForecastArgs) -> Result<ExitCode> {
    let (model, table, training, resumed) = match (&args.run.resume, &args.data) {
        (Some(folder), data) => {
            let (model, training, resumed) =
                take_up(folder, |_: &ForecastModel, training: &mut ForecastTraining| {
                    if let Some(data) = data {
                        training.data = kept(data)?;
                    }
                    check_same(folder, &training.data, &training.data_hash)
                })?;
            let table = Table::read_as(&training.data, &model.config().layout)?;
            (model, table, training, Some(resumed))
        }
        (None, Some(data)) => {
            refuse_pipe(data)?;
            let table = Table::read(data, &args.columns.request())?;
            let options = args.wanted.options()?;
            if args.paths.is_some() && (!args.wanted.recursive || !options.head.has_spread()) {
                let what = "--paths are of a --recursive forecast whose head tells how sure it is";
                return Err(Error::Invalid(what.to_string()));
            }
            let config = ForecastConfig::new(&table, &args.split, options, args.network.config());
            let config = config.map_err(|e| Error::format(data, e.to_string()))?;
            let model = ForecastModel::new(config)?;
            let warm_up = args.warm_up.unwrap_or(args.window / 4);
            let training = ForecastTraining {
                data: kept(data)?,
                data_hash: hash_to_keep(data)?,
                split: args.split,
                windows: Windows { time: args.window, warm_up, batch: args.batch },
                paths: args.paths.unwrap_or(DEFAULT_PATHS),
                seen: BTreeMap::new(),
                run: RunConfig::new(&args.run, 1, 1),
            };
            (model, table, training, None)
        }
        (None, None) => return Err(Error::Invalid("--data names the table".to_string())),
    };
    let mut training = training;
    let learner = model.clone().with_memory(args.run.memory.memory());
    let task = ForecastTask::new(learner, &table, &training.split, training.windows);
    let task = task.map_err(|e| Error::format(&training.data, e.to_string()))?;
    if resumed.is_none() {
        let epoch = recurra::train::Task::batches_per_epoch(&task);
        let steps = (DEFAULT_EPOCHS * epoch / args.run.accumulate as u64).max(LEAST_STEPS);
        training.run = RunConfig::new(&args.run, steps, epoch);
        let clock = &table.layout.clock;
        for (rows, parts) in table.series.iter().zip(task.parts()) {
            let last = parts.validation.end.max(parts.training.end) - 1;
            training.seen.insert(rows.name.clone(), clock.after(rows.start, last));
        }
    }
    let device = args.run.device.engine()?;
    let engine = device.ensemble(training.run.ensemble)?;
    let name = training.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let title = model.config().recurrent.title();
    let unit = Unit { symbol: "step", nats: false };
    let describe = |folder: &Path, run: &RunConfig| {
        model.save_config(folder, &ForecastTraining { run: run.clone(), ..training.clone() })
    };
    let lines = about(&model, &table, &task, &name);
    let title = format!("{title} on {name}");
    let about =
        About { task: forecast::NAME, title, lines, unit, sample: None, describe: &describe };
    let session = Session { args: &args.run, config: training.run.clone(), about, resumed };
    let Some(mut ended) = session.run(&engine, &task)? else { return Ok(ExitCode::SUCCESS) };
    let weights = model.load_weights(&ended.best)?;
    let data: &ForecastData = task.data();
    let mut measures = BTreeMap::new();
    for what in ["validation", "test"] {
        let origins: Vec<_> = task
            .parts()
            .iter()
            .map(|parts| if what == "test" { &parts.test } else { &parts.validation })
            .map(|part| Parts::origins(part, model.config().horizon))
            .collect();
        if origins.iter().all(|range| range.is_empty()) {
            let why = "the part is shorter than the horizon, so nothing is scored";
            if !args.run.json {
                eprintln!("{what}: {why}");
            }
            measures.insert(what, Part::Unscored { unscored: why.to_string() });
            continue;
        }
        let forecasts = model.backtest(&device, &weights, data, &origins, training.backtest())?;
        let scores = match model.score(data, &forecasts) {
            Ok(scores) => scores,
            Err(e) => {
                if !args.run.json {
                    eprintln!("{what}: {e}");
                }
                measures.insert(what, Part::Unscored { unscored: e.to_string() });
                continue;
            }
        };
        if !args.run.json {
            eprintln!("{what}");
            forecast_lines(&scores).iter().for_each(|line| eprintln!("{line}"));
        }
        let heading = if what == "test" { "Test" } else { "Validation" };
        pictures(&mut ended.report, heading, &model, data, &forecasts, &scores);
        let rows = if what == "test" { "to test" } else { "to validate" };
        measures.insert(what, Part::Scored(Box::new(Measured::new(rows, scores))));
    }
    let report = ended.write()?;
    if args.run.json {
        print_line(&json_line(&measures)?)?;
    } else {
        eprintln!("the report:     {}", report.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is measured of a part, in the last line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Part {
    Scored(Box<Measured>),
    /// Nothing, and why.
    Unscored {
        unscored: String,
    },
}

/// What is said before a run.
fn about(model: &ForecastModel, table: &Table, task: &ForecastTask, name: &str) -> Vec<String> {
    let config = model.config();
    let rows: usize = table.series.iter().map(forecast::Rows::len).sum();
    let columns = table.series.iter().flat_map(|s| s.targets.iter().chain(&s.known).chain(&s.past));
    let missing: usize = columns.map(|c| c.iter().filter(|x| x.is_nan()).count()).sum();
    let series = match table.series.len() {
        1 => String::new(),
        many => format!(" of {many} series"),
    };
    let mode = match config.mode {
        Mode::Direct => "at once",
        Mode::Recursive => "one after another",
    };
    let part = |pick: fn(&Parts) -> usize| task.parts().iter().map(pick).sum::<usize>();
    let [time, batch] = task.shape();
    let mut lines = vec![
        format!(
            "model    {}, {} inputs, {} x {} steps ahead {mode}: {} parameters",
            config.recurrent.title(),
            config.inputs(),
            config.targets(),
            config.horizon,
            model.parameter_count()
        ),
        format!(
            "data     {name}: {rows} rows{series} by the {}, {missing} values missing; season {}",
            config.layout.clock.step_name(),
            config.season
        ),
        format!(
            "split    {} rows to train, {} to validate, {} to test",
            part(|p| p.training.len()),
            part(|p| p.validation.len()),
            part(|p| p.test.len())
        ),
        format!("windows  {time} steps, {batch} side by side"),
    ];
    let longest = task.parts().iter().map(|p| p.training.end).max().unwrap_or(0);
    let usual = config.layout.clock.season();
    if config.season == 1 && usual >= longest.max(2) {
        lines.push(format!(
            "warning  a season of {usual} steps is longer than what is trained on: there is none, nor its baseline"
        ));
    }
    if let Some([name, cell]) = &table.unread_time {
        lines.push(format!(
            "warning  column '{name}' ('{cell}') is not read as times, and rows are counted: --time-format says how it \
             is written, --time none that this is meant"
        ));
    }
    if table.filled > 0 {
        lines.push(format!("warning  {} rows lack between others: taken as missing", table.filled));
    }
    lines
}

/// What flows through a trained model in the first batch of windows: its own, or others.
pub fn look(folder: &Path, data: Option<&Path>, engine: &Engine) -> Result<View> {
    let (model, training): (ForecastModel, ForecastTraining) = trained(folder)?;
    let weights = model.load_weights(folder)?;
    let data = data.unwrap_or(&training.data);
    let table = Table::read_as(data, &model.config().layout)?;
    let task = ForecastTask::new(model, &table, &training.split, training.windows);
    let task = task.map_err(|e| Error::format(data, e.to_string()))?;
    crate::microscope::look(engine, &task, &weights, training.run.seed)
}
