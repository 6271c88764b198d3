//! Runs beside one another on the CPU engine: the bits of one thread that makes one run after another.

mod common;

use common::seeded::{SEED, assert_equal, run, run_members};
use recurra::cell::CellKind;
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_reports,
};
use recurra::engine::{Engine, Strategy};
use recurra::layer::{Direction, Merge, Recurrent};
use recurra::measure::RecurrentShape;
use recurra::recording::Recording;

fn cpu(threads: usize, strategy: Strategy) -> Engine {
    Engine::cpu(Some(threads)).unwrap().with_strategy(strategy).unwrap()
}

/// Kinds of runs that go beside others.
fn beside(engine: &Engine, recording: &Recording) -> usize {
    let choices = engine.choices(recording).unwrap();
    choices.iter().filter(|choice| choice.strategy == Strategy::Wavefront).count()
}

fn both(cell: CellKind, merge: Merge, layers: usize) -> Recurrent {
    let direction = Direction::Both(merge);
    Recurrent { direction, layers, ..Recurrent::new("rnn", cell, 5, 21) }
}

/// Two directions with all that goes around them, in training and not.
fn cases() -> Vec<RecurrentCase> {
    let mut list = Vec::new();
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru, CellKind::Slstm] {
        for (merge, layers) in [(Merge::Concat, 1), (Merge::Sum, 2)] {
            let plain = RecurrentCase::new(both(cell, merge, layers), 9, 3);
            let mut all = RecurrentCase {
                given: true,
                lengths: true,
                mask: true,
                resets: true,
                ..plain.clone()
            };
            all.stack.zoneout = [0.2, 0.1];
            all.stack.dropout = 0.3;
            all.stack.cell.peepholes = cell == CellKind::Lstm;
            let inference = RecurrentCase { inference: true, ..all.clone() };
            list.extend([plain, all, inference]);
        }
    }
    list
}

/// Layers one on another, in both orders of time, wide enough that parts of their products have the bits of the whole.
fn deep() -> Vec<RecurrentCase> {
    let mut list = Vec::new();
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru] {
        for (layers, batch, reverse) in [(2, 2, false), (3, 2, true), (2, 5, false)] {
            let direction = if reverse { Direction::Reverse } else { Direction::Forward };
            let stack = Recurrent { direction, layers, ..Recurrent::new("rnn", cell, 5, 70) };
            let plain = RecurrentCase { given: true, ..RecurrentCase::new(stack, 17, batch) };
            let mut dropped = plain.clone();
            dropped.stack.dropout = 0.3;
            dropped.stack.residual = true;
            dropped.stack.zoneout = [0.2, 0.1];
            let inference = RecurrentCase { inference: true, ..plain.clone() };
            list.extend([plain, dropped, inference]);
        }
    }
    list
}

/// Chains of layers that go in parts.
fn chains(engine: &Engine, recording: &Recording) -> usize {
    let choices = engine.choices(recording).unwrap();
    choices.iter().filter(|choice| choice.layers > 1).count()
}

#[test]
fn layers_in_parts_have_the_bits_of_one_thread() {
    let alone = cpu(1, Strategy::Step);
    for threads in [2, 3, 5] {
        let engine = cpu(threads, Strategy::Wavefront);
        for case in deep() {
            let recording = record_case(&case).unwrap();
            let passes = if case.inference { 1 } else { 2 };
            assert_eq!(chains(&engine, &recording), passes, "{} is whole", case.name());
            let [want, got] = [&alone, &engine].map(|e| run(e, &recording, case.time, 3));
            assert_equal(&format!("{threads} threads, {}", case.name()), &want, &got);
        }
    }
}

#[test]
fn directions_have_the_bits_of_one_thread() {
    let alone = cpu(1, Strategy::Step);
    for threads in [2, 3, 5] {
        let engine = cpu(threads, Strategy::Wavefront);
        for case in cases() {
            let recording = record_case(&case).unwrap();
            let passes = if case.inference { 1 } else { 2 };
            assert!(beside(&engine, &recording) >= passes, "{} in order", case.name());
            let [want, got] = [&alone, &engine].map(|e| run(e, &recording, case.time, 3));
            assert_equal(&format!("{threads} threads, {}", case.name()), &want, &got);
        }
    }
}

/// Whatever else can be put beside something, against the same number of threads: single steps and steps of several
/// phases go by shares of the rows.
#[test]
fn all_that_goes_beside_has_its_bits() {
    let (alone, engine) = (cpu(3, Strategy::Step), cpu(3, Strategy::Wavefront));
    let mut count = 0;
    for case in recurrent_cases().into_iter().chain((0..200).map(random_case)) {
        let recording = record_case(&case).unwrap();
        if recording.find_half().is_some() || beside(&engine, &recording) == 0 {
            continue;
        }
        count += 1;
        let [want, got] = [&alone, &engine].map(|e| run(e, &recording, case.time, 2));
        assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
    }
    assert!(count > 20, "{count} cases");
}

