//! A model with weights: what it predicts, and its folder.

use super::predictor::Loaded;
use super::shape::{Shapes, cut};
use super::{IGNORE, Model, Predictor, Samples, Sequences};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::{TensorFile, write_tensors};
use crate::tensor::NamedTensors;
use crate::train::{CONFIG, MODEL};
use crate::train::{Description, load_weights};
use crate::wait;
use serde_json::Value;
use std::path::Path;

/// The task's name in a folder.
const NAME: &str = "model";
/// Steps T·B of a batch that predicts, or one row of the longest sequence.
const STEPS: usize = 4096;
/// Shapes of these batches.
const SHAPES: usize = 4;

/// Of each sequence's rows of `width` values the places of the largest, the first of equals.
pub(super) fn likeliest(all: &[Vec<f32>], width: usize) -> Vec<Vec<u32>> {
    let largest = |row: &[f32]| {
        let best = row.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(class, _)| class as u32)
    };
    all.iter().map(|own| own.chunks(width).map(largest).collect()).collect()
}

/// A model with weights.
#[derive(Clone, Debug)]
pub struct Trained<'a> {
    pub(super) model: &'a Model,
    /// The weights by their names.
    pub weights: NamedTensors,
    /// The loss of each training step, (step, loss); empty where it was loaded.
    pub losses: Vec<(u64, f32)>,
    /// The loss of each validation, (step, loss).
    pub validation: Vec<(u64, f32)>,
}

impl<'a> Trained<'a> {
    /// The model.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// What the model gives for each sequence, in the order given: C values (logits, means …) a step one after the
    /// other, or C values where it gives one row a sequence. Of a sequence without steps nothing.
    ///
    /// # Errors
    /// Inputs of another kind or width than the model's; ids beyond its vocabulary; an ensemble's engine; weights that
    /// are missing, unknown or of another shape; the device failed.
    pub fn predict(&self, engine: &Engine, sequences: &Sequences) -> Result<Vec<Vec<f32>>> {
        self.model.features.check(sequences)?;
        self.check(engine)?;
        let lengths = sequences.lengths()?;
        let mut all = vec![Vec::new(); lengths.len()];
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(all);
        }
        let buckets = cut(&lengths, STEPS.div_ceil(longest), SHAPES, false)?;
        let shapes = Shapes::of(&buckets, &lengths);
        let batches = buckets.in_order();
        // One shape's buffers at a time, and none of its states.
        for of_shape in batches.chunk_by(|a, b| a.shape == b.shape) {
            let (store, shape) = (engine.store(), of_shape[0].shape);
            let mut loaded =
                Loaded::new(engine, &store, self.model, &self.weights, &shapes, shape)?;
            for batch in of_shape {
                wait::here(loaded.predict(&shapes, sequences, &lengths, batch, &mut all))?;
            }
        }
        Ok(all)
    }

    /// The model, loaded on an engine for batches of these shapes \[T, B\], to predict many times.
    ///
    /// # Errors
    /// No shape, or one without steps or rows; an ensemble's engine; weights that are missing, unknown or of another
    /// shape; what the device refuses.
    pub fn predictor(&self, engine: &Engine, shapes: &[[usize; 2]]) -> Result<Predictor> {
        self.check(engine)?;
        Predictor::new(engine, self.model, &self.weights, shapes)
    }

    fn check(&self, engine: &Engine) -> Result<()> {
        if engine.members() > 1 {
            return Err(Error::invalid("one model predicts, on an engine for one"));
        }
        // They may have been changed since they were checked: the field is everyone's.
        self.model.check_weights(&self.weights)
    }

    /// The likeliest class of each step, or of each sequence, in the order given.
    ///
    /// # Errors
    /// As [`Trained::predict`].
    pub fn predict_classes(&self, engine: &Engine, sequences: &Sequences) -> Result<Vec<Vec<u32>>> {
        Ok(likeliest(&self.predict(engine, sequences)?, self.model.width))
    }

    /// The share of targets whose class is the likeliest one: of sequences, or of steps that aren't ignored.
    ///
    /// # Errors
    /// As [`Trained::predict`]; targets that are values, or none that counts.
    pub fn accuracy(&self, engine: &Engine, samples: &Samples) -> Result<f64> {
        let Some(wanted) = samples.targets().ids() else {
            return Err(Error::invalid("an accuracy is of classes, and the targets are values"));
        };
        let found = self.predict_classes(engine, samples.inputs())?;
        let pairs = wanted.iter().zip(&found).flat_map(|(wanted, found)| wanted.iter().zip(found));
        let counted: Vec<bool> =
            pairs.filter(|(wanted, _)| **wanted != IGNORE).map(|(a, b)| a == b).collect();
        match counted.len() {
            0 => Err(Error::invalid("there is no target that counts")),
            all => Ok(counted.iter().filter(|&&right| right).count() as f64 / all as f64),
        }
    }

    /// Writes a folder: `config.json`, which says what the model is, and `model.safetensors` with its weights.
    ///
    /// # Errors
    /// The folder can't be made or written, or has a `config.json` of another program.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        Description::check_place(folder)?;
        let file = TensorFile { tensors: self.weights.clone(), ..TensorFile::default() };
        write_tensors(&folder.join(MODEL), &file)?;
        Description::new(NAME, &self.model.describe(), &Value::Null)?.write(folder)
    }
}

impl Model {
    /// The same model, built again in the program, with the weights of a folder that [`Trained::save`] wrote.
    ///
    /// # Errors
    /// The folder holds no such model: another number of layers, or a layer of another kind or size, which is named;
    /// weights that are missing, of another shape, or no numbers.
    pub fn load(&self, folder: &Path) -> Result<Trained<'_>> {
        let found: Vec<String> = Description::read(folder)?.model(folder, NAME)?;
        let own = self.describe();
        if let Some((found, own)) = found.iter().zip(&own).find(|(found, own)| found != own) {
            let reason = format!("it holds '{found}' where this model has '{own}'");
            return Err(Error::format(folder.join(CONFIG), reason));
        }
        if found.len() != own.len() {
            let (found, own) = (found.len() - 1, own.len() - 1);
            let reason = format!("it holds {found} layers, and this model has {own}");
            return Err(Error::format(folder.join(CONFIG), reason));
        }
        self.with_weights(load_weights(folder, self.parameter_shapes())?)
    }

    /// The model with weights that come from elsewhere, by the names that [`Model::parameter_shapes`] has.
    ///
    /// # Errors
    /// A parameter that is missing, of another shape, or unknown.
    pub fn with_weights(&self, weights: NamedTensors) -> Result<Trained<'_>> {
        self.check_weights(&weights)?;
        Ok(Trained { model: self, weights, losses: Vec::new(), validation: Vec::new() })
    }
}
