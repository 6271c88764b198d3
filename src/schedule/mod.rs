//! The scheduler: from layers to a flat list of launches.
//!
//! [`Recorder`] appends the launches of a training step, forward, and remembers on a tape how to
//! append the gradient of each; [`Recorder::backward`] walks the tape. [`Recurrence`] unrolls a
//! recurrent layer over time. None of it knows a device, or a cell beyond its sizes.

mod gradients;
mod micro_batches;
mod operations;
mod recorder;
mod unroll;

pub use micro_batches::micro_batch_name;
pub use recorder::{AVERAGE_PREFIX, Recorder, Var, average_name};
pub use unroll::{Incoming, Recurrence, RecurrentWeights, Swept};
