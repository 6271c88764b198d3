//! What a recording should take on a device: each launch's floating-point operations and bytes against
//! what the device was measured to do.

use super::product::{LargeProduct, is_card, numbers};
use super::{NAMES, load};
use crate::clock::Instant;
use crate::engine::{Engine, Program};
use crate::error::Result;
use crate::kernel::{Combine, Cost, Fill, Op, Rows};
use crate::recording::{Launch, Recording, Role};
use crate::tensor::{DType, Precision, WORD_BYTES};
use std::collections::BTreeMap;
use std::time::Duration;

/// Elements of the copy that the bandwidth is measured with: 32 MiB read, as many written.
const COPY: usize = 8 << 20;

/// The same on a card, beyond what its caches hold.
const LARGE_COPY: usize = 64 << 20;

/// Copies in a run: what a card takes for one alone is as much its submission as its bytes.
const COPIES: [usize; 2] = [1, 9];

/// Launches of the two chains whose difference is the cost of a launch.
const CHAINS: [usize; 2] = [64, 1088];

/// Runs of which the median counts.
const RUNS: usize = 7;

/// What a device was measured to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceRates {
    /// 10⁹ floating-point operations a second of a large matrix product, a multiply-add being two.
    pub product_gflops: f64,
    /// The same of a product in f16, where the engine has it.
    pub product_f16_gflops: Option<f64>,
    /// The products in f32 and in f16 that these rates are of, where it is known.
    pub products: [Option<LargeProduct>; 2],
    /// 10⁹ bytes a second, read and written, of a large copy.
    pub copy_gbs: f64,
    /// Microseconds of a launch that does nothing, one after another: the slope of the time over
    /// the number of launches.
    pub launch_us: f64,
    /// Microseconds of the host's time for recording and submitting a launch of a loaded program once
    /// more, the same slope; 0 on the CPU engine, which has nothing to record.
    pub submit_us: f64,
}

/// What limits a kernel's launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Floating-point operations.
    Compute,
    /// Bytes.
    Bandwidth,
    /// Launching takes longer than either.
    Launch,
}

impl Limit {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Compute => "compute",
            Limit::Bandwidth => "bandwidth",
            Limit::Launch => "launch",
        }
    }
}

/// All launches of one kernel in a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelCost {
    /// The kernel.
    pub kernel: &'static str,
    /// Launches.
    pub launches: usize,
    /// Their operations and bytes together.
    pub cost: Cost,
    /// Predicted milliseconds.
    pub ms: f64,
    /// What takes the most of them.
    pub limit: Limit,
}

