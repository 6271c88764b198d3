//! How matrix products run on a device: which tile each takes, and which are cut along their terms.

use super::{DeviceInfo, GpuEngine, lock};
use crate::error::{Error, Result};
use crate::kernel::{
    BufferId, Matmul, Op, Operand, StepBackward, StepForward, SumParts, TILES, TileRate,
};
use crate::recording::{Launch, Recording, Role};
use crate::tensor::DType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

type Rates = [TileRate; TILES.len()];

/// A recording whose products take so many floating-point operations has its device measured first.
const LARGE: u64 = 20_000_000_000;

/// How long that may take.
const BUDGET: Duration = Duration::from_millis(300);

/// Multiply-adds below which a driver that computes on the CPU takes the smallest tile: it compiles a
/// large one for longer than the product takes.
const SMALL: usize = 10_000_000;

/// Words of partial sums that are in memory at once.
const PARTS_WORDS: usize = 1 << 21;

/// Adapters that were measured, by name and driver: for the life of the process.
static KNOWN: Mutex<BTreeMap<[String; 2], Rates>> = Mutex::new(BTreeMap::new());

fn key(info: &DeviceInfo) -> [String; 2] {
    [info.name.clone(), info.driver.clone()]
}

/// What was measured on a device: how fast it multiplies with each tile. Nothing but speed depends on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The adapter's name.
    pub device: String,
    /// Its driver and the driver's version.
    pub driver: String,
    /// Rates by the names of the tiles.
    pub tiles: BTreeMap<String, TileRate>,
}

impl GpuEngine {
    /// Measures the tiles of the matrix product on this device, for about as long as `budget`, and uses
    /// what was found from the next load on, in every engine of this process on the same adapter. What
    /// there was no time for is estimated. Without this call it happens, within 0.3 s, before a
    /// recording with large products is loaded on a device that is neither a host program's own nor
    /// a software one.
    ///
    /// # Errors
    /// The device failed.
    pub fn tune(&self, budget: Duration) -> Result<Tuning> {
        let info = &self.context.info;
        let assumed = TileRate::assumed(info.software);
        let mut rates: Option<Rates> = None;
        let start = Instant::now();
        for (i, tile) in TILES.iter().enumerate() {
            if rates.is_some() && start.elapsed() >= budget {
                break;
            }
            let engine = self.with_tile(i);
            let (size, deep) =
                if info.software { ([256, 256, 64], 64) } else { ([2048, 2048, 256], 2048) };
            let launches = if info.software { 1 } else { 4 };
            let many = engine.rate(size, launches)?;
            let one = engine.rate([tile.rows, tile.columns, deep], 1)?;
            let measured = TileRate { many, one };
            let rates = rates.get_or_insert_with(|| {
                // The others in proportion, until they are measured too.
                let scaled = |rate: TileRate| TileRate {
                    many: rate.many * many / assumed[i].many,
                    one: rate.one * one / assumed[i].one,
                };
                assumed.map(scaled)
            });
            rates[i] = measured;
        }
        lock(&KNOWN).insert(key(info), rates.unwrap_or(assumed));
        Ok(self.tuning())
    }

    /// What this device was measured to do, or is assumed to.
    pub fn tuning(&self) -> Tuning {
        let info = &self.context.info;
        let rates = self.rates();
        let tiles = TILES.iter().zip(rates).map(|(tile, rate)| (tile.name.to_string(), rate));
        Tuning { device: info.name.clone(), driver: info.driver.clone(), tiles: tiles.collect() }
    }

    /// Uses what was measured before.
    ///
    /// # Errors
    /// It is of another device or driver, lacks a tile, or has rates that are none.
    pub fn set_tuning(&self, tuning: &Tuning) -> Result<()> {
        let info = &self.context.info;
        if [&tuning.device, &tuning.driver] != [&info.name, &info.driver] {
            return Err(Error::invalid(format!(
                "the tuning is of '{}' ({}), the device is '{}' ({})",
                tuning.device, tuning.driver, info.name, info.driver
            )));
        }
        let mut rates = TileRate::assumed(info.software);
        for (rate, tile) in rates.iter_mut().zip(TILES) {
            let found = tuning.tiles.get(tile.name).copied();
            let found = found.filter(|r| r.many.is_normal() && r.one.is_normal());
            *rate = found.filter(|r| r.many > 0.0 && r.one > 0.0).ok_or_else(|| {
                Error::invalid(format!("the tuning has no rates of tile '{}'", tile.name))
            })?;
        }
        lock(&KNOWN).insert(key(info), rates);
        Ok(())
    }

    /// The same device with one tile for all products: for tests and measurements.
    #[doc(hidden)]
    pub fn with_tile(&self, tile: usize) -> Self {
        self.copy(|context| context.tile = Some(tile))
    }

