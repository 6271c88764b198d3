//! NumPy's files: `.npy`, one array; `.npz`, a zip archive of them.

use super::write_atomic;
use crate::error::{Error, Result};
use crate::tensor::Value;
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const MAGIC: &[u8] = b"\x93NUMPY";
const ENDING: &str = ".npy";

/// Whether a file begins as `.npy` or `.npz` files do.
pub fn is_numpy(start: &[u8]) -> bool {
    start.starts_with(MAGIC) || start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

/// Reads the arrays of an npz file by name; the one array of an npy file has the empty name.
/// float64 is rounded to float32, integers become int64.
///
/// # Errors
/// The file can't be read, is no such file or cut short, or an array is of another type.
pub fn read_arrays(path: &Path) -> Result<BTreeMap<String, Value>> {
    parse_arrays(path, &std::fs::read(path).map_err(|e| Error::io(path, "read", e))?)
}

/// The same of bytes that were read already; `path` is their name in messages.
///
/// # Errors
/// As [`read_arrays`].
pub fn parse_arrays(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Value>> {
    let mut arrays = BTreeMap::new();
    if bytes.starts_with(MAGIC) {
        let array = parse(bytes).map_err(|reason| Error::format(path, reason))?;
        arrays.insert(String::new(), array);
        return Ok(arrays);
    }
    if !is_numpy(bytes) {
        return Err(Error::format(path, "neither an npz nor an npy file"));
    }
    let cut = |e| Error::format(path, format!("no whole npz file ({e}); is it cut short?"));
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(cut)?;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(cut)?;
        let member = file.name().map_err(cut)?.into_owned();
        let Some(name) = member.strip_suffix(ENDING) else {
            if member.ends_with("data.pkl") {
                return Err(Error::format(
                    path,
                    "a file of torch.save, which is not read; in Python, write it with \
                     safetensors.torch.save_file(module.state_dict(), FILE)",
                ));
            }
            return Err(Error::format(path, format!("'{member}' in it is no {ENDING} file")));
        };
        let mut content = Vec::new();
        let fail = |reason: String| Error::format(path, format!("array '{name}': {reason}"));
        file.read_to_end(&mut content).map_err(|e| fail(e.to_string()))?;
        arrays.insert(name.to_string(), parse(&content).map_err(fail)?);
    }
    Ok(arrays)
}

/// Writes an npz file, atomically and uncompressed, as NumPy's `savez` does.
///
/// # Errors
/// The file can't be written.
pub fn write_arrays<'a>(
    path: &Path,
    arrays: impl IntoIterator<Item = (&'a str, &'a Value)>,
) -> Result<()> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let large = |value: &Value| value.shape().iter().product::<usize>() >= 1 << 28;
    for (name, value) in arrays {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(large(value));
        let fail = |e: String| Error::format(path, format!("array '{name}': {e}"));
        archive.start_file(format!("{name}{ENDING}"), options).map_err(|e| fail(e.to_string()))?;
        archive.write_all(&npy(value)).map_err(|e| fail(e.to_string()))?;
    }
    let whole = archive.finish().map_err(|e| Error::format(path, e.to_string()))?;
    write_atomic(path, whole.get_ref())
}

