//! Training in 16 bits: as good as in 32, the same bits twice and after an interruption, steps with
//! infinite gradients left out, and half the memory.

mod common;

use recurra::data::Vocabulary;
use recurra::engine::Engine;
use recurra::kernel::{CellKind, LossScale};
use recurra::layer::{InitialState, Recurrent};
use recurra::loss::{Penalty, cross_entropy, penalise};
use recurra::optim::{Optimizer, Update};
use recurra::recording::{Recording, Role};
use recurra::schedule::Recorder;
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig};
use recurra::tensor::{DType, NamedTensors, Precision};
use recurra::train::{Checkpoint, Phase, Task, TrainOptions, Trainer, record_training};

/// The GPU engine, where it has f16.
fn engine() -> Option<Engine> {
    let engine = common::gpu_engine()?;
    if engine.supports(Precision::F16) {
        return Some(engine);
    }
    println!("SKIPPED: '{}' has no f16", engine.name());
    None
}

/// A text with structure: sums written out.
fn text() -> String {
    (0..400).map(|i| format!("{} plus {} is {}.\n", i % 17, i % 13, i % 17 + i % 13)).collect()
}

fn task() -> LanguageTask {
    let text = text();
    let shape = ModelConfig::new(&Vocabulary::of(&text));
    let config = ModelConfig { embedding: 8, hidden: 24, dropout: 0.1, ..shape };
    LanguageTask::new(LanguageModel::new(config).unwrap(), &text, 16, 8).unwrap()
}

fn options(steps: u64, precision: Precision) -> TrainOptions {
    TrainOptions { learning_rate: 0.02, precision, ..TrainOptions::new(steps) }
}

/// A trainer after so many steps.
fn trained(precision: Precision, engine: &Engine, steps: u64) -> (f32, LossScale, Checkpoint) {
    let task = task();
    let mut trainer = Trainer::new(engine, &task, options(steps, precision), None).unwrap();
    trainer.run(None, |_| Ok(())).unwrap();
    let scale = trainer.loss_scales().unwrap().pop().unwrap_or_default();
    (trainer.evaluate().unwrap().unwrap().mean(), scale, trainer.checkpoint().unwrap())
}

/// The loss in f16 is within 1 % of that in f32, and both have learned.
#[test]
fn a_language_model_learns_as_well() {
    let Some(engine) = engine() else { return };
    let wide = trained(Precision::F32, &engine, 200);
    let short = trained(Precision::F16, &engine, 200);
    println!("validation loss: f32 {}, f16 {}; {:?}", wide.0, short.0, short.1);
    assert!(wide.0 < 1.2, "it learns: {}", wide.0);
    assert!((short.0 - wide.0).abs() < 0.01 * wide.0, "f32 {}, f16 {}", wide.0, short.0);
    // They are not the same computation.
    assert_ne!(short.0, wide.0);
    let words: Vec<f32> = short.2.tensors[LossScale::NAME].iter().copied().collect();
    assert_eq!(LossScale::new(&words), short.1);
    assert!(!wide.2.tensors.contains_key(LossScale::NAME));
}

#[test]
fn two_runs_and_an_interrupted_one_have_the_same_bits() {
    let Some(engine) = engine() else { return };
    let once = trained(Precision::F16, &engine, 20);
    let options = || options(20, Precision::F16);
    let task = task();
    let mut first = Trainer::new(&engine, &task, options(), None).unwrap();
    // The eighth step is the last that this trainer sees.
    let folder = tempfile::tempdir().unwrap();
    let stop = |event: &recurra::train::Event| match event {
        recurra::train::Event::Saved(8) => Err(recurra::Error::Invalid("enough".to_string())),
        _ => Ok(()),
    };
    assert!(first.run(Some(folder.path()), stop).is_err());
    drop(first);
    let checkpoint = Checkpoint::load(folder.path()).unwrap();
    assert_eq!(checkpoint.step, 8);
    let mut second = Trainer::new(&engine, &task, options(), Some(checkpoint)).unwrap();
    second.run(None, |_| Ok(())).unwrap();
    let again = second.checkpoint().unwrap();
    assert_eq!(once.2.tensors, again.tensors);
}

/// A scale under which the gradients are beyond 16 bits: the step changes nothing but the scale.
#[test]
fn a_step_of_infinite_gradients_is_left_out() {
    let Some(engine) = engine() else { return };
    let task = task();
    let optimizer = Optimizer::adam();
    let update = Update::new(optimizer);
    let plain = TrainOptions { update, ..options(1, Precision::F16) };
    let recording = record_training(&task, &plain, 0).unwrap();
    let store = engine.store();
    let weights = task.initial_weights(3);
    store.set_all(&weights).unwrap();
    // 2^24 over 128 rows.
    store.set(LossScale::NAME, &[8.0, 5.0, 0.0, 0.0, 0.0]).unwrap();
    let mut program = engine.load(&recording, &store).unwrap();
    let mut run = |step: u32| {
        task.feed(Phase::Training, 0, 1).unwrap().write(&mut program.inputs()).unwrap();
        program.set_control(optimizer.control(step, 1, 0.01));
        program.run().unwrap();
        LossScale::new(&store.get(LossScale::NAME).unwrap())
    };
    let same = |weights: &NamedTensors| {
        weights.iter().all(|(name, w)| store.get(name).unwrap() == w.as_slice().unwrap())
    };
    let scale = run(1);
    assert!(same(&weights), "the weights moved");
    assert_eq!((scale.scale(), scale.skipped), (2f32.powi(23), 1.0));
    assert_eq!(store.get("optimizer.linear.weight.first").unwrap().iter().sum::<f32>(), 0.0);
    // Until the gradients fit; then the weights move, by as much as in f32: Adam's first update, however
    // many steps there were before.
    let mut step = 2;
    while same(&weights) {
        assert!(step < 20, "no step was taken");
        run(step);
        step += 1;
    }
    for (name, before) in &weights {
        let moved = common::apart(&store.get(name).unwrap(), before.iter());
        assert!(moved < 0.010_01, "{name} moved by {moved}");
    }
    let moved = common::apart(&store.get("linear.weight").unwrap(), &weights["linear.weight"]);
    assert!(moved > 0.009, "by {moved}");
}

