//! How the steps of a recurrence are launched.

/// How the steps of a recurrence are launched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// What is taken to be faster for the device and the shape.
    #[default]
    Auto,
    /// A launch a step. The CPU engine makes the steps of a layer and direction together, with all its threads, even
    /// where they have to wait for cores that other work keeps busy.
    Step,
    /// All steps of a layer and direction in one launch, wherever the kernel serves them.
    Sequence,
    /// The same by several workgroups, which wait for one another: for a device that keeps them at work side by
    /// side. What it does not keep, one workgroup makes up for.
    Grid,
    /// Layers beside one another, a part of the steps at a time, each part as with `Auto`. On the CPU also other runs
    /// that don't depend on one another, as both directions of a layer: each with a share of the threads.
    Wavefront,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 5] =
        [Strategy::Auto, Strategy::Step, Strategy::Sequence, Strategy::Grid, Strategy::Wavefront];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Auto => "auto",
            Strategy::Step => "step",
            Strategy::Sequence => "sequence",
            Strategy::Grid => "grid",
            Strategy::Wavefront => "wavefront",
        }
    }
}

/// How the steps of a layer and direction are launched.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The kernel.
    pub kernel: &'static str,
    /// Layers that the choice is about: 1, or those that may go beside one another.
    pub layers: usize,
    /// Steps that follow one another in launches of this kernel.
    pub steps: usize,
    /// The strategy.
    pub strategy: Strategy,
    /// Milliseconds a step, launched each and in one launch, where that was measured; of several layers, one layer
    /// after another and beside one another.
    pub measured_ms: Option<[f64; 2]>,
    /// Why.
    pub reason: String,
    /// How the sequence kernel is cut, where there is one, taken or not; of several layers, into how many parts.
    pub cut: Option<String>,
}
