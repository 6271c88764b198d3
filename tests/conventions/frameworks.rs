//! What Flax and Keras computed.

use crate::common::{apart, engines};
use crate::run::NEAR;
use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2, Ix3, concatenate};
use recurra::cell::CellKind;
use recurra::convert::{import, to_tensors};
use recurra::format::npz::read_arrays;
use recurra::graph::{self, RecurrentCell, RecurrentNode, States, run_recurrent};
use recurra::layer::{Direction, InitialState, Merge, Padding, Recurrent, Sequence};
use recurra::schedule::Recorder;
use recurra::tensor::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn floats(arrays: &BTreeMap<String, Value>, name: &str) -> ArrayD<f32> {
    match &arrays[name] {
        Value::F32(array) => array.clone(),
        other => panic!("{name} is {}", other.kind()),
    }
}

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
