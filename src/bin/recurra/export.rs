//! `recurra export`: models for other people's software.

use crate::import::{CellArgs, ends_in};
use clap::Args;
use recurra::convert::{export_language_model, export_layers, import, to_tensors};
use recurra::format::onnx::write_model;
use recurra::format::{read_tensors, write_tensors};
use recurra::task::TaskModel;
use recurra::task::lm::LanguageModel;
use recurra::train::MODEL;
use recurra::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a trained model's folder, or the recurrent layers of a file that `recurra import` reads, as
/// ONNX (operator set 22) or as safetensors in PyTorch's names.
#[derive(Args)]
pub struct ExportArgs {
    /// The model's folder, or a file
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
/// As [`import`] and [`LanguageModel::load_config`]; what ONNX has no operator for; a file that can't
/// be written.
pub fn run(args: ExportArgs) -> Result<ExitCode> {
    ends_in(&args.out, &["onnx", "safetensors"])?;
    let onnx = args.out.extension().is_some_and(|ending| ending == "onnx");
    let what = if args.model.is_dir() {
        let (model, _) = LanguageModel::load_config(&args.model)?;
        if args.cell.choice().is_some() {
            return Err(Error::invalid("a model's folder says its cell: leave --cell out"));
        }
        if onnx {
            write_model(&args.out, &export_language_model(&args.model)?)?;
        } else {
            model.load_weights(&args.model)?;
            write_tensors(&args.out, &read_tensors(&args.model.join(MODEL))?)?;
        }
        "the whole model".to_string()
    } else {
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
