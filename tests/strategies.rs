//! The strategies of the recurrence: each against the oracle, against the steps, and counted.

mod common;

use common::seeded::{Outputs, assert_equal, run};
use recurra::cell::CellKind;
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_cases_in_f16,
    recurrent_reports,
};
use recurra::engine::{Choice, Engine, GpuEngine, Strategy, Tuning};
use recurra::kernel::{GroupLimits, Op};
use recurra::layer::Recurrent;
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
    let count = conforms(&sequences(&gpu, |_| {}), recurrent_cases().into_iter().step_by(2));
    assert!(count > 150, "only {count} reports");
}

/// Cuts that a small case does not come by itself: one row a workgroup, one slice, weights that are read
/// again at every step, or some of them.
#[test]
fn every_cut_conforms() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let some = || recurrent_cases().into_iter().filter(|case| case.stack.hidden > 4).step_by(31);
    let cuts: [fn(&mut GroupLimits); 5] = [
        |limits| limits.groups = 1000,
        |limits| limits.groups = 1,
        |limits| limits.registers = 0,
        |limits| limits.registers = 16,
        |limits| limits.threads = 64,
    ];
    for cut in cuts {
        let count = conforms(&sequences(&gpu, cut), some());
        assert!(count > 10, "only {count} reports");
    }
}

#[test]
fn sequences_conform_in_f16() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    if !gpu.has_f16() {
        println!("SKIPPED: {} lacks shader-f16", gpu.info().name);
        return;
    }
    let count = conforms(&sequences(&gpu, |_| {}), recurrent_cases_in_f16().into_iter().step_by(3));
    assert!(count > 20, "only {count} reports");
}

/// Without the signs of zeros: a compiler may leave 0 + x out, as Mesa does.
fn with_one_zero(mut outputs: Outputs) -> Outputs {
    let minus = (-0f32).to_bits();
    outputs.values_mut().flatten().filter(|bits| **bits == minus).for_each(|bits| *bits = 0);
    outputs
}

/// Where a thread sums all terms of a unit, in the order of the steps, every bit is that of the steps.
#[test]
fn one_slice_has_the_bits_of_steps() {
    let Some(engine) = common::gpu_engine() else { return };
    let Engine::Gpu(gpu) = &engine else { return };
    let step = engine.with_strategy(Strategy::Step).unwrap();
    let ways = [64, 16, 0].map(|registers| {
        sequences(gpu, |limits| (limits.slices, limits.registers) = (1, registers))
    });
    // Where each gate has a mask of its own, Mesa draws the mask before the sum: other last bits.
    let small = |case: &RecurrentCase| {
        let masks = case.stack.recurrent_dropout > 0.0 && case.stack.per_gate;
        case.stack.hidden <= 40 && !masks
    };
    let cases = recurrent_cases().into_iter().filter(small).step_by(19);
    let mut count = 0;
    for case in cases.chain((0..120).map(random_case).filter(small)) {
        let recording = record_case(&case).unwrap();
        let sequence = &ways[count % ways.len()];
        if is_served(sequence, &recording) {
            let [want, got] =
                [&step, sequence].map(|e| with_one_zero(run(e, &recording, case.time, 1)));
            assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
            count += 1;
        }
    }
    assert!(count > 20, "only {count} cases");
}

/// A layer cut into launches of two or three steps has the bits of one launch: what a workgroup holds is what
/// its buffers would give back.
#[test]
fn parts_have_the_bits_of_the_whole() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let whole = sequences(&gpu, |_| {});
    let parts = [2, 3].map(|steps| sequences(&gpu, |limits| limits.steps = steps));
    let long = |case: &RecurrentCase| case.stack.hidden <= 40 && case.time > 3;
    let short = gpu.has_f16().then(recurrent_cases_in_f16).into_iter().flatten();
    let cases = recurrent_cases().into_iter().filter(long).step_by(23);
    let (mut count, mut more) = (0, 0);
    for case in cases.chain(short.filter(long).step_by(9)) {
        let recording = record_case(&case).unwrap();
        if !is_served(&whole, &recording) {
            continue;
        }
        let part = &parts[count % 2];
        let launches = |engine: &Engine| engine.arranged(&recording).launches().len();
        more += launches(part) - launches(&whole);
        let [want, got] = [&whole, part].map(|e| run(e, &recording, case.time, 1));
        assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
        count += 1;
    }
    assert!(count > 10 && more > 3 * count, "{count} cases, {more} launches more");
}

