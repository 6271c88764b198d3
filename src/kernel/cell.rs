//! What the kernels know of a cell: its equations by name, and numbers that tell its layout.

use super::activation::Activation;
use super::custom::CustomCell;
use crate::error::{Error, Result};
use std::sync::Arc;

/// A recurrent cell, by its equations (docs/operator.md).
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
    /// Gated recurrent unit with the reset before the product (Cho 2014, version 1), r, z, n.
    GruResetBefore,
    /// LSTM with exponential gates (Beck 2024), gate order i, f, z, o; states h, c, n, m.
    Slstm,
    /// Minimal GRU (Feng 2024), gate order z, n; no recurrent weights, a scan over time.
    MinGru,
    /// Minimal LSTM (Feng 2024), gate order f, i, n; no recurrent weights, a scan over time.
    MinLstm,
    /// The caller's own: [`CustomCell`].
    Custom,
}

impl CellKind {
    /// All cells that are built in.
    pub const ALL: [CellKind; 8] = [
        CellKind::RnnTanh,
        CellKind::RnnRelu,
        CellKind::Lstm,
        CellKind::Gru,
        CellKind::GruResetBefore,
        CellKind::Slstm,
        CellKind::MinGru,
        CellKind::MinLstm,
    ];

    /// The cells of PyTorch and cuDNN.
    pub const CLASSIC: [CellKind; 4] =
        [CellKind::RnnTanh, CellKind::RnnRelu, CellKind::Lstm, CellKind::Gru];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            CellKind::RnnTanh => "rnn_tanh",
            CellKind::RnnRelu => "rnn_relu",
            CellKind::Lstm => "lstm",
            CellKind::Gru => "gru",
            CellKind::GruResetBefore => "gru_reset_before",
            CellKind::Slstm => "slstm",
            CellKind::MinGru => "min_gru",
            CellKind::MinLstm => "min_lstm",
            CellKind::Custom => "custom",
        }
    }

    /// G without options: weight rows per hidden unit.
    pub fn gates(self) -> usize {
        Cell::from(self).gates()
    }

    /// S: states per hidden unit.
    pub fn states(self) -> usize {
        Cell::from(self).states()
    }

    /// Whether the cell has no recurrent product, so that time is a scan.
    pub fn is_scan(self) -> bool {
        matches!(self, CellKind::MinGru | CellKind::MinLstm)
    }
}

/// A cell with the options that change its arithmetic. Made from a [`CellKind`]; every option is
/// off at first.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The equations.
    pub kind: CellKind,
    /// Other activations than the cell's own. Of all gates alike, as ONNX has them: rnn one (f), gru
    /// two (f of r and z, g of n), lstm three (f of i, f and o, g of g, h of the cell state). Or gate by
    /// gate: gru three (r, z, n), lstm five (i, f, g, o, h).
    pub activations: Option<Vec<Activation>>,
    /// LSTM: i, f and o see the cell state (Gers 2002).
    pub peepholes: bool,
    /// LSTM: f = 1 − i; the gates are i, g, o.
    pub coupled: bool,
    /// Every gate's pre-activation is clamped to ±clip (ONNX).
    pub clip: Option<f32>,
    /// LSTM: the cell state is clamped to ±cell_clip (cuDNN).
    pub cell_clip: Option<f32>,
    /// Layer norm of both products and LSTM's cell state (Ba 2016), with this ε. A scan has the input
    /// product alone; reset-before GRU norms the product of n apart from that of r and z.
    pub layer_norm: Option<f32>,
    /// LSTM: h is projected to this width (Sak 2014).
    pub projection: Option<usize>,
    /// The caller's cell, where `kind` is [`CellKind::Custom`].
    pub custom: Option<Arc<CustomCell>>,
}

impl From<CellKind> for Cell {
    fn from(kind: CellKind) -> Self {
        Cell {
            kind,
            activations: None,
            peepholes: false,
            coupled: false,
            clip: None,
            cell_clip: None,
            layer_norm: None,
            projection: None,
            custom: None,
        }
    }
}

impl From<CustomCell> for Cell {
    fn from(custom: CustomCell) -> Self {
        Cell { custom: Some(Arc::new(custom)), ..CellKind::Custom.into() }
    }
}

impl Cell {
    /// The name in reports: the kind, or the custom cell's own.
    pub fn name(&self) -> &str {
        self.custom.as_ref().map_or(self.kind.name(), |custom| &custom.name)
    }

