//! Layouts and streaming: batch-major, packed, a step at a time, a live batch.

mod common;

use common::engines;
use recurra::cell::{Cell, CellKind};
use recurra::engine::Engine;
use recurra::kernel::BufferId;
use recurra::layer::{
    InitialState, Initializer, Padding, Recurrent, Sequence, WeightInit, pack_indices,
};
use recurra::live::LiveBatch;
use recurra::schedule::{Recorder, Var};
use recurra::{NamedTensors, Result};

const INPUT: usize = 3;
const HIDDEN: usize = 5;

fn stack(cell: CellKind) -> Recurrent {
    Recurrent { layers: 2, ..Recurrent::new("rnn", cell, INPUT, HIDDEN) }
}

fn weights(stack: &Recurrent) -> NamedTensors {
    let mut weights = NamedTensors::new();
    stack.init(&mut Initializer::new(3), &mut weights);
    weights
}

fn values(n: usize) -> Vec<f32> {
    Initializer::new(n as u64).uniform(n, 1.0)
}

/// Runs a recording once: outputs by name.
fn run(
    engine: &Engine,
    stack: &Recurrent,
    rec: Recorder,
    floats: &[(BufferId, Vec<f32>)],
    ids: &[(BufferId, Vec<u32>)],
    outputs: &[&str],
) -> Result<Vec<Vec<f32>>> {
    let store = engine.store();
    store.set_all(&weights(stack))?;
    let mut program = engine.load(&rec.finish(), &store)?;
    for (id, values) in floats {
        program.write(*id, values)?;
    }
    for (id, values) in ids {
        program.write_u32(*id, values)?;
    }
    program.run()?;
    outputs.iter().map(|name| program.read(program.find(name)?)).collect()
}

/// The output and dx of a stack, in the layout of the input.
fn with_gradient(rec: &mut Recorder, x: Var, y: Var) -> BufferId {
    rec.output("y", y).unwrap();
    let seed = rec.input("seed", [y.rows, y.columns], false).unwrap();
    rec.seed_gradient(y, seed).unwrap();
    rec.backward().unwrap();
    let dx = rec.gradient(x).unwrap();
    rec.output("dx", Var { view: dx, ..x }).unwrap();
    seed.view.buffer
}

#[test]
fn batch_major_is_time_major_with_its_rows_swapped() {
    let (time, batch) = (4, 3);
    for engine in engines() {
        let stack = stack(CellKind::Lstm);
        let x = values(time * batch * INPUT);
        let seed = values(time * batch * HIDDEN);
        let swap = |values: &[f32], width: usize, outer: usize, inner: usize| -> Vec<f32> {
            (0..inner * outer)
                .flat_map(|r| {
                    let (i, o) = (r / outer, r % outer);
                    values[(o * inner + i) * width..][..width].to_vec()
                })
                .collect()
        };
        let mut rec = Recorder::training();
        let first = rec.input("x", [time * batch, INPUT], true).unwrap();
        let zero = InitialState::Zero;
        let y = stack.record(&mut rec, first, [time, batch], &zero).unwrap().output;
        let d = with_gradient(&mut rec, first, y);
        let floats = [(first.view.buffer, x.clone()), (d, seed.clone())];
        let want = run(&engine, &stack, rec, &floats, &[], &["y", "dx"]).unwrap();

        let mut rec = Recorder::training();
        let second = rec.input("x", [batch * time, INPUT], true).unwrap();
        let turned = rec.swap_rows(second, time).unwrap();
        let y = stack.record(&mut rec, turned, [time, batch], &zero).unwrap().output;
        let y = rec.swap_rows(y, batch).unwrap();
        let d = with_gradient(&mut rec, second, y);
        let turn = |v: &[f32], width| swap(v, width, time, batch);
        let floats = [(second.view.buffer, turn(&x, INPUT)), (d, turn(&seed, HIDDEN))];
        let got = run(&engine, &stack, rec, &floats, &[], &["y", "dx"]).unwrap();
        assert_eq!(got[0], turn(&want[0], HIDDEN), "{engine:?}");
        assert_eq!(got[1], turn(&want[1], INPUT), "{engine:?}");
        let mut rec = Recorder::training();
        let x = rec.input("x", [7, 2], true).unwrap();
        assert!(rec.swap_rows(x, 2).is_err());
    }
}

