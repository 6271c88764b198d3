//! How fast an engine runs a recurrent layer, and its own large matrix product to compare with.
//!
//! Inference, training and the product take turns, so that whatever else the machine does meanwhile
//! falls on all three alike. Times are of whole runs: from the submission to the device's last
//! word, on the host's clock.

mod timing;

pub use timing::Timing;

use crate::cell::CellKind;
use crate::engine::{Engine, Program};
use crate::error::{Error, Result};
use crate::kernel::{Matmul, Operand};
use crate::layer::{InitialState, Initializer, Memory, Recurrent};
use crate::recording::{Recording, Role};
use crate::schedule::Recorder;
use crate::tensor::{DType, NamedTensors};
use std::time::Duration;
use timing::{take_turns, time};

/// The product grows until one takes this long.
const PRODUCT_TIME: Duration = Duration::from_millis(30);

/// The seed of weights, inputs and output gradients.
const SEED: u64 = 1;

/// The name of the layer, of its input and of its output's gradient in the recordings.
const NAMES: [&str; 3] = ["layer", "x", "d_output"];

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
    /// What is kept between forward and backward.
    pub memory: Memory,
}

impl RecurrentShape {
    fn layer(&self) -> Recurrent {
        let RecurrentShape { layers, memory, .. } = *self;
        Recurrent { layers, memory, ..Recurrent::new(NAMES[0], self.cell, self.input, self.hidden) }
    }

