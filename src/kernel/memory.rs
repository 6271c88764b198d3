//! Elementwise work on rows: copies, sums, products, fills, and rows chosen by flags.

use super::{Binding, GROUP, Kernel, LossScale, View, matrix_extent, spread};
use bytemuck::{Pod, Zeroable};

/// Rows in a view: elements from one row to the next. A stride of 0 reads one row again and again.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Where the first row starts.
    pub view: View,
    /// Elements from one row to the next.
    pub stride: usize,
}

impl Rows {
    /// Rows that are `stride` elements apart.
    pub fn new(view: View, stride: usize) -> Self {
        Rows { view, stride }
    }
}

/// The uniform block of `shaders/combine.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CombineParams {
    /// Rows.
    pub rows: u32,
    /// Elements a row.
    pub columns: u32,
    /// First element of the first operand.
    pub source_offset: u32,
    /// Its row stride.
    pub source_stride: u32,
    /// First element of the second operand.
    pub other_offset: u32,
    /// Its row stride.
    pub other_stride: u32,
    /// First element of the result.
    pub target_offset: u32,
    /// Its row stride.
    pub target_stride: u32,
    /// Factor of the result.
    pub scale: f32,
    /// Where not 0, the result's rows are (outer, inner) with so many inner ones, and the first
    /// operand's are (inner, outer).
    pub swap: u32,
}

/// The second operand's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// There is none.
    Nothing,
    /// It is added.
    Sum,
    /// It is multiplied.
    Product,
}

/// target\[r,c\] = scale·source\[r,c\], or scale·(source + other), or scale·source·other, or added to
/// the target.
#[derive(Clone, Debug)]
pub struct Combine {
    /// Sizes, offsets, strides, factor.
    pub params: CombineParams,
    /// What the second operand does.
    pub with: With,
    /// Add to the target.
    pub accumulate: bool,
    /// Times the loss scale.
    pub scaled: bool,
}

impl Combine {
    /// target = source, `shape` rows and columns.
    pub fn copy([rows, columns]: [usize; 2], source: Rows, target: Rows) -> Self {
        let params = CombineParams {
            rows: rows as u32,
            columns: columns as u32,
            source_offset: source.view.offset as u32,
            source_stride: source.stride as u32,
            other_offset: 0,
            other_stride: 0,
            target_offset: target.view.offset as u32,
            target_stride: target.stride as u32,
            scale: 1.0,
            swap: 0,
        };
        Combine { params, with: With::Nothing, accumulate: false, scaled: false }
    }

    /// With a second operand.
    pub fn and(mut self, with: With, other: Rows) -> Self {
        self.params.other_offset = other.view.offset as u32;
        self.params.other_stride = other.stride as u32;
        self.with = with;
        self
    }

    /// With a factor.
    pub fn scaled(mut self, scale: f32) -> Self {
        self.params.scale = scale;
        self
    }

    /// Reads the first operand's rows as (inner, outer) where the result's are (outer, inner).
    pub fn swapping(mut self, inner: usize) -> Self {
        self.params.swap = inner as u32;
        self
    }

    /// Adds to the target.
    pub fn accumulating(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }

    fn elements(&self) -> usize {
        self.params.rows as usize * self.params.columns as usize
    }
}

impl Kernel for Combine {
    fn name(&self) -> &'static str {
        "combine"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.rows, p.columns])?;
        if p.swap > 0 && !p.rows.is_multiple_of(p.swap) {
            return Err("the rows are no whole number of inner ones");
        }
        if p.rows > 1 && p.target_stride < p.columns { Err("rows overlap") } else { Ok(()) }
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let extent = |offset, stride| matrix_extent(offset, stride, p.rows, p.columns);
        let n = self.elements();
        let written = if self.accumulate { 2 * n } else { n };
        // One row that is read again and again comes once.
        let read = |stride| if stride == 0 { p.columns as usize } else { n };
        let mut list = vec![
            Binding::read("source", extent(p.source_offset, p.source_stride))
                .starting(p.source_offset)
                .moving(read(p.source_stride)),
            Binding::write("destination", extent(p.target_offset, p.target_stride))
                .starting(p.target_offset)
                .moving(written),
        ];
        if self.with != With::Nothing {
            let other = Binding::read("other", extent(p.other_offset, p.other_stride));
            list.push(other.starting(p.other_offset).moving(read(p.other_stride)));
        }
        if self.scaled {
            list.push(Binding::read("loss_scale", LossScale::WORDS));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("SUM", self.with == With::Sum),
            ("PRODUCT", self.with == With::Product),
            ("ACCUMULATE", self.accumulate),
        ];
        let flags = flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new()));
        let scale = if self.scaled { LossScale::defines() } else { Vec::new() };
        scale.into_iter().chain(flags).collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.rows as usize * self.params.columns as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        let operations = u64::from(self.with != With::Nothing) + u64::from(self.accumulate);
        self.elements() as u64 * operations
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
        let (offset, count) = (self.params.offset, self.params.count as usize);
        let target = Binding::write("destination", offset as usize + count);
        vec![target.starting(offset).moving(count)]
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        0
    }
}

