//! The float64 oracle against the definition of a derivative, hand-computed answers and the
//! properties that any recurrent network has. (`goldens_oracle.rs` compares it with PyTorch.)

use ndarray::{Array, Array1, Array2, Array3, Axis, Dimension, ShapeBuilder, arr1, arr2, s};
use recurra::Error;
use recurra::oracle::{
    Adam, AdamW, Cell, Forward, Gradients, Sgd, State, Weights, backward, clip_norm,
    dropout_multipliers, embedding, embedding_backward, forward, linear, linear_backward,
    softmax_cross_entropy,
};

const CELLS: [Cell; 4] = [Cell::RnnTanh, Cell::RnnRelu, Cell::Lstm, Cell::Gru];

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Generator(u64);

impl Generator {
    /// Uniform between −1 and 1.
    fn value(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Uniform between −scale and scale.
    fn array<D: Dimension, S: ShapeBuilder<Dim = D>>(
        &mut self,
        shape: S,
        scale: f64,
    ) -> Array<f64, D> {
        Array::from_shape_simple_fn(shape, || scale * self.value())
    }

    fn state(&mut self, cell: Cell, batch: usize, hidden: usize) -> State {
        let h = self.array((batch, hidden), 1.0);
        let c = cell.has_c().then(|| self.array((batch, hidden), 1.5));
        State { h, c }
    }

    fn weights(&mut self, cell: Cell, inputs: usize, hidden: usize, scale: f64) -> Weights {
        let rows = cell.gates() * hidden;
        Weights {
            w_ih: self.array((rows, inputs), scale),
            w_hh: self.array((rows, hidden), scale),
            b_ih: self.array(rows, scale),
            b_hh: self.array(rows, scale),
        }
    }
}

/// The sizes of a network and how its numbers are chosen.
#[derive(Clone, Copy, Debug)]
struct Sizes<'a> {
    steps: usize,
    batch: usize,
    inputs: usize,
    /// H of each layer.
    hidden: &'a [usize],
    zero_initial: bool,
    dropout: bool,
    scale: f64,
}

const SMALL: Sizes = Sizes {
    steps: 7,
    batch: 3,
    inputs: 2,
    hidden: &[5, 3],
    zero_initial: false,
    dropout: false,
    scale: 0.8,
};

/// A network, what goes in, and the linear loss Σ outputs·d_outputs + Σ finals·d_finals.
#[derive(Clone)]
struct Problem {
    cell: Cell,
    layers: Vec<Weights>,
    x: Array3<f64>,
    initial: Vec<State>,
    dropout: Vec<Array3<f64>>,
    d_outputs: Array3<f64>,
    d_finals: Vec<State>,
}

impl Problem {
    fn new(cell: Cell, sizes: Sizes, seed: u64) -> Self {
        let mut random = Generator(seed);
        let Sizes { steps, batch, hidden, .. } = sizes;
        let (mut layers, mut initial, mut dropout) = (vec![], vec![], vec![]);
        let mut inputs = sizes.inputs;
        for (l, &h) in hidden.iter().enumerate() {
            layers.push(random.weights(cell, inputs, h, sizes.scale));
            initial.push(match sizes.zero_initial {
                true => State::zeros(cell, batch, h),
                false => random.state(cell, batch, h),
            });
            if sizes.dropout && l + 1 < hidden.len() {
                let m = dropout_multipliers(seed, l as u32, 3, 0.7, steps * batch * h);
                dropout.push(Array3::from_shape_vec((steps, batch, h), m).unwrap());
            }
            inputs = h;
        }
        Problem {
            cell,
            layers,
            x: random.array((steps, batch, sizes.inputs), 1.5),
            initial,
            dropout,
            d_outputs: random.array((steps, batch, inputs), 1.0),
            d_finals: hidden.iter().map(|&h| random.state(cell, batch, h)).collect(),
        }
    }

    fn forward(&self) -> Forward {
        forward(self.cell, &self.layers, &self.x, &self.initial, &self.dropout).unwrap()
    }

    fn backward(&self) -> Gradients {
        backward(self.cell, &self.layers, &self.forward(), &self.d_outputs, &self.d_finals).unwrap()
    }

