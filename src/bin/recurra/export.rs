//! `recurra export`: models for other people's software.

use crate::import::{CellArgs, apart, ends_in};
use clap::Args;
use recurra::convert::{
    export_language_model, export_layers, import, language_model_tensors, to_tensors,
};
use recurra::format::onnx::write_model;
use recurra::format::write_tensors;
use recurra::task::{Description, lm};
use recurra::train::{MODEL, TRAINING};
use recurra::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a language model, or the recurrent layers of a file, as ONNX or as safetensors in PyTorch's names.
///
/// A trained language model's folder goes out whole; of other files that `recurra import` reads the recurrent layers do
/// (a trained model's model.safetensors is one, whatever its task). ONNX has operator set 22.
#[derive(Args)]
pub struct ExportArgs {
    /// A language model's folder, or a file
    #[arg(value_name = "DIR|FILE")]
    model: PathBuf,
    /// The file to write: .onnx or .safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    cell: CellArgs,
}

/// Writes.
///
/// # Errors
/// As [`import`], [`export_language_model`] and [`apart`]; another task's folder; what ONNX has no
/// operator for; a file that can't be written.
pub fn run(args: ExportArgs) -> Result<ExitCode> {
    ends_in(&args.out, &["onnx", "safetensors"])?;
    let onnx = args.out.extension().is_some_and(|ending| ending == "onnx");
    let what = if args.model.is_dir() {
        let task = Description::read(&args.model)?.task;
        if task != lm::NAME {
            let file = args.model.join(MODEL);
            let reason = format!(
                "a model of task '{task}': of '{}' alone a whole model is exported; of {} its recurrent layers are",
                lm::NAME,
                file.display()
            );
            return Err(Error::format(&args.model, reason));
        }
        if args.cell.choice().is_some() {
            return Err(Error::invalid("a model's folder says its cell: leave --cell out"));
        }
        for file in [MODEL, TRAINING] {
            apart(&args.model.join(file), &args.out)?;
        }
        if onnx {
            write_model(&args.out, &export_language_model(&args.model)?)?;
        } else {
            write_tensors(&args.out, &language_model_tensors(&args.model)?)?;
        }
        "the whole model".to_string()
    } else {
        apart(&args.model, &args.out)?;
        let found = import(&args.model, args.cell.choice())?;
        if onnx {
            write_model(&args.out, &export_layers(&found.layers)?)?;
        } else {
            write_tensors(&args.out, &to_tensors(&found.layers)?)?;
        }
        let count = found.layers.len();
        format!("{count} recurrent {} of the file", if count == 1 { "layer" } else { "layers" })
    };
    eprintln!("wrote {what} to {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
