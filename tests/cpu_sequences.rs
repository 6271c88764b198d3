//! All steps of a layer by the CPU engine's team: the bits depend neither on how many threads there are, nor on which
//! rows stand beside one another, nor on whether steps go together. Weights that stay packed from run to run are those
//! of the store, and a stream's step asks for no memory.

mod common;

use common::seeded::{Outputs, assert_equal, run};
use recurra::cell::CellKind;
use recurra::conformance::{RecurrentCase, record_case, recurrent_reports};
use recurra::engine::{Engine, Strategy, WeightFormat};
use recurra::layer::{Direction, InitialState, Initializer, Merge, Recurrent, Sequence};
use recurra::live::LiveBatch;
use recurra::schedule::Recorder;
use recurra::tensor::NamedTensors;

fn cases() -> Vec<RecurrentCase> {
    let mut list = Vec::new();
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru, CellKind::Slstm] {
        // Many rows, each member its own; few rows of many units, shared out; units that fill no block; several bands.
        for [batch, hidden] in
            [[19, 40], [2, 150], [1, 130], [5, 7], [17, 120], [4, 4], [16, 32], [53, 40]]
        {
            let mut stack = Recurrent::new("rnn", cell, 5, hidden);
            stack.direction = Direction::Both(Merge::Concat);
            // As many steps as are worth asking other threads for.
            let plain = RecurrentCase::new(stack, 24, batch);
            let mut all =
                RecurrentCase { given: true, lengths: true, resets: true, ..plain.clone() };
            all.stack.zoneout = [0.2, 0.1];
            all.stack.cell.peepholes = cell == CellKind::Lstm;
            list.extend([plain, all]);
        }
    }
    list
}

/// By a strategy that is asked for: threads share units even where they lose time by waiting for one another, as they
/// do on a machine with fewer cores.
fn bits(case: &RecurrentCase, threads: usize, strategy: Strategy) -> Outputs {
    let engine = Engine::cpu(Some(threads)).unwrap().with_strategy(strategy).unwrap();
    run(&engine, &record_case(case).unwrap(), case.time, 2)
}

/// One run after another with all threads, and runs beside one another with some each.
fn both(threads: usize) -> [(usize, Strategy); 2] {
    [Strategy::Step, Strategy::Wavefront].map(|strategy| (threads, strategy))
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    for case in cases() {
        let alone = bits(&case, 1, Strategy::Step);
        for (threads, strategy) in [2, 3, 7].into_iter().flat_map(both) {
            let together = bits(&case, threads, strategy);
            let what = format!("{} on {threads} threads, {strategy:?}", case.name());
            assert_equal(&what, &alone, &together);
        }
    }
}

const KINDS: [CellKind; 4] = [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru, CellKind::Slstm];

/// All cells with all ways of keeping weights.
fn kinds_and_formats() -> impl Iterator<Item = (CellKind, WeightFormat)> {
    KINDS.into_iter().flat_map(|cell| WeightFormat::ALL.map(|format| (cell, format)))
}

fn cpu(threads: usize, format: WeightFormat) -> Engine {
    Engine::cpu(Some(threads)).unwrap().with_weights(format).unwrap()
}

fn weights(stack: &Recurrent, seed: u64) -> NamedTensors {
    let mut weights = NamedTensors::new();
    stack.init(&mut Initializer::new(seed), &mut weights);
    weights
}

/// A stream's outputs, step by step.
fn stream(live: &mut LiveBatch, x: &[f32], input: usize) -> Vec<f32> {
    let session = live.join().unwrap();
    let outputs = x.chunks(input).flat_map(|x| live.step(x).unwrap()).collect();
    live.leave(session).unwrap();
    outputs
}

/// A sequence in one run has the bits of a stream, on one thread and on several: so short, its
/// input product is made as a stream's is.
#[test]
fn streams_have_the_bits_of_sequences() {
    let cases = kinds_and_formats().flat_map(|case| [(case, 21), (case, 128)]);
    for ((cell, format), hidden) in cases {
        let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", cell, 7, hidden) };
        let weights = weights(&stack, 1);
        let x = Initializer::new(2).uniform(8 * 7, 1.0);
        for threads in [1, 3] {
            let engine = cpu(threads, format);
            let mut rec = Recorder::inference();
            let input = rec.input("x", [8, 7], false).unwrap();
            let y =
                stack.record(&mut rec, input, Sequence::new(8, 1), &InitialState::Zero).unwrap();
            let output = rec.output("y", y.output).unwrap();
            let store = engine.store();
            store.set_all(&weights).unwrap();
            let mut program = engine.load(&rec.finish(), &store).unwrap();
            program.write(input.view.buffer, &x).unwrap();
            program.run().unwrap();
            let whole = program.read(output.view.buffer).unwrap();
            let mut live = LiveBatch::new(&engine, &stack, &weights, 1).unwrap();
            let stepped = stream(&mut live, &x, 7);
            assert_eq!(stepped, whole, "{cell:?} {format:?} {hidden}");
            assert_eq!(stepped, stream(&mut live, &x, 7), "{cell:?} {format:?} {hidden}: again");
        }
    }
}

