//! Softmax and means.

use super::call::Call;
use crate::error::Result;
use crate::tensor::Value;
use ndarray::{ArrayD, Axis, IxDyn};

/// Softmax or its logarithm along an axis; before operator set 13 over all axes from that one on.
pub fn softmax(call: &Call<'_>, logarithm: bool) -> Result<Value> {
    let x = call.f32(0)?;
    let (shape, rank) = (x.shape().to_vec(), x.ndim());
    let old = call.opset < 13;
    let axis = call.int("axis")?.unwrap_or(if old { 1 } else { -1 });
    let mut y = x.as_standard_layout().into_owned();
    let mut axis = if old && axis == rank as i64 { rank } else { call.axis(axis, rank)? };
    if old {
        let rows: usize = shape[..axis].iter().product();
        let columns: usize = shape[axis..].iter().product();
        y = y.into_shape_with_order(IxDyn(&[rows, columns])).expect("as many elements");
        axis = 1;
    }
    for mut lane in y.lanes_mut(Axis(axis)) {
        let largest = lane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = lane.iter().map(|&a| f64::from(a - largest).exp()).sum();
        if logarithm {
            let log = sum.ln();
            lane.mapv_inplace(|a| (f64::from(a - largest) - log) as f32);
        } else {
            lane.mapv_inplace(|a| (f64::from(a - largest).exp() / sum) as f32);
        }
    }
    let y = y.into_shape_with_order(IxDyn(&shape)).expect("as many elements");
    Ok(Value::F32(y))
}

/// The mean over some axes, or all.
pub fn mean(call: &Call<'_>) -> Result<Value> {
    let x = call.f32(0)?;
    let axes = match call.list_or_ints(1, "axes")? {
        Some(list) if !list.is_empty() => call.axes(&list, x.ndim())?,
        _ if call.flag("noop_with_empty_axes", false)? => return Ok(Value::F32(x.clone())),
        _ => (0..x.ndim()).collect(),
    };
    let keep = call.flag("keepdims", true)?;
    let count: usize = axes.iter().map(|&axis| x.shape()[axis]).product();
    let mut sum: ArrayD<f64> = x.mapv(f64::from);
    for &axis in &axes {
        sum = sum.sum_axis(Axis(axis)).insert_axis(Axis(axis));
    }
    let mut result = sum.mapv(|a| (a / count as f64) as f32);
    if !keep {
        let mut order = axes;
        order.sort_unstable();
        for &axis in order.iter().rev() {
            result = result.remove_axis(Axis(axis));
        }
    }
    Ok(Value::F32(result.as_standard_layout().into_owned()))
}