    /// G: weight rows per hidden unit.
    pub fn gates(&self) -> usize {
        match self.kind {
            CellKind::RnnTanh | CellKind::RnnRelu => 1,
            CellKind::Lstm if self.coupled => 3,
            CellKind::Lstm | CellKind::Slstm => 4,
            CellKind::Gru | CellKind::GruResetBefore | CellKind::MinLstm => 3,
            CellKind::MinGru => 2,
            CellKind::Custom => self.custom.as_ref().map_or(1, |custom| custom.gates),
        }
    }

    /// K: words per hidden unit and step kept from forward for backward, at least G. The first G
    /// take the place of the input product; further ones are GRU's recurrent product of n, the
    /// reset state of reset-before, the unprojected output of a projection.
    pub fn saved(&self) -> usize {
        match self.kind {
            CellKind::Gru | CellKind::GruResetBefore => 4,
            CellKind::Custom => self.custom.as_ref().map_or(1, |custom| custom.saved),
            _ => self.gates() + usize::from(self.projection.is_some()),
        }
    }

    /// S: states per hidden unit, h first.
    pub fn states(&self) -> usize {
        match self.kind {
            CellKind::Lstm => 2,
            CellKind::Slstm => 4,
            CellKind::Custom => self.custom.as_ref().map_or(1, |custom| custom.states),
            _ => 1,
        }
    }

    /// The width of h: P, or H.
    pub fn width(&self, hidden: usize) -> usize {
        self.projection.unwrap_or(hidden)
    }

    /// Words of all states of one row: h's, then the others'.
    pub fn state_words(&self, hidden: usize) -> usize {
        self.width(hidden) + (self.states() - 1) * hidden
    }

