//! Norms of the input product over all steps, and sums over rows.

use super::{Binding, Kernel, Operand, SequenceRows, View, matrix_extent, spread};
use bytemuck::{Pod, Zeroable};

/// Columns of a workgroup of the kernels that go down the rows.
const COLUMNS: u32 = 16;

/// The uniform block of the norm shaders (`shaders/shared/normalise.wgsl`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct InputNormParams {
    /// Rows, T·B.
    pub rows: u32,
    /// Columns, G·H.
    pub columns: u32,
    /// First element of the result.
    pub gates_offset: u32,
    /// Its row stride.
    pub gates_stride: u32,
    /// First element of the gains.
    pub gain_offset: u32,
    /// First element of the bias.
    pub bias_offset: u32,
    /// Rows that share a flag.
    pub places: u32,
    /// ε under the root.
    pub epsilon: f32,
    /// Batch norm: how much of a running average each run replaces.
    pub momentum: f32,
    /// Layer norm: the row of `normal` and of the deviations that the first row is.
    pub first: u32,
}

/// What is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormAxis {
    /// Each row (layer norm).
    Row,
    /// Each column over the valid rows (batch norm).
    Column {
        /// There are flags.
        flags: bool,
        /// The running averages stand for the batch's own (inference).
        running: bool,
    },
}

/// gates = γ⊙N(normal) + b; `normal` \[rows, columns\] keeps N(normal).
#[derive(Clone, Debug)]
pub struct InputNormForward {
    /// Sizes and offsets.
    pub params: InputNormParams,
    /// Over rows or columns.
    pub axis: NormAxis,
}

/// The gradient in `gates` → that of the product, in `normal`.
#[derive(Clone, Debug)]
pub struct InputNormBackward {
    /// Sizes and offsets.
    pub params: InputNormParams,
    /// Over rows or columns.
    pub axis: NormAxis,
}

impl InputNormParams {
    /// `normal` \[rows, columns\] into `gates`.
    pub fn new([rows, columns]: [usize; 2], gates: Operand, gain: View, bias: View) -> Self {
        InputNormParams {
            rows: rows as u32,
            columns: columns as u32,
            gates_offset: gates.view.offset as u32,
            gates_stride: gates.stride as u32,
            gain_offset: gain.offset as u32,
            bias_offset: bias.offset as u32,
            places: 1,
            epsilon: 1e-5,
            momentum: 0.1,
            first: 0,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.rows, self.columns, self.places])?;
        if self.gates_stride < self.columns { Err("rows overlap") } else { Ok(()) }
    }

    fn bindings(&self, axis: NormAxis, backward: bool) -> Vec<Binding> {
        let gates = matrix_extent(self.gates_offset, self.gates_stride, self.rows, self.columns);
        let first = self.first as usize;
        let scales = match axis {
            NormAxis::Row => first + self.rows as usize,
            NormAxis::Column { .. } => self.columns as usize,
        };
        // Both are read and one of them written: the product forward, its gradient backward.
        let n = self.rows as usize * self.columns as usize;
        let before = first * self.columns as usize;
        let normal = Binding::write("normal", before + n).starting(before as u32);
        let mut list = vec![normal.moving(2 * n)];
        if backward {
            list.push(Binding::read("gates", gates).moving(n));
            list.push(Binding::read("scales", scales).starting(self.first));
        } else {
            list.push(Binding::write("gates", gates).starting(self.gates_offset).moving(n));
            list.push(Binding::write("scales", scales).starting(self.first));
        }
        list.push(Binding::read("gain", (self.gain_offset + self.columns) as usize));
        if !backward {
            list.push(Binding::read("bias", (self.bias_offset + self.columns) as usize));
        }
        if let NormAxis::Column { flags, running } = axis {
            if !backward {
                let words = 2 * self.columns as usize;
                list.push(if running {
                    Binding::read("running", words)
                } else {
                    Binding::write("running", words)
                });
            }
            if flags {
                list.push(Binding::read_u32("flags", self.rows.div_ceil(self.places) as usize));
            }
        }
        list
    }

    fn groups(&self, axis: NormAxis) -> [u32; 3] {
        match axis {
            NormAxis::Row => spread(self.rows as usize),
            NormAxis::Column { .. } => [self.columns.div_ceil(COLUMNS), 1, 1],
        }
    }

    fn flops(&self) -> u64 {
        8 * u64::from(self.rows) * u64::from(self.columns)
    }
}

