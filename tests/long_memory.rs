//! Long memory: tasks that gated cells learn and a tanh RNN does not in the same time, and that the
//! microscope sees why.

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

/// What a plain RNN keeps at the end of a run depends on the last places on the way there: three draws, the middle one.
#[test]
fn gated_cells_add_what_lies_far_apart() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let (time, steps) = (100, 1000);
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::RnnTanh] {
        let gated = cell != CellKind::RnnTanh;
        let (mut kept, mut all) = (Vec::new(), Vec::new());
        for seed in if gated { &[1][..] } else { &[1, 3, 5] } {
            let parts = [adding(5000, time, *seed).unwrap(), adding(500, time, seed + 1).unwrap()];
            let model = adder(cell, 32, time).unwrap();
            let run = train(&engine, &model, &parts, 0.01, steps).unwrap();
            told("adding", cell, &run);
            assert_eq!(run.views.len(), 10);
            let loss = run.loss();
            match gated {
                true => assert!(loss < 0.02, "{}: {loss}", cell.name()),
                // No better than who always says 1.
                false => assert!(loss > 0.8 * ADDING_BASELINE, "{}: {loss}", cell.name()),
            }
            assert_eq!(run.vanish(), !gated, "{}", cell.name());
            kept.push(run.kept());
            all.push(run.over_the_window());
        }
        for of_runs in [&mut kept, &mut all] {
            of_runs.sort_by(f32::total_cmp);
        }
        let middle = kept.len() / 2;
        let keeps = kept[middle] > 0.97 && all[middle] > 0.05;
        let forgets = kept[middle] < 0.93 && all[middle] < 1e-3;
        assert!(if gated { keeps } else { forgets }, "{}: {kept:?} {all:?}", cell.name());
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
