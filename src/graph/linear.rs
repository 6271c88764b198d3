//! Matrix products on the host.

use super::call::Call;
use crate::error::Result;
use crate::tensor::Value;
use ndarray::{ArrayD, ArrayView2, Ix2, IxDyn, linalg::general_mat_mul};

/// NumPy's matmul: the last two axes are matrices, those before broadcast; a vector is a row on the
/// left and a column on the right.
pub fn matmul(call: &Call<'_>) -> Result<Value> {
    let (a, b) = (call.f32(0)?, call.f32(1)?);
    let bad = || call.fail(format!("shapes {:?} and {:?} have no product", a.shape(), b.shape()));
    if a.ndim() == 0 || b.ndim() == 0 {
        return Err(bad());
    }
    let row = a.ndim() == 1;
    let column = b.ndim() == 1;
    let a_shape = if row { vec![1, a.len()] } else { a.shape().to_vec() };
    let b_shape = if column { vec![b.len(), 1] } else { b.shape().to_vec() };
    let (a_batch, &[m, k]) = a_shape.split_last_chunk().ok_or_else(bad)?;
    let (b_batch, &[k_b, n]) = b_shape.split_last_chunk().ok_or_else(bad)?;
    if k != k_b {
        return Err(bad());
    }
    let batch = call.broadcast(a_batch, b_batch)?;
    let mut shape = batch.clone();
    shape.extend([m, n]);
    call.size(&shape)?;
    let mut result = ArrayD::<f32>::zeros(IxDyn(&shape));
    let dense = "values lie row-major";
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let (a, b) = (a.as_slice().expect(dense), b.as_slice().expect(dense));
    let c = result.as_slice_mut().expect(dense);
    let product = |a: &[f32], b: &[f32], c: &mut [f32], m: usize| {
        let a = ArrayView2::from_shape((m, k), a).expect(dense);
        let b = ArrayView2::from_shape((k, n), b).expect(dense);
        let mut c = ndarray::ArrayViewMut2::from_shape((m, n), c).expect(dense);
        general_mat_mul(1.0, &a, &b, 0.0, &mut c);
    };
    if b_batch.iter().all(|&extent| extent == 1) && batch == a_batch {
        // One matrix on the right: the left ones are one of many rows.
        let rows = batch.iter().product::<usize>() * m;
        product(a, b, c, rows);
    } else if m * n > 0 {
        for (index, c) in c.chunks_exact_mut(m * n).enumerate() {
            let a = &a[place(index, &batch, a_batch) * m * k..][..m * k];
            let b = &b[place(index, &batch, b_batch) * k * n..][..k * n];
            product(a, b, c, m);
        }
    }
    // The axes that a vector was given are taken away again.
    shape.truncate(batch.len());
    shape.extend((!row).then_some(m));
    shape.extend((!column).then_some(n));
    let result = result.into_shape_with_order(IxDyn(&shape)).expect(dense);
    Ok(Value::F32(result))
}

/// α·A·B + β·C, A and B transposed where it says so, C broadcast.
pub fn gemm(call: &Call<'_>) -> Result<Value> {
    let matrix = |place: usize, flag: &str| -> Result<_> {
        let left_out = || call.fail(format!("input {place} is left out"));
        let matrix = call.axes_of::<Ix2>(place)?.ok_or_else(left_out)?;
        Ok(if call.flag(flag, false)? { matrix.reversed_axes() } else { matrix })
    };
    let (a, b) = (matrix(0, "transA")?, matrix(1, "transB")?);
    let shape = [a.nrows(), b.ncols()];
    if a.ncols() != b.nrows() {
        let reason = format!("matrices {:?} and {:?} have no product", a.shape(), b.shape());
        return Err(call.fail(reason));
    }
    call.size(&shape)?;
    let mut result = match call.optional(2) {
        None => ndarray::Array2::zeros(shape),
        Some(_) => {
            let c = call.f32(2)?;
            let wide = c.broadcast(shape).map(|c| c.to_owned());
            wide.ok_or_else(|| {
                call.fail(format!("input 2 {:?} does not broadcast to {shape:?}", c.shape()))
            })?
        }
    };
    let alpha = call.float("alpha")?.unwrap_or(1.0);
    let beta = call.float("beta")?.unwrap_or(1.0);
    general_mat_mul(alpha, &a, &b, beta, &mut result);
    Ok(Value::F32(result.as_standard_layout().into_owned().into_dyn()))
}

/// The matrix of `own` that stands at place `index` of the broadcast shape `batch`.
fn place(mut index: usize, batch: &[usize], own: &[usize]) -> usize {
    let mut at = 0;
    let mut stride = 1;
    for axis in (0..batch.len()).rev() {
        let step = index % batch[axis];
        index /= batch[axis];
        if let Some(axis) = (axis + own.len()).checked_sub(batch.len()) {
            at += if own[axis] == 1 { 0 } else { step * stride };
            stride *= own[axis];
        }
    }
    at
}
