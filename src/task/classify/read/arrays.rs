//! Arrays: IDX, as MNIST's files are, and NumPy's.

use super::{Found, Source, text_of};
use crate::error::{Error, Result};
use crate::task::classify::Examples;
use std::path::Path;

/// The sizes and the bytes of an IDX file of unsigned bytes.
fn parse_idx<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Vec<usize>, &'a [u8])> {
    let bad = |what: String| Error::format(path, what);
    let short = || bad("the IDX file is cut short".to_string());
    let (head, rest) = bytes.split_at_checked(4).ok_or_else(short)?;
    let [0, 0, kind, sizes] = *head else {
        return Err(bad("this is no IDX file".to_string()));
    };
    if kind != 8 {
        return Err(bad(format!("IDX of unsigned bytes (8) is read, not of type {kind}")));
    }
    let (sizes, data) = rest.split_at_checked(4 * usize::from(sizes)).ok_or_else(short)?;
    let sizes: Vec<usize> =
        sizes.as_chunks::<4>().0.iter().map(|b| u32::from_be_bytes(*b) as usize).collect();
    let wanted = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    if wanted != Some(data.len()) {
        let n = data.len();
        return Err(bad(format!("sizes {sizes:?} do not fit {n} bytes of data; is it cut short?")));
    }
    Ok((sizes, data))
}

/// Images \[N, T, I\] whose rows are steps, or sequences \[N, T\] of one value a step.
pub(super) fn idx(source: &Source, bytes: &[u8]) -> Result<Examples> {
    let (sizes, data) = parse_idx(source.path, bytes)?;
    let (n, width, each) = match sizes[..] {
        [n, time] => (n, 1, time),
        [n, time, width] => (n, width, time * width),
        _ => {
            let what = format!("sizes {sizes:?}: sequences are [N, T] or [N, T, I]");
            return Err(Error::format(source.path, what));
        }
    };
    if each == 0 {
        return Err(Error::format(source.path, format!("sizes {sizes:?}: sequences of no step")));
    }
    let list = data.chunks(each).map(|own| own.iter().map(|&x| f32::from(x)).collect());
    let labels = source.own_labels(n)?;
    let places = (1..=n).collect();
    Ok(Examples::numbers(width, list.collect(), labels)?.found(source.path, "sequence", places))
}

/// Labels of a file of their own: IDX, NumPy, or a line each.
pub(super) fn labels(path: &Path, bytes: &[u8]) -> Result<Vec<String>> {
    if bytes.is_empty() {
        return Err(Error::format(path, "the file is empty"));
    }
    if bytes.starts_with(&[0, 0]) {
        let (sizes, data) = parse_idx(path, bytes)?;
        return match sizes.len() {
            1 => Ok(data.iter().map(u8::to_string).collect()),
            _ => Err(Error::format(path, format!("sizes {sizes:?}: labels are [N]"))),
        };
    }
    #[cfg(feature = "onnx")]
    if crate::format::npz::is_numpy(bytes) {
        let arrays = crate::format::npz::parse_arrays(path, bytes)?;
        return match arrays.values().next() {
            Some(array) if arrays.len() == 1 => numpy::label_list(path, "labels", array),
            _ => Err(Error::format(path, "labels are one array")),
        };
    }
    let text = text_of(path, bytes.to_vec())?;
    let mut list = Vec::new();
    let lines: Vec<&str> = text.trim_end().split('\n').collect();
    for (at, line) in lines.into_iter().enumerate() {
        let label = line.trim();
        if label.is_empty() {
            return Err(Error::format(
                path,
                format!("line {}, column 1: the label is empty", at + 1),
            ));
        }
        list.push(label.to_string());
    }
    Ok(list)
}

#[cfg(not(feature = "onnx"))]
pub(super) fn numpy(source: &Source, _bytes: &[u8]) -> Result<Found> {
    Err(Error::unsupported(format!(
        "{}: this build reads no NumPy arrays (the feature 'onnx')",
        source.path.display()
    )))
}

#[cfg(feature = "onnx")]
pub(super) use numpy::numpy;

#[cfg(feature = "onnx")]
mod numpy {
    use super::*;
    use crate::format::npz::parse_arrays;
    use crate::task::classify::Format;
    use crate::tensor::Value;
    use std::collections::BTreeMap;

