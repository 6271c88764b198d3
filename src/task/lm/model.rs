//! Embedding, recurrent layers, linear; its training and validation steps; its folder.

use crate::cell::CellKind;
use crate::data::{Streams, Vocabulary};
use crate::engine::Inputs;
use crate::error::{Error, Result};
use crate::format::{read_tensors, write_atomic};
use crate::layer::{Embedding, InitialState, Initializer, Linear, Memory, Recurrent};
use crate::loss::cross_entropy;
use crate::optim::Optimizer;
use crate::recording::Recording;
use crate::schedule::{Recorder, Var};
use crate::tensor::{NamedTensors, Precision, require_finite};
use crate::train::{CONFIG, MODEL, TRAINING, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the model folder's layout.
const FORMAT: u32 = 1;

/// What a language model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// `lstm`, `gru`, `rnn_tanh` or `rnn_relu`.
    pub cell: String,
    /// Width of the embedding E.
    pub embedding: usize,
    /// Hidden units H.
    pub hidden: usize,
    /// Layers L.
    pub layers: usize,
    /// Dropout between the layers, and before the linear one.
    pub dropout: f32,
    /// The characters, in the order of their numbers.
    pub vocabulary: String,
}

/// The content of `config.json`.
#[derive(Serialize, Deserialize)]
struct Folder {
    format: u32,
    task: String,
    model: ModelConfig,
    /// How it is trained; whoever trains reads it, others ignore it.
    training: serde_json::Value,
}

/// A language model: its layers and its vocabulary.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: ModelConfig,
    vocabulary: Vocabulary,
    embedding: Embedding,
    recurrent: Recurrent,
    linear: Linear,
}

impl LanguageModel {
    /// A model from its configuration.
    ///
    /// # Errors
    /// An unknown cell, a size of zero, a rate outside \[0, 1), a vocabulary out of order.
    pub fn new(config: ModelConfig) -> Result<Self> {
        let cell = CellKind::ALL.into_iter().find(|c| c.name() == config.cell);
        let cell = cell.ok_or_else(|| {
            let known: Vec<_> = CellKind::ALL.iter().map(|c| c.name()).collect();
            Error::invalid(format!(
                "unknown cell '{}'; there are {}",
                config.cell,
                known.join(", ")
            ))
        })?;
        let sizes = [
            ("embedding width", config.embedding),
            ("hidden size", config.hidden),
            ("number of layers", config.layers),
        ];
        if let Some((what, _)) = sizes.iter().find(|s| s.1 == 0) {
            return Err(Error::invalid(format!("the {what} must be at least 1")));
        }
        if !(0.0..1.0).contains(&config.dropout) {
            let rate = config.dropout;
            return Err(Error::invalid(format!("the dropout rate must be in [0, 1), not {rate}")));
        }
        let vocabulary = Vocabulary::from_characters(&config.vocabulary)?;
        let stem = match cell {
            CellKind::Lstm => "lstm",
            CellKind::Gru => "gru",
            CellKind::RnnTanh | CellKind::RnnRelu => "rnn",
            other => other.name(),
        };
        Ok(LanguageModel {
            embedding: Embedding {
                name: "embedding".to_string(),
                vocabulary: vocabulary.len(),
                width: config.embedding,
            },
            recurrent: Recurrent {
                layers: config.layers,
                dropout: config.dropout,
                ..Recurrent::new(stem, cell, config.embedding, config.hidden)
            },
            linear: Linear::new("linear", config.hidden, vocabulary.len()),
            vocabulary,
            config,
        })
    }

    /// The same model, keeping so much between forward and backward.
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.recurrent.memory = memory;
        self
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The characters.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Logits \[T·B, V\] of tokens `ids` \[T·B\], states carried under `prefix`.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn record(
        &self,
        rec: &mut Recorder,
        ids: crate::kernel::View,
        shape: [usize; 2],
        prefix: &str,
    ) -> Result<Var> {
        let x = self.embedding.record(rec, ids)?;
        let initial = InitialState::Carried(prefix.to_string());
        let h = self.recurrent.record(rec, x, shape, &initial)?;
        let h = rec.dropout(h.output, self.config.dropout)?;
        self.linear.record(rec, h)
    }