    fn rates(&self) -> Rates {
        let info = &self.context.info;
        lock(&KNOWN).get(&key(info)).copied().unwrap_or(TileRate::assumed(info.software))
    }

    /// Measures where a recording is worth it and the device was not measured yet.
    pub(super) fn tune_for(&self, recording: &Recording) -> Result<()> {
        let context = &self.context;
        let ready = context.tile.is_some() || !context.own || context.info.software;
        if ready || lock(&KNOWN).contains_key(&key(&context.info)) {
            return Ok(());
        }
        let products = recording.launches().iter().filter(|l| matches!(l.op, Op::Matmul(_)));
        let flops: u64 = products.map(|launch| launch.op.kernel().flops()).sum();
        if flops >= LARGE { self.tune(BUDGET).map(drop) } else { Ok(()) }
    }

    /// 10⁹ floating-point operations a second of products of a shape, padding counted in.
    fn rate(&self, shape: [usize; 3], launches: usize) -> Result<f64> {
        let [m, n, k] = shape;
        let mut recording = Recording::new();
        let mut matrix = |name, len, role| recording.buffer(name, len, DType::F32, role);
        let a = matrix("a", m * k, Role::Input)?;
        let b = matrix("b", k * n, Role::Input)?;
        let c = matrix("c", m * n, Role::Output)?;
        for _ in 0..launches {
            let [a, b, c] = [Operand::new(a, k), Operand::new(b, n), Operand::new(c, n)];
            recording.launch(Matmul::new(shape, a, b, c), &[a.view, b.view, c.view])?;
        }
        let mut program = self.load(&recording, &self.store(), &[])?;
        program.run()?;
        program.wait()?;
        let start = Instant::now();
        program.run()?;
        program.wait()?;
        let flops = recording.cost().flops as f64;
        Ok(flops / start.elapsed().as_secs_f64().max(1e-9) * 1e-9)
    }

    /// The launches of a recording as this device runs them: each product with its tile, and those
    /// that are summed block by block with what adds the blocks up. Partial sums lie in the two
    /// buffers after the recording's own; returns the words that they need.
    pub(super) fn arrange(&self, recording: &Recording) -> (Vec<Launch>, [usize; 2]) {
        let rates = self.rates();
        let mut out = Arranged {
            software: self.context.info.software,
            launches: Vec::new(),
            rates,
            tile: self.context.tile,
            scratch: [0, 1].map(|i| BufferId(recording.buffers().len() + i)),
            words: [0; 2],
        };
        for launch in recording.launches() {
            match &launch.op {
                Op::Matmul(op) if op.sums_blocks() => out.blocks(op, &launch.buffers),
                Op::Matmul(op) => out.product(op.clone(), 1, launch.buffers.clone()),
                op => {
                    let (mut op, buffers) = (op.clone(), launch.buffers.clone());
                    if let Op::StepForward(StepForward { kind, .. })
                    | Op::StepBackward(StepBackward { kind, .. }) = &mut op
                    {
                        kind.thread_rows = self.context.thread_rows;
                    }
                    out.launches.push(Launch { op, buffers });
                }
            }
        }
        (out.launches, out.words)
    }
}

struct Arranged {
    software: bool,
    launches: Vec<Launch>,
    rates: Rates,
    tile: Option<usize>,
    scratch: [BufferId; 2],
    words: [usize; 2],
}

impl Arranged {
    fn product(&mut self, op: Matmul, parts: usize, buffers: Vec<BufferId>) {
        let shape = op.shape();
        let small = self.software && shape.iter().product::<usize>() < SMALL;
        let tile = self.tile.unwrap_or_else(|| match small {
            true => TILES.len() - 1,
            false => TileRate::choose(&self.rates, shape, parts),
        });
        self.launches.push(Launch { op: op.with_tile(TILES[tile]).into(), buffers });
    }

    /// Each block of terms is summed from 0 by workgroups of its own, then the blocks are added in the
    /// order of backward: the same bits, wherever segments cut the sequence.
    fn blocks(&mut self, op: &Matmul, buffers: &[BufferId]) {
        let [m, n, _] = op.shape();
        let blocks = op.blocks();
        let at_once = (PARTS_WORDS / (m * n)).clamp(2, 16);
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
                for (scratch, (place, len, offset)) in sums.into_iter().enumerate() {
                    let op = SumParts::new(len, count, offset as usize, op.descending);
                    let op = SumParts { accumulate, ..op }.into();
                    let buffers = vec![self.scratch[scratch], buffers[place]];
                    self.launches.push(Launch { op, buffers });
                }
            }
            accumulate = true;
        }
    }
}
