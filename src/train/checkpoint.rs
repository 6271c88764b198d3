//! Checkpoints: a model folder that is loadable at every instant.
//!
//! `config.json` says what the model is, `model.safetensors` holds its weights in PyTorch's names,
//! `training.safetensors` everything that a training run needs to go on with the same bits: the
//! weights again, the optimizer's moments, the recurrent states, the step. Each file is replaced
//! atomically and makes sense on its own, so no instant leaves a folder that can't be loaded.
//!
//! Of an ensemble, one `training.safetensors` holds all members, so that they never stand at different
//! steps; each member's `model.safetensors` lies in a folder of its own ([`member_folder`]).

use crate::error::{Error, Result};
use crate::format::{TensorFile, read_tensors, write_tensors};
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
    /// Weights, moments and states, by their names in the store; see [`member_tensor`].
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
        if self.members > 1 {
            file.metadata.insert(MEMBERS.to_string(), self.members.to_string());
        }
        write_tensors(&folder.join(TRAINING), &file)?;
        file.metadata.remove(SEED);
        file.metadata.remove(MEMBERS);
        for (member, seed) in self.seeds().enumerate() {
            let of = |name: &String| member_tensor(name, member, self.members);
            let all = self.weight_names(member).filter(|name| weights(name));
            let tensors =
                all.filter_map(|name| Some((name.clone(), self.tensors.get(&of(&name))?.clone())));
            let model = TensorFile { tensors: tensors.collect(), metadata: file.metadata.clone() };
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

    /// The names of a member's tensors in the store.
    fn weight_names(&self, member: usize) -> impl Iterator<Item = String> {
        let prefix = member_tensor("", member, self.members);
        self.tensors.keys().filter_map(move |name| Some(name.strip_prefix(&prefix)?.to_string()))
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
        Ok(Checkpoint { step, seed, members, tensors: file.tensors })
    }
}

/// The seeds of an ensemble's members, the first given.
pub(super) fn seeds(first: u64, members: usize) -> impl Iterator<Item = u64> {
    (0..members as u64).map(move |member| first.wrapping_add(member))
}
