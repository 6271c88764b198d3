//! `recurra import`: the recurrent layers of other people's files.

use crate::args::{json_line, print_line};
use clap::Args;
use clap::builder::PossibleValuesParser;
use recurra::convert::{CellChoice, LayerFacts, import, to_tensors};
use recurra::format::write_tensors;
use recurra::graph::{Activation, RecurrentCell};
use recurra::task::is_ensemble;
use recurra::train::MODEL;
use recurra::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the file leaves open.
#[derive(Args, Clone)]
pub struct CellArgs {
    /// The cell, where the file leaves it open: an RNN's activation, a Keras GRU without biases
    #[arg(long, value_name = "CELL", value_parser = PossibleValuesParser::new(CellChoice::NAMES))]
    cell: Option<String>,
}

impl CellArgs {
    pub fn choice(&self) -> Option<CellChoice> {
        self.cell.as_deref().and_then(CellChoice::named)
    }
}

/// List the recurrent layers of PyTorch's, Keras' or ONNX's files, and convert them.
///
/// Of a PyTorch state dict (safetensors), a Keras model's arrays (npz) or an ONNX model; exactly, to the bit.
#[derive(Args)]
pub struct ImportArgs {
    /// The file; its content tells the format
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the layers in PyTorch's names and order into a .safetensors file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    cell: CellArgs,
    /// One JSON line a layer instead of the table
    #[arg(long)]
    json: bool,
}

/// Lists and converts.
///
/// # Errors
/// As [`import`]; `--out` where weights can't be had, or can't be written.
pub fn run(args: ImportArgs) -> Result<ExitCode> {
    if let Some(out) = &args.out {
        ends_in(out, &["safetensors"])?;
    }
    if args.file.is_dir() {
        let name = args.file.display();
        if is_ensemble(&args.file) {
            return Err(Error::invalid(format!(
                "{name} is the folder of an ensemble: name the weights of one of its models, {name}/…/{MODEL}"
            )));
        }
        let hint =
            format!("its weights are in {name}/{MODEL}; recurra export takes the whole folder");
        return Err(Error::invalid(format!(
            "{name} is a folder; if it is a trained model, {hint}"
        )));
    }
    if let Some(out) = &args.out {
        apart(&args.file, out)?;
    }
    let found = import(&args.file, args.cell.choice())?;
    let width = found.layers.iter().map(|layer| title(&layer.facts).len()).max().unwrap_or(0);
    for layer in &found.layers {
        if args.json {
            print_line(&json_line(&layer.facts)?)?;
        } else {
            print_line(&text(&layer.facts, width))?;
        }
        if let Err(reason) = &layer.weights {
            eprintln!("{}: can't be converted: {reason}", title(&layer.facts));
        }
    }
    let count = found.layers.len();
    let layers = if count == 1 { "layer" } else { "layers" };
    match &args.out {
        None => eprintln!("{count} recurrent {layers} ({})", found.format),
        Some(out) => {
            write_tensors(out, &to_tensors(&found.layers)?)?;
            eprintln!("wrote {count} recurrent {layers} ({}) to {}", found.format, out.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file to write must say by its name what it will be.
pub fn ends_in(path: &Path, endings: &[&str]) -> Result<()> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    if endings.contains(&ending.as_ref()) {
        return Ok(());
    }
    let wanted: Vec<_> = endings.iter().map(|ending| format!(".{ending}")).collect();
    Err(Error::invalid(format!("{}: name it {}", path.display(), wanted.join(" or "))))
}

/// What is read is not written over.
pub fn apart(input: &Path, out: &Path) -> Result<()> {
    let places = [input, out].map(std::fs::canonicalize);
    match places {
        [Ok(input), Ok(place)] if input == place => {
            Err(Error::format(out, "this file is what is read: name another --out"))
        }
        _ => Ok(()),
    }
}

fn title(facts: &LayerFacts) -> String {
    let dot = if facts.name.is_empty() { "" } else { "." };
    format!("{}{dot}l{}", facts.name, facts.layer)
}

fn text(facts: &LayerFacts, width: usize) -> String {
    let size = |size: Option<usize>| size.map_or("?".to_string(), |size| size.to_string());
    let mut parts = vec![
        format!("{:<width$} ", title(facts)),
        format!("{:<16}", facts.cell.name()),
        format!("input {:<5}", size(facts.input)),
        format!("hidden {:<5}", size(facts.hidden)),
        format!("{:<15}", facts.directions.join("+")),
        if facts.bias { "bias" } else { "no bias" }.to_string(),
    ];
    parts.extend(facts.projection.map(|width| format!("projection {width}")));
    parts.extend(facts.peepholes.then(|| "peepholes".to_string()));
    parts.extend(facts.coupled.then(|| "coupled gates".to_string()));
    parts.extend(facts.clip.map(|clip| format!("clip {clip}")));
    parts.extend((facts.batch_first == Some(true)).then(|| "batch first".to_string()));
    match &facts.activations {
        None => parts.push("tanh or relu: --cell says it".to_string()),
        Some(all) => {
            let usual = all.iter().all(|list| list == facts.cell.activations());
            if facts.cell == RecurrentCell::Rnn || !usual {
                let names = all.iter().flatten().map(activation);
                parts.push(format!("activations {}", names.collect::<Vec<_>>().join(", ")));
            }
        }
    }
    parts.join(" ").trim_end().to_string()
}

fn activation(of: &Activation) -> String {
    let (name, alpha, beta) = of.to_onnx();
    let numbers: Vec<_> = [alpha, beta].iter().flatten().map(f32::to_string).collect();
    if numbers.is_empty() { name.to_string() } else { format!("{name}({})", numbers.join(", ")) }
}
