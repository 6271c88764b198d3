//! Cells without a recurrent product: all steps at once, a parallel scan over time.

use super::step::{StepKind, StepParams, Zoneout};
use super::{Binding, Control, Kernel, spread};

/// Units of a row that one workgroup takes.
const UNITS: usize = 16;

/// Steps of a block, across which the scan is not parallel: a sequence may be cut at its borders.
pub const SCAN_BLOCK: usize = 128;

/// h(t+1) = a(t)⊙h(t) + c(t) for all t; see `shaders/scan_forward.wgsl`.
#[derive(Clone, Debug)]
pub struct ScanForward {
    /// Shapes and offsets; the step is not used.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
    /// From the last step to the first.
    pub reverse: bool,
}

/// The derivative, by a scan the other way; see `shaders/scan_backward.wgsl`.
#[derive(Clone, Debug)]
pub struct ScanBackward {
    /// Shapes and offsets; the step is not used.
    pub params: StepParams,
    /// Cell and options.
    pub kind: StepKind,
    /// From the last step to the first (of the forward pass).
    pub reverse: bool,
    /// The outputs have a gradient of their own.
    pub d_output: bool,
}

fn defines(kernel: &dyn Kernel, kind: &StepKind, reverse: bool) -> Vec<(&'static str, String)> {
    let mut list = kind.defines(kernel);
    list.push(("BLOCK", SCAN_BLOCK.to_string()));
    if reverse {
        list.push(("REVERSE", String::new()));
    }
    list
}

fn groups(params: &StepParams) -> [u32; 3] {
    spread(params.batch as usize * (params.hidden as usize).div_ceil(UNITS))
}

/// What both passes read beside the numbers: the flags, what has a gradient of its own, the seed of masks.
fn rest(p: &StepParams, kind: &StepKind, d_output: bool) -> impl Iterator<Item = Binding> {
    let flags = kind.flags.then(|| Binding::read_u32("flags", p.flag_words()));
    let d_output = d_output.then(|| {
        let words = p.words(&[p.time, p.batch, p.width]);
        Binding::read("d_output", p.d_output_offset as usize + words)
    });
    let draws = kind.zoneout == Zoneout::Draw;
    let control = draws.then(|| Binding::read_u32("control", Control::WORDS));
    [flags, d_output, control].into_iter().flatten()
}

fn flops(params: &StepParams, kind: &StepKind) -> u64 {
    let units = params.words(&[params.time, params.batch, params.hidden]);
    2 * units as u64 * kind.cell.epilogue_flops()
}

impl Kernel for ScanForward {
    fn name(&self) -> &'static str {
        "scan_forward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, cell) = (&self.params, &self.kind.cell);
        let mut list = vec![
            Binding::read("gates", p.gate_words(cell)),
            Binding::write("states", p.state_words(cell)),
        ];
        list.extend(rest(p, &self.kind, false));
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defines(self, &self.kind, self.reverse)
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        groups(&self.params)
    }
    fn flops(&self) -> u64 {
        flops(&self.params, &self.kind)
    }
}

impl Kernel for ScanBackward {
    fn name(&self) -> &'static str {
        "scan_backward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        let (p, cell) = (&self.params, &self.kind.cell);
        let mut list = vec![
            Binding::write("gates", p.gate_words(cell)).moving(2 * p.gate_words(cell)),
            Binding::read("carry", p.carry_words(cell)),
            Binding::write("d_initial", p.carry_words(cell)),
            Binding::read("states", p.state_words(cell)),
        ];
        list.extend(rest(p, &self.kind, self.d_output));
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defines(self, &self.kind, self.reverse)
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        groups(&self.params)
    }
    fn flops(&self) -> u64 {
        flops(&self.params, &self.kind)
    }
}
