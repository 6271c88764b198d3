//! The gradient microscope: what it shows against what layers say in other ways, that it changes nothing, that it
//! sees why some cells do not learn over long times, and where a NaN began.

mod common;

use common::apart;
use recurra::cell::{Cell, CellKind};
use recurra::data::Vocabulary;
use recurra::engine::Engine;
use recurra::kernel::View;
use recurra::layer::{Direction, InitialState, Initializer, Merge, Recurrent, Scope, Sequence};
use recurra::recording::Role;
use recurra::schedule::{Recorder, Var};
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig};
use recurra::tensor::NamedTensors;
use recurra::train::{self, Event, TrainOptions, Trainer};
use std::collections::BTreeMap;

const TIME: usize = 6;
const BATCH: usize = 3;
const HIDDEN: usize = 5;
const LENGTHS: [u32; BATCH] = [6, 2, 4];

fn seeded(n: usize, seed: u64) -> Vec<f32> {
    Initializer::new(seed).uniform(n, 1.0)
}

/// All outputs of a recording of a stack over x, with the gradient that `seed` gives its outputs.
fn outputs(
    engine: &Engine,
    weights: &NamedTensors,
    record: impl FnOnce(&mut Recorder, Var, Var, Option<View>),
    scoped: bool,
    width: usize,
    lengths: bool,
) -> BTreeMap<String, Vec<f32>> {
    let mut rec = Recorder::training();
    if scoped {
        rec = rec.with_scope();
    }
    let x = rec.input("x", [TIME * BATCH, 2], true).unwrap();
    let seed = rec.input("seed", [TIME * BATCH, width], false).unwrap();
    let ids = lengths.then(|| rec.input_ids("lengths", BATCH).unwrap());
    record(&mut rec, x, seed, ids);
    let recording = rec.finish();
    let store = engine.store();
    store.set_all(weights).unwrap();
    let mut program = engine.load(&recording, &store).unwrap();
    program.write(x.view.buffer, &seeded(x.view.len, 1)).unwrap();
    program.write(seed.view.buffer, &seeded(seed.view.len, 2)).unwrap();
    if let Some(ids) = ids {
        program.write_u32(ids.buffer, &LENGTHS).unwrap();
    }
    program.run().unwrap();
    let outputs = recording.iter().filter(|b| b.1.role == Role::Output);
    outputs.map(|(id, b)| (b.name.clone(), program.read(id).unwrap())).collect()
}

fn cells() -> Vec<Cell> {
    let mut list: Vec<Cell> = CellKind::ALL.map(Cell::from).to_vec();
    list.push(Cell { layer_norm: Some(1e-5), ..CellKind::Lstm.into() });
    list.push(Cell { projection: Some(3), ..CellKind::Lstm.into() });
    list
}

