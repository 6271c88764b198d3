//! Optimizers, schedules and averages against PyTorch's numbers; clipping, frozen parameters; micro-batches
//! against one batch.

mod common;

use common::Worst;
use common::golden::Golden;
use recurra::engine::{Engine, Program, Store};
use recurra::kernel::CellKind;
use recurra::layer::{Embedding, InitialState, Initializer, Linear, Recurrent};
use recurra::loss::{LOSS, Penalty, cross_entropy, penalise};
use recurra::optim::{
    Averaging, AveragingState, Mode, Optimizer, ParameterGroup, Plateau, Schedule, ScheduleState,
    Shape, Update, averaged,
};
use recurra::oracle;
use recurra::recording::{Recording, Role};
use recurra::schedule::{Recorder, average_name, micro_batch_name};
use recurra::tensor::{HostTensor, NamedTensors, Precision};

/// Twenty steps in float32.
const TOLERANCE: f64 = 2e-6;

/// One parameter `w` whose gradient is the input `d`, under an update.
struct Descent {
    store: Store,
    program: Program,
    update: Update,
}

impl Descent {
    fn new(engine: &Engine, update: &Update, initial: &[f32]) -> Self {
        let mut rec = Recorder::training();
        let shape = [1, initial.len()];
        let (w, d) = (rec.parameter("w", shape).unwrap(), rec.input("d", shape, false).unwrap());
        rec.seed_gradient(w, d).unwrap();
        update.record(&mut rec).unwrap();
        let store = engine.store();
        store.set("w", initial).unwrap();
        let program = engine.load(&rec.finish(), &store).unwrap();
        Descent { store, program, update: update.clone() }
    }

    fn step(&mut self, step: u32, rate: f32, gradient: &[f32], state: &AveragingState) {
        self.program.write(self.program.find("d").unwrap(), gradient).unwrap();
        self.program.set_control(self.update.control(step, 0, rate, state));
        self.program.run().unwrap();
    }

    fn get(&self, name: &str) -> Vec<f32> {
        self.store.get(name).unwrap()
    }
}

/// Each column by itself: gradients differ by ten orders of magnitude.
fn compare(what: &str, got: &[f32], want: &[f64], width: usize) {
    assert_eq!(got.len(), want.len());
    let mut worst = Worst::default();
    for k in 0..width {
        let got: Vec<f32> = got.iter().skip(k).step_by(width).copied().collect();
        let want: Vec<f64> = want.iter().skip(k).step_by(width).copied().collect();
        worst.see(&format!("parameter {k}"), &got, &want);
    }
    worst.check(what, TOLERANCE);
}

#[test]
fn twenty_steps_are_pytorchs() {
    let golden = Golden::open("optimizers");
    let known = golden.names();
    let of = |name: &str, option: &str, default: f32| {
        let key = format!("{name}/{option}");
        if known.contains(&key) { golden.scalar(&key) as f32 } else { default }
    };
    let initial = golden.exact("initial");
    let width = initial.len();
    let gradients = golden.exact("gradients");
    let mut seen = 0;
    for key in &known {
        let Some(name) = key.strip_suffix("/params").filter(|n| !["ema", "ntasgd"].contains(n))
        else {
            continue;
        };
        let (momentum, weight_decay) = (of(name, "momentum", 0.0), of(name, "weight_decay", 0.0));
        let epsilon = of(name, "eps", 1e-8);
        let optimizer = if name.starts_with("sgd") {
            Optimizer::Sgd { momentum, weight_decay }
        } else if name.starts_with("nesterov") {
            Optimizer::Nesterov { momentum, weight_decay }
        } else if name.starts_with("rms_prop") {
            let (alpha, centered) = (of(name, "alpha", 0.0), of(name, "centered", 0.0) == 1.0);
            Optimizer::RmsProp { alpha, epsilon, momentum, weight_decay, centered }
        } else {
            let betas = (of(name, "beta1", 0.0), of(name, "beta2", 0.0));
            Optimizer::Adam { betas, epsilon, weight_decay, decoupled: name == "adamw" }
        };
        seen += 1;
        for engine in common::engines() {
            let mut descent = Descent::new(&engine, &Update::new(optimizer), &initial);
            let mut got = Vec::new();
            for (step, gradient) in (1..).zip(gradients.chunks(width)) {
                descent.step(step, of(name, "lr", 0.0), gradient, &AveragingState::default());
                got.extend(descent.get("w"));
            }
            let what = format!("{name} on {}", engine.name());
            compare(&what, &got, &golden.values(key), width);
        }
    }
    assert_eq!(seen, 13);
}

