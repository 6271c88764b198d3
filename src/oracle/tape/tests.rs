//! Every operation against central differences.

use ndarray::{Array2, Axis, arr2};

use super::{Node, Tape};

/// An irregular matrix with elements within ±1.1, none nearer to 0 than 0.1.
fn matrix(seed: usize, rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(r, c)| {
        let v = ((seed * 31 + r * 7 + c * 13) as f64 * 0.7312).sin();
        v + 0.1 * v.signum()
    })
}

/// Compares the gradients of `f` with respect to `inputs` with five-point differences.
fn check(name: &str, inputs: &[Array2<f64>], f: impl for<'t> Fn(&[Node<'t>]) -> Node<'t>) {
    let loss = |inputs: &[Array2<f64>]| {
        let tape = Tape::new();
        let nodes: Vec<_> = inputs.iter().map(|x| tape.input(x.clone())).collect();
        let y = f(&nodes).value();
        (&*y * &matrix(99, y.nrows(), y.ncols())).sum()
    };
    let tape = Tape::new();
    let nodes: Vec<_> = inputs.iter().map(|x| tape.input(x.clone())).collect();
    let y = f(&nodes);
    let gradients = tape.backward(&[(y, matrix(99, y.height(), y.width()))]).unwrap();
    for (k, &node) in nodes.iter().enumerate() {
        for (at, &got) in gradients.of(node).indexed_iter() {
            let h = 1e-3;
            let moved = |step: f64| {
                let mut inputs = inputs.to_vec();
                inputs[k][at] += step;
                loss(&inputs)
            };
            let near = moved(h) - moved(-h);
            let want = (8.0 * near - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h);
            let bound = 1e-8 * want.abs() + 1e-9;
            assert!((got - want).abs() < bound, "{name}, input {k} {at:?}: {got}, not {want}");
        }
    }
}

#[test]
fn arithmetic() {
    let shapes = [(3, 4), (1, 4), (3, 1), (1, 1)];
    for (k, a) in shapes.into_iter().enumerate() {
        for (l, b) in shapes.into_iter().enumerate() {
            if k.min(l) > 0 && k != l {
                continue;
            }
            let inputs = [matrix(1, a.0, a.1), matrix(2, b.0, b.1)];
            check("add", &inputs, |x| x[0] + x[1]);
            check("sub", &inputs, |x| x[0] - x[1]);
            check("mul", &inputs, |x| x[0] * x[1]);
            let far = [inputs[0].clone(), inputs[1].mapv(|v| v + 2.0 * v.signum())];
            check("div", &far, |x| x[0] / x[1]);
        }
    }
    check("mul by itself", &[matrix(3, 2, 3)], |x| x[0] * x[0]);
    check("matmul", &[matrix(4, 3, 4), matrix(5, 4, 2)], |x| x[0].matmul(x[1]));
    check("a·bᵀ", &[matrix(4, 3, 4), matrix(5, 2, 4)], |x| x[0].matmul_transposed(x[1]));
    check("a·aᵀ", &[matrix(4, 3, 4)], |x| x[0].matmul_transposed(x[0]));
}

#[test]
fn functions_by_element() {
    let x = [matrix(6, 3, 5).mapv(|v| 2.0 * v)];
    check("sigmoid", &x, |x| x[0].sigmoid());
    check("tanh", &x, |x| x[0].tanh());
    check("exp", &x, |x| x[0].exp());
    check("log_sigmoid", &x, |x| x[0].log_sigmoid());
    check("sqrt", &[x[0].mapv(|v| v * v + 0.5)], |x| x[0].sqrt());
    check("scale", &x, |x| x[0].scale(-1.7));
    check("offset", &x, |x| x[0].offset(0.3).tanh());
    check("complement", &x, |x| x[0].complement().tanh());
    check("clamp", &x, |x| x[0].clamp(0.9));
    check("max", &[x[0].clone(), matrix(7, 3, 5)], |x| x[0].max(x[1]));
}

#[test]
fn parts() {
    let x = [matrix(8, 4, 6), matrix(9, 4, 2), matrix(10, 3, 6)];
    check("columns", &x, |x| x[0].columns(1..4));
    check("rows", &x, |x| x[0].rows(2..3));
    check("beside", &x, |x| Node::concat(Axis(1), &[x[0], x[1], x[0]]));
    check("below", &x, |x| Node::concat(Axis(0), &[x[2], x[0]]));
    let map = [Some(3), None, Some(3), Some(23), Some(0), None];
    check("gather", &x, |x| x[0].gather([2, 3], map.into()));
    check("sum of rows", &x, |x| x[0].sum(Axis(0)).tanh());
    check("sum of columns", &x, |x| x[0].sum(Axis(1)).tanh());
    let mask = arr2(&[[true], [false], [true], [true]]);
    check("choose rows", &x[..1], |x| x[0].choose(&mask, x[0].tanh()));
    check("keep", &x[..1], |x| x[0].keep(&mask));
    let mask = x[0].mapv(|v| v > 0.0);
    check("choose", &[x[0].clone(), matrix(11, 4, 6)], |x| x[0].choose(&mask, x[1]));
    check("normalize", &x[..1], |x| x[0].normalize_rows(0.1));
    let mask = arr2(&[[true], [false], [true], [true]]);
    check("statistics", &x[..1], |x| {
        let [mean, variance] = x[0].column_statistics(&mask);
        (x[0] - mean) / variance.offset(1e-2).sqrt()
    });
}

