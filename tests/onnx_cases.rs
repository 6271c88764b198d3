//! The ONNX project's operator cases for RNN, LSTM and GRU (ONNX 1.18, Apache-2.0): the models and
//! data that every ONNX runtime is tested with.
//!
//! Most of them have one step and constant weights, which no gate order could get wrong. So the
//! operators' equations stand here once more, as ONNX prints them; the cases prove these, all of
//! them, and these judge the engines on weights that tell gates apart, over several steps.
#![cfg(feature = "onnx")]

mod common;

use common::onnx::{Attribute, Model, Tensor};
use common::stack::Stack;
use common::{data_folder, engines};
use ndarray::{Array1, Array2, Array3};
use recurra::cell::{CellKind, GateOrder, reorder_gates};
use recurra::engine::Engine;
use recurra::oracle::{Cell, State, Weights, forward};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest difference of an element; all of them are within ±1.
const TOLERANCE: f64 = 1e-5;

const COVERED: [&str; 10] = [
    "test_gru_batchwise",
    "test_gru_defaults",
    "test_gru_with_initial_bias",
    "test_lstm_batchwise",
    "test_lstm_defaults",
    "test_lstm_with_initial_bias",
    "test_rnn_seq_length",
    "test_simple_rnn_batchwise",
    "test_simple_rnn_defaults",
    "test_simple_rnn_with_initial_bias",
];

/// The cases that need what the cells do not have.
const SKIPPED: [&str; 2] = ["test_gru_seq_length", "test_lstm_with_peepholes"];

/// An operator with its data: weights in ONNX's gate order, sequences with time slowest.
struct Problem {
    cell: CellKind,
    /// T, B, I, H.
    sizes: [usize; 4],
    /// [T, B, I].
    x: Vec<f32>,
    /// [G·H, I] and [G·H, H].
    w: Vec<f32>,
    r: Vec<f32>,
    /// Wb and Rb, [G·H] each.
    b: [Vec<f32>; 2],
    /// The peepholes of i, o, f, [H] each.
    p: Vec<f32>,
    /// h, then c, [B, H] each.
    initial: Vec<f32>,
    /// The GRU's linear_before_reset.
    reset_after: bool,
}

/// Y [T, B, H], and the final h, then c.
struct Outcome {
    y: Vec<f64>,
    last: Vec<f64>,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn difference(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let pairs = got.iter().zip(want);
    pairs.fold(
        0.0,
        |m: f64, (g, w)| if g.is_finite() { m.max((g - w).abs()) } else { f64::INFINITY },
    )
}

impl Outcome {
    fn difference(&self, want: &Outcome) -> f64 {
        difference(&self.y, &want.y).max(difference(&self.last, &want.last))
    }
}

impl Problem {
    /// The equations of the ONNX operators, version 22, in their words and order, forward, with
    /// their default activations (but RNN's Relu).
    fn equations(&self) -> Outcome {
        let [time, batch, input, hidden] = self.sizes;
        let words = batch * hidden;
        let dot = |a: &[f32], b: &[f64]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum();
        let sigmoid = |a: f64| 1.0 / (1.0 + (-a).exp());
        let mut state = wide(&self.initial);
        let mut y = Vec::new();
        for t in 0..time {
            for row in 0..batch {
                let x = wide(&self.x[(t * batch + row) * input..][..input]);
                let old = state[row * hidden..][..hidden].to_vec();
                // Xt·(W[g]^T) + Wb[g] and H·(R[g]^T) + Rb[g].
                let w = |g: usize, j: usize| -> f64 {
                    let k = g * hidden + j;
                    let product: f64 = dot(&self.w[k * input..][..input], &x);
                    product + f64::from(self.b[0][k])
                };
                let r_of = |g: usize, j: usize, h: &[f64]| -> f64 {
                    let k = g * hidden + j;
                    let product: f64 = dot(&self.r[k * hidden..][..hidden], h);
                    product + f64::from(self.b[1][k])
                };
                let r = |g: usize, j: usize| r_of(g, j, &old);
                let peephole = |g: usize, j: usize| f64::from(self.p[g * hidden + j]);
                // GRU: rt of every unit, before any ht needs it.
                let reset: Vec<f64> = match self.cell {
                    CellKind::Gru => (0..hidden).map(|j| sigmoid(w(1, j) + r(1, j))).collect(),
                    _ => Vec::new(),
                };
                let gated: Vec<f64> = reset.iter().zip(&old).map(|(r, h)| r * h).collect();
                for j in 0..hidden {
                    let h = match self.cell {
                        CellKind::RnnTanh => (w(0, j) + r(0, j)).tanh(),
                        CellKind::RnnRelu => (w(0, j) + r(0, j)).max(0.0),
                        CellKind::Gru => {
                            let z = sigmoid(w(0, j) + r(0, j));
                            let h = match self.reset_after {
                                true => (w(2, j) + reset[j] * r(2, j)).tanh(),
                                false => (w(2, j) + r_of(2, j, &gated)).tanh(),
                            };
                            (1.0 - z) * h + z * old[j]
                        }
                        CellKind::Lstm => {
                            let c_old = state[words + row * hidden + j];
                            let i = sigmoid(w(0, j) + r(0, j) + peephole(0, j) * c_old);
                            let f = sigmoid(w(2, j) + r(2, j) + peephole(2, j) * c_old);
                            let c = f * c_old + i * (w(3, j) + r(3, j)).tanh();
                            let o = sigmoid(w(1, j) + r(1, j) + peephole(1, j) * c);
                            state[words + row * hidden + j] = c;
                            o * c.tanh()
                        }
                    };
                    state[row * hidden + j] = h;
                }
            }
            y.extend_from_slice(&state[..words]);
        }
        Outcome { y, last: state }
    }

