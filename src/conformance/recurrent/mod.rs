//! Whole recurrent stacks with every option: outputs, final states and every gradient.

mod cases;
mod expected;
mod weigh;

use expected::Expected;
pub(super) use expected::activation as oracle_activation;
use weigh::weigh;

pub(super) use cases::recurrent_groups;
pub use cases::{random_case, random_shape, recurrent_cases, recurrent_cases_in_f16};

use super::harness::{Tensors, run_once, short};
use super::{Difference, Report, SHORT_BOUND, compare};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::kernel::{CellKind, Control, LossScale};
use crate::layer::{InitialState, Initializer, Memory, Padding, Recurrent, Sequence};
use crate::recording::Recording;
use crate::schedule::{Recorder, Var};
use crate::tensor::Precision;
use crate::wait;

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
    /// The stack with its options.
    pub stack: Recurrent,
    /// T.
    pub time: usize,
    /// B; with a convolution the number of maps.
    pub batch: usize,
    /// Random initial states with gradients; else zeros, or the learned ones.
    pub given: bool,
    /// Inputs so large, at every other row and step, that gates saturate.
    pub saturated: bool,
    /// Rows of different lengths, one of them 0 where there are three or more.
    pub lengths: bool,
    /// Single steps of single rows left out.
    pub mask: bool,
    /// Rows that start anew in the middle.
    pub resets: bool,
    /// What the outputs of steps that take no part are.
    pub padding: Padding,
    /// Inference: no dropout, zoneout by its rate, forward only.
    pub inference: bool,
    /// The input is rows of a table of so many, a parameter, by ids.
    pub table: Option<usize>,
    /// How activations are stored.
    pub precision: Precision,
}

impl RecurrentCase {
    /// A stack without options around it.
    pub fn new(stack: Recurrent, time: usize, batch: usize) -> Self {
        RecurrentCase {
            stack,
            time,
            batch,
            given: false,
            saturated: false,
            lengths: false,
            mask: false,
            resets: false,
            padding: Padding::Value(0.0),
            inference: false,
            table: None,
            precision: Precision::F32,
        }
    }

    /// Shape and options in words.
    pub fn name(&self) -> String {
        let s = &self.stack;
        let mut name =
            format!("T{} B{} I{} H{} L{}", self.time, self.batch, s.input, s.hidden, s.layers);
        let cell = &s.cell;
        let activations: Vec<_> = cell.activations.iter().flatten().map(|a| a.name()).collect();
        let words = [
            (self.given, "given".to_string()),
            (self.saturated, "saturated".to_string()),
            (self.inference, "inference".to_string()),
            (s.dropout > 0.0, "dropout".to_string()),
            (s.input_dropout > 0.0, "input-dropout".to_string()),
            (s.recurrent_dropout > 0.0, "recurrent-dropout".to_string()),
            (s.per_gate, "per-gate".to_string()),
            (s.weight_drop > 0.0, "weight-drop".to_string()),
            (s.zoneout.iter().any(|&z| z > 0.0), "zoneout".to_string()),
            (s.heads > 1, format!("heads{}", s.heads)),
            (s.convolution.is_some(), "convolution".to_string()),
            (s.batch_norm.is_some(), "batch-norm".to_string()),
            (s.residual, "residual".to_string()),
            (s.skip, "skip".to_string()),
            (s.learned_initial, "learned".to_string()),
            (s.direction != Default::default(), format!("{:?}", s.direction)),
            (cell.peepholes, "peepholes".to_string()),
            (cell.coupled, "coupled".to_string()),
            (cell.clip.is_some(), "clip".to_string()),
            (cell.cell_clip.is_some(), "cell-clip".to_string()),
            (cell.layer_norm.is_some(), "layer-norm".to_string()),
            (cell.projection.is_some(), "projection".to_string()),
            (!activations.is_empty(), activations.join("+")),
            (self.lengths, "lengths".to_string()),
            (self.mask, "mask".to_string()),
            (self.resets, "resets".to_string()),
            (self.padding == Padding::Repeat, "repeat".to_string()),
            (s.memory != Memory::Keep, "segments".to_string()),
            (self.table.is_some(), format!("table{}", self.table.unwrap_or(0))),
        ];
        for (_, word) in words.into_iter().filter(|w| w.0) {
            name.push(' ');
            name.push_str(&word.to_lowercase());
        }
        name
    }