    fn loss(&self) -> f64 {
        let run = self.forward();
        let mut loss = (&run.outputs * &self.d_outputs).sum();
        for (state, d) in run.finals.iter().zip(&self.d_finals) {
            loss += (&state.h * &d.h).sum();
            if let (Some(c), Some(d_c)) = (&state.c, &d.c) {
                loss += (c * d_c).sum();
            }
        }
        loss
    }

    /// The pre-activations of a rectifier's network at every layer, step, row and unit, from the
    /// outputs of its lower parts.
    fn pre_activations(&self) -> Vec<f64> {
        let mut all = vec![];
        let mut x = self.x.clone();
        for (l, w) in self.layers.iter().enumerate() {
            let dropout = if self.dropout.is_empty() { &[][..] } else { &self.dropout[..l] };
            let (below, initial) = (&self.layers[..=l], &self.initial[..=l]);
            let outputs = forward(self.cell, below, &self.x, initial, dropout).unwrap().outputs;
            for t in 0..x.dim().0 {
                let h = match t {
                    0 => self.initial[l].h.clone(),
                    _ => outputs.index_axis(Axis(0), t - 1).to_owned(),
                };
                let a = x.index_axis(Axis(0), t).dot(&w.w_ih.t()) + h.dot(&w.w_hh.t());
                let a = a + &w.b_ih + &w.b_hh;
                let expected = a.mapv(|v| v.max(0.0));
                let gap = (&expected - &outputs.index_axis(Axis(0), t)).mapv(f64::abs).sum();
                assert!(gap < 1e-12, "layer {l}, step {t}: not max(0, W·x + U·h): {gap}");
                all.extend(a);
            }
            x = match self.dropout.get(l) {
                Some(m) => &outputs * m,
                None => outputs,
            };
        }
        all
    }
}

/// Every tensor with a gradient, by name, flat.
fn tensors<'a>(
    x: &'a mut Array3<f64>,
    layers: &'a mut [Weights],
    initial: &'a mut [State],
) -> Vec<(String, &'a mut [f64])> {
    let mut all = vec![("x".to_string(), x.as_slice_mut().unwrap())];
    for (l, w) in layers.iter_mut().enumerate() {
        all.push((format!("w_ih {l}"), w.w_ih.as_slice_mut().unwrap()));
        all.push((format!("w_hh {l}"), w.w_hh.as_slice_mut().unwrap()));
        all.push((format!("b_ih {l}"), w.b_ih.as_slice_mut().unwrap()));
        all.push((format!("b_hh {l}"), w.b_hh.as_slice_mut().unwrap()));
    }
    for (l, state) in initial.iter_mut().enumerate() {
        all.push((format!("h0 {l}"), state.h.as_slice_mut().unwrap()));
        if let Some(c) = &mut state.c {
            all.push((format!("c0 {l}"), c.as_slice_mut().unwrap()));
        }
    }
    all
}

