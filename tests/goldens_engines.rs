//! Both engines against PyTorch: the files that `goldens/make.py` wrote, through the public
//! interface.

mod common;

use common::golden::Golden;
use common::stack::{Stack, gradients};
use common::{Worst, apart, engines, normwise_error};
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::layer::{Embedding, InitialState, Linear, Recurrent};
use recurra::loss::{self, cross_entropy};
use recurra::optim::Optimizer;
use recurra::schedule::Recorder;
use std::collections::BTreeMap;

/// Of each tensor's largest element. The engines compute in float32 (an ulp is 1.2e-7).
const TOLERANCE: f64 = 1e-5;

/// T, B, I, H, L of the cases, so that a file made again with fewer or easier ones is noticed.
const CASES: [[usize; 5]; 4] =
    [[1, 1, 1, 1, 1], [7, 3, 2, 7, 2], [5, 2, 3, 33, 1], [3, 2, 7, 5, 3]];

const WEIGHTS: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

/// One case of a cell's file.
struct Case {
    golden: Golden,
    prefix: String,
    cell: CellKind,
    sizes: [usize; 5],
}

impl Case {
    fn open(cell: CellKind, number: usize) -> Self {
        let golden = Golden::open(cell.name());
        Case { golden, prefix: format!("case{number}/"), cell, sizes: CASES[number] }
    }

    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Layer `l` of the tensors `h` and, for an LSTM, `c`, one after the other.
    fn state(&self, h: &str, c: &str, l: usize) -> Vec<f64> {
        let [_, batch, _, hidden, layers] = self.sizes;
        let parts = [h, c].into_iter().take(self.cell.states());
        let layer = |name: &str| {
            assert_eq!(self.golden.shape(&self.at(name)), [layers, batch, hidden], "{name}");
            let words = batch * hidden;
            self.golden.values(&self.at(name))[l * words..(l + 1) * words].to_vec()
        };
        parts.flat_map(layer).collect()
    }

    /// The training step that PyTorch did.
    fn stack(&self) -> Stack {
        let [time, batch, input, _, layers] = self.sizes;
        assert_eq!(self.golden.shape(&self.at("input")), [time, batch, input]);
        let weights = |l: usize| WEIGHTS.map(|w| self.golden.exact(&self.at(&format!("{w}_l{l}"))));
        let states = |h: &str, c: &str| -> Vec<Vec<f32>> {
            let narrow = |l| self.state(h, c, l).into_iter().map(|v| v as f32).collect();
            (0..layers).map(narrow).collect()
        };
        Stack {
            cell: self.cell,
            sizes: self.sizes,
            x: self.golden.exact(&self.at("input")),
            weights: (0..layers).map(weights).collect(),
            initial: states("h0", "c0"),
            seeds: Some((self.golden.exact(&self.at("d_output")), states("d_h_n", "d_c_n"))),
        }
    }

    /// Every result that PyTorch has, by the names of [`Stack::run`].
    fn expected(&self) -> BTreeMap<String, Vec<f64>> {
        let mut names = vec!["output".to_string(), "grad/input".to_string()];
        let mut expected = BTreeMap::new();
        for l in 0..self.sizes[4] {
            names.extend(WEIGHTS.map(|w| format!("grad/{w}_l{l}")));
            expected.insert(format!("final_l{l}"), self.state("h_n", "c_n", l));
            expected.insert(format!("grad/initial_l{l}"), self.state("grad/h0", "grad/c0", l));
        }
        expected.extend(names.into_iter().map(|n| (n.clone(), self.golden.values(&self.at(&n)))));
        expected
    }

    fn compare(&self, stack: &Stack, engine: &Engine) -> Worst {
        let got = stack.run(engine);
        let expected = self.expected();
        assert!(got.keys().eq(expected.keys()), "the engine gives other tensors than PyTorch");
        let mut worst = Worst::default();
        for (name, want) in &expected {
            worst.see(&self.at(name), &got[name], want);
        }
        worst
    }
}

fn check_cell(cell: CellKind) {
    for engine in engines() {
        for number in 0..CASES.len() {
            let case = Case::open(cell, number);
            let what = format!("{} on {}, case {number}", cell.name(), engine.name());
            case.compare(&case.stack(), &engine).check(&what, TOLERANCE);
        }
    }
}