fn infer(
    engine: &Engine,
    stack: &Recurrent,
    weights: &NamedTensors,
    [time, batch]: [usize; 2],
    x: &[f32],
) -> (Vec<f32>, bool) {
    let mut rec = Recorder::inference();
    let input = rec.input("x", [time * batch, x.len() / time / batch], false).unwrap();
    let sequence = Sequence::new(time, batch);
    let y = stack.record(&mut rec, input, sequence, &InitialState::Zero).unwrap();
    let output = rec.output("y", y.output).unwrap();
    let (store, recording) = (engine.store(), rec.finish());
    store.set_all(weights).unwrap();
    let mut program = engine.load(&recording, &store).unwrap();
    program.write(input.view.buffer, x).unwrap();
    program.run().unwrap();
    let choices = engine.choices(&recording).unwrap();
    let is_own = |cut: &String| cut.contains("its own input");
    let own = choices.iter().all(|choice| choice.cut.as_ref().is_some_and(is_own));
    (program.read(output.view.buffer).unwrap(), own)
}

/// From eight rows on each step multiplies its own input. Each row has the bits that it has alone,
/// where one product makes the input of all steps: of all cells and formats, one layer upon another
/// and both directions, on any threads.
#[test]
fn steps_that_multiply_their_input_have_the_bits_of_one_product() {
    for ((cell, format), hidden) in kinds_and_formats().flat_map(|c| [(c, 21), (c, 64)]) {
        let direction = Direction::Both(Merge::Concat);
        let stack = Recurrent { layers: 2, direction, ..Recurrent::new("rnn", cell, 7, hidden) };
        let weights = weights(&stack, 1);
        for [time, batch] in [[5, 27], [1, 8]] {
            let x = Initializer::new(2).uniform(time * batch * 7, 1.0);
            let width = 2 * hidden;
            let alone: Vec<Vec<f32>> = (0..batch)
                .map(|row| {
                    let own = x.chunks(7).skip(row).step_by(batch).flatten().copied();
                    let own: Vec<f32> = own.collect();
                    let (y, made) = infer(&cpu(1, format), &stack, &weights, [time, 1], &own);
                    assert!(!made);
                    y
                })
                .collect();
            for (threads, strategy) in [1, 2, 3].into_iter().flat_map(both) {
                let engine = cpu(threads, format).with_strategy(strategy).unwrap();
                let (y, made) = infer(&engine, &stack, &weights, [time, batch], &x);
                assert!(made, "{cell:?} {format:?}");
                for (row, want) in alone.iter().enumerate() {
                    let own = y.chunks(width).skip(row).step_by(batch).flatten().copied();
                    let own: Vec<f32> = own.collect();
                    assert_eq!(&own, want, "{cell:?} {format:?} {hidden} {threads} {strategy:?}");
                }
            }
        }
    }
}

/// What is packed of weights that last goes when the store gets others: by the host, or from a program that trains.
#[test]
fn packed_weights_follow_the_store() {
    for (cell, format) in kinds_and_formats() {
        let stack = Recurrent::new("rnn", cell, 16, 16);
        let x = Initializer::new(2).uniform(3 * 16, 1.0);
        let engine = cpu(1, format);
        let fresh = |seed| {
            let mut live = LiveBatch::new(&engine, &stack, &weights(&stack, seed), 1).unwrap();
            stream(&mut live, &x, 16)
        };
        let mut live = LiveBatch::new(&engine, &stack, &weights(&stack, 1), 1).unwrap();
        assert_eq!(stream(&mut live, &x, 16), fresh(1));
        live.store().set_all(&weights(&stack, 2)).unwrap();
        assert_eq!(stream(&mut live, &x, 16), fresh(2), "{cell:?}: set by the host");
        // Each tensor for itself.
        let mut mixed = weights(&stack, 2);
        for (name, tensor) in weights(&stack, 3) {
            live.store().set(&name, tensor.as_slice().unwrap()).unwrap();
            mixed.insert(name.clone(), tensor);
            let mut want = LiveBatch::new(&engine, &stack, &mixed, 1).unwrap();
            let want = stream(&mut want, &x, 16);
            assert_eq!(stream(&mut live, &x, 16), want, "{cell:?}: {name}");
        }
        // A program that writes them.
        let mut rec = Recorder::inference();
        let others = weights(&stack, 4);
        let mut inputs = Vec::new();
        for (name, tensor) in &others {
            let shape = [tensor.shape()[0], tensor.shape().get(1).copied().unwrap_or(1)];
            let input = rec.input(&format!("new {name}"), shape, false).unwrap();
            let target = rec.parameter(name, shape).unwrap();
            rec.copy(input, target).unwrap();
            inputs.push((input.view.buffer, tensor));
        }
        let mut program = engine.load(&rec.finish(), live.store()).unwrap();
        for (id, tensor) in inputs {
            program.write(id, tensor.as_slice().unwrap()).unwrap();
        }
        program.run().unwrap();
        assert_eq!(stream(&mut live, &x, 16), fresh(4), "{cell:?}: by a program");
    }
}

