//! Penalties on a stack's outputs, and weight decay by groups of parameters.

mod common;

use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::kernel::Control;
use recurra::layer::{InitialState, Initializer, Recurrent, Sequence};
use recurra::loss::{Penalty, penalise};
use recurra::optim::{Optimizer, ParameterGroup};
use recurra::oracle;
use recurra::schedule::{Recorder, Var};
use recurra::tensor::NamedTensors;

const SHAPE: [usize; 4] = [6, 3, 4, 5];

/// The sum of both penalties on the outputs of a stack over rows of different lengths, and the gradient
/// of its input weights.
fn penalties(engine: &Engine, weights: &NamedTensors) -> (f64, Vec<f32>) {
    let [time, batch, input, hidden] = SHAPE;
    let mut rec = Recorder::training();
    let x = rec.input("x", [time * batch, input], false).unwrap();
    let lengths = rec.input_ids("lengths", batch).unwrap();
    let stack = Recurrent::new("rnn", CellKind::Lstm, input, hidden);
    let sequence = Sequence::new(time, batch).with_lengths(lengths);
    let out = stack.record(&mut rec, x, sequence, &InitialState::Zero).unwrap();
    for (name, penalty) in [("ar", Penalty::Activation(2.0)), ("tar", Penalty::Temporal(3.0))] {
        penalise(&mut rec, name, penalty, out.output, [time, batch], out.flags).unwrap();
    }
    rec.backward().unwrap();
    let weight = rec.parameter("rnn.weight_ih_l0", [4 * hidden, input]).unwrap();
    let gradient = rec.gradient(weight).unwrap();
    let gradient = rec.output("gradient", Var { view: gradient, ..weight }).unwrap();
    let store = engine.store();
    store.set_all(weights).unwrap();
    let mut program = engine.load(&rec.finish(), &store).unwrap();
    program.write(x.view.buffer, &Initializer::new(5).uniform(x.view.len, 1.0)).unwrap();
    program.write_u32(lengths.buffer, &[6, 0, 3]).unwrap();
    program.set_control(Control::new(1, 0));
    program.run().unwrap();
    program.wait().unwrap();
    let value = |name: &str| f64::from(program.read(program.find(name).unwrap()).unwrap()[0]);
    (value("ar") + value("tar"), program.read(gradient.view.buffer).unwrap())
}

#[test]
fn penalties_meet_their_difference_quotients() {
    for engine in common::engines() {
        let mut weights = NamedTensors::new();
        Recurrent::new("rnn", CellKind::Lstm, SHAPE[2], SHAPE[3])
            .init(&mut Initializer::new(3), &mut weights);
        let (value, gradient) = penalties(&engine, &weights);
        assert!(value > 1e-3, "{value}");
        let size = gradient.iter().fold(0f32, |a, x| a.max(x.abs()));
        for at in [0, 7, 22, 43, 61, 79] {
            let step = 0.02f32;
            let moved = |by: f32| {
                let mut weights = weights.clone();
                let weight = weights.get_mut("rnn.weight_ih_l0").unwrap();
                weight.as_slice_mut().unwrap()[at] += by;
                penalties(&engine, &weights).0
            };
            let [near, far] = [step, 2.0 * step].map(|step| moved(step) - moved(-step));
            let quotient = (8.0 * near - far) / (12.0 * f64::from(step));
            let apart = (quotient - f64::from(gradient[at])).abs();
            // What float32 leaves of the differences; a missing term would be as large as the slope.
            assert!(apart < 2e-4 * f64::from(size), "{at}: {quotient} and {}", gradient[at]);
        }
    }
}

#[test]
fn penalties_that_make_no_sense_are_refused() {
    let mut rec = Recorder::training();
    let h = rec.input("h", [6, 2], true).unwrap();
    let mut penalise =
        |penalty, shape| penalise(&mut rec, "ar", penalty, h, shape, None).unwrap_err().to_string();
    for rate in [-1.0, f32::NAN, f32::INFINITY] {
        assert!(penalise(Penalty::Activation(rate), [3, 2]).contains("'ar'"));
    }
    assert!(penalise(Penalty::Temporal(1.0), [3, 3]).contains("6"));
}

