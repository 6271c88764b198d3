//! One time step of a recurrent layer, forward and backward: the recurrent product and the gates
//! in one launch.
//!
//! Both kernels know a cell only by three numbers: G gates (rows of the weights per unit), K saved
//! words per unit (`gates` holds \[T,B,K·H\]) and S states per unit (`states` holds \[S,T+1,B,H\],
//! slot 0 the initial state, slot t+1 the state after step t). The equations stand in
//! `shaders/cell/{cell}.wgsl` and, the same, in `engine/cpu/cell.rs`.

use super::{Binding, Cost, Kernel, View, bytes};
use bytemuck::{Pod, Zeroable};

/// Units and batch rows that one workgroup computes.
const TILE: usize = 16;

/// A recurrent cell, by its equations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellKind {
    /// h' = tanh(W·x + b + R·h + b′) (Elman 1990).
    RnnTanh,
    /// h' = max(0, W·x + b + R·h + b′).
    RnnRelu,
    /// Long short-term memory with a forget gate (Gers 2000), gate order i, f, g, o.
    Lstm,
    /// Gated recurrent unit (Cho 2014), reset after the product (cuDNN), gate order r, z, n.
    Gru,
}

impl CellKind {
    /// All cells.
    pub const ALL: [CellKind; 4] =
        [CellKind::RnnTanh, CellKind::RnnRelu, CellKind::Lstm, CellKind::Gru];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            CellKind::RnnTanh => "rnn_tanh",
            CellKind::RnnRelu => "rnn_relu",
            CellKind::Lstm => "lstm",
            CellKind::Gru => "gru",
        }
    }

    /// G: weight rows per hidden unit.
    pub fn gates(self) -> usize {
        match self {
            CellKind::RnnTanh | CellKind::RnnRelu => 1,
            CellKind::Lstm => 4,
            CellKind::Gru => 3,
        }
    }

    /// K: words per hidden unit and step kept from forward for backward, at least G. The first G
    /// take the place of the input product; GRU keeps the recurrent product of n beside them.
    pub fn saved(self) -> usize {
        match self {
            CellKind::Gru => 4,
            other => other.gates(),
        }
    }

    /// S: states per hidden unit, h first.
    pub fn states(self) -> usize {
        if self == CellKind::Lstm { 2 } else { 1 }
    }

    /// The column blocks of the saved words (each `H` wide) that hold the gradient of the recurrent
    /// product, as (first saved block, first weight block, blocks). One for all cells but GRU,
    /// whose n has a gradient of its own on the recurrent side.
    pub fn recurrent_blocks(self) -> &'static [(usize, usize, usize)] {
        match self {
            CellKind::RnnTanh | CellKind::RnnRelu => &[(0, 0, 1)],
            CellKind::Lstm => &[(0, 0, 4)],
            CellKind::Gru => &[(0, 0, 2), (3, 2, 1)],
        }
    }

    /// Rough count of the epilogue's operations per unit, for costs.
    fn epilogue_flops(self) -> u64 {
        match self {
            CellKind::RnnTanh | CellKind::RnnRelu => 10,
            CellKind::Lstm => 60,
            CellKind::Gru => 45,
        }
    }

    fn defines(self) -> Vec<(&'static str, String)> {
        vec![("CELL", self.name().to_string()), ("GATES", self.gates().to_string())]
    }
}

/// The uniform block of `shaders/step_forward.wgsl` and `shaders/step_backward.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StepParams {
    /// Time steps T.
    pub time: u32,
    /// Batch rows B.
    pub batch: u32,
    /// Hidden units H.
    pub hidden: u32,
    /// Forward: the step t. Backward: t + 1, the step whose gate gradients enter the product; at T
    /// there are none, at 0 the launch ends with the initial state's gradient.
    pub step: u32,
    /// First element of the recurrent weights.
    pub w_offset: u32,
    /// First element of the recurrent bias.
    pub b_offset: u32,
    /// First element of the outputs' gradient (backward).
    pub d_output_offset: u32,
    /// First element of the gate buffer.
    pub gates_offset: u32,
}

