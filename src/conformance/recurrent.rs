//! Whole recurrent stacks: outputs, final states and every gradient.

use super::harness::{Tensors, run_once, wide};
use super::{Difference, Report, compare};
use crate::cell::{CellKind, parameters};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kernel::Control;
use crate::layer::{InitialState, Initializer, Recurrent};
use crate::oracle::{self, plain};
use crate::recording::Recording;
use crate::schedule::{Recorder, Var};
use ndarray::{Array1, Array2, Array3, Axis, concatenate};

/// The bound on outputs and final states, relative to the tensor's largest value. Single
/// operations are within a few units of 6e-8; sums over 257 terms and 64 steps add up to this.
const FORWARD_BOUND: f64 = 2.5e-6;

/// The same for gradients, which pass through as many products again.
const BACKWARD_BOUND: f64 = 8e-6;

const SEED: u64 = 0x1234_5678_9abc_def0;
const STEP: u32 = 3;

/// A stack, a shape and what is fed in.
#[derive(Clone, Debug)]
pub struct RecurrentCase {
    /// The equations.
    pub cell: CellKind,
    /// T, B, I, H.
    pub shape: [usize; 4],
    /// L.
    pub layers: usize,
    /// Random initial states with gradients; else zeros.
    pub given: bool,
    /// Inputs so large, at every other row and step, that gates saturate.
    pub saturated: bool,
    /// Dropout between the layers.
    pub dropout: f32,
}

impl RecurrentCase {
    /// Shape and options in words.
    pub fn name(&self) -> String {
        let [t, b, i, h] = self.shape;
        let mut name = format!("T{t} B{b} I{i} H{h} L{}", self.layers);
        let flags = [
            (self.given, " given"),
            (self.saturated, " saturated"),
            (self.dropout > 0.0, " dropout"),
        ];
        name.extend(flags.iter().filter(|f| f.0).map(|f| f.1));
        name
    }

    fn stack(&self) -> Recurrent {
        let [_, _, input, hidden] = self.shape;
        let (cell, layers, dropout) = (self.cell, self.layers, self.dropout);
        Recurrent { name: "rnn".to_string(), cell, input, hidden, layers, dropout }
    }
}

/// The suite's cases: every cell over odd sizes, several layers, given states, saturated gates.
pub fn recurrent_cases() -> Vec<RecurrentCase> {
    let plain: [([usize; 4], usize, bool); 13] = [
        ([1, 1, 1, 1], 1, false),
        ([1, 2, 3, 7], 2, true),
        ([2, 1, 7, 3], 1, true),
        ([3, 3, 2, 2], 3, true),
        ([7, 2, 3, 33], 1, true),
        ([7, 33, 1, 7], 2, false),
        ([3, 7, 33, 64], 2, true),
        ([2, 64, 7, 33], 1, true),
        ([64, 3, 7, 33], 2, true),
        ([33, 1, 64, 3], 3, false),
        ([3, 2, 257, 7], 1, true),
        ([7, 3, 33, 257], 1, true),
        ([257, 1, 2, 3], 1, true),
    ];
    let mut cases = Vec::new();
    for cell in CellKind::ALL {
        for (shape, layers, given) in plain {
            let (saturated, dropout) = (false, 0.0);
            cases.push(RecurrentCase { cell, shape, layers, given, saturated, dropout });
        }
        let base = RecurrentCase {
            cell,
            shape: [7, 3, 2, 7],
            layers: 2,
            given: true,
            saturated: true,
            dropout: 0.0,
        };
        cases.push(base.clone());
        cases.push(RecurrentCase { saturated: false, dropout: 0.3, layers: 3, ..base });
    }
    cases
}

