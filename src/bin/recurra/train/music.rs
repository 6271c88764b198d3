//! `recurra train music`.

use super::folder::{check_same, hash_to_keep, kept, take_up, trained};
use super::network::NetworkArgs;
use super::options::{RunArgs, RunConfig, positive, size};
use super::session::{About, Session, Unit};
use crate::args::{json_line, print_line};
use clap::Args;
use recurra::engine::Engine;
use recurra::report::Table;
use recurra::task::TaskModel;
use recurra::task::music::{self, MusicModel, MusicTask, NoteModel, Tunes};
use recurra::train::View;
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Passes over the tunes of the default job.
const DEFAULT_EPOCHS: u64 = 60;

/// Which notes sound at each step of tunes.
///
/// Recurrent layers over 88 keys, linear.
#[derive(Args)]
pub struct MusicArgs {
    /// A folder of MIDI files (in it, or in folders train, valid, test), or tunes as JSON:
    /// {"train": [[[60, 72], …], …], "valid": …, "test": …}, steps of MIDI note numbers
    #[arg(long, value_name = "FOLDER|FILE", required_unless_present = "resume")]
    pub data: Option<PathBuf>,
    /// The length of a step of MIDI files, in quarter notes
    #[arg(long, value_name = "QUARTERS", default_value = "1", value_parser = positive,
          conflicts_with = "resume")]
    pub step: f32,
    /// Steps of a batch, rows times the longest, padding among them
    #[arg(long, value_name = "STEPS", default_value = "512", value_parser = size,
          conflicts_with = "resume")]
    pub batch_steps: usize,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a model of notes is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct MusicTraining {
    data: PathBuf,
    data_hash: String,
    batch_steps: usize,
    #[serde(flatten)]
    run: RunConfig,
}

impl MusicTraining {
    /// The tunes of a file in batches. What trains side by side, or in parts, has one shape.
    fn task(&self, model: MusicModel, tunes: &Tunes, file: &Path) -> Result<MusicTask> {
        let one = self.run.ensemble > 1 || self.run.accumulate > 1;
        let shapes = if one { 1 } else { MusicTask::SHAPES };
        MusicTask::with_shapes(model, tunes, self.batch_steps, shapes).map_err(|e| {
            let mut all = tunes.training.iter().chain(&tunes.validation);
            let is_long = all.any(|tune| tune.len() > self.batch_steps);
            let hint = if is_long { " (--batch-steps)" } else { "" };
            Error::format(file, format!("{e}{hint}"))
        })
    }
}

pub fn run(args: &MusicArgs) -> Result<ExitCode> {
    let (model, training, resumed) = match (&args.run.resume, &args.data) {
        (Some(folder), data) => {
            let (model, training, resumed) =
                take_up(folder, |_: &MusicModel, training: &mut MusicTraining| {
                    if let Some(data) = data {
                        training.data = kept(data)?;
                    }
                    check_same(folder, &training.data, &training.data_hash)
                })?;
            (model, training, Some(resumed))
        }
        (None, Some(data)) => {
            let model = {
                let quarters = args.step;
                MusicModel::new(NoteModel { quarters, ..NoteModel::new(args.network.config()) })?
            };
            let training = MusicTraining {
                data: kept(data)?,
                data_hash: hash_to_keep(data)?,
                batch_steps: args.batch_steps,
                run: RunConfig::new(&args.run, 1, 1),
            };
            (model, training, None)
        }
        (None, None) => return Err(Error::Invalid("--data names the tunes".to_string())),
    };
    let mut training = training;
    let tunes = Tunes::read(&training.data, model.config().quarters)?;
    let learner = model.clone().with_memory(args.run.memory.memory());
    let task = training.task(learner, &tunes, &training.data)?;
    if resumed.is_none() {
        let epoch = task.buckets().count() as u64;
        let steps = (epoch / args.run.accumulate as u64).max(1);
        training.run = RunConfig::new(&args.run, DEFAULT_EPOCHS * steps, epoch);
    }
    let device = args.run.device.engine()?;
    let engine = device.ensemble(training.run.ensemble)?;
    let name = training.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let title = model.config().recurrent.title();
    let steps = |list: &[Vec<Vec<u32>>]| list.iter().map(Vec::len).sum::<usize>();
    let buckets = task.buckets();
    let shapes: Vec<String> =
        buckets.shapes().iter().map(|[time, batch]| format!("{time}x{batch}")).collect();
    let lines = vec![
        format!("model    {title}, 88 keys: {} parameters", model.parameter_count()),
        format!(
            "data     {name}: {} tunes of {} steps, {} of {} for validation",
            tunes.training.len(),
            steps(&tunes.training),
            tunes.validation.len(),
            steps(&tunes.validation)
        ),
        format!(
            "batch    {} a pass, of {} steps by rows; {:.0} % is padding",
            buckets.count(),
            shapes.join(", "),
            100.0 * buckets.padding()
        ),
    ];
    let unit = Unit { symbol: "step", nats: true };
    let describe = |folder: &Path, run: &RunConfig| {
        model.save_config(folder, &MusicTraining { run: run.clone(), ..training.clone() })
    };
    let title = format!("{title} on {name}");
    let about = About { task: music::NAME, title, lines, unit, sample: None, describe: &describe };
    let session = Session { args: &args.run, config: training.run.clone(), about, resumed };
    let Some(mut ended) = session.run(&engine, &task)? else { return Ok(ExitCode::SUCCESS) };
    let weights = model.load_weights(&ended.best)?;
    let mut table = Table::new("The best model", ["tunes", "nats a step", "frame accuracy"]);
    let mut measures = BTreeMap::new();
    for (what, list) in [("validation", &tunes.validation), ("test", &tunes.test)] {
        if list.iter().all(Vec::is_empty) {
            continue;
        }
        let score = model.mean_score(&device, &weights, list)?;
        let accuracy = format!("{:.2} %", 100.0 * score.accuracy);
        if !args.run.json {
            eprintln!("{what:<8} {:.4} nats a step, frame accuracy {accuracy}", score.loss);
        }
        table = table.row([what.to_string(), format!("{:.4}", score.loss), accuracy]);
        measures.insert(what, score);
    }
    ended.report.section("Scores").add(table);
    let report = ended.write()?;
    if args.run.json {
        print_line(&json_line(&measures)?)?;
    } else {
        eprintln!("the report:     {}", report.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What flows through a trained model in the first batch of tunes: its own, or others.
pub fn look(folder: &Path, data: Option<&Path>, engine: &Engine) -> Result<View> {
    let (model, training): (MusicModel, MusicTraining) = trained(folder)?;
    let weights = model.load_weights(folder)?;
    let data = data.unwrap_or(&training.data);
    let tunes = Tunes::read(data, model.config().quarters)?;
    let task = training.task(model, &tunes, data)?;
    crate::microscope::look(engine, &task, &weights, training.run.seed)
}
