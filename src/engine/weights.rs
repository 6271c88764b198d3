//! How the CPU engine keeps weights that last from run to run.

/// How weights that last from run to run are kept where they are multiplied with: those of programs
/// without gradients, on the CPU engine. States, gates, biases, norms and the store's own tensors
/// are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// As they are: four bytes a weight.
    #[default]
    F32,
    /// bfloat16, rounded to nearest, ties to even: two bytes a weight, eight significant bits,
    /// f32's range. Products and sums are f32's, in the same order: the bits are those of f32 with
    /// weights that were rounded so.
    Bf16,
    /// Eight bits, one byte a weight, with a scale for each output channel o (a row of W, a gate of
    /// a unit); what the weights are multiplied with is rounded to eight bits too, with a scale for
    /// each row (a step of a sequence), found anew each time. Symmetric, ties to even (Jacob et al.
    /// 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
    /// inference", with zero points of 0):
    ///
    /// ```text
    /// s(o) = max_k |W(o,k)| / 127    w(o,k) = round(W(o,k) / s(o))
    /// a    = max_k |x(k)| / 127      q(k)   = round(x(k) / a)
    /// y(o) = a·s(o)·Σ_k w(o,k)·q(k)
    /// ```
    ///
    /// The sum is of integers of 32 bits, and exact: the same bits on every machine. It differs
    /// from that of W and x by at most Σ_k (|W(o,k)|·a + |x(k)|·s(o) + a·s(o)/2)/2, but for f32's
    /// own rounding. A row with an element that is not finite gives NaN throughout.
    Int8,
}

impl WeightFormat {
    /// All of them.
    pub const ALL: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::Bf16 => "bf16",
            WeightFormat::Int8 => "int8",
        }
    }
}

/// How the weights of a launch are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptWeights {
    /// The tensor's name in the store.
    pub tensor: String,
    /// The kernel that multiplies with it.
    pub kernel: &'static str,
    /// The format of the copy that the product reads; where there is no copy, that of the store.
    pub format: WeightFormat,
    /// Bytes that the product reads: weights, and scales where there are some.
    pub bytes: usize,
    /// Why it is not the engine's format, where it isn't.
    pub reason: Option<&'static str>,
}