/// The float64 oracle's equations are PyTorch's.
#[test]
fn twenty_steps_of_the_oracle_are_pytorchs() {
    let golden = Golden::open("optimizers");
    let known = golden.names();
    let (initial, gradients) = (golden.values("initial"), golden.values("gradients"));
    for name in known.iter().filter_map(|key| key.strip_suffix("/params")) {
        let of = |option: &str| {
            let key = format!("{name}/{option}");
            if known.contains(&key) { golden.scalar(&key) } else { 0.0 }
        };
        let (decay, momentum) = (of("weight_decay"), of("momentum"));
        let mut sgd = oracle::Sgd::new(of("lr"), momentum, decay);
        sgd.nesterov = of("nesterov") == 1.0;
        let mut rms = oracle::RmsProp::new(of("lr"), of("alpha"), of("eps"), decay);
        (rms.momentum, rms.centered) = (momentum, of("centered") == 1.0);
        let mut step = |w: &mut [f64], g: &[f64]| match name.starts_with("rms_prop") {
            true => rms.step(w, g).unwrap(),
            false => sgd.step(w, g).unwrap(),
        };
        if !["sgd", "nesterov", "rms_prop"].iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        let mut w = initial.clone();
        let want = golden.values(&format!("{name}/params"));
        for (gradient, want) in gradients.chunks(w.len()).zip(want.chunks(w.len())) {
            step(&mut w, gradient);
            for (got, want) in w.iter().zip(want) {
                let bound = 1e-12 * want.abs().max(1e-9);
                assert!((got - want).abs() <= bound, "{name}: {got}, PyTorch has {want}");
            }
        }
    }
}

/// Descent at rate 1 from zeros leaves minus the clipped gradients; three parameters are one vector here.
#[test]
fn clipping_by_value_and_norm_is_pytorchs() {
    let golden = Golden::open("optimizers");
    let gradients = &golden.exact("gradients")[..21];
    for name in ["value", "norm", "both", "loose"] {
        let of = |what: &str| golden.scalar(&format!("clipped/{name}/{what}")) as f32;
        let bound = |what: &str| Some(of(what)).filter(|bound| *bound > 0.0);
        let update = Update {
            max_value: bound("value"),
            max_norm: bound("norm"),
            ..Update::new(Optimizer::sgd(0.0))
        };
        for engine in common::engines() {
            let mut descent = Descent::new(&engine, &update, &[0.0; 21]);
            descent.step(1, 1.0, gradients, &AveragingState::default());
            let got: Vec<f32> = descent.get("w").iter().map(|x| -x).collect();
            let want = golden.values(&format!("clipped/{name}/after"));
            compare(&format!("{name} on {}", engine.name()), &got, &want, 7);
        }
    }
}

#[test]
fn rates_of_schedules_are_pytorchs() {
    let golden = Golden::open("optimizers");
    let mut seen = 0;
    let names = golden.names();
    for key in names.iter().filter(|name| name.starts_with("schedule/")) {
        let schedule = match &key["schedule/".len()..] {
            "one-cycle linear" => Schedule::from(Shape::OneCycle {
                rise: 0.4,
                division: 10.0,
                final_division: 50.0,
                linear: true,
            }),
            text => text.parse().unwrap(),
        };
        let want = golden.values(key);
        let (steps, state) = (want.len() as u64, ScheduleState::default());
        for (step, want) in (1..).zip(&want) {
            let got = schedule.factor(step, steps, &state) * 0.5;
            assert!((got - want).abs() < 1e-12, "{key}, step {step}: {got}, PyTorch has {want}");
        }
        seen += 1;
    }
    assert_eq!(seen, 13);
}

