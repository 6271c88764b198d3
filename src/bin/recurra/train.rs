//! `recurra train`.

use crate::args::{DeviceArgs, json_line, print_line};
use crate::sample;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recurra::data::{Vocabulary, own_sources, read_text};
use recurra::engine::Engine;
use recurra::optim::Optimizer;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig, SampleOptions};
use recurra::train::{
    CONFIG, Checkpoint, Event, LogLine, MODEL, Progress, TRAINING, TrainLog, TrainOptions, Trainer,
    loss_curve,
};
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Steps between two looks at the loss.
const REPORT_EVERY: u64 = 10;
/// Steps of the default job: about two minutes on a laptop's CPU.
const DEFAULT_STEPS: u64 = 3000;
/// The picture in the model folder.
const CURVE: &str = "loss.svg";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TaskName {
    /// A character language model
    Lm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CellName {
    Lstm,
    Gru,
    /// tanh
    Rnn,
    #[value(name = "rnn_tanh")]
    RnnTanh,
    #[value(name = "rnn_relu")]
    RnnRelu,
}

impl CellName {
    fn name(self) -> &'static str {
        match self {
            CellName::Lstm => "lstm",
            CellName::Gru => "gru",
            CellName::Rnn | CellName::RnnTanh => "rnn_tanh",
            CellName::RnnRelu => "rnn_relu",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OptimizerName {
    Adam,
    /// Adam with decoupled weight decay of 0.01
    Adamw,
    /// Stochastic gradient descent with momentum 0.9
    Sgd,
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".to_string()),
        Ok(n) => Ok(n),
        Err(e) => Err(e.to_string()),
    }
}

fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x > 0.0 && x.is_finite() => Ok(x),
        Ok(_) => Err("must be a number above 0".to_string()),
        Err(e) => Err(e.to_string()),
    }
}

fn rate(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if (0.0..1.0).contains(&x) => Ok(x),
        Ok(_) => Err("must be 0 or more and less than 1".to_string()),
        Err(e) => Err(e.to_string()),
    }
}

/// Train a character language model: embedding, recurrent layers, linear.
#[derive(Args)]
pub struct TrainArgs {
    /// What to train
    #[arg(value_enum, default_value = "lm")]
    task: TaskName,
    /// A UTF-8 text; the last tenth is held out for validation [default: this program's own sources]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The recurrent cell
    #[arg(long, value_enum, default_value = "lstm")]
    cell: CellName,
    /// Hidden units of a layer
    #[arg(long, value_name = "H", default_value = "128", value_parser = size)]
    hidden: usize,
    /// Recurrent layers
    #[arg(long, value_name = "L", default_value = "2", value_parser = size)]
    layers: usize,
    /// Width of the embedding [default: the hidden size, at most 128]
    #[arg(long, value_name = "E", value_parser = size)]
    embedding: Option<usize>,
    /// Characters of a window of truncated backpropagation
    #[arg(long, value_name = "T", default_value = "64", value_parser = size)]
    seq: usize,
    /// Streams of text side by side
    #[arg(long, value_name = "B", default_value = "32", value_parser = size)]
    batch: usize,
    /// Dropout between the layers and before the linear one
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = rate)]
    dropout: f32,
    /// How weights move
    #[arg(long, value_enum, default_value = "adam")]
    optimizer: OptimizerName,
    /// The highest learning rate (it rises first, then falls along a cosine)
    #[arg(long, value_name = "RATE", default_value = "0.004", value_parser = positive)]
    lr: f32,
    /// The largest gradient norm
    #[arg(long, value_name = "NORM", default_value = "1", value_parser = positive)]
    clip: f32,
    /// Steps in all [default: 3000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Passes over the text, instead of steps
    #[arg(long, value_name = "N", conflicts_with = "steps",
          value_parser = clap::value_parser!(u64).range(1..))]
    epochs: Option<u64>,
    /// Seed of weights, masks and data order
    #[arg(long, value_name = "S", default_value = "1")]
    seed: u64,
    /// Steps between evaluations [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    eval_every: Option<u64>,
    /// Steps between checkpoints [default: a tenth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    save_every: Option<u64>,
    #[command(flatten)]
    device: DeviceArgs,
    /// The model's folder [default: recurra-model, or the next number that is free]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in this folder: its options hold, but for device and threads
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "cell", "hidden", "layers",
          "embedding", "seq", "batch", "dropout", "optimizer", "lr", "clip", "steps", "epochs",
          "seed", "eval_every", "save_every"])]
    resume: Option<PathBuf>,
    /// One JSON line a step on stdout, instead of the progress bar
    #[arg(long)]
    json: bool,
}

