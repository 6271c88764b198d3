//! What `bench` prints of a shape: lines of JSON, and tables.

use super::COMMIT;
use recurra::cell::CellKind;
use recurra::engine::{Engine, Strategy, WeightFormat};
use recurra::layer::Memory;
use recurra::measure::{DeviceRates, Measurement, RecurrentShape, Timing};
use recurra::tensor::Precision;
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The line of `--list`.
#[derive(Serialize, Deserialize)]
pub struct ShapeLine {
    cell: Cow<'static, str>,
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    #[serde(default = "one")]
    heads: usize,
    #[serde(default, skip_serializing_if = "is_false")]
    bidirectional: bool,
    /// All are T where it is missing.
    #[serde(default = "most", skip_serializing_if = "is_most")]
    shortest: usize,
    #[serde(default)]
    precision: Cow<'static, str>,
    /// Steps of a segment, where what lies between forward and backward is not kept whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment_steps: Option<usize>,
}

fn one() -> usize {
    1
}

fn is_false(value: &bool) -> bool {
    !value
}

fn most() -> usize {
    usize::MAX
}

fn is_most(shortest: &usize) -> bool {
    *shortest == most()
}

impl ShapeLine {
    /// Of a shape.
    pub fn new(shape: &RecurrentShape) -> Self {
        let RecurrentShape { time, batch, input, hidden, layers, heads, .. } = *shape;
        ShapeLine {
            cell: shape.cell.name().into(),
            time,
            batch,
            input,
            hidden,
            layers,
            heads,
            bidirectional: shape.bidirectional,
            shortest: shape.shortest,
            precision: shape.precision.name().into(),
            segment_steps: match shape.memory {
                Memory::Segments(steps) => Some(steps),
                Memory::Keep | Memory::Budget(_) => None,
            },
        }
    }

    /// The shape of a line, with the other options as they are.
    pub fn shape(&self, options: &RecurrentShape) -> Result<RecurrentShape> {
        let ShapeLine { time, batch, input, hidden, layers, heads, shortest, .. } = *self;
        let cell = CellKind::ALL
            .into_iter()
            .find(|cell| cell.name() == self.cell)
            .ok_or_else(|| Error::invalid(format!("no cell is called '{}'", self.cell)))?;
        let shortest = shortest.min(time);
        let shape = RecurrentShape {
            cell,
            time,
            batch,
            input,
            hidden,
            layers,
            heads,
            bidirectional: self.bidirectional,
            shortest,
            memory: self.segment_steps.map_or(options.memory, Memory::Segments),
            ..*options
        };
        // The library says what is wrong with a size.
        shape.record(false).map(|_| shape)
    }
}

/// The line of `--json`: the names stay as they are.
#[derive(Serialize)]
pub struct Line {
    #[serde(flatten)]
    shape: ShapeLine,
    device: String,
    driver: String,
    commit: &'static str,
    engine: &'static str,
    weights: &'static str,
    strategy: String,
    threads: usize,
    launches: usize,
    memory_bytes: u64,
    forward_ms: f64,
    forward_backward_ms: f64,
    predicted_forward_ms: f64,
    predicted_forward_backward_ms: f64,
    forward_gflops: f64,
    forward_backward_gflops: f64,
    peak_gflops: f64,
}

/// What there is to say of a shape that can't be measured.
#[derive(Serialize)]
pub struct ErrorLine {
    #[serde(flatten)]
    pub shape: ShapeLine,
    pub error: String,
}

/// How the recurrence of a shape is run: `step`, `sequence`, `grid`, `scan`, `wavefront`, or several of them.
pub fn strategy(engine: &Engine, shape: &RecurrentShape) -> Result<String> {
    let recording = shape.record(true)?;
    let census = engine.arranged(&recording).census();
    let runs = |name: &&str| census.keys().any(|kernel| kernel.starts_with(&format!("{name}_")));
    let mut ways: Vec<_> = ["grid", "sequence", "step", "scan"].into_iter().filter(runs).collect();
    let choices = engine.choices(&recording)?;
    if choices.iter().any(|choice| choice.strategy == Strategy::Wavefront) {
        ways.push(Strategy::Wavefront.name());
    }
    Ok(ways.join("+"))
}

