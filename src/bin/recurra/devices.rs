//! `recurra devices`: what there is to run on, and what would be taken.

use crate::args::{DeviceArgs, json_line, print_line};
use clap::Args;
use recurra::engine::{CpuEngine, DeviceInfo, Engine, GpuEngine};
use recurra::{Error, Result};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// List the devices, what they offer, and which one would be used; or measure one.
#[derive(Args)]
pub struct DevicesArgs {
    /// A line of JSON for each device instead of the table
    #[arg(long)]
    json: bool,
    /// Measure the tiles of a GPU's matrix product anew, for about so long, and keep what is found. What compiles
    /// comes on top
    #[arg(long, value_name = "SECONDS", value_parser = crate::bench::seconds)]
    tune: Option<f64>,
    /// The GPU that `--tune` measures
    #[arg(long, default_value = "gpu", value_name = "gpu|NAME", requires = "tune")]
    device: String,
}

/// The line of `--json` for an adapter.
#[derive(Serialize)]
struct GpuLine<'a> {
    engine: &'static str,
    #[serde(flatten)]
    info: &'a DeviceInfo,
    /// The values of `--device`, but for its name, that take it.
    taken_by: Vec<&'static str>,
}

/// The line of `--json` for the CPU.
#[derive(Serialize)]
struct CpuLine {
    engine: &'static str,
    name: &'static str,
    threads: usize,
    instruction_set: &'static str,
    taken_by: Vec<&'static str>,
}

/// Lists the devices, or measures one.
///
/// # Errors
/// There is no such GPU, or it failed; standard output can't be written.
pub fn run(args: DevicesArgs) -> Result<ExitCode> {
    if let Some(seconds) = args.tune {
        return tune(args.device, Duration::from_secs_f64(seconds), args.json);
    }
    let gpus = GpuEngine::devices();
    // The order and the choice of `Engine::named`.
    let auto = gpus.iter().position(|info| !info.software);
    let taken_by = |gpu: Option<usize>| {
        let mut names = Vec::new();
        if gpu == auto {
            names.push("auto");
        }
        names.push(if gpu.is_none() { "cpu" } else { "gpu" });
        // `gpu` takes the first.
        names.retain(|&name| name != "gpu" || gpu == Some(0));
        names
    };
    let cpu = CpuLine {
        engine: "cpu",
        name: "cpu",
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        instruction_set: CpuEngine::instruction_set(),
        taken_by: taken_by(None),
    };
    if args.json {
        for (i, info) in gpus.iter().enumerate() {
            print_line(&json_line(&GpuLine { engine: "gpu", info, taken_by: taken_by(Some(i)) })?)?;
        }
        print_line(&json_line(&cpu)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for info in &gpus {
        print_gpu(info)?;
    }
    print_line("cpu")?;
    fact("threads", &cpu.threads.to_string())?;
    fact("instruction set", cpu.instruction_set)?;
    print_line("")?;
    let (taken, reason) = match auto {
        Some(i) => (gpus[i].name.as_str(), "the first that is no software device"),
        None if gpus.is_empty() => ("cpu", "no Vulkan, Metal or DX12 driver was found"),
        None => ("cpu", "there are only software devices, slower than the CPU engine"),
    };
    print_line(&format!("--device auto takes {taken}: {reason}"))?;
    print_line(&match gpus.first() {
        Some(info) => format!("--device gpu takes {}: the first", info.name),
        None => "--device gpu fails: there is none".to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Measures how fast a device multiplies with each tile.
fn tune(device: String, budget: Duration, json: bool) -> Result<ExitCode> {
    let engine = DeviceArgs { device, ..DeviceArgs::default() }.engine()?;
    let Engine::Gpu(gpu) = &engine else {
        return Err(Error::invalid("--tune is for GPUs: of the CPU engine nothing is measured"));
    };
    let tuning = gpu.tune(budget)?;
    if json {
        print_line(&json_line(&tuning)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(&tuning.device)?;
    fact("driver", &tuning.driver)?;
    print_line(&format!(
        "  {:<30}{:>16}{:>16}",
        "GFLOP/s in tiles of", "many groups", "one group"
    ))?;
    for (name, rate) in &tuning.tiles {
        let how = match tuning.measured.contains(name) {
            // The rate that stands for a tile that is never taken.
            true if rate.many < 1e-20 => "refused, or wrong",
            true => "measured",
            false => "estimated",
        };
        print_line(&format!("  {name:<30}{:>16.2}{:>16.3}  {how}", rate.many, rate.one))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fact(name: &str, value: &str) -> Result<()> {
    print_line(&format!("  {name:<22}{value}"))
}

fn print_gpu(info: &DeviceInfo) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let [smallest, largest] = info.subgroup_sizes;
    let software = if info.software { " (computes on the CPU)" } else { "" };
    let features =
        if info.features.is_empty() { "none".to_string() } else { info.features.join(", ") };
    print_line(&info.name)?;
    fact("backend", &info.backend)?;
    fact("kind", &format!("{}{software}", info.kind))?;
    fact("driver", &info.driver)?;
    fact("features", &features)?;
    fact("storage binding", &format!("{} MiB at most", info.max_storage_binding / MIB))?;
    fact("buffer", &format!("{} MiB at most", info.max_buffer / MIB))?;
    fact("storage buffers", &format!("{} in a kernel at most", info.max_storage_buffers))?;
    fact("workgroup memory", &format!("{} KiB", info.max_workgroup_memory / 1024))?;
    fact("workgroup threads", &format!("{} at most", info.max_workgroup_threads))?;
    fact("subgroup", &format!("{smallest} to {largest} threads"))?;
    let matrices = info.cooperative_matrices.iter().map(|size| format!("{size}x{size} f16 to f32"));
    let matrices = matrices.collect::<Vec<_>>().join(", ");
    fact("subgroup matrices", if matrices.is_empty() { "none" } else { &matrices })?;
    print_line("")
}
