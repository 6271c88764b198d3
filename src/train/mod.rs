//! The training loop, checkpoints and the loss curve.
//!
//! A [`Task`] says what is trained; [`Trainer`] runs it: one loaded program for the training step,
//! one for validation, losses read back a ring at a time, checkpoints that survive a kill.

mod checkpoint;
mod log;
mod lr_finder;
#[cfg(feature = "plot")]
mod plot;
mod trainer;

pub use checkpoint::{CONFIG, Checkpoint, MODEL, TRAINING, member_folder, member_tensor};
pub use log::{LOG, LogLine, TrainLog};
pub use lr_finder::{RateFinding, RateSweep, StopRule, find_rate};
#[cfg(feature = "plot")]
pub use plot::loss_curve;
pub use trainer::{Event, MemberLosses, Progress, Task, TrainOptions, Trainer};