fn defines(axis: NormAxis) -> Vec<(&'static str, String)> {
    let NormAxis::Column { flags, running } = axis else { return Vec::new() };
    let list = [("HAS_flags", flags), ("INFERENCE", running)];
    list.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
}

impl Kernel for InputNormForward {
    fn name(&self) -> &'static str {
        if self.axis == NormAxis::Row { "layer_norm_forward" } else { "batch_norm_forward" }
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        self.params.bindings(self.axis, false)
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defines(self.axis)
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        self.params.groups(self.axis)
    }
    fn flops(&self) -> u64 {
        self.params.flops()
    }
}

impl Kernel for InputNormBackward {
    fn name(&self) -> &'static str {
        if self.axis == NormAxis::Row { "layer_norm_backward" } else { "batch_norm_backward" }
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check()
    }
    fn bindings(&self) -> Vec<Binding> {
        self.params.bindings(self.axis, true)
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        defines(self.axis)
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        self.params.groups(self.axis)
    }
    fn flops(&self) -> u64 {
        self.params.flops()
    }
}

/// The uniform block of `shaders/column_sum.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ColumnSumParams {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// First element of the first operand.
    pub a_offset: u32,
    /// Its row stride.
    pub a_stride: u32,
    /// First element of the second operand.
    pub b_offset: u32,
    /// Its row stride.
    pub b_stride: u32,
    /// First element of the sums.
    pub target_offset: u32,
    /// Rows that are summed before the next partial sum begins.
    pub block: u32,
    /// 1 where the last block comes first, else 0.
    pub descending: u32,
}

/// sums\[c\] = Σᵣ a\[r,c\], or Σᵣ a\[r,c\]·b\[r,c\].
#[derive(Clone, Debug)]
pub struct ColumnSum {
    /// Sizes and offsets.
    pub params: ColumnSumParams,
    /// There is a second operand.
    pub product: bool,
    /// Add to the target.
    pub accumulate: bool,
}

impl ColumnSum {
    /// Sums over `shape` rows and columns.
    pub fn new([rows, columns]: [usize; 2], a: Operand, b: Option<Operand>, sums: View) -> Self {
        let words = |o: Operand| [o.view.offset as u32, o.stride as u32];
        let ([a_offset, a_stride], [b_offset, b_stride]) = (words(a), b.map_or([0, 0], words));
        ColumnSum {
            params: ColumnSumParams {
                rows: rows as u32,
                columns: columns as u32,
                a_offset,
                a_stride,
                b_offset,
                b_stride,
                target_offset: sums.offset as u32,
                block: rows as u32,
                descending: 0,
            },
            product: b.is_some(),
            accumulate: false,
        }
    }

    /// Over the rows of a sequence, block by block.
    pub fn over(mut self, rows: &SequenceRows) -> Self {
        self.params.block = rows.block as u32;
        self.params.descending = u32::from(rows.descending);
        self
    }
}

impl Kernel for ColumnSum {
    fn name(&self) -> &'static str {
        "column_sum"
    }
    fn check(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.params.rows, self.params.columns, self.params.block])
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let extent = |offset, stride| matrix_extent(offset, stride, p.rows, p.columns);
        let n = p.rows as usize * p.columns as usize;
        let mut list = vec![
            Binding::read("a", extent(p.a_offset, p.a_stride)).moving(n),
            Binding::write("sums", (p.target_offset + p.columns) as usize)
                .starting(p.target_offset)
                .moving(p.columns as usize * if self.accumulate { 2 } else { 1 }),
        ];
        if self.product {
            list.push(Binding::read("b", extent(p.b_offset, p.b_stride)).moving(n));
        }
        list
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags = [("HAS_b", self.product), ("ACCUMULATE", self.accumulate)];
        flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread(self.params.columns.div_ceil(COLUMNS) as usize)
    }
    fn flops(&self) -> u64 {
        let n = u64::from(self.params.rows) * u64::from(self.params.columns);
        n * (1 + u64::from(self.product))
    }
}
