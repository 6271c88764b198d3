//! ONNX files: the protobuf messages, and tensors in and out of them.

pub mod build;
mod messages;
mod tensor;

pub use messages::*;
pub use tensor::{BOOL, FLOAT, INT64, tensor_proto, tensor_value, type_name};

use super::write_atomic;
use crate::error::{Error, Result};
use crate::tensor::Value;
use prost::Message;
use std::path::Path;

/// Reads a model.
///
/// # Errors
/// The file can't be read; it is cut short, or no ONNX model.
pub fn read_model(path: &Path) -> Result<ModelProto> {
    let model: ModelProto = decode(path, "ONNX model")?;
    // Almost any few bytes are some protobuf message: what a model must have tells it.
    let lacks = match (&model.graph, model.ir_version, &model.opset_import[..]) {
        (None, ..) => "a graph",
        (_, None, _) => "the version of its format",
        (.., []) => "the number of its operator set",
        _ => return Ok(model),
    };
    let reason = format!("no whole ONNX model: it lacks {lacks}; is it cut short?");
    Err(Error::format(path, reason))
}

/// Writes a model, atomically.
///
/// # Errors
/// The file can't be written.
pub fn write_model(path: &Path, model: &ModelProto) -> Result<()> {
    write_atomic(path, &model.encode_to_vec())
}

/// Reads a file of one tensor (`.pb`): its name and its value.
///
/// # Errors
/// The file can't be read, is cut short, no tensor, or of a type that is not read.
pub fn read_tensor(path: &Path) -> Result<(String, Value)> {
    let tensor: TensorProto = decode(path, "ONNX tensor")?;
    let value = tensor_value(&tensor).map_err(|reason| Error::format(path, reason))?;
    Ok((tensor.name, value))
}

fn decode<M: Message + Default>(path: &Path, what: &str) -> Result<M> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let other = match bytes.get(..9) {
        Some([b'P', b'K', 3 | 5, ..]) => Some("a zip or npz file"),
        Some([0x93, b'N', b'U', b'M', ..]) => Some("a NumPy file"),
        Some([.., b'{']) => Some("a safetensors file"),
        _ => None,
    };
    if let Some(other) = other {
        let hint = "recurra export FILE --out FILE.onnx makes one of PyTorch's or Keras' weights";
        return Err(Error::format(path, format!("this is {other}, no {what} ({hint})")));
    }
    M::decode(&bytes[..]).map_err(|e| {
        Error::format(path, format!("no whole {what} ({}); is it cut short?", detail(&e)))
    })
}

/// The decoder's words, without its name for itself.
fn detail(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text).to_string()
}