    /// The weights in our order. Where the GRU resets before the product, its bias R_bh stands
    /// outside the reset, and so beside W_bh.
    fn weights(&self) -> [Vec<f32>; 4] {
        let ours = |values: &[f32]| reorder_gates(self.cell, GateOrder::Onnx, values).unwrap();
        let [mut b_ih, mut b_hh] = [&self.b[0], &self.b[1]].map(|b| ours(b));
        if self.cell == CellKind::Gru && !self.reset_after {
            let n = 2 * self.sizes[3];
            for (b, other) in b_ih[n..].iter_mut().zip(&mut b_hh[n..]) {
                *b += std::mem::take(other);
            }
        }
        [ours(&self.w), ours(&self.r), b_ih, b_hh]
    }

    fn on_engine(&self, engine: &Engine) -> Outcome {
        let [time, batch, input, hidden] = self.sizes;
        let stack = Stack {
            cell: self.cell,
            sizes: [time, batch, input, hidden, 1],
            x: self.x.clone(),
            weights: vec![self.weights()],
            initial: vec![self.initial.clone()],
            seeds: None,
        };
        let got = stack.run(engine);
        Outcome { y: wide(&got["output"]), last: wide(&got["final_l0"]) }
    }

    fn on_oracle(&self) -> Outcome {
        let [time, batch, input, hidden] = self.sizes;
        let cell = match self.cell {
            CellKind::RnnTanh => Cell::RnnTanh,
            CellKind::RnnRelu => Cell::RnnRelu,
            CellKind::Lstm => Cell::Lstm,
            CellKind::Gru => Cell::Gru,
        };
        let weights = self.weights().map(|v| Array1::from(wide(&v)));
        let [w_ih, w_hh, b_ih, b_hh] = weights;
        let rows = b_ih.len();
        let w_ih = w_ih.into_shape_with_order((rows, input)).unwrap();
        let w_hh = w_hh.into_shape_with_order((rows, hidden)).unwrap();
        let layers = [Weights { w_ih, w_hh, b_ih, b_hh }];
        let x = Array3::from_shape_vec((time, batch, input), wide(&self.x)).unwrap();
        let mut parts = self.initial.chunks(batch * hidden);
        let mut part = || Array2::from_shape_vec((batch, hidden), wide(parts.next()?)).ok();
        let initial = [State { h: part().unwrap(), c: part() }];
        let run = forward(cell, &layers, &x, &initial, &[]).unwrap();
        let last = run.finals[0].h.iter().chain(run.finals[0].c.iter().flatten());
        Outcome { y: run.outputs.iter().copied().collect(), last: last.copied().collect() }
    }
}

/// An operator case: the model, and its tensors by name.
struct Case {
    name: String,
    model: Model,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    fn open(folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let model = Model::read(&folder.join("model.onnx"));
        let mut tensors = BTreeMap::new();
        for (kind, names) in [("input", &model.inputs), ("output", &model.outputs)] {
            for (k, wanted) in names.iter().enumerate() {
                let file = folder.join(format!("test_data_set_0/{kind}_{k}.pb"));
                let tensor = Tensor::read(&file);
                assert_eq!(tensor.name, *wanted, "{}", file.display());
                tensors.insert(wanted.clone(), tensor);
            }
        }
        Case { name, model, tensors }
    }

    /// The tensor at a place of the operator's list, unless it is left out.
    fn at(&self, list: &[String], place: usize) -> Option<&Tensor> {
        list.get(place).filter(|name| !name.is_empty()).map(|name| &self.tensors[name])
    }