    /// Initial weights as PyTorch's modules draw them.
    pub fn initial_weights(&self, seed: u64) -> NamedTensors {
        let mut generator = Initializer::new(seed);
        let mut weights = NamedTensors::new();
        self.embedding.init(&mut generator, &mut weights);
        self.recurrent.init(&mut generator, &mut weights);
        self.linear.init(&mut generator, &mut weights);
        weights
    }

    /// The shapes of all weights by name.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let (v, e, h) = (self.vocabulary.len(), self.config.embedding, self.config.hidden);
        let mut shapes = BTreeMap::from([
            ("embedding.weight".to_string(), vec![v, e]),
            ("linear.weight".to_string(), vec![v, h]),
            ("linear.bias".to_string(), vec![v]),
        ]);
        shapes.extend(self.recurrent.all_parameters().into_iter().map(|p| (p.name, p.shape)));
        shapes
    }

    /// How many numbers the model learns.
    pub fn parameter_count(&self) -> u64 {
        let size = |shape: &Vec<usize>| shape.iter().map(|&n| n as u64).product::<u64>();
        self.weight_shapes().values().map(size).sum()
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub fn save_config(&self, folder: &Path, training: &impl Serialize) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        let path = folder.join(CONFIG);
        let bad = |e: serde_json::Error| Error::format(&path, e.to_string());
        let content = Folder {
            format: FORMAT,
            task: "lm".to_string(),
            model: self.config.clone(),
            training: serde_json::to_value(training).map_err(bad)?,
        };
        let text = serde_json::to_string_pretty(&content).map_err(bad)?;
        write_atomic(&path, (text + "\n").as_bytes())
    }

    /// Reads `config.json`: the model, and how it was trained.
    ///
    /// # Errors
    /// The folder holds no model, another task's, or another version's.
    pub fn load_config(folder: &Path) -> Result<(Self, serde_json::Value)> {
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, "read", e))?;
        let bad = |e: serde_json::Error| Error::format(&path, e.to_string());
        let content: Folder = serde_json::from_str(&text).map_err(bad)?;
        if content.format != FORMAT || content.task != "lm" {
            return Err(Error::format(
                &path,
                format!(
                    "a model of task '{}', format {}; this program reads task 'lm', format {FORMAT}",
                    content.task, content.format
                ),
            ));
        }
        Ok((Self::new(content.model)?, content.training))
    }

    /// Reads `model.safetensors` and checks that it is this model's.
    ///
    /// # Errors
    /// The file is absent or cut short; a tensor is missing, unknown, of another shape, or holds a value
    /// that is NaN or infinite.
    pub fn load_weights(&self, folder: &Path) -> Result<NamedTensors> {
        let path = folder.join(MODEL);
        if !path.exists() && folder.join(TRAINING).exists() {
            let reason =
                "this folder holds an ensemble: name one of the models in it, FOLDER/seed-SEED";
            return Err(Error::format(folder, reason));
        }
        let tensors = read_tensors(&path)?.tensors;
        let shapes = self.weight_shapes();
        for (name, shape) in &shapes {
            let tensor = tensors.get(name).ok_or_else(|| Error::Missing {
                tensor: name.clone(),
                place: path.display().to_string(),
            })?;
            if tensor.shape() != shape.as_slice() {
                let reason = format!(
                    "tensor '{name}' has shape {:?}, but {CONFIG} asks for {shape:?}",
                    tensor.shape()
                );
                return Err(Error::format(path, reason));
            }
            let finite = require_finite(name, tensor.view());
            finite.map_err(|e| Error::format(&path, e.to_string()))?;
        }
        if let Some(name) = tensors.keys().find(|name| !shapes.contains_key(*name)) {
            return Err(Error::format(path, format!("unknown tensor '{name}'")));
        }
        Ok(tensors)
    }
}

