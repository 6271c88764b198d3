//! Operators that take parts of values, or put values together.

use super::call::Call;
use super::shape::{select, to_shape};
use crate::error::Result;
use crate::tensor::Value;
use ndarray::{ArrayD, Axis, IxDyn, Slice};

/// Values of one type side by side along an axis.
pub fn concat(call: &Call<'_>) -> Result<Value> {
    let axis = call.int("axis")?.ok_or_else(|| call.fail("attribute 'axis' is missing"))?;
    let first = call.input(0)?;
    let axis = call.axis(axis, first.shape().len())?;
    let count = call.inputs.len();
    macro_rules! join {
        ($kind:ident, $of:ident) => {{
            let parts = (0..count).map(|place| call.$of(place).map(|array| array.view()));
            let parts: Vec<_> = parts.collect::<Result<_>>()?;
            let shapes: Vec<_> = parts.iter().map(|part| part.shape()).collect();
            let mut shape = shapes[0].to_vec();
            shape[axis] = shapes.iter().filter_map(|shape| shape.get(axis)).sum();
            call.size(&shape)?;
            let joined = ndarray::concatenate(Axis(axis), &parts);
            let bad = |_| call.fail(format!("shapes {shapes:?} do not join along axis {axis}"));
            Ok(Value::$kind(joined.map_err(bad)?.as_standard_layout().into_owned()))
        }};
    }
    match first {
        Value::F32(_) => join!(F32, f32),
        Value::I64(_) => join!(I64, i64),
        Value::Bool(_) => Err(call.unsupported("joining truth values")),
    }
}

