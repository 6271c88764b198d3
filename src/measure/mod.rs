//! How fast an engine runs a recurrent layer, and its own large matrix product to compare with.
//!
//! Where the CPU computes, inference, training and the product take turns, so that whatever else the machine does
//! meanwhile falls on all three alike. A GPU's product is the one that its rates were measured with, once for all
//! shapes. Times are of whole runs: from the submission to the device's last word, on the host's clock.

mod latency;
mod model;
#[cfg(feature = "plot")]
mod plot;
mod product;
mod profile;
mod suites;
mod timing;

pub use latency::{Latency, latency};
pub use model::{DeviceRates, KernelCost, Limit};
#[cfg(feature = "plot")]
pub use plot::{RooflinePoint, roofline};
pub use product::LargeProduct;
pub(crate) use profile::median;
pub use profile::{KernelTime, Profile};
pub use suites::Suite;
pub use timing::Timing;

use crate::cell::CellKind;
use crate::engine::{Engine, Program, Store, WeightFormat};
use crate::error::{Error, Result};
use crate::kernel::{Cost, LossScale};
use crate::layer::{Direction, InitialState, Initializer, Memory, Merge, Recurrent, Sequence};
use crate::recording::{Recording, Role};
use crate::schedule::Recorder;
use crate::tensor::{DType, NamedTensors, Precision};
use product::{is_card, numbers};
use std::time::Duration;
use timing::take_turns;

/// The seed of weights, inputs and output gradients.
const SEED: u64 = 1;

/// The name of the layer, of its input, of its output's gradient and of the lengths in the recordings.
const NAMES: [&str; 4] = ["layer", "x", "d_output", "lengths"];

/// A stack of recurrent layers over a batch of sequences of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentShape {
    /// The equations.
    pub cell: CellKind,
    /// T, steps.
    pub time: usize,
    /// B, sequences.
    pub batch: usize,
    /// I, the width of the first layer's input.
    pub input: usize,
    /// H, units of each layer.
    pub hidden: usize,
    /// L, layers.
    pub layers: usize,
    /// Blocks of block-diagonal recurrent weights; 1: dense.
    pub heads: usize,
    /// Each layer goes over the steps in both directions, side by side in its output.
    pub bidirectional: bool,
    /// The shortest sequence: their lengths are spread evenly from here to T, in no order. T: all are
    /// whole.
    pub shortest: usize,
    /// What is kept between forward and backward.
    pub memory: Memory,
    /// How activations and the weights in products are stored.
    pub precision: Precision,
}

impl RecurrentShape {
    fn layer(&self) -> Recurrent {
        let RecurrentShape { layers, heads, memory, .. } = *self;
        let direction = match self.bidirectional {
            true => Direction::Both(Merge::Concat),
            false => Direction::Forward,
        };
        Recurrent {
            direction,
            layers,
            heads,
            memory,
            ..Recurrent::new(NAMES[0], self.cell, self.input, self.hidden)
        }
    }

    /// Floating-point operations of the matrix products of all layers, a multiply-add being two:
    /// 2·T·B·G·H·(I + H/heads) forward, of each direction (I alone for scans; with lengths, their sum for T·B),
    /// three times that in training (backward has a product for the
    /// inputs' gradient and one for the weights'). What the gates cost is left out, and so is what
    /// a strategy does besides: the number is of the layer, not of the way it is run.
    pub fn product_flops(&self, training: bool) -> f64 {
        let rows = self.lengths().iter().map(|&n| f64::from(n)).sum::<f64>();
        let [i, h] = [self.input, self.hidden].map(|n| n as f64);
        // A scan has no recurrent product.
        let heard = if self.cell.is_scan() { 0.0 } else { h / self.heads as f64 };
        let directions = self.directions() as f64;
        let widths = i + heard + (self.layers as f64 - 1.0) * (directions * h + heard);
        let forward = 2.0 * rows * directions * self.cell.gates() as f64 * h * widths;
        if training { 3.0 * forward } else { forward }
    }

    fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// The length of each sequence.
    fn lengths(&self) -> Vec<u32> {
        let (batch, range) = (self.batch, self.time.saturating_sub(self.shortest));
        // A step that has no divisor in common with B takes every row once.
        let gcd = |mut a: usize, mut b: usize| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let step = (batch * 5 / 8..).find(|&step| gcd(step.max(1), batch) == 1).unwrap_or(1);
        let place = |b: usize| b * step.max(1) % batch;
        let length = |b: usize| self.time - range + range * place(b) / (batch - 1).max(1);
        (0..batch).map(|b| length(b) as u32).collect()
    }