/// df/dv at 0 by the five-point central difference, whose error is of fourth order.
fn derivative(mut f: impl FnMut(f64) -> f64) -> f64 {
    let h = 5e-4;
    (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
}

/// Relative to the gradient, with a floor for gradients near zero.
fn assert_derivative(got: f64, expected: f64, what: &str) {
    let bound = 1e-8 * expected.abs() + 1e-10;
    assert!((got - expected).abs() <= bound, "{what}: got {got}, the difference says {expected}");
}

/// Compares every single gradient with the central difference.
fn check_gradients(problem: &Problem, what: &str) {
    let mut gradients = problem.backward();
    let Gradients { x, layers, initial } = &mut gradients;
    let got = tensors(x, layers, initial);
    let mut p = problem.clone();
    let names: Vec<_> = tensors(&mut p.x, &mut p.layers, &mut p.initial)
        .iter()
        .map(|(name, values)| (name.clone(), values.len()))
        .collect();
    assert_eq!(names, got.iter().map(|(n, v)| (n.clone(), v.len())).collect::<Vec<_>>(), "{what}");
    for (k, (name, gradient)) in got.iter().enumerate() {
        for (e, &got) in gradient.iter().enumerate() {
            let at = tensors(&mut p.x, &mut p.layers, &mut p.initial)[k].1[e];
            let set = |p: &mut Problem, value| {
                tensors(&mut p.x, &mut p.layers, &mut p.initial)[k].1[e] = value;
            };
            let expected = derivative(|step| {
                set(&mut p, at + step);
                p.loss()
            });
            set(&mut p, at);
            assert_derivative(got, expected, &format!("{what}, {name}[{e}]"));
        }
    }
}

/// A problem whose loss is smooth around it: for a rectifier, no pre-activation near the kink, but
/// (where there are more than a few) some on either side of it.
fn smooth_problem(cell: Cell, sizes: Sizes, mut seed: u64) -> Problem {
    loop {
        let problem = Problem::new(cell, sizes, seed);
        if cell != Cell::RnnRelu {
            return problem;
        }
        let a = problem.pre_activations();
        let either = a.iter().any(|&a| a > 0.0) && a.iter().any(|&a| a < 0.0);
        if a.iter().all(|a| a.abs() > 0.02) && (either || a.len() < 10) {
            return problem;
        }
        seed += 1000;
        assert!(seed < 10_000_000, "no seed keeps {sizes:?} away from the kink");
    }
}

/// One to three layers, one to seven steps, initial states given and zero, dropout on and off.
fn check_every_gradient(cell: Cell) {
    let stacks: [&[usize]; 5] = [&[1], &[5], &[3, 3], &[2, 4, 3], &[7, 1]];
    for steps in [1, 2, 4, 7] {
        for (k, &hidden) in stacks.iter().enumerate() {
            for zero_initial in [false, true] {
                if zero_initial && steps > 2 {
                    continue; // slow, and the shorter ones have it
                }
                let dropout = hidden.len() > 1 && (steps + k) % 2 == 0;
                let (batch, inputs) = ([1, 2, 3][k % 3], [3, 1, 2][(k + steps) % 3]);
                let sizes =
                    Sizes { steps, batch, inputs, hidden, zero_initial, dropout, scale: 0.8 };
                let problem = smooth_problem(cell, sizes, (steps * 10 + k) as u64);
                check_gradients(&problem, &format!("{cell:?} {sizes:?}"));
            }
        }
    }
}

#[test]
fn every_gradient_of_rnn_tanh_is_the_central_difference() {
    check_every_gradient(Cell::RnnTanh);
}

#[test]
fn every_gradient_of_rnn_relu_is_the_central_difference() {
    check_every_gradient(Cell::RnnRelu);
}

#[test]
fn every_gradient_of_the_lstm_is_the_central_difference() {
    check_every_gradient(Cell::Lstm);
}

#[test]
fn every_gradient_of_the_gru_is_the_central_difference() {
    check_every_gradient(Cell::Gru);
}

#[test]
fn gradients_hold_when_gates_saturate() {
    for cell in [Cell::RnnTanh, Cell::Lstm, Cell::Gru] {
        let problem = Problem::new(cell, Sizes { steps: 4, scale: 4.0, ..SMALL }, 5);
        check_gradients(&problem, &format!("{cell:?}, saturated"));
    }
    // Far beyond: e^(−a) overflows, the answer is still a number.
    for cell in [Cell::RnnTanh, Cell::Lstm, Cell::Gru] {
        let problem = Problem::new(cell, Sizes { scale: 3000.0, ..SMALL }, 6);
        assert!(problem.forward().outputs.iter().all(|v| v.is_finite() && v.abs() <= 1.0));
        let gradients = problem.backward();
        assert!(gradients.x.iter().all(|v| v.is_finite()), "{cell:?}");
        assert!(gradients.layers.iter().all(|w| w.w_hh.iter().all(|v| v.is_finite())), "{cell:?}");
    }
}

/// Whether each of the gradients' sources counts: outputs alone, h alone, c alone.
#[test]
fn each_source_of_gradient_counts_alone() {
    for cell in CELLS {
        let full = smooth_problem(cell, Sizes { steps: 3, batch: 2, ..SMALL }, 11);
        let mut parts = vec![];
        for part in 0..3 {
            let mut p = full.clone();
            if part != 0 {
                p.d_outputs.fill(0.0);
            }
            for d in &mut p.d_finals {
                if part != 1 {
                    d.h.fill(0.0);
                }
                if let Some(c) = d.c.as_mut().filter(|_| part != 2) {
                    c.fill(0.0);
                }
            }
            check_gradients(&p, &format!("{cell:?}, source {part}"));
            parts.push(p.backward().x);
        }
        assert!(parts[0].iter().any(|&v| v != 0.0) && parts[1].iter().any(|&v| v != 0.0));
        assert_eq!(parts[2].iter().any(|&v| v != 0.0), cell.has_c());
        let sum = &parts[0] + &parts[1] + &parts[2];
        assert!((sum - full.backward().x).iter().all(|v| v.abs() < 1e-12), "{cell:?}: linear");
    }
}

/// One unit, one input, one step, the gates pushed fully open (1) or shut (0) by their biases,
/// so that the answer can be read off the equation.
fn one_step(cell: Cell, b_ih: &[f64], b_hh: &[f64], w_hh: &[f64], state: State) -> State {
    let rows = cell.gates();
    let layer = Weights {
        w_ih: Array2::from_shape_fn((rows, 1), |(g, _)| [0.3, -0.4, 0.7, 0.2][g]),
        w_hh: Array2::from_shape_fn((rows, 1), |(g, _)| w_hh[g]),
        b_ih: Array1::from(b_ih.to_vec()),
        b_hh: Array1::from(b_hh.to_vec()),
    };
    let x = Array3::from_elem((1, 1, 1), 2.0);
    let run = forward(cell, &[layer], &x, &[state], &[]).unwrap();
    assert_eq!(run.outputs.index_axis(Axis(0), 0), run.finals[0].h, "h is the output");
    run.finals[0].clone()
}

fn state(h: f64, c: Option<f64>) -> State {
    State { h: arr2(&[[h]]), c: c.map(|c| arr2(&[[c]])) }
}

fn assert_close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-14, "got {got}, expected {expected}");
}

