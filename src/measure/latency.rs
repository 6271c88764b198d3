//! How long a step takes that comes alone: streams in real time.

use super::{RecurrentShape, SEED};
use crate::clock::Instant;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::layer::Initializer;
use crate::live::LiveBatch;
use crate::tensor::{NamedTensors, Precision, WORD_BYTES};
use std::hint::black_box;
use std::time::Duration;

/// Wall times of single steps, one right after another, each from the host's input to the host's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The middle one, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 take no longer, in microseconds.
    pub p99_us: f64,
    /// The longest, in microseconds.
    pub worst_us: f64,
    /// How many there were.
    pub steps: usize,
    /// Bytes of all weights as the engine keeps them, which each step reads.
    pub weight_bytes: usize,
    /// One thread's time to add up as many numbers, in microseconds, the middle one: less than that no step takes that
    /// reads its weights from where they lie. Of a CPU.
    pub weights_us: Option<f64>,
}

/// Parts of the budget: steps and sums take turns by parts, so that neither finds the caches as the other left them.
const PARTS: u32 = 8;

/// Steps, and sums, that a part begins with and that don't count.
const WARM_UP: usize = 20;

/// Measures the steps of as many streams side by side as the shape has sequences ([`LiveBatch`]), for about as long as
/// `budget`; loading comes on top. The shape's lengths do not matter.
///
/// # Errors
/// As [`LiveBatch::new`]; f16, which live batches don't have; a lost device.
pub fn latency(engine: &Engine, shape: &RecurrentShape, budget: Duration) -> Result<Latency> {
    if shape.precision != Precision::F32 {
        return Err(Error::invalid("live batches compute in f32"));
    }
    let stack = shape.layer();
    let (mut generator, mut weights) = (Initializer::new(SEED), NamedTensors::new());
    stack.init(&mut generator, &mut weights);
    let mut weight_bytes: usize = weights.values().map(|tensor| tensor.len() * WORD_BYTES).sum();
    let step = RecurrentShape { time: 1, shortest: 1, ..*shape }.record(false)?;
    for kept in engine.kept_weights(&step) {
        let f32s = weights.get(&kept.tensor).map_or(0, |tensor| tensor.len() * WORD_BYTES);
        weight_bytes = weight_bytes + kept.bytes - f32s;
    }
    let mut live = LiveBatch::new(engine, &stack, &weights, shape.batch)?;
    while live.join().is_some() {}
    let x = generator.uniform(shape.batch * shape.input, 1.0);
    let mut y = live.step(&x)?;
    let numbers = generator.uniform(weight_bytes / WORD_BYTES, 1.0);
    let (mut steps, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..PARTS {
        collect(&mut steps, budget / PARTS, || live.step_into(&x, &mut y))?;
        if engine.kind() == "cpu" {
            let read = || {
                sum(&numbers);
                Ok(())
            };
            collect(&mut sums, budget / PARTS / 8, read)?;
        }
    }
    steps.sort_by(f64::total_cmp);
    sums.sort_by(f64::total_cmp);
    let of = |share: f64| steps[((steps.len() - 1) as f64 * share).round() as usize];
    Ok(Latency {
        p50_us: of(0.5),
        p99_us: of(0.99),
        worst_us: of(1.0),
        steps: steps.len(),
        weight_bytes,
        weights_us: sums.get(sums.len() / 2).copied(),
    })
}

/// Times in microseconds, of at least one.
fn collect(
    times: &mut Vec<f64>,
    budget: Duration,
    mut once: impl FnMut() -> Result<()>,
) -> Result<()> {
    for _ in 0..WARM_UP {
        once()?;
    }
    let begin = Instant::now();
    loop {
        let start = Instant::now();
        once()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        if begin.elapsed() >= budget {
            return Ok(());
        }
    }
}

/// Reads all numbers, as fast as one thread can.
fn sum(numbers: &[f32]) {
    const LANES: usize = 64;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [0f32; LANES];
            for numbers in numbers.as_chunks::<LANES>().0 {
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum += number;
                }
            }
            black_box(sums);
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::CellKind;
    use crate::layer::Memory;

    #[test]
    fn a_latency_is_whole() {
        let shape = RecurrentShape {
            cell: CellKind::Gru,
            time: 1,
            batch: 2,
            input: 5,
            hidden: 4,
            layers: 2,
            heads: 1,
            bidirectional: false,
            shortest: 1,
            memory: Memory::Keep,
            precision: Precision::F32,
        };
        let engine = Engine::cpu(Some(1)).unwrap();
        let found = latency(&engine, &shape, Duration::from_millis(8)).unwrap();
        // W, R and two biases of three gates.
        let words = 3 * 4 * (5 + 4 + 2) + 3 * 4 * (4 + 4 + 2);
        assert_eq!(found.weight_bytes, 4 * words);
        assert!(found.steps >= PARTS as usize && found.weights_us.is_some());
        assert!(0.0 < found.p50_us && found.p50_us <= found.p99_us);
        assert!(found.p99_us <= found.worst_us);
        let half = RecurrentShape { precision: Precision::F16, ..shape };
        assert!(latency(&engine, &half, Duration::ZERO).is_err());
    }
}
