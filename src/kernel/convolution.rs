//! A convolution as a product with columns: each place's neighbourhood, side by side.

use super::{Binding, GROUP, Kernel, matrix_extent, spread};
use bytemuck::{Pod, Zeroable};

/// A convolution over maps with channels last: odd kernel sides, zero padding, stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// The map's sides, \[height, width\]; height 1 is one-dimensional.
    pub map: [usize; 2],
    /// The kernel's sides, odd.
    pub kernel: [usize; 2],
}

impl Convolution {
    /// S, places of a map.
    pub fn places(&self) -> usize {
        self.map[0] * self.map[1]
    }

    /// Weights of a channel pair.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// The uniform block of `shaders/columns_forward.wgsl` and `shaders/columns_backward.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ColumnsParams {
    /// Rows: maps times places.
    pub rows: u32,
    /// Channels.
    pub channels: u32,
    /// First element of the maps.
    pub source_offset: u32,
    /// Elements from one row of the maps to the next.
    pub source_stride: u32,
    /// First element of the columns.
    pub columns_offset: u32,
    /// Elements from one row of columns to the next.
    pub columns_stride: u32,
    /// First element of the mask.
    pub mask_offset: u32,
    /// First flag of the maps' step.
    pub flags_offset: u32,
    /// The map's sides.
    pub map_height: u32,
    #[allow(missing_docs)]
    pub map_width: u32,
    /// The kernel's sides.
    pub kernel_height: u32,
    #[allow(missing_docs)]
    pub kernel_width: u32,
}

impl ColumnsParams {
    /// `rows` rows of `channels`, from `source_offset` on, dense.
    pub fn new(shape: &Convolution, rows: usize, channels: usize, source_offset: usize) -> Self {
        ColumnsParams {
            rows: rows as u32,
            channels: channels as u32,
            source_offset: source_offset as u32,
            source_stride: channels as u32,
            columns_offset: 0,
            columns_stride: (channels * shape.taps()) as u32,
            mask_offset: 0,
            flags_offset: 0,
            map_height: shape.map[0] as u32,
            map_width: shape.map[1] as u32,
            kernel_height: shape.kernel[0] as u32,
            kernel_width: shape.kernel[1] as u32,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.rows, self.channels])?;
        super::all_positive(&[self.map_height, self.map_width])?;
        if self.source_stride < self.channels {
            return Err("rows overlap");
        }
        if self.columns_offset as usize + self.columns() > self.columns_stride as usize {
            return Err("the columns reach past their row");
        }
        if self.kernel_height.is_multiple_of(2) || self.kernel_width.is_multiple_of(2) {
            return Err("the kernel's sides must be odd");
        }
        let whole = self.rows.is_multiple_of(self.map_height * self.map_width);
        if whole { Ok(()) } else { Err("the rows are no whole number of maps") }
    }

    fn taps(&self) -> usize {
        self.kernel_height as usize * self.kernel_width as usize
    }

    fn words(&self) -> usize {
        self.rows as usize * self.channels as usize
    }

    fn columns(&self) -> usize {
        self.channels as usize * self.taps()
    }

    fn source_extent(&self) -> usize {
        matrix_extent(self.source_offset, self.source_stride, self.rows, self.channels)
    }

    fn columns_extent(&self) -> usize {
        let columns = self.columns() as u32;
        matrix_extent(self.columns_offset, self.columns_stride, self.rows, columns)
    }
}

/// Maps \[rows, C\] → columns \[rows, C·taps\].
#[derive(Clone, Debug)]
pub struct ColumnsForward {
    /// Sizes and offsets.
    pub params: ColumnsParams,
    /// Rows that are reset count as 0.
    pub flags: bool,
    /// The maps are multiplied by a mask \[rows, C\].
    pub mask: bool,
}

impl Kernel for ColumnsForward {
    fn name(&self) -> &'static str {
        "columns_forward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let mut list = vec![
            Binding::read("source", p.source_extent()).moving(p.words()),
            Binding::write("columns", p.columns_extent()).moving(p.words() * p.taps()),
        ];
        if self.flags {
            let maps = p.rows / (p.map_height * p.map_width);
            list.push(
                Binding::read_u32("flags", (p.flags_offset + maps) as usize).moving(maps as usize),
            );
        }
        if self.mask {
            list.push(Binding::read("mask", p.mask_offset as usize + p.words()).moving(p.words()));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags = [("HAS_flags", self.flags), ("HAS_mask", self.mask)];
        flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.words() * self.params.taps()).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        0
    }
}

/// The gradient of columns \[rows, C·taps\] → that of the maps \[rows, C\].
#[derive(Clone, Debug)]
pub struct ColumnsBackward {
    /// Sizes; `source_offset` is where the maps' gradient starts.
    pub params: ColumnsParams,
    /// Add to the target.
    pub accumulate: bool,
}

impl Kernel for ColumnsBackward {
    fn name(&self) -> &'static str {
        "columns_backward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let passes = if self.accumulate { 2 } else { 1 };
        vec![
            Binding::read("columns", p.columns_extent()).moving(p.words() * p.taps()),
            Binding::write("destination", p.source_extent()).moving(p.words() * passes),
        ]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        if self.accumulate { vec![("ACCUMULATE", String::new())] } else { Vec::new() }
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.words().div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        (self.params.words() * self.params.taps()) as u64
    }
}
