//! The recurrent part that tasks' models have in common.

use crate::cell::{Cell, CellKind};
use crate::error::{Error, Result};
use crate::layer::{
    Direction, ForgetBias, Initializer, Merge, Recurrent, RecurrentInit, WeightInit,
};
use crate::tensor::NamedTensors;
use serde::{Deserialize, Serialize};

/// The most layers of a model.
const MOST_LAYERS: usize = 1 << 12;

/// ε of layer norm in the cell.
const LAYER_NORM: f32 = 1e-5;

/// Recurrent layers of a model, as its configuration keeps them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentConfig {
    /// `lstm`, `gru`, `rnn_tanh` …
    pub cell: String,
    /// Hidden units H.
    pub hidden: usize,
    /// Layers L.
    pub layers: usize,
    /// Dropout between the layers, and before what comes behind them.
    pub dropout: f32,
    /// Both directions, side by side.
    #[serde(default, skip_serializing_if = "is_false")]
    pub both: bool,
    /// Layer norm in the cell (Ba 2016).
    #[serde(default, skip_serializing_if = "is_false")]
    pub layer_norm: bool,
    /// Dropout on the recurrent weights (Merity 2017).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight_drop: f32,
    /// Where an LSTM's forget gate starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_bias: Option<f32>,
    /// Recurrent weights start orthogonal, each gate by itself (Saxe 2014).
    #[serde(default, skip_serializing_if = "is_false")]
    pub orthogonal: bool,
}

pub(super) fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn is_zero(rate: &f32) -> bool {
    *rate == 0.0
}

/// What the parameters of a cell's layers begin with: PyTorch's name of the module, or the cell's.
pub(crate) fn stem(cell: CellKind) -> &'static str {
    match cell {
        CellKind::RnnTanh | CellKind::RnnRelu => "rnn",
        other => other.name(),
    }
}

impl RecurrentConfig {
    /// One layer without options.
    pub fn new(cell: CellKind, hidden: usize) -> Self {
        RecurrentConfig {
            cell: cell.name().to_string(),
            hidden,
            layers: 1,
            dropout: 0.0,
            both: false,
            layer_norm: false,
            weight_drop: 0.0,
            forget_bias: None,
            orthogonal: false,
        }
    }

    /// The layers over inputs of a width, and how they start. Their parameters begin with PyTorch's name of the
    /// module: `lstm`, `gru`, `rnn`, or the cell's.
    ///
    /// # Errors
    /// An unknown cell, a size of zero, a rate outside \[0, 1), options that don't fit together.
    pub fn build(&self, input: usize) -> Result<(Recurrent, RecurrentInit)> {
        // Their parameters are listed before a device is asked whether it has room.
        if self.layers > MOST_LAYERS {
            return Err(Error::invalid(format!(
                "{} layers are more than the {MOST_LAYERS} that a model may have",
                self.layers
            )));
        }
        let cell = CellKind::ALL.into_iter().find(|c| c.name() == self.cell);
        let cell = cell.ok_or_else(|| {
            let known: Vec<_> = CellKind::ALL.iter().map(|c| c.name()).collect();
            Error::invalid(format!("unknown cell '{}'; there are {}", self.cell, known.join(", ")))
        })?;
        let stem = stem(cell);
        let cell = Cell { layer_norm: self.layer_norm.then_some(LAYER_NORM), ..Cell::from(cell) };
        let direction = if self.both { Direction::Both(Merge::Concat) } else { Direction::Forward };
        let stack = Recurrent {
            layers: self.layers,
            dropout: self.dropout,
            weight_drop: self.weight_drop,
            direction,
            ..Recurrent::new(stem, cell.clone(), input, self.hidden)
        };
        stack.check()?;
        if self.orthogonal && cell.kind.is_scan() {
            let what = format!("cell {} has no recurrent weights to start orthogonal", self.cell);
            return Err(Error::invalid(what));
        }
        let mut init = RecurrentInit::PYTORCH;
        if self.orthogonal {
            init.recurrent = WeightInit::OrthogonalPerGate;
        }
        if let Some(bias) = self.forget_bias {
            if !matches!(cell.kind, CellKind::Lstm | CellKind::Slstm) {
                let what = format!("cell {} has no forget gate for a forget bias", self.cell);
                return Err(Error::invalid(what));
            }
            init.forget = ForgetBias::Value(bias);
        }
        // What is wrong with them is said here, not when weights are drawn.
        let tiny = Recurrent { input: 1, hidden: 1, layers: 1, ..stack.clone() };
        tiny.init_with(init, &mut Initializer::new(0), &mut NamedTensors::new())?;
        Ok((stack, init))
    }

    /// As in `lstm 2x128`.
    pub fn title(&self) -> String {
        let both = if self.both { " both ways" } else { "" };
        format!("{} {}x{}{both}", self.cell, self.layers, self.hidden)
    }
}