/// The state is written down and read again after each check.
#[test]
fn rates_on_plateaus_are_pytorchs() {
    let golden = Golden::open("optimizers");
    let values = golden.values("values");
    let known = golden.names();
    let names =
        ["usual", "impatient", "cooling", "least", "difference", "share", "up", "up_difference"];
    for name in names {
        let of = |option: &str, default: f64| {
            let key = format!("plateau/{name}/{option}");
            if known.contains(&key) { golden.scalar(&key) } else { default }
        };
        let is_max = of("mode", 0.0) == 1.0;
        let schedule = Schedule::from(Shape::Plateau(Plateau {
            mode: if is_max { Mode::Max } else { Mode::Min },
            factor: of("factor", 0.1),
            patience: of("patience", 10.0) as u64,
            threshold: of("threshold", 1e-4),
            relative: of("threshold_mode", 0.0) == 0.0,
            cooldown: of("cooldown", 0.0) as u64,
            minimum: of("min_lr", 0.0) / 0.5,
        }));
        schedule.check().unwrap();
        let mut state = ScheduleState::default();
        let want = golden.values(&format!("plateau/{name}"));
        for (at, (want, value)) in want.iter().zip(&values).enumerate() {
            let before = 0.5 * schedule.factor(at as u64 + 1, 20, &state);
            assert!((before - want).abs() < 1e-12, "{name} {at}: {before}, PyTorch has {want}");
            let falls = schedule.observe(&mut state, if is_max { 10.0 - value } else { *value });
            let text = serde_json::to_string(&state).unwrap();
            state = serde_json::from_str(&text).unwrap();
            let after = 0.5 * schedule.factor(at as u64 + 2, 20, &state);
            assert_eq!(falls, after < before, "{name} {at}");
        }
    }
}

/// Averages of the weights of gradient descent: PyTorch's moving one, and the mean from the step that the
/// losses begin it at; another run takes both up from what was read back, to the same bits.
#[test]
fn averages_are_those_of_the_definitions_and_survive_being_read_back() {
    let golden = Golden::open("optimizers");
    let initial = golden.exact("initial");
    let (width, gradients) = (initial.len(), golden.exact("gradients"));
    let rate = golden.scalar("sgd/lr") as f32;
    let losses = golden.exact("ntasgd/losses");
    for (name, averaging) in [
        ("ema", Averaging::Exponential { decay: golden.scalar("ema/decay") as f32 }),
        ("ntasgd", Averaging::Triggered { patience: golden.scalar("ntasgd/patience") as usize }),
    ] {
        let update = Update { averaging: Some(averaging), ..Update::new(Optimizer::sgd(0.0)) };
        for engine in common::engines() {
            let mut descent = Descent::new(&engine, &update, &initial);
            let mut state = AveragingState::default();
            let mut averages = Vec::new();
            let mut again: Option<Descent> = None;
            for (step, gradient) in (1..).zip(gradients.chunks(width)) {
                descent.step(step, rate, gradient, &state);
                let average = descent.get("average.w");
                if let Some(again) = &mut again {
                    let text = serde_json::to_string(&state).unwrap();
                    again.step(step, rate, gradient, &serde_json::from_str(&text).unwrap());
                    let bits =
                        |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                    assert_eq!(bits(again.get("w")), bits(descent.get("w")));
                    assert_eq!(bits(again.get("average.w")), bits(average.clone()), "step {step}");
                }
                averages.extend(average);
                if step == 12 {
                    let other = Descent::new(&engine, &update, &descent.get("w"));
                    for name in other.store.names() {
                        other.store.set(&name, &descent.get(&name)).unwrap();
                    }
                    again = Some(other);
                }
                averaging.observe(&mut state, step.into(), losses[step as usize - 1]);
            }
            let since = (name == "ntasgd").then(|| golden.scalar("ntasgd/since") as u64);
            assert_eq!(state.since, since);
            let what = format!("{name} on {}", engine.name());
            compare(&what, &averages, &golden.values(&format!("{name}/params")), width);
        }
    }
}

