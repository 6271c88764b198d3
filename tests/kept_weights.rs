//! Weights in bfloat16 and in eight bits, in whole layers: against the same rounding in float64, against f32, and alone
//! against in company. The integers themselves are tested beside `engine/cpu/panel`, threads and streams in
//! `cpu_sequences`.

use recurra::cell::CellKind;
use recurra::engine::{Engine, Strategy, WeightFormat};
use recurra::kernel::LossScale;
use recurra::layer::{Direction, Embedding, InitialState, Initializer, Linear, Merge};
use recurra::layer::{Recurrent, Sequence};
use recurra::recording::Recording;
use recurra::schedule::Recorder;
use recurra::tensor::NamedTensors;

const NARROW: [WeightFormat; 2] = [WeightFormat::Bf16, WeightFormat::Int8];
const CELLS: [CellKind; 3] = [CellKind::RnnTanh, CellKind::Lstm, CellKind::Gru];

fn engine(format: WeightFormat, threads: usize) -> Engine {
    Engine::cpu(Some(threads)).unwrap().with_weights(format).unwrap()
}

fn record(stack: &Recurrent, time: usize, batch: usize, lengths: bool) -> Recording {
    let mut rec = Recorder::inference();
    let x = rec.input("x", [time * batch, stack.input], false).unwrap();
    let mut sequence = Sequence::new(time, batch);
    if lengths {
        sequence = sequence.with_lengths(rec.input_ids("lengths", batch).unwrap());
    }
    let y = stack.record(&mut rec, x, sequence, &InitialState::Zero).unwrap().output;
    rec.output("y", y).unwrap();
    rec.finish()
}

/// The outputs \[T, B, H\] for x \[T, B, I\].
fn outputs(
    engine: &Engine,
    stack: &Recurrent,
    weights: &NamedTensors,
    x: &[f32],
    time: usize,
    lengths: Option<&[u32]>,
) -> Vec<f32> {
    let batch = x.len() / time / stack.input;
    let store = engine.store();
    store.set_all(weights).unwrap();
    let recording = record(stack, time, batch, lengths.is_some());
    let mut program = engine.load(&recording, &store).unwrap();
    program.write(program.find("x").unwrap(), x).unwrap();
    if let Some(lengths) = lengths {
        program.write_u32(program.find("lengths").unwrap(), lengths).unwrap();
    }
    program.run().unwrap();
    program.read(program.find("y").unwrap()).unwrap()
}

fn weights(stack: &Recurrent) -> NamedTensors {
    let mut weights = NamedTensors::new();
    stack.init(&mut Initializer::new(1), &mut weights);
    weights
}

/// The same with the channels of units 1 and 2 a thousand times as large and as small, in every gate.
fn uneven(stack: &Recurrent) -> NamedTensors {
    let (mut weights, hidden) = (weights(stack), stack.hidden);
    for (name, tensor) in weights.iter_mut().filter(|(name, _)| name.contains("weight")) {
        for (row, mut values) in tensor.outer_iter_mut().enumerate() {
            let scale: f32 = [1.0, 1000.0, 1e-3, 0.0].get(row % hidden).copied().unwrap_or(1.0);
            // A recurrence a thousand times as large is chaos.
            let scale = if name.contains("hh") { scale.min(1.0) } else { scale };
            values.mapv_inplace(|value| value * scale);
        }
    }
    weights
}

/// Rounded to eight bits by its largest absolute value.
fn eight_bits(values: &[f64]) -> Vec<f64> {
    let step = values.iter().fold(0.0, |a: f64, b| a.max(b.abs())) / 127.0;
    let round =
        |&value: &f64| if step == 0.0 { 0.0 } else { (value / step).round_ties_even() * step };
    values.iter().map(round).collect()
}

/// Rounded to eight significant bits.
fn bf16(values: &[f64]) -> Vec<f64> {
    let unit = |value: f64| 2f64.powf(value.abs().log2().floor() - 7.0);
    let round = |&v: &f64| if v == 0.0 { 0.0 } else { (v / unit(v)).round_ties_even() * unit(v) };
    values.iter().map(round).collect()
}

