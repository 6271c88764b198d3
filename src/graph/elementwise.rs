//! Operators by element, with NumPy's broadcasting.

use super::activation::Activation;
use super::call::Call;
use crate::error::Result;
use crate::tensor::Value;
use ndarray::{ArrayD, Zip};

/// f of the elements of a and b, each broadcast to the other's shape.
fn zip<A: Copy, B: Copy, C>(
    call: &Call<'_>,
    a: &ArrayD<A>,
    b: &ArrayD<B>,
    mut f: impl FnMut(A, B) -> C,
) -> Result<ArrayD<C>> {
    let shape = call.broadcast(a.shape(), b.shape())?;
    let wide = "both broadcast to their common shape";
    let (a, b) = (a.broadcast(&shape[..]).expect(wide), b.broadcast(&shape[..]).expect(wide));
    // By position, so that the result lies row-major whatever the operands' strides.
    let values = a.iter().zip(b.iter()).map(|(&a, &b)| f(a, b)).collect();
    Ok(ArrayD::from_shape_vec(&shape[..], values).expect("an element for each place"))
}

/// An operator of two operands.
pub fn binary(call: &Call<'_>, operator: &str) -> Result<Value> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    Ok(match (operator, a, b) {
        ("Add", Value::F32(a), Value::F32(b)) => Value::F32(zip(call, a, b, |a, b| a + b)?),
        ("Sub", Value::F32(a), Value::F32(b)) => Value::F32(zip(call, a, b, |a, b| a - b)?),
        ("Mul", Value::F32(a), Value::F32(b)) => Value::F32(zip(call, a, b, |a, b| a * b)?),
        ("Div", Value::F32(a), Value::F32(b)) => Value::F32(zip(call, a, b, |a, b| a / b)?),
        ("PRelu", Value::F32(a), Value::F32(slope)) => {
            Value::F32(zip(call, a, slope, |a, s| if a < 0.0 { s * a } else { a })?)
        }
        ("Pow", Value::F32(a), Value::F32(b)) => {
            // Squares are common, and powf is slow.
            Value::F32(zip(call, a, b, |a, b| if b == 2.0 { a * a } else { a.powf(b) })?)
        }
        ("Pow", Value::F32(a), Value::I64(b)) => {
            Value::F32(zip(call, a, b, |a, b| f64::from(a).powf(b as f64) as f32)?)
        }
        ("Add", Value::I64(a), Value::I64(b)) => Value::I64(zip(call, a, b, i64::wrapping_add)?),
        ("Sub", Value::I64(a), Value::I64(b)) => Value::I64(zip(call, a, b, i64::wrapping_sub)?),
        ("Mul", Value::I64(a), Value::I64(b)) => Value::I64(zip(call, a, b, i64::wrapping_mul)?),
        ("Div", Value::I64(a), Value::I64(b)) => {
            if b.iter().any(|&b| b == 0) {
                return Err(call.fail("an integer is divided by zero"));
            }
            Value::I64(zip(call, a, b, i64::wrapping_div)?)
        }
        ("Equal", Value::F32(a), Value::F32(b)) => Value::Bool(zip(call, a, b, |a, b| a == b)?),
        ("Equal", Value::I64(a), Value::I64(b)) => Value::Bool(zip(call, a, b, |a, b| a == b)?),
        ("Equal", Value::Bool(a), Value::Bool(b)) => Value::Bool(zip(call, a, b, |a, b| a == b)?),
        _ => return Err(call.fail(format!("it can't take {} and {}", a.kind(), b.kind()))),
    })
}

/// An operator of one operand.
pub fn unary(call: &Call<'_>, operator: &str) -> Result<Value> {
    if operator == "Not" {
        return match call.input(0)? {
            Value::Bool(array) => Ok(Value::Bool(array.mapv(|truth| !truth))),
            other => Err(call.fail(format!("input 0 is {}; bool is needed", other.kind()))),
        };
    }
    let x = call.f32(0)?;
    let number = |name: &str, default: f32| Ok(call.float(name)?.unwrap_or(default));
    Ok(Value::F32(match operator {
        "Sqrt" => x.mapv(f32::sqrt),
        "Clip" => return clip(call, x),
        "Selu" => {
            let alpha = number("alpha", 1.673_263_2)?;
            let gamma = number("gamma", 1.050_701)?;
            x.mapv(|a| gamma * if a <= 0.0 { alpha * a.exp_m1() } else { a })
        }
        "Celu" => {
            let alpha = number("alpha", 1.0)?;
            x.mapv(|a| if a < 0.0 { alpha * (a / alpha).exp_m1() } else { a })
        }
        "HardSwish" => x.mapv(|a| a * (a / 6.0 + 0.5).clamp(0.0, 1.0)),
        "Mish" => x.mapv(|a| a * Activation::Softplus.apply(a).tanh()),
        _ => {
            let (mut alpha, mut beta) = (call.float("alpha")?, call.float("beta")?);
            let known = Activation::from_onnx(operator, || alpha.take(), || beta.take());
            let activation = known.map_err(|reason| call.unsupported(reason))?;
            x.mapv(|a| activation.apply(a))
        }
    }))
}

/// Bounds are inputs since operator set 11, attributes before.
fn clip(call: &Call<'_>, x: &ArrayD<f32>) -> Result<Value> {
    let bound = |place: usize, name: &str, default: f32| -> Result<f32> {
        match call.optional(place) {
            None => Ok(call.float(name)?.unwrap_or(default)),
            Some(_) => {
                let array = call.f32(place)?;
                let one = (array.len() == 1).then(|| array.iter().next().copied()).flatten();
                one.ok_or_else(|| call.fail(format!("input {place} is not one number")))
            }
        }
    };
    let (low, high) = (bound(1, "min", f32::MIN)?, bound(2, "max", f32::MAX)?);
    let mut y = x.clone();
    // ONNX: min above max gives max.
    Zip::from(&mut y).for_each(|a| *a = if a.is_nan() { *a } else { a.max(low).min(high) });
    Ok(Value::F32(y))
}
