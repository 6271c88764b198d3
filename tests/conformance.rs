//! The conformance suite on the CPU engine and on the best wgpu device, against the oracle.

mod common;

use recurra::cell::CellKind;
use recurra::conformance::{self, Report};
use recurra::engine::Engine;
use std::collections::BTreeSet;

/// What reports say.
#[derive(Default)]
struct Seen {
    kernels: BTreeSet<String>,
    failed: Vec<String>,
    count: usize,
}

impl Seen {
    fn report(&mut self, report: &Report) {
        self.kernels.insert(report.kernel.clone());
        self.count += 1;
        println!(
            "{:28} {:36} {:9.1} ulp {:9.2e} {}",
            report.kernel, report.case, report.max_ulp, report.max_rel, report.tensor
        );
        if !report.pass {
            self.failed.push(format!("{report:?}"));
        }
    }

    fn check(&self) {
        let (failed, count) = (&self.failed, self.count);
        assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
        // Every recurrent kernel of every cell was there.
        for cell in CellKind::ALL {
            let stem = if cell.is_scan() { "scan" } else { "step" };
            for pass in ["forward", "backward"] {
                let kernel = format!("{stem}_{pass}/{}", cell.name());
                assert!(self.kernels.contains(&kernel), "{kernel}");
            }
        }
    }
}

fn check(engine: &Engine) {
    let mut seen = Seen::default();
    conformance::run(engine, |report| seen.report(report)).unwrap();
    seen.check();
}

/// Every second recurrent case, from the first or the second on: two tests, as a driver that computes on the
/// CPU takes minutes to compile the kernels of all.
fn check_half(half: usize) {
    let Some(engine) = common::gpu_engine() else { return };
    let mut seen = Seen::default();
    if half == 0 {
        conformance::kernel_reports(&engine, None, &mut |report| seen.report(report)).unwrap();
    }
    for case in conformance::recurrent_cases().iter().skip(half).step_by(2) {
        for report in conformance::recurrent_reports(&engine, case).unwrap() {
            seen.report(&report);
        }
    }
    seen.check();
}

#[test]
fn cpu_conforms() {
    check(&Engine::cpu(Some(2)).unwrap());
}

#[test]
fn cpu_with_three_threads_conforms() {
    check(&Engine::cpu(Some(3)).unwrap());
}

#[test]
fn gpu_conforms() {
    check_half(0);
}

#[test]
fn gpu_conforms_in_the_other_cases() {
    check_half(1);
}

/// The step kernels with the rows a thread that this device would not take.
#[test]
fn gpu_conforms_with_other_rows_a_thread() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let rows = if gpu.info().software { 1 } else { 4 };
    let engine = Engine::Gpu(gpu.with_thread_rows(rows));
    let mut seen = Seen::default();
    for case in conformance::recurrent_cases().iter().step_by(11) {
        for report in conformance::recurrent_reports(&engine, case).unwrap() {
            seen.report(&report);
        }
    }
    seen.check();
}
