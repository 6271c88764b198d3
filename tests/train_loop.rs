//! The training loop beside the steps themselves: the best and the last weights, early ends, interruptions, looks at
//! a task before it is trained, and a disk that is full.

mod common;

use common::command::{fill, on_a_small_disk};
use recurra::cell::CellKind;
use recurra::data::{Tokens, Vocabulary};
use recurra::engine::{Engine, Store};
use recurra::kernel::Fill;
use recurra::model::{Fit, Samples, Sequences, Sequential, Targets};
use recurra::schedule::Recorder;
use recurra::task::TaskModel;
use recurra::task::lm::{LanguageModel, LanguageTask, ModelConfig};
use recurra::tensor::NamedTensors;
use recurra::train::{
    Checkpoint, Event, Feed, MODEL, Outcome, Phase, RateSweep, TRAINING, Task, TrainOptions,
    Trainer, check_gradients, find_rate,
};
use recurra::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A text without much to learn, so that what is learned of it by heart does not help with the rest.
fn noise() -> String {
    (0..1500u64)
        .map(|i| char::from(b'a' + (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as u8))
        .collect()
}

fn sums() -> String {
    (0..120).map(|i| format!("{} plus {} is {}.\n", i % 17, i % 13, i % 17 + i % 13)).collect()
}

fn config(text: &str, cell: CellKind) -> ModelConfig {
    ModelConfig {
        cell: cell.name().to_string(),
        embedding: 12,
        hidden: 12,
        ..ModelConfig::new(&Vocabulary::of(text))
    }
}

fn task(text: &str) -> LanguageTask {
    let model = LanguageModel::new(config(text, CellKind::Gru)).unwrap();
    LanguageTask::new(model, text, 10, 6).unwrap()
}

fn options(steps: u64) -> TrainOptions {
    TrainOptions {
        learning_rate: 0.05,
        evaluate_every: 5,
        save_every: 7,
        ..TrainOptions::new(steps)
    }
}

fn engine() -> Engine {
    Engine::cpu(Some(1)).unwrap()
}

#[test]
fn the_model_is_the_best_and_the_checkpoint_the_last() {
    let (folder, text) = (tempfile::tempdir().unwrap(), noise());
    let task = task(&text);
    let mut trainer = Trainer::new(&engine(), &task, options(100), None).unwrap();
    let (mut all, mut told) = (Vec::new(), Vec::new());
    let run = trainer.run(Some(folder.path()), |event| {
        match event {
            Event::Validation(progress, losses) => all.push((progress.step, losses.0[0])),
            Event::Best { step, loss, .. } => told.push((*step, *loss)),
            _ => {}
        }
        Ok(())
    });
    assert_eq!(run.unwrap(), Outcome::Finished);
    let best = all.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap();
    assert!(best.0 < 100 && best.1 < all[all.len() - 1].1, "it overfits: {all:?}");
    assert_eq!(told.last(), Some(&best));
    let checkpoint = Checkpoint::load(folder.path()).unwrap();
    assert_eq!(checkpoint.step, 100);
    assert_eq!((checkpoint.state.best[0].step, checkpoint.state.best[0].loss), best);
    let model = recurra::format::read_tensors(&folder.path().join(MODEL)).unwrap();
    assert_eq!(model.metadata["step"], best.0.to_string());
    assert_eq!(model.tensors, checkpoint.best);
    // The model's weights have the best loss, the checkpoint's the last one.
    let evaluate = |weights: &NamedTensors| {
        let task = self::task(&text);
        let mut trainer = Trainer::new(&engine(), &task, options(1), None).unwrap();
        let own = task_weights(weights);
        trainer.store().set_all(&own).unwrap();
        trainer.evaluate().unwrap().unwrap().0[0]
    };
    assert_eq!(evaluate(&model.tensors), best.1);
    assert_eq!(evaluate(&checkpoint.tensors), all[all.len() - 1].1);
}

/// The tensors that are weights.
fn task_weights(tensors: &NamedTensors) -> NamedTensors {
    let own = |name: &&String| !name.starts_with("optimizer.") && !name.starts_with("state.");
    tensors.iter().filter(|t| own(&t.0)).map(|(n, t)| (n.clone(), t.clone())).collect()
}

#[test]
fn a_run_that_gets_no_better_ends() {
    let (folder, text) = (tempfile::tempdir().unwrap(), noise());
    let patient = TrainOptions { patience: Some(3), ..options(1000) };
    let task = task(&text);
    let mut trainer = Trainer::new(&engine(), &task, patient.clone(), None).unwrap();
    let outcome = trainer.run(Some(folder.path()), |_| Ok(())).unwrap();
    assert_eq!(outcome, Outcome::StoppedEarly);
    let checkpoint = Checkpoint::load(folder.path()).unwrap();
    let best = checkpoint.state.best[0].step;
    assert_eq!((checkpoint.step, checkpoint.state.waited), (best + 3 * 5, 3));
    // Taken up again it ends at once.
    let task = self::task(&text);
    let mut again = Trainer::new(&engine(), &task, patient, Some(checkpoint)).unwrap();
    assert_eq!(again.run(None, |_| Ok(())).unwrap(), Outcome::StoppedEarly);
    assert_eq!(again.step(), best + 15);
}

/// A task that tells of the batches that are made, before each.
struct Told<F> {
    task: LanguageTask,
    tell: F,
}

impl<F: Fn(Phase, u64) -> Result<()> + Sync> Task for Told<F> {
    fn record(&self, rec: &mut Recorder, phase: Phase, shape: usize) -> Result<()> {
        self.task.record(rec, phase, shape)
    }
    fn initial_weights(&self, seed: u64) -> NamedTensors {
        self.task.initial_weights(seed)
    }
    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.task.weight_shapes()
    }
    fn batches_per_epoch(&self) -> u64 {
        self.task.batches_per_epoch()
    }
    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed> {
        (self.tell)(phase, batch)?;
        self.task.feed(phase, batch, seed)
    }
    fn validation_batches(&self) -> u64 {
        self.task.validation_batches()
    }
    fn symbols_per_batch(&self) -> u64 {
        self.task.symbols_per_batch()
    }
}

