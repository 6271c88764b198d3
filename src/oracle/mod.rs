//! The float64 oracle: recurrent networks, losses and optimizers as the papers print them.
//!
//! Written for the reader: one line for one term of an equation, nothing shared with the engines.
//! Its only task is to be right, so that the fast kernels can be compared with it.
//! [`recurrent`] has every cell and option, forward only; the gradients come from [`tape`]. Sizes
//! are written T (time steps), B (batch rows), I (inputs of a layer), H (hidden units), P (width
//! of h), G (gates), V (vocabulary), E (embedding), N (rows), O (outputs).
//!
//! Every entry checks its shapes and returns [`Error::Shape`] or
//! [`Error::Invalid`]; none panics on bad input.

mod crf;
mod loss;
mod optim;
mod random;
pub mod recurrent;
pub mod tape;

use crate::error::{Error, Result};

pub use crf::{ChainGradients, ChainScores};
pub use loss::{
    ElementLoss, LinearGradients, Valued, activation_penalty, element_loss, embedding,
    embedding_backward, linear, linear_backward, softmax_cross_entropy, temporal_penalty,
    weighted_cross_entropy,
};
pub use optim::{Adam, AdamW, RmsProp, Sgd, clip_norm, clip_value};
pub use random::{dropout_multipliers, threefry2x32};

/// `Ok` when the two shapes are equal.
fn same_shape(tensor: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::shape(tensor, expected, got)) }
}
