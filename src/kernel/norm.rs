//! The epilogues of a time step with layer norm, which need whole rows.

use super::cell::CellKind;
use super::step::{StepKind, StepParams, Zoneout};
use super::{Binding, Control, Cost, Kernel, bytes, spread};

/// Words of `norms` a step and row: mean and inverse deviation of the recurrent product and of c.
pub(crate) const NORM_WORDS: usize = 4;

/// From the recurrent product in `recurrent` \[T,B,G·H\] to the new states; see
/// `shaders/norm_forward.wgsl`.
#[derive(Clone, Debug)]
pub struct NormForward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
}

/// From the gradient of h's candidate to the gate gradients and that of the recurrent product; see
/// `shaders/norm_backward.wgsl`.
#[derive(Clone, Debug)]
pub struct NormBackward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
}

fn cost(params: &StepParams, kind: &StepKind) -> Cost {
    let units = params.batch as usize * params.hidden as usize;
    let words = units * (2 * kind.cell.gates() + kind.cell.saved() + 2 * kind.cell.states());
    Cost { flops: units as u64 * 100, bytes: bytes(words) }
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
        let h = p.hidden as usize;
        let rows = p.time as usize * p.batch as usize;
        let mut list = vec![
            Binding::write("gates", p.gate_words(cell)),
            Binding::read("recurrent", p.recurrent_words(cell)),
            Binding::read("b", p.b_offset as usize + cell.gates() * h),
            Binding::write("states", p.state_words(cell)),
            Binding::write("norms", rows * NORM_WORDS),
            Binding::read("unit_parameters", cell.unit_vectors() * h),
        ];
        if self.kind.flags {
            list.push(Binding::read_u32("flags", p.flag_words()));
        }
        if self.kind.zoneout == Zoneout::Draw {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        list.push(("PHASE_CELL", String::new()));
        list
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.batch as usize)
    }
    fn cost(&self) -> Cost {
        cost(&self.params, &self.kind)
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
        let h = p.hidden as usize;
        let rows = p.time as usize * p.batch as usize;
        let mut list = vec![
            Binding::write("gates", p.gate_words(cell)),
            Binding::write("recurrent", p.recurrent_words(cell)),
            Binding::read("norms", rows * NORM_WORDS),
            Binding::write("carry", p.carry_words(cell)),
            Binding::read("states", p.state_words(cell)),
            if cell.projection.is_some() {
                Binding::read("d_unprojected", p.batch as usize * h)
            } else {
                Binding::read("d_candidate", p.candidate_words())
            },
            Binding::read("unit_parameters", cell.unit_vectors() * h),
            Binding::write("d_unit", p.batch as usize * cell.unit_vectors() * h),
        ];
        if self.kind.flags {
            list.push(Binding::read_u32("flags", p.flag_words()));
        }
        // Only c's zoneout is here: h's is in the phase before.
        if self.kind.zoneout == Zoneout::Draw && cell.kind == CellKind::Lstm {
            list.push(Binding::read_u32("control", Control::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.kind.defines(self);
        list.extend([("PHASE_CELL", String::new()), ("BACKWARD", String::new())]);
        if self.kind.cell.kind != CellKind::Lstm {
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
    fn cost(&self) -> Cost {
        cost(&self.params, &self.kind)
    }
}