/// When an interruption is asked for.
#[derive(Clone, Copy)]
enum Stop {
    /// So that the run ends behind exactly this step.
    Behind(u64),
    /// When the batch of this step is made, wherever the run is then.
    AtBatchOf(u64),
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let text = sums();
    let run = |stops: &[Stop]| {
        let folder = tempfile::tempdir().unwrap();
        let (mut losses, mut validation) = (Vec::new(), Vec::new());
        let mut checkpoint = None;
        for at in stops.iter().copied().map(Some).chain([None]) {
            let begun = checkpoint.as_ref().map_or(0, |saved: &Checkpoint| saved.step);
            let next = matches!(at, Some(Stop::Behind(step)) if step == begun + 1);
            let stop = Arc::new(AtomicBool::new(next));
            let tell = |phase, batch| {
                if let Some(Stop::AtBatchOf(step)) = at
                    && phase == Phase::Training
                    && batch + 1 == step
                {
                    stop.store(true, Ordering::Relaxed);
                }
                Ok(())
            };
            let task = Told { task: task(&text), tell };
            // What tells of every step may ask for an end behind the next.
            let report_every = if let Some(Stop::Behind(_)) = at { 1 } else { 4 };
            let asked = Some(stop.clone());
            let options = TrainOptions { stop: asked, report_every, ..options(50) };
            let mut trainer = Trainer::new(&engine(), &task, options, checkpoint).unwrap();
            let outcome = trainer.run(Some(folder.path()), |event| {
                match event {
                    Event::Losses(progress, more) => {
                        losses.extend(more.iter().map(|l| l.0[0].to_bits()));
                        if let Some(Stop::Behind(step)) = at
                            && progress.step + 1 == step
                        {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                    Event::Validation(_, loss) => validation.push(loss.0[0].to_bits()),
                    _ => {}
                }
                Ok(())
            });
            let saved = Checkpoint::load(folder.path()).unwrap();
            let (want, steps) = match at {
                None => (Outcome::Finished, 50..51),
                Some(Stop::Behind(step)) => (Outcome::Interrupted, step..step + 1),
                Some(Stop::AtBatchOf(step)) => (Outcome::Interrupted, begun + 1..step + 1),
            };
            assert_eq!(outcome.unwrap(), want);
            assert!(steps.contains(&saved.step), "{} of {steps:?}", saved.step);
            checkpoint = Some(saved);
        }
        let model = recurra::format::read_tensors(&folder.path().join(MODEL)).unwrap().tensors;
        // The file's metadata are in no order.
        let Checkpoint { state, tensors, best, .. } = checkpoint.unwrap();
        (losses, validation, model, (state, tensors, best))
    };
    let whole = run(&[]);
    assert_eq!(whole.0.len(), 50);
    // In an epoch, at its end, at a report, an evaluation, a checkpoint, one after another; and at any instant.
    let epoch = task(&text).batches_per_epoch();
    let behind = |steps: &[u64]| steps.iter().copied().map(Stop::Behind).collect::<Vec<_>>();
    let mut all: Vec<Vec<Stop>> =
        [&[1][..], &[4, 5, 6, 7], &[epoch - 1, epoch, epoch + 1], &[35, 49]].map(behind).to_vec();
    all.extend([12, 23, 31].map(|step| vec![Stop::AtBatchOf(step)]));
    for (number, stops) in all.iter().enumerate() {
        let interrupted = run(stops);
        assert_eq!(whole.0, interrupted.0, "losses, interruptions {number}");
        assert_eq!(whole.1, interrupted.1, "validation, interruptions {number}");
        assert!(whole.2 == interrupted.2, "the model, interruptions {number}");
        assert!(whole.3 == interrupted.3, "the checkpoint, interruptions {number}");
    }
}

/// The device is never without work while the host waits for losses and tells of them: the step behind those that are
/// told was submitted. How many steps were made the weights tell.
#[test]
fn the_next_step_is_under_way_when_losses_are_told() {
    for engine in common::engines() {
        let task = task(&sums());
        let options =
            TrainOptions { report_every: 2, evaluate_every: 5, save_every: 8, ..options(12) };
        let bias = |store: &Store| store.get("linear.bias").unwrap();
        let behind: Vec<Vec<f32>> = (0..=12)
            .map(|steps| {
                let mut trainer = Trainer::new(&engine, &task, options.clone(), None).unwrap();
                (0..steps).for_each(|_| trainer.train_step().unwrap());
                bias(trainer.store())
            })
            .collect();
        let mut trainer = Trainer::new(&engine, &task, options, None).unwrap();
        let store = trainer.store().clone();
        let (mut told, mut losses) = (Vec::new(), Vec::new());
        let run = trainer.run(None, |event| {
            if let Event::Losses(progress, list) = event {
                let now = bias(&store);
                let made = behind.iter().position(|then| *then == now).unwrap() as u64;
                told.push((progress.step, list.len(), made - progress.step));
                losses.extend(list.iter().map(|l| l.0[0]));
            }
            Ok(())
        });
        run.unwrap();
        // Evaluations and checkpoints are of the weights as they are: there nothing is ahead.
        let want = [(2, 2, 1), (4, 2, 1), (5, 1, 0), (6, 1, 1), (8, 2, 0), (10, 2, 0), (12, 2, 0)];
        assert_eq!(told, want, "{}", engine.name());
        assert!(losses.len() == 12 && losses[11] < losses[0]);
    }
}

/// While the host is busy with something else, the batches of the next steps are made all the same.
#[test]
fn batches_are_made_ahead_of_their_steps() {
    let made = AtomicU64::new(0);
    let tell = |phase, _| {
        made.fetch_add(u64::from(phase == Phase::Training), Ordering::SeqCst);
        Ok(())
    };
    let task = Told { task: task(&sums()), tell };
    let options = TrainOptions { report_every: 1, ..options(20) };
    let mut trainer = Trainer::new(&engine(), &task, options, None).unwrap();
    let mut seen = 0;
    let run = trainer.run(None, |event| {
        if let Event::Losses(progress, _) = event {
            // The step behind it may be made already; two more than that are not.
            let next = (progress.step + 3).min(20);
            let patience = Instant::now();
            while made.load(Ordering::SeqCst) < next {
                assert!(patience.elapsed().as_secs() < 60, "step {}", progress.step);
                std::thread::yield_now();
            }
            seen += 1;
        }
        Ok(())
    });
    run.unwrap();
    assert_eq!((seen, made.load(Ordering::SeqCst)), (20, 20), "each is made once");
}

/// Steps of all shapes are on one line of time, whatever program each has.
#[test]
fn steps_of_several_shapes_are_profiled_together() {
    let list: Vec<Vec<u32>> = (0..24).map(|i| vec![i % 3; 2 + i as usize % 7]).collect();
    let samples = Samples::new(Sequences::tokens(list.clone()), Targets::classes(list)).unwrap();
    let model = Sequential::tokens(3).embedding(4).gru(4).linear(3).build().unwrap();
    let fit = Fit::new(&model, &samples).unwrap().with_batch(3).unwrap().with_shapes(3).unwrap();
    assert_eq!(fit.buckets().shapes().len(), 3);
    for engine in common::engines() {
        let mut trainer = Trainer::new(&engine, &fit, options(1), None).unwrap();
        let profile = trainer.profile(&engine, 9).unwrap();
        assert_eq!((profile.runs.len(), trainer.step()), (9, 6 + 9 + 1), "{}", engine.name());
        assert_eq!(profile.runs[0].start_us, 0.0);
        for pair in profile.runs.windows(2) {
            assert!(pair[0].end_us <= pair[1].start_us, "{}: {pair:?}", engine.name());
        }
        assert!(profile.busy().is_some_and(|busy| busy > 0.0 && busy <= 1.0));
        assert!(!profile.launches.is_empty() && profile.feed_ms.is_some_and(|ms| ms > 0.0));
    }
}

#[test]
fn a_batch_that_cannot_be_made_ends_the_run_at_its_step() {
    let (text, folder) = (sums(), tempfile::tempdir().unwrap());
    for (phase, last, steps) in [(Phase::Training, 3, 3), (Phase::Validation, 1, 5)] {
        let fails = |now, batch| match batch {
            _ if now == phase && batch == last => {
                Err(Error::Invalid("the data are gone".to_string()))
            }
            _ => Ok(()),
        };
        let task = Told { task: task(&text), tell: fails };
        let options = TrainOptions { report_every: 1, save_every: 1, ..options(20) };
        let mut trainer = Trainer::new(&engine(), &task, options, None).unwrap();
        let error = trainer.run(Some(folder.path()), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("the data are gone"), "{error}");
        assert_eq!(trainer.step(), steps, "{phase:?}");
    }
    // Who panics is heard, and nobody waits for ever.
    let panics = |_, batch| {
        assert!(batch != 3, "on purpose");
        Ok(())
    };
    let task = Told { task: task(&text), tell: panics };
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Trainer::new(&engine(), &task, options(20), None).unwrap().run(None, |_| Ok(()))
    }));
    assert!(run.is_err());
}

