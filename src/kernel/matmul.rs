//! The tiled matrix product, and the sum of its parts where it is cut along its terms.

use super::tile::{CooperativeTile, TILES, Tile};
use super::{Activation, Binding, Kernel, View, matrix_extent, spread};
use crate::tensor::DType;
use bytemuck::{Pod, Zeroable};

/// Results of at most so many elements are summed block by block: cut along the terms, since their
/// tiles alone leave a large device idle.
const BY_BLOCKS_UP_TO: usize = 1 << 20;

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
    /// Tiles along m.
    pub tiles_m: u32,
    /// Tiles along n.
    pub tiles_n: u32,
    /// Terms that one workgroup sums.
    pub block: u32,
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
    /// C is a function of all that.
    pub activation: Option<Activation>,
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
    /// How the GPU engine cuts it, which it decides when it loads a recording.
    pub(crate) tile: Tile,
    /// The tile of matrices that takes its place, and the threads of a subgroup: A and B lie in f16.
    pub(crate) cooperative: Option<(CooperativeTile, usize)>,
    /// Each block of terms is summed from 0 and added, or written for [`SumParts`]; the GPU engine's
    /// decision too.
    pub(crate) by_blocks: bool,
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
                tiles_m: 0,
                tiles_n: 0,
                block: k as u32,
                places: 1,
                first: 0,
            },
            a_transposed: a.transposed,
            b_transposed: b.transposed,
            bias: false,
            activation: None,
            row_sum: false,
            accumulate: false,
            side: None,
            flags: false,
            block: 0,
            descending: false,
            tile: TILES[0],
            cooperative: None,
            by_blocks: false,
        }
        .with_tile(TILES[0])
    }

    /// The same product cut another way: the same bits at another speed.
    #[doc(hidden)]
    pub fn with_tile(mut self, tile: Tile) -> Self {
        let p = &mut self.params;
        [p.tiles_m, p.tiles_n] = tile.count(p.m as usize, p.n as usize).map(|x| x as u32);
        (self.tile, self.cooperative) = (tile, None);
        self
    }

    /// The same product of two operands in f16, in matrices that subgroups of so many threads multiply.
    pub(crate) fn with_cooperative(mut self, tile: CooperativeTile, subgroup: usize) -> Self {
        let p = &mut self.params;
        [p.tiles_m, p.tiles_n] = tile.count(p.m as usize, p.n as usize).map(|x| x as u32);
        self.cooperative = Some((tile, subgroup));
        self
    }

    /// \[m,n,k\].
    pub(crate) fn shape(&self) -> [usize; 3] {
        [self.params.m, self.params.n, self.params.k].map(|x| x as usize)
    }

    /// Whether the GPU engine sums block by block and adds the blocks' sums up. That must not depend on
    /// how many terms there are here: a segment of the sequence has to do as the whole does.
    pub(crate) fn sums_blocks(&self) -> bool {
        let [m, n, _] = self.shape();
        let dense = self.params.c_stride as usize == n && !self.bias;
        let terms = self.side == Some(SequenceSide::Terms) && self.block > 0;
        terms && dense && m * n <= BY_BLOCKS_UP_TO
    }

    /// The blocks of the sequence's terms.
    pub(crate) fn blocks(&self) -> usize {
        let [rows, block] = self.sequence_rows();
        rows.div_ceil(block)
    }

    /// The product of `count` blocks from block `first` on, each summed from 0. One block is added to C
    /// or written to it; the sums of several, and those of their rows, follow one another in C and in
    /// `row_sum`, from their starts.
    pub(crate) fn of_blocks(&self, first: usize, count: usize) -> Self {
        let mut part = Matmul { by_blocks: true, ..self.clone() };
        let block = self.block;
        let p = &mut part.params;
        let skipped = first as u32 * block;
        // Both operands lie term by term, or one along the terms.
        p.a_offset += skipped * if self.a_transposed { p.a_stride } else { 1 };
        p.b_offset += skipped * if self.b_transposed { 1 } else { p.b_stride };
        p.first += skipped;
        p.k = (p.k - skipped).min(count as u32 * block);
        p.block = block;
        if count > 1 {
            (p.c_offset, p.row_sum_offset) = (0, 0);
            part.accumulate = false;
        }
        part
    }

    /// Workgroups that sum terms of their own.
    fn parts(&self) -> usize {
        self.params.k.div_ceil(self.params.block) as usize
    }

    /// Which of A, B and C may be touched in vectors of four: those whose lines all start and end at
    /// whole vectors.
    fn in_vectors(&self) -> [bool; 3] {
        let p = &self.params;
        let whole = |words: &[u32]| words.iter().all(|w| w % 4 == 0);
        let terms = if self.by_blocks { p.block | p.k } else { p.k };
        [
            whole(&[p.a_offset, p.a_stride, if self.a_transposed { p.m } else { terms }]),
            whole(&[p.b_offset, p.b_stride, if self.b_transposed { terms } else { p.n }]),
            whole(&[p.c_offset, p.c_stride, p.n]),
        ]
    }

    /// Adds `bias` \[N\] to each row.
    pub fn with_bias(mut self, bias: View) -> Self {
        self.params.bias_offset = bias.offset as u32;
        self.bias = true;
        self
    }

    /// Applies a function to the sums with their bias.
    pub fn with_activation(mut self, activation: Option<Activation>) -> Self {
        self.activation = activation;
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
        if self.activation.is_some() && (self.accumulate || self.side.is_some()) {
            return Err("an activation is of whole sums");
        }
        if self.by_blocks {
            return Err("only the GPU engine cuts a product into parts");
        }
        if p.c_stride < p.n { Err("rows of C overlap") } else { Ok(()) }
    }

    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let (a_rows, a_columns) = if self.a_transposed { (p.k, p.m) } else { (p.m, p.k) };
        let (b_rows, b_columns) = if self.b_transposed { (p.n, p.k) } else { (p.k, p.n) };
        let [m, n, k] = self.shape();
        let a = Binding::read("a", matrix_extent(p.a_offset, p.a_stride, a_rows, a_columns));
        let b = Binding::read("b", matrix_extent(p.b_offset, p.b_stride, b_rows, b_columns));
        let rows = p.m * self.parts() as u32;
        let c = Binding::write("c", matrix_extent(p.c_offset, p.c_stride, rows, p.n));
        let written = rows as usize * n * if self.accumulate { 2 } else { 1 };
        let [a, b, c] = [
            a.starting(p.a_offset).moving(m * k),
            b.starting(p.b_offset).moving(k * n),
            c.starting(p.c_offset).moving(written),
        ];
        let mut list: Vec<Binding> = [a, b, c]
            .into_iter()
            .zip(self.in_vectors())
            .map(|(binding, vectors)| binding.in_vectors(vectors))
            .collect();
        if self.cooperative.is_some() {
            list[..2].iter_mut().for_each(|operand| operand.dtype = DType::F16);
        }
        if self.bias {
            list.push(Binding::read("bias", (p.bias_offset + p.n) as usize));
        }
        if self.row_sum {
            let sums = Binding::write("row_sum", (p.row_sum_offset + rows) as usize);
            list.push(sums.starting(p.row_sum_offset));
        }
        if self.flags {
            let rows = p.first + self.sequence_rows()[0] as u32;
            list.push(Binding::read_u32("flags", rows.div_ceil(p.places) as usize));
        }
        list
    }

    fn defines(&self) -> Vec<(&'static str, String)> {
        let [vector_a, vector_b, vector_c] = self.in_vectors();
        let terms_in_line = [!self.a_transposed, self.b_transposed];
        let at_end = self.by_blocks || self.cooperative.is_some();
        let flags = [
            ("TERMS_IN_LINE_a", terms_in_line[0]),
            ("TERMS_IN_LINE_b", terms_in_line[1]),
            ("VECTOR_a", vector_a),
            ("VECTOR_b", vector_b),
            ("VECTOR_c", vector_c),
            ("BIAS", self.bias),
            ("ROW_SUM", self.row_sum),
            ("ACCUMULATE", self.accumulate),
            ("ADD_AT_END", self.accumulate && at_end),
            ("ROW_FLAGS", self.flags && self.side == Some(SequenceSide::Rows)),
            ("TERM_FLAGS", self.flags && self.side == Some(SequenceSide::Terms)),
            ("DESCENDING", self.descending),
            ("BY_BLOCKS", self.by_blocks),
        ];
        let flags = flags.into_iter().filter(|f| f.1).map(|f| (f.0, String::new()));
        let activation = self.activation.into_iter().flat_map(super::slope::defines);
        let tile = match &self.cooperative {
            Some((tile, subgroup)) => tile.defines(*subgroup, terms_in_line),
            None => self.tile.defines(terms_in_line),
        };
        tile.into_iter().chain(flags).chain(activation).collect()
    }

    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }

    fn groups(&self) -> [u32; 3] {
        let p = &self.params;
        spread(p.tiles_m as usize * p.tiles_n as usize * self.parts())
    }

    fn flops(&self) -> u64 {
        2 * self.shape().iter().map(|&size| size as u64).product::<u64>()
    }
}
