//! Other people's files, and files that are never half written.

mod atomic;
mod tensors;

pub use atomic::write_atomic;
pub use tensors::{TensorFile, read_tensors, write_tensors};
