//! `recurra train classify`.

mod data;
pub mod report;

use super::folder::{take_up, trained};
use super::network::NetworkArgs;
use super::options::{RunArgs, RunConfig, rate, size};
use super::session::{About, Session, Unit};
use crate::args::{json_line, print_line};
use clap::Args;
pub use data::ClassTraining;
use data::{Files, Parts};
use recurra::data::Tokens;
use recurra::engine::Engine;
use recurra::task::TaskModel;
use recurra::task::classify::{
    self, ClassConfig, ClassData, ClassLoss, ClassModel, Content, Examples, Format, InputConfig,
    Pool, Reading, Scaling, ScalingKind, TextConfig,
};
use recurra::train::{Task, View};
use recurra::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// Passes over the sequences of the default job.
const DEFAULT_EPOCHS: u64 = 60;

/// A label for each sequence, of text or of numbers.
///
/// Embedding or scaled numbers, recurrent layers, pooling over time, linear.
#[derive(Args)]
pub struct ClassArgs {
    /// Sequences with labels: text TAB label; a table (.csv) with a column of texts, or of numbers; __label__x text;
    /// .ts; IDX or NumPy arrays; blocks of numbers. Also compressed (.gz)
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "resume")]
    pub data: Vec<PathBuf>,
    /// The labels of --data, where they lie in files of their own: one for each
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub labels: Vec<PathBuf>,
    /// Other sequences to choose the best weights by [default: a share of --data, --hold-out]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub validation: Vec<PathBuf>,
    /// The labels of --validation
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "validation")]
    pub validation_labels: Vec<PathBuf>,
    /// Other sequences to measure by at the end
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub test: Vec<PathBuf>,
    /// The labels of --test
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "test")]
    pub test_labels: Vec<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// From the states of all steps to one row: the last state (of --both the last of each
    /// direction), their mean, or the largest of each unit
    #[arg(long, default_value = "mean", value_name = "last|mean|max", value_parser = Pool::from_str,
          conflicts_with = "resume")]
    pub pool: Pool,
    /// Dropout on what the recurrent layers read
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = rate,
          conflicts_with = "resume")]
    pub input_dropout: f32,
    #[command(flatten)]
    learning: LearningArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What is held out.
#[derive(Args)]
struct ChoiceArgs {
    /// The share of each class that is held out to choose the best weights by; 0: none, the last weights are kept
    #[arg(long, alias = "held-out", value_name = "SHARE", default_value = "0.1", value_parser = rate,
          conflicts_with_all = ["resume", "validation"])]
    hold_out: f32,
    /// The share of each class that is held out to measure by at the end
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = rate,
          conflicts_with_all = ["resume", "test"])]
    test_share: f32,
    /// Seed of what is held out
    #[arg(long, value_name = "S", default_value = "1", conflicts_with = "resume")]
    split_seed: u64,
}

/// How files are read.
#[derive(Args)]
struct ReadingArgs {
    /// The files' form: tsv, label-tsv, fasttext, csv, wide, long, ts, idx, numpy, blocks [default: found out]
    #[arg(long, value_name = "FORM", value_parser = form, conflicts_with = "resume")]
    format: Option<Format>,
    /// A table's column of texts
    #[arg(long, value_name = "COLUMN", conflicts_with = "resume")]
    text: Option<String>,
    /// A table's column of labels, or an archive's array of them
    #[arg(long, value_name = "COLUMN", conflicts_with = "resume")]
    label: Option<String>,
    /// The column that says which sequence a line belongs to, where each line is a step
    #[arg(long, value_name = "COLUMN", conflicts_with = "resume")]
    sequence: Option<String>,
    /// The columns of values, where each line is a step [default: all others]
    #[arg(
        long,
        value_name = "COLUMN,…",
        value_delimiter = ',',
        requires = "sequence",
        conflicts_with = "resume"
    )]
    values: Vec<String>,
}

