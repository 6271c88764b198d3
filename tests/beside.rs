//! Launches side by side: the bits of launches one after another, fewer launches, faults that are noticed.

mod common;

use common::seeded::{SEED, assert_equal, run, run_members};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ArraySize, TypeInner};
use recurra::cell::CellKind;
use recurra::conformance::{
    RecurrentCase, random_case, record_case, recurrent_cases, recurrent_cases_in_f16,
};
use recurra::data::Vocabulary;
use recurra::engine::{Engine, GpuEngine};
use recurra::kernel::shader::Fault;
use recurra::kernel::{Beside, Combine, Fill, Kernel, Op, Rows, SumSquares, View, With, shader};
use recurra::layer::{Direction, Initializer, Merge, Recurrent};
use recurra::optim::Optimizer;
use recurra::recording::{Recording, Role};
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig};
use recurra::tensor::DType;
use recurra::train::{TrainOptions, record_training};
use std::collections::BTreeSet;

fn gpu() -> Option<GpuEngine> {
    match common::gpu_engine()? {
        Engine::Gpu(gpu) => Some(gpu),
        Engine::Cpu(_) => None,
    }
}

fn beside(recording: &Recording) -> usize {
    recording.launches().iter().filter(|launch| matches!(launch.op, Op::Beside(_))).count()
}

/// A training step of a language model with all that belongs to it.
fn language_model(hidden: usize, layers: usize, time: usize, batch: usize) -> Recording {
    let text = "the quick brown fox jumps over the lazy dog, twice. ".repeat(900);
    let shape = ModelConfig::new(&Vocabulary::of(&text));
    let config = ModelConfig { embedding: hidden, hidden, layers, dropout: 0.1, ..shape };
    let model = LanguageModel::new(config).unwrap();
    let task = LanguageTask::new(model, &text, time, batch).unwrap();
    record_training(&task, &TrainOptions::new(1), 0).unwrap()
}

/// Directions and layers of every kind, and a whole training step.
#[test]
fn launches_side_by_side_have_their_bits() {
    let Some(gpu) = gpu() else { return };
    let [apart, together] = [false, true].map(|beside| Engine::Gpu(gpu.with_beside(beside)));
    let many = |case: &RecurrentCase| {
        case.stack.hidden <= 40 && case.stack.layers * case.stack.direction.count() > 1
    };
    let half = gpu.has_f16().then(recurrent_cases_in_f16).into_iter().flatten();
    let cases = recurrent_cases().into_iter().filter(many).step_by(13);
    let random = (0..60).map(random_case).filter(many).take(6);
    let mut count = 0;
    for case in cases.chain(random).chain(half.filter(many).step_by(17)) {
        let recording = record_case(&case).unwrap();
        count += usize::from(beside(&together.arranged(&recording)) > 2);
        let [want, got] = [&apart, &together].map(|e| run(e, &recording, case.time, 2));
        assert_equal(&format!("{} {}", case.stack.cell.name(), case.name()), &want, &got);
    }
    assert!(count > 10, "only {count} cases with launches side by side");
}

/// A stack in both directions: both in each launch of all steps.
#[test]
fn both_directions_go_in_one_launch() {
    let Some(gpu) = gpu() else { return };
    let engine = Engine::Gpu(gpu.clone());
    for cell in [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru] {
        let direction = Direction::Both(Merge::Concat);
        let stack = Recurrent { layers: 2, direction, ..Recurrent::new("rnn", cell, 24, 32) };
        let case = RecurrentCase { given: true, ..RecurrentCase::new(stack, 50, 4) };
        let recording = record_case(&case).unwrap();
        let census = engine.arranged(&recording).census();
        assert_eq!([census["sequence_forward"], census["sequence_backward"]], [2, 2], "{census:?}");
        let apart = Engine::Gpu(gpu.with_beside(false));
        let census = apart.arranged(&recording).census();
        assert_eq!([census["sequence_forward"], census["sequence_backward"]], [4, 4], "{census:?}");
    }
}

