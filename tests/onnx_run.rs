//! ONNX graphs, through the library and through `recurra run`.
#![cfg(feature = "cli")]

mod common;

use common::{data_folder, engines};
use ndarray::{Array2, ArrayD, IxDyn};
use recurra::engine::Engine;
use recurra::format::npz::{read_arrays, write_arrays};
use recurra::format::onnx::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, ValueInfoProto, read_tensor, tensor_proto, write_model,
};
use recurra::graph::{Model, Session, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of this repository.
fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The largest difference of an element. Shapes and types must be the same.
fn difference(name: &str, got: &Value, want: &Value) -> f32 {
    assert_eq!(got.shape(), want.shape(), "{name}");
    match (got, want) {
        (Value::F32(got), Value::F32(want)) => got.iter().zip(want).fold(0.0, |m, (g, w)| {
            let apart = (g - w).abs();
            if apart.is_nan() { f32::INFINITY } else { apart.max(m) }
        }),
        _ => {
            assert_eq!(got, want, "{name}");
            0.0
        }
    }
}

/// The data of an operator case, by the names of the graph's inputs and outputs.
fn case_data(folder: &Path, kind: &str, count: usize) -> Vec<(String, Value)> {
    let path = |k| folder.join(format!("test_data_set_0/{kind}_{k}.pb"));
    (0..count).map(|k| read_tensor(&path(k)).unwrap()).collect()
}

/// All twelve, layouts 0 and 1 among them, by the library and by `recurra run`.
#[test]
fn the_operator_cases_run() {
    let Some(data) = data_folder("onnx_node_tests") else { return };
    let mut folders: Vec<_> =
        std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir());
    folders.sort();
    assert_eq!(folders.len(), 12);
    let files = tempfile::tempdir().unwrap();
    for engine in engines() {
        for folder in &folders {
            let name = folder.file_name().unwrap().to_str().unwrap();
            let model = Model::read(&folder.join("model.onnx")).unwrap();
            let inputs = case_data(folder, "input", model.graph.inputs.len());
            let [x, y] = ["x", "y"].map(|file| files.path().join(format!("{name}.{file}.npz")));
            write_arrays(&x, inputs.iter().map(|(name, value)| (name.as_str(), value))).unwrap();
            let path = |path: &Path| path.to_str().unwrap().to_string();
            let arguments = ["run", &path(&folder.join("model.onnx")), "--input", &path(&x)];
            let to = ["--output", &path(&y), "--device", engine.kind()];
            let (code, _, message) = recurra(&[&arguments[..], &to].concat());
            assert_eq!(code, Some(0), "{name} on {engine:?}: {message}");
            let written = read_arrays(&y).unwrap();
            let result = model.run(&engine, inputs.into_iter().collect()).unwrap();
            let wanted = case_data(folder, "output", model.graph.outputs.len());
            assert_eq!((written.len(), result.len()), (wanted.len(), wanted.len()));
            for ((name_got, got), (name_want, want)) in result.iter().zip(&wanted) {
                assert_eq!(name_got, name_want);
                for (way, got) in [("library", got), ("command", &written[name_want])] {
                    let difference = difference(name, got, want);
                    assert!(difference <= 1e-6, "{name}, {way}, {engine:?}: {difference:.1e}");
                }
            }
        }
    }
}

/// The voice detector's frames: 512 new samples with the 64 before them.
fn frames(wav: &Path) -> Array2<f32> {
    let bytes = std::fs::read(wav).unwrap();
    let samples = bytes[44..].as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)));
    let mut padded = vec![0.0; 64];
    padded.extend(samples.map(|sample| sample / 32768.0));
    let count = (padded.len() - 64) / 512;
    Array2::from_shape_fn((count, 576), |(frame, k)| padded[frame * 512 + k])
}

#[test]
fn a_voice_detector_over_a_minute_of_speech() {
    let Some(data) = data_folder("pretrained_silero_vad") else { return };
    let model = Model::read(&data.join("silero_vad_16k_sequence.onnx")).unwrap();
    let want = read_arrays(&data.join("golden_ort_testwav.npz")).unwrap();
    let x = frames(&data.join("test.wav"));
    assert_eq!(x.nrows(), 1875);
    let zeros = Value::F32(ArrayD::zeros(IxDyn(&[1, 1, 128])));
    let inputs = BTreeMap::from([
        ("input".to_string(), Value::F32(x.into_dyn())),
        ("h".to_string(), zeros.clone()),
        ("c".to_string(), zeros),
    ]);
    let engine = Engine::cpu(None).unwrap();
    let outputs = model.run(&engine, inputs).unwrap();
    assert_eq!(outputs.len(), 3);
    for (name, got) in outputs {
        let difference = difference(&name, &got, &want[&name]);
        println!("{name}: {difference:.1e}");
        assert!(difference <= 1e-4, "{name}: {difference:.1e}");
    }
}

