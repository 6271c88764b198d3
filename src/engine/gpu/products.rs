//! How matrix products run on a device: which tile each takes, and which are cut along their terms.

use super::GpuEngine;
use super::beside::largest_product;
use super::rates::Rates;
use crate::engine::Strategy;
use crate::kernel::{
    Beside, BufferId, COOPERATIVE_TILES, Matmul, Op, StepBackward, StepForward, SumParts, TILES,
    Tile, TileRate,
};
use crate::recording::{Launch, Recording};
use crate::tensor::DType;

/// Multiply-adds below which a driver that computes on the CPU takes the smallest tile: it compiles a
/// large one for longer than the product takes.
const SMALL: usize = 10_000_000;

/// Words of partial sums that are in memory at once, on a driver that computes on the CPU and on a GPU: that has few
/// tiles of a weight gradient for its many multiprocessors, and needs blocks beside one another.
const PARTS_WORDS: [usize; 2] = [1 << 21, 1 << 24];

/// Blocks of terms that a launch sums side by side, at most.
const MOST_PARTS: usize = 128;

/// Whether products whose operands are both f16 take tiles of cooperative matrices: for tests and
/// measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cooperative {
    /// All of them, where the device is faster so.
    Measured,
    /// None.
    Never,
    /// All of them this one.
    Tile(usize),
}

impl GpuEngine {
    /// The same device with one tile for all products: for tests and measurements.
    #[doc(hidden)]
    pub fn with_tile(&self, tile: usize) -> Self {
        self.copy(|context| context.tile = Some(tile))
    }

    /// The same device with or without cooperative matrices: for tests and measurements. A tile must
    /// be one of [`GpuEngine::cooperative_tiles`].
    #[doc(hidden)]
    pub fn with_cooperative(&self, cooperative: Cooperative) -> Self {
        if let Cooperative::Tile(tile) = cooperative {
            assert!(self.context.offered().contains(&tile), "the device does not take this tile");
        }
        self.copy(|context| context.cooperative = cooperative)
    }

    /// The launches of a recording as this device runs them: each product with its tile, and those
    /// that are summed block by block with what adds the blocks up. Partial sums lie in the two
    /// buffers after the recording's own; returns the words that they need.
    pub(super) fn arrange(&self, recording: &Recording) -> (Vec<Launch>, [usize; 2]) {
        let (rates, context) = (self.rates(), &self.context);
        let offered = context.offered();
        let cooperative = match context.cooperative {
            Cooperative::Tile(tile) => vec![tile],
            Cooperative::Measured
                if context.tile.is_none() && rates.prefers_cooperative(&offered) =>
            {
                offered
            }
            _ => Vec::new(),
        };
        let mut out = Arranged {
            software: context.info.software,
            parts_words: PARTS_WORDS[usize::from(!context.info.software)]
                .min(context.limits.max_storage_buffer_binding_size as usize / 4),
            launches: Vec::new(),
            rates,
            tile: context.tile,
            cooperative,
            lanes: context.lanes(),
            half: false,
            members: self.members(),
            beside: context.beside && context.strategy != Strategy::Step,
            scratch: [0, 1].map(|i| BufferId(recording.buffers().len() + i)),
            words: [0; 2],
        };
        for launch in recording.launches() {
            let mut operands = launch.buffers.iter().take(2);
            out.half = operands.all(|id| recording.get(*id).dtype == DType::F16);
            match &launch.op {
                Op::Matmul(op) if op.sums_blocks() => out.blocks(op, &launch.buffers),
                Op::Matmul(op) => out.product(op.clone(), 1, launch.buffers.clone()),
                Op::Beside(op) => out.beside(op, self.context.thread_rows, &launch.buffers),
                op => {
                    let op = with_thread_rows(op, self.context.thread_rows);
                    out.launches.push(Launch { op, buffers: launch.buffers.clone() });
                }
            }
        }
        (out.launches, out.words)
    }
}

fn with_thread_rows(op: &Op, rows: usize) -> Op {
    let mut op = op.clone();
    if let Op::StepForward(StepForward { kind, .. }) | Op::StepBackward(StepBackward { kind, .. }) =
        &mut op
        && kind.matrices.is_none()
    {
        kind.thread_rows = rows;
    }
    op
}

