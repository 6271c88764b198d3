//! Other people's weights: in, out, and what comes of them.
#![cfg(feature = "cli")]

mod common;

use common::golden::Golden;
use common::{Worst, apart, data_folder, engines};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, IxDyn};
use recurra::cell::CellKind;
use recurra::convert::{
    CellChoice, FoundLayer, LayerFacts, export_language_model, export_layers, import, to_tensors,
};
use recurra::data::Vocabulary;
use recurra::engine::Engine;
use recurra::format::npz::{read_arrays, write_arrays};
use recurra::format::onnx::write_model;
use recurra::format::{TensorFile, read_tensors, write_tensors};
use recurra::graph::{
    Activation, Direction, Model, RecurrentCell, RecurrentNode, States, Value, run_recurrent,
};
use recurra::schedule::Recorder;
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, ModelConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Numbers of [−0.6, 0.6) (Numerical Recipes' generator).
struct Random(u32);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / 16_777_216.0 * 1.2 - 0.6
    }

    fn vector(&mut self, n: usize) -> Array1<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, columns), || self.next())
    }
}

/// A layer with every option that the cell has, or with none.
fn layer(cell: RecurrentCell, reverse: &[bool], options: bool, random: &mut Random) -> FoundLayer {
    let (input, hidden) = (3, 4);
    let lstm = cell == RecurrentCell::Lstm;
    let coupled = options && lstm && reverse.len() == 1;
    let rows = if coupled { 3 * hidden } else { cell.gate_kind().gates() * hidden };
    let activations = match (options, cell) {
        (false, _) => cell.activations().to_vec(),
        (true, RecurrentCell::Rnn) => vec![Activation::LeakyRelu { alpha: 0.1 }],
        (true, RecurrentCell::Lstm) => vec![
            Activation::HardSigmoid { alpha: 0.3, beta: 0.4 },
            Activation::Softsign,
            Activation::Elu { alpha: 0.7 },
        ],
        (true, _) => vec![Activation::Sigmoid, Activation::ScaledTanh { alpha: 1.7, beta: 0.6 }],
    };
    let directions = reverse.iter().map(|&reverse| Direction {
        reverse,
        activations: activations.clone(),
        weight_ih: random.matrix(rows, input),
        weight_hh: random.matrix(rows, hidden),
        bias: options.then(|| [random.vector(rows), random.vector(rows)]),
        peephole: (options && lstm).then(|| {
            let blocks = if coupled { 2 } else { 3 };
            random.vector(blocks * hidden)
        }),
        projection: None,
    });
    let node = RecurrentNode {
        name: "x.l0".to_string(),
        cell,
        input,
        hidden,
        clip: options.then_some(2.5),
        coupled,
        directions: directions.collect(),
    };
    node.check().unwrap();
    FoundLayer { facts: LayerFacts::of(&node, "x".to_string(), 0), weights: Ok(node) }
}

fn node(layer: &FoundLayer) -> &RecurrentNode {
    layer.weights.as_ref().unwrap()
}

/// The same layer but for what it is called.
fn assert_same(got: &FoundLayer, want: &FoundLayer) {
    let renamed = RecurrentNode { name: node(want).name.clone(), ..node(got).clone() };
    assert_eq!(&renamed, node(want));
}

#[test]
fn every_option_survives_safetensors_and_onnx_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, onnx) = (folder.path().join("w.safetensors"), folder.path().join("w.onnx"));
    let mut random = Random(1);
    for cell in
        [RecurrentCell::Rnn, RecurrentCell::Lstm, RecurrentCell::Gru, RecurrentCell::GruResetBefore]
    {
        for reverse in [&[false][..], &[true], &[false, true]] {
            for options in [false, true] {
                let layer = layer(cell, reverse, options, &mut random);
                let file = to_tensors(std::slice::from_ref(&layer)).unwrap();
                write_tensors(&tensors, &file).unwrap();
                let back = import(&tensors, None).unwrap();
                assert_eq!(back.format, "PyTorch");
                assert_eq!(back.layers.len(), 1);
                assert_eq!(back.layers[0].facts, layer.facts);
                assert_same(&back.layers[0], &layer);

                write_model(&onnx, &export_layers(&back.layers).unwrap()).unwrap();
                let back = import(&onnx, None).unwrap();
                assert_eq!(back.format, "ONNX");
                assert_same(&back.layers[0], &layer);
                let facts = LayerFacts { batch_first: None, ..back.layers[0].facts.clone() };
                assert_eq!(facts, layer.facts);
            }
        }
    }
}