const IDS: &str = "ids";
const TARGETS: &str = "targets";

/// A language model with the text it is trained on.
pub struct LanguageTask {
    model: LanguageModel,
    training: Streams,
    validation: Streams,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    precision: Precision,
}

impl LanguageTask {
    /// Trains `model` on `text`, in windows of `time` characters, `batch` streams side by side. The
    /// last tenth of the text is for validation.
    ///
    /// # Errors
    /// A text that is too short, or with characters that the model does not know.
    pub fn new(model: LanguageModel, text: &str, time: usize, batch: usize) -> Result<Self> {
        let mut tokens = model.vocabulary.encode(text)?;
        let held_out = tokens.split_off(tokens.len() - tokens.len() / 10);
        let training = Streams::new(tokens, time, batch)?;
        let validation = Streams::fitting(held_out, time, batch)?;
        Ok(LanguageTask {
            model,
            training,
            validation,
            inputs: Vec::new(),
            targets: Vec::new(),
            precision: Precision::F32,
        })
    }

    /// The same with activations and products in another precision, for training and validation.
    pub fn with_precision(self, precision: Precision) -> Self {
        LanguageTask { precision, ..self }
    }

    /// The model.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    fn record(&self, rec: &mut Recorder, streams: &Streams, prefix: &str) -> Result<()> {
        let shape = [streams.time(), streams.batch()];
        let ids = rec.input_ids(IDS, shape[0] * shape[1])?;
        let targets = rec.input_ids(TARGETS, shape[0] * shape[1])?;
        let logits = self.model.record(rec, ids, shape, prefix)?;
        cross_entropy(rec, logits, targets)
    }

    fn feed_window(
        &mut self,
        inputs: &mut Inputs,
        training: bool,
        window: u64,
        offset: usize,
    ) -> Result<()> {
        let streams = if training { &self.training } else { &self.validation };
        let words = streams.time() * streams.batch();
        self.inputs.resize(words, 0);
        self.targets.resize(words, 0);
        streams.window(window as usize, offset, &mut self.inputs, &mut self.targets);
        let (ids, targets) = (inputs.find(IDS)?, inputs.find(TARGETS)?);
        inputs.write_u32(ids, &self.inputs)?;
        inputs.write_u32(targets, &self.targets)
    }
}

impl Task for LanguageTask {
    fn record_training(&self, optimizer: &Optimizer, max_norm: Option<f32>) -> Result<Recording> {
        let mut rec = Recorder::training().with_precision(self.precision);
        self.record(&mut rec, &self.training, "state")?;
        rec.backward()?;
        optimizer.record(&mut rec, max_norm)?;
        Ok(rec.finish())
    }

    fn record_validation(&self) -> Result<Recording> {
        let mut rec = Recorder::inference().with_precision(self.precision);
        self.record(&mut rec, &self.validation, "state.validation")?;
        Ok(rec.finish())
    }

    fn initial_weights(&self, seed: u64) -> NamedTensors {
        self.model.initial_weights(seed)
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.model.weight_shapes()
    }

    fn steps_per_epoch(&self) -> u64 {
        self.training.windows() as u64
    }

    /// Each pass starts at another offset, so that windows are cut at other places.
    fn feed(&mut self, inputs: &mut Inputs, step: u64, seed: u64) -> Result<()> {
        let windows = self.steps_per_epoch();
        let (epoch, window) = (step / windows, step % windows);
        let mixed = (seed ^ epoch).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let offset = mixed as usize % self.training.time();
        self.feed_window(inputs, true, window, offset)
    }

    fn validation_batches(&self) -> u64 {
        self.validation.windows() as u64
    }

    fn feed_validation(&mut self, inputs: &mut Inputs, batch: u64) -> Result<()> {
        self.feed_window(inputs, false, batch, 0)
    }

    fn symbols_per_step(&self) -> u64 {
        (self.training.time() * self.training.batch()) as u64
    }
}