    /// Floating-point operations of the matrix products of all layers, a multiply-add being two:
    /// 2·T·B·G·H·(I + H) forward (I alone for scans),
    /// three times that in training (backward has a product for the
    /// inputs' gradient and one for the weights'). What the gates cost is left out, and so is what
    /// a strategy does besides: the number is of the layer, not of the way it is run.
    pub fn product_flops(&self, training: bool) -> f64 {
        let [t, b, i, h] = [self.time, self.batch, self.input, self.hidden].map(|n| n as f64);
        // A scan has no recurrent product.
        let heard = if self.cell.is_scan() { 0.0 } else { h };
        let widths = i + heard + (self.layers as f64 - 1.0) * (h + heard);
        let forward = 2.0 * t * b * self.cell.gates() as f64 * h * widths;
        if training { 3.0 * forward } else { forward }
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
        let mut rec = if training { Recorder::training() } else { Recorder::inference() };
        let x = rec.input(NAMES[1], [rows, self.input], true)?;
        let shape = [self.time, self.batch];
        let output = self.layer().record(&mut rec, x, shape, &InitialState::Zero)?.output;
        if training {
            let seed = rec.input(NAMES[2], [rows, self.hidden], false)?;
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
        let mut generator = Initializer::new(SEED);
        let mut weights = NamedTensors::new();
        self.layer().init(&mut generator, &mut weights);
        let store = engine.store();
        store.set_all(&weights)?;
        load(engine, &recording, &store, &mut generator)
    }
}

/// Loads a recording and fills its inputs of floats with random numbers of \[−1, 1).
fn load(
    engine: &Engine,
    recording: &Recording,
    store: &crate::engine::Store,
    generator: &mut Initializer,
) -> Result<Program> {
    let mut program = engine.load(recording, store)?;
    for (id, buffer) in recording.iter() {
        if buffer.role == Role::Input && buffer.dtype == DType::F32 {
            program.write(id, &generator.uniform(buffer.len, 1.0))?;
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
    /// A large product of square matrices on the same engine.
    pub product: Timing,
    /// The number of rows and of columns of its matrices.
    pub product_size: usize,
    /// Its rate: what the engine's own products reach at best.
    pub peak_gflops: f64,
    /// Kernel launches of forward and backward.
    pub launches: usize,
    /// Bytes that forward and backward hold, weights and inputs included. The weights' gradients
    /// count while backward works on them: no optimizer waits for them.
    pub peak_bytes: u64,
}

/// Measures a stack of recurrent layers for about as long as `budget`, or up to five times that
/// where there would be fewer than five runs, but at least one; loading and warming up come on top.
///
/// # Errors
/// A size of zero, sizes beyond 32 bits, a limit of the device, too little memory, a lost device.
pub fn recurrent(engine: &Engine, shape: &RecurrentShape, budget: Duration) -> Result<Measurement> {
    let training = shape.load(engine, true)?;
    let (launches, peak_bytes) = (training.launches(), training.plan().peak_bytes());
    let inference = shape.load(engine, false)?;
    let (product_size, product) = large_product(engine)?;
    let mut programs = [inference, training, product];
    let [forward, forward_backward, product] = take_turns(&mut programs, budget)?;
    Ok(Measurement {
        forward,
        forward_backward,
        forward_gflops: forward.gflops(shape.product_flops(false)),
        forward_backward_gflops: forward_backward.gflops(shape.product_flops(true)),
        product,
        product_size,
        peak_gflops: product.gflops(2.0 * (product_size as f64).powi(3)),
        launches,
        peak_bytes,
    })
}

/// A product of square matrices, as large as takes [`PRODUCT_TIME`] or the largest that is tried.
fn large_product(engine: &Engine) -> Result<(usize, Program)> {
    const SIZES: [usize; 5] = [256, 512, 1024, 2048, 4096];
    let mut found = None;
    for n in SIZES {
        let mut recording = Recording::new();
        let mut matrix = |name, role| recording.buffer(name, n * n, DType::F32, role);
        let views =
            [matrix("a", Role::Input)?, matrix("b", Role::Input)?, matrix("c", Role::Output)?];
        let [a, b, c] = views.map(|view| Operand::new(view, n));
        recording.launch(Matmul::new([n, n, n], a, b, c), &views)?;
        let mut program = load(engine, &recording, &engine.store(), &mut Initializer::new(SEED))?;
        time(&mut program)?;
        let took = time(&mut program)?;
        found = Some((n, program));
        if took >= PRODUCT_TIME {
            break;
        }
    }
    Ok(found.expect("there is a first size"))
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
        memory: Memory::Keep,
    };

    #[test]
    fn flops_meet_the_recording_but_for_the_gates_and_the_last_step() {
        // 2·T·B·G·H·(I+H) = 2·6·16·(5+4), and (4+4) in the second layer.
        assert_eq!(SHAPE.product_flops(false), (192 * 9 + 192 * 8) as f64);
        // Where H is large, the products are nearly all there is.
        for cell in CellKind::ALL {
            let shape = RecurrentShape { cell, time: 64, batch: 2, hidden: 512, ..SHAPE };
            for training in [false, true] {
                let counted = shape.record(training).unwrap().cost().flops as f64;
                let ratio = counted / shape.product_flops(training);
                assert!((0.98..1.05).contains(&ratio), "{cell:?} {training}: {ratio}");
            }
        }
    }

    #[test]
    fn a_measurement_is_whole() {
        let engine = Engine::cpu(Some(1)).unwrap();
        let found = recurrent(&engine, &SHAPE, Duration::from_millis(50)).unwrap();
        for timing in [found.forward, found.forward_backward, found.product] {
            assert!(timing.runs >= 1);
            assert!(timing.min_ms > 0.0 && timing.min_ms <= timing.median_ms);
            assert!(timing.median_ms <= timing.max_ms);
        }
        assert!(found.forward_gflops > 0.0 && found.peak_gflops > 0.0);
        assert!(found.launches > 12 && found.peak_bytes > 0);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let engine = Engine::cpu(Some(1)).unwrap();
        for shape in [
            RecurrentShape { time: 0, ..SHAPE },
            RecurrentShape { hidden: 0, ..SHAPE },
            RecurrentShape { layers: 0, ..SHAPE },
            RecurrentShape { hidden: 1 << 20, ..SHAPE },
            RecurrentShape { batch: usize::MAX, ..SHAPE },
        ] {
            assert!(recurrent(&engine, &shape, Duration::ZERO).is_err(), "{shape:?}");
        }
    }
}
