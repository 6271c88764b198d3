//! Parameter updates.

use super::{Binding, ClipScale, Control, GROUP, Kernel, LossScale, View, spread};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/sgd.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SgdParams {
    /// Elements.
    pub count: u32,
    /// First element of the gradient.
    pub gradient_offset: u32,
    /// μ.
    pub momentum: f32,
    /// λ, added to the gradient as λ·w.
    pub weight_decay: f32,
    /// Factor of the learning rate.
    pub rate: f32,
}

/// g = clip·∂w + λ·w; v = μ·v + g; w = w − lr·v, or with Nesterov's momentum w − lr·(g + μ·v). The velocity
/// starts at zero.
#[derive(Clone, Debug)]
pub struct Sgd {
    /// Sizes and rates.
    pub params: SgdParams,
    /// The gradient is taken further along the velocity.
    pub nesterov: bool,
    /// Multiply the gradient with the clipping factor.
    pub clip: bool,
    /// The factor is of gradients under a loss scale, and may leave the update out.
    pub scaled: bool,
}

impl Sgd {
    /// One parameter's update from `gradient`.
    pub fn new(gradient: View, momentum: f32, weight_decay: f32, clip: bool) -> Self {
        let params = SgdParams {
            count: gradient.len as u32,
            gradient_offset: gradient.offset as u32,
            momentum,
            weight_decay,
            rate: 1.0,
        };
        Sgd { params, nesterov: false, clip, scaled: false }
    }
}

fn check_scaled(clip: bool, scaled: bool) -> Result<(), &'static str> {
    if scaled && !clip { Err("a loss scale is taken out with the clipping factor") } else { Ok(()) }
}

fn defined(flags: &[(&'static str, bool)]) -> Vec<(&'static str, String)> {
    flags.iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
}

/// What an update of so many elements touches: the parameter, its gradient, what the optimizer keeps, the control
/// words, and the clipping factor where the gradient is clipped.
fn update_bindings(
    count: u32,
    gradient_offset: u32,
    kept: &[&'static str],
    clip: Option<usize>,
) -> Vec<Binding> {
    let n = count as usize;
    let updated = |name: &'static str| Binding::write(name, n).moving(2 * n);
    let gradient = Binding::read("gradient", gradient_offset as usize + n).moving(n);
    let mut list = vec![updated("parameter"), gradient];
    list.extend(kept.iter().map(|name| updated(name)));
    list.push(Binding::read_u32("control", Control::WORDS));
    list.extend(clip.map(|words| Binding::read("clip", words)));
    list
}

/// The words of the clipping factor, if there is one.
fn clip_words(clip: bool, scaled: bool) -> Option<usize> {
    clip.then(|| ClipScale::words(scaled))
}

impl Kernel for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn check(&self) -> Result<(), &'static str> {
        check_scaled(self.clip, self.scaled)
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let clip = clip_words(self.clip, self.scaled);
        update_bindings(p.count, p.gradient_offset, &["velocity"], clip)
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defined(&[("CLIP", self.clip), ("SCALED", self.scaled), ("NESTEROV", self.nesterov)])
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        8 * u64::from(self.params.count)
    }
}

/// The uniform block of `shaders/adam.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct AdamParams {
    /// Elements.
    pub count: u32,
    /// First element of the gradient.
    pub gradient_offset: u32,
    /// β₁.
    pub beta_1: f32,
    /// β₂.
    pub beta_2: f32,
    /// 1 − β₁, rounded once on the host.
    pub rest_1: f32,
    /// 1 − β₂.
    pub rest_2: f32,
    /// ε, outside the root.
    pub epsilon: f32,
    /// λ.
    pub weight_decay: f32,
    /// Factor of the learning rate.
    pub rate: f32,
}

/// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019):
/// g = clip·∂w (+ λ·w when coupled); m = β₁·m + (1−β₁)·g; v = β₂·v + (1−β₂)·g²;
/// w = w·(1 − lr·λ when decoupled) − lr · m·c₁ / (√(v·c₂) + ε), cᵢ = 1/(1−βᵢ^step).
#[derive(Clone, Debug)]
pub struct Adam {
    /// Sizes and rates.
    pub params: AdamParams,
    /// Weight decay acts on the parameter (AdamW), not through the gradient.
    pub decoupled: bool,
    /// Multiply the gradient with the clipping factor.
    pub clip: bool,
    /// The factor is of gradients under a loss scale, and may leave the update out.
    pub scaled: bool,
}

impl Kernel for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn check(&self) -> Result<(), &'static str> {
        check_scaled(self.clip, self.scaled)
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let clip = clip_words(self.clip, self.scaled);
        update_bindings(p.count, p.gradient_offset, &["first", "second"], clip)
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defined(&[("CLIP", self.clip), ("SCALED", self.scaled), ("DECOUPLED", self.decoupled)])
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        14 * u64::from(self.params.count)
    }
}

