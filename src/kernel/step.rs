//! One time step of a recurrent layer, forward and backward, as a short list of phases: each a
//! product over the hidden (or projected) units, then an epilogue by unit.
//!
//! The kernels know a cell by three numbers: G gates (rows of the weights per unit), K saved words
//! per unit (`gates` holds \[T,B,K·H\]) and S states per unit (`states` holds h \[T+1,B,P\], then
//! the others \[S−1,T+1,B,H\]; slot t lies before step t, slot t+1 behind it). The equations stand
//! in `shaders/cell/{cell}.wgsl` and, the same, in `engine/cpu/cell/`.

use super::cell::{Cell, CellKind};
use super::{Binding, Control, Cost, Kernel, bytes};
use bytemuck::{Pod, Zeroable};

/// Units and batch rows that one workgroup computes.
const TILE: usize = 16;

/// Heads of so many units and fewer are summed without tiles.
const DIRECT: u32 = 16;

/// A flag of `flags` \[T,B\]: the row takes part in the step.
pub const VALID: u32 = 1;
/// A flag of `flags` \[T,B\]: the row's states are 0 before the step.
pub const RESET: u32 = 2;

/// [`StepParams::later`] of the step that is last in the direction's order.
pub const NONE: u32 = u32::MAX;

/// The uniform block of the step, norm and scan shaders (`shaders/shared/step.wgsl`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StepParams {
    /// Time steps T.
    pub time: u32,
    /// Batch rows B; with a convolution B·S, S places of a map.
    pub batch: u32,
    /// Hidden units H.
    pub hidden: u32,
    /// The width P of h: H without projection.
    pub width: u32,
    /// The time index of the step.
    pub t: u32,
    /// Where the states lie before the step: t, or t + 1 in the reverse direction.
    pub old_slot: u32,
    /// Where they lie behind it.
    pub new_slot: u32,
    /// Backward: the time index of the step that came next in the direction's order, whose gate
    /// gradients enter the product; [`NONE`] where there was none.
    pub later: u32,
    /// First element of the phase's weights.
    pub w_offset: u32,
    /// First element of the recurrent bias.
    pub b_offset: u32,
    /// First element of the outputs' gradient (backward).
    pub d_output_offset: u32,
    /// First element of the gate buffer.
    pub gates_offset: u32,
    /// First element of this step's rows of `d_candidate`.
    pub candidate_offset: u32,
    /// Units that the phase computes.
    pub units: u32,
    /// Backward: terms of the product for each gate.
    pub terms: u32,
    /// Columns of the weights; forward these are the product's terms.
    pub depth: u32,
    /// Units of a head; all units where the weights are dense.
    pub head: u32,
    /// Rows of the batch that share their flags: S of a convolution, else 1.
    pub places: u32,
    /// The random stream of the zoneout.
    pub stream: u32,
    /// Zoneout's rate for h.
    pub zoneout_h: f32,
    /// Zoneout's rate for the other states.
    pub zoneout_c: f32,
    /// Convolution: the map's and the kernel's sides.
    pub map_height: u32,
    #[allow(missing_docs)]
    pub map_width: u32,
    #[allow(missing_docs)]
    pub kernel_height: u32,
    #[allow(missing_docs)]
    pub kernel_width: u32,
    /// Layer norm's ε.
    pub epsilon: f32,
    /// Steps of the sequence before this recording's first: a segment's place among the flags and
    /// the random numbers.
    pub first: u32,
}

/// How zoneout goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zoneout {
    /// Off.
    #[default]
    Off,
    /// Drawn for each step, row and unit (training).
    Draw,
    /// The rate itself (inference).
    Expect,
}

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
}

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
    Initial,
}

/// What a step is made of besides its numbers: the choices that make a pipeline of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct StepKind {
    /// The equations with their options.
    pub cell: Cell,
    /// Masks and resets are given (`flags` \[T,B\]).
    pub flags: bool,
    /// Masks \[M,B,P\] of the recurrent dropout: none, one, or one a gate.
    pub masks: usize,
    /// Zoneout.
    pub zoneout: Zoneout,
    /// The recurrent product reads columns of a convolution.
    pub columns: bool,
}

