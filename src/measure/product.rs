//! The large matrix product of an engine, which rates are shares of, and the numbers that inputs are filled with.

use super::timing::{Timing, time};
use super::{SEED, load};
use crate::engine::{Engine, Program};
use crate::error::Result;
use crate::layer::Initializer;
use crate::recording::Recording;
use crate::schedule::{Recorder, Var};
use crate::tensor::Precision;
use std::time::Duration;

/// The product grows until one takes this long.
const PRODUCT_TIME: Duration = Duration::from_millis(30);

/// Rows, columns and terms that are tried.
const SIZES: [usize; 5] = [256, 512, 1024, 2048, 4096];

/// Random numbers that are drawn; longer inputs repeat them. No width of a matrix divides it, so rows differ.
const DRAWN: usize = 1_000_003;

/// Numbers of \[−1, 1), drawn and then repeated: a device takes as long for them as for any others, but not for zeros
/// alone, over which cards go faster.
pub(super) fn numbers(len: usize) -> Vec<f32> {
    let mut numbers = Initializer::new(SEED).uniform(len.min(DRAWN), 1.0);
    numbers.reserve_exact(len - numbers.len());
    while numbers.len() < len {
        let more = DRAWN.min(len - numbers.len());
        numbers.extend_from_within(..more);
    }
    numbers
}

/// A GPU that computes by itself: nothing else on the machine makes its product slower for a while.
pub(super) fn is_card(engine: &Engine) -> bool {
    matches!(engine, Engine::Gpu(gpu) if !gpu.info().software)
}

/// A large product of square matrices, as it was measured on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LargeProduct {
    /// Rows, columns and terms.
    pub size: usize,
    /// Products in a run: one in f32, eight and the copies of their operands in f16.
    pub count: usize,
    /// What runs took.
    pub timing: Timing,
}

impl LargeProduct {
    /// 10⁹ floating-point operations a second in the median run.
    pub fn gflops(&self) -> f64 {
        self.timing.gflops(2.0 * self.count as f64 * (self.size as f64).powi(3))
    }

    /// Measures runs of the largest product that is tried, or the first that takes [`PRODUCT_TIME`].
    pub(super) fn measure(engine: &Engine, precision: Precision, runs: usize) -> Result<Self> {
        let (size, mut program) = find(engine, precision)?;
        let times = (0..runs).map(|_| time(&mut program)).collect::<Result<Vec<_>>>()?;
        Ok(LargeProduct { size, count: count(precision), timing: Timing::new(&times) })
    }
}

/// Products in a run.
pub(super) fn count(precision: Precision) -> usize {
    // In f16 the operands are copied first, which should not count.
    if precision == Precision::F32 { 1 } else { 8 }
}

/// The size that is large enough, and its product, which has run.
pub(super) fn find(engine: &Engine, precision: Precision) -> Result<(usize, Program)> {
    let enough = PRODUCT_TIME * count(precision) as u32;
    let mut next = 0;
    loop {
        let n = SIZES[next];
        let mut program = of_size(engine, precision, n)?;
        time(&mut program)?;
        let took = time(&mut program)?;
        if took >= enough || next + 1 == SIZES.len() {
            return Ok((n, program));
        }
        // Larger ones are as fast or faster: those that take too short a time at this rate are passed over.
        let reaches = |size: &usize| {
            took.as_secs_f64() * (*size as f64 / n as f64).powi(3) >= enough.as_secs_f64()
        };
        let reached = SIZES.iter().position(reaches).unwrap_or(SIZES.len() - 1);
        next = reached.max(next + 1);
    }
}

/// Products of this size, with their operands.
pub(super) fn of_size(engine: &Engine, precision: Precision, n: usize) -> Result<Program> {
    load(engine, &record(engine, precision, n)?, &engine.store())
}

fn record(engine: &Engine, precision: Precision, n: usize) -> Result<Recording> {
    let rec = Recorder::inference();
    let mut rec = rec.with_precision(precision);
    let [a, b] = [rec.input("a", [n, n], false)?, rec.input("b", [n, n], false)?];
    let [a, b] = [rec.in_precision(a)?, rec.in_precision(b)?];
    // A GPU keeps memory for the host to read outputs, which nobody does.
    let c = match (precision, engine) {
        (Precision::F32, Engine::Cpu(_)) => rec.output_buffer("c", [n, n])?,
        _ => rec.temporary("c", [n, n])?,
    };
    for _ in 0..count(precision) {
        rec.product([n; 3], [a, b, c].map(Var::operand), None, None, false)?;
    }
    Ok(rec.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_and_are_as_many_as_asked_for() {
        let long = numbers(2 * DRAWN + 5);
        assert_eq!(long.len(), 2 * DRAWN + 5);
        assert_eq!(long[..DRAWN], long[DRAWN..2 * DRAWN]);
        assert_eq!(long[2 * DRAWN..], long[..5]);
        assert!(long[..1000].iter().any(|n| *n != long[0]));
        assert_eq!(numbers(7), long[..7]);
        assert!(numbers(0).is_empty());
    }

    #[test]
    fn a_product_is_measured() {
        let found =
            LargeProduct::measure(&Engine::cpu(Some(1)).unwrap(), Precision::F32, 2).unwrap();
        assert!(SIZES.contains(&found.size) && found.count == 1 && found.timing.runs == 2);
        assert!(found.gflops() > 0.1);
    }
}
