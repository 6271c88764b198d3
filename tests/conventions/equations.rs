//! Where a state, a bias, a clip stands in the equations.

use crate::common::{apart, engines};
use crate::run::{NEAR, Run, random, sigmoid};
use recurra::cell::{Activation, Cell, CellKind};
use recurra::layer::Recurrent;

/// h' = z⊙h + (1−z)⊙n: z of 1 keeps h to the bit, z of 0 leaves n alone.
#[test]
fn the_update_gate_keeps_the_old_state() {
    for engine in engines() {
        for kind in [CellKind::Gru, CellKind::GruResetBefore] {
            let stack = Recurrent::new("rnn", kind, 3, 4);
            let run = |z: f32| {
                let run = Run::random(&stack, [1, 2]);
                run.weight("bias_ih_l0", |b| b[4..8].fill(z)).on(&engine)
            };
            assert_eq!(run(90.0).y, random(8, 2), "{engine:?} {kind:?}");
            let none = run(-60.0);
            let n: Vec<f32> = none.gates.chunks(16).flat_map(|row| row[8..12].to_vec()).collect();
            assert!(apart(&none.y, &n) < NEAR, "{engine:?} {kind:?}");
            assert!(apart(&none.y, &random(8, 2)) > 1000.0 * NEAR);
        }
    }
}

/// One bias vector is as good as two, but for n of a GRU that resets after the product. Reset before,
/// b' stands outside the reset.
#[test]
fn two_biases_are_their_sum_but_for_one() {
    for engine in engines() {
        for kind in [
            CellKind::RnnTanh,
            CellKind::RnnRelu,
            CellKind::Lstm,
            CellKind::Gru,
            CellKind::GruResetBefore,
        ] {
            let stack = Recurrent::new("rnn", kind, 3, 4);
            // Moves the first rows of b' to b.
            let run = |rows: usize| {
                let mut moved = Vec::new();
                let run = Run::random(&stack, [3, 2]).weight("bias_hh_l0", |b| {
                    moved = b[..rows].to_vec();
                    b[..rows].fill(0.0);
                });
                let add = |b: &mut [f32]| b.iter_mut().zip(moved).for_each(|(b, m)| *b += m);
                run.weight("bias_ih_l0", add).on(&engine).y
            };
            let (two, one) = (run(0), run(stack.cell.gates() * 4));
            let error = apart(&two, &one);
            if kind == CellKind::Gru {
                assert!(error > 1000.0 * NEAR, "{engine:?}: {error:.1e}");
                let gates = apart(&two, &run(8));
                assert!(gates < 3.0 * NEAR, "{engine:?}: r and z: {gates:.1e}");
            } else {
                assert!(error < 3.0 * NEAR, "{engine:?} {kind:?}: {error:.1e}");
            }
        }
    }
}

/// A forget bias of 1 in both of PyTorch's vectors is 2 in one.
#[test]
fn a_forget_bias_in_both_vectors_counts_twice() {
    for engine in engines() {
        let stack = Recurrent::new("rnn", CellKind::Lstm, 3, 4);
        let run = |input: f32, recurrent: f32| {
            let run = Run::random(&stack, [2, 2]);
            let run = run.weight("bias_ih_l0", |b| b[4..8].fill(input));
            run.weight("bias_hh_l0", |b| b[4..8].fill(recurrent)).on(&engine).last
        };
        let both = run(1.0, 1.0);
        assert!(apart(&both, &run(2.0, 0.0)) < NEAR, "{engine:?}");
        assert!(apart(&both, &run(1.0, 0.0)) > 1000.0 * NEAR, "{engine:?}");
    }
}

/// ONNX cuts what goes into the gates, and c grows on; cuDNN cuts c, and the gates stay.
#[test]
fn clips_cut_gates_or_the_cell_state() {
    for engine in engines() {
        let run = |change: &dyn Fn(&mut Cell)| {
            let mut cell = Cell::from(CellKind::Lstm);
            change(&mut cell);
            let stack = Recurrent::new("rnn", cell, 1, 1);
            let run = Run::zeros(&stack, [1, 1]).initial(vec![0.0, 3.0]);
            let run = run.weight("bias_ih_l0", |b| b.copy_from_slice(&[6.0, 5.0, 4.0, -7.0]));
            let out = run.on(&engine);
            (out.last, out.gates)
        };
        let gates = [sigmoid(6.0), sigmoid(5.0), 4f32.tanh(), sigmoid(-7.0)];
        let c = gates[1] * 3.0 + gates[0] * gates[2];
        let (last, got) = run(&|_| {});
        assert!(apart(&got, &gates) < NEAR && apart(&last, &[gates[3] * c.tanh(), c]) < NEAR);

        let (last, got) = run(&|cell| cell.clip = Some(1.5));
        let cut = [sigmoid(1.5), sigmoid(1.5), 1.5f32.tanh(), sigmoid(-1.5)];
        let c = cut[1] * 3.0 + cut[0] * cut[2];
        assert!(c > 1.5, "the state itself is not cut");
        assert!(apart(&got, &cut) < NEAR && apart(&last, &[cut[3] * c.tanh(), c]) < NEAR);

        let (last, got) = run(&|cell| cell.cell_clip = Some(1.5));
        assert!(apart(&got, &gates) < NEAR, "the gates are not cut");
        assert!(apart(&last, &[gates[3] * 1.5f32.tanh(), 1.5]) < NEAR, "{last:?}");
    }
}

#[test]
fn activations_have_onnxs_defaults() {
    let named = |name: &str| Activation::from_onnx(name, || None, || None);
    assert_eq!(named("HardSigmoid"), Ok(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }));
    assert_eq!(named("LeakyRelu"), Ok(Activation::LeakyRelu { alpha: 0.01 }));
    assert_eq!(named("Elu"), Ok(Activation::Elu { alpha: 1.0 }));
    assert_eq!(named("ThresholdedRelu"), Ok(Activation::ThresholdedRelu { alpha: 1.0 }));
    // Given in part: the other one keeps its default.
    let half = Activation::from_onnx("HardSigmoid", || Some(0.25), || None);
    assert_eq!(half, Ok(Activation::HardSigmoid { alpha: 0.25, beta: 0.5 }));
}