/// One layer over one sequence in float64, with weights, and what they are multiplied with, rounded
/// as the format has it.
fn reference(
    format: WeightFormat,
    stack: &Recurrent,
    weights: &NamedTensors,
    x: &[f32],
) -> Vec<f64> {
    let hidden = stack.hidden;
    let tensor = |name: &str| weights[&format!("rnn.{name}_l0")].mapv(f64::from);
    let [w, u] = ["weight_ih", "weight_hh"].map(|name| {
        let rows: Vec<Vec<f64>> = tensor(name)
            .outer_iter()
            .map(|row| match format {
                WeightFormat::F32 => row.iter().copied().collect(),
                WeightFormat::Bf16 => bf16(&row.iter().copied().collect::<Vec<_>>()),
                WeightFormat::Int8 => eight_bits(&row.iter().copied().collect::<Vec<_>>()),
            })
            .collect();
        rows
    });
    let [b, b2] = ["bias_ih", "bias_hh"].map(|name| tensor(name).into_iter().collect::<Vec<_>>());
    let product = |rows: &[Vec<f64>], x: &[f64]| -> Vec<f64> {
        let x = if format == WeightFormat::Int8 { eight_bits(x) } else { x.to_vec() };
        rows.iter().map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum()).collect()
    };
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (mut h, mut c, mut all) = (vec![0.0; hidden], vec![0.0; hidden], Vec::new());
    for x in x.chunks(stack.input) {
        let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let (from_x, from_h) = (product(&w, &x), product(&u, &h));
        for unit in 0..hidden {
            let of = |gate: usize| gate * hidden + unit;
            let both = |gate| from_x[of(gate)] + b[of(gate)] + from_h[of(gate)] + b2[of(gate)];
            h[unit] = match stack.cell.kind {
                CellKind::RnnTanh => both(0).tanh(),
                CellKind::Lstm => {
                    c[unit] = sigma(both(1)) * c[unit] + sigma(both(0)) * both(2).tanh();
                    sigma(both(3)) * c[unit].tanh()
                }
                _ => {
                    let inner = sigma(both(0)) * (from_h[of(2)] + b2[of(2)]);
                    let n = (from_x[of(2)] + b[of(2)] + inner).tanh();
                    let z = sigma(both(1));
                    (1.0 - z) * n + z * h[unit]
                }
            };
        }
        all.extend_from_slice(&h);
    }
    all
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// Sizes that fill no panel and no four; channels of very different sizes, of which each has to keep its own digits.
#[test]
fn layers_meet_the_same_rounding_in_float64() {
    for cell in CELLS {
        for (input, hidden) in [(7, 21), (16, 32), (33, 50), (1, 5)] {
            let stack = Recurrent::new("rnn", cell, input, hidden);
            let x = Initializer::new(2).uniform(9 * input, 1.0);
            for weights in [weights(&stack), uneven(&stack)] {
                for format in WeightFormat::ALL {
                    let got = outputs(&engine(format, 1), &stack, &weights, &x, 9, None);
                    let want = reference(format, &stack, &weights, &x);
                    let error = worst(&got, &want);
                    assert!(error < 5e-6, "{cell:?} {input} {hidden} {format:?}: {error}");
                }
            }
        }
    }
}

/// How far whole sequences are from f32 at most: two layers as they are initialised, 64 steps of
/// 128 units, whose states are below 1. Measured: half as much.
#[test]
fn sequences_stay_near_f32() {
    for (cell, bounds) in CELLS.into_iter().zip([[5e-3, 2e-2], [4e-4, 1.3e-3], [1.3e-3, 4e-3]]) {
        let stack = Recurrent { layers: 2, ..Recurrent::new("rnn", cell, 64, 128) };
        let (weights, x) = (weights(&stack), Initializer::new(2).uniform(64 * 64, 1.0));
        let of = |format| outputs(&engine(format, 1), &stack, &weights, &x, 64, None);
        let exact: Vec<f64> = of(WeightFormat::F32).iter().map(|&y| f64::from(y)).collect();
        for (format, bound) in NARROW.into_iter().zip(bounds) {
            let error = worst(&of(format), &exact);
            assert!(error > bound / 10.0 && error < bound, "{cell:?} {format:?}: {error}");
        }
    }
}

