//! What can't be right is refused, and the refusal says what it is: by the library, by the command
//! line. A length of zero is right.
#![cfg(feature = "cli")]

mod common;

use common::engines;
use ndarray::{ArrayD, IxDyn};
use recurra::cell::{Activation, Cell, CellKind};
use recurra::format::npz::write_arrays;
use recurra::format::onnx::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto, tensor_proto, write_model,
};
use recurra::format::{TensorFile, write_tensors};
use recurra::kernel::Convolution;
use recurra::layer::{
    Direction, Embedding, InitialState, Initializer, Merge, Padding, Recurrent, Sequence,
};
use recurra::loss::cross_entropy;
use recurra::schedule::{Recorder, Var};
use recurra::tensor::{HostTensor, NamedTensors, Value};
use recurra::{Error, Result};
use std::path::Path;
use std::process::Command;

fn says(what: &str, error: Error, words: &[&str]) {
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{what} should say '{word}': {message}");
    }
}

fn stack(kind: CellKind) -> Recurrent {
    Recurrent::new("rnn", kind, 3, 4)
}

/// Records a stack over 2 steps of 3 rows.
fn record(stack: &Recurrent) -> Result<()> {
    let mut rec = Recorder::training();
    let x = rec.input("x", [6, stack.input.max(1)], true)?;
    stack.record(&mut rec, x, [2, 3], &InitialState::Zero).map(|_| ())
}

