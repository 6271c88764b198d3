//! Programs in host programs that do other things as well: thread pools of their own, cells that panic, runs without
//! what an optimizer needs, sizes that few have.

mod common;

use rayon::prelude::*;
use recurra::cell::CellKind;
use recurra::engine::{Engine, Store};
use recurra::kernel::{Cell, ColumnSum, CustomCell, Matmul, Operand};
use recurra::layer::{InitialState, Initializer, Recurrent};
use recurra::loss::cross_entropy;
use recurra::optim::Optimizer;
use recurra::recording::{Recording, Role};
use recurra::schedule::Recorder;
use recurra::tensor::{DType, NamedTensors};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

fn inference(stack: &Recurrent, time: usize, batch: usize) -> (Recording, [usize; 2]) {
    let mut rec = Recorder::inference();
    let x = rec.input("x", [time * batch, stack.input], false).unwrap();
    let y = stack.record(&mut rec, x, [time, batch], &InitialState::Zero).unwrap().output;
    rec.output("y", y).unwrap();
    (rec.finish(), [x.view.len, y.view.len])
}

fn loaded(engine: &Engine, stack: &Recurrent) -> Store {
    let store = engine.store();
    let mut weights = NamedTensors::new();
    stack.init(&mut Initializer::new(7), &mut weights);
    store.set_all(&weights).unwrap();
    store
}

/// A host's thread that waits for a run takes up no other work that wants the same store: it would wait for itself.
#[test]
fn programs_of_one_store_run_in_a_hosts_own_threads() {
    let (tell, told) = channel();
    // In a thread, so that a deadlock ends the test.
    std::thread::spawn(move || {
        for threads in [1, 2] {
            let engine = Engine::cpu(Some(threads)).unwrap();
            let stack = Recurrent::new("g", CellKind::Gru, 32, 64);
            let store = loaded(&engine, &stack);
            let (recording, [len, _]) = inference(&stack, 40, 8);
            let x = Initializer::new(3).uniform(len, 1.0);
            let run = || {
                let mut program = engine.load(&recording, &store).unwrap();
                program.write(recording.find("x").unwrap(), &x).unwrap();
                program.run().unwrap();
                program.read(recording.find("y").unwrap()).unwrap()
            };
            let want = run();
            let host = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
            let all: Vec<Vec<f32>> =
                host.install(|| (0..24).into_par_iter().map(|_| run()).collect());
            assert!(all.iter().all(|y| *y == want), "{threads} threads");
        }
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(120)).expect("the runs don't end");
}

/// A store has its tensors back when a caller's cell has panicked in a run.
#[test]
fn a_panic_in_a_cell_leaves_the_store_whole() {
    let cell = CustomCell {
        name: "broken".to_string(),
        gates: 1,
        saved: 1,
        states: 1,
        wgsl: "fn cell_forward() {} fn cell_backward() {}".to_string(),
        forward: Arc::new(|_, _, _, _, _| panic!("no such cell")),
        backward: Arc::new(|_, _, _, _, _| {}),
        reference: Arc::new(|_, _, _, _| {}),
    };
    let engine = Engine::cpu(Some(2)).unwrap();
    let stack = Recurrent::new("r", Cell::from(cell), 3, 4);
    let store = loaded(&engine, &stack);
    let (recording, _) = inference(&stack, 3, 2);
    for _ in 0..2 {
        let mut program = engine.load(&recording, &store).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| program.run()));
        let panic = panicked.expect_err("it panics").downcast::<&str>().unwrap();
        assert_eq!(*panic, "no such cell");
        assert_eq!(store.get("r.weight_ih_l0").unwrap().len(), 4 * 3);
        assert!(program.run().unwrap_err().to_string().contains("load it anew"));
    }
}