    fn input(&self, place: usize) -> Option<&Tensor> {
        self.at(&self.model.node.inputs, place)
    }

    fn cell(&self) -> Option<CellKind> {
        let relu = Attribute::Texts(vec!["Relu".to_string()]);
        match (self.model.node.operator.as_str(), self.model.node.attributes.get("activations")) {
            ("RNN", None) => Some(CellKind::RnnTanh),
            ("RNN", Some(names)) if *names == relu => Some(CellKind::RnnRelu),
            ("LSTM", None) => Some(CellKind::Lstm),
            ("GRU", None) => Some(CellKind::Gru),
            _ => None,
        }
    }

    fn layout(&self) -> bool {
        self.model.int("layout", 0) == 1
    }

    /// [T, B, width] from ONNX's order of a sequence.
    fn sequence(&self, values: &[f32], width: usize) -> Vec<f32> {
        let [time, batch, ..] = self.sizes();
        if !self.layout() {
            return values.to_vec();
        }
        let rows = (0..time).flat_map(|t| (0..batch).map(move |b| b * time + t));
        rows.flat_map(|row| values[row * width..][..width].iter().copied()).collect()
    }

    fn sizes(&self) -> [usize; 4] {
        let [first, second, input] = self.input(0).unwrap().shape[..] else { panic!("X") };
        let hidden = self.model.int("hidden_size", 0) as usize;
        let [time, batch] = if self.layout() { [second, first] } else { [first, second] };
        [time, batch, input, hidden]
    }

    fn problem(&self) -> Problem {
        let cell = self.cell().unwrap();
        let [time, batch, input, hidden] = self.sizes();
        let rows = cell.gates() * hidden;
        let or_zeros = |place: usize, len: usize| -> Vec<f32> {
            self.input(place).map_or(vec![0.0; len], |tensor| {
                assert_eq!(tensor.values.len(), len, "{}: {}", self.name, tensor.name);
                tensor.values.clone()
            })
        };
        assert_eq!(self.input(1).unwrap().shape, [1, rows, input]);
        assert_eq!(self.input(2).unwrap().shape, [1, rows, hidden]);
        let b = or_zeros(3, 2 * rows);
        let mut initial = or_zeros(5, batch * hidden);
        if cell == CellKind::Lstm {
            initial.extend(or_zeros(6, batch * hidden));
        }
        let x = self.sequence(&self.input(0).unwrap().values, input);
        assert_eq!(x.len(), time * batch * input);
        Problem {
            cell,
            sizes: self.sizes(),
            x,
            w: self.input(1).unwrap().values.clone(),
            r: self.input(2).unwrap().values.clone(),
            b: [b[..rows].to_vec(), b[rows..].to_vec()],
            p: or_zeros(7, 3 * hidden),
            initial,
            reset_after: self.model.int("linear_before_reset", 0) != 0,
        }
    }

    /// What the case needs and the cells do not have.
    fn missing(&self) -> Option<String> {
        let node = &self.model.node;
        let known = ["hidden_size", "layout", "direction", "activations", "linear_before_reset"];
        for (name, value) in &node.attributes {
            let forward = Attribute::Text("forward".to_string());
            if !known.contains(&name.as_str()) || (name == "direction" && *value != forward) {
                return Some(format!("the attribute {name} = {value:?}"));
            }
        }
        if self.cell().is_none() {
            return Some(format!("operator {} with other activations", node.operator));
        }
        let problem = self.problem();
        let [time, ..] = problem.sizes;
        let lengths = self.input(4).map_or(&[][..], |tensor| &tensor.values);
        if lengths.iter().any(|&length| length != time as f32) {
            return Some("rows of unequal lengths".to_string());
        }
        if problem.p.iter().any(|&p| p != 0.0) {
            return Some("peepholes".to_string());
        }
        // R(r⊙h) is r⊙(R·h) where h is zero: for the first step from zeros, and no other.
        let from_zeros = time == 1 && problem.initial.iter().all(|&h| h == 0.0);
        if problem.cell == CellKind::Gru && !problem.reset_after && !from_zeros {
            return Some(format!("the reset before the product (T = {time})"));
        }
        None
    }

