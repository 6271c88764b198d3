//! The forward phases of a step.

use super::matrices::{Products, StepMatrices, bindings_of};
use super::{GroupLimits, StepKind, StepParams, Zoneout, rows_defines};
use crate::kernel::cell::CellKind;
use crate::kernel::{Binding, Control, Kernel};

/// A step's phase, forward; the equations are in `shaders/step_forward.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardPhase {
    /// Product and cell.
    Cell,
    /// The second product of reset-before GRU.
    Candidate,
    /// LSTM's projection.
    Project,
    /// The product alone, for the norm kernels.
    Product,
    /// The same for the second product of reset-before GRU.
    CandidateProduct,
}

/// A forward phase of a step.
#[derive(Clone, Debug)]
pub struct StepForward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
    /// Which phase.
    pub phase: ForwardPhase,
}

impl StepForward {
    /// Gates whose products the phase sums.
    pub fn products(&self) -> usize {
        match (self.phase, self.kind.cell.kind) {
            (ForwardPhase::Cell | ForwardPhase::Product, CellKind::GruResetBefore) => 2,
            (ForwardPhase::Cell | ForwardPhase::Product, _) => self.kind.cell.gates(),
            _ => 1,
        }
    }

    /// The product's left operands: h under each gate's mask, or one for all gates.
    pub fn sources(&self) -> usize {
        self.kind.masks.clamp(1, self.products())
    }

    /// The first weight block of the product.
    pub fn first_gate(&self) -> usize {
        if self.is_candidate() { 2 } else { 0 }
    }

    fn is_candidate(&self) -> bool {
        matches!(self.phase, ForwardPhase::Candidate | ForwardPhase::CandidateProduct)
    }

    /// The phase leaves its product to a norm kernel.
    pub fn is_bare(&self) -> bool {
        matches!(self.phase, ForwardPhase::Product | ForwardPhase::CandidateProduct)
    }

    /// The product's left operand is the columns of a convolution.
    pub fn reads_columns(&self) -> bool {
        self.kind.columns && self.phase != ForwardPhase::Project
    }

    /// The saved block that is the product's left operand, where it is neither h nor columns.
    pub fn source_block(&self) -> Option<usize> {
        match self.phase {
            ForwardPhase::Project => Some(self.kind.cell.saved() - 1),
            _ if self.is_candidate() && !self.kind.columns => Some(3),
            _ => None,
        }
    }

    /// The buffer that is multiplied by the weights.
    pub(crate) fn source_name(&self) -> &'static str {
        match self.source_block() {
            Some(_) => "gates",
            None if self.reads_columns() => "columns",
            None => "states",
        }
    }

    fn in_products(&self) -> Products {
        Products { gates: self.products(), each_its_own: self.sources() > 1, apart: true }
    }

    /// The same with its products in matrices of f16, where a device's limits allow it; `aligned`: the weights begin at
    /// whole vectors of eight.
    #[doc(hidden)]
    pub fn in_matrices(&self, aligned: bool, limits: &GroupLimits) -> Option<Self> {
        let (p, products) = (&self.params, self.in_products());
        let matrices = StepMatrices::choose(p, &products, p.depth, aligned, limits)?;
        let kind = StepKind { matrices: Some(matrices), thread_rows: 1, ..self.kind.clone() };
        Some(StepForward { kind, ..self.clone() })
    }

    /// The permutation's names but for how it is cut.
    pub(super) fn cell_defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        let phase = match self.phase {
            ForwardPhase::Cell => "PHASE_CELL",
            ForwardPhase::Candidate => "PHASE_CANDIDATE",
            ForwardPhase::Project => "PHASE_PROJECT",
            ForwardPhase::Product | ForwardPhase::CandidateProduct => "PHASE_PRODUCT",
        };
        list.push((phase, String::new()));
        list.push(("PRODUCTS", self.products().to_string()));
        list.push(("SOURCES", self.sources().to_string()));
        list.push(("FIRST_GATE", self.first_gate().to_string()));
        if self.sources() > 1 {
            list.push(("PER_GATE", String::new()));
        }
        if let Some(block) = self.source_block() {
            list.push(("SOURCE_BLOCK", block.to_string()));
        }
        if matches!(self.phase, ForwardPhase::Cell | ForwardPhase::Candidate) {
            list.push(("CELL_PHASE", String::new()));
        }
        list
    }
}

