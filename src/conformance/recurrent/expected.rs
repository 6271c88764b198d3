//! A case in the oracle's words.

use super::super::harness::{Tensors, wide};
use super::{RecurrentCase, SEED, STEP, TABLE};
use crate::error::{Error, Result};
use crate::kernel::{Activation, CellKind, CustomCell};
use crate::layer::{Direction, Merge, Padding};
use crate::oracle::tape::Tape;
use crate::oracle::{dropout_multipliers, recurrent as oracle, threefry2x32};
use ndarray::{Array1, Array2, Array3};
use std::sync::Arc;

/// What the oracle has of a run.
pub struct Expected {
    /// By the names of the recording's outputs.
    pub values: Vec<(String, Vec<f64>)>,
    /// See [`Tape::margin`].
    pub margin: f64,
}

/// An activation in the oracle's words.
pub fn activation(a: Activation) -> oracle::Activation {
    let wide = |x: f32| f64::from(x);
    match a {
        Activation::Relu => oracle::Activation::Relu,
        Activation::Tanh => oracle::Activation::Tanh,
        Activation::Sigmoid => oracle::Activation::Sigmoid,
        Activation::Affine { alpha, beta } => {
            oracle::Activation::Affine { alpha: wide(alpha), beta: wide(beta) }
        }
        Activation::LeakyRelu { alpha } => oracle::Activation::LeakyRelu { alpha: wide(alpha) },
        Activation::ThresholdedRelu { alpha } => {
            oracle::Activation::ThresholdedRelu { alpha: wide(alpha) }
        }
        Activation::ScaledTanh { alpha, beta } => {
            oracle::Activation::ScaledTanh { alpha: wide(alpha), beta: wide(beta) }
        }
        Activation::HardSigmoid { alpha, beta } => {
            oracle::Activation::HardSigmoid { alpha: wide(alpha), beta: wide(beta) }
        }
        Activation::Elu { alpha } => oracle::Activation::Elu { alpha: wide(alpha) },
        Activation::Softsign => oracle::Activation::Softsign,
        Activation::Softplus => oracle::Activation::Softplus,
        Activation::Identity => oracle::Activation::Identity,
    }
}

/// A user's cell by its float64 equation.
#[derive(Debug)]
struct Custom(Arc<CustomCell>);

impl oracle::CustomCell for Custom {
    fn gates(&self) -> usize {
        self.0.gates
    }
    fn states(&self) -> usize {
        self.0.states
    }
    fn forward(&self, x: &[f64], r: &[f64], old: &[f64], new: &mut [f64]) {
        (self.0.reference)(x, r, old, new);
    }
}

fn spec(case: &RecurrentCase, direction: usize) -> Result<oracle::LayerSpec> {
    let (s, cell) = (&case.stack, &case.stack.cell);
    let own = match (&cell.custom, cell.kind) {
        (Some(custom), _) => oracle::Cell::Custom(Arc::new(Custom(custom.clone()))),
        (None, CellKind::RnnTanh | CellKind::RnnRelu) => oracle::Cell::Rnn,
        (None, CellKind::Lstm) => oracle::Cell::Lstm,
        (None, CellKind::Gru) => oracle::Cell::Gru,
        (None, CellKind::GruResetBefore) => oracle::Cell::GruResetBefore,
        (None, CellKind::Slstm) => oracle::Cell::SLstm,
        (None, CellKind::MinGru) => oracle::Cell::MinGru,
        (None, CellKind::MinLstm) => oracle::Cell::MinLstm,
        (None, CellKind::Custom) => return Err(Error::invalid("a cell without equations")),
    };
    let rectified = cell.kind == CellKind::RnnRelu;
    let activations = match &cell.activations {
        Some(given) => Some(given.iter().map(|&a| activation(a)).collect()),
        None => rectified.then(|| vec![oracle::Activation::Relu]),
    };
    let narrow = |x: Option<f32>| x.map(f64::from);
    let options = oracle::Options {
        activations,
        peepholes: cell.peepholes,
        coupled: cell.coupled,
        clip: narrow(cell.clip),
        cell_clip: narrow(cell.cell_clip),
        layer_norm: narrow(cell.layer_norm),
        batch_norm: narrow(s.batch_norm),
        heads: s.heads,
        projection: cell.projection,
        convolution: s.convolution.map(|c| oracle::Convolution {
            height: c.map[0],
            width: c.map[1],
            kernel_height: c.kernel[0],
            kernel_width: c.kernel[1],
        }),
        reverse: s.direction.is_reverse(direction),
    };
    Ok(oracle::LayerSpec { cell: own, options, hidden: s.hidden })
}

fn array<D: ndarray::Dimension>(
    values: Vec<f64>,
    shape: impl ndarray::ShapeArg<Dim = D>,
) -> Result<ndarray::Array<f64, D>> {
    let flat = Array1::from(values).into_shape_with_order(shape);
    flat.map_err(|e| Error::invalid(e.to_string()))
}