impl DeviceRates {
    /// Measures an engine's device; a second or two.
    ///
    /// # Errors
    /// The device failed.
    pub fn measure(engine: &Engine) -> Result<Self> {
        let product = LargeProduct::measure(engine, Precision::F32, RUNS)?;
        let product_f16 = match engine.supports(Precision::F16) {
            true => Some(LargeProduct::measure(engine, Precision::F16, RUNS)?),
            false => None,
        };
        let is_card = is_card(engine);
        let copies = |words: usize, count: usize| -> Result<Recording> {
            let mut recording = Recording::new();
            // A parameter lies on the device once, whatever reads it; memory from which the host reads outputs would
            // be in nobody's use.
            let (from, to) = match is_card {
                true => (Role::Parameter, Role::Temporary),
                false => (Role::Input, Role::Output),
            };
            let source = recording.buffer(NAMES[1], words, DType::F32, from)?;
            let target = recording.buffer(NAMES[2], words, DType::F32, to)?;
            // Rows, so that the CPU engine takes all its threads.
            let rows = |view| Rows::new(view, 4096);
            for _ in 0..count {
                let copy = Combine::copy([words / 4096, 4096], rows(source), rows(target));
                recording.launch(copy, &[source, target])?;
            }
            Ok(recording)
        };
        let fits = is_card && engine.check(&copies(LARGE_COPY, 1)?).is_ok();
        let words = if fits { LARGE_COPY } else { COPY };
        let store = engine.store();
        if is_card {
            store.set(NAMES[1], &numbers(words))?;
        }
        let copied = |count: usize| median(&mut load(engine, &copies(words, count)?, &store)?);
        let copy_ms = match is_card {
            true => {
                let [one, several] = [copied(COPIES[0])?, copied(COPIES[1])?];
                let slope = (several - one) / (COPIES[1] - COPIES[0]) as f64;
                if slope > 0.0 { slope } else { one }
            }
            false => copied(1)?,
        };
        let (mut chains, mut submits) = ([0.0; 2], [0.0; 2]);
        for ((ms, submit), launches) in chains.iter_mut().zip(&mut submits).zip(CHAINS) {
            let mut recording = Recording::new();
            let word = recording.buffer(NAMES[1], 1, DType::F32, Role::Output)?;
            for _ in 0..launches {
                recording.launch(Fill::new(word, 1.0), &[word])?;
            }
            let mut program = engine.load(&recording, &engine.store())?;
            *ms = median(&mut program)?;
            if program.gpu().is_some() {
                *submit = median_of(&mut program, submission)?;
            }
        }
        let slope = |ms: [f64; 2]| 1e3 * (ms[1] - ms[0]) / (CHAINS[1] - CHAINS[0]) as f64;
        Ok(DeviceRates {
            product_gflops: product.gflops(),
            product_f16_gflops: product_f16.map(|product| product.gflops()),
            products: [Some(product), product_f16],
            copy_gbs: (2 * words * WORD_BYTES) as f64 / (copy_ms * 1e6),
            launch_us: slope(chains).max(0.0),
            submit_us: slope(submits).max(0.0),
        })
    }

    /// The rate of large products in a precision, or the f32 one where it was not measured.
    pub fn product_gflops_in(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.product_gflops,
            Precision::F16 => self.product_f16_gflops.unwrap_or(self.product_gflops),
        }
    }

    /// The large product in a precision, where it was measured.
    pub fn large_product(&self, precision: Precision) -> Option<LargeProduct> {
        let [single, half] = self.products;
        if precision == Precision::F16 { half } else { single }
    }

    /// Milliseconds of one launch, and what takes the most of them: a launch costs its own time and
    /// the longer of its arithmetic and its bytes.
    fn launch(&self, cost: Cost, precision: Precision) -> (f64, Limit) {
        let compute = cost.flops as f64 / (self.product_gflops_in(precision) * 1e6);
        let bytes = cost.bytes as f64 / (self.copy_gbs * 1e6);
        let launch = self.launch_us / 1e3;
        let (work, limit) =
            if compute > bytes { (compute, Limit::Compute) } else { (bytes, Limit::Bandwidth) };
        (launch + work, if launch > work { Limit::Launch } else { limit })
    }

    /// Milliseconds that a whole recording should take.
    pub fn predicted_ms(&self, recording: &Recording) -> f64 {
        self.predict(recording).iter().map(|kernel| kernel.ms).sum()
    }

    /// A recording kernel by kernel, those that take the longest first.
    pub fn predict(&self, recording: &Recording) -> Vec<KernelCost> {
        let mut kernels: BTreeMap<&'static str, (KernelCost, [f64; 3])> = BTreeMap::new();
        for launch in recording.launches() {
            let kernel = launch.op.kernel();
            let cost = recording.launch_cost(launch);
            let (ms, limit) = self.launch(cost, product_precision(recording, launch));
            let none = KernelCost {
                kernel: kernel.name(),
                launches: 0,
                cost: Cost::default(),
                ms: 0.0,
                limit,
            };
            let (sum, by_limit) = kernels.entry(kernel.name()).or_insert((none, [0.0; 3]));
            sum.launches += 1;
            sum.cost = sum.cost + cost;
            sum.ms += ms;
            by_limit[limit as usize] += ms;
        }
        let all = [Limit::Compute, Limit::Bandwidth, Limit::Launch];
        let mut list: Vec<KernelCost> = kernels
            .into_values()
            .map(|(sum, by_limit)| {
                let most =
                    |a: &Limit, b: &Limit| by_limit[*a as usize].total_cmp(&by_limit[*b as usize]);
                KernelCost { limit: all.into_iter().max_by(most).unwrap_or(sum.limit), ..sum }
            })
            .collect();
        list.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        list
    }
}

