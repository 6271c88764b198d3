//! The recurrent operator, every cell and option of `docs/operator.md`, as forward equations on a
//! [tape](super::tape), which has the gradients.
//!
//! [`LayerSpec`] names a layer's equations, [`layer`] runs one direction of one layer on a tape,
//! and [`run`] a whole [`Stack`] on plain arrays, with every gradient.
//!
//! With a convolution the batch rows are B·S, S places of a map (row b·S + y·width + x), channels
//! in columns.

mod activation;
mod cells;
mod layer;
mod product;
mod spec;
mod stack;

use ndarray::Array2;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::tape::Node;

pub use activation::Activation;
pub use layer::{LayerRun, layer};
pub use spec::LayerSpec;
pub use stack::{
    Merge, Padding, Stack, StackForward, StackInput, StackResult, forward, run, run_on,
};

/// Arrays by name: the weights of a layer, or the gradients with respect to them. Names and
/// shapes are those of [`LayerSpec::weight_shapes`].
pub type Weights = BTreeMap<String, Array2<f64>>;

/// The same on a tape.
pub type WeightNodes<'t> = BTreeMap<String, Node<'t>>;

/// Which equations make the new states from the products and the old states. Gates in the order
/// of their blocks, states in theirs; the first state is always h.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Elman (1990). One gate; h.
    Rnn,
    /// Hochreiter, Schmidhuber (1997); Gers, Schmidhuber, Cummins (2000). Gates i, f, g, o, or
    /// i, g, o where coupled; h, c.
    Lstm,
    /// Cho et al. (2014), the reset after the product as in cuDNN. Gates r, z, n; h.
    Gru,
    /// Cho et al. (2014) as printed, and ONNX's default. Gates r, z, n; h.
    GruResetBefore,
    /// Beck et al. (2024), "xLSTM". Gates i, f, z, o; h, c, n, m.
    SLstm,
    /// Feng et al. (2024), "Were RNNs all we needed?". Gates z, n; h. No recurrent product.
    MinGru,
    /// The same; gates f, i, n; h.
    MinLstm,
    /// A user's.
    Custom(Arc<dyn CustomCell>),
}

/// A cell given as code, unit by unit.
pub trait CustomCell: Debug + Send + Sync {
    /// G.
    fn gates(&self) -> usize;

    /// S, at least one; the first is h.
    fn states(&self) -> usize;

    /// The new states `[S]` of one unit from its products X and R `[G]` and its old states `[S]`.
    fn forward(&self, x: &[f64], r: &[f64], old: &[f64], new: &mut [f64]);
}

/// What can be chosen of a layer. [`Options::default`] has everything off.
#[derive(Clone, Debug)]
pub struct Options {
    /// f for rnn; f (of i, f, o), g, h for lstm; f (of r, z), g for the grus. None: tanh and σ.
    pub activations: Option<Vec<Activation>>,
    /// LSTM: the gates see c (Gers, Schraudolph, Schmidhuber 2002).
    pub peepholes: bool,
    /// LSTM: f = 1 − i.
    pub coupled: bool,
    /// Pre-activations are clamped to ± this (ONNX).
    pub clip: Option<f64>,
    /// LSTM: c is clamped to ± this before o and h see it (cuDNN).
    pub cell_clip: Option<f64>,
    /// Layer normalisation (Ba, Kiros, Hinton 2016), with this ε.
    pub layer_norm: Option<f64>,
    /// Batch normalisation of the input product (Laurent et al. 2016), with this ε.
    pub batch_norm: Option<f64>,
    /// In how many heads the recurrent weights fall (Pöppel et al. 2024, "FlashRNN"); 1 is dense.
    pub heads: usize,
    /// LSTM: h = W_hr·(o⊙tanh c) has this width (Sak, Senior, Beaufays 2014).
    pub projection: Option<usize>,
    /// The products are convolutions (Shi et al. 2015).
    pub convolution: Option<Convolution>,
    /// From the last step to the first.
    pub reverse: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            activations: None,
            peepholes: false,
            coupled: false,
            clip: None,
            cell_clip: None,
            layer_norm: None,
            batch_norm: None,
            heads: 1,
            projection: None,
            convolution: None,
            reverse: false,
        }
    }
}

/// A map of height·width places and an odd kernel; one-dimensional maps have height 1. Zero
/// padding, stride 1, not flipped: tap (i, j) sees the place at (i, j) − (kernel − 1)/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
    /// Rows of the kernel.
    pub kernel_height: usize,
    /// Columns of the kernel.
    pub kernel_width: usize,
}

/// What changes from run to run beside the input.
#[derive(Clone, Debug, Default)]
pub struct Masks {
    /// `[T, B]`: which rows are part of their sequence; None: all.
    pub valid: Option<Array2<bool>>,
    /// `[T, B]`: which rows start anew before the step; None: none.
    pub resets: Option<Array2<bool>>,
    /// Multipliers `[B, P]` on the h of the product (Gal, Ghahramani 2016): none, one for all
    /// gates, or one for each.
    pub recurrent: Vec<Array2<f64>>,
    /// Zoneout (Krueger et al. 2017): empty, or for each state z `[T·B, width]`, where 1 keeps the
    /// old state; row t·B + b.
    pub zoneout: Vec<Option<Array2<f64>>>,
}
