//! `recurra verify`.

use crate::args::{DeviceArgs, json_line, print_line};
use clap::Args;
use recurra::conformance::{self, Bounds, Report};
use recurra::{Error, Result};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Check every kernel on a device against the float64 oracle.
///
/// Exit code 1 if one is wrong, or could not be run.
#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Stacks with random options, so many, instead of the suite
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    random: Option<u64>,
    /// The first random stack's seed
    #[arg(long, value_name = "SEED", default_value = "0", requires = "random")]
    seed: u64,
    /// Shapes of each random stack
    #[arg(long, value_name = "N", default_value = "1", requires = "random")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    shapes: u64,
    /// Stop before the first case that would begin after so many seconds, with the table of those before: each kernel and
    /// each way of launching a recurrence comes early
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// One JSON line a case
    #[arg(long)]
    json: bool,
    /// Also every case, not only a line a kernel
    #[arg(long, short)]
    verbose: bool,
}

/// What was seen of a kernel.
#[derive(Default)]
struct Summary {
    cases: usize,
    failed: usize,
    max_ulp: f64,
    /// Of the case that is the nearest to its bound, or the farthest beyond.
    max_rel: f64,
    tolerance: f64,
    worst: String,
    share: f64,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.cases += 1;
        self.failed += usize::from(!report.pass);
        self.max_ulp = self.max_ulp.max(report.max_ulp);
        // What is no number is beyond every bound; some bounds are 0.
        let share = match report.max_rel / report.tolerance.max(f64::MIN_POSITIVE) {
            share if share.is_nan() => f64::INFINITY,
            share => share,
        };
        if self.cases == 1 || share > self.share {
            self.share = share;
            self.max_rel = report.max_rel;
            self.tolerance = report.tolerance;
            self.worst = match &report.error {
                Some(error) => format!("{}, could not: {error}", report.case),
                None => format!("{}, {}", report.case, report.tensor),
            };
        }
    }
}

pub fn run(args: VerifyArgs) -> Result<ExitCode> {
    let begin = Instant::now();
    let engine = args.device.engine()?;
    eprintln!("verifying {} against the float64 oracle", engine.name());
    let mut kernels: BTreeMap<String, Summary> = BTreeMap::new();
    let mut printed: Result<()> = Ok(());
    let each = |report: &Report| {
        kernels.entry(report.kernel.clone()).or_default().add(report);
        if printed.is_ok() && args.json {
            printed = json_line(report).and_then(|line| print_line(&line));
        } else if printed.is_ok() && (args.verbose || !report.pass) {
            printed = print_line(&row(report));
        }
    };
    let reopen = || args.device.reopen();
    let until = args.seconds.map(|seconds| begin + Duration::from_secs(seconds.into()));
    let bounds = Bounds { until, reopen: Some(&reopen) };
    let done = match args.random {
        Some(count) => {
            let seeds = args.seed..args.seed.saturating_add(count);
            conformance::run_random_within(&engine, seeds, args.shapes, bounds, each)
        }
        None => conformance::run_within(&engine, bounds, each),
    };
    printed?;
    if !args.json {
        print_table(&kernels)?;
    }
    // A device that does not open again ends the suite, but what was seen until then is told.
    let done = done?;
    let failed: usize = kernels.values().map(|s| s.failed).sum();
    let cases: usize = kernels.values().map(|s| s.cases).sum();
    let rest = match (done.cut, done.left) {
        (false, _) => String::new(),
        (true, 0) => "; the time was over".to_string(),
        (true, left) => format!("; {cases} of {} cases at most, the time was over", cases + left),
    };
    if failed == 0 {
        let kernels = kernels.len();
        eprintln!("all {cases} cases of {kernels} kernels are right{rest}");
        return Ok(ExitCode::SUCCESS);
    }
    let message = format!(
        "{failed} of {cases} cases are wrong on {}: its driver or this program computes wrong \
         numbers there; use another device{rest}",
        engine.name()
    );
    Err(Error::Device(message))
}

/// A case on a line.
fn row(report: &Report) -> String {
    let Report { kernel, case, tensor, max_ulp, max_rel, tolerance, .. } = report;
    let verdict = if report.pass { "ok  " } else { "FAIL" };
    match &report.error {
        Some(error) => format!("{verdict} {kernel:32} {case:34} could not: {error}"),
        None => format!(
            "{verdict} {kernel:32} {case:34} {max_ulp:10.1} ulp  {max_rel:8.1e} of {tolerance:.1e}  {tensor}"
        ),
    }
}

fn print_table(kernels: &BTreeMap<String, Summary>) -> Result<()> {
    print_line(
        "       kernel                           cases    max ulp  relative   (bound)  of the case nearest to its bound",
    )?;
    for (kernel, s) in kernels {
        let verdict = if s.failed == 0 { "ok  " } else { "FAIL" };
        print_line(&format!(
            "{verdict}   {kernel:32} {:5} {:10.1} {:9.1e} {:9.1e}  {}",
            s.cases, s.max_ulp, s.max_rel, s.tolerance, s.worst
        ))?;
    }
    Ok(())
}