/// The same frame by frame: a session keeps the layer loaded, its states go through the caller's hands.
#[test]
fn a_voice_detector_in_a_session() {
    let Some(data) = data_folder("pretrained_silero_vad") else { return };
    let model = Model::read(&data.join("silero_vad_16k_sequence.onnx")).unwrap();
    let [probability, states @ ..] = &model.graph.outputs[..] else { panic!() };
    let names = [probability, &states[0], &states[1]].map(|port| port.name.clone());
    let x = frames(&data.join("test.wav"));
    for engine in engines() {
        let count = if engine.kind() == "cpu" { 200 } else { 5 };
        let mut session = Session::new(&engine, model.clone()).unwrap();
        let zeros = Value::F32(ArrayD::zeros(IxDyn(&[1, 1, 128])));
        let whole = x.slice(ndarray::s![..count, ..]).to_owned();
        let inputs = |x: Array2<f32>, h: &Value, c: &Value| {
            let x = ("input".to_string(), Value::F32(x.into_dyn()));
            BTreeMap::from([x, ("h".to_string(), h.clone()), ("c".to_string(), c.clone())])
        };
        let want = model.run(&engine, inputs(whole.clone(), &zeros, &zeros)).unwrap();
        let (mut h, mut c) = (zeros.clone(), zeros);
        let mut said = Vec::new();
        for frame in whole.rows() {
            let frame = frame.to_owned().insert_axis(ndarray::Axis(0));
            let mut outputs: BTreeMap<_, _> =
                session.run(inputs(frame, &h, &c)).unwrap().into_iter().collect();
            let mut take = |name: &String| outputs.remove(name).unwrap();
            let Value::F32(probability) = take(&names[0]) else { panic!() };
            said.extend(probability);
            (h, c) = (take(&names[1]), take(&names[2]));
        }
        let Value::F32(all) = &want[0].1 else { panic!() };
        let apart = said.iter().zip(all).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: {apart:.1e}", engine.name());
        assert!(said.len() == count && all.len() == count && apart <= 1e-5, "{apart:.1e}");
    }
}

