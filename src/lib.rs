//! Recurra: recurrent networks (RNN, LSTM, GRU) on any GPU, through fused WGSL kernels and wgpu,
//! with a fast CPU engine and a float64 oracle.
//!
//! The way the data goes:
//!
//! ```text
//!  layers ──record──▶ Recording ──load──▶ Program on an Engine (GPU: WGSL | CPU: the same in Rust)
//!                     (launches over                run, run, run …
//!                      named buffers)
//! ```
//!
//! - [`layer`], [`loss`], [`optim`]: what networks are made of. Each *records* its launches, forward,
//!   and leaves on a tape how to record its gradient.
//! - [`schedule`]: the [`Recorder`] and the unrolling over time.
//! - [`recording`]: the flat list of launches, with its memory plan. Plain data.
//! - [`engine`]: [`Engine`], [`engine::Store`], [`engine::Program`].
//! - [`model`]: layers one behind the other, fitted to sequences in memory, in a few lines.
//! - [`live`]: sequences that come a step at a time and join and leave a batch.
//! - [`train`], [`task`], [`data`], [`format`](mod@format): the loop, whole jobs, inputs, files.
//! - [`report`]: an HTML page of what came out.
//! - [`oracle`], [`conformance`], [`measure`]: is it right, and how fast.
//!
//! Shapes are written T (time steps), B (batch rows), I (input width), H (hidden units), L (layers),
//! G (gates), V (vocabulary), E (embedding). Sequences lie time-major: row t·B + b.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cell;
mod clock;
pub mod conformance;
#[cfg(feature = "onnx")]
pub mod convert;
pub mod data;
pub mod engine;
pub mod error;
pub mod format;
#[cfg(feature = "onnx")]
pub mod graph;
pub mod kernel;
pub mod layer;
pub mod live;
pub mod loss;
pub mod measure;
pub mod model;
pub mod optim;
pub mod oracle;
pub mod recording;
pub mod report;
pub mod schedule;
pub mod task;
pub mod tensor;
pub mod train;
mod wait;

pub use cell::CellKind;
pub use engine::Engine;
pub use error::{Error, Result};
pub use layer::{Crf, Embedding, InitialState, Initializer, Linear, Recurrent, Sequence};
pub use loss::{Loss, Objective, Target, cross_entropy};
pub use model::Sequential;
pub use optim::Optimizer;
pub use schedule::Recorder;

// Crates whose types are in this one's interface.
pub use ndarray;
pub use tensor::{NamedTensors, Value};
pub use wgpu;

/// The README's examples, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
