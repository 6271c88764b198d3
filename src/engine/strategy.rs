//! How the steps of a recurrence are launched.

/// How the steps of a recurrence are launched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// What is taken to be faster for the device and the shape.
    #[default]
    Auto,
    /// A launch a step.
    Step,
    /// All steps of a layer and direction in one launch, wherever the kernel serves them.
    Sequence,
    /// The same by several workgroups, which wait for one another: for a device that keeps them at work side by
    /// side. What it does not keep, one workgroup makes up for.
    Grid,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 4] =
        [Strategy::Auto, Strategy::Step, Strategy::Sequence, Strategy::Grid];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Auto => "auto",
            Strategy::Step => "step",
            Strategy::Sequence => "sequence",
            Strategy::Grid => "grid",
        }
    }
}

/// How the steps of a layer and direction are launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The kernel.
    pub kernel: &'static str,
    /// Steps that follow one another in launches of this kernel.
    pub steps: usize,
    /// The strategy.
    pub strategy: Strategy,
    /// Milliseconds a step, launched each and in one launch, where that was measured.
    pub measured_ms: Option<[f64; 2]>,
    /// Why.
    pub reason: String,
    /// How the sequence kernel is cut, where there is one, taken or not.
    pub cut: Option<String>,
}