    /// Rows of the batch: B, or B·S.
    fn rows(&self) -> usize {
        self.batch * self.stack.convolution.map_or(1, |c| c.places())
    }

    /// Layers times directions.
    fn parts(&self) -> usize {
        self.stack.layers * self.stack.direction.count()
    }

    fn seed(&self) -> u64 {
        let s = &self.stack;
        let sizes = [self.time, self.batch, s.input, s.hidden, s.layers, s.cell.gates()];
        sizes.iter().fold(s.cell.kind as u64, |a, &n| a * 1009 + n as u64)
    }
}

/// The parameter that a case's input is rows of.
const TABLE: &str = "table.weight";

/// What is fed in.
struct Data {
    /// Inputs, weights, states, masks and gradients; x also where it is looked up.
    tensors: Tensors,
    lengths: Vec<u32>,
    /// Which row of the table each row of x is.
    ids: Vec<u32>,
}

fn data(case: &RecurrentCase) -> Data {
    let s = &case.stack;
    let (t, rows) = (case.time, case.rows());
    let mut generator = Initializer::new(case.seed());
    let g = &mut generator;
    let mut tensors = Tensors::new();
    let mut x = g.uniform(t * rows * s.input, 1.5);
    if case.saturated {
        // Every other row of every other step: where all units saturate at once, all gradients are
        // what rounding h to 1 leaves of them, and nothing is compared.
        for (row, x) in x.chunks_mut(s.input).enumerate() {
            let large = (row / rows + row % rows) % 2 == 1;
            x.iter_mut().for_each(|x| *x *= if large { 30.0 } else { 1.0 });
        }
    }
    let mut ids = Vec::new();
    if let Some(rows_of_table) = case.table {
        // The last row is nobody's.
        let draw = g.uniform(t * rows, 0.5);
        let most = (rows_of_table - 1).max(1);
        ids.extend(draw.iter().map(|u| ((u + 0.5) * most as f32) as u32 % most as u32));
        let mut table = x;
        table.resize(rows_of_table * s.input, 0.7);
        x = ids.iter().flat_map(|&id| table[id as usize * s.input..][..s.input].to_vec()).collect();
        tensors.insert(TABLE.to_string(), table);
    }
    tensors.insert("x".to_string(), x);
    if case.precision == Precision::F16 {
        tensors.insert(LossScale::NAME.to_string(), LossScale::NEUTRAL.to_vec());
    }
    tensors.insert("d_output".to_string(), g.uniform(t * rows * s.output_width(), 1.0));
    for parameter in s.all_parameters() {
        let n = parameter.shape.iter().product();
        let last = *parameter.shape.last().unwrap_or(&1);
        // Larger than the usual start, so that the recurrence matters.
        let bound = 1.3 / (last.min(s.hidden.max(4)) as f32).sqrt();
        let mut values = g.uniform(n, if parameter.shape.len() == 2 { bound } else { 0.7 });
        if parameter.name.contains("norm_") && parameter.name.contains("weight") {
            values.iter_mut().for_each(|v| *v = 1.0 + 0.6 * *v);
        }
        if parameter.name.contains("initial") {
            positive_norm(&mut values, &s.cell.kind, s.hidden, 1);
        }
        tensors.insert(parameter.name, values);
    }
    let words: usize = s.state_shape(rows).iter().product();
    for part in 0..case.parts() {
        if case.given {
            let mut values = g.uniform(words, 1.0);
            positive_norm(&mut values, &s.cell.kind, s.hidden, rows);
            tensors.insert(format!("initial.{part}"), values);
        }
        tensors.insert(format!("d_final.{part}"), g.uniform(words, 1.0));
    }
    let flips = |g: &mut Initializer, below: f32| -> Vec<f32> {
        g.uniform(t * case.batch, 0.5).iter().map(|u| f32::from(u + 0.5 < below)).collect()
    };
    tensors.insert("mask".to_string(), flips(g, 0.7));
    tensors.insert("resets".to_string(), flips(g, 0.25));
    if case.precision == Precision::F16 {
        // What is stored is what the oracle sees.
        tensors.values_mut().flatten().for_each(|x| *x = short(*x));
    }
    let random = g.uniform(case.batch, 0.5);
    let mut lengths: Vec<u32> =
        random.iter().map(|u| 1 + ((u + 0.5) * t as f32) as u32).map(|n| n.min(t as u32)).collect();
    if let [_, second, _, ..] = &mut lengths[..] {
        *second = 0;
    }
    // Of two rows a batch norm makes +1 and −1, whatever they are but for ε: the gradient is what ε leaves of numbers
    // that cancel, which no float32 knows.
    let on = |(at, &on): (usize, &f32)| {
        let valid = (!case.mask || on > 0.0)
            && (!case.lengths || at / case.batch < lengths[at % case.batch] as usize);
        usize::from(valid)
    };
    let maps: usize = tensors["mask"].iter().enumerate().map(on).sum();
    if s.batch_norm.is_some() && maps * (rows / case.batch) < 3 {
        tensors.insert("mask".to_string(), vec![1.0; t * case.batch]);
        lengths.fill(t as u32);
    }
    Data { tensors, lengths, ids }
}

