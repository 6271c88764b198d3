//! Table look-up and its gradient.

use super::{Binding, GROUP, Kernel, SequenceRows, View, spread};
use bytemuck::{Pod, Zeroable};

/// Columns of the table that one workgroup of the backward kernel sums.
const COLUMNS: usize = 256;

/// The uniform block of `shaders/embedding_forward.wgsl` and `shaders/embedding_backward.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct EmbeddingParams {
    /// Tokens.
    pub count: u32,
    /// Rows of the table V.
    pub vocabulary: u32,
    /// Columns of the table E.
    pub width: u32,
    /// First token.
    pub ids_offset: u32,
    /// First element of the table (backward: of its gradient).
    pub table_offset: u32,
    /// First element of the result (backward: of its gradient).
    pub output_offset: u32,
    /// Elements from one of its rows to the next.
    pub output_stride: u32,
    /// Backward: tokens of a block. Sums go block by block.
    pub block: u32,
    /// Backward: 1 where they go from the last block to the first.
    pub descending: u32,
}

impl EmbeddingParams {
    /// `ids` \[N\], `table` \[V,E\], `output` \[N,E\].
    pub fn new(vocabulary: usize, width: usize, ids: View, table: View, output: View) -> Self {
        EmbeddingParams {
            count: ids.len as u32,
            vocabulary: vocabulary as u32,
            width: width as u32,
            ids_offset: ids.offset as u32,
            table_offset: table.offset as u32,
            output_offset: output.offset as u32,
            output_stride: width as u32,
            block: ids.len as u32,
            descending: 0,
        }
    }

    /// The rows of `output` lie so far from one another.
    pub fn with_stride(self, output_stride: usize) -> Self {
        EmbeddingParams { output_stride: output_stride as u32, ..self }
    }

    /// The tokens are rows of a sequence: as many blocks of it, in the same order, have the same
    /// sums however it is cut.
    pub fn over(self, rows: &SequenceRows) -> Self {
        let block = if rows.block == 0 { self.count } else { rows.block as u32 };
        EmbeddingParams { block, descending: rows.descending.into(), ..self }
    }

    fn check_sizes(&self) -> Result<(), &'static str> {
        super::all_positive(&[self.count, self.vocabulary, self.width, self.block])?;
        if self.output_stride < self.width {
            return Err("rows overlap");
        }
        Ok(())
    }

    /// Ids, rows of the table and rows of the result.
    fn bindings(&self) -> [Binding; 3] {
        let [ids, table, output] = self.extents();
        let [n, v, e] = [self.count, self.vocabulary, self.width].map(|x| x as usize);
        [
            Binding::read_u32("ids", ids).starting(self.ids_offset).moving(n),
            // Of a long table only the rows that are looked up.
            Binding::read("table", table).starting(self.table_offset).moving(v.min(n) * e),
            Binding::write("output", output).starting(self.output_offset).moving(n * e),
        ]
    }

    fn extents(&self) -> [usize; 3] {
        let [n, v, e, stride] =
            [self.count, self.vocabulary, self.width, self.output_stride].map(|x| x as usize);
        [
            self.ids_offset as usize + n,
            self.table_offset as usize + v * e,
            self.output_offset as usize + n.saturating_sub(1) * stride + e,
        ]
    }
}

/// output\[n\] = table\[ids\[n\]\]. A token past the table reads its last row; hosts check the range.
#[derive(Clone, Debug)]
pub struct EmbeddingForward {
    /// Sizes and offsets.
    pub params: EmbeddingParams,
}

impl Kernel for EmbeddingForward {
    fn name(&self) -> &'static str {
        "embedding_forward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check_sizes()
    }
    fn bindings(&self) -> Vec<Binding> {
        self.params.bindings().to_vec()
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        spread((self.params.count as usize * self.params.width as usize).div_ceil(GROUP))
    }
    fn flops(&self) -> u64 {
        0
    }
}

/// d_table\[v\] = Σ over n with ids\[n\] = v of d_output\[n\], summed in a fixed order.
#[derive(Clone, Debug)]
pub struct EmbeddingBackward {
    /// Sizes and offsets.
    pub params: EmbeddingParams,
    /// Add to what `d_table` holds.
    pub accumulate: bool,
}

impl Kernel for EmbeddingBackward {
    fn name(&self) -> &'static str {
        "embedding_backward"
    }
    fn check(&self) -> Result<(), &'static str> {
        self.params.check_sizes()
    }
    fn bindings(&self) -> Vec<Binding> {
        let p = &self.params;
        let [_, table, output] = p.extents();
        let [n, v, e] = [p.count, p.vocabulary, p.width].map(|x| x as usize);
        let [ids, ..] = p.bindings();
        let times = 1 + usize::from(self.accumulate);
        vec![
            ids,
            Binding::read("d_output", output).starting(p.output_offset).moving(n * e),
            Binding::write("d_table", table).starting(p.table_offset).moving(times * v * e),
        ]
    }
    fn defines(&self) -> Vec<(&'static str, String)> {
        if self.accumulate { vec![("ACCUMULATE", String::new())] } else { Vec::new() }
    }
    fn params(&self) -> &[u8] {
        bytemuck::bytes_of(&self.params)
    }
    fn groups(&self) -> [u32; 3] {
        let columns = (self.params.width as usize).div_ceil(COLUMNS);
        spread(self.params.vocabulary as usize * columns)
    }
    fn flops(&self) -> u64 {
        u64::from(self.params.count) * u64::from(self.params.width)
    }
}
