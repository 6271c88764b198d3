//! The conformance suite: every kernel on an engine against the float64 oracle.
//!
//! One suite serves the tests and `recurra verify`: people whose driver is silently wrong are why
//! it is in the library. A [`Report`] is one kernel in one case; the comparer ([`compare`]) is
//! itself tested against planted faults.

mod comparer;
mod harness;
mod kernels;
mod recurrent;
mod suite;

pub use comparer::{Difference, compare};
pub use kernels::kernel_reports;
pub use recurrent::{
    RecurrentCase, random_case, random_shape, record_case, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};
use recurrent::{recurrent_groups, reports_of};
pub use suite::{
    Bounds, Progress, run, run_random, run_random_within, run_within, run_within_async,
};

use crate::error::Error;
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
    /// Why the case could not be run: there are no numbers then, and it does not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
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
            error: None,
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

    /// A case that could not be run.
    fn failed(kernel: String, case: String, error: &Error) -> Self {
        let error = Some(error.to_string());
        let (max_ulp, max_rel) = (f64::NAN, f64::NAN);
        let (tensor, tolerance) = (String::new(), 0.0);
        Report { kernel, case, max_ulp, max_rel, tensor, tolerance, pass: false, error }
    }
}

/// The bound on tensors that are stored as f16: four times what rounding one number may do. The sums behind
/// them are of f32.
const SHORT_BOUND: f64 = 2e-3;