#[test]
fn the_lstm_has_its_gates_in_the_order_i_f_g_o() {
    const OPEN: f64 = 1000.0;
    let run = |i: f64, f: f64, o: f64, c0: f64| {
        let s = one_step(
            Cell::Lstm,
            &[i, f, 0.1, o],
            &[0.0, 0.0, 0.25, 0.0],
            &[0.5, 0.5, -0.6, 0.5],
            state(0.5, Some(c0)),
        );
        (s.h[[0, 0]], s.c.unwrap()[[0, 0]])
    };
    // g = tanh(0.7·2 + 0.1 − 0.6·0.5 + 0.25)
    let g = f64::tanh(1.45);
    let (h, c) = run(OPEN, -OPEN, OPEN, 0.9);
    assert_close(c, g);
    assert_close(h, g.tanh());
    let (h, c) = run(-OPEN, OPEN, OPEN, 0.9);
    assert_close(c, 0.9);
    assert_close(h, f64::tanh(0.9));
    let (h, c) = run(OPEN, OPEN, -OPEN, 0.9);
    assert_close(c, 0.9 + g);
    assert_close(h, 0.0);
    // Nothing saturated: i = σ(0.85 + 0.1), f = σ(−0.55 + 0.2), o = σ(0.65 + 0.3).
    let sigma = |a: f64| 1.0 / (1.0 + f64::exp(-a));
    let (h, c) = run(0.1, 0.2, 0.3, -1.7);
    assert_close(c, sigma(-0.35) * -1.7 + sigma(0.95) * g);
    assert_close(h, sigma(0.95) * c.tanh());
}

#[test]
fn the_gru_has_r_z_n_and_resets_after_the_product() {
    const OPEN: f64 = 1000.0;
    let run = |r: f64, z: f64| {
        one_step(Cell::Gru, &[r, z, 0.1], &[0.0, 0.0, 0.25], &[0.5, 0.5, -0.6], state(0.5, None)).h
            [[0, 0]]
    };
    // z open keeps h; shut takes n = tanh(0.7·2 + 0.1 + r·(−0.6·0.5 + 0.25)).
    assert_close(run(OPEN, OPEN), 0.5);
    assert_close(run(-OPEN, OPEN), 0.5);
    assert_close(run(-OPEN, -OPEN), f64::tanh(1.5));
    assert_close(run(OPEN, -OPEN), f64::tanh(1.45));
    let sigma = |a: f64| 1.0 / (1.0 + f64::exp(-a));
    let (r, z) = (sigma(0.85 - 1.2), sigma(-0.55 + 0.9));
    assert_close(run(-1.2, 0.9), (1.0 - z) * f64::tanh(1.5 - 0.05 * r) + z * 0.5);
}

