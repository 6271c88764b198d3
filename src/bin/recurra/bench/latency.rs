//! `bench --latency`: single steps of live streams.

use super::{BenchArgs, COMMIT, lines};
use crate::args::{json_line, print_line};
use recurra::Result;
use recurra::engine::Engine;
use recurra::measure::{self, RecurrentShape};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

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

/// Measures single steps and prints.
///
/// # Errors
/// The layer does not fit the device.
pub fn run(engine: &Engine, shape: &RecurrentShape, args: &BenchArgs) -> Result<ExitCode> {
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
    fact("shape", lines::shape_name(shape))?;
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