#[test]
fn a_few_batches_are_learned_by_heart() {
    let text = noise();
    let task = task(&text);
    let overfit = TrainOptions { overfit: Some(2), ..options(400) };
    let mut trainer = Trainer::new(&engine(), &task, overfit, None).unwrap();
    let mut last = f32::NAN;
    let run = trainer.run(None, |event| {
        match event {
            Event::Losses(progress, _) => last = progress.loss,
            Event::Validation(..) => panic!("nothing is evaluated"),
            _ => {}
        }
        Ok(())
    });
    run.unwrap();
    // Eight letters at random are 2.08 nats for whoever has not seen them.
    assert!(last < 0.3, "{last}");
}

#[test]
fn looks_at_a_task_before_it_is_trained() {
    let text = sums();
    let task = task(&text);
    let mut trainer = Trainer::new(&engine(), &task, options(10), None).unwrap();
    let dry = trainer.dry_run().unwrap();
    let even = (Vocabulary::of(&text).len() as f32).ln();
    assert!((dry.loss - even).abs() < 0.3 && (dry.validation.unwrap() - even).abs() < 0.5);
    assert!(dry.step_seconds > 0.0);
    drop(trainer);

    let mut trainer = Trainer::new(&engine(), &task, options(10), None).unwrap();
    let sweep = RateSweep::new(1e-5, 100.0, 120).unwrap();
    let (rates, losses) = trainer.sweep(&sweep, 120).unwrap();
    assert!(rates.is_sorted() && rates.len() == losses.len() && (40..120).contains(&rates.len()));
    assert!((losses[0] - even).abs() < 0.3, "{}", losses[0]);
    let found = find_rate(&rates, &losses).unwrap();
    let rate = found.suggestion().unwrap();
    assert!((1e-3..1.0).contains(&rate), "{rate}: Adam over a GRU");
    assert!(found.diverged.is_some());
}

