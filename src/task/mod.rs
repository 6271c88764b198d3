//! Whole jobs: data, model, loss and what is done with the result.

pub mod lm;
