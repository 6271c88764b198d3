//! The first oracle, whose backward pass is written by hand, and the tape's agree.

use ndarray::{Array1, Array2};
use recurra::oracle::plain::{self, State};
use recurra::oracle::recurrent::{Activation, Cell, Options, Weights, run};

use crate::problem::{Case, plain_stack, spec};
use crate::properties::assert_near;

fn old_weights(w: &Weights) -> plain::Weights {
    let flat = |name: &str| w[name].iter().copied().collect::<Array1<f64>>();
    plain::Weights {
        w_ih: w["weight_ih"].clone(),
        w_hh: w["weight_hh"].clone(),
        b_ih: flat("bias_ih"),
        b_hh: flat("bias_hh"),
    }
}

fn old_states(all: &[Vec<Vec<Array2<f64>>>]) -> Vec<State> {
    let layers = all.iter().map(|directions| &directions[0]);
    layers.map(|states| State { h: states[0].clone(), c: states.get(1).cloned() }).collect()
}

#[test]
fn the_first_oracle_and_the_tape_agree() {
    let relu = Options { activations: Some(vec![Activation::Relu]), ..Options::default() };
    let usual = Options::default;
    for (old, cell, options) in [
        (plain::Cell::RnnTanh, Cell::Rnn, usual()),
        (plain::Cell::RnnRelu, Cell::Rnn, relu),
        (plain::Cell::Lstm, Cell::Lstm, usual()),
        (plain::Cell::Gru, Cell::Gru, usual()),
    ] {
        for hidden in [&[1][..], &[5, 3], &[2, 4, 3]] {
            let layer = |&h| vec![spec(cell.clone(), h, options.clone())];
            let mut case = Case::of(plain_stack(hidden.iter().map(layer).collect()), [7, 3, 2]);
            case.dropout = true;
            let mut input = case.input(7);
            input.between[0] = None;
            let weights: Vec<_> = input.weights.iter().map(|w| old_weights(&w[0])).collect();
            let dropout: Vec<_> = input.between.iter().flatten().cloned().collect();
            let initial = old_states(&input.initial);
            let ahead = plain::forward(old, &weights, &input.x, &initial, &dropout).unwrap();
            let d_finals = old_states(&input.d_finals);
            let back = plain::backward(old, &weights, &ahead, &input.d_output, &d_finals).unwrap();

            let new = run(&case.stack, &input).unwrap();
            assert_near(&new.output, &ahead.outputs, 1e-13, "output");
            assert_near(&new.d_x, &back.x, 1e-12, "d_x");
            for (l, d) in back.layers.iter().enumerate() {
                let new = old_weights(&new.d_weights[l][0]);
                assert_near(&new.w_ih, &d.w_ih, 1e-12, "d_w_ih");
                assert_near(&new.w_hh, &d.w_hh, 1e-12, "d_w_hh");
                assert_near(&new.b_ih, &d.b_ih, 1e-12, "d_b_ih");
                assert_near(&new.b_hh, &d.b_hh, 1e-12, "d_b_hh");
            }
            for (new, old) in [(&new.finals, &ahead.finals), (&new.d_initial, &back.initial)] {
                for (new, old) in old_states(new).iter().zip(old) {
                    assert_near(&new.h, &old.h, 1e-12, "h");
                    assert_eq!(new.c.is_some(), old.c.is_some());
                    if let (Some(new), Some(old)) = (&new.c, &old.c) {
                        assert_near(new, old, 1e-12, "c");
                    }
                }
            }
        }
    }
}
