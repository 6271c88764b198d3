//! Language modelling: predict the next character.

mod generate;
mod model;

pub use generate::{Generator, SampleOptions};
pub use model::{LanguageModel, LanguageTask, ModelConfig};