/// Gates, states, and every parameter's gradient are those of the layer as it is trained; the gradient that comes
/// to a state is that of the initial state of the steps behind it.
#[test]
fn it_shows_what_flows() {
    let engines = std::iter::once(Engine::cpu(Some(2)).unwrap()).chain(common::gpu_engine());
    for engine in engines {
        for cell in cells() {
            let width = cell.width(HIDDEN);
            let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", cell.clone(), 2, HIDDEN) };
            let mut weights = NamedTensors::new();
            stack.init(&mut Initializer::new(4), &mut weights);
            let zero = InitialState::Zero;
            let record = |rec: &mut Recorder, x: Var, seed: Var, _: Option<View>| {
                let out = stack.record(rec, x, [TIME, BATCH], &zero).unwrap();
                rec.output("y", out.output).unwrap();
                if !rec.is_scoped() {
                    for (layer, trace) in out.traces.iter().enumerate() {
                        trace.states(rec, &format!("states{layer}")).unwrap();
                        trace.gates(rec, &format!("gates{layer}")).unwrap();
                    }
                }
                rec.seed_gradient(out.output, seed).unwrap();
                rec.backward().unwrap();
                for (name, var) in rec.parameters() {
                    let view = rec.gradient(var).unwrap();
                    rec.output(&format!("d.{name}"), Var { view, ..var }).unwrap();
                }
            };
            let plain = outputs(&engine, &weights, record, false, width, false);
            let scoped = outputs(&engine, &weights, record, true, width, false);
            let close = |a: &[f32], b: &[f32], what: &str| {
                let largest = b.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
                let error = apart(a, b) / largest;
                assert!(error < 1e-5, "{} {what}: {error}", cell.name());
            };
            for (name, values) in plain.iter().filter(|n| n.0 == "y" || n.0.starts_with("d.")) {
                close(&scoped[name], values, name);
            }
            let words = cell.state_words(HIDDEN);
            for layer in 0..2 {
                let scope = Scope::of(&stack, [layer, 0]);
                close(&scoped[&scope.gates()], &plain[&format!("gates{layer}")], "gates");
                // h of all slots, then the other states of all slots; the first slot is before all steps.
                let all = &plain[&format!("states{layer}")];
                let own = &scoped[&scope.states()];
                for t in 0..TIME {
                    let h = &all[(t + 1) * BATCH * width..][..BATCH * width];
                    let row = &own[t * BATCH * words..][..BATCH * words];
                    close(&row[..BATCH * width], h, "h");
                    for state in 1..cell.states() {
                        let others = (TIME + 1) * BATCH * (width + (state - 1) * HIDDEN);
                        let want = &all[others + (t + 1) * BATCH * HIDDEN..][..BATCH * HIDDEN];
                        let first = BATCH * (width + (state - 1) * HIDDEN);
                        close(&row[first..][..BATCH * HIDDEN], want, "another state");
                    }
                }
            }
            if cell.kind.is_scan() {
                continue;
            }
            // Split in two behind step t: the gradient of the second part's initial states.
            for t in 1..TIME {
                let split = |rec: &mut Recorder, x: Var, seed: Var, _: Option<View>| {
                    let rows = t * BATCH;
                    let first = stack.record(rec, x.rows(0, rows), [t, BATCH], &zero).unwrap();
                    let given = InitialState::Given(first.finals.clone());
                    let rest = (TIME - t) * BATCH;
                    let second = stack.record(rec, x.rows(rows, rest), [TIME - t, BATCH], &given);
                    let second = second.unwrap().output;
                    rec.seed_gradient(first.output, seed.rows(0, rows)).unwrap();
                    rec.seed_gradient(second, seed.rows(rows, rest)).unwrap();
                    rec.backward().unwrap();
                    for (layer, state) in first.finals.into_iter().enumerate() {
                        let view = rec.gradient(state).unwrap();
                        rec.output(&format!("d{layer}"), Var { view, ..state }).unwrap();
                    }
                };
                let want = outputs(&engine, &weights, split, false, width, false);
                for layer in 0..2 {
                    let carry = &scoped[&Scope::of(&stack, [layer, 0]).carry()];
                    let row = &carry[(t - 1) * BATCH * words..][..BATCH * words];
                    close(row, &want[&format!("d{layer}")], "carry");
                }
            }
            let top = &scoped[&Scope::of(&stack, [1, 0]).d_output()];
            assert_eq!(top, &seeded(TIME * BATCH * width, 2));
        }
    }
}

/// Both directions and rows of other lengths: what is trained stays, and nothing comes to steps that a row takes no
/// part in.
#[test]
fn directions_and_lengths() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let direction = Direction::Both(Merge::Concat);
    let stack = Recurrent { direction, ..Recurrent::new("rnn", CellKind::Lstm, 2, HIDDEN) };
    let mut weights = NamedTensors::new();
    stack.init(&mut Initializer::new(4), &mut weights);
    let record = |rec: &mut Recorder, x: Var, seed: Var, lengths: Option<View>| {
        let sequence = Sequence::new(TIME, BATCH).with_lengths(lengths.unwrap());
        let out = stack.record(rec, x, sequence, &InitialState::Zero).unwrap().output;
        rec.output("y", out).unwrap();
        rec.seed_gradient(out, seed).unwrap();
        rec.backward().unwrap();
        for (name, var) in rec.parameters() {
            let view = rec.gradient(var).unwrap();
            rec.output(&format!("d.{name}"), Var { view, ..var }).unwrap();
        }
    };
    let [plain, scoped] =
        [false, true].map(|scoped| outputs(&engine, &weights, record, scoped, 2 * HIDDEN, true));
    for (name, values) in &plain {
        assert!(apart(&scoped[name], values) < 1e-5, "{name}");
    }
    let [forward, reverse] = [0, 1].map(|d| Scope::of(&stack, [0, d]));
    assert_eq!((forward.name.as_str(), reverse.name.as_str()), ("rnn.l0", "rnn.l0_reverse"));
    let (carry, above) = (&scoped[&forward.carry()], &scoped[&forward.d_output()]);
    for t in 0..TIME {
        for (row, &length) in LENGTHS.iter().enumerate() {
            let behind = &carry[t * BATCH * 2 * HIDDEN + row * HIDDEN..][..HIDDEN];
            let d = &above[(t * BATCH + row) * HIDDEN..][..HIDDEN];
            let takes_part = t < length as usize;
            assert_eq!(d.iter().any(|&x| x != 0.0), takes_part, "row {row}, step {t}");
            for scope in [&forward, &reverse] {
                let valid = scoped[&scope.valid()][t * BATCH + row];
                assert_eq!(valid, f32::from(takes_part), "row {row}, step {t}");
            }
            // The last step of a row has none behind it.
            let comes = t + 1 < length as usize;
            assert_eq!(behind.iter().any(|&x| x != 0.0), comes, "row {row}, step {t}");
        }
    }
    // The way back ends at step 0: from there nothing comes to it but from the loss.
    let carry = &scoped[&reverse.carry()];
    assert!(carry[..BATCH * 2 * HIDDEN].iter().all(|&x| x == 0.0));
    assert!(carry[5 * BATCH * 2 * HIDDEN..][..HIDDEN].iter().any(|&x| x != 0.0));
}

