//! A node beside its inputs: what an operator sees.

use super::model::{Attribute, Node};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tensor::Value;
use ndarray::{ArrayD, ArrayView, Dimension};

/// The most elements that one value may have.
const MOST_ELEMENTS: usize = 1 << 30;

/// Does the same to the array of whichever type.
macro_rules! each {
    ($value:expr, $array:ident => $body:expr) => {
        match $value {
            Value::F32($array) => Value::F32($body),
            Value::I64($array) => Value::I64($body),
            Value::Bool($array) => Value::Bool($body),
        }
    };
}
pub(super) use each;

/// A node, its inputs, and where recurrent operators run.
pub struct Call<'a> {
    pub node: &'a Node,
    pub inputs: Vec<Option<&'a Value>>,
    pub opset: i64,
    pub engine: &'a Engine,
}

impl<'a> Call<'a> {
    /// An error that names the node.
    pub fn fail(&self, reason: impl std::fmt::Display) -> Error {
        Error::invalid(format!("{}: {reason}", self.node.title()))
    }

    /// Something about the node that isn't supported.
    pub fn unsupported(&self, what: impl std::fmt::Display) -> Error {
        Error::unsupported(format!("{}: {what} is not supported", self.node.title()))
    }

    /// An input that may be left out.
    pub fn optional(&self, place: usize) -> Option<&'a Value> {
        self.inputs.get(place).copied().flatten()
    }

    /// An input.
    pub fn input(&self, place: usize) -> Result<&'a Value> {
        self.optional(place).ok_or_else(|| self.fail(format!("input {place} is left out")))
    }

    fn other(&self, place: usize, wanted: &str, value: &Value) -> Error {
        self.fail(format!("input {place} is {}; {wanted} is needed", value.kind()))
    }

    /// An input of floats.
    pub fn f32(&self, place: usize) -> Result<&'a ArrayD<f32>> {
        match self.input(place)? {
            Value::F32(array) => Ok(array),
            other => Err(self.other(place, "float32", other)),
        }
    }

    /// An input of floats with as many axes as the type says, if it isn't left out.
    pub fn axes_of<D: Dimension>(&self, place: usize) -> Result<Option<ArrayView<'a, f32, D>>> {
        if self.optional(place).is_none() {
            return Ok(None);
        }
        let array = self.f32(place)?;
        let view = array.view().into_dimensionality().map_err(|_| {
            let axes = D::NDIM.unwrap_or(0);
            self.fail(format!(
                "input {place} has shape {:?}; {axes} axes are needed",
                array.shape()
            ))
        })?;
        Ok(Some(view))
    }

    /// An input of integers.
    pub fn i64(&self, place: usize) -> Result<&'a ArrayD<i64>> {
        match self.input(place)? {
            Value::I64(array) => Ok(array),
            other => Err(self.other(place, "int64", other)),
        }
    }

    /// An input's integers as a list, if it isn't left out.
    pub fn list(&self, place: usize) -> Result<Option<Vec<i64>>> {
        match self.optional(place) {
            None => Ok(None),
            Some(_) => Ok(Some(self.i64(place)?.iter().copied().collect())),
        }
    }

    fn mistyped(&self, name: &str, wanted: &str, found: &Attribute) -> Error {
        self.fail(format!("attribute '{name}' is {}; {wanted} is needed", found.kind()))
    }

    pub fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.get(name)
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(other) => Err(self.mistyped(name, "an integer", other)),
        }
    }

    /// An attribute that is 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => Err(self.fail(format!("attribute '{name}' = {other}; it is 0 or 1"))),
        }
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some(*value)),
            Some(other) => Err(self.mistyped(name, "a float", other)),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(other) => Err(self.mistyped(name, "a text", other)),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(list)) => Ok(Some(list.clone())),
            Some(other) => Err(self.mistyped(name, "a list of integers", other)),
        }
    }

    pub fn floats(&self, name: &str) -> Result<&'a [f32]> {
        match self.attribute(name) {
            None => Ok(&[]),
            Some(Attribute::Floats(list)) => Ok(list),
            Some(other) => Err(self.mistyped(name, "a list of floats", other)),
        }
    }

    pub fn texts(&self, name: &str) -> Result<Option<&'a [String]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Texts(list)) => Ok(Some(list)),
            Some(other) => Err(self.mistyped(name, "a list of texts", other)),
        }
    }

    /// Integers that newer operator sets have as an input, older ones as an attribute.
    pub fn list_or_ints(&self, place: usize, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(match self.list(place)? {
            Some(list) => Some(list),
            None => self.ints(name)?,
        })
    }

    /// An axis of `rank`, counted from the end if it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let found = usize::try_from(from_start).ok().filter(|&axis| axis < rank);
        found.ok_or_else(|| self.fail(format!("axis {axis} of a value with {rank} axes")))
    }

    /// Several axes, each once.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut list = Vec::new();
        for &axis in axes {
            let axis = self.axis(axis, rank)?;
            if list.contains(&axis) {
                return Err(self.fail(format!("axis {axis} is named twice")));
            }
            list.push(axis);
        }
        Ok(list)
    }

    /// A shape from integers that must not be negative, of no absurd size.
    pub fn extents(&self, list: &[i64]) -> Result<Vec<usize>> {
        let shape: Result<Vec<usize>, _> = list.iter().map(|&n| usize::try_from(n)).collect();
        let shape = shape.map_err(|_| self.fail(format!("the shape {list:?}")))?;
        self.size(&shape)?;
        Ok(shape)
    }

    /// The number of elements of a shape.
    pub fn size(&self, shape: &[usize]) -> Result<usize> {
        // Extents beside one of 0 count too: arrays want strides that fit.
        let bound = shape.iter().try_fold(1usize, |size, &n| size.checked_mul(n.max(1)));
        if bound.is_none_or(|bound| bound > MOST_ELEMENTS) {
            let reason =
                format!("a value of shape {shape:?} is more than {MOST_ELEMENTS} elements");
            return Err(self.fail(reason));
        }
        Ok(shape.iter().product())
    }

    /// The shape that two broadcast to, as NumPy has it.
    pub fn broadcast(&self, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
        let rank = a.len().max(b.len());
        let at = |shape: &[usize], axis: usize| {
            (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
        };
        let mut shape = Vec::new();
        for axis in 0..rank {
            shape.push(match (at(a, axis), at(b, axis)) {
                (n, m) if n == m => n,
                (1, n) | (n, 1) => n,
                _ => return Err(self.fail(format!("shapes {a:?} and {b:?} do not broadcast"))),
            });
        }
        self.size(&shape)?;
        Ok(shape)
    }
}
