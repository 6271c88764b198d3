//! The float64 oracle against PyTorch: the files that `goldens/make.py` wrote.

mod common;

use common::golden::Golden;
use ndarray::{Array, Array1, Array2, Array3, ArrayD, Axis, Dimension, Ix1, Ix2, Ix3, IxDyn};
use recurra::oracle::recurrent::{
    Activation, Cell, LayerSpec, Masks, Merge, Options, Padding, Stack, StackInput, StackResult,
    Weights, run,
};
use recurra::oracle::{
    Adam, AdamW, Sgd, clip_norm, embedding, embedding_backward, linear, linear_backward,
    softmax_cross_entropy,
};

/// A float32 file holds results rounded once, half an ulp (6e-8) off.
const ROUNDED: f64 = 6.1e-8;
/// A float64 file differs by the order of the sums alone.
const EXACT: f64 = 1e-12;

const TENSORS: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

/// By layer, direction and state.
type States = Vec<Vec<Vec<Array2<f64>>>>;

impl Golden {
    /// The weights of layer `l` under `prefix`; a bias is a row.
    fn weights(&self, prefix: &str, l: usize) -> Weights {
        let tensor = |name: &str| {
            let tensor: ArrayD<f64> = self.get(&format!("{prefix}{name}_l{l}"));
            let rows = if name.starts_with("bias") { 1 } else { tensor.shape()[0] };
            let shape = (rows, tensor.len() / rows);
            (name.to_string(), tensor.into_shape_with_order(shape).unwrap())
        };
        TENSORS.map(tensor).into_iter().collect()
    }

    /// The layers' states, from the tensors `h` and, for an LSTM, `c` [L, B, H].
    fn states(&self, cell: &Cell, h: &str, c: &str) -> States {
        let names = if matches!(cell, Cell::Lstm) { &[h, c][..] } else { &[h] };
        let parts: Vec<Array3<f64>> = names.iter().map(|name| self.get(name)).collect();
        let layer = |l| parts.iter().map(|part| part.index_axis(Axis(0), l).to_owned()).collect();
        (0..parts[0].dim().0).map(|l| vec![layer(l)]).collect()
    }

    /// Compares every element: `relative` of the expected value, and `EXACT` of the tensor's
    /// largest for values that cancel to nearly nothing.
    fn check<D: Dimension>(&self, name: &str, got: &Array<f64, D>, relative: f64) {
        let expected: Array<f64, D> = self.get(name);
        assert_eq!(got.shape(), expected.shape(), "{name}");
        let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        assert!(largest.is_finite(), "{name}: the golden isn't finite");
        for (k, (g, e)) in got.iter().zip(&expected).enumerate() {
            let bound = relative * e.abs() + EXACT * largest;
            assert!((g - e).abs() <= bound, "{name}, element {k}: got {g}, PyTorch has {e}");
        }
    }

    fn check_weights(&self, prefix: &str, layers: &[Vec<Weights>], relative: f64) {
        for (l, directions) in layers.iter().enumerate() {
            for (name, w) in &directions[0] {
                let name = format!("{prefix}{name}_l{l}");
                let shape = self.shape(&name);
                self.check(&name, &w.clone().into_shape_with_order(shape).unwrap(), relative);
            }
        }
    }

    fn check_states(&self, h: &str, c: &str, states: &States, relative: f64) {
        for (s, name) in [h, c].into_iter().enumerate().take(states[0][0].len()) {
            let parts: Vec<_> = states.iter().map(|layer| layer[0][s].view()).collect();
            self.check(name, &ndarray::stack(Axis(0), &parts).unwrap(), relative);
        }
    }
}

