//! The conformance suite on the CPU engine and on the best wgpu device, against the oracle.

mod common;

use recurra::cell::CellKind;
use recurra::conformance::{self, Bounds, RecurrentCase, Report};
use recurra::engine::{Engine, Strategy, WeightFormat};
use recurra::kernel::Fill;
use recurra::layer::Recurrent;
use recurra::recording::{Recording, Role};
use recurra::tensor::{DType, Precision};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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
            "{} {:28} {:36} {:9.1} ulp {:9.2e} of {:.1e} {}",
            if report.pass { "ok  " } else { "FAIL" },
            report.kernel,
            report.case,
            report.max_ulp,
            report.max_rel,
            report.tolerance,
            report.tensor
        );
        if !report.pass {
            self.failed.push(format!("{report:?}"));
        }
    }

    fn check(&self, suffix: &str) {
        let (failed, count) = (&self.failed, self.count);
        assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
        // Every recurrent kernel of every cell was there.
        for cell in CellKind::ALL {
            let stem = if cell.is_scan() { "scan" } else { "step" };
            for pass in ["forward", "backward"] {
                let kernel = format!("{stem}_{pass}/{}{suffix}", cell.name());
                assert!(self.kernels.contains(&kernel), "{kernel}");
            }
        }
    }
}

fn check(engine: &Engine) {
    let mut seen = Seen::default();
    conformance::run(engine, |report| seen.report(report)).unwrap();
    seen.check("");
}

/// Every second recurrent case, from the first or the second on: two tests, as a driver that computes on the
/// CPU takes minutes to compile the kernels of all.
fn check_half(half: usize) {
    let Some(engine) = common::gpu_engine() else { return };
    // Sequences have their own tests.
    let engine = engine.with_strategy(Strategy::Step).unwrap();
    let mut seen = Seen::default();
    if half == 0 {
        let each = &mut |report: &Report| seen.report(report);
        conformance::kernel_reports(&engine, Precision::F32, None, each).unwrap();
    }
    for case in conformance::recurrent_cases().iter().skip(half).step_by(2) {
        for report in conformance::recurrent_reports(&engine, case).unwrap() {
            seen.report(&report);
        }
    }
    seen.check("");
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

/// As long a sequence as is promised.
#[test]
fn a_hundred_thousand_steps_conform() {
    let stack = Recurrent::new("rnn", CellKind::RnnTanh, 2, 3);
    let case = RecurrentCase { inference: true, ..RecurrentCase::new(stack, 100_000, 1) };
    let engines = common::engines();
    // Step by step as well: 100,000 launches.
    let steps = engines.iter().map(|engine| engine.with_strategy(Strategy::Step).unwrap());
    for engine in steps.collect::<Vec<_>>().iter().chain(&engines) {
        for report in conformance::recurrent_reports(engine, &case).unwrap() {
            assert!(report.pass, "{}: {report:?}", engine.name());
        }
    }
}

/// Parameters in a uniform buffer, as where a device has no immediates.
#[test]
fn gpu_conforms_without_immediates() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let engine = Engine::Gpu(gpu.without_immediates());
    let mut seen = Seen::default();
    for case in conformance::recurrent_cases().iter().step_by(80) {
        for report in conformance::recurrent_reports(&engine, case).unwrap() {
            seen.report(&report);
        }
    }
    assert!(seen.count > 10 && seen.failed.is_empty(), "{:?}", seen.failed);
}

/// The step kernels with the rows a thread that this device would not take.
#[test]
fn gpu_conforms_with_other_rows_a_thread() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let rows = if gpu.info().software { 1 } else { 4 };
    let engine = Engine::Gpu(gpu.with_thread_rows(rows));
    let engine = engine.with_strategy(Strategy::Step).unwrap();
    let mut seen = Seen::default();
    for case in conformance::recurrent_cases().iter().step_by(23) {
        for report in conformance::recurrent_reports(&engine, case).unwrap() {
            seen.report(&report);
        }
    }
    seen.check("");
}

/// The GPU engine, or none where there is none or its device lacks shader-f16.
fn gpu_with_f16() -> Option<Engine> {
    let engine = common::gpu_engine()?;
    if engine.supports(Precision::F16) {
        return Some(engine);
    }
    println!("SKIPPED: {} lacks shader-f16, 16-bit storage is not tested", engine.name());
    None
}

#[test]
fn gpu_conforms_in_f16() {
    let Some(engine) = gpu_with_f16() else { return };
    // Sequences have their own tests.
    let engine = engine.with_strategy(Strategy::Step).unwrap();
    let mut seen = Seen::default();
    let each = &mut |report: &Report| seen.report(report);
    conformance::kernel_reports(&engine, Precision::F16, None, each).unwrap();
    // The others are in `recurra verify`; a driver on the CPU compiles for minutes.
    for case in conformance::recurrent_cases_in_f16().into_iter().step_by(3) {
        for report in conformance::recurrent_reports(&engine, &case).unwrap() {
            seen.report(&report);
        }
    }
    seen.check(" f16");
}

/// A recording of one buffer of f16.
fn short_recording() -> Recording {
    let mut recording = Recording::new();
    let view = recording.buffer("short", 4, DType::F16, Role::Temporary).unwrap();
    recording.launch(Fill::new(view, 1.0), &[view]).unwrap();
    recording
}