/// The parts of an axis: by given extents, or as equal as can be.
pub fn split(call: &Call<'_>) -> Result<Vec<Value>> {
    let value = call.input(0)?;
    let axis = call.axis(call.int("axis")?.unwrap_or(0), value.shape().len())?;
    let whole = value.shape()[axis];
    let count = call.node.outputs.len();
    let sizes: Vec<usize> = match call.list_or_ints(1, "split")? {
        // Extents of several values, not of one: their product means nothing.
        Some(list) => list
            .iter()
            .map(|&n| usize::try_from(n))
            .collect::<Result<_, _>>()
            .map_err(|_| call.fail(format!("parts of {list:?}")))?,
        None => {
            if call.int("num_outputs")?.is_some_and(|n| n != count as i64) {
                return Err(call.fail(format!("attribute 'num_outputs', but {count} outputs")));
            }
            // The last part is the smaller one where they can't be equal.
            let size = whole.div_ceil(count.max(1));
            (0..count).map(|part| whole.saturating_sub(part * size).min(size)).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    if sizes.len() != count || sum != Some(whole) {
        return Err(call.fail(format!("{whole} can't be split into {count} parts {sizes:?}")));
    }
    let mut start = 0;
    let mut part = |size: usize| {
        let places: Vec<usize> = (start..start + size).collect();
        start += size;
        select(value, axis, &places)
    };
    Ok(sizes.into_iter().map(&mut part).collect())
}

/// From `starts` to `ends` by `steps`, of some axes.
pub fn slice(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape().len();
    let list = |place, name| call.list_or_ints(place, name);
    let starts = list(1, "starts")?.ok_or_else(|| call.fail("it has no starts"))?;
    let ends = list(2, "ends")?.ok_or_else(|| call.fail("it has no ends"))?;
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let count = starts.len();
    if [ends.len(), axes.len(), steps.len()] != [count; 3] {
        return Err(call.fail("starts, ends, axes and steps differ in number"));
    }
    let mut result = value.clone();
    for (k, axis) in call.axes(&axes, rank)?.into_iter().enumerate() {
        if steps[k] == 0 {
            return Err(call.fail("a step of 0"));
        }
        let places = places(value.shape()[axis] as i64, starts[k], ends[k], steps[k]);
        result = select(&result, axis, &places);
    }
    Ok(result)
}

/// What a slice of an axis takes: bounds count from the end where they are negative, and are cut to what there is.
/// Backwards a start before the first element is the first (ONNX), where NumPy takes nothing.
fn places(extent: i64, start: i64, end: i64, step: i64) -> Vec<usize> {
    let at = |bound: i64| if bound < 0 { bound.saturating_add(extent) } else { bound };
    let mut list = Vec::new();
    if step > 0 {
        let (mut place, end) = (at(start).clamp(0, extent), at(end).clamp(0, extent));
        while place < end {
            list.push(place as usize);
            place = place.saturating_add(step);
        }
    } else {
        let end = at(end).clamp(-1, extent - 1);
        let mut place = if extent > 0 { at(start).clamp(0, extent - 1) } else { -1 };
        while place > end {
            list.push(place as usize);
            place = place.saturating_add(step);
        }
    }
    list
}

/// The elements that indices name along an axis.
pub fn gather(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let indices = call.i64(1)?;
    let axis = call.axis(call.int("axis")?.unwrap_or(0), value.shape().len())?;
    let extent = value.shape()[axis];
    let place = |&index: &i64| {
        let at = if index < 0 { index.saturating_add(extent as i64) } else { index };
        let found = usize::try_from(at).ok().filter(|&at| at < extent);
        found.ok_or_else(|| call.fail(format!("index {index} of an axis of {extent}")))
    };
    let places: Vec<usize> = indices.iter().map(place).collect::<Result<_>>()?;
    let (before, after) = value.shape().split_at(axis);
    let shape = [before, indices.shape(), &after[1..]].concat();
    call.size(&shape)?;
    to_shape(call, &select(value, axis, &places), &shape)
}

/// More at each end of the axes (or less, where a pad is negative): a constant, the nearest
/// element, a reflection, or the other end.
pub fn pad(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    let rank = value.shape().len();
    let pads = call.list_or_ints(1, "pads")?.ok_or_else(|| call.fail("it has no pads"))?;
    let axes = call.list(3)?.unwrap_or_else(|| (0..rank as i64).collect());
    let axes = call.axes(&axes, rank)?;
    if pads.len() != 2 * axes.len() {
        return Err(call.fail(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let mode = call.text("mode")?.unwrap_or("constant");
    let mut result = value.clone();
    for (k, &axis) in axes.iter().enumerate() {
        let ends = [pads[k], pads[axes.len() + k]];
        if ends != [0, 0] {
            result = pad_axis(call, &result, axis, ends, mode)?;
        }
    }
    Ok(result)
}

fn pad_axis(
    call: &Call<'_>,
    value: &Value,
    axis: usize,
    [before, after]: [i64; 2],
    mode: &str,
) -> Result<Value> {
    let extent = value.shape()[axis] as i64;
    // Small enough that sums and differences of them can't overflow.
    let small = [before, after].iter().all(|n| n.unsigned_abs() < 1 << 60);
    let length = small.then(|| extent + before + after).filter(|&n| n >= 0);
    let length = length
        .ok_or_else(|| call.fail(format!("pads {before}, {after} of an axis of {extent}")))?;
    let mut shape: Vec<i64> = value.shape().iter().map(|&n| n as i64).collect();
    shape[axis] = length;
    let shape = call.extents(&shape)?;
    if mode == "constant" {
        return pad_constant(call, value, axis, before, &shape);
    }
    if extent == 0 && length > 0 {
        return Err(call.fail(format!("an axis of 0 can't be padded by {mode}")));
    }
    let place = |k: i64| -> Result<usize> {
        let at = k - before;
        Ok(match mode {
            "edge" => at.clamp(0, extent - 1),
            "wrap" => at.rem_euclid(extent),
            // There and back, without the ends twice.
            "reflect" => {
                let round = at.rem_euclid((2 * (extent - 1)).max(1));
                round.min(2 * (extent - 1) - round)
            }
            other => return Err(call.unsupported(format!("mode '{other}'"))),
        } as usize)
    };
    let places: Vec<usize> = (0..length).map(place).collect::<Result<_>>()?;
    Ok(select(value, axis, &places))
}

fn pad_constant(
    call: &Call<'_>,
    value: &Value,
    axis: usize,
    before: i64,
    shape: &[usize],
) -> Result<Value> {
    let (old, new) = (value.shape()[axis] as i64, shape[axis] as i64);
    // The part of the old axis that stays, and where it goes.
    let (from, to) = ((-before).max(0), before.max(0));
    let kept = (old - from).min(new - to).max(0);
    fn filled<T: Copy>(
        array: &ArrayD<T>,
        fill: T,
        shape: &[usize],
        axis: Axis,
        [from, to, kept]: [i64; 3],
    ) -> ArrayD<T> {
        let mut result = ArrayD::from_elem(IxDyn(shape), fill);
        if kept > 0 {
            let part = |start: i64| Slice::from(start as usize..(start + kept) as usize);
            result.slice_axis_mut(axis, part(to)).assign(&array.slice_axis(axis, part(from)));
        }
        result
    }
    let place = Axis(axis);
    let spans = [from, to, kept];
    let constant = call.optional(2);
    if constant.is_some_and(|c| c.shape().iter().product::<usize>() != 1) {
        return Err(call.fail("the value to pad with is not one number"));
    }
    Ok(match (value, constant) {
        (Value::F32(array), None) => {
            let fill = call.float("value")?.unwrap_or(0.0);
            Value::F32(filled(array, fill, shape, place, spans))
        }
        (Value::F32(array), Some(Value::F32(fill))) => {
            Value::F32(filled(array, *fill.iter().next().unwrap_or(&0.0), shape, place, spans))
        }
        (Value::I64(array), Some(Value::I64(fill))) => {
            Value::I64(filled(array, *fill.iter().next().unwrap_or(&0), shape, place, spans))
        }
        (Value::I64(array), None) => Value::I64(filled(array, 0, shape, place, spans)),
        (Value::Bool(array), None) => Value::Bool(filled(array, false, shape, place, spans)),
        (Value::Bool(array), Some(Value::Bool(fill))) => {
            Value::Bool(filled(array, *fill.iter().next().unwrap_or(&false), shape, place, spans))
        }
        (value, Some(fill)) => {
            return Err(call.fail(format!("{} padded with {}", value.kind(), fill.kind())));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_as_onnx_has_them() {
        assert_eq!(places(5, 1, 4, 2), [1, 3]);
        assert_eq!(places(5, -3, i64::MAX, 1), [2, 3, 4]);
        assert_eq!(places(5, -1, i64::MIN, -1), [4, 3, 2, 1, 0]);
        assert_eq!(places(5, -1, i64::MIN + 1, -2), [4, 2, 0]);
        assert_eq!(places(5, 9, -9, -1), [4, 3, 2, 1, 0]);
        assert_eq!(places(5, 3, 1, 1), [0usize; 0]);
        assert_eq!(places(0, 0, 9, 1), [0usize; 0]);
        assert_eq!(places(0, -1, i64::MIN, -1), [0usize; 0]);
        assert_eq!(places(3, 0, 9, i64::MAX), [0]);
        assert_eq!(places(3, -100, i64::MIN, -1), [0]);
        assert_eq!(places(5, -6, -100, -2), [0]);
        assert_eq!(places(0, 3, i64::MIN, -1), [0usize; 0]);
    }
}