#[test]
fn a_function_given_as_code() {
    let x = [matrix(12, 2, 3), matrix(13, 2, 3)];
    check("local", &x, |x| {
        let y = x[0].tape().local(x, 2, |x, y| {
            y[0] = x[0] * x[1].tanh();
            y[1] = x[0].exp();
        });
        y[0] + y[1].scale(0.3)
    });
}

#[test]
fn values_by_hand() {
    let tape = Tape::new();
    let x = tape.input(arr2(&[[1.0, 2.0, 6.0]]));
    // Mean 3, deviations −2, −1, 3, variance 14/3; with ε = 4/3 the root is √6.
    let n = x.normalize_rows(4.0 / 3.0).value();
    let want = arr2(&[[-2.0, -1.0, 3.0]]) / 6.0_f64.sqrt();
    assert!((&*n - &want).iter().all(|d| d.abs() < 1e-15));
    let rows = tape.input(arr2(&[[1.0], [f64::NAN], [4.0]]));
    let mask = arr2(&[[true], [false], [true]]);
    let [mean, variance] = rows.column_statistics(&mask);
    assert_eq!((mean.value()[[0, 0]], variance.value()[[0, 0]]), (2.5, 2.25));
    assert_eq!(*x.clamp(2.0).value(), arr2(&[[1.0, 2.0, 2.0]]));
    assert_eq!(tape.margin(), 0.0, "an element on the border");
    assert_eq!(*x.gather([1, 2], [Some(2), None].into()).value(), arr2(&[[6.0, 0.0]]));
    // Far out, without overflow.
    let far = tape.input(arr2(&[[-1e4, 1e4]]));
    assert_eq!(*far.log_sigmoid().value(), arr2(&[[-1e4, 0.0]]));
    assert_eq!(*far.sigmoid().value(), arr2(&[[0.0, 1.0]]));
}

#[test]
fn gradients_of_what_the_seeds_do_not_depend_on_are_zero() {
    let tape = Tape::new();
    let (x, unused) = (tape.input(matrix(1, 2, 3)), tape.input(matrix(2, 3, 3)));
    let y = x.tanh();
    assert!(tape.backward(&[(y, Array2::zeros((3, 2)))]).is_err(), "a seed of another shape");
    let seed = matrix(3, 2, 3);
    let twice = tape.backward(&[(y, seed.clone()), (y, seed.clone())]).unwrap();
    let once = tape.backward(&[(y, seed)]).unwrap();
    assert_eq!(once.of(unused), Array2::<f64>::zeros((3, 3)));
    assert_eq!(twice.of(x), 2.0 * once.of(x), "seeds add up");
}

#[test]
fn elements_near_a_border_can_be_put_across_it() {
    let slopes = |crossing: f64| {
        let tape = Tape::across(crossing);
        let x = tape.input(arr2(&[[1.0 - 1e-7, 1.0 + 1e-7, 0.999, -1.0 + 1e-7]]));
        let y = tape.input(arr2(&[[1.0, 1.0, 0.0, 0.0]]));
        let ones = Array2::ones((1, 4));
        let clamped = tape.backward(&[(x.clamp(1.0), ones.clone())]).unwrap().of(x);
        (clamped, tape.backward(&[(x.max(y), ones)]).unwrap().of(x))
    };
    let own = (arr2(&[[1.0, 0.0, 1.0, 1.0]]), arr2(&[[0.0, 1.0, 1.0, 0.0]]));
    assert_eq!(slopes(0.0), own);
    assert_eq!(slopes(5e-8), own);
    assert_eq!(slopes(2e-7), (arr2(&[[0.0, 1.0, 1.0, 0.0]]), arr2(&[[1.0, 0.0, 1.0, 0.0]])));
}

/// What rounding can't know is what a sum that cancels, and a slope that is told from a stored value, may be off by; what
/// was put in stays, and so does every other tape.
#[test]
fn rounding_moves_what_is_computed() {
    let unit = 1e-6;
    let run = |tape: &Tape| {
        let [large, small] = [1e3, 1e-3].map(|x| tape.scalar(x));
        let rest = (large + small) - large;
        let steep = tape.scalar(5.0).map(f64::tanh, |_, y| 1.0 - y * y);
        let one = Array2::ones((1, 1));
        let slope =
            |node: Node, of: Node| tape.backward(&[(of, one.clone())]).unwrap().of(node)[[0, 0]];
        let input = tape.scalar(5.0);
        let again = input.map(f64::tanh, |_, y| 1.0 - y * y);
        [large.value()[[0, 0]], rest.value()[[0, 0]], steep.value()[[0, 0]], slope(input, again)]
    };
    let want = run(&Tape::new());
    assert_eq!(run(&Tape::rounding(0.0, 1)), want);
    let runs: Vec<_> = (0..20).map(|seed| run(&Tape::rounding(unit, seed))).collect();
    let apart = |i: usize| runs.iter().fold(0f64, |most, run| most.max((run[i] - want[i]).abs()));
    assert_eq!(apart(0), 0.0);
    assert!(apart(1) > 0.5 * unit * 1e3 && apart(1) < 2.0 * unit * 1e3, "{}", apart(1));
    assert!(apart(2) > 0.5 * unit && apart(2) < 2.5 * unit, "{}", apart(2));
    // 1 − y² is 2e-4: off by a hundredth of itself.
    assert!(apart(3) > unit && apart(3) < 5.0 * unit, "{}", apart(3));
}
