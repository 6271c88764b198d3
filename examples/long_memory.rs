//! Which cells remember for long, and what the gradient microscope sees of why: the adding and the copying problem for
//! a tanh RNN, a GRU and an LSTM.
//!
//! `cargo run --release --example long_memory` takes about half a minute and writes `long_memory.html`; with
//! `-- full` the problems have their usual sizes and are trained until they are solved, if ever: some ten minutes.

#[path = "common/long_memory.rs"]
mod long_memory;

use long_memory::{ADDING_BASELINE, Run, adder, adding, copier, copying, train};
use recurra::report::{HeatMap, HeatScale, LineChart, Report, Series, Table};
use recurra::{CellKind, Engine, Result};
use std::path::Path;

/// The highest learning rate.
const RATE: f32 = 0.01;

const CELLS: [CellKind; 3] = [CellKind::RnnTanh, CellKind::Gru, CellKind::Lstm];

fn main() -> Result<()> {
    // Layers as small as these are not worth the talk between threads.
    let engine = Engine::cpu(Some(1))?;
    let mut report = Report::new("Who remembers for long?");
    report.subtitle("The adding and the copying problem, and how gradients come back through time");

    let full = std::env::args().any(|argument| argument == "full");
    let count = if full { 100_000 } else { 5000 };
    let (time, steps) = (100, if full { 3000 } else { 1000 });
    let parts = [adding(count, time, 1)?, adding(500, time, 2)?];
    let runs =
        all(&engine, steps, |cell| train(&engine, &adder(cell, 32, time)?, &parts, RATE, steps))?;
    let title = format!("Adding two marked values of {time}");
    add(&mut report, &title, "mean square error", ADDING_BASELINE, &runs)?;

    // The usual problem has ten symbols; five show as much in less time.
    let (sizes, hidden, rate, steps) =
        if full { ([10, 8, 50], 128, 0.002, 12_000) } else { ([5, 8, 50], 48, RATE, 1000) };
    let parts = [copying(count, sizes, 1)?, copying(500, sizes, 2)?];
    let runs = all(&engine, steps, |cell| {
        train(&engine, &copier(cell, hidden, sizes)?, &parts, rate, steps)
    })?;
    let title = format!("Copying {} symbols over {} blanks", sizes[0], sizes[2]);
    add(&mut report, &title, "nats a symbol", (sizes[1] as f32).ln(), &runs)?;

    report.write(Path::new("long_memory.html"))?;
    println!("\nlong_memory.html has the curves, and the gradients by step.");
    Ok(())
}

fn all(engine: &Engine, steps: u64, run: impl Fn(CellKind) -> Result<Run>) -> Result<Vec<Run>> {
    println!("\n{}, {steps} steps", engine.name());
    CELLS.into_iter().map(run).collect()
}

/// A section of the report, and the same table on the terminal.
fn add(report: &mut Report, title: &str, unit: &str, baseline: f32, runs: &[Run]) -> Result<()> {
    report.section(title);
    let head =
        ["cell", unit, "a gradient keeps, a step back", "and from the last step to the first"];
    println!("{title}; without any memory {baseline:.3} {unit}");
    println!("{:10} {:>18}  {:>30}  {}", head[0], head[1], head[2], head[3]);
    let mut table = Table::new(format!("Without any memory: {baseline:.3} {unit}"), head);
    let mut chart = LineChart::new("Validation loss", "step", unit).log_y();
    let (mut rows, mut names) = (Vec::new(), Vec::new());
    for (cell, run) in CELLS.iter().zip(runs) {
        let gradients = run.views.last().map(|view| view.layers[0].gradients.h.clone());
        let h = gradients.unwrap_or_default();
        let kept = format!("{:.3}{}", run.kept(), if run.vanish() { ", vanishing" } else { "" });
        let whole = run.over_the_window();
        let cells = [format!("{:.4}", run.loss()), kept, format!("{whole:.1e}")];
        println!("{:10} {:>18}  {:>30}  {}", cell.name(), cells[0], cells[1], cells[2]);
        table = table.row([&[cell.name().to_string()], &cells[..]].concat());
        chart = chart.series(Series::of_steps(cell.name(), &run.losses));
        names.push(cell.name().to_string());
        rows.extend(h);
    }
    report.add(table).add(chart);
    let steps = rows.len() / runs.len().max(1);
    let map =
        HeatMap::new("Gradients that reach each step, behind training", [runs.len(), steps], rows)?;
    let times: Vec<String> = (0..steps).map(|t| t.to_string()).collect();
    let map = map.rows_are("cell", names).columns_are("time step", times.clone());
    report.add(map.scale(HeatScale::Log));
    for (cell, run) in CELLS.iter().zip(runs) {
        let rows: Vec<f32> =
            run.views.iter().flat_map(|view| view.layers[0].gradients.h.clone()).collect();
        let names = run.views.iter().map(|view| view.step.to_string()).collect();
        let map = HeatMap::new(
            format!("{}, while it is trained", cell.name()),
            [run.views.len(), steps],
            rows,
        )?;
        let map = map.rows_are("training step", names).columns_are("time step", times.clone());
        report.add(map.scale(HeatScale::Log));
        let said = run.views.last().map(recurra::train::View::verdict).unwrap_or_default();
        report.text(format!("{}: {}", cell.name(), said.join("; ")));
    }
    Ok(())
}