/// The states of one layer and direction from their flat layout: h \[B,P\], then the others \[B,H\].
fn states(case: &RecurrentCase, values: &[f32]) -> Result<Vec<Array2<f64>>> {
    let (cell, h, rows) = (&case.stack.cell, case.stack.hidden, case.rows());
    let mut at = 0;
    let mut list = Vec::new();
    for state in 0..cell.states() {
        let width = if state == 0 { cell.width(h) } else { h };
        list.push(array(wide(&values[at..at + rows * width]), (rows, width))?);
        at += rows * width;
    }
    Ok(list)
}

fn flatten(states: &[Array2<f64>]) -> Vec<f64> {
    states.iter().flat_map(|s| s.iter().copied()).collect()
}

/// Random streams in the order in which the recorder takes them.
struct Streams(u32);

impl Streams {
    fn multipliers(&mut self, on: bool, rate: f32, n: usize) -> Option<Vec<f64>> {
        if !on || rate == 0.0 {
            return None;
        }
        self.0 += 1;
        Some(dropout_multipliers(SEED, self.0 - 1, STEP, f64::from(1.0 - rate), n))
    }

    /// z of each element of h and of the other states, \[T·B, width\].
    fn zoneout(&mut self, case: &RecurrentCase) -> Result<Vec<Option<Array2<f64>>>> {
        let rates = case.stack.zoneout;
        if rates == [0.0; 2] {
            return Ok(Vec::new());
        }
        let (cell, h, rows) = (&case.stack.cell, case.stack.hidden, case.time * case.rows());
        let stream = self.0;
        if !case.inference {
            self.0 += 1;
        }
        let key = [SEED as u32, (SEED >> 32) as u32 ^ stream];
        let mut list = Vec::new();
        for state in 0..cell.states() {
            let (width, other) = if state == 0 { (cell.width(h), 0) } else { (h, 1) };
            let z = |element: usize| {
                let word = threefry2x32(key, [element as u32, STEP])[other];
                let u = f64::from(word >> 8) / f64::from(1u32 << 24);
                match case.inference {
                    true => f64::from(rates[other]),
                    false => f64::from(u < f64::from(rates[other])),
                }
            };
            let z = (0..rows * width).map(z).collect();
            list.push(Some(array(z, (rows, width))?));
        }
        Ok(list)
    }
}

/// A stack's run in the oracle, with elements nearer than `crossing` to a border at which a slope jumps as if they
/// were on its other side.
pub fn expected(
    case: &RecurrentCase,
    data: &Tensors,
    lengths: &[u32],
    ids: &[u32],
    crossing: f64,
) -> Result<Expected> {
    expected_on(&Tape::across(crossing), case, data, lengths, ids)
}

