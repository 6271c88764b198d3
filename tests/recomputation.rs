//! Segments that are computed once more in backward: the same bits as everything kept, in less memory.

mod common;

use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, random_case, record_case, recurrent_cases};
use recurra::engine::{Engine, Store};
use recurra::kernel::Control;
use recurra::layer::{Direction, InitialState, Initializer, Memory, Merge, Recurrent, Sequence};
use recurra::recording::{Recording, Role};
use recurra::schedule::Recorder;
use recurra::tensor::DType;
use std::collections::BTreeMap;

type Outputs = BTreeMap<String, Vec<u32>>;

/// Runs `times` times from seeded inputs and parameters; the bits of all outputs and parameters.
fn run(engine: &Engine, recording: &Recording, steps: usize, times: u32) -> Outputs {
    let store: Store = engine.store();
    let mut generator = Initializer::new(11);
    // By name: the recordings that are compared make their buffers in different orders.
    let mut buffers: Vec<_> = recording.iter().map(|(id, b)| (b.name.clone(), id)).collect();
    buffers.sort();
    let mut inputs = Vec::new();
    for (name, id) in buffers {
        let buffer = recording.get(id);
        let values = generator.uniform(if name.contains('#') { 0 } else { buffer.len }, 0.6);
        match buffer.role {
            Role::Input if name != "control" => inputs.push((name, id, values)),
            Role::Parameter => store.set(&name, &values).unwrap(),
            _ => {}
        }
    }
    let mut program = engine.load(recording, &store).unwrap();
    for (name, id, values) in inputs {
        if recording.get(id).dtype == DType::U32 {
            let lengths = values.iter().map(|v| ((v + 0.6) / 1.2 * steps as f32) as u32);
            program.write_u32(id, &lengths.collect::<Vec<_>>()).unwrap();
        } else if name == "mask" || name == "resets" {
            let flags: Vec<f32> = values.iter().map(|&v| f32::from(v > 0.2)).collect();
            program.write(id, &flags).unwrap();
        } else {
            program.write(id, &values).unwrap();
        }
    }
    for step in 1..=times {
        program.set_control(Control::new(step, 77));
        program.run().unwrap();
    }
    program.wait().unwrap();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    recording
        .iter()
        .filter(|(_, b)| b.role == Role::Output)
        .map(|(id, b)| (b.name.clone(), bits(program.read(id).unwrap())))
        .collect()
}

/// Every output and gradient has the same bits in segments; returns in how many launches more.
fn assert_same_bits(engine: &Engine, case: &RecurrentCase, steps: usize) -> usize {
    let whole = record_case(case).unwrap();
    let mut cut = case.clone();
    cut.stack.memory = Memory::Segments(steps);
    let cut = record_case(&cut).unwrap();
    let [want, got] = [&whole, &cut].map(|r| run(engine, r, case.time, 1));
    assert!(want.keys().eq(got.keys()));
    for (name, want) in &want {
        assert_eq!(want.len(), got[name].len(), "{name}");
        let differ = want.iter().zip(&got[name]).filter(|(a, b)| a != b).count();
        let of = want.len();
        assert_eq!(
            differ,
            0,
            "{} {}: {differ} of {of} of {name}",
            case.stack.cell.name(),
            case.name()
        );
    }
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
