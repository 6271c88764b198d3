//! Cells as users meet them: parameter names and shapes, gate orders of other systems.

mod order;

pub use crate::kernel::{Activation, Cell, CellKind, CustomCell};
pub use order::{GateOrder, reorder_gates, restore_gates};

/// One parameter of a recurrent layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShape {
    /// PyTorch's name: `weight_ih_l0` …
    pub name: String,
    /// PyTorch's shape: `[G·H, I]`, `[G·H, H]` or `[G·H]`.
    pub shape: Vec<usize>,
}
