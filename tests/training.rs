//! Training through the library: the same bits twice, the same bits after an interruption, the
//! same curve on both engines, the launches and the memory of a step.

mod common;

use common::apart;
use recurra::Error;
use recurra::cell::CellKind;
use recurra::data::Vocabulary;
use recurra::engine::Engine;
use recurra::layer::{InitialState, Recurrent};
use recurra::optim::{Optimizer, Update};
use recurra::schedule::Recorder;
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig};
use recurra::train::{Checkpoint, Event, MemberLosses, Task, TrainOptions, Trainer, member_folder};
use std::path::Path;

/// A text with structure: sums written out.
fn text() -> String {
    (0..120).map(|i| format!("{} plus {} is {}.\n", i % 17, i % 13, i % 17 + i % 13)).collect()
}

fn task(cell: CellKind, hidden: usize) -> LanguageTask {
    let text = text();
    let config = ModelConfig {
        cell: cell.name().to_string(),
        embedding: 8,
        hidden,
        dropout: 0.2,
        ..ModelConfig::new(&Vocabulary::of(&text))
    };
    LanguageTask::new(LanguageModel::new(config).unwrap(), &text, 10, 6).unwrap()
}

fn options(steps: u64) -> TrainOptions {
    TrainOptions {
        steps,
        learning_rate: 0.01,
        update: Update { max_norm: Some(0.5), ..Update::new(Optimizer::adamw(0.01)) },
        seed: 7,
        evaluate_every: 9,
        save_every: 5,
        report_every: 4,
        ..TrainOptions::new(steps)
    }
}

/// All losses of a run and its last checkpoint. With `stop_at`, the run is cut off right after the
/// checkpoint of that step and taken up again from the folder by a new trainer.
fn train(
    engine: &Engine,
    cell: CellKind,
    steps: u64,
    folder: &Path,
    stop_at: Option<u64>,
) -> (Vec<u32>, Checkpoint) {
    let mut losses: Vec<f32> = Vec::new();
    let mut checkpoint = None;
    if let Some(stop) = stop_at {
        let task = task(cell, 12);
        let mut trainer = Trainer::new(engine, &task, options(steps), None).unwrap();
        let stopped = trainer.run(Some(folder), |event| match event {
            Event::Losses(_, more) => {
                losses.extend(more.iter().map(MemberLosses::mean));
                Ok(())
            }
            Event::Saved(step) if *step == stop => Err(Error::Invalid("cut off".to_string())),
            _ => Ok(()),
        });
        assert!(stopped.unwrap_err().to_string().contains("cut off"));
        assert_eq!(losses.len() as u64, stop);
        checkpoint = Some(Checkpoint::load(folder).unwrap());
        assert_eq!(checkpoint.as_ref().unwrap().step, stop);
    }
    let task = task(cell, 12);
    let mut trainer = Trainer::new(engine, &task, options(steps), checkpoint).unwrap();
    let run = trainer.run(Some(folder), |event| {
        if let Event::Losses(_, more) = event {
            losses.extend(more.iter().map(MemberLosses::mean));
        }
        Ok(())
    });
    run.unwrap();
    assert_eq!(losses.len() as u64, steps);
    assert!(losses[steps as usize - 1] < losses[0], "it learns");
    (losses.iter().map(|l| l.to_bits()).collect(), Checkpoint::load(folder).unwrap())
}

fn bits(checkpoint: &Checkpoint) -> Vec<(String, Vec<u32>)> {
    let of = |t: &recurra::tensor::HostTensor| t.iter().map(|x| x.to_bits()).collect();
    checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), of(tensor))).collect()
}

fn twice_and_resumed(engine: &Engine, cells: &[CellKind]) {
    for &cell in cells {
        let folders = [(); 4].map(|()| tempfile::tempdir().unwrap());
        // Step 15 is inside the first epoch, the run ends in the second.
        let epoch = task(cell, 12).batches_per_epoch();
        assert!((16..30).contains(&epoch), "{epoch} steps an epoch");
        let once = train(engine, cell, 30, folders[0].path(), None);
        let again = train(engine, cell, 30, folders[1].path(), None);
        assert_eq!(once.0, again.0, "{cell:?}: two runs");
        assert_eq!(bits(&once.1), bits(&again.1), "{cell:?}: two runs");
        let resumed = train(engine, cell, 30, folders[2].path(), Some(15));
        assert_eq!(once.0, resumed.0, "{cell:?}: interrupted");
        assert_eq!(bits(&once.1), bits(&resumed.1), "{cell:?}: interrupted");
        let names: Vec<_> = once.1.tensors.keys().map(String::as_str).collect();
        for name in ["state.l0", "state.l1", "optimizer.linear.weight.first", "embedding.weight"] {
            assert!(names.contains(&name), "{name} is in the checkpoint");
        }
    }
}

