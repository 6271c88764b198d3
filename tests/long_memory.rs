//! Long memory: tasks that gated cells learn and a tanh RNN does not in the same time, and that the microscope sees why.

#[path = "../examples/common/long_memory.rs"]
mod long_memory;

use long_memory::{ADDING_BASELINE, Run, adder, adding, copier, copying, train};
use recurra::cell::CellKind;
use recurra::engine::Engine;

fn told(task: &str, cell: CellKind, run: &Run) {
    let (loss, kept) = (run.loss(), run.kept());
    let all = run.over_the_window();
    println!("{task}: {} {loss:.4}, kept {kept:.3} a step, {all:.1e} in all", cell.name());
}

#[test]
fn gated_cells_add_what_lies_far_apart() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let (time, steps) = (100, 1000);
    let parts = [adding(5000, time, 1).unwrap(), adding(500, time, 2).unwrap()];
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::RnnTanh] {
        let model = adder(cell, 32, time).unwrap();
        let run = train(&engine, &model, &parts, 0.01, steps).unwrap();
        told("adding", cell, &run);
        assert_eq!(run.views.len(), 10);
        let gated = cell != CellKind::RnnTanh;
        if gated {
            assert!(run.loss() < 0.02, "{}: {}", cell.name(), run.loss());
            assert!(run.kept() > 0.97 && run.over_the_window() > 0.05, "{}", cell.name());
        } else {
            // No better than who always says 1.
            assert!(run.loss() > 0.8 * ADDING_BASELINE, "{}: {}", cell.name(), run.loss());
            let (kept, all) = (run.kept(), run.over_the_window());
            assert!(kept < 0.93 && all < 1e-3, "{}: {kept} {all}", cell.name());
        }
        assert_eq!(run.vanish(), !gated, "{}", cell.name());
    }
}

#[test]
fn gated_cells_copy_what_lies_far_back() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let sizes = [5, 8, 50];
    let baseline = (sizes[1] as f32).ln();
    let parts = [copying(5000, sizes, 1).unwrap(), copying(500, sizes, 2).unwrap()];
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::RnnTanh] {
        let model = copier(cell, 48, sizes).unwrap();
        let run = train(&engine, &model, &parts, 0.01, 1000).unwrap();
        told("copying", cell, &run);
        let (loss, all) = (run.loss(), run.over_the_window());
        if cell == CellKind::RnnTanh {
            assert!(loss > 0.8 * baseline && all < 1e-3 && run.vanish(), "{loss} {all}");
        } else {
            assert!(loss < 0.6 * baseline && all > 0.05, "{}: {loss} {all}", cell.name());
        }
    }
}