/// Inputs, weights, states and the gradients that are fed in.
fn data(case: &RecurrentCase) -> Tensors {
    let [t, b, i, h] = case.shape;
    let sizes = case.shape.iter().fold(case.layers as u64, |a, &n| a * 1009 + n as u64);
    let mut generator = Initializer::new(sizes * 8 + case.cell as u64);
    let mut tensors = Tensors::new();
    let mut x = generator.uniform(t * b * i, 1.5);
    if case.saturated {
        // Every other row of every other step: where all units saturate at once, all gradients are
        // what rounding h to 1 leaves of them, and nothing is compared.
        for (row, x) in x.chunks_mut(i).enumerate() {
            let large = (row / b + row % b) % 2 == 1;
            x.iter_mut().for_each(|x| *x *= if large { 30.0 } else { 1.0 });
        }
    }
    tensors.insert("x".to_string(), x);
    tensors.insert("d_output".to_string(), generator.uniform(t * b * h, 1.0));
    let stack = case.stack();
    for layer in 0..case.layers {
        for parameter in parameters(case.cell, layer, stack.layer_input(layer), h) {
            let n = parameter.shape.iter().product();
            // Larger than the usual start, so that the recurrence matters.
            let bound = 1.3 / (h as f32).sqrt();
            tensors.insert(format!("rnn.{}", parameter.name), generator.uniform(n, bound));
        }
        let words = stack.state_rows(b) * h;
        if case.given {
            tensors.insert(format!("initial.{layer}"), generator.uniform(words, 1.0));
        }
        tensors.insert(format!("d_final.{layer}"), generator.uniform(words, 1.0));
    }
    tensors
}

/// A training step whose gradients are all outputs, named `d.{tensor}`.
fn record(case: &RecurrentCase) -> Result<Recording> {
    let [t, b, i, h] = case.shape;
    let stack = case.stack();
    let rec = &mut Recorder::training();
    let x = rec.input("x", [t * b, i], true)?;
    let rows = stack.state_rows(b);
    let mut given = Vec::new();
    if case.given {
        for layer in 0..case.layers {
            given.push(rec.input(&format!("initial.{layer}"), [rows, h], true)?);
        }
    }
    let initial = if case.given { InitialState::Given(given.clone()) } else { InitialState::Zero };
    let result = stack.record(rec, x, [t, b], &initial)?;
    rec.output("output", result.output)?;
    let seed = rec.input("d_output", [t * b, h], false)?;
    rec.seed_gradient(result.output, seed)?;
    for (layer, last) in result.finals.iter().enumerate() {
        rec.output(&format!("final.{layer}"), *last)?;
        let seed = rec.input(&format!("d_final.{layer}"), [rows, h], false)?;
        rec.seed_gradient(*last, seed)?;
    }
    rec.backward()?;
    let mut wanted: Vec<(String, Var)> = rec.parameters();
    wanted.push(("x".to_string(), x));
    wanted.extend(given.into_iter().enumerate().map(|(l, var)| (format!("initial.{l}"), var)));
    for (name, var) in wanted {
        let view = rec.gradient(var).ok_or_else(|| Error::Missing {
            tensor: format!("d.{name}"),
            place: "backward".into(),
        })?;
        rec.output(&format!("d.{name}"), Var { view, ..var })?;
    }
    Ok(std::mem::replace(rec, Recorder::inference()).finish())
}

fn oracle_cell(cell: CellKind) -> plain::Cell {
    match cell {
        CellKind::RnnTanh => plain::Cell::RnnTanh,
        CellKind::RnnRelu => plain::Cell::RnnRelu,
        CellKind::Lstm => plain::Cell::Lstm,
        CellKind::Gru => plain::Cell::Gru,
    }
}

fn reshape<D: ndarray::Dimension>(
    values: &[f32],
    shape: impl ndarray::ShapeArg<Dim = D>,
) -> Result<ndarray::Array<f64, D>> {
    let flat = Array1::from(wide(values));
    flat.into_shape_with_order(shape).map_err(|e| Error::invalid(e.to_string()))
}

/// `[S·B, H]` as the oracle's state.
fn state(values: &[f32], [batch, hidden]: [usize; 2]) -> Result<plain::State> {
    let (h, c) = values.split_at(batch * hidden);
    let c = if c.is_empty() { None } else { Some(reshape(c, (batch, hidden))?) };
    Ok(plain::State { h: reshape(h, (batch, hidden))?, c })
}

fn flatten_state(state: &plain::State) -> Vec<f64> {
    let parts: Vec<_> = std::iter::once(&state.h).chain(&state.c).map(|a| a.view()).collect();
    concatenate(Axis(0), &parts)
        .map_or_else(|_| Vec::new(), |a: Array2<f64>| a.into_iter().collect())
}