/// What a model reads at each step.
#[derive(Args)]
struct InputArgs {
    /// How texts are cut: words, characters, bytes [default: words]
    #[arg(long, value_name = "TOKENS", value_parser = tokens, conflicts_with = "resume")]
    tokens: Option<Tokens>,
    /// Capital letters stay as they are
    #[arg(long, conflicts_with = "resume")]
    keep_case: bool,
    /// Words or characters at most, the most frequent ones [default: 20000]
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    vocabulary: Option<usize>,
    /// How often a word or character must occur [default: 2]
    #[arg(long, alias = "least", value_name = "N", value_parser = size, conflicts_with = "resume")]
    min_count: Option<usize>,
    /// Width of a token's vector [default: 64]
    #[arg(long, value_name = "E", value_parser = size, conflicts_with = "resume")]
    embedding: Option<usize>,
    /// Of numbers, what is brought to mean 0 and deviation 1: each of a step's values by itself,
    /// all alike, none [default: each; of IDX all]
    #[arg(long, value_name = "each|all|none", value_parser = scaling, conflicts_with = "resume")]
    scaling: Option<ScalingKind>,
    /// Steps of a sequence; what lies beyond is left out, and said
    #[arg(long, value_name = "STEPS", value_parser = size, conflicts_with = "resume")]
    longest: Option<usize>,
}

/// How it is learned.
#[derive(Args)]
struct LearningArgs {
    /// Sequences of a batch
    #[arg(long, value_name = "B", default_value = "32", value_parser = size,
          conflicts_with = "resume")]
    batch: usize,
    /// Shapes of batches, by length [default: 4; 1 for ensembles and with --accumulate]
    #[arg(long, value_name = "N", value_parser = size, conflicts_with = "resume")]
    shapes: Option<usize>,
    /// The share of words that are read as unknown ones in training
    #[arg(long, alias = "word-dropout", value_name = "RATE", default_value = "0", value_parser = rate,
          conflicts_with = "resume")]
    token_dropout: f32,
    /// The share of a label that is spread over all classes
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = rate,
          conflicts_with = "resume")]
    label_smoothing: f32,
    /// Rare classes count as much as frequent ones
    #[arg(long, conflicts_with = "resume")]
    balance: bool,
}

fn tokens(name: &str) -> Result<Tokens, String> {
    let found = Tokens::ALL.into_iter().find(|tokens| tokens.name() == name);
    found.ok_or_else(|| "words, characters or bytes".to_string())
}

fn scaling(name: &str) -> Result<ScalingKind, String> {
    match name {
        "each" => Ok(ScalingKind::Each),
        "all" => Ok(ScalingKind::All),
        "none" => Ok(ScalingKind::None),
        _ => Err("each, all or none".to_string()),
    }
}

impl ClassArgs {
    fn training(&self) -> Result<ClassTraining> {
        let ReadingArgs { format, text, label, sequence, values } = &self.reading;
        let reading = Reading {
            format: *format,
            text: text.clone(),
            label: label.clone(),
            sequence: sequence.clone(),
            values: values.clone(),
        };
        // The parser looks over what another option needs where that one stands against a third.
        for (labels, files, what) in [
            (&self.validation_labels, &self.validation, "--validation"),
            (&self.test_labels, &self.test, "--test"),
        ] {
            if !labels.is_empty() && files.is_empty() {
                return Err(Error::Invalid(format!(
                    "{what}-labels are of {what}, which is not there"
                )));
            }
        }
        let learning = &self.learning;
        let one = self.run.ensemble > 1 || self.run.accumulate > 1;
        Ok(ClassTraining {
            data: Files::new(&self.data, &self.labels)?,
            validation: Files::new(&self.validation, &self.validation_labels)?,
            test: Files::new(&self.test, &self.test_labels)?,
            reading,
            format: None,
            columns: Vec::new(),
            hold_out: if self.validation.is_empty() { self.choice.hold_out } else { 0.0 },
            test_share: self.choice.test_share,
            split_seed: self.choice.split_seed,
            batch: learning.batch,
            shapes: learning.shapes.unwrap_or(if one { 1 } else { 4 }),
            token_dropout: learning.token_dropout,
            label_smoothing: learning.label_smoothing,
            balance: learning.balance,
            run: RunConfig::new(&self.run, 1, 1),
        })
    }

