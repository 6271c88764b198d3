//! What the host writes: weights, ids, lengths.

use crate::common::{engines, gpu_engine};
use crate::{says, stack};
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::kernel::Fill;
use recurra::kernel::shader::Fault;
use recurra::layer::{Embedding, InitialState, Initializer, Sequence};
use recurra::loss::cross_entropy;
use recurra::recording::{Recording, Role};
use recurra::schedule::Recorder;
use recurra::tensor::{DType, NamedTensors};

/// A buffer of another, larger recording.
#[test]
fn buffers_of_other_recordings_are_refused() {
    let mut larger = Recording::new();
    for name in ["a", "b", "c"] {
        larger.buffer(name, 4, DType::F32, Role::Input).unwrap();
    }
    let foreign = larger.buffer("d", 4, DType::U32, Role::Input).unwrap();
    let mut own = Recording::new();
    let a = own.buffer("a", 4, DType::F32, Role::Input).unwrap();
    let refused = own.launch(Fill::new(foreign, 0.0), &[foreign]).unwrap_err();
    says("launch", refused, &["another recording"]);
    own.bound(foreign, 3);
    assert_eq!(own.get(foreign.buffer).len, 0);
    own.launch(Fill::new(a, 0.0), &[a]).unwrap();
    for engine in engines() {
        let mut program = engine.load(&own, &engine.store()).unwrap();
        let mut inputs = program.inputs();
        says("write", inputs.write(foreign.buffer, &[0.0; 4]).unwrap_err(), &["another recording"]);
        says("give", inputs.give_u32(foreign.buffer, vec![0; 4]).unwrap_err(), &["another"]);
        says("write_u32", program.write_u32(foreign.buffer, &[0; 4]).unwrap_err(), &["another"]);
        says("read", program.read(foreign.buffer).unwrap_err(), &["another recording"]);
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

/// What a driver can't compile is refused each time, and leaves nothing behind in the engine or the store.
#[test]
fn a_kernel_that_does_not_compile_is_refused_each_time() {
    let Some(Engine::Gpu(gpu)) = gpu_engine() else { return };
    let (old, new) = ("@compute", "@compute nonsense");
    let engine = Engine::Gpu(gpu.with_fault(Fault { stem: "fill", old, new }));
    let store = engine.store();
    let filled = |len: usize| {
        let mut rec = Recorder::inference();
        let state = rec.state("state", [1, len]).unwrap();
        rec.fill(state.view, 1.0).unwrap();
        rec.finish()
    };
    for len in [4, 4, 8] {
        let error = engine.load(&filled(len), &store).err().expect("it does not compile");
        says("a shader", error, &["fill"]);
    }
    let mut rec = Recorder::inference();
    let state = rec.state("state", [1, 16]).unwrap();
    rec.output("copy", state).unwrap();
    let recording = rec.finish();
    let mut program = engine.load(&recording, &store).unwrap();
    program.run().unwrap();
    assert_eq!(program.read(recording.find("copy").unwrap()).unwrap(), [0.0; 16]);
}