/// A shape in the field's letters.
pub fn shape_name(shape: &RecurrentShape) -> String {
    let RecurrentShape { cell, time, batch, input, hidden, layers, heads, shortest, .. } = *shape;
    let mut name = format!("{} T{time} B{batch} I{input} H{hidden} L{layers}", cell.name());
    if heads > 1 {
        name += &format!(" heads {heads}");
    }
    if shape.bidirectional {
        name += " bidirectional";
    }
    if shortest < time {
        name += &format!(" lengths {shortest}-{time}");
    }
    if shape.precision == Precision::F16 {
        name += " f16";
    }
    name
}

/// The line of a shape that was measured.
pub fn line(
    engine: &Engine,
    shape: &RecurrentShape,
    strategy: String,
    found: &Measurement,
) -> Line {
    Line {
        shape: ShapeLine::new(shape),
        device: engine.name(),
        driver: engine.driver(),
        commit: COMMIT,
        engine: engine.kind(),
        weights: engine.weights().name(),
        strategy,
        threads: engine.threads(),
        launches: found.launches,
        memory_bytes: found.peak_bytes,
        forward_ms: found.forward.median_ms,
        forward_backward_ms: found.forward_backward.median_ms,
        predicted_forward_ms: found.predicted_ms[0],
        predicted_forward_backward_ms: found.predicted_ms[1],
        forward_gflops: found.forward_gflops,
        forward_backward_gflops: found.forward_backward_gflops,
        peak_gflops: found.peak_gflops,
    }
}

/// The table of one shape.
pub fn table(
    engine: &Engine,
    shape: &RecurrentShape,
    strategy: &str,
    found: &Measurement,
) -> Vec<String> {
    let fact = |name: &str, value: String| format!("{name:<18}{value}");
    let timing = |name: &str, timing: Timing, gflops: f64, predicted: Option<f64>| {
        let over = predicted.map_or(String::new(), |ms| format!("{:.2}", timing.median_ms / ms));
        format!(
            "{name:<18}{:>11.3}{:>11.3}{:>11.3}{:>7}{gflops:>11.1}{:>8.0} %{over:>16}",
            timing.median_ms,
            timing.min_ms,
            timing.max_ms,
            timing.runs,
            100.0 * gflops / found.peak_gflops
        )
    };
    let products = if shape.precision == Precision::F16 { "8 products" } else { "product" };
    let product = format!("{products} {0}x{0}", found.product_size);
    vec![
        fact("device", engine.name()),
        fact("driver", engine.driver()),
        fact("weights", weights(engine)),
        fact("commit", COMMIT.to_string()),
        fact("shape", shape_name(shape)),
        fact("strategy", strategy.to_string()),
        fact("launches", format!("{} (forward+backward)", found.launches)),
        fact("memory", format!("{:.1} MiB", found.peak_bytes as f64 / f64::from(1 << 20))),
        String::new(),
        format!(
            "{:<18}{:>11}{:>11}{:>11}{:>7}{:>11}{:>10}{:>16}",
            "", "median ms", "min ms", "max ms", "runs", "GFLOP/s", "of peak", "over predicted"
        ),
        timing("forward", found.forward, found.forward_gflops, Some(found.predicted_ms[0])),
        timing(
            "forward+backward",
            found.forward_backward,
            found.forward_backward_gflops,
            Some(found.predicted_ms[1]),
        ),
        timing(&product, found.product, found.peak_gflops, None),
    ]
}
/// What weights are kept in, of inference and of training.
fn weights(engine: &Engine) -> String {
    match engine.weights() {
        WeightFormat::F32 => "f32".to_string(),
        format => format!("{} forward, f32 in training", format.name()),
    }
}

/// The device's rates in a line.
pub fn rates_line(rates: &DeviceRates) -> String {
    let half = rates.product_f16_gflops.map(|gflops| format!(" (f16 {gflops:.1})"));
    format!(
        "product {:.1}{} GFLOP/s, copy {:.1} GB/s, launch {:.2} us",
        rates.product_gflops,
        half.unwrap_or_default(),
        rates.copy_gbs,
        rates.launch_us
    )
}
