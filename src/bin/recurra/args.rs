//! Options that several commands share.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use recurra::cell::CellKind;
use recurra::engine::{Engine, Strategy, WeightFormat};
use recurra::layer::Memory;
use recurra::measure::{DeviceRates, KernelTime, Profile};
use recurra::tensor::Precision;
use recurra::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Where to run.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// auto (a real GPU, else the CPU), gpu, cpu, or a name that `recurra devices` lists
    #[arg(long, default_value = "auto", value_name = "auto|gpu|cpu|NAME")]
    pub device: String,
    /// Threads of the CPU engine [default: a thread a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// How the steps of a recurrence are launched on a GPU: a launch each, or all of a layer in one
    /// wherever that is there, by workgroups that know nothing of each other (sequence) or share the units (grid);
    /// or layers beside one another (wavefront). On the CPU: each layer and direction by all threads (step), or layers
    /// and directions beside one another wherever they can (wavefront)
    #[arg(long, default_value = "auto", value_name = "auto|step|sequence|grid|wavefront", value_parser = strategy_parser())]
    pub strategy: Strategy,
}

/// How often a device that failed is tried to open, and the time between.
const OPENINGS: usize = 5;
const BETWEEN_OPENINGS: Duration = Duration::from_secs(1);

impl Default for DeviceArgs {
    fn default() -> Self {
        DeviceArgs { device: "auto".to_string(), threads: None, strategy: Strategy::Auto }
    }
}

fn strategy_parser() -> impl TypedValueParser<Value = Strategy> {
    PossibleValuesParser::new(Strategy::ALL.map(Strategy::name)).map(|name| {
        let found = Strategy::ALL.into_iter().find(|strategy| strategy.name() == name);
        found.unwrap_or_default()
    })
}

impl DeviceArgs {
    /// Opens the device again after it failed. A driver that starts anew may take a moment.
    ///
    /// # Errors
    /// It does not open.
    pub fn reopen(&self) -> Result<Engine> {
        eprintln!("the device failed: it is opened again");
        for _ in 1..OPENINGS {
            if let Ok(engine) = self.engine() {
                return Ok(engine);
            }
            std::thread::sleep(BETWEEN_OPENINGS);
        }
        self.engine()
    }

    /// Opens the device.
    ///
    /// # Errors
    /// No such device, or it does not have the strategy.
    pub fn engine(&self) -> Result<Engine> {
        let mut engine = Engine::named(&self.device, self.threads.map(usize::from))?;
        if let Some(folder) = cache_folder() {
            engine = engine.cached_in(&folder);
        }
        match self.strategy {
            Strategy::Auto => Ok(engine),
            strategy => engine.with_strategy(strategy),
        }
    }
}

/// Where what was measured of devices is kept: RECURRA_CACHE, or a folder among the user's caches; nowhere
/// where RECURRA_CACHE is empty.
fn cache_folder() -> Option<PathBuf> {
    match std::env::var_os("RECURRA_CACHE") {
        Some(folder) => (!folder.is_empty()).then(|| folder.into()),
        None => Some(dirs::cache_dir()?.join("recurra")),
    }
}

/// How weights are kept, for inference.
#[derive(Args, Clone, Copy, Debug)]
pub struct WeightArgs {
    /// What the CPU engine keeps weights in while it multiplies with them: as they are; in
    /// bfloat16, half the bytes; or in eight bits with a scale for each row of a matrix, a quarter
    /// of the bytes, where what they are multiplied with is rounded to eight bits too. A GPU has
    /// f32 alone
    #[arg(long, default_value = "f32", value_name = "f32|bf16|int8", value_parser = weights_parser())]
    pub weights: WeightFormat,
}

fn weights_parser() -> impl TypedValueParser<Value = WeightFormat> {
    PossibleValuesParser::new(WeightFormat::ALL.map(WeightFormat::name)).map(|name| {
        let found = WeightFormat::ALL.into_iter().find(|format| format.name() == name);
        found.unwrap_or_default()
    })
}

impl WeightArgs {
    /// Opens the device with its weights kept so.
    ///
    /// # Errors
    /// As [`DeviceArgs::engine`]; fewer bits on a GPU.
    pub fn engine(self, device: &DeviceArgs) -> Result<Engine> {
        device.engine()?.with_weights(self.weights)
    }

    /// Opens it again after it failed.
    ///
    /// # Errors
    /// As [`DeviceArgs::reopen`].
    pub fn reopen(self, device: &DeviceArgs) -> Result<Engine> {
        device.reopen()?.with_weights(self.weights)
    }
}