struct Arranged {
    software: bool,
    parts_words: usize,
    launches: Vec<Launch>,
    rates: Rates,
    tile: Option<usize>,
    /// Tiles of matrices that products of f16 take. Where there are any, all such products do: a product
    /// over a part of a sequence has to do as the whole does.
    cooperative: Vec<usize>,
    /// Threads of a subgroup.
    lanes: usize,
    /// The first two buffers of the launch at hand hold f16.
    half: bool,
    members: usize,
    /// Launches may be side by side.
    beside: bool,
    scratch: [BufferId; 2],
    words: [usize; 2],
}

impl Arranged {
    fn product(&mut self, op: Matmul, parts: usize, buffers: Vec<BufferId>) {
        let shape = op.shape();
        let parts = parts * self.members;
        let matrices = if self.half { self.cooperative.as_slice() } else { &[] };
        let rates = &self.rates.cooperative;
        if let Some(tile) = TileRate::choose_cooperative(rates, matrices, shape, parts) {
            let op = op.with_cooperative(COOPERATIVE_TILES[tile], self.lanes);
            self.launches.push(Launch { op: op.into(), buffers });
            return;
        }
        self.launches
            .push(Launch { op: op.with_tile(self.tile_for(shape, parts)).into(), buffers });
    }

    fn tile_for(&self, shape: [usize; 3], parts: usize) -> Tile {
        let small = self.software && shape.iter().product::<usize>() < SMALL;
        TILES[self.tile.unwrap_or_else(|| match small {
            true => TILES.len() - 1,
            false => TileRate::choose(&self.rates.tiles, shape, parts),
        })]
    }

    /// Launches side by side: all products take the tile of the largest.
    fn beside(&mut self, beside: &Beside, thread_rows: usize, buffers: &[BufferId]) {
        let parts = beside.ops().len() * self.members;
        let tile = largest_product(beside.ops()).map(|op| self.tile_for(op.shape(), parts));
        let cut = |op: &Op| match (op, tile) {
            (Op::Matmul(op), Some(tile)) => op.clone().with_tile(tile).into(),
            (op, _) => with_thread_rows(op, thread_rows),
        };
        self.launches.push(Launch { op: beside.map(cut).into(), buffers: buffers.to_vec() });
    }

    /// Each block of terms is summed from 0 by workgroups of its own, then the blocks are added in the
    /// order of backward: the same bits, wherever segments cut the sequence.
    fn blocks(&mut self, op: &Matmul, buffers: &[BufferId]) {
        let [m, n, _] = op.shape();
        let blocks = op.blocks();
        let at_once = (self.parts_words / (m * n * self.members)).clamp(2, MOST_PARTS);
        let groups = blocks.div_ceil(at_once);
        let mut accumulate = op.accumulate;
        for number in 0..groups {
            let first = at_once * if op.descending { groups - 1 - number } else { number };
            let count = at_once.min(blocks - first);
            let mut part = op.of_blocks(first, count);
            if count == 1 {
                part.accumulate = accumulate;
                self.product(part, 1, buffers.to_vec());
            } else {
                // C and the row sums go to scratch, and from there to where they belong.
                let mut sums = vec![(2, m * n, op.params.c_offset)];
                sums.extend(op.row_sum.then_some((3, m, op.params.row_sum_offset)));
                let mut bound = buffers.to_vec();
                for (scratch, &(place, len, _)) in sums.iter().enumerate() {
                    bound[place] = self.scratch[scratch];
                    self.words[scratch] = self.words[scratch].max(len * count);
                }
                self.product(part, count, bound);
                let sum = |(scratch, (place, len, offset)): (usize, (usize, usize, u32))| {
                    let op = SumParts::new(len, count, offset as usize, op.descending);
                    let op = Op::from(SumParts { accumulate, ..op });
                    (op, vec![self.scratch[scratch], buffers[place]])
                };
                let sums: Vec<_> = sums.into_iter().enumerate().map(sum).collect();
                match &sums[..] {
                    // In one launch, where launches may be side by side.
                    [matrix, rows] if self.beside && matrix.1[1] != rows.1[1] => {
                        let (op, buffers) = Beside::new(&sums);
                        self.launches.push(Launch { op: op.into(), buffers });
                    }
                    _ => self
                        .launches
                        .extend(sums.into_iter().map(|(op, buffers)| Launch { op, buffers })),
                }
            }
            accumulate = true;
        }
    }
}