/// The gradients that the optimizer sees are those of f32, whatever the scale: with penalties, for every
/// cell, by an update of plain descent at rate 1.
#[test]
fn updates_are_those_of_f32_under_any_scale() {
    let Some(engine) = engine() else { return };
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::RnnTanh, CellKind::MinGru] {
        let rnn = Recurrent::new("rnn", cell, 5, 8);
        let record = |precision| {
            let mut rec = Recorder::training().with_precision(precision);
            let x = rec.input("x", [12, 5], false).unwrap();
            let targets = rec.input_ids("targets", 12).unwrap();
            let run = rnn.record(&mut rec, x, [4, 3], &InitialState::Zero).unwrap();
            let rate = Penalty::Activation(0.5);
            cross_entropy(&mut rec, run.output, targets).unwrap();
            penalise(&mut rec, "penalty", rate, run.output, [4, 3], None).unwrap();
            let seed = rec.input("seed", [12, 8], false).unwrap();
            rec.seed_gradient(run.output, seed).unwrap();
            rec.backward().unwrap();
            let descent = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 };
            descent.record(&mut rec, None).unwrap();
            rec.finish()
        };
        let mut weights = NamedTensors::new();
        let mut generator = recurra::layer::Initializer::new(5);
        rnn.init(&mut generator, &mut weights);
        let (x, seed) = (generator.uniform(60, 1.0), generator.uniform(96, 0.02));
        let update = |precision, exponent: f32| -> Vec<f32> {
            let recording: Recording = record(precision);
            let store = engine.store();
            store.set_all(&weights).unwrap();
            if precision == Precision::F16 {
                store.set(LossScale::NAME, &[exponent, 0.0, 0.0, 0.0, 0.0]).unwrap();
            }
            let mut program = engine.load(&recording, &store).unwrap();
            program.write(program.find("x").unwrap(), &x).unwrap();
            program.write(program.find("seed").unwrap(), &seed).unwrap();
            let targets: Vec<u32> = (0..12).map(|i| i * 5 % 8).collect();
            program.write_u32(program.find("targets").unwrap(), &targets).unwrap();
            let optimizer = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 };
            program.set_control(optimizer.control(1, 1, 1.0));
            program.run().unwrap();
            let names = weights.keys();
            names
                .flat_map(|name| {
                    let after = store.get(name).unwrap();
                    let before: Vec<f32> = weights[name].iter().copied().collect();
                    after.into_iter().zip(before).map(|(a, b)| a - b).collect::<Vec<_>>()
                })
                .collect()
        };
        let wide = update(Precision::F32, 0.0);
        let largest = wide.iter().fold(0f32, |a, x| a.max(x.abs()));
        for exponent in [-16.0, -6.0, -2.0] {
            let short = update(Precision::F16, exponent);
            let error = common::apart(&short, &wide) / largest;
            // Without a scale the small gradients are subnormal in f16.
            let bound = if exponent == -16.0 { 2e-2 } else { 4e-3 };
            assert!(error < bound, "{cell:?} at 2^{}: {error}", 16.0 + exponent);
        }
    }
}

/// What lies in 16 bits and what does not, and that half the bytes are really saved.
#[test]
fn sums_stay_wide_and_the_rest_is_halved() {
    let record = |precision| record_training(&task(), &options(1, precision), 0).unwrap();
    let (wide, short) = (record(Precision::F32), record(Precision::F16));
    assert!(wide.find_half().is_none());
    for buffer in short.buffers() {
        let stem = buffer.name.split('#').next().unwrap();
        let gradient_of_weight = ["d.rnn", "d.lstm", "d.linear.", "d.embedding."];
        let wide = matches!(stem, "carry" | "losses" | "partials" | "clip" | "final" | "control")
            || gradient_of_weight.iter().any(|start| stem.starts_with(start))
            || buffer.role != Role::Temporary;
        let want = match (buffer.dtype, wide) {
            (DType::U32, _) => DType::U32,
            (_, true) => DType::F32,
            (_, false) => DType::F16,
        };
        assert_eq!(buffer.dtype, want, "{}", buffer.name);
    }
    let bytes = |recording: &Recording| recording.plan().unwrap().temporary_bytes() as f64;
    let share = bytes(&short) / bytes(&wide);
    assert!(share < 0.75, "{share}");
    assert!((short.cost().bytes as f64) < 0.85 * wide.cost().bytes as f64);
    assert_eq!(short.launches().len(), wide.launches().len() + 5, "a copy a weight matrix");
}