/// An embedding, a recurrent layer and a linear one over `batch` streams of TIME steps.
struct Net {
    embedding: Embedding,
    recurrent: Recurrent,
    linear: Linear,
}

const TIME: usize = 7;
const VOCABULARY: usize = 11;

impl Net {
    fn new(cell: CellKind) -> Self {
        Net {
            embedding: Embedding { name: "embedding".into(), vocabulary: VOCABULARY, width: 5 },
            recurrent: Recurrent { layers: 2, ..Recurrent::new("rnn", cell, 5, 6) },
            linear: Linear::new("linear", 6, VOCABULARY),
        }
    }

    fn weights(&self) -> NamedTensors {
        let mut generator = Initializer::new(4);
        let mut weights = NamedTensors::new();
        self.embedding.init(&mut generator, &mut weights);
        self.recurrent.init(&mut generator, &mut weights);
        self.linear.init(&mut generator, &mut weights);
        weights
    }

    fn record(&self, rec: &mut Recorder, batch: usize, state: &str) -> recurra::Result<()> {
        let ids = rec.input_ids("ids", TIME * batch)?;
        let targets = rec.input_ids("targets", TIME * batch)?;
        let x = self.embedding.record(rec, ids)?;
        let initial = InitialState::Carried(state.to_string());
        let out = self.recurrent.record(rec, x, [TIME, batch], &initial)?;
        penalise(rec, "penalty", Penalty::Activation(0.5), out.output, [TIME, batch], None)?;
        let logits = self.linear.record(rec, out.output)?;
        cross_entropy(rec, logits, targets)
    }
}

/// The token of stream b at time t.
fn token(t: usize, b: usize) -> u32 {
    ((t * t * 5 + t * b * 3 + b * 7) % VOCABULARY) as u32
}

fn set(store: &Store, weights: &NamedTensors) {
    store.set_all(weights).unwrap();
}

/// What a run of a net left: its weights and losses.
struct Left {
    weights: Vec<(String, Vec<f32>)>,
    losses: Vec<f32>,
    recording: Recording,
}

/// Steps over windows of `batch` streams, as `count` micro-batches of other streams.
fn train(
    engine: &Engine,
    net: &Net,
    update: &Update,
    precision: Precision,
    [batch, count]: [usize; 2],
) -> Left {
    let rows = batch / count;
    let mut rec = Recorder::training().with_precision(precision);
    update.freeze(&mut rec);
    rec.micro_batches(count, |rec, number| net.record(rec, rows, &format!("state.{number}")))
        .unwrap();
    update.record(&mut rec).unwrap();
    let recording = rec.finish();
    let store = engine.store();
    set(&store, &net.weights());
    let mut program = engine.load(&recording, &store).unwrap();
    let mut losses = Vec::new();
    for step in 0..4 {
        for number in 0..count {
            for (name, later) in [("ids", 0), ("targets", 1)] {
                let tokens: Vec<u32> = (0..TIME * rows)
                    .map(|i| token(step * TIME + i / rows + later, number * rows + i % rows))
                    .collect();
                let id = program.find(&micro_batch_name(name, number, count)).unwrap();
                program.write_u32(id, &tokens).unwrap();
            }
        }
        program.set_control(update.control(step as u32 + 1, 3, 0.05, &AveragingState::default()));
        program.run().unwrap();
        losses.push(program.read(program.find(LOSS).unwrap()).unwrap()[step]);
        losses.push(program.read(program.find("penalty").unwrap()).unwrap()[step]);
    }
    let weights = net.weights().into_keys().map(|name| (name.clone(), store.get(&name).unwrap()));
    Left { weights: weights.collect(), losses, recording }
}

