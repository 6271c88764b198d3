//! The backward phases of a step.

use super::matrices::{Products, StepMatrices, bindings_of};
use super::{GroupLimits, NONE, StepKind, StepParams, TILE, Zoneout, rows_defines};
use crate::kernel::cell::CellKind;
use crate::kernel::{Binding, Control, Kernel, all_positive};

/// A step's phase, backward; the equations are in `shaders/step_backward.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BackwardPhase {
    Cell,
    Candidate,
    Project,
    Unproject,
    Raw,
    Columns,
    CandidateColumns,
    Initial,
}

/// A backward phase of a step. `carry` (h's \[B,P\], then the others' \[S−1,B,H\]) is what reaches
/// the states from later steps other than through the product.
#[derive(Clone, Debug)]
pub struct StepBackward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
    /// Which phase.
    pub phase: BackwardPhase,
    /// The outputs have a gradient of their own (else only the final states do).
    pub d_output: bool,
}

impl StepBackward {
    /// Weight blocks whose products the phase sums.
    pub fn products(&self) -> usize {
        match (self.phase, self.kind.cell.kind) {
            (BackwardPhase::Unproject | BackwardPhase::Raw, _) => 1,
            _ if self.of_candidate() => 1,
            (_, CellKind::GruResetBefore) => 2,
            _ => self.kind.cell.gates(),
        }
    }

    /// The product is over the next step's gate gradients and gives the whole of dh.
    pub fn completes(&self) -> bool {
        matches!(self.phase, BackwardPhase::Cell | BackwardPhase::Project | BackwardPhase::Initial)
    }

    /// There is a step whose gate gradients enter the product.
    fn hears(&self) -> bool {
        !self.completes() || self.params.later != NONE
    }

    /// The cell's derivative is in it.
    pub fn has_cell(&self) -> bool {
        use BackwardPhase::{Candidate, Cell, Unproject};
        matches!(self.phase, Cell | Unproject | Candidate)
    }

    /// The product is over the gradient of reset-before GRU's second product.
    pub fn of_candidate(&self) -> bool {
        matches!(self.phase, BackwardPhase::Candidate | BackwardPhase::CandidateColumns)
    }

    /// The phase leaves the gradient of a convolution's columns.
    pub fn to_columns(&self) -> bool {
        matches!(self.phase, BackwardPhase::Columns | BackwardPhase::CandidateColumns)
    }

    /// The product's sum is put together from a convolution's columns.
    pub fn from_columns(&self) -> bool {
        self.kind.columns && (self.completes() || self.phase == BackwardPhase::Candidate)
    }

    /// Units of a thread that computes several rows: what it reads of the gradients serves all of them.
    fn span(&self) -> usize {
        if self.kind.thread_rows > 1 && self.params.head as usize >= 4 * TILE { 4 } else { 1 }
    }

    /// Gradients of columns in a row of them: one for each gate whose mask is its own.
    pub fn column_parts(&self) -> usize {
        if self.of_candidate() || self.kind.masks < 2 { 1 } else { self.products() }
    }

    /// The product is over the gradient of h's candidate.
    fn reads_candidate(&self) -> bool {
        matches!(self.phase, BackwardPhase::Unproject | BackwardPhase::Raw)
    }