#[test]
fn packed_rows_meet_padded_ones() {
    let lengths = [2usize, 4, 0, 3];
    let (time, batch) = (4, lengths.len());
    let (padded, packed) = pack_indices(&lengths).unwrap();
    for engine in engines() {
        for cell in [CellKind::Gru, CellKind::MinLstm] {
            let stack = stack(cell);
            let rows = values(packed.len() * INPUT);
            let seed = values(packed.len() * HIDDEN);
            // Packed in, packed out.
            let mut rec = Recorder::training();
            let x = rec.input("x", [packed.len(), INPUT], true).unwrap();
            let to_padded = rec.input_ids("padded", padded.len()).unwrap();
            let to_packed = rec.input_ids("packed", packed.len()).unwrap();
            let sizes = rec.input_ids("lengths", batch).unwrap();
            let whole = rec.gather(x, to_padded).unwrap();
            let sequence = Sequence::new(time, batch).with_lengths(sizes);
            let zero = InitialState::Zero;
            let y = stack.record(&mut rec, whole, sequence, &zero).unwrap().output;
            let y = rec.gather(y, to_packed).unwrap();
            let d = with_gradient(&mut rec, x, y);
            let floats = [(x.view.buffer, rows.clone()), (d, seed.clone())];
            let words: Vec<u32> = lengths.iter().map(|&n| n as u32).collect();
            let ids = [
                (to_padded.buffer, padded.clone()),
                (to_packed.buffer, packed.clone()),
                (sizes.buffer, words),
            ];
            let got = run(&engine, &stack, rec, &floats, &ids, &["y", "dx"]).unwrap();
            // Each sequence alone.
            for (b, &length) in lengths.iter().enumerate().filter(|l| *l.1 > 0) {
                let own: Vec<usize> =
                    (0..packed.len()).filter(|&p| packed[p] as usize % batch == b).collect();
                assert_eq!(own.len(), length);
                let part = |values: &[f32], width: usize| -> Vec<f32> {
                    own.iter().flat_map(|&p| values[p * width..][..width].to_vec()).collect()
                };
                let mut rec = Recorder::training();
                let x = rec.input("x", [length, INPUT], true).unwrap();
                let y = stack.record(&mut rec, x, [length, 1], &zero).unwrap().output;
                let d = with_gradient(&mut rec, x, y);
                let floats = [(x.view.buffer, part(&rows, INPUT)), (d, part(&seed, HIDDEN))];
                let want = run(&engine, &stack, rec, &floats, &[], &["y", "dx"]).unwrap();
                for (got, want, width) in [(&got[0], &want[0], HIDDEN), (&got[1], &want[1], INPUT)]
                {
                    let near = part(got, width).iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-6);
                    assert!(near, "{engine:?} {cell:?} row {b}");
                }
            }
        }
    }
}

