//! Each kernel once: its buffers, its parameters, its launch size, its shader.
//!
//! A kernel is plain data. [`Op`] says which kernel with which parameters; the GPU engine compiles
//! `shaders/{name}.wgsl` with [`Kernel::defines`], the CPU engine calls its function in `engine/cpu/`.
//!
//! Tensors are rows of words inside a buffer: a [`View`] is a buffer, the offset of the first
//! element and the number of elements.

mod activation;
mod beside;
mod cell;
mod convolution;
mod crf;
mod cross_entropy;
mod custom;
mod dropout;
mod embedding;
mod ensemble;
mod half;
mod input_norm;
mod loss_scale;
mod losses;
mod matmul;
mod memory;
mod norm;
mod of_steps;
mod optimizer;
mod penalty;
mod permutations;
mod places;
mod pool;
mod reduce;
mod resident;
mod scan;
pub mod shader;
mod slope;
mod step;
mod sum_parts;
mod tile;

pub use activation::Activation;
pub use beside::Beside;
pub use cell::{Cell, CellKind};
pub use convolution::{ColumnsBackward, ColumnsForward, ColumnsParams, Convolution};
pub use crf::{
    CrfForm, CrfParams, CrfPosterior, CrfPosteriorParams, CrfScan, CrfTransitions,
    CrfTransitionsParams, MAX_TAGS,
};
pub use cross_entropy::{CrossEntropy, CrossEntropyParams};
pub use custom::{BackwardTwin, CustomCell, ForwardTwin, Reference};
pub use dropout::{Dropout, DropoutParams};
pub use embedding::{EmbeddingBackward, EmbeddingForward, EmbeddingParams};
pub use input_norm::{
    ColumnSum, ColumnSumParams, InputNormBackward, InputNormForward, InputNormParams, NormAxis,
};
pub use loss_scale::LossScale;
pub(crate) use losses::CHUNK as LOSS_CHUNK;
pub use losses::{ElementForm, ElementLoss, ElementLossParams, LossTotal, LossTotalParams};
pub use matmul::{Matmul, MatmulParams, Operand, SequenceRows, SequenceSide};
pub use memory::{
    Combine, CombineParams, Fill, FillParams, Rows, SelectRows, SelectRowsParams, SequenceFlags,
    SequenceFlagsParams, With,
};
pub(crate) use norm::NORM_WORDS;
pub use norm::{NormBackward, NormForward};
pub use optimizer::{
    Adam, AdamParams, Average, AverageParams, ClipValue, ClipValueParams, RmsProp, RmsPropParams,
    Sgd, SgdParams,
};
pub use penalty::{ActivationPenalty, ActivationPenaltyParams};
pub use permutations::{cooperative_permutations, permutations};
pub use pool::{MaxOverTime, MaxOverTimeBackward, MaxOverTimeParams};
pub use reduce::{
    ClipScale, ClipScaleParams, RecordLoss, RecordLossParams, SumSquares, SumSquaresParams,
};
pub use resident::{Resident, ResidentParams};
pub use scan::{SCAN_BLOCK, ScanBackward, ScanForward};
pub use slope::{Slope, SlopeParams};
pub use step::{
    BackwardPhase, ForwardPhase, GroupLimits, Matrices, NONE, RESET, SequenceBackward, SequenceCut,
    SequenceForward, StepBackward, StepForward, StepKind, StepMatrices, StepParams, Team, VALID,
    Wait, Zoneout,
};
pub use sum_parts::{SumParts, SumPartsParams};
pub use tile::{COOPERATIVE_TILES, CooperativeTile, TILES, Tile, TileRate};

use crate::tensor::DType;

/// A buffer of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub(crate) usize);

/// A run of elements in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// The first element, counted in words from the buffer's start.
    pub offset: usize,
    /// The number of elements.
    pub len: usize,
}

impl View {
    /// The part of this view that starts `offset` elements in and has `len` elements.
    pub fn part(self, offset: usize, len: usize) -> View {
        debug_assert!(offset + len <= self.len);
        View { buffer: self.buffer, offset: self.offset + offset, len }
    }
}

/// How a kernel touches a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Written, perhaps read as well.
    Write,
}