#[test]
fn plain_state_dicts_and_what_they_leave_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let mut random = Random(2);
    let mut file = TensorFile::default();
    let mut put = |name: &str, shape: &[usize]| {
        let values = random.vector(shape.iter().product()).to_vec();
        file.tensors
            .insert(name.to_string(), ArrayD::from_shape_vec(IxDyn(shape), values).unwrap());
    };
    put("a.rnn.weight_ih_l0", &[4, 3]);
    put("a.rnn.weight_hh_l0", &[4, 4]);
    for (layer, input) in [(0, 3), (1, 8)] {
        for suffix in ["", "_reverse"] {
            put(&format!("enc.weight_ih_l{layer}{suffix}"), &[12, input]);
            put(&format!("enc.weight_hh_l{layer}{suffix}"), &[12, 4]);
            put(&format!("enc.bias_ih_l{layer}{suffix}"), &[12]);
            put(&format!("enc.bias_hh_l{layer}{suffix}"), &[12]);
        }
    }
    put("p.weight_ih_l0", &[16, 3]);
    put("p.weight_hh_l0", &[16, 2]);
    put("p.weight_hr_l0", &[2, 4]);
    // No layers: parameters of other modules.
    put("conv.weight", &[5, 5]);
    put("other.bias_ih", &[5]);
    write_tensors(&path, &file).unwrap();

    let found = import(&path, None).unwrap();
    let told: Vec<_> = found
        .layers
        .iter()
        .map(|l| (l.facts.name.as_str(), l.facts.layer, l.facts.cell, l.facts.directions.len()))
        .collect();
    let (rnn, gru, lstm) = (RecurrentCell::Rnn, RecurrentCell::Gru, RecurrentCell::Lstm);
    assert_eq!(
        told,
        [("a.rnn", 0, rnn, 1), ("enc", 0, gru, 2), ("enc", 1, gru, 2), ("p", 0, lstm, 1)]
    );
    assert_eq!(found.layers[0].facts.activations, None);
    assert_eq!(found.layers[3].facts.projection, Some(2));
    let back = to_tensors(&found.layers).unwrap().tensors;
    assert_eq!(back.len(), file.tensors.len() - 2);
    assert!(back.iter().all(|(name, tensor)| file.tensors[name] == *tensor));

    // The RNN's activation must be said, the projection has no place in ONNX.
    let open = export_layers(&found.layers[..1]).unwrap_err().to_string();
    assert!(open.contains("a.rnn.l0") && open.contains("--cell"), "{open}");
    let none = export_layers(&found.layers[3..]).unwrap_err().to_string();
    assert!(none.contains("p.l0") && none.contains("weight_hr"), "{none}");
    let said = import(&path, CellChoice::named("rnn_relu")).unwrap();
    assert_eq!(node(&said.layers[0]).directions[0].activations, [Activation::Relu]);
    export_layers(&said.layers[..3]).unwrap();
    file.tensors.retain(|name, _| name.starts_with("enc"));
    write_tensors(&path, &file).unwrap();
    let wrong = import(&path, CellChoice::named("lstm")).unwrap_err().to_string();
    assert!(wrong.contains("lstm") && wrong.contains("gru"), "{wrong}");
}