#[test]
fn rnn_tanh_is_pytorchs() {
    check_cell(CellKind::RnnTanh);
}

#[test]
fn rnn_relu_is_pytorchs() {
    check_cell(CellKind::RnnRelu);
}

#[test]
fn lstm_is_pytorchs() {
    check_cell(CellKind::Lstm);
}

#[test]
fn gru_is_pytorchs() {
    check_cell(CellKind::Gru);
}

/// What a wrong kernel would give lies far beyond the tolerance: each of these changes does to the
/// inputs what a mistake in a kernel would do to its sums.
#[test]
fn wrong_results_are_noticed() {
    type Change = fn(&mut Stack);
    let changes: [(&str, &[CellKind], Change); 7] = [
        ("swapped gates", &[CellKind::Lstm, CellKind::Gru], |s| {
            let block = s.weights[1][1].len() / s.cell.gates();
            s.weights[1][1].rotate_left(block);
        }),
        ("a shifted step", &CellKind::CLASSIC, |s| s.x.rotate_left(s.sizes[1] * s.sizes[2])),
        ("a gradient's sign", &CellKind::CLASSIC, |s| {
            let (d_output, _) = s.seeds.as_mut().unwrap();
            d_output.iter_mut().for_each(|d| *d = -*d);
        }),
        ("a final state's gradient lost", &CellKind::CLASSIC, |s| {
            s.seeds.as_mut().unwrap().1[0].fill(0.0)
        }),
        ("an initial state lost", &CellKind::CLASSIC, |s| s.initial[1].fill(0.0)),
        ("h and c swapped", &[CellKind::Lstm], |s| {
            let half = s.initial[0].len() / 2;
            s.initial[0].rotate_left(half);
        }),
        ("both biases outside the reset", &[CellKind::Gru], |s| {
            let [_, _, b_ih, b_hh] = &mut s.weights[0];
            for (b, other) in b_ih.iter_mut().zip(b_hh) {
                *b += std::mem::take(other);
            }
        }),
    ];
    let cpu = Engine::cpu(None).unwrap();
    for (what, cells, change) in changes {
        for &cell in cells {
            let case = Case::open(cell, 1);
            let mut stack = case.stack();
            change(&mut stack);
            let worst = case.compare(&stack, &cpu);
            assert!(worst.error > 1000.0 * TOLERANCE, "{what}, {}: {}", cell.name(), worst.error);
            println!("{what}, {}: {:.1e} ({})", cell.name(), worst.error, worst.name);
        }
    }
}

/// Nothing in the cells' files is left out of the comparison.
#[test]
fn every_tensor_of_the_files_is_used() {
    for cell in CellKind::CLASSIC {
        let golden = Golden::open(cell.name());
        for (number, [.., layers]) in CASES.into_iter().enumerate() {
            let prefix = format!("case{number}/");
            let count = golden.names().iter().filter(|n| n.starts_with(&prefix)).count();
            // Four weights a layer with a gradient each; input, output and a gradient each; and
            // per state the initial one, the final one and a gradient each.
            assert_eq!(count, 8 * layers + 4 + 4 * cell.states(), "{}, {prefix}", cell.name());
        }
        let cases = golden.names().iter().filter(|n| n.ends_with("/input")).count();
        assert_eq!(cases, 2 * CASES.len(), "input and grad/input of each case");
    }
}

