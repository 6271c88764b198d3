//! `recurra bench`: how fast a recurrent layer runs.

mod latency;
mod lines;
mod picture;
mod suite;

use crate::args::{
    DeviceArgs, MemoryArgs, PrecisionArgs, ProfileArgs, WATCHED, WeightArgs, cell_parser,
    json_line, print_line, profile_table,
};
use clap::builder::PossibleValuesParser;
use clap::{Args, value_parser};
use lines::{ShapeLine, line, strategy, table};
use picture::Picture;
use recurra::Result;
use recurra::cell::CellKind;
use recurra::engine::WeightFormat;
use recurra::measure::{self, DeviceRates, Profile, RecurrentShape, Suite};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use suite::Bench;

/// The commit that this program was built from.
const COMMIT: &str = env!("RECURRA_COMMIT");

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
    #[arg(long = "both", alias = "bidirectional")]
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
    /// Published configurations, one after another, instead of one shape; one that fails is told, and those that follow
    /// are measured all the same (exit code 1). What exceeds the device's limits is cut into segments, where that fits
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

/// A number of seconds.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("a number of seconds from 0 to 3600".to_string()),
    }
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
        return latency::run(&engine, &shape, &args);
    }
    let rates = DeviceRates::measure(&engine)?;
    let name = suite.as_ref().map(|suite| suite.name);
    // The roof is that of the shapes' own products.
    let product_gflops = rates.product_gflops_in(args.shape.precision.precision);
    let roof = DeviceRates { product_gflops, product_f16_gflops: None, ..rates };
    let mut picture = Picture::new(&engine, &roof, name, args.picture.as_deref())?;
    let budget = Duration::from_secs_f64(args.seconds);
    if suite.is_some() || args.each {
        let reopen = || args.weights.reopen(&args.device);
        let mut bench = Bench { engine, rates: &rates, reopen: &reopen, budget, picture };
        return match &suite {
            Some(suite) => bench.run_suite(suite, args.json),
            None => bench.run_each(&args.shape.shape()),
        };
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
