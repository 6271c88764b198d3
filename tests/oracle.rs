//! The float64 oracle's losses, linear maps and optimizers against the definition of a derivative
//! and hand-computed answers. (`oracle_recurrent` has the recurrent layers; `goldens_oracle.rs`
//! compares both with PyTorch.)

mod common;

use common::random::Generator;
use ndarray::{Array1, Array2, arr1, arr2};
use recurra::Error;
use recurra::oracle::{
    Adam, AdamW, Sgd, clip_norm, embedding, embedding_backward, linear, linear_backward,
    softmax_cross_entropy,
};

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

fn assert_close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-14, "got {got}, expected {expected}");
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
fn wrong_shapes_of_a_linear_map_are_errors() {
    assert!(linear(&Array2::zeros((2, 3)), &Array2::zeros((4, 2)), &Array1::zeros(4)).is_err());
    assert!(linear(&Array2::zeros((2, 3)), &Array2::zeros((4, 3)), &Array1::zeros(3)).is_err());
    let d_y = Array2::zeros((2, 3));
    assert!(linear_backward(&Array2::zeros((2, 3)), &Array2::zeros((4, 3)), &d_y).is_err());
}