/// Adds to the gradient of one bias.
struct Wrong(LanguageTask);

impl Task for Wrong {
    fn record(&self, rec: &mut Recorder, phase: Phase, shape: usize) -> Result<()> {
        let classes = self.0.model().vocabulary().len();
        let bias = rec.parameter("linear.bias", [1, classes])?;
        // What is on the tape first is recorded last.
        rec.on_backward(move |rec| {
            let Some(d) = rec.gradient(bias) else { return Ok(()) };
            rec.launch(Fill::new(d.part(0, 1), 0.01), &[d.part(0, 1)])
        });
        self.0.record(rec, phase, shape)
    }
    fn initial_weights(&self, seed: u64) -> NamedTensors {
        self.0.initial_weights(seed)
    }
    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.0.weight_shapes()
    }
    fn batches_per_epoch(&self) -> u64 {
        self.0.batches_per_epoch()
    }
    fn feed(&self, phase: Phase, batch: u64, seed: u64) -> Result<Feed> {
        self.0.feed(phase, batch, seed)
    }
    fn validation_batches(&self) -> u64 {
        self.0.validation_batches()
    }
    fn symbols_per_batch(&self) -> u64 {
        self.0.symbols_per_batch()
    }
}

#[test]
fn gradients_are_what_the_loss_does_and_a_wrong_one_is_seen() {
    let text = sums();
    let plain = config(&text, CellKind::Lstm);
    let cases = [
        (plain.clone(), 10),
        (ModelConfig { tied: true, ..plain.clone() }, 10),
        (ModelConfig { tied: true, ..config(&text, CellKind::Gru) }, 17),
        (ModelConfig { layer_norm: true, forget_bias: Some(2.0), ..plain.clone() }, 25),
        (ModelConfig { dropout: 0.3, weight_drop: 0.3, orthogonal: true, ..plain.clone() }, 10),
        (config(&text, CellKind::MinGru), 20),
    ];
    for (config, back) in cases {
        let model = LanguageModel::new(config.clone()).unwrap();
        let task = LanguageTask::new(model, &text, 10, 6).unwrap();
        let task = task.with_back(back).unwrap();
        let checks = check_gradients(&engine(), &task, &options(10)).unwrap();
        assert_eq!(checks.len(), 2 * task.weight_shapes().len());
        for check in checks {
            assert!(check.error() < 1e-2, "{config:?} over {back}: {check:?}");
            assert!(check.gradient > 0.0, "{check:?}");
        }
    }
    let model = LanguageModel::new(plain).unwrap();
    let wrong = Wrong(LanguageTask::new(model, &text, 10, 6).unwrap());
    let checks = check_gradients(&engine(), &wrong, &options(10)).unwrap();
    let bad: Vec<_> = checks.iter().filter(|c| c.error() > 1e-2).collect();
    assert!(!bad.is_empty() && bad.iter().all(|c| c.parameter == "linear.bias"), "{bad:?}");
}

