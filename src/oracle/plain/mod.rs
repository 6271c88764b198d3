//! The first recurrent oracle: four cells, each with its backward pass written by hand.
//!
//! [`super::recurrent`] has every cell and option, with gradients from a tape; this stays for as
//! long as something compares with it.

mod recurrent;
mod through_time;

use ndarray::{Array1, Array2};

use super::same_shape;
use crate::error::{Error, Result};

pub use recurrent::{Forward, forward};
pub use through_time::{Gradients, backward};

/// The recurrent cells, with PyTorch's gate orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Elman's network with tanh; one gate.
    RnnTanh,
    /// Elman's network with a rectifier; one gate.
    RnnRelu,
    /// Long short-term memory without peepholes; gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit, the reset after the recurrent product; gates r, z, n.
    Gru,
}

impl Cell {
    /// G, how many blocks of H rows the weights have.
    pub fn gates(self) -> usize {
        match self {
            Cell::RnnTanh | Cell::RnnRelu => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }

    /// Whether the state has a cell vector c beside h.
    pub fn has_c(self) -> bool {
        self == Cell::Lstm
    }
}

/// The weights of one layer, or the gradients with respect to them.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Input weights `[G·H, I]`, the gates' blocks one below the other.
    pub w_ih: Array2<f64>,
    /// Recurrent weights `[G·H, H]`.
    pub w_hh: Array2<f64>,
    /// The bias beside the input weights `[G·H]`.
    pub b_ih: Array1<f64>,
    /// The bias beside the recurrent weights `[G·H]`.
    pub b_hh: Array1<f64>,
}

impl Weights {
    /// All zero, for `inputs` I and `hidden` H.
    pub fn zeros(cell: Cell, inputs: usize, hidden: usize) -> Self {
        let rows = cell.gates() * hidden;
        Weights {
            w_ih: Array2::zeros((rows, inputs)),
            w_hh: Array2::zeros((rows, hidden)),
            b_ih: Array1::zeros(rows),
            b_hh: Array1::zeros(rows),
        }
    }

    /// H, read off the recurrent weights.
    pub fn hidden(&self) -> usize {
        self.w_hh.ncols()
    }

    /// I, read off the input weights.
    pub fn inputs(&self) -> usize {
        self.w_ih.ncols()
    }

    /// Checks every tensor against `cell`, `inputs` and this layer's own H.
    fn check(&self, cell: Cell, layer: usize, inputs: usize) -> Result<()> {
        let (hidden, rows) = (self.hidden(), cell.gates() * self.hidden());
        same_shape(&format!("weight_ih_l{layer}"), &[rows, inputs], self.w_ih.shape())?;
        same_shape(&format!("weight_hh_l{layer}"), &[rows, hidden], self.w_hh.shape())?;
        same_shape(&format!("bias_ih_l{layer}"), &[rows], self.b_ih.shape())?;
        same_shape(&format!("bias_hh_l{layer}"), &[rows], self.b_hh.shape())
    }
}

/// The state of one layer between two time steps, or the gradient with respect to it.
#[derive(Clone, Debug)]
pub struct State {
    /// The hidden vector `[B, H]`.
    pub h: Array2<f64>,
    /// The cell vector `[B, H]`; `Some` for the LSTM, `None` for every other cell.
    pub c: Option<Array2<f64>>,
}

impl State {
    /// All zero, with a c where `cell` has one.
    pub fn zeros(cell: Cell, batch: usize, hidden: usize) -> Self {
        let zeros = Array2::zeros((batch, hidden));
        State { c: cell.has_c().then(|| zeros.clone()), h: zeros }
    }

    /// Checks h and c against `[B, H]`, and c's presence against `cell`.
    fn check(&self, cell: Cell, name: &str, layer: usize, shape: &[usize; 2]) -> Result<()> {
        same_shape(&format!("h of {name}, layer {layer}"), shape, self.h.shape())?;
        let tensor = format!("c of {name}, layer {layer}");
        match (&self.c, cell.has_c()) {
            (Some(c), true) => same_shape(&tensor, shape, c.shape()),
            (None, false) => Ok(()),
            (None, true) => {
                Err(Error::Shape { tensor, expected: format!("{shape:?}"), got: "none".into() })
            }
            (Some(c), false) => Err(Error::Shape {
                tensor,
                expected: "none (only the LSTM has one)".into(),
                got: format!("{:?}", c.shape()),
            }),
        }
    }
}