#[test]
fn options_that_make_no_sense_are_named() {
    type Change = fn(&mut Recurrent);
    let lstm: [(Change, &str); 33] = [
        (|s| s.input = 0, "input size"),
        (|s| s.hidden = 0, "hidden size"),
        (|s| s.layers = 0, "number of layers"),
        (|s| s.heads = 0, "number of heads"),
        (|s| s.dropout = 1.0, "rate of dropout must be in [0, 1), not 1"),
        (|s| s.dropout = f32::NAN, "rate of dropout"),
        (|s| s.input_dropout = -0.1, "input dropout"),
        (|s| s.recurrent_dropout = 1.5, "recurrent dropout"),
        (|s| s.weight_drop = f32::INFINITY, "weight drop"),
        (|s| s.zoneout = [1.0, 0.0], "zoneout of h"),
        (|s| s.zoneout = [0.0, -1.0], "zoneout of the other states"),
        (|s| s.heads = 3, "heads must divide"),
        (|s| (s.heads, s.cell.projection) = (2, Some(2)), "heads don't go with a projection"),
        (|s| s.batch_norm = Some(0.0), "batch norm's epsilon"),
        (|s| s.batch_norm = Some(f32::NAN), "batch norm's epsilon"),
        (|s| s.cell.layer_norm = Some(-1.0), "layer norm's epsilon"),
        (|s| (s.cell.layer_norm, s.batch_norm) = (Some(0.1), Some(0.1)), "layer norm and batch"),
        (|s| s.cell.clip = Some(0.0), "clip must be a positive number, not 0"),
        (|s| s.cell.clip = Some(f32::NAN), "clip must be"),
        (|s| s.cell.clip = Some(f32::INFINITY), "clip must be"),
        (|s| s.cell.cell_clip = Some(-2.0), "cell clip must be a positive number, not -2"),
        (|s| s.cell.projection = Some(0), "projection"),
        (|s| s.cell.activations = Some(vec![Activation::Tanh; 2]), "3 or 5 activations"),
        (|s| s.cell.activations = Some(vec![]), "3 or 5 activations"),
        (|s| s.cell.activations = Some(vec![Activation::LeakyRelu { alpha: f32::NAN }; 3]), "NaN"),
        (|s| s.convolution = Some(Convolution { map: [1, 3], kernel: [1, 2] }), "odd kernel"),
        (
            |s| s.convolution = Some(Convolution { map: [0, 3], kernel: [1, 3] }),
            "at least one place",
        ),
        (
            |s| {
                s.convolution = Some(Convolution { map: [1, 3], kernel: [1, 3] });
                s.heads = 2;
            },
            "convolution doesn't go with heads",
        ),
        (
            |s| {
                s.convolution = Some(Convolution { map: [1, 3], kernel: [1, 3] });
                (s.recurrent_dropout, s.per_gate) = (0.5, true);
            },
            "recurrent mask for each gate",
        ),
        // Three rows are no maps of two places.
        (|s| s.convolution = Some(Convolution { map: [1, 2], kernel: [1, 3] }), "maps of 2 places"),
        (|s| s.cell.kind = CellKind::Custom, "equations are missing"),
        (|s| s.layers = 1 << 21, "launches a pass"),
        (|s| s.layers = usize::MAX / 2, "launches a pass"),
    ];
    for (change, word) in lstm {
        let mut stack = stack(CellKind::Lstm);
        record(&stack).unwrap();
        change(&mut stack);
        says(word, record(&stack).unwrap_err(), &[word]);
    }
    type CellChange = fn(&mut Cell);
    let lstm_alone: [(CellChange, &str); 4] = [
        (|c| c.peepholes = true, "peepholes"),
        (|c| c.coupled = true, "coupled gates"),
        (|c| c.cell_clip = Some(1.0), "cell clip"),
        (|c| c.projection = Some(2), "projection"),
    ];
    for kind in CellKind::ALL {
        let refused = |change: &dyn Fn(&mut Recurrent), words: &[&str]| {
            let mut stack = stack(kind);
            change(&mut stack);
            says(words[0], record(&stack).unwrap_err(), &[words, &[kind.name()]].concat());
        };
        if kind != CellKind::Lstm {
            for (change, word) in lstm_alone {
                refused(&|s| change(&mut s.cell), &[word, "LSTM alone"]);
            }
        }
        if kind.is_scan() {
            refused(&|s| s.recurrent_dropout = 0.1, &["no recurrent product"]);
            refused(&|s| s.weight_drop = 0.1, &["no recurrent product"]);
            refused(&|s| s.heads = 2, &["no recurrent product"]);
        }
        if kind.is_scan() || kind == CellKind::Slstm {
            refused(&|s| s.cell.clip = Some(1.0), &["clip"]);
            refused(
                &|s| s.cell.activations = Some(vec![Activation::Tanh]),
                &["no activations can be chosen, 1 was given"],
            );
        }
        if kind.is_scan() || matches!(kind, CellKind::Slstm | CellKind::GruResetBefore) {
            refused(&|s| s.cell.layer_norm = Some(0.1), &["layer norm"]);
        }
        if kind.is_scan() || kind == CellKind::GruResetBefore {
            let line = Convolution { map: [1, 3], kernel: [1, 3] };
            refused(&|s| s.convolution = Some(line), &["convolution"]);
        }
    }
}