/// sLSTM's n is a sum of positive numbers.
fn positive_norm(states: &mut [f32], cell: &CellKind, hidden: usize, rows: usize) {
    if *cell == CellKind::Slstm {
        let n = &mut states[2 * hidden * rows..3 * hidden * rows];
        n.iter_mut().for_each(|v| *v = 0.5 + v.abs());
    }
}

/// A training step whose gradients are all outputs, named `d.{tensor}`; or inference.
///
/// # Errors
/// An option that the stack refuses.
pub fn record_case(case: &RecurrentCase) -> Result<Recording> {
    let s = &case.stack;
    let (t, rows) = (case.time, case.rows());
    let recorder = if case.inference { Recorder::inference() } else { Recorder::training() };
    let mut recorder = recorder.with_precision(case.precision);
    let rec = &mut recorder;
    let x = match case.table {
        None => rec.input("x", [t * rows, s.input], true)?,
        Some(table) => {
            let table = rec.parameter(TABLE, [table, s.input])?;
            let ids = rec.input_ids("ids", t * rows)?;
            rec.gather(table, ids)?
        }
    };
    let states = s.state_shape(rows);
    let mut given = Vec::new();
    if case.given {
        for part in 0..case.parts() {
            given.push(rec.input(&format!("initial.{part}"), states, true)?);
        }
    }
    let initial = if case.given { InitialState::Given(given.clone()) } else { InitialState::Zero };
    let mut sequence = Sequence::new(t, rows).with_padding(case.padding);
    if case.lengths {
        sequence = sequence.with_lengths(rec.input_ids("lengths", case.batch)?);
    }
    if case.mask {
        sequence = sequence.with_mask(rec.input("mask", [t, case.batch], false)?.view);
    }
    if case.resets {
        sequence = sequence.with_resets(rec.input("resets", [t, case.batch], false)?.view);
    }
    let result = s.record(rec, x, sequence, &initial)?;
    rec.output("output", result.output)?;
    for (part, last) in result.finals.iter().enumerate() {
        rec.output(&format!("final.{part}"), *last)?;
    }
    if case.inference {
        return Ok(recorder.finish());
    }
    let seed = rec.input("d_output", [t * rows, s.output_width()], false)?;
    rec.seed_gradient(result.output, seed)?;
    for (part, last) in result.finals.iter().enumerate() {
        let seed = rec.input(&format!("d_final.{part}"), states, false)?;
        rec.seed_gradient(*last, seed)?;
    }
    rec.backward()?;
    let mut wanted: Vec<(String, Var)> = rec.parameters();
    if case.table.is_none() {
        wanted.push(("x".to_string(), x));
    }
    wanted.extend(given.into_iter().enumerate().map(|(n, var)| (format!("initial.{n}"), var)));
    for (name, var) in wanted {
        let view = rec.gradient(var).ok_or_else(|| Error::Missing {
            tensor: format!("d.{name}"),
            place: "backward".into(),
        })?;
        rec.output(&format!("d.{name}"), Var { view, ..var })?;
    }
    Ok(recorder.finish())
}