impl StepKind {
    /// A cell without any of it.
    pub fn plain(cell: Cell) -> Self {
        StepKind { cell, flags: false, masks: 0, zoneout: Zoneout::Off, columns: false }
    }

    pub(super) fn defines(&self, kernel: &dyn Kernel) -> Vec<(&'static str, String)> {
        let mut list = self.cell.defines();
        list.push(("MASKS", self.masks.to_string()));
        match self.zoneout {
            Zoneout::Off => {}
            // A phase that settles no state draws nothing.
            Zoneout::Draw if !kernel.bindings().iter().any(|b| b.name == "control") => {}
            Zoneout::Draw => list.extend([("ZONEOUT", "".into()), ("ZONEOUT_DRAW", "".into())]),
            Zoneout::Expect => list.extend([("ZONEOUT", "".into()), ("ZONEOUT_EXPECT", "".into())]),
        }
        if self.masks > 1 {
            list.push(("PER_GATE", String::new()));
        }
        if self.cell.kind == CellKind::Gru {
            list.push(("GRU", String::new()));
        }
        if self.cell.kind != CellKind::GruResetBefore {
            list.push(("PURE", String::new()));
        }
        if self.cell.layer_norm.is_some() {
            let vectors = self.cell.unit_parameters();
            let before = vectors.iter().take_while(|p| p.0 != "norm_hh_weight");
            list.push(("GAIN", before.map(|p| p.1).sum::<usize>().to_string()));
            if self.cell.kind == CellKind::Lstm {
                list.push(("NORM_CELL", String::new()));
            }
        }
        let reads = |b: &Binding| b.name == "states" && b.access == super::Access::Read;
        if kernel.bindings().iter().any(reads) {
            list.push(("READS_STATES", String::new()));
        }
        list.extend(kernel.bindings().iter().filter_map(|b| Some((has(b.name)?, String::new()))));
        list
    }
}

/// The permutation's name that says that a binding is there.
fn has(binding: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 12] = [
        ("flags", "HAS_flags"),
        ("hidden_mask", "HAS_hidden_mask"),
        ("unit_parameters", "HAS_unit_parameters"),
        ("columns", "HAS_columns"),
        ("states", "HAS_states"),
        ("carry", "HAS_carry"),
        ("d_unit", "HAS_d_unit"),
        ("d_output", "HAS_d_output"),
        ("recurrent", "HAS_recurrent"),
        ("d_candidate", "HAS_d_candidate"),
        ("d_unprojected", "HAS_d_unprojected"),
        ("d_columns", "HAS_d_columns"),
    ];
    NAMES.iter().find(|n| n.0 == binding).map(|n| n.1)
}

