//! Other people's weights: the recurrent layers of a file, in PyTorch's names and order, and back
//! into ONNX.
//!
//! [`import`] tells the format by the file's content. Each layer becomes a [`FoundLayer`]: facts that
//! can be listed, and the weights as a [`RecurrentNode`], in our gate order. Nothing is rounded: gate
//! blocks are moved, kernels transposed, and that is all.

mod export;
mod keras;
mod language_model;
mod onnx;
mod pytorch;

pub use export::export_layers;
pub use language_model::{export_language_model, language_model_tensors};
pub use pytorch::{METADATA, to_tensors};

use crate::error::{Error, Result};
use crate::format::npz;
use crate::graph::{Activation, RecurrentCell, RecurrentNode};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// What there is to know about a recurrent layer but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// What comes before `weight_ih_l0` in PyTorch's names, without the dot; often empty.
    pub name: String,
    /// Its place in the stack of that name, from 0.
    pub layer: usize,
    /// The equations.
    pub cell: RecurrentCell,
    /// I, where the file says it.
    pub input: Option<usize>,
    /// H, where the file says it.
    pub hidden: Option<usize>,
    /// P, the width of an LSTM's projection.
    pub projection: Option<usize>,
    /// `forward`, `reverse`, or both.
    pub directions: Vec<String>,
    /// Whether it has biases.
    pub bias: bool,
    /// Whether it has peepholes.
    pub peepholes: bool,
    /// Whether f is 1 − i.
    pub coupled: bool,
    /// The bound of pre-activations.
    pub clip: Option<f32>,
    /// For each direction its activations in ONNX's order; none where the file doesn't say an RNN's.
    pub activations: Option<Vec<Vec<Activation>>>,
    /// Whether its sequences are \[B, T, …\], where the file says it.
    pub batch_first: Option<bool>,
}

/// A recurrent layer of a file.
#[derive(Clone, Debug)]
pub struct FoundLayer {
    /// What can be listed.
    pub facts: LayerFacts,
    /// The weights, or why they can't be had.
    pub weights: Result<RecurrentNode, String>,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Import {
    /// `PyTorch`, `Keras` or `ONNX`.
    pub format: &'static str,
    /// The layers, at least one.
    pub layers: Vec<FoundLayer>,
}

/// What a user says of layers whose file leaves it open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellChoice {
    /// The equations.
    pub cell: RecurrentCell,
    /// The RNN's activation.
    pub activation: Option<Activation>,
}

impl CellChoice {
    /// The names of [`CellChoice::named`].
    pub const NAMES: [&'static str; 5] =
        ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"];

    /// The cell of that name.
    pub fn named(name: &str) -> Option<Self> {
        let (cell, activation) = match name {
            "rnn_tanh" => (RecurrentCell::Rnn, Some(Activation::Tanh)),
            "rnn_relu" => (RecurrentCell::Rnn, Some(Activation::Relu)),
            "lstm" => (RecurrentCell::Lstm, None),
            "gru" => (RecurrentCell::Gru, None),
            "gru_reset_before" => (RecurrentCell::GruResetBefore, None),
            _ => return None,
        };
        Some(CellChoice { cell, activation })
    }

    /// The activations of each direction.
    fn activations(self) -> Vec<Activation> {
        match self.activation {
            Some(activation) => vec![activation],
            None => self.cell.activations().to_vec(),
        }
    }
}

impl LayerFacts {
    /// The facts of a layer whose weights are there.
    pub fn of(node: &RecurrentNode, name: String, layer: usize) -> Self {
        let said = node.directions.iter().all(|direction| !direction.activations.is_empty());
        let activations = node.directions.iter().map(|direction| direction.activations.clone());
        LayerFacts {
            name,
            layer,
            cell: node.cell,
            input: Some(node.input),
            hidden: Some(node.hidden),
            projection: node.directions.iter().find_map(|d| Some(d.projection.as_ref()?.nrows())),
            directions: node.directions.iter().map(|d| direction_name(d.reverse)).collect(),
            bias: node.directions.iter().any(|direction| direction.bias.is_some()),
            peepholes: node.directions.iter().any(|direction| direction.peephole.is_some()),
            coupled: node.coupled,
            clip: node.clip,
            activations: said.then(|| activations.collect()),
            batch_first: None,
        }
    }
}

fn direction_name(reverse: bool) -> String {
    if reverse { "reverse" } else { "forward" }.to_string()
}

/// The recurrent layers of a file: a PyTorch state dict as safetensors, a Keras model's arrays as npz,
/// or an ONNX model. `choice` settles what the file leaves open.
///
/// # Errors
/// The file can't be read, or is none of these; it has no recurrent layer; a weight of a wrong shape,
/// or one that is missing; what the file leaves open where there is no choice.
pub fn import(path: &Path, choice: Option<CellChoice>) -> Result<Import> {
    let mut start = [0; 9];
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, "read", e))?;
    let length = file.read(&mut start).map_err(|e| Error::io(path, "read", e))?;
    let start = &start[..length];
    let (format, layers) = if npz::is_numpy(start) {
        ("Keras", keras::layers(path, choice)?)
    } else if start.get(8) == Some(&b'{') {
        ("PyTorch", pytorch::layers(path, choice)?)
    } else {
        let layers = onnx::layers(path);
        // Bytes of no known start: say all that it could have been.
        ("ONNX", layers.map_err(|error| unknown(path, error))?)
    };
    if layers.is_empty() {
        return Err(Error::format(path, format!("no recurrent layers: {}", looked_for(format))));
    }
    if let Some(choice) = choice {
        let gates = choice.cell.gate_kind();
        if layers.iter().all(|layer| layer.facts.cell.gate_kind() != gates) {
            let cells: Vec<_> = layers.iter().map(|layer| layer.facts.cell.name()).collect();
            let (said, cells) = (choice.cell.name(), cells.join(", "));
            return Err(Error::format(path, format!("no layer has the gates of {said}: {cells}")));
        }
    }
    Ok(Import { format, layers })
}

fn unknown(path: &Path, error: Error) -> Error {
    let ending = path.extension().is_some_and(|ending| ending == "onnx");
    match error {
        Error::Format { path, reason } if !ending && reason.starts_with("no whole ONNX") => {
            let reason = format!("neither a whole safetensors, npz nor ONNX file ({reason})");
            Error::Format { path, reason }
        }
        other => other,
    }
}

fn looked_for(format: &str) -> &'static str {
    match format {
        "PyTorch" => "no tensor's name ends in weight_hh_l0 or the like",
        "Keras" => "no array's name ends in recurrent_kernel",
        _ => "no node is of the operators RNN, LSTM and GRU",
    }
}

/// The choice, for layers with as many gates as its cell.
fn choice_for(gates: usize, choice: Option<CellChoice>) -> Option<CellChoice> {
    choice.filter(|choice| choice.cell.gate_kind().gates() == gates)
}

/// The cell of a layer with so many gates, by the choice if there is one for it.
fn told_cell(
    path: &Path,
    layer: &str,
    gates: usize,
    choice: Option<CellChoice>,
) -> Result<RecurrentCell> {
    match (choice, gates) {
        (Some(choice), _) => Ok(choice.cell),
        (None, 1) => Ok(RecurrentCell::Rnn),
        (None, 3) => Ok(RecurrentCell::Gru),
        (None, 4) => Ok(RecurrentCell::Lstm),
        _ => {
            let reason = format!("layer '{layer}' has {gates} gates, as no cell that is known");
            Err(Error::format(path, reason))
        }
    }
}
