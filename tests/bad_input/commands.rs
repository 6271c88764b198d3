//! The commands: they fail with code 1 and say what is wrong, with which file.

use crate::stack;
use ndarray::{ArrayD, IxDyn};
use recurra::cell::CellKind;
use recurra::format::npz::write_arrays;
use recurra::format::onnx::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto, tensor_proto, write_model,
};
use recurra::format::{TensorFile, write_tensors};
use recurra::layer::{Direction, Initializer, Merge, Recurrent};
use recurra::tensor::{HostTensor, NamedTensors, Value};
use std::path::Path;
use std::process::Command;

/// The node of [`model`], as messages name it.
const TITLE: &str = "LSTM node 'rec'";

fn recurra(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn fails(arguments: &[&str], words: &[&str]) {
    let (code, message) = recurra(arguments);
    assert_eq!(code, Some(1), "{arguments:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?} should say '{word}': {message}");
    }
}

fn floats(shape: &[usize]) -> ArrayD<f32> {
    let values = Initializer::new(9).uniform(shape.iter().product(), 1.0);
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

fn list(values: &[i64]) -> Value {
    Value::I64(ndarray::arr1(values).into_dyn())
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

/// A folder for a test's files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    fn exists(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    fn npz(&self, name: &str, arrays: &[(&str, Value)]) -> String {
        let arrays = arrays.iter().map(|(name, value)| (*name, value));
        write_arrays(Path::new(&self.path(name)), arrays).unwrap();
        self.path(name)
    }

    fn onnx(&self, model: &ModelProto) -> String {
        write_model(Path::new(&self.path("m.onnx")), model).unwrap();
        self.path("m.onnx")
    }

    /// Inputs of [`model`] that are right; the first row is empty.
    fn inputs(&self) -> String {
        self.npz("zero.npz", &[("X", Value::F32(floats(&[4, 2, 3]))), ("lengths", list(&[0, 4]))])
    }

    /// PyTorch's state dict of two layers and directions, with a change.
    fn torch(&self, change: &dyn Fn(&mut NamedTensors)) -> String {
        let direction = Direction::Both(Merge::Concat);
        let stack = Recurrent { layers: 2, direction, ..stack(CellKind::Lstm) };
        let mut file = TensorFile::default();
        stack.init(&mut Initializer::new(1), &mut file.tensors);
        change(&mut file.tensors);
        write_tensors(Path::new(&self.path("w.safetensors")), &file).unwrap();
        self.path("w.safetensors")
    }

    /// Run, import and export refuse the model, and leave no files.
    fn refuse_everywhere(&self, model: &ModelProto, words: &[&str]) {
        let onnx = self.onnx(model);
        fails(&["run", &onnx, "--input", &self.inputs(), "--device", "cpu"], words);
        fails(&["import", &onnx, "--out", &self.path("out.safetensors")], words);
        fails(&["export", &onnx, "--out", &self.path("again.onnx")], words);
        assert!(!self.exists("out.safetensors") && !self.exists("again.onnx"));
    }
}

/// Lengths and inputs of a run.
#[test]
fn the_commands_name_what_is_wrong() {
    let files = Files::new();
    let onnx = files.onnx(&model(floats(&[1, 8, 3]), None));
    let run = |arrays: &[(&str, Value)], words: &[&str]| {
        let input = files.npz("x.npz", arrays);
        fails(&["run", &onnx, "--input", &input, "--device", "cpu"], words);
    };
    let shaped = |shape: &[usize]| Value::F32(floats(shape));
    let x = || shaped(&[4, 2, 3]);
    let told = |lengths: Value, words: &[&str]| run(&[("X", x()), ("lengths", lengths)], words);
    told(list(&[-1, 4]), &[TITLE, "a length of -1", "4 steps"]);
    told(list(&[4, 5]), &[TITLE, "a length of 5", "4 steps"]);
    told(list(&[i64::MIN, 4]), &[TITLE, "a length of -9223372036854775808"]);
    told(list(&[4]), &[TITLE, "1 lengths for 2 rows"]);
    told(shaped(&[2]), &[TITLE, "input 4", "float32"]);
    let whole = || ("lengths", list(&[4, 4]));
    run(&[("X", list(&[1])), whole()], &[TITLE, "input 0", "int64"]);
    run(&[("X", shaped(&[4, 3])), whole()], &[TITLE, "3 axes"]);
    run(&[("X", shaped(&[4, 2, 5])), whole()], &[TITLE, "[4, 2, 3]"]);
    run(&[("X", x())], &["'lengths'", "missing"]);
    run(&[("X", x()), ("length", whole().1)], &["no input 'length'", "'X'", "'lengths'"]);
    run(&[("X", x()), whole(), ("Z", x())], &["no input 'Z'"]);
    let (code, message) = recurra(&["run", &onnx, "--input", &files.inputs(), "--device", "cpu"]);
    assert_eq!(code, Some(0), "{message}");
}

