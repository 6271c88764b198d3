//! Element types and named host tensors.

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
pub type HostTensor = ndarray::ArrayD<f32>;

/// Host tensors by name, in the order of their names.
pub type NamedTensors = BTreeMap<String, HostTensor>;
