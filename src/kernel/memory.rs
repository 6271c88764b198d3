//! Copies, fills and sums of whole views.

use super::{Binding, Cost, GROUP, Kernel, View, bytes, matrix_extent, spread};
use bytemuck::{Pod, Zeroable};

/// The uniform block of `shaders/copy2d.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CopyParams {
    /// Rows.
    pub rows: u32,
    /// Elements a row.
    pub columns: u32,
    /// First source element.
    pub source_offset: u32,
    /// Elements from one source row to the next.
    pub source_stride: u32,
    /// First target element.
    pub target_offset: u32,
    /// Elements from one target row to the next.
    pub target_stride: u32,
}

/// target\[r,c\] = source\[r,c\], rows apart by strides of their own.
#[derive(Clone, Debug)]
pub struct Copy2d {
    /// Sizes, offsets, strides.
    pub params: CopyParams,
}

impl Kernel for Copy2d {
    fn name(&self) -> &'static str {
        "copy2d"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.rows, p.columns])?;
        let apart = p.rows == 1 || p.source_stride.min(p.target_stride) >= p.columns;
        let strides = p.source_stride.min(p.target_stride) > 0;
        if apart && strides { Ok(()) } else { Err("rows overlap") }
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        vec![
            Binding::read(
                "source",
                matrix_extent(p.source_offset, p.source_stride, p.rows, p.columns),
            ),
            Binding::write(
                "destination",
                matrix_extent(p.target_offset, p.target_stride, p.rows, p.columns),
            ),
        ]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.rows as usize * self.params.columns as usize).div_ceil(GROUP))
    }
    fn cost(&self) -> Cost {
        let n = self.params.rows as usize * self.params.columns as usize;
        Cost { flops: 0, bytes: bytes(2 * n) }
    }
}

/// The uniform block of `shaders/fill.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct FillParams {
    /// Elements.
    pub count: u32,
    /// First element.
    pub offset: u32,
    /// What is written.
    pub value: f32,
}

/// target\[e\] = value.
#[derive(Clone, Debug)]
pub struct Fill {
    /// Sizes and the value.
    pub params: FillParams,
}

impl Fill {
    /// Fills `target` with `value`.
    pub fn new(target: View, value: f32) -> Self {
        let (count, offset) = (target.len as u32, target.offset as u32);
        Fill { params: FillParams { count, offset, value } }
    }
}

impl Kernel for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn bindings(&self) -> Vec<Binding> {
        vec![Binding::write("destination", (self.params.offset + self.params.count) as usize)]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: bytes(self.params.count as usize) }
    }
}

/// The uniform block of `shaders/add.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ElementwiseParams {
    /// Elements.
    pub count: u32,
    /// First source element.
    pub source_offset: u32,
    /// First target element.
    pub target_offset: u32,
}

/// target\[e\] += source\[e\].
#[derive(Clone, Debug)]
pub struct Add {
    /// Sizes and offsets.
    pub params: ElementwiseParams,
}

impl Add {
    /// Adds `source` to `target`.
    pub fn new(source: View, target: View) -> Self {
        Add {
            params: ElementwiseParams {
                count: source.len as u32,
                source_offset: source.offset as u32,
                target_offset: target.offset as u32,
            },
        }
    }
}

impl Kernel for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        vec![
            Binding::read("source", (p.source_offset + p.count) as usize),
            Binding::write("destination", (p.target_offset + p.count) as usize),
        ]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn cost(&self) -> Cost {
        let n = self.params.count as usize;
        Cost { flops: n as u64, bytes: bytes(3 * n) }
    }
}