/// An array as the content of an npy file.
fn npy(value: &Value) -> Vec<u8> {
    let (kind, mut data): (_, Vec<u8>) = match value {
        Value::F32(array) => ("<f4", array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Value::I64(array) => ("<i8", array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Value::Bool(array) => ("|b1", array.iter().map(|&v| u8::from(v)).collect()),
    };
    let shape: String = value.shape().iter().map(|n| format!("{n},")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    // With the magic, the version and the length before it, a multiple of 64 bytes.
    let before = MAGIC.len() + 4;
    while !(before + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.append(&mut data);
    bytes
}

/// The array of an npy file's content, or what is wrong with it.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    let short = || "the npy header is cut short".to_string();
    let rest = bytes.strip_prefix(MAGIC).ok_or("this is no npy file")?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(short)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            (u16::from_le_bytes(*length).into(), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(format!("npy version {other} is not read")),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let header = String::from_utf8_lossy(header);
    let field = |name: &str| -> Result<&str, String> {
        let (_, after) = header
            .split_once(&format!("'{name}':"))
            .ok_or_else(|| format!("the npy header has no '{name}': {}", header.trim()))?;
        Ok(after.trim_start())
    };
    let fortran = field("fortran_order")?.starts_with("True");
    let shape = field("shape")?.strip_prefix('(').and_then(|s| s.split_once(')'));
    let shape = shape.ok_or_else(|| format!("the npy header's shape: {}", header.trim()))?.0;
    let numbers = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
    let shape = numbers
        .map(|s| s.trim_end_matches('L').parse())
        .collect::<Result<Vec<usize>, _>>()
        .map_err(|_| format!("the npy header's shape ({shape})"))?;
    let kind = field("descr")?.strip_prefix('\'').and_then(|s| s.split_once('\''));
    let kind = kind.ok_or("arrays of records are not read")?.0;
    let array = Layout { shape, fortran, data };
    match kind {
        "<f4" => array.read(f32::from_le_bytes).map(Value::F32),
        "<f8" => array.read(|b| f64::from_le_bytes(b) as f32).map(Value::F32),
        "<i8" => array.read(i64::from_le_bytes).map(Value::I64),
        "<i4" => array.read(|b| i32::from_le_bytes(b).into()).map(Value::I64),
        "<i2" => array.read(|b| i16::from_le_bytes(b).into()).map(Value::I64),
        "|i1" => array.read(|b| i8::from_le_bytes(b).into()).map(Value::I64),
        "|u1" => array.read(|b| u8::from_le_bytes(b).into()).map(Value::I64),
        "|b1" => array.read(|[b]: [u8; 1]| b != 0).map(Value::Bool),
        other => Err(format!(
            "type '{other}' is not read; convert it to float32, float64, int64, int32 or bool"
        )),
    }
}

/// Where an npy file's elements lie.
struct Layout<'a> {
    shape: Vec<usize>,
    fortran: bool,
    data: &'a [u8],
}

impl Layout<'_> {
    fn read<T: Clone, const N: usize>(
        &self,
        from_bytes: impl Fn([u8; N]) -> T,
    ) -> Result<ArrayD<T>, String> {
        let count = self.shape.iter().try_fold(N, |n, &dim| n.checked_mul(dim));
        if count != Some(self.data.len()) {
            return Err(format!(
                "shape {:?} does not fit {} bytes of data; is it cut short?",
                self.shape,
                self.data.len()
            ));
        }
        let list = self.data.as_chunks::<N>().0.iter().map(|bytes| from_bytes(*bytes)).collect();
        let array = ArrayD::from_shape_vec(IxDyn(&self.shape).set_f(self.fortran), list)
            .map_err(|e| e.to_string())?;
        Ok(if self.fortran { array.as_standard_layout().into_owned() } else { array })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy_of(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn round_trip_of_every_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let floats = Value::F32(ndarray::arr2(&[[1.5, -0.0, f32::MAX]]).into_dyn());
        let ints = Value::I64(ndarray::arr1(&[i64::MIN, 3]).into_dyn());
        let truth = Value::Bool(ndarray::arr0(true).into_dyn());
        let empty = Value::F32(ArrayD::zeros(IxDyn(&[0, 4])));
        let all = [("a/kernel:0", &floats), ("b", &ints), ("c", &truth), ("d", &empty)];
        write_arrays(&path, all).unwrap();
        let back = read_arrays(&path).unwrap();
        assert_eq!(back.len(), 4);
        for (name, value) in all {
            assert_eq!(&back[name], value, "{name}");
        }
        let whole = std::fs::read(&path).unwrap();
        for length in [3, 40, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = read_arrays(&path).unwrap_err().to_string();
            assert!(error.contains("x.npz"), "{error}");
        }
    }

    #[test]
    fn columns_first_and_narrow_types() {
        let parse = |d: &str, f: &str, s: &str, data: &[u8]| parse(&npy_of(d, f, s, data));
        let turned = parse("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 255]).unwrap();
        assert_eq!(turned, Value::I64(ndarray::arr2(&[[1, 2, 3], [4, 5, 255]]).into_dyn()));
        let doubles = parse("<f8", "False", "(1,)", &0.1f64.to_le_bytes()).unwrap();
        assert_eq!(doubles, Value::F32(ndarray::arr1(&[0.1f32]).into_dyn()));
        for (kind, shape, data, words) in [
            ("<f2", "(1,)", &[0u8; 2][..], "'<f2'"),
            ("<f4", "(2,)", &[0; 7], "7 bytes"),
            ("<f4", "(99999999999, 99999999999)", &[0; 4], "4 bytes"),
            ("<f4", "(-1,)", &[0; 4], "shape"),
            ("<f4", "2", &[0; 8], "shape"),
        ] {
            let reason = parse(kind, "False", shape, data).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
        assert!(super::parse(b"\x93NUMPY\x01").unwrap_err().contains("cut short"));
    }
}
