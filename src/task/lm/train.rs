//! A language model with the text it is trained on.

use super::LanguageModel;
use crate::data::Streams;
use crate::error::{Error, Result};
use crate::layer::{InitialState, Recurrent};
use crate::loss::cross_entropy;
use crate::schedule::Recorder;
use crate::task::TaskModel;
use crate::tensor::NamedTensors;
use crate::train::{Feed, Phase, Task};
use std::collections::BTreeMap;

const IDS: &str = "ids";
const TARGETS: &str = "targets";

/// A language model with the text it is trained on: truncated backpropagation through time over parallel streams.
pub struct LanguageTask {
    model: LanguageModel,
    training: Streams,
    validation: Streams,
}

impl LanguageTask {
    /// Trains `model` on `text`, in windows of `time` tokens, `batch` streams side by side. The
    /// last tenth of the text is for validation.
    ///
    /// # Errors
    /// A text that is too short, or with characters that the model does not know.
    pub fn new(model: LanguageModel, text: &str, time: usize, batch: usize) -> Result<Self> {
        let mut tokens = model.vocabulary().encode(text)?;
        let held_out = tokens.split_off(tokens.len() - tokens.len() / 10);
        Self::of_tokens(model, tokens, held_out, [time, batch])
    }

    /// The same with tokens for training and others for validation.
    ///
    /// # Errors
    /// Too few tokens of either.
    pub fn of_tokens(
        model: LanguageModel,
        training: Vec<u32>,
        validation: Vec<u32>,
        [time, batch]: [usize; 2],
    ) -> Result<Self> {
        let part = |name: &str, e: Error| Error::invalid(format!("{name}: {e}"));
        let training = Streams::new(training, time, batch).map_err(|e| part("training", e))?;
        let validation =
            Streams::fitting(validation, time, batch).map_err(|e| part("validation", e))?;
        Ok(LanguageTask { model, training, validation })
    }

    /// The same with gradients that go back over `back` steps, T of them at least: each window begins so many steps
    /// before those whose loss counts (BPTT(h; h′), Williams and Peng 1990, h = `back`, h′ = T).
    ///
    /// # Errors
    /// Fewer steps than T, or a text that is too short.
    pub fn with_back(mut self, back: usize) -> Result<Self> {
        self.training = self.training.with_lead(back)?;
        Ok(self)
    }

    /// The model.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    fn window(&self, phase: Phase, window: u64, offset: usize) -> Feed {
        let streams = match phase {
            Phase::Training => &self.training,
            Phase::Validation => &self.validation,
        };
        let mut inputs = vec![0; (streams.lead() + streams.time()) * streams.batch()];
        let mut targets = vec![0; streams.time() * streams.batch()];
        streams.window(window as usize, offset, &mut inputs, &mut targets);
        let mut feed = Feed::new(0);
        feed.put(IDS, inputs);
        feed.put(TARGETS, targets);
        feed
    }
}

impl Task for LanguageTask {
    fn record(&self, rec: &mut Recorder, phase: Phase, _shape: usize) -> Result<()> {
        let (streams, prefix) = match phase {
            Phase::Training => (&self.training, "state"),
            Phase::Validation => (&self.validation, "state.validation"),
        };
        let (time, lead, batch) = (streams.time(), streams.lead(), streams.batch());
        let ids = rec.input_ids(IDS, (lead + time) * batch)?;
        let targets = rec.input_ids(TARGETS, time * batch)?;
        let prefix = prefix.to_string();
        let initial = match lead {
            0 => InitialState::Carried(prefix),
            _ => InitialState::CarriedFrom(prefix, time),
        };
        let logits = self.model.record_tail(rec, ids, [lead + time, batch], &initial, lead)?;
        cross_entropy(rec, logits, targets)
    }

    fn initial_weights(&self, seed: u64) -> NamedTensors {
        self.model.initial_weights(seed)
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.model.weight_shapes()
    }

    fn batches_per_epoch(&self) -> u64 {
        self.training.windows() as u64
    }

    /// Each pass starts at another offset, so that windows are cut at other places.
    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed> {
        if phase == Phase::Validation {
            return Ok(self.window(phase, batch, 0));
        }
        let windows = self.batches_per_epoch();
        let (epoch, window) = (batch / windows, batch % windows);
        let mixed = (seed ^ epoch).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let offset = mixed as usize % self.training.time();
        Ok(self.window(phase, window, offset))
    }

    fn validation_batches(&self) -> u64 {
        self.validation.windows() as u64
    }

    fn symbols_per_batch(&self) -> u64 {
        (self.training.time() * self.training.batch()) as u64
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        vec![self.model.recurrent()]
    }

    fn symbol(&self) -> &'static str {
        self.model.vocabulary().tokens().singular()
    }
}
