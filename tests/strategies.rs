//! The strategies of the recurrence: each against the oracle, against the steps, and counted.

mod common;

use recurra::conformance::{RecurrentCase, record_case, recurrent_cases, recurrent_reports};
use recurra::engine::{Engine, GpuEngine, Strategy};
use recurra::kernel::GroupLimits;
use recurra::recording::Recording;

/// The device with sequence kernels wherever they serve, and a workgroup's limits changed.
fn sequences(gpu: &GpuEngine, change: impl FnOnce(&mut GroupLimits)) -> Engine {
    let mut limits = gpu.group_limits();
    change(&mut limits);
    let engine = Engine::Gpu(gpu.with_group_limits(limits));
    engine.with_strategy(Strategy::Sequence).unwrap()
}

fn is_served(engine: &Engine, recording: &Recording) -> bool {
    engine.arranged(recording).census().contains_key("sequence_forward")
}

/// Every case of the suite that the sequence kernels serve.
fn conforms(engine: &Engine, cases: impl IntoIterator<Item = RecurrentCase>) -> usize {
    let mut failed = Vec::new();
    let mut count = 0;
    for case in cases {
        if !is_served(engine, &record_case(&case).unwrap()) {
            continue;
        }
        for report in recurrent_reports(engine, &case).unwrap() {
            count += 1;
            assert!(report.kernel.starts_with("sequence"), "{report:?}");
            if !report.pass {
                failed.push(format!("{report:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
    count
}

#[test]
fn sequences_conform() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let count = conforms(&sequences(&gpu, |_| {}), recurrent_cases());
    assert!(count > 200, "only {count} reports");
}

/// Cuts that a small case does not come by itself: one row a workgroup, one slice, weights that are read
/// again at every step, or some of them.
#[test]
fn every_cut_conforms() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let some = || recurrent_cases().into_iter().filter(|case| case.stack.hidden > 4).step_by(11);
    let cuts: [fn(&mut GroupLimits); 5] = [
        |limits| limits.groups = 1000,
        |limits| limits.groups = 1,
        |limits| limits.registers = 0,
        |limits| limits.registers = 16,
        |limits| limits.threads = 64,
    ];
    for cut in cuts {
        let count = conforms(&sequences(&gpu, cut), some());
        assert!(count > 20, "only {count} reports");
    }
}
