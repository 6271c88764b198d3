//! Segments that are computed once more in backward: the same bits as everything kept, in less memory.

mod common;

use common::seeded::{assert_equal, run};
use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, random_case, record_case, recurrent_cases};
use recurra::engine::Engine;
use recurra::layer::{Direction, InitialState, Memory, Merge, Recurrent, Sequence};
use recurra::schedule::Recorder;

/// Every output and gradient has the same bits in segments; returns in how many launches more.
fn assert_same_bits(engine: &Engine, case: &RecurrentCase, steps: usize) -> usize {
    let whole = record_case(case).unwrap();
    let mut cut = case.clone();
    cut.stack.memory = Memory::Segments(steps);
    let cut = record_case(&cut).unwrap();
    let [want, got] = [&whole, &cut].map(|r| run(engine, r, case.time, 1));
    assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
    let some = want.values().any(|v| v.iter().any(|&bits| f32::from_bits(bits) != 0.0));
    // A single unit of a rectifier may be dead.
    let dead = case.stack.cell.kind == CellKind::RnnRelu;
    assert!(some || dead, "{}: nothing was computed", case.name());
    cut.launches().len() - whole.launches().len()
}

/// A case whose blocks are of two steps, or of 128 for a scan.
fn widened(mut case: RecurrentCase) -> RecurrentCase {
    case.stack.batch_norm = None;
    let places = case.stack.convolution.map_or(1, |c| c.places());
    if case.stack.cell.kind.is_scan() {
        (case.time, case.batch) = (300, 3);
    } else {
        (case.time, case.batch) = (7, 256usize.div_ceil(places));
    }
    case
}

fn every_option_has_the_same_bits(engine: &Engine, random: u64, nth: usize) {
    // The suite's own cases, each option alone; sizes are ours, so that there is something to cut.
    let small = |c: &RecurrentCase| c.stack.hidden <= 33 && c.stack.input <= 33;
    let cases = recurrent_cases().into_iter().filter(small).step_by(nth);
    let mut more = 0;
    let mut count = 0;
    for case in cases.chain((0..random).map(random_case)) {
        more += assert_same_bits(engine, &widened(case), 1);
        count += 1;
    }
    assert!(more > 20 * count, "only {more} launches more for {count} cases: nothing was cut");
}

#[test]
fn every_option_has_the_same_bits_on_the_cpu() {
    every_option_has_the_same_bits(&Engine::cpu(Some(2)).unwrap(), 150, 3);
}

#[test]
fn every_option_has_the_same_bits_on_the_gpu() {
    if let Some(engine) = common::gpu_engine() {
        every_option_has_the_same_bits(&engine, 12, 61);
    }
}

/// A stack of the size that people train.
fn large(memory: Memory) -> Recurrent {
    let direction = Direction::Both(Merge::Concat);
    Recurrent { layers: 2, direction, memory, ..Recurrent::new("rnn", CellKind::Lstm, 24, 40) }
}

#[test]
fn a_budget_is_kept_and_has_the_same_bits() {
    let engine = Engine::cpu(Some(2)).unwrap();
    let [time, batch] = [512, 16];
    let record = |memory| {
        let mut case = RecurrentCase::new(large(memory), time, batch);
        (case.given, case.lengths, case.resets) = (true, true, true);
        record_case(&case).unwrap()
    };
    let whole = record(Memory::Keep);
    let want = run(&engine, &whole, time, 1);
    // What is no layer's own: gradients of outputs, inputs and weights, and what joins directions.
    let rest = {
        let kept = 4 * (time * batch * 4 * 40 + (time + 1) * batch * 2 * 40) as u64 * 4;
        whole.plan().unwrap().temporary_bytes() - kept
    };
    let mut last = u64::MAX;
    for budget in [24_000_000, 12_000_000, 9_000_000, 7_500_000] {
        let cut = record(Memory::Budget(budget));
        let bytes = cut.plan().unwrap().temporary_bytes();
        assert!(bytes <= budget + rest, "{bytes} for {budget} and {rest}");
        assert!(bytes < last, "a smaller budget took no less: {bytes}");
        last = bytes;
        assert_eq!(run(&engine, &cut, time, 1), want, "{budget}");
    }
    let mut case = RecurrentCase::new(large(Memory::Budget(1 << 20)), time, batch);
    case.lengths = true;
    let error = record_case(&case).unwrap_err().to_string();
    assert!(error.contains("1048576 bytes") && error.contains("'rnn'"), "{error}");
}

/// The final state of one run is the initial state of the next: recomputing must not read the new one.
#[test]
fn carried_states_are_not_read_after_they_are_written() {
    let mut engines = vec![Engine::cpu(Some(1)).unwrap()];
    engines.extend(common::gpu_engine());
    for engine in engines {
        let [time, batch] = [6, 256];
        let outputs = [Memory::Keep, Memory::Segments(1)].map(|memory| {
            let mut rec = Recorder::training();
            let x = rec.input("x", [time * batch, 3], true).unwrap();
            let stack = Recurrent { memory, ..Recurrent::new("rnn", CellKind::Gru, 3, 5) };
            let initial = InitialState::Carried("state".into());
            let y = stack.record(&mut rec, x, Sequence::new(time, batch), &initial).unwrap().output;
            let seed = rec.input("seed", [y.rows, y.columns], false).unwrap();
            rec.seed_gradient(y, seed).unwrap();
            rec.backward().unwrap();
            rec.output("y", y).unwrap();
            for (name, var) in rec.parameters() {
                let view = rec.gradient(var).unwrap();
                rec.output(&format!("d.{name}"), recurra::schedule::Var { view, ..var }).unwrap();
            }
            let recording = rec.finish();
            [1, 3].map(|times| run(&engine, &recording, time, times))
        });
        let [[once, kept], [_, cut]] = &outputs;
        assert_eq!(kept, cut, "{}", engine.name());
        assert_ne!(once, kept, "{}: the state goes on", engine.name());
    }
}

#[test]
fn what_needs_all_steps_at_once_is_refused_by_name() {
    let memory = Memory::Segments(2);
    let base = || Recurrent { memory, ..Recurrent::new("encoder", CellKind::Lstm, 3, 5) };
    let record = |stack: Recurrent| {
        let mut rec = Recorder::training();
        let x = rec.input("x", [8 * 256, 3], true).unwrap();
        let output = stack.record(&mut rec, x, [8, 256], &InitialState::Zero)?;
        output.traces[0].states(&mut rec, "all_states")
    };
    let error = record(Recurrent { batch_norm: Some(1e-5), ..base() }).unwrap_err().to_string();
    assert!(error.contains("'encoder'") && error.contains("batch norm"), "{error}");
    let error = record(base()).unwrap_err().to_string();
    assert!(error.contains("'encoder'") && error.contains("segments"), "{error}");
    assert!(record(Recurrent { memory: Memory::Keep, ..base() }).is_ok());
}
