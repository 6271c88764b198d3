//! A trained model's folder: what it says of itself, and its weights.

use super::{CONFIG, MODEL, TRAINING};
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::format::{read_tensors, write_atomic};
use crate::recording::Role;
use crate::schedule::{Recorder, Var};
use crate::tensor::{NamedTensors, require_finite};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the folder's layout. Version 1 had language models of characters alone.
const FORMAT: u32 = 2;

/// The content of `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The version of the layout.
    pub format: u32,
    /// The program's version that wrote it.
    #[serde(default)]
    pub version: String,
    /// The task's name, as `recurra train` knows it.
    pub task: String,
    /// The model: all that it takes to build it.
    pub model: Value,
    /// How it is trained; whoever trains reads it, others ignore it.
    pub training: Value,
}

/// As a value, by way of text, in which an f32 has the digits that were given.
fn plain(value: &impl Serialize) -> Result<Value> {
    let text = serde_json::to_string(value);
    let value = text.and_then(|text| serde_json::from_str(&text));
    value.map_err(|e| Error::invalid(e.to_string()))
}

impl Description {
    /// Of a model of this program's version.
    ///
    /// # Errors
    /// What can't be written as JSON.
    pub fn new(task: &str, model: &impl Serialize, training: &impl Serialize) -> Result<Self> {
        Ok(Description {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            task: task.to_string(),
            model: plain(model)?,
            training: plain(training)?,
        })
    }

    /// Writes `config.json`, atomically.
    ///
    /// # Errors
    /// The folder can't be made or written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        Self::check_place(folder)?;
        let path = folder.join(CONFIG);
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| Error::format(&path, e.to_string()))?;
        write_atomic(&path, (text + "\n").as_bytes())
    }

    /// That a folder's `config.json`, if it has one, is a description of a model, of whatever version.
    ///
    /// # Errors
    /// It is another program's.
    pub(crate) fn check_place(folder: &Path) -> Result<()> {
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let found: Option<Value> = serde_json::from_str(&text).ok();
        let own = found.is_some_and(|found| found.get("format").is_some_and(Value::is_u64));
        if path.exists() && !own {
            let reason = "this file is another program's; it stays as it is";
            return Err(Error::format(path, reason));
        }
        Ok(())
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// The folder holds no model, or one of a later version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, "read", e))?;
        let found: Value =
            serde_json::from_str(&text).map_err(|e| Error::format(&path, e.to_string()))?;
        // The version before all else, which a later one may have changed.
        let format = found.get("format").and_then(Value::as_u64);
        match format {
            Some(1..=2) => {}
            Some(format) => {
                let of = found.get("version").and_then(Value::as_str).unwrap_or("another version");
                return Err(Error::format(
                    path,
                    format!("format {format} of {of}; this program reads up to format {FORMAT}"),
                ));
            }
            None => return Err(Error::format(path, "this is no description of a model")),
        }
        serde_json::from_value(found).map_err(|e| Error::format(path, e.to_string()))
    }

    /// The model's configuration, if it is of this task.
    ///
    /// # Errors
    /// Another task's model, or a configuration that it doesn't know.
    pub fn model<T: for<'a> Deserialize<'a>>(&self, folder: &Path, task: &str) -> Result<T> {
        let path = folder.join(CONFIG);
        if self.task != task {
            let reason = format!("a model of task '{}', not of '{task}'", self.task);
            return Err(Error::format(path, reason));
        }
        let model = serde_json::from_value(self.model.clone());
        model.map_err(|e| Error::format(path, format!("the model: {e}")))
    }
}

/// A task's model, as its folder has it: what describes it, and its weights.
pub trait TaskModel: Sized {
    /// The task's name in `config.json`.
    const TASK: &'static str;
    /// All that it takes to build the model.
    type Config: Serialize + for<'a> Deserialize<'a>;

    /// A model from its configuration.
    ///
    /// # Errors
    /// Options that make no sense, alone or together.
    fn new(config: Self::Config) -> Result<Self>;
    /// The configuration.
    fn config(&self) -> &Self::Config;
    /// The shapes of all weights by name.
    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>>;

