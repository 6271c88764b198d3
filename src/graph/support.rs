//! What is supported: every operator with its attributes.

use super::model::{Attribute, Graph, Model, Node};
use crate::error::{Error, Result};

/// The operator sets whose meaning of these operators is known.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=23;

/// The most lines of an error about what isn't supported.
const MOST_LINES: usize = 12;

/// Operators and the attributes that each may have, of all supported operator sets.
const OPERATORS: &[(&str, &[&str])] = &[
    ("Add", &[]),
    ("Cast", &["to", "saturate"]),
    ("Celu", &["alpha"]),
    ("Clip", &["min", "max"]),
    ("Concat", &["axis"]),
    ("Constant", &["value", "value_float", "value_floats", "value_int", "value_ints"]),
    ("ConstantOfShape", &["value"]),
    ("Conv", &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]),
    ("Div", &[]),
    ("Elu", &["alpha"]),
    ("Equal", &[]),
    ("Expand", &[]),
    (
        "GRU",
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "layout",
            "linear_before_reset",
        ],
    ),
    ("Gather", &["axis"]),
    ("Gemm", &["alpha", "beta", "transA", "transB"]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("HardSwish", &[]),
    ("Identity", &[]),
    ("If", &["then_branch", "else_branch"]),
    (
        "LSTM",
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
            "layout",
        ],
    ),
    ("LeakyRelu", &["alpha"]),
    ("LogSoftmax", &["axis"]),
    ("MatMul", &[]),
    ("Mish", &[]),
    ("Mul", &[]),
    ("Not", &[]),
    ("PRelu", &[]),
    ("Pad", &["mode", "pads", "value"]),
    ("Pow", &[]),
    (
        "RNN",
        &[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "layout",
        ],
    ),
    ("ReduceMean", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("Relu", &[]),
    ("Reshape", &["allowzero"]),
    ("Selu", &["alpha", "gamma"]),
    ("Shape", &["start", "end"]),
    ("Sigmoid", &[]),
    ("Slice", &["axes", "ends", "starts"]),
    ("Softmax", &["axis"]),
    ("Softplus", &[]),
    ("Softsign", &[]),
    ("Split", &["axis", "num_outputs", "split"]),
    ("Sqrt", &[]),
    ("Squeeze", &["axes"]),
    ("Sub", &[]),
    ("Tanh", &[]),
    ("ThresholdedRelu", &["alpha"]),
    ("Transpose", &["perm"]),
    ("Unsqueeze", &["axes"]),
];

impl Model {
    /// Whether all of it can run.
    ///
    /// # Errors
    /// Every operator, attribute and constant that isn't supported, named with its node.
    pub fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        if !OPSETS.contains(&self.opset) {
            let (first, last) = (OPSETS.start(), OPSETS.end());
            problems.push(format!("operator set {} (known are {first} to {last})", self.opset));
        }
        collect(&self.graph, &mut problems);
        if problems.is_empty() {
            return Ok(());
        }
        let more = problems.len().saturating_sub(MOST_LINES);
        problems.truncate(MOST_LINES);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        let list = problems.join("\n  ");
        Err(Error::unsupported(format!("{}: not supported:\n  {list}", self.path.display())))
    }
}

/// An attribute of a known operator that isn't known, named with its node.
pub(crate) fn unknown_attribute(node: &Node) -> Option<String> {
    let (_, allowed) = OPERATORS.iter().find(|(operator, _)| *operator == node.operator)?;
    let name = node.attributes.keys().find(|name| !allowed.contains(&name.as_str()))?;
    Some(format!("attribute '{name}': {}", node.title()))
}

fn collect(graph: &Graph, problems: &mut Vec<String>) {
    problems.extend(graph.unreadable.values().cloned());
    for node in &graph.nodes {
        let known = OPERATORS.iter().find(|(operator, _)| *operator == node.operator);
        let Some((_, allowed)) = known else {
            problems.push(format!("operator {}: {}", node.operator, node.title()));
            continue;
        };
        for (name, value) in &node.attributes {
            if !allowed.contains(&name.as_str()) {
                problems.push(format!("attribute '{name}': {}", node.title()));
            }
            match value {
                Attribute::Unreadable(reason) => {
                    problems.push(format!("attribute '{name}': {}: {reason}", node.title()));
                }
                Attribute::Graph(inner) => collect(inner, problems),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_sorted_and_named_once() {
        assert!(OPERATORS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