#[test]
fn cpu_runs_and_resumes_with_the_same_bits() {
    twice_and_resumed(&Engine::cpu(Some(2)).unwrap(), &CellKind::ALL);
}

#[test]
fn gpu_runs_and_resumes_with_the_same_bits() {
    if let Some(engine) = common::gpu_engine() {
        twice_and_resumed(&engine, &[CellKind::Lstm, CellKind::Gru]);
    }
}

#[test]
fn both_engines_learn_along_the_same_curve() {
    let Some(gpu) = common::gpu_engine() else { return };
    let folder = tempfile::tempdir().unwrap();
    for cell in CellKind::ALL {
        let cpu = train(&Engine::cpu(Some(2)).unwrap(), cell, 20, folder.path(), None).0;
        let gpu = train(&gpu, cell, 20, folder.path(), None).0;
        let [cpu, gpu] = [cpu, gpu].map(|bits| bits.into_iter().map(f32::from_bits));
        let error = apart(&cpu.collect::<Vec<_>>(), &gpu.collect::<Vec<_>>());
        println!("{cell:?}: {error:.1e}");
        assert!(error < 2e-5, "{cell:?}: {error}");
    }
}

#[test]
fn another_seed_gives_another_run() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let run = |seed| {
        let task = task(CellKind::Lstm, 12);
        let options = TrainOptions { seed, ..options(3) };
        let mut trainer = Trainer::new(&engine, &task, options, None).unwrap();
        trainer.run(None, |_| Ok(())).unwrap();
        bits(&trainer.checkpoint().unwrap())
    };
    assert_ne!(run(1), run(2));
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    train(&engine, CellKind::Lstm, 5, folder.path(), None);
    let checkpoint = Checkpoint::load(folder.path()).unwrap();
    let other = task(CellKind::Lstm, 13);
    let refused = Trainer::new(&engine, &other, options(9), Some(checkpoint.clone()));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("expected shape"), "{message}");
    let mut cut = checkpoint;
    cut.tensors.remove("optimizer.linear.bias.second");
    let same = task(CellKind::Lstm, 12);
    let message = Trainer::new(&engine, &same, options(9), Some(cut)).err().unwrap();
    assert!(message.to_string().contains("optimizer.linear.bias.second"), "{message}");
}

/// Launches of a training step: 2·T·L for the recurrence, and a number that T does not change.
#[test]
fn launches_of_a_step_are_two_per_time_step_and_layer() {
    let launches = |time: usize, layers: usize| {
        let rec = &mut Recorder::training();
        let (cell, input, hidden) = (CellKind::Gru, 4, 5);
        let stack = Recurrent { layers, ..Recurrent::new("rnn", cell, input, hidden) };
        let x = rec.input("x", [time * 3, input], true).unwrap();
        let initial = InitialState::Carried("state".to_string());
        let y = stack.record(rec, x, [time, 3], &initial).unwrap().output;
        let seed = rec.input("seed", [time * 3, hidden], false).unwrap();
        rec.seed_gradient(y, seed).unwrap();
        rec.backward().unwrap();
        Optimizer::adam().record(rec, Some(1.0)).unwrap();
        std::mem::replace(rec, Recorder::inference()).finish().launches().len()
    };
    for layers in [1, 3] {
        let constant = launches(1, layers) - 2 * layers;
        for time in [2, 7, 100] {
            assert_eq!(launches(time, layers), 2 * time * layers + constant);
        }
        // Products, copies, updates: a few a parameter.
        assert!(constant <= 16 * layers + 4, "{constant}");
    }
}

