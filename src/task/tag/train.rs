//! A tagger with the sentences it is trained on.

use super::batch::{Encoded, Shapes, check_lengths, put_targets, words};
use super::{Sentence, TagModel};
use crate::data::{Batch, Buckets, Draw, Passes, random};
use crate::error::{Error, Result};
use crate::layer::Recurrent;
use crate::loss::{CrossEntropyOptions, Loss, Objective, Target};
use crate::schedule::Recorder;
use crate::task::TaskModel;
use crate::tensor::NamedTensors;
use crate::train::{Feed, Phase, Task};
use rand::RngExt;
use std::collections::BTreeMap;

/// How sentences become batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batches {
    /// Words of a batch, sentences times the longest, padding among them.
    pub words: usize,
    /// Shapes of batches, at most; 1 for ensembles and micro-batches.
    pub shapes: usize,
    /// How likely a word of a training batch is taken for an unknown one, so that these are learned too.
    pub token_dropout: f32,
}

impl Default for Batches {
    fn default() -> Self {
        Batches { words: 320, shapes: 6, token_dropout: 0.05 }
    }
}

/// A tagger with the sentences it is trained on, in batches of sentences of like lengths. The loss is the mean over
/// the sentences of −log of the probability of all their tags, and of their intent, in nats.
pub struct TagTask {
    model: TagModel,
    /// For training and for validation.
    sentences: [Vec<Encoded>; 2],
    shapes: [Shapes; 2],
    passes: Passes,
    validation: Vec<Batch>,
    token_dropout: f32,
}

impl TagTask {
    /// Trains `model` on sentences; without any for `validation` nothing is evaluated.
    ///
    /// # Errors
    /// As [`TagModel::check`]; no sentence to train on; one that is longer than a batch; a rate outside \[0, 1).
    pub fn new(
        model: TagModel,
        training: &[Sentence],
        validation: &[Sentence],
        batches: Batches,
    ) -> Result<Self> {
        let Batches { words, shapes, token_dropout } = batches;
        if !(0.0..1.0).contains(&token_dropout) {
            let what = format!("the rate of token dropout must be in [0, 1), not {token_dropout}");
            return Err(Error::invalid(what));
        }
        check_lengths(training, words)?;
        let trained = model.encode(training)?;
        let own = Shapes::new(&trained, words, shapes)?;
        let held_out = model.encode(validation)?;
        let (other, in_order) = match validation.is_empty() {
            true => (own.clone(), Vec::new()),
            false => {
                check_lengths(validation, words)?;
                let other = Shapes::new(&held_out, words, shapes)?;
                let in_order = other.buckets.in_order();
                (other, in_order)
            }
        };
        Ok(TagTask {
            passes: Passes::new(own.buckets.clone()),
            sentences: [trained, held_out],
            shapes: [own, other],
            validation: in_order,
            model,
            token_dropout,
        })
    }

    /// The model.
    pub fn model(&self) -> &TagModel {
        &self.model
    }

    /// Shapes of the training batches, and the share of padding in them.
    pub fn buckets(&self) -> &Buckets {
        &self.shapes[0].buckets
    }

    fn shapes_of(&self, phase: Phase) -> &Shapes {
        &self.shapes[usize::from(phase == Phase::Validation)]
    }
}

impl Task for TagTask {
    fn record(&self, rec: &mut Recorder, phase: Phase, shape: usize) -> Result<()> {
        let shapes = self.shapes_of(phase);
        let [time, batch] = shapes.shape(shape);
        let recorded = self.model.record(rec, [time, batch], shapes.longest[shape])?;
        let tags = rec.input_ids("tags", time * batch)?;
        rec.add_losses();
        self.model.crf().record_loss(rec, recorded.emissions, tags, recorded.sequence)?;
        if let Some((logits, mask)) = recorded.intents {
            let intents = rec.input_ids("intents", batch)?;
            let loss = Loss::CrossEntropy(CrossEntropyOptions::default());
            loss.record(rec, logits, Target::Classes(intents), mask)?;
        }
        Ok(())
    }

    fn shapes(&self, phase: Phase) -> usize {
        self.shapes_of(phase).longest.len()
    }

    fn initial_weights(&self, seed: u64) -> NamedTensors {
        self.model.initial_weights(seed)
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.model.weight_shapes()
    }

    fn batches_per_epoch(&self) -> u64 {
        self.passes.buckets().count() as u64
    }

    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed> {
        let (rows, rate) = match phase {
            Phase::Training => (self.passes.batch(batch, seed), self.token_dropout),
            Phase::Validation => (self.validation[batch as usize].clone(), 0.0),
        };
        let mut random = random(Draw::Tokens, seed, batch);
        let drops = || rate > 0.0 && random.random::<f32>() < rate;
        let sentences = &self.sentences[usize::from(phase == Phase::Validation)];
        let mut feed = words(&self.model, sentences, self.shapes_of(phase), &rows, drops);
        put_targets(&mut feed, &self.model, sentences, self.shapes_of(phase), &rows);
        Ok(feed)
    }

    fn validation_batches(&self) -> u64 {
        self.validation.len() as u64
    }

    /// Its sentences.
    fn validation_weight(&self, batch: u64) -> f64 {
        self.validation[batch as usize].rows.len() as f64
    }

    fn symbols_per_batch(&self) -> u64 {
        let sentences = self.sentences[0].iter().filter(|s| !s.words.is_empty()).count();
        (sentences / self.passes.buckets().count().max(1)) as u64
    }

    fn symbol(&self) -> &'static str {
        "sentence"
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        self.model.recurrent()
    }
}