    /// How many numbers the model learns.
    fn parameter_count(&self) -> u64 {
        let size = |shape: &Vec<usize>| shape.iter().map(|&n| n as u64).product::<u64>();
        self.weight_shapes().values().map(size).sum()
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// The folder can't be made or written.
    fn save_config(&self, folder: &Path, training: &impl Serialize) -> Result<()> {
        Description::new(Self::TASK, self.config(), training)?.write(folder)
    }

    /// Reads `config.json`: the model, and how it was trained.
    ///
    /// # Errors
    /// The folder holds no model, another task's, or another version's.
    fn load_config(folder: &Path) -> Result<(Self, Value)> {
        let description = Description::read(folder)?;
        let model = Self::new(description.model(folder, Self::TASK)?);
        let model = model.map_err(|e| Error::format(folder.join(CONFIG), e.to_string()))?;
        Ok((model, description.training))
    }

    /// Reads `model.safetensors` and checks that it is this model's.
    ///
    /// # Errors
    /// As [`load_weights`].
    fn load_weights(&self, folder: &Path) -> Result<NamedTensors> {
        load_weights(folder, &self.weight_shapes())
    }

    /// Reads a folder: the model and its weights.
    ///
    /// # Errors
    /// As [`TaskModel::load_config`] and [`load_weights`].
    fn load(folder: &Path) -> Result<(Self, NamedTensors)> {
        let (model, _) = Self::load_config(folder)?;
        let weights = model.load_weights(folder)?;
        Ok((model, weights))
    }
}

/// Reads `model.safetensors` and checks that it has tensors of these names and shapes.
///
/// # Errors
/// The file is absent or cut short; a tensor is missing, unknown, of another shape, or holds a value
/// that is NaN or infinite.
pub fn load_weights(folder: &Path, shapes: &BTreeMap<String, Vec<usize>>) -> Result<NamedTensors> {
    let path = folder.join(MODEL);
    if !path.exists() {
        let reason = if is_ensemble(folder) {
            "this folder holds an ensemble: name one of the models in it, FOLDER/seed-SEED"
                .to_string()
        } else if folder.join(TRAINING).exists() {
            format!("{MODEL} is missing; its run writes it again when it is taken up (--resume)")
        } else {
            format!("{MODEL} is missing")
        };
        return Err(Error::format(folder, reason));
    }
    let tensors = read_tensors(&path)?.tensors;
    for (name, shape) in shapes {
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

/// Whether a folder's run trains several models, or models of such a run lie in it.
pub fn is_ensemble(folder: &Path) -> bool {
    let members = |training: &Value| training.get("ensemble").and_then(Value::as_u64);
    let described = Description::read(folder).is_ok_and(|d| members(&d.training) > Some(1));
    described || holds_members(folder)
}

/// Whether models of an ensemble lie in a folder.
pub fn holds_members(folder: &Path) -> bool {
    let of_member = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("seed-") && path.join(CONFIG).exists()
    };
    let mut list = std::fs::read_dir(folder).into_iter().flatten();
    list.any(|entry| entry.is_ok_and(|entry| of_member(&entry.path())))
}

/// Loads a recording with a model's weights.
///
/// # Errors
/// A parameter that the weights lack or have in another shape: a matrix's rows and columns must be those that were
/// recorded, of a vector the number of elements. What the device refuses.
pub fn load_recording(
    engine: &Engine,
    rec: Recorder,
    weights: &NamedTensors,
) -> Result<(Program, Store)> {
    let store = engine.store();
    Ok((load_recording_into(engine, rec, weights, &store)?, store))
}

/// The same into a store that programs share.
pub(crate) fn load_recording_into(
    engine: &Engine,
    rec: Recorder,
    weights: &NamedTensors,
    store: &Store,
) -> Result<Program> {
    let recorded: BTreeMap<String, Var> = rec.parameters().into_iter().collect();
    let recording = rec.finish();
    for buffer in recording.buffers().iter().filter(|b| b.role == Role::Parameter) {
        let tensor = weights.get(&buffer.name).ok_or_else(|| Error::Missing {
            tensor: buffer.name.clone(),
            place: "the model".to_string(),
        })?;
        let same = match (recorded.get(&buffer.name), tensor.shape()) {
            // A vector may be recorded as a row or a column, and weights of more sides as any matrix.
            (Some(var), own @ [_, _]) if var.rows > 1 && var.columns > 1 => {
                own == [var.rows, var.columns]
            }
            _ => tensor.len() == buffer.len,
        };
        if !same {
            let want = recorded.get(&buffer.name).map_or([1, buffer.len], |v| [v.rows, v.columns]);
            return Err(Error::shape(&buffer.name, &want, tensor.shape()));
        }
        store.set(&buffer.name, &tensor.iter().copied().collect::<Vec<_>>())?;
    }
    engine.load(&recording, store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_were_given() {
        let description = Description::new("task", &[0.1f32, 1e-7], &()).unwrap();
        assert_eq!(description.model.to_string(), "[0.1,1e-7]");
        let back: Vec<f32> = serde_json::from_value(description.model).unwrap();
        assert_eq!(back, [0.1, 1e-7]);
    }
}
