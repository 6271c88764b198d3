//! Recurra.
#![deny(unsafe_code)]
pub mod cell;
pub mod conformance;
pub mod data;
pub mod engine;
pub mod error;
pub mod format;
pub mod kernel;
pub mod layer;
pub mod loss;
pub mod measure;
pub mod optim;
pub mod oracle;
pub mod recording;
pub mod schedule;
pub mod task;
pub mod tensor;
pub mod train;
pub use error::{Error, Result};