/// At most 40 launches a training step of two layers with all that belongs to it, whatever T is.
#[test]
fn a_training_step_of_two_layers_takes_few_launches() {
    let Some(gpu) = gpu() else { return };
    let engine = Engine::Gpu(gpu.clone());
    for (hidden, time) in [(64, 8), (64, 64), (64, 1000), (16, 100)] {
        let recording = language_model(hidden, 2, time, 8);
        let store = engine.store();
        for buffer in recording.buffers().iter().filter(|b| b.role == Role::Parameter) {
            store.set(&buffer.name, &vec![0.1; buffer.len]).unwrap();
        }
        let launches = engine.load(&recording, &store).unwrap().launches();
        println!("H{hidden} T{time}: {launches} launches");
        assert!(launches <= 40, "H{hidden} T{time}: {launches}");
    }
}

/// The parameters after some training steps, where all updates are one or two launches.
#[test]
fn training_side_by_side_has_its_bits() {
    let Some(gpu) = gpu() else { return };
    let recording = language_model(16, 2, 6, 3);
    let after = |beside: bool, members: usize| {
        let engine = Engine::Gpu(gpu.with_beside(beside)).ensemble(members).unwrap();
        let store = engine.store();
        for (member, seed) in (0..members).zip(SEED..) {
            let mut generator = Initializer::new(seed);
            for buffer in recording.buffers().iter().filter(|b| b.role == Role::Parameter) {
                let values = generator.uniform(buffer.len, 0.3);
                store.member(member).unwrap().set(&buffer.name, &values).unwrap();
            }
        }
        let mut program = engine.load(&recording, &store).unwrap();
        for step in 1..=3 {
            program.set_control(Optimizer::adam().control(step, 5, 0.01));
            program.run().unwrap();
        }
        program.wait().unwrap();
        let names = store.names();
        let bits = |name: &String| {
            store.get(name).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        (names.iter().map(bits).collect::<Vec<_>>(), program.launches())
    };
    for members in [1, 2] {
        let [(want, many), (got, few)] = [false, true].map(|beside| after(beside, members));
        assert_eq!(want, got);
        assert!(few + 15 < many, "{few} launches of {many}");
    }
}

/// A recurrence over buffers of 24 words: for its sake other launches are moved.
fn scan() -> Op {
    let stack = Recurrent::new("rnn", CellKind::MinGru, 2, 4);
    let case = RecurrentCase { inference: true, ..RecurrentCase::new(stack, 2, 1) };
    let recording = record_case(&case).unwrap();
    let mut ops = recording.launches().iter().map(|launch| launch.op.clone());
    let op = ops.find(|op| matches!(op, Op::ScanForward(_))).unwrap();
    let bindings = op.kernel().bindings();
    assert!(bindings.len() == 2 && bindings.iter().all(|binding| binding.extent <= 24));
    op
}

/// A random list of launches over a few buffers, some of them recurrences on request: what depends on what is a matter
/// of chance.
fn random_recording(seed: u64, recurrence: Option<&Op>) -> Recording {
    let mut generator = Initializer::new(seed);
    let mut pick = |n: usize| (generator.uniform(1, 0.499_999)[0] + 0.5) * n as f32;
    let mut recording = Recording::new();
    let buffers: Vec<View> = (0..5)
        .map(|i| recording.buffer(format!("b{i}"), 24, DType::F32, Role::Output).unwrap())
        .collect();
    for number in 0..40 {
        let from = buffers[pick(5) as usize];
        let to = buffers[pick(5) as usize];
        // A part in which neighbours overlap now and then.
        let mut part = |view: View| view.part(pick(4) as usize * 4, 8 + 4 * pick(2) as usize);
        let (source, target) = (part(from), part(to));
        let len = source.len.min(target.len);
        if let Some(op) = recurrence.filter(|_| number % 5 == 4 && from.buffer != to.buffer) {
            recording.launch(op.clone(), &[from, to]).unwrap();
            continue;
        }
        if from.buffer == to.buffer {
            recording.launch(Fill::new(target, number as f32), &[target]).unwrap();
            continue;
        }
        let rows = |view: View| Rows::new(view, len);
        let op = Combine::copy([1, len], rows(source), rows(target)).scaled(0.5);
        let op = op.accumulating(number % 3 == 0);
        match number % 2 {
            0 => recording.launch(op, &[source, target]).unwrap(),
            _ => {
                let op = op.and(With::Sum, rows(source));
                recording.launch(op, &[source, target, source]).unwrap();
            }
        }
    }
    recording
}

/// No launch goes before what it depends on: the CPU engine runs them in the order of the device.
#[test]
fn dependences_are_kept() {
    let Some(gpu) = gpu() else { return };
    let (device, cpu) = (Engine::Gpu(gpu), Engine::cpu(Some(1)).unwrap());
    let (mut count, scan) = (0, scan());
    for seed in 0..400 {
        let recording = random_recording(seed, (seed % 2 == 0).then_some(&scan));
        let arranged = device.arranged(&recording);
        count += beside(&arranged);
        let [want, got] = [&recording, &*arranged].map(|r| run(&cpu, r, 1, 1));
        assert_equal(&format!("recording {seed}"), &want, &got);
        if seed % 100 == 1 {
            assert_equal("on the device", &want, &run(&device, &recording, 1, 1));
        }
    }
    assert!(count > 400, "only {count} launches of several");
}

/// Every kernel's shader for several launches, for the members of an ensemble and over f16 too: valid, translatable,
/// each launch with its own block of parameters where the kernel puts it.
#[test]
fn every_shader_is_valid_side_by_side() {
    let mut seen = BTreeSet::new();
    let mut list = recurra::kernel::permutations();
    let cases = recurrent_cases().into_iter().step_by(3).chain((0..50).map(random_case));
    for recording in cases.map(|case| record_case(&case).unwrap()) {
        list.extend(recording.launches().iter().map(|launch| launch.op.clone()));
    }
    list.retain(|op| seen.insert((op.kernel().name(), op.kernel().defines())));
    let (mut complaints, mut shaders) = (Vec::new(), 0);
    for (number, op) in list.iter().enumerate() {
        let items = 2 + number % 3;
        let beside = Beside::alike(op, items);
        let mut bindings = beside.bindings();
        let updates = [
            "adam",
            "average",
            "clip_scale",
            "clip_value",
            "record_loss",
            "rms_prop",
            "sgd",
            "sum_squares",
        ];
        if number % 3 == 0 && !updates.contains(&beside.name()) {
            let floats = bindings.iter_mut().filter(|b| b.dtype == DType::F32);
            floats.for_each(|b| b.dtype = DType::F16);
        }
        let members = if number % 2 == 0 { 1 } else { 3 };
        let source = shader::source_with(&beside, &bindings, members, None).unwrap();
        let stride = beside.params().len() / items;
        let result = checked(&source, bindings.len(), [items, stride], number % 8 == 0);
        shaders += 1;
        let name = beside.name();
        complaints.extend(result.err().map(|e| format!("{name} {:?}: {e}", op.kernel().defines())));
    }
    assert!(shaders > 300, "only {shaders}");
    assert!(complaints.is_empty(), "\n{}", complaints[..complaints.len().min(5)].join("\n"));
}

fn checked(
    source: &str,
    bindings: usize,
    [items, stride]: [usize; 2],
    translates: bool,
) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16);
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    let bound = module.global_variables.iter().filter(|(_, g)| g.binding.is_some()).count();
    if bound != bindings + 1 {
        return Err(format!("{bound} variables for {bindings} buffers"));
    }
    let uniform = |g: &&naga::GlobalVariable| g.space == naga::AddressSpace::Uniform;
    let blocks = module.global_variables.iter().map(|(_, g)| g).find(uniform).unwrap();
    match module.types[blocks.ty].inner {
        TypeInner::Array { size: ArraySize::Constant(count), stride: apart, .. }
            if count.get() as usize == items && apart as usize == stride => {}
        ref other => return Err(format!("{items} blocks of {stride} bytes are {other:?}")),
    }
    if translates {
        let words = naga::back::spv::write_vec(&module, &info, &Default::default(), None);
        words.map_err(|e| format!("SPIR-V: {e}"))?;
        let options = naga::back::msl::Options { lang_version: (2, 4), ..Default::default() };
        naga::back::msl::write_string(&module, &info, &options, &Default::default())
            .map_err(|e| format!("MSL: {e}"))?;
        let (options, pipeline) = (Default::default(), Default::default());
        let mut text = String::new();
        naga::back::hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .map_err(|e| format!("HLSL: {e}"))?;
    }
    Ok(())
}

