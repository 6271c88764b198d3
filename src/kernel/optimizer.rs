//! Parameter updates.

use super::{Binding, ClipScale, Control, GROUP, Kernel, View, spread};
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
}

/// g = clip·∂w + λ·w; v = μ·v + g; w = w − lr·v. The velocity starts at zero.
#[derive(Clone, Debug)]
pub struct Sgd {
    /// Sizes and rates.
    pub params: SgdParams,
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
        };
        Sgd { params, clip, scaled: false }
    }
}

fn check_scaled(clip: bool, scaled: bool) -> Result<(), &'static str> {
    if scaled && !clip { Err("a loss scale is taken out with the clipping factor") } else { Ok(()) }
}

fn clip_defines(clip: bool, scaled: bool) -> Vec<(&'static str, String)> {
    let flags = [("CLIP", clip), ("SCALED", scaled)];
    flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
}

impl Kernel for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn check(&self) -> Result<(), &'static str> {
        check_scaled(self.clip, self.scaled)
    }
    fn bindings(&self) -> Vec<Binding> {
        let n = self.params.count as usize;
        let mut list = vec![
            Binding::write("parameter", n).moving(2 * n),
            Binding::read("gradient", self.params.gradient_offset as usize + n).moving(n),
            Binding::write("velocity", n).moving(2 * n),
            Binding::read_u32("control", Control::WORDS),
        ];
        if self.clip {
            list.push(Binding::read("clip", ClipScale::words(self.scaled)));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        clip_defines(self.clip, self.scaled)
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        6 * u64::from(self.params.count)
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
        let n = self.params.count as usize;
        let mut list = vec![
            Binding::write("parameter", n).moving(2 * n),
            Binding::read("gradient", self.params.gradient_offset as usize + n).moving(n),
            Binding::write("first", n).moving(2 * n),
            Binding::write("second", n).moving(2 * n),
            Binding::read_u32("control", Control::WORDS),
        ];
        if self.clip {
            list.push(Binding::read("clip", ClipScale::words(self.scaled)));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let mut list = clip_defines(self.clip, self.scaled);
        if self.decoupled {
            list.push(("DECOUPLED", String::new()));
        }
        list
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