/// NaN in the padding reaches nothing: neither outputs nor gradients.
#[test]
fn padding_may_hold_anything() {
    let lengths = [1u32, 3];
    for engine in engines() {
        for cell in CellKind::ALL {
            let stack = stack(cell);
            let mut outputs = Vec::new();
            for rubbish in [0.0, f32::NAN] {
                let mut x = values(3 * 2 * INPUT);
                // Row 0 at steps 1 and 2.
                x[2 * INPUT..3 * INPUT].fill(rubbish);
                x[4 * INPUT..5 * INPUT].fill(rubbish);
                let mut rec = Recorder::training();
                let input = rec.input("x", [6, INPUT], true).unwrap();
                let sizes = rec.input_ids("lengths", 2).unwrap();
                let sequence =
                    Sequence::new(3, 2).with_lengths(sizes).with_padding(Padding::Repeat);
                let zero = InitialState::Zero;
                let y = stack.record(&mut rec, input, sequence, &zero).unwrap().output;
                let d = with_gradient(&mut rec, input, y);
                let parameters = rec.parameters();
                let mut names = vec!["y".to_string(), "dx".to_string()];
                for (name, var) in parameters {
                    let view = rec.gradient(var).unwrap();
                    rec.output(&format!("d.{name}"), Var { view, ..var }).unwrap();
                    names.push(format!("d.{name}"));
                }
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let floats = [(input.view.buffer, x), (d, values(6 * HIDDEN))];
                let ids = [(sizes.buffer, lengths.to_vec())];
                outputs.push(run(&engine, &stack, rec, &floats, &ids, &names).unwrap());
            }
            assert_eq!(outputs[0], outputs[1], "{engine:?} {cell:?}");
        }
    }
}

/// Sessions that join, leave and come late: each one's outputs are those of its sequence alone in the
/// batch, to the bit, and those of the whole sequence at once.
#[test]
fn sessions_of_a_live_batch_do_not_disturb_each_other() {
    let steps = 9;
    for engine in engines() {
        for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Slstm, CellKind::MinGru] {
            let stack = stack(cell);
            let weights = weights(&stack);
            let x = values(steps * INPUT);
            let whole = {
                let mut rec = Recorder::inference();
                let input = rec.input("x", [steps, INPUT], false).unwrap();
                let zero = InitialState::Zero;
                let y = stack.record(&mut rec, input, [steps, 1], &zero).unwrap().output;
                rec.output("y", y).unwrap();
                let floats = [(input.view.buffer, x.clone())];
                run(&engine, &stack, rec, &floats, &[], &["y"]).unwrap().remove(0)
            };
            // The same session in a quiet batch and in one where others come and go.
            let follow = |busy: bool| -> Vec<f32> {
                let mut live = LiveBatch::new(&engine, &stack, &weights, 4).unwrap();
                let mut others = Vec::new();
                if busy {
                    others.push(live.join().unwrap());
                    live.step(&values(4 * INPUT)).unwrap();
                }
                let own = live.join().unwrap();
                let mut outputs = Vec::new();
                for t in 0..steps {
                    if busy && t % 2 == 0 {
                        others.extend(live.join());
                    }
                    if busy && t % 3 == 2 {
                        live.leave(others.remove(0)).unwrap();
                    }
                    let mut rows = values(4 * INPUT);
                    rows[own.slot() * INPUT..][..INPUT].copy_from_slice(&x[t * INPUT..][..INPUT]);
                    let y = live.step(&rows).unwrap();
                    outputs.extend_from_slice(&y[own.slot() * HIDDEN..][..HIDDEN]);
                }
                outputs
            };
            let (quiet, busy) = (follow(false), follow(true));
            assert_eq!(quiet, busy, "{engine:?} {cell:?}");
            assert!(busy.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 2e-6), "{cell:?}");
        }
    }
}