/// A session gives the bits of a run by itself: for one size after another, with lengths and without, and where an input
/// takes the place of a weight that is its default, for that run alone.
#[test]
fn a_session_is_a_run_each_time() {
    let random = |shape: &[usize], seed: usize| {
        let len = shape.iter().product();
        let values = (0..len).map(|k| ((k * 7919 + seed * 104_729) % 1000) as f32 / 700.0 - 0.7);
        Value::F32(ArrayD::from_shape_vec(IxDyn(shape), values.collect()).unwrap())
    };
    let node = NodeProto {
        input: ["x", "w", "r", "", "lengths"].map(String::from).to_vec(),
        output: ["y", "hn"].map(String::from).to_vec(),
        op_type: "GRU".to_string(),
        attribute: vec![AttributeProto {
            name: "direction".to_string(),
            s: Some(b"bidirectional".to_vec()),
            r#type: AttributeType::String.into(),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    // W is what a node makes of a constant, and R the default of an input.
    let same = NodeProto {
        input: vec!["constant".to_string()],
        output: vec!["w".to_string()],
        op_type: "Identity".to_string(),
        ..NodeProto::default()
    };
    let (w, r) = (random(&[2, 12, 3], 1), random(&[2, 12, 4], 2));
    let mut proto = one_node(node, vec![tensor_proto("constant", &w), tensor_proto("r", &r)]);
    let graph = proto.graph.as_mut().unwrap();
    graph.node.insert(0, same);
    graph.input.retain(|port| port.name != "w");
    graph.input.push(ValueInfoProto { name: "r".to_string(), r#type: None });
    let model = Model::new(proto, Path::new("session.onnx")).unwrap();
    for engine in engines() {
        let mut session = Session::new(&engine, model.clone()).unwrap();
        let mut firsts = Vec::new();
        for (number, [time, batch]) in
            [[5, 2], [1, 1], [5, 2], [5, 2], [3, 4], [2, 2], [7, 1], [1, 1]].into_iter().enumerate()
        {
            let mut inputs = BTreeMap::from([("x".to_string(), random(&[time, batch, 3], 3))]);
            let shorter = |row: usize| (time - row % 2.min(time)) as i64;
            let lengths =
                (0..batch).map(|row| if number == 3 { shorter(row) } else { time as i64 });
            let lengths = ndarray::Array1::from_iter(lengths).into_dyn();
            inputs.insert("lengths".to_string(), Value::I64(lengths));
            if number == 2 {
                inputs.insert("r".to_string(), random(&[2, 12, 4], 9));
            }
            let got = session.run(inputs.clone()).unwrap();
            assert_eq!(got, model.run(&engine, inputs).unwrap(), "run {number} on {engine:?}");
            firsts.push(got);
        }
        // The weights of run 2 and the lengths of run 3 are others than those of run 0, and those of the last run not.
        assert!(firsts[0] != firsts[2] && firsts[0] != firsts[3]);
        assert_eq!(firsts[1], firsts[7]);
        let missing = session.run(BTreeMap::new()).unwrap_err().to_string();
        assert!(missing.contains("'x'") && missing.contains("missing"), "{missing}");
    }
}

#[test]
fn a_sentence_splitter_of_two_directions() {
    let Some(data) = data_folder("pretrained_nnsplit_bilstm") else { return };
    let model = Model::read(&data.join("model.onnx")).unwrap();
    let mut arrays = read_arrays(&data.join("io.npz")).unwrap();
    let want = arrays.remove("Add_26").unwrap();
    for engine in engines() {
        let outputs = model.run(&engine, arrays.clone()).unwrap();
        let difference = difference("output", &outputs[0].1, &want);
        println!("{}: {difference:.1e}", engine.name());
        assert!(difference <= 1e-4, "{difference:.1e}");
    }
}

/// `goldens/onnx_glue.py` made the graphs and the values.
#[test]
fn every_small_operator_does_what_onnxruntime_does() {
    let engine = Engine::cpu(Some(1)).unwrap();
    for opset in [9, 22] {
        let model = Model::read(&goldens().join(format!("onnx_glue_{opset}.onnx"))).unwrap();
        let mut want = read_arrays(&goldens().join(format!("onnx_glue_{opset}.npz"))).unwrap();
        let inputs = BTreeMap::from([("x".to_string(), want.remove("x").unwrap())]);
        let outputs = model.run(&engine, inputs).unwrap();
        assert_eq!(outputs.len(), want.len());
        for (name, got) in outputs {
            let difference = difference(&name, &got, &want[&name]);
            assert!(difference <= 2e-6, "{name}, operator set {opset}: {difference:.1e}");
        }
    }
}

/// Rows of unequal lengths: each gives what it gives alone.
#[test]
fn rows_of_unequal_lengths() {
    let random = |shape: &[usize], seed: usize| {
        let len = shape.iter().product();
        let values = (0..len).map(|k| ((k * 7919 + seed * 104_729) % 1000) as f32 / 700.0 - 0.7);
        ArrayD::from_shape_vec(IxDyn(shape), values.collect()).unwrap()
    };
    let (time, batch, input, hidden) = (5, 3, 2, 4);
    let x = random(&[time, batch, input], 1);
    let node = NodeProto {
        input: ["x", "w", "r", "b", "lengths", "h", "c"].map(String::from).to_vec(),
        output: ["y", "hn", "cn"].map(String::from).to_vec(),
        op_type: "LSTM".to_string(),
        attribute: vec![AttributeProto {
            name: "direction".to_string(),
            s: Some(b"bidirectional".to_vec()),
            r#type: AttributeType::String.into(),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    let mut constants = vec![
        ("w", random(&[2, 4 * hidden, input], 2)),
        ("r", random(&[2, 4 * hidden, hidden], 3)),
        ("b", random(&[2, 8 * hidden], 4)),
    ];
    let h = random(&[2, batch, hidden], 5);
    let engine = Engine::cpu(Some(1)).unwrap();
    let mut run = |x: ArrayD<f32>, h: ArrayD<f32>, lengths: &[i64]| {
        constants.truncate(3);
        constants.extend([("x", x), ("h", h.clone()), ("c", h)]);
        let lengths = Value::I64(ndarray::arr1(lengths).into_dyn());
        let mut initializer = vec![tensor_proto("lengths", &lengths)];
        let floats = constants.iter().map(|(name, array)| (name, Value::F32(array.clone())));
        initializer.extend(floats.map(|(name, value)| tensor_proto(name, &value)));
        let proto = one_node(node.clone(), initializer);
        let outputs = Model::new(proto, Path::new("lengths.onnx")).unwrap();
        let outputs = outputs.run(&engine, BTreeMap::new()).unwrap();
        outputs.into_iter().map(|(_, value)| match value {
            Value::F32(array) => array,
            other => panic!("{}", other.kind()),
        })
    };
    let lengths = [3i64, 5, 0];
    let all: Vec<_> = run(x.clone(), h.clone(), &lengths).collect();
    for (row, &length) in lengths.iter().enumerate() {
        let part = |array: &ArrayD<f32>, axis| {
            array.select(ndarray::Axis(axis), &[row]).as_standard_layout().into_owned()
        };
        let y = part(&all[0], 2);
        let (valid, padding) = y.view().split_at(ndarray::Axis(0), length as usize);
        assert!(padding.iter().all(|&v| v == 0.0));
        if length == 0 {
            assert_eq!(part(&all[1], 1), part(&h, 1));
            continue;
        }
        let x = part(&x, 1).slice_axis(ndarray::Axis(0), (..length as usize).into()).to_owned();
        let alone: Vec<_> = run(x, part(&h, 1), &[length]).collect();
        assert!(valid.iter().zip(&alone[0]).all(|(a, b)| (a - b).abs() < 1e-6));
        for k in [1, 2] {
            assert!(part(&all[k], 1).iter().zip(&alone[k]).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}

/// A model of one node and constants; all that the node makes comes out.
fn one_node(node: NodeProto, initializer: Vec<TensorProto>) -> ModelProto {
    let port = |name: &String| ValueInfoProto { name: name.clone(), r#type: None };
    let known = |name: &String| initializer.iter().any(|tensor| tensor.name == *name);
    let free = node.input.iter().filter(|name| !name.is_empty() && !known(name));
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(22) }],
        graph: Some(GraphProto {
            input: free.map(port).collect(),
            output: node.output.iter().map(port).collect(),
            node: vec![node],
            initializer,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn recurra(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The command fails with code 1 and says all of `words`, without a panic.
fn fails(arguments: &[&str], words: &[&str]) {
    let (code, _, message) = recurra(arguments);
    assert_eq!(code, Some(1), "{arguments:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?} should say '{word}': {message}");
    }
}

#[test]
fn the_command_runs_and_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let model = goldens().join("onnx_glue_22.onnx");
    let model = model.to_str().unwrap();
    let want = read_arrays(&goldens().join("onnx_glue_22.npz")).unwrap();
    // One array goes to a model of one input, whatever its name.
    write_arrays(Path::new(&path("x.npz")), [("arr_0", &want["x"])]).unwrap();
    let arguments = ["run", model, "--input", &path("x.npz"), "--device", "cpu"];
    let (code, _, message) = recurra(&[&arguments[..], &["--output", &path("y.npz")]].concat());
    assert_eq!(code, Some(0), "{message}");
    let got = read_arrays(Path::new(&path("y.npz"))).unwrap();
    assert_eq!(got.len() + 1, want.len());
    assert!(got.iter().all(|(name, value)| difference(name, value, &want[name]) <= 2e-6));
    let (_, table, _) = recurra(&arguments);
    assert!(table.starts_with("Relu_0") && table.contains("mean"), "{table}");
    let (_, lines, _) = recurra(&[&arguments[..], &["--json"]].concat());
    assert_eq!(lines.lines().count(), got.len());
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let shape = serde_json::json!(got[line["name"].as_str().unwrap()].shape());
        assert_eq!(line["shape"], shape);
    }

    write_arrays(Path::new(&path("z.npz")), [("x", &want["x"]), ("z", &want["x"])]).unwrap();
    fails(&["run", model, "--input", &path("z.npz")], &["no input 'z'", "'x' float32 [n, 3, 4]"]);
    fails(&["run", model], &["'x'", "--input"]);
    let flat = Value::F32(ArrayD::zeros(IxDyn(&[3, 4])));
    write_arrays(Path::new(&path("flat.npz")), [("x", &flat)]).unwrap();
    fails(&["run", model, "--input", &path("flat.npz")], &["'x'", "[n, 3, 4]", "[3, 4]"]);
    let ids = Value::I64(ArrayD::zeros(IxDyn(&[2, 3, 4])));
    write_arrays(Path::new(&path("ids.npz")), [("x", &ids)]).unwrap();
    fails(&["run", model, "--input", &path("ids.npz")], &["'x'", "float32", "int64"]);
    fails(&["run", model, "--input", &path("none.npz")], &["none.npz"]);
    fails(&["run", model, "--input", model], &["neither an npz nor an npy"]);
    fails(&["run", model, "--output", &path("y.txt")], &["y.txt", ".npz"]);
}

#[test]
fn wrong_files_are_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.onnx");
    let whole = std::fs::read(goldens().join("onnx_glue_22.onnx")).unwrap();
    for length in [0, 1, 100, whole.len() / 2, whole.len() - 1, whole.len() - 6] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = Model::read(&path).unwrap_err().to_string();
        assert!(message.contains("bad.onnx") && message.contains("cut short"), "{message}");
    }
    for (content, words) in [
        (&b"PK\x03\x04 and so on"[..], "a zip or npz file"),
        (b"\x93NUMPY\x01\x00v\x00{'de", "a NumPy file"),
        (b"\x80\x01\0\0\0\0\0\0{\"weight", "a safetensors file"),
        (b"hello, this is text", "no whole ONNX model"),
    ] {
        std::fs::write(&path, content).unwrap();
        let message = Model::read(&path).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    // Bytes of chance in the middle: an error or a model, but no panic.
    let engine = Engine::cpu(Some(1)).unwrap();
    for place in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x5a;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(model) = Model::read(&path) {
            let x = Value::F32(ArrayD::zeros(IxDyn(&[2, 3, 4])));
            let _ = model.run(&engine, BTreeMap::from([("x".to_string(), x)]));
        }
    }
}

#[test]
fn what_is_not_supported_is_named_with_its_node() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let says = |change: &dyn Fn(&mut NodeProto), words: &[&str]| {
        let mut node = NodeProto {
            input: vec!["x".to_string()],
            output: vec!["y".to_string()],
            name: "the node".to_string(),
            op_type: "Softmax".to_string(),
            ..NodeProto::default()
        };
        change(&mut node);
        let model = Model::new(one_node(node, Vec::new()), Path::new("one.onnx")).unwrap();
        let x = Value::F32(ArrayD::zeros(IxDyn(&[2, 3])));
        let result = model.run(&engine, BTreeMap::from([("x".to_string(), x)]));
        let message = result.unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "should say '{word}': {message}");
        }
    };
    let attribute = |name: &str, i: i64| AttributeProto {
        name: name.to_string(),
        i: Some(i),
        r#type: AttributeType::Int.into(),
        ..AttributeProto::default()
    };
    says(&|n| n.op_type = "Loop".to_string(), &["one.onnx", "operator Loop", "'the node'"]);
    says(&|n| n.domain = "com.example".to_string(), &["operator com.example.Softmax"]);
    says(&|n| n.attribute = vec![attribute("axle", 0)], &["attribute 'axle'", "'the node'"]);
    says(&|n| n.attribute = vec![attribute("axis", 5)], &["'the node'", "axis 5"]);
    says(
        &|n| {
            n.name.clear();
            n.op_type = "Loop".to_string();
        },
        &["Loop node #0", "'y'"],
    );
    says(&|n| n.input = vec!["x".to_string(), "z".to_string()], &["'z'", "missing"]);
    says(&|n| n.output = vec!["y".to_string(), "z".to_string()], &["2 outputs"]);
    says(
        &|n| {
            n.op_type = "Cast".to_string();
            n.attribute = vec![attribute("to", 10)];
        },
        &["'the node'", "float16"],
    );
    says(&|n| n.op_type = "MatMul".to_string(), &["'the node'", "input 1 is left out"]);
    // Constants that are elsewhere, or too much.
    let constant = |name: &str, value: &[i64]| {
        let value = Value::I64(ndarray::arr1(value).into_dyn());
        tensor_proto(name, &value)
    };
    let fails = |tensor: TensorProto, words: &str| {
        let node = NodeProto {
            input: vec!["k".to_string()],
            output: vec!["y".to_string()],
            op_type: "ConstantOfShape".to_string(),
            ..NodeProto::default()
        };
        let model = Model::new(one_node(node, vec![tensor]), Path::new("one.onnx")).unwrap();
        let message = model.run(&engine, BTreeMap::new()).unwrap_err().to_string();
        assert!(message.contains(words), "should say '{words}': {message}");
    };
    fails(TensorProto { data_location: 1, ..constant("k", &[1]) }, "external data");
    fails(constant("k", &[1 << 40, 1 << 40]), "elements");
    fails(constant("k", &[0, 1 << 40, 1 << 40]), "elements");
    fails(constant("k", &[-1]), "[-1]");
}

#[test]
fn many_large_parts_are_split() {
    let value = Value::F32(ArrayD::from_shape_fn(IxDyn(&[1, 4096]), |at| at[1] as f32));
    let sizes = Value::I64(ndarray::arr1(&[1024i64; 4]).into_dyn());
    let node = NodeProto {
        input: vec!["x".to_string(), "sizes".to_string()],
        output: ["a", "b", "c", "d"].map(str::to_string).to_vec(),
        op_type: "Split".to_string(),
        attribute: vec![AttributeProto {
            name: "axis".to_string(),
            i: Some(1),
            r#type: AttributeType::Int.into(),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    let tensors = vec![tensor_proto("x", &value), tensor_proto("sizes", &sizes)];
    let model = Model::new(one_node(node, tensors), Path::new("one.onnx")).unwrap();
    let parts = model.run(&Engine::cpu(Some(1)).unwrap(), BTreeMap::new()).unwrap();
    assert_eq!(parts.len(), 4);
    for (k, (_, part)) in parts.iter().enumerate() {
        let wanted = ArrayD::from_shape_fn(IxDyn(&[1, 1024]), |at| (k * 1024 + at[1]) as f32);
        assert_eq!(*part, Value::F32(wanted));
    }
}

#[test]
fn absurd_extents_and_pads_are_errors() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let list = |values: &[i64]| Value::I64(ndarray::arr1(values).into_dyn());
    let empty = |width: usize| Value::F32(ArrayD::zeros(IxDyn(&[0, width])));
    let axis = AttributeProto {
        name: "axis".to_string(),
        i: Some(1),
        r#type: AttributeType::Int.into(),
        ..AttributeProto::default()
    };
    let fails = |operator: &str, constants: &[Value], outputs: &[&str], words: &str| {
        let names: Vec<String> = (0..constants.len()).map(|k| format!("k{k}")).collect();
        let tensors = names.iter().zip(constants).map(|(name, k)| tensor_proto(name, k)).collect();
        let node = NodeProto {
            attribute: match operator {
                "Concat" | "Split" => vec![axis.clone()],
                _ => Vec::new(),
            },
            input: names,
            output: outputs.iter().map(|name| name.to_string()).collect(),
            op_type: operator.to_string(),
            ..NodeProto::default()
        };
        let model = Model::new(one_node(node, tensors), Path::new("one.onnx")).unwrap();
        let message = model.run(&engine, BTreeMap::new()).unwrap_err().to_string();
        assert!(message.contains(operator) && message.contains(words), "{message}");
    };
    // Lists of an axis' places would not fit any memory.
    let huge = 1 << 62;
    fails("Split", &[empty(huge)], &["a", "b"], "elements");
    fails("Slice", &[empty(huge), list(&[0]), list(&[i64::MAX]), list(&[1])], &["y"], "elements");
    fails("Concat", &[empty(1 << 30), empty(1 << 30)], &["y"], "elements");
    let pads = list(&[i64::MIN, i64::MAX]);
    fails("Pad", &[Value::F32(ArrayD::zeros(IxDyn(&[3]))), pads], &["y"], "pads");
}

#[test]
fn models_without_inputs_need_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("constant.onnx");
    let three = Value::F32(ArrayD::from_elem(IxDyn(&[2]), 3.0));
    let node = NodeProto {
        input: vec!["k".to_string()],
        output: vec!["y".to_string()],
        op_type: "Identity".to_string(),
        ..NodeProto::default()
    };
    write_model(&path, &one_node(node, vec![tensor_proto("k", &three)])).unwrap();
    let (code, table, message) = recurra(&["run", path.to_str().unwrap(), "--device", "cpu"]);
    assert_eq!(code, Some(0), "{message}");
    assert!(table.contains("[2]") && table.contains("max 3.0"), "{table}");
}
