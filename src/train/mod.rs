//! The training loop, checkpoints and the loss curve.
//!
//! A [`Task`] says what is trained; [`Trainer`] runs it: one loaded program for the training step,
//! one for validation, losses read back a ring at a time, checkpoints that survive a kill.

mod checkpoint;
mod log;
#[cfg(feature = "plot")]
mod plot;
mod trainer;

pub use checkpoint::{CONFIG, Checkpoint, MODEL, TRAINING};
pub use log::{LOG, LogLine, TrainLog};
#[cfg(feature = "plot")]
pub use plot::loss_curve;
pub use trainer::{Event, Progress, Task, TrainOptions, Trainer};
