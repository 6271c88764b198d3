//! `bench --suite` and `--each`: shapes one after another, over those that fail.

use super::lines::{ErrorLine, ShapeLine, line, rates_line, shape_name, strategy};
use super::{COMMIT, Picture};
use crate::args::{json_line, print_line};
use recurra::engine::{Engine, WeightFormat};
use recurra::layer::Memory;
use recurra::measure::{self, DeviceRates, Measurement, RecurrentShape, Suite};
use recurra::{Error, Result};
use std::process::ExitCode;
use std::time::Duration;

/// A run that is predicted to take longer is left out.
const LONGEST_MS: f64 = 60e3;

/// Segments that are tried for what exceeds a limit of the device have so many steps at least: each is computed twice,
/// and shorter ones would say little of the layer.
const LEAST_SEGMENT: usize = 16;

/// What shapes are measured on, and with.
pub struct Bench<'a> {
    pub engine: Engine,
    pub rates: &'a DeviceRates,
    /// Opens the device again after it failed.
    pub reopen: &'a dyn Fn() -> Result<Engine>,
    /// The time for a shape.
    pub budget: Duration,
    pub picture: Picture<'a>,
}

/// How it went with a shape.
enum Outcome {
    /// The shape as it was run, how its recurrence was launched, and what was measured.
    Found(RecurrentShape, String, Box<Measurement>),
    /// It was not run.
    LeftOut(String),
}