#[test]
fn the_plain_cells_add_both_biases() {
    let run = |cell, b: f64| one_step(cell, &[b], &[0.25], &[-0.6], state(0.5, None)).h[[0, 0]];
    // 0.3·2 + b − 0.6·0.5 + 0.25
    assert_close(run(Cell::RnnTanh, 0.1), f64::tanh(0.65));
    assert_close(run(Cell::RnnRelu, 0.1), 0.65);
    assert_close(run(Cell::RnnRelu, -0.6), 0.0);
}

#[test]
fn the_final_state_carries_a_sequence_on() {
    for cell in CELLS {
        let whole = Problem::new(cell, SMALL, 21);
        let run = whole.forward();
        let mut first = whole.clone();
        first.x = whole.x.slice(s![..3, .., ..]).to_owned();
        let mut second = whole.clone();
        second.x = whole.x.slice(s![3.., .., ..]).to_owned();
        let head = first.forward();
        second.initial = head.finals;
        let tail = second.forward();
        assert_eq!(run.outputs.slice(s![..3, .., ..]), head.outputs);
        assert_eq!(run.outputs.slice(s![3.., .., ..]), tail.outputs);
        for (a, b) in run.finals.iter().zip(&tail.finals) {
            assert_eq!((&a.h, &a.c), (&b.h, &b.c));
        }
        assert_eq!(run.finals[1].h, run.outputs.index_axis(Axis(0), 6));
        assert_eq!(run.finals[0].h.dim(), (3, 5));
    }
}

#[test]
fn batch_rows_do_not_see_one_another() {
    for cell in CELLS {
        let all = Problem::new(cell, Sizes { dropout: true, ..SMALL }, 31);
        let (run, gradients) = (all.forward(), all.backward());
        let mut w_hh = Array2::zeros(all.layers[0].w_hh.dim());
        for b in 0..3 {
            let mut one = all.clone();
            let row = |a: &Array3<f64>| a.slice(s![.., b..=b, ..]).to_owned();
            let row2 = |a: &Array2<f64>| a.slice(s![b..=b, ..]).to_owned();
            let row_of = |s: &State| State { h: row2(&s.h), c: s.c.as_ref().map(row2) };
            one.x = row(&all.x);
            one.dropout = all.dropout.iter().map(row).collect();
            one.d_outputs = row(&all.d_outputs);
            one.initial = all.initial.iter().map(row_of).collect();
            one.d_finals = all.d_finals.iter().map(row_of).collect();
            assert_eq!(row(&run.outputs), one.forward().outputs);
            let g = one.backward();
            assert_eq!(row(&gradients.x), g.x);
            assert_eq!(row2(&gradients.initial[0].h), g.initial[0].h);
            w_hh += &g.layers[0].w_hh;
        }
        let gap = (&w_hh - &gradients.layers[0].w_hh).mapv(f64::abs).sum();
        assert!(gap < 1e-12, "{cell:?}: the weights' gradient is the sum over the rows");
    }
}

#[test]
fn dropout_stands_between_the_layers_and_nowhere_else() {
    for cell in CELLS {
        let mut p = Problem::new(cell, Sizes { hidden: &[4, 4, 4], ..SMALL }, 41);
        let plain = p.forward();
        // All ones change nothing.
        p.dropout = vec![Array3::ones((7, 3, 4)); 2];
        assert_eq!(p.forward().outputs, plain.outputs);
        // Zeros above layer 0: its own state runs on as before; layer 1 sees zeros.
        p.dropout[0].fill(0.0);
        let cut = p.forward();
        assert_eq!(cut.finals[0].h, plain.finals[0].h);
        assert_ne!(cut.finals[1].h, plain.finals[1].h);
        let upper = forward(
            cell,
            &p.layers[1..],
            &Array3::zeros((7, 3, 4)),
            &p.initial[1..],
            &p.dropout[1..],
        );
        assert_eq!(upper.unwrap().outputs, cut.outputs);
        assert!(p.backward().layers[1].w_ih.iter().all(|&v| v == 0.0));
        // Doubling one element is doubling that output of layer 0, at that step and row alone.
        p.dropout[0].fill(1.0);
        p.dropout[0][[6, 2, 1]] = 2.0;
        let outputs = p.forward().outputs;
        assert_eq!(outputs.slice(s![..6, .., ..]), plain.outputs.slice(s![..6, .., ..]));
        assert_eq!(outputs.slice(s![6, ..2, ..]), plain.outputs.slice(s![6, ..2, ..]));
        let relu_may_hide_it = cell == Cell::RnnRelu;
        assert!(relu_may_hide_it || outputs != plain.outputs);
    }
}

