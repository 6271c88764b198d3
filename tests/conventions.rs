//! Where the systems of the field differ, one test for each rule; docs/conventions.md says which test
//! has which rule.
#![cfg(feature = "onnx")]

mod common;

use common::engines;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, Ix3, concatenate};
use recurra::cell::{Activation, Cell, CellKind, GateOrder, reorder_gates, restore_gates};
use recurra::convert::{import, to_tensors};
use recurra::engine::Engine;
use recurra::format::npz::read_arrays;
use recurra::graph::{self, RecurrentCell, RecurrentNode, States, run_recurrent};
use recurra::kernel::Control;
use recurra::layer::{
    Direction, InitialState, Initializer, Merge, Padding, Recurrent, RecurrentInit, Sequence,
};
use recurra::schedule::Recorder;
use recurra::tensor::{NamedTensors, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Results of float32 beside others of float32 or better: some units of 1.2e-7.
const NEAR: f32 = 1e-6;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn floats(arrays: &BTreeMap<String, Value>, name: &str) -> ArrayD<f32> {
    match &arrays[name] {
        Value::F32(array) => array.clone(),
        other => panic!("{name} is {}", other.kind()),
    }
}

/// The largest difference; infinite where there is a NaN.
fn apart<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = &'a f32>) -> f32 {
    let (a, b): (Vec<_>, Vec<_>) = (a.into_iter().collect(), b.into_iter().collect());
    assert_eq!(a.len(), b.len());
    let each = a.iter().zip(b).map(|(a, b)| (*a - b).abs());
    each.fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

/// A stack's run: what goes in.
struct Run<'a> {
    stack: &'a Recurrent,
    /// By parameter, its name without the stack's, and its shape.
    weights: &'a dyn Fn(&str, &[usize]) -> Vec<f32>,
    x: Vec<f32>,
    sizes: [usize; 2],
    /// Zeros where it is empty.
    initial: Vec<f32>,
    training: bool,
}

/// And what comes out; of gates and final states the first part's.
struct Out {
    y: Vec<f32>,
    last: Vec<f32>,
    gates: Vec<f32>,
}

impl Run<'_> {
    fn on(&self, engine: &Engine) -> Out {
        let [time, batch] = self.sizes;
        let mut rec = if self.training { Recorder::training() } else { Recorder::inference() };
        let x = rec.input("x", [time * batch, self.stack.input], false).unwrap();
        let shape = self.stack.state_shape(batch);
        let parts = self.stack.layers * self.stack.direction.count();
        let given: Vec<_> =
            (0..parts).map(|n| rec.input(&format!("initial{n}"), shape, false).unwrap()).collect();
        let initial = InitialState::Given(given.clone());
        let out = self.stack.record(&mut rec, x, self.sizes, &initial).unwrap();
        let y = rec.output("y", out.output).unwrap();
        let last = rec.output("last", out.finals[0]).unwrap();
        let gates = out.traces[0].gates(&mut rec, "gates").unwrap();
        let store = engine.store();
        for parameter in self.stack.all_parameters() {
            let stem = parameter.name.strip_prefix("rnn.").unwrap();
            let values = (self.weights)(stem, &parameter.shape);
            assert_eq!(values.len(), parameter.shape.iter().product::<usize>(), "{stem}");
            store.set(&parameter.name, &values).unwrap();
        }
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        program.set_control(Control::new(1, 99));
        program.write(x.view.buffer, &self.x).unwrap();
        for (n, var) in given.iter().enumerate() {
            let words = shape[0] * shape[1];
            let own = match self.initial.len() {
                0 => vec![0.0; words],
                _ => self.initial[n * words..][..words].to_vec(),
            };
            program.write(var.view.buffer, &own).unwrap();
        }
        program.run().unwrap();
        let read = |var: recurra::schedule::Var| program.read(var.view.buffer).unwrap();
        Out { y: read(y), last: read(last), gates: read(gates) }
    }
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    Initializer::new(seed).uniform(n, 1.0)
}

/// Any weights, the same for the same name; multiples of 1/64, so that sums of two are exact.
fn some(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name.bytes().fold(7u64, |s, b| s * 31 + u64::from(b));
    let values = random(shape.iter().product(), seed);
    values.into_iter().map(|v| (v * 64.0).round() / 64.0).collect()
}

/// [n, n] blocks of the identity, one under the other.
fn identities(shape: &[usize]) -> Vec<f32> {
    let (rows, n) = (shape[0], shape[1]);
    (0..rows * n).map(|k| f32::from(u8::from(k / n % n == k % n))).collect()
}

