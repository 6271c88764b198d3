//! Embedding or scaled numbers, recurrent layers, pooling over time, linear: a model of classes.

use super::score::most_frequent;
use super::text::TextConfig;
use super::{ClassScore, Content, Examples, NAME, Scaling, ScalingKind};
use crate::data::{Tokens, Vocabulary};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::layer::Memory;
use crate::model::{Model, Sequences, Sequential, Stack};
use crate::task::logits::softmax;
use crate::task::{RecurrentConfig, TaskModel};
use crate::tensor::NamedTensors;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

/// The width of a token's vector, where nothing else is asked for.
const EMBEDDING: usize = 64;
/// Words of a vocabulary at most, where nothing else is asked for.
const MOST_WORDS: usize = 20_000;

/// How the states of all steps become one row a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// The last state; of layers that go both ways the last one of each direction.
    Last,
    /// The mean over the steps.
    #[default]
    Mean,
    /// The largest over the steps, column by column.
    Max,
}

impl Pool {
    /// All of them.
    pub const ALL: [Pool; 3] = [Pool::Last, Pool::Mean, Pool::Max];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Pool::Last => "last",
            Pool::Mean => "mean",
            Pool::Max => "max",
        }
    }
}

impl FromStr for Pool {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Pool::ALL.into_iter().find(|pool| pool.name() == name);
        found.ok_or_else(|| Error::invalid(format!("unknown pooling '{name}'; last, mean or max")))
    }
}

/// What a model reads at each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "lowercase")]
pub enum InputConfig {
    /// A token of a text.
    Text(TextConfig),
    /// Numbers, scaled.
    Numbers(Scaling),
}

/// What a model of classes is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassConfig {
    /// What it reads.
    #[serde(flatten)]
    pub input: InputConfig,
    /// Its layers.
    #[serde(flatten)]
    pub recurrent: RecurrentConfig,
    /// From steps to one row a sequence.
    #[serde(default)]
    pub pool: Pool,
    /// Dropout on what the recurrent layers read.
    #[serde(default)]
    pub input_dropout: f32,
    /// Steps beyond so many are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest: Option<usize>,
    /// The classes C.
    pub classes: Vec<String>,
    /// How many training sequences each class had: what guessing would go by.
    pub counts: Vec<u64>,
}

impl ClassConfig {
    /// For examples like these, with what else there is to choose at its default: words that occur twice as vectors of
    /// 64, numbers each scaled, the mean over time.
    ///
    /// # Errors
    /// Fewer than two classes; no word twice.
    pub fn new(training: &Examples, recurrent: RecurrentConfig) -> Result<Self> {
        let input = match training.content() {
            Content::Texts(list) => {
                let sizes = [MOST_WORDS, 2];
                let text = TextConfig::over(list, Tokens::Words, false, sizes, EMBEDDING)?;
                InputConfig::Text(text)
            }
            Content::Numbers { width, list } => {
                InputConfig::Numbers(Scaling::over(ScalingKind::Each, *width, list))
            }
        };
        let (classes, counts) = training.classes();
        let config = ClassConfig {
            input,
            recurrent,
            pool: Pool::default(),
            input_dropout: 0.0,
            longest: None,
            classes,
            counts,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let distinct: BTreeSet<&String> = self.classes.iter().collect();
        if self.classes.len() < 2 {
            let one = self.classes.first().map_or(String::new(), |class| format!(" ('{class}')"));
            let what = format!("there are {} classes{one}, two are needed", self.classes.len());
            return Err(Error::invalid(what));
        }
        if distinct.len() < self.classes.len() || self.counts.len() != self.classes.len() {
            return Err(Error::invalid("a class is there twice, or has no count"));
        }
        if self.counts.iter().sum::<u64>() == 0 {
            return Err(Error::invalid("no class has any sequence"));
        }
        if self.longest == Some(0) {
            return Err(Error::invalid("sequences have one step at least"));
        }
        Ok(())
    }

    /// The most frequent class in training and its share there: what guessing says.
    pub fn most_frequent(&self) -> (&str, f64) {
        let most = most_frequent(&self.counts);
        let label = self.classes.get(most).map_or("", String::as_str);
        let all = self.counts.iter().sum::<u64>().max(1) as f64;
        (label, self.counts.get(most).map_or(0.0, |&n| n as f64 / all))
    }

    /// As in `gru 1x64, mean over time`.
    pub fn title(&self) -> String {
        let pool = match self.pool {
            Pool::Last => "last state",
            Pool::Mean => "mean over time",
            Pool::Max => "largest over time",
        };
        format!("{}, {pool}", self.recurrent.title())
    }
}

/// A model of classes: its layers.
#[derive(Clone, Debug)]
pub struct ClassModel {
    config: ClassConfig,
    model: Arc<Model>,
    vocabulary: Option<Vocabulary>,
}

impl ClassModel {
    fn build(config: ClassConfig, memory: Memory) -> Result<Self> {
        config.check()?;
        let (layers, vocabulary) = match &config.input {
            InputConfig::Text(text) => {
                let vocabulary = text.vocabulary()?;
                let layers = Sequential::tokens(vocabulary.len()).embedding(text.embedding);
                (layers, Some(vocabulary))
            }
            InputConfig::Numbers(scaling) => {
                scaling.check()?;
                (Sequential::values(scaling.width()), None)
            }
        };
        let layers = match config.input_dropout {
            0.0 => layers,
            rate => layers.dropout(rate),
        };
        let (mut recurrent, init) = config.recurrent.build(layers.width())?;
        recurrent.memory = memory;
        let layers = layers.layer(Stack { recurrent, init });
        let layers = match (config.pool, config.recurrent.both) {
            (Pool::Last, false) => layers.last_step(),
            (Pool::Last, true) => layers.both_ends(),
            (Pool::Mean, _) => layers.mean_over_time(),
            (Pool::Max, _) => layers.max_over_time(),
        };
        let layers = match config.recurrent.dropout {
            0.0 => layers,
            rate => layers.dropout(rate),
        };
        let model = Arc::new(layers.linear(config.classes.len()).build()?);
        Ok(ClassModel { config, model, vocabulary })
    }

