//! Other people's files, and files that are never half written.

mod atomic;
#[cfg(feature = "onnx")]
pub mod npz;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "tensorboard")]
pub mod tensorboard;
mod tensors;

pub use atomic::write_atomic;
pub use tensors::{TensorFile, read_some_tensors, read_tensors, write_tensors};
