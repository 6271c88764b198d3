//! `recurra bench`: how fast a recurrent layer runs.

use crate::args::{DeviceArgs, MemoryArgs, cell_parser, json_line, print_line};
use clap::{Args, value_parser};
use recurra::Result;
use recurra::cell::CellKind;
use recurra::engine::Engine;
use recurra::measure::{self, Measurement, RecurrentShape, Timing};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// How the recurrence is run; there is one way so far.
const STRATEGY: &str = "step";

/// Options of `recurra bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// The recurrent cell; rnn is rnn_tanh
    #[arg(long, default_value = "lstm", value_parser = cell_parser())]
    cell: CellKind,
    /// T, steps of a sequence
    #[arg(long, default_value = "128", value_name = "T", value_parser = value_parser!(u32).range(1..=1_000_000))]
    time: u32,
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
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// How long to measure; loading and warming up come on top
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

/// The line of `--json`: the names stay as they are.
#[derive(Serialize)]
struct Line {
    cell: &'static str,
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    device: String,
    engine: &'static str,
    strategy: &'static str,
    threads: usize,
    launches: usize,
    memory_bytes: u64,
    forward_ms: f64,
    forward_backward_ms: f64,
    forward_gflops: f64,
    forward_backward_gflops: f64,
    peak_gflops: f64,
}

/// Measures and prints.
///
/// # Errors
/// No such device, or the layer does not fit it.
pub fn run(args: BenchArgs) -> Result<ExitCode> {
    let shape = RecurrentShape {
        cell: args.cell,
        time: args.time as usize,
        batch: args.batch as usize,
        input: args.input as usize,
        hidden: args.hidden as usize,
        layers: args.layers as usize,
        memory: args.memory.memory(),
    };
    let engine = args.device.engine()?;
    let found = measure::recurrent(&engine, &shape, Duration::from_secs_f64(args.seconds))?;
    if args.json {
        print_line(&json_line(&line(&engine, &shape, &found))?)?;
    } else {
        for row in table(&engine, &shape, &found) {
            print_line(&row)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(engine: &Engine, shape: &RecurrentShape, found: &Measurement) -> Line {
    let RecurrentShape { cell, time, batch, input, hidden, layers, .. } = *shape;
    Line {
        cell: cell.name(),
        time,
        batch,
        input,
        hidden,
        layers,
        device: engine.name(),
        engine: engine.kind(),
        strategy: STRATEGY,
        threads: engine.threads(),
        launches: found.launches,
        memory_bytes: found.peak_bytes,
        forward_ms: found.forward.median_ms,
        forward_backward_ms: found.forward_backward.median_ms,
        forward_gflops: found.forward_gflops,
        forward_backward_gflops: found.forward_backward_gflops,
        peak_gflops: found.peak_gflops,
    }
}

fn table(engine: &Engine, shape: &RecurrentShape, found: &Measurement) -> Vec<String> {
    let RecurrentShape { cell, time, batch, input, hidden, layers, .. } = *shape;
    let fact = |name: &str, value: String| format!("{name:<18}{value}");
    let timing = |name: &str, timing: Timing, gflops: f64| {
        format!(
            "{name:<18}{:>11.3}{:>11.3}{:>11.3}{:>7}{gflops:>11.1}{:>8.0} %",
            timing.median_ms,
            timing.min_ms,
            timing.max_ms,
            timing.runs,
            100.0 * gflops / found.peak_gflops
        )
    };
    let product = format!("product {0}x{0}", found.product_size);
    vec![
        fact("device", engine.name()),
        fact("shape", format!("{} T{time} B{batch} I{input} H{hidden} L{layers}", cell.name())),
        fact("strategy", STRATEGY.to_string()),
        fact("launches", format!("{} (forward+backward)", found.launches)),
        fact("memory", format!("{:.1} MiB", found.peak_bytes as f64 / f64::from(1 << 20))),
        String::new(),
        format!(
            "{:<18}{:>11}{:>11}{:>11}{:>7}{:>11}{:>10}",
            "", "median ms", "min ms", "max ms", "runs", "GFLOP/s", "of peak"
        ),
        timing("forward", found.forward, found.forward_gflops),
        timing("forward+backward", found.forward_backward, found.forward_backward_gflops),
        timing(&product, found.product, found.peak_gflops),
    ]
}