/// The memory of one LSTM layer's training step, by hand. T 2, B 3, I 4, H 5, in words:
///
/// | buffer | words | from | to |
/// |---|--:|---|---|
/// | gates \[T·B, 4H\] | 120 | input product | last gradient product |
/// | d.weight_hh \[4H, H\] | 100 | its product | its copy out |
/// | states \[2·(T+1)·B, H\] | 90 | initial state | weight_hh's product |
/// | d.weight_ih \[4H, I\] | 80 | its product | its copy out |
/// | final \[2·B, H\] | 30 | end of forward | the same launch (nothing reads it) |
/// | d.states (the outputs' gradient) | 30 | seed | last step backward |
/// | carry \[2·B, H\] | 30 | start of backward | last step backward |
/// | d.x \[T·B, I\] | 24 | its product, the last | its copy out |
/// | d.bias_ih, d.bias_hh | 20, 20 | with their products | their copies out |
///
/// Greedy by size: gates, d.weight_hh and states meet at weight_hh's product: three slots (120,
/// 100, 90). d.weight_ih begins after that, when the states are over: it takes their slot. The final
/// states, the outputs' gradient and the carry are over before d.weight_hh begins: final and
/// d.states, which do not meet, share its slot; the carry meets d.states and the states: a fourth
/// (30). d.x begins long after the carry: it takes its slot. The biases meet everything: two slots
/// of 20. Together 120 + 100 + 90 + 30 + 20 + 20 = 380 words.
#[test]
fn the_memory_of_a_training_step_meets_a_hand_count() {
    let rec = &mut Recorder::training();
    let (time, batch, input, hidden) = (2, 3, 4, 5);
    let stack = Recurrent::new("lstm", CellKind::Lstm, input, hidden);
    let x = rec.input("x", [time * batch, input], true).unwrap();
    let y = stack.record(rec, x, [time, batch], &InitialState::Zero).unwrap().output;
    let seed = rec.input("seed", [time * batch, hidden], false).unwrap();
    rec.seed_gradient(y, seed).unwrap();
    rec.backward().unwrap();
    let mut outputs = rec.parameters();
    outputs.push(("x".to_string(), x));
    for (name, var) in outputs {
        let view = rec.gradient(var).unwrap();
        let gradient = recurra::schedule::Var { view, ..var };
        rec.output(&format!("d.{name}"), gradient).unwrap();
    }
    let recording = std::mem::replace(rec, Recorder::inference()).finish();
    let plan = recording.plan().unwrap();
    assert_eq!(plan.slots, [120, 100, 90, 30, 20, 20], "{recording}");
    assert_eq!(plan.temporary_bytes(), 380 * 4);
    // Inputs x 24 and seed 30; weights 80 + 100 + 20 + 20; the outputs 220 + 24.
    assert_eq!(plan.fixed_bytes, (24 + 30 + 220 + 244) * 4);
}

/// Two windows with the state carried on the device are one window of twice the length; zeroed
/// states begin anew.
#[test]
fn carried_states_join_windows() {
    let engines = std::iter::once(Engine::cpu(Some(2)).unwrap()).chain(common::gpu_engine());
    for engine in engines {
        for cell in CellKind::ALL {
            let (batch, input, hidden) = (3, 4, 7);
            let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", cell, input, hidden) };
            let mut weights = recurra::NamedTensors::new();
            stack.init(&mut recurra::Initializer::new(5), &mut weights);
            let x: Vec<f32> = (0..10 * batch * input).map(|i| (i as f32 * 0.61).sin()).collect();
            let run = |windows: &[usize], zero_between: bool| -> Vec<f32> {
                let store = engine.store();
                store.set_all(&weights).unwrap();
                let (mut at, mut outputs) = (0, Vec::new());
                for &time in windows {
                    let mut rec = Recorder::inference();
                    let input = rec.input("x", [time * batch, input], false).unwrap();
                    let initial = InitialState::Carried("state".to_string());
                    let y = stack.record(&mut rec, input, [time, batch], &initial).unwrap().output;
                    let y = rec.output("y", y).unwrap().view.buffer;
                    let mut program = engine.load(&rec.finish(), &store).unwrap();
                    program.write(input.view.buffer, &x[at..at + input.view.len]).unwrap();
                    program.run().unwrap();
                    outputs.extend(program.read(y).unwrap());
                    at += input.view.len;
                    for name in store.names().iter().filter(|n| zero_between && n.contains("state"))
                    {
                        let words = store.get(name).unwrap().len();
                        store.set(name, &vec![0.0; words]).unwrap();
                    }
                }
                outputs
            };
            let whole = run(&[10], false);
            let joined = run(&[4, 1, 5], false);
            let anew = run(&[4, 1, 5], true);
            let error = apart(&whole, &joined);
            assert!(error < 1e-6, "{cell:?} {engine:?}: {error}");
            assert!(apart(&whole, &anew) > 1e-2, "{cell:?} {engine:?}: the state matters");
        }
    }
}

