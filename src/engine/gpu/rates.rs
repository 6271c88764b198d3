//! How fast a device multiplies with each tile: measured where there is time, estimated where there was none.

use super::pipeline::{self, Wanted};
use super::tuning::{Tuning, key};
use super::{Cooperative, DeviceInfo, GpuEngine, GpuProgram, lock};
use crate::clock::Instant;
use crate::error::Result;
use crate::kernel::{COOPERATIVE_TILES, Fill, Matmul, Op, Operand, TILES, TileRate};
use crate::recording::{Recording, Role};
use crate::tensor::DType;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// A recording whose products take so many floating-point operations has its device measured first.
const LARGE: u64 = 20_000_000_000;

/// How long that may take, without what compiles.
const BUDGET: Duration = Duration::from_millis(300);

/// Runs of which the median counts, on a GPU.
const RUNS: usize = 5;

/// A GPU's products grow until one takes this long: beside it, what a launch costs is little, and each wave of workgroups
/// but the last is full.
const LAUNCH: f64 = 5e-4;

/// Products of many workgroups on a GPU, of threads and of matrices, from the smallest.
const SHAPES: [[usize; 3]; 3] = [[1024, 1024, 256], [2048, 2048, 256], [4096, 4096, 512]];
const MATRIX_SHAPES: [[usize; 3]; 3] = [[1024, 1024, 512], [2048, 2048, 1024], [4096, 4096, 2048]];

/// Products in a run on a GPU, half of which are taken off again.
const LAUNCHES: usize = 4;

/// Terms of the product of a single workgroup on a GPU.
const DEEP: usize = 2048;

/// Adapters that were measured, by name and driver: for the life of the process.
static KNOWN: Mutex<BTreeMap<[String; 2], Rates>> = Mutex::new(BTreeMap::new());

/// Sets what is known of an adapter.
pub(super) fn set_known(info: &DeviceInfo, rates: Rates) {
    lock(&KNOWN).insert(key(info), rates);
}

/// How fast a device multiplies with each tile.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) tiles: [TileRate; TILES.len()],
    pub(super) cooperative: [TileRate; COOPERATIVE_TILES.len()],
    /// Which of them were measured: the others are estimates.
    pub(super) measured: [bool; TILES.len()],
    pub(super) measured_cooperative: [bool; COOPERATIVE_TILES.len()],
}

impl Rates {
    pub(super) fn assumed(software: bool) -> Self {
        Rates {
            tiles: TileRate::assumed(software),
            cooperative: TileRate::assumed_cooperative(software),
            measured: [false; TILES.len()],
            measured_cooperative: [false; COOPERATIVE_TILES.len()],
        }
    }

    /// What was not measured is assumed to be in proportion to what the first tile was found to do.
    pub(super) fn scaled(mut self, software: bool, first: TileRate) -> Self {
        let assumed = Rates::assumed(software);
        let [many, one] = [first.many / assumed.tiles[0].many, first.one / assumed.tiles[0].one];
        let scale = |rates: &mut [TileRate], assumed: &[TileRate], measured: &[bool]| {
            for ((rate, assumed), measured) in rates.iter_mut().zip(assumed).zip(measured) {
                if !measured {
                    *rate = TileRate { many: assumed.many * many, one: assumed.one * one };
                }
            }
        };
        scale(&mut self.tiles, &assumed.tiles, &self.measured);
        scale(&mut self.cooperative, &assumed.cooperative, &self.measured_cooperative);
        self
    }

    fn is_measured(&self, way: Way) -> bool {
        match way {
            Way::Threads(i) => self.measured[i],
            Way::Matrices(i) => self.measured_cooperative[i],
        }
    }

    fn set(&mut self, way: Way, rate: TileRate) {
        match way {
            Way::Threads(i) => (self.tiles[i], self.measured[i]) = (rate, true),
            Way::Matrices(i) => {
                (self.cooperative[i], self.measured_cooperative[i]) = (rate, true);
            }
        }
    }

    /// Whether a device is faster with one of the tiles of cooperative matrices than with any other.
    pub(super) fn prefers_cooperative(&self, offered: &[usize]) -> bool {
        let best = self.tiles.iter().map(|rate| rate.many).fold(0.0, f64::max);
        offered.iter().any(|&i| self.cooperative[i].many > best)
    }
}

/// The rate of a tile that a driver refuses, or multiplies wrongly with.
const REFUSED: f64 = 1e-30;

/// A tile of either table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Threads(usize),
    Matrices(usize),
}

impl Way {
    fn dtype(self) -> DType {
        match self {
            Way::Threads(_) => DType::F32,
            Way::Matrices(_) => DType::F16,
        }
    }

