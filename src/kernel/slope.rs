//! The derivative of an activation that a product applied.

use super::{Activation, Binding, GROUP, Kernel, View, spread};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/slope.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SlopeParams {
    /// Elements.
    pub count: u32,
    /// First value.
    pub values_offset: u32,
    /// First element of the gradient.
    pub gradient_offset: u32,
}

/// gradient\[e\] = gradient\[e\]·f′, with the slope f′ of the activation from its value y\[e\].
#[derive(Clone, Debug)]
pub struct Slope {
    /// Sizes and offsets.
    pub params: SlopeParams,
    /// The activation f.
    pub activation: Activation,
}

impl Slope {
    /// The gradient of `values` = f(a) becomes that of a.
    pub fn new(activation: Activation, values: View, gradient: View) -> Self {
        let params = SlopeParams {
            count: values.len as u32,
            values_offset: values.offset as u32,
            gradient_offset: gradient.offset as u32,
        };
        Slope { params, activation }
    }
}

/// What the shader is told of an activation.
pub(super) fn defines(activation: Activation) -> [(&'static str, String); 3] {
    let [alpha, beta] = activation.parameters();
    // Debug prints a decimal point or an exponent, as WGSL's literals need.
    [
        ("ACTIVATION", activation.name().to_string()),
        ("ALPHA", format!("{alpha:?}")),
        ("BETA", format!("{beta:?}")),
    ]
}

impl Kernel for Slope {
    fn name(&self) -> &'static str {
        "slope"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.count])
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let n = p.count as usize;
        vec![
            Binding::read("values", p.values_offset as usize + n).moving(n),
            Binding::write("gradient", p.gradient_offset as usize + n).moving(2 * n),
        ]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defines(self.activation).to_vec()
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
