//! Language modelling: predict the next character, byte or word.

mod generate;
mod model;
mod score;
mod train;

pub use generate::{Generator, SampleOptions};
pub use model::{LanguageModel, ModelConfig};
pub use score::{Score, Scorer};
pub use train::LanguageTask;

/// The task's name in a model's folder.
pub const NAME: &str = "lm";