/// Windows that lead back over earlier steps carry the state of their T-th step, and see the same text.
#[test]
fn a_lead_carries_the_state_of_its_new_steps() {
    let text = sums();
    let states = |back: usize, steps: u64| {
        let model = LanguageModel::new(config(&text, CellKind::Lstm)).unwrap();
        let task = LanguageTask::new(model, &text, 10, 6).unwrap();
        let task = task.with_back(back).unwrap();
        // Without updates the states depend on the text alone.
        let still = TrainOptions { learning_rate: 1e-30, ..options(steps) };
        let mut trainer = Trainer::new(&engine(), &task, still, None).unwrap();
        trainer.run(None, |_| Ok(())).unwrap();
        trainer.store().get("state.l1").unwrap()
    };
    for steps in [1, 2, 5] {
        let (plain, lead) = (states(10, steps), states(24, steps));
        let apart = plain.iter().zip(&lead).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-6 && plain.iter().any(|x| x.abs() > 1e-3), "{steps}: {apart}");
    }
}

#[test]
fn bytes_and_words_are_learned_too() {
    let text = sums();
    // By how often each comes alone, words are 3.2 nats.
    for (tokens, even, bound) in [(Tokens::Bytes, 256f32, 1.2), (Tokens::Words, 40.0, 2.0)] {
        let vocabulary = Vocabulary::build(tokens, &text, None).unwrap();
        let shape = ModelConfig { embedding: 16, hidden: 24, ..ModelConfig::new(&vocabulary) };
        let model = LanguageModel::new(ModelConfig { tied: false, ..shape }).unwrap();
        let task = LanguageTask::new(model, &text, 8, 4).unwrap();
        assert_eq!(task.symbol(), tokens.singular());
        let fast = TrainOptions { learning_rate: 0.02, ..options(600) };
        let mut trainer = Trainer::new(&engine(), &task, fast, None).unwrap();
        let untrained = trainer.evaluate().unwrap().unwrap().mean();
        assert!(untrained > 0.7 * even.ln(), "{tokens:?}: {untrained}");
        trainer.run(None, |_| Ok(())).unwrap();
        let loss = trainer.evaluate().unwrap().unwrap().mean();
        assert!(loss < bound, "{tokens:?}: {loss}");
    }
}

