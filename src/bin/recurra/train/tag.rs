//! `recurra train tag`.

use super::folder::{data_hash, kept_all, refuse_pipe, take_up, trained};
use super::network::NetworkArgs;
use super::options::{RunArgs, RunConfig, rate, size};
use super::session::{About, Session, Unit};
use super::tag_report::pictures;
use crate::args::{json_line, print_line};
use clap::Args;
use recurra::engine::Engine;
use recurra::task::tag::{
    self, Batches, Columns, Features, Scheme, Sentence, TagConfig, TagModel, TagTask, hold_out,
};
use recurra::task::{RecurrentConfig, TaskModel};
use recurra::train::View;
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Passes over the sentences of the default job.
const DEFAULT_EPOCHS: u64 = 20;

/// A tag for each word of a sentence, and an intent for the sentence.
///
/// Words and their characters, recurrent layers both ways, a conditional random field; an intent where sentences have
/// some.
#[derive(Args)]
pub struct TagArgs {
    /// Sentences: files of columns, a word a line and an empty line behind each sentence (`# intent = NAME` before one
    /// is its intent), or folders with seq.in, seq.out and label
    #[arg(long, value_name = "PATH", num_args = 1.., required_unless_present = "resume")]
    pub data: Vec<PathBuf>,
    /// Other sentences to choose the model by, instead of a share of --data
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub validation: Vec<PathBuf>,
    /// Sentences that the best model is measured with at the end
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub test: Vec<PathBuf>,
    /// The share of the sentences that is held out for validation, drawn by the seed
    #[arg(long, alias = "held-out", value_name = "SHARE", default_value = "0.1", value_parser = rate,
          conflicts_with_all = ["resume", "validation"])]
    pub hold_out: f32,
    /// The column of the words, from 1
    #[arg(long, value_name = "N", default_value = "1", value_parser = size,
          conflicts_with = "resume")]
    pub token_column: usize,
    /// The column of the tags, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    pub tag_column: Option<usize>,
    /// Tags are taken as they are, whether or not they look like entities' (B-, I- …)
    #[arg(long, conflicts_with = "resume")]
    pub plain_tags: bool,
    /// Leave out the sentences' intents
    #[arg(long, conflicts_with = "resume")]
    pub tags_only: bool,
    /// Width of the words' embedding
    #[arg(long, value_name = "E", default_value = "100", value_parser = size,
          conflicts_with = "resume")]
    pub embedding: usize,
    /// How often a word comes in the training part to have a vector of its own
    #[arg(long, value_name = "N", default_value = "2", value_parser = size,
          conflicts_with = "resume")]
    pub min_count: usize,
    /// How likely a word is taken for an unknown one in training
    #[arg(long, alias = "word-dropout", value_name = "RATE", default_value = "0.05",
          value_parser = rate, conflicts_with = "resume")]
    pub token_dropout: f32,
    /// Look words up as they are written, not in lower case
    #[arg(long, conflicts_with = "resume")]
    pub keep_case: bool,
    /// Look words up with their digits, not with 0 for each
    #[arg(long, conflicts_with = "resume")]
    pub keep_digits: bool,
    /// Width of the characters' embedding
    #[arg(long, value_name = "E", default_value = "32", value_parser = size,
          conflicts_with = "resume")]
    pub characters: usize,
    /// Units of the GRU over a word's characters, each way
    #[arg(long, value_name = "H", default_value = "32", value_parser = size,
          conflicts_with = "resume")]
    pub character_hidden: usize,
    /// Characters of a word that are read: of a longer one those at both ends
    #[arg(long, value_name = "N", default_value = "20", value_parser = size,
          conflicts_with = "resume")]
    pub longest_word: usize,
    /// Words are known by themselves alone, not by their characters
    #[arg(long, conflicts_with_all = ["resume", "characters", "character_hidden", "longest_word"])]
    pub no_characters: bool,
    /// How a word is capitalised is not told
    #[arg(long, conflicts_with = "resume")]
    pub no_capitals: bool,
    /// Each tag by itself, a softmax, instead of a conditional random field
    #[arg(long, conflicts_with = "resume")]
    pub no_crf: bool,
    /// Never predict tags that can't stand behind one another, as I-x behind O
    #[arg(long, conflicts_with_all = ["resume", "no_crf", "plain_tags"])]
    pub constrained: bool,
    /// Read sentences from their start to their end alone [default: both ways]
    #[arg(long, conflicts_with_all = ["resume", "both"])]
    pub one_way: bool,
    /// Words of a batch, sentences times the longest, padding among them
    #[arg(long, value_name = "WORDS", default_value = "320", value_parser = size,
          conflicts_with = "resume")]
    pub batch_words: usize,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

impl TagArgs {
    fn recurrent(&self) -> RecurrentConfig {
        RecurrentConfig { both: !self.one_way, ..self.network.config() }
    }