#[test]
fn wrong_shapes_are_named() {
    type Make = fn(&mut Recorder) -> Result<()>;
    let x = |rec: &mut Recorder| rec.input("x", [6, 3], true);
    fn over(rec: &mut Recorder, x: Var, sequence: impl Into<Sequence>) -> Result<()> {
        stack(CellKind::Lstm).record(rec, x, sequence, &InitialState::Zero).map(|_| ())
    }
    fn given(rec: &mut Recorder, shapes: &[[usize; 2]]) -> Result<()> {
        let x = rec.input("x", [6, 3], true)?;
        let states = shapes.iter().enumerate();
        let states: Result<Vec<Var>> =
            states.map(|(n, shape)| rec.input(&format!("h{n}"), *shape, true)).collect();
        let stack = Recurrent { layers: 2, ..stack(CellKind::Lstm) };
        stack.record(rec, x, [2, 3], &InitialState::Given(states?)).map(|_| ())
    }
    let mut rec = Recorder::training();
    let good = x(&mut rec).unwrap();
    over(&mut rec, good, [2, 3]).unwrap();
    given(&mut Recorder::training(), &[[6, 4], [6, 4]]).unwrap();
    let cases: [(Make, &[&str]); 14] = [
        (
            |r| {
                let x = r.input("x", [6, 2], true)?;
                over(r, x, [2, 3])
            },
            &["'rnn'", "[6, 3]", "[6, 2]"],
        ),
        (
            |r| {
                let x = r.input("x", [5, 3], true)?;
                over(r, x, [2, 3])
            },
            &["'rnn'", "[6, 3]", "[5, 3]"],
        ),
        (
            |r| {
                let x = r.input("x", [6, 3], true)?;
                over(r, x, [0, 3])
            },
            &["number of time steps"],
        ),
        (
            |r| {
                let x = r.input("x", [6, 3], true)?;
                over(r, x, [2, 0])
            },
            &["batch"],
        ),
        (
            |r| {
                let x = r.input("x", [6, 3], true)?;
                let l = r.input_ids("l", 2)?;
                over(r, x, Sequence::new(2, 3).with_lengths(l))
            },
            &["lengths", "[3]", "[2]"],
        ),
        (
            |r| {
                let x = r.input("x", [6, 3], true)?;
                let l = r.input("l", [1, 3], false)?;
                over(r, x, Sequence::new(2, 3).with_lengths(l.view))
            },
            &["'lengths'", "U32", "'l' is F32"],
        ),
        (
            |r| {
                let x = r.input("x", [6, 3], true)?;
                let m = r.input("m", [3, 1], false)?;
                over(r, x, Sequence::new(2, 3).with_mask(m.view))
            },
            &["mask", "[6]", "[3]"],
        ),
        (
            |r| {
                let x = r.input("x", [6, 3], true)?;
                let m = r.input("m", [3, 3], false)?;
                over(r, x, Sequence::new(2, 3).with_resets(m.view))
            },
            &["resets", "[6]", "[9]"],
        ),
        (|r| given(r, &[[6, 4]]), &["initial states (layers times directions)", "[2]", "[1]"]),
        (|r| given(r, &[[6, 4], [6, 5]]), &["initial state", "[6, 4]", "[6, 5]"]),
        (|r| given(r, &[[3, 4], [6, 4]]), &["initial state", "[6, 4]", "[3, 4]"]),
        (
            |r| {
                r.input("x", [6, 3], true)?;
                r.input("x", [6, 3], true).map(|_| ())
            },
            &["'x'", "twice"],
        ),
        (|r| r.input("x", [0, 3], true).map(|_| ()), &["'x'", "empty"]),
        (|r| r.input("x", [1 << 20, 1 << 20], true).map(|_| ()), &["'x'", "elements"]),
    ];
    for (make, words) in cases {
        says(words[0], make(&mut Recorder::training()).unwrap_err(), words);
    }
}