/// A disk that is full: an error that says what, and a folder that is as it was and resumes to the same bits.
#[test]
fn a_full_disk_loses_nothing() {
    on_a_small_disk("256k", full_disk);
}

fn full_disk(disk: &Path) {
    let text = sums();
    let options = || options(40);
    let whole = task(&text);
    let mut whole = Trainer::new(&engine(), &whole, options(), None).unwrap();
    whole.run(None, |_| Ok(())).unwrap();

    let folder = disk.join("model");
    std::fs::create_dir(&folder).unwrap();
    let first = task(&text);
    let mut first = Trainer::new(&engine(), &first, options(), None).unwrap();
    let mut before = None;
    let error = first.run(Some(&folder), |event| {
        if let Event::Saved(14) = event {
            // From here on there is room for nothing.
            before = Some([MODEL, TRAINING].map(|name| std::fs::read(folder.join(name)).unwrap()));
            fill(disk);
        }
        Ok(())
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("training.safetensors") && message.contains("space"), "{message}");
    let after = [MODEL, TRAINING].map(|name| std::fs::read(folder.join(name)).unwrap());
    assert!(before.unwrap() == after, "the files are as they were");
    let names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no half file is left: {names:?}");
    std::fs::remove_file(disk.join("other")).unwrap();
    let checkpoint = Checkpoint::load(&folder).unwrap();
    assert_eq!(checkpoint.step, 14);
    let second = task(&text);
    let mut second = Trainer::new(&engine(), &second, options(), Some(checkpoint)).unwrap();
    second.run(Some(&folder), |_| Ok(())).unwrap();
    assert_eq!(second.checkpoint().unwrap().tensors, whole.checkpoint().unwrap().tensors);

    // A checkpoint that was cut short says so.
    let path = folder.join(TRAINING);
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let Err(Error::Format { reason, .. }) = Checkpoint::load(&folder) else {
            panic!("a file of {cut} bytes was taken")
        };
        assert!(!reason.is_empty());
    }
}