/// The uniform block of `shaders/select_rows.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SelectRowsParams {
    /// Rows, T·B.
    pub rows: u32,
    /// Elements a row.
    pub columns: u32,
    /// First source element.
    pub source_offset: u32,
    /// First target element.
    pub target_offset: u32,
    /// The flag that decides.
    pub flag: u32,
    /// What its bit must be for the row to be kept: the flag itself, or 0.
    pub wanted: u32,
    /// Rows that share a flag.
    pub places: u32,
    /// Rows of the mask, B.
    pub batch: u32,
    /// Rows of the sequence before the first of these.
    pub first: u32,
    /// First element of the mask.
    pub mask_offset: u32,
    /// What rows that aren't kept hold.
    pub value: f32,
}

/// Rows of a sequence, kept by their flags, else a value; on request times a mask \[B, columns\] that
/// is the same at all steps.
#[derive(Clone, Debug)]
pub struct SelectRows {
    /// Sizes and offsets.
    pub params: SelectRowsParams,
    /// There are flags.
    pub flags: bool,
    /// There is a mask.
    pub mask: bool,
    /// Add to the target.
    pub accumulate: bool,
}

impl Kernel for SelectRows {
    fn name(&self) -> &'static str {
        "select_rows"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.rows, p.columns, p.places, p.batch])
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let n = p.rows as usize * p.columns as usize;
        let mut list = vec![
            Binding::read("source", p.source_offset as usize + n)
                .starting(p.source_offset)
                .moving(n),
            Binding::write("destination", p.target_offset as usize + n)
                .starting(p.target_offset)
                .moving(if self.accumulate { 2 * n } else { n }),
        ];
        if self.flags {
            list.push(Binding::read_u32("flags", (p.first + p.rows).div_ceil(p.places) as usize));
        }
        if self.mask {
            let words = p.batch as usize * p.columns as usize;
            list.push(Binding::read("mask", p.mask_offset as usize + words));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags =
            [("HAS_flags", self.flags), ("HAS_mask", self.mask), ("ACCUMULATE", self.accumulate)];
        flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.rows as usize * self.params.columns as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        0
    }
}

/// The uniform block of `shaders/sequence_flags.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SequenceFlagsParams {
    /// T.
    pub time: u32,
    /// B.
    pub batch: u32,
}

/// The flags \[T,B\] of a sequence ([`VALID`](super::VALID), [`RESET`](super::RESET)) from lengths
/// \[B\], a mask \[T,B\] and resets \[T,B\], whichever there are.
#[derive(Clone, Debug)]
pub struct SequenceFlags {
    /// Sizes.
    pub params: SequenceFlagsParams,
    /// Lengths are given.
    pub lengths: bool,
    /// A mask is given.
    pub mask: bool,
    /// Resets are given.
    pub resets: bool,
}

impl Kernel for SequenceFlags {
    fn name(&self) -> &'static str {
        "sequence_flags"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.time, self.params.batch])
    }
    fn bindings(&self) -> Vec<Binding> {
        let n = self.params.time as usize * self.params.batch as usize;
        let mut list =
            vec![Binding { dtype: crate::tensor::DType::U32, ..Binding::write("flags", n) }];
        if self.lengths {
            list.push(Binding::read_u32("lengths", self.params.batch as usize));
        }
        if self.mask {
            list.push(Binding::read("mask", n));
        }
        if self.resets {
            list.push(Binding::read("resets", n));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags =
            [("HAS_lengths", self.lengths), ("HAS_mask", self.mask), ("HAS_resets", self.resets)];
        flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.time as usize * self.params.batch as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        0
    }
}