#[test]
fn the_gradients_of_a_linear_map_are_the_central_differences() {
    let mut random = Generator(51);
    let (x, w, b) = (random.array((4, 3), 1.0), random.array((5, 3), 1.0), random.array(5, 1.0));
    let d_y: Array2<f64> = random.array((4, 5), 1.0);
    let loss =
        |x: &Array2<f64>, w: &Array2<f64>, b: &Array1<f64>| (linear(x, w, b).unwrap() * &d_y).sum();
    let d = linear_backward(&x, &w, &d_y).unwrap();
    for (at, &got) in d.x.indexed_iter() {
        let numeric = derivative(|h| {
            let mut x = x.clone();
            x[at] += h;
            loss(&x, &w, &b)
        });
        assert_derivative(got, numeric, &format!("x{at:?}"));
    }
    for (at, &got) in d.w.indexed_iter() {
        let numeric = derivative(|h| {
            let mut w = w.clone();
            w[at] += h;
            loss(&x, &w, &b)
        });
        assert_derivative(got, numeric, &format!("w{at:?}"));
    }
    for (at, &got) in d.b.indexed_iter() {
        let numeric = derivative(|h| {
            let mut b = b.clone();
            b[at] += h;
            loss(&x, &w, &b)
        });
        assert_derivative(got, numeric, &format!("b[{at}]"));
    }
    // By hand: [1 2]·[3 4; 5 6; −1 0]ᵀ + [10 20 30]
    let y = linear(&arr2(&[[1.0, 2.0]]), &arr2(&[[3.0, 4.0], [5.0, 6.0], [-1.0, 0.0]]), &{
        arr1(&[10.0, 20.0, 30.0])
    });
    assert_eq!(y.unwrap(), arr2(&[[21.0, 37.0, 29.0]]));
}

#[test]
fn an_embedding_picks_rows_and_its_gradient_adds_them_up() {
    let table = arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]);
    let picked = embedding(&table, &[3, 1, 3]).unwrap();
    assert_eq!(picked, arr2(&[[7.0, 8.0], [3.0, 4.0], [7.0, 8.0]]));
    let d = arr2(&[[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]);
    let d_table = embedding_backward(4, &[3, 1, 3], &d).unwrap();
    assert_eq!(d_table, arr2(&[[0.0, 0.0], [10.0, 20.0], [0.0, 0.0], [101.0, 202.0]]));
    assert!(matches!(embedding(&table, &[4]), Err(Error::Invalid(_))));
    assert!(matches!(embedding_backward(4, &[0], &d), Err(Error::Shape { .. })));
    assert!(matches!(embedding_backward(3, &[0, 3, 1], &d), Err(Error::Invalid(_))));
}

#[test]
fn cross_entropy_is_the_mean_and_its_gradient_the_central_difference() {
    // softmax [1/4, 3/4] and [1/3, 1/3 …]: loss (ln 4/3 + ln 4) / 2.
    let logits = arr2(&[[0.0, f64::ln(3.0)], [f64::ln(3.0), 0.0]]);
    let (loss, d) = softmax_cross_entropy(&logits, &[1, 1]).unwrap();
    assert_close(loss, (f64::ln(4.0 / 3.0) + f64::ln(4.0)) / 2.0);
    for (got, expected) in d.iter().zip([0.125, -0.125, 0.375, -0.375]) {
        assert_close(*got, expected);
    }
    let mut random = Generator(61);
    let logits = random.array((5, 7), 3.0);
    let targets = [0, 6, 3, 3, 1];
    let (_, d) = softmax_cross_entropy(&logits, &targets).unwrap();
    for (at, &got) in d.indexed_iter() {
        let numeric = derivative(|h| {
            let mut logits = logits.clone();
            logits[at] += h;
            softmax_cross_entropy(&logits, &targets).unwrap().0
        });
        assert_derivative(got, numeric, &format!("logits{at:?}"));
    }
    // Large logits don't overflow, and a sure mistake costs its margin.
    let (loss, d) = softmax_cross_entropy(&arr2(&[[1e4, -1e4]]), &[1]).unwrap();
    assert_eq!((loss, d), (2e4, arr2(&[[1.0, -1.0]])));
    assert!(softmax_cross_entropy(&Array2::zeros((0, 3)), &[]).is_err());
    assert!(softmax_cross_entropy(&Array2::zeros((2, 3)), &[0]).is_err());
    assert!(softmax_cross_entropy(&Array2::zeros((2, 3)), &[0, 3]).is_err());
}