/// What of the updates reaches over steps and evaluations: averages that are evaluated and saved, rates that follow
/// validation, micro-batches; all of it over an interruption.
#[test]
fn updates_with_a_memory_are_resumed_to_the_same_bits() {
    use recurra::optim::{Averaging, Optimizer, Plateau, Schedule, Shape, Update};
    let text = noise();
    let plateau = Plateau { patience: 0, factor: 0.5, ..Plateau::default() };
    let plateau = Schedule { warm_up: 3, shape: Shape::Plateau(plateau) };
    let updates = [
        (Optimizer::adam(), Some(Averaging::Exponential { decay: 0.9 }), Schedule::default(), 1),
        (Optimizer::sgd(0.0), Some(Averaging::Triggered { patience: 1 }), Schedule::default(), 1),
        (Optimizer::nesterov(0.9), None, plateau, 1),
        (Optimizer::rms_prop(), None, Shape::one_cycle().into(), 3),
    ];
    for (optimizer, averaging, schedule, micro_batches) in updates {
        let options = || TrainOptions {
            learning_rate: match optimizer {
                // So high that what is validated goes up and down.
                Optimizer::Sgd { .. } => 4.0,
                Optimizer::Nesterov { .. } => 1.0,
                _ => 0.02,
            },
            schedule: schedule.clone(),
            update: Update { averaging, max_norm: Some(1.0), ..Update::new(optimizer) },
            micro_batches,
            ..options(60)
        };
        let run = |cut: Option<u64>| {
            let folder = tempfile::tempdir().unwrap();
            let (mut rates, mut losses) = (Vec::new(), Vec::new());
            let mut checkpoint = None;
            for cut in cut.into_iter().map(Some).chain([None]) {
                let task = task(&text);
                let mut trainer = Trainer::new(&engine(), &task, options(), checkpoint).unwrap();
                let result = trainer.run(Some(folder.path()), |event| {
                    match event {
                        Event::Losses(progress, more) => {
                            rates.push((progress.step, progress.learning_rate));
                            losses.extend(more.iter().map(|l| l.0[0].to_bits()));
                            assert!(progress.gradient_norm.unwrap() > 0.0);
                        }
                        Event::Saved(step) if Some(*step) == cut => {
                            return Err(Error::Invalid("cut off".to_string()));
                        }
                        _ => {}
                    }
                    Ok(())
                });
                assert_eq!(result.is_err(), cut.is_some());
                checkpoint = Some(Checkpoint::load(folder.path()).unwrap());
            }
            let weights = recurra::format::read_tensors(&folder.path().join(MODEL)).unwrap();
            (losses, rates, checkpoint.unwrap(), weights.tensors)
        };
        let (whole, cut) = (run(None), run(Some(35)));
        assert_eq!(whole.0, cut.0, "losses of {optimizer:?}");
        assert_eq!(whole.1, cut.1, "rates of {optimizer:?}");
        assert_eq!(whole.2.state, cut.2.state, "{optimizer:?}");
        assert!(whole.2.tensors == cut.2.tensors && whole.3 == cut.3, "{optimizer:?}");
        let state = &whole.2.state;
        match (averaging, &schedule.shape) {
            (Some(Averaging::Triggered { .. }), _) => assert!(state.averaging.since.is_some()),
            (None, Shape::Plateau(_)) => {
                assert!(whole.1.last().unwrap().1 < 0.6, "the rate fell: {:?}", whole.1);
            }
            _ => {}
        }
        // The model is the average of its best evaluation.
        if averaging.is_some() && state.best[0].step == 60 {
            let average = &whole.2.tensors["average.linear.weight"];
            let model = &whole.3["linear.weight"];
            assert!(average.iter().eq(model.iter()));
        }
        let differs = whole.3["linear.weight"] != whole.2.tensors["linear.weight"];
        assert!(differs || averaging.is_none());
    }
    // Before the first step an average is the weights.
    let loss = |averaging| {
        let task = task(&text);
        let update = Update { averaging, ..Update::new(Optimizer::adam()) };
        let options = TrainOptions { update, ..options(5) };
        let mut trainer = Trainer::new(&engine(), &task, options, None).unwrap();
        trainer.evaluate().unwrap().unwrap().0[0]
    };
    assert_eq!(loss(Some(Averaging::Exponential { decay: 0.9 })), loss(None));
    let task = task(&text);
    let many = TrainOptions { micro_batches: 1000, ..options(5) };
    let refused = Trainer::new(&engine(), &task, many, None);
    assert!(refused.err().unwrap().to_string().contains("1000 micro-batches"));
}

