//! Checkpoints: a model folder that is loadable at every instant.
//!
//! `config.json` says what the model is, `model.safetensors` holds its weights in PyTorch's names,
//! `training.safetensors` everything that a training run needs to go on with the same bits: the
//! weights again, the optimizer's moments, the recurrent states, the step. Each file is replaced
//! atomically and makes sense on its own, so no instant leaves a folder that can't be loaded.

use crate::error::{Error, Result};
use crate::format::{TensorFile, read_tensors, write_tensors};
use crate::tensor::NamedTensors;
use std::path::Path;

/// The file that describes the model.
pub const CONFIG: &str = "config.json";
/// The file with the weights.
pub const MODEL: &str = "model.safetensors";
/// The file with the state of training.
pub const TRAINING: &str = "training.safetensors";

const STEP: &str = "step";
const SEED: &str = "seed";

/// The state of a training run after a step.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// The seed of masks and data order; with the step it is the whole state of the generators,
    /// which count instead of stepping.
    pub seed: u64,
    /// Weights, moments and states, by their names in the store.
    pub tensors: NamedTensors,
}

impl Checkpoint {
    /// Writes the training state, then the weights alone.
    ///
    /// # Errors
    /// The folder can't be written or the disk is full; what was there before is still whole.
    pub fn save(&self, folder: &Path, weights: impl Fn(&str) -> bool) -> Result<()> {
        let mut file = TensorFile { tensors: self.tensors.clone(), ..TensorFile::default() };
        file.metadata.insert(STEP.to_string(), self.step.to_string());
        file.metadata.insert(SEED.to_string(), self.seed.to_string());
        write_tensors(&folder.join(TRAINING), &file)?;
        file.tensors.retain(|name, _| weights(name));
        file.metadata.remove(SEED);
        write_tensors(&folder.join(MODEL), &file)
    }

    /// Reads the training state.
    ///
    /// # Errors
    /// The file is absent, cut short, or lacks the step.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(TRAINING);
        let file = read_tensors(&path)?;
        let number = |key: &str| {
            file.metadata
                .get(key)
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| Error::format(&path, format!("the metadata has no number '{key}'")))
        };
        let (step, seed) = (number(STEP)?, number(SEED)?);
        Ok(Checkpoint { step, seed, tensors: file.tensors })
    }
}
