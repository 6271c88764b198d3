//! The epilogues of a time step with layer norm, which need whole rows. Reset-before GRU has two
//! products a step, each with a norm of its own.

use super::cell::CellKind;
use super::step::{BackwardPhase, ForwardPhase, StepKind, StepParams, Zoneout};
use super::{Binding, Control, Kernel, spread};
use std::ops::Range;

/// Words of `norms` a step and row: mean and inverse deviation of the recurrent product and of c
/// (reset-before GRU: of its second product).
pub(crate) const NORM_WORDS: usize = 4;

/// From the recurrent product in `recurrent` \[T,B,G·H\] to the new states; see
/// `shaders/norm_forward.wgsl`.
#[derive(Clone, Debug)]
pub struct NormForward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
    /// The epilogue: Cell, or Candidate.
    pub phase: ForwardPhase,
}

/// From the gradient of h's candidate to the gate gradients and that of the recurrent product; see
/// `shaders/norm_backward.wgsl`.
#[derive(Clone, Debug)]
pub struct NormBackward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
    /// Cell: the cell's derivative, then that of the norm; of reset-before GRU the norm of n's product.
    /// Candidate: the norm of its r and z.
    pub phase: BackwardPhase,
}

impl NormForward {
    /// The gates whose product the norm is of.
    pub fn gates(&self) -> Range<usize> {
        norm_gates(&self.kind, self.phase == ForwardPhase::Candidate)
    }
}

impl NormBackward {
    /// The gates whose product the norm is of.
    pub fn gates(&self) -> Range<usize> {
        norm_gates(&self.kind, self.phase == BackwardPhase::Cell)
    }
}

/// All gates; of reset-before GRU n alone (`second`), or r and z.
fn norm_gates(kind: &StepKind, second: bool) -> Range<usize> {
    match (kind.cell.kind == CellKind::GruResetBefore, second) {
        (false, _) => 0..kind.cell.gates(),
        (true, false) => 0..2,
        (true, true) => 2..3,
    }
}

/// The permutation's names of a norm over `gates`.
fn defines(gates: &Range<usize>) -> Vec<(&'static str, String)> {
    vec![("FIRST_GATE", gates.start.to_string()), ("PRODUCTS", gates.len().to_string())]
}

fn flops(params: &StepParams) -> u64 {
    u64::from(params.batch) * u64::from(params.hidden) * 100
}

impl Kernel for NormForward {
    fn name(&self) -> &'static str {
        "norm_forward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, cell) = (&self.params, &self.kind.cell);
        let (h, products) = (p.hidden as usize, self.gates().len());
        let rows = p.time as usize * p.batch as usize;
        let mut list = vec![
            Binding::write("gates", p.gate_words(cell))
                .moving(p.step_gates(products, cell.saved())),
            Binding::read("recurrent", p.recurrent_words(cell)).moving(p.step_gates(products, 0)),
            Binding::read("b", p.b_offset as usize + cell.gates() * h).moving(products * h),
            Binding::write("states", p.state_words(cell)).moving(2 * p.carry_words(cell)),
            Binding::write("norms", rows * NORM_WORDS).moving(p.batch as usize * NORM_WORDS),
            Binding::read("unit_parameters", cell.unit_vectors() * h),
        ];
        let first_half = cell.kind == CellKind::GruResetBefore && self.phase == ForwardPhase::Cell;
        if first_half {
            list[3] = Binding::read("states", p.state_words(cell)).moving(p.carry_words(cell));
            if self.kind.masks > 0 {
                list.push(Binding::read("hidden_mask", p.mask_words(self.kind.masks)));
            }
        }
        if self.kind.flags {
            list.push(p.step_flags());
        }
        if self.kind.zoneout == Zoneout::Draw && !first_half {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        list.extend(defines(&self.gates()));
        let candidate = self.phase == ForwardPhase::Candidate;
        list.push((if candidate { "PHASE_CANDIDATE" } else { "PHASE_CELL" }, String::new()));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.batch as usize)
    }
    fn flops(&self) -> u64 {
        flops(&self.params)
    }
}

impl Kernel for NormBackward {
    fn name(&self) -> &'static str {
        "norm_backward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, cell) = (&self.params, &self.kind.cell);
        let (h, products) = (p.hidden as usize, self.gates().len());
        let rows = p.time as usize * p.batch as usize;
        let candidate = self.phase == BackwardPhase::Candidate;
        let gates = if candidate { Binding::read } else { Binding::write };
        let mut list = vec![
            gates("gates", p.gate_words(cell)).moving(p.step_gates(
                if candidate { products } else { cell.saved() },
                if candidate { 0 } else { cell.saved() },
            )),
            Binding::write("recurrent", p.recurrent_words(cell))
                .moving(p.step_gates(products, products)),
            Binding::read("norms", rows * NORM_WORDS).moving(p.batch as usize * NORM_WORDS),
            Binding::read("unit_parameters", cell.unit_vectors() * h),
            Binding::write("d_unit", p.batch as usize * cell.unit_vectors() * h)
                .moving(2 * p.batch as usize * cell.unit_vectors() * h),
        ];
        if candidate {
            return list;
        }
        list.extend([
            Binding::write("carry", p.carry_words(cell)).moving(2 * p.carry_words(cell)),
            Binding::read("states", p.state_words(cell)).moving(p.carry_words(cell)),
            if cell.projection.is_some() {
                Binding::read("d_unprojected", p.batch as usize * h)
            } else {
                Binding::read("d_candidate", p.candidate_words(cell))
                    .moving(p.words(&[p.batch, p.width]))
            },
        ]);
        if self.kind.flags {
            list.push(p.step_flags());
        }
        // Only the other states' zoneout is here: h's is in the phase before.
        if self.kind.zoneout == Zoneout::Draw && cell.states() > 1 {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        list.extend(defines(&self.gates()));
        list.push(("BACKWARD", String::new()));
        if self.phase == BackwardPhase::Cell {
            list.push(("PHASE_CELL", String::new()));
        }
        if self.kind.cell.states() == 1 {
            list.retain(|d| !d.0.starts_with("ZONEOUT"));
        }
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.batch as usize)
    }
    fn flops(&self) -> u64 {
        flops(&self.params)
    }
}