    /// A product that is one workgroup's.
    fn of_one(self, deep: usize) -> [usize; 3] {
        match self {
            Way::Threads(i) => [TILES[i].rows, TILES[i].columns, deep],
            Way::Matrices(i) => [COOPERATIVE_TILES[i].rows, COOPERATIVE_TILES[i].columns, deep],
        }
    }
}

impl GpuEngine {
    /// Measures the tiles of the matrix product on this device, for about as long as `budget`, and uses
    /// what was found from the next load on, in every engine of this process on the same adapter. What compiles
    /// comes on top. A tile that there was no time for keeps what it was measured to do before, or is estimated
    /// ([`Tuning::measured`] names those that were measured). Without this call it happens, within 0.3 s, before
    /// a recording with large products is loaded on a device that is neither a host program's own nor
    /// a software one, until all are measured.
    ///
    /// # Errors
    /// The device failed.
    pub fn tune(&self, budget: Duration) -> Result<Tuning> {
        let matrices = self.cooperative_tiles().into_iter().map(Way::Matrices);
        let threads = (1..TILES.len()).map(Way::Threads);
        let ways: Vec<Way> = [Way::Threads(0)].into_iter().chain(matrices).chain(threads).collect();
        self.measure(budget, &ways)?;
        Ok(self.tuning())
    }

    /// Measures tiles, the first at least.
    fn measure(&self, budget: Duration, ways: &[Way]) -> Result<()> {
        self.compile(ways);
        // What drivers are young in has to prove itself; one that refuses it has the others.
        let proven = |&way: &Way| match way {
            Way::Threads(_) => true,
            Way::Matrices(i) => self.multiplies(i).unwrap_or(false),
        };
        let proven: Vec<bool> = ways.iter().map(proven).collect();
        let mut shapes = [None; 2];
        let start = Instant::now();
        for (number, (&way, proven)) in ways.iter().zip(proven).enumerate() {
            if number > 0 && start.elapsed() >= budget {
                break;
            }
            let shape = &mut shapes[usize::from(way.dtype() == DType::F16)];
            let rate = match (way, proven) {
                (Way::Threads(_), _) => self.rate_of(way, shape)?,
                (Way::Matrices(_), true) => self.rate_of(way, shape).unwrap_or(REFUSED_RATE),
                (Way::Matrices(_), false) => REFUSED_RATE,
            };
            // Another thread may have measured meanwhile.
            let mut known = lock(&KNOWN);
            let software = self.context.info.software;
            let rates = known.entry(key(&self.context.info));
            let rates = rates.or_insert_with(|| Rates::assumed(software));
            rates.set(way, rate);
            if way == Way::Threads(0) {
                *rates = rates.scaled(software, rate);
            }
        }
        self.keep_measured();
        Ok(())
    }

    /// The pipelines of these ways, before a clock starts. What a driver refuses comes up again where it is measured.
    fn compile(&self, ways: &[Way]) {
        let mut launches = Vec::new();
        for &way in ways {
            let engine = self.with(way).alone();
            let Ok(recording) = products(way.of_one(64), 1, way.dtype()) else { continue };
            let (arranged, _) = engine.arrange(&recording);
            launches.extend(arranged.into_iter().map(|l| (engine.clone(), recording.clone(), l)));
        }
        let wanted: Vec<Wanted> = launches
            .iter()
            .map(|(engine, recording, launch)| {
                let bindings = recording.bindings(launch);
                let slot = engine.context.pipelines.slot(launch.op.kernel(), &bindings);
                (slot, &launch.op, bindings)
            })
            .filter(|(slot, ..)| !slot.is_made())
            .collect();
        let _ = pipeline::make(&self.alone().context, &wanted);
    }

    fn with(&self, way: Way) -> Self {
        match way {
            Way::Threads(i) => self.with_tile(i),
            Way::Matrices(i) => self.with_cooperative(Cooperative::Tile(i)),
        }
    }

    /// `shape` is that of products of many workgroups on a GPU; the first way of its kind finds it.
    fn rate_of(&self, way: Way, shape: &mut Option<[usize; 3]>) -> Result<TileRate> {
        let engine = self.with(way).alone();
        let dtype = way.dtype();
        if self.context.info.software {
            let many = if dtype == DType::F16 { [128, 128, 64] } else { [256, 256, 64] };
            let rate = |shape| engine.rate_on_cpu(shape, dtype);
            return Ok(TileRate { many: rate(many)?, one: rate(way.of_one(64))? });
        }
        let many = match *shape {
            Some(shape) => engine.rate(shape, dtype)?.0,
            None => {
                let shapes = if dtype == DType::F16 { MATRIX_SHAPES } else { SHAPES };
                let mut found = 0.0;
                for next in shapes {
                    let (rate, seconds) = engine.rate(next, dtype)?;
                    (found, *shape) = (rate, Some(next));
                    if seconds >= LAUNCH {
                        break;
                    }
                }
                found
            }
        };
        Ok(TileRate { many, one: engine.rate(way.of_one(DEEP), dtype)?.0 })
    }

