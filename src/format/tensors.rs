//! safetensors files.

use super::write_atomic;
use crate::error::{Error, Result};
use crate::tensor::{HostTensor, NamedTensors};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// What a safetensors file holds.
#[derive(Clone, Debug, Default)]
pub struct TensorFile {
    /// The tensors.
    pub tensors: NamedTensors,
    /// Its text metadata.
    pub metadata: HashMap<String, String>,
}

/// Writes float32 tensors, atomically.
///
/// # Errors
/// The file can't be written.
pub fn write_tensors(path: &Path, file: &TensorFile) -> Result<()> {
    let mut views = Vec::new();
    let bytes: Vec<Vec<u8>> = file
        .tensors
        .values()
        .map(|tensor| tensor.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    for ((name, tensor), bytes) in file.tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes);
        views.push((name.as_str(), view.map_err(|e| Error::format(path, e.to_string()))?));
    }
    let metadata = (!file.metadata.is_empty()).then(|| file.metadata.clone());
    let whole =
        safetensors::serialize(views, metadata).map_err(|e| Error::format(path, e.to_string()))?;
    let ordered = in_order(&whole).map_err(|e| Error::format(path, e.to_string()))?;
    write_atomic(path, &ordered)
}

/// The same file with its header in the order of names, so that equal contents are equal files: the
/// metadata come out of a map without an order.
fn in_order(whole: &[u8]) -> serde_json::Result<Vec<u8>> {
    let (length, rest) = whole.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let (header, data) = rest.split_at(rest.len().min(u64::from_le_bytes(*length) as usize));
    let header: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(header)?;
    let mut text = serde_json::to_vec(&header)?;
    // What lies behind it stays aligned.
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text, data].concat())
}

/// Reads a file of float32 (or float64, which is rounded) tensors.
///
/// # Errors
/// The file can't be read, is cut short, or holds another type.
pub fn read_tensors(path: &Path) -> Result<TensorFile> {
    read_some_tensors(path, |_| true)
}

/// Like [`read_tensors`], but only those that are `wanted` by their names; others may be of any type.
///
/// # Errors
/// As [`read_tensors`].
pub fn read_some_tensors(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<TensorFile> {
    let whole = fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let bad = |e: safetensors::SafeTensorError| {
        Error::format(path, format!("no whole safetensors file ({e}); is it cut short?"))
    };
    let (_, header) = SafeTensors::read_metadata(&whole).map_err(bad)?;
    let parsed = SafeTensors::deserialize(&whole).map_err(bad)?;
    let mut tensors = NamedTensors::new();
    for (name, view) in parsed.iter().filter(|(name, _)| wanted(name)) {
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F64 => {
                data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
            }
            other => {
                let reason = format!("tensor '{name}' is of type {other:?}; float32 is needed");
                return Err(Error::format(path, reason));
            }
        };
        let tensor = HostTensor::from_shape_vec(view.shape(), values)
            .map_err(|e| Error::format(path, format!("tensor '{name}': {e}")))?;
        tensors.insert(name.to_string(), tensor);
    }
    Ok(TensorFile { tensors, metadata: header.metadata().clone().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_a_file_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let mut file = TensorFile::default();
        let values = vec![1.5, -0.0, f32::MIN_POSITIVE, 3e38, 7.0, 8.0];
        let tensor = HostTensor::from_shape_vec(vec![2, 3], values).unwrap();
        file.tensors.insert("rnn.weight_ih_l0".to_string(), tensor);
        file.metadata.insert("step".to_string(), "12".to_string());
        write_tensors(&path, &file).unwrap();
        let back = read_tensors(&path).unwrap();
        assert_eq!(back.tensors, file.tensors);
        assert_eq!(back.metadata, file.metadata);
        // Equal contents are equal files, whatever order a map has.
        file.metadata.extend((0..9).map(|i| (format!("key {i}"), "value".repeat(i))));
        write_tensors(&path, &file).unwrap();
        let once = fs::read(&path).unwrap();
        let fresh = file.metadata.iter().map(|(key, value)| (key.clone(), value.clone()));
        let again = TensorFile { metadata: fresh.collect(), tensors: file.tensors.clone() };
        write_tensors(&path, &again).unwrap();
        assert_eq!(once, fs::read(&path).unwrap());
        assert_eq!(read_tensors(&path).unwrap().metadata, file.metadata);
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 20, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read_tensors(&path).unwrap_err().to_string().contains("cut short"));
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(read_tensors(&path), Err(Error::Io { .. })));
    }
}