/// The uniform block of `shaders/rms_prop.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct RmsPropParams {
    /// Elements.
    pub count: u32,
    /// First element of the gradient.
    pub gradient_offset: u32,
    /// α.
    pub alpha: f32,
    /// 1 − α, rounded once on the host.
    pub rest: f32,
    /// ε, outside the root.
    pub epsilon: f32,
    /// μ.
    pub momentum: f32,
    /// λ, added to the gradient as λ·w.
    pub weight_decay: f32,
    /// Factor of the learning rate.
    pub rate: f32,
}

/// RMSProp (Tieleman and Hinton 2012, "Lecture 6.5"; centered: Graves 2013, "Generating sequences with
/// recurrent neural networks", equations 38 to 41): g = clip·∂w + λ·w; s = α·s + (1−α)·g²;
/// w = w − lr·g / (√s + ε). Centered, s is the variance of g; with momentum v = μ·v + g / (√s + ε);
/// w = w − lr·v.
#[derive(Clone, Debug)]
pub struct RmsProp {
    /// Sizes and rates.
    pub params: RmsPropParams,
    /// s is the variance of the gradient, and its mean is kept too.
    pub centered: bool,
    /// There is a velocity.
    pub momentum: bool,
    /// Multiply the gradient with the clipping factor.
    pub clip: bool,
    /// The factor is of gradients under a loss scale, and may leave the update out.
    pub scaled: bool,
}

impl Kernel for RmsProp {
    fn name(&self) -> &'static str {
        "rms_prop"
    }
    fn check(&self) -> Result<(), &'static str> {
        check_scaled(self.clip, self.scaled)
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let mut kept = vec!["second"];
        kept.extend(self.centered.then_some("mean"));
        kept.extend(self.momentum.then_some("velocity"));
        update_bindings(p.count, p.gradient_offset, &kept, clip_words(self.clip, self.scaled))
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defined(&[
            ("CLIP", self.clip),
            ("SCALED", self.scaled),
            ("CENTERED", self.centered),
            ("MOMENTUM", self.momentum),
        ])
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        let more = if self.centered { 4 } else { 0 } + if self.momentum { 2 } else { 0 };
        (11 + more) * u64::from(self.params.count)
    }
}

/// The uniform block of `shaders/average.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct AverageParams {
    /// Elements.
    pub count: u32,
}

/// a = a + s·(w − a), and w itself where s is 1, with s the control words'
/// [`average_share`](Control::average_share): an exponential moving average with s = 1 − decay, the mean of n
/// iterates with s = 1/n.
#[derive(Clone, Debug)]
pub struct Average {
    /// Sizes.
    pub params: AverageParams,
}

impl Average {
    /// Of so many elements.
    pub fn new(count: usize) -> Self {
        Average { params: AverageParams { count: count as u32 } }
    }
}

impl Kernel for Average {
    fn name(&self) -> &'static str {
        "average"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.count])
    }
    fn bindings(&self) -> Vec<Binding> {
        let n = self.params.count as usize;
        vec![
            Binding::read("parameter", n),
            Binding::write("average", n).moving(2 * n),
            Binding::read_u32("control", Control::WORDS),
        ]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        3 * u64::from(self.params.count)
    }
}

/// The uniform block of `shaders/clip_value.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ClipValueParams {
    /// Elements.
    pub count: u32,
    /// First element of the gradient.
    pub offset: u32,
    /// b.
    pub bound: f32,
}

/// g = min(max(g, −b), b) in place (as PyTorch's `clip_grad_value_`); what is no number stays so. Under a loss
/// scale S the bound is b·S, and infinities stay too: they tell that the step is to be left out.
#[derive(Clone, Debug)]
pub struct ClipValue {
    /// Sizes and the bound.
    pub params: ClipValueParams,
    /// Under a loss scale.
    pub scaled: bool,
}

impl ClipValue {
    /// Of a gradient that is bounded by `bound` then.
    pub fn new(gradient: View, bound: f32) -> Self {
        let (count, offset) = (gradient.len as u32, gradient.offset as u32);
        ClipValue { params: ClipValueParams { count, offset, bound }, scaled: false }
    }
}

impl Kernel for ClipValue {
    fn name(&self) -> &'static str {
        "clip_value"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.count])?;
        let bound = self.params.bound;
        if bound > 0.0 && bound.is_finite() { Ok(()) } else { Err("the bound is not positive") }
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let gradient = Binding::write("gradient", (p.offset + p.count) as usize);
        let mut list = vec![gradient.starting(p.offset).moving(2 * p.count as usize)];
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
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
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        2 * u64::from(self.params.count)
    }
}