/// β = (1/2, 3/4), ε = 2, gradients 2 and 5:
/// step 1: m = 1, v = 1, m̂ = 2, v̂ = 4, direction 2/(2 + 2) = 1/2;
/// step 2: m = 3, v = 7, m̂ = 4, v̂ = 16, direction 4/(4 + 2) = 2/3.
#[test]
fn adam_takes_the_steps_computed_by_hand() {
    let mut adam = Adam::new(0.3, (0.5, 0.75), 2.0, 0.0);
    let mut p = [1.0, -1.0];
    adam.step(&mut p, &[2.0, -2.0]).unwrap();
    assert_close(p[0], 0.85);
    assert_close(p[1], -0.85);
    adam.step(&mut p, &[5.0, -5.0]).unwrap();
    assert_close(p[0], 0.65);
    assert_close(p[1], -0.65);
    // Coupled decay 1/2: the gradients 1.5 + 0.5·1 and 4.575 + 0.5·0.85 are 2 and 5 again.
    let mut adam = Adam::new(0.3, (0.5, 0.75), 2.0, 0.5);
    let mut p = [1.0];
    adam.step(&mut p, &[1.5]).unwrap();
    assert_close(p[0], 0.85);
    adam.step(&mut p, &[4.575]).unwrap();
    assert_close(p[0], 0.65);
    // Decoupled: p·(1 − 0.3·0.5) first: 0.85 − 0.15, then 0.595 − 0.2.
    let mut adamw = AdamW::new(0.3, (0.5, 0.75), 2.0, 0.5);
    let mut p = [1.0];
    adamw.step(&mut p, &[2.0]).unwrap();
    assert_close(p[0], 0.7);
    adamw.step(&mut p, &[5.0]).unwrap();
    assert_close(p[0], 0.395);
    assert!(adamw.step(&mut [0.0; 2], &[0.0; 2]).is_err(), "another length");
    assert!(adam.step(&mut p, &[]).is_err());
}

/// lr 0.1, μ 0.5, λ 0.5: g = 1 + 1, v = 2, p = 1.8; g = 0.1 + 0.9, v = 1 + 1, p = 1.6.
#[test]
fn sgd_takes_the_steps_computed_by_hand() {
    let mut sgd = Sgd::new(0.1, 0.5, 0.5);
    let mut p = [2.0];
    sgd.step(&mut p, &[1.0]).unwrap();
    assert_close(p[0], 1.8);
    sgd.step(&mut p, &[0.1]).unwrap();
    assert_close(p[0], 1.6);
    assert!(sgd.step(&mut [0.0; 2], &[0.0; 2]).is_err());
}

#[test]
fn clipping_scales_all_gradients_by_their_common_norm() {
    let mut grads = [vec![3.0, 0.0], vec![-4.0]];
    assert_eq!(clip_norm(&mut grads, 10.0), 5.0);
    assert_eq!(grads, [vec![3.0, 0.0], vec![-4.0]]);
    assert_eq!(clip_norm(&mut grads, 1.0), 5.0);
    assert_close(grads[0][0], 3.0 / 5.000001);
    assert_close(grads[1][0], -4.0 / 5.000001);
}

