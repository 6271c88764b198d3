//! `recurra sample`.

use crate::args::{WeightArgs, print_line};
use clap::Args;
use recurra::engine::Engine;
use recurra::task::lm::{self, Generator, LanguageModel, SampleOptions};
use recurra::task::music::{self, Composer, LOWEST, MusicModel, read_midi, write_midi};
use recurra::task::{Description, TaskModel};
use recurra::tensor::NamedTensors;
use recurra::{Error, Result};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Let a trained model write.
///
/// A text streams as it goes; a model of notes plays, into a MIDI file.
#[derive(Args)]
pub struct SampleArgs {
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// What the model reads first, and goes on from: a text; of a model of notes a MIDI file
    #[arg(long, value_name = "TEXT|FILE", default_value = "")]
    prompt: String,
    /// Tokens (characters, bytes or words) to write, or steps to play [default: 500, or 64 steps]
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Where a model of notes plays to (FILE.mid) [default: the numbers of each step's notes, a line a step]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Under 1 bolder, over 1 wilder; 0 takes the likeliest always, of notes those that are likelier than not
    #[arg(long, value_name = "X", default_value = "0.8")]
    temperature: f32,
    /// Draw from so many of the likeliest only; 0 is all
    #[arg(long, value_name = "K", default_value = "0")]
    top_k: usize,
    /// Draw from the likeliest only that together have this probability; 1 is all
    #[arg(long, value_name = "P", default_value = "1")]
    top_p: f32,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value = "1")]
    seed: u64,
    /// cpu, auto, gpu, or a name that `recurra devices` lists; a character at a time is little work
    /// for a GPU
    #[arg(long, default_value = "cpu", value_name = "cpu|auto|gpu|NAME")]
    device: String,
    /// Threads of the CPU engine
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    #[command(flatten)]
    weights: WeightArgs,
}

pub fn run(args: SampleArgs) -> Result<ExitCode> {
    let description = Description::read(&args.model)?;
    let engine = Engine::named(&args.device, Some(usize::from(args.threads)))?;
    let engine = engine.with_weights(args.weights.weights)?;
    match description.task.as_str() {
        lm::NAME => text(&args, &engine)?,
        music::NAME => tune(&args, &engine)?,
        task => {
            let reason = format!("a model of task '{task}', not of 'lm' or 'music', which write");
            return Err(Error::format(&args.model, reason));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(args: &SampleArgs, engine: &Engine) -> Result<()> {
    let (model, weights) = LanguageModel::load(&args.model)?;
    if args.out.is_some() {
        return Err(Error::invalid("--out is for models of notes: a text goes to standard output"));
    }
    let &SampleArgs { temperature, top_k, top_p, seed, .. } = args;
    let options = SampleOptions { temperature, top_k, top_p, seed };
    write(engine, model, &weights, options, &args.prompt, args.length.unwrap_or(500))
}

fn tune(args: &SampleArgs, engine: &Engine) -> Result<()> {
    let (model, weights) = MusicModel::load(&args.model)?;
    if args.top_k > 0 || args.top_p != 1.0 {
        return Err(Error::invalid(
            "--top-k and --top-p are for tokens: notes are drawn each by itself",
        ));
    }
    let quarters = model.config().quarters;
    let mut tune = match args.prompt.as_str() {
        "" => Vec::new(),
        file => read_midi(Path::new(file), quarters)?,
    };
    let mut composer = Composer::new(engine, &model, &weights, args.temperature, args.seed)?;
    tune.iter().try_for_each(|notes| composer.hear(notes))?;
    for _ in 0..args.length.unwrap_or(64) {
        tune.push(composer.play()?);
    }
    if let Some(out) = &args.out {
        write_midi(out, &tune, quarters)?;
        eprintln!("{} steps in {}", tune.len(), out.display());
        return Ok(());
    }
    tune.iter().try_for_each(|notes| {
        let numbers: Vec<String> = notes.iter().map(|key| (key + LOWEST).to_string()).collect();
        print_line(&numbers.join(" "))
    })
}

/// Prints the prompt and `length` tokens after it, each as soon as it is drawn.
fn write(
    engine: &Engine,
    model: LanguageModel,
    weights: &NamedTensors,
    options: SampleOptions,
    prompt: &str,
    length: usize,
) -> Result<()> {
    let vocabulary = model.vocabulary().clone();
    let mut writer = vocabulary.writer();
    let mut generator = Generator::new(engine, model, weights, options)?;
    generator.read(prompt)?;
    for token in vocabulary.encode(prompt)? {
        writer.push(token as usize);
    }
    let mut out = std::io::stdout().lock();
    let mut put = |text: &str| -> Result<bool> {
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            // A reader that went away has read enough.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(Error::io("standard output", "write", e)),
        }
    };
    let mut open = put(prompt)?;
    for _ in 0..length {
        if !open {
            return Ok(());
        }
        open = put(&writer.push(generator.write()?))?;
    }
    put("\n")?;
    Ok(())
}
