//! Element types and named host tensors.

use ndarray::ArrayD;
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