#[test]
fn wrong_shapes_are_errors_that_name_the_tensor() {
    let p = Problem::new(Cell::Lstm, Sizes { dropout: true, ..SMALL }, 71);
    let run = p.forward();
    let reject = |change: &dyn Fn(&mut Problem), name: &str| {
        let mut q = p.clone();
        change(&mut q);
        let ahead = forward(q.cell, &q.layers, &q.x, &q.initial, &q.dropout).map(|_| ());
        let back = backward(q.cell, &q.layers, &run, &q.d_outputs, &q.d_finals).map(|_| ());
        let error = ahead.and(back).expect_err(name).to_string();
        assert!(error.contains(name), "'{error}' should name {name}");
    };
    reject(&|q| q.layers.clear(), "layer");
    reject(&|q| q.layers.truncate(1), "how many");
    reject(&|q| q.initial.truncate(1), "initial states");
    reject(&|q| q.x = Array3::zeros((7, 3, 3)), "weight_ih_l0");
    reject(&|q| q.x = Array3::zeros((7, 2, 2)), "initial state, layer 0");
    reject(&|q| q.x = Array3::zeros((6, 3, 2)), "dropout multipliers of layer 0");
    reject(&|q| q.layers[0].w_hh = Array2::zeros((20, 4)), "weight_");
    reject(&|q| q.layers[1].w_hh = Array2::zeros((9, 3)), "weight_hh_l1");
    reject(&|q| q.layers[1].w_ih = Array2::zeros((12, 4)), "weight_ih_l1");
    reject(&|q| q.layers[1].b_ih = Array1::zeros(11), "bias_ih_l1");
    reject(&|q| q.layers[0].b_hh = Array1::zeros(3), "bias_hh_l0");
    reject(&|q| q.initial[1].c = None, "c of the initial state, layer 1");
    reject(&|q| q.initial[0].h = Array2::zeros((3, 4)), "h of the initial state, layer 0");
    reject(&|q| q.dropout.push(q.dropout[0].clone()), "dropout");
    reject(&|q| q.d_outputs = Array3::zeros((7, 3, 5)), "d_outputs");
    reject(&|q| q.d_finals[0].c = None, "c of d_finals, layer 0");
    reject(&|q| q.d_finals.truncate(1), "d_finals");
    reject(&|q| q.d_finals[1].h = Array2::zeros((3, 5)), "h of d_finals, layer 1");
    // Another cell than the forward run's, and a c where there is none.
    let back = backward(Cell::Gru, &p.layers, &run, &p.d_outputs, &p.d_finals);
    assert!(matches!(back, Err(Error::Invalid(_))));
    let mut gru = Problem::new(Cell::Gru, SMALL, 72);
    gru.initial[0].c = Some(Array2::zeros((3, 5)));
    let ahead = forward(gru.cell, &gru.layers, &gru.x, &gru.initial, &[]);
    assert!(matches!(ahead, Err(Error::Shape { .. })));
    // The layers given to backward must be those of the forward run in shape.
    let other = Problem::new(Cell::Lstm, Sizes { hidden: &[4, 3], ..SMALL }, 73);
    assert!(backward(Cell::Lstm, &other.layers, &run, &p.d_outputs, &p.d_finals).is_err());
    assert!(linear(&Array2::zeros((2, 3)), &Array2::zeros((4, 2)), &Array1::zeros(4)).is_err());
    assert!(linear(&Array2::zeros((2, 3)), &Array2::zeros((4, 3)), &Array1::zeros(3)).is_err());
    let d_y = Array2::zeros((2, 3));
    assert!(linear_backward(&Array2::zeros((2, 3)), &Array2::zeros((4, 3)), &d_y).is_err());
}

/// No steps: the state passes through, and so does its gradient.
#[test]
fn an_empty_sequence_is_the_identity_on_the_state() {
    for cell in CELLS {
        let p = Problem::new(cell, Sizes { steps: 0, ..SMALL }, 81);
        let (run, gradients) = (p.forward(), p.backward());
        assert_eq!(run.outputs.dim(), (0, 3, 3));
        for l in 0..2 {
            assert_eq!((&run.finals[l].h, &run.finals[l].c), (&p.initial[l].h, &p.initial[l].c));
            assert_eq!(gradients.initial[l].h, p.d_finals[l].h);
            assert_eq!(gradients.initial[l].c, p.d_finals[l].c);
            assert!(gradients.layers[l].w_hh.iter().all(|&v| v == 0.0));
        }
    }
}
