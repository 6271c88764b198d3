//! A run of any task, from its start or its last checkpoint to its end.

use super::folder::{Resumed, RunFolder};
use super::options::{RunArgs, RunConfig};
use super::report::{REPORT, curves, microscope};
use super::show::Show;
use super::watch::{Board, Looks};
use crate::args::{WATCHED, print_line, profile_table};
use recurra::engine::{Engine, Program};
use recurra::measure::DeviceRates;
use recurra::recording::MemoryPlan;
use recurra::report::{Report, Sample};
use recurra::task::Description;
use recurra::train::{
    Best, Event, Outcome, RateSweep, Task, TrainLog, Trainer, check_gradients, find_rate,
    loss_curve, member_folder,
};
use recurra::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The picture in the model folder.
const CURVE: &str = "loss.svg";

/// Characters of a value of the configuration in the report, at most.
const LONGEST_FACT: usize = 160;

/// What the model in a folder makes.
pub type Sampler<'a> = dyn Fn(&Path) -> Result<String> + 'a;

/// What a task says of itself.
pub struct About<'a> {
    /// The task's name.
    pub task: &'static str,
    /// The title of pictures.
    pub title: String,
    /// Lines that describe model and data.
    pub lines: Vec<String>,
    /// What losses are in.
    pub unit: Unit,
    /// Something that the model in a folder made, to be read while it learns and at the end.
    pub sample: Option<&'a Sampler<'a>>,
    /// Writes `config.json` for a run of this configuration.
    pub describe: &'a dyn Fn(&Path, &RunConfig) -> Result<()>,
}

/// What losses are in.
#[derive(Clone, Copy)]
pub struct Unit {
    /// A symbol's name.
    pub symbol: &'static str,
    /// The loss is in nats a symbol.
    pub nats: bool,
}

/// How a run ended, and where its best model is.
pub struct Ended {
    pub outcome: Outcome,
    /// What the best model made at the end.
    pub sample: Option<String>,
    /// The report so far; [`Ended::write`] writes it.
    pub report: Report,
    folder: PathBuf,
    /// The folder of the model with the lowest validation loss.
    pub best: PathBuf,
}

impl Ended {
    /// Writes the report: its path.
    pub fn write(&self) -> Result<PathBuf> {
        let path = self.folder.join(REPORT);
        self.report.write(&path)?;
        Ok(path)
    }
}

/// A run that is about to start.
pub struct Session<'a> {
    pub args: &'a RunArgs,
    pub config: RunConfig,
    pub about: About<'a>,
    /// Taken before the checkpoint is read, so that this is nobody else's next one.
    pub resumed: Option<Resumed>,
}

