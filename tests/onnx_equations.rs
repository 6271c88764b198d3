//! ONNX's recurrent operators with random weights over several steps, against their equations as the
//! standard prints them (opset 22), in scalars and ONNX's own gate orders: i o f c, z r h, P i o f.
#![cfg(feature = "onnx")]

mod common;

use common::engines;
use ndarray::{ArrayD, Axis, IxDyn};
use recurra::Initializer;
use recurra::format::onnx::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto, tensor_proto,
};
use recurra::graph::{Model, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// A node's options.
#[derive(Clone, Copy, Debug)]
struct Case {
    operator: &'static str,
    reset_after: bool,
    coupled: bool,
    peepholes: bool,
    clip: Option<f32>,
    /// Softsign, HardSigmoid(0.3, 0.4) and so on instead of the usual ones.
    other_activations: bool,
    layout: bool,
    lengths: bool,
}

const SIZES: [usize; 4] = [5, 3, 4, 6];

fn sigmoid(a: f64) -> f64 {
    1.0 / (1.0 + (-a).exp())
}

/// The activations f, g, h of one direction.
fn activate(case: &Case, role: usize, a: f64) -> f64 {
    let a = match case.clip {
        // h is no gate.
        Some(clip) if role < 2 => a.clamp(-f64::from(clip), f64::from(clip)),
        _ => a,
    };
    match (case.operator, role, case.other_activations) {
        ("RNN", _, false) => a.tanh(),
        ("RNN", _, true) => a / (1.0 + a.abs()),
        (_, 0, false) => sigmoid(a),
        (_, 0, true) => (0.3 * a + 0.4).clamp(0.0, 1.0),
        (_, 1, true) => 1.5 * (0.7 * a).tanh(),
        (_, 2, true) => {
            if a < 0.0 {
                0.9 * (a.exp() - 1.0)
            } else {
                a
            }
        }
        _ => a.tanh(),
    }
}

struct Inputs {
    x: ArrayD<f32>,
    w: ArrayD<f32>,
    r: ArrayD<f32>,
    b: ArrayD<f32>,
    p: ArrayD<f32>,
    h: ArrayD<f32>,
    c: ArrayD<f32>,
    lengths: Vec<usize>,
}

/// Y [T, D, B, H], Y_h and Y_c [D, B, H], a unit at a time.
fn by_the_standard(case: &Case, on: &Inputs) -> [ArrayD<f64>; 3] {
    let [time, batch, input, h] = SIZES;
    let gates = on.w.shape()[1] / h;
    let mut y = ArrayD::zeros(IxDyn(&[time, 2, batch, h]));
    let mut last = [on.h.mapv(f64::from), on.c.mapv(f64::from)];
    for d in 0..2 {
        for row in 0..batch {
            for s in 0..on.lengths[row] {
                let t = if d == 0 { s } else { on.lengths[row] - 1 - s };
                let old_h: Vec<f64> = (0..h).map(|k| last[0][[d, row, k]]).collect();
                let old_c: Vec<f64> = (0..h).map(|k| last[1][[d, row, k]]).collect();
                let x = |gate: usize, j: usize| -> f64 {
                    let at = gate * h + j;
                    let sum = (0..input)
                        .map(|k| f64::from(on.w[[d, at, k]]) * f64::from(on.x[[t, row, k]]));
                    sum.sum::<f64>() + f64::from(on.b[[d, at]])
                };
                let r = |gate: usize, j: usize, heard: &[f64]| -> f64 {
                    let at = gate * h + j;
                    let sum = (0..h).map(|k| f64::from(on.r[[d, at, k]]) * heard[k]);
                    sum.sum::<f64>() + f64::from(on.b[[d, gates * h + at]])
                };
                let p = |block: usize, j: usize| match case.peepholes {
                    true => f64::from(on.p[[d, block * h + j]]),
                    false => 0.0,
                };
                let f = |role: usize, a: f64| activate(case, role, a);
                // Of reset-before GRU, r⊙h.
                let reset: Vec<f64> = (0..h)
                    .map(|j| match case.operator {
                        "GRU" => f(0, x(1, j) + r(1, j, &old_h)),
                        _ => 0.0,
                    })
                    .collect();
                let heard: Vec<f64> = reset.iter().zip(&old_h).map(|(r, h)| r * h).collect();
                for j in 0..h {
                    let (new_h, new_c) = match case.operator {
                        "RNN" => (f(0, x(0, j) + r(0, j, &old_h)), 0.0),
                        "LSTM" => {
                            let i = f(0, x(0, j) + r(0, j, &old_h) + p(0, j) * old_c[j]);
                            let forget = match case.coupled {
                                true => 1.0 - i,
                                false => f(0, x(2, j) + r(2, j, &old_h) + p(2, j) * old_c[j]),
                            };
                            let c = forget * old_c[j] + i * f(1, x(3, j) + r(3, j, &old_h));
                            let o = f(0, x(1, j) + r(1, j, &old_h) + p(1, j) * c);
                            (o * f(2, c), c)
                        }
                        _ => {
                            let z = f(0, x(0, j) + r(0, j, &old_h));
                            let n = match case.reset_after {
                                true => f(1, x(2, j) + reset[j] * r(2, j, &old_h)),
                                false => f(1, x(2, j) + r(2, j, &heard)),
                            };
                            ((1.0 - z) * n + z * old_h[j], 0.0)
                        }
                    };
                    y[[t, d, row, j]] = new_h;
                    last[0][[d, row, j]] = new_h;
                    last[1][[d, row, j]] = new_c;
                }
            }
        }
    }
    let [h, c] = last;
    [y, h, c]
}

fn attribute(name: &str, value: impl FnOnce(&mut AttributeProto)) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    value(&mut attribute);
    attribute
}