#[test]
fn a_language_model_is_pytorchs() {
    let golden = Golden::open("lm");
    let [time, batch, vocabulary] = golden.shape("logits")[..] else { panic!("logits") };
    let [_, width] = golden.shape("embedding")[..] else { panic!("embedding") };
    let [_, hidden] = golden.shape("linear/weight")[..] else { panic!("linear/weight") };
    let words = |name: &str| golden.ids(name).iter().map(|&id| id as u32).collect::<Vec<_>>();
    // The golden's name and ours.
    let mut names: Vec<(String, String)> = vec![
        ("embedding".into(), "embedding.weight".into()),
        ("linear/weight".into(), "linear.weight".into()),
        ("linear/bias".into(), "linear.bias".into()),
    ];
    for l in 0..2 {
        names.extend(WEIGHTS.map(|w| (format!("{w}_l{l}"), format!("rnn.{w}_l{l}"))));
    }
    for engine in engines() {
        let mut rec = Recorder::training();
        let ids = rec.input_ids("ids", time * batch).unwrap();
        let targets = rec.input_ids("targets", time * batch).unwrap();
        let embedding = Embedding { name: "embedding".into(), vocabulary, width };
        let rnn = Recurrent { layers: 2, ..Recurrent::new("rnn", CellKind::Lstm, width, hidden) };
        let linear = Linear::new("linear", hidden, vocabulary);
        let x = embedding.record(&mut rec, ids).unwrap();
        let top = rnn.record(&mut rec, x, [time, batch], &InitialState::Zero).unwrap().output;
        let logits = linear.record(&mut rec, top).unwrap();
        cross_entropy(&mut rec, logits, targets).unwrap();
        rec.backward().unwrap();

        let parameters: BTreeMap<_, _> = rec.parameters().into_iter().collect();
        assert_eq!(parameters.len(), names.len());
        let wanted =
            names.iter().map(|(g, ours)| (format!("grad/{g}"), parameters[ours])).collect();
        let mut results = vec![("logits".to_string(), logits)];
        results.extend(gradients(&rec, wanted));
        let outputs: Vec<_> =
            results.into_iter().map(|(n, v)| (rec.output(&n, v).unwrap().view, n)).collect();

        let recording = rec.finish();
        let store = engine.store();
        for (theirs, ours) in &names {
            store.set(ours, &golden.exact(theirs)).unwrap();
        }
        let mut program = engine.load(&recording, &store).unwrap();
        program.write_u32(ids.buffer, &words("ids")).unwrap();
        program.write_u32(targets.buffer, &words("targets")).unwrap();
        // The loss of step s is entry (s − 1) mod RING.
        let optimizer = Optimizer::adam();
        let step = loss::RING as u32 + 4;
        program.set_control(optimizer.control(step, 0, 0.0));
        program.run().unwrap();

        let mut worst = Worst::default();
        for (view, name) in &outputs {
            worst.see(name, &program.read(view.buffer).unwrap(), &golden.values(name));
        }
        let ring = program.read(recording.require(loss::LOSS).unwrap()).unwrap();
        worst.see("loss", &ring[3..4], &golden.values("loss"));
        worst.check(&format!("language model on {}", engine.name()), TOLERANCE);
    }
}

/// The parameters after each step of an optimizer, from `initial` with these gradients.
fn steps(
    engine: &Engine,
    optimizer: Optimizer,
    max_norm: Option<f32>,
    rate: f32,
    initial: &[Vec<f32>],
    gradients: &[Vec<Vec<f32>>],
) -> Vec<Vec<Vec<f32>>> {
    let mut rec = Recorder::training();
    let store = engine.store();
    let mut seeds = Vec::new();
    let name = |k: usize| format!("p{k}");
    for (k, values) in initial.iter().enumerate() {
        let shape = [1, values.len()];
        let parameter = rec.parameter(&name(k), shape).unwrap();
        let seed = rec.input(&format!("d{k}"), shape, false).unwrap();
        rec.seed_gradient(parameter, seed).unwrap();
        store.set(&name(k), values).unwrap();
        seeds.push(seed.view.buffer);
    }
    optimizer.record(&mut rec, max_norm).unwrap();
    let mut program = engine.load(&rec.finish(), &store).unwrap();
    let mut history = Vec::new();
    for (step, gradients) in gradients.iter().enumerate() {
        for (&seed, gradient) in seeds.iter().zip(gradients) {
            program.write(seed, gradient).unwrap();
        }
        program.set_control(optimizer.control(step as u32 + 1, 0, rate));
        program.run().unwrap();
        history.push((0..initial.len()).map(|k| store.get(&name(k)).unwrap()).collect());
    }
    history
}