/// For the streams that the README speaks of.
#[test]
fn a_streams_step_asks_for_no_memory() {
    for (cell, format) in kinds_and_formats() {
        for (hidden, layers) in [(16, 1), (128, 1), (200, 2)] {
            let stack = Recurrent { layers, ..Recurrent::new("rnn", cell, 40, hidden) };
            for threads in [1, 2] {
                let engine = cpu(threads, format);
                let mut live = LiveBatch::new(&engine, &stack, &weights(&stack, 1), 1).unwrap();
                live.join().unwrap();
                let (x, mut y) = (vec![0.5; 40], vec![0.0; hidden]);
                // The first step packs the weights.
                live.step_into(&x, &mut y).unwrap();
                let counted = allocation_counter::measure(|| {
                    for _ in 0..10 {
                        live.step_into(&x, &mut y).unwrap();
                    }
                });
                assert_eq!(
                    counted.count_total, 0,
                    "{cell:?} {format:?} {hidden} {layers}: {counted:?}"
                );
            }
        }
    }
    // The counter counts.
    assert!(allocation_counter::measure(|| drop(std::hint::black_box(vec![1; 3]))).count_total > 0);
}

/// The same cases against the float64 oracle: rows that take part beside rows that don't, units
/// that fill their blocks and units that don't, as many words as a block has in all (4 rows of 4
/// units).
#[test]
fn cases_conform() {
    let engine = Engine::cpu(Some(2)).unwrap().with_strategy(Strategy::Step).unwrap();
    for case in cases() {
        for report in recurrent_reports(&engine, &case).unwrap() {
            assert!(report.pass, "{report:?}");
        }
    }
}

/// Products with kept weights, small ones and shared ones, by rows and by columns: the bits of any
/// number of threads, and the numbers of a training program, which keeps nothing.
#[test]
fn products_of_few_rows_are_those_of_training() {
    for (time, batch, input, hidden) in
        [(1, 1, 500, 601), (1, 3, 500, 601), (2, 35, 129, 135), (5, 100, 40, 50), (1, 1, 5, 3)]
    {
        let stack = Recurrent::new("rnn", CellKind::RnnTanh, input, hidden);
        let x = Initializer::new(2).uniform(time * batch * input, 1.0);
        let outputs = |threads: usize, format: Option<WeightFormat>| {
            let (training, format) = (format.is_none(), format.unwrap_or_default());
            let engine = cpu(threads, format);
            let mut rec = if training { Recorder::training() } else { Recorder::inference() };
            let from = rec.input("x", [time * batch, input], false).unwrap();
            let sequence = Sequence::new(time, batch);
            let y = stack.record(&mut rec, from, sequence, &InitialState::Zero).unwrap().output;
            let output = rec.output("y", y).unwrap();
            if training {
                let seed = rec.input("seed", [time * batch, hidden], false).unwrap();
                rec.seed_gradient(y, seed).unwrap();
                rec.backward().unwrap();
            }
            let store = engine.store();
            store.set_all(&weights(&stack, 1)).unwrap();
            store
                .set(recurra::kernel::LossScale::NAME, &recurra::kernel::LossScale::NEUTRAL)
                .unwrap();
            let mut program = engine.load(&rec.finish(), &store).unwrap();
            program.write(from.view.buffer, &x).unwrap();
            // Twice: packed, and kept.
            program.run().unwrap();
            program.run().unwrap();
            program.read(output.view.buffer).unwrap()
        };
        let name = format!("T{time} B{batch} I{input} H{hidden}");
        for format in WeightFormat::ALL {
            let alone = outputs(1, Some(format));
            for threads in [2, 3] {
                let together = outputs(threads, Some(format));
                assert_eq!(alone, together, "{name} in {format:?} on {threads} threads");
            }
        }
        let (alone, training) = (outputs(1, Some(WeightFormat::F32)), outputs(2, None));
        let worst = alone.iter().zip(&training).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-6, "{name}: {worst}");
    }
}