/// Mesa's driver on the CPU ends loops in silence, and all loops of a shader share the rounds: those over weights
/// that are read again too.
#[test]
fn long_sequences_of_streamed_weights_conform() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let stack = Recurrent::new("rnn", CellKind::Lstm, 2, 200);
    let case = RecurrentCase { inference: true, ..RecurrentCase::new(stack, 700, 1) };
    assert_eq!(conforms(&sequences(&gpu, |_| {}), [case]), 1);
}

/// The CPU engine takes the steps of a sequence kernel apart again.
#[test]
fn the_cpu_runs_what_a_gpu_arranged() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let (whole, cpu) = (sequences(&gpu, |_| {}), Engine::cpu(Some(2)).unwrap());
    let small =
        |case: &RecurrentCase| case.stack.hidden <= 40 && case.stack.cell.layer_norm.is_none();
    let mut count = 0;
    for case in recurrent_cases().into_iter().filter(small).step_by(5) {
        let recording = record_case(&case).unwrap();
        if is_served(&whole, &recording) {
            let arranged = whole.arranged(&recording);
            let [want, got] = [&recording, &*arranged].map(|r| run(&cpu, r, case.time, 1));
            assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
            count += 1;
        }
    }
    assert!(count > 20, "only {count} cases");
}

/// What was measured is written where the host wants it, and a process that finds it there does not measure.
fn kept_and_used(gpu: &GpuEngine, recording: &Recording, choices: &[Choice]) {
    let folder = tempfile::tempdir().unwrap();
    let forgotten = Tuning { strategies: Default::default(), ..gpu.tuning() };
    let cached = || gpu.with_measuring(true).cached_in(&folder.path().join("new"));
    let files = || std::fs::read_dir(folder.path().join("new")).map_or(0, Iterator::count);
    gpu.set_tuning(&forgotten).unwrap();
    let first = Engine::Gpu(cached()).choices(recording).unwrap();
    assert_eq!(files(), 1);
    // As another process would begin.
    gpu.set_tuning(&forgotten).unwrap();
    let again = Engine::Gpu(cached());
    assert_eq!(
        Engine::Gpu(gpu.clone()).choices(recording).unwrap(),
        again.choices(recording).unwrap()
    );
    let times = |choices: &[Choice]| choices.iter().map(|c| c.measured_ms).collect::<Vec<_>>();
    assert_eq!(times(&first), times(&again.choices(recording).unwrap()));
    assert_ne!(times(&first), times(choices), "nothing was measured");
    let file =
        std::fs::read_dir(folder.path().join("new")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    // A kernel whose trial a process did not survive is not tried again.
    let mut interrupted: Tuning = serde_json::from_str(&text).unwrap();
    let (kernel, _) = interrupted.strategies.pop_first().unwrap();
    interrupted.trying.insert(kernel.clone());
    std::fs::write(&file, serde_json::to_string(&interrupted).unwrap()).unwrap();
    gpu.set_tuning(&forgotten).unwrap();
    cached();
    assert!(gpu.tuning().strategies[&kernel][1] >= 1e9);
    // A file that is damaged, or of another device, is none.
    for bad in
        [text.replace(&gpu.info().driver, "another"), "{".to_string(), text.replace(':', ":-")]
    {
        std::fs::write(&file, bad).unwrap();
        gpu.set_tuning(&forgotten).unwrap();
        cached();
        assert!(gpu.tuning().strategies.is_empty());
    }
}

/// A layer's launches, forward and backward, are as many whatever T is, and no weight is read twice.
#[test]
fn launches_do_not_grow_with_time() {
    let Some(engine) = common::gpu_engine() else { return };
    for cell in CellKind::CLASSIC {
        for hidden in [16, 64] {
            let counts = [8, 100, 1000].map(|time| {
                let stack = Recurrent::new("rnn", cell, 24, hidden);
                let case = RecurrentCase { given: true, ..RecurrentCase::new(stack, time, 4) };
                let recording = record_case(&case).unwrap();
                let arranged = engine.arranged(&recording);
                for launch in arranged.launches() {
                    let reread = match &launch.op {
                        Op::SequenceForward(op) => op.cut.reread(op.step.products()),
                        Op::SequenceBackward(op) => op.cut.reread(op.step.products()),
                        _ => 0,
                    };
                    assert_eq!(reread, 0, "{cell:?} H{hidden}");
                }
                arranged.census()
            });
            assert_eq!(counts[0]["sequence_forward"], 1);
            assert_eq!(counts[0]["sequence_backward"], 1);
            assert!(!counts[0].contains_key("step_forward"), "{:?}", counts[0]);
            // A few copies of short sequences are small enough to go side by side.
            let all = counts.each_ref().map(|census| census.values().sum::<usize>());
            for (census, all_of) in counts.iter().zip(all) {
                let same = ["sequence_forward", "sequence_backward"].map(|name| census[name]);
                assert_eq!(same, [1, 1], "{cell:?} H{hidden}");
                assert!(all_of <= all[2] && all[2] <= all_of + 2, "{counts:?}");
            }
        }
    }
}

/// What is measured is both ways of the layer at hand; the faster one is taken, and computes the same.
#[test]
fn the_faster_way_is_measured_and_taken() {
    let Some(Engine::Gpu(gpu)) = common::gpu_engine() else { return };
    let engine = Engine::Gpu(gpu.with_measuring(true));
    let stack = Recurrent::new("rnn", CellKind::Gru, 5, 12);
    let case = RecurrentCase { lengths: true, ..RecurrentCase::new(stack, 6, 3) };
    let recording = record_case(&case).unwrap();
    let choices = engine.choices(&recording).unwrap();
    assert_eq!(choices.len(), 2, "{choices:?}");
    for choice in &choices {
        let [step, sequence] = choice.measured_ms.unwrap();
        assert!(step > 0.0 && sequence > 0.0);
        let taken = if sequence <= step { Strategy::Sequence } else { Strategy::Step };
        assert_eq!(choice.strategy, taken, "{choice:?}");
        let kernels = engine.arranged(&recording).census();
        assert!(kernels.contains_key(choice.kernel), "{choice:?}: {kernels:?}");
        assert_eq!(choice.steps, 6);
    }
    for report in recurrent_reports(&engine, &case).unwrap() {
        assert!(report.pass, "{report:?}");
    }
    kept_and_used(&gpu, &recording, &choices);
    // Asked for, nothing is measured.
    let asked = engine.with_strategy(Strategy::Step).unwrap();
    for choice in asked.choices(&recording).unwrap() {
        assert_eq!(choice.strategy, Strategy::Step);
        assert_eq!(choice.reason, "asked for");
    }
    let cpu = Engine::cpu(Some(1)).unwrap();
    let shared = cpu.choices(&recording).unwrap();
    assert!(shared.iter().all(|choice| choice.strategy == Strategy::Step && choice.steps > 1));
    let threads = |choice: &Choice| choice.cut.as_ref().is_some_and(|cut| cut.contains("thread"));
    assert!(!shared.is_empty() && shared.iter().all(threads), "{shared:?}");
    assert!(cpu.with_strategy(Strategy::Sequence).is_err());
    assert!(cpu.with_strategy(Strategy::Step).is_ok());
}