    /// Inference forward; or, for `training`, forward and backward from a given gradient of the
    /// outputs to the gradients of all weights and of the input. Initial states are zeros; there
    /// is neither dropout nor an optimizer.
    ///
    /// # Errors
    /// A size of zero, or sizes beyond 32 bits.
    pub fn record(&self, training: bool) -> Result<Recording> {
        let too_large = || Error::invalid(format!("{} x {} rows", self.time, self.batch));
        let rows = self.time.checked_mul(self.batch).ok_or_else(too_large)?;
        let rec = if training { Recorder::training() } else { Recorder::inference() };
        let mut rec = rec.with_precision(self.precision);
        let x = rec.input(NAMES[1], [rows, self.input], true)?;
        let mut sequence = Sequence::new(self.time, self.batch);
        if self.shortest < self.time {
            sequence = sequence.with_lengths(rec.input_ids(NAMES[3], self.batch)?);
        }
        let output = self.layer().record(&mut rec, x, sequence, &InitialState::Zero)?.output;
        if training {
            let seed = rec.input(NAMES[2], [rows, output.columns], false)?;
            rec.seed_gradient(output, seed)?;
            rec.backward()?;
        }
        Ok(rec.finish())
    }

    /// [`RecurrentShape::record`] on an engine, with random weights and inputs.
    ///
    /// # Errors
    /// As [`RecurrentShape::record`]; a limit of the device or too little memory.
    pub fn load(&self, engine: &Engine, training: bool) -> Result<Program> {
        let recording = self.record(training)?;
        engine.check(&recording)?;
        let store = self.store(engine, &self.weights())?;
        self.load_recorded(engine, &recording, &store)
    }

    fn weights(&self) -> NamedTensors {
        let mut weights = NamedTensors::new();
        self.layer().init(&mut Initializer::new(SEED), &mut weights);
        weights
    }

    fn store(&self, engine: &Engine, weights: &NamedTensors) -> Result<Store> {
        let store = engine.store();
        store.set_all(weights)?;
        // The gradient of the outputs is what it is given as.
        store.set(LossScale::NAME, &LossScale::NEUTRAL)?;
        Ok(store)
    }

    fn load_recorded(
        &self,
        engine: &Engine,
        recording: &Recording,
        store: &Store,
    ) -> Result<Program> {
        let mut program = load(engine, recording, store)?;
        if let Ok(lengths) = program.find(NAMES[3]) {
            program.write_u32(lengths, &self.lengths())?;
        }
        Ok(program)
    }
}

/// Loads a recording and fills its inputs of floats with random numbers of \[−1, 1).
fn load(engine: &Engine, recording: &Recording, store: &Store) -> Result<Program> {
    let mut program = engine.load(recording, store)?;
    for (id, buffer) in recording.iter() {
        if buffer.role == Role::Input && buffer.dtype == DType::F32 {
            program.write(id, &numbers(buffer.len))?;
        }
    }
    Ok(program)
}

/// What [`recurrent`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// Inference.
    pub forward: Timing,
    /// Forward and backward of training.
    pub forward_backward: Timing,
    /// The rate of `forward`, by [`RecurrentShape::product_flops`].
    pub forward_gflops: f64,
    /// The rate of `forward_backward`, likewise.
    pub forward_backward_gflops: f64,
    /// Large products of square matrices on the same engine, in the shape's precision: one in f32, eight
    /// and the copies of their operands in f16. Of a GPU those of [`DeviceRates`], where they have them.
    pub product: Timing,
    /// The number of rows and of columns of its matrices.
    pub product_size: usize,
    /// Its rate: what the engine's own products reach at best.
    pub peak_gflops: f64,
    /// What forward, and forward and backward, should take by [`DeviceRates::predict`], in milliseconds.
    pub predicted_ms: [f64; 2],
    /// Operations and bytes of forward and backward, as the recording counts them.
    pub cost: Cost,
    /// Kernel launches of forward and backward.
    pub launches: usize,
    /// Bytes that forward and backward hold, weights and inputs included. The weights' gradients
    /// count while backward works on them: no optimizer waits for them.
    pub peak_bytes: u64,
}