impl StepParams {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let sizes = [self.time, self.batch, self.hidden, self.width, self.units, self.depth];
        super::all_positive(&sizes)?;
        super::all_positive(&[self.head, self.places])?;
        if !self.batch.is_multiple_of(self.places) {
            return Err("the rows are no whole number of maps");
        }
        if self.head > self.units || !self.units.is_multiple_of(self.head) {
            return Err("the heads don't fill the units");
        }
        let slots = [self.old_slot, self.new_slot];
        if self.t >= self.time || slots.iter().any(|&s| s > self.time) || slots[0] == slots[1] {
            return Err("the step is past the end");
        }
        if self.later != NONE && self.later >= self.time {
            return Err("the later step is past the end");
        }
        Ok(())
    }

    /// The same layer at step `s` of the direction's order.
    pub fn at(self, s: usize, reverse: bool) -> Self {
        let s = s as u32;
        let last = s + 1 >= self.time;
        let t = if reverse { self.time.saturating_sub(1 + s) } else { s };
        let later = match (last, reverse) {
            (true, _) => NONE,
            (false, false) => t + 1,
            (false, true) => t - 1,
        };
        let [old_slot, new_slot] = if reverse { [t + 1, t] } else { [t, t + 1] };
        StepParams { t, old_slot, new_slot, later, ..self }
    }

    pub(super) fn words(&self, parts: &[u32]) -> usize {
        parts.iter().map(|&x| x as usize).product()
    }

    pub(super) fn gate_words(&self, cell: &Cell) -> usize {
        let k = cell.saved() as u32;
        self.gates_offset as usize + self.words(&[self.time, self.batch, k, self.hidden])
    }

    pub(super) fn state_words(&self, cell: &Cell) -> usize {
        let others = (cell.states() as u32 - 1) * self.hidden;
        self.words(&[self.time + 1, self.batch, self.width + others])
    }

    pub(super) fn carry_words(&self, cell: &Cell) -> usize {
        self.words(&[self.batch, self.width + (cell.states() as u32 - 1) * self.hidden])
    }

    pub(super) fn recurrent_words(&self, cell: &Cell) -> usize {
        self.words(&[self.time, self.batch, cell.gates() as u32, self.hidden])
    }

    pub(super) fn flag_words(&self) -> usize {
        self.words(&[self.first + self.time, self.batch / self.places])
    }

    pub(super) fn mask_words(&self, masks: usize) -> usize {
        self.words(&[masks as u32, self.batch, self.width])
    }

    pub(super) fn candidate_words(&self) -> usize {
        self.candidate_offset as usize + self.words(&[self.batch, self.width])
    }

    pub(super) fn is_direct(&self) -> bool {
        self.head < self.units && self.head <= DIRECT
    }

    pub(super) fn groups(&self) -> [u32; 3] {
        let tile = TILE as u32;
        let rows = self.batch.div_ceil(tile);
        if self.is_direct() {
            return [self.units.div_ceil(tile), rows, 1];
        }
        [(self.units / self.head) * self.head.div_ceil(tile), rows, 1]
    }

    pub(super) fn step_bytes(&self, cell: &Cell) -> u64 {
        let [b, h] = [self.batch, self.hidden].map(|x| x as usize);
        let weights = cell.gates() * h * (self.depth as usize + 1);
        bytes(weights + 2 * b * h * cell.saved() + 2 * b * h * cell.states())
    }

    pub(super) fn epilogue(&self, cell: &Cell) -> u64 {
        self.batch as u64 * self.hidden as u64 * cell.epilogue_flops()
    }
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
            (ForwardPhase::Candidate | ForwardPhase::Project, _) => 1,
            (ForwardPhase::Cell, CellKind::GruResetBefore) => 2,
            _ => self.kind.cell.gates(),
        }
    }

    /// The saved block that is the product's left operand, where it is not h.
    pub fn source_block(&self) -> Option<usize> {
        match self.phase {
            ForwardPhase::Candidate => Some(3),
            ForwardPhase::Project => Some(self.kind.cell.saved() - 1),
            _ => None,
        }
    }
}

