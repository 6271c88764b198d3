//! Checkpoints: a model folder that is loadable at every instant.
//!
//! `config.json` says what the model is, `model.safetensors` holds the weights with the lowest validation loss
//! so far (before any evaluation, the last ones) in PyTorch's names, `training.safetensors` everything that a
//! training run needs to go on with the same bits: the last weights, the optimizer's moments, the recurrent
//! states, the step. Each file is replaced
//! atomically and makes sense on its own, so no instant leaves a folder that can't be loaded.
//!
//! Of an ensemble, one `training.safetensors` holds all members, so that they never stand at different
//! steps; each member's `model.safetensors` lies in a folder of its own ([`member_folder`]).

use super::LoopState;
use crate::error::{Error, Result};
use crate::format::{TensorFile, read_tensors, write_tensors};
use crate::optim::averaged;
use crate::tensor::NamedTensors;
use std::path::{Path, PathBuf};

/// The file that describes the model.
pub const CONFIG: &str = "config.json";
/// The file with the weights.
pub const MODEL: &str = "model.safetensors";
/// The file with the state of training.
pub const TRAINING: &str = "training.safetensors";

const STEP: &str = "step";
const SEED: &str = "seed";
const MEMBERS: &str = "members";
const OPTIMIZER: &str = "optimizer";
const LOOP: &str = "loop";
/// What the names of the best weights begin with.
const BEST: &str = "best/";

/// Where a member of an ensemble has its model: `FOLDER/seed-SEED`.
pub fn member_folder(folder: &Path, seed: u64) -> PathBuf {
    folder.join(format!("seed-{seed}"))
}

/// The name of a member's tensor in a checkpoint: `MEMBER/NAME`, members counted from 0, or NAME where there
/// is one member.
pub fn member_tensor(name: &str, member: usize, members: usize) -> String {
    if members == 1 { name.to_string() } else { format!("{member}/{name}") }
}

/// The state of a training run after a step.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// The seed of masks and data order; with the step it is the whole state of the generators,
    /// which count instead of stepping. Member m of an ensemble has the seed m further on.
    pub seed: u64,
    /// Members of the ensemble; 1 without one.
    pub members: usize,
    /// The optimizer whose moments are among the tensors ([`Optimizer::name`](crate::optim::Optimizer::name)); none:
    /// the file is of a version that didn't say so.
    pub optimizer: Option<String>,
    /// What the loop remembers.
    pub state: LoopState,
    /// Weights, moments and states, by their names in the store; see [`member_tensor`].
    pub tensors: NamedTensors,
    /// The weights of each member's best evaluation, by the same names.
    pub best: NamedTensors,
}

impl Checkpoint {
    /// Writes the training state, then each member's model: the weights of its best evaluation, or, before
    /// any, those of now, or their averages.
    ///
    /// # Errors
    /// The folder can't be written or the disk is full; what was there before is still whole.
    pub fn save(&self, folder: &Path, weights: impl Fn(&str) -> bool) -> Result<()> {
        let mut file = TensorFile { tensors: self.tensors.clone(), ..TensorFile::default() };
        let best = self.best.iter().map(|(name, tensor)| (format!("{BEST}{name}"), tensor.clone()));
        file.tensors.extend(best);
        file.metadata.insert(STEP.to_string(), self.step.to_string());
        file.metadata.insert(SEED.to_string(), self.seed.to_string());
        if self.members > 1 {
            file.metadata.insert(MEMBERS.to_string(), self.members.to_string());
        }
        if let Some(optimizer) = &self.optimizer {
            file.metadata.insert(OPTIMIZER.to_string(), optimizer.clone());
        }
        let state =
            serde_json::to_string(&self.state).map_err(|e| Error::invalid(e.to_string()))?;
        file.metadata.insert(LOOP.to_string(), state);
        write_tensors(&folder.join(TRAINING), &file)?;
        for (member, seed) in self.seeds().enumerate() {
            let prefix = member_tensor("", member, self.members);
            let averages = averaged(&self.tensors, &prefix);
            let (tensors, step) = match self.state.best.get(member) {
                Some(best) => (&self.best, best.step),
                None if averages.is_empty() => (&self.tensors, self.step),
                None => (&averages, self.step),
            };
            let own = tensors.iter().filter_map(|(name, tensor)| {
                let name = name.strip_prefix(&prefix).filter(|name| weights(name))?;
                Some((name.to_string(), tensor.clone()))
            });
            let mut model = TensorFile { tensors: own.collect(), ..TensorFile::default() };
            model.metadata.insert(STEP.to_string(), step.to_string());
            let folder = match self.members {
                1 => folder.to_path_buf(),
                _ => member_folder(folder, seed),
            };
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
            write_tensors(&folder.join(MODEL), &model)?;
        }
        Ok(())
    }

    /// The members' seeds.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + use<> {
        seeds(self.seed, self.members)
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
        let members = match file.metadata.contains_key(MEMBERS) {
            true => number(MEMBERS)?.max(1) as usize,
            false => 1,
        };
        let (step, seed) = (number(STEP)?, number(SEED)?);
        let optimizer = file.metadata.get(OPTIMIZER).cloned();
        // Absent in folders of version 0.1.
        let state = file.metadata.get(LOOP).map_or("{}", String::as_str);
        let state = serde_json::from_str(state)
            .map_err(|e| Error::format(&path, format!("the metadata '{LOOP}': {e}")))?;
        let (mut tensors, mut best) = (NamedTensors::new(), NamedTensors::new());
        for (name, tensor) in file.tensors {
            match name.strip_prefix(BEST) {
                Some(name) => best.insert(name.to_string(), tensor),
                None => tensors.insert(name, tensor),
            };
        }
        Ok(Checkpoint { step, seed, members, optimizer, state, tensors, best })
    }
}

/// The seeds of an ensemble's members, the first given.
pub(super) fn seeds(first: u64, members: usize) -> impl Iterator<Item = u64> {
    (0..members as u64).map(move |member| first.wrapping_add(member))
}
