//! What is given to a graph, against what it asks for.

use super::model::{Axis, Model, Port};
use crate::error::{Error, Result};
use crate::format::onnx::{BOOL, type_name};
use crate::tensor::Value;
use std::collections::{BTreeMap, HashMap};

impl Port {
    /// The shape in words: `[batch, 3]`.
    pub fn shape_text(&self) -> String {
        match &self.shape {
            None => "of any shape".to_string(),
            Some(axes) => {
                let axes: Vec<_> = axes.iter().map(Axis::to_string).collect();
                format!("[{}]", axes.join(", "))
            }
        }
    }

    /// Name, type and shape in words.
    pub fn text(&self) -> String {
        format!("'{}' {} {}", self.name, type_name(self.element), self.shape_text())
    }
}

impl Model {
    /// The inputs that have no default.
    pub fn required_inputs(&self) -> impl Iterator<Item = &Port> {
        let constants = &self.graph.constants;
        self.graph.inputs.iter().filter(|port| !constants.contains_key(&port.name))
    }

    /// The given values by name, checked against the graph's inputs.
    pub(super) fn take_inputs(
        &self,
        inputs: BTreeMap<String, Value>,
    ) -> Result<HashMap<String, Value>> {
        let path = self.path.display();
        let list = || {
            let ports: Vec<_> = self.graph.inputs.iter().map(Port::text).collect();
            if ports.is_empty() { "none".to_string() } else { ports.join(", ") }
        };
        for name in inputs.keys() {
            if !self.graph.inputs.iter().any(|port| port.name == *name) {
                let reason = format!("{path} has no input '{name}'; its inputs are {}", list());
                return Err(Error::invalid(reason));
            }
        }
        if let Some(port) = self.required_inputs().find(|port| !inputs.contains_key(&port.name)) {
            let reason = format!("the input {} of {path} is missing", port.text());
            return Err(Error::invalid(reason));
        }
        let mut extents = HashMap::new();
        for port in &self.graph.inputs {
            if let Some(value) = inputs.get(&port.name) {
                check_kind(port, value)?;
                check_shape(port, value.shape(), &mut extents)?;
            }
        }
        Ok(inputs.into_iter().collect())
    }
}

fn check_kind(port: &Port, value: &Value) -> Result<()> {
    let fits = matches!(
        (port.element, value),
        (0, _)
            | (1 | 11, Value::F32(_))
            | (2..=7 | 12 | 13, Value::I64(_))
            | (BOOL, Value::Bool(_))
    );
    if fits {
        return Ok(());
    }
    let (wanted, got) = (type_name(port.element), value.kind());
    Err(Error::invalid(format!("input '{}': {wanted} is needed, not {got}", port.name)))
}

/// Axes of one name must agree among all inputs.
fn check_shape<'a>(
    port: &'a Port,
    got: &[usize],
    extents: &mut HashMap<&'a str, usize>,
) -> Result<()> {
    let Some(axes) = &port.shape else { return Ok(()) };
    let fits = axes.len() == got.len()
        && axes.iter().zip(got).all(|(axis, &n)| match axis {
            Axis::Fixed(wanted) => *wanted == n,
            Axis::Named(name) => *extents.entry(name).or_insert(n) == n,
            Axis::Any => true,
        });
    if fits {
        return Ok(());
    }
    let mut expected = port.shape_text();
    for axis in axes {
        if let Axis::Named(name) = axis
            && let Some(n) = extents.get(name.as_str())
        {
            expected += &format!(", {name} = {n}");
        }
    }
    Err(Error::Shape {
        tensor: format!("input '{}'", port.name),
        expected,
        got: format!("{got:?}"),
    })
}
