//! Embedding, recurrent layers, linear; its folder.

use super::NAME;
use crate::cell::CellKind;
use crate::data::{Tokens, Vocabulary, VocabularyText};
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::layer::{
    Embedding, InitialState, Initializer, Linear, Memory, Recurrent, RecurrentInit,
};
use crate::schedule::{Recorder, Var};
use crate::task::network::{is_false, is_zero};
use crate::task::{RecurrentConfig, TaskModel};
use crate::tensor::NamedTensors;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a language model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// `lstm`, `gru`, `rnn_tanh` …
    pub cell: String,
    /// Width of the embedding E.
    pub embedding: usize,
    /// Hidden units H.
    pub hidden: usize,
    /// Layers L.
    pub layers: usize,
    /// Dropout between the layers, and before the linear one.
    pub dropout: f32,
    /// How texts are cut.
    #[serde(default)]
    pub tokens: Tokens,
    /// The tokens, in the order of their numbers.
    pub vocabulary: VocabularyText,
    /// The linear layer's weights are the embedding's (Press and Wolf 2017; Inan 2017): E is H then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tied: bool,
    /// Layer norm in the cell (Ba 2016).
    #[serde(default, skip_serializing_if = "is_false")]
    pub layer_norm: bool,
    /// Dropout on the recurrent weights (Merity 2017).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight_drop: f32,
    /// Where an LSTM's forget gate starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_bias: Option<f32>,
    /// Recurrent weights start orthogonal, each gate by itself (Saxe 2014).
    #[serde(default, skip_serializing_if = "is_false")]
    pub orthogonal: bool,
}

impl ModelConfig {
    /// An LSTM of 2 layers of 128 over these tokens, without options.
    pub fn new(vocabulary: &Vocabulary) -> Self {
        ModelConfig {
            cell: CellKind::Lstm.name().to_string(),
            embedding: 128,
            hidden: 128,
            layers: 2,
            dropout: 0.0,
            tokens: vocabulary.tokens(),
            vocabulary: vocabulary.text(),
            tied: false,
            layer_norm: false,
            weight_drop: 0.0,
            forget_bias: None,
            orthogonal: false,
        }
    }
}

impl ModelConfig {
    /// The recurrent layers among it.
    pub fn recurrent(&self) -> RecurrentConfig {
        RecurrentConfig {
            cell: self.cell.clone(),
            hidden: self.hidden,
            layers: self.layers,
            dropout: self.dropout,
            both: false,
            layer_norm: self.layer_norm,
            weight_drop: self.weight_drop,
            forget_bias: self.forget_bias,
            orthogonal: self.orthogonal,
        }
    }
}

/// A language model: its layers and its vocabulary.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    config: ModelConfig,
    vocabulary: Vocabulary,
    embedding: Embedding,
    recurrent: Recurrent,
    linear: Linear,
    init: RecurrentInit,
}

impl LanguageModel {
    /// The same model, keeping so much between forward and backward.
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.recurrent.memory = memory;
        self
    }

    /// The tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The recurrent layers.
    pub fn recurrent(&self) -> &Recurrent {
        &self.recurrent
    }

    /// Logits \[T·B, V\] of tokens `ids` \[T·B\], states carried under `prefix`.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn record(
        &self,
        rec: &mut Recorder,
        ids: View,
        shape: [usize; 2],
        prefix: &str,
    ) -> Result<Var> {
        self.record_tail(rec, ids, shape, &InitialState::Carried(prefix.to_string()), 0)
    }

    /// The same from given states, with logits of the steps from `first` on alone.
    ///
    /// # Errors
    /// As [`LanguageModel::record`]; no step is left.
    pub fn record_tail(
        &self,
        rec: &mut Recorder,
        ids: View,
        shape: [usize; 2],
        initial: &InitialState,
        first: usize,
    ) -> Result<Var> {
        let x = self.embedding.record(rec, ids)?;
        let h = self.recurrent.record(rec, x, shape, initial)?;
        let h = rec.tail(h.output, first * shape[1])?;
        let h = rec.dropout(h, self.config.dropout)?;
        self.linear.record(rec, h)
    }

    /// Initial weights as PyTorch's modules draw them, but for what the configuration says.
    pub fn initial_weights(&self, seed: u64) -> NamedTensors {
        let mut generator = Initializer::new(seed);
        let mut weights = NamedTensors::new();
        self.embedding.init(&mut generator, &mut weights);
        // Refused in `new`, if at all.
        let _ = self.recurrent.init_with(self.init, &mut generator, &mut weights);
        self.linear.init(&mut generator, &mut weights);
        weights
    }

    /// The name of the linear layer's weights.
    pub fn output_weight(&self) -> String {
        self.linear.weight_name()
    }
}

impl TaskModel for LanguageModel {
    const TASK: &'static str = NAME;
    type Config = ModelConfig;

    /// A model from its configuration.
    ///
    /// # Errors
    /// An unknown cell, a size of zero, a rate outside \[0, 1), a vocabulary out of order, options that don't
    /// fit together.
    fn new(config: ModelConfig) -> Result<Self> {
        if config.embedding == 0 {
            return Err(Error::invalid("the embedding width must be at least 1"));
        }
        if config.tied && config.embedding != config.hidden {
            return Err(Error::invalid(format!(
                "tied weights need an embedding as wide as the hidden size, {}, not {}",
                config.hidden, config.embedding
            )));
        }
        let vocabulary = Vocabulary::from_text(config.tokens, &config.vocabulary)?;
        let embedding = Embedding {
            name: "embedding".to_string(),
            vocabulary: vocabulary.len(),
            width: config.embedding,
        };
        let (recurrent, init) = config.recurrent().build(config.embedding)?;
        let mut linear = Linear::new("linear", config.hidden, vocabulary.len());
        linear.shared = config.tied.then(|| embedding.weight_name());
        Ok(LanguageModel { embedding, recurrent, linear, init, vocabulary, config })
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let (v, e, h) = (self.vocabulary.len(), self.config.embedding, self.config.hidden);
        let mut shapes = BTreeMap::from([
            (self.embedding.weight_name(), vec![v, e]),
            (self.linear.weight_name(), vec![v, h]),
            ("linear.bias".to_string(), vec![v]),
        ]);
        shapes.extend(self.recurrent.all_parameters().into_iter().map(|p| (p.name, p.shape)));
        shapes
    }
}
