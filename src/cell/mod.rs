//! Cells as users meet them: parameter names and shapes, gate orders of other systems.

mod order;

pub use crate::kernel::CellKind;
pub use order::{GateOrder, reorder_gates, restore_gates};

/// One parameter of a recurrent layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShape {
    /// PyTorch's name: `weight_ih_l0` …
    pub name: String,
    /// PyTorch's shape: `[G·H, I]`, `[G·H, H]` or `[G·H]`.
    pub shape: Vec<usize>,
}

/// The four parameters of layer `layer`, in PyTorch's names and order: weight_ih \[G·H, I\],
/// weight_hh \[G·H, H\], bias_ih \[G·H\], bias_hh \[G·H\].
pub fn parameters(
    cell: CellKind,
    layer: usize,
    input: usize,
    hidden: usize,
) -> [ParameterShape; 4] {
    let rows = cell.gates() * hidden;
    let make = |stem: &str, shape: &[usize]| ParameterShape {
        name: format!("{stem}_l{layer}"),
        shape: shape.to_vec(),
    };
    [
        make("weight_ih", &[rows, input]),
        make("weight_hh", &[rows, hidden]),
        make("bias_ih", &[rows]),
        make("bias_hh", &[rows]),
    ]
}