/// `goldens/make.py` made them, from modules with bias=False: they come in as layers without biases, and
/// give PyTorch's outputs and final states.
#[test]
fn state_dicts_without_biases_give_what_pytorch_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let golden = Golden::open("unbiased");
    let narrow = |values: ArrayD<f64>| values.mapv(|v| v as f32);
    for kind in CellKind::CLASSIC {
        // The last is an LSTM's with a projection.
        for number in 0..if kind == CellKind::Lstm { 3 } else { 2 } {
            let prefix = format!("{}/case{number}/", kind.name());
            let at = |name: &str| format!("{prefix}{name}");
            let all = golden.names();
            let names: Vec<_> = all.iter().filter_map(|name| name.strip_prefix(&prefix)).collect();
            let mut file = TensorFile::default();
            for name in names.iter().filter(|name| name.starts_with("weight_")) {
                file.tensors.insert(format!("rnn.{name}"), narrow(golden.get(&at(name))));
            }
            write_tensors(&path, &file).unwrap();
            let found = import(&path, CellChoice::named(kind.name())).unwrap();
            assert_eq!(found.layers.len(), if number == 0 { 1 } else { 2 });
            assert!(found.layers.iter().all(|layer| !layer.facts.bias));
            let lengths = names.contains(&"lengths").then(|| golden.ids(&at("lengths")));
            for engine in engines() {
                let mut worst = Worst::default();
                let mut x: Array3<f32> = golden.get(&at("input")).mapv(|v: f64| v as f32);
                let (mut h_n, mut c_n) = (Vec::new(), Vec::new());
                for layer in &found.layers {
                    let count = layer.facts.directions.len();
                    let first = layer.facts.layer * count;
                    let state = |name: &str| -> Array3<f32> {
                        let all: Array3<f64> = golden.get(&at(name));
                        let own = all.slice_axis(Axis(0), (first..first + count).into());
                        own.mapv(|v| v as f32)
                    };
                    let c = (kind == CellKind::Lstm).then(|| state("c0"));
                    let initial = States { h: Some(state("h0")), c };
                    let node = node(layer);
                    let result =
                        run_recurrent(&engine, node, x.view(), lengths.as_deref(), &initial);
                    let (y, last) = result.unwrap();
                    let sides: Vec<_> = y.axis_iter(Axis(1)).collect();
                    x = ndarray::concatenate(Axis(2), &sides).unwrap();
                    h_n.extend(last.h.unwrap());
                    c_n.extend(last.c.into_iter().flatten());
                }
                let output: Vec<f32> = x.iter().copied().collect();
                worst.see("output", &output, &golden.values(&at("output")));
                worst.see("h_n", &h_n, &golden.values(&at("h_n")));
                if kind == CellKind::Lstm {
                    worst.see("c_n", &c_n, &golden.values(&at("c_n")));
                }
                worst.check(&format!("{prefix} on {}", engine.name()), 1e-6);
            }
        }
    }
}

#[test]
fn a_pretrained_voice_detector_keeps_its_weights_and_its_states() {
    let Some(data) = data_folder("pretrained_silero_vad") else { return };
    let folder = tempfile::tempdir().unwrap();
    let golden = read_arrays(&data.join("golden_ort_testwav.npz")).unwrap();
    let floats = |name: &str| match &golden[name] {
        Value::F32(array) => array.clone(),
        other => panic!("{}", other.kind()),
    };
    let found = import(&data.join("silero_vad_16k_sequence.onnx"), None).unwrap();
    assert_eq!(found.layers.len(), 1);
    // Out again: what onnxruntime had for W, R and B, to the bit.
    let path = folder.path().join("again.onnx");
    write_model(&path, &export_layers(&found.layers).unwrap()).unwrap();
    let again = Model::read(&path).unwrap();
    for name in ["W", "R", "B"] {
        let constant = &again.graph.constants[&format!("recurrent.LSTM/{name}_l0")];
        assert_eq!(constant, &golden[name], "{name}");
    }
    let x = floats("lstm_x").into_dimensionality::<ndarray::Ix3>().unwrap();
    // On the CPU: 1,875 launches are slow on a software GPU, and the operator cases run on both.
    let engine = Engine::cpu(None).unwrap();
    let layer = node(&found.layers[0]);
    let (y, last) = run_recurrent(&engine, layer, x.view(), None, &States::default()).unwrap();
    let pairs = [
        ("Y", y.into_dyn()),
        ("hn", last.h.unwrap().into_dyn()),
        ("cn", last.c.unwrap().into_dyn()),
    ];
    for (name, got) in pairs {
        let want = floats(name);
        assert_eq!(got.shape(), want.shape());
        let worst = apart(&got, &want);
        println!("{name}: {worst:.1e}");
        assert!(worst <= 1e-4, "{name}: {worst:.1e}");
    }
    // The state dict is of another training of the same network.
    let torch = import(&data.join("silero_vad_16k.safetensors"), None).unwrap();
    let [onnx, torch] = [&found.layers[0].facts, &torch.layers[0].facts];
    assert_eq!((torch.cell, torch.input, torch.hidden), (onnx.cell, onnx.input, onnx.hidden));
    assert_eq!(torch.name, "lstm_cell");
}

#[test]
fn a_pretrained_sentence_splitter_goes_out_and_in_again() {
    let Some(data) = data_folder("pretrained_nnsplit_bilstm") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.onnx");
    let found = import(&data.join("model.onnx"), None).unwrap();
    assert_eq!(found.layers.len(), 2);
    write_model(&path, &export_layers(&found.layers).unwrap()).unwrap();
    let back = import(&path, None).unwrap();
    assert_eq!(back.layers.len(), 2);
    for (got, want) in back.layers.iter().zip(&found.layers) {
        assert_same(got, want);
    }
}