impl Kernel for StepForward {
    fn name(&self) -> &'static str {
        "step_forward"
    }

    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }

    fn bindings(&self) -> Vec<Binding> {
        let (p, kind) = (&self.params, &self.kind);
        let cell = &kind.cell;
        let (phase, products) = (self.phase, self.products());
        let from_state = self.source_block().is_none();
        let mut list = Vec::new();
        match phase {
            ForwardPhase::Product => {
                list.push(Binding::write("recurrent", p.recurrent_words(cell)));
            }
            ForwardPhase::Project => list.push(Binding::read("gates", p.gate_words(cell))),
            _ => list.push(Binding::write("gates", p.gate_words(cell))),
        }
        let rows = products * p.units as usize;
        list.push(Binding::read("w", p.w_offset as usize + rows * p.depth as usize));
        if matches!(phase, ForwardPhase::Cell | ForwardPhase::Candidate) {
            let words = p.b_offset as usize + cell.gates() * p.hidden as usize;
            list.push(Binding::read("b", words));
        }
        if phase == ForwardPhase::Product {
            if !kind.columns {
                list.push(Binding::read("states", p.state_words(cell)));
            }
        } else if cell.kind == CellKind::GruResetBefore && phase == ForwardPhase::Cell {
            list.push(Binding::read("states", p.state_words(cell)));
        } else {
            list.push(Binding::write("states", p.state_words(cell)));
        }
        if kind.columns && from_state {
            list.push(Binding::read("columns", p.batch as usize * p.depth as usize));
        }
        if kind.flags && !(kind.columns && phase == ForwardPhase::Product) {
            list.push(Binding::read_u32("flags", p.flag_words()));
        }
        if kind.masks > 0 && from_state && !kind.columns {
            list.push(Binding::read("hidden_mask", p.mask_words(kind.masks)));
        }
        let cell_phase = phase == ForwardPhase::Cell;
        if cell_phase && cell.unit_vectors() > 0 {
            let words = cell.unit_vectors() * p.hidden as usize;
            list.push(Binding::read("unit_parameters", words));
        }
        let sets_state = match phase {
            ForwardPhase::Product => false,
            // A projected LSTM's first phase sets c alone.
            ForwardPhase::Cell => cell.kind != CellKind::GruResetBefore,
            _ => true,
        };
        if sets_state && kind.zoneout == Zoneout::Draw {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        let phase = match self.phase {
            ForwardPhase::Cell => "PHASE_CELL",
            ForwardPhase::Candidate => "PHASE_CANDIDATE",
            ForwardPhase::Project => "PHASE_PROJECT",
            ForwardPhase::Product => "PHASE_PRODUCT",
        };
        list.push((phase, String::new()));
        list.push(("PRODUCTS", self.products().to_string()));
        if let Some(block) = self.source_block() {
            list.push(("SOURCE_BLOCK", block.to_string()));
        }
        if self.params.is_direct() {
            list.push(("DIRECT", String::new()));
        }
        if matches!(self.phase, ForwardPhase::Cell | ForwardPhase::Candidate) {
            list.push(("CELL_PHASE", String::new()));
        }
        list
    }

    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }

    fn groups(&self) -> [u32; 3] {
        self.params.groups()
    }

    fn cost(&self) -> Cost {
        let p = &self.params;
        let product = 2 * self.products() * p.words(&[p.batch, p.units, p.depth]);
        let epilogue = match self.phase {
            ForwardPhase::Cell | ForwardPhase::Candidate => p.epilogue(&self.kind.cell),
            _ => 0,
        };
        Cost { flops: product as u64 + epilogue, bytes: p.step_bytes(&self.kind.cell) }
    }
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
            (BackwardPhase::Candidate | BackwardPhase::Unproject | BackwardPhase::Raw, _) => 1,
            (_, CellKind::GruResetBefore) => 2,
            _ => self.kind.cell.gates(),
        }
    }

    /// The product is over the next step's gate gradients and gives the whole of dh.
    pub fn completes(&self) -> bool {
        matches!(self.phase, BackwardPhase::Cell | BackwardPhase::Project | BackwardPhase::Initial)
    }

    /// The cell's derivative is in it.
    pub fn has_cell(&self) -> bool {
        use BackwardPhase::{Candidate, Cell, Unproject};
        matches!(self.phase, Cell | Unproject | Candidate)
    }

    /// The product's share of dh is put together from a convolution's columns.
    pub fn from_columns(&self) -> bool {
        self.kind.columns && self.completes()
    }
}

