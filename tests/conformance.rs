//! The conformance suite on the CPU engine and on the best wgpu device, against the oracle.

mod common;

use recurra::cell::CellKind;
use recurra::conformance;
use recurra::engine::Engine;
use std::collections::BTreeSet;

fn check(engine: &Engine) {
    let mut kernels = BTreeSet::new();
    let mut failed = Vec::new();
    let mut count = 0;
    conformance::run(engine, |report| {
        kernels.insert(report.kernel.clone());
        count += 1;
        println!(
            "{:28} {:36} {:9.1} ulp {:9.2e} {}",
            report.kernel, report.case, report.max_ulp, report.max_rel, report.tensor
        );
        if !report.pass {
            failed.push(format!("{report:?}"));
        }
    })
    .unwrap();
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
    // Every recurrent kernel of every cell was there.
    for cell in CellKind::ALL {
        let stem = if cell.is_scan() { "scan" } else { "step" };
        for pass in ["forward", "backward"] {
            let kernel = format!("{stem}_{pass}/{}", cell.name());
            assert!(kernels.contains(&kernel), "{kernel}");
        }
    }
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
    if let Some(engine) = common::gpu_engine() {
        check(&engine);
    }
}
