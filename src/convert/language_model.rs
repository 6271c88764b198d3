//! A trained language model as an ONNX model.

use super::export::{BATCH, Stack, TIME};
use super::{CellChoice, FoundLayer, METADATA, pytorch};
use crate::data::VocabularyText;
use crate::error::{Error, Result};
use crate::format::TensorFile;
use crate::format::onnx::build::{Builder, fixed, named};
use crate::format::onnx::{FLOAT, INT64, ModelProto};
use crate::graph::RecurrentNode;
use crate::task::TaskModel;
use crate::task::lm::{LanguageModel, ModelConfig};
use crate::tensor::Value;
use crate::train::MODEL;
use std::path::Path;

/// The whole of a model's folder: `ids` \[T, B\] (int64) to `logits` \[T, B, V\], both axes free, with
/// the states `h_0`, `c_0` (optional) and `h_n`, `c_n`, \[L, B, H\]. The tokens, in the order of
/// their numbers (of bytes none), are in the metadata under `vocabulary`, characters in a row, words a line each;
/// which of them they are under `tokens`.
///
/// # Errors
/// The folder holds no language model, or it can't be read; a cell that ONNX has no operator for.
pub fn export_language_model(folder: &Path) -> Result<ModelProto> {
    let (model, weights) = LanguageModel::load(folder)?;
    let config = model.config();
    let layers = pytorch::layers(&folder.join(MODEL), Some(cell_of(config)?))?;
    let nodes: Vec<&RecurrentNode> =
        layers.iter().filter_map(|FoundLayer { weights, .. }| weights.as_ref().ok()).collect();
    if nodes.len() != config.layers {
        let reason = format!("{} recurrent layers, not {}", nodes.len(), config.layers);
        return Err(Error::format(folder.join(MODEL), reason));
    }
    let weight = |name: &str| {
        weights.get(name).cloned().ok_or_else(|| Error::Missing {
            tensor: name.to_string(),
            place: folder.join(MODEL).display().to_string(),
        })
    };
    let [time, batch] = [TIME, BATCH].map(named);
    let mut builder = Builder::new("language model");
    builder.input("ids", INT64, &[time.clone(), batch.clone()]);
    let table = weight("embedding.weight")?;
    let table = builder.constant("embedding.weight", &Value::F32(table));
    let x = builder.one("Gather", "embedding/output", &[&table, "ids"], Vec::new());
    let name = layers.first().map_or("", |layer| &layer.facts.name);
    let stack = Stack { prefix: "", name, nodes: &nodes };
    let top = stack.add(&mut builder, &x)?;
    // [V, H] of PyTorch's linear layer as [H, V].
    let linear = weight(&model.output_weight())?.reversed_axes().as_standard_layout().into_owned();
    let linear = builder.constant("linear.weight/transposed", &Value::F32(linear));
    let bias = builder.constant("linear.bias", &Value::F32(weight("linear.bias")?));
    let product = builder.one("MatMul", "linear/product", &[&top, &linear], Vec::new());
    builder.one("Add", "logits", &[&product, &bias], Vec::new());
    builder.output("logits", FLOAT, &[time, batch, fixed(model.vocabulary().len())]);
    stack.add_final_states(&mut builder);
    let text = match model.vocabulary().text() {
        VocabularyText::Characters(text) => text,
        VocabularyText::Words(words) => words.join("\n"),
    };
    let tokens = config.tokens.name();
    Ok(builder.finish(&[("tokens", tokens), ("vocabulary", &text)]))
}

/// The weights of a model's folder, with the facts about its recurrent layers in the metadata ([`METADATA`]).
///
/// # Errors
/// As [`export_language_model`]; a cell that neither PyTorch nor ONNX has.
pub fn language_model_tensors(folder: &Path) -> Result<TensorFile> {
    let (model, tensors) = LanguageModel::load(folder)?;
    let layers = pytorch::layers(&folder.join(MODEL), Some(cell_of(model.config())?))?;
    let facts: Vec<_> = layers.iter().map(|layer| &layer.facts).collect();
    let text = serde_json::to_string(&facts).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(TensorFile { tensors, metadata: [(METADATA.to_string(), text)].into() })
}

/// The cell, if other software has it.
fn cell_of(config: &ModelConfig) -> Result<CellChoice> {
    if config.layer_norm {
        let what = "neither ONNX nor PyTorch has layer norm in the cell".to_string();
        return Err(Error::Unsupported(what));
    }
    CellChoice::named(&config.cell).ok_or_else(|| nobody_has(&config.cell))
}

/// The error of a cell that is ours alone.
pub(super) fn nobody_has(cell: &str) -> Error {
    Error::Unsupported(format!("neither ONNX nor PyTorch has the cell '{cell}'"))
}