/// The largest difference of two runs' weights and losses.
fn apart(a: &Left, b: &Left) -> f32 {
    let pairs = a.weights.iter().zip(&b.weights);
    let weights = pairs.map(|(a, b)| common::apart(&a.1, &b.1)).fold(0.0, f32::max);
    weights.max(common::apart(&a.losses, &b.losses))
}

/// Micro-batches of other streams, with carried states, norms and values clipped: as one large batch, by an
/// optimizer that is linear in the gradient, in the memory of one micro-batch.
#[test]
fn micro_batches_are_one_batch() {
    let update = Update {
        max_norm: Some(0.3),
        max_value: Some(0.04),
        ..Update::new(Optimizer::nesterov(0.9).with_weight_decay(0.01))
    };
    for engine in common::engines() {
        for cell in [CellKind::Lstm, CellKind::Gru] {
            let net = Net::new(cell);
            let of = |count| train(&engine, &net, &update, Precision::F32, [12, count]);
            let whole = of(1);
            for count in [2, 3, 12] {
                let parts = of(count);
                let apart = apart(&whole, &parts);
                println!("{} {} {count}: {apart:e}", engine.name(), cell.name());
                assert!(apart < 2e-6, "{count} micro-batches: {apart}");
                let bytes = |r: &Recording| r.plan().unwrap().temporary_bytes();
                let one = train(&engine, &net, &update, Precision::F32, [12 / count, 1]);
                // Gradients of shared weights live as long as all micro-batches.
                let gradients: usize = whole.weights.iter().map(|w| w.1.len() * 4).sum();
                let (got, most) =
                    (bytes(&parts.recording), bytes(&one.recording) + gradients as u64);
                assert!(got <= most, "{count}: {got} bytes, one micro-batch has {most}");
            }
        }
    }
}

/// In sixteen bits as well: what differs is rounding.
#[test]
fn micro_batches_are_one_batch_under_a_loss_scale() {
    let Some(engine) = common::gpu_engine() else { return };
    if !engine.supports(Precision::F16) {
        return println!("SKIPPED: '{}' has no f16", engine.name());
    }
    let update = Update { max_value: Some(0.04), ..Update::new(Optimizer::sgd(0.0)) };
    let net = Net::new(CellKind::Lstm);
    let of = |count| train(&engine, &net, &update, Precision::F16, [12, count]);
    let (whole, parts) = (of(1), of(3));
    let apart = apart(&whole, &parts);
    println!("f16: {apart:e}");
    // Under what one f16 rounding of a logit would make, 1e-3.
    assert!(apart < 2e-4, "{apart}");
    let wide = train(&engine, &net, &update, Precision::F32, [12, 3]);
    assert_ne!(parts.losses, wide.losses);
}

