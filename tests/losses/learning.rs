//! Models that learn by the losses.

use crate::common::engines;
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::layer::{
    Crf, Direction, Embedding, InitialState, Initializer, Linear, Merge, Recurrent, Sequence,
};
use recurra::loss::{LOSS, Loss, Objective, RING, Target};
use recurra::optim::Optimizer;
use recurra::schedule::Recorder;
use recurra::tensor::NamedTensors;

/// Trains for so many steps; the losses of the first and the last, and the program's outputs.
fn train(
    engine: &Engine,
    mut rec: Recorder,
    weights: &NamedTensors,
    steps: u32,
    rate: f32,
    inputs: &[(&str, Input)],
) -> ([f32; 2], Vec<f32>) {
    let optimizer = Optimizer::adam();
    rec.backward().unwrap();
    optimizer.record(&mut rec, Some(1.0)).unwrap();
    let store = engine.store();
    for (name, tensor) in weights {
        store.set(name, tensor.as_slice().unwrap()).unwrap();
    }
    let mut program = engine.load(&rec.finish(), &store).unwrap();
    for (name, input) in inputs {
        let id = program.find(name).unwrap();
        match input {
            Input::Floats(values) => program.write(id, values).unwrap(),
            Input::Ids(values) => program.write_u32(id, values).unwrap(),
        }
    }
    let mut losses = [0.0; 2];
    for step in 1..=steps {
        program.set_control(optimizer.control(step, 0, rate));
        program.run().unwrap();
        if step == 1 || step == steps {
            let ring = program.read(program.find(LOSS).unwrap()).unwrap();
            losses[usize::from(step == steps)] = ring[(step as usize - 1) % RING];
        }
    }
    let best = program.find("best").map(|id| program.read(id).unwrap());
    (losses, best.unwrap_or_default())
}

enum Input {
    Floats(Vec<f32>),
    Ids(Vec<u32>),
}

/// The next value of sine waves that end at different steps.
fn regression(engine: &Engine, loss: &Loss, steps: u32) -> [f32; 2] {
    let (time, batch, hidden) = (12, 6, 16);
    let mut rec = Recorder::training();
    let x = rec.input("x", [time * batch, 1], false).unwrap();
    let wanted = rec.input("wanted", [time * batch, 1], false).unwrap().view;
    let lengths = rec.input_ids("lengths", batch).unwrap();
    let sequence = Sequence::new(time, batch).with_lengths(lengths);
    let rnn = Recurrent::new("rnn", CellKind::Lstm, 1, hidden);
    let linear = Linear::new("linear", hidden, loss.predictions());
    let h = rnn.record(&mut rec, x, sequence, &InitialState::Zero).unwrap();
    let y = linear.record(&mut rec, h.output).unwrap();
    loss.record(&mut rec, y, Target::Values(wanted), h.flags).unwrap();
    let (mut generator, mut weights) = (Initializer::new(5), NamedTensors::new());
    rnn.init(&mut generator, &mut weights);
    linear.init(&mut generator, &mut weights);
    let wave = |t: usize, b: usize| (0.5 * t as f32 + b as f32).sin();
    let at = |shift: usize| {
        (0..time * batch).map(|i| wave(i / batch + shift, i % batch)).collect::<Vec<_>>()
    };
    let inputs = [
        ("x", Input::Floats(at(0))),
        ("wanted", Input::Floats(at(1))),
        ("lengths", Input::Ids(vec![12, 7, 12, 3, 9, 12])),
    ];
    train(engine, rec, &weights, steps, 0.02, &inputs).0
}

/// The loss at first and at last, and a bound that a wrong gradient doesn't reach.
fn regressions(engine: &Engine, steps: u32, bounds: [f32; 4]) {
    let losses = [
        Loss::MeanSquared,
        Loss::Quantile { levels: vec![0.25, 0.5, 0.75] },
        Loss::Gaussian { least: 0.01 },
        Loss::StudentT { least: 0.01 },
    ];
    for (loss, bound) in losses.iter().zip(bounds) {
        let [first, last] = regression(engine, loss, steps);
        println!("{}: {loss:?} from {first} to {last}", engine.name());
        assert!(last < bound && last < first, "{loss:?}: {first} {last}");
    }
}

