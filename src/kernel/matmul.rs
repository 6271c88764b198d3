//! The tiled matrix product.

use super::{Binding, Cost, Kernel, View, bytes, matrix_extent, spread};
use bytemuck::{Pod, Zeroable};

/// Rows and columns of the output tile of one workgroup.
const TILE: usize = 64;

/// The uniform block of `shaders/matmul.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MatmulParams {
    /// Rows of the result.
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// Terms of each sum.
    pub k: u32,
    /// First element of A.
    pub a_offset: u32,
    /// Row stride of A as it is stored.
    pub a_stride: u32,
    /// First element of B.
    pub b_offset: u32,
    /// Row stride of B as it is stored.
    pub b_stride: u32,
    /// First element of C.
    pub c_offset: u32,
    /// Row stride of C.
    pub c_stride: u32,
    /// First element of the bias.
    pub bias_offset: u32,
    /// First element of the row sums.
    pub row_sum_offset: u32,
    /// Workgroups along n.
    pub tiles_n: u32,
    /// Rows that share a flag.
    pub places: u32,
    /// Rows of the sequence before the product's first.
    pub first: u32,
}

/// A matrix operand: where it starts, the distance between its stored rows, and whether it is used
/// transposed.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Where the matrix lies.
    pub view: View,
    /// Elements from one stored row to the next.
    pub stride: usize,
    /// Use the transpose of what is stored.
    pub transposed: bool,
}

impl Operand {
    /// A dense matrix, `columns` elements a row.
    pub fn new(view: View, columns: usize) -> Self {
        Operand { view, stride: columns, transposed: false }
    }

    /// The transpose of a dense matrix whose stored rows have `columns` elements.
    pub fn transposed(view: View, columns: usize) -> Self {
        Operand { view, stride: columns, transposed: true }
    }

    /// The same matrix with rows that are `stride` elements apart.
    pub fn with_stride(self, stride: usize) -> Self {
        Operand { stride, ..self }
    }
}

/// C\[M,N\] = op(A)·op(B) (+ bias per column) (+ C), and on request the sums of op(A)'s rows.
#[derive(Clone, Debug)]
pub struct Matmul {
    /// Sizes, offsets, strides.
    pub params: MatmulParams,
    /// A is stored \[K,M\].
    pub a_transposed: bool,
    /// B is stored \[N,K\].
    pub b_transposed: bool,
    /// bias\[n\] is added to every row.
    pub bias: bool,
    /// Σₖ op(A)\[m,k\] goes to `row_sum[m]`: the bias gradient, when op(A) is a transposed gradient.
    pub row_sum: bool,
    /// Add to what C (and `row_sum`) hold instead of replacing it.
    pub accumulate: bool,
    /// Which side of the product the rows of a sequence are, if any.
    pub side: Option<SequenceSide>,
    /// Some of those rows may take no part.
    pub flags: bool,
    /// Rows of a block of the sequence; 0: all are one.
    pub block: u32,
    /// Sums over a sequence go from its last term to its first.
    pub descending: bool,
}

/// Which side of a product the rows of a sequence are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceSide {
    /// Rows of the result: those that are not valid are 0 (added to, they stay).
    Rows,
    /// Terms of the sums: rows of op(A)ᵀ and op(B) that are not valid are left out.
    Terms,
}

/// Rows of a sequence, or of a segment of it, in a product or a sum over them. Where a sequence is cut
/// at borders of blocks and its segments are summed one after the other in the same order, every sum
/// has the bits that it has over the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRows {
    /// The flags \[T,B\] of the whole sequence.
    pub flags: Option<View>,
    /// Rows that share a flag.
    pub places: usize,
    /// Rows of the sequence before the first of these.
    pub first: usize,
    /// Rows of a block.
    pub block: usize,
    /// Sums go from the last block to the first: the order of backward in the forward direction.
    pub descending: bool,
}

impl Matmul {
    /// The product of `a` \[m,k\] and `b` \[k,n\] (after their transpositions) into `c`.
    pub fn new([m, n, k]: [usize; 3], a: Operand, b: Operand, c: Operand) -> Self {
        debug_assert!(!c.transposed);
        Matmul {
            params: MatmulParams {
                m: m as u32,
                n: n as u32,
                k: k as u32,
                a_offset: a.view.offset as u32,
                a_stride: a.stride as u32,
                b_offset: b.view.offset as u32,
                b_stride: b.stride as u32,
                c_offset: c.view.offset as u32,
                c_stride: c.stride as u32,
                bias_offset: 0,
                row_sum_offset: 0,
                tiles_n: n.div_ceil(TILE) as u32,
                places: 1,
                first: 0,
            },
            a_transposed: a.transposed,
            b_transposed: b.transposed,
            bias: false,
            row_sum: false,
            accumulate: false,
            side: None,
            flags: false,
            block: 0,
            descending: false,
        }
    }