#[test]
fn members_of_ensembles_have_their_bits() {
    let (alone, engine) = (cpu(1, Strategy::Step), cpu(2, Strategy::Wavefront));
    let ensemble = engine.ensemble(3).unwrap();
    let seeds = [SEED, SEED + 1, SEED + 2];
    for case in cases().into_iter().step_by(4).chain(deep().into_iter().step_by(8)) {
        let recording = record_case(&case).unwrap();
        let together = run_members(&ensemble, &recording, case.time, 2, &seeds);
        for (seed, got) in seeds.iter().zip(&together) {
            let want = run_members(&alone, &recording, case.time, 2, &[*seed]).remove(0);
            assert_equal(&case.name(), &want, got);
        }
    }
}

/// Programs of one engine at once: who finds the threads taken makes all lanes alone.
#[test]
fn programs_run_at_once() {
    let (alone, engine) = (cpu(1, Strategy::Step), cpu(4, Strategy::Wavefront));
    std::thread::scope(|scope| {
        for case in cases().into_iter().step_by(5).chain(deep().into_iter().step_by(7)) {
            let (alone, engine) = (&alone, &engine);
            scope.spawn(move || {
                let recording = record_case(&case).unwrap();
                let [want, got] = [alone, engine].map(|e| run(e, &recording, case.time, 40));
                assert_equal(&case.name(), &want, &got);
            });
        }
    });
}

#[test]
fn it_conforms() {
    let engine = cpu(2, Strategy::Wavefront);
    for case in cases().into_iter().chain(deep().into_iter().step_by(2)) {
        for report in recurrent_reports(&engine, &case).unwrap() {
            assert!(report.pass, "{report:?}");
        }
    }
}

/// Of few rows two directions go beside one another unasked; many rows have enough for all threads, and a few steps are
/// not worth waking one.
#[test]
fn it_is_done_where_it_is_worth_it() {
    let shape_of = |time: usize, batch: usize, layers: usize| RecurrentShape {
        cell: CellKind::Lstm,
        time,
        batch,
        input: 64,
        hidden: 64,
        layers,
        heads: 1,
        bidirectional: layers == 1,
        shortest: time,
        memory: Default::default(),
        precision: Default::default(),
    };
    let of = |time, batch, training, strategy| {
        let recording = shape_of(time, batch, 1).record(training).unwrap();
        beside(&cpu(2, strategy), &recording)
    };
    assert_eq!(of(64, 1, true, Strategy::Auto), 2);
    assert_eq!(of(64, 1, true, Strategy::Step), 0);
    assert_eq!(of(64, 64, true, Strategy::Auto), 0);
    assert_eq!(of(64, 64, true, Strategy::Wavefront), 2);
    assert_eq!(of(3, 1, false, Strategy::Auto), 0);
    // Layers only if that is asked for.
    let layers = shape_of(64, 1, 2).record(false).unwrap();
    assert_eq!(beside(&cpu(2, Strategy::Auto), &layers), 0);
    assert!(beside(&cpu(2, Strategy::Wavefront), &layers) > 0);
}

/// A product of two rows at a time would be another one than that of all: such layers stay whole, and so do those with
/// rows that take no part, as how many are multiplied together depends on them.
#[test]
fn what_would_have_other_bits_stays_whole() {
    let engine = cpu(2, Strategy::Wavefront);
    let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", CellKind::RnnTanh, 5, 20) };
    let narrow = RecurrentCase::new(stack, 16, 2);
    let lengths = RecurrentCase { lengths: true, ..deep().remove(0) };
    for case in [narrow, lengths] {
        let recording = record_case(&case).unwrap();
        assert_eq!(chains(&engine, &recording), 0, "{}", case.name());
    }
}

/// A profile has each launch once, and times that follow one another.
#[test]
fn profiles_add_up() {
    let engine = cpu(2, Strategy::Wavefront);
    let case = &cases()[0];
    let recording = record_case(case).unwrap();
    let store = engine.store();
    for (_, buffer) in recording.iter() {
        if buffer.role == recurra::recording::Role::Parameter {
            store.set(&buffer.name, &vec![0.5; buffer.len]).unwrap();
        }
    }
    let spans = engine.load(&recording, &store).unwrap().profile().unwrap();
    let arranged = engine.arranged(&recording);
    let kernels: Vec<_> = arranged.launches().iter().map(|l| l.op.kernel().name()).collect();
    assert!(spans.iter().map(|span| span.kernel).eq(kernels.iter().copied()));
    assert_eq!(recording.census(), arranged.census());
    assert!(spans.windows(2).all(|pair| pair[0].end_us == pair[1].start_us));
    let is_made = |span: &&recurra::engine::Span| {
        span.kernel == "step_forward" && span.end_us > span.start_us
    };
    // Both runs have a time.
    assert_eq!(spans.iter().filter(is_made).count(), 2);
}
