//! `recurra train lm`.

use super::folder::{Resumed, data_hash, kept, refuse_pipe, take_up, trained};
use super::network::NetworkArgs;
use super::options::{RunArgs, RunConfig, size};
use super::session::{About, Session, Unit};
use crate::args::print_line;
use clap::{Args, ValueEnum};
use recurra::data::{Tokens, Vocabulary, VocabularyText, own_sources, read_bytes, read_text};
use recurra::engine::Engine;
use recurra::task::lm::{Generator, LanguageModel, LanguageTask, ModelConfig, SampleOptions};
use recurra::task::{RecurrentConfig, TaskModel, lm};
use recurra::train::{Outcome, View};
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Steps of the default job: about two minutes on a laptop's CPU.
const DEFAULT_STEPS: u64 = 3000;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum TokensName {
    /// Unicode characters
    #[value(alias = "chars")]
    Characters,
    /// Bytes: any file
    Bytes,
    /// What lies between white space, and line ends
    Words,
}

impl TokensName {
    fn tokens(self) -> Tokens {
        match self {
            TokensName::Characters => Tokens::Characters,
            TokensName::Bytes => Tokens::Bytes,
            TokensName::Words => Tokens::Words,
        }
    }
}

/// A language model: embedding, recurrent layers, linear.
#[derive(Args)]
pub struct LmArgs {
    /// A text; the last tenth is held out for validation [default: this program's own sources]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Another text for validation, instead of the last tenth
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// What the model predicts one after another
    #[arg(long, value_enum, default_value = "characters", conflicts_with = "resume")]
    pub tokens: TokensName,
    /// Of words the N most frequent; all others count as one
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    pub vocabulary: Option<usize>,
    /// Width of the embedding [default: the hidden size, at most 128; the hidden size where weights are tied]
    #[arg(long, value_name = "E", value_parser = size, conflicts_with = "resume")]
    pub embedding: Option<usize>,
    /// One matrix for the embedding and the output layer
    #[arg(long, conflicts_with = "resume")]
    pub tied: bool,
    /// Tokens of a window of truncated backpropagation
    #[arg(long, value_name = "T", default_value = "64", value_parser = size,
          conflicts_with = "resume")]
    pub seq: usize,
    /// Steps that gradients go back over, T or more [default: T]
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    pub back: Option<usize>,
    /// Streams of text side by side
    #[arg(long, value_name = "B", default_value = "32", value_parser = size,
          conflicts_with = "resume")]
    pub batch: usize,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a language model is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LmTraining {
    /// The text's file; none is the embedded corpus.
    data: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation: Option<PathBuf>,
    /// Length and hash of the text, so that another one is noticed.
    #[serde(alias = "characters")]
    tokens: usize,
    text_hash: String,
    /// The same of the text for validation, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validation_hash: Option<String>,
    seq: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<usize>,
    batch: usize,
    #[serde(flatten)]
    run: RunConfig,
}

/// A text as its tokens want it.
fn load(tokens: Tokens, data: Option<&Path>) -> Result<Text> {
    match (tokens, data) {
        (Tokens::Bytes, Some(file)) => Ok(Text::Bytes(read_bytes(file)?)),
        (_, Some(file)) => Ok(Text::Words(read_text(file)?)),
        (_, None) => Ok(Text::Words(own_sources())),
    }
}

enum Text {
    Words(String),
    Bytes(Vec<u8>),
}

impl Text {
    fn bytes(&self) -> &[u8] {
        match self {
            Text::Words(text) => text.as_bytes(),
            Text::Bytes(bytes) => bytes,
        }
    }

    fn text(&self) -> &str {
        match self {
            Text::Words(text) => text,
            // The vocabulary of bytes looks at none.
            Text::Bytes(_) => "",
        }
    }

    fn encode(&self, vocabulary: &Vocabulary) -> Result<Vec<u32>> {
        match self {
            Text::Words(text) => vocabulary.encode(text),
            Text::Bytes(bytes) => Ok(bytes.iter().map(|&byte| u32::from(byte)).collect()),
        }
    }
}

/// A run that is ready to start.
struct Job {
    model: LanguageModel,
    training: LmTraining,
    /// Tokens to train on and to validate with.
    tokens: [Vec<u32>; 2],
    resumed: Option<Resumed>,
}

/// The hash of a text for validation.
fn hash_of(tokens: Tokens, file: &Path) -> Result<String> {
    // It is read twice, which a pipe can't be.
    refuse_pipe(file)?;
    Ok(data_hash(load(tokens, Some(file))?.bytes()))
}

/// A text that is none may be learned all the same.
fn or_as_bytes(error: Error) -> Error {
    match error {
        Error::Format { path, reason } if reason.contains("not UTF-8") => {
            Error::format(path, format!("{reason}, or take it as bytes (--tokens bytes)"))
        }
        other => other,
    }
}

