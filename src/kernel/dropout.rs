//! Dropout with counter-based random numbers.

use super::{Binding, Control, GROUP, Kernel, View, spread};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/dropout.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct DropoutParams {
    /// Elements.
    pub count: u32,
    /// First element of the input.
    pub input_offset: u32,
    /// First element of the output.
    pub output_offset: u32,
    /// Elements of the mask before the first of these; an even number.
    pub first: u32,
    /// Which of the model's dropouts this is: part of the generator's key.
    pub stream: u32,
    /// Probability that an element is kept.
    pub keep: f32,
    /// 1 / keep.
    pub scale: f32,
}

/// output\[e\] = input\[e\] · m\[e\], m\[e\] = 1/keep with probability keep, else 0. The mask is a
/// function of the seed, the stream, the step and e alone (Threefry-2x32, Salmon 2011), so the
/// same kernel serves backward.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Sizes, offsets, rate.
    pub params: DropoutParams,
    /// Add to what the output holds (backward into a shared gradient).
    pub accumulate: bool,
}

impl Dropout {
    /// Drops elements of `input` with probability `rate`.
    pub fn new(input: View, output: View, stream: u32, rate: f32) -> Self {
        let keep = 1.0 - rate;
        Dropout {
            params: DropoutParams {
                count: input.len as u32,
                input_offset: input.offset as u32,
                output_offset: output.offset as u32,
                first: 0,
                stream,
                keep,
                scale: 1.0 / keep,
            },
            accumulate: false,
        }
    }
}

impl Kernel for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        vec![
            Binding::read("input", (p.input_offset + p.count) as usize)
                .starting(p.input_offset)
                .moving(p.count as usize),
            Binding::write("output", (p.output_offset + p.count) as usize)
                .starting(p.output_offset)
                .moving(p.count as usize),
            Binding::read_u32("control", Control::WORDS),
        ]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        if self.accumulate { vec![("ACCUMULATE", String::new())] } else { Vec::new() }
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        // One thread makes the two elements of one generator call.
        spread((self.params.count as usize).div_ceil(2 * GROUP))
    }
    fn flops(&self) -> u64 {
        self.params.count.into()
    }
}