    /// The buffer that is multiplied by the weights, if any is.
    pub(crate) fn source_name(&self) -> Option<&'static str> {
        let cell = self.has_cell() && self.phase != BackwardPhase::Candidate;
        match self.from_columns() {
            true => None,
            false if self.reads_candidate() => Some("d_candidate"),
            false if self.kind.cell.layer_norm.is_some() && !cell => Some("recurrent"),
            false => Some("gates"),
        }
    }

    fn in_products(&self) -> Products {
        Products { gates: self.products(), each_its_own: true, apart: self.kind.masks > 1 }
    }

    /// The same with its products in matrices of f16, where a device's limits allow it; `aligned`: the weights begin at
    /// whole vectors of eight.
    #[doc(hidden)]
    pub fn in_matrices(&self, aligned: bool, limits: &GroupLimits) -> Option<Self> {
        self.source_name()?;
        let (p, products) = (&self.params, self.in_products());
        let matrices = StepMatrices::choose(p, &products, p.terms, aligned, limits)?;
        let kind = StepKind { matrices: Some(matrices), thread_rows: 1, ..self.kind.clone() };
        Some(StepBackward { kind, ..self.clone() })
    }

    /// The permutation's names but for how it is cut.
    pub(super) fn cell_defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        let phase = match self.phase {
            BackwardPhase::Cell => "PHASE_CELL",
            BackwardPhase::Candidate => "PHASE_CANDIDATE",
            BackwardPhase::Project => "PHASE_PROJECT",
            BackwardPhase::Unproject => "PHASE_UNPROJECT",
            BackwardPhase::Raw => "PHASE_RAW",
            BackwardPhase::Columns | BackwardPhase::CandidateColumns => "PHASE_COLUMNS",
            BackwardPhase::Initial => "PHASE_INITIAL",
        };
        list.push((phase, String::new()));
        list.push(("PRODUCTS", self.products().to_string()));
        list.push(("PARTS", self.column_parts().to_string()));
        let flags = [
            (true, "BACKWARD"),
            (self.has_cell(), "CELL_PHASE"),
            (self.completes(), "COMPLETE_DH"),
            (self.of_candidate(), "OF_CANDIDATE"),
            (self.reads_candidate(), "FROM_CANDIDATE"),
            (self.from_columns(), "FROM_COLUMNS"),
        ];
        list.extend(flags.iter().filter(|f| f.0).map(|f| (f.1, String::new())));
        list
    }
}