    /// Names of the arrays of sequences to train on, of their labels, and of those to test, in the order in which they
    /// are looked for.
    const INPUTS: [&str; 6] = ["x", "X", "x_train", "X_train", "data", "inputs"];
    const LABELS: [&str; 6] = ["y", "Y", "y_train", "labels", "target", "targets"];
    const TEST_INPUTS: [&str; 2] = ["x_test", "X_test"];
    const TEST_LABELS: [&str; 2] = ["y_test", "Y_test"];

    /// An archive with arrays of sequences and labels, perhaps others to test; or one array, with labels elsewhere.
    pub(in super::super) fn numpy(source: &Source, bytes: &[u8]) -> Result<Found> {
        let arrays = parse_arrays(source.path, bytes)?;
        let find = |names: &[&str]| {
            names
                .iter()
                .find_map(|&name| Some((name, arrays.get(name)?)))
                .map(|(n, a)| (n.to_string(), a))
        };
        let x = find(&[""]).or_else(|| find(&INPUTS));
        let Some((x_name, x)) = x else { return Err(none(source, &arrays, "sequences", &INPUTS)) };
        let (width, list) = sequences(source.path, &x_name, x)?;
        let y = match &source.reading.label {
            Some(name) => find(&[name.as_str()]),
            None => find(&LABELS),
        };
        let labels = match (&source.labels, y) {
            (None, Some((name, y))) if source.labelled => label_list(source.path, &name, y)?,
            (None, None) if source.labelled && x_name.is_empty() => {
                source.own_labels(list.len())?
            }
            (None, None) if source.labelled => {
                return Err(none(source, &arrays, "labels", &LABELS));
            }
            (None, _) => Vec::new(),
            (Some(_), _) => source.own_labels(list.len())?,
        };
        let examples = |width, list: Vec<Vec<f32>>, labels| {
            let places = (1..=list.len()).collect();
            let examples = Examples::numbers(width, list, labels);
            let examples = examples.map_err(|e| Error::format(source.path, e.to_string()))?;
            Ok::<_, Error>(examples.found(source.path, "sequence", places))
        };
        let own = examples(width, list, labels)?;
        let test = match (find(&TEST_INPUTS), find(&TEST_LABELS)) {
            (Some((x_name, x)), Some((y_name, y))) => {
                let (width, list) = sequences(source.path, &x_name, x)?;
                Some(examples(width, list, label_list(source.path, &y_name, y)?)?)
            }
            _ => None,
        };
        Ok(Found { test, ..Found::plain(own, Format::Numpy) })
    }

    fn none(
        source: &Source,
        arrays: &BTreeMap<String, Value>,
        what: &str,
        names: &[&str],
    ) -> Error {
        let there: Vec<&str> = arrays.keys().map(String::as_str).collect();
        Error::format(
            source.path,
            format!(
                "there is no array of {what} ({}); there are {}",
                names.join(", "),
                there.join(", ")
            ),
        )
    }

    fn sequences(path: &Path, name: &str, array: &Value) -> Result<(usize, Vec<Vec<f32>>)> {
        let shape = array.shape().to_vec();
        let (width, each) = match shape[..] {
            [_, time] => (1, time),
            [_, time, width] => (width, time * width),
            _ => (0, 0),
        };
        if each == 0 {
            let what = format!("array '{name}' {shape:?}: sequences are [N, T] or [N, T, I]");
            return Err(Error::format(path, what));
        }
        let values: Vec<f32> = match array {
            Value::F32(array) => array.iter().copied().collect(),
            Value::I64(array) => array.iter().map(|&x| x as f32).collect(),
            Value::Bool(array) => array.iter().map(|&x| f32::from(u8::from(x))).collect(),
        };
        Ok((width, values.chunks(each).map(<[f32]>::to_vec).collect()))
    }

    /// Numbers as labels; whole ones without a point.
    pub(super) fn label_list(path: &Path, name: &str, array: &Value) -> Result<Vec<String>> {
        let shape = array.shape().to_vec();
        if !matches!(shape[..], [_] | [_, 1]) {
            let what = format!("array '{name}' {shape:?}: labels are [N]");
            return Err(Error::format(path, what));
        }
        Ok(match array {
            Value::F32(array) => array.iter().map(f32::to_string).collect(),
            Value::I64(array) => array.iter().map(i64::to_string).collect(),
            Value::Bool(array) => array.iter().map(bool::to_string).collect(),
        })
    }
}