    /// Refuses columns where none of the sources has any.
    fn check_columns(&self) -> Result<()> {
        let sources = || self.data.iter().chain(&self.validation).chain(&self.test);
        let asked = [
            (self.token_column != Columns::default().token, "--token-column"),
            (self.tag_column.is_some(), "--tag-column"),
        ];
        match asked.into_iter().find(|(asked, _)| *asked) {
            Some((_, option)) if sources().all(|source| source.is_dir()) => {
                let what = format!("{option} is of files of columns, and the data are folders");
                Err(Error::Invalid(what))
            }
            _ => Ok(()),
        }
    }

    fn features(&self) -> Features {
        Features {
            word: self.embedding,
            min_count: self.min_count,
            lower: !self.keep_case,
            digits: !self.keep_digits,
            character: if self.no_characters { 0 } else { self.characters },
            character_hidden: self.character_hidden,
            longest: self.longest_word,
            shape: if self.no_capitals { 0 } else { Features::default().shape },
            chained: !self.no_crf,
            constrained: self.constrained,
        }
    }
}

/// How a tagger is trained, as `config.json` keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagTraining {
    data: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    validation: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    test: Vec<PathBuf>,
    /// Of the data, of the sentences for validation, and of those to test, so that others are noticed.
    data_hash: String,
    validation_hash: String,
    /// Absent in folders of versions that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test_hash: Option<String>,
    #[serde(alias = "held_out")]
    hold_out: f32,
    pub columns: Columns,
    tags_only: bool,
    batch_words: usize,
    #[serde(alias = "word_dropout")]
    token_dropout: f32,
    #[serde(flatten)]
    run: RunConfig,
}

/// The [`data_hash`] of sources one behind the other, of a folder by its files.
fn hash_of(sources: &[PathBuf]) -> Result<String> {
    let mut all = Vec::new();
    for source in sources {
        refuse_pipe(source)?;
        let files = match source.is_dir() {
            true => ["seq.in", "seq.out", "label"].map(|name| source.join(name)).to_vec(),
            false => vec![source.clone()],
        };
        for file in files.iter().filter(|file| !source.is_dir() || file.exists()) {
            all.extend(std::fs::read(file).map_err(|e| Error::io(file, "read", e))?);
        }
    }
    Ok(data_hash(&all))
}

/// The sentences of a run.
struct Parts {
    training: Vec<Sentence>,
    validation: Vec<Sentence>,
    test: Vec<Sentence>,
}

impl TagTraining {
    /// Sentences as those that were trained with are read.
    pub fn read(&self, sources: &[PathBuf]) -> Result<Vec<Sentence>> {
        match self.tags_only {
            true => tag::read_tags(sources, self.columns),
            false => tag::read(sources, self.columns),
        }
    }

    /// All of them; what is held out is drawn by the seed.
    fn parts(&self) -> Result<Parts> {
        let mut training = self.read(&self.data)?;
        let mut validation = Vec::new();
        if !self.validation.is_empty() {
            validation = self.read(&self.validation)?;
        } else if self.hold_out > 0.0 {
            let parts = hold_out(training, self.hold_out, self.run.seed);
            [training, validation] = parts.map_err(|e| {
                Error::format(&self.data[0], format!("{e} (--hold-out 0 holds out none)"))
            })?;
        }
        let test = if self.test.is_empty() { Vec::new() } else { self.read(&self.test)? };
        Ok(Parts { training, validation, test })
    }

    fn batches(&self) -> Batches {
        // What trains side by side, or in parts, has one shape.
        let one = self.run.ensemble > 1 || self.run.accumulate > 1;
        let plain = Batches::default();
        Batches {
            words: self.batch_words,
            shapes: if one { 1 } else { plain.shapes },
            token_dropout: self.token_dropout,
        }
    }

    fn task(&self, model: TagModel, parts: &Parts) -> Result<TagTask> {
        let mut all = parts.training.iter().chain(&parts.validation);
        let is_long = all.any(|sentence| sentence.tokens.len() > self.batch_words);
        let task = TagTask::new(model, &parts.training, &parts.validation, self.batches());
        task.map_err(|e| match e {
            Error::Format { path, reason } if is_long => {
                Error::format(path, format!("{reason} (--batch-words)"))
            }
            other => other,
        })
    }
}