    /// The largest difference from the case's Y, Y_h and Y_c, those that it has.
    fn difference(&self, got: &Outcome) -> f64 {
        let [_, batch, _, hidden] = self.sizes();
        let (h, c) = got.last.split_at(batch * hidden);
        let mut worst: Option<f64> = None;
        for (place, got) in [&got.y[..], h, c].into_iter().enumerate() {
            if let Some(want) = self.at(&self.model.node.outputs, place) {
                let values = match place {
                    0 => self.sequence(&want.values, hidden),
                    // One direction: [1, B, H] and [B, 1, H] are the same words.
                    _ => want.values.clone(),
                };
                worst = Some(worst.unwrap_or(0.0).max(difference(got, &wide(&values))));
            }
        }
        worst.expect("a case has an output")
    }
}

fn cases() -> Option<Vec<Case>> {
    let folder = data_folder("onnx_node_tests")?;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    Some(folders.iter().map(|folder| Case::open(folder)).collect())
}

#[test]
fn onnx_cases_on_the_engines_and_the_oracle() {
    let Some(cases) = cases() else { return };
    let engines = engines();
    let (mut covered, mut skipped) = (Vec::new(), Vec::new());
    for case in &cases {
        if let Some(missing) = case.missing() {
            println!("skipped {}: it needs {missing}", case.name);
            skipped.push(case.name.as_str());
            continue;
        }
        let problem = case.problem();
        let mut report = format!("covered {}: oracle", case.name);
        let difference = case.difference(&problem.on_oracle());
        assert!(difference <= TOLERANCE, "{}, oracle: {difference:.1e}", case.name);
        report += &format!(" {difference:.1e}");
        for engine in &engines {
            let difference = case.difference(&problem.on_engine(engine));
            let name = engine.name();
            assert!(difference <= TOLERANCE, "{}, {name}: {difference:.1e}", case.name);
            report += &format!(", {} {difference:.1e}", engine.kind());
        }
        println!("{report}");
        covered.push(case.name.as_str());
    }
    assert_eq!(covered, COVERED);
    assert_eq!(skipped, SKIPPED);
}

/// Without its peepholes the one case is another function, on its very numbers. (The other one that
/// is skipped saturates the gates of its second step: it can't tell a reset before the product from
/// one after it, and so would prove nothing.)
#[test]
fn peepholes_are_no_small_thing() {
    let Some(cases) = cases() else { return };
    let case = cases.iter().find(|case| case.name.contains("peepholes")).unwrap();
    let difference = case.difference(&case.problem().on_oracle());
    assert!(difference > 100.0 * TOLERANCE, "{}: {difference:.1e}", case.name);
}

#[test]
fn every_onnx_case_proves_the_equations() {
    let Some(cases) = cases() else { return };
    assert_eq!(cases.len(), COVERED.len() + SKIPPED.len());
    for case in &cases {
        let difference = case.difference(&case.problem().equations());
        assert!(difference <= TOLERANCE, "{}: {difference:.1e}", case.name);
    }
}

/// The equations on weights that are all different, from states that are not zero, over five
/// steps: here a swapped gate shows.
#[test]
fn the_equations_judge_the_engines() {
    let engines = engines();
    for cell in CellKind::ALL {
        let sizes @ [time, batch, input, hidden] = [5, 3, 4, 6];
        let rows = cell.gates() * hidden;
        let mut seed = 1u32;
        // Numerical Recipes' generator; U(−0.6, 0.6).
        let mut random = |n: usize| -> Vec<f32> {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / 16_777_216.0 * 1.2 - 0.6
            };
            (0..n).map(|_| next()).collect()
        };
        let mut problem = Problem {
            cell,
            sizes,
            x: random(time * batch * input),
            w: random(rows * input),
            r: random(rows * hidden),
            b: [random(rows), random(rows)],
            p: vec![0.0; 3 * hidden],
            initial: random(cell.states() * batch * hidden),
            reset_after: true,
        };
        let want = problem.equations();
        let oracle = problem.on_oracle().difference(&want);
        assert!(oracle <= 1e-12, "{}, oracle: {oracle:.1e}", cell.name());
        for engine in &engines {
            let difference = problem.on_engine(engine).difference(&want);
            assert!(difference <= TOLERANCE, "{}, {engine:?}: {difference:.1e}", cell.name());
            println!("{} on {}: {difference:.1e}", cell.name(), engine.name());
        }
        // And it does show: every exchange of two gates.
        for first in 0..cell.gates() {
            for second in 0..first {
                let swap = |values: &mut [f32], problem: &Problem| {
                    let block = values.len() / problem.cell.gates();
                    for k in 0..block {
                        values.swap(first * block + k, second * block + k);
                    }
                };
                let mut w = problem.w.clone();
                swap(&mut w, &problem);
                let right = std::mem::replace(&mut problem.w, w);
                let difference = problem.on_oracle().difference(&want);
                problem.w = right;
                assert!(difference > 100.0 * TOLERANCE, "{}, {first} {second}", cell.name());
            }
        }
    }
}
