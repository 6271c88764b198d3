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
pub use recurrent::{RecurrentCase, random_case, record_case, recurrent_cases, recurrent_reports};

use crate::engine::Engine;
use crate::error::Result;
use serde::Serialize;

/// How one kernel did in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The kernel, with the cell where it has one.
    pub kernel: String,
    /// Shape and options.
    pub case: String,
    /// The largest error in units of the last place.
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
    /// The worst of several tensors' differences.
    fn worst(
        kernel: impl Into<String>,
        case: impl Into<String>,
        tolerance: f64,
        differences: impl IntoIterator<Item = (String, Difference)>,
    ) -> Self {
        let mut report = Report {
            kernel: kernel.into(),
            case: case.into(),
            max_ulp: 0.0,
            max_rel: 0.0,
            tensor: String::new(),
            tolerance,
            pass: true,
        };
        for (tensor, difference) in differences {
            if report.tensor.is_empty() || difference.max_rel > report.max_rel {
                report.tensor = tensor;
                report.max_rel = difference.max_rel;
            }
            report.max_ulp = report.max_ulp.max(difference.max_ulp);
        }
        // Written so that NaN fails.
        report.pass = report.max_rel <= tolerance;
        report
    }
}

/// The whole suite on an engine, calling `each` with every report as it comes.
///
/// # Errors
/// The engine failed: not a wrong number, which is a report that does not pass.
pub fn run(engine: &Engine, mut each: impl FnMut(&Report)) -> Result<()> {
    kernel_reports(engine, None, &mut each)?;
    for case in recurrent_cases() {
        recurrent_reports(engine, &case)?.iter().for_each(&mut each);
    }
    Ok(())
}
