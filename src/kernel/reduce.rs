//! Sums in a fixed order: the loss, the gradient norm and the clipping factor.

use super::{Binding, Control, GROUP, Kernel, LossScale, View};
use bytemuck::{Pod, Zeroable};

/// Elements that one workgroup of [`SumSquares`] takes at least, and the most workgroups.
const CHUNK: usize = 4096;
const MAX_PARTIALS: usize = 64;

/// The uniform block of `shaders/record_loss.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct RecordLossParams {
    /// Losses to sum.
    pub count: u32,
    /// Entries of the ring.
    pub ring: u32,
    /// What the sum is multiplied with: 1 / count for the mean.
    pub scale: f32,
    /// The first of them.
    pub first: u32,
}

/// ring\[(step − 1) mod R\] = scale·Σₙ losses\[n\], so that the host may read the losses of many steps
/// at once; divided by a total that a launch counted, or 0 where that is 0. Or it is added to what is there.
#[derive(Clone, Debug)]
pub struct RecordLoss {
    /// Sizes.
    pub params: RecordLossParams,
    /// There is a total.
    pub total: bool,
    /// Add to the ring's entry.
    pub accumulate: bool,
}

impl RecordLoss {
    /// The mean of `count` losses into a ring of `ring` entries.
    pub fn new(count: usize, ring: usize) -> Self {
        RecordLoss {
            params: RecordLossParams {
                count: count as u32,
                ring: ring as u32,
                scale: 1.0 / count as f32,
                first: 0,
            },
            total: false,
            accumulate: false,
        }
    }
}

impl Kernel for RecordLoss {
    fn name(&self) -> &'static str {
        "record_loss"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.count, self.params.ring])
    }
    fn bindings(&self) -> Vec<Binding> {
        let mut list = vec![
            Binding::read("losses", (self.params.first + self.params.count) as usize)
                .starting(self.params.first)
                .moving(self.params.count as usize),
            Binding::write("ring", self.params.ring as usize).moving(1),
            Binding::read_u32("control", Control::WORDS),
        ];
        if self.total {
            list.push(Binding::read("total", 1));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags = [("HAS_total", self.total), ("ACCUMULATE", self.accumulate)];
        flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn flops(&self) -> u64 {
        self.params.count.into()
    }
}

/// The uniform block of `shaders/sum_squares.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SumSquaresParams {
    /// Elements.
    pub count: u32,
    /// First element.
    pub input_offset: u32,
    /// First partial sum.
    pub partial_offset: u32,
    /// Elements a workgroup sums.
    pub chunk: u32,
}

/// partials\[g\] = Σ x², one partial sum a workgroup.
#[derive(Clone, Debug)]
pub struct SumSquares {
    /// Sizes and offsets.
    pub params: SumSquaresParams,
}

impl SumSquares {
    /// Partial sums of the squares of `input`, from `partial_offset` on.
    pub fn new(input: View, partial_offset: usize) -> Self {
        let groups = Self::partials(input.len);
        SumSquares {
            params: SumSquaresParams {
                count: input.len as u32,
                input_offset: input.offset as u32,
                partial_offset: partial_offset as u32,
                chunk: input.len.div_ceil(groups) as u32,
            },
        }
    }

    /// How many partial sums `len` elements give.
    pub fn partials(len: usize) -> usize {
        len.div_ceil(CHUNK).clamp(1, MAX_PARTIALS)
    }
}

impl Kernel for SumSquares {
    fn name(&self) -> &'static str {
        "sum_squares"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.count, self.params.chunk])
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        vec![
            Binding::read("input", (p.input_offset + p.count) as usize)
                .starting(p.input_offset)
                .moving(p.count as usize),
            Binding::write("partials", p.partial_offset as usize + self.groups()[0] as usize)
                .starting(p.partial_offset)
                .moving(self.groups()[0] as usize),
        ]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        [Self::partials(self.params.count as usize) as u32, 1, 1]
    }
    fn flops(&self) -> u64 {
        2 * u64::from(self.params.count)
    }
}

/// The uniform block of `shaders/clip_scale.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ClipScaleParams {
    /// Partial sums.
    pub count: u32,
    /// The largest norm allowed.
    pub max_norm: f32,
    /// β₁ of the update, for its correction under a loss scale.
    pub beta_1: f32,
    /// β₂.
    pub beta_2: f32,
    /// What the gradients are to be multiplied with first: 1/N where they are sums over N micro-batches.
    pub share: f32,
}

/// norm = share·√Σ partials; clip = \[share·min(1, max_norm / (norm + 1e-6)), norm\] (as PyTorch's
/// `clip_grad_norm_`). Under a loss scale S the gradients are times S, and the factor takes it out; clip
/// goes on with \[whether to update, 1/(1−β₁ⁿ), 1/(1−β₂ⁿ)\], and S follows the gradients
/// ([`LossScale`]).
#[derive(Clone, Debug)]
pub struct ClipScale {
    /// Sizes and the bound.
    pub params: ClipScaleParams,
    /// Under a loss scale.
    pub scaled: bool,
}

impl ClipScale {
    /// The factor that keeps the norm under `max_norm`, from `count` partial sums of squares.
    pub fn new(count: usize, max_norm: f32) -> Self {
        let (count, [beta_1, beta_2]) = (count as u32, [0.0; 2]);
        let params = ClipScaleParams { count, max_norm, beta_1, beta_2, share: 1.0 };
        ClipScale { params, scaled: false }
    }

    /// Of gradients that are sums over so many micro-batches: the update takes their mean.
    pub fn of_micro_batches(mut self, count: usize) -> Self {
        self.params.share = 1.0 / count.max(1) as f32;
        self
    }

    /// Under a loss scale, for updates with these β.
    pub fn under_scale(mut self, betas: (f32, f32)) -> Self {
        (self.params.beta_1, self.params.beta_2) = betas;
        self.scaled = true;
        self
    }

    /// Words of the result: the factor and the norm; under a loss scale three more.
    pub const fn words(scaled: bool) -> usize {
        if scaled { 5 } else { 2 }
    }
}

impl Kernel for ClipScale {
    fn name(&self) -> &'static str {
        "clip_scale"
    }
    fn bindings(&self) -> Vec<Binding> {
        let mut list = vec![
            Binding::read("partials", self.params.count as usize),
            Binding::write("clip", Self::words(self.scaled)),
        ];
        if self.scaled {
            list.push(Binding::write("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        if self.scaled { LossScale::defines() } else { Vec::new() }
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        [1, 1, 1]
    }
    fn flops(&self) -> u64 {
        self.params.count.into()
    }
}

const _: () = assert!(GROUP == 256, "the reducing shaders have 256 threads");