    /// A model for these sequences.
    fn model(&self, training: &Examples, format: Format) -> Result<ClassModel> {
        let own = &self.input;
        let input = match training.content() {
            Content::Texts(list) => {
                refuse(&[(own.scaling.is_some(), "--scaling")], "numbers", "texts")?;
                if own.tokens == Some(Tokens::Bytes) {
                    let listed = [
                        (own.vocabulary.is_some(), "--vocabulary"),
                        (own.min_count.is_some(), "--min-count"),
                    ];
                    refuse(&listed, "words and characters", "read as bytes")?;
                }
                InputConfig::Text(TextConfig::over(
                    list,
                    own.tokens.unwrap_or(Tokens::Words),
                    own.keep_case,
                    [own.vocabulary.unwrap_or(20_000), own.min_count.unwrap_or(2)],
                    own.embedding.unwrap_or(64),
                )?)
            }
            Content::Numbers { width, list } => {
                let of_texts = [
                    (own.tokens.is_some(), "--tokens"),
                    (own.keep_case, "--keep-case"),
                    (own.vocabulary.is_some(), "--vocabulary"),
                    (own.min_count.is_some(), "--min-count"),
                    (own.embedding.is_some(), "--embedding"),
                    (self.learning.token_dropout > 0.0, "--token-dropout"),
                ];
                refuse(&of_texts, "texts", "numbers")?;
                // Pixels at the border are nearly always black: by themselves they would be blown up.
                let usual =
                    if format == Format::Idx { ScalingKind::All } else { ScalingKind::Each };
                let kind = own.scaling.unwrap_or(usual);
                InputConfig::Numbers(Scaling::over(kind, *width, list))
            }
        };
        let (classes, counts) = training.classes();
        ClassModel::new(ClassConfig {
            input,
            recurrent: self.network.config(),
            pool: self.pool,
            input_dropout: self.input_dropout,
            longest: own.longest,
            classes,
            counts,
        })
    }
}

/// Refuses the first option that is asked for, as it is of `these`.
fn refuse(asked: &[(bool, &str)], these: &str, data: &str) -> Result<()> {
    match asked.iter().find(|(asked, _)| *asked) {
        None => Ok(()),
        Some((_, option)) => {
            Err(Error::Invalid(format!("{option} is of {these}, and the data are {data}")))
        }
    }
}

/// Refuses columns that files of this form don't have.
fn check_columns(reading: &Reading, format: Format) -> Result<()> {
    use Format::{Csv, Long, Numpy, Wide};
    let asked = [
        (reading.text.is_some(), "--text", &[Csv][..]),
        (reading.label.is_some(), "--label", &[Csv, Wide, Long, Numpy]),
        (reading.sequence.is_some(), "--sequence", &[Long]),
    ];
    match asked.into_iter().find(|(asked, _, forms)| *asked && !forms.contains(&format)) {
        None => Ok(()),
        Some((_, option, _)) => Err(Error::Invalid(format!(
            "{option} names a column, and the data have the form '{format}', which has none"
        ))),
    }
}

/// The forms that have labels.
fn form(name: &str) -> Result<Format, String> {
    let mut forms = Format::ALL.into_iter().filter(|form| *form != Format::Lines);
    forms.clone().find(|form| form.name() == name).ok_or_else(|| {
        let known: Vec<&str> = forms.by_ref().map(Format::name).collect();
        format!("there are {}", known.join(", "))
    })
}

/// The loss of a run.
fn loss(training: &ClassTraining) -> ClassLoss {
    ClassLoss {
        smoothing: training.label_smoothing,
        balance: training.balance,
        token_dropout: training.token_dropout,
    }
}

