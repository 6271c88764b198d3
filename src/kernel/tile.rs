//! Tiles of the matrix product, and which of them a product of some shape should take.

use crate::tensor::WORD_BYTES;
use serde::{Deserialize, Serialize};

/// How a product is cut: what a workgroup computes, what a thread of it does, and how many terms go
/// through workgroup memory at once. All tiles give the same bits.
///
/// A thread with r rows and c columns reads r + c words of workgroup memory a term for r·c
/// multiply-adds, and a workgroup of R rows and C columns reads R + C words of the operands:
///
/// | tile | multiply-adds a word of workgroup memory | of the operands | barriers |
/// |---|---|---|---|
/// | 128×128, 8×8 a thread | 4 | 64 | 1 in 8 terms |
/// | 64×64, 8×8 | 4 | 32 | 1 in 8 |
/// | 128×32 and 32×128, 8×8 | 4 | 25.6 | 1 in 8 |
/// | 64×64, 4×4 | 2 | 32 | 1 in 16 |
/// | 32×32, 4×4 | 2 | 16 | 1 in 16 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// As tables name it.
    pub name: &'static str,
    /// Rows of the result that a workgroup computes.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// Terms of the sums that are in workgroup memory at once, twice.
    pub depth: usize,
    /// Rows of a thread.
    pub thread_rows: usize,
    /// Columns of a thread.
    pub thread_columns: usize,
}

const fn tile(name: &'static str, tile: [usize; 3], thread: [usize; 2]) -> Tile {
    let [rows, columns, depth] = tile;
    Tile { name, rows, columns, depth, thread_rows: thread[0], thread_columns: thread[1] }
}

/// The tiles that there are. Each keeps to 256 threads and 16 KiB of workgroup memory, which every device
/// has.
pub const TILES: [Tile; 6] = [
    tile("128x128", [128, 128, 8], [8, 8]),
    tile("64x64", [64, 64, 8], [8, 8]),
    tile("128x32", [128, 32, 8], [8, 8]),
    tile("32x128", [32, 128, 8], [8, 8]),
    tile("64x64 of small blocks", [64, 64, 16], [4, 4]),
    tile("32x32 of small blocks", [32, 32, 16], [4, 4]),
];

/// A tile of matrices that subgroups multiply together, from f16 into f32. All of one size of matrices give
/// the same bits; the tiles of threads give others.
///
/// Matrices of 16×16 pass through workgroup memory in vectors, which Vulkan takes and Metal does not;
/// Metal has 8×8 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooperativeTile {
    /// As tables name it.
    pub name: &'static str,
    /// Rows and columns of a matrix: 8 or 16.
    pub matrix: usize,
    /// Rows of the result that a workgroup computes.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// Terms of the sums that are in workgroup memory at once.
    pub depth: usize,
    /// Rows of a subgroup.
    pub block_rows: usize,
    /// Columns of a subgroup.
    pub block_columns: usize,
    /// Workgroup memory holds vectors of four.
    pub vectors: bool,
}

const fn cooperative(
    name: &'static str,
    [matrix, rows, columns, depth]: [usize; 4],
    [block_rows, block_columns]: [usize; 2],
    vectors: bool,
) -> CooperativeTile {
    CooperativeTile { name, matrix, rows, columns, depth, block_rows, block_columns, vectors }
}

/// The tiles of matrices that there are, within 32 KiB of workgroup memory but for the last, which has 39 KiB: its
/// subgroups multiply twice as often a word that they load.
pub const COOPERATIVE_TILES: [CooperativeTile; 5] = [
    cooperative("128x128 of 16x16 matrices", [16, 128, 128, 32], [64, 32], true),
    cooperative("64x64 of 16x16 matrices", [16, 64, 64, 32], [32, 32], true),
    cooperative("64x64 of 8x8 matrices", [8, 64, 64, 16], [32, 16], false),
    cooperative("32x32 of 8x8 matrices", [8, 32, 32, 16], [16, 16], true),
    cooperative("128x256 of 16x16 matrices", [16, 128, 256, 32], [64, 64], true),
];

/// Elements between the lines of a slab of matrices, beside the line's own.
const PAD: usize = 8;

impl CooperativeTile {
    /// Subgroups of a workgroup.
    fn subgroups(&self) -> usize {
        self.rows / self.block_rows * (self.columns / self.block_columns)
    }

    /// Threads of a workgroup.
    pub fn threads(&self, subgroup: usize) -> usize {
        self.subgroups() * subgroup
    }

    /// Bytes of workgroup memory, at most: a slab of both operands, and a matrix of each subgroup.
    pub fn workgroup_bytes(&self) -> usize {
        let slab = |size: usize| (size * (self.depth + PAD)).max(self.depth * (size + PAD));
        let sums = self.subgroups() * self.matrix * self.matrix;
        2 * (slab(self.rows) + slab(self.columns)) + WORD_BYTES * sums
    }

