//! Values computed by hand: activations, batch norm, convolutions, borders.

use ndarray::{Array2, Array3, Axis, arr2, s};
use recurra::oracle::recurrent::{Activation, Cell, Convolution, Options, forward, run};

use crate::problem::{Case, spec};

pub fn sigma(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

pub fn assert_close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() < 1e-12 * (1.0 + want.abs()), "{what}: got {got}, not {want}");
}

/// Each at −0.5 and at 2, from ONNX's table.
#[test]
fn activations_by_hand() {
    let (alpha, beta) = (0.4, 0.3);
    let values = [
        (Activation::Relu, 0.0, 2.0),
        (Activation::Tanh, -0.46211715726000976, 0.9640275800758169),
        (Activation::Sigmoid, 0.3775406687981454, 0.8807970779778823),
        (Activation::Affine { alpha, beta }, 0.1, 1.1),
        (Activation::LeakyRelu { alpha }, -0.2, 2.0),
        (Activation::ThresholdedRelu { alpha }, 0.0, 2.0),
        (Activation::ThresholdedRelu { alpha: -0.6 }, -0.5, 2.0),
        (Activation::ScaledTanh { alpha, beta: 2.0 }, -0.3046376623823084, 0.3997317198956169),
        (Activation::HardSigmoid { alpha, beta }, 0.1, 1.0),
        (Activation::HardSigmoid { alpha: 1.0, beta: 0.0 }, 0.0, 1.0),
        (Activation::Elu { alpha }, -0.1573877361149467, 2.0),
        (Activation::Softsign, -1.0 / 3.0, 2.0 / 3.0),
        (Activation::Softplus, 0.4740769841801067, 2.1269280110429727),
        (Activation::Identity, -0.5, 2.0),
    ];
    for (activation, low, high) in values {
        let tape = recurra::oracle::tape::Tape::new();
        let y = activation.of(tape.input(arr2(&[[-0.5, 2.0]]))).value();
        assert_close(y[[0, 0]], low, &format!("{activation:?}"));
        assert_close(y[[0, 1]], high, &format!("{activation:?}"));
    }
}

/// μ and v over the rows that are valid, and the output from them.
#[test]
fn batch_norm_by_hand() {
    let options = Options { batch_norm: Some(1e-2), ..Options::default() };
    let mut case = Case::one(spec(Cell::MinGru, 2, options));
    case.sizes = [5, 3, 2];
    case.valid = true;
    let mut input = case.input(3);
    let valid = input.masks[0][0].valid.clone().unwrap();
    assert!(valid.iter().any(|v| !v));
    let w = input.weights[0][0].clone();
    let mut products: Vec<Vec<f64>> = vec![];
    for ((t, b), _) in valid.indexed_iter().filter(|(_, valid)| **valid) {
        let x = input.x.slice(s![t, b, ..]).to_owned();
        products.push(w["weight_ih"].dot(&x).to_vec());
    }
    let statistics: Vec<(f64, f64)> = (0..4)
        .map(|k| {
            let mean = products.iter().map(|p| p[k]).sum::<f64>() / products.len() as f64;
            let squares = products.iter().map(|p| (p[k] - mean).powi(2)).sum::<f64>();
            (mean, squares / products.len() as f64)
        })
        .collect();
    let run = forward(&case.stack, &input).unwrap();
    let [mean, variance] = run.statistics[0][0].as_ref().unwrap();
    for (k, &(m, v)) in statistics.iter().enumerate() {
        assert_close(mean[[0, k]], m, "mean");
        assert_close(variance[[0, k]], v, "variance");
    }
    // The first step of row 0.
    let a = |k: usize| {
        let (mean, variance) = statistics[k];
        let normal = (products[0][k] - mean) / (variance + 1e-2).sqrt();
        w["batch_norm_weight"][[0, k]] * normal + w["bias_ih"][[0, k]]
    };
    for j in 0..2 {
        let z = sigma(a(j));
        let want = (1.0 - z) * input.initial[0][0][0][[0, j]] + z * a(2 + j);
        assert_close(run.output[[0, 0, j]], want, "output");
    }
    // With the averages given, the same; and other rows don't matter any more.
    let averages = [("batch_norm_mean", mean), ("batch_norm_variance", variance)];
    for (name, value) in averages {
        input.weights[0][0].insert(name.into(), value.clone());
    }
    let again = forward(&case.stack, &input).unwrap();
    assert_eq!(again.output, run.output);
    input.x.slice_mut(s![.., 1.., ..]).fill(7.0);
    let other = forward(&case.stack, &input).unwrap();
    assert_eq!(other.output.index_axis(Axis(1), 0), run.output.index_axis(Axis(1), 0));
}

