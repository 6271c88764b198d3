//! One time step of a recurrent layer, forward and backward, as a short list of phases: each a
//! product over the hidden (or projected) units, then an epilogue by unit.
//!
//! The kernels know a cell by three numbers: G gates (rows of the weights per unit), K saved words
//! per unit (`gates` holds \[T,B,K·H\]) and S states per unit (`states` holds h \[T+1,B,P\], then
//! the others \[S−1,T+1,B,H\]; slot t lies before step t, slot t+1 behind it). The equations stand
//! in `shaders/cell/{cell}.wgsl` and, the same, in `engine/cpu/cell/`.

mod backward;
mod choice;
mod cut;
mod forward;
mod matrices;
mod sequence;
mod touched;

pub use backward::{BackwardPhase, StepBackward};
pub use cut::{GroupLimits, Matrices, SequenceCut, Wait};
pub use forward::{ForwardPhase, StepForward};
pub use matrices::StepMatrices;
pub use sequence::{SequenceBackward, SequenceForward, Team};

use super::cell::{Cell, CellKind};
use super::{Binding, Kernel, all_positive};
use bytemuck::{Pod, Zeroable};

/// Units and batch rows that one workgroup computes.
const TILE: usize = 16;

/// What the shader is told of how many rows a thread computes.
fn rows_defines(rows: usize) -> Vec<(&'static str, String)> {
    let list: Vec<_> = (0..rows).map(|r| r.to_string()).collect();
    let mut defines = vec![("THREAD_ROWS", (TILE / rows).to_string()), ("ROWS", list.join(" "))];
    if rows == 1 {
        defines.push(("ONE_ROW", String::new()));
    }
    defines
}

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
    /// Backward: terms of the product for each gate, of one head.
    pub terms: u32,
    /// Columns of the weights; forward these are the product's terms, of one head.
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
    /// Steps that the launch makes, in the direction's order (backward: against it), of which `t` is the
    /// first.
    pub count: u32,
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
    /// Rows that a thread of the GPU computes, 1 or 4: the same sums either way. The engine sets it for
    /// its device.
    pub thread_rows: usize,
    /// On a GPU, how subgroups multiply matrices of f16 for a step: another order of sums. The engine sets it, where its
    /// device does that and is faster so.
    pub matrices: Option<StepMatrices>,
}

impl StepKind {
    /// A cell without any of it.
    pub fn plain(cell: Cell) -> Self {
        let (flags, masks, columns, thread_rows) = (false, 0, false, 1);
        let (zoneout, matrices) = (Zoneout::Off, None);
        StepKind { cell, flags, masks, zoneout, columns, thread_rows, matrices }
    }

    fn check(&self) -> Result<(), &'static str> {
        let whole = self.thread_rows > 0 && TILE.is_multiple_of(self.thread_rows);
        if whole { Ok(()) } else { Err("the rows of a thread don't fill the tile") }
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

/// The buffers of the steps' kernels.
pub(super) const BUFFERS: [&str; 17] = [
    "w",
    "b",
    "gates",
    "states",
    "carry",
    "flags",
    "hidden_mask",
    "unit_parameters",
    "columns",
    "d_unit",
    "d_output",
    "recurrent",
    "d_candidate",
    "d_unprojected",
    "d_columns",
    "control",
    "progress",
];

/// The permutation's name that says that a binding is there.
fn has(binding: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 13] = [
        ("w", "HAS_w"),
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
        all_positive(&sizes)?;
        all_positive(&[self.head, self.places, self.count])?;
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

    /// Whether this is the step after `other` in the direction's order, and all else is the same.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        let next = StepParams { later: self.later, ..other.moved(false) };
        bytemuck::bytes_of(&next) == bytemuck::bytes_of(self)
    }

    /// Whether this is the step before `other` in the direction's order, and all else is the same.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        let next = StepParams { later: other.t, ..other.moved(true) };
        bytemuck::bytes_of(&next) == bytemuck::bytes_of(self)
    }

    /// Whether all of `count` steps, on in the direction's order or back, are steps of the layer.
    fn check_steps(&self, back: bool) -> Result<(), &'static str> {
        let reverse = self.new_slot < self.old_slot;
        let before = if reverse != back { self.t + 1 } else { self.time.saturating_sub(self.t) };
        if self.count > before { Err("there are fewer steps") } else { Ok(()) }
    }

    /// One step on in the direction's order, or back.
    fn moved(self, back: bool) -> Self {
        let reverse = self.new_slot < self.old_slot;
        let by = |x: u32| if reverse != back { x.wrapping_sub(1) } else { x.wrapping_add(1) };
        let [t, old_slot, new_slot] = [self.t, self.old_slot, self.new_slot].map(by);
        StepParams { t, old_slot, new_slot, ..self }
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

    /// Where the flags of a batch row lie at a step of this recording.
    pub(crate) fn flag(&self, t: usize, row: usize) -> usize {
        let [first, batch, places] = [self.first, self.batch, self.places].map(|x| x as usize);
        (first + t) * (batch / places) + row / places
    }

    pub(super) fn mask_words(&self, masks: usize) -> usize {
        self.words(&[masks as u32, self.batch, self.width])
    }

    /// Words of `d_candidate`: of one step, or with a projection of all, as each step's are needed once more.
    pub(crate) fn candidate_words(&self, cell: &Cell) -> usize {
        let steps = if cell.projection.is_some() { self.time } else { 1 };
        self.words(&[steps, self.batch, self.width])
    }

    /// Blocks of the block-diagonal weights; 1: dense.
    pub(crate) fn heads(&self) -> usize {
        (self.units / self.head) as usize
    }

    /// Words of a convolution's columns.
    pub(super) fn columns(&self) -> usize {
        self.words(&[self.batch, self.depth]) * self.heads()
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

    /// Words of the gate rows of one step of which so many blocks are read and so many written.
    pub(super) fn step_gates(&self, read: usize, written: usize) -> usize {
        self.words(&[self.batch, self.hidden]) * (read + written)
    }

    /// The flags of the sequence, of which one step reads its own.
    pub(super) fn step_flags(&self) -> Binding {
        let own = (self.batch / self.places) as usize;
        Binding::read_u32("flags", self.flag_words()).moving(own)
    }

    pub(super) fn epilogue(&self, cell: &Cell) -> u64 {
        self.batch as u64 * self.hidden as u64 * cell.epilogue_flops()
    }
}
