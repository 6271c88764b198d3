//! `recurra bench`: how fast a recurrent layer runs.

use crate::args::{
    DeviceArgs, MemoryArgs, PrecisionArgs, ProfileArgs, WATCHED, WeightArgs, cell_parser,
    json_line, print_line, profile_table,
};
use clap::builder::PossibleValuesParser;
use clap::{Args, value_parser};
use recurra::cell::CellKind;
use recurra::engine::{Engine, Strategy, WeightFormat};
use recurra::measure::{
    self, DeviceRates, Measurement, Profile, RecurrentShape, RooflinePoint, Suite, Timing,
};
use recurra::tensor::Precision;
use recurra::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The commit that this program was built from.
const COMMIT: &str = env!("RECURRA_COMMIT");

/// How the recurrence of a shape is run: `step`, `sequence`, `grid`, `scan`, `wavefront`, or several of them.
fn strategy(engine: &Engine, shape: &RecurrentShape) -> Result<String> {
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

/// A stack of recurrent layers over a batch.
#[derive(Args)]
pub struct ShapeArgs {
    /// The recurrent cell; rnn is rnn_tanh
    #[arg(long, default_value = "lstm", value_parser = cell_parser())]
    cell: CellKind,
    /// T, steps of a sequence
    #[arg(long, default_value = "128", value_name = "T", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub time: u32,
    /// B, sequences side by side
    #[arg(long, default_value = "32", value_name = "B", value_parser = value_parser!(u32).range(1..))]
    batch: u32,
    /// I, width of the input
    #[arg(long, default_value = "256", value_name = "I", value_parser = value_parser!(u32).range(1..))]
    input: u32,
    /// H, hidden units
    #[arg(long, default_value = "256", value_name = "H", value_parser = value_parser!(u32).range(1..))]
    hidden: u32,
    /// L, layers
    #[arg(long, default_value = "1", value_name = "L", value_parser = value_parser!(u32).range(1..=1000))]
    layers: u32,
    /// Blocks of block-diagonal recurrent weights
    #[arg(long, default_value = "1", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    heads: u32,
    /// Each layer in both directions
    #[arg(long)]
    bidirectional: bool,
    /// The shortest sequence: lengths are spread from here to T, in no order [default: all are T]
    #[arg(long, value_name = "N")]
    pub shortest: Option<u32>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

impl ShapeArgs {
    /// The shape as the library takes it.
    pub fn shape(&self) -> RecurrentShape {
        RecurrentShape {
            cell: self.cell,
            time: self.time as usize,
            batch: self.batch as usize,
            input: self.input as usize,
            hidden: self.hidden as usize,
            layers: self.layers as usize,
            heads: self.heads as usize,
            bidirectional: self.bidirectional,
            shortest: self.shortest.unwrap_or(self.time).min(self.time) as usize,
            memory: self.memory.memory(),
            precision: self.precision.precision,
        }
    }
}

/// Measure a recurrent layer, forward and backward.
#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    shape: ShapeArgs,
    /// Published configurations, one after another, instead of one shape
    #[arg(long, value_name = "NAME", value_parser = suite_parser(),
          conflicts_with_all = ["cell", "time", "batch", "input", "hidden", "layers", "heads",
          "bidirectional", "shortest", "profile"])]
    suite: Option<String>,
    /// Only list the suite's shapes, a line of JSON each
    #[arg(long, requires = "suite")]
    list: bool,
    /// Shapes from standard input, a line of JSON each as `--list` prints them; a line of JSON each goes out
    #[arg(long, conflicts_with_all = ["suite", "latency", "profile", "cell", "time", "batch", "input", "hidden",
          "layers", "heads", "bidirectional", "shortest"])]
    each: bool,
    /// Draw the shapes against the device's roofline (SVG)
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    picture: Option<PathBuf>,
    /// Single steps of B streams instead of whole sequences: how long each takes, from the host and back
    #[arg(long, conflicts_with_all = ["suite", "picture", "profile", "time", "shortest", "memory",
          "bidirectional"])]
    latency: bool,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    profile: ProfileArgs,
    /// How long to measure a shape; loading and warming up come on top
    #[arg(long, default_value = "2", value_name = "S", value_parser = seconds)]
    seconds: f64,
    /// One line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("a number of seconds from 0 to 3600".to_string()),
    }
}

/// The line of `--list`.
#[derive(Serialize, Deserialize)]
struct ShapeLine {
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
    fn new(shape: &RecurrentShape) -> Self {
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
        }
    }

    /// The shape of a line, with the other options as they are.
    fn shape(&self, options: &RecurrentShape) -> Result<RecurrentShape> {
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
            ..*options
        };
        // The library says what is wrong with a size.
        shape.record(false).map(|_| shape)
    }
}

