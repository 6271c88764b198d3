//! Element types and named host tensors.

use crate::error::{Error, Result};
use ndarray::{ArrayD, ArrayViewD, Dimension};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The element type of a device buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16: only how temporary buffers of a GPU are stored. Kernels compute in binary32.
    F16,
    /// Unsigned 32-bit integer (token ids, control words).
    U32,
}

/// Bytes of a word of device memory: buffers are whole words.
pub const WORD_BYTES: usize = 4;

impl DType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 => 2,
        }
    }
}

/// How a network's activations and the weights that products read are stored on the device. Weights,
/// gradients of weights, the states between segments and all sums are f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As f32.
    #[default]
    F32,
    /// As f16, on GPUs that have it.
    F16,
}

impl Precision {
    /// The element type of activations.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        }
    }

    /// `f32` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
        }
    }
}

/// A dense row-major host tensor.
pub type HostTensor = ArrayD<f32>;

/// Host tensors by name, in the order of their names.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// Refuses weights that are NaN or infinite.
///
/// # Errors
/// The first element that is no finite number, by the tensor's name and its place in it.
pub(crate) fn require_finite(name: &str, tensor: ArrayViewD<'_, f32>) -> Result<()> {
    if tensor.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let bad = tensor.indexed_iter().find(|(_, value)| !value.is_finite());
    let (place, value) = bad.map_or((Vec::new(), f32::NAN), |(at, v)| (at.slice().to_vec(), *v));
    let what = format!("'{name}': element {place:?} is {value}; weights must be finite numbers");
    Err(Error::invalid(what))
}

/// Whether weights have all tensors of these names, in these shapes: others may be among them.
///
/// # Errors
/// The tensor that is missing or has another shape.
pub(crate) fn require_shapes(
    shapes: &BTreeMap<String, Vec<usize>>,
    weights: &NamedTensors,
) -> Result<()> {
    for (name, shape) in shapes {
        let tensor = weights.get(name).ok_or_else(|| Error::Missing {
            tensor: name.clone(),
            place: "the weights".to_string(),
        })?;
        if tensor.shape() != shape.as_slice() {
            return Err(Error::shape(name, shape, tensor.shape()));
        }
    }
    Ok(())
}

/// A host tensor of one of the types that files hold: floats are float32, all integers are int64.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// float32, and float64 rounded to it.
    F32(ArrayD<f32>),
    /// Integers of all widths.
    I64(ArrayD<i64>),
    /// Truth values.
    Bool(ArrayD<bool>),
}

impl Value {
    /// The extents of its axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Value::F32(array) => array.shape(),
            Value::I64(array) => array.shape(),
            Value::Bool(array) => array.shape(),
        }
    }

    /// Its type as NumPy calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::F32(_) => "float32",
            Value::I64(_) => "int64",
            Value::Bool(_) => "bool",
        }
    }
}