/// Micro-batches that carry one state are windows one after another: the gradients' sum over the windows, with
/// states carried from each to the next, as steps of no rate would give them.
#[test]
fn micro_batches_may_be_windows_one_after_another() {
    const BATCH: usize = 3;
    const WINDOWS: usize = 4;
    let net = Net::new(CellKind::Lstm);
    let descent = Update::new(Optimizer::sgd(0.0));
    let write = |program: &mut Program, window: usize, [number, count]: [usize; 2]| {
        for (name, later) in [("ids", 0), ("targets", 1)] {
            let of = |i: usize| token(window * TIME + i / BATCH + later, i % BATCH);
            let tokens: Vec<u32> = (0..TIME * BATCH).map(of).collect();
            let id = program.find(&micro_batch_name(name, number, count)).unwrap();
            program.write_u32(id, &tokens).unwrap();
        }
    };
    for engine in common::engines() {
        let run = |count: usize| {
            let mut rec = Recorder::training();
            rec.micro_batches(count, |rec, _| net.record(rec, BATCH, "state")).unwrap();
            descent.record(&mut rec).unwrap();
            let store = engine.store();
            set(&store, &net.weights());
            (engine.load(&rec.finish(), &store).unwrap(), store)
        };
        let control = descent.control(1, 0, 1.0, &AveragingState::default());
        let (mut together, store) = run(WINDOWS);
        (0..WINDOWS).for_each(|window| write(&mut together, window, [window, WINDOWS]));
        together.set_control(control);
        together.run().unwrap();
        // Each window alone, from the same weights and the states as the window before left them.
        let (mut alone, other) = run(1);
        let before = net.weights();
        let mut moved: Vec<Vec<f32>> = before.values().map(|w| vec![0.0; w.len()]).collect();
        for window in 0..WINDOWS {
            set(&other, &before);
            write(&mut alone, window, [0, 1]);
            alone.set_control(control);
            alone.run().unwrap();
            for ((name, w), moved) in before.iter().zip(&mut moved) {
                let after = other.get(name).unwrap();
                for ((m, after), w) in moved.iter_mut().zip(after).zip(w) {
                    *m += (after - w) / WINDOWS as f32;
                }
            }
        }
        for ((name, w), moved) in before.iter().zip(&moved) {
            let want: Vec<f32> = w.iter().zip(moved).map(|(w, m)| w + m).collect();
            let apart = common::apart(&store.get(name).unwrap(), &want);
            assert!(apart < 2e-6, "{name} on {}: {apart}", engine.name());
            let far = common::apart(&want, w);
            assert!(far > 1e-4, "{name} moved by {far} alone");
        }
        for name in store.names().iter().filter(|name| name.starts_with("state")) {
            assert_eq!(store.get(name).unwrap(), other.get(name).unwrap(), "{name}");
        }
    }
}

/// Frozen parameters stay, have no moments, and the gradients of the others are what they were; the work of
/// whole frozen layers is left out.
#[test]
fn frozen_parameters_cost_nothing_and_change_nothing() {
    let net = Net::new(CellKind::Gru);
    let plain = Update::new(Optimizer::sgd(0.5));
    let engine = Engine::cpu(None).unwrap();
    let all = train(&engine, &net, &plain, Precision::F32, [4, 1]);
    let products = |left: &Left| left.recording.census()["matmul"];
    for names in [
        &["linear.weight"][..],
        &["linear.bias"],
        &["weight_hh"],
        &["bias_hh"],
        &["weight_ih"],
        &["bias_ih"],
        &["embedding", "rnn"],
        &["rnn"],
    ] {
        let groups = vec![ParameterGroup::frozen(names)];
        let update = Update { groups: groups.clone(), ..plain.clone() };
        for engine in common::engines() {
            // The first step's gradients are the same, and its losses: more steps would tell nothing.
            let left = train(&engine, &net, &update, Precision::F32, [4, 1]);
            let initial = net.weights();
            let frozen = |name: &str| names.iter().any(|part| name.contains(part));
            for (name, w) in &left.weights {
                let same = w.iter().eq(initial[name].iter());
                assert_eq!(same, frozen(name), "{name} with {names:?} frozen");
                let moment = Optimizer::moment_name(name, "velocity");
                assert_eq!(left.recording.find(&moment).is_none(), frozen(name), "{moment}");
            }
            assert!((left.losses[0] - all.losses[0]).abs() < 1e-6);
            if names.contains(&"rnn") {
                assert!(products(&left) < products(&all), "{names:?}");
            }
        }
        // Without asking the recorder the same weights stay.
        let mut rec = Recorder::training();
        net.record(&mut rec, 4, "state").unwrap();
        rec.backward().unwrap();
        update.record(&mut rec).unwrap();
        let recording = rec.finish();
        let frozen = |name: &str| names.iter().any(|part| name.contains(part));
        for (name, _) in &all.weights {
            let moment = Optimizer::moment_name(name, "velocity");
            assert_eq!(recording.find(&moment).is_none(), frozen(name), "{moment}");
        }
    }
}