/// Three models side by side: each has the bits that it has alone, in its losses, weights and moments; and the
/// run goes on from a checkpoint.
fn ensemble_is_its_members(engine: &Engine) {
    let options = |seed| TrainOptions { seed, ..options(20) };
    let alone = [7, 8, 9].map(|seed| {
        let task = task(CellKind::Gru, 12);
        let mut trainer = Trainer::new(engine, &task, options(seed), None).unwrap();
        let mut losses = Vec::new();
        let run = trainer.run(None, |event| {
            match event {
                Event::Losses(_, more) => losses.extend(more.iter().map(|l| l.0[0].to_bits())),
                Event::Validation(_, loss) => losses.push(loss.0[0].to_bits()),
                _ => {}
            }
            Ok(())
        });
        run.unwrap();
        let checkpoint = trainer.checkpoint().unwrap();
        (losses, bits(&checkpoint), checkpoint.best)
    });
    assert!(alone[0].0 != alone[1].0 && alone[1].0 != alone[2].0);
    let folder = tempfile::tempdir().unwrap();
    let ensemble = engine.ensemble(3).unwrap();
    let mut together = vec![Vec::new(); 3];
    let mut checkpoint = None;
    for part in 0..2 {
        let task = task(CellKind::Gru, 12);
        let mut trainer = Trainer::new(&ensemble, &task, options(7), checkpoint).unwrap();
        let result = trainer.run(Some(folder.path()), |event| {
            let mut add = |losses: &MemberLosses| {
                assert!(losses.spread().unwrap() > 0.0);
                let pairs = together.iter_mut().zip(&losses.0);
                pairs.for_each(|(all, loss)| all.push(loss.to_bits()));
            };
            match event {
                Event::Losses(_, more) => more.iter().for_each(add),
                Event::Validation(_, losses) => add(losses),
                Event::Saved(10) if part == 0 => {
                    return Err(Error::Invalid("cut off".to_string()));
                }
                _ => {}
            }
            Ok(())
        });
        match result {
            Err(error) => assert!(part == 0 && error.to_string().contains("cut off"), "{error}"),
            Ok(_) => assert_eq!(part, 1),
        }
        checkpoint = Some(Checkpoint::load(folder.path()).unwrap());
    }
    let checkpoint = checkpoint.unwrap();
    assert_eq!((checkpoint.step, checkpoint.members), (20, 3));
    for (member, (losses, tensors, best)) in alone.iter().enumerate() {
        assert_eq!(&together[member], losses, "losses of member {member}");
        let prefix = format!("{member}/");
        let of = bits(&checkpoint).into_iter();
        let of: Vec<_> =
            of.filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?.to_string(), t))).collect();
        assert_eq!(&of, tensors, "tensors of member {member}");
        // Its folder holds its best weights under their own names.
        let seed = 7 + member as u64;
        let path = member_folder(folder.path(), seed).join("model.safetensors");
        let model = recurra::format::read_tensors(&path).unwrap().tensors;
        let weights = task(CellKind::Gru, 12).weight_shapes();
        assert!(model.keys().eq(weights.keys()));
        assert_eq!(&model, best);
    }
    // Another number of members is another run.
    let task = task(CellKind::Gru, 12);
    let refused = Trainer::new(engine, &task, options(7), Some(checkpoint));
    assert!(refused.err().unwrap().to_string().contains("members are 3, not 1"));
}

#[test]
fn an_ensemble_is_its_members_on_the_cpu() {
    ensemble_is_its_members(&Engine::cpu(Some(2)).unwrap());
}

#[test]
fn an_ensemble_is_its_members_on_a_gpu() {
    if let Some(engine) = common::gpu_engine() {
        ensemble_is_its_members(&engine);
    }
}

#[test]
fn mean_and_spread_meet_a_hand_count() {
    let losses = MemberLosses(vec![1.0, 2.0, 6.0]);
    assert_eq!((losses.mean(), losses.spread()), (3.0, Some(7f32.sqrt())));
    assert_eq!(MemberLosses(vec![2.5]).spread(), None);
}
