//! What networks are made of: layers know their equations and parameters, and nothing of devices.

mod crf;
mod embedding;
mod init;
mod linear;
mod recurrent;

pub use crf::{BestPath, Crf};
pub use embedding::Embedding;
pub use init::Initializer;
pub use linear::Linear;
pub use recurrent::{
    Direction, ForgetBias, InitialState, Memory, Merge, Padding, Recurrent, RecurrentInit,
    RecurrentOutput, Scope, Sequence, Trace, WeightInit, pack_indices,
};

pub(crate) use recurrent::concat;

use crate::error::{Error, Result};
use crate::tensor::{HostTensor, NamedTensors};

/// Puts a tensor made of `values` under `name`.
fn insert(into: &mut NamedTensors, name: String, shape: &[usize], values: Vec<f32>) {
    let tensor = HostTensor::from_shape_vec(shape, values);
    into.insert(name, tensor.expect("the initialiser makes as many values as the shape has"));
}

/// A size must be at least 1.
fn positive(what: &str, size: usize) -> Result<usize> {
    if size == 0 { Err(Error::invalid(format!("{what} must be at least 1"))) } else { Ok(size) }
}