impl Kernel for StepForward {
    fn name(&self) -> &'static str {
        "step_forward"
    }

    fn check(&self) -> Result<(), &'static str> {
        self.params.check()?;
        self.kind.check()
    }

    fn bindings(&self) -> Vec<Binding> {
        let (p, kind) = (&self.params, &self.kind);
        let cell = &kind.cell;
        let (phase, products) = (self.phase, self.products());
        let before = cell.kind == CellKind::GruResetBefore;
        let from_state = self.source_block().is_none() && !self.reads_columns();
        let first_half = before && phase == ForwardPhase::Cell;
        let mut list = Vec::new();
        if self.is_bare() {
            let recurrent = Binding::write("recurrent", p.recurrent_words(cell));
            list.push(recurrent.moving(p.step_gates(0, products)));
        } else if phase != ForwardPhase::Project {
            // The input products come, what backward needs goes; reset-before GRU's second phase also
            // reads z and what it multiplies.
            let moved = match phase {
                ForwardPhase::Candidate => p.step_gates(3, 1),
                _ if first_half => p.step_gates(products, products + 1),
                _ => p.step_gates(products, cell.saved()),
            };
            list.push(Binding::write("gates", p.gate_words(cell)).moving(moved));
        }
        if self.source_block().is_some() && phase != ForwardPhase::Candidate {
            list.push(Binding::read("gates", p.gate_words(cell)).moving(p.step_gates(1, 0)));
        }
        let weights = products * p.units as usize * p.depth as usize;
        list.push(Binding::read("w", p.w_offset as usize + weights).moving(weights));
        if matches!(phase, ForwardPhase::Cell | ForwardPhase::Candidate) {
            let words = p.b_offset as usize + cell.gates() * p.hidden as usize;
            list.push(Binding::read("b", words).moving(products * p.hidden as usize));
        }
        // All states come, but where h comes as columns; those that are settled go.
        let all = p.carry_words(cell);
        let one = p.words(&[p.batch, p.width]);
        if self.is_bare() && from_state || first_half {
            list.push(Binding::read("states", p.state_words(cell)).moving(one));
        } else if !self.is_bare() {
            let moved = match phase {
                ForwardPhase::Project => one,
                ForwardPhase::Candidate => 2 * one,
                _ => 2 * all,
            };
            list.push(Binding::write("states", p.state_words(cell)).moving(moved));
        }
        if self.reads_columns() {
            list.push(Binding::read("columns", p.columns() * self.sources()));
        }
        if kind.flags && (from_state || !self.is_bare()) {
            list.push(p.step_flags());
        }
        // Reset-before GRU takes the mask of n's product along.
        if kind.masks > 0 && (from_state || first_half) {
            list.push(Binding::read("hidden_mask", p.mask_words(kind.masks)));
        }
        let cell_phase = phase == ForwardPhase::Cell;
        if cell_phase && cell.unit_vectors() > 0 {
            let words = cell.unit_vectors() * p.hidden as usize;
            list.push(Binding::read("unit_parameters", words));
        }
        // A projected LSTM's first phase sets c alone.
        if !self.is_bare() && !first_half && kind.zoneout == Zoneout::Draw {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        bindings_of(kind, &mut list);
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.cell_defines();
        if let Some(matrices) = &self.kind.matrices {
            list.extend(matrices.defines(&self.in_products()));
            list.extend([("LOAD_w", "coopLoad".into()), ("TERMS", "depth".into())]);
            return list;
        }
        let direct = self.params.is_direct();
        if direct {
            list.push(("DIRECT", String::new()));
        }
        list.extend(rows_defines(if direct { 1 } else { self.kind.thread_rows }));
        list
    }

    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }

    fn groups(&self) -> [u32; 3] {
        match &self.kind.matrices {
            Some(matrices) => matrices.groups(&self.params),
            None => self.params.groups(),
        }
    }

    fn flops(&self) -> u64 {
        let p = &self.params;
        let product = 2 * self.products() * p.words(&[p.batch, p.units, p.depth]);
        let epilogue = match self.phase {
            ForwardPhase::Cell | ForwardPhase::Candidate => p.epilogue(&self.kind.cell),
            _ => 0,
        };
        product as u64 + epilogue
    }
}