#[test]
fn the_cpu_engine_refuses_f16_by_name() {
    let engine = Engine::cpu(Some(1)).unwrap();
    assert!(!engine.supports(Precision::F16) && engine.supports(Precision::F32));
    let refused =
        engine.load(&short_recording(), &engine.store()).map(drop).unwrap_err().to_string();
    assert!(refused.contains("'short'") && refused.contains("f16"), "{refused}");
    let all = conformance::kernel_reports(&engine, Precision::F16, None, &mut |_| ());
    assert!(all.unwrap_err().to_string().contains("f16"));
}

/// A device has f16 and loads it, or says that it hasn't.
#[test]
fn a_gpu_loads_f16_or_refuses_it_by_name() {
    let Some(engine) = common::gpu_engine() else { return };
    let loaded = engine.load(&short_recording(), &engine.store()).map(drop);
    match engine.supports(Precision::F16) {
        true => loaded.unwrap(),
        false => assert!(loaded.unwrap_err().to_string().contains("shader-f16")),
    }
}

/// What the host or the store holds is f32.
#[test]
fn f16_is_for_temporary_buffers() {
    for role in [Role::Input, Role::Output, Role::Parameter, Role::State] {
        let refused =
            Recording::new().buffer("outer", 4, DType::F16, role).unwrap_err().to_string();
        assert!(refused.contains("'outer'") && refused.contains("temporary"), "{refused}");
    }
}

/// Found by a soak: a gate of 11,000 that float32 puts on the other side of its clip, and batch norms over two rows, of
/// whose gradients nothing but ε is left.
#[test]
fn what_float32_cannot_know_is_no_fault() {
    let engine = Engine::cpu(Some(1)).unwrap();
    for (seed, number) in [(1023, 40), (1027, 9), (1027, 12), (1027, 162)] {
        let case = conformance::random_shape(&conformance::random_case(seed), seed, number);
        for report in conformance::recurrent_reports(&engine, &case).unwrap() {
            assert!(report.pass, "{report:?}");
        }
    }
}

/// Whoever ends the suite early has seen something of every kernel, and is told how much was left.
#[test]
fn a_suite_that_is_cut_off_has_seen_every_kernel() {
    let engine = Engine::cpu(Some(2)).unwrap();
    let (mut first, mut count) = (BTreeSet::new(), 0);
    let mut last_new = 0;
    let each = |report: &Report| {
        count += 1;
        if first.insert(report.kernel.clone()) {
            last_new = count;
        }
    };
    let whole = conformance::run_within(&engine, Bounds::default(), each).unwrap();
    assert!((whole.reports, whole.left, whole.cut) == (count, 0, false), "{whole:?}");
    assert!(last_new < count / 6, "the last kernel comes as number {last_new} of {count}");
    // No time, and a little of it.
    for milliseconds in [0, 100] {
        let until = Some(Instant::now() + Duration::from_millis(milliseconds));
        let bounds = Bounds { until, ..Bounds::default() };
        let mut seen = 0;
        let done = conformance::run_within(&engine, bounds, |_| seen += 1).unwrap();
        assert!(done.cut && done.reports == seen && seen < count, "{done:?}");
        // The ways that don't serve a case are known when its turn comes.
        assert!(done.reports + done.left >= count, "{done:?} of {count}");
        assert!(milliseconds > 0 || seen == 0);
    }
}

/// A case that can't be run is a report of its own, and those that follow are run.
#[test]
fn a_case_that_fails_ends_no_suite() {
    let engine = Engine::cpu(Some(1)).unwrap();
    // Which refuses training.
    let engine = engine.with_weights(WeightFormat::Int8).unwrap();
    let mut reports = Vec::new();
    conformance::run_random(&engine, 0..6, 1, |report| reports.push(report.clone())).unwrap();
    let failed = reports.iter().filter(|report| report.error.is_some());
    assert!(reports.len() >= 6 && failed.clone().count() > 0, "{reports:?}");
    for report in failed {
        assert!(!report.pass && report.error.as_ref().unwrap().contains("int8"), "{report:?}");
    }
}

/// A device that is lost is opened again, once, and the suite goes on.
#[test]
fn a_device_that_is_lost_is_opened_again() {
    let Some(engine) = common::gpu_engine() else { return };
    let engine = engine.with_strategy(Strategy::Step).unwrap();
    let opened = std::cell::Cell::new(0);
    let reopen = || {
        opened.set(opened.get() + 1);
        common::gpu_engine().unwrap().with_strategy(Strategy::Step)
    };
    let bounds = Bounds { reopen: Some(&reopen), ..Bounds::default() };
    let mut reports: Vec<Report> = Vec::new();
    let each = |report: &Report| {
        if let (true, Engine::Gpu(gpu)) = (reports.is_empty(), &engine) {
            gpu.device().destroy();
        }
        reports.push(report.clone());
    };
    conformance::run_random_within(&engine, 0..3, 1, bounds, each).unwrap();
    let failed: Vec<_> = reports.iter().filter(|report| !report.pass).collect();
    assert!(failed.len() == 1 && failed[0].error.is_some(), "{failed:?}");
    assert!(opened.get() == 1 && reports.last().is_some_and(|last| last.pass), "{reports:?}");
}