/// The line of `--json`: the names stay as they are.
#[derive(Serialize)]
struct Line {
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

/// An answer of `--each` to a shape that can't be measured.
#[derive(Serialize)]
struct ErrorLine {
    #[serde(flatten)]
    shape: ShapeLine,
    error: String,
}

/// Answers each line with a line, until there are no more.
fn run_each(
    engine: &Engine,
    rates: &DeviceRates,
    args: &BenchArgs,
    picture: &mut Picture,
) -> Result<ExitCode> {
    for (number, text) in std::io::stdin().lines().enumerate() {
        let place = |error: String| Error::invalid(format!("line {}: {error}", number + 1));
        let text = text.map_err(|error| place(error.to_string()))?;
        let asked: ShapeLine =
            serde_json::from_str(&text).map_err(|error| place(error.to_string()))?;
        let mut answer = || {
            let shape = asked.shape(&args.shape.shape())?;
            let budget = Duration::from_secs_f64(args.seconds);
            let found = measure::recurrent(engine, rates, &shape, budget)?;
            picture.add(&shape, &found)?;
            json_line(&line(engine, &shape, strategy(engine, &shape)?, &found))
        };
        let answer = answer()
            .or_else(|error| json_line(&ErrorLine { error: error.to_string(), shape: asked }))?;
        print_line(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The line of `--latency --json`.
#[derive(Serialize)]
struct LatencyLine {
    cell: &'static str,
    streams: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    device: String,
    driver: String,
    commit: &'static str,
    threads: usize,
    weights: &'static str,
    p50_us: f64,
    p99_us: f64,
    worst_us: f64,
    steps: usize,
    weight_bytes: usize,
    weights_us: Option<f64>,
}

fn run_latency(engine: &Engine, shape: &RecurrentShape, args: &BenchArgs) -> Result<ExitCode> {
    let found = measure::latency(engine, shape, Duration::from_secs_f64(args.seconds))?;
    if args.json {
        let RecurrentShape { cell, batch, input, hidden, layers, heads, .. } = *shape;
        let line = LatencyLine {
            cell: cell.name(),
            streams: batch,
            input,
            hidden,
            layers,
            heads,
            device: engine.name(),
            driver: engine.driver(),
            commit: COMMIT,
            threads: engine.threads(),
            weights: engine.weights().name(),
            p50_us: found.p50_us,
            p99_us: found.p99_us,
            worst_us: found.worst_us,
            steps: found.steps,
            weight_bytes: found.weight_bytes,
            weights_us: found.weights_us,
        };
        print_line(&json_line(&line)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let fact = |name: &str, value: String| print_line(&format!("{name:<18}{value}"));
    fact("device", engine.name())?;
    fact("driver", engine.driver())?;
    fact("commit", COMMIT.to_string())?;
    fact("shape", shape_name(shape))?;
    print_line("")?;
    print_line(&format!(
        "{:<18}{:>11}{:>11}{:>11}{:>11}",
        "", "p50 us", "p99 us", "worst us", "steps"
    ))?;
    print_line(&format!(
        "{:<18}{:>11.1}{:>11.1}{:>11.1}{:>11}",
        "step", found.p50_us, found.p99_us, found.worst_us, found.steps
    ))?;
    let (kib, format) = (found.weight_bytes as f64 / 1024.0, engine.weights().name());
    match found.weights_us {
        None => fact("weights", format!("{kib:.0} KiB in {format}"))?,
        Some(us) => fact(
            "weights",
            format!("{kib:.0} KiB in {format}, which one thread reads in {us:.1} us"),
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures and prints.
///
/// # Errors
/// No such device, or the layer does not fit it.
pub fn run(args: BenchArgs) -> Result<ExitCode> {
    let suite = args.suite.as_deref().and_then(Suite::find);
    let suite = suite.map(|suite| suite.with_precision(args.shape.precision.precision));
    if let (Some(suite), true) = (&suite, args.list) {
        for shape in &suite.shapes {
            print_line(&json_line(&ShapeLine::new(shape))?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let engine = args.weights.engine(&args.device)?;
    if args.latency {
        let shape = RecurrentShape { time: 1, shortest: 1, ..args.shape.shape() };
        return run_latency(&engine, &shape, &args);
    }
    let rates = DeviceRates::measure(&engine)?;
    let name = suite.as_ref().map(|suite| suite.name);
    // The roof is that of the shapes' own products.
    let product_gflops = rates.product_gflops_in(args.shape.precision.precision);
    let roof = DeviceRates { product_gflops, product_f16_gflops: None, ..rates };
    let mut picture = Picture::new(&engine, &roof, name, args.picture.as_deref())?;
    let budget = Duration::from_secs_f64(args.seconds);
    if let Some(suite) = &suite {
        return run_suite(&engine, &rates, suite, budget, args.json, &mut picture);
    }
    if args.each {
        return run_each(&engine, &rates, &args, &mut picture);
    }
    let shape = args.shape.shape();
    let found = measure::recurrent(&engine, &rates, &shape, budget)?;
    picture.add(&shape, &found)?;
    if args.json {
        print_line(&json_line(&line(&engine, &shape, strategy(&engine, &shape)?, &found))?)?;
    } else {
        for row in table(&engine, &shape, &strategy(&engine, &shape)?, &found) {
            print_line(&row)?;
        }
    }
    if let Some(file) = &args.profile.profile {
        let mut program = shape.load(&engine, engine.weights() == WeightFormat::F32)?;
        program.run()?;
        let profile = Profile::measure(&engine, &mut program, WATCHED, |_| Ok(()))?;
        profile.write_trace(file)?;
        if !args.json {
            print_line("")?;
            profile_table(&profile, &rates).iter().try_for_each(|line| print_line(line))?;
            print_line(&format!("the trace: {}", file.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The suites' names, for the command line.
fn suite_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(Suite::all().into_iter().map(|suite| suite.name))
}

/// A run that is predicted to take longer is left out.
const LONGEST_MS: f64 = 60e3;

fn run_suite(
    engine: &Engine,
    rates: &DeviceRates,
    suite: &Suite,
    budget: Duration,
    json: bool,
    picture: &mut Picture,
) -> Result<ExitCode> {
    if !json {
        print_line(&format!("{}: {}", suite.name, suite.source))?;
        print_line(&format!(
            "on {}, driver {}, recurra at commit {COMMIT}",
            engine.name(),
            engine.driver()
        ))?;
        print_line(&rates_line(rates))?;
        print_line("")?;
        print_line(&format!(
            "{:<48}{:>12}{:>14}{:>10}{:>9}{:>16}",
            "", "forward ms", "+backward ms", "GFLOP/s", "of peak", "over predicted"
        ))?;
    }
    for shape in &suite.shapes {
        let name = shape_name(shape);
        let left_out = |why: String| {
            if !json {
                return print_line(&format!("{name:<48}{why}"));
            }
            eprintln!("{name}: {why}");
            Ok(())
        };
        let recording = shape.record(true)?;
        let fits = engine.with_weights(WeightFormat::F32)?.check(&recording);
        if let Err(error) = fits {
            left_out(format!("does not fit: {error}"))?;
            continue;
        }
        let predicted = rates.predicted_ms(&engine.arranged(&recording));
        drop(recording);
        if predicted > LONGEST_MS {
            left_out(format!("left out: about {:.0} s a run", predicted / 1e3))?;
            continue;
        }
        let found = measure::recurrent(engine, rates, shape, budget)?;
        picture.add(shape, &found)?;
        if json {
            print_line(&json_line(&line(engine, shape, strategy(engine, shape)?, &found))?)?;
            continue;
        }
        print_line(&format!(
            "{name:<48}{:>12.3}{:>14.3}{:>10.1}{:>7.0} %{:>16.2}",
            found.forward.median_ms,
            found.forward_backward.median_ms,
            found.forward_backward_gflops,
            100.0 * found.forward_backward_gflops / found.peak_gflops,
            found.forward_backward.median_ms / found.predicted_ms[1]
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What weights are kept in, of inference and of training.
fn weights(engine: &Engine) -> String {
    match engine.weights() {
        WeightFormat::F32 => "f32".to_string(),
        format => format!("{} forward, f32 in training", format.name()),
    }
}

fn rates_line(rates: &DeviceRates) -> String {
    let half = rates.product_f16_gflops.map(|gflops| format!(" (f16 {gflops:.1})"));
    format!(
        "product {:.1}{} GFLOP/s, copy {:.1} GB/s, launch {:.2} us",
        rates.product_gflops,
        half.unwrap_or_default(),
        rates.copy_gbs,
        rates.launch_us
    )
}

/// The picture of `--picture`. It is drawn anew after each shape: what ends a suite early leaves what
/// there was until then.
struct Picture<'a> {
    file: Option<&'a Path>,
    rates: &'a DeviceRates,
    title: String,
    notes: String,
    points: Vec<RooflinePoint>,
}

impl<'a> Picture<'a> {
    /// The roof alone: a file that can't be written is known before anything is measured.
    fn new(
        engine: &Engine,
        rates: &'a DeviceRates,
        suite: Option<&str>,
        file: Option<&'a Path>,
    ) -> Result<Self> {
        let what = suite.map_or("A recurrent layer".to_string(), |name| format!("Suite {name}"));
        let picture = Picture {
            file,
            rates,
            title: format!("{what} on {}", engine.name()),
            notes: format!(
                "{}; recurra at commit {COMMIT}; {}",
                engine.driver(),
                rates_line(rates)
            ),
            points: Vec::new(),
        };
        picture.draw()?;
        Ok(picture)
    }

    fn add(&mut self, shape: &RecurrentShape, found: &Measurement) -> Result<()> {
        self.points.push(RooflinePoint {
            name: shape_name(shape),
            cell: shape.cell.name(),
            intensity: found.cost.flops as f64 / found.cost.bytes as f64,
            gflops: found.forward_backward_gflops,
            predicted_gflops: shape.product_flops(true) / (found.predicted_ms[1] * 1e6),
        });
        self.draw()
    }

    fn draw(&self) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        measure::roofline(file, &self.title, &self.notes, self.rates, &self.points)
    }
}

/// A shape in the field's letters.
fn shape_name(shape: &RecurrentShape) -> String {
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

fn line(engine: &Engine, shape: &RecurrentShape, strategy: String, found: &Measurement) -> Line {
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

fn table(
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
