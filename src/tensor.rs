//! Element types and named host tensors.

use crate::error::{Error, Result};
use ndarray::{ArrayD, ArrayViewD, Dimension};
use std::collections::BTreeMap;

/// The element type of a device buffer. Both are one 32-bit word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// Unsigned 32-bit integer (token ids, control words).
    U32,
}

/// Bytes of one element of a device buffer.
pub const WORD_BYTES: usize = 4;

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
