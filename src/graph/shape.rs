//! Operators that make, reshape or convert values.

use super::call::{Call, each};
use super::model::Attribute;
use crate::error::Result;
use crate::format::onnx::{BOOL, FLOAT, INT64, type_name};
use crate::tensor::Value;
use ndarray::{ArrayD, Axis, IxDyn};

/// Every attribute that Constant may have, one of them.
pub fn constant(call: &Call<'_>) -> Result<Value> {
    let mut attributes = call.node.attributes.iter();
    let (Some((name, value)), None) = (attributes.next(), attributes.next()) else {
        return Err(call.fail("a constant needs one attribute, its value"));
    };
    Ok(match (name.as_str(), value) {
        ("value", Attribute::Tensor(value)) => value.clone(),
        ("value_float", Attribute::Float(value)) => Value::F32(ndarray::arr0(*value).into_dyn()),
        ("value_int", Attribute::Int(value)) => Value::I64(ndarray::arr0(*value).into_dyn()),
        ("value_floats", Attribute::Floats(list)) => Value::F32(ndarray::arr1(list).into_dyn()),
        ("value_ints", Attribute::Ints(list)) => Value::I64(ndarray::arr1(list).into_dyn()),
        (name, value) => {
            return Err(call.fail(format!("attribute '{name}' is {}", value.kind())));
        }
    })
}

/// A shape filled with one value; without one, with zeros of float32.
pub fn constant_of_shape(call: &Call<'_>) -> Result<Value> {
    let extents: Vec<i64> = call.i64(0)?.iter().copied().collect();
    let shape = call.extents(&extents)?;
    let shape = IxDyn(&shape);
    let zero = Value::F32(ArrayD::zeros(IxDyn(&[1])));
    let value = match call.attribute("value") {
        None => &zero,
        Some(Attribute::Tensor(value)) => value,
        Some(other) => {
            return Err(call.fail(format!("attribute 'value' is {}", other.kind())));
        }
    };
    if value.shape().iter().product::<usize>() != 1 {
        return Err(call.fail("attribute 'value' is not one number"));
    }
    let one = "there is one element";
    Ok(each!(value, array => ArrayD::from_elem(shape, *array.iter().next().expect(one))))
}

/// Between the types that there are. What does not fit a narrower integer is an error, as ONNX
/// leaves it undefined.
pub fn cast(call: &Call<'_>) -> Result<Value> {
    let to = call.int("to")?.ok_or_else(|| call.fail("attribute 'to' is missing"))?;
    let to = i32::try_from(to).unwrap_or(0);
    let value = call.input(0)?;
    let range = match to {
        FLOAT | BOOL => i64::MIN..=i64::MAX,
        INT64 => i64::MIN..=i64::MAX,
        2 => 0..=i64::from(u8::MAX),
        3 => i8::MIN.into()..=i8::MAX.into(),
        4 => 0..=i64::from(u16::MAX),
        5 => i16::MIN.into()..=i16::MAX.into(),
        6 => i32::MIN.into()..=i32::MAX.into(),
        12 => 0..=i64::from(u32::MAX),
        other => return Err(call.unsupported(format!("a cast to {}", type_name(other)))),
    };
    Ok(match (to, value) {
        (FLOAT, Value::F32(array)) => Value::F32(array.clone()),
        (FLOAT, Value::I64(array)) => Value::F32(array.mapv(|v| v as f32)),
        (FLOAT, Value::Bool(array)) => Value::F32(array.mapv(|v| f32::from(u8::from(v)))),
        (BOOL, Value::F32(array)) => Value::Bool(array.mapv(|v| v != 0.0)),
        (BOOL, Value::I64(array)) => Value::Bool(array.mapv(|v| v != 0)),
        (BOOL, Value::Bool(array)) => Value::Bool(array.clone()),
        _ => {
            let whole = match value {
                // Towards zero.
                Value::F32(array) => {
                    let least = -(2f32.powi(63));
                    if let Some(odd) = array.iter().find(|&&v| !(v >= least && v < -least)) {
                        return Err(call.fail(format!("{odd} is no integer of 64 bits")));
                    }
                    array.mapv(|v| v as i64)
                }
                Value::I64(array) => array.clone(),
                Value::Bool(array) => array.mapv(i64::from),
            };
            if let Some(odd) = whole.iter().find(|v| !range.contains(v)) {
                return Err(call.fail(format!("{odd} does not fit {}", type_name(to))));
            }
            Value::I64(whole)
        }
    })
}