// --- Gate orders

#[test]
fn gate_orders_are_those_of_every_system() {
    // In letters, as each system's documentation has them; c is g, h is n, oneDNN's u r o is z r n.
    let orders: [(GateOrder, &str, &str); 6] = [
        (GateOrder::PyTorch, "ifgo", "rzn"),
        (GateOrder::Onnx, "iofg", "zrn"),
        (GateOrder::Keras, "ifgo", "zrn"),
        (GateOrder::OneDnn, "ifgo", "zrn"),
        (GateOrder::WebNn, "iofg", "zrn"),
        (GateOrder::WebNnOther, "ifgo", "rzn"),
    ];
    assert_eq!(orders.map(|o| o.0), GateOrder::ALL);
    let words = |text: &str| -> Vec<f32> {
        // Two rows a gate.
        text.bytes().flat_map(|b| [f32::from(b), f32::from(b) + 0.5]).collect()
    };
    for (order, lstm, gru) in orders {
        for (kind, theirs, ours) in [
            (CellKind::Lstm, lstm, "ifgo"),
            (CellKind::Gru, gru, "rzn"),
            (CellKind::GruResetBefore, gru, "rzn"),
        ] {
            let moved = reorder_gates(kind, order, &words(theirs)).unwrap();
            assert_eq!(moved, words(ours), "{order:?} {kind:?}");
            assert_eq!(restore_gates(kind, order, &moved).unwrap(), words(theirs), "{order:?}");
        }
        assert_eq!(reorder_gates(CellKind::RnnTanh, order, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
    }
}

/// The traces have our order: a bias that opens one gate alone opens that block.
#[test]
fn our_gates_lie_in_pytorchs_order() {
    let cells = [(CellKind::Lstm, 4), (CellKind::Gru, 3), (CellKind::GruResetBefore, 3)];
    for engine in engines() {
        for (kind, gates) in cells {
            for gate in 0..gates {
                let stack = Recurrent::new("rnn", kind, 1, 2);
                let weights = |name: &str, shape: &[usize]| {
                    let mut values = vec![0.0; shape.iter().product()];
                    if name == "bias_ih_l0" {
                        values[gate * 2..][..2].fill(3.0);
                    }
                    values
                };
                let run = Run {
                    stack: &stack,
                    weights: &weights,
                    x: vec![0.0],
                    sizes: [1, 1],
                    initial: vec![],
                    training: false,
                };
                let out = run.on(&engine);
                let candidate = 2;
                for (block, got) in out.gates.chunks(2).take(gates).enumerate() {
                    let open = block == gate;
                    let want = match (block == candidate, open) {
                        (true, true) => 3f32.tanh(),
                        (true, false) => 0.0,
                        (false, true) => 1.0 / (1.0 + (-3f32).exp()),
                        (false, false) => 0.5,
                    };
                    assert!(apart(got, &[want; 2]) < NEAR, "{engine:?} {kind:?} {gate}: {got:?}");
                }
            }
        }
    }
}

// --- Flax

/// `goldens/flax_layers.py` made the parameters and the values. One kernel [in, H] a gate; the LSTM's
/// carry is (c, h).
#[test]
fn flax_cells_give_what_flax_gives() {
    let arrays = read_arrays(&golden("flax_layers.npz")).unwrap();
    let x = floats(&arrays, "x").into_dimensionality::<Ix3>().unwrap();
    for (name, cell, gates) in [
        ("lstm", RecurrentCell::Lstm, "ifgo"),
        ("optimized_lstm", RecurrentCell::Lstm, "ifgo"),
        ("gru", RecurrentCell::Gru, "rzn"),
    ] {
        let kernel = |side: char| -> Array2<f32> {
            let one = |gate: char| {
                let kernel = floats(&arrays, &format!("{name}/{side}{gate}/kernel"));
                kernel.into_dimensionality::<Ix2>().unwrap().reversed_axes()
            };
            let all: Vec<_> = gates.chars().map(one).collect();
            concatenate(Axis(0), &all.iter().map(|a| a.view()).collect::<Vec<_>>()).unwrap()
        };
        // Where Flax has no bias there is none.
        let bias = |side: char| -> Array1<f32> {
            let one = |gate: char| {
                let name = format!("{name}/{side}{gate}/bias");
                match arrays.contains_key(&name) {
                    true => floats(&arrays, &name).into_dimensionality::<Ix1>().unwrap(),
                    false => Array1::zeros(5),
                }
            };
            let all: Vec<_> = gates.chars().map(one).collect();
            concatenate(Axis(0), &all.iter().map(|a| a.view()).collect::<Vec<_>>()).unwrap()
        };
        let carry = |stem: &str, k: usize| {
            let array = floats(&arrays, &format!("{name}/{stem}{k}"));
            array.into_dimensionality::<Ix2>().unwrap().insert_axis(Axis(0))
        };
        let lstm = cell == RecurrentCell::Lstm;
        let states = |stem: &str| match lstm {
            true => States { h: Some(carry(stem, 1)), c: Some(carry(stem, 0)) },
            false => States { h: Some(carry(stem, 0)), c: None },
        };
        let node = RecurrentNode {
            name: name.to_string(),
            cell,
            input: 3,
            hidden: 5,
            clip: None,
            coupled: false,
            directions: vec![graph::Direction {
                reverse: false,
                activations: cell.activations().to_vec(),
                weight_ih: kernel('i'),
                weight_hh: kernel('h'),
                bias: Some([bias('i'), bias('h')]),
                peephole: None,
                projection: None,
            }],
        };
        for engine in engines() {
            let (y, last) =
                run_recurrent(&engine, &node, x.view(), None, &states("carry")).unwrap();
            let want = states("last");
            let error = apart(&y, &floats(&arrays, &format!("{name}/y")));
            assert!(error < NEAR, "{name} on {engine:?}: {error:.1e}");
            assert!(apart(&last.h.unwrap(), &want.h.unwrap()) < NEAR, "{name}");
            if let (Some(got), Some(want)) = (last.c, want.c) {
                assert!(apart(&got, &want) < NEAR, "{name}: c");
            }
            // The other order of the carry is another result.
            if lstm {
                let States { h, c } = states("carry");
                let swapped = States { h: c, c: h };
                let (other, _) = run_recurrent(&engine, &node, x.view(), None, &swapped).unwrap();
                assert!(apart(&other, &y) > 1000.0 * NEAR);
            }
        }
    }
}

// --- Padding

/// `goldens/keras_masks.py` made the arrays. Rows that end early repeat their last output, or with
/// zero_output_for_mask (and in two directions always) are 0; the reverse direction starts at each
/// row's last valid step.
#[test]
fn padded_outputs_are_keras() {
    let arrays = read_arrays(&golden("keras_masks.npz")).unwrap();
    let turned = |name: &str| {
        let array = floats(&arrays, name).into_dimensionality::<Ix3>().unwrap();
        array.permuted_axes([1, 0, 2]).as_standard_layout().into_owned()
    };
    let Value::I64(lengths) = &arrays["lengths"] else { panic!() };
    let lengths: Vec<u32> = lengths.iter().map(|&n| n as u32).collect();
    assert_eq!(lengths, [2, 5, 3]);
    let found = import(&golden("keras_masks.npz"), None).unwrap();
    assert_eq!(found.layers.len(), 3);
    let weights = to_tensors(&found.layers).unwrap().tensors;
    let x = turned("x");
    let (time, batch, input) = x.dim();
    for layer in &found.layers {
        let facts = &layer.facts;
        let both = facts.directions.len() == 2;
        let kind = if facts.cell == RecurrentCell::Gru { CellKind::Gru } else { CellKind::Lstm };
        let stack = Recurrent {
            direction: if both { Direction::Both(Merge::Concat) } else { Direction::Forward },
            ..Recurrent::new(facts.name.clone(), kind, input, 5)
        };
        let name = facts.name.split('.').next().unwrap();
        for engine in engines() {
            let run = |padding: Padding| {
                let mut rec = Recorder::inference();
                let source = rec.input("x", [time * batch, input], false).unwrap();
                let ids = rec.input_ids("lengths", batch).unwrap();
                let sequence = Sequence::new(time, batch).with_lengths(ids).with_padding(padding);
                let out = stack.record(&mut rec, source, sequence, &InitialState::Zero).unwrap();
                let y = rec.output("y", out.output).unwrap();
                let store = engine.store();
                store.set_all(&weights).unwrap();
                let mut program = engine.load(&rec.finish(), &store).unwrap();
                program.write(source.view.buffer, x.as_slice().unwrap()).unwrap();
                program.write_u32(ids.buffer, &lengths).unwrap();
                program.run().unwrap();
                program.read(y.view.buffer).unwrap()
            };
            let (zeros, repeated) = (run(Padding::Value(0.0)), run(Padding::Repeat));
            let what = format!("{name} on {engine:?}");
            assert!(apart(&zeros, &turned(&format!("y/{name}"))) < NEAR, "{what}");
            // Keras' Bidirectional sets zero_output_for_mask in both its layers, whatever was said.
            let same = if both { &zeros } else { &repeated };
            assert!(apart(same, &turned(&format!("repeated/{name}"))) < NEAR, "{what}");
            assert!(apart(&zeros, &repeated) > 1000.0 * NEAR);
        }
    }
}

// --- Equations

/// h' = z⊙h + (1−z)⊙n: z of 1 keeps h to the bit, z of 0 leaves n alone.
#[test]
fn the_update_gate_keeps_the_old_state() {
    for engine in engines() {
        for kind in [CellKind::Gru, CellKind::GruResetBefore] {
            let stack = Recurrent::new("rnn", kind, 3, 4);
            let run = |z: f32| {
                let weights = move |name: &str, shape: &[usize]| {
                    let mut values = some(name, shape);
                    if name == "bias_ih_l0" {
                        values[4..8].fill(z);
                    }
                    values
                };
                let run = Run {
                    stack: &stack,
                    weights: &weights,
                    x: random(6, 1),
                    sizes: [1, 2],
                    initial: random(8, 2),
                    training: false,
                };
                run.on(&engine)
            };
            assert_eq!(run(90.0).y, random(8, 2), "{engine:?} {kind:?}");
            let none = run(-60.0);
            let n: Vec<f32> = none.gates.chunks(16).flat_map(|row| row[8..12].to_vec()).collect();
            assert!(apart(&none.y, &n) < NEAR, "{engine:?} {kind:?}");
            assert!(apart(&none.y, &random(8, 2)) > 1000.0 * NEAR);
        }
    }
}

/// One bias vector is as good as two, but for n of a GRU that resets after the product. Reset before,
/// b' stands outside the reset.
#[test]
fn two_biases_are_their_sum_but_for_one() {
    for engine in engines() {
        for kind in [
            CellKind::RnnTanh,
            CellKind::RnnRelu,
            CellKind::Lstm,
            CellKind::Gru,
            CellKind::GruResetBefore,
        ] {
            let stack = Recurrent::new("rnn", kind, 3, 4);
            // Moves the first rows of b' to b.
            let run = |rows: usize| {
                let weights = move |name: &str, shape: &[usize]| {
                    let mut values = some(name, shape);
                    let other = some("bias_hh_l0", shape);
                    match name {
                        "bias_ih_l0" => (0..rows).for_each(|k| values[k] += other[k]),
                        "bias_hh_l0" => values[..rows].fill(0.0),
                        _ => {}
                    }
                    values
                };
                let run = Run {
                    stack: &stack,
                    weights: &weights,
                    x: random(18, 1),
                    sizes: [3, 2],
                    initial: random(8 * stack.cell.states(), 2),
                    training: false,
                };
                run.on(&engine).y
            };
            let (two, one) = (run(0), run(stack.cell.gates() * 4));
            let error = apart(&two, &one);
            if kind == CellKind::Gru {
                assert!(error > 1000.0 * NEAR, "{engine:?}: {error:.1e}");
                let gates = apart(&two, &run(8));
                assert!(gates < 3.0 * NEAR, "{engine:?}: r and z: {gates:.1e}");
            } else {
                assert!(error < 3.0 * NEAR, "{engine:?} {kind:?}: {error:.1e}");
            }
        }
    }
}

/// A forget bias of 1 in both of PyTorch's vectors is 2 in one.
#[test]
fn a_forget_bias_in_both_vectors_counts_twice() {
    for engine in engines() {
        let stack = Recurrent::new("rnn", CellKind::Lstm, 3, 4);
        let run = |input: f32, recurrent: f32| {
            let weights = move |name: &str, shape: &[usize]| {
                let mut values = some(name, shape);
                match name {
                    "bias_ih_l0" => values[4..8].fill(input),
                    "bias_hh_l0" => values[4..8].fill(recurrent),
                    _ => {}
                }
                values
            };
            let run = Run {
                stack: &stack,
                weights: &weights,
                x: random(12, 1),
                sizes: [2, 2],
                initial: random(16, 2),
                training: false,
            };
            run.on(&engine).last
        };
        let both = run(1.0, 1.0);
        assert!(apart(&both, &run(2.0, 0.0)) < NEAR, "{engine:?}");
        assert!(apart(&both, &run(1.0, 0.0)) > 1000.0 * NEAR, "{engine:?}");
    }
}

/// ONNX cuts what goes into the gates, and c grows on; cuDNN cuts c, and the gates stay.
#[test]
fn clips_cut_gates_or_the_cell_state() {
    let sigmoid = |a: f32| 1.0 / (1.0 + (-a).exp());
    for engine in engines() {
        let run = |change: &dyn Fn(&mut Cell)| {
            let mut cell = Cell::from(CellKind::Lstm);
            change(&mut cell);
            let stack = Recurrent::new("rnn", cell, 1, 1);
            let weights = |name: &str, shape: &[usize]| match name {
                "bias_ih_l0" => vec![6.0, 5.0, 4.0, -7.0],
                _ => vec![0.0; shape.iter().product()],
            };
            let run = Run {
                stack: &stack,
                weights: &weights,
                x: vec![0.0],
                sizes: [1, 1],
                initial: vec![0.0, 3.0],
                training: false,
            };
            let out = run.on(&engine);
            (out.last, out.gates)
        };
        let gates = [sigmoid(6.0), sigmoid(5.0), 4f32.tanh(), sigmoid(-7.0)];
        let c = gates[1] * 3.0 + gates[0] * gates[2];
        let (last, got) = run(&|_| {});
        assert!(apart(&got, &gates) < NEAR && apart(&last, &[gates[3] * c.tanh(), c]) < NEAR);

        let (last, got) = run(&|cell| cell.clip = Some(1.5));
        let cut = [sigmoid(1.5), sigmoid(1.5), 1.5f32.tanh(), sigmoid(-1.5)];
        let c = cut[1] * 3.0 + cut[0] * cut[2];
        assert!(c > 1.5, "the state itself is not cut");
        assert!(apart(&got, &cut) < NEAR && apart(&last, &[cut[3] * c.tanh(), c]) < NEAR);

        let (last, got) = run(&|cell| cell.cell_clip = Some(1.5));
        assert!(apart(&got, &gates) < NEAR, "the gates are not cut");
        assert!(apart(&last, &[gates[3] * 1.5f32.tanh(), 1.5]) < NEAR, "{last:?}");
    }
}

#[test]
fn activations_have_onnxs_defaults() {
    let named = |name: &str| Activation::from_onnx(name, || None, || None);
    assert_eq!(named("HardSigmoid"), Ok(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }));
    assert_eq!(named("LeakyRelu"), Ok(Activation::LeakyRelu { alpha: 0.01 }));
    assert_eq!(named("Elu"), Ok(Activation::Elu { alpha: 1.0 }));
    assert_eq!(named("ThresholdedRelu"), Ok(Activation::ThresholdedRelu { alpha: 1.0 }));
    // Given in part: the other one keeps its default.
    let half = Activation::from_onnx("HardSigmoid", || Some(0.25), || None);
    assert_eq!(half, Ok(Activation::HardSigmoid { alpha: 0.25, beta: 0.5 }));
}

// --- Initial weights (those of Keras and Flax are in tests/sequences.rs)

#[test]
fn pytorchs_initial_weights_are_uniform_biases_too() {
    let stack = Recurrent {
        layers: 2,
        direction: Direction::Both(Merge::Concat),
        ..Recurrent::new("rnn", CellKind::Lstm, 24, 36)
    };
    let mut tensors = NamedTensors::new();
    stack.init_with(RecurrentInit::PYTORCH, &mut Initializer::new(1), &mut tensors).unwrap();
    assert_eq!(tensors.len(), 16);
    // 1/√H, whatever a tensor's own width.
    let bound = 1.0 / 6.0;
    for (name, tensor) in &tensors {
        let (least, most) = tensor.iter().fold((0f32, 0f32), |(a, b), &v| (a.min(v), b.max(v)));
        assert!(-bound <= least && least < -0.9 * bound, "{name}: {least}");
        assert!(0.9 * bound < most && most <= bound, "{name}: {most}");
        let mean = tensor.sum() / tensor.len() as f32;
        assert!(mean.abs() < 0.2 * bound, "{name}: {mean}");
    }
}

// --- Dropout

const WIDTH: usize = 16;

/// Ones through identities: outputs are the masks themselves.
fn masks_of(engine: &Engine, change: &dyn Fn(&mut Recurrent), recurrent: bool) -> Vec<f32> {
    let mut stack = Recurrent::new("rnn", CellKind::RnnRelu, WIDTH, WIDTH);
    change(&mut stack);
    let weights = |name: &str, shape: &[usize]| {
        let wanted = if recurrent { "weight_hh" } else { "weight_ih" };
        match name.starts_with(wanted) {
            true => identities(shape),
            false => vec![0.0; shape.iter().product()],
        }
    };
    let [time, batch] = [6, 2];
    let run = Run {
        stack: &stack,
        weights: &weights,
        x: vec![1.0; time * batch * WIDTH],
        sizes: [time, batch],
        initial: if recurrent { vec![1.0; batch * WIDTH] } else { vec![] },
        training: true,
    };
    run.on(engine).y
}

/// Rows of the batch at each step: [T][B].
fn rows(y: &[f32]) -> Vec<Vec<Vec<f32>>> {
    let row = |row: &[f32]| row.chunks(WIDTH).map(<[f32]>::to_vec).collect();
    y.chunks(2 * WIDTH).map(row).collect()
}

#[test]
fn dropout_between_layers_is_fresh_each_step_and_spares_the_last() {
    for engine in engines() {
        let one = masks_of(&engine, &|s| s.dropout = 0.5, false);
        assert!(one.iter().all(|&v| v == 1.0), "{engine:?}: the last layer's outputs are whole");
        let two = masks_of(&engine, &|s| (s.dropout, s.layers) = (0.5, 2), false);
        assert!(two.iter().all(|&v| v == 0.0 || v == 2.0), "{engine:?}: kept ones are doubled");
        let steps = rows(&two);
        for t in 1..steps.len() {
            assert_ne!(steps[t], steps[0], "{engine:?}: step {t} has a mask of its own");
            assert_ne!(steps[t][0], steps[t][1], "{engine:?}: and so has each row");
        }
    }
}

#[test]
fn dropout_on_inputs_is_one_mask_a_sequence() {
    for engine in engines() {
        let y = masks_of(&engine, &|s| s.input_dropout = 0.5, false);
        assert!(y.iter().all(|&v| v == 0.0 || v == 2.0));
        assert!(y.contains(&0.0) && y.contains(&2.0));
        let steps = rows(&y);
        assert!(steps.iter().all(|step| *step == steps[0]), "{engine:?}");
        assert_ne!(steps[0][0], steps[0][1], "{engine:?}");
    }
}

#[test]
fn dropout_on_h_is_one_mask_a_sequence() {
    for engine in engines() {
        let y = masks_of(&engine, &|s| s.recurrent_dropout = 0.5, true);
        let steps = rows(&y);
        assert!(steps[0][0].contains(&0.0) && steps[0][0].contains(&2.0));
        for (t, step) in steps.iter().enumerate() {
            // The same ones are kept, and doubled each time.
            let want = steps[0].iter().map(|row| row.iter().map(|v| v * 2f32.powi(t as i32)));
            let want: Vec<Vec<f32>> = want.map(Iterator::collect).collect();
            assert_eq!(*step, want, "{engine:?}: step {t}");
        }
    }
}

/// As Keras' recurrent_dropout, where it is asked for.
#[test]
fn dropout_on_h_may_differ_by_gate() {
    for engine in engines() {
        for per_gate in [false, true] {
            let stack = Recurrent {
                recurrent_dropout: 0.5,
                per_gate,
                ..Recurrent::new("rnn", CellKind::Lstm, 1, WIDTH)
            };
            let weights = |name: &str, shape: &[usize]| match name {
                "weight_hh_l0" => identities(shape),
                _ => vec![0.0; shape.iter().product()],
            };
            let run = Run {
                stack: &stack,
                weights: &weights,
                x: vec![0.0],
                sizes: [1, 1],
                initial: [vec![1.0; WIDTH], vec![0.0; WIDTH]].concat(),
                training: true,
            };
            let out = run.on(&engine);
            // σ(0) and tanh(0) where h was dropped.
            let gates = out.gates.chunks(WIDTH).enumerate();
            let dropped: Vec<Vec<bool>> = gates
                .map(|(g, gate)| {
                    let none = if g == 2 { 0.0 } else { 0.5 };
                    gate.iter().map(|&v| (v - none).abs() < 1e-3).collect()
                })
                .collect();
            assert!(dropped.iter().all(|gate| gate.contains(&true) && gate.contains(&false)));
            for (g, gate) in dropped.iter().enumerate().skip(1) {
                assert_eq!(*gate == dropped[0], !per_gate, "{engine:?}: gate {g}");
            }
        }
    }
}
