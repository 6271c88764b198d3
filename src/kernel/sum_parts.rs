//! The end of a product that is cut along its terms.

use super::{Binding, GROUP, Kernel, spread};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/sum_parts.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SumPartsParams {
    /// Elements of a part.
    pub len: u32,
    /// Parts.
    pub parts: u32,
    /// First element of the target.
    pub target_offset: u32,
    /// 1 where the last part comes first, else 0.
    pub descending: u32,
}

/// target (+)= the sum of parts that lie one after the other from the start of their buffer: what the GPU
/// engine puts behind a product that it cuts along its terms. One after the other, where a column sum goes by
/// a tree: the bits must not depend on how many parts a launch adds.
#[derive(Clone, Debug)]
pub struct SumParts {
    /// Sizes and offsets.
    pub params: SumPartsParams,
    /// Add to the target.
    pub accumulate: bool,
}

impl SumParts {
    /// Sums `parts` parts of `len` elements each.
    pub fn new(len: usize, parts: usize, target_offset: usize, descending: bool) -> Self {
        let params = SumPartsParams {
            len: len as u32,
            parts: parts as u32,
            target_offset: target_offset as u32,
            descending: u32::from(descending),
        };
        SumParts { params, accumulate: false }
    }
}

impl Kernel for SumParts {
    fn name(&self) -> &'static str {
        "sum_parts"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.len, self.params.parts])
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        vec![
            Binding::read("parts", p.len as usize * p.parts as usize),
            Binding::write("sums", (p.target_offset + p.len) as usize).starting(p.target_offset),
        ]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let accumulate = self.accumulate.then(|| ("ACCUMULATE", String::new()));
        accumulate.into_iter().collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.len as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        u64::from(self.params.len) * u64::from(self.params.parts)
    }
}
