//! A step's products in matrices that subgroups multiply together; `shaders/shared/step_matrices.wgsl` has the picture.

use super::cut::numbers;
use super::{GroupLimits, StepKind, StepParams};
use crate::kernel::Binding;
use crate::tensor::DType;
use std::fmt;

/// Slices of the terms, a subgroup each, and matrices of terms that a slice has in a round: what keeps most loads under
/// way first.
const WAYS: [[usize; 2]; 10] =
    [[8, 4], [8, 2], [8, 1], [4, 4], [4, 2], [4, 1], [2, 2], [2, 1], [1, 2], [1, 1]];

/// Words of sums and of weights on their way that a thread may keep in registers.
const REGISTERS: usize = 160;

/// How a step's products are cut into matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepMatrices {
    /// Rows and columns of one: 8 or 16.
    pub size: usize,
    /// Threads of a subgroup.
    pub lanes: usize,
    /// Parts into which the terms go, a subgroup each.
    pub slices: usize,
    /// Matrices of terms that a slice has in a round.
    pub deep: usize,
    /// Matrices of batch rows: 1, 2 or 4.
    pub row_blocks: usize,
    /// Weights are loaded from where they lie: their lines are whole matrices.
    pub whole: bool,
}

/// What a phase multiplies.
pub(super) struct Products {
    /// Gates.
    pub gates: usize,
    /// Each gate has a source of its own, and they go one after another.
    pub each_its_own: bool,
    /// Each gate has a sum of its own.
    pub apart: bool,
}

impl Products {
    fn planes(&self) -> usize {
        if self.apart { self.gates } else { 1 }
    }

    fn gates_a_pass(&self) -> usize {
        if self.each_its_own { 1 } else { self.gates }
    }
}

impl StepMatrices {
    /// A cut of a step with so many terms for each gate, whose weights are `aligned` or not to whole vectors of eight: none
    /// where a workgroup has no memory for it.
    pub(super) fn choose(
        params: &StepParams,
        products: &Products,
        terms: u32,
        aligned: bool,
        limits: &GroupLimits,
    ) -> Option<Self> {
        let (size, lanes) = (limits.matrix, limits.lanes);
        if size == 0 || lanes == 0 || params.is_direct() {
            return None;
        }
        let lines = [params.head, params.depth, terms, params.w_offset];
        let whole = aligned && lines.iter().all(|n| n.is_multiple_of(size as u32));
        let matrices = (terms as usize).div_ceil(size);
        let row_blocks = match (params.batch as usize).div_ceil(size) {
            1 => 1,
            2 => 2,
            _ => 4,
        };
        let blocks = [4, 2, 1].into_iter().filter(|&blocks| blocks <= row_blocks);
        let ways = blocks.flat_map(|blocks| WAYS.map(|way| (blocks, way)));
        let cuts = ways.map(|(row_blocks, [slices, deep])| StepMatrices {
            size,
            lanes,
            slices,
            deep,
            row_blocks,
            whole,
        });
        let fits = |cut: &StepMatrices| {
            cut.slices * cut.deep <= matrices.max(1)
                && cut.threads() <= limits.threads
                && cut.bytes(products) <= limits.bytes
                && cut.words(products) <= REGISTERS
        };
        cuts.into_iter().find(fits)
    }

    /// Threads of a workgroup.
    pub fn threads(&self) -> usize {
        self.slices * self.lanes
    }

    /// Bytes of workgroup memory.
    fn bytes(&self, products: &Products) -> usize {
        let (rows, round) = (self.row_blocks * self.size, self.deep * self.size);
        let sources = 2 * rows * (self.slices * round + 8);
        let weights = 2 * self.slices * round * self.size * products.gates_a_pass();
        let parts = 4 * self.slices * rows * (self.size + 4);
        sources + if self.whole { 0 } else { weights } + parts
    }

    /// Words of a thread's sums and weights.
    fn words(&self, products: &Products) -> usize {
        let values = self.size * self.size;
        let sums = self.row_blocks * products.planes() * values.div_ceil(self.lanes);
        sums + self.deep * products.gates_a_pass() * values.div_ceil(2 * self.lanes)
    }

    pub(super) fn groups(&self, params: &StepParams) -> [u32; 3] {
        let rows = (self.row_blocks * self.size) as u32;
        let tiles = params.head.div_ceil(self.size as u32);
        [params.units / params.head * tiles, params.batch.div_ceil(rows), 1]
    }

    /// What the shader is told.
    pub(super) fn defines(&self, products: &Products) -> Vec<(&'static str, String)> {
        const GATES: [[&str; 2]; 4] = [
            ["GATES_0", "PLANE_0"],
            ["GATES_1", "PLANE_1"],
            ["GATES_2", "PLANE_2"],
            ["GATES_3", "PLANE_3"],
        ];
        let each = (self.row_blocks * self.size * self.size).div_ceil(self.threads());
        let passes = products.gates / products.gates_a_pass();
        let mut list = vec![
            ("MATRICES", String::new()),
            ("MATRIX", self.size.to_string()),
            ("LANES", self.lanes.to_string()),
            ("SLICES", self.slices.to_string()),
            ("THREADS", self.threads().to_string()),
            ("DEEP", numbers(self.deep)),
            ("DEEP_COUNT", self.deep.to_string()),
            ("ROW_BLOCKS", numbers(self.row_blocks)),
            ("ROW_BLOCK_COUNT", self.row_blocks.to_string()),
            ("PASSES", numbers(passes)),
            ("GATES_A_PASS", products.gates_a_pass().to_string()),
            ("PLANES", numbers(products.planes())),
            ("PLANE_COUNT", products.planes().to_string()),
            ("EACH", numbers(each)),
        ];
        if self.whole {
            list.push(("WHOLE", String::new()));
        }
        for (gate, [gates, plane]) in GATES.into_iter().enumerate().take(products.gates) {
            if products.each_its_own {
                list.push((gates, gate.to_string()));
            } else if gate == 0 {
                list.push((gates, numbers(products.gates)));
            }
            list.push((plane, if products.apart { gate.to_string() } else { "0".into() }));
        }
        list
    }
}

/// Matrices are loaded from weights of f16.
pub(super) fn bindings_of(kind: &StepKind, list: &mut [Binding]) {
    if kind.matrices.is_some() {
        list.iter_mut().filter(|binding| binding.name == "w").for_each(|w| w.dtype = DType::F16);
    }
}

impl fmt::Display for StepMatrices {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let StepMatrices { size, slices, deep, row_blocks, whole, .. } = self;
        let from = if *whole { "from where they lie" } else { "by way of workgroup memory" };
        write!(
            f,
            "matrices of {size}x{size}, {} rows, {slices} slices of the terms, {deep} matrices a round, weights {from}",
            size * row_blocks
        )
    }
}