/// How much larger than 1 the rounding errors of the input product may be: a sum's error is in
/// proportion to Σ|w·x| (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1),
/// which the gates see as an absolute error. The bounds are for sums of 16 and less.
fn condition(case: &RecurrentCase, data: &Tensors) -> f64 {
    let width = case.stack.input;
    let mut largest = 0f64;
    let first = format!("{}.weight_ih_l0", case.stack.name);
    for (_, w) in data.iter().filter(|d| d.0.starts_with(&first)) {
        for w in w.chunks(width) {
            for x in data["x"].chunks(width) {
                let terms = w.iter().zip(x).map(|(w, x)| f64::from((w * x).abs()));
                largest = largest.max(terms.sum());
            }
        }
    }
    // With a convolution a sum has the terms of all places of the kernel.
    let places = case.stack.convolution.map_or(1, |c| c.kernel.iter().product());
    (largest * places as f64 / 16.0).max(1.0)
}

/// Two reports: the forward kernels by outputs and final states, the backward kernels by all
/// gradients (one report in inference).
///
/// # Errors
/// The engine failed, or the stack refuses an option.
pub fn recurrent_reports(engine: &Engine, case: &RecurrentCase) -> Result<Vec<Report>> {
    wait::here(reports_of(engine, case))
}

/// The same in a browser.
pub(super) async fn reports_of(engine: &Engine, case: &RecurrentCase) -> Result<Vec<Report>> {
    let Data { tensors: data, lengths, ids } = data(case);
    let given = [("lengths", &lengths[..]), ("ids", &ids[..])];
    let recording = record_case(case)?;
    let got = run_once(engine, &recording, &data, &given, Control::new(STEP, SEED)).await?;
    let expected = expected::expected(case, &data, &lengths, &ids, 0.0)?;
    let cell = case.stack.cell.name();
    let condition = condition(case, &data);
    let is_short = case.precision == Precision::F16;
    let report = |kernel: &str, bound: f64, backward: bool| {
        let differences = |expected: &Expected| -> Vec<(String, Difference)> {
            let wanted = expected.values.iter().filter(|want| want.0.starts_with("d.") == backward);
            let compared = wanted.map(|(name, want)| {
                let got = got.get(name).map_or(&[][..], |v| v);
                (name.clone(), compare(got, want))
            });
            compared.collect()
        };
        let kernel = format!("{kernel}/{cell}{}", if is_short { " f16" } else { "" });
        let tolerance = condition * if is_short { SHORT_BOUND } else { bound };
        let against = |expected: &Expected| {
            let tensors = differences(expected).into_iter().map(|(name, d)| (name, d, tolerance));
            Report::worst(kernel.clone(), case.name(), tensors)
        };
        let mut report = against(&expected);
        if !report.pass {
            report =
                weigh(report, case, &data, [&lengths, &ids], &expected, &differences(&expected))?;
        }
        // Rounding may have put elements over a border: first the nearest, then more.
        for crossing in CROSSINGS.into_iter().filter(|&crossing| expected.margin < crossing) {
            if report.pass {
                break;
            }
            let across = expected::expected(case, &data, &lengths, &ids, crossing)?;
            let other = against(&across);
            report = if other.pass { other } else { report };
        }
        Ok(report)
    };
    let launched = engine.arranged(&recording).census();
    let kernel = |pass: &str| {
        let ways = ["scan", "grid", "sequence"].map(|way| format!("{way}_{pass}"));
        let found = ways.into_iter().find(|name| launched.contains_key(name.as_str()));
        found.unwrap_or(format!("step_{pass}"))
    };
    let mut reports: Vec<Report> = vec![report(&kernel("forward"), FORWARD_BOUND, false)?];
    if !case.inference {
        reports.push(report(&kernel("backward"), BACKWARD_BOUND, true)?);
    }
    Ok(reports)
}

/// How near to a border at which a slope jumps (a clip's, a rectifier's) elements may be that float32 puts on its other
/// side, as such elements and no others: all within the first of these distances, or all within the second, and so on.
const CROSSINGS: [f64; 7] = [1e-7, 2e-7, 4e-7, 8e-7, 1.6e-6, 3.2e-6, 6.4e-6];
