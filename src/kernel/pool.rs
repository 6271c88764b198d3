//! The largest of each column over the steps of a sequence, and its gradient.

use super::{Binding, GROUP, Kernel, View, spread};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/max_over_time.wgsl` and `shaders/max_over_time_backward.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MaxOverTimeParams {
    /// T.
    pub time: u32,
    /// B.
    pub batch: u32,
    /// C.
    pub columns: u32,
    /// First element of x (backward: of its gradient).
    pub x_offset: u32,
    /// First element of the result (backward: of its gradient).
    pub y_offset: u32,
}

impl MaxOverTimeParams {
    /// `x` \[T·B, C\], `y` \[B, C\].
    pub fn new([time, batch, columns]: [usize; 3], x: View, y: View) -> Self {
        MaxOverTimeParams {
            time: time as u32,
            batch: batch as u32,
            columns: columns as u32,
            x_offset: x.offset as u32,
            y_offset: y.offset as u32,
        }
    }

    fn check_sizes(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.time, self.batch, self.columns])
    }

    /// Elements of x, and of y.
    fn sizes(&self) -> [usize; 2] {
        let [t, b, c] = [self.time, self.batch, self.columns].map(|x| x as usize);
        [t * b * c, b * c]
    }
}

/// y\[b,c\] = max over t < length(b) of x\[t,b,c\], and places\[b,c\], the first t where it is; 0
/// and T of a row without a step. A launch over x \[T·B, C\], y and places \[B, C\], on request
/// lengths \[B\].
#[derive(Clone, Debug)]
pub struct MaxOverTime {
    /// Sizes and offsets.
    pub params: MaxOverTimeParams,
    /// There are lengths.
    pub lengths: bool,
}

impl Kernel for MaxOverTime {
    fn name(&self) -> &'static str {
        "max_over_time"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check_sizes()
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let [n, words] = p.sizes();
        let mut list = vec![
            Binding::read("x", p.x_offset as usize + n).starting(p.x_offset).moving(n),
            Binding::write("y", p.y_offset as usize + words).starting(p.y_offset).moving(words),
            Binding { dtype: DType::U32, ..Binding::write("places", words) },
        ];
        if self.lengths {
            list.push(Binding::read_u32("lengths", p.batch as usize));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        if self.lengths { vec![("HAS_lengths", String::new())] } else { Vec::new() }
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.sizes()[1].div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        self.params.sizes()[0] as u64
    }
}

/// dx\[t,b,c\] = dy\[b,c\] where t is places\[b,c\], else 0.
#[derive(Clone, Debug)]
pub struct MaxOverTimeBackward {
    /// Sizes and offsets.
    pub params: MaxOverTimeParams,
    /// Add to what `dx` holds.
    pub accumulate: bool,
}

impl Kernel for MaxOverTimeBackward {
    fn name(&self) -> &'static str {
        "max_over_time_backward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check_sizes()
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let [n, words] = p.sizes();
        vec![
            Binding::read_u32("places", words),
            Binding::read("d_y", p.y_offset as usize + words).starting(p.y_offset).moving(words),
            Binding::write("d_x", p.x_offset as usize + n)
                .starting(p.x_offset)
                .moving(if self.accumulate { 2 * n } else { n }),
        ]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        if self.accumulate { vec![("ACCUMULATE", String::new())] } else { Vec::new() }
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.sizes()[0].div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        0
    }
}