pub fn run(args: &ClassArgs) -> Result<ExitCode> {
    let (mut training, known, resumed) = match &args.run.resume {
        Some(folder) => {
            let (model, training, resumed) =
                take_up(folder, |_: &ClassModel, training: &mut ClassTraining| {
                    training.data.take(&args.data, &args.labels)?;
                    training.validation.take(&args.validation, &args.validation_labels)?;
                    training.test.take(&args.test, &args.test_labels)?;
                    training.check_same(folder)
                })?;
            (training, Some(model), Some(resumed))
        }
        None => (args.training()?, None, None),
    };
    let parts = Parts::read(&training)?;
    if resumed.is_none() {
        check_columns(&training.reading, parts.format)?;
        (training.format, training.columns) = (Some(parts.format), parts.columns.clone());
    }
    let model = match known {
        Some(model) => model,
        None => args
            .model(&parts.training, parts.format)
            .map_err(|e| Error::format(training.data.first(), e.to_string()))?,
    };
    let learner = model.clone().with_memory(args.run.memory.memory())?;
    let data =
        ClassData::new(&learner, &parts.training, parts.validation.as_ref(), loss(&training))?;
    // Before anything is trained that couldn't be measured in the end.
    if let Some(test) = &parts.test {
        test.known_targets(&model.config().classes)?;
        model.sequences(test.content()).map_err(|e| test.error_at(0, &e.to_string()))?;
    }
    let fit = data.fit(&learner, training.batch, training.shapes)?;
    if resumed.is_none() {
        let epoch = fit.batches_per_epoch();
        let steps = (epoch / args.run.accumulate as u64).max(1);
        training.run = RunConfig::new(&args.run, DEFAULT_EPOCHS * steps, epoch);
        if args.run.eval_every.is_none() {
            // Small data are known by heart after a few passes: each is looked at.
            training.run.evaluate_every = training.run.evaluate_every.min(steps);
        }
    }
    let device = args.run.device.engine()?;
    let engine = device.ensemble(training.run.ensemble)?;
    let title = format!("{} on {}", model.config().title(), training.data.title());
    let buckets = fit.buckets();
    let shapes: Vec<String> =
        buckets.shapes().iter().map(|[time, batch]| format!("{time}x{batch}")).collect();
    let mut lines = vec![format!(
        "model    {}, {} classes: {} parameters",
        model.config().title(),
        model.config().classes.len(),
        model.parameter_count()
    )];
    lines.extend(report::data_lines(&model, &training.data.title(), &parts)?);
    lines.push(format!(
        "batch    {} a pass, of {} steps by rows; {:.0} % is padding",
        buckets.count(),
        shapes.join(", "),
        100.0 * buckets.padding()
    ));
    let unit = Unit { symbol: "sequence", nats: true };
    let describe = |folder: &Path, run: &RunConfig| {
        model.save_config(folder, &ClassTraining { run: run.clone(), ..training.clone() })
    };
    let about =
        About { task: classify::NAME, title, lines, unit, sample: None, describe: &describe };
    let session = Session { args: &args.run, config: training.run.clone(), about, resumed };
    let Some(mut ended) = session.run(&engine, &fit)? else { return Ok(ExitCode::SUCCESS) };
    let weights = model.load_weights(&ended.best)?;
    let (told, scores) =
        report::add(&mut ended.report, &model, &device, &weights, &parts, &training)?;
    let page = ended.write()?;
    if args.run.json {
        print_line(&json_line(&scores)?)?;
    } else {
        told.iter().for_each(|line| eprintln!("{line}"));
        eprintln!("the report:     {}", page.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What flows through a trained model in the first batch of its sequences, or of others.
pub fn look(
    folder: &Path,
    data: Option<&Path>,
    labels: Option<&Path>,
    engine: &Engine,
) -> Result<View> {
    let (model, training): (ClassModel, ClassTraining) = trained(folder)?;
    let weights = model.load_weights(folder)?;
    let examples = match data {
        Some(file) => training.reading().read(file, labels, true)?.examples,
        None => Parts::read(&training)?.training,
    };
    let data = ClassData::new(&model, &examples, None, loss(&training))?;
    let fit = data.fit(&model, training.batch, training.shapes)?;
    crate::microscope::look(engine, &fit, &weights, training.run.seed)
}

/// A trained model, and how the files that it learned from were read.
pub fn load(folder: &Path) -> Result<(ClassModel, ClassTraining)> {
    trained(folder)
}