/// One storage buffer of a kernel, in the order of the shader's `@binding` numbers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The variable's name in the shader.
    pub name: &'static str,
    /// Read or written.
    pub access: Access,
    /// The element type.
    pub dtype: DType,
    /// The shader sees vectors of four elements.
    pub vectors: bool,
    /// Workgroups of one launch hand over what lies there.
    pub shared: bool,
    /// The first element that the launch may touch.
    pub from: usize,
    /// One past the last element that the launch may touch.
    pub extent: usize,
    /// Elements that the launch reads plus those that it writes, each once.
    pub moved: usize,
}

impl Binding {
    fn new(name: &'static str, access: Access, dtype: DType, extent: usize) -> Self {
        let (vectors, shared, from, moved) = (false, false, 0, extent);
        Binding { name, access, dtype, vectors, shared, from, extent, moved }
    }

    pub(crate) fn read(name: &'static str, extent: usize) -> Self {
        Self::new(name, Access::Read, DType::F32, extent)
    }

    pub(crate) fn read_u32(name: &'static str, extent: usize) -> Self {
        Self::new(name, Access::Read, DType::U32, extent)
    }

    pub(crate) fn write(name: &'static str, extent: usize) -> Self {
        Self::new(name, Access::Write, DType::F32, extent)
    }

    pub(crate) fn write_u32(name: &'static str, extent: usize) -> Self {
        Self::new(name, Access::Write, DType::U32, extent)
    }

    /// The same, of which the launch moves so many elements, or reads and writes them, counted twice.
    pub(crate) fn moving(self, moved: usize) -> Self {
        Binding { moved, ..self }
    }

    /// The same, of which nothing before that element is touched.
    pub(crate) fn starting(self, from: u32) -> Self {
        Binding { from: from as usize, ..self }
    }

    /// The same, through which the workgroups of the launch hand something over.
    pub(crate) fn shared(self) -> Self {
        Binding { shared: true, ..self }
    }

    /// The same in vectors of four elements, or not.
    pub(crate) fn in_vectors(self, vectors: bool) -> Self {
        Binding { vectors, ..self }
    }
}

/// The work of a launch, counted from its shape alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add is two.
    pub flops: u64,
    /// Bytes read and written, each operand once.
    pub bytes: u64,
}

impl Cost {
    /// Of one launch of a kernel over buffers with these bindings.
    pub fn new(kernel: &dyn Kernel, bindings: &[Binding]) -> Self {
        let bytes = bindings.iter().map(|b| b.moved as u64 * b.dtype.bytes() as u64).sum();
        Cost { flops: kernel.flops(), bytes }
    }

    /// Of so many like it.
    pub fn times(self, count: u64) -> Self {
        Cost { flops: self.flops * count, bytes: self.bytes * count }
    }
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// What every kernel tells about itself.
pub trait Kernel {
    /// The shader's file stem and the CPU twin's function name.
    fn name(&self) -> &'static str;
    /// Whether the parameters make sense at all, apart from the buffers: what is wrong if not.
    /// [`Recording::launch`](crate::recording::Recording::launch) asks before anything else.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
    /// Storage buffers in binding order.
    fn bindings(&self) -> Vec<Binding>;
    /// Preprocessor names that select the shader's permutation.
    fn defines(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The uniform parameter block.
    fn params(&self) -> &[u8];
    /// Workgroups in x, y and z.
    fn groups(&self) -> [u32; 3];
    /// Floating-point operations; a multiply-add is two.
    fn flops(&self) -> u64;
    /// Launches that this one makes side by side, with workgroups in z; see [`Beside`].
    fn items(&self) -> usize {
        1
    }
}

macro_rules! ops {
    ($($variant:ident),* $(,)?) => {
        /// One kernel with its parameters.
        #[derive(Clone, Debug)]
        #[allow(missing_docs)]
        pub enum Op { $($variant($variant)),* }
        impl Op {
            /// The kernel's description.
            pub fn kernel(&self) -> &dyn Kernel {
                match self { $(Op::$variant(kernel) => kernel),* }
            }
        }
        $(impl From<$variant> for Op {
            fn from(kernel: $variant) -> Op { Op::$variant(kernel) }
        })*
    };
}

ops!(
    Matmul,
    SumParts,
    Slope,
    StepForward,
    StepBackward,
    SequenceForward,
    SequenceBackward,
    EmbeddingForward,
    EmbeddingBackward,
    Dropout,
    CrossEntropy,
    SumSquares,
    ClipScale,
    RecordLoss,
    Sgd,
    Adam,
    RmsProp,
    Average,
    ClipValue,
    NormForward,
    NormBackward,
    ScanForward,
    ScanBackward,
    Combine,
    SelectRows,
    SequenceFlags,
    Fill,
    ColumnsForward,
    ColumnsBackward,
    InputNormForward,
    InputNormBackward,
    ColumnSum,
    MaxOverTime,
    MaxOverTimeBackward,
    ActivationPenalty,
    LossTotal,
    ElementLoss,
    CrfScan,
    CrfPosterior,
    CrfTransitions,
    Resident,
    Beside,
);

impl Op {
    /// An optimizer's, which reads the step and the learning rate from the control words.
    pub(crate) fn is_update(&self) -> bool {
        matches!(self, Op::Sgd(_) | Op::Adam(_) | Op::RmsProp(_))
    }
}

/// Words of the control buffer, the few numbers that change from run to run. The host writes them
/// before each run; shaders read the same order in `shaders/shared/control.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Control {
    /// The training step, counted from 1.
    pub step: u32,
    /// Low word of the seed of all random masks.
    pub seed_low: u32,
    /// High word of the seed.
    pub seed_high: u32,
    /// The learning rate.
    pub learning_rate: f32,
    /// 1 / (1 − β₁^step), Adam's bias correction of the first moment.
    pub correction_1: f32,
    /// 1 / (1 − β₂^step), Adam's bias correction of the second moment.
    pub correction_2: f32,
    /// The newest weights' share in their average; 0 leaves it as it is.
    pub average_share: f32,
}

impl Control {
    /// Words in the control buffer.
    pub const WORDS: usize = std::mem::size_of::<Control>() / 4;

