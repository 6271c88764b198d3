//! The walk over a graph's nodes, with scopes for the graphs in an If's branches.

use super::call::Call;
use super::model::{Attribute, Graph, Model, Node};
use super::{conv, elementwise, linear, recurrent, reduce, shape, slice};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tensor::Value;
use std::collections::{BTreeMap, HashMap};

/// Values by name, and the scope around.
struct Scope<'a> {
    constants: &'a HashMap<String, Value>,
    values: HashMap<String, Value>,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn find(&self, name: &str) -> Option<&Value> {
        let here = self.values.get(name).or_else(|| self.constants.get(name));
        here.or_else(|| self.outer?.find(name))
    }

    /// Takes in what a node made.
    fn keep(&mut self, node: &Node, outputs: Vec<Value>) {
        let named = node.outputs.iter().cloned().zip(outputs);
        self.values.extend(named.filter(|(name, _)| !name.is_empty()));
    }
}

impl Model {
    /// Runs the graph: the outputs with their names, in the graph's order.
    ///
    /// # Errors
    /// What isn't supported, by its node; a missing, unknown or misshaped input; values that a node
    /// can't take; a limit of the engine.
    pub fn run(
        &self,
        engine: &Engine,
        inputs: BTreeMap<String, Value>,
    ) -> Result<Vec<(String, Value)>> {
        self.check()?;
        let values = self.take_inputs(inputs)?;
        let scope = Scope { constants: &self.graph.constants, values, outer: None };
        let outputs = walk(&self.graph, scope, self.opset, engine)?;
        let names = self.graph.outputs.iter().map(|port| port.name.clone());
        Ok(names.zip(outputs).collect())
    }

    /// Every value of the outermost graph that follows from constants alone, by name. The defaults of
    /// inputs count as constants.
    pub fn constant_values(&self, engine: &Engine) -> HashMap<String, Value> {
        let graph = &self.graph;
        let mut constants = graph.constants.clone();
        let mut scope = Scope { constants: &constants, values: HashMap::new(), outer: None };
        for node in &graph.nodes {
            let known = |name: &String| name.is_empty() || scope.find(name).is_some();
            let heavy = matches!(node.operator.as_str(), "RNN" | "LSTM" | "GRU" | "If");
            // A node that fails makes nothing that is known.
            if !heavy
                && node.inputs.iter().all(known)
                && let Ok(outputs) = run_node(node, &scope, self.opset, engine)
            {
                scope.keep(node, outputs);
            }
        }
        let values = scope.values;
        constants.extend(values);
        constants
    }
}

fn walk(graph: &Graph, mut scope: Scope<'_>, opset: i64, engine: &Engine) -> Result<Vec<Value>> {
    for node in &graph.nodes {
        let outputs = run_node(node, &scope, opset, engine)?;
        scope.keep(node, outputs);
    }
    let find = |name: &str| {
        let missing = || Error::invalid(format!("no node makes the graph's output '{name}'"));
        scope.find(name).cloned().ok_or_else(missing)
    };
    graph.outputs.iter().map(|port| find(&port.name)).collect()
}

fn run_node(node: &Node, scope: &Scope<'_>, opset: i64, engine: &Engine) -> Result<Vec<Value>> {
    let find = |name: &String| -> Result<Option<&Value>> {
        if name.is_empty() {
            return Ok(None);
        }
        let missing = || {
            let title = node.title();
            Error::invalid(format!("{title}: its input '{name}' is made by no node before it"))
        };
        scope.find(name).map(Some).ok_or_else(missing)
    };
    let inputs = node.inputs.iter().map(find).collect::<Result<_>>()?;
    let call = Call { node, inputs, opset, engine };
    // A file can state any extent beside one of 0, and operators count and list places of an axis.
    for value in call.inputs.iter().flatten() {
        call.size(value.shape())?;
    }
    let outputs = match node.operator.as_str() {
        "If" => branch(&call, scope)?,
        "RNN" | "LSTM" | "GRU" => recurrent::run(&call)?,
        "Split" => slice::split(&call)?,
        operator => vec![one(operator, &call)?],
    };
    let wanted = node.outputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    if wanted > outputs.len() {
        return Err(call.fail(format!("{wanted} outputs, but it makes {}", outputs.len())));
    }
    Ok(outputs)
}

/// The operators of one output.
fn one(operator: &str, call: &Call<'_>) -> Result<Value> {
    match operator {
        "Cast" => shape::cast(call),
        "Concat" => slice::concat(call),
        "Constant" => shape::constant(call),
        "ConstantOfShape" => shape::constant_of_shape(call),
        "Conv" => conv::conv(call),
        "Expand" => shape::expand(call),
        "Gather" => slice::gather(call),
        "Gemm" => linear::gemm(call),
        "Identity" => call.input(0).cloned(),
        "LogSoftmax" => reduce::softmax(call, true),
        "MatMul" => linear::matmul(call),
        "Pad" => slice::pad(call),
        "ReduceMean" => reduce::mean(call),
        "Reshape" => shape::reshape(call),
        "Shape" => shape::shape(call),
        "Slice" => slice::slice(call),
        "Softmax" => reduce::softmax(call, false),
        "Squeeze" => shape::squeeze(call),
        "Transpose" => shape::transpose(call),
        "Unsqueeze" => shape::unsqueeze(call),
        "Add" | "Div" | "Equal" | "Mul" | "PRelu" | "Pow" | "Sub" => {
            elementwise::binary(call, operator)
        }
        _ => elementwise::unary(call, operator),
    }
}

fn branch(call: &Call<'_>, scope: &Scope<'_>) -> Result<Vec<Value>> {
    let condition = match call.input(0)? {
        Value::Bool(array) if array.len() == 1 => array.iter().any(|&truth| truth),
        other => {
            let (kind, shape) = (other.kind(), other.shape());
            return Err(call.fail(format!("its condition is {kind} of shape {shape:?}")));
        }
    };
    let name = if condition { "then_branch" } else { "else_branch" };
    let Some(Attribute::Graph(graph)) = call.attribute(name) else {
        return Err(call.fail(format!("it has no {name}")));
    };
    let inner = Scope { constants: &graph.constants, values: HashMap::new(), outer: Some(scope) };
    walk(graph, inner, call.opset, call.engine)
}
