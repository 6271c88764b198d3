//! Which masks of dropout there are, seen through identities.

use crate::common::engines;
use crate::run::Run;
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::layer::Recurrent;

const WIDTH: usize = 16;

/// Ones through identities: outputs are the masks themselves.
fn masks_of(engine: &Engine, change: &dyn Fn(&mut Recurrent), recurrent: bool) -> Vec<f32> {
    let mut stack = Recurrent::new("rnn", CellKind::RnnRelu, WIDTH, WIDTH);
    change(&mut stack);
    let [time, batch] = [6, 2];
    let run = Run::zeros(&stack, [time, batch]).x(vec![1.0; time * batch * WIDTH]).training();
    let run = match recurrent {
        true => run.identities("weight_hh").initial(vec![1.0; batch * WIDTH]),
        false => run.identities("weight_ih"),
    };
    run.on(engine).y
}

/// Rows of the batch at each step: [T][B].
fn rows(y: &[f32]) -> Vec<Vec<Vec<f32>>> {
    let row = |row: &[f32]| row.chunks(WIDTH).map(<[f32]>::to_vec).collect();
    y.chunks(2 * WIDTH).map(row).collect()
}

#[test]
fn dropout_between_layers_is_fresh_each_step_and_spares_the_last() {
    for engine in engines() {
        let one = masks_of(&engine, &|s| s.dropout = 0.5, false);
        assert!(one.iter().all(|&v| v == 1.0), "{engine:?}: the last layer's outputs are whole");
        let two = masks_of(&engine, &|s| (s.dropout, s.layers) = (0.5, 2), false);
        assert!(two.iter().all(|&v| v == 0.0 || v == 2.0), "{engine:?}: kept ones are doubled");
        let steps = rows(&two);
        for t in 1..steps.len() {
            assert_ne!(steps[t], steps[0], "{engine:?}: step {t} has a mask of its own");
            assert_ne!(steps[t][0], steps[t][1], "{engine:?}: and so has each row");
        }
    }
}

#[test]
fn dropout_on_inputs_is_one_mask_a_sequence() {
    for engine in engines() {
        let y = masks_of(&engine, &|s| s.input_dropout = 0.5, false);
        assert!(y.iter().all(|&v| v == 0.0 || v == 2.0));
        assert!(y.contains(&0.0) && y.contains(&2.0));
        let steps = rows(&y);
        assert!(steps.iter().all(|step| *step == steps[0]), "{engine:?}");
        assert_ne!(steps[0][0], steps[0][1], "{engine:?}");
    }
}

#[test]
fn dropout_on_h_is_one_mask_a_sequence() {
    for engine in engines() {
        let y = masks_of(&engine, &|s| s.recurrent_dropout = 0.5, true);
        let steps = rows(&y);
        assert!(steps[0][0].contains(&0.0) && steps[0][0].contains(&2.0));
        for (t, step) in steps.iter().enumerate() {
            // The same ones are kept, and doubled each time.
            let want = steps[0].iter().map(|row| row.iter().map(|v| v * 2f32.powi(t as i32)));
            let want: Vec<Vec<f32>> = want.map(Iterator::collect).collect();
            assert_eq!(*step, want, "{engine:?}: step {t}");
        }
    }
}

/// As Keras' recurrent_dropout, where it is asked for.
#[test]
fn dropout_on_h_may_differ_by_gate() {
    for engine in engines() {
        for per_gate in [false, true] {
            let stack = Recurrent {
                recurrent_dropout: 0.5,
                per_gate,
                ..Recurrent::new("rnn", CellKind::Lstm, 1, WIDTH)
            };
            let run = Run::zeros(&stack, [1, 1]).identities("weight_hh").training();
            let run = run.initial([vec![1.0; WIDTH], vec![0.0; WIDTH]].concat());
            let out = run.on(&engine);
            // σ(0) and tanh(0) where h was dropped.
            let gates = out.gates.chunks(WIDTH).enumerate();
            let dropped: Vec<Vec<bool>> = gates
                .map(|(g, gate)| {
                    let none = if g == 2 { 0.0 } else { 0.5 };
                    gate.iter().map(|&v| (v - none).abs() < 1e-3).collect()
                })
                .collect();
            assert!(dropped.iter().all(|gate| gate.contains(&true) && gate.contains(&false)));
            for (g, gate) in dropped.iter().enumerate().skip(1) {
                assert_eq!(*gate == dropped[0], !per_gate, "{engine:?}: gate {g}");
            }
        }
    }
}
