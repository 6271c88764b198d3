//! Parameters and matrices that one recording uses more than once: every use counts in the gradient, and once.

mod common;

use common::engines;
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::kernel::{Control, View};
use recurra::layer::{InitialState, Initializer, Linear, Recurrent};
use recurra::recording::{Recording, Role};
use recurra::schedule::{Recorder, Var};
use std::collections::BTreeMap;

/// Runs a recording twice from seeded inputs and weights, so that memory that was used is used again; its outputs.
fn run(engine: &Engine, recording: &Recording) -> BTreeMap<String, Vec<f32>> {
    let (store, mut generator) = (engine.store(), Initializer::new(5));
    let mut inputs = Vec::new();
    for (id, buffer) in recording.iter() {
        match buffer.role {
            Role::Input if buffer.name != "control" => {
                inputs.push((id, generator.uniform(buffer.len, 0.7)));
            }
            Role::Parameter => {
                store.set(&buffer.name, &generator.uniform(buffer.len, 0.7)).unwrap();
            }
            _ => {}
        }
    }
    let mut program = engine.load(recording, &store).unwrap();
    for (id, values) in &inputs {
        program.write(*id, values).unwrap();
    }
    program.set_control(Control::new(1, 3));
    program.run().unwrap();
    program.run().unwrap();
    let outputs = recording.iter().filter(|(_, buffer)| buffer.role == Role::Output);
    outputs.map(|(id, buffer)| (buffer.name.clone(), program.read(id).unwrap())).collect()
}

/// The gradient of a matrix as an output.
fn show(rec: &mut Recorder, name: &str, var: Var) {
    let view: View = rec.gradient(var).unwrap();
    rec.output(&format!("d.{name}"), Var { view, ..var }).unwrap();
}

fn assert_near(what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0, "{what}: nothing");
    let apart = common::apart(got, want) / largest;
    assert!(apart < 2e-6, "{what}: {apart}");
}

/// The two biases of an LSTM are added, so their gradients are the same. With weight drop U is another one each time
/// that the layer is recorded, and b′ is not.
#[test]
fn a_layer_recorded_twice_under_weight_drop_has_both_gradients_of_its_bias() {
    for engine in engines() {
        let stack = Recurrent { weight_drop: 0.4, ..Recurrent::new("rnn", CellKind::Lstm, 3, 5) };
        let mut rec = Recorder::training();
        for part in ["a", "b"] {
            let x = rec.input(part, [4 * 2, 3], false).unwrap();
            let y = stack.record(&mut rec, x, [4, 2], &InitialState::Zero).unwrap().output;
            let seed = rec.input(&format!("seed.{part}"), [y.rows, y.columns], false).unwrap();
            rec.seed_gradient(y, seed).unwrap();
        }
        rec.backward().unwrap();
        for (name, var) in rec.parameters() {
            show(&mut rec, &name, var);
        }
        let got = run(&engine, &rec.finish());
        let [ih, hh] = ["ih", "hh"].map(|of| &got[&format!("d.rnn.bias_{of}_l0")]);
        assert_near(&engine.name(), hh, ih);
    }
}

/// Two linear layers of one weight with a bias each: the later one's bias has its own sum and nothing that lay there.
#[test]
fn layers_of_one_weight_have_biases_of_their_own() {
    for engine in engines() {
        let mut rec = Recorder::training();
        let x = rec.input("x", [7, 5], false).unwrap();
        let first = Linear::new("first", 5, 5);
        let second = Linear { shared: Some(first.weight_name()), ..Linear::new("second", 5, 5) };
        let h = first.record(&mut rec, x).unwrap();
        let y = second.record(&mut rec, h).unwrap();
        for (name, of) in [("seed.h", h), ("seed.y", y)] {
            let seed = rec.input(name, [7, 5], false).unwrap();
            rec.seed_gradient(of, seed).unwrap();
        }
        rec.backward().unwrap();
        for (name, var) in rec.parameters() {
            show(&mut rec, &name, var);
        }
        for (name, of) in [("h", h), ("y", y)] {
            show(&mut rec, name, of);
        }
        let got = run(&engine, &rec.finish());
        for (bias, rows) in [("d.first.bias", "d.h"), ("d.second.bias", "d.y")] {
            let sums: Vec<f32> =
                (0..5).map(|column| got[rows].iter().skip(column).step_by(5).sum()).collect();
            assert_near(&format!("{} {bias}", engine.name()), &got[bias], &sums);
        }
    }
}

/// A tail that two losses ask for, before and between its uses, passes each gradient on once.
#[test]
fn a_tail_of_two_uses_passes_each_gradient_on_once() {
    for engine in engines() {
        for between in [false, true] {
            let mut rec = Recorder::training();
            let x = rec.input("x", [4, 3], true).unwrap();
            let head = |rec: &mut Recorder, tail: Var, name: &str| {
                let y = Linear::new(name, 3, 2).record(rec, tail).unwrap();
                let seed = rec.input(&format!("seed.{name}"), [3, 2], false).unwrap();
                rec.seed_gradient(y, seed).unwrap();
                (y, name.to_string())
            };
            let first = rec.tail(x, 1).unwrap();
            let mut heads = Vec::new();
            if between {
                heads.push(head(&mut rec, first, "one"));
            }
            let second = rec.tail(x, 1).unwrap();
            if !between {
                heads.push(head(&mut rec, first, "one"));
            }
            heads.push(head(&mut rec, second, "two"));
            rec.backward().unwrap();
            show(&mut rec, "x", x);
            for (y, name) in &heads {
                show(&mut rec, name, *y);
            }
            let weights: Vec<(String, Var)> = rec.parameters();
            for (name, var) in weights {
                rec.output(&format!("copy.{name}"), var).unwrap();
            }
            let got = run(&engine, &rec.finish());
            let mut want = vec![0f32; 12];
            for (_, name) in &heads {
                let (dy, w) = (&got[&format!("d.{name}")], &got[&format!("copy.{name}.weight")]);
                for (i, want) in want.iter_mut().enumerate().skip(3) {
                    let (row, column) = (i / 3 - 1, i % 3);
                    *want += (0..2).map(|o| dy[row * 2 + o] * w[o * 3 + column]).sum::<f32>();
                }
            }
            assert_near(&format!("{} between {between}", engine.name()), &got["d.x"], &want);
        }
    }
}