/// A stack as PyTorch has it, in one direction.
fn run_stack(
    layer: &LayerSpec,
    weights: Vec<Weights>,
    x: Array3<f64>,
    initial: States,
    d_output: Array3<f64>,
    d_finals: States,
) -> StackResult {
    let depth = weights.len();
    let stack = Stack {
        layers: vec![vec![layer.clone()]; depth],
        merge: Merge::Concat,
        residual: false,
        skip: false,
        padding: Padding::Value(0.0),
    };
    let input = StackInput {
        x,
        weights: weights.into_iter().map(|w| vec![w]).collect(),
        initial,
        masks: vec![vec![Masks::default()]; depth],
        between: vec![None; depth],
        weight_drop: vec![vec![None]; depth],
        d_output,
        d_finals,
    };
    run(&stack, &input).unwrap()
}

fn layer(cell: Cell, hidden: usize) -> LayerSpec {
    LayerSpec { cell, hidden, options: Options::default() }
}

/// Every case of a cell's file: outputs, final states and all gradients.
fn check_cell(mut layer: LayerSpec, file: &str) {
    let golden = Golden::open(file);
    let names = golden.names();
    // T, B, I, H, L, so that a file made again with fewer or easier cases is noticed.
    let cases = [(1, 1, 1, 1, 1), (7, 3, 2, 7, 2), (5, 2, 3, 33, 1), (3, 2, 7, 5, 3)];
    for (k, &(steps, batch, inputs, hidden, depth)) in cases.iter().enumerate() {
        let at = |name: &str| format!("case{k}/{name}");
        let x = golden.get::<Ix3>(&at("input"));
        let initial = golden.states(&layer.cell, &at("h0"), &at("c0"));
        assert_eq!(x.dim(), (steps, batch, inputs));
        assert_eq!((initial.len(), initial[0][0][0].dim()), (depth, (batch, hidden)));
        let weights: Vec<Weights> = (0..depth).map(|l| golden.weights(&at(""), l)).collect();
        let d_finals = golden.states(&layer.cell, &at("d_h_n"), &at("d_c_n"));
        let d_output = golden.get(&at("d_output"));

        layer.hidden = hidden;
        let run = run_stack(&layer, weights, x, initial, d_output, d_finals);
        golden.check(&at("output"), &run.output, ROUNDED);
        golden.check_states(&at("h_n"), &at("c_n"), &run.finals, ROUNDED);
        golden.check(&at("grad/input"), &run.d_x, ROUNDED);
        golden.check_states(&at("grad/h0"), &at("grad/c0"), &run.d_initial, ROUNDED);
        golden.check_weights(&at("grad/"), &run.d_weights, ROUNDED);

        // Four tensors a layer with a gradient each, and per state part: x0, x_n, d_x_n, grad/x0.
        let states = layer.state_widths().len();
        let count = names.iter().filter(|name| name.starts_with(&at(""))).count();
        assert_eq!(count, 8 * depth + 4 + 4 * states, "{file}, case {k}: tensors unaccounted for");
    }
}

#[test]
fn rnn_tanh_is_pytorchs() {
    check_cell(layer(Cell::Rnn, 1), "rnn_tanh");
}

#[test]
fn rnn_relu_is_pytorchs() {
    let mut layer = layer(Cell::Rnn, 1);
    layer.options.activations = Some(vec![Activation::Relu]);
    check_cell(layer, "rnn_relu");
}

#[test]
fn lstm_is_pytorchs() {
    check_cell(layer(Cell::Lstm, 1), "lstm");
}

#[test]
fn gru_is_pytorchs() {
    check_cell(layer(Cell::Gru, 1), "gru");
}

