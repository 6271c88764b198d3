//! The options of recurrent layers, for all tasks.

use super::options::{rate, size};
use crate::args::cell_parser;
use clap::Args;
use recurra::cell::CellKind;
use recurra::task::RecurrentConfig;

/// The recurrent layers of a model.
#[derive(Args)]
pub struct NetworkArgs {
    /// The recurrent cell; rnn is rnn_tanh
    #[arg(long, default_value = "lstm", value_parser = cell_parser(), conflicts_with = "resume")]
    pub cell: CellKind,
    /// Hidden units of a layer
    #[arg(long, value_name = "H", default_value = "128", value_parser = size,
          conflicts_with = "resume")]
    pub hidden: usize,
    /// Recurrent layers
    #[arg(long, value_name = "L", default_value = "2", value_parser = size,
          conflicts_with = "resume")]
    pub layers: usize,
    /// Two of each layer, one over the steps from the last to the first: not for what predicts the next step; taggers have them
    /// anyway
    #[arg(long, conflicts_with = "resume")]
    pub both: bool,
    /// Dropout between the layers and before the linear one
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = rate,
          conflicts_with = "resume")]
    pub dropout: f32,
    /// Dropout on the recurrent weights
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = rate,
          conflicts_with = "resume")]
    pub weight_drop: f32,
    /// Layer norm in the cell
    #[arg(long, conflicts_with = "resume")]
    pub layer_norm: bool,
    /// Where an LSTM's forget gate starts
    #[arg(long, value_name = "BIAS", conflicts_with = "resume", allow_negative_numbers = true)]
    pub forget_bias: Option<f32>,
    /// Recurrent weights start orthogonal
    #[arg(long, conflicts_with = "resume")]
    pub orthogonal: bool,
}

impl NetworkArgs {
    /// What a model's configuration keeps of them.
    pub fn config(&self) -> RecurrentConfig {
        RecurrentConfig {
            layers: self.layers,
            both: self.both,
            dropout: self.dropout,
            layer_norm: self.layer_norm,
            weight_drop: self.weight_drop,
            forget_bias: self.forget_bias,
            orthogonal: self.orthogonal,
            ..RecurrentConfig::new(self.cell, self.hidden)
        }
    }
}
