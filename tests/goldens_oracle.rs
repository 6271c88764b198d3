//! The float64 oracle against PyTorch: the files that `goldens/make.py` wrote.

mod common;

use common::golden::Golden;
use ndarray::{Array, Array1, Array2, Array3, Axis, Dimension, Ix1, Ix2, Ix3, IxDyn};
use recurra::oracle::{
    Adam, AdamW, Cell, Sgd, State, Weights, backward, clip_norm, embedding, embedding_backward,
    forward, linear, linear_backward, softmax_cross_entropy,
};

/// A float32 file holds results rounded once, half an ulp (6e-8) off.
const ROUNDED: f64 = 6.1e-8;
/// A float64 file differs by the order of the sums alone.
const EXACT: f64 = 1e-12;

impl Golden {
    /// The weights of layer `l` under `prefix`.
    fn weights(&self, prefix: &str, l: usize) -> Weights {
        Weights {
            w_ih: self.get(&format!("{prefix}weight_ih_l{l}")),
            w_hh: self.get(&format!("{prefix}weight_hh_l{l}")),
            b_ih: self.get(&format!("{prefix}bias_ih_l{l}")),
            b_hh: self.get(&format!("{prefix}bias_hh_l{l}")),
        }
    }

    /// The layers' states, from the tensors `h` and, for an LSTM, `c` [L, B, H].
    fn states(&self, cell: Cell, h: &str, c: &str) -> Vec<State> {
        let h: Array3<f64> = self.get(h);
        let c: Option<Array3<f64>> = cell.has_c().then(|| self.get(c));
        let layer = |a: &Array3<f64>, l| a.index_axis(Axis(0), l).to_owned();
        (0..h.dim().0)
            .map(|l| State { h: layer(&h, l), c: c.as_ref().map(|c| layer(c, l)) })
            .collect()
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

    fn check_weights(&self, prefix: &str, layers: &[Weights], relative: f64) {
        for (l, w) in layers.iter().enumerate() {
            self.check(&format!("{prefix}weight_ih_l{l}"), &w.w_ih, relative);
            self.check(&format!("{prefix}weight_hh_l{l}"), &w.w_hh, relative);
            self.check(&format!("{prefix}bias_ih_l{l}"), &w.b_ih, relative);
            self.check(&format!("{prefix}bias_hh_l{l}"), &w.b_hh, relative);
        }
    }

    fn check_states(&self, h: &str, c: &str, states: &[State], relative: f64) {
        let stack = |parts: Vec<&Array2<f64>>| {
            let views: Vec<_> = parts.iter().map(|a| a.view()).collect();
            ndarray::stack(Axis(0), &views).unwrap()
        };
        self.check(h, &stack(states.iter().map(|s| &s.h).collect()), relative);
        let cs: Vec<_> = states.iter().filter_map(|s| s.c.as_ref()).collect();
        if !cs.is_empty() {
            self.check(c, &stack(cs), relative);
        }
    }
}

/// Every case of a cell's file: outputs, final states and all gradients.
fn check_cell(cell: Cell, file: &str) {
    let golden = Golden::open(file);
    let names = golden.names();
    // T, B, I, H, L, so that a file made again with fewer or easier cases is noticed.
    let cases = [(1, 1, 1, 1, 1), (7, 3, 2, 7, 2), (5, 2, 3, 33, 1), (3, 2, 7, 5, 3)];
    for (k, &(steps, batch, inputs, hidden, depth)) in cases.iter().enumerate() {
        let at = |name: &str| format!("case{k}/{name}");
        let x = golden.get::<Ix3>(&at("input"));
        let initial = golden.states(cell, &at("h0"), &at("c0"));
        assert_eq!(x.dim(), (steps, batch, inputs));
        assert_eq!((initial.len(), initial[0].h.dim()), (depth, (batch, hidden)));
        let layers: Vec<Weights> = (0..depth).map(|l| golden.weights(&at(""), l)).collect();

        let run = forward(cell, &layers, &x, &initial, &[]).unwrap();
        golden.check(&at("output"), &run.outputs, ROUNDED);
        golden.check_states(&at("h_n"), &at("c_n"), &run.finals, ROUNDED);

        let d_finals = golden.states(cell, &at("d_h_n"), &at("d_c_n"));
        let d_output = golden.get(&at("d_output"));
        let d = backward(cell, &layers, &run, &d_output, &d_finals).unwrap();
        golden.check(&at("grad/input"), &d.x, ROUNDED);
        golden.check_states(&at("grad/h0"), &at("grad/c0"), &d.initial, ROUNDED);
        golden.check_weights(&at("grad/"), &d.layers, ROUNDED);

        // Four tensors a layer with a gradient each, and per state part: x0, x_n, d_x_n, grad/x0.
        let states = if cell.has_c() { 2 } else { 1 };
        let count = names.iter().filter(|name| name.starts_with(&at(""))).count();
        assert_eq!(count, 8 * depth + 4 + 4 * states, "{file}, case {k}: tensors unaccounted for");
    }
}

#[test]
fn rnn_tanh_is_pytorchs() {
    check_cell(Cell::RnnTanh, "rnn_tanh");
}

#[test]
fn rnn_relu_is_pytorchs() {
    check_cell(Cell::RnnRelu, "rnn_relu");
}

#[test]
fn lstm_is_pytorchs() {
    check_cell(Cell::Lstm, "lstm");
}

#[test]
fn gru_is_pytorchs() {
    check_cell(Cell::Gru, "gru");
}

#[test]
fn a_language_model_is_pytorchs() {
    let golden = Golden::open("lm");
    let (ids, targets) = (golden.ids("ids"), golden.ids("targets"));
    let (steps, batch, vocabulary) = golden.get::<Ix3>("logits").dim();
    assert_eq!((steps, batch, vocabulary), (5, 3, 11));
    let table: Array2<f64> = golden.get("embedding");
    let layers = [golden.weights("", 0), golden.weights("", 1)];
    let w: Array2<f64> = golden.get("linear/weight");
    let b: Array1<f64> = golden.get("linear/bias");
    let hidden = w.ncols();

    let x = embedding(&table, &ids).unwrap();
    let x = x.into_shape_with_order((steps, batch, table.ncols())).unwrap();
    let zeros = [State::zeros(Cell::Lstm, batch, hidden), State::zeros(Cell::Lstm, batch, hidden)];
    let run = forward(Cell::Lstm, &layers, &x, &zeros, &[]).unwrap();
    let top = run.outputs.clone().into_shape_with_order((steps * batch, hidden)).unwrap();
    let logits = linear(&top, &w, &b).unwrap();
    let (loss, d_logits) = softmax_cross_entropy(&logits, &targets).unwrap();
    let logits = logits.into_shape_with_order((steps, batch, vocabulary)).unwrap();
    golden.check("logits", &logits, EXACT);
    assert!((loss - golden.scalar("loss")).abs() < 1e-12 * loss, "loss {loss}");

    let d = linear_backward(&top, &w, &d_logits).unwrap();
    golden.check("grad/linear/weight", &d.w, EXACT);
    golden.check("grad/linear/bias", &d.b, EXACT);
    let d_outputs = d.x.into_shape_with_order((steps, batch, hidden)).unwrap();
    let d = backward(Cell::Lstm, &layers, &run, &d_outputs, &zeros).unwrap();
    golden.check_weights("grad/", &d.layers, EXACT);
    let d_x = d.x.into_shape_with_order((steps * batch, table.ncols())).unwrap();
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
