//! Runs ONNX graphs: recurrent operators on an engine, the small glue around them on the host.
//!
//! [`Model::read`] decodes a file, [`Model::run`] walks its nodes in the order of the file, which ONNX
//! wants to be topological; a [`Session`] does so again and again, with its layers loaded. What isn't supported is named with its node before anything runs, and
//! nothing is guessed. `walk` has the scopes, `call` is a node beside its inputs; the operators are in
//! `elementwise`, `shape`, `slice`, `linear`, `conv`, `reduce`; `recurrent` turns a node into a
//! [`RecurrentNode`], and `operator` runs that.

mod activation;
mod call;
mod conv;
mod elementwise;
mod linear;
mod model;
mod node;
mod operator;
mod ports;
mod recurrent;
mod reduce;
mod shape;
mod slice;
mod support;
mod walk;

pub use crate::tensor::Value;
pub use activation::Activation;
pub use model::{Attribute, Axis, Graph, Model, Node, Port};
pub use node::{Direction, RecurrentCell, RecurrentNode, States};
pub use operator::run_recurrent;
pub use recurrent::{Options, Weights, decode, options};
pub(crate) use support::unknown_attribute;
pub use walk::Session;