/// How a model is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingConfig {
    /// The text's file; none is the embedded corpus.
    data: Option<PathBuf>,
    /// Length and hash of the text, so that another one is noticed.
    characters: usize,
    text_hash: String,
    seq: usize,
    batch: usize,
    optimizer: OptimizerName,
    learning_rate: f32,
    clip: f32,
    steps: u64,
    evaluate_every: u64,
    save_every: u64,
    seed: u64,
}

impl TrainingConfig {
    fn options(&self) -> TrainOptions {
        TrainOptions {
            steps: self.steps,
            learning_rate: self.learning_rate,
            optimizer: match self.optimizer {
                OptimizerName::Adam => Optimizer::adam(),
                OptimizerName::Adamw => Optimizer::adamw(0.01),
                OptimizerName::Sgd => Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0 },
            },
            max_norm: Some(self.clip),
            seed: self.seed,
            evaluate_every: self.evaluate_every,
            save_every: self.save_every,
            report_every: REPORT_EVERY,
        }
    }
}

/// FNV-1a over the text's bytes, in hexadecimal.
fn text_hash(text: &str) -> String {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

fn load_text(data: Option<&Path>) -> Result<String> {
    data.map_or_else(|| Ok(own_sources()), read_text)
}

/// Held open and locked while a run trains in a folder; the system lets go of it however the run ends.
const LOCK: &str = ".lock";

/// Makes the folder of a new run. One that already holds a model is never overwritten.
fn new_folder(wanted: Option<&Path>) -> Result<PathBuf> {
    let Some(folder) = wanted else {
        // The one that makes the folder has it: two runs that start together get two.
        for n in 1.. {
            let name = if n == 1 { String::new() } else { format!("-{n}") };
            let folder = PathBuf::from(format!("recurra-model{name}"));
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok(folder),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(folder, "create", e)),
            }
        }
        unreachable!("the numbers do not end");
    };
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
    let has = |name: &str| folder.join(name).exists();
    // A run that was killed before its first checkpoint was whole leaves its lock and no config.
    if has(CONFIG) || (!has(LOCK) && (has(MODEL) || has(TRAINING))) {
        let reason =
            "this folder already holds a model: go on with --resume, or name another --out";
        return Err(Error::format(folder, reason));
    }
    Ok(folder.to_path_buf())
}

/// Takes a folder for this process alone, as long as the file is kept.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|e| Error::io(&path, "write", e))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::format(folder, "another run is training in this folder"))
        }
        // Some network file systems have no locks.
        _ => Ok(file),
    }
}

/// A run that is ready to start.
struct Job {
    model: LanguageModel,
    config: TrainingConfig,
    text: String,
    checkpoint: Option<Checkpoint>,
}

impl Job {
    fn new(args: &TrainArgs) -> Result<Self> {
        let text = load_text(args.data.as_deref())?;
        let model = LanguageModel::new(ModelConfig {
            cell: args.cell.name().to_string(),
            embedding: args.embedding.unwrap_or(args.hidden.min(128)),
            hidden: args.hidden,
            layers: args.layers,
            dropout: args.dropout,
            vocabulary: Vocabulary::of(&text).characters(),
        })?;
        let characters = text.chars().count();
        let per_epoch = {
            let streams = (characters - characters / 10) / args.batch;
            (streams.saturating_sub(args.seq) / args.seq).max(1) as u64
        };
        let steps = match (args.steps, args.epochs) {
            (Some(steps), _) => steps,
            (None, Some(epochs)) => epochs.saturating_mul(per_epoch),
            (None, None) => DEFAULT_STEPS,
        };
        let often = (steps / 10).max(1);
        let config = TrainingConfig {
            data: args.data.clone(),
            characters,
            text_hash: text_hash(&text),
            seq: args.seq,
            batch: args.batch,
            optimizer: args.optimizer,
            learning_rate: args.lr,
            clip: args.clip,
            steps,
            evaluate_every: args.eval_every.unwrap_or(often),
            save_every: args.save_every.unwrap_or(often),
            seed: args.seed,
        };
        Ok(Job { model, config, text, checkpoint: None })
    }