#[test]
fn what_the_host_writes_is_checked() {
    for engine in engines() {
        let mut rec = Recorder::training();
        let ids = rec.input_ids("ids", 6).unwrap();
        let targets = rec.input_ids("targets", 6).unwrap();
        let lengths = rec.input_ids("lengths", 3).unwrap();
        let embedding = Embedding { name: "embedding".into(), vocabulary: 5, width: 3 };
        let x = embedding.record(&mut rec, ids).unwrap();
        let sequence = Sequence::new(2, 3).with_lengths(lengths);
        let layer = stack(CellKind::Gru);
        let out = layer.record(&mut rec, x, sequence, &InitialState::Zero).unwrap();
        cross_entropy(&mut rec, out.output, targets).unwrap();
        let last = rec.output("last", out.finals[0]).unwrap();
        rec.backward().unwrap();
        let mut weights = NamedTensors::new();
        layer.init(&mut Initializer::new(1), &mut weights);
        embedding.init(&mut Initializer::new(2), &mut weights);
        let store = engine.store();
        let recording = rec.finish();

        // A weight that is missing, has another size, or isn't a number.
        store.set_all(&weights).unwrap();
        let name = "rnn.weight_hh_l0";
        store.set(name, &[0.0; 7]).unwrap();
        says("size", engine.load(&recording, &store).err().unwrap(), &[name, "[48]", "[7]"]);
        let fresh = engine.store();
        let message = engine.load(&recording, &fresh).err().unwrap();
        says("missing", message, &["embedding.weight", "missing"]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut poisoned = weights.clone();
            poisoned.get_mut(name).unwrap()[[7, 2]] = bad;
            let word = bad.to_string();
            says("set_all", store.set_all(&poisoned).unwrap_err(), &[name, "[7, 2]", &word]);
            says("set", store.set("h", &[0.0, bad]).unwrap_err(), &["'h'", "[1]", &word]);
        }
        // What was refused has changed nothing.
        assert_eq!(store.get(name).unwrap(), [0.0; 7]);
        assert!(store.get("h").is_err());

        store.set_all(&weights).unwrap();
        let mut program = engine.load(&recording, &store).unwrap();
        let mut refuse = |buffer, values: &[u32], words: &[&str]| {
            says(words[0], program.write_u32(buffer, values).unwrap_err(), words);
        };
        let (ids, targets, lengths) = (ids.buffer, targets.buffer, lengths.buffer);
        refuse(lengths, &[2, 3, 0], &["'lengths'", "element 1 is 3", "2 at most"]);
        refuse(lengths, &[2, 1, -1i32 as u32], &["'lengths'", "element 2", "-1", "2 at most"]);
        refuse(lengths, &[2, 1], &["lengths", "[3]", "[2]"]);
        refuse(ids, &[0, 0, 0, 0, 5, 0], &["'ids'", "element 4 is 5", "4 at most"]);
        refuse(targets, &[0, 0, 4, 0, 0, 0], &["'targets'", "element 2 is 4", "3 at most"]);
        assert!(program.write(lengths, &[1.0; 3]).unwrap_err().to_string().contains("lengths"));
        says("temporary", program.read(lengths).unwrap_err(), &["'lengths' is no output"]);
        assert!(program.find("length").unwrap_err().to_string().contains("'length'"));
        // The borders themselves are right.
        program.write_u32(ids, &[4, 0, 1, 2, 3, 4]).unwrap();
        program.write_u32(targets, &[3, 0, 1, 2, 3, 3]).unwrap();
        program.write_u32(lengths, &[2, 0, 1]).unwrap();
        program.run().unwrap();
        assert!(program.read(last.view.buffer).unwrap().iter().all(|v| v.is_finite()));
    }
}