    /// As they were measured, or are assumed to be.
    pub(super) fn rates(&self) -> Rates {
        self.known_rates().unwrap_or(Rates::assumed(self.context.info.software))
    }

    pub(super) fn known_rates(&self) -> Option<Rates> {
        lock(&KNOWN).get(&key(&self.context.info)).copied()
    }

    /// Measures what was not measured yet, where a recording is worth it.
    pub(super) fn tune_for(&self, recording: &Recording) -> Result<()> {
        let context = &self.context;
        let forced = context.tile.is_some() || context.cooperative != Cooperative::Measured;
        if forced || context.scratch.is_none() || context.info.software {
            return Ok(());
        }
        let rates = self.rates();
        // Matrices are for products of f16 alone.
        let half = recording.find_half().is_some();
        let offered = if half { context.offered() } else { Vec::new() };
        let matrices = offered.into_iter().map(Way::Matrices);
        let threads = (1..TILES.len()).map(Way::Threads);
        let mut ways: Vec<Way> =
            [Way::Threads(0)].into_iter().chain(matrices).chain(threads).collect();
        ways.retain(|&way| !rates.is_measured(way));
        if ways.is_empty() {
            return Ok(());
        }
        let products = recording.launches().iter().filter(|l| matches!(l.op, Op::Matmul(_)));
        let flops: u64 = products.map(|launch| launch.op.kernel().flops()).sum();
        if flops >= LARGE { self.measure(BUDGET, &ways) } else { Ok(()) }
    }

    /// 10⁹ floating-point operations a second of a product on a driver that computes on the CPU, by one run behind
    /// one that warms up, padding counted in.
    fn rate_on_cpu(&self, shape: [usize; 3], dtype: DType) -> Result<f64> {
        let recording = products(shape, 1, dtype)?;
        let mut program = self.load(&recording, &self.store(), &[])?;
        seconds(&mut program)?;
        Ok(recording.cost().flops as f64 / seconds(&mut program)?.max(1e-9) * 1e-9)
    }

    /// The same on a GPU, and the seconds that a product takes. Submitting takes as long there as a small product:
    /// what half of the launches take less is the other half's.
    fn rate(&self, shape: [usize; 3], dtype: DType) -> Result<(f64, f64)> {
        let load = |launches: usize| -> Result<(GpuProgram, u64)> {
            let recording = products(shape, launches, dtype)?;
            let program = self.load(&recording, &self.store(), &[])?;
            Ok((program, recording.cost().flops))
        };
        let (mut all, flops) = load(LAUNCHES)?;
        let (mut few, few_flops) = load(LAUNCHES / 2)?;
        let (mut times, mut less) = (Vec::new(), Vec::new());
        for run in 0..=RUNS {
            let took = [seconds(&mut all)?, seconds(&mut few)?];
            // The first warms up.
            if run > 0 {
                times.push(took[0]);
                less.push(took[1]);
            }
        }
        let [times, less] = [times, less].map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let (flops, took, launches) = match times - less {
            rest if rest > 0.0 => (flops - few_flops, rest, LAUNCHES - LAUNCHES / 2),
            _ => (flops, times, LAUNCHES),
        };
        let took = took.max(1e-9);
        Ok((flops as f64 / took * 1e-9, took / launches as f64))
    }
}

const REFUSED_RATE: TileRate = TileRate { many: REFUSED, one: REFUSED };

/// Products of one shape, one after another.
fn products(shape: [usize; 3], launches: usize, dtype: DType) -> Result<Recording> {
    let [m, n, k] = shape;
    let half = dtype == DType::F16;
    let operand = if half { Role::Temporary } else { Role::Input };
    let mut recording = Recording::new();
    let a = recording.buffer("a", m * k, dtype, operand)?;
    let b = recording.buffer("b", k * n, dtype, operand)?;
    let c = recording.buffer("c", m * n, DType::F32, Role::Temporary)?;
    // A temporary must be written before it is read; that takes little beside the products.
    for view in [a, b].into_iter().filter(|_| half) {
        recording.launch(Fill::new(view, 0.0), &[view])?;
    }
    for _ in 0..launches {
        let [a, b, c] = [Operand::new(a, k), Operand::new(b, n), Operand::new(c, n)];
        recording.launch(Matmul::new(shape, a, b, c), &[a.view, b.view, c.view])?;
    }
    Ok(recording)
}

fn seconds(program: &mut GpuProgram) -> Result<f64> {
    let start = Instant::now();
    program.run()?;
    program.wait()?;
    Ok(start.elapsed().as_secs_f64())
}