#[test]
fn a_live_batch_refuses_what_it_cannot_do() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let stack = stack(CellKind::Gru);
    let weights = weights(&stack);
    let mut live = LiveBatch::new(&engine, &stack, &weights, 2).unwrap();
    let (a, b) = (live.join().unwrap(), live.join().unwrap());
    assert!(live.join().is_none());
    assert!(live.step(&[0.0; 5]).unwrap_err().to_string().contains("[6]"));
    assert!(live.step(&[f32::NAN; 6]).unwrap_err().to_string().contains("slot 0"));
    live.leave(b).unwrap();
    assert!(live.leave(b).is_err());
    // Nor is a handle of another batch one of this.
    let mut other = LiveBatch::new(&engine, &stack, &weights, 2).unwrap();
    let foreign = other.join().unwrap();
    assert!(foreign != a && live.leave(foreign).is_err());
    // A handle that ended says so when another session has its slot, and ends nothing.
    let later = live.join().unwrap();
    assert_eq!(later.slot(), b.slot());
    assert!(live.leave(b).unwrap_err().to_string().contains("has ended"));
    live.leave(later).unwrap();
    live.step(&[0.5, 0.5, 0.5, f32::NAN, 0.0, 0.0]).unwrap();
    live.leave(a).unwrap();
    assert!(LiveBatch::new(&engine, &stack, &weights, 0).is_err());
    let both = Recurrent {
        direction: recurra::layer::Direction::Reverse,
        ..Recurrent::new("rnn", CellKind::Gru, INPUT, HIDDEN)
    };
    assert!(LiveBatch::new(&engine, &both, &weights, 2).is_err());
    let refused = |engine: &Engine, weights: &NamedTensors| {
        LiveBatch::new(engine, &stack, weights, 2).err().unwrap().to_string()
    };
    let ensemble = engine.ensemble(2).unwrap();
    assert!(refused(&ensemble, &weights).contains("engine for one"));
    // As many numbers, in another shape.
    let mut turned = weights.clone();
    let name = "rnn.weight_ih_l0";
    turned.insert(name.to_string(), weights[name].clone().reversed_axes());
    assert!(refused(&engine, &turned).contains(name));
}

/// Sessions of a stack with learned initial states start from them, whenever they join and whoever was in their slot
/// before; states that are carried without a live batch are refused.
#[test]
fn sessions_start_from_learned_states() {
    let steps = 5;
    let mut cells = [CellKind::Lstm, CellKind::Gru, CellKind::Slstm].map(Cell::from);
    cells[0].projection = Some(3);
    for engine in engines() {
        for cell in cells.clone() {
            let stack = Recurrent {
                layers: 2,
                learned_initial: true,
                ..Recurrent::new("rnn", cell, INPUT, HIDDEN)
            };
            let mut weights = weights(&stack);
            for (name, tensor) in &mut weights {
                if name.contains("initial") {
                    // sLSTM's n has to be positive.
                    tensor.iter_mut().enumerate().for_each(|(i, x)| *x = 0.3 + 0.1 * i as f32);
                }
            }
            let x = values(steps * INPUT);
            let mut rec = Recorder::inference();
            let input = rec.input("x", [steps, INPUT], false).unwrap();
            let y = stack.record(&mut rec, input, [steps, 1], &InitialState::Zero).unwrap().output;
            let width = y.columns;
            rec.output("y", y).unwrap();
            let store = engine.store();
            store.set_all(&weights).unwrap();
            let mut program = engine.load(&rec.finish(), &store).unwrap();
            program.write(input.view.buffer, &x).unwrap();
            program.run().unwrap();
            let whole = program.read(program.find("y").unwrap()).unwrap();

            let mut live = LiveBatch::new(&engine, &stack, &weights, 2).unwrap();
            let other = live.join().unwrap();
            let first = live.join().unwrap();
            live.step(&values(2 * INPUT)).unwrap();
            live.leave(first).unwrap();
            live.step(&values(2 * INPUT)).unwrap();
            let own = live.join().unwrap();
            assert_eq!((own.slot(), other.slot()), (1, 0));
            for (t, want) in whole.chunks(width).enumerate() {
                let mut rows = values(2 * INPUT);
                rows[INPUT..].copy_from_slice(&x[t * INPUT..][..INPUT]);
                let y = live.step(&rows).unwrap();
                let apart = y[width..].iter().zip(want).map(|(a, b)| (a - b).abs());
                let apart = apart.fold(0.0, f32::max);
                assert!(apart < 2e-6, "{engine:?} {:?} step {t}: {apart}", stack.cell);
            }
            let mut rec = Recorder::training();
            let input = rec.input("x", [steps, INPUT], false).unwrap();
            let carried = InitialState::Carried("state".to_string());
            let error = stack.record(&mut rec, input, [steps, 1], &carried).unwrap_err();
            assert!(error.to_string().contains("learned initial states"), "{error}");
        }
    }
}

