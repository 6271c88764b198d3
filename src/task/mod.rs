//! Whole jobs: data, model, loss and what is done with the result.

pub mod classify;
#[cfg(feature = "files")]
pub mod forecast;
pub mod lm;
mod logits;
pub mod music;
mod network;
#[cfg(feature = "files")]
mod records;
pub mod tag;

pub use crate::train::{
    Description, TaskModel, holds_members, is_ensemble, load_recording, load_weights,
};
pub use network::RecurrentConfig;
#[cfg(feature = "onnx")]
pub(crate) use network::stem;