impl Kernel for StepBackward {
    fn name(&self) -> &'static str {
        "step_backward"
    }

    fn check(&self) -> Result<(), &'static str> {
        self.params.check()?;
        self.kind.check()?;
        all_positive(&[self.params.terms])
    }

    fn bindings(&self) -> Vec<Binding> {
        use BackwardPhase::{Candidate, Cell, Initial, Project, Raw, Unproject};
        let (p, kind, phase) = (&self.params, &self.kind, self.phase);
        let cell = &kind.cell;
        let (normed, from_candidate) = (cell.layer_norm.is_some(), self.reads_candidate());
        let mut list = Vec::new();
        // The gradients of the later step's products, all of its own kept words, and their gradients.
        let heard = if self.hears() { self.products() } else { 0 };
        if self.has_cell() {
            let kept = cell.saved();
            let heard = if normed || from_candidate || self.from_columns() { 0 } else { heard };
            list.push(
                Binding::write("gates", p.gate_words(cell))
                    .moving(p.step_gates(heard + kept, kept)),
            );
        } else if !normed && !from_candidate && !self.from_columns() {
            list.push(Binding::read("gates", p.gate_words(cell)).moving(p.step_gates(heard, 0)));
        }
        let product = !self.from_columns();
        if product && normed && !from_candidate && (!self.has_cell() || phase == Candidate) {
            let recurrent = Binding::read("recurrent", p.recurrent_words(cell));
            list.push(recurrent.moving(p.step_gates(heard, 0)));
        }
        if product {
            let rows = (self.products() - 1) * p.hidden as usize;
            let last = p.terms as usize * p.heads();
            let words = p.w_offset as usize + (rows + last) * p.depth as usize;
            let moved = heard * p.words(&[p.terms, p.depth]) * p.heads();
            list.push(Binding::read("w", words).moving(moved));
        }
        let parts = self.column_parts();
        match phase {
            _ if self.to_columns() => {
                let words = p.batch as usize * p.units as usize;
                list.push(Binding::write("d_columns", words * parts));
                bindings_of(kind, &mut list);
                return list;
            }
            Raw => {
                let words = p.batch as usize * p.units as usize;
                list.push(
                    Binding::read("d_candidate", p.candidate_words(cell))
                        .moving(p.words(&[p.batch, p.width])),
                );
                list.push(Binding::write("d_unprojected", words));
                bindings_of(kind, &mut list);
                return list;
            }
            _ => {
                let words = p.carry_words(cell);
                list.push(Binding::write("carry", words).moving(2 * words));
            }
        }
        if self.from_columns() {
            let taps = p.kernel_height as usize * p.kernel_width as usize;
            let words = p.batch as usize * p.width as usize * taps;
            list.push(Binding::read("d_columns", words * parts));
        }
        if self.has_cell() {
            // The states before the step, and those behind it that the cell computes from.
            let moved = p.carry_words(cell) + p.step_gates(cell.states() - 1, 0);
            list.push(Binding::read("states", p.state_words(cell)).moving(moved));
        }
        match phase {
            Project => list.push(
                Binding::write("d_candidate", p.candidate_words(cell))
                    .moving(p.words(&[p.batch, p.width])),
            ),
            Unproject => list.push(
                Binding::read("d_candidate", p.candidate_words(cell))
                    .moving(p.words(&[p.batch, p.width])),
            ),
            _ => {}
        }
        if kind.flags {
            list.push(p.step_flags());
        }
        if kind.masks > 0 && !from_candidate {
            list.push(Binding::read("hidden_mask", p.mask_words(kind.masks)));
        }
        if matches!(phase, Cell | Unproject) && cell.unit_vectors() > 0 {
            let words = cell.unit_vectors() * p.hidden as usize;
            list.push(Binding::read("unit_parameters", words));
            let sums = p.batch as usize * words;
            list.push(Binding::write("d_unit", sums).moving(2 * sums));
        }
        if self.d_output && matches!(phase, Cell | Project) {
            let words = p.words(&[p.time, p.batch, p.width]);
            let gradient = Binding::read("d_output", p.d_output_offset as usize + words);
            list.push(gradient.moving(p.words(&[p.batch, p.width])));
        }
        let splits = matches!(phase, Cell | Project | Unproject);
        if splits && kind.zoneout == Zoneout::Draw && phase != Initial {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        bindings_of(kind, &mut list);
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.cell_defines();
        if let Some(matrices) = &self.kind.matrices {
            list.extend(matrices.defines(&self.in_products()));
            list.extend([("LOAD_w", "coopLoadT".into()), ("TERMS", "terms".into())]);
            return list;
        }
        let by_unit = self.params.is_direct() || self.from_columns();
        if by_unit {
            list.push(("BY_UNIT", String::new()));
        }
        list.extend(rows_defines(if by_unit { 1 } else { self.kind.thread_rows }));
        let span = if by_unit { 1 } else { self.span() };
        list.push(("SPAN_COUNT", span.to_string()));
        list.push(("SPAN", super::cut::numbers(span)));
        list
    }

    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }

    fn groups(&self) -> [u32; 3] {
        if self.from_columns() {
            let tile = TILE as u32;
            return [self.params.units.div_ceil(tile), self.params.batch.div_ceil(tile), 1];
        }
        let p = &self.params;
        if let Some(matrices) = &self.kind.matrices {
            return matrices.groups(p);
        }
        match self.span() as u32 * TILE as u32 {
            wide if wide > TILE as u32 && !p.is_direct() => {
                let tiles = (p.units / p.head) * p.head.div_ceil(wide);
                [tiles, p.batch.div_ceil(TILE as u32), 1]
            }
            _ => p.groups(),
        }
    }

    fn flops(&self) -> u64 {
        let p = &self.params;
        let products = if self.hears() && !self.from_columns() { self.products() } else { 0 };
        let product = 2 * products * p.words(&[p.batch, p.units, p.terms]);
        let epilogue = if self.has_cell() { p.epilogue(&self.kind.cell) } else { 0 };
        product as u64 + epilogue
    }
}