fn node(case: &Case) -> NodeProto {
    let int = |name: &str, value: bool| {
        attribute(name, |a| {
            (a.i, a.r#type) = (Some(i64::from(value)), AttributeType::Int.into());
        })
    };
    let mut attributes = vec![attribute("direction", |a| {
        (a.s, a.r#type) = (Some(b"bidirectional".to_vec()), AttributeType::String.into());
    })];
    attributes.push(int("layout", case.layout));
    match case.operator {
        "GRU" => attributes.push(int("linear_before_reset", case.reset_after)),
        "LSTM" => attributes.push(int("input_forget", case.coupled)),
        _ => {}
    }
    if let Some(clip) = case.clip {
        attributes.push(attribute("clip", |a| {
            (a.f, a.r#type) = (Some(clip), AttributeType::Float.into());
        }));
    }
    if case.other_activations {
        let (names, alphas, betas): (&[&str], &[f32], &[f32]) = match case.operator {
            "RNN" => (&["Softsign"], &[], &[]),
            "GRU" => (&["HardSigmoid", "ScaledTanh"], &[0.3, 1.5], &[0.4, 0.7]),
            _ => (&["HardSigmoid", "ScaledTanh", "Elu"], &[0.3, 1.5, 0.9], &[0.4, 0.7]),
        };
        attributes.push(attribute("activations", |a| {
            a.strings = names.repeat(2).iter().map(|n| n.as_bytes().to_vec()).collect();
            a.r#type = AttributeType::Strings.into();
        }));
        for (name, values) in [("activation_alpha", alphas), ("activation_beta", betas)] {
            attributes.push(attribute(name, |a| {
                (a.floats, a.r#type) = (values.repeat(2), AttributeType::Floats.into());
            }));
        }
    }
    let mut inputs = vec!["X", "W", "R", "B", if case.lengths { "lengths" } else { "" }, "h"];
    let mut outputs = vec!["Y", "Y_h"];
    if case.operator == "LSTM" {
        inputs.push("c");
        inputs.extend(case.peepholes.then_some("P"));
        outputs.push("Y_c");
    }
    NodeProto {
        input: inputs.into_iter().map(String::from).collect(),
        output: outputs.into_iter().map(String::from).collect(),
        name: "node".to_string(),
        op_type: case.operator.to_string(),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn check(case: &Case, seed: u64) {
    let [time, batch, input, h] = SIZES;
    let gates = match case.operator {
        "RNN" => 1,
        "GRU" => 3,
        _ => 4,
    };
    let mut generator = Initializer::new(seed);
    let mut random = |shape: &[usize]| {
        let values = generator.uniform(shape.iter().product(), 0.9);
        ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
    };
    let on = Inputs {
        x: random(&[time, batch, input]),
        w: random(&[2, gates * h, input]),
        r: random(&[2, gates * h, h]),
        b: random(&[2, 2 * gates * h]),
        p: random(&[2, 3 * h]),
        h: random(&[2, batch, h]),
        c: random(&[2, batch, h]),
        lengths: if case.lengths { vec![3, 0, 5] } else { vec![time; batch] },
    };
    let want = by_the_standard(case, &on);
    // With layout 1 the batch comes first everywhere.
    let turn = |array: &ArrayD<f32>, axes: &[usize]| {
        let turned = if case.layout { array.clone().permuted_axes(axes) } else { array.clone() };
        Value::F32(turned.as_standard_layout().into_owned())
    };
    let lengths: Vec<i32> = on.lengths.iter().map(|&n| n as i32).collect();
    let lengths = Value::I64(ndarray::arr1(&lengths).mapv(i64::from).into_dyn());
    let state = [1, 0, 2];
    let values = BTreeMap::from([
        ("X", turn(&on.x, &state)),
        ("W", Value::F32(on.w.clone())),
        ("R", Value::F32(on.r.clone())),
        ("B", Value::F32(on.b.clone())),
        ("P", Value::F32(on.p.clone())),
        ("h", turn(&on.h, &state)),
        ("c", turn(&on.c, &state)),
        ("lengths", lengths),
    ]);
    let node = node(case);
    let used = |name: &&str| node.input.iter().any(|i| i == name);
    let initializer = values.iter().filter(|v| used(v.0));
    let port = |name: &String| ValueInfoProto { name: name.clone(), r#type: None };
    let proto = ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(22) }],
        graph: Some(GraphProto {
            output: node.output.iter().map(port).collect(),
            initializer: initializer.map(|(name, value)| tensor_proto(name, value)).collect(),
            node: vec![node.clone()],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    let model = Model::new(proto, Path::new("node.onnx")).unwrap();
    for engine in engines() {
        let got = model.run(&engine, BTreeMap::new()).unwrap();
        assert_eq!(got.len(), if case.operator == "LSTM" { 3 } else { 2 });
        for ((name, value), want) in got.iter().zip(&want) {
            let Value::F32(value) = value else { panic!("{name} is {}", value.kind()) };
            let axes: &[usize] = if value.ndim() == 4 { &[1, 2, 0, 3] } else { &state };
            let value = if case.layout { value.clone().permuted_axes(axes) } else { value.clone() };
            assert_eq!(value.shape(), want.shape(), "{case:?}: {name}");
            let apart = value.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
            let worst = apart.fold(0.0, |a: f64, b| if b.is_nan() { f64::MAX } else { a.max(b) });
            assert!(worst <= 2e-6, "{case:?}: {name} on {engine:?}: {worst:.1e}");
            // Steps past a row's end are 0.
            if case.lengths && value.ndim() == 4 {
                let empty = value.index_axis(Axis(2), 1);
                assert!(empty.iter().all(|&v| v == 0.0), "{case:?}");
            }
        }
    }
}

#[test]
fn every_option_of_the_operators_meets_the_standards_equations() {
    let mut seed = 0;
    for operator in ["RNN", "LSTM", "GRU"] {
        for bits in 0..64u32 {
            let flag = |n: u32| bits >> n & 1 == 1;
            let lstm = operator == "LSTM";
            // What the operator does not have is not set twice.
            if !lstm && flag(1) || operator == "RNN" && flag(0) {
                continue;
            }
            let case = Case {
                operator,
                reset_after: flag(0),
                coupled: lstm && flag(0),
                peepholes: lstm && flag(1),
                clip: flag(2).then_some(0.5),
                other_activations: flag(3),
                layout: flag(4),
                lengths: flag(5),
            };
            seed += 1;
            check(&case, seed);
        }
    }
    assert_eq!(seed, 16 + 64 + 32);
}
