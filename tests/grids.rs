//! Grids: several workgroups make the steps of a layer, wait for one another, and what they have not made is made
//! up for.

mod common;

use common::seeded::{assert_equal, run};
use recurra::cell::CellKind;
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};
use recurra::engine::{Engine, GpuEngine, Strategy};
use recurra::kernel::{GroupLimits, shader::Fault};
use recurra::layer::Recurrent;

/// The device with grids wherever they serve, as if it kept so many workgroups at work.
fn grids(gpu: &GpuEngine, change: impl FnOnce(&mut GroupLimits)) -> Option<Engine> {
    let mut limits = gpu.group_limits();
    limits.resident = 2;
    change(&mut limits);
    match Engine::Gpu(gpu.with_group_limits(limits)).with_strategy(Strategy::Grid) {
        Ok(engine) => Some(engine),
        Err(error) => {
            println!("SKIPPED: {error}");
            None
        }
    }
}

fn is_served(engine: &Engine, case: &RecurrentCase) -> bool {
    let recording = record_case(case).unwrap();
    engine.arranged(&recording).census().contains_key("grid_forward")
}

fn conforms(engine: &Engine, cases: impl IntoIterator<Item = RecurrentCase>) -> usize {
    let mut failed = Vec::new();
    let mut count = 0;
    for case in cases.into_iter().filter(|case| is_served(engine, case)) {
        for report in recurrent_reports(engine, &case).unwrap() {
            count += 1;
            if !report.pass {
                failed.push(format!("{report:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
    count
}

#[test]
fn grids_conform() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let Some(engine) = grids(&gpu, |_| {}) else { return };
    let random = (0..300).map(random_case);
    let count = conforms(&engine, recurrent_cases().into_iter().chain(random));
    println!("{count} reports");
    assert!(count > 20, "only {count} reports");
}
