//! `recurra microscope`.

use crate::args::{DeviceArgs, json_line, print_line};
use crate::eval::{of_classes, unknown_task};
use crate::train;
use crate::train::folder::from_config;
use crate::train::report::microscope as add;
use clap::Args;
use recurra::Result;
use recurra::engine::Engine;
use recurra::kernel::Control;
use recurra::report::Report;
use recurra::task::{Description, classify, forecast, lm, music, tag};
use recurra::tensor::NamedTensors;
use recurra::train::{Microscope, Phase, Task, View};
use std::path::PathBuf;
use std::process::ExitCode;

/// Look at what flows through each time step of a trained model, forward and back.
///
/// Gradients, gates, spectral radii, and what is wrong, in words.
#[derive(Args)]
pub struct MicroscopeArgs {
    /// The model's folder
    #[arg(long, value_name = "DIR", default_value = "recurra-model")]
    model: PathBuf,
    /// Other data than the model was trained on
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The labels of the data, where they lie in a file of their own
    #[arg(long, value_name = "FILE", requires = "data")]
    labels: Option<PathBuf>,
    /// Write heat maps as a page
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// One line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Looks at a task's first batch, from empty states.
pub fn look(engine: &Engine, task: &impl Task, weights: &NamedTensors, seed: u64) -> Result<View> {
    let store = engine.store();
    store.set_all(weights)?;
    let feed = task.feed(Phase::Training, 0, seed)?;
    let mut microscope = Microscope::new(engine, &store, task, feed.shape())?;
    microscope.look(true, |inputs| {
        feed.write(inputs)?;
        inputs.set_control(Control::new(1, seed));
        Ok(())
    })
}

pub fn run(args: &MicroscopeArgs) -> Result<ExitCode> {
    let description = Description::read(&args.model)?;
    of_classes(args.labels.as_deref(), &description.task)?;
    let engine = args.device.engine()?;
    let (data, labels) = (args.data.as_deref(), args.labels.as_deref());
    let view = match description.task.as_str() {
        lm::NAME => train::lm::look(&args.model, data, &engine),
        classify::NAME => train::classify::look(&args.model, data, labels, &engine),
        forecast::NAME => train::forecast::look(&args.model, data, &engine),
        music::NAME => train::music::look(&args.model, data, &engine),
        tag::NAME => train::tag::look(&args.model, data, &engine),
        task => return Err(unknown_task(&args.model, task)),
    };
    let view = view.map_err(|e| from_config(&args.model, e))?;
    if let Some(out) = &args.out {
        let mut report = Report::new(format!("The model in {}", args.model.display()));
        add(&mut report, std::slice::from_ref(&view))?;
        report.write(out)?;
        eprintln!("the page: {}", out.display());
    }
    if args.json {
        print_line(&json_line(&view)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for layer in &view.layers {
        let norms = &layer.gradients.h;
        let ends = [norms.first(), norms.get(norms.len() / 2), norms.last()];
        let ends: Vec<_> = ends.into_iter().flatten().map(|n| format!("{n:.2e}")).collect();
        let kept = layer.gradients.kept.map_or("-".to_string(), |kept| format!("{kept:.3}"));
        print_line(&format!(
            "{:<16} ‖dL/dh(t)‖ first, middle, last of {} steps: {}; kept a step: {kept}",
            layer.name,
            norms.len(),
            ends.join(", ")
        ))?;
        for gate in &layer.gates {
            let radius = layer.spectral_radius.iter().find(|r| r.0 == gate.name);
            let radius = radius.map_or(String::new(), |r| format!(", spectral radius {:.2}", r.1));
            print_line(&format!(
                "    gate {:<8} mean {:>6.3}, at its ends {:>5.1} % low, {:>5.1} % high{radius}",
                gate.name,
                gate.mean,
                100.0 * gate.low,
                100.0 * gate.high
            ))?;
        }
        if let (Some(half), Some(long)) = (layer.half_life, layer.long_half_life) {
            print_line(&format!(
                "    forgets half in {half:.1} steps (median unit); the longest tenth in {long:.1} or more"
            ))?;
        }
    }
    let verdict = view.verdict();
    if verdict.is_empty() {
        print_line("nothing is wrong that the microscope knows of")?;
    }
    verdict.iter().try_for_each(|line| print_line(line))?;
    Ok(ExitCode::SUCCESS)
}