/// `goldens/keras_layers.py` made the arrays and the values.
#[test]
fn keras_layers_give_what_keras_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/keras_layers.npz");
    let arrays = read_arrays(&path).unwrap();
    let floats = |name: &str| match &arrays[name] {
        Value::F32(array) => array.clone(),
        other => panic!("{}", other.kind()),
    };
    // [B, T, …] to [T, B, …].
    let turned = |name: &str| -> Array3<f32> {
        let view = floats(name).into_dimensionality::<ndarray::Ix3>().unwrap();
        view.permuted_axes([1, 0, 2]).as_standard_layout().into_owned()
    };
    let x = turned("x");
    let found = import(&path, CellChoice::named("rnn_tanh")).unwrap();
    assert_eq!((found.format, found.layers.len()), ("Keras", 7));
    for engine in engines() {
        for layer in &found.layers {
            let name = layer.facts.name.split('.').next().unwrap();
            let want = turned(&format!("y/{name}"));
            let result = run_recurrent(&engine, node(layer), x.view(), None, &States::default());
            let (y, _) = result.unwrap();
            let parts: Vec<_> = y.axis_iter(Axis(1)).collect();
            let joined = ndarray::concatenate(Axis(2), &parts).unwrap();
            assert_eq!(joined.shape(), want.shape());
            let worst = apart(&joined, &want);
            assert!(worst <= 1e-6, "{name} on {engine:?}: {worst:.1e}");
            println!("{name}: {worst:.1e}");
        }
    }
}

#[test]
fn keras_files_that_leave_something_open_or_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.npz");
    let zeros = |shape: &[usize]| Value::F32(ArrayD::zeros(IxDyn(shape)));
    let write = |arrays: &[(&str, &[usize])]| {
        let arrays: Vec<_> = arrays.iter().map(|(name, shape)| (*name, zeros(shape))).collect();
        write_arrays(&path, arrays.iter().map(|(name, value)| (*name, value))).unwrap();
    };
    let says = |choice: &str, words: &[&str]| {
        let message = import(&path, CellChoice::named(choice)).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "should say '{word}': {message}");
        }
    };
    write(&[("g/kernel:0", &[3, 12]), ("g/recurrent_kernel:0", &[4, 12])]);
    says("", &["'g/'", "--cell gru_reset_before", "k.npz"]);
    for (name, cell) in
        [("gru", RecurrentCell::Gru), ("gru_reset_before", RecurrentCell::GruResetBefore)]
    {
        let found = import(&path, CellChoice::named(name)).unwrap();
        assert_eq!(found.layers[0].facts.cell, cell);
    }
    write(&[("g/recurrent_kernel", &[4, 12])]);
    says("gru", &["'g/kernel' is missing"]);
    write(&[("g/kernel", &[3, 12]), ("g/recurrent_kernel", &[4, 12]), ("g/bias", &[3, 12])]);
    says("", &["g/bias", "[3, 12]", "reset_after"]);
    write(&[("g/kernel", &[3, 11]), ("g/recurrent_kernel", &[4, 12]), ("g/bias", &[12])]);
    says("", &["g/kernel", "[3, 11]", "12"]);
    write(&[("g/kernel", &[3, 20]), ("g/recurrent_kernel", &[4, 20])]);
    says("", &["5 gates"]);
    write(&[("g/kernel", &[3, 20])]);
    says("", &["no recurrent layers", "recurrent_kernel"]);
}

