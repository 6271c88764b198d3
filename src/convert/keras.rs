//! Keras' arrays as npz: names that end in `kernel` \[I, G·H\], `recurrent_kernel` \[H, G·H\] and
//! `bias`: \[G·H\], or \[2, 3·H\] of a GRU that resets after the product. `backward_…` beside
//! `forward_…` is the other direction of one layer.

use super::{CellChoice, FoundLayer, LayerFacts, choice_for, told_cell};
use crate::cell::{GateOrder, reorder_gates};
use crate::error::{Error, Result};
use crate::format::npz::read_arrays;
use crate::graph::{Direction, RecurrentCell, RecurrentNode};
use crate::tensor::{Value, require_finite};
use ndarray::{Array1, Array2, ArrayD, Ix2};
use std::collections::BTreeMap;
use std::path::Path;

const RECURRENT: &str = "recurrent_kernel";

/// The arrays of a file without the `:0` that TensorFlow adds to names.
struct Arrays<'a> {
    path: &'a Path,
    by_name: BTreeMap<String, Value>,
}

impl Arrays<'_> {
    fn get(&self, name: &str) -> Result<Option<&ArrayD<f32>>> {
        match self.by_name.get(name) {
            None => Ok(None),
            Some(Value::F32(array)) => {
                let finite = require_finite(name, array.view());
                finite.map_err(|e| Error::format(self.path, e.to_string()))?;
                Ok(Some(array))
            }
            Some(other) => {
                let reason = format!("array '{name}' is {}; float32 is needed", other.kind());
                Err(Error::format(self.path, reason))
            }
        }
    }

    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let array = self.get(name)?.ok_or_else(|| Error::Missing {
            tensor: name.to_string(),
            place: self.path.display().to_string(),
        })?;
        array.clone().into_dimensionality::<Ix2>().map_err(|_| self.shape(name, "[_, _]", array))
    }

    fn shape(&self, name: &str, expected: &str, got: &ArrayD<f32>) -> Error {
        let reason = format!("array '{name}' has shape {:?}, not {expected}", got.shape());
        Error::format(self.path, reason)
    }
}

/// The layers of a file.
pub(super) fn layers(path: &Path, choice: Option<CellChoice>) -> Result<Vec<FoundLayer>> {
    let arrays = read_arrays(path)?.into_iter();
    let plain = |name: String| name.strip_suffix(":0").map(str::to_string).unwrap_or(name);
    let by_name = arrays.map(|(name, value)| (plain(name), value)).collect();
    let arrays = Arrays { path, by_name };
    let prefixes: Vec<&str> =
        arrays.by_name.keys().filter_map(|name| name.strip_suffix(RECURRENT)).collect();
    let mut layers = Vec::new();
    for &prefix in &prefixes {
        let forward = prefix.replace("backward_", "forward_");
        let backward = prefix.replace("forward_", "backward_");
        if forward != prefix && prefixes.contains(&&*forward) {
            // The second direction of a layer that is read with its first.
            continue;
        }
        let mut node = layer(&arrays, prefix, choice)?;
        if backward != prefix && prefixes.contains(&&*backward) {
            let other = layer(&arrays, &backward, choice)?;
            let same = |a: &RecurrentNode, b: &RecurrentNode| {
                (a.cell, a.input, a.hidden) == (b.cell, b.input, b.hidden)
            };
            if !same(&node, &other) {
                let reason = format!("'{prefix}' and '{backward}' are no two directions");
                return Err(Error::format(path, reason));
            }
            node.directions.extend(other.directions);
            node.directions[1].reverse = true;
        }
        let name = prefix.trim_end_matches(['/', '.', '_']).replace('/', ".");
        let facts = LayerFacts::of(&node, name, 0);
        layers.push(FoundLayer { facts, weights: Ok(node) });
    }
    Ok(layers)
}

