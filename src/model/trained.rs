//! A model with weights: what it predicts, and its folder.

use super::samples::Content;
use super::sequential::Features;
use super::shape::Shapes;
use super::{Form, IGNORE, Model, Samples, Sequences};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::{TensorFile, write_tensors};
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;
use crate::train::{CONFIG, MODEL};
use crate::train::{Description, load_recording, load_weights};
use serde_json::Value;
use std::path::Path;

/// The task's name in a folder.
const NAME: &str = "model";
/// Steps T·B of a batch that predicts, or one row of the longest sequence.
const STEPS: usize = 4096;
/// Shapes of these batches.
const SHAPES: usize = 4;

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
        self.model.check_inputs(sequences)?;
        if engine.members() > 1 {
            return Err(Error::invalid("one model predicts, on an engine for one"));
        }
        // They may have been changed since they were checked: the field is everyone's.
        self.model.check_weights(&self.weights)?;
        let lengths = sequences.lengths()?;
        let mut all = vec![Vec::new(); lengths.len()];
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(all);
        }
        let shapes = Shapes::new(&lengths, STEPS.div_ceil(longest), SHAPES, false)?;
        let width = self.model.width;
        for (shape, &[_, rows]) in shapes.buckets.shapes().iter().enumerate() {
            let mut rec = Recorder::inference();
            let flow = shapes.record(&mut rec, self.model, shape)?;
            let output = flow.rows()?;
            let output = rec.output("output", output)?.view.buffer;
            let (mut program, _store) = load_recording(engine, rec, &self.weights)?;
            for batch in shapes.buckets.in_order().into_iter().filter(|b| b.shape == shape) {
                shapes.feed(sequences, &lengths, &batch).write(&mut program.inputs())?;
                program.run()?;
                let output = program.read(output)?;
                for (row, &sequence) in batch.rows.iter().enumerate() {
                    let steps = if self.model.form == Form::Steps { lengths[sequence] } else { 1 };
                    let step = |t: usize| &output[(t * rows + row) * width..][..width];
                    all[sequence] = (0..steps).flat_map(step).copied().collect();
                }
            }
        }
        Ok(all)
    }

    /// The likeliest class of each step, or of each sequence, in the order given.
    ///
    /// # Errors
    /// As [`Trained::predict`].
    pub fn predict_classes(&self, engine: &Engine, sequences: &Sequences) -> Result<Vec<Vec<u32>>> {
        let all = self.predict(engine, sequences)?;
        let largest = |row: &[f32]| {
            // The first of equals.
            let best = row.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(class, _)| class as u32)
        };
        Ok(all.iter().map(|own| own.chunks(self.model.width).map(largest).collect()).collect())
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

    /// Whether sequences are of what the model reads.
    pub(super) fn check_inputs(&self, sequences: &Sequences) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid(what));
        match (self.features, &sequences.0) {
            (Features::Tokens(vocabulary), Content::Ids(list)) => {
                let beyond = |own: &Vec<u32>| own.iter().position(|&id| id as usize >= vocabulary);
                let mut found = list.iter().enumerate();
                match found.find_map(|(number, own)| Some((number, own, beyond(own)?))) {
                    Some((number, own, step)) => refuse(format!(
                        "sequence {}, step {}: token {} of a vocabulary of {vocabulary}",
                        number + 1,
                        step + 1,
                        own[step]
                    )),
                    None => Ok(()),
                }
            }
            (Features::Values(own), Content::Values { width, .. }) if own == *width => Ok(()),
            (Features::Values(own), Content::Values { width, .. }) => {
                refuse(format!("the model reads {own} values a step, not {width}"))
            }
            (Features::Tokens(_), _) => refuse("the model reads token ids, not values".to_string()),
            (Features::Values(_), _) => refuse("the model reads values, not token ids".to_string()),
        }
    }
}
