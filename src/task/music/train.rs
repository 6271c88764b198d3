//! A model of notes with the tunes it is trained on.

use super::model::{check_notes, inputs};
use super::{MusicModel, NOTES, Tunes};
use crate::data::{Batch, Buckets, Passes};
use crate::error::{Error, Result};
use crate::kernel::ElementForm;
use crate::layer::Recurrent;
use crate::loss::{ElementOptions, elements};
use crate::schedule::Recorder;
use crate::task::TaskModel;
use crate::tensor::NamedTensors;
use crate::train::{Feed, Phase, Task};
use std::collections::BTreeMap;

/// A model of notes with the tunes it is trained on, in batches of tunes of like lengths.
pub struct MusicTask {
    model: MusicModel,
    tunes: [Vec<Vec<Vec<u32>>>; 2],
    passes: Passes,
    /// Those of the validation tunes, and their batches.
    held_out: Buckets,
    validation: Vec<Batch>,
}

impl MusicTask {
    /// Shapes of batches, at most, where nothing needs fewer.
    pub const SHAPES: usize = 5;

    /// Trains `model` on tunes, in batches of `budget` steps T·B, padding among them.
    ///
    /// # Errors
    /// No tunes to train on or to validate with; one that is longer than the budget.
    pub fn new(model: MusicModel, tunes: &Tunes, budget: usize) -> Result<Self> {
        Self::with_shapes(model, tunes, budget, Self::SHAPES)
    }

    /// The same in batches of so many shapes at most: ensembles and micro-batches have one.
    ///
    /// # Errors
    /// As [`MusicTask::new`].
    pub fn with_shapes(
        model: MusicModel,
        tunes: &Tunes,
        budget: usize,
        shapes: usize,
    ) -> Result<Self> {
        let tunes = [tunes.training.clone(), tunes.validation.clone()];
        tunes.iter().try_for_each(|list| check_notes(list))?;
        if !tunes[0].is_empty() && tunes[1].is_empty() {
            let what =
                "there is one tune alone, and none to validate with: two are needed at least";
            return Err(Error::invalid(what));
        }
        let bucket = |(list, what): (&Vec<Vec<Vec<u32>>>, &str)| {
            let lengths: Vec<usize> = list.iter().map(Vec::len).collect();
            let of = |e: Error| Error::invalid(format!("tunes for {what}: {e}"));
            Buckets::new(&lengths, budget, shapes).map_err(of)
        };
        let passes = Passes::new(bucket((&tunes[0], "training"))?);
        let held_out = bucket((&tunes[1], "validation"))?;
        let validation = held_out.in_order();
        Ok(MusicTask { model, tunes, passes, held_out, validation })
    }

    /// The model.
    pub fn model(&self) -> &MusicModel {
        &self.model
    }

    /// Shapes of the training batches, and the share of padding in them.
    pub fn buckets(&self) -> &Buckets {
        self.passes.buckets()
    }

    fn shapes_of(&self, phase: Phase) -> &[[usize; 2]] {
        match phase {
            Phase::Training => self.passes.buckets().shapes(),
            Phase::Validation => self.held_out.shapes(),
        }
    }

    fn batch(&self, phase: Phase, batch: &Batch) -> Feed {
        let shape = self.shapes_of(phase)[batch.shape];
        let tunes = &self.tunes[usize::from(phase == Phase::Validation)];
        let (x, lengths) = inputs(&batch.rows, tunes, shape, 0);
        let [time, rows] = shape;
        let mut targets = vec![0.0; time * rows * NOTES];
        for (row, &tune) in batch.rows.iter().enumerate() {
            for (t, notes) in tunes[tune].iter().enumerate() {
                notes.iter().for_each(|&n| targets[(t * rows + row) * NOTES + n as usize] = 1.0);
            }
        }
        let mut feed = Feed::new(batch.shape);
        feed.put("x", x);
        feed.put("targets", targets);
        feed.put("lengths", lengths);
        feed
    }
}

impl Task for MusicTask {
    fn record(&self, rec: &mut Recorder, phase: Phase, shape: usize) -> Result<()> {
        let [time, batch] = self.shapes_of(phase)[shape];
        let x = rec.input("x", [time * batch, NOTES], false)?;
        let targets = rec.input("targets", [time * batch, NOTES], false)?;
        let lengths = rec.input_ids("lengths", batch)?;
        let (logits, flags) = self.model.record(rec, x, [time, batch], lengths)?;
        // A mean over steps, of sums over notes.
        let form = ElementForm::BinaryCrossEntropy { positive: false };
        let weight = NOTES as f32;
        let options = ElementOptions { mask: flags, weight, ..ElementOptions::default() };
        elements(rec, logits, targets.view, form, options)
    }

    fn shapes(&self, phase: Phase) -> usize {
        self.shapes_of(phase).len()
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
        Ok(match phase {
            Phase::Training => self.batch(phase, &self.passes.batch(batch, seed)),
            Phase::Validation => self.batch(phase, &self.validation[batch as usize]),
        })
    }

    fn validation_batches(&self) -> u64 {
        self.validation.len() as u64
    }

    /// The steps of its tunes.
    fn validation_weight(&self, batch: u64) -> f64 {
        let rows = &self.validation[batch as usize].rows;
        rows.iter().map(|&tune| self.tunes[1][tune].len() as f64).sum()
    }

    fn symbols_per_batch(&self) -> u64 {
        let steps: usize = self.tunes[0].iter().map(Vec::len).sum();
        (steps / self.passes.buckets().count().max(1)) as u64
    }

    fn symbol(&self) -> &'static str {
        "step"
    }

    fn recurrent(&self) -> Vec<&Recurrent> {
        vec![self.model.recurrent()]
    }
}