#[test]
fn a_language_model_goes_out_whole() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::cpu(Some(1)).unwrap();
    for (cell, layers, tied) in [("lstm", 2, false), ("gru", 1, true), ("rnn_relu", 3, false)] {
        let model = LanguageModel::new(ModelConfig {
            cell: cell.to_string(),
            embedding: if tied { 6 } else { 5 },
            hidden: 6,
            layers,
            dropout: 0.3,
            tied,
            ..ModelConfig::new(&Vocabulary::of("abcdefg"))
        })
        .unwrap();
        let weights = model.initial_weights(3);
        model.save_config(folder.path(), &()).unwrap();
        let file = TensorFile { tensors: weights.clone(), ..TensorFile::default() };
        write_tensors(&folder.path().join("model.safetensors"), &file).unwrap();
        let path = folder.path().join("lm.onnx");
        write_model(&path, &export_language_model(folder.path()).unwrap()).unwrap();

        let [time, batch] = [5, 3];
        let ids: Vec<u32> = (0..15).map(|k| k * k % 7).collect();
        let mut rec = Recorder::inference();
        let input = rec.input_ids("ids", time * batch).unwrap();
        let logits = model.record(&mut rec, input, [time, batch], "state").unwrap();
        let output = rec.output("logits", logits).unwrap();
        let store = engine.store();
        store.set_all(&weights).unwrap();
        let mut program = engine.load(&rec.finish(), &store).unwrap();
        program.write_u32(input.buffer, &ids).unwrap();
        program.run().unwrap();
        let want = program.read(output.view.buffer).unwrap();

        let ids = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Value::I64(ArrayD::from_shape_vec(IxDyn(&[time, batch]), ids).unwrap());
        let inputs = BTreeMap::from([("ids".to_string(), ids)]);
        let outputs = Model::read(&path).unwrap().run(&engine, inputs).unwrap();
        let Value::F32(got) = &outputs[0].1 else { panic!() };
        assert_eq!((outputs[0].0.as_str(), got.shape()), ("logits", &[time, batch, 7][..]));
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-6), "{cell}");
        assert_eq!(outputs[1].1.shape(), [layers, batch, 6]);
        // The weights come back to the bit.
        let back = to_tensors(&import(&path, None).unwrap().layers).unwrap().tensors;
        assert_eq!(back.len(), 4 * layers);
        assert!(back.iter().all(|(name, tensor)| weights[name] == *tensor));
    }
}

fn recurra(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_recurra")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_commands_list_convert_and_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (tensors, onnx, back) = (path("w.safetensors"), path("w.onnx"), path("b.safetensors"));
    let layer = layer(RecurrentCell::Lstm, &[false, true], true, &mut Random(5));
    let file = to_tensors(std::slice::from_ref(&layer)).unwrap();
    write_tensors(Path::new(&tensors), &file).unwrap();
    let good = |arguments: &[&str]| {
        let (code, out, message) = recurra(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {message}");
        out
    };
    good(&["export", &tensors, "--out", &onnx]);
    let table = good(&["import", &onnx]);
    for word in ["x.l0", "lstm", "forward+reverse", "peepholes", "clip 2.5", "Elu(0.7)"] {
        assert!(table.contains(word), "{table}");
    }
    let json = good(&["import", &onnx, "--json", "--out", &back]);
    let facts: LayerFacts = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((facts.clip, facts.peepholes), (Some(2.5), true));
    let back = read_tensors(Path::new(&back)).unwrap().tensors;
    assert_eq!(back["x.weight_ih_l0_reverse"], file.tensors["x.weight_ih_l0_reverse"]);
    // And it runs, with all of them.
    let x = Value::F32(ArrayD::zeros(IxDyn(&[2, 1, 3])));
    write_arrays(Path::new(&path("x.npz")), [("input", &x)]).unwrap();
    good(&["run", &onnx, "--input", &path("x.npz"), "--device", "cpu"]);

    std::fs::write(path("text.txt"), "hello, this is no model").unwrap();
    std::fs::write(path("cut.onnx"), &std::fs::read(&onnx).unwrap()[..200]).unwrap();
    std::fs::write(path("cut.safetensors"), &std::fs::read(&tensors).unwrap()[..200]).unwrap();
    for (arguments, words) in [
        (&["import", &path("none.onnx")][..], &["none.onnx", "read"][..]),
        (&["import", &path("text.txt")], &["text.txt", "neither"]),
        (&["import", &path("cut.onnx")], &["cut.onnx", "cut short"]),
        (&["import", &path("cut.safetensors")], &["cut.safetensors", "cut short"]),
        (&["import", &onnx, "--out", &path("w.pt")], &["w.pt", ".safetensors"]),
        (&["export", &tensors, "--out", &path("w.pt")], &["w.pt", ".onnx or .safetensors"]),
        (&["export", folder.path().to_str().unwrap(), "--out", &onnx], &["config.json"]),
        (&["export", &tensors, "--out", &path("no/such/w.onnx")], &["no/such/w.onnx"]),
    ] {
        let (code, _, message) = recurra(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {message}");
        for word in words {
            assert!(message.contains(word), "{arguments:?} should say '{word}': {message}");
        }
    }
    assert_eq!(recurra(&["import", &onnx, "--cell", "lstms"]).0, Some(2));
}
