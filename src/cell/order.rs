//! Gate orders. Ours is PyTorch's: i, f, g, o and r, z, n.

use super::CellKind;
use crate::error::{Error, Result};

/// Whose order the gate blocks of a weight or bias are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateOrder {
    /// PyTorch, cuDNN, Flax, Equinox: i f g o · r z n. Keras LSTM and oneDNN LSTM are the same.
    PyTorch,
    /// ONNX: i o f c · z r h.
    Onnx,
    /// Keras: i f c o · z r h.
    Keras,
    /// oneDNN: i f c o · u r o, which are z, r, n.
    OneDnn,
    /// WebNN, where no layout is named: iofg · zrn.
    WebNn,
    /// WebNN's other layouts: ifgo · rzn.
    WebNnOther,
}

impl GateOrder {
    /// All of them.
    pub const ALL: [GateOrder; 6] = [
        GateOrder::PyTorch,
        GateOrder::Onnx,
        GateOrder::Keras,
        GateOrder::OneDnn,
        GateOrder::WebNn,
        GateOrder::WebNnOther,
    ];

    /// For each of our gates, the block it has in this order.
    fn blocks(self, cell: CellKind) -> &'static [usize] {
        match (cell, self) {
            (CellKind::Lstm, GateOrder::Onnx | GateOrder::WebNn) => &[0, 2, 3, 1],
            (
                CellKind::Gru | CellKind::GruResetBefore,
                GateOrder::Onnx | GateOrder::Keras | GateOrder::OneDnn | GateOrder::WebNn,
            ) => &[1, 0, 2],
            _ => &[0, 1, 2, 3],
        }
    }
}

/// A weight or bias whose rows are G gate blocks in the order `from`, with its blocks in ours.
///
/// # Errors
/// The values are not G equal blocks.
pub fn reorder_gates(cell: CellKind, from: GateOrder, values: &[f32]) -> Result<Vec<f32>> {
    let gates = cell.gates();
    if values.is_empty() || !values.len().is_multiple_of(gates) {
        return Err(Error::invalid(format!(
            "{} values are not {gates} equal gate blocks",
            values.len()
        )));
    }
    let block = values.len() / gates;
    let blocks = from.blocks(cell)[..gates].iter();
    Ok(blocks.flat_map(|&g| values[g * block..(g + 1) * block].iter().copied()).collect())
}

/// The other way around: values whose gate blocks are in our order, with the blocks in that of `to`.
///
/// # Errors
/// The values are not G equal blocks.
pub fn restore_gates(cell: CellKind, to: GateOrder, values: &[f32]) -> Result<Vec<f32>> {
    // Each of our blocks goes where it is taken from on the way in.
    let mut restored = reorder_gates(cell, GateOrder::PyTorch, values)?;
    let block = values.len() / cell.gates();
    for (ours, &theirs) in to.blocks(cell)[..cell.gates()].iter().enumerate() {
        restored[theirs * block..][..block].copy_from_slice(&values[ours * block..][..block]);
    }
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn onnx_and_keras_orders() {
        let by_name = |cell, from, names: &[f32]| reorder_gates(cell, from, names).unwrap();
        // ONNX LSTM i o f c as 1 4 2 3 in our numbers.
        assert_eq!(by_name(CellKind::Lstm, GateOrder::Onnx, &[1., 4., 2., 3.]), [1., 2., 3., 4.]);
        assert_eq!(
            by_name(CellKind::Gru, GateOrder::Onnx, &[2., 2., 1., 1., 3., 3.])[..3],
            [1., 1., 2.]
        );
        assert_eq!(by_name(CellKind::Gru, GateOrder::Keras, &[2., 1., 3.]), [1., 2., 3.]);
        assert_eq!(by_name(CellKind::Lstm, GateOrder::Keras, &[1., 2., 3., 4.]), [1., 2., 3., 4.]);
        assert!(reorder_gates(CellKind::Gru, GateOrder::Onnx, &[1., 2.]).is_err());
        for cell in CellKind::ALL {
            for order in GateOrder::ALL {
                let values: Vec<f32> = (0..2 * cell.gates()).map(|k| k as f32).collect();
                let there = restore_gates(cell, order, &values).unwrap();
                assert_eq!(reorder_gates(cell, order, &there).unwrap(), values);
            }
        }
    }
}