#[test]
fn a_language_model_is_pytorchs() {
    let golden = Golden::open("lm");
    let (ids, targets) = (golden.ids("ids"), golden.ids("targets"));
    let (steps, batch, vocabulary) = golden.get::<Ix3>("logits").dim();
    assert_eq!((steps, batch, vocabulary), (5, 3, 11));
    let table: Array2<f64> = golden.get("embedding");
    let weights = vec![golden.weights("", 0), golden.weights("", 1)];
    let w: Array2<f64> = golden.get("linear/weight");
    let b: Array1<f64> = golden.get("linear/bias");
    let hidden = w.ncols();

    let x = embedding(&table, &ids).unwrap();
    let x = x.into_shape_with_order((steps, batch, table.ncols())).unwrap();
    let lstm = layer(Cell::Lstm, hidden);
    let zeros = vec![vec![vec![Array2::zeros((batch, hidden)); 2]]; 2];
    let run = |d_output| {
        run_stack(&lstm, weights.clone(), x.clone(), zeros.clone(), d_output, zeros.clone())
    };
    let output = run(Array3::zeros((steps, batch, hidden))).output;
    let top = output.into_shape_with_order((steps * batch, hidden)).unwrap();
    let logits = linear(&top, &w, &b).unwrap();
    let (loss, d_logits) = softmax_cross_entropy(&logits, &targets).unwrap();
    let logits = logits.into_shape_with_order((steps, batch, vocabulary)).unwrap();
    golden.check("logits", &logits, EXACT);
    assert!((loss - golden.scalar("loss")).abs() < 1e-12 * loss, "loss {loss}");

    let d = linear_backward(&top, &w, &d_logits).unwrap();
    golden.check("grad/linear/weight", &d.w, EXACT);
    golden.check("grad/linear/bias", &d.b, EXACT);
    let d_outputs = d.x.into_shape_with_order((steps, batch, hidden)).unwrap();
    let d = run(d_outputs);
    golden.check_weights("grad/", &d.d_weights, EXACT);
    let d_x = d.d_x.into_shape_with_order((steps * batch, table.ncols())).unwrap();
    golden.check("grad/embedding", &embedding_backward(vocabulary, &ids, &d_x).unwrap(), EXACT);
}

/// The five steps of one optimizer.
fn check_steps(golden: &Golden, name: &str, mut step: impl FnMut(&mut [f64], &[f64])) {
    let mut params = golden.get::<Ix1>("initial").to_vec();
    let mut history = vec![];
    for gradient in golden.get::<Ix2>("gradients").outer_iter() {
        step(&mut params, &gradient.to_vec());
        history.extend_from_slice(&params);
    }
    let history = Array2::from_shape_vec((5, 7), history).unwrap();
    golden.check(&format!("{name}/params"), &history, EXACT);
}

#[test]
fn the_optimizers_are_pytorchs() {
    let golden = Golden::open("optim");
    let of = |optimizer: &str, option: &str| golden.scalar(&format!("{optimizer}/{option}"));
    let (lr, momentum) = (of("sgd", "lr"), of("sgd", "momentum"));
    let mut sgd = Sgd::new(lr, momentum, of("sgd", "weight_decay"));
    check_steps(&golden, "sgd", |p, g| sgd.step(p, g).unwrap());

    let betas = |name| (of(name, "beta1"), of(name, "beta2"));
    let (lr, eps, decay) = (of("adam", "lr"), of("adam", "eps"), of("adam", "weight_decay"));
    let mut adam = Adam::new(lr, betas("adam"), eps, decay);
    check_steps(&golden, "adam", |p, g| adam.step(p, g).unwrap());

    let (lr, eps, decay) = (of("adamw", "lr"), of("adamw", "eps"), of("adamw", "weight_decay"));
    let mut adamw = AdamW::new(lr, betas("adamw"), eps, decay);
    check_steps(&golden, "adamw", |p, g| adamw.step(p, g).unwrap());
}

#[test]
fn clipping_is_pytorchs() {
    let golden = Golden::open("optim");
    for clip in ["clip0", "clip1"] {
        let part = |name: &str| golden.get::<IxDyn>(&format!("{clip}/{name}"));
        let mut grads = [part("before_0"), part("before_1")].map(|a| a.iter().copied().collect());
        let norm = clip_norm(&mut grads, golden.scalar(&format!("{clip}/max_norm")));
        assert!((norm - golden.scalar(&format!("{clip}/norm"))).abs() < 1e-12 * norm);
        for (k, grad) in grads.into_iter().enumerate() {
            let name = format!("after_{k}");
            let got = Array::from_shape_vec(part(&name).raw_dim(), grad).unwrap();
            golden.check(&format!("{clip}/{name}"), &got, EXACT);
        }
    }
}
