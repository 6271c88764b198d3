//! A cell written by a user, as a WGSL function and a Rust twin, through the whole machinery: a gated
//! unit h' = σ(a₀)·tanh(a₁ + m), a = x + r, with a slow memory m' = 0.8·m + 0.2·h'.

mod common;

use common::engines;
use recurra::conformance::{RecurrentCase, recurrent_reports};
use recurra::engine::Engine;
use recurra::kernel::{Cell, Convolution, CustomCell};
use recurra::layer::{Direction, Merge, Recurrent};
use std::sync::Arc;

const FORWARD: &str = "
fn cell_forward(x: array<f32, GATES>, r: array<f32, GATES>, old: array<f32, STATES>) -> CellOut {
    var out = CellOut();
    let gate = sigmoid(x[0] + r[0]);
    let h = gate * tanh_stable(x[1] + r[1] + old[1]);
    out.saved = array<f32, SAVED>(gate, tanh_stable(x[1] + r[1] + old[1]), 0.0);
    out.states = array<f32, STATES>(h, 0.8 * old[1] + 0.2 * h);
    return out;
}
";

const BACKWARD: &str = "
fn cell_backward(saved: array<f32, SAVED>, old: array<f32, STATES>, d_new: array<f32, STATES>) -> CellOut {
    var out = CellOut();
    let dh = d_new[0] + 0.2 * d_new[1];
    let da = dh * saved[0] * (1.0 - saved[1] * saved[1]);
    out.saved = array<f32, SAVED>(dh * saved[1] * saved[0] * (1.0 - saved[0]), da, 0.0);
    out.states = array<f32, STATES>(0.0, 0.8 * d_new[1] + da);
    return out;
}
";

fn sigmoid(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

fn cell() -> CustomCell {
    CustomCell {
        name: "slow_memory".to_string(),
        gates: 2,
        saved: 3,
        states: 2,
        wgsl: format!("{FORWARD}{BACKWARD}"),
        forward: Arc::new(|x, r, old, saved, new| {
            let gate = 1.0 / (1.0 + (-(x[0] + r[0])).exp());
            let value = (x[1] + r[1] + old[1]).tanh();
            (saved[0], saved[1]) = (gate, value);
            new[0] = gate * value;
            new[1] = 0.8 * old[1] + 0.2 * new[0];
        }),
        backward: Arc::new(|saved, _, d_new, d_saved, d_old| {
            let dh = d_new[0] + 0.2 * d_new[1];
            d_saved[0] = dh * saved[1] * saved[0] * (1.0 - saved[0]);
            d_saved[1] = dh * saved[0] * (1.0 - saved[1] * saved[1]);
            d_old[1] = 0.8 * d_new[1] + d_saved[1];
        }),
        reference: Arc::new(|x, r, old, new| {
            new[0] = sigmoid(x[0] + r[0]) * (x[1] + r[1] + old[1]).tanh();
            new[1] = 0.8 * old[1] + 0.2 * new[0];
        }),
    }
}

fn cases(cell: CustomCell) -> Vec<RecurrentCase> {
    let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", cell, 5, 18) };
    let plain = RecurrentCase { given: true, ..RecurrentCase::new(stack, 6, 4) };
    let changes: Vec<fn(&mut RecurrentCase)> = vec![
        |_| {},
        |c| c.stack.direction = Direction::Both(Merge::Concat),
        |c| (c.lengths, c.mask, c.resets) = (true, true, true),
        |c| c.stack.zoneout = [0.3, 0.2],
        |c| (c.stack.recurrent_dropout, c.stack.per_gate) = (0.3, true),
        |c| c.stack.heads = 3,
        |c| c.stack.heads = 18,
        |c| (c.given, c.stack.learned_initial) = (false, true),
        |c| c.stack.convolution = Some(Convolution { map: [2, 3], kernel: [3, 3] }),
        |c| (c.stack.cell.layer_norm, c.lengths, c.resets) = (Some(1e-3), true, true),
        |c| {
            c.stack.cell.layer_norm = Some(1e-3);
            c.stack.zoneout = [0.3, 0.2];
            c.stack.direction = Direction::Both(Merge::Concat);
        },
    ];
    let make = |change: &fn(&mut RecurrentCase)| {
        let mut case = plain.clone();
        change(&mut case);
        case
    };
    changes.iter().map(make).collect()
}

#[test]
fn a_users_cell_goes_through_the_same_machinery() {
    for engine in engines() {
        for case in cases(cell()) {
            for report in recurrent_reports(&engine, &case).unwrap() {
                assert!(report.pass, "{engine:?}: {report:?}");
            }
        }
    }
}

/// The suite sees a wrong derivative of a user's.
#[test]
fn a_wrong_derivative_is_noticed() {
    let mut wrong = cell();
    wrong.wgsl = wrong.wgsl.replace("0.8 * d_new[1] + da", "0.8 * d_new[1]");
    wrong.backward = Arc::new(|saved, _, d_new, d_saved, d_old| {
        let dh = d_new[0] + 0.2 * d_new[1];
        d_saved[0] = dh * saved[1] * saved[0] * (1.0 - saved[0]);
        d_saved[1] = dh * saved[0] * (1.0 - saved[1] * saved[1]);
        d_old[1] = 0.8 * d_new[1];
    });
    for engine in engines() {
        let reports = recurrent_reports(&engine, &cases(wrong.clone())[0]).unwrap();
        assert!(reports[0].pass && !reports[1].pass, "{engine:?}: {reports:?}");
    }
}

#[test]
fn impossible_cells_are_refused() {
    let engine = Engine::cpu(Some(1)).unwrap();
    let says = |change: &dyn Fn(&mut Cell), word: &str| {
        let mut cell = Cell::from(cell());
        change(&mut cell);
        let case = RecurrentCase::new(Recurrent::new("rnn", cell, 3, 4), 2, 2);
        let message = recurrent_reports(&engine, &case).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    let with = |change: &dyn Fn(&mut CustomCell)| {
        let mut own = cell();
        change(&mut own);
        Some(Arc::new(own))
    };
    says(&|c| c.custom = with(&|own| own.gates = 5), "gates");
    let indexed =
        |own: &mut CustomCell| own.wgsl.push_str("fn f(w: vec2<f32>) -> f32 { return w[0]; }");
    says(&|c| c.custom = with(&indexed), "'w[' in its text");
    says(&|c| c.custom = with(&|own| own.wgsl = BACKWARD.to_string()), "fn cell_forward");
    says(&|c| c.custom = with(&|own| own.wgsl = FORWARD.to_string()), "fn cell_backward");
    says(&|c| c.custom = with(&|own| own.saved = 1), "saved words");
    says(&|c| c.custom = with(&|own| own.states = 0), "states");
    says(&|c| c.custom = None, "equations are missing");
    says(&|c| c.peepholes = true, "peepholes");
    says(&|c| c.layer_norm = Some(0.0), "layer norm");
}

/// The suite takes a stack of any name.
#[test]
fn a_stack_of_another_name_conforms() {
    let stack = Recurrent { learned_initial: true, ..Recurrent::new("own", cell(), 5, 18) };
    let case = RecurrentCase::new(stack, 4, 3);
    for report in recurrent_reports(&Engine::cpu(Some(1)).unwrap(), &case).unwrap() {
        assert!(report.pass, "{report:?}");
    }
}