    /// Whether a device with such subgroups can have it, as far as its sizes go.
    pub(crate) fn fits(&self, subgroup: usize, max_threads: usize, max_bytes: usize) -> bool {
        let threads = self.threads(subgroup);
        let whole = |size: usize| (size * self.depth).is_multiple_of(4 * threads);
        threads <= max_threads
            && self.workgroup_bytes() <= max_bytes
            && whole(self.rows)
            && whole(self.columns)
            && self.rows / 4 <= threads
    }

    /// Tiles along the rows and the columns of a product.
    pub fn count(&self, m: usize, n: usize) -> [usize; 2] {
        [m.div_ceil(self.rows), n.div_ceil(self.columns)]
    }

    /// What the shader is told. A matrix lies in memory by rows or by columns: A does by rows where terms
    /// follow one another in a row, B where they do not.
    pub(super) fn defines(
        &self,
        subgroup: usize,
        terms_in_line: [bool; 2],
    ) -> Vec<(&'static str, String)> {
        let threads = self.threads(subgroup);
        let loads = |size: usize| count(size * self.depth / (4 * threads));
        let load = |by_rows: bool| if by_rows { "coopLoadT" } else { "coopLoad" }.to_string();
        let mut list = vec![
            ("COOPERATIVE", String::new()),
            ("TILE_a", self.rows.to_string()),
            ("TILE_b", self.columns.to_string()),
            ("DEPTH", self.depth.to_string()),
            ("THREADS", threads.to_string()),
            ("LANES", subgroup.to_string()),
            ("MATRIX", self.matrix.to_string()),
            ("BLOCK_M", self.block_rows.to_string()),
            ("BLOCK_N", self.block_columns.to_string()),
            ("ROWS", count(self.block_rows / self.matrix)),
            ("COLUMNS", count(self.block_columns / self.matrix)),
            ("LOADS_a", loads(self.rows)),
            ("LOADS_b", loads(self.columns)),
            ("LOAD_a", load(terms_in_line[0])),
            ("LOAD_b", load(!terms_in_line[1])),
            ("ENTRY", if self.vectors { "4" } else { "1" }.to_string()),
        ];
        list.extend(self.vectors.then(|| ("STAGED_IN_VECTORS", String::new())));
        list
    }
}