    fn resume(args: &TrainArgs, folder: &Path) -> Result<Self> {
        let (model, training) = LanguageModel::load_config(folder)?;
        let config: TrainingConfig = serde_json::from_value(training)
            .map_err(|e| Error::format(folder.join(CONFIG), e.to_string()))?;
        let data = args.data.as_ref().or(config.data.as_ref());
        let text = load_text(data.map(PathBuf::as_path))?;
        if text_hash(&text) != config.text_hash {
            let reason = match data {
                Some(file) => format!("{} is not the text that the run began with", file.display()),
                None => "the run began with the sources of another version of this program; \
                         it can't go on with these"
                    .to_string(),
            };
            return Err(Error::format(folder, reason));
        }
        let checkpoint = Some(Checkpoint::load(folder)?);
        Ok(Job { model, config, text, checkpoint })
    }
}

impl TrainArgs {
    /// What `recurra` alone runs.
    pub fn default_job() -> Self {
        use clap::Parser;
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            args: TrainArgs,
        }
        Defaults::parse_from(["recurra"]).args
    }
}

pub fn run(args: TrainArgs) -> Result<ExitCode> {
    let TaskName::Lm = args.task;
    let (job, held) = match &args.resume {
        // The lock comes first, so that the checkpoint read is nobody else's next one.
        Some(folder) => {
            LanguageModel::load_config(folder)?;
            let held = lock(folder)?;
            (Job::resume(&args, folder)?, Some(held))
        }
        None => (Job::new(&args)?, None),
    };
    let engine = args.device.engine()?;
    let Job { model, config, text, checkpoint } = job;
    let mut task = LanguageTask::new(model.clone(), &text, config.seq, config.batch)?;
    let mut trainer = Trainer::new(&engine, &mut task, config.options(), checkpoint)?;
    let step = trainer.step();
    let (folder, _held) = match (&args.resume, held) {
        (Some(folder), held) => (folder.clone(), held),
        (None, _) => {
            let folder = new_folder(args.out.as_deref())?;
            let held = lock(&folder)?;
            (folder, Some(held))
        }
    };
    // The weights before the description: a folder with a description is a model. After a kill
    // between two files, this makes them agree again.
    trainer.save(&folder)?;
    if step == 0 {
        model.save_config(&folder, &config)?;
    }
    describe(&engine, &model, &config, &trainer);
    let mut show = Show::new(args.json, &config, step, TrainLog::open(&folder, step)?);
    let result = trainer.run(Some(&folder), |event| show.event(event));
    show.bar.finish_and_clear();
    show.flush()?;
    result?;
    drop(trainer);
    let curve = folder.join(CURVE);
    let title = format!(
        "{} {}x{} on {}",
        model.config().cell,
        model.config().layers,
        model.config().hidden,
        data_name(&config)
    );
    loss_curve(&curve, &title, &show.log.training(), &show.log.validation())?;
    if step >= config.steps {
        eprintln!("the run in {} is complete: {step} steps", folder.display());
    }
    if !args.json {
        show.summary();
        finish_with_sample(&engine, model, &text, &folder)?;
        eprintln!("the loss curve: {}", curve.display());
        eprintln!("the model:      {}", folder.display());
        eprintln!("let it write:   recurra sample --model {}", folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn data_name(config: &TrainingConfig) -> String {
    match &config.data {
        Some(file) => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => "the program's own sources".to_string(),
    }
}

fn describe<T: recurra::train::Task>(
    engine: &Engine,
    model: &LanguageModel,
    config: &TrainingConfig,
    trainer: &Trainer<T>,
) {
    let c = model.config();
    eprintln!(
        "model    {} {}x{}, embedding {}, vocabulary {}: {} parameters",
        c.cell,
        c.layers,
        c.hidden,
        c.embedding,
        model.vocabulary().len(),
        model.parameter_count()
    );
    eprintln!("data     {}: {} characters", data_name(config), config.characters);
    eprintln!(
        "step     {} rows of {} characters; {} launches, {:.1} MiB (of it {:.1} temporary)",
        config.batch,
        config.seq,
        trainer.program().launches(),
        trainer.program().plan().peak_bytes() as f64 / f64::from(1 << 20),
        trainer.program().plan().temporary_bytes() as f64 / f64::from(1 << 20),
    );
    eprintln!("device   {}", engine.name());
    if trainer.step() > 0 {
        eprintln!("resumed  after step {}", trainer.step());
    }
}

/// What the run shows and logs.
struct Show {
    json: bool,
    bar: ProgressBar,
    log: TrainLog,
    /// The lines of the last report, held back until it is known whether an evaluation follows.
    last: Option<Progress>,
    validation: Option<f32>,
    pending: Vec<LogLine>,
}

impl Show {
    fn new(json: bool, config: &TrainingConfig, step: u64, log: TrainLog) -> Self {
        let bar = ProgressBar::new(config.steps).with_position(step);
        bar.set_draw_target(if json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        });
        let template = "{bar:24} {pos}/{len} {msg} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.reset_eta();
        Show { json, bar, log, last: None, validation: None, pending: Vec::new() }
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Losses(progress, losses) => {
                self.flush()?;
                let first = progress.step + 1 - losses.len() as u64;
                self.pending.extend(losses.iter().zip(first..).map(|(&loss, step)| LogLine {
                    step,
                    loss,
                    val_loss: None,
                    bits_per_char: loss / std::f32::consts::LN_2,
                    chars_per_second: progress.symbols_per_second,
                    elapsed_s: progress.elapsed,
                }));
                self.bar.set_position(progress.step);
                self.bar.set_message(format!(
                    "loss {:.3} ({:.2} bits/char) {:.0} chars/s",
                    progress.loss,
                    progress.loss / std::f32::consts::LN_2,
                    progress.symbols_per_second
                ));
                self.last = Some(*progress);
            }
            Event::Validation(progress, loss) => {
                if let Some(line) = self.pending.last_mut() {
                    line.val_loss = Some(*loss);
                }
                self.validation = Some(*loss);
                self.flush()?;
                if !self.json {
                    let line = format!(
                        "step {:6}  loss {:.4}  validation {loss:.4} ({:.3} bits/char)  {:.0} s",
                        progress.step,
                        progress.loss,
                        loss / std::f32::consts::LN_2,
                        progress.elapsed
                    );
                    self.print(&line);
                }
            }
            Event::Saving(_) => self.flush()?,
            Event::Saved(_) => {}
        }
        Ok(())
    }

    /// Above the bar, or plainly where stderr is no terminal.
    fn print(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.json {
            for line in &self.pending {
                print_line(&json_line(line)?)?;
            }
        }
        self.log.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    fn summary(&self) {
        if let (Some(last), Some(validation)) = (self.last, self.validation) {
            eprintln!(
                "done     {} steps in {:.0} s; validation loss {validation:.4} nats, \
                 {:.3} bits per character",
                last.step,
                last.elapsed,
                validation / std::f32::consts::LN_2
            );
        }
    }
}

/// Lets the model write a little, from the text's first character on.
fn finish_with_sample(
    engine: &Engine,
    model: LanguageModel,
    text: &str,
    folder: &Path,
) -> Result<()> {
    let weights = model.load_weights(folder)?;
    let prompt: String = text.chars().take(1).collect();
    let options = SampleOptions { temperature: 0.7, top_k: 0, seed: 1 };
    eprintln!("a sample:");
    sample::write(engine, model, &weights, options, &prompt, 400)?;
    eprintln!();
    Ok(())
}