#[test]
fn the_optimizers_are_pytorchs() {
    let golden = Golden::open("optim");
    let of = |name: &str, option: &str| golden.scalar(&format!("{name}/{option}")) as f32;
    let adam = |name: &str, decoupled: bool| Optimizer::Adam {
        betas: (of(name, "beta1"), of(name, "beta2")),
        epsilon: of(name, "eps"),
        weight_decay: of(name, "weight_decay"),
        decoupled,
    };
    let sgd =
        Optimizer::Sgd { momentum: of("sgd", "momentum"), weight_decay: of("sgd", "weight_decay") };
    let initial = vec![golden.exact("initial")];
    let flat = golden.exact("gradients");
    let gradients: Vec<_> = flat.chunks(initial[0].len()).map(|row| vec![row.to_vec()]).collect();
    assert_eq!(gradients.len(), 5);
    for engine in engines() {
        for (name, optimizer) in
            [("sgd", sgd), ("adam", adam("adam", false)), ("adamw", adam("adamw", true))]
        {
            let history = steps(&engine, optimizer, None, of(name, "lr"), &initial, &gradients);
            let got: Vec<f32> = history.into_iter().flatten().flatten().collect();
            let want = golden.values(&format!("{name}/params"));
            // Each parameter by itself: their gradients differ by 12 orders of magnitude.
            let mut worst = Worst::default();
            for k in 0..initial[0].len() {
                let every = |v: usize| v % initial[0].len() == k;
                let got: Vec<f32> = (0..got.len()).filter(|&v| every(v)).map(|v| got[v]).collect();
                let want: Vec<f64> =
                    (0..want.len()).filter(|&v| every(v)).map(|v| want[v]).collect();
                worst.see(&format!("parameter {k}"), &got, &want);
            }
            worst.check(&format!("{name} on {}", engine.name()), TOLERANCE);
        }
    }
}

/// Gradient descent at rate 1 from zeros leaves minus the clipped gradients.
#[test]
fn clipping_is_pytorchs() {
    let golden = Golden::open("optim");
    let descent = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 };
    for engine in engines() {
        for clip in ["clip0", "clip1"] {
            let of = |name: &str| format!("{clip}/{name}");
            let before = ["before_0", "before_1"].map(|name| golden.exact(&of(name)));
            let zeros = before.iter().map(|g| vec![0.0; g.len()]).collect::<Vec<_>>();
            let max_norm = golden.scalar(&of("max_norm")) as f32;
            let history = steps(&engine, descent, Some(max_norm), 1.0, &zeros, &[before.to_vec()]);
            let mut worst = Worst::default();
            for (k, got) in history[0].iter().enumerate() {
                let name = of(&format!("after_{k}"));
                let got: Vec<f32> = got.iter().map(|v| -v).collect();
                worst.see(&name, &got, &golden.values(&name));
            }
            worst.check(&format!("{clip} on {}", engine.name()), TOLERANCE);
        }
        let clipped = |clip: &str| {
            golden.scalar(&format!("{clip}/norm")) > golden.scalar(&format!("{clip}/max_norm"))
        };
        assert!(clipped("clip0") && !clipped("clip1"), "one case clips, the other does not");
    }
}

#[test]
fn errors_are_seen() {
    assert_eq!(normwise_error("equal", &[1.0, -2.0], &[1.0, -2.0]), 0.0);
    assert_eq!(normwise_error("zeros", &[0.0], &[0.0]), 0.0);
    assert_eq!(normwise_error("sign", &[1.0, 2.0], &[1.0, -2.0]), 2.0);
    assert_eq!(normwise_error("not zero", &[1e-9], &[0.0]), f64::INFINITY);
    for bad in [f32::NAN, f32::INFINITY] {
        assert_eq!(normwise_error("not finite", &[1.0, bad], &[1.0, 2.0]), f64::INFINITY);
    }
    assert_eq!(apart(&[1.0, -2.0], &[1.5, -2.0]), 0.5);
    assert_eq!(apart(&[f32::NAN, 1.0], &[0.0, 1.0]), f32::INFINITY);
    let no_number = || normwise_error("not finite", &[1.0, 2.0], &[1.0, f64::NAN]);
    assert!(std::panic::catch_unwind(no_number).is_err());
    let mut worst = Worst::default();
    worst.see("a", &[1.5], &[1.0]);
    worst.see("b", &[f32::NAN], &[1.0]);
    worst.see("c", &[1.0], &[1.0]);
    assert_eq!((worst.name.as_str(), worst.error), ("b", f64::INFINITY));
}