impl Session<'_> {
    /// Trains. None: it was a look at the task.
    pub fn run(self, engine: &Engine, task: &impl Task) -> Result<Option<Ended>> {
        let Session { args, config, about, resumed } = self;
        let stop = Arc::new(AtomicBool::new(false));
        let options = config.options(Some(stop.clone()))?;
        args.check(resumed.is_some(), &config)?;
        if args.probe.check_gradients {
            return check(engine, task, &options).map(|()| None);
        }
        if let Some(picture) = &args.probe.find_lr {
            return sweep(engine, task, options, picture).map(|()| None);
        }
        if let Some(file) = &args.profile.profile {
            // Steps of a run of its own, so that the run itself is what it would be.
            let mut trainer = Trainer::new(engine, task, options.clone(), None)?;
            let profile = trainer.profile(engine, WATCHED)?;
            profile.write_trace(file)?;
            let rates = DeviceRates::measure(engine)?;
            profile_table(&profile, &rates).iter().for_each(|line| eprintln!("{line}"));
            eprintln!("the trace: {}\n", file.display());
        }
        let (held, checkpoint) = resumed.unzip();
        let is_new = checkpoint.is_none();
        let mut trainer = Trainer::new(engine, task, options, checkpoint)?;
        if is_new && !trainer.validates() {
            config.check_unvalidated()?;
        }
        let (step, epoch) = (trainer.step(), trainer.steps_per_epoch());
        if let Some(every) = args.microscope {
            trainer = trainer.with_microscope(engine, Some(every).filter(|&every| every > 0))?;
        }
        describe(engine, &about, &config, &trainer);
        if args.probe.dry_run {
            let dry = trainer.dry_run()?;
            let validation = dry.validation.map_or("none".to_string(), |v| format!("{v:.4}"));
            let (ms, all) = (1e3 * dry.step_seconds, dry.step_seconds * config.steps as f64);
            eprintln!("dry run  loss {:.4}, validation {validation}; {ms:.1} ms a step", dry.loss);
            eprintln!("         {} steps would take about {all:.0} s", config.steps);
            return Ok(None);
        }
        let held = match held {
            Some(held) => held,
            None => RunFolder::create(args.out.as_deref())?,
        };
        let folder = held.path.clone();
        // The weights before the description: a folder with a description is a model. After a kill
        // between two files, this makes them agree again.
        trainer.save(&folder)?;
        if step == 0 {
            if config.ensemble > 1 {
                for seed in config.seeds() {
                    (about.describe)(&member_folder(&folder, seed), &config.member(seed))?;
                }
            }
            (about.describe)(&folder, &config)?;
        }
        let mut show =
            Show::new(args.json, about.unit, config.steps, step, TrainLog::open(&folder, step)?);
        let resumes = args.resume.is_some();
        show.board = args.tensorboard.then(|| Board::open(&folder, step, resumes)).transpose()?;
        show.tell_every = (!trainer.validates()).then_some(config.evaluate_every);
        show.looks = args.microscope.map(|_| Looks::open(&folder, step)).transpose()?;
        #[cfg(feature = "dashboard")]
        if args.dashboard {
            use crate::dashboard::{Dashboard, DashboardEvent};
            show.bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
            let dashboard = Dashboard::open(stop.clone())?;
            dashboard.send(DashboardEvent::Started {
                title: about.title.clone(),
                device: engine.name(),
                step,
                steps: config.steps,
                steps_per_epoch: epoch,
            });
            show.dashboard = Some(dashboard);
        }
        #[cfg(not(feature = "dashboard"))]
        let _ = epoch;
        let first = member_path(&folder, &config, config.seed);
        let running = stop_on_interrupt(stop);
        let result = trainer.run(Some(&folder), |event| {
            show.event(event)?;
            match (event, about.sample) {
                (Event::Saved(step), Some(sample)) if show.tells_samples() => {
                    show.sample(*step, &sample(&first)?)
                }
                _ => Ok(()),
            }
        });
        running.store(false, Ordering::Relaxed);
        show.bar.finish_and_clear();
        #[cfg(feature = "dashboard")]
        let closed = show.dashboard.take().map_or(Ok(()), |dashboard| dashboard.close());
        // Why the run failed comes before what failed behind it.
        let flushed = show.flush();
        let outcome = result?;
        flushed?;
        #[cfg(feature = "dashboard")]
        closed?;
        let scales = trainer.loss_scales()?;
        let (done, bests) = (trainer.step(), trainer.state().best.clone());
        drop(trainer);
        let curve = folder.join(CURVE);
        if let Some(unit) = show.log.has_losses().then_some(about.unit.loss()) {
            loss_curve(&curve, &about.title, unit, &show.log.training(), &show.log.validation())?;
        }
        if step >= config.steps {
            eprintln!("the run in {} is complete: {step} steps", folder.display());
        }
        let mut report = Report::new(about.title.clone());
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        report.subtitle(format!("{name}, {done} of {} steps, on {}", config.steps, engine.name()));
        report.facts(about.lines.iter().map(|line| {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            (key.to_string(), value.trim().to_string())
        }));
        curves(&mut report, show.log.lines(), about.unit);
        match &show.looks {
            Some(looks) => microscope(&mut report, &looks.views)?,
            // Of an earlier part of the run.
            None => microscope(&mut report, &Looks::read(&folder, done))?,
        }
        // What the folder says of itself, but for vocabularies and the like.
        let Description { model, training, .. } = Description::read(&folder)?;
        let parts = [&model, &training].into_iter().filter_map(|part| part.as_object());
        let facts = parts.flatten().map(|(key, value)| (key.clone(), value.to_string()));
        let short = facts.filter(|fact| fact.1.len() <= LONGEST_FACT);
        report
            .section("Configuration")
            .facts(short.map(|(key, value)| (key, value.replace('"', ""))));
        let best = best_member(&folder, &config, &bests);
        if !args.json {
            show.summary(config.seeds(), &bests);
            for scale in scales {
                let (factor, skipped) = (scale.scale(), scale.skipped);
                eprintln!(
                    "f16      loss scale {factor}; {skipped} steps left out for infinite gradients"
                );
            }
            match outcome {
                Outcome::Finished => {}
                Outcome::StoppedEarly => eprintln!(
                    "stopped  early: {} evaluations were no better than the best",
                    config.patience.unwrap_or_default()
                ),
                Outcome::Interrupted => eprintln!(
                    "stopped  as asked for, saved; go on with: recurra train {} --resume {}",
                    about.task,
                    folder.display()
                ),
            }
            if let Some(looks) = &show.looks
                && let Some(view) = looks.views.last()
            {
                view.verdict().iter().for_each(|line| eprintln!("scope    {line}"));
            }
            if curve.exists() {
                eprintln!("the loss curve: {}", curve.display());
            }
            let (what, place) = match config.ensemble {
                1 => ("model: ", folder.display().to_string()),
                _ => ("models:", member_folder(&folder, config.seed).display().to_string() + " …"),
            };
            eprintln!("the {what}     {place}");
        }
        let sample = about.sample.map(|sample| sample(&best)).transpose()?;
        if let Some(text) = &sample {
            report.section("A sample").add(Sample::new("Written by the model", text));
        }
        Ok(Some(Ended { outcome, report, folder, best, sample }))
    }
}

