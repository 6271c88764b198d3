//! What holds for any recurrent network.

use ndarray::{Array2, Array3, Axis, s};
use recurra::oracle::recurrent::{
    Cell, Convolution, CustomCell, Masks, Merge, Options, Padding, StackInput, forward, run,
};
use std::sync::Arc;

use crate::gradients::cells;
use crate::problem::{Case, Variational, both, plain_stack, spec};

fn layer(cell: Cell) -> Case {
    let mut case = Case::one(spec(cell, 4, Options::default()));
    case.sizes = [6, 3, 2];
    case
}

pub fn assert_near<D: ndarray::Dimension>(
    a: &ndarray::Array<f64, D>,
    b: &ndarray::Array<f64, D>,
    bound: f64,
    what: &str,
) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    let gap = (a - b)
        .iter()
        .fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d.abs()) });
    assert!(gap <= bound, "{what}: {gap} apart");
}

#[test]
fn the_final_state_carries_a_sequence_on() {
    for cell in cells() {
        let mut case = layer(cell);
        case.stack.layers.push(case.stack.layers[0].clone());
        let input = case.input(21);
        let whole = forward(&case.stack, &input).unwrap();
        let part = |range: std::ops::Range<usize>| {
            let mut part = input.clone();
            part.x = input.x.slice(s![range.clone(), .., ..]).to_owned();
            part.d_output = input.d_output.slice(s![range, .., ..]).to_owned();
            part
        };
        let head = forward(&case.stack, &part(0..2)).unwrap();
        let mut rest = part(2..6);
        rest.initial = head.finals;
        let tail = forward(&case.stack, &rest).unwrap();
        assert_eq!(whole.output.slice(s![..2, .., ..]), head.output);
        assert_eq!(whole.output.slice(s![2.., .., ..]), tail.output);
        assert_eq!(whole.finals, tail.finals);
        assert_eq!(whole.finals[1][0][0], whole.output.index_axis(Axis(0), 5));
    }
}

/// Rows of their own lengths are runs of those lengths; nothing flows into what is past the end.
#[test]
fn a_row_with_a_length_is_a_shorter_run() {
    for cell in cells() {
        for reverse in [false, true] {
            let mut case = layer(cell.clone());
            case.stack.layers[0][0].options.reverse = reverse;
            case.stack.padding = Padding::Value(-7.5);
            let mut input = case.input(22);
            let lengths = [6, 0, 4];
            let valid = Array2::from_shape_fn((6, 3), |(t, b)| t < lengths[b]);
            input.masks[0][0].valid = Some(valid);
            let all = run(&case.stack, &input).unwrap();
            for (b, &length) in lengths.iter().enumerate() {
                let one = run(&case.stack, &row(&input, b, 0..length)).unwrap();
                let output = all.output.slice(s![..length, b..=b, ..]).to_owned();
                assert_near(&output, &one.output, 1e-14, "output");
                assert!(all.output.slice(s![length.., b, ..]).iter().all(|&v| v == -7.5));
                let d_x = all.d_x.slice(s![..length, b..=b, ..]).to_owned();
                assert_near(&d_x, &one.d_x, 1e-13, "d_x");
                assert!(all.d_x.slice(s![length.., b, ..]).iter().all(|&v| v == 0.0));
                for (s, state) in all.finals[0][0].iter().enumerate() {
                    let state = state.slice(s![b..=b, ..]).to_owned();
                    assert_near(&state, &one.finals[0][0][s], 1e-14, "final");
                    let d = all.d_initial[0][0][s].slice(s![b..=b, ..]).to_owned();
                    assert_near(&d, &one.d_initial[0][0][s], 1e-13, "d_initial");
                    if length == 0 {
                        assert_eq!(state, input.initial[0][0][s].slice(s![b..=b, ..]));
                        assert_eq!(d, input.d_finals[0][0][s].slice(s![b..=b, ..]));
                    }
                }
            }
        }
    }
}

/// Row b alone, some of its steps, without masks.
fn row(input: &StackInput, b: usize, steps: std::ops::Range<usize>) -> StackInput {
    let mut one = input.clone();
    let states = |all: &Vec<Vec<Vec<Array2<f64>>>>| {
        let mut all = all.clone();
        let every = all.iter_mut().flatten().flatten();
        every.for_each(|state| *state = state.slice(s![b..=b, ..]).to_owned());
        all
    };
    one.x = input.x.slice(s![steps.clone(), b..=b, ..]).to_owned();
    one.d_output = input.d_output.slice(s![steps, b..=b, ..]).to_owned();
    (one.initial, one.d_finals) = (states(&input.initial), states(&input.d_finals));
    one.masks.iter_mut().flatten().for_each(|masks| *masks = Masks::default());
    one
}

