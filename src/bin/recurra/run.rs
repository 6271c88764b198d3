//! `recurra run`: an ONNX model over arrays.

use crate::args::{DeviceArgs, json_line, print_line};
use clap::Args;
use recurra::format::npz;
use recurra::graph::{Model, Value};
use recurra::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run an ONNX model.
///
/// Recurrent operators run on the device, the small ones around them on the host. Without --output,
/// each output's name, type, shape and range are printed.
#[derive(Args)]
pub struct RunArgs {
    /// The model, an .onnx file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Its inputs by name, an .npz file (numpy.savez(FILE, name=array)); one array, or an .npy file, is
    /// enough for a model of one input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Write the outputs by name into an .npz file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// One JSON line an output instead of the table
    #[arg(long)]
    json: bool,
}

/// The line of `--json`: the names stay as they are.
#[derive(Serialize)]
struct Line {
    name: String,
    r#type: &'static str,
    shape: Vec<usize>,
    min: Option<f64>,
    mean: Option<f64>,
    max: Option<f64>,
}

/// Runs and prints or writes.
///
/// # Errors
/// As [`Model::read`] and [`Model::run`]; a file that can't be read or written.
pub fn run(args: RunArgs) -> Result<ExitCode> {
    if let Some(output) = &args.output
        && output.extension().is_none_or(|ending| ending != "npz")
    {
        let name = output.display();
        return Err(Error::invalid(format!("{name}: outputs are written as .npz; name it so")));
    }
    if args.model.is_dir() {
        let name = args.model.display();
        let hint = format!("recurra export {name} --out FILE.onnx makes one of a trained model");
        return Err(Error::invalid(format!("{name} is a folder, no ONNX model; {hint}")));
    }
    let model = Model::read(&args.model)?;
    model.check()?;
    let inputs = inputs(&model, &args)?;
    let outputs = model.run(&args.device.engine()?, inputs)?;
    if let Some(path) = &args.output {
        npz::write_arrays(path, outputs.iter().map(|(name, value)| (name.as_str(), value)))?;
        eprintln!("wrote {} outputs to {}", outputs.len(), path.display());
        if !args.json {
            return Ok(ExitCode::SUCCESS);
        }
    }
    for (name, value) in outputs {
        let line = summary(name, &value);
        print_line(&if args.json { json_line(&line)? } else { text(&line) })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The arrays of the input file. A single one goes to a model of a single input, whatever its name.
fn inputs(model: &Model, args: &RunArgs) -> Result<BTreeMap<String, Value>> {
    let Some(path) = &args.input else {
        if let Some(port) = model.required_inputs().next() {
            let text = port.text();
            return Err(Error::invalid(format!("the model needs the input {text}: give --input")));
        }
        return Ok(BTreeMap::new());
    };
    let mut arrays = npz::read_arrays(path)?;
    let ports = &model.graph.inputs;
    let known = |name: &String| ports.iter().any(|port| port.name == *name);
    if arrays.len() == 1 && !arrays.keys().all(known) {
        let mut required = model.required_inputs();
        if let (Some(port), None) = (required.next(), required.next())
            && let Some((_, array)) = arrays.pop_first()
        {
            arrays.insert(port.name.clone(), array);
        }
    }
    if arrays.contains_key("") {
        let reason = format!("{}: one array, but the model has several inputs", path.display());
        return Err(Error::invalid(format!("{reason}; give them by name in an .npz file")));
    }
    Ok(arrays)
}

fn summary(name: String, value: &Value) -> Line {
    let numbers: Vec<f64> = match value {
        Value::F32(array) => array.iter().map(|&v| v.into()).collect(),
        Value::I64(array) => array.iter().map(|&v| v as f64).collect(),
        Value::Bool(array) => array.iter().map(|&v| f64::from(u8::from(v))).collect(),
    };
    // NaN shows: min and max alone would step over it.
    let fold = |f: fn(f64, f64) -> f64| {
        numbers
            .iter()
            .copied()
            .reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { f(a, b) })
    };
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    Line {
        name,
        r#type: value.kind(),
        shape: value.shape().to_vec(),
        min: fold(f64::min),
        mean: (!numbers.is_empty()).then_some(mean),
        max: fold(f64::max),
    }
}

fn text(line: &Line) -> String {
    let Line { name, r#type, shape, min, mean, max } = line;
    let mut text = format!("{name:<20} {:<7} {:<20}", r#type, format!("{shape:?}"));
    if let (Some(min), Some(mean), Some(max)) = (min, mean, max) {
        text += &format!(" min {min:<12.6} mean {mean:<12.6} max {max:.6}");
    }
    text.trim_end().to_string()
}