/// The extents of the input's axes, from `start` to `end`.
pub fn shape(call: &Call<'_>) -> Result<Value> {
    let shape = call.input(0)?.shape();
    let rank = shape.len() as i64;
    let bound = |name: &str, default: i64| -> Result<usize> {
        let at = call.int(name)?.unwrap_or(default);
        let at = if at < 0 { at.saturating_add(rank) } else { at };
        Ok(at.clamp(0, rank) as usize)
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    let part = shape.get(start..end).unwrap_or(&[]);
    let list: Vec<i64> = part.iter().map(|&n| n as i64).collect();
    Ok(Value::I64(ndarray::arr1(&list).into_dyn()))
}

/// The value with its axes in another order; the default turns it around.
pub fn transpose(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape().len();
    let order = match call.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(list) => {
            let order = call.axes(&list, rank)?;
            if order.len() != rank {
                return Err(call.fail(format!("attribute 'perm' = {list:?} for {rank} axes")));
            }
            order
        }
    };
    let order = IxDyn(&order);
    Ok(each!(value, array => {
        array.view().permuted_axes(order).as_standard_layout().into_owned()
    }))
}

/// The value in another shape of as many elements.
pub fn to_shape(call: &Call<'_>, value: &Value, shape: &[usize]) -> Result<Value> {
    let fail = |_| call.fail(format!("shape {:?} can't become {shape:?}", value.shape()));
    Ok(each!(value, array => {
        let rows = array.as_standard_layout().into_owned();
        rows.into_shape_with_order(IxDyn(shape)).map_err(fail)?
    }))
}

/// −1 is what is left over; 0 the input's own extent, unless `allowzero`.
pub fn reshape(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let old = value.shape();
    let wanted = call.list(1)?.ok_or_else(|| call.fail("input 1 is left out"))?;
    let allow_zero = call.flag("allowzero", false)?;
    let bad = || call.fail(format!("shape {old:?} can't become {wanted:?}"));
    let mut shape = Vec::new();
    let mut open = None;
    for (axis, &extent) in wanted.iter().enumerate() {
        shape.push(match extent {
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            0 if !allow_zero => *old.get(axis).ok_or_else(bad)?,
            extent => usize::try_from(extent).map_err(|_| bad())?,
        });
    }
    if let Some(axis) = open {
        let (all, rest) = (call.size(old)?, call.size(&shape)?);
        if rest == 0 || !all.is_multiple_of(rest) {
            return Err(bad());
        }
        shape[axis] = all / rest;
    }
    to_shape(call, value, &shape)
}

/// Without the named axes of extent 1; without any, all such axes.
pub fn squeeze(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let old = value.shape();
    let axes = match call.list_or_ints(1, "axes")? {
        Some(list) => call.axes(&list, old.len())?,
        None => (0..old.len()).filter(|&axis| old[axis] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| old[axis] != 1) {
        return Err(call.fail(format!("axis {axis} of shape {old:?} is not 1")));
    }
    let kept = old.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    let shape: Vec<usize> = kept.map(|(_, &n)| n).collect();
    to_shape(call, value, &shape)
}

/// With axes of extent 1 at the named places of the result.
pub fn unsqueeze(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let list = call.list_or_ints(1, "axes")?.ok_or_else(|| call.fail("it names no axes"))?;
    let rank = value.shape().len() + list.len();
    let axes = call.axes(&list, rank)?;
    let mut old = value.shape().iter();
    let mut extent = |axis| if axes.contains(&axis) { 1 } else { *old.next().unwrap_or(&1) };
    let shape: Vec<usize> = (0..rank).map(&mut extent).collect();
    to_shape(call, value, &shape)
}

/// The value broadcast with a shape.
pub fn expand(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let list = call.list(1)?.ok_or_else(|| call.fail("input 1 is left out"))?;
    let shape = call.broadcast(value.shape(), &call.extents(&list)?)?;
    let fits = "it broadcasts to the common shape";
    Ok(each!(value, array => {
        array.broadcast(&shape[..]).expect(fits).as_standard_layout().into_owned()
    }))
}

/// The elements at `places` of an axis, in that order.
pub fn select(value: &Value, axis: usize, places: &[usize]) -> Value {
    each!(value, array => array.select(Axis(axis), places).as_standard_layout().into_owned())
}