/// Outputs are the padding, final states the initial ones, to the bit; gradients pass through.
#[test]
fn a_length_of_zero_is_legal() {
    let (time, batch, hidden) = (3, 2, 4);
    for engine in engines() {
        for (kind, projection) in
            CellKind::ALL.map(|kind| (kind, None)).into_iter().chain([(CellKind::Lstm, Some(2))])
        {
            for direction in
                [Direction::Forward, Direction::Reverse, Direction::Both(Merge::Concat)]
            {
                for (lengths, padding) in [
                    ([0, 3], Padding::Value(-1.5)),
                    ([0, 2], Padding::Repeat),
                    ([0, 0], Padding::Value(0.0)),
                ] {
                    let cell = Cell { projection, ..Cell::from(kind) };
                    let stack = Recurrent {
                        layers: 2,
                        direction,
                        ..Recurrent::new("rnn", cell, 3, hidden)
                    };
                    let what =
                        format!("{engine:?} {kind:?} {projection:?} {direction:?} {lengths:?}");
                    let values = |n: usize| Initializer::new(n as u64).uniform(n, 1.0);
                    let mut rec = Recorder::training();
                    let mut floats = Vec::new();
                    let x = rec.input("x", [time * batch, 3], true).unwrap();
                    floats.push((x, values(time * batch * 3)));
                    let parts = 2 * direction.count();
                    let shape = stack.state_shape(batch);
                    let words = shape[0] * shape[1];
                    let mut given = Vec::new();
                    for n in 0..parts {
                        let state = rec.input(&format!("initial{n}"), shape, true).unwrap();
                        // sLSTM's n is positive.
                        let all = values(words + n).split_off(n);
                        floats.push((state, all.into_iter().map(|v| v.abs() + 0.1).collect()));
                        given.push(state);
                    }
                    let ids = rec.input_ids("lengths", batch).unwrap();
                    let sequence =
                        Sequence::new(time, batch).with_lengths(ids).with_padding(padding);
                    let initial = InitialState::Given(given.clone());
                    let out = stack.record(&mut rec, x, sequence, &initial).unwrap();
                    for (n, last) in out.finals.iter().enumerate() {
                        let seed = rec.input(&format!("seed{n}"), shape, false).unwrap();
                        rec.seed_gradient(*last, seed).unwrap();
                        floats.push((seed, values(words + 7 + n).split_off(7 + n)));
                    }
                    rec.backward().unwrap();
                    let mut read = vec![rec.output("y", out.output).unwrap()];
                    for (n, (&state, &last)) in given.iter().zip(&out.finals).enumerate() {
                        read.push(rec.output(&format!("last{n}"), last).unwrap());
                        let d = Var { view: rec.gradient(state).unwrap(), ..state };
                        read.push(rec.output(&format!("d{n}"), d).unwrap());
                    }
                    let mut weights = NamedTensors::new();
                    stack.init(&mut Initializer::new(5), &mut weights);
                    let store = engine.store();
                    store.set_all(&weights).unwrap();
                    let mut program = engine.load(&rec.finish(), &store).unwrap();
                    for (var, values) in &floats {
                        program.write(var.view.buffer, values).unwrap();
                    }
                    program.write_u32(ids.buffer, &lengths).unwrap();
                    program.run().unwrap();
                    let mut got = read.iter().map(|v| program.read(v.view.buffer).unwrap());
                    let y = got.next().unwrap();
                    // The first row of each state of a part: h, then the others.
                    let row = |values: &[f32], b: usize| -> Vec<f32> {
                        let width = stack.cell.width(hidden);
                        let (h, others) = values.split_at(batch * width);
                        let others = others.chunks(batch * hidden);
                        let others = others.flat_map(|s| s[b * hidden..][..hidden].to_vec());
                        h[b * width..][..width].iter().copied().chain(others).collect()
                    };
                    let empty = |b: usize| lengths[b] == 0;
                    let (first, seeds) = floats[1..].split_at(parts);
                    for n in 0..parts {
                        let (last, d) = (got.next().unwrap(), got.next().unwrap());
                        for b in 0..batch {
                            let same = row(&last, b) == row(&first[n].1, b);
                            assert_eq!(same, empty(b), "{what}: final state of row {b}, part {n}");
                            if empty(b) {
                                assert_eq!(row(&d, b), row(&seeds[n].1, b), "{what}: gradient");
                            }
                        }
                    }
                    let width = stack.output_width();
                    for t in 0..time {
                        for b in (0..batch).filter(|&b| empty(b)) {
                            let y = &y[(t * batch + b) * width..][..width];
                            let want: Vec<f32> = match padding {
                                Padding::Value(value) => vec![value; width],
                                Padding::Repeat => {
                                    let top = &first[parts / 2..];
                                    let own = width / top.len();
                                    top.iter().flat_map(|s| row(&s.1, b)[..own].to_vec()).collect()
                                }
                            };
                            assert_eq!(y, want, "{what}: step {t}, row {b}");
                        }
                    }
                }
            }
        }
    }
}

