//! Whole jobs: data, model, loss and what is done with the result.

mod folder;
pub mod lm;

pub use folder::{Description, load_weights};