    /// The same model, keeping so much between forward and backward.
    ///
    /// # Errors
    /// None: the model was built before.
    pub fn with_memory(self, memory: Memory) -> Result<Self> {
        Self::build(self.config, memory)
    }

    /// The layers.
    pub fn layers(&self) -> &Model {
        &self.model
    }

    /// Sequences as the layers read them: token ids, or scaled numbers, cut where they are too long.
    ///
    /// # Errors
    /// They are of another kind or width than the model reads.
    pub fn sequences(&self, content: &Content) -> Result<Sequences> {
        let longest = self.config.longest.unwrap_or(usize::MAX);
        match (&self.config.input, &self.vocabulary, content) {
            (InputConfig::Text(text), Some(vocabulary), Content::Texts(list)) => {
                let ids = |own: &String| {
                    let mut ids = text.encode(vocabulary, own);
                    ids.truncate(longest);
                    ids
                };
                Ok(Sequences::tokens(list.iter().map(ids).collect()))
            }
            (InputConfig::Numbers(scaling), _, Content::Numbers { width, list })
                if scaling.width() == *width =>
            {
                let scaled = |own: &Vec<f32>| {
                    let end = longest.saturating_mul(*width).min(own.len());
                    scaling.apply(&own[..end])
                };
                Ok(Sequences::values(*width, list.iter().map(scaled).collect()))
            }
            (input, _, content) => {
                let reads = match input {
                    InputConfig::Text(_) => "texts".to_string(),
                    InputConfig::Numbers(scaling) => format!("{} values a step", scaling.width()),
                };
                let what = format!("the model reads {reads}, and these are {}", content.kind());
                Err(Error::invalid(what))
            }
        }
    }

    /// How likely the model finds each class of each sequence, \[C\] each.
    ///
    /// # Errors
    /// As [`ClassModel::sequences`]; weights of another model; the device failed.
    pub fn probabilities(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        content: &Content,
    ) -> Result<Vec<Vec<f64>>> {
        if content.is_empty() {
            return Ok(Vec::new());
        }
        let trained = self.model.with_weights(weights.clone())?;
        let logits = trained.predict(engine, &self.sequences(content)?)?;
        Ok(logits.iter().map(|row| softmax(row)).collect())
    }

    /// How well the model does on examples.
    ///
    /// # Errors
    /// As [`ClassModel::probabilities`]; no example; no label that is one of the model's: file and line are named.
    pub fn score(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        examples: &Examples,
    ) -> Result<ClassScore> {
        let targets = examples.known_targets(&self.config.classes)?;
        if targets.iter().all(Option::is_none) {
            examples.targets(&self.config.classes)?;
        }
        let lengths = self.sequences(examples.content())?.lengths()?;
        let probabilities = self.probabilities(engine, weights, examples.content())?;
        let ClassConfig { classes, counts, .. } = &self.config;
        ClassScore::new(classes, counts, &targets, &probabilities, &lengths)
    }
}

impl TaskModel for ClassModel {
    const TASK: &'static str = NAME;
    type Config = ClassConfig;

    /// A model from its configuration.
    ///
    /// # Errors
    /// As [`RecurrentConfig::build`]; fewer than two classes, a vocabulary or scaling that makes no sense.
    fn new(config: ClassConfig) -> Result<Self> {
        Self::build(config, Memory::Keep)
    }

    fn config(&self) -> &ClassConfig {
        &self.config
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.model.parameter_shapes().clone()
    }
}