/// One direction of one layer.
fn layer(arrays: &Arrays<'_>, prefix: &str, choice: Option<CellChoice>) -> Result<RecurrentNode> {
    let path = arrays.path;
    let name = |stem: &str| format!("{prefix}{stem}");
    let (kernel, recurrent) = (arrays.matrix(&name("kernel"))?, arrays.matrix(&name(RECURRENT))?);
    let (input, hidden) = (kernel.nrows(), recurrent.nrows());
    let gates = recurrent.ncols() / hidden.max(1);
    let choice = choice_for(gates, choice);
    let mut cell = told_cell(path, prefix, gates, choice)?;
    let rows = cell.gate_kind().gates() * hidden;
    for (matrix, stem) in [(&kernel, "kernel"), (&recurrent, RECURRENT)] {
        if matrix.ncols() != rows || matrix.is_empty() {
            let got = matrix.clone().into_dyn();
            return Err(arrays.shape(&name(stem), &format!("[_, {rows}]"), &got));
        }
    }
    let bias = arrays.get(&name("bias"))?;
    if cell.operator() == "GRU" {
        cell = gru(arrays, prefix, bias, rows, choice)?;
    }
    let order = |values: Vec<f32>| reorder_gates(cell.gate_kind(), GateOrder::Keras, &values);
    let turned = |matrix: &Array2<f32>| -> Result<Array2<f32>> {
        let values = order(matrix.t().iter().copied().collect())?;
        Array2::from_shape_vec((rows, matrix.nrows()), values)
            .map_err(|e| Error::format(path, e.to_string()))
    };
    let bias = match bias {
        None => None,
        Some(bias) => {
            let mut values = bias.iter().copied();
            let mut next = || values.by_ref().take(rows).collect::<Vec<f32>>();
            let first = Array1::from(order(next())?);
            // One vector stands with the input product; the recurrent product then has none.
            let second = next();
            let second = if second.is_empty() { vec![0.0; rows] } else { second };
            if values.next().is_some() || bias.len() != rows && bias.shape() != [2, rows] {
                return Err(arrays.shape(&name("bias"), &format!("[{rows}]"), bias));
            }
            Some([first, Array1::from(order(second)?)])
        }
    };
    let activations = match (cell, choice) {
        (RecurrentCell::Rnn, None) => Vec::new(),
        (_, Some(choice)) => choice.activations(),
        (cell, None) => cell.activations().to_vec(),
    };
    let node = RecurrentNode {
        name: prefix.to_string(),
        cell,
        input,
        hidden,
        clip: None,
        coupled: false,
        directions: vec![Direction {
            reverse: false,
            activations,
            weight_ih: turned(&kernel)?,
            weight_hh: turned(&recurrent)?,
            bias,
            peephole: None,
            projection: None,
        }],
    };
    node.check().map_err(|e| Error::format(path, e.to_string()))?;
    Ok(node)
}

/// Which of the two GRUs: its bias says it, if it has one.
fn gru(
    arrays: &Arrays<'_>,
    prefix: &str,
    bias: Option<&ArrayD<f32>>,
    rows: usize,
    choice: Option<CellChoice>,
) -> Result<RecurrentCell> {
    match (bias, choice) {
        (Some(bias), _) if bias.shape() == [2, rows] => Ok(RecurrentCell::Gru),
        (Some(bias), _) if bias.shape() == [rows] => Ok(RecurrentCell::GruResetBefore),
        (Some(bias), _) => {
            let wanted = format!("[2, {rows}] (reset_after) or [{rows}]");
            Err(arrays.shape(&format!("{prefix}bias"), &wanted, bias))
        }
        (None, Some(choice)) => Ok(choice.cell),
        (None, None) => Err(Error::format(
            arrays.path,
            format!(
                "the GRU '{prefix}' has no bias that would tell whether it resets after or before \
                 the product: say --cell gru (reset_after=True) or --cell gru_reset_before"
            ),
        )),
    }
}