    /// The control words for a run without an optimizer: step and seed.
    pub fn new(step: u32, seed: u64) -> Self {
        Control {
            step,
            seed_low: seed as u32,
            seed_high: (seed >> 32) as u32,
            ..Default::default()
        }
    }
}

/// Threads in a workgroup of the one-dimensional kernels.
pub(crate) const GROUP: usize = 256;

/// The largest number of workgroups that WebGPU promises in one dimension.
const MAX_GROUPS: usize = 65_535;

/// Spreads `count` workgroups over x and y: shaders take `id.x + id.y · num_workgroups.x` as the
/// linear number and return where it is past the end.
pub(crate) fn spread(count: usize) -> [u32; 3] {
    let count = count.max(1);
    if count <= MAX_GROUPS {
        return [count as u32, 1, 1];
    }
    let y = count.div_ceil(MAX_GROUPS);
    [count.div_ceil(y) as u32, y as u32, 1]
}

/// Sizes that a launch can't do without.
pub(crate) fn all_positive(sizes: &[u32]) -> Result<(), &'static str> {
    if sizes.contains(&0) { Err("a size is zero") } else { Ok(()) }
}

/// One past the last element of a `rows`×`columns` matrix with a row stride.
pub(crate) fn matrix_extent(offset: u32, stride: u32, rows: u32, columns: u32) -> usize {
    offset as usize + (rows as usize - 1) * stride as usize + columns as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words have the order of the shaders' constants.
    #[test]
    fn the_control_words_are_the_shaders() {
        let source = include_str!("../../shaders/shared/control.wgsl");
        let debug = format!("{:?}", Control::default());
        let fields = debug.trim_end_matches('}').trim_start_matches("Control {").split(',');
        let fields = fields.filter_map(|field| Some(field.split_once(':')?.0.trim()));
        let wanted: Vec<String> = fields
            .enumerate()
            .map(|(word, name)| format!("const CONTROL_{} = {word}u;", name.to_uppercase()))
            .collect();
        assert_eq!(wanted.len(), Control::WORDS);
        let found: Vec<&str> = source.lines().filter(|line| line.starts_with("const ")).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn spread_covers_every_group_within_the_limit() {
        for count in [0, 1, 2, 65_535, 65_536, 65_537, 131_071, 1 << 20, (1 << 27) + 1] {
            let [x, y, z] = spread(count).map(|n| n as usize);
            assert!(x <= MAX_GROUPS && y <= MAX_GROUPS && z == 1);
            assert!(x * y >= count.max(1) && x * y < count.max(1) + y, "{count}: {x} x {y}");
        }
    }
}