fn recurra(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn floats(shape: &[usize]) -> ArrayD<f32> {
    let values = Initializer::new(9).uniform(shape.iter().product(), 1.0);
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

/// An LSTM over X [T, B, 3] with lengths, H = 2.
fn model(w: ArrayD<f32>, attribute: Option<AttributeProto>) -> ModelProto {
    let port = |name: &&str| ValueInfoProto { name: name.to_string(), r#type: None };
    let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(22) }],
        graph: Some(GraphProto {
            input: ["X", "lengths"].iter().map(port).collect(),
            output: ["Y", "Y_h"].iter().map(port).collect(),
            node: vec![NodeProto {
                input: names(&["X", "W", "R", "", "lengths"]),
                output: names(&["Y", "Y_h"]),
                name: "rec".to_string(),
                op_type: "LSTM".to_string(),
                attribute: attribute.into_iter().collect(),
                ..NodeProto::default()
            }],
            initializer: vec![
                tensor_proto("W", &Value::F32(w)),
                tensor_proto("R", &Value::F32(floats(&[1, 8, 2]))),
            ],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

#[test]
fn the_commands_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let fails = |arguments: &[&str], words: &[&str]| {
        let (code, message) = recurra(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
        for word in words {
            assert!(message.contains(word), "{arguments:?} should say '{word}': {message}");
        }
    };
    let write = |name: &str, arrays: &[(&str, Value)]| {
        let arrays = arrays.iter().map(|(name, value)| (*name, value));
        write_arrays(Path::new(&path(name)), arrays).unwrap();
        path(name)
    };

    // Lengths and inputs of a run.
    let onnx = path("m.onnx");
    write_model(Path::new(&onnx), &model(floats(&[1, 8, 3]), None)).unwrap();
    let x = || Value::F32(floats(&[4, 2, 3]));
    let list = |values: &[i64]| Value::I64(ndarray::arr1(values).into_dyn());
    let run = |arrays: &[(&str, Value)], words: &[&str]| {
        let input = write("x.npz", arrays);
        fails(&["run", &onnx, "--input", &input, "--device", "cpu"], words);
    };
    let title = "LSTM node 'rec'";
    run(&[("X", x()), ("lengths", list(&[-1, 4]))], &[title, "a length of -1", "4 steps"]);
    run(&[("X", x()), ("lengths", list(&[4, 5]))], &[title, "a length of 5", "4 steps"]);
    run(
        &[("X", x()), ("lengths", list(&[i64::MIN, 4]))],
        &[title, "a length of -9223372036854775808"],
    );
    run(&[("X", x()), ("lengths", list(&[4]))], &[title, "1 lengths for 2 rows"]);
    run(&[("X", x()), ("lengths", Value::F32(floats(&[2])))], &[title, "input 4", "float32"]);
    run(&[("X", x())], &["'lengths'", "missing"]);
    run(&[("X", x()), ("length", list(&[4, 4]))], &["no input 'length'", "'X'", "'lengths'"]);
    run(&[("X", x()), ("lengths", list(&[4, 4])), ("Z", x())], &["no input 'Z'"]);
    run(&[("X", list(&[1])), ("lengths", list(&[4, 4]))], &[title, "input 0", "int64"]);
    run(&[("X", Value::F32(floats(&[4, 3]))), ("lengths", list(&[4, 4]))], &[title, "3 axes"]);
    run(
        &[("X", Value::F32(floats(&[4, 2, 5]))), ("lengths", list(&[4, 4]))],
        &[title, "[4, 2, 3]"],
    );
    let zero = write("zero.npz", &[("X", x()), ("lengths", list(&[0, 4]))]);
    let (code, message) = recurra(&["run", &onnx, "--input", &zero, "--device", "cpu"]);
    assert_eq!(code, Some(0), "{message}");

    // Weights that are no numbers, in every format, wherever they are used.
    let out = path("out.safetensors");
    let mut w = floats(&[1, 8, 3]);
    w[[0, 3, 1]] = f32::NAN;
    write_model(Path::new(&onnx), &model(w, None)).unwrap();
    let words = ["W of LSTM node 'rec'", "[0, 3, 1]", "NaN"];
    fails(&["run", &onnx, "--input", &zero, "--device", "cpu"], &words);
    fails(&["import", &onnx, "--out", &out], &words);
    fails(&["export", &onnx, "--out", &path("again.onnx")], &words);
    let (code, message) = recurra(&["import", &onnx]);
    assert_eq!(code, Some(0), "a listing says what it can");
    assert!(words.iter().all(|word| message.contains(word)), "{message}");

    let torch = |change: &dyn Fn(&mut NamedTensors)| {
        let stack = Recurrent {
            layers: 2,
            direction: Direction::Both(Merge::Concat),
            ..stack(CellKind::Lstm)
        };
        let mut file = TensorFile::default();
        stack.init(&mut Initializer::new(1), &mut file.tensors);
        change(&mut file.tensors);
        write_tensors(Path::new(&path("w.safetensors")), &file).unwrap();
        path("w.safetensors")
    };
    let both = |change: &dyn Fn(&mut NamedTensors), words: &[&str]| {
        let file = torch(change);
        let words = [&["w.safetensors"], words].concat();
        fails(&["import", &file], &words);
        fails(&["export", &file, "--out", &path("w.onnx")], &words);
        assert!(!Path::new(&path("w.onnx")).exists());
    };
    let infinite = |tensors: &mut NamedTensors| {
        tensors.get_mut("rnn.weight_hh_l1_reverse").unwrap()[[1, 3]] = f32::NEG_INFINITY;
    };
    both(&infinite, &["'rnn.weight_hh_l1_reverse'", "[1, 3]", "-inf"]);
    both(
        &|tensors| drop(tensors.remove("rnn.bias_hh_l1")),
        &["bias_hh of layer rnn.l1", "missing"],
    );
    both(
        &|tensors| drop(tensors.remove("rnn.weight_ih_l0")),
        &["weight_ih of layer rnn.l0", "missing"],
    );
    let narrow = |tensors: &mut NamedTensors| {
        let other = HostTensor::zeros(IxDyn(&[16, 5]));
        tensors.insert("rnn.weight_ih_l1_reverse".to_string(), other);
    };
    both(&narrow, &["weight_ih of the reverse direction of rnn.l1", "[16, 8]", "[16, 5]"]);
    let flat = |tensors: &mut NamedTensors| {
        let other = HostTensor::zeros(IxDyn(&[16]));
        tensors.insert("rnn.weight_hh_l0".to_string(), other);
    };
    both(&flat, &["'rnn.weight_hh_l0'", "[16]"]);

    let keras = |kernel: Value, words: &[&str]| {
        let recurrent = Value::F32(floats(&[2, 8]));
        let arrays = [("l/kernel", kernel), ("l/recurrent_kernel", recurrent)];
        fails(&["import", &write("k.npz", &arrays)], words);
    };
    let mut kernel = floats(&[3, 8]);
    kernel[[2, 5]] = f32::INFINITY;
    keras(Value::F32(kernel), &["k.npz", "'l/kernel'", "[2, 5]", "inf"]);
    keras(Value::I64(ArrayD::zeros(IxDyn(&[3, 8]))), &["'l/kernel'", "int64", "float32"]);

    // What a newcomer tries first.
    let here = folder.path().to_str().unwrap();
    fails(&["run", here], &["is a folder", "recurra export", "FILE.onnx"]);
    fails(&["import", here], &["is a folder", "model.safetensors", "recurra export"]);
    fails(&["run", &torch(&|_| {})], &["a safetensors file", "recurra export"]);
    let pickle = write("m.npz", &[("archive/data", Value::F32(floats(&[1])))]);
    let mut bytes = std::fs::read(&pickle).unwrap();
    // The member's name is twice in the file.
    let renamed = b"archive/data.npy";
    let mut count = 0;
    for at in 0..bytes.len() - renamed.len() {
        if bytes[at..].starts_with(renamed) {
            bytes[at + renamed.len() - 3..at + renamed.len()].copy_from_slice(b"pkl");
            count += 1;
        }
    }
    assert_eq!(count, 2);
    std::fs::write(path("m.pt"), bytes).unwrap();
    fails(&["import", &path("m.pt")], &["m.pt", "torch.save", "save_file"]);

    // An attribute that nobody knows may mean anything.
    let unknown = AttributeProto {
        name: "flavour".to_string(),
        i: Some(1),
        r#type: AttributeType::Int.into(),
        ..AttributeProto::default()
    };
    write_model(Path::new(&onnx), &model(floats(&[1, 8, 3]), Some(unknown))).unwrap();
    let words = ["attribute 'flavour'", title];
    fails(&["run", &onnx, "--input", &zero, "--device", "cpu"], &words);
    fails(&["import", &onnx, "--out", &out], &words);
    fails(&["export", &onnx, "--out", &path("again.onnx")], &words);
    assert!(!Path::new(&out).exists() && !Path::new(&path("again.onnx")).exists());
}