/// Initial weights of other frameworks: what their definitions say of them.
#[test]
fn initialisers_are_those_of_the_frameworks() {
    use recurra::layer::{ForgetBias, RecurrentInit};
    let stack = Recurrent::new("rnn", CellKind::Lstm, 24, 32);
    let make = |init| {
        let mut tensors = NamedTensors::new();
        stack.init_with(init, &mut Initializer::new(1), &mut tensors).unwrap();
        tensors
    };
    let keras = make(RecurrentInit::KERAS);
    // [4H, H] with orthonormal columns, over all gates together.
    let u = keras["rnn.weight_hh_l0"].as_slice().unwrap().to_vec();
    let dot = |a: usize, b: usize, rows: std::ops::Range<usize>| -> f32 {
        rows.map(|r| u[r * 32 + a] * u[r * 32 + b]).sum()
    };
    for a in 0..32 {
        for b in 0..32 {
            let want = f32::from(a == b);
            assert!((dot(a, b, 0..128) - want).abs() < 1e-5);
        }
    }
    let limit = (6.0f32 / (24.0 + 128.0)).sqrt();
    let w = keras["rnn.weight_ih_l0"].iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(w <= limit && w > 0.97 * limit);
    let bias = keras["rnn.bias_ih_l0"].as_slice().unwrap().to_vec();
    assert!(bias[32..64].iter().all(|&b| b == 1.0));
    assert!(bias[..32].iter().chain(&bias[64..]).all(|&b| b == 0.0));
    assert!(keras["rnn.bias_hh_l0"].iter().all(|&b| b == 0.0));

    let flax = make(RecurrentInit::FLAX);
    let u = flax["rnn.weight_hh_l0"].as_slice().unwrap().to_vec();
    for gate in 0..4 {
        let column = |c: usize| (0..32).map(move |r| (gate * 32 + r) * 32 + c);
        for (a, b) in [(0, 0), (3, 3), (0, 1), (5, 30)] {
            let dot: f32 = column(a).zip(column(b)).map(|(i, j)| u[i] * u[j]).sum();
            assert!((dot - f32::from(a == b)).abs() < 1e-5);
        }
    }
    let w = &flax["rnn.weight_ih_l0"];
    let variance = w.iter().map(|v| v * v).sum::<f32>() / w.len() as f32;
    assert!((variance * 24.0 - 1.0).abs() < 0.1, "{variance}");

    let chrono = RecurrentInit {
        forget: ForgetBias::Chrono { longest: 100.0 },
        input: WeightInit::Uniform,
        ..RecurrentInit::PYTORCH
    };
    let bias = make(chrono)["rnn.bias_ih_l0"].as_slice().unwrap().to_vec();
    for j in 0..32 {
        assert_eq!(bias[j], -bias[32 + j]);
        assert!((0.0..=99f32.ln()).contains(&bias[32 + j]));
    }
    // ln of a uniform number: most are large, few are not.
    let large = bias[32..64].iter().filter(|&&b| b > 50f32.ln()).count();
    assert!((8..=24).contains(&large), "{large} of 32");
    let refuse = |cell, forget| {
        let stack = Recurrent::new("rnn", cell, 2, 2);
        let init = RecurrentInit { forget, ..RecurrentInit::PYTORCH };
        stack.init_with(init, &mut Initializer::new(1), &mut NamedTensors::new()).unwrap_err()
    };
    let message = refuse(CellKind::Lstm, ForgetBias::Chrono { longest: 2.0 }).to_string();
    assert!(message.contains("above 2"), "{message}");
    let message = refuse(CellKind::RnnTanh, ForgetBias::Chrono { longest: 9.0 }).to_string();
    assert!(message.contains("no gates"), "{message}");
}
