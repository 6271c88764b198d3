//! `recurra explain`: what a recurrent layer should cost on a device, and why.

use crate::args::{DeviceArgs, WeightArgs, json_line, print_line};
use crate::bench::ShapeArgs;
use clap::Args;
use recurra::engine::{Choice, KeptWeights, Strategy, WeightFormat};
use recurra::measure::{DeviceRates, KernelCost};
use recurra::recording::Recording;
use recurra::{Error, Result};
use serde::Serialize;
use std::process::ExitCode;

/// Say what a recurrent layer costs on a device, kernel by kernel.
#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// JSON lines instead of the tables, one a kernel
    #[arg(long)]
    json: bool,
}

/// A line of `--json`: the names stay as they are.
#[derive(Serialize)]
struct Line {
    pass: &'static str,
    kernel: &'static str,
    launches: usize,
    flops: u64,
    bytes: u64,
    predicted_ms: f64,
    limit: &'static str,
}

/// Measures the device's rates and prints the predictions.
///
/// # Errors
/// No such device, or the layer does not fit it.
pub fn run(args: ExplainArgs) -> Result<ExitCode> {
    if let Some(shortest) = args.shape.shortest.filter(|&shortest| shortest > args.shape.time) {
        let what = format!("--shortest {shortest} is longer than --time {}", args.shape.time);
        return Err(Error::Invalid(what));
    }
    let shape = args.shape.shape();
    let engine = args.weights.engine(&args.device)?;
    let mut passes = vec![("forward", shape.record(false)?)];
    // Fewer bits are for inference.
    if engine.weights() == WeightFormat::F32 {
        passes.push(("forward+backward", shape.record(true)?));
    }
    for (_, recording) in &passes {
        engine.check(recording)?;
    }
    let rates = DeviceRates::measure(&engine)?;
    // Training has the forward passes of inference too, or its own.
    let mut choices = Vec::new();
    for (_, recording) in &passes {
        let more = engine.choices(recording)?;
        choices.extend(more.into_iter().filter(|c| !choices.contains(c)).collect::<Vec<_>>());
    }
    if !args.json {
        let fact = |name: &str, value: String| print_line(&format!("{name:<18}{value}"));
        fact("device", engine.name())?;
        fact("driver", engine.driver())?;
        fact("product", format!("{:.1} GFLOP/s, a large matrix product", rates.product_gflops))?;
        if let Some(gflops) = rates.product_f16_gflops {
            fact("product in f16", format!("{gflops:.1} GFLOP/s"))?;
        }
        fact("copy", format!("{:.1} GB/s, read and written", rates.copy_gbs))?;
        fact("launch", format!("{:.2} us, one after another", rates.launch_us))?;
        if engine.kind() != "cpu" {
            fact("recording again", format!("{:.2} us a launch, on the host", rates.submit_us))?;
        }
        let scan = passes.iter().any(|p| p.1.census().contains_key("scan_forward"));
        if choices.is_empty() {
            let only =
                if scan { "scan, all steps in one launch" } else { "step, the only one here" };
            fact("strategy", only.to_string())?;
        }
        for choice in &choices {
            for line in strategy(choice) {
                fact("strategy", line)?;
            }
        }
        for kept in engine.kept_weights(&passes[0].1) {
            fact("weights", weights(&kept))?;
        }
        if engine.weights() != WeightFormat::F32 {
            fact("", "the predictions below are of weights in f32".to_string())?;
        }
    }
    for (pass, recording) in &passes {
        let recording = &*engine.arranged(recording);
        let kernels = rates.predict(recording);
        if args.json {
            for kernel in &kernels {
                print_line(&json_line(&line(pass, kernel))?)?;
            }
        } else {
            print_line("")?;
            table(pass, recording, &kernels)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How the steps of a layer are launched, why, and what each way was measured to take.
fn strategy(choice: &Choice) -> Vec<String> {
    let Choice { kernel, steps, reason, .. } = choice;
    if choice.layers > 1 {
        return layers(choice);
    }
    let mut lines = vec![match steps {
        1 => format!("{kernel}, a launch each: {reason}"),
        _ => format!("{kernel}, {steps} steps: {reason}"),
    }];
    if let Some([step, sequence]) = choice.measured_ms {
        let [step, sequence] = [step, sequence].map(|ms| 1e3 * ms);
        lines.push(format!(
            "  a step took {step:.2} us in launches of its own, {sequence:.2} in one of all"
        ));
    }
    lines.extend(choice.cut.iter().map(|cut| format!("  {cut}")));
    lines
}

/// How a tensor is kept in inference, and why, where that is not what was asked for.
fn weights(kept: &KeptWeights) -> String {
    let KeptWeights { tensor, kernel, format, bytes, reason } = kept;
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    let kib = *bytes as f64 / 1024.0;
    format!("{tensor} of {kernel}: {}, {kib:.1} KiB{reason}", format.name())
}

/// How layers go: one after another, or beside one another.
fn layers(choice: &Choice) -> Vec<String> {
    let Choice { kernel, layers, reason, .. } = choice;
    let way = match choice.strategy {
        Strategy::Wavefront => "beside one another (wavefront)",
        _ => "one after another",
    };
    let pass = if kernel.ends_with("forward") { "forward" } else { "backward" };
    let mut lines = vec![format!("{layers} layers {way}, {pass}: {reason}")];
    if let Some([after, beside]) = choice.measured_ms {
        let [after, beside] = [after, beside].map(|ms| 1e3 * ms);
        lines.push(format!(
            "  a step of all layers took {after:.2} us one after another, {beside:.2} beside one another"
        ));
    }
    lines.extend(choice.cut.iter().map(|cut| format!("  {cut}")));
    lines
}

fn line(pass: &'static str, kernel: &KernelCost) -> Line {
    Line {
        pass,
        kernel: kernel.kernel,
        launches: kernel.launches,
        flops: kernel.cost.flops,
        bytes: kernel.cost.bytes,
        predicted_ms: kernel.ms,
        limit: kernel.limit.name(),
    }
}

fn table(pass: &str, recording: &Recording, kernels: &[KernelCost]) -> Result<()> {
    let total: f64 = kernels.iter().map(|k| k.ms).sum();
    let row = |name: &str, launches: usize, flops: u64, bytes: u64, ms: f64, limit: &str| {
        let (mflop, mb) = (flops as f64 / 1e6, bytes as f64 / 1e6);
        let share = 100.0 * ms / total;
        print_line(&format!(
            "{name:<22}{launches:>9}{mflop:>12.2}{mb:>11.2}{ms:>13.3}{share:>8.1} %  {limit}"
        ))
    };
    let head = ["launches", "MFLOP", "MB", "predicted ms", "share"];
    print_line(&format!(
        "{pass:<22}{:>9}{:>12}{:>11}{:>13}{:>10}  limited by",
        head[0], head[1], head[2], head[3], head[4]
    ))?;
    for k in kernels {
        row(k.kernel, k.launches, k.cost.flops, k.cost.bytes, k.ms, k.limit.name())?;
    }
    let all = recording.cost();
    row("all", recording.launches().len(), all.flops, all.bytes, total, "")?;
    let plan = recording.plan()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (peak, temporary) = (mib(plan.peak_bytes()), mib(plan.temporary_bytes()));
    print_line(&format!("{:<22}{peak:.1} MiB, of it {temporary:.1} temporary", "memory"))
}