#[test]
fn a_regression_learns_on_the_cpu() {
    regressions(&Engine::cpu(Some(2)).unwrap(), 150, [0.02, 0.03, -1.0, -1.0]);
}

#[test]
fn a_regression_learns_on_the_gpu() {
    let Some(engine) = crate::common::gpu_engine() else { return };
    regressions(&engine, 30, [0.05, 0.07, -0.5, -0.1]);
}

/// Tags that depend on their neighbours: whether a token is the first, another or the last of a run of equal ones,
/// and whether it stands alone.
#[test]
fn a_tagger_learns() {
    let (time, batch, vocabulary, hidden, tags) = (10, 8, 5, 12, 4);
    let steps = time * batch;
    let lengths: Vec<u32> = vec![10, 7, 10, 4, 9, 10, 1, 8];
    let token = |t: usize, b: usize| ((t + b) / (1 + (b + t / 5) % 3) * 7 + b) % vocabulary;
    let tag = |t: usize, b: usize| {
        let same = |other: usize| other < lengths[b] as usize && token(other, b) == token(t, b);
        let (before, behind) = (t > 0 && same(t - 1), same(t + 1));
        u32::from(before) + 2 * u32::from(behind)
    };
    let by_step = |of: &dyn Fn(usize, usize) -> u32| -> Vec<u32> {
        (0..steps).map(|i| of(i / batch, i % batch)).collect()
    };
    let wanted = by_step(&|t, b| tag(t, b));
    for engine in engines() {
        let count = if matches!(engine, Engine::Cpu(_)) { 100 } else { 40 };
        let mut rec = Recorder::training();
        let ids = rec.input_ids("ids", steps).unwrap();
        let targets = rec.input_ids("tags", steps).unwrap();
        let ends = rec.input_ids("lengths", batch).unwrap();
        let sequence = Sequence::new(time, batch).with_lengths(ends);
        let embedding = Embedding { name: "embedding".into(), vocabulary, width: 8 };
        let rnn = Recurrent {
            direction: Direction::Both(Merge::Concat),
            ..Recurrent::new("rnn", CellKind::Lstm, 8, hidden)
        };
        let linear = Linear::new("linear", 2 * hidden, tags);
        let crf = Crf::new("crf", tags);
        let x = embedding.record(&mut rec, ids).unwrap();
        let h = rnn.record(&mut rec, x, sequence, &InitialState::Zero).unwrap().output;
        let emissions = linear.record(&mut rec, h).unwrap();
        crf.record_loss(&mut rec, emissions, targets, sequence).unwrap();
        crf.record_decode(&mut rec, "best", emissions, sequence).unwrap();
        let (mut generator, mut weights) = (Initializer::new(6), NamedTensors::new());
        embedding.init(&mut generator, &mut weights);
        rnn.init(&mut generator, &mut weights);
        linear.init(&mut generator, &mut weights);
        crf.init(&mut generator, &mut weights);
        let inputs = [
            ("ids", Input::Ids(by_step(&|t, b| token(t, b) as u32))),
            ("tags", Input::Ids(wanted.clone())),
            ("lengths", Input::Ids(lengths.clone())),
        ];
        let ([first, last], best) = train(&engine, rec, &weights, count, 0.03, &inputs);
        let places: Vec<usize> =
            (0..steps).filter(|i| ((i / batch) as u32) < lengths[i % batch]).collect();
        let right = places.iter().filter(|&&i| best[i] == wanted[i] as f32).count();
        println!("{}: from {first} to {last}, {right} of {} right", engine.name(), places.len());
        assert!(first > 5.0 && last < 1.0 && right * 100 >= places.len() * 95);
        assert!((0..steps).all(|i| places.contains(&i) || best[i] == -1.0));
    }
}