/// The tokens of a text and of another one for validation, or else of its last tenth.
fn split(vocabulary: &Vocabulary, text: &Text, validation: Option<&Path>) -> Result<[Vec<u32>; 2]> {
    let mut tokens = text.encode(vocabulary)?;
    let held_out = match validation {
        Some(file) => {
            let other = load(vocabulary.tokens(), Some(file))?.encode(vocabulary);
            other.map_err(|e| Error::format(file, e.to_string()))?
        }
        None => tokens.split_off(tokens.len() - tokens.len() / 10),
    };
    Ok([tokens, held_out])
}

/// The tokens of a text. Of words those that are trained with: what stands in the held-out part alone is unknown there.
fn vocabulary(tokens: Tokens, text: &Text, args: &LmArgs) -> Result<Vocabulary> {
    if tokens != Tokens::Words || args.validation.is_some() {
        return Vocabulary::build(tokens, text.text(), args.vocabulary);
    }
    let all = Vocabulary::build(tokens, text.text(), None)?;
    let ids = text.encode(&all)?;
    let VocabularyText::Words(words) = all.text() else { return Ok(all) };
    let trained = ids[..ids.len() - ids.len() / 10].iter().map(|&id| words[id as usize].as_str());
    Vocabulary::of_tokens(trained, args.vocabulary, 1)
}

impl Job {
    fn new(args: &LmArgs) -> Result<Self> {
        let tokens = args.tokens.tokens();
        let tokens_kind = tokens;
        if args.vocabulary.is_some() && tokens != Tokens::Words {
            let what = "--vocabulary is for words: there are as many characters as the text has";
            return Err(Error::Invalid(what.to_string()));
        }
        if args.network.both {
            let what = "--both: a model of what comes next can't read both ways";
            return Err(Error::Invalid(what.to_string()));
        }
        let text = load(tokens, args.data.as_deref()).map_err(or_as_bytes)?;
        let vocabulary = vocabulary(tokens, &text, args)?;
        let RecurrentConfig {
            cell,
            hidden,
            layers,
            dropout,
            layer_norm,
            weight_drop,
            forget_bias,
            orthogonal,
            ..
        } = args.network.config();
        let narrow = if args.tied { hidden } else { hidden.min(128) };
        let model = LanguageModel::new(ModelConfig {
            cell,
            embedding: args.embedding.unwrap_or(narrow),
            hidden,
            layers,
            dropout,
            tied: args.tied,
            layer_norm,
            weight_drop,
            forget_bias,
            orthogonal,
            ..ModelConfig::new(&vocabulary)
        })?;
        let tokens = split(&vocabulary, &text, args.validation.as_deref())?;
        let lead = args.back.unwrap_or(args.seq).saturating_sub(args.seq);
        let per_epoch = {
            let streams = tokens[0].len() / args.batch;
            (streams.saturating_sub(args.seq + lead) / args.seq).max(1) as u64
        };
        let training = LmTraining {
            data: args.data.as_deref().map(kept).transpose()?,
            validation: args.validation.as_deref().map(kept).transpose()?,
            tokens: tokens.iter().map(Vec::len).sum(),
            text_hash: data_hash(text.bytes()),
            validation_hash: args
                .validation
                .as_deref()
                .map(|f| hash_of(tokens_kind, f))
                .transpose()?,
            seq: args.seq,
            back: args.back,
            batch: args.batch,
            run: RunConfig::new(&args.run, DEFAULT_STEPS, per_epoch),
        };
        Ok(Job { model, training, tokens, resumed: None })
    }

    fn resume(args: &LmArgs, folder: &Path) -> Result<Self> {
        let mut texts = None;
        let (model, training, resumed) =
            take_up(folder, |model: &LanguageModel, training: &mut LmTraining| {
                texts = Some(Self::same_texts(args, folder, model, training)?);
                Ok(())
            })?;
        let tokens = texts.unwrap_or_default();
        Ok(Job { model, training, tokens, resumed: Some(resumed) })
    }

    /// The tokens of the texts that a run began with.
    fn same_texts(
        args: &LmArgs,
        folder: &Path,
        model: &LanguageModel,
        training: &LmTraining,
    ) -> Result<[Vec<u32>; 2]> {
        let data = args.data.as_ref().or(training.data.as_ref());
        let text = load(model.config().tokens, data.map(PathBuf::as_path))?;
        if data_hash(text.bytes()) != training.text_hash {
            let reason = match data {
                Some(file) => format!("{} is not the text that the run began with", file.display()),
                None => "the run began with the sources of another version of this program; \
                         it can't go on with these"
                    .to_string(),
            };
            return Err(Error::format(folder, reason));
        }
        if args.validation.is_some() && training.validation.is_none() {
            let reason = "the run holds out the last tenth of its text, and goes on with that: leave out --validation";
            return Err(Error::format(folder, reason));
        }
        let validation = args.validation.as_ref().or(training.validation.as_ref());
        if let (Some(file), Some(hash)) = (validation, &training.validation_hash)
            && hash_of(model.config().tokens, file)? != *hash
        {
            let file = file.display();
            let reason = format!("{file} is not the text that the run was validated with");
            return Err(Error::format(folder, reason));
        }
        split(model.vocabulary(), &text, validation.map(PathBuf::as_path))
    }

