//! Recurra.
#![deny(unsafe_code)]
pub mod cell;
pub mod conformance;
pub mod engine;
pub mod error;
pub mod kernel;
pub mod layer;
pub mod loss;
pub mod optim;
pub mod oracle;
pub mod recording;
pub mod schedule;
pub mod tensor;
pub use error::{Error, Result};