impl Unit {
    /// What the loss is in.
    pub fn loss(self) -> &'static str {
        if self.nats { "loss, nats" } else { "loss" }
    }

    /// A loss of characters in bits, of words as a perplexity, in parentheses.
    pub fn bits(self, loss: f32) -> String {
        match (self.nats, self.symbol) {
            (true, "word") => format!(" (perplexity {:.1})", loss.exp()),
            (true, symbol) => {
                let symbol = if symbol == "character" { "char" } else { symbol };
                format!(" ({:.3} bits/{symbol})", loss / std::f32::consts::LN_2)
            }
            _ => String::new(),
        }
    }
}

/// From now on the first Ctrl-C, or request of the system to end, asks the run to stop; the second
/// one, or one behind the run (when what is returned is false), ends the program as ever.
fn stop_on_interrupt(stop: Arc<AtomicBool>) -> Arc<AtomicBool> {
    let running = Arc::new(AtomicBool::new(true));
    let flag = running.clone();
    // Where no handler can be set, Ctrl-C ends the run at once: its last checkpoint is whole.
    let _ = ctrlc::set_handler(move || {
        if !flag.load(Ordering::Relaxed) || stop.swap(true, Ordering::Relaxed) {
            #[cfg(feature = "dashboard")]
            crate::dashboard::give_terminal_back();
            std::process::exit(130);
        }
        eprintln!("\nending after this step, saved; once more to end at once");
    });
    running
}

/// Trains at rising learning rates, says which one suits, and draws the losses.
fn sweep(
    engine: &Engine,
    task: &impl Task,
    options: recurra::train::TrainOptions,
    picture: &Path,
) -> Result<()> {
    const STEPS: u64 = 300;
    let rates = RateSweep::new(1e-6, 10.0, STEPS)?;
    check_writable(picture)?;
    let mut trainer = Trainer::new(engine, task, options, None)?;
    let (rates, losses) = trainer.sweep(&rates, STEPS)?;
    let found = find_rate(&rates, &losses)?;
    found.chart().write_svg(picture)?;
    eprintln!("the picture: {}", picture.display());
    print_line(&found.text())
}