/// The rates of groups, and that gradients beside frozen ones are right: one step of plain descent moves each
/// parameter by its group's share of what it moves by alone.
#[test]
fn groups_have_rates_of_their_own() {
    let net = Net::new(CellKind::Lstm);
    for engine in common::engines() {
        let step = |groups: Vec<ParameterGroup>, optimizer| {
            let update = Update { groups, ..Update::new(optimizer) };
            let mut rec = Recorder::training();
            update.freeze(&mut rec);
            net.record(&mut rec, 4, "state").unwrap();
            rec.backward().unwrap();
            update.record(&mut rec).unwrap();
            let store = engine.store();
            set(&store, &net.weights());
            let mut program = engine.load(&rec.finish(), &store).unwrap();
            for (name, later) in [("ids", 0), ("targets", 1)] {
                let tokens: Vec<u32> = (0..TIME * 4).map(|i| token(i / 4 + later, i % 4)).collect();
                program.write_u32(program.find(name).unwrap(), &tokens).unwrap();
            }
            program.set_control(update.control(1, 0, 0.25, &AveragingState::default()));
            program.run().unwrap();
            let moved = net.weights().into_iter().map(|(name, before)| {
                let after = store.get(&name).unwrap();
                let moved = after.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<f32>>();
                (name, moved)
            });
            moved.collect::<Vec<_>>()
        };
        for optimizer in [
            Optimizer::sgd(0.9),
            Optimizer::nesterov(0.9),
            Optimizer::rms_prop(),
            Optimizer::adam(),
        ] {
            let whole = step(Vec::new(), optimizer);
            let groups = vec![
                ParameterGroup::frozen(&["weight_hh_l0", "bias_ih_l1", "linear.bias"]),
                ParameterGroup::new(&["rnn"], 0.0).at_rate(0.5),
                ParameterGroup::new(&["embedding"], 0.0).at_rate(2.0),
            ];
            let share = |name: &str| match name {
                "rnn.weight_hh_l0" | "rnn.bias_ih_l1" | "linear.bias" => 0.0,
                name if name.starts_with("rnn") => 0.5,
                name if name.starts_with("embedding") => 2.0,
                _ => 1.0,
            };
            for ((name, whole), (_, moved)) in whole.iter().zip(&step(groups, optimizer)) {
                let want: Vec<f32> = whole.iter().map(|m| m * share(name)).collect();
                let apart = common::apart(moved, &want);
                assert!(apart < 1e-6, "{optimizer:?} {name}: {apart}");
                assert!(whole.iter().any(|m| m.abs() > 1e-4), "{name} does not move");
            }
        }
    }
}

/// A validation reads averages in the place of weights; saved, they bear the weights' names.
#[test]
fn validation_reads_averages() {
    let net = Net::new(CellKind::Lstm);
    for engine in common::engines() {
        let store = engine.store();
        let weights = net.weights();
        // The weights are of no use; what is validated are the averages.
        for (name, w) in &weights {
            store.set(&average_name(name), w.as_slice().unwrap()).unwrap();
            store.set(name, &vec![7.0; w.len()]).unwrap();
        }
        let plain = engine.store();
        set(&plain, &weights);
        let loss = |rec: Recorder, store: &Store| {
            let mut rec = rec;
            net.record(&mut rec, 4, "state").unwrap();
            let recording = rec.finish();
            let mut program = engine.load(&recording, store).unwrap();
            for name in ["ids", "targets"] {
                let tokens: Vec<u32> = (0..TIME * 4).map(|i| token(i / 4, i % 4)).collect();
                program.write_u32(program.find(name).unwrap(), &tokens).unwrap();
            }
            program.run().unwrap();
            let parameters = recording.buffers().iter().filter(|b| b.role == Role::Parameter);
            (program.read(program.find(LOSS).unwrap()).unwrap()[0], parameters.count())
        };
        let (want, _) = loss(Recorder::inference(), &plain);
        assert_eq!(loss(Recorder::inference().averaged(), &store), (want, 0));
    }
    let tensor = |x: f32| HostTensor::from_shape_vec(&[1][..], vec![x]).unwrap();
    let all = [("a", 1.0), ("average.a", 2.0), ("optimizer.a.first", 3.0), ("0/average.a", 4.0)];
    let all: NamedTensors = all.into_iter().map(|(n, x)| (n.to_string(), tensor(x))).collect();
    assert_eq!(averaged(&all, ""), [("a".to_string(), tensor(2.0))].into_iter().collect());
    assert_eq!(averaged(&all, "0/"), [("0/a".to_string(), tensor(4.0))].into_iter().collect());
}

