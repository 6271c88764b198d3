//! Orders of gates.

use crate::common::{apart, engines};
use crate::run::{NEAR, Run, sigmoid};
use recurra::cell::{CellKind, GateOrder, reorder_gates, restore_gates};
use recurra::layer::Recurrent;

#[test]
fn gate_orders_are_those_of_every_system() {
    // In letters, as each system's documentation has them; c is g, h is n, oneDNN's u r o is z r n.
    let orders: [(GateOrder, &str, &str); 6] = [
        (GateOrder::PyTorch, "ifgo", "rzn"),
        (GateOrder::Onnx, "iofg", "zrn"),
        (GateOrder::Keras, "ifgo", "zrn"),
        (GateOrder::OneDnn, "ifgo", "zrn"),
        (GateOrder::WebNn, "iofg", "zrn"),
        (GateOrder::WebNnOther, "ifgo", "rzn"),
    ];
    assert_eq!(orders.map(|o| o.0), GateOrder::ALL);
    let words = |text: &str| -> Vec<f32> {
        // Two rows a gate.
        text.bytes().flat_map(|b| [f32::from(b), f32::from(b) + 0.5]).collect()
    };
    for (order, lstm, gru) in orders {
        for (kind, theirs, ours) in [
            (CellKind::Lstm, lstm, "ifgo"),
            (CellKind::Gru, gru, "rzn"),
            (CellKind::GruResetBefore, gru, "rzn"),
        ] {
            let moved = reorder_gates(kind, order, &words(theirs)).unwrap();
            assert_eq!(moved, words(ours), "{order:?} {kind:?}");
            assert_eq!(restore_gates(kind, order, &moved).unwrap(), words(theirs), "{order:?}");
        }
        assert_eq!(reorder_gates(CellKind::RnnTanh, order, &[1.0, 2.0]).unwrap(), [1.0, 2.0]);
    }
}

/// The traces have our order: a bias that opens one gate alone opens that block.
#[test]
fn our_gates_lie_in_pytorchs_order() {
    let cells = [(CellKind::Lstm, 4), (CellKind::Gru, 3), (CellKind::GruResetBefore, 3)];
    for engine in engines() {
        for (kind, gates) in cells {
            for gate in 0..gates {
                let stack = Recurrent::new("rnn", kind, 1, 2);
                let run = Run::zeros(&stack, [1, 1]);
                let run = run.weight("bias_ih_l0", |b| b[gate * 2..][..2].fill(3.0));
                let out = run.on(&engine);
                let candidate = 2;
                for (block, got) in out.gates.chunks(2).take(gates).enumerate() {
                    let open = block == gate;
                    let want = match (block == candidate, open) {
                        (true, true) => 3f32.tanh(),
                        (true, false) => 0.0,
                        (false, true) => sigmoid(3.0),
                        (false, false) => 0.5,
                    };
                    assert!(apart(got, &[want; 2]) < NEAR, "{engine:?} {kind:?} {gate}: {got:?}");
                }
            }
        }
    }
}