    /// Adds `bias` \[N\] to each row.
    pub fn with_bias(mut self, bias: View) -> Self {
        self.params.bias_offset = bias.offset as u32;
        self.bias = true;
        self
    }

    /// Writes the sums of op(A)'s rows to `row_sum` \[M\].
    pub fn with_row_sum(mut self, row_sum: View) -> Self {
        self.params.row_sum_offset = row_sum.offset as u32;
        self.row_sum = true;
        self
    }

    /// Over the rows of a sequence, without those that its flags leave out.
    pub fn over(mut self, side: SequenceSide, rows: &SequenceRows) -> Self {
        self.side = Some(side);
        self.flags = rows.flags.is_some();
        self.params.places = rows.places as u32;
        self.params.first = rows.first as u32;
        self.block = rows.block as u32;
        self.descending = rows.descending && side == SequenceSide::Terms;
        self
    }

    /// Rows of the sequence, and of one block of it.
    pub(crate) fn sequence_rows(&self) -> [usize; 2] {
        let terms = self.side == Some(SequenceSide::Terms);
        let rows = if terms { self.params.k } else { self.params.m } as usize;
        [rows, if self.block == 0 { rows } else { self.block as usize }]
    }

    /// Adds to what the result holds.
    pub fn accumulating(mut self, accumulate: bool) -> Self {
        self.accumulate = accumulate;
        self
    }
}

impl Kernel for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn check(&self) -> Result<(), &'static str> {
        let p = &self.params;
        super::all_positive(&[p.m, p.n, p.k, p.a_stride, p.b_stride, p.places])?;
        let terms = self.side == Some(SequenceSide::Terms) && self.flags;
        if terms && (!self.a_transposed || self.b_transposed) {
            return Err("terms with flags must be rows of both operands");
        }
        if p.c_stride < p.n { Err("rows of C overlap") } else { Ok(()) }
    }

    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let (a_rows, a_columns) = if self.a_transposed { (p.k, p.m) } else { (p.m, p.k) };
        let (b_rows, b_columns) = if self.b_transposed { (p.n, p.k) } else { (p.k, p.n) };
        let mut list = vec![
            Binding::read("a", matrix_extent(p.a_offset, p.a_stride, a_rows, a_columns)),
            Binding::read("b", matrix_extent(p.b_offset, p.b_stride, b_rows, b_columns)),
            Binding::write("c", matrix_extent(p.c_offset, p.c_stride, p.m, p.n)),
        ];
        if self.bias {
            list.push(Binding::read("bias", (p.bias_offset + p.n) as usize));
        }
        if self.row_sum {
            list.push(Binding::write("row_sum", (p.row_sum_offset + p.m) as usize));
        }
        if self.flags {
            let rows = p.first + self.sequence_rows()[0] as u32;
            list.push(Binding::read_u32("flags", rows.div_ceil(p.places) as usize));
        }
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let flags = [
            ("A_TRANSPOSED", self.a_transposed),
            ("B_TRANSPOSED", self.b_transposed),
            ("BIAS", self.bias),
            ("ROW_SUM", self.row_sum),
            ("ACCUMULATE", self.accumulate),
            ("ROW_FLAGS", self.flags && self.side == Some(SequenceSide::Rows)),
            ("TERM_FLAGS", self.flags && self.side == Some(SequenceSide::Terms)),
            ("DESCENDING", self.descending),
        ];
        flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new())).collect()
    }

    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }

    fn groups(&self) -> [u32; 3] {
        spread((self.params.m as usize).div_ceil(TILE) * self.params.tiles_n as usize)
    }

    fn cost(&self) -> Cost {
        let [m, n, k] = [self.params.m, self.params.n, self.params.k].map(|x| x as usize);
        let written = m * n * if self.accumulate { 2 } else { 1 };
        Cost { flops: 2 * m as u64 * n as u64 * k as u64, bytes: bytes(m * k + k * n + written) }
    }
}
