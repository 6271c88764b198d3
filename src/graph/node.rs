//! A recurrent layer of one or two directions, from whatever file: weights in our gate order, with
//! every option that ONNX's operators have.

use super::activation::Activation;
use crate::cell::CellKind;
use crate::error::{Error, Result};
use ndarray::{Array1, Array2, Array3};
use serde::{Deserialize, Serialize};

/// A cell as other systems have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecurrentCell {
    /// h' = f(W·x + b + R·h + b′).
    Rnn,
    /// Gates i, f, g, o.
    Lstm,
    /// Gates r, z, n, the reset after the product.
    Gru,
    /// Gates r, z, n, the reset before the product.
    GruResetBefore,
}

impl RecurrentCell {
    /// Its name, as in [`crate::cell`] and `docs/operator.md`.
    pub fn name(self) -> &'static str {
        match self {
            RecurrentCell::Rnn => "rnn",
            RecurrentCell::Lstm => "lstm",
            RecurrentCell::Gru => "gru",
            RecurrentCell::GruResetBefore => "gru_reset_before",
        }
    }

    /// The operator's name in ONNX.
    pub fn operator(self) -> &'static str {
        match self {
            RecurrentCell::Rnn => "RNN",
            RecurrentCell::Lstm => "LSTM",
            RecurrentCell::Gru | RecurrentCell::GruResetBefore => "GRU",
        }
    }

    /// A cell with the same gates in the same order.
    pub fn gate_kind(self) -> CellKind {
        match self {
            RecurrentCell::Rnn => CellKind::RnnTanh,
            RecurrentCell::Lstm => CellKind::Lstm,
            RecurrentCell::Gru | RecurrentCell::GruResetBefore => CellKind::Gru,
        }
    }

    /// Its usual activations in ONNX's order: f of the RNN; f, g of the GRU; f, g, h of the LSTM.
    pub fn activations(self) -> &'static [Activation] {
        match self {
            RecurrentCell::Rnn => &[Activation::Tanh],
            RecurrentCell::Lstm => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            RecurrentCell::Gru | RecurrentCell::GruResetBefore => {
                &[Activation::Sigmoid, Activation::Tanh]
            }
        }
    }
}

/// A recurrent layer. H hidden units, I inputs, P = H or the width of the projection, G gates (the
/// LSTM's 4, or 3 where they are coupled: i, g, o).
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentNode {
    /// What messages call it.
    pub name: String,
    /// The equations.
    pub cell: RecurrentCell,
    /// I.
    pub input: usize,
    /// H.
    pub hidden: usize,
    /// Every gate's pre-activation is cut to ±clip.
    pub clip: Option<f32>,
    /// The LSTM's f is 1 − i.
    pub coupled: bool,
    /// One direction, or forward and reverse.
    pub directions: Vec<Direction>,
}

/// One direction of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// From each row's last valid step to its first.
    pub reverse: bool,
    /// In ONNX's order. Empty where the file does not say it: an RNN's tanh or relu.
    pub activations: Vec<Activation>,
    /// \[G·H, I\].
    pub weight_ih: Array2<f32>,
    /// \[G·H, P\].
    pub weight_hh: Array2<f32>,
    /// Of the input and of the recurrent product, \[G·H\] each.
    pub bias: Option<[Array1<f32>; 2]>,
    /// \[3H\] in the order i, f, o; \[2H\], i, o, of coupled gates.
    pub peephole: Option<Array1<f32>>,
    /// \[P, H\].
    pub projection: Option<Array2<f32>>,
}

/// Initial or final states, \[D, B, H\]; c is the LSTM's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States {
    /// h. None: zeros.
    pub h: Option<Array3<f32>>,
    /// c. None: zeros, or no LSTM.
    pub c: Option<Array3<f32>>,
}

impl RecurrentNode {
    /// G, rows of the weights for each unit.
    pub fn gates(&self) -> usize {
        if self.coupled { 3 } else { self.cell.gate_kind().gates() }
    }

    /// P: the width of h.
    pub fn output(&self) -> usize {
        let first = self.directions.first();
        first.and_then(|d| d.projection.as_ref()).map_or(self.hidden, Array2::nrows)
    }

    /// Checks that all shapes are those that the sizes ask for.
    ///
    /// # Errors
    /// The weight that has another shape.
    pub fn check(&self) -> Result<()> {
        let (h, i) = (self.hidden, self.input);
        // Beside an extent of 0, H may be any number in a file.
        let (rows, p) = (self.gates().saturating_mul(h), self.output());
        if h == 0 || i == 0 || p == 0 || !matches!(self.directions.len(), 1 | 2) {
            let sizes = format!("input {i}, hidden {h}, {} directions", self.directions.len());
            return Err(Error::invalid(format!("{}: {sizes}", self.name)));
        }
        for direction in &self.directions {
            let of = if direction.reverse { "the reverse direction of " } else { "" };
            let is = |what: &str, wanted: &[usize], got: &[usize]| {
                if wanted == got {
                    return Ok(());
                }
                Err(Error::shape(format!("{what} of {of}{}", self.name), wanted, got))
            };
            is("weight_ih", &[rows, i], direction.weight_ih.shape())?;
            is("weight_hh", &[rows, p], direction.weight_hh.shape())?;
            for bias in direction.bias.iter().flatten() {
                is("bias", &[rows], bias.shape())?;
            }
            if let Some(peephole) = &direction.peephole {
                let vectors: usize = if self.coupled { 2 } else { 3 };
                is("peephole", &[vectors.saturating_mul(h)], peephole.shape())?;
            }
            if let Some(projection) = &direction.projection {
                is("weight_hr", &[p, h], projection.shape())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_weights_of_absurd_width_do_not_pass() {
        // 4·H is 0 in 64 bits.
        let hidden = 1 << 62;
        let direction = Direction {
            reverse: false,
            activations: RecurrentCell::Lstm.activations().to_vec(),
            weight_ih: Array2::zeros((0, 1)),
            weight_hh: Array2::zeros((0, hidden)),
            bias: None,
            peephole: None,
            projection: None,
        };
        let node = RecurrentNode {
            name: "rnn".to_string(),
            cell: RecurrentCell::Lstm,
            input: 1,
            hidden,
            clip: None,
            coupled: false,
            directions: vec![direction],
        };
        assert!(matches!(node.check(), Err(Error::Shape { .. })));
    }
}
