//! Classification: a label for each sequence, of text or of numbers.
//!
//! [`Examples`] are sequences with their labels, from memory or from people's files ([`Reading`]); [`ClassConfig`]
//! describes a model of them, which [`ClassModel`] is; [`ClassData`] is examples as the model reads them, to be fitted;
//! [`ClassScore`] says how well a model does, with what guessing the most frequent class would do beside it.
//! `recurra train classify` does all of it in one command.
//!
//! ```
//! use recurra::task::classify::{ClassConfig, ClassData, ClassLoss, ClassModel, Examples};
//! use recurra::task::{RecurrentConfig, TaskModel};
//! use recurra::{CellKind, Engine, train::TrainOptions};
//! # fn main() -> recurra::Result<()> {
//! // A sentence is about an animal, or it is not.
//! let texts = |n: usize| format!("the {} {} fast", ["dog", "car", "cat", "bus"][n % 4], ["runs", "is"][n / 4 % 2]);
//! let label = |n: usize| ["animal", "thing"][n % 2].to_string();
//! let examples = Examples::texts((0..40).map(texts).collect(), (0..40).map(label).collect())?;
//! let (training, held_out) = examples.split(0.2, 1)?;
//!
//! let config = ClassConfig::new(&training, RecurrentConfig::new(CellKind::Gru, 8))?;
//! let model = ClassModel::new(config)?;
//! let data = ClassData::new(&model, &training, Some(&held_out), ClassLoss::default())?;
//! let fit = data.fit(&model, 8, 1)?;
//! let options = TrainOptions { learning_rate: 0.03, ..TrainOptions::new(fit.steps(10)) };
//! let engine = Engine::cpu(Some(1))?;
//! let trained = fit.run(&engine, options, |_| Ok(()))?;
//!
//! let score = model.score(&engine, &trained.weights, &held_out)?;
//! assert!(score.accuracy > score.majority.accuracy);
//! # Ok(())
//! # }
//! ```

mod examples;
mod fitted;
mod model;
#[cfg(feature = "files")]
mod read;
mod reading;
mod scaling;
mod score;
mod text;

pub use examples::{Content, Examples};
pub use fitted::{ClassData, ClassLoss};
pub use model::{ClassConfig, ClassModel, InputConfig, Pool};
#[cfg(feature = "files")]
pub use read::Found;
pub use reading::{Format, Reading};
pub use scaling::{Scaling, ScalingKind};
pub use score::{Bucket, ClassMeasure, ClassScore, Guess, Interval, Reliability};
pub use text::TextConfig;

/// The task's name in a model's folder.
pub const NAME: &str = "classify";