impl StepParams {
    fn check_sizes(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.time, self.batch, self.hidden])
    }

    fn step_bytes(&self, cell: CellKind) -> u64 {
        let [b, h] = [self.batch, self.hidden].map(|x| x as usize);
        bytes(cell.gates() * h * (h + 1) + 2 * b * h * cell.saved() + 2 * b * h * cell.states())
    }

    fn product_flops(&self, cell: CellKind) -> u64 {
        2 * self.batch as u64 * (cell.gates() as u64) * (self.hidden as u64).pow(2)
    }

    fn gate_words(&self, cell: CellKind) -> usize {
        self.gates_offset as usize
            + self.time as usize * self.batch as usize * cell.saved() * self.hidden as usize
    }

    fn state_words(&self, cell: CellKind) -> usize {
        cell.states() * (self.time as usize + 1) * self.batch as usize * self.hidden as usize
    }

    fn weight_words(&self, cell: CellKind) -> usize {
        self.w_offset as usize + cell.gates() * (self.hidden as usize).pow(2)
    }

    fn groups(&self) -> [u32; 3] {
        let tiles = |n: u32| (n as usize).div_ceil(TILE) as u32;
        [tiles(self.hidden), tiles(self.batch), 1]
    }

    fn epilogue(&self, cell: CellKind) -> u64 {
        self.batch as u64 * self.hidden as u64 * cell.epilogue_flops()
    }
}

/// Step t: `gates[t]` holds the input product (with its bias) and receives the gate activations;
/// `states[t+1]` is computed from `states[t]`.
#[derive(Clone, Debug)]
pub struct StepForward {
    /// Shapes and offsets.
    pub params: StepParams,
    /// The equations.
    pub cell: CellKind,
}

impl Kernel for StepForward {
    fn name(&self) -> &'static str {
        "step_forward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check_sizes()?;
        if self.params.step < self.params.time { Ok(()) } else { Err("the step is past the end") }
    }

    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        vec![
            Binding::write("gates", p.gate_words(self.cell)),
            Binding::read("w_hh", p.weight_words(self.cell)),
            Binding::read("b_hh", p.b_offset as usize + self.cell.gates() * p.hidden as usize),
            Binding::write("states", p.state_words(self.cell)),
        ]
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        self.cell.defines()
    }

    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }

    fn groups(&self) -> [u32; 3] {
        self.params.groups()
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: self.params.product_flops(self.cell) + self.params.epilogue(self.cell),
            bytes: self.params.step_bytes(self.cell),
        }
    }
}

/// Step t backward: dh(t) = d_output(t) + carry_h + d_gates(t+1)·R, then the gates' derivatives.
/// `gates[t]` holds the activations and receives the gate gradients. `carry` \[S,B,H\] is what
/// reaches the states from later steps other than through the product.
#[derive(Clone, Debug)]
pub struct StepBackward {
    /// Shapes and offsets; `step` is t + 1.
    pub params: StepParams,
    /// The equations.
    pub cell: CellKind,
    /// The outputs have a gradient of their own (else only the final states do).
    pub d_output: bool,
}

impl StepBackward {
    /// The launch that leaves the initial state's gradient in `carry`.
    pub fn is_initial(&self) -> bool {
        self.params.step == 0
    }
}

impl Kernel for StepBackward {
    fn name(&self) -> &'static str {
        "step_backward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check_sizes()?;
        if self.params.step <= self.params.time { Ok(()) } else { Err("the step is past the end") }
    }

    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let unit_words = (p.batch * p.hidden) as usize;
        let gates = p.gate_words(self.cell);
        let mut list = vec![
            if self.is_initial() {
                Binding::read("gates", gates)
            } else {
                Binding::write("gates", gates)
            },
            Binding::read("w_hh", p.weight_words(self.cell)),
            Binding::write("carry", self.cell.states() * unit_words),
        ];
        if !self.is_initial() {
            list.push(Binding::read("states", p.state_words(self.cell)));
            if self.d_output {
                let words = p.d_output_offset as usize + p.time as usize * unit_words;
                list.push(Binding::read("d_output", words));
            }
        }
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = self.cell.defines();
        if self.is_initial() {
            list.push(("INITIAL", String::new()));
        } else if self.d_output {
            list.push(("D_OUTPUT", String::new()));
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
        let product = if p.step == p.time { 0 } else { p.product_flops(self.cell) };
        let epilogue = if self.is_initial() { 0 } else { p.epilogue(self.cell) };
        Cost { flops: product + epilogue, bytes: p.step_bytes(self.cell) }
    }
}

impl StepParams {
    /// Parameters of step 0 of a layer; offsets are taken from the views.
    pub fn new(
        [time, batch, hidden]: [usize; 3],
        gates: View,
        w_hh: View,
        b_hh: Option<View>,
        d_output: Option<View>,
    ) -> Self {
        StepParams {
            time: time as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            step: 0,
            w_offset: w_hh.offset as u32,
            b_offset: b_hh.map_or(0, |v| v.offset) as u32,
            d_output_offset: d_output.map_or(0, |v| v.offset) as u32,
            gates_offset: gates.offset as u32,
        }
    }

    /// The same layer at another step.
    pub fn at(self, step: usize) -> Self {
        StepParams { step: step as u32, ..self }
    }
}
