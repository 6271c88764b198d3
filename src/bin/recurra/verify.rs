//! `recurra verify`.

use crate::args::{DeviceArgs, json_line, print_line};
use clap::Args;
use recurra::conformance::{self, Report};
use recurra::{Error, Result};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Check every kernel on a device against the float64 oracle.
///
/// Exit code 1 if one is wrong.
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
    /// One JSON line a case
    #[arg(long)]
    json: bool,
    /// Also every case, not only a line a kernel
    #[arg(long, short)]
    verbose: bool,
}

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

pub fn run(args: VerifyArgs) -> Result<ExitCode> {
    let engine = args.device.engine()?;
    eprintln!("verifying {} against the float64 oracle", engine.name());
    let mut kernels: BTreeMap<String, Summary> = BTreeMap::new();
    let mut printed: Result<()> = Ok(());
    let each = |report: &Report| {
        let summary = kernels.entry(report.kernel.clone()).or_default();
        summary.cases += 1;
        summary.failed += usize::from(!report.pass);
        summary.max_ulp = summary.max_ulp.max(report.max_ulp);
        // What is no number is beyond every bound; some bounds are 0.
        let share = match report.max_rel / report.tolerance.max(f64::MIN_POSITIVE) {
            share if share.is_nan() => f64::INFINITY,
            share => share,
        };
        if summary.cases == 1 || share > summary.share {
            summary.share = share;
            summary.max_rel = report.max_rel;
            summary.tolerance = report.tolerance;
            summary.worst = format!("{}, {}", report.case, report.tensor);
        }
        if printed.is_ok() && args.json {
            printed = json_line(report).and_then(|line| print_line(&line));
        } else if printed.is_ok() && (args.verbose || !report.pass) {
            let verdict = if report.pass { "ok  " } else { "FAIL" };
            printed = print_line(&format!(
                "{verdict} {:32} {:34} {:10.1} ulp  {:8.1e} of {:.1e}  {}",
                report.kernel,
                report.case,
                report.max_ulp,
                report.max_rel,
                report.tolerance,
                report.tensor
            ));
        }
    };
    match args.random {
        Some(count) => {
            let seeds = args.seed..args.seed.saturating_add(count);
            conformance::run_random(&engine, seeds, args.shapes, each)?;
        }
        None => conformance::run(&engine, each)?,
    }
    printed?;
    let failed: usize = kernels.values().map(|s| s.failed).sum();
    if !args.json {
        print_line(
            "       kernel                           cases    max ulp  relative   (bound)  of the case nearest to its bound",
        )?;
        for (kernel, s) in &kernels {
            let verdict = if s.failed == 0 { "ok  " } else { "FAIL" };
            print_line(&format!(
                "{verdict}   {kernel:32} {:5} {:10.1} {:9.1e} {:9.1e}  {}",
                s.cases, s.max_ulp, s.max_rel, s.tolerance, s.worst
            ))?;
        }
    }
    let cases: usize = kernels.values().map(|s| s.cases).sum();
    if failed == 0 {
        eprintln!("all {cases} cases of {} kernels are right", kernels.len());
        return Ok(ExitCode::SUCCESS);
    }
    let message = format!(
        "{failed} of {cases} cases are wrong on {}: its driver or this program computes wrong \
         numbers there; use another device",
        engine.name()
    );
    Err(Error::Device(message))
}