fn text() -> String {
    (0..120).map(|i| format!("{} plus {} is {}.\n", i % 17, i % 13, i % 17 + i % 13)).collect()
}

fn task(cell: CellKind, time: usize) -> LanguageTask {
    let text = text();
    let shape = ModelConfig::new(&Vocabulary::of(&text));
    let cell = cell.name().to_string();
    let config = ModelConfig { cell, embedding: 8, hidden: 16, ..shape };
    LanguageTask::new(LanguageModel::new(config).unwrap(), &text, time, 4).unwrap()
}

#[test]
fn looking_changes_nothing() {
    let engines = std::iter::once(Engine::cpu(Some(2)).unwrap()).chain(common::gpu_engine());
    for engine in engines {
        let run = |every: Option<u64>| {
            let task = task(CellKind::Lstm, 12);
            let options = TrainOptions { learning_rate: 0.01, ..TrainOptions::new(25) };
            let mut trainer = Trainer::new(&engine, &task, options, None).unwrap();
            if every.is_some() {
                trainer = trainer.with_microscope(&engine, every).unwrap();
            }
            let (mut losses, mut views) = (Vec::new(), Vec::<train::View>::new());
            let run = trainer.run(None, |event| {
                match event {
                    Event::Losses(_, more) => losses.extend(more.iter().map(|l| l.0[0].to_bits())),
                    Event::Look(view) => views.push((**view).clone()),
                    _ => {}
                }
                Ok(())
            });
            run.unwrap();
            (losses, trainer.checkpoint().unwrap().tensors, views)
        };
        let (plain, looked) = (run(None), run(Some(6)));
        assert!(plain.0 == looked.0 && plain.1 == looked.1, "{}", engine.name());
        assert_eq!(looked.2.iter().map(|v| v.step).collect::<Vec<_>>(), [1, 7, 13, 19, 25]);
        for view in &looked.2 {
            assert_eq!(view.layers.len(), 2);
            for layer in &view.layers {
                assert!(layer.gradients.h.len() == 12 && layer.gradients.c.len() == 12);
                assert!(layer.gradients.h.iter().all(|&n| n > 0.0));
                // The loss of the last step comes by way of h alone.
                assert!(layer.gradients.c_by_way_of_h && layer.gradients.c[11] > 0.0);
                let names: Vec<_> = layer.gates.iter().map(|g| g.name.as_str()).collect();
                assert_eq!(names, ["i", "f", "g", "o"]);
                let mean = layer.gates[1].mean;
                assert!((0.3..0.8).contains(&mean), "sigmoids around a half: {mean}");
                assert_eq!(layer.spectral_radius.len(), 4);
                // Uniform ±1/√H: a radius of √(1/3), more or less.
                assert!(layer.spectral_radius.iter().all(|r| (0.3..1.3).contains(&r.1)));
                // A forget gate of a half forgets half in a step.
                assert!((0.5..4.0).contains(&layer.half_life.unwrap()), "{:?}", layer.half_life);
            }
            assert_eq!(view.updates.len(), task(CellKind::Lstm, 12).model().weight_shapes().len());
            assert!(view.updates.iter().any(|u| u.ratio > 1e-6));
            let json = serde_json::to_string(view).unwrap();
            assert_eq!(&serde_json::from_str::<train::View>(&json).unwrap(), view);
        }
        let task = task(CellKind::Lstm, 12);
        let options = TrainOptions::new(5);
        let trainer = Trainer::new(&engine, &task, options, None).unwrap();
        assert!(trainer.with_microscope(&engine, Some(0)).is_err());
    }
}

/// A run whose numbers overflow ends with the layer, the step and the unit where it began.
#[test]
fn the_first_nan_is_placed() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let task = task(CellKind::RnnRelu, 12);
    // Far too fast, without clipping: states grow until they overflow.
    let options = TrainOptions {
        learning_rate: 30.0,
        update: recurra::optim::Update::new(recurra::Optimizer::sgd(0.0)),
        ..TrainOptions::new(200)
    };
    let trainer = Trainer::new(&engine, &task, options, None).unwrap();
    let mut trainer = trainer.with_microscope(&engine, None).unwrap();
    let message = trainer.run(None, |_| Ok(())).unwrap_err().to_string();
    assert!(message.contains("the loss became") && message.contains("the first was"), "{message}");
    for word in ["gate h of rnn.l", "time step", "row", "unit"] {
        assert!(message.contains(word), "{word}: {message}");
    }
}