impl Kernel for StepBackward {
    fn name(&self) -> &'static str {
        "step_backward"
    }

    fn check(&self) -> Result<(), &'static str> {
        self.params.check()?;
        super::all_positive(&[self.params.terms])
    }

    fn bindings(&self) -> Vec<Binding> {
        use BackwardPhase::{Cell, Columns, Initial, Project, Raw, Unproject};
        let (p, kind, phase) = (&self.params, &self.kind, self.phase);
        let cell = &kind.cell;
        let (normed, from_candidate) =
            (cell.layer_norm.is_some(), matches!(phase, Unproject | Raw));
        let mut list = Vec::new();
        if self.has_cell() {
            list.push(Binding::write("gates", p.gate_words(cell)));
        } else if !normed && !from_candidate && !self.from_columns() {
            list.push(Binding::read("gates", p.gate_words(cell)));
        }
        let product = !self.from_columns();
        if product && normed && !from_candidate && !self.has_cell() {
            list.push(Binding::read("recurrent", p.recurrent_words(cell)));
        }
        if product {
            let rows = (self.products() - 1) * p.hidden as usize;
            let last = if p.head < p.units { p.units } else { p.terms } as usize;
            let words = p.w_offset as usize + (rows + last) * p.depth as usize;
            list.push(Binding::read("w", words));
        }
        match phase {
            Columns => {
                let words = p.batch as usize * p.units as usize;
                list.push(Binding::write("d_columns", words));
                return list;
            }
            Raw => {
                let words = p.batch as usize * p.units as usize;
                list.push(Binding::read("d_candidate", p.candidate_words()));
                list.push(Binding::write("d_unprojected", words));
                return list;
            }
            _ => list.push(Binding::write("carry", p.carry_words(cell))),
        }
        if self.from_columns() {
            let taps = p.kernel_height as usize * p.kernel_width as usize;
            list.push(Binding::read("d_columns", p.batch as usize * p.width as usize * taps));
        }
        if self.has_cell() {
            list.push(Binding::read("states", p.state_words(cell)));
        }
        match phase {
            Project => list.push(Binding::write("d_candidate", p.candidate_words())),
            Unproject => list.push(Binding::read("d_candidate", p.candidate_words())),
            _ => {}
        }
        if kind.flags {
            list.push(Binding::read_u32("flags", p.flag_words()));
        }
        if kind.masks > 0 && !from_candidate {
            list.push(Binding::read("hidden_mask", p.mask_words(kind.masks)));
        }
        if matches!(phase, Cell | Unproject) && cell.unit_vectors() > 0 {
            let words = cell.unit_vectors() * p.hidden as usize;
            list.push(Binding::read("unit_parameters", words));
            list.push(Binding::write("d_unit", p.batch as usize * words));
        }
        if self.d_output && matches!(phase, Cell | Project) {
            let words = p.words(&[p.time, p.batch, p.width]);
            list.push(Binding::read("d_output", p.d_output_offset as usize + words));
        }
        let splits = matches!(phase, Cell | Project | Unproject);
        if splits && kind.zoneout == Zoneout::Draw && phase != Initial {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        let phase = match self.phase {
            BackwardPhase::Cell => "PHASE_CELL",
            BackwardPhase::Candidate => "PHASE_CANDIDATE",
            BackwardPhase::Project => "PHASE_PROJECT",
            BackwardPhase::Unproject => "PHASE_UNPROJECT",
            BackwardPhase::Raw => "PHASE_RAW",
            BackwardPhase::Columns => "PHASE_COLUMNS",
            BackwardPhase::Initial => "PHASE_INITIAL",
        };
        list.push((phase, String::new()));
        list.push(("PRODUCTS", self.products().to_string()));
        let flags = [
            (true, "BACKWARD"),
            (self.has_cell(), "CELL_PHASE"),
            (self.completes(), "COMPLETE_DH"),
            (matches!(self.phase, BackwardPhase::Unproject | BackwardPhase::Raw), "FROM_CANDIDATE"),
            (self.from_columns(), "FROM_COLUMNS"),
            (self.params.is_direct(), "DIRECT"),
        ];
        list.extend(flags.iter().filter(|f| f.0).map(|f| (f.1, String::new())));
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
        self.params.groups()
    }

    fn cost(&self) -> Cost {
        let p = &self.params;
        let none = p.later == NONE && self.completes() || self.from_columns();
        let products = if none { 0 } else { self.products() };
        let product = 2 * products * p.words(&[p.batch, p.units, p.terms]);
        let epilogue = if self.has_cell() { p.epilogue(&self.kind.cell) } else { 0 };
        Cost { flops: product as u64 + epilogue, bytes: p.step_bytes(&self.kind.cell) }
    }
}