/// One parameter for each group and one for none, after two steps on given gradients.
#[test]
fn groups_decay_at_their_own_rates() {
    let groups =
        [ParameterGroup::new(&["bias", "norm"], 0.0), ParameterGroup::new(&["weight_hh"], 0.3)];
    let names = ["rnn.bias_hh_l0", "rnn.norm_cell_weight", "rnn.weight_hh_l0", "rnn.weight_ih_l0"];
    let rate = 0.05f32;
    let optimizers = [
        Optimizer::Sgd { momentum: 0.9, weight_decay: 0.1 },
        Optimizer::Adam { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.1, decoupled: false },
        Optimizer::adamw(0.1),
    ];
    for engine in common::engines() {
        for optimizer in optimizers {
            let mut rec = Recorder::training();
            let mut generator = Initializer::new(9);
            let store = engine.store();
            let mut wanted = Vec::new();
            let mut written = Vec::new();
            for name in names {
                let parameter = rec.parameter(name, [1, 7]).unwrap();
                let seed = rec.input(&format!("d.{name}"), [1, 7], false).unwrap();
                rec.seed_gradient(parameter, seed).unwrap();
                let (w, d) = (generator.uniform(7, 1.0), generator.uniform(7, 1.0));
                let decay = match name {
                    n if n.contains("bias") || n.contains("norm") => 0.0,
                    n if n.contains("weight_hh") => 0.3,
                    _ => 0.1,
                };
                let mut want: Vec<f64> = w.iter().map(|&x| x.into()).collect();
                let slopes: Vec<f64> = d.iter().map(|&x| x.into()).collect();
                let lr = f64::from(rate);
                let mut sgd = oracle::Sgd::new(lr, 0.9, decay);
                let mut adam = oracle::Adam::new(lr, (0.9, 0.999), 1e-8, decay);
                let mut adamw = oracle::AdamW::new(lr, (0.9, 0.999), 1e-8, decay);
                for _ in 0..2 {
                    match optimizer {
                        Optimizer::Sgd { .. } => sgd.step(&mut want, &slopes).unwrap(),
                        Optimizer::Adam { decoupled: false, .. } => {
                            adam.step(&mut want, &slopes).unwrap();
                        }
                        _ => adamw.step(&mut want, &slopes).unwrap(),
                    }
                }
                wanted.push((name, want));
                written.push((seed.view.buffer, w, d));
            }
            optimizer.record_groups(&mut rec, None, &groups).unwrap();
            let mut weights = NamedTensors::new();
            for ((name, _), (_, w, _)) in wanted.iter().zip(&written) {
                let tensor = recurra::tensor::HostTensor::from_shape_vec(&[7][..], w.clone());
                weights.insert(name.to_string(), tensor.unwrap());
            }
            store.set_all(&weights).unwrap();
            let mut program = engine.load(&rec.finish(), &store).unwrap();
            for (id, _, d) in &written {
                program.write(*id, d).unwrap();
            }
            for step in 1..=2 {
                program.set_control(optimizer.control(step, 0, rate));
                program.run().unwrap();
            }
            program.wait().unwrap();
            for (name, want) in wanted {
                for (got, want) in store.get(name).unwrap().into_iter().zip(want) {
                    let apart = (f64::from(got) - want).abs();
                    assert!(apart < 2e-6, "{optimizer:?} {name}: {got} and {want}");
                }
            }
        }
    }
}

#[test]
fn a_group_without_parameters_is_refused_by_its_names() {
    let mut rec = Recorder::training();
    let w = rec.parameter("weight", [1, 2]).unwrap();
    let seed = rec.input("seed", [1, 2], false).unwrap();
    rec.seed_gradient(w, seed).unwrap();
    let optimizer = Optimizer::adamw(0.1);
    let mut record = |group: ParameterGroup| {
        optimizer.record_groups(&mut rec, None, &[group]).unwrap_err().to_string()
    };
    assert!(record(ParameterGroup::new(&["baias"], 0.0)).contains("'baias'"));
    assert!(record(ParameterGroup::new(&["weight"], -0.1)).contains("-0.1"));
    // The whole is the first group's.
    let both = [ParameterGroup::new(&["w"], 0.0), ParameterGroup::new(&["weight"], 0.2)];
    assert!(optimizer.record_groups(&mut rec, None, &both).is_err());
}