/// "0 1 2 …": a list of the preprocessor.
fn count(n: usize) -> String {
    (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

impl Tile {
    /// Threads along the rows and the columns.
    fn threads(&self) -> [usize; 2] {
        [self.rows / self.thread_rows, self.columns / self.thread_columns]
    }

    /// Bytes of workgroup memory: two slabs of both operands.
    pub fn workgroup_bytes(&self) -> usize {
        2 * self.depth * (self.rows + self.columns) * WORD_BYTES
    }

    /// Tiles along the rows and the columns of a product.
    pub fn count(&self, m: usize, n: usize) -> [usize; 2] {
        [m.div_ceil(self.rows), n.div_ceil(self.columns)]
    }

    /// What the shader is told.
    pub(super) fn defines(&self, terms_in_line: [bool; 2]) -> Vec<(&'static str, String)> {
        let [threads_m, threads_n] = self.threads();
        // A load is a vector of rows of a term, or four vectors of terms, of a row each.
        let lines = terms_in_line.map(|turned| if turned { 4 } else { 1 });
        let loads = |size: usize, lines: usize| {
            count((size * self.depth).div_ceil(4 * lines * threads_m * threads_n))
        };
        vec![
            ("TILE_a", self.rows.to_string()),
            ("TILE_b", self.columns.to_string()),
            ("DEPTH", self.depth.to_string()),
            ("THREADS_M", threads_m.to_string()),
            ("THREADS_N", threads_n.to_string()),
            ("ROWS", count(self.thread_rows / 4)),
            ("COLUMNS", count(self.thread_columns / 4)),
            ("LOADS_a", loads(self.rows, lines[0])),
            ("LOADS_b", loads(self.columns, lines[1])),
            ("LINES_a", count(lines[0])),
            ("LINES_b", count(lines[1])),
        ]
    }
}

/// How fast a device multiplies with one tile. Only ratios count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TileRate {
    /// 10⁹ floating-point operations a second of many workgroups, padding counted in.
    pub many: f64,
    /// The same of one workgroup alone.
    pub one: f64,
}

impl TileRate {
    /// What is assumed of a device that was not measured: a discrete GPU of some hundred cores, or a
    /// driver that computes on a few cores of the CPU.
    pub(crate) fn assumed(software: bool) -> [TileRate; TILES.len()] {
        let (many, one) = match software {
            true => ([1.0, 0.9, 0.9, 0.9, 0.5, 0.45], [0.5, 0.45, 0.45, 0.45, 0.25, 0.23]),
            false => ([1.0, 0.8, 0.7, 0.7, 0.6, 0.35], [7e-3, 3.5e-3, 3.5e-3, 3.5e-3, 5e-3, 2e-3]),
        };
        std::array::from_fn(|i| TileRate { many: many[i], one: one[i] })
    }

    /// What is assumed of tiles of matrices, on the scale of [`TileRate::assumed`]: that a GPU which has
    /// them has units for them, and a driver on the CPU none.
    pub(crate) fn assumed_cooperative(software: bool) -> [TileRate; COOPERATIVE_TILES.len()] {
        let (many, one) = match software {
            true => ([0.2; 5], [0.1; 5]),
            false => ([6.0, 4.0, 1.5, 1.0, 6.5], [4e-2, 2e-2, 1e-2, 4e-3, 5e-2]),
        };
        std::array::from_fn(|i| TileRate { many: many[i], one: one[i] })
    }

    /// Seconds (by the rates' scale) of a product in tiles of so many rows and columns: all its tiles at
    /// the rate of many, but no less than one takes.
    fn predict(&self, [rows, columns]: [usize; 2], [m, n, k]: [usize; 3], parts: usize) -> f64 {
        let flops = 2.0 * (rows * columns * k.div_ceil(parts)) as f64;
        let all = flops * (m.div_ceil(rows) * n.div_ceil(columns) * parts) as f64;
        (all / self.many).max(flops / self.one)
    }

    /// The number of the tile that a product of shape \[m,n,k\] in so many parts should take.
    pub(crate) fn choose(
        rates: &[TileRate; TILES.len()],
        shape: [usize; 3],
        parts: usize,
    ) -> usize {
        let size = |i: usize| [TILES[i].rows, TILES[i].columns];
        let time = |i: &usize| rates[*i].predict(size(*i), shape, parts);
        (0..TILES.len()).min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(0)
    }

    /// The same of the tiles of matrices that are `offered`, if any is.
    pub(crate) fn choose_cooperative(
        rates: &[TileRate; COOPERATIVE_TILES.len()],
        offered: &[usize],
        shape: [usize; 3],
        parts: usize,
    ) -> Option<usize> {
        let size = |i: usize| [COOPERATIVE_TILES[i].rows, COOPERATIVE_TILES[i].columns];
        let time = |i: &usize| rates[*i].predict(size(*i), shape, parts);
        offered.iter().copied().min_by(|a, b| time(a).total_cmp(&time(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_keep_to_what_every_device_has() {
        for tile in TILES {
            let [m, n] = tile.threads();
            assert!(m * n <= 256 && tile.workgroup_bytes() <= 16_384, "{tile:?}");
            // Whole vectors, whole loads, and a thread for each four row sums.
            assert!(
                tile.thread_rows % 4 == 0 && tile.thread_columns % 4 == 0 && tile.depth % 4 == 0
            );
            assert_eq!([m * tile.thread_rows, n * tile.thread_columns], [tile.rows, tile.columns]);
            for size in [tile.rows, tile.columns] {
                assert_eq!(size * tile.depth % (4 * m * n), 0, "{tile:?}");
            }
            assert!(tile.rows / 4 <= m * n);
        }
    }

    #[test]
    fn tiles_of_matrices_fit_their_devices() {
        for tile in COOPERATIVE_TILES {
            let [block_m, block_n] = [tile.block_rows, tile.block_columns];
            assert!(block_m % tile.matrix == 0 && block_n % tile.matrix == 0, "{tile:?}");
            assert!(tile.rows % block_m == 0 && tile.columns % block_n == 0, "{tile:?}");
            assert!(tile.depth % tile.matrix == 0, "{tile:?}");
            let bytes = if tile.columns > 128 { 49_152 } else { 32_768 };
            assert!(tile.fits(32, 256, bytes) && tile.workgroup_bytes() <= bytes, "{tile:?}");
            // A vector of a matrix's row is in that row, and eight threads a subgroup do too.
            assert!(tile.matrix == 16 || tile.fits(8, 256, 16_384), "{tile:?}");
            assert!(!tile.fits(32, 64, 32_768) && !tile.fits(32, 256, 2048), "{tile:?}");
        }
        let rates = TileRate::assumed_cooperative(false);
        let chosen = |offered: &[usize], shape| {
            TileRate::choose_cooperative(&rates, offered, shape, 1)
                .map(|i| COOPERATIVE_TILES[i].name)
        };
        assert_eq!(chosen(&[0, 1], [4096, 4096, 512]), Some("128x128 of 16x16 matrices"));
        assert_eq!(chosen(&[0, 1], [64, 64, 512]), Some("64x64 of 16x16 matrices"));
        assert_eq!(chosen(&[], [64, 64, 512]), None);
    }

    #[test]
    fn large_products_take_large_tiles_and_small_ones_fill_the_device() {
        let rates = TileRate::assumed(false);
        let chosen = |shape, parts| TILES[TileRate::choose(&rates, shape, parts)].name;
        assert_eq!(chosen([4096, 4096, 4096], 1), "128x128");
        assert_eq!(chosen([1024, 1024, 1024], 1), "64x64");
        assert_eq!(chosen([32, 65_536, 512], 1), "32x128");
        assert_eq!(chosen([65_536, 32, 512], 1), "128x32");
        assert_eq!(chosen([32, 1024, 256], 1), "32x32 of small blocks");
        // Parts make up for few tiles.
        assert_eq!(chosen([512, 512, 65_536], 1), "32x32 of small blocks");
        assert_eq!(chosen([512, 512, 65_536], 64), "128x128");
    }
}
