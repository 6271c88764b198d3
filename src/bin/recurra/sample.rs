//! `recurra sample`.

use clap::Args;
use recurra::engine::Engine;
use recurra::task::TaskModel;
use recurra::task::lm::{Generator, LanguageModel, SampleOptions};
use recurra::tensor::NamedTensors;
use recurra::{Error, Result};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Let a trained model write, streaming as it goes.
#[derive(Args)]
pub struct SampleArgs {
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// What the model reads first, and goes on from
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Tokens (characters, bytes or words) to write
    #[arg(long, value_name = "N", default_value = "500")]
    length: usize,
    /// Under 1 bolder, over 1 wilder; 0 takes the likeliest always
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
}

pub fn run(args: SampleArgs) -> Result<ExitCode> {
    let (model, weights) = LanguageModel::load(&args.model)?;
    let engine = Engine::named(&args.device, Some(usize::from(args.threads)))?;
    let SampleArgs { temperature, top_k, top_p, seed, .. } = args;
    let options = SampleOptions { temperature, top_k, top_p, seed };
    write(&engine, model, &weights, options, &args.prompt, args.length)?;
    Ok(ExitCode::SUCCESS)
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