#[test]
fn a_reset_is_a_new_start() {
    for cell in cells() {
        let case = layer(cell);
        let mut input = case.input(23);
        let mut resets = Array2::from_elem((6, 3), false);
        resets[[2, 1]] = true;
        input.masks[0][0].resets = Some(resets);
        let all = run(&case.stack, &input).unwrap();
        let mut anew = row(&input, 1, 2..6);
        anew.initial[0][0].iter_mut().for_each(|state| state.fill(0.0));
        let one = run(&case.stack, &anew).unwrap();
        let output = all.output.slice(s![2.., 1..=1, ..]).to_owned();
        assert_near(&output, &one.output, 1e-14, "output");
        let d_x = all.d_x.slice(s![2.., 1..=1, ..]).to_owned();
        assert_near(&d_x, &one.d_x, 1e-13, "d_x");
        // The other rows go on.
        let other = run(&case.stack, &row(&input, 2, 0..6)).unwrap();
        let output = all.output.slice(s![.., 2..=2, ..]).to_owned();
        assert_near(&output, &other.output, 1e-14, "another row");
    }
}

#[test]
fn two_directions_are_two_runs() {
    for cell in cells() {
        let two = both(spec(cell, 3, Options::default()));
        let mut case = Case::of(plain_stack(vec![two]), [5, 2, 3]);
        let input = case.input(24);
        let single = |d: usize| {
            let mut one = case.clone();
            one.stack.layers[0] = vec![case.stack.layers[0][d].clone()];
            let mut part = one.input(0);
            part.x = input.x.clone();
            part.weights[0] = vec![input.weights[0][d].clone()];
            part.initial[0] = vec![input.initial[0][d].clone()];
            if d == 1 {
                // Backward is forward over the reversed sequence.
                one.stack.layers[0][0].options.reverse = false;
                part.x.invert_axis(Axis(0));
            }
            let mut run = forward(&one.stack, &part).unwrap();
            if d == 1 {
                run.output.invert_axis(Axis(0));
            }
            assert_eq!(forward(&case.stack, &input).unwrap().finals[0][d], run.finals[0][0]);
            run.output
        };
        let (a, b) = (single(0), single(1));
        for (merge, want) in [
            (Merge::Concat, ndarray::concatenate![Axis(2), a, b]),
            (Merge::Sum, &a + &b),
            (Merge::Mul, &a * &b),
            (Merge::Average, (&a + &b) / 2.0),
        ] {
            case.stack.merge = merge;
            let mut input = input.clone();
            input.d_output = Array3::zeros(want.dim());
            assert_eq!(forward(&case.stack, &input).unwrap().output, want, "{merge:?}");
        }
    }
}

#[test]
fn masks_of_ones_and_zeros_say_what_they_mean() {
    for cell in cells() {
        let mut case = layer(cell);
        case.stack.layers.push(case.stack.layers[0].clone());
        let plain = case.input(25);
        let run = |input: &StackInput| forward(&case.stack, input).unwrap();
        let want = run(&plain).output;
        // A mask of ones, shared or for each gate, a zoneout of zeros, rows that are all valid.
        let mut input = plain.clone();
        for (masks, spec) in
            input.masks.iter_mut().flatten().zip(case.stack.layers.iter().flatten())
        {
            if spec.recurrent() {
                masks.recurrent = vec![Array2::ones((3, 4)); spec.gates()];
            }
            let widths = spec.state_widths();
            masks.zoneout = widths.iter().map(|&w| Some(Array2::zeros((18, w)))).collect();
            masks.valid = Some(Array2::from_elem((6, 3), true));
            masks.resets = Some(Array2::from_elem((6, 3), false));
        }
        input.between[1] = Some(Array3::ones((6, 3, 4)));
        assert_near(&run(&input).output, &want, 1e-14, "ones");
        // A zoneout of ones keeps the initial state.
        for z in input.masks[1][0].zoneout.iter_mut().flatten() {
            z.fill(1.0);
        }
        let kept = run(&input);
        assert_eq!(kept.finals[1][0], plain.initial[1][0]);
        // Zeros between the layers: the lower one runs on, the upper one sees nothing.
        let mut input = plain.clone();
        input.between[1] = Some(Array3::zeros((6, 3, 4)));
        let cut = run(&input);
        assert_eq!(cut.finals[0], run(&plain).finals[0]);
        assert_ne!(cut.finals[1], run(&plain).finals[1]);
        input.weights[1][0].get_mut("weight_ih").unwrap().fill(0.0);
        assert_eq!(run(&input).output, cut.output);
    }
}