impl Bench<'_> {
    /// Answers each line with a line, until there are no more.
    ///
    /// # Errors
    /// A line that is no shape; the device does not open again.
    pub fn run_each(&mut self, options: &RecurrentShape) -> Result<ExitCode> {
        for (number, text) in std::io::stdin().lines().enumerate() {
            let place = |error: String| Error::invalid(format!("line {}: {error}", number + 1));
            let text = text.map_err(|error| place(error.to_string()))?;
            let asked: ShapeLine =
                serde_json::from_str(&text).map_err(|error| place(error.to_string()))?;
            let mut answer = || {
                let shape = fitted(&self.engine, &asked.shape(options)?)?;
                let found = measure::recurrent(&self.engine, self.rates, &shape, self.budget)?;
                self.picture.add(&shape, &found)?;
                json_line(&line(&self.engine, &shape, strategy(&self.engine, &shape)?, &found))
            };
            match answer() {
                Ok(answer) => print_line(&answer)?,
                Err(error) => {
                    let line = ErrorLine { error: error.to_string(), shape: asked };
                    print_line(&json_line(&line)?)?;
                    self.recover(&error)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Measures a suite's shapes and prints a line of each. A shape that fails is told, and those that follow are measured
    /// all the same; the exit code tells of it.
    ///
    /// # Errors
    /// The device does not open again; what is printed or drawn can't be written.
    pub fn run_suite(&mut self, suite: &Suite, json: bool) -> Result<ExitCode> {
        if !json {
            self.print_head(suite)?;
        }
        let mut code = ExitCode::SUCCESS;
        for shape in &suite.shapes {
            let name = shape_name(shape);
            let (shape, way, found) = match self.trial(shape) {
                Ok(Outcome::Found(shape, way, found)) => (shape, way, found),
                Ok(Outcome::LeftOut(why)) => {
                    if json {
                        eprintln!("{name}: {why}");
                        let shape = ShapeLine::new(shape);
                        print_line(&json_line(&ErrorLine { shape, error: why })?)?;
                    } else {
                        print_line(&format!("{name:<48}{why}"))?;
                    }
                    continue;
                }
                Err(error) => {
                    let why = format!("could not: {error}");
                    eprintln!("{name}: {why}");
                    if json {
                        let shape = ShapeLine::new(shape);
                        print_line(&json_line(&ErrorLine { shape, error: why })?)?;
                    }
                    code = ExitCode::FAILURE;
                    self.recover(&error)?;
                    continue;
                }
            };
            self.picture.add(&shape, &found)?;
            if json {
                print_line(&json_line(&line(&self.engine, &shape, way, &found))?)?;
                continue;
            }
            let note = match shape.memory {
                Memory::Segments(steps) => format!("  in segments of {steps} steps"),
                Memory::Keep | Memory::Budget(_) => String::new(),
            };
            print_line(&format!(
                "{name:<48}{:>12.3}{:>14.3}{:>10.1}{:>7.0} %{:>16.2}{note}",
                found.forward.median_ms,
                found.forward_backward.median_ms,
                found.forward_backward_gflops,
                100.0 * found.forward_backward_gflops / found.peak_gflops,
                found.forward_backward.median_ms / found.predicted_ms[1]
            ))?;
        }
        Ok(code)
    }

    fn print_head(&self, suite: &Suite) -> Result<()> {
        print_line(&format!("{}: {}", suite.name, suite.source))?;
        print_line(&format!(
            "on {}, driver {}, recurra at commit {COMMIT}",
            self.engine.name(),
            self.engine.driver()
        ))?;
        print_line(&rates_line(self.rates))?;
        print_line("")?;
        print_line(&format!(
            "{:<48}{:>12}{:>14}{:>10}{:>9}{:>16}",
            "", "forward ms", "+backward ms", "GFLOP/s", "of peak", "over predicted"
        ))
    }

    /// Measures a shape, unless it is known beforehand that it can't be or takes too long.
    fn trial(&self, shape: &RecurrentShape) -> Result<Outcome> {
        // What is wrong with a shape is no question of the device.
        drop(shape.record(true)?);
        let shape = match fitted(&self.engine, shape) {
            Ok(shape) => shape,
            Err(error) => return Ok(Outcome::LeftOut(format!("does not fit: {error}"))),
        };
        let recording = shape.record(true)?;
        let predicted = self.rates.predicted_ms(&self.engine.arranged(&recording));
        drop(recording);
        if predicted > LONGEST_MS {
            let why = format!("left out: about {:.0} s a run", predicted / 1e3);
            return Ok(Outcome::LeftOut(why));
        }
        let found = measure::recurrent(&self.engine, self.rates, &shape, self.budget)?;
        Ok(Outcome::Found(shape, strategy(&self.engine, &shape)?, Box::new(found)))
    }

    /// Opens the device again where it failed: what was lost answers nothing any more, and shapes are still to come.
    fn recover(&mut self, error: &Error) -> Result<()> {
        if matches!(error, Error::DeviceFailed { .. }) {
            self.engine = (self.reopen)()?;
        }
        Ok(())
    }
}

/// The shape as it fits the engine: as it is, or, where that exceeds a limit of the device and is to be kept whole, in
/// the longest segments that don't, of a half of the steps, a quarter and so on.
fn fitted(engine: &Engine, shape: &RecurrentShape) -> Result<RecurrentShape> {
    let engine = engine.with_weights(WeightFormat::F32)?;
    let check = |shape: &RecurrentShape| engine.check(&shape.record(true)?);
    let error = match check(shape) {
        Ok(()) => return Ok(*shape),
        Err(error) => error,
    };
    if matches!(error, Error::Limit { .. }) && shape.memory == Memory::Keep {
        let mut steps = shape.time.div_ceil(2);
        while steps >= LEAST_SEGMENT {
            let cut = RecurrentShape { memory: Memory::Segments(steps), ..*shape };
            if check(&cut).is_ok() {
                return Ok(cut);
            }
            steps = steps.div_ceil(2);
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use recurra::cell::CellKind;
    use recurra::tensor::Precision;
    use std::cell::Cell;

    const SMALL: RecurrentShape = RecurrentShape {
        cell: CellKind::Lstm,
        time: 3,
        batch: 2,
        input: 4,
        hidden: 6,
        layers: 1,
        heads: 1,
        bidirectional: false,
        shortest: 3,
        memory: Memory::Keep,
        precision: Precision::F32,
    };

    /// Runs a suite on an engine: the exit code, and how often the device was opened again.
    fn run(engine: Engine, shapes: Vec<RecurrentShape>) -> (ExitCode, usize) {
        let opened = Cell::new(0);
        let reopen = || {
            opened.set(opened.get() + 1);
            Engine::named("gpu", None)
        };
        let rates = DeviceRates {
            product_gflops: 100.0,
            product_f16_gflops: None,
            products: [None; 2],
            copy_gbs: 10.0,
            launch_us: 1.0,
            submit_us: 1.0,
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roofline.svg");
        let count = shapes.len();
        let picture = Picture::new(&engine, &rates, None, Some(&file)).unwrap();
        let mut bench =
            Bench { engine, rates: &rates, reopen: &reopen, budget: Duration::ZERO, picture };
        let suite = Suite { name: "some", source: "a test", shapes };
        let code = bench.run_suite(&suite, true).unwrap();
        let drawn = std::fs::read_to_string(&file).unwrap();
        // The first is the one that fails.
        assert_eq!(drawn.matches("<circle").count(), count - 1);
        (code, opened.get())
    }

    #[test]
    fn a_shape_that_fails_ends_no_suite() {
        let wrong = RecurrentShape { hidden: 0, ..SMALL };
        let found = run(Engine::cpu(Some(1)).unwrap(), vec![wrong, SMALL]);
        assert_eq!(found, (ExitCode::FAILURE, 0));
    }

    #[test]
    fn a_device_that_was_lost_is_opened_again() {
        let Ok(engine) = Engine::named("gpu", None) else { return };
        if let Engine::Gpu(gpu) = &engine {
            gpu.device().destroy();
        }
        assert_eq!(run(engine, vec![SMALL, SMALL]), (ExitCode::FAILURE, 1));
    }

    #[test]
    fn what_exceeds_a_limit_goes_in_segments() {
        let Ok(engine) = Engine::named("gpu", None) else { return };
        let Engine::Gpu(gpu) = &engine else { return };
        // The output has a third of a binding: the gates that are kept for backward have more than one.
        let rows = gpu.info().max_storage_binding as usize / 3 / (256 * 4);
        let shape = RecurrentShape { time: rows / 64, batch: 64, hidden: 256, ..SMALL };
        let shape = RecurrentShape { shortest: shape.time, ..shape };
        assert!(engine.check(&shape.record(true).unwrap()).is_err());
        let cut = fitted(&engine, &shape).unwrap();
        assert!(matches!(cut.memory, Memory::Segments(steps) if steps < shape.time), "{cut:?}");
        assert!(engine.check(&cut.record(true).unwrap()).is_ok());
        assert_eq!(fitted(&engine, &SMALL).unwrap(), SMALL);
    }
}
