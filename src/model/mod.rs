//! Models of one layer behind the other, data in memory, and training and prediction with them in a few lines.
//!
//! ```
//! use recurra::model::{Samples, Sequences, Sequential, Targets};
//! use recurra::{Engine, train::TrainOptions};
//! # fn main() -> recurra::Result<()> {
//! // Which token came first? Sequences of ids of different lengths, a class each.
//! let ids: Vec<Vec<u32>> = (0..60).map(|i| vec![i % 3, i % 5, i % 2, i % 5][..2 + i as usize % 3].to_vec()).collect();
//! let first = ids.iter().map(|ids| ids[0]).collect();
//! let samples = Samples::new(Sequences::tokens(ids), Targets::class(first))?;
//!
//! let model = Sequential::tokens(5).embedding(8).gru(16).last_step().linear(3).build()?;
//! println!("{}", model.summary());
//! let engine = Engine::cpu(Some(1))?;
//! let options = TrainOptions { learning_rate: 0.02, ..TrainOptions::new(60) };
//! let trained = model.fit(&engine, &samples, None, options)?;
//!
//! let classes = trained.predict_classes(&engine, &Sequences::tokens(vec![vec![2, 4, 1], vec![0, 3]]))?;
//! assert_eq!(classes, [[2], [0]]);
//! # Ok(())
//! # }
//! ```
//!
//! - [`Layer`] is what layers are, those of this library and your own; [`Flow`] is what goes from one to the next.
//! - [`Sequential`] puts layers together and checks them as they come; [`Model`] is the result.
//! - [`Samples`] are sequences with what is wanted of them; [`Fit`] is both together, a [`Task`](crate::train::Task)
//!   for a [`Trainer`](crate::train::Trainer), or run by [`Fit::run`].
//! - [`Trained`] predicts, and lies in a folder; a [`Predictor`] is loaded once and predicts many times.

mod fit;
mod flow;
mod layers;
mod pool;
mod predictor;
mod samples;
mod sequential;
mod shape;
mod trained;
mod whole;

pub use fit::Fit;
pub use flow::{ENDS, Flow, Form, LAST, LENGTHS, SHARES};
pub use layers::{Dropout, Layer, Stack};
pub use pool::{BothEnds, LastStep, MaxPool, MeanOverTime};
pub use predictor::Predictor;
pub use samples::{IGNORE, Samples, Sequences, Targets};
pub use sequential::Sequential;
pub use trained::Trained;
pub use whole::Model;