/// Both products as sums over the taps.
#[test]
fn convolutions_by_hand() {
    let maps = [(1, 5, 1, 3), (1, 4, 1, 5), (3, 2, 3, 3), (4, 3, 1, 3), (2, 3, 5, 1)];
    for (seed, (height, width, kernel_height, kernel_width)) in maps.into_iter().enumerate() {
        let convolution = Convolution { height, width, kernel_height, kernel_width };
        let options = Options { convolution: Some(convolution), ..Options::default() };
        let mut case = Case::one(spec(Cell::Rnn, 2, options));
        case.sizes[0] = 1;
        let input = case.input(seed as u64);
        let run = forward(&case.stack, &input).unwrap();
        let w = &input.weights[0][0];
        let taps = kernel_height * kernel_width;
        // Σ over channels and taps of weight·map, for one output channel at (y, x) of a map.
        let sum = |name: &str, from: &Array2<f64>, row: usize, [map, y, x]: [usize; 3]| {
            let mut sum = 0.0;
            for c in 0..from.ncols() {
                for i in 0..kernel_height as isize {
                    for j in 0..kernel_width as isize {
                        let v = y as isize + i - (kernel_height as isize - 1) / 2;
                        let u = x as isize + j - (kernel_width as isize - 1) / 2;
                        if v < 0 || u < 0 || v >= height as isize || u >= width as isize {
                            continue;
                        }
                        let tap = (i * kernel_width as isize + j) as usize;
                        let place = map * height * width + v as usize * width + u as usize;
                        sum += w[name][[row, c * taps + tap]] * from[[place, c]];
                    }
                }
            }
            sum
        };
        let x0 = input.x.index_axis(Axis(0), 0).to_owned();
        for (place, row) in run.output.index_axis(Axis(0), 0).outer_iter().enumerate() {
            let at = [place / (height * width), place % (height * width) / width, place % width];
            for (c, &got) in row.iter().enumerate() {
                let a = sum("weight_ih", &x0, c, at)
                    + sum("weight_hh", &input.initial[0][0][0], c, at)
                    + w["bias_ih"][[0, c]]
                    + w["bias_hh"][[0, c]];
                assert_close(got, a.tanh(), &format!("{convolution:?} at {at:?}"));
            }
        }
    }
}

/// 2·1 = 2 is on the border of a clip of 2: the value is 2, the slope 0.
#[test]
fn on_a_border_the_slope_is_that_of_the_outside() {
    let options = Options {
        activations: Some(vec![Activation::Identity]),
        clip: Some(2.0),
        ..Options::default()
    };
    let mut case = Case::one(spec(Cell::Rnn, 1, options));
    case.sizes = [1, 1, 1];
    let mut input = case.input(1);
    for (name, value) in
        [("weight_ih", 2.0), ("weight_hh", 0.0), ("bias_ih", 0.0), ("bias_hh", 0.0)]
    {
        input.weights[0][0].insert(name.into(), arr2(&[[value]]));
    }
    input.d_finals[0][0][0].fill(0.0);
    input.d_output.fill(1.0);
    for (x, y, slope) in [(1.0, 2.0, 0.0), (-1.0, -2.0, 0.0), (0.9, 1.8, 2.0), (3.0, 2.0, 0.0)] {
        input.x = Array3::from_elem((1, 1, 1), x);
        let result = run(&case.stack, &input).unwrap();
        assert_eq!((result.output[[0, 0, 0]], result.d_x[[0, 0, 0]]), (y, slope), "x = {x}");
    }
}