/// The oracle's results, by the names of the recording's outputs.
fn expected(case: &RecurrentCase, data: &Tensors) -> Result<Vec<(String, Vec<f64>)>> {
    let [t, b, i, h] = case.shape;
    let cell = oracle_cell(case.cell);
    let rows = cell.gates() * h;
    let mut layers = Vec::new();
    let mut initial = Vec::new();
    let mut d_finals = Vec::new();
    for layer in 0..case.layers {
        let get = |stem: &str| &data[&format!("rnn.{stem}_l{layer}")];
        let width = if layer == 0 { i } else { h };
        layers.push(plain::Weights {
            w_ih: reshape(get("weight_ih"), (rows, width))?,
            w_hh: reshape(get("weight_hh"), (rows, h))?,
            b_ih: reshape(get("bias_ih"), rows)?,
            b_hh: reshape(get("bias_hh"), rows)?,
        });
        initial.push(match data.get(&format!("initial.{layer}")) {
            Some(values) => state(values, [b, h])?,
            None => plain::State::zeros(cell, b, h),
        });
        d_finals.push(state(&data[&format!("d_final.{layer}")], [b, h])?);
    }
    let x: Array3<f64> = reshape(&data["x"], (t, b, i))?;
    let d_output: Array3<f64> = reshape(&data["d_output"], (t, b, h))?;
    let mut dropout = Vec::new();
    if case.dropout > 0.0 {
        let keep = f64::from(1.0 - case.dropout);
        for stream in 0..case.layers as u32 - 1 {
            let mask = oracle::dropout_multipliers(SEED, stream, STEP, keep, t * b * h);
            let mask = Array1::from(mask).into_shape_with_order((t, b, h));
            dropout.push(mask.map_err(|e| Error::invalid(e.to_string()))?);
        }
    }
    let forward = plain::forward(cell, &layers, &x, &initial, &dropout)?;
    let backward = plain::backward(cell, &layers, &forward, &d_output, &d_finals)?;
    let mut wanted = vec![
        ("output".to_string(), forward.outputs.iter().copied().collect()),
        ("d.x".to_string(), backward.x.iter().copied().collect()),
    ];
    for layer in 0..case.layers {
        wanted.push((format!("final.{layer}"), flatten_state(&forward.finals[layer])));
        if case.given {
            wanted.push((format!("d.initial.{layer}"), flatten_state(&backward.initial[layer])));
        }
        let weights = &backward.layers[layer];
        let name = |stem: &str| format!("d.rnn.{stem}_l{layer}");
        wanted.push((name("weight_ih"), weights.w_ih.iter().copied().collect()));
        wanted.push((name("weight_hh"), weights.w_hh.iter().copied().collect()));
        wanted.push((name("bias_ih"), weights.b_ih.to_vec()));
        wanted.push((name("bias_hh"), weights.b_hh.to_vec()));
    }
    Ok(wanted)
}

/// How much larger than 1 the rounding errors of the input product may be: a sum's error is in
/// proportion to Σ|w·x| (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1),
/// which the gates see as an absolute error. The bounds are for sums of 16 and less.
fn condition(case: &RecurrentCase, data: &Tensors) -> f64 {
    let width = case.shape[2];
    let mut largest = 0f64;
    for w in data["rnn.weight_ih_l0"].chunks(width) {
        for x in data["x"].chunks(width) {
            let terms = w.iter().zip(x).map(|(w, x)| f64::from((w * x).abs()));
            largest = largest.max(terms.sum());
        }
    }
    (largest / 16.0).max(1.0)
}

/// Two reports: the forward kernels by outputs and final states, the backward kernels by all
/// gradients.
///
/// # Errors
/// The engine failed.
pub fn recurrent_reports(engine: &Engine, case: &RecurrentCase) -> Result<[Report; 2]> {
    let data = data(case);
    let got = run_once(engine, &record(case)?, &data, &[], Control::new(STEP, SEED))?;
    let differences: Vec<(String, Difference)> = expected(case, &data)?
        .into_iter()
        .map(|(name, want)| {
            let got = got.get(&name).map_or(&[][..], |v| v);
            let difference = compare(got, &want);
            (name, difference)
        })
        .collect();
    let (backward, forward): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|d| d.0.starts_with("d."));
    let cell = case.cell.name();
    let condition = condition(case, &data);
    let report = |kernel: &str, tolerance, differences| {
        Report::worst(format!("{kernel}/{cell}"), case.name(), tolerance, differences)
    };
    Ok([
        report("step_forward", FORWARD_BOUND * condition, forward),
        report("step_backward", BACKWARD_BOUND * condition, backward),
    ])
}