#[test]
fn rows_of_a_batch_do_not_see_one_another() {
    for cell in cells() {
        let case = layer(cell);
        let input = case.input(26);
        let all = run(&case.stack, &input).unwrap();
        let mut sum = Array2::<f64>::zeros(all.d_weights[0][0]["weight_ih"].dim());
        for b in 0..3 {
            let one = run(&case.stack, &row(&input, b, 0..6)).unwrap();
            assert_near(&all.output.slice(s![.., b..=b, ..]).to_owned(), &one.output, 1e-14, "y");
            assert_near(&all.d_x.slice(s![.., b..=b, ..]).to_owned(), &one.d_x, 1e-13, "d_x");
            sum += &one.d_weights[0][0]["weight_ih"];
        }
        assert_near(&sum, &all.d_weights[0][0]["weight_ih"], 1e-12, "d_weight_ih");
    }
}

/// Each layer alone, put together by hand.
#[test]
fn a_stack_is_its_layers_one_after_the_other() {
    for (residual, skip) in [(false, false), (true, false), (false, true), (true, true)] {
        let one = |hidden| vec![spec(Cell::Gru, hidden, Options::default())];
        // The last layer is of another width: it adds nothing.
        let mut case = Case::of(plain_stack(vec![one(4), one(4), one(6)]), [5, 3, 2]);
        (case.stack.residual, case.stack.skip, case.dropout) = (residual, skip, true);
        case.stack.padding = Padding::Repeat;
        let input = case.input(32);
        let mut seen = input.x.clone();
        for l in 0..3 {
            let below = match skip && l > 0 {
                true => ndarray::concatenate![Axis(2), input.x, seen],
                false => seen.clone(),
            };
            let alone = plain_stack(vec![case.stack.layers[l].clone()]);
            let single = StackInput {
                x: &below * input.between[l].as_ref().unwrap(),
                weights: vec![input.weights[l].clone()],
                initial: vec![input.initial[l].clone()],
                masks: vec![input.masks[l].clone()],
                between: vec![None],
                weight_drop: vec![vec![None]],
                d_output: Array3::zeros((5, 3, alone.width(0))),
                d_finals: vec![input.initial[l].clone()],
            };
            let output = forward(&alone, &single).unwrap().output;
            let added = residual && l > 0 && seen.dim() == output.dim();
            assert_eq!(added, residual && l == 1, "both kinds are here");
            seen = if added { &output + &seen } else { output };
        }
        assert_eq!(forward(&case.stack, &input).unwrap().output, seen);
    }
}

/// sLSTM: where n is 0 its m says nothing, in value and in gradient, and neither does its f.
#[test]
fn an_empty_slstm_state_has_no_m() {
    let case = layer(Cell::SLstm);
    let mut input = case.input(33);
    let states = &mut input.initial[0][0];
    states[1].row_mut(1).fill(0.0);
    states[2].row_mut(1).fill(0.0);
    let result = run(&case.stack, &input).unwrap();
    assert!(result.d_initial[0][0][3].row(1).iter().all(|&d| d == 0.0));
    assert!(result.d_initial[0][0][3].row(0).iter().any(|&d| d != 0.0));
    input.initial[0][0][3].row_mut(1).fill(1e6);
    assert_eq!(forward(&case.stack, &input).unwrap().output, result.output);
}

/// What a conformance run needs to be quick at.
#[test]
fn large_layers_take_no_minutes() {
    for (hidden, depth, steps, inputs) in [(257, 1, 7, 33), (33, 2, 64, 33)] {
        let one = vec![spec(Cell::Lstm, hidden, Options::default())];
        let mut case = Case::of(plain_stack(vec![one; depth]), [steps, 3, inputs]);
        case.scale = 0.1;
        let input = case.input(34);
        let start = std::time::Instant::now();
        assert!(run(&case.stack, &input).is_ok());
        let took = start.elapsed();
        println!("H = {hidden}, T = {steps}: {took:?}");
        assert!(took.as_secs() < 20, "{took:?}");
    }
}

/// The recurrent weights of three heads of two units, with their zeros; a column is an element of h
/// and a tap.
fn unfold(blocks: &Array2<f64>, taps: usize) -> Array2<f64> {
    Array2::from_shape_fn((blocks.nrows(), 6 * taps), |(row, column)| {
        let (p, tap) = (column / taps, column % taps);
        if row % 6 / 2 == p / 2 { blocks[[row, p % 2 * taps + tap]] } else { 0.0 }
    })
}