#[test]
fn updates_are_configuration() {
    let update = Update {
        optimizer: Optimizer::RmsProp {
            alpha: 0.95,
            epsilon: 1e-6,
            momentum: 0.9,
            weight_decay: 0.01,
            centered: true,
        },
        max_value: Some(1.0),
        max_norm: Some(0.25),
        groups: vec![ParameterGroup::new(&["bias"], 0.0).at_rate(0.1)],
        averaging: Some(Averaging::Exponential { decay: 0.999 }),
    };
    let text = serde_json::to_string(&update).unwrap();
    assert_eq!(serde_json::from_str::<Update>(&text).unwrap(), update, "{text}");
    let short = r#"{"optimizer": {"kind": "nesterov", "momentum": 0.9, "weight_decay": 0},
                    "groups": [{"names": ["bias"]}], "averaging": {"kind": "triggered", "patience": 5}}"#;
    let update: Update = serde_json::from_str(short).unwrap();
    assert_eq!(update.optimizer, Optimizer::nesterov(0.9));
    assert_eq!(update.groups[0], ParameterGroup::new(&["bias"], 0.0));
    assert_eq!(update.averaging, Some(Averaging::Triggered { patience: 5 }));
    assert!(serde_json::from_str::<Update>(&short.replace("momentum", "momentun")).is_err());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |update: Update| {
        let mut rec = Recorder::training();
        let w = rec.parameter("weight", [1, 2]).unwrap();
        let d = rec.input("d", [1, 2], false).unwrap();
        rec.seed_gradient(w, d).unwrap();
        update.record(&mut rec).unwrap_err().to_string()
    };
    let plain = Update::new(Optimizer::sgd(0.0));
    for bad in [0.0, -1.0, f32::NAN] {
        let (max_value, max_norm) = (Some(bad), Some(bad));
        assert!(refused(Update { max_value, ..plain.clone() }).contains("value"));
        assert!(refused(Update { max_norm, ..plain.clone() }).contains("norm"));
    }
    assert!(refused(Update { max_value: Some(f32::INFINITY), ..plain.clone() }).contains("inf"));
    let group = |rate| vec![ParameterGroup::new(&["weight"], 0.0).at_rate(rate)];
    assert!(refused(Update { groups: group(-0.5), ..plain.clone() }).contains("-0.5"));
    assert!(refused(Update { groups: group(0.0), ..plain.clone() }).contains("no parameter has"));
    let unknown = vec![ParameterGroup::frozen(&["waight"])];
    assert!(refused(Update { groups: unknown, ..plain.clone() }).contains("'waight'"));
    let averaging = Some(Averaging::Exponential { decay: 1.5 });
    assert!(refused(Update { averaging, ..plain.clone() }).contains("1.5"));
    assert!(refused(Update::new(Optimizer::nesterov(1.0))).contains("momentum"));
    assert!(refused(Update::new(Optimizer::adamw(-0.1))).contains("-0.1"));

    let mut rec = Recorder::training();
    assert!(rec.micro_batches(0, |_, _| Ok(())).is_err());
    rec.micro_batches(2, |_, _| Ok(())).unwrap();
    assert!(rec.micro_batches(2, |_, _| Ok(())).is_err());
}