/// A row has its bits whoever is beside it: padding, more rows than f32 keeps packed weights for, other threads.
#[test]
fn rows_have_their_bits_in_any_company() {
    let (time, input, batch) = (90, 520, 6);
    for (cell, hidden) in [(CellKind::Lstm, 12), (CellKind::Gru, 33)] {
        let stack = Recurrent::new("rnn", cell, input, hidden);
        let (weights, x) =
            (weights(&stack), Initializer::new(2).uniform(time * batch * input, 1.0));
        let lengths: Vec<u32> = vec![90, 1, 37, 90, 64, 2];
        for format in NARROW {
            let of = |threads| {
                let engine = engine(format, threads);
                outputs(&engine, &stack, &weights, &x, time, Some(&lengths))
            };
            let together = of(1);
            assert_eq!(together, of(2), "{format:?}");
            assert_eq!(together, of(5), "{format:?}");
            for (b, &length) in lengths.iter().enumerate() {
                let length = length as usize;
                let own = x.chunks(input).skip(b).step_by(batch).take(length);
                let own: Vec<f32> = own.flatten().copied().collect();
                let alone = outputs(&engine(format, 1), &stack, &weights, &own, length, None);
                let beside = together.chunks(hidden).skip(b).step_by(batch).take(length);
                let beside: Vec<f32> = beside.flatten().copied().collect();
                assert_eq!(alone, beside, "{cell:?} {format:?} row {b}");
            }
        }
    }
}

/// A step with an input that is no number gives none, in every unit, and other rows keep theirs.
#[test]
fn no_number_comes_through() {
    let stack = Recurrent::new("rnn", CellKind::Lstm, 6, 20);
    let weights = weights(&stack);
    let clean = Initializer::new(2).uniform(2 * 3 * 6, 1.0);
    for format in NARROW {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = clean.clone();
            // Row 1 of step 1.
            x[(3 + 1) * 6 + 2] = bad;
            let of = |x| outputs(&engine(format, 1), &stack, &weights, x, 2, None);
            let (got, want) = (of(&x), of(&clean));
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                match i / 20 {
                    4 if bad.is_nan() || format == WeightFormat::Int8 => {
                        assert!(got.is_nan(), "{i}")
                    }
                    4 => {}
                    _ => assert_eq!(got, want, "{i}"),
                }
            }
        }
    }
}

/// A model: which weights are kept how, by name, and that what can't be kept says why.
#[test]
fn it_is_told_which_weights_are_kept_how() {
    let of = |format, change: fn(&mut Recurrent)| {
        let mut rec = Recorder::inference();
        let ids = rec.input_ids("ids", 4).unwrap();
        let x = Embedding { name: "table".to_string(), vocabulary: 9, width: 24 }
            .record(&mut rec, ids)
            .unwrap();
        let mut stack = Recurrent::new("rnn", CellKind::Lstm, 24, 40);
        change(&mut stack);
        let y = stack.record(&mut rec, x, Sequence::new(2, 2), &InitialState::Zero).unwrap();
        let columns = y.output.columns;
        Linear::new("out", columns, 9).record(&mut rec, y.output).unwrap();
        let kept = engine(format, 1).kept_weights(&rec.finish());
        kept.into_iter()
            .map(|kept| (kept.tensor, kept.format, kept.bytes, kept.reason))
            .collect::<Vec<_>>()
    };
    let plain = of(WeightFormat::Int8, |_| {});
    let want = [
        // 160 columns of 24 terms, and a scale each; 48 blocks of units fill 40 units of 4 gates.
        ("rnn.weight_ih_l0", 160 * (24 + 4)),
        ("rnn.weight_hh_l0", 4 * 48 * (40 + 4)),
        ("out.weight", 16 * (40 + 4)),
    ];
    assert_eq!(plain.len(), 3, "{plain:?}");
    for (kept, (name, bytes)) in plain.iter().zip(want) {
        assert_eq!(*kept, (name.to_string(), WeightFormat::Int8, bytes, None));
    }
    let halves = of(WeightFormat::Bf16, |_| {});
    assert_eq!(halves[0].2, 160 * 24 * 2);
    assert!(of(WeightFormat::F32, |_| {}).iter().all(|kept| kept.1 == WeightFormat::F32));
    // Heads have no panels: their recurrent weights stay, and so do those of a projection.
    for change in [
        |stack: &mut Recurrent| stack.heads = 2,
        |stack: &mut Recurrent| stack.cell.projection = Some(10),
    ] {
        let kept = of(WeightFormat::Int8, change);
        let (narrow, wide): (Vec<_>, Vec<_>) =
            kept.iter().partition(|kept| kept.1 == WeightFormat::Int8);
        assert_eq!(narrow.len(), 2, "{kept:?}");
        assert!(wide.iter().all(|kept| kept.3.is_some() && kept.0.contains("_h")), "{kept:?}");
    }
}

