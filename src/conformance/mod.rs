//! The conformance suite: every kernel on an engine against the float64 oracle.
//!
//! One suite serves the tests and `recurra verify`: people whose driver is silently wrong are why
//! it is in the library. A [`Report`] is one kernel in one case; the comparer ([`compare`]) is
//! itself tested against planted faults.

mod comparer;
mod harness;
mod kernels;
mod recurrent;

pub use comparer::{Difference, compare};
pub use kernels::kernel_reports;
pub use recurrent::{
    RecurrentCase, random_case, random_shape, record_case, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};

use crate::engine::{Cooperative, Engine, Strategy};
use crate::error::{Error, Result};
use crate::tensor::Precision;
use serde::Serialize;

/// How one kernel did in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The kernel, with the cell where it has one, and `f16` where its buffers are of that.
    pub kernel: String,
    /// Shape and options.
    pub case: String,
    /// The largest error in units of float32's last place.
    pub max_ulp: f64,
    /// The largest error relative to the tensor's largest value.
    pub max_rel: f64,
    /// The tensor with that error.
    pub tensor: String,
    /// The bound on `max_rel`.
    pub tolerance: f64,
    /// Within the bound.
    pub pass: bool,
}

impl Report {
    /// The worst of several tensors' differences, each with its tolerance.
    fn worst(
        kernel: impl Into<String>,
        case: impl Into<String>,
        differences: impl IntoIterator<Item = (String, Difference, f64)>,
    ) -> Self {
        let mut report = Report {
            kernel: kernel.into(),
            case: case.into(),
            max_ulp: 0.0,
            max_rel: 0.0,
            tensor: String::new(),
            tolerance: 0.0,
            pass: true,
        };
        for (tensor, difference, tolerance) in differences {
            // Written so that NaN fails.
            let within = difference.max_rel <= tolerance;
            let further = difference.max_rel * report.tolerance > report.max_rel * tolerance;
            if report.tensor.is_empty()
                || (within == report.pass && further)
                || (report.pass && !within)
            {
                (report.tensor, report.tolerance) = (tensor, tolerance);
                report.max_rel = difference.max_rel;
            }
            report.pass &= within;
            report.max_ulp = report.max_ulp.max(difference.max_ulp);
        }
        report
    }
}

/// The bound on tensors that are stored as f16: four times what rounding one number may do. The sums behind
/// them are of f32.
const SHORT_BOUND: f64 = 2e-3;

/// The whole suite on an engine, in each precision that it has, calling `each` with every report as it comes.
///
/// # Errors
/// The engine failed: not a wrong number, which is a report that does not pass.
pub fn run(engine: &Engine, mut each: impl FnMut(&Report)) -> Result<()> {
    let engine = &unmeasured(engine);
    for precision in [Precision::F32, Precision::F16] {
        if engine.supports(precision) {
            kernel_reports(engine, precision, None, &mut each)?;
        }
    }
    let short = engine.supports(Precision::F16).then(recurrent_cases_in_f16);
    recurrent(engine, || recurrent_cases().into_iter().chain(short.iter().flatten().cloned()), each)
}

/// The stacks with random options of these seeds ([`random_case`]), each in so many shapes
/// ([`random_shape`]), as [`run`] does its own.
///
/// # Errors
/// The engine failed.
pub fn run_random(
    engine: &Engine,
    seeds: std::ops::Range<u64>,
    shapes: u64,
    each: impl FnMut(&Report),
) -> Result<()> {
    let engine = &unmeasured(engine);
    let cases = || {
        seeds.clone().flat_map(|seed| {
            let case = random_case(seed);
            (0..shapes.max(1)).map(move |number| random_shape(&case, seed, number))
        })
    };
    recurrent(engine, cases, each)
}

/// Every way is asked for by its name: how fast each is need not be found out.
fn unmeasured(engine: &Engine) -> Engine {
    match engine {
        Engine::Gpu(gpu) => Engine::Gpu(gpu.with_measuring(false)),
        Engine::Cpu(_) => engine.clone(),
    }
}

/// Cases in each way of launching the steps that serves them, or in the one that the engine was asked for.
fn recurrent<I: Iterator<Item = RecurrentCase>>(
    engine: &Engine,
    cases: impl Fn() -> I,
    mut each: impl FnMut(&Report),
) -> Result<()> {
    // The steps are what serves everything.
    for strategy in [Strategy::Step, Strategy::Sequence, Strategy::Grid, Strategy::Wavefront] {
        if ![Strategy::Auto, strategy].contains(&engine.strategy()) {
            continue;
        }
        // A device may lack what a strategy needs.
        let engine = match engine.with_strategy(strategy) {
            Err(Error::Device(_) | Error::Invalid(_)) => continue,
            engine => engine?,
        };
        let kernels = ["forward", "backward"].map(|pass| format!("{}_{pass}", strategy.name()));
        for (engine, only_half) in variants(&engine, strategy) {
            for case in cases().filter(|case| !only_half || case.precision == Precision::F16) {
                let serves = match strategy {
                    Strategy::Step => true,
                    Strategy::Wavefront => {
                        let choices = engine.choices(&record_case(&case)?)?;
                        choices.iter().any(|choice| choice.strategy == strategy)
                    }
                    _ => {
                        let launched = engine.arranged(&record_case(&case)?).census();
                        kernels.iter().any(|kernel| launched.contains_key(kernel.as_str()))
                    }
                };
                if serves {
                    recurrent_reports(&engine, &case)?.iter().for_each(&mut each);
                }
            }
        }
    }
    Ok(())
}

/// An engine as it multiplies, and, where it has cooperative matrices, with them and without: those are of f16 alone.
fn variants(engine: &Engine, strategy: Strategy) -> Vec<(Engine, bool)> {
    if let (Engine::Gpu(gpu), Strategy::Sequence | Strategy::Grid) = (engine, strategy)
        && let Some(&tile) = gpu.cooperative_tiles().first()
    {
        let of = |cooperative| Engine::Gpu(gpu.with_cooperative(cooperative));
        return vec![(of(Cooperative::Never), false), (of(Cooperative::Tile(tile)), true)];
    }
    vec![(engine.clone(), false)]
}