/// An optimizer without a step and a rate would go through all its motions and leave the weights as they are.
#[test]
fn a_run_without_control_words_is_refused() {
    for engine in common::engines() {
        let stack = Recurrent::new("r", CellKind::Lstm, 3, 4);
        let store = loaded(&engine, &stack);
        let mut rec = Recorder::training();
        let x = rec.input("x", [6, 3], false).unwrap();
        let targets = rec.input_ids("targets", 6).unwrap();
        let y = stack.record(&mut rec, x, [3, 2], &InitialState::Zero).unwrap().output;
        cross_entropy(&mut rec, y, targets).unwrap();
        rec.backward().unwrap();
        Optimizer::adam().record(&mut rec, None).unwrap();
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        let refused = program.run().unwrap_err().to_string();
        assert!(refused.contains("set_control"), "{refused}");
        program.set_control(Optimizer::adam().control(1, 1, 0.1));
        program.run().unwrap();
        program.run().unwrap();
    }
}

/// Sums of so many columns that one dimension has too few workgroups for them.
#[test]
fn a_million_columns_are_summed() {
    let columns = 65_535 * 16 + 100;
    let mut recording = Recording::new();
    let a = recording.buffer("a", 2 * columns, DType::F32, Role::Input).unwrap();
    let sums = recording.buffer("sums", columns, DType::F32, Role::Output).unwrap();
    let op = ColumnSum::new([2, columns], Operand::new(a, columns), None, sums);
    recording.launch(op, &[a, sums]).unwrap();
    for engine in common::engines() {
        let mut program = engine.load(&recording, &engine.store()).unwrap();
        let values: Vec<f32> = (0..2 * columns).map(|i| (i % 1000) as f32).collect();
        program.write(a.buffer, &values).unwrap();
        program.run().unwrap();
        let found = program.read(sums.buffer).unwrap();
        let wrong = (0..columns).find(|&c| found[c] != values[c] + values[columns + c]);
        assert_eq!(wrong, None, "{}", engine.name());
    }
}

/// One row and fewer columns than threads, of many terms: a column is shared out among all.
#[test]
fn a_single_column_is_multiplied() {
    let terms = 1_100_000;
    for columns in [1, 3] {
        let mut recording = Recording::new();
        let a = recording.buffer("a", terms, DType::F32, Role::Input).unwrap();
        let b = recording.buffer("b", columns * terms, DType::F32, Role::Parameter).unwrap();
        let c = recording.buffer("c", columns, DType::F32, Role::Output).unwrap();
        let right = Operand { transposed: true, ..Operand::new(b, terms) };
        let left = Operand::new(a, terms);
        let op = Matmul::new([1, columns, terms], left, right, Operand::new(c, columns));
        recording.launch(op, &[a, b, c]).unwrap();
        for threads in [1, 2, 4] {
            let engine = Engine::cpu(Some(threads)).unwrap();
            let store = engine.store();
            store.set("b", &vec![0.5; columns * terms]).unwrap();
            let mut program = engine.load(&recording, &store).unwrap();
            program.write(a.buffer, &vec![1.0; terms]).unwrap();
            program.run().unwrap();
            assert_eq!(program.read(c.buffer).unwrap(), vec![550_000.0; columns], "{threads}");
        }
    }
}

/// A device that was destroyed says so in whatever is asked of it, and no run on it is taken for one.
#[test]
fn a_destroyed_device_is_an_error() {
    let Some(engine) = common::gpu_engine() else {
        return;
    };
    let stack = Recurrent::new("g", CellKind::Gru, 5, 6);
    let store = loaded(&engine, &stack);
    let (recording, [len, _]) = inference(&stack, 4, 2);
    let mut program = engine.load(&recording, &store).unwrap();
    let [x, y] = ["x", "y"].map(|name| recording.find(name).unwrap());
    program.write(x, &Initializer::new(3).uniform(len, 1.0)).unwrap();
    program.run().unwrap();
    assert!(program.read(y).unwrap().iter().any(|&y| y != 0.0));
    let Engine::Gpu(gpu) = &engine else { unreachable!() };
    gpu.device().destroy();
    let lost = |result: recurra::Result<()>| {
        let error = result.unwrap_err();
        assert!(matches!(error, recurra::Error::DeviceFailed { .. }), "{error}");
    };
    lost(program.run().and_then(|()| program.wait()));
    lost(program.read(y).map(drop));
    lost(program.run());
    lost(store.get("g.weight_hh_l0").map(drop));
    lost(engine.load(&recording, &store).map(drop));
}