/// F16 for a product of two operands in f16, and for steps that multiply in matrices: they have the rate of such products.
fn product_precision(recording: &Recording, launch: &Launch) -> Precision {
    let in_matrices = match &launch.op {
        Op::SequenceForward(op) => op.cut.matrices.is_some(),
        Op::SequenceBackward(op) => op.cut.matrices.is_some(),
        Op::StepForward(op) => op.kind.matrices.is_some(),
        Op::StepBackward(op) => op.kind.matrices.is_some(),
        _ => false,
    };
    if in_matrices {
        return Precision::F16;
    }
    let bindings = recording.bindings(launch);
    let mut operands = bindings.iter().filter(|binding| ["a", "b"].contains(&binding.name));
    match launch.op.kernel().name() {
        "matmul" if operands.all(|operand| operand.dtype == DType::F16) => Precision::F16,
        _ => Precision::F32,
    }
}

/// The host's part of a run: until it is submitted.
fn submission(program: &mut Program) -> Result<Duration> {
    let start = Instant::now();
    program.run()?;
    let took = start.elapsed();
    program.wait()?;
    Ok(took)
}

/// Milliseconds of a run, the median of a few.
fn median(program: &mut Program) -> Result<f64> {
    median_of(program, super::timing::time)
}

/// The median of a few times in milliseconds, after one that warms up.
fn median_of(
    program: &mut Program,
    time: impl Fn(&mut Program) -> Result<Duration>,
) -> Result<f64> {
    time(program)?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(time(program)?.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::CellKind;
    use crate::layer::Memory;
    use crate::measure::RecurrentShape;

    const RATES: DeviceRates = DeviceRates {
        product_gflops: 1.0,
        product_f16_gflops: Some(2.0),
        products: [None; 2],
        copy_gbs: 1.0,
        launch_us: 10.0,
        submit_us: 1.0,
    };

    fn costs(cell: CellKind, shape: [usize; 5]) -> Vec<KernelCost> {
        costs_in(Precision::F32, cell, shape)
    }

    fn costs_in(
        precision: Precision,
        cell: CellKind,
        [time, batch, input, hidden, layers]: [usize; 5],
    ) -> Vec<KernelCost> {
        let shape = RecurrentShape {
            cell,
            time,
            batch,
            input,
            hidden,
            layers,
            heads: 1,
            bidirectional: false,
            shortest: time,
            memory: Memory::Keep,
            precision,
        };
        RATES.predict(&shape.record(true).unwrap())
    }

    fn of(list: &[KernelCost], kernel: &str) -> (usize, u64) {
        let found = list.iter().find(|k| k.kernel == kernel).unwrap();
        (found.launches, found.cost.flops)
    }

    /// Products by hand: an input product, its two gradients and the recurrent weights' one are each
    /// 2·rows·columns·terms; a step multiplies 2·B·G·H·H forward, and backward but for the last step;
    /// the gates take 60 operations a unit (LSTM), 45 (GRU) or 10 (RNN).
    #[test]
    fn flops_and_launches_meet_a_hand_count() {
        // LSTM T3 B2 I5 H4: 6 rows, 16 columns.
        let list = costs(CellKind::Lstm, [3, 2, 5, 4, 1]);
        let gates = 60 * 2 * 4;
        assert_eq!(of(&list, "matmul"), (4, 2 * 6 * 16 * (5 + 5 + 5 + 4)));
        assert_eq!(of(&list, "step_forward"), (3, 3 * (2 * 2 * 16 * 4 + gates)));
        assert_eq!(of(&list, "step_backward"), (3, 2 * (2 * 2 * 16 * 4) + 3 * gates));
        // Two layers of GRU T4 B3 I2 H5: 12 rows, 15 columns. The gradient of n's recurrent product
        // lies apart: one product more a layer for the weights.
        let list = costs(CellKind::Gru, [4, 3, 2, 5, 2]);
        let gates = 45 * 3 * 5;
        assert_eq!(of(&list, "matmul"), (10, 2 * 12 * 15 * (3 * 2 + 5 + 3 * 5 + 5)));
        assert_eq!(of(&list, "step_forward"), (8, 8 * (2 * 3 * 15 * 5 + gates)));
        assert_eq!(of(&list, "step_backward"), (8, 6 * (2 * 3 * 15 * 5) + 8 * gates));
        // RNN T2 B1 I7 H3: 2 rows, 3 columns.
        let list = costs(CellKind::RnnTanh, [2, 1, 7, 3, 1]);
        assert_eq!(of(&list, "matmul"), (4, 2 * 2 * 3 * (7 + 7 + 7 + 3)));
        assert_eq!(of(&list, "step_forward"), (2, 2 * (2 * 3 * 3 + 10 * 3)));
        assert_eq!(of(&list, "step_backward"), (2, 2 * 3 * 3 + 2 * 10 * 3));
    }

    /// Bytes by hand, LSTM T3 B2 I5 H4: each operand once, in f16 two bytes but for what stays f32.
    #[test]
    fn bytes_meet_a_hand_count() {
        for (precision, size) in [(Precision::F32, 4), (Precision::F16, 2)] {
            let list = costs_in(precision, CellKind::Lstm, [3, 2, 5, 4, 1]);
            let bytes = |kernel: &str| list.iter().find(|k| k.kernel == kernel).unwrap().cost.bytes;
            // A step forward: four words of each of 8 units come and four go, U [16,4], h and c of 8
            // units before and behind it; b [16].
            let step = 8 * (4 + 4) + 16 * 4 + 2 * 16;
            assert_eq!(bytes("step_forward"), 3 * (step * size + 16 * 4));
            // Backward: four words come and four go, h and c before and c behind; the carry of 16 words
            // comes and goes; the gradient of 8 outputs. All but the last hear the next one: its four
            // words, and U.
            let (step, heard) = (8 * (4 + 4) + 16 + 8 + 8, 8 * 4 + 16 * 4);
            assert_eq!(bytes("step_backward"), (3 * step + 2 * heard) * size + 3 * 2 * 16 * 4);
            // Products: gates [6,16] = x [6,5]·W [16,5]ᵀ + b, and dx; what the host reads or writes and
            // the weights' gradients are f32.
            let (x, w, gates) = (6 * 5, 16 * 5, 6 * 16);
            let products = (x + w + gates) * size + 16 * 4 + (gates + w) * size + x * 4;
            let sums =
                (gates + x) * size + (w + 16) * 4 + (gates + 6 * 4) * size + (16 * 4 + 16) * 4;
            assert_eq!(bytes("matmul"), products + sums);
        }
    }

    #[test]
    fn a_launch_costs_its_own_time_and_the_longer_of_two() {
        let (ms, limit) = RATES.launch(Cost { flops: 4_000_000, bytes: 1_000_000 }, Precision::F32);
        assert!((ms - 4.01).abs() < 1e-9 && limit == Limit::Compute);
        let (ms, limit) = RATES.launch(Cost { flops: 4_000_000, bytes: 1_000_000 }, Precision::F16);
        assert!((ms - 2.01).abs() < 1e-9 && limit == Limit::Compute);
        let (ms, limit) = RATES.launch(Cost { flops: 1, bytes: 2_000_000 }, Precision::F32);
        assert!((ms - 2.01).abs() < 1e-9 && limit == Limit::Bandwidth);
        let (ms, limit) = RATES.launch(Cost::default(), Precision::F32);
        assert!((ms - 0.01).abs() < 1e-9 && limit == Limit::Launch);
    }

    #[test]
    fn a_device_is_measured() {
        let rates = DeviceRates::measure(&Engine::cpu(Some(1)).unwrap()).unwrap();
        assert_eq!(rates.large_product(Precision::F32).unwrap().gflops(), rates.product_gflops);
        assert!(rates.product_gflops > 0.1 && rates.copy_gbs > 0.01 && rates.launch_us >= 0.0);
    }
}
