//! `recurra train`.

mod options;
mod show;

pub use options::TrainArgs;

use crate::args::{WATCHED, profile_table};
use crate::sample;
use options::{DEFAULT_STEPS, TaskName, TrainingConfig};
use recurra::data::{Vocabulary, own_sources, read_text};
use recurra::engine::Engine;
use recurra::measure::DeviceRates;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig, SampleOptions};
use recurra::train::{
    CONFIG, Checkpoint, MODEL, MemberLosses, TRAINING, TrainLog, Trainer, loss_curve, member_folder,
};
use recurra::{Error, Result};
use show::Show;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The picture in the model folder.
const CURVE: &str = "loss.svg";

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
        let mut n = 1u64;
        loop {
            let name = if n == 1 { String::new() } else { format!("-{n}") };
            let folder = PathBuf::from(format!("recurra-model{name}"));
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok(folder),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => n += 1,
                Err(e) => return Err(Error::io(folder, "create", e)),
            }
        }
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
            ensemble: args.ensemble,
            precision: args.precision.precision,
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
        if !folder.join(TRAINING).exists() {
            let reason = format!(
                "there is no {TRAINING} to go on from; one model of an ensemble goes on with the others: \
                 name the folder that they lie in"
            );
            return Err(Error::format(folder, reason));
        }
        let checkpoint = Some(Checkpoint::load(folder)?);
        Ok(Job { model, config, text, checkpoint })
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
    let Job { model, config, text, checkpoint } = job;
    let device = args.device.engine()?;
    let engine = device.ensemble(config.ensemble)?;
    let model = model.with_memory(args.memory.memory());
    let task = LanguageTask::new(model.clone(), &text, config.seq, config.batch)?;
    let mut task = task.with_precision(config.precision);
    if let Some(file) = &args.profile.profile {
        // Steps of a run of its own, so that the run itself is what it would be.
        let mut trainer = Trainer::new(&engine, &mut task, config.options(), None)?;
        let profile = trainer.profile(&engine, WATCHED)?;
        profile.write_trace(file)?;
        let rates = DeviceRates::measure(&engine)?;
        profile_table(&profile, &rates).iter().for_each(|line| eprintln!("{line}"));
        eprintln!("the trace: {}\n", file.display());
    }
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
        if config.ensemble > 1 {
            for seed in config.seeds() {
                model.save_config(&member_folder(&folder, seed), &config.member(seed))?;
            }
        }
        model.save_config(&folder, &config)?;
    }
    describe(&engine, &model, &config, &trainer);
    let mut show = Show::new(args.json, &config, step, TrainLog::open(&folder, step)?);
    let result = trainer.run(Some(&folder), |event| show.event(event));
    show.bar.finish_and_clear();
    show.flush()?;
    result?;
    let scales = trainer.loss_scales()?;
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
        show.summary(config.seeds());
        for scale in scales {
            let (factor, skipped) = (scale.scale(), scale.skipped);
            eprintln!(
                "f16      loss scale {factor}; {skipped} steps left out for infinite gradients"
            );
        }
        let best = best_member(&folder, &config, show.validation.as_ref());
        finish_with_sample(&device, model, &text, &best)?;
        eprintln!("the loss curve: {}", curve.display());
        let (what, place) = match config.ensemble {
            1 => ("model: ", folder.display().to_string()),
            _ => ("models:", member_folder(&folder, config.seed).display().to_string() + " …"),
        };
        eprintln!("the {what}     {place}");
        eprintln!("let it write:   recurra sample --model {}", best.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the model with the lowest validation loss; of the first, where none was evaluated.
fn best_member(
    folder: &Path,
    config: &TrainingConfig,
    validation: Option<&MemberLosses>,
) -> PathBuf {
    if config.ensemble == 1 {
        return folder.to_path_buf();
    }
    let losses = validation.map_or(&[][..], |losses| &losses.0);
    let best = config.seeds().zip(losses).min_by(|a, b| a.1.total_cmp(b.1));
    member_folder(folder, best.map_or(config.seed, |(seed, _)| seed))
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
        "step     {} rows of {} characters in {}; {} launches, {:.1} MiB (of it {:.1} temporary)",
        config.batch,
        config.seq,
        config.precision.name(),
        trainer.program().launches(),
        trainer.program().plan().peak_bytes() as f64 / f64::from(1 << 20),
        trainer.program().plan().temporary_bytes() as f64 / f64::from(1 << 20),
    );
    eprintln!("device   {}", engine.name());
    if config.ensemble > 1 {
        let last = config.seeds().last().unwrap_or(config.seed);
        eprintln!("ensemble {} models, seeds {} to {last}", config.ensemble, config.seed);
    }
    if trainer.step() > 0 {
        eprintln!("resumed  after step {}", trainer.step());
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