/// Heads are a dense layer with zeros; a kernel of one tap is a layer over all places.
#[test]
fn some_options_are_special_cases_of_none() {
    for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru, Cell::GruResetBefore, Cell::SLstm] {
        let headed = Case::one(spec(cell.clone(), 6, Options { heads: 3, ..Options::default() }));
        let mut input = headed.input(27);
        let want = forward(&headed.stack, &input).unwrap().output;
        let blocks = input.weights[0][0]["weight_hh"].clone();
        input.weights[0][0].insert("weight_hh".into(), unfold(&blocks, 1));
        let dense = Case::one(spec(cell.clone(), 6, Options::default()));
        assert_near(&forward(&dense.stack, &input).unwrap().output, &want, 1e-15, "heads");

        // Of a convolution each head's channels hear their own channels alone.
        let plane = Convolution { height: 2, width: 3, kernel_height: 3, kernel_width: 1 };
        let usual = || Options { convolution: Some(plane), ..Options::default() };
        let headed = Case::one(spec(cell.clone(), 6, Options { heads: 3, ..usual() }));
        let mut input = headed.input(29);
        let want = forward(&headed.stack, &input).unwrap().output;
        let blocks = input.weights[0][0]["weight_hh"].clone();
        input.weights[0][0].insert("weight_hh".into(), unfold(&blocks, plane.taps()));
        let dense = Case::one(spec(cell, 6, usual()));
        assert_near(&forward(&dense.stack, &input).unwrap().output, &want, 1e-15, "channels");
    }
    let one_tap = Convolution { height: 2, width: 3, kernel_height: 1, kernel_width: 1 };
    for cell in cells() {
        let options = Options { convolution: Some(one_tap), ..Options::default() };
        let places = Case::one(spec(cell.clone(), 4, options));
        let input = places.input(28);
        let rows = Case::of(plain_stack(vec![vec![spec(cell, 4, Options::default())]]), [4, 12, 3]);
        let (a, b) = (forward(&places.stack, &input), forward(&rows.stack, &input));
        assert_eq!(a.unwrap().output, b.unwrap().output);
    }
}

/// A GRU given as code.
#[derive(Debug)]
struct CodedGru;

impl CustomCell for CodedGru {
    fn gates(&self) -> usize {
        3
    }

    fn states(&self) -> usize {
        1
    }

    fn forward(&self, x: &[f64], r: &[f64], old: &[f64], new: &mut [f64]) {
        let sigma = |a: f64| 1.0 / (1.0 + (-a).exp());
        let (reset, z) = (sigma(x[0] + r[0]), sigma(x[1] + r[1]));
        new[0] = (1.0 - z) * (x[2] + reset * r[2]).tanh() + z * old[0];
    }
}

#[test]
fn a_users_gru_is_the_gru() {
    let mut built_in = Case::one(spec(Cell::Gru, 4, Options::default()));
    (built_in.valid, built_in.zoneout) = (true, true);
    built_in.variational = Variational::PerGate;
    let mut coded = built_in.clone();
    coded.stack.layers[0][0].cell = Cell::Custom(Arc::new(CodedGru));
    let input = built_in.input(29);
    let (a, b) = (run(&built_in.stack, &input).unwrap(), run(&coded.stack, &input).unwrap());
    assert_near(&a.output, &b.output, 1e-15, "output");
    assert_near(&a.d_x, &b.d_x, 1e-9, "d_x");
    for (name, d) in &a.d_weights[0][0] {
        assert_near(d, &b.d_weights[0][0][name], 1e-8, name);
    }
}

#[test]
fn an_empty_sequence_is_the_identity_on_the_state() {
    for cell in cells() {
        for batch_norm in [None, Some(1e-3)] {
            let mut case = layer(cell.clone());
            case.stack.layers[0][0].options.batch_norm = batch_norm;
            case.sizes = [0, 3, 2];
            let input = case.input(30);
            let result = run(&case.stack, &input).unwrap();
            assert_eq!(result.output.dim(), (0, 3, 4));
            assert_eq!(result.d_x.dim(), (0, 3, 2));
            assert_eq!(result.finals, input.initial);
            assert_eq!(result.d_initial, input.d_finals);
            assert!(result.d_weights[0][0].values().flatten().all(|&v| v == 0.0));
        }
    }
}