    fn data_name(&self) -> String {
        match &self.training.data {
            Some(file) => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => "the program's own sources".to_string(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let (c, t) = (self.model.config(), &self.training);
        let tied = if c.tied { " (tied)" } else { "" };
        let back = t.back.map_or(String::new(), |back| format!(", gradients over {back}"));
        vec![
            format!(
                "model    {} {}x{}, embedding {}{tied}, vocabulary {}: {} parameters",
                c.cell,
                c.layers,
                c.hidden,
                c.embedding,
                self.model.vocabulary().len(),
                self.model.parameter_count()
            ),
            format!("data     {}: {} {}", self.data_name(), t.tokens, c.tokens.name()),
            format!("batch    {} rows of {} {}{back}", t.batch, t.seq, c.tokens.name()),
        ]
    }
}

pub fn run(args: &LmArgs) -> Result<ExitCode> {
    let job = match &args.run.resume {
        Some(folder) => Job::resume(args, folder)?,
        None => Job::new(args)?,
    };
    let (lines, data) = (job.lines(), job.data_name());
    let Job { model, training, tokens: [tokens, held_out], resumed } = job;
    let device = args.run.device.engine()?;
    let engine = device.ensemble(training.run.ensemble)?;
    let config = model.config();
    let title = format!("{} {}x{} on {data}", config.cell, config.layers, config.hidden);
    let unit = Unit { symbol: config.tokens.singular(), nats: true };
    let describe = |folder: &Path, run: &RunConfig| {
        model.save_config(folder, &LmTraining { run: run.clone(), ..training.clone() })
    };
    let prompt: Vec<u32> = tokens.iter().take(1).copied().collect();
    let sample = |folder: &Path| write_a_little(&device, &model, &prompt, folder);
    let about =
        About { task: lm::NAME, title, lines, unit, sample: Some(&sample), describe: &describe };
    let shape = [training.seq, training.batch];
    let learner = model.clone().with_memory(args.run.memory.memory());
    let mut task = LanguageTask::of_tokens(learner, tokens, held_out, shape)?;
    if let Some(back) = training.back {
        task = task.with_back(back)?;
    }
    let session = Session { args: &args.run, config: training.run.clone(), about, resumed };
    let Some(ended) = session.run(&engine, &task)? else { return Ok(ExitCode::SUCCESS) };
    let report = ended.write()?;
    if !args.run.json && ended.outcome != Outcome::Interrupted {
        eprintln!("the report:     {}", report.display());
        eprintln!("a sample:");
        print_line(ended.sample.as_deref().unwrap_or_default())?;
        eprintln!();
        eprintln!("let it write:   recurra sample --model {}", ended.best.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What the model writes from the text's first token on.
fn write_a_little(
    engine: &Engine,
    model: &LanguageModel,
    prompt: &[u32],
    folder: &Path,
) -> Result<String> {
    let weights = model.load_weights(folder)?;
    let mut writer = model.vocabulary().writer();
    let prompt: String = prompt.iter().map(|&token| writer.push(token as usize)).collect();
    let options = SampleOptions { temperature: 0.7, ..SampleOptions::default() };
    let length = if model.config().tokens == Tokens::Words { 100 } else { 400 };
    let mut generator = Generator::new(engine, model.clone(), &weights, options)?;
    generator.read(&prompt)?;
    let mut text = prompt;
    for _ in 0..length {
        text += &writer.push(generator.write()?);
    }
    Ok(text)
}

/// What flows through a trained model in the first batch of a text: its own, or another.
pub fn look(folder: &Path, data: Option<&Path>, engine: &Engine) -> Result<View> {
    let (model, training): (LanguageModel, LmTraining) = trained(folder)?;
    let weights = model.load_weights(folder)?;
    let file = data.or(training.data.as_deref());
    let text = load(model.config().tokens, file)?;
    let in_file = |e: Error| match (e, file) {
        (Error::Invalid(what), Some(file)) => Error::format(file, what),
        (other, _) => other,
    };
    let [tokens, held_out] = split(model.vocabulary(), &text, None).map_err(in_file)?;
    let shape = [training.seq, training.batch];
    let mut task = LanguageTask::of_tokens(model, tokens, held_out, shape).map_err(in_file)?;
    if let Some(back) = training.back {
        task = task.with_back(back).map_err(in_file)?;
    }
    crate::microscope::look(engine, &task, &weights, training.run.seed)
}