/// Launches whose buffers, parameters or workgroups are mixed up are noticed.
#[test]
fn mixed_launches_are_noticed() {
    let Some(gpu) = gpu() else { return };
    // Small and large updates, and both directions.
    let stack = Recurrent {
        direction: Direction::Both(Merge::Sum),
        ..Recurrent::new("rnn", CellKind::Lstm, 3, 5)
    };
    let case = RecurrentCase { given: true, ..RecurrentCase::new(stack, 4, 2) };
    let recording = record_case(&case).unwrap();
    let apart = Engine::Gpu(gpu.with_beside(false));
    let want = run(&apart, &recording, 4, 2);
    let members = run_members(&apart.ensemble(2).unwrap(), &recording, 4, 2, &[1, 2]);
    for (old, new, noticed) in [
        ("", "", false),
        ("return w_0[at]", "return w_1[at]", true),
        ("case 0u: { gates_0[at] = value; }", "case 0u: { gates_1[at] = value; }", true),
        ("beside_items[own_item].p.", "beside_items[0].p.", true),
        ("p = beside_items[own_item].p;", "p = beside_items[0].p;", true),
    ] {
        let fault = Fault { stem: Fault::BESIDE, old, new };
        let engine = if old.is_empty() { gpu.clone() } else { gpu.with_fault(fault) };
        let got = run(&Engine::Gpu(engine), &recording, 4, 2);
        assert_eq!(want != got, noticed, "{old} -> {new}");
    }
    for (old, new, noticed) in [
        ("group.z / 2u", "group.z / 2u", false),
        ("own_item = group.z / 2u", "own_item = group.z % 2u", true),
        ("(group.z % 2u) *", "(group.z / 2u) *", true),
    ] {
        let engine = gpu.with_fault(Fault { stem: Fault::BESIDE, old, new });
        let engine = Engine::Gpu(engine).ensemble(2).unwrap();
        let got = run_members(&engine, &recording, 4, 2, &[1, 2]);
        assert_eq!(members != got, noticed, "{old} -> {new}");
    }
    // Idle workgroups of the smaller launch would write behind its one sum, where nothing else does.
    let mut recording = Recording::new();
    let large = recording.buffer("large", 100_000, DType::F32, Role::Input).unwrap();
    let small = recording.buffer("small", 7, DType::F32, Role::Input).unwrap();
    let count = SumSquares::partials(large.len);
    let partials = recording.buffer("partials", count + 3, DType::F32, Role::Output).unwrap();
    recording.launch(Fill::new(partials, 7.0), &[partials]).unwrap();
    recording.launch(SumSquares::new(large, 0), &[large, partials]).unwrap();
    recording.launch(SumSquares::new(small, count), &[small, partials]).unwrap();
    assert_eq!(beside(&Engine::Gpu(gpu.clone()).arranged(&recording)), 1);
    let want = run(&apart, &recording, 1, 1);
    assert_eq!(want, run(&Engine::Gpu(gpu.clone()), &recording, 1, 1));
    let (old, new) = ("any(group.xy >= beside_items", "any(group.xy > beside_items");
    let fault = Fault { stem: Fault::BESIDE, old, new };
    let got = run(&Engine::Gpu(gpu.with_fault(fault)), &recording, 1, 1);
    assert_ne!(want, got, "a workgroup too many");
}
