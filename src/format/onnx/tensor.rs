//! Tensors in and out of ONNX's message. Narrow integers become int64, float64 is rounded to
//! float32; both fit what recurrent networks keep in files.

use super::messages::TensorProto;
use crate::tensor::Value;
use ndarray::{ArrayD, IxDyn};

/// The number of float32 among element types.
pub const FLOAT: i32 = 1;
/// The number of int64.
pub const INT64: i32 = 7;
/// The number of bool.
pub const BOOL: i32 = 9;

/// The name of an element type by its number.
pub fn type_name(data_type: i32) -> String {
    const NAMES: [&str; 17] = [
        "undefined",
        "float32",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "float64",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
    ];
    let name = usize::try_from(data_type).ok().and_then(|n| NAMES.get(n));
    name.map_or(format!("number {data_type}"), |name| (*name).to_string())
}

/// The value of a tensor message, or what is wrong with it.
///
/// # Errors
/// External data, a type that is not read, another number of values than the shape has.
pub fn tensor_value(tensor: &TensorProto) -> Result<Value, String> {
    let fail = |reason: String| Err(format!("tensor '{}' {reason}", tensor.name));
    if tensor.data_location != 0 || !tensor.external_data.is_empty() {
        let entry = tensor.external_data.iter().find(|entry| entry.key == "location");
        let file = entry.map_or("another file", |entry| &entry.value);
        return fail(format!(
            "keeps its values in {file}: external data is not read; save the model as one file"
        ));
    }
    let mut shape = Vec::new();
    for &dim in &tensor.dims {
        match usize::try_from(dim) {
            Ok(dim) => shape.push(dim),
            Err(_) => return fail(format!("has the shape {:?}", tensor.dims)),
        }
    }
    let raw = tensor.raw_data.as_deref();
    let Some(data_type) = tensor.data_type else { return fail("has no data type".to_string()) };
    let narrow = || tensor.int32_data.iter().map(|&v| i64::from(v)).collect();
    let long = || tensor.uint64_data.iter().map(|&v| v as i64).collect();
    let value =
        match data_type {
            FLOAT => values(&shape, raw, f32::from_le_bytes, || tensor.float_data.clone())
                .map(Value::F32),
            11 => values(
                &shape,
                raw,
                |b| f64::from_le_bytes(b) as f32,
                || tensor.double_data.iter().map(|&v| v as f32).collect(),
            )
            .map(Value::F32),
            2 => values(&shape, raw, |b| u8::from_le_bytes(b).into(), narrow).map(Value::I64),
            3 => values(&shape, raw, |b| i8::from_le_bytes(b).into(), narrow).map(Value::I64),
            4 => values(&shape, raw, |b| u16::from_le_bytes(b).into(), narrow).map(Value::I64),
            5 => values(&shape, raw, |b| i16::from_le_bytes(b).into(), narrow).map(Value::I64),
            6 => values(&shape, raw, |b| i32::from_le_bytes(b).into(), narrow).map(Value::I64),
            INT64 => values(&shape, raw, i64::from_le_bytes, || tensor.int64_data.clone())
                .map(Value::I64),
            12 => values(&shape, raw, |b| u32::from_le_bytes(b).into(), long).map(Value::I64),
            BOOL => values(
                &shape,
                raw,
                |[b]: [u8; 1]| b != 0,
                || tensor.int32_data.iter().map(|&v| v != 0).collect(),
            )
            .map(Value::Bool),
            other => return fail(format!("is of type {}, which is not read", type_name(other))),
        };
    value.or_else(fail)
}

/// The elements: from the bytes if there are any, from the typed list if not.
fn values<T, const N: usize>(
    shape: &[usize],
    raw: Option<&[u8]>,
    from_bytes: impl Fn([u8; N]) -> T,
    listed: impl FnOnce() -> Vec<T>,
) -> Result<ArrayD<T>, String> {
    let list: Vec<T> = match raw {
        Some(raw) if raw.len().is_multiple_of(N) => {
            raw.as_chunks::<N>().0.iter().map(|bytes| from_bytes(*bytes)).collect()
        }
        Some(raw) => return Err(format!("has {} bytes, no whole number of values", raw.len())),
        None => listed(),
    };
    let held = list.len();
    ArrayD::from_shape_vec(IxDyn(shape), list)
        .map_err(|_| format!("has the shape {shape:?}, but {held} values"))
}

/// The message of a tensor.
pub fn tensor_proto(name: &str, value: &Value) -> TensorProto {
    let (data_type, raw_data) = match value {
        Value::F32(array) => (FLOAT, array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Value::I64(array) => (INT64, array.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Value::Bool(array) => (BOOL, array.iter().map(|&v| u8::from(v)).collect()),
    };
    TensorProto {
        name: name.to_string(),
        dims: value.shape().iter().map(|&n| n as i64).collect(),
        data_type: Some(data_type),
        raw_data: Some(raw_data),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_both_ways_of_writing() {
        let tensor = |data_type, raw: Option<&[u8]>| TensorProto {
            name: "t".to_string(),
            dims: vec![2],
            data_type: Some(data_type),
            raw_data: raw.map(<[u8]>::to_vec),
            ..TensorProto::default()
        };
        let ints = |a: i64, b: i64| Value::I64(ndarray::arr1(&[a, b]).into_dyn());
        assert_eq!(tensor_value(&tensor(3, Some(&[255, 2]))).unwrap(), ints(-1, 2));
        assert_eq!(tensor_value(&tensor(2, Some(&[255, 2]))).unwrap(), ints(255, 2));
        assert_eq!(tensor_value(&tensor(5, Some(&[255, 255, 2, 0]))).unwrap(), ints(-1, 2));
        let mut listed = tensor(6, None);
        listed.int32_data = vec![-3, 4];
        assert_eq!(tensor_value(&listed).unwrap(), ints(-3, 4));
        let mut listed = tensor(11, None);
        listed.double_data = vec![0.5, 2.0];
        let floats = Value::F32(ndarray::arr1(&[0.5, 2.0]).into_dyn());
        assert_eq!(tensor_value(&listed).unwrap(), floats);
        let truths = Value::Bool(ndarray::arr1(&[true, false]).into_dyn());
        assert_eq!(tensor_value(&tensor(9, Some(&[1, 0]))).unwrap(), truths);
        for value in [ints(7, i64::MIN), floats, truths] {
            assert_eq!(tensor_value(&tensor_proto("x", &value)).unwrap(), value);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = tensor_proto("w", &Value::F32(ArrayD::zeros(IxDyn(&[2, 3]))));
        let says = |change: &dyn Fn(&mut TensorProto), words: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let reason = tensor_value(&bad).unwrap_err();
            assert!(reason.contains("'w'") && reason.contains(words), "{reason}");
        };
        says(&|t| t.data_type = Some(10), "float16");
        says(&|t| t.data_type = Some(99), "number 99");
        says(&|t| t.data_type = None, "no data type");
        says(&|t| t.dims = vec![-1], "[-1]");
        says(&|t| t.dims = vec![i64::MAX, i64::MAX], "6 values");
        says(&|t| t.raw_data = Some(vec![0; 7]), "7 bytes");
        says(&|t| t.raw_data = None, "0 values");
        says(&|t| t.data_location = 1, "external data");
    }
}