    /// The column blocks of the saved words (each `H` wide) that hold the gradient of the recurrent
    /// product, as (first saved block, first weight block, blocks). One for all cells but GRU,
    /// whose n has a gradient of its own on the recurrent side, and reset-before, whose n has a
    /// product of its own.
    pub fn recurrent_blocks(&self) -> &'static [(usize, usize, usize)] {
        match (self.kind, self.gates()) {
            (CellKind::Gru, _) => &[(0, 0, 2), (3, 2, 1)],
            (CellKind::GruResetBefore, _) => &[(0, 0, 2)],
            (_, 1) => &[(0, 0, 1)],
            (_, 2) => &[(0, 0, 2)],
            (_, 3) => &[(0, 0, 3)],
            _ => &[(0, 0, 4)],
        }
    }

    /// The parameter vectors of length H that the epilogue reads by unit, in their order in the
    /// unit parameters' buffer: (name, vectors).
    pub fn unit_parameters(&self) -> Vec<(&'static str, usize)> {
        let mut list = Vec::new();
        if self.kind.is_scan() {
            // Its products are those with x alone.
            return list;
        }
        if self.peepholes {
            list.push(("weight_peephole", if self.coupled { 2 } else { 3 }));
        }
        if self.layer_norm.is_some() {
            list.push(("norm_hh_weight", self.gates()));
            if self.kind == CellKind::Lstm {
                list.push(("norm_cell_weight", 1));
                list.push(("norm_cell_bias", 1));
            }
        }
        list
    }

    /// E: how many such vectors.
    pub fn unit_vectors(&self) -> usize {
        self.unit_parameters().iter().map(|p| p.1).sum()
    }

    /// The activations by role: the gates in the order of the weights without options, and at 4 an
    /// LSTM's function of the cell state. The cell's own where none are given.
    pub fn roles(&self) -> [Activation; 5] {
        let [rest, s, t] = [Activation::Identity, Activation::Sigmoid, Activation::Tanh];
        match (self.kind, self.activations.as_deref().unwrap_or_default()) {
            (_, &[i, f, g, o, h]) => [i, f, g, o, h],
            (CellKind::Lstm, &[f, g, h]) => [f, f, g, f, h],
            (_, &[r, z, n]) => [r, z, n, rest, rest],
            (_, &[f, g]) => [f, f, g, rest, rest],
            (_, &[f]) => [f, rest, rest, rest, rest],
            (CellKind::RnnTanh, _) => [t, rest, rest, rest, rest],
            (CellKind::RnnRelu, _) => [Activation::Relu, rest, rest, rest, rest],
            _ => [s, s, t, s, t],
        }
    }

    /// How many activations can be chosen: for all gates alike, or gate by gate.
    fn choices(&self) -> &'static [usize] {
        match self.kind {
            CellKind::RnnTanh | CellKind::RnnRelu => &[1],
            CellKind::Gru | CellKind::GruResetBefore => &[2, 3],
            CellKind::Lstm => &[3, 5],
            _ => &[],
        }
    }

    /// Whether the options go with the cell and with each other.
    ///
    /// # Errors
    /// The option that does not, by name.
    pub fn check(&self) -> Result<()> {
        let name = self.name();
        let refuse = |what: String| Err(Error::invalid(format!("cell {name}: {what}")));
        let lstm = self.kind == CellKind::Lstm;
        for (on, option) in [
            (self.peepholes, "peepholes"),
            (self.coupled, "coupled gates"),
            (self.cell_clip.is_some(), "cell clip"),
            (self.projection.is_some(), "projection"),
        ] {
            if on && !lstm {
                return refuse(format!("{option} are an option of the LSTM alone"));
            }
        }
        for (value, option) in [(self.clip, "clip"), (self.cell_clip, "cell clip")] {
            if let Some(value) = value
                && !(value > 0.0 && value.is_finite())
            {
                return refuse(format!("{option} must be a positive number, not {value}"));
            }
        }
        if self.clip.is_some() && self.choices().is_empty() {
            return refuse("clip is an option of rnn, lstm and gru".into());
        }
        if let Some(epsilon) = self.layer_norm
            && !(epsilon > 0.0 && epsilon.is_finite())
        {
            return refuse(format!("layer norm's epsilon must be positive, not {epsilon}"));
        }
        if self.projection == Some(0) {
            return refuse("the projection's width must be at least 1".into());
        }
        if let Some(given) = &self.activations {
            if !self.choices().contains(&given.len()) {
                let counts: Vec<_> = self.choices().iter().map(ToString::to_string).collect();
                let (want, got) = (counts.join(" or "), given.len());
                let want = if want.is_empty() { "no" } else { &want };
                let verb = if got == 1 { "was" } else { "were" };
                return refuse(format!("{want} activations can be chosen, {got} {verb} given"));
            }
            given.iter().try_for_each(|a| a.check())?;
        }
        match (&self.custom, self.kind) {
            (Some(custom), CellKind::Custom) => custom.check(),
            (None, CellKind::Custom) => refuse("its equations are missing".into()),
            (Some(_), _) => refuse("only a custom cell brings equations of its own".into()),
            (None, _) => Ok(()),
        }
    }

    /// The file under `shaders/cell/` (a custom cell's is its own text).
    fn shader(&self) -> &'static str {
        match self.kind {
            CellKind::RnnTanh | CellKind::RnnRelu => "rnn",
            other => other.name(),
        }
    }

    /// The permutation's names.
    pub(super) fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = vec![
            ("CELL", self.shader().to_string()),
            ("G_COUNT", self.gates().to_string()),
            ("SAVED", self.saved().to_string()),
            ("STATES", self.states().to_string()),
            ("UNIT_VECTORS", self.unit_vectors().to_string()),
        ];
        if !self.choices().is_empty() {
            const NAMES: [[&str; 3]; 5] = [
                ["ACT_0", "ACT_0_ALPHA", "ACT_0_BETA"],
                ["ACT_1", "ACT_1_ALPHA", "ACT_1_BETA"],
                ["ACT_2", "ACT_2_ALPHA", "ACT_2_BETA"],
                ["ACT_3", "ACT_3_ALPHA", "ACT_3_BETA"],
                ["ACT_4", "ACT_4_ALPHA", "ACT_4_BETA"],
            ];
            for ([name, alpha, beta], activation) in NAMES.into_iter().zip(self.roles()) {
                let [a, b] = activation.parameters();
                list.push((name, activation.name().to_string()));
                // Debug prints a decimal point or an exponent, as WGSL's literals need.
                list.extend([(alpha, format!("{a:?}")), (beta, format!("{b:?}"))]);
            }
        }
        let gru = matches!(self.kind, CellKind::Gru | CellKind::GruResetBefore);
        let flags = [
            (gru && self.roles()[1] == Activation::Sigmoid, "Z_SIGMOID"),
            (self.peepholes, "PEEPHOLES"),
            (self.coupled, "COUPLED"),
            (self.projection.is_some(), "PROJECTED"),
        ];
        list.extend(flags.iter().filter(|f| f.0).map(|f| (f.1, String::new())));
        let clips = [("CLIP", self.clip), ("CELL_CLIP", self.cell_clip)];
        list.extend(clips.iter().filter_map(|&(name, v)| Some((name, format!("{:?}", v?)))));
        if let Some(custom) = &self.custom {
            list.push((CustomCell::TEXT, custom.wgsl.clone()));
        }
        list
    }

    /// Rough count of the epilogue's operations per unit, for costs.
    pub(super) fn epilogue_flops(&self) -> u64 {
        match self.kind {
            CellKind::RnnTanh | CellKind::RnnRelu => 10,
            CellKind::Lstm => 60,
            CellKind::Slstm => 80,
            CellKind::MinGru | CellKind::MinLstm => 20,
            _ => 45,
        }
    }
}
