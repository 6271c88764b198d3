//! The training loop, checkpoints and the loss curve.
//!
//! A [`Task`] says what is trained; [`Trainer`] runs it: one loaded program for the training step,
//! one for validation, losses read back a ring at a time, checkpoints that survive a kill.

mod checkpoint;
mod event;
mod feed;
mod folder;
mod log;
mod lr_finder;
mod microscope;
mod options;
#[cfg(feature = "plot")]
mod plot;
mod probe;
mod progress;
mod run;
mod step;
mod task;
mod trainer;
mod watcher;

pub use checkpoint::{CONFIG, Checkpoint, MODEL, TRAINING, member_folder, member_tensor};
pub use event::{Event, MemberLosses, Outcome, Progress};
pub use feed::{Feed, Values};
pub(crate) use folder::load_recording_into;
pub use folder::{
    Description, TaskModel, holds_members, is_ensemble, load_recording, load_weights,
};
pub use log::{LOG, LogLine, TrainLog};
pub use lr_finder::{RateFinding, RateSweep, StopRule, find_rate};
pub use microscope::{
    GateView, Gradients, LayerView, Microscope, Trouble, UpdateRatio, View, spectral_radius,
};
pub use options::TrainOptions;
#[cfg(feature = "plot")]
pub use plot::loss_curve;
pub use probe::{DryRun, GradientCheck, check_gradients};
pub use progress::{Best, LoopState};
pub use task::{Phase, STATE_PREFIX, Task};
pub use trainer::{Trainer, record_training, record_validation};