pub fn run(args: &TagArgs) -> Result<ExitCode> {
    let (model, mut training, parts, resumed) = match &args.run.resume {
        Some(folder) => {
            let (model, training, resumed) =
                take_up(folder, |_: &TagModel, training: &mut TagTraining| {
                    for (own, given) in [
                        (&mut training.data, &args.data),
                        (&mut training.validation, &args.validation),
                        (&mut training.test, &args.test),
                    ] {
                        if !given.is_empty() {
                            *own = kept_all(given)?;
                        }
                    }
                    let same_test = match &training.test_hash {
                        Some(hash) => hash_of(&training.test)? == *hash,
                        None => true,
                    };
                    let same = hash_of(&training.data)? == training.data_hash
                        && hash_of(&training.validation)? == training.validation_hash
                        && same_test;
                    match same {
                        true => Ok(()),
                        false => Err(Error::format(
                            folder,
                            "the sentences are not those that the run began with",
                        )),
                    }
                })?;
            let parts = training.parts()?;
            (model, training, parts, Some(resumed))
        }
        None => {
            args.check_columns()?;
            let training = TagTraining {
                data: kept_all(&args.data)?,
                validation: kept_all(&args.validation)?,
                test: kept_all(&args.test)?,
                data_hash: hash_of(&args.data)?,
                validation_hash: hash_of(&args.validation)?,
                test_hash: Some(hash_of(&args.test)?),
                hold_out: args.hold_out,
                columns: Columns { token: args.token_column, tag: args.tag_column },
                tags_only: args.tags_only,
                batch_words: args.batch_words,
                token_dropout: args.token_dropout,
                run: RunConfig::new(&args.run, 1, 1),
            };
            let parts = training.parts()?;
            // Of a share of the data all tags are known; other sentences must do with those of the training part.
            let held_out = if args.validation.is_empty() { &parts.validation[..] } else { &[] };
            let config = TagConfig::new(
                args.recurrent(),
                args.features(),
                args.plain_tags.then_some(Scheme::Plain),
                &parts.training,
                held_out,
            )?;
            (TagModel::new(config)?, training, parts, None)
        }
    };
    // Before the run, not behind it.
    model.check_measurable(&parts.test)?;
    let learner = model.clone().with_memory(args.run.memory.memory());
    let task = training.task(learner, &parts)?;
    if resumed.is_none() {
        let epoch = task.buckets().count() as u64;
        let steps = (epoch / args.run.accumulate as u64).max(1);
        training.run = RunConfig::new(&args.run, DEFAULT_EPOCHS * steps, epoch);
    }
    let device = args.run.device.engine()?;
    let engine = device.ensemble(training.run.ensemble)?;
    let name = training.data[0].file_name().unwrap_or_default().to_string_lossy().into_owned();
    let title = title(&model);
    let lines = lines(&model, &task, &parts, &title, &name);
    let unit = Unit { symbol: "sentence", nats: true };
    let describe = |folder: &Path, run: &RunConfig| {
        model.save_config(folder, &TagTraining { run: run.clone(), ..training.clone() })
    };
    let title = format!("{title} on {name}");
    let about = About { task: tag::NAME, title, lines, unit, sample: None, describe: &describe };
    let session = Session { args: &args.run, config: training.run.clone(), about, resumed };
    let Some(mut ended) = session.run(&engine, &task)? else { return Ok(ExitCode::SUCCESS) };
    let weights = model.load_weights(&ended.best)?;
    let lists = [("validation", &parts.validation), ("test", &parts.test)];
    let lists: Vec<_> = lists.into_iter().filter(|(_, list)| !list.is_empty()).collect();
    let (said, measures) = pictures(&mut ended.report, &device, &model, &weights, &lists)?;
    let report = ended.write()?;
    if args.run.json {
        print_line(&json_line(&measures)?)?;
    } else {
        said.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("the report:     {}", report.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn title(model: &TagModel) -> String {
    let config = model.config();
    let crf = if config.features.chained { " + CRF" } else { "" };
    format!("{}{crf}", config.recurrent.title())
}

fn lines(model: &TagModel, task: &TagTask, parts: &Parts, title: &str, name: &str) -> Vec<String> {
    let (config, buckets) = (model.config(), task.buckets());
    let shapes: Vec<String> =
        buckets.shapes().iter().map(|[time, batch]| format!("{time}x{batch}")).collect();
    let words = |list: &[Sentence]| list.iter().map(|s| s.tokens.len()).sum::<usize>();
    let intents = match config.intents.len() {
        0 => String::new(),
        n => format!(", {n} intents"),
    };
    vec![
        format!("model    {title}: {} parameters", model.parameter_count()),
        format!(
            "words    {} known, {} characters; {} tags ({}){intents}",
            config.words.len(),
            config.characters.chars().count(),
            config.tags.len(),
            config.scheme.name()
        ),
        format!(
            "data     {name}: {} sentences of {} words; {} for validation, {} to test",
            parts.training.len(),
            words(&parts.training),
            parts.validation.len(),
            parts.test.len()
        ),
        format!(
            "batch    {} a pass, of {} words by sentences; {:.0} % is padding",
            buckets.count(),
            shapes.join(", "),
            100.0 * buckets.padding()
        ),
    ]
}

/// What flows through a trained model in the first batch of sentences: its own, or others.
pub fn look(folder: &Path, data: Option<&Path>, engine: &Engine) -> Result<View> {
    let (model, mut training): (TagModel, TagTraining) = trained(folder)?;
    let weights = model.load_weights(folder)?;
    if let Some(data) = data {
        training.data = vec![data.to_path_buf()];
    }
    let sentences = training.read(&training.data)?;
    let parts = Parts { training: sentences, validation: Vec::new(), test: Vec::new() };
    let task = training.task(model, &parts)?;
    crate::microscope::look(engine, &task, &weights, training.run.seed)
}