/// In every format, wherever they are used.
#[test]
fn weights_that_are_no_numbers_are_named() {
    let files = Files::new();
    let mut w = floats(&[1, 8, 3]);
    w[[0, 3, 1]] = f32::NAN;
    let words = ["W of LSTM node 'rec'", "[0, 3, 1]", "NaN"];
    files.refuse_everywhere(&model(w, None), &words);
    let (code, message) = recurra(&["import", &files.path("m.onnx")]);
    assert_eq!(code, Some(0), "a listing says what it can");
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn state_dicts_that_are_wrong_are_named() {
    let files = Files::new();
    let refused = |change: &dyn Fn(&mut NamedTensors), words: &[&str]| {
        let file = files.torch(change);
        let words = [&["w.safetensors"], words].concat();
        fails(&["import", &file], &words);
        fails(&["export", &file, "--out", &files.path("w.onnx")], &words);
        assert!(!files.exists("w.onnx"));
    };
    let infinite = |tensors: &mut NamedTensors| {
        tensors.get_mut("rnn.weight_hh_l1_reverse").unwrap()[[1, 3]] = f32::NEG_INFINITY;
    };
    refused(&infinite, &["'rnn.weight_hh_l1_reverse'", "[1, 3]", "-inf"]);
    let missing = |name: &'static str, words: &[&str]| {
        refused(&|tensors| drop(tensors.remove(name).unwrap()), words);
    };
    missing("rnn.bias_hh_l1", &["bias_hh of layer rnn.l1", "missing"]);
    missing("rnn.weight_ih_l0", &["weight_ih of layer rnn.l0", "missing"]);
    let shaped = |name: &'static str, shape: &[usize], words: &[&str]| {
        let zeros = HostTensor::zeros(IxDyn(shape));
        refused(&|tensors| *tensors.get_mut(name).unwrap() = zeros.clone(), words);
    };
    let side = "weight_ih of the reverse direction of rnn.l1";
    shaped("rnn.weight_ih_l1_reverse", &[16, 5], &[side, "[16, 8]", "[16, 5]"]);
    shaped("rnn.weight_hh_l0", &[16], &["'rnn.weight_hh_l0'", "[16]"]);
}

#[test]
fn keras_kernels_that_are_wrong_are_named() {
    let files = Files::new();
    let refused = |kernel: Value, words: &[&str]| {
        let recurrent = Value::F32(floats(&[2, 8]));
        let arrays = [("l/kernel", kernel), ("l/recurrent_kernel", recurrent)];
        fails(&["import", &files.npz("k.npz", &arrays)], words);
    };
    let mut kernel = floats(&[3, 8]);
    kernel[[2, 5]] = f32::INFINITY;
    refused(Value::F32(kernel), &["k.npz", "'l/kernel'", "[2, 5]", "inf"]);
    refused(Value::I64(ArrayD::zeros(IxDyn(&[3, 8]))), &["'l/kernel'", "int64", "float32"]);
}

#[test]
fn what_a_newcomer_tries_first_is_answered() {
    let files = Files::new();
    let here = files.0.path().to_str().unwrap();
    fails(&["run", here], &["is a folder", "recurra export", "FILE.onnx"]);
    fails(&["import", here], &["is a folder", "model.safetensors", "recurra export"]);
    fails(&["run", &files.torch(&|_| {})], &["a safetensors file", "recurra export"]);
    // torch.save's file is a zip archive as npz is, with this member; its name is twice in the file.
    let archive = files.npz("m.npz", &[("archive/data", Value::F32(floats(&[1])))]);
    let mut bytes = std::fs::read(&archive).unwrap();
    let name = b"archive/data.npy";
    let places: Vec<usize> =
        (0..bytes.len() - name.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
    assert_eq!(places.len(), 2);
    for at in places {
        bytes[at..at + name.len()].copy_from_slice(b"archive/data.pkl");
    }
    std::fs::write(files.path("m.pt"), bytes).unwrap();
    fails(&["import", &files.path("m.pt")], &["m.pt", "torch.save", "save_file"]);
}

/// It may mean anything.
#[test]
fn an_attribute_that_nobody_knows_is_named() {
    let unknown = AttributeProto {
        name: "flavour".to_string(),
        i: Some(1),
        r#type: AttributeType::Int.into(),
        ..AttributeProto::default()
    };
    let model = model(floats(&[1, 8, 3]), Some(unknown));
    Files::new().refuse_everywhere(&model, &["attribute 'flavour'", TITLE]);
}