/// Whether a file can be written, before hours went into it. One that is there stays as it is.
fn check_writable(path: &Path) -> Result<()> {
    let new = !path.exists();
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|e| Error::io(path, "write", e))?;
    match new {
        true => std::fs::remove_file(path).map_err(|e| Error::io(path, "remove", e)),
        false => Ok(()),
    }
}

/// Gradients against differences of the loss, as a table.
fn check(engine: &Engine, task: &impl Task, options: &recurra::train::TrainOptions) -> Result<()> {
    /// What a mean in f32 lets differences be told from.
    const BOUND: f64 = 1e-2;
    let checks = check_gradients(engine, task, options)?;
    let head = ["gradient", "difference", "error"];
    print_line(&format!("{:<36}{:>14}{:>14}{:>12}", "parameter", head[0], head[1], head[2]))?;
    for check in &checks {
        print_line(&format!(
            "{:<36}{:>14.6e}{:>14.6e}{:>12.1e}",
            check.parameter,
            check.gradient,
            check.difference,
            check.error()
        ))?;
    }
    let small = checks.iter().filter(|check| !check.is_resolved(BOUND)).count();
    if small > 0 {
        let what = "slopes are so small that the loss, in f32, can't tell an error of";
        print_line(&format!("{small} of {} {what} {BOUND}", checks.len()))?;
    }
    match checks.iter().filter(|check| check.is_wrong(BOUND)).count() {
        0 => Ok(()),
        n => Err(Error::Invalid(format!(
            "{n} of {} slopes are not what the loss does: beyond {BOUND}",
            checks.len()
        ))),
    }
}

/// The folder of the model with the lowest validation loss; of the first, where none was evaluated.
fn best_member(folder: &Path, config: &RunConfig, bests: &[Best]) -> PathBuf {
    let best = config.seeds().zip(bests).min_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
    member_path(folder, config, best.map_or(config.seed, |(seed, _)| seed))
}

/// Where a member has its model.
fn member_path(folder: &Path, config: &RunConfig, seed: u64) -> PathBuf {
    if config.ensemble == 1 { folder.to_path_buf() } else { member_folder(folder, seed) }
}

fn describe<T: Task>(engine: &Engine, about: &About, config: &RunConfig, trainer: &Trainer<'_, T>) {
    about.lines.iter().for_each(|line| eprintln!("{line}"));
    // Shapes share the weights; each has temporary memory of its own.
    let plans = || trainer.programs().map(Program::plan);
    let temporary: u64 = plans().map(MemoryPlan::temporary_bytes).sum();
    let fixed = plans().map(|plan| plan.peak_bytes() - plan.temporary_bytes()).max();
    let launches = trainer.programs().map(Program::launches).max().unwrap_or(0);
    let (most, shapes) = match plans().count() {
        1 => ("", String::new()),
        n => ("up to ", format!(" for {n} shapes")),
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    eprintln!(
        "step     {most}{launches} launches in {}, {:.1} MiB (of it {:.1} temporary{shapes})",
        config.precision.name(),
        mib(temporary + fixed.unwrap_or(0)),
        mib(temporary),
    );
    eprintln!("device   {}", engine.name());
    if config.ensemble > 1 {
        let last = config.seeds().last().unwrap_or(config.seed);
        eprintln!("ensemble {} models, seeds {} to {last}", config.ensemble, config.seed);
    }
    if let Some(batches) = config.overfit {
        eprintln!("overfit  the first {batches} batches alone; nothing is evaluated");
    }
    if trainer.step() > 0 {
        eprintln!("resumed  after step {}", trainer.step());
    }
}