/// The same on a tape of its own.
pub fn expected_on(
    tape: &Tape,
    case: &RecurrentCase,
    data: &Tensors,
    lengths: &[u32],
    ids: &[u32],
) -> Result<Expected> {
    let s = &case.stack;
    let (t, rows, h) = (case.time, case.rows(), s.hidden);
    let (places, training) = (rows / case.batch, !case.inference);
    let width = s.cell.width(h);
    let flags = |f: &dyn Fn(usize, usize) -> bool| {
        Array2::from_shape_fn((t, rows), |(time, row)| f(time, row / places))
    };
    let at = |name: &str, time: usize, b: usize| data[name][time * case.batch + b] != 0.0;
    let valid = (case.lengths || case.mask).then(|| {
        flags(&|time, b| {
            (!case.lengths || time < lengths[b] as usize) && (!case.mask || at("mask", time, b))
        })
    });
    let resets = case.resets.then(|| flags(&|time, b| at("resets", time, b)));
    let mut streams = Streams(0);
    let mut input = oracle::StackInput {
        x: array(wide(&data["x"]), (t, rows, s.input))?,
        weights: Vec::new(),
        initial: Vec::new(),
        masks: Vec::new(),
        between: Vec::new(),
        weight_drop: Vec::new(),
        d_output: array(wide(&data["d_output"]), (t, rows, s.output_width()))?,
        d_finals: Vec::new(),
    };
    let mut layers = Vec::new();
    for layer in 0..s.layers {
        let columns = s.layer_input(layer);
        let between = streams.multipliers(training && layer > 0, s.dropout, t * rows * columns);
        let variational = streams.multipliers(training, s.input_dropout, rows * columns);
        input.between.push(match (between, variational) {
            (None, None) => None,
            (between, variational) => {
                let words = rows * columns;
                let one = |list: &Option<Vec<f64>>, i: usize| list.as_ref().map_or(1.0, |l| l[i]);
                let product =
                    (0..t * words).map(|i| one(&between, i) * one(&variational, i % words));
                Some(array(product.collect(), (t, rows, columns))?)
            }
        });
        let (mut specs, mut weights, mut initial) = (Vec::new(), Vec::new(), Vec::new());
        let (mut masks, mut drops, mut d_finals) = (Vec::new(), Vec::new(), Vec::new());
        for d in 0..s.direction.count() {
            let part = layer * s.direction.count() + d;
            let suffix = format!("_l{layer}{}", if d == 1 { "_reverse" } else { "" });
            let spec = spec(case, d)?;
            let mut own = oracle::Weights::new();
            for (name, shape) in spec.weight_shapes(columns) {
                let values = &data[&format!("{}.{name}{suffix}", s.name)];
                own.insert(name, array(wide(values), (shape[0], shape[1]))?);
            }
            initial.push(match data.get(&format!("initial.{part}")) {
                Some(values) => states(case, values)?,
                None if s.learned_initial => {
                    learned(case, &data[&format!("{}.initial{suffix}", s.name)])
                }
                None => states(case, &vec![0.0; rows * s.cell.state_words(h)])?,
            });
            let zoneout = streams.zoneout(case)?;
            let count = match (s.recurrent_dropout > 0.0 && training, s.per_gate) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => s.cell.gates(),
            };
            let all = streams.multipliers(count > 0, s.recurrent_dropout, count * rows * width);
            let mut recurrent = Vec::new();
            if let Some(all) = all {
                for mask in all.chunks(rows * width) {
                    recurrent.push(array(mask.to_vec(), (rows, width))?);
                }
            }
            let (valid, resets) = (valid.clone(), resets.clone());
            masks.push(oracle::Masks { valid, resets, recurrent, zoneout });
            let hh = own.get("weight_hh").map(|w| w.dim());
            drops.push(match hh {
                Some((r, c)) => match streams.multipliers(training, s.weight_drop, r * c) {
                    Some(m) => Some(array(m, (r, c))?),
                    None => None,
                },
                None => None,
            });
            d_finals.push(states(case, &data[&format!("d_final.{part}")])?);
            if case.inference && s.batch_norm.is_some() {
                // The running averages start at a mean of 0 and a variance of 1.
                let columns = (1, s.cell.gates() * h);
                own.insert("batch_norm_mean".into(), Array2::zeros(columns));
                own.insert("batch_norm_variance".into(), Array2::ones(columns));
            }
            specs.push(spec);
            weights.push(own);
        }
        layers.push(specs);
        input.weights.push(weights);
        input.initial.push(initial);
        input.masks.push(masks);
        input.weight_drop.push(drops);
        input.d_finals.push(d_finals);
    }
    let merge = match s.direction {
        Direction::Both(Merge::Sum) => oracle::Merge::Sum,
        Direction::Both(Merge::Mul) => oracle::Merge::Mul,
        Direction::Both(Merge::Average) => oracle::Merge::Average,
        _ => oracle::Merge::Concat,
    };
    let padding = match case.padding {
        Padding::Value(value) => oracle::Padding::Value(f64::from(value)),
        Padding::Repeat => oracle::Padding::Repeat,
    };
    let (residual, skip) = (s.residual, s.skip);
    let stack = oracle::Stack { layers, merge, residual, skip, padding };
    let result = oracle::run_on(tape, &stack, &input)?;
    let flat = |a: &Array3<f64>| a.iter().copied().collect::<Vec<_>>();
    let mut values = vec![("output".to_string(), flat(&result.output))];
    match case.table {
        _ if !training => {}
        None => values.push(("d.x".to_string(), flat(&result.d_x))),
        Some(table) => {
            let mut sums = vec![0.0; table * s.input];
            for (&id, row) in ids.iter().zip(flat(&result.d_x).chunks(s.input)) {
                let of_table = &mut sums[id as usize * s.input..][..s.input];
                of_table.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
            }
            values.push((format!("d.{TABLE}"), sums));
        }
    }
    for layer in 0..s.layers {
        for d in 0..s.direction.count() {
            let part = layer * s.direction.count() + d;
            let suffix = format!("_l{layer}{}", if d == 1 { "_reverse" } else { "" });
            values.push((format!("final.{part}"), flatten(&result.finals[layer][d])));
            if !training {
                continue;
            }
            let d_initial = &result.d_initial[layer][d];
            if case.given {
                values.push((format!("d.initial.{part}"), flatten(d_initial)));
            } else if s.learned_initial {
                let sums = d_initial.iter().flat_map(|s| s.sum_axis(ndarray::Axis(0)));
                values.push((format!("d.{}.initial{suffix}", s.name), sums.collect()));
            }
            for (name, gradient) in &result.d_weights[layer][d] {
                let gradient = gradient.iter().copied().collect();
                values.push((format!("d.{}.{name}{suffix}", s.name), gradient));
            }
        }
    }
    Ok(Expected { values, margin: result.margin })
}

/// One state for all rows.
fn learned(case: &RecurrentCase, values: &[f32]) -> Vec<Array2<f64>> {
    let (cell, h, rows) = (&case.stack.cell, case.stack.hidden, case.rows());
    let mut at = 0;
    let mut list = Vec::new();
    for state in 0..cell.states() {
        let width = if state == 0 { cell.width(h) } else { h };
        let own = &values[at..at + width];
        list.push(Array2::from_shape_fn((rows, width), |(_, j)| f64::from(own[j])));
        at += width;
    }
    list
}