/// How activations are stored.
#[derive(Args, Clone, Copy, Debug)]
pub struct PrecisionArgs {
    /// How activations and the weights in products are stored; sums, weights and their gradients are
    /// f32 in either case. f16 needs a GPU that has it
    #[arg(long, default_value = "f32", value_name = "f32|f16", value_parser = precision_parser())]
    pub precision: Precision,
}

fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new([Precision::F32, Precision::F16].map(Precision::name))
        .map(|name| if name == Precision::F16.name() { Precision::F16 } else { Precision::F32 })
}

/// Where the time goes.
#[derive(Args, Clone, Debug)]
pub struct ProfileArgs {
    /// Take a run apart by kernel, and write a trace that browsers' trace viewers open (Perfetto,
    /// about:tracing)
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
}

/// Runs that are watched for how busy the device is.
pub const WATCHED: usize = 20;

/// The lines of a profile's table: times, and rates against those of a large product and a copy.
pub fn profile_table(profile: &Profile, rates: &DeviceRates) -> Vec<String> {
    let kernels = profile.kernels();
    let total: f64 = kernels.iter().map(|k| k.ms).sum();
    let head =
        ["launches", "ms", "us a launch", "share", "GFLOP/s", "of product", "GB/s", "of copy"];
    let mut lines = vec![format!(
        "{:<22}{:>9}{:>12}{:>14}{:>10}{:>11}{:>12}{:>10}{:>9}",
        "kernel", head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]
    )];
    for KernelTime { kernel, launches, cost, ms } in kernels {
        let each = 1e3 * ms / launches as f64;
        let share = 100.0 * ms / total;
        let [gflops, gbs] = [cost.flops, cost.bytes].map(|n| n as f64 / (ms.max(1e-9) * 1e6));
        let [product, copy] = [gflops / rates.product_gflops, gbs / rates.copy_gbs];
        lines.push(format!(
            "{kernel:<22}{launches:>9}{ms:>12.3}{each:>14.2}{share:>8.1} %{gflops:>11.2}{:>10.1} %{gbs:>10.2}{:>7.1} %",
            100.0 * product, 100.0 * copy
        ));
    }
    let launches = profile.launches.len();
    lines.push(format!("{:<22}{launches:>9}{total:>12.3}", "all"));
    if let (Some(busy), Some(ms)) = (profile.busy(), profile.run_ms()) {
        let runs = profile.runs.len();
        lines.push(format!(
            "a run as it is takes {ms:.3} ms; over {runs} of them the device was busy {:.1} %",
            100.0 * busy
        ));
    }
    if let Some(ms) = profile.feed_ms {
        lines.push(format!("its data take {ms:.3} ms to make, beside the run before"));
    }
    lines
}

/// How much recurrent layers may keep.
#[derive(Args, Clone, Copy, Debug)]
pub struct MemoryArgs {
    /// Bytes that the recurrent layers may keep between forward and backward (64M, 2G); what doesn't
    /// fit is computed once more, with the same numbers [default: everything is kept]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub memory: Option<u64>,
}

impl MemoryArgs {
    /// The limit as the layers take it.
    pub fn memory(self) -> Memory {
        self.memory.map_or(Memory::Keep, Memory::Budget)
    }
}

/// A number of bytes, with K, M or G for powers of 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let unit = units.iter().find(|unit| text.ends_with(unit.0));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    let count: u64 = digits.parse().map_err(|_| "a number, perhaps with K, M or G".to_string())?;
    match count.checked_mul(unit.map_or(1, |unit| unit.1)) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("must be at least 1 and below 2^64".to_string()),
    }
}

/// The cells on the command line: all that are built in, and `rnn` for the first.
pub fn cell_parser() -> impl TypedValueParser<Value = CellKind> {
    let names = CellKind::ALL.map(|cell| match cell {
        CellKind::RnnTanh => PossibleValue::new(cell.name()).alias("rnn"),
        _ => PossibleValue::new(cell.name()),
    });
    PossibleValuesParser::new(names).map(|name| {
        // Only the alias is no cell's own name.
        let found = CellKind::ALL.into_iter().find(|cell| cell.name() == name);
        found.unwrap_or(CellKind::RnnTanh)
    })
}

/// A value as one line of JSON.
///
/// # Errors
/// None for the types that commands print.
pub fn json_line(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Invalid(e.to_string()))
}

/// Prints a line to stdout. A reader that went away (`| head`) is no failure: the command ends.
pub fn print_line(line: &str) -> Result<()> {
    use std::io::Write;
    let written = writeln!(std::io::stdout(), "{line}");
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(|e| Error::io("standard output", "write", e)),
    }
}