/// The reported norm is that of all gradients together, of each step, on both engines.
#[test]
fn the_norm_is_that_of_all_gradients() {
    use recurra::optim::{Optimizer, Update};
    let text = sums();
    for engine in common::engines() {
        let task = task(&text);
        // An infinite bound asks for the norm alone; without momentum a velocity is the gradient.
        let update = Update { max_norm: Some(f32::INFINITY), ..Update::new(Optimizer::sgd(0.0)) };
        let options = TrainOptions { update, report_every: 1, ..options(3) };
        let names: Vec<String> = task.weight_shapes().into_keys().collect();
        let mut trainer = Trainer::new(&engine, &task, options.clone(), None).unwrap();
        let mut norms = Vec::new();
        let run = trainer.run(None, |event| {
            if let Event::Losses(progress, _) = event {
                norms.push(progress.gradient_norm.unwrap());
            }
            Ok(())
        });
        run.unwrap();
        let square = |name: &String| {
            let name = Optimizer::moment_name(name, "velocity");
            let gradient = trainer.store().get(&name).unwrap();
            gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>()
        };
        let want = names.iter().map(square).sum::<f64>().sqrt();
        assert_eq!(norms.len(), 3);
        let error = (f64::from(norms[2]) - want).abs() / want;
        assert!(error < 1e-5 && norms[0] != norms[2], "{}: {norms:?} {want}", engine.name());
    }
}

/// What one optimizer has kept of the gradients is nothing for another, even where the names are the same; a folder that
/// doesn't say whose it is, is taken as before. A folder is made before the first step, or refused there.
#[test]
fn a_checkpoint_is_of_its_optimizer() {
    use recurra::optim::{Optimizer, Update};
    let text = sums();
    let task = task(&text);
    let by = |optimizer| TrainOptions { update: Update::new(optimizer), ..options(4) };
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("a/b");
    let momentum = Optimizer::sgd(0.9);
    let mut trainer = Trainer::new(&engine(), &task, by(momentum), None).unwrap();
    trainer.run(Some(&inside), |_| Ok(())).unwrap();
    let saved = || Checkpoint::load(&inside).unwrap();
    assert_eq!(saved().optimizer.as_deref(), Some("sgd"));
    let resumed = |optimizer, checkpoint| {
        Trainer::new(&engine(), &task, by(optimizer), Some(checkpoint)).map(|_| ())
    };
    resumed(momentum, saved()).unwrap();
    // Both have a velocity for each parameter.
    let error = resumed(Optimizer::nesterov(0.9), saved()).unwrap_err().to_string();
    assert!(error.contains("optimizer is sgd, not nesterov"), "{error}");
    resumed(Optimizer::nesterov(0.9), Checkpoint { optimizer: None, ..saved() }).unwrap();

    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let mut trainer = Trainer::new(&engine(), &task, by(momentum), None).unwrap();
    let error = trainer.run(Some(&file), |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(trainer.step(), 0);
}