#[test]
fn what_has_gradients_is_refused() {
    let stack = Recurrent::new("rnn", CellKind::Gru, 4, 8);
    let mut rec = Recorder::training();
    let x = rec.input("x", [6, 4], false).unwrap();
    let y = stack.record(&mut rec, x, Sequence::new(3, 2), &InitialState::Zero).unwrap().output;
    let seed = rec.input("seed", [6, 8], false).unwrap();
    rec.seed_gradient(y, seed).unwrap();
    rec.backward().unwrap();
    let recording = rec.finish();
    for format in NARROW {
        let engine = engine(format, 1);
        assert_eq!(engine.weights(), format);
        let store = engine.store();
        store.set_all(&weights(&stack)).unwrap();
        store.set(LossScale::NAME, &LossScale::NEUTRAL).unwrap();
        let error = engine.load(&recording, &store).err().unwrap().to_string();
        assert!(error.contains("gradients") && error.contains(format.name()), "{error}");
        assert!(engine.with_weights(WeightFormat::F32).unwrap().load(&recording, &store).is_ok());
        // Other choices keep it.
        assert_eq!(engine.with_strategy(Strategy::Step).unwrap().weights(), format);
        assert_eq!(engine.ensemble(2).unwrap().weights(), format);
    }
}

/// Both directions, several layers, members of an ensemble: each has its own weights packed.
#[test]
fn directions_layers_and_members_keep_their_own() {
    let stack = Recurrent {
        layers: 2,
        direction: Direction::Both(Merge::Concat),
        ..Recurrent::new("rnn", CellKind::Gru, 8, 24)
    };
    let (time, x) = (5, Initializer::new(2).uniform(5 * 3 * 8, 1.0));
    let members: Vec<NamedTensors> = (0..2)
        .map(|seed| {
            let mut weights = NamedTensors::new();
            stack.init(&mut Initializer::new(seed), &mut weights);
            weights
        })
        .collect();
    for format in NARROW {
        let alone: Vec<Vec<f32>> = members
            .iter()
            .map(|weights| outputs(&engine(format, 2), &stack, weights, &x, time, None))
            .collect();
        assert_ne!(alone[0], alone[1]);
        let both = engine(format, 2).ensemble(2).unwrap();
        let store = both.store();
        for (member, weights) in members.iter().enumerate() {
            store.member(member).unwrap().set_all(weights).unwrap();
        }
        let mut program = both.load(&record(&stack, time, 3, false), &store).unwrap();
        program.write(program.find("x").unwrap(), &x).unwrap();
        for _ in 0..2 {
            program.run().unwrap();
            assert_eq!(program.read(program.find("y").unwrap()).unwrap(), alone.concat());
        }
        let exact = outputs(&engine(WeightFormat::F32, 2), &stack, &members[0], &x, time, None);
        let exact: Vec<f64> = exact.iter().map(|&y| f64::from(y)).collect();
        let error = worst(&alone[0], &exact);
        assert!(error > 0.0 && error < 2e-2, "{format:?}: {error}");
    }
}