/// Measures a stack of recurrent layers for about as long as `budget`, or up to five times that
/// where there would be fewer than five runs, but at least one; loading and warming up come on top.
/// `rates` are the engine's, for what it should take. Forward is with weights as the engine keeps them, training in f32.
///
/// # Errors
/// A size of zero, sizes beyond 32 bits, a limit of the device, too little memory, a lost device.
pub fn recurrent(
    engine: &Engine,
    rates: &DeviceRates,
    shape: &RecurrentShape,
    budget: Duration,
) -> Result<Measurement> {
    let recordings = [shape.record(false)?, shape.record(true)?];
    let trainer = engine.with_weights(WeightFormat::F32)?;
    engine.check(&recordings[0])?;
    trainer.check(&recordings[1])?;
    let weights = shape.weights();
    let store = shape.store(&trainer, &weights)?;
    let training = shape.load_recorded(&trainer, &recordings[1], &store)?;
    let (launches, peak_bytes) = (training.launches(), training.plan().peak_bytes());
    // Training without an optimizer leaves the weights alone. The CPU engine keeps them in another form for inference.
    let store = match engine {
        Engine::Gpu(_) => store,
        Engine::Cpu(_) => shape.store(engine, &weights)?,
    };
    let inference = shape.load_recorded(engine, &recordings[0], &store)?;
    drop(weights);
    // As they were loaded: by now the strategies are measured.
    let arranged = recordings.each_ref().map(|recording| engine.arranged(recording));
    let predicted_ms = arranged.each_ref().map(|recording| rates.predicted_ms(recording));
    let cost = arranged[1].cost();
    drop(arranged);
    drop(recordings);
    let known = rates.large_product(shape.precision);
    let (forward, forward_backward, product) = match known {
        Some(known) if is_card(engine) => {
            let [forward, both] = take_turns(&mut [inference, training], budget)?;
            (forward, both, known)
        }
        _ => {
            let (size, product) = match known {
                Some(LargeProduct { size, .. }) => {
                    (size, product::of_size(engine, shape.precision, size)?)
                }
                None => product::find(engine, shape.precision)?,
            };
            let mut programs = [inference, training, product];
            let [forward, both, timing] = take_turns(&mut programs, budget)?;
            let count = product::count(shape.precision);
            (forward, both, LargeProduct { size, count, timing })
        }
    };
    Ok(Measurement {
        forward,
        forward_backward,
        forward_gflops: forward.gflops(shape.product_flops(false)),
        forward_backward_gflops: forward_backward.gflops(shape.product_flops(true)),
        product: product.timing,
        product_size: product.size,
        peak_gflops: product.gflops(),
        predicted_ms,
        cost,
        launches,
        peak_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: RecurrentShape = RecurrentShape {
        cell: CellKind::Lstm,
        time: 3,
        batch: 2,
        input: 5,
        hidden: 4,
        layers: 2,
        heads: 1,
        bidirectional: false,
        shortest: 3,
        memory: Memory::Keep,
        precision: Precision::F32,
    };

    #[test]
    fn flops_meet_the_recording_but_for_the_gates_and_the_last_step() {
        // 2·T·B·G·H·(I+H) = 2·6·16·(5+4), and (4+4) in the second layer.
        assert_eq!(SHAPE.product_flops(false), (192 * 9 + 192 * 8) as f64);
        let both = RecurrentShape { bidirectional: true, ..SHAPE };
        assert_eq!(both.product_flops(false), (2 * (192 * 9 + 192 * 12)) as f64);
        // Where H is large, the products are nearly all there is.
        for cell in CellKind::ALL {
            let shape =
                RecurrentShape { cell, time: 64, shortest: 64, batch: 2, hidden: 512, ..SHAPE };
            for training in [false, true] {
                let counted = shape.record(training).unwrap().cost().flops as f64;
                let ratio = counted / shape.product_flops(training);
                assert!((0.98..1.05).contains(&ratio), "{cell:?} {training}: {ratio}");
            }
        }
    }

    #[test]
    fn lengths_are_spread_over_all_rows_in_no_order() {
        let shape = RecurrentShape { time: 40, batch: 16, shortest: 10, ..SHAPE };
        let lengths = shape.lengths();
        assert_eq!(lengths[..4], [10, 32, 22, 12]);
        let mut sorted = lengths.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..16).map(|b| 10 + 2 * b).collect::<Vec<_>>());
        assert_eq!(shape.product_flops(false), f64::from(16 * 25 * 2 * 16 * (9 + 8)));
        assert_eq!(SHAPE.lengths(), [3, 3]);
        // A head hears 4 of 8 units.
        let heads = RecurrentShape { hidden: 8, heads: 2, layers: 1, ..SHAPE };
        assert_eq!(heads.product_flops(false), f64::from(6 * 2 * 32 * (5 + 4)));
        assert!(shape.load(&Engine::cpu(Some(1)).unwrap(), true).unwrap().run().is_ok());
    }

    #[test]
    fn a_measurement_is_whole() {
        let engine = Engine::cpu(Some(1)).unwrap();
        let rates = DeviceRates::measure(&engine).unwrap();
        let found = recurrent(&engine, &rates, &SHAPE, Duration::from_millis(50)).unwrap();
        for timing in [found.forward, found.forward_backward, found.product] {
            assert!(timing.runs >= 1);
            assert!(timing.min_ms > 0.0 && timing.min_ms <= timing.median_ms);
            assert!(timing.median_ms <= timing.max_ms);
        }
        assert!(found.forward_gflops > 0.0 && found.peak_gflops > 0.0);
        assert!(found.launches > 12 && found.peak_bytes > 0);
        assert!(found.predicted_ms[0] > 0.0 && found.predicted_ms[1] > found.predicted_ms[0]);
        assert_eq!(found.cost, SHAPE.record(true).unwrap().cost());
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let engine = Engine::cpu(Some(1)).unwrap();
        let rates = DeviceRates {
            product_gflops: 1.0,
            product_f16_gflops: None,
            products: [None; 2],
            copy_gbs: 1.0,
            launch_us: 1.0,
            submit_us: 1.0,
        };
        for shape in [
            RecurrentShape { time: 0, ..SHAPE },
            RecurrentShape { hidden: 0, ..SHAPE },
            RecurrentShape { layers: 0, ..SHAPE },
            RecurrentShape { hidden: 1 << 20, ..SHAPE },
            RecurrentShape { batch: usize::MAX, ..SHAPE },
        ] {
            assert!(recurrent(&engine, &rates, &shape, Duration::ZERO).is_err(), "{shape:?}");
        }
    }
}
