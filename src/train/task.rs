//! What is trained.

use super::Feed;
use crate::error::Result;
use crate::layer::Recurrent;
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;
use std::collections::BTreeMap;

/// Recurrent states that a task carries from window to window have names that start so.
pub const STATE_PREFIX: &str = "state.";

/// Which data a recording is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Training batches.
    Training,
    /// Validation batches. Recurrent states have other names than in training.
    Validation,
}

/// What is trained: its model and its data.
pub trait Task: Sync {
    /// Records the model over one batch of a shape, and its loss, in the output [`LOSS`](crate::loss::LOSS).
    /// Whether a training step or inference is recorded, the recorder knows; the trainer records backward and
    /// the optimizer.
    ///
    /// # Errors
    /// Sizes that make no sense.
    fn record(&self, rec: &mut Recorder, phase: Phase, shape: usize) -> Result<()>;
    /// How many shapes batches have: each is recorded once. A task that carries states has one.
    fn shapes(&self, phase: Phase) -> usize {
        let _ = phase;
        1
    }
    /// Initial weights by their names.
    fn initial_weights(&self, seed: u64) -> NamedTensors;
    /// The shapes of the weights by their names.
    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>>;
    /// Training batches in one pass over the data.
    fn batches_per_epoch(&self) -> u64;
    /// A batch: of training number `batch` (from 0, counted over all passes) under a seed, or of
    /// validation data, of which every evaluation has the same. What it holds depends on these
    /// alone, as another thread makes batches before their steps, and a run that is resumed makes
    /// them again.
    ///
    /// # Errors
    /// The data can't be read.
    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed>;
    /// Validation batches of one evaluation; none: the task has no data for it.
    fn validation_batches(&self) -> u64;
    /// What a validation batch's mean loss counts in the mean over all: the elements that take part in it.
    fn validation_weight(&self, batch: u64) -> f64 {
        let _ = batch;
        1.0
    }
    /// Symbols (characters, words, time steps) that one training batch has, on average.
    fn symbols_per_batch(&self) -> u64;
    /// The recurrent layers that [`Task::record`] records, for the [`Microscope`](super::Microscope).
    fn recurrent(&self) -> Vec<&Recurrent> {
        Vec::new()
    }
    /// What a symbol is called, in the singular.
    fn symbol(&self) -> &'static str {
        "symbol"
    }
}
