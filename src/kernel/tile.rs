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
    pub(super) fn defines(&self) -> Vec<(&'static str, String)> {
        let [threads_m, threads_n] = self.threads();
        let loads = |size: usize| count(size * self.depth / (4 * threads_m * threads_n));
        vec![
            ("TILE_a", self.rows.to_string()),
            ("TILE_b", self.columns.to_string()),
            ("DEPTH", self.depth.to_string()),
            ("THREADS_M", threads_m.to_string()),
            ("THREADS_N", threads_n.to_string()),
            ("ROWS", count(self.thread_rows / 4)),
            ("COLUMNS", count(self.thread_columns / 4)),
            ("LOADS_a", loads(self.rows)),
            ("LOADS_b", loads(self.columns)),
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

    /// Seconds (by the rates' scale) of a product with `tile`: all its tiles at the rate of many, but
    /// no less than one takes.
    fn predict(&self, tile: &Tile, [m, n, k]: [usize; 3], parts: usize) -> f64 {
        let [tiles_m, tiles_n] = tile.count(m, n);
        let flops = 2.0 * (tile.rows * tile.columns * k.div_ceil(parts)) as f64;
        let all = flops * (tiles_m * tiles_n * parts) as f64;
        (all / self.many).max(flops / self.one)
    }

    /// The number of the tile that a product of shape \[m,n,k\] in so many parts should take.
    pub(crate) fn choose(
        rates: &[TileRate; TILES.len()],
        shape: [usize; 3],
        parts: usize,
    ) -> usize {
        let time = |i: &usize| rates[*i].predict(&TILES[*i], shape, parts);
        (0..TILES.len()).min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(0)
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
