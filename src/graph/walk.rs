//! The walk over a graph's nodes, with scopes for the graphs in an If's branches; and sessions, which walk again and again.

use super::call::Call;
use super::model::{Attribute, Graph, Model, Node, Port};
use super::recurrent::Kept;
use super::{conv, elementwise, linear, recurrent, reduce, shape, slice};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tensor::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// Values by name, and the scope around.
struct Scope<'a> {
    constants: &'a HashMap<String, Value>,
    /// Inputs, whose constants are defaults.
    inputs: &'a [Port],
    values: HashMap<String, Value>,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    /// Whether a name is left out or is a constant's, so that it has the same value in every run.
    fn lasts(&self, name: &str) -> bool {
        if name.is_empty() {
            return true;
        }
        let made = self.values.contains_key(name);
        if made || self.constants.contains_key(name) {
            return !made && !self.inputs.iter().any(|port| port.name == name);
        }
        self.outer.is_some_and(|outer| outer.lasts(name))
    }

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
        let kept = RefCell::default();
        self.run_with(
            inputs,
            &self.graph.constants,
            Walk { opset: self.opset, engine, kept: &kept },
        )
    }

    fn run_with(
        &self,
        inputs: BTreeMap<String, Value>,
        constants: &HashMap<String, Value>,
        how: Walk<'_>,
    ) -> Result<Vec<(String, Value)>> {
        let values = self.take_inputs(inputs)?;
        let scope = Scope { constants, inputs: &self.graph.inputs, values, outer: None };
        let outputs = walk(&self.graph, scope, how)?;
        let names = self.graph.outputs.iter().map(|port| port.name.clone());
        Ok(names.zip(outputs).collect())
    }

    /// Every value of the outermost graph that follows from constants alone, by name. The defaults of
    /// inputs count as constants.
    pub fn constant_values(&self, engine: &Engine) -> HashMap<String, Value> {
        self.fold(self.graph.constants.clone(), engine)
    }

    /// Constants, and all that follows from them.
    fn fold(
        &self,
        mut constants: HashMap<String, Value>,
        engine: &Engine,
    ) -> HashMap<String, Value> {
        let kept = RefCell::default();
        let how = Walk { opset: self.opset, engine, kept: &kept };
        let (inputs, values) = (&self.graph.inputs[..], HashMap::new());
        let mut scope = Scope { constants: &constants, inputs, values, outer: None };
        for node in &self.graph.nodes {
            let known = |name: &String| name.is_empty() || scope.find(name).is_some();
            let heavy = matches!(node.operator.as_str(), "RNN" | "LSTM" | "GRU" | "If");
            // A node that fails makes nothing that is known.
            if !heavy
                && node.inputs.iter().all(known)
                && let Ok(outputs) = run_node(node, &scope, how)
            {
                scope.keep(node, outputs);
            }
        }
        let values = scope.values;
        constants.extend(values);
        constants
    }
}

/// A graph with its recurrent layers loaded on an engine, to be run many times: what follows from constants is computed
/// once, and a layer stays loaded for the last four numbers of steps and rows that it had.
pub struct Session {
    model: Model,
    engine: Engine,
    /// What no input can change.
    constants: HashMap<String, Value>,
    kept: RefCell<HashMap<usize, Kept>>,
}

impl Session {
    /// # Errors
    /// What isn't supported, by its node.
    pub fn new(engine: &Engine, model: Model) -> Result<Self> {
        model.check()?;
        let mut constants = model.graph.constants.clone();
        let mut defaults = HashMap::new();
        for port in &model.graph.inputs {
            defaults.extend(constants.remove_entry(&port.name));
        }
        let mut constants = model.fold(constants, engine);
        constants.extend(defaults);
        Ok(Session { model, engine: engine.clone(), constants, kept: RefCell::default() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Runs the graph, as [`Model::run`] does.
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn run(&mut self, inputs: BTreeMap<String, Value>) -> Result<Vec<(String, Value)>> {
        let how = Walk { opset: self.model.opset, engine: &self.engine, kept: &self.kept };
        self.model.run_with(inputs, &self.constants, how)
    }
}

/// What is the same for all nodes of a walk.
#[derive(Clone, Copy)]
struct Walk<'a> {
    opset: i64,
    engine: &'a Engine,
    /// Layers that are loaded, by where their nodes lie.
    kept: &'a RefCell<HashMap<usize, Kept>>,
}

fn walk(graph: &Graph, mut scope: Scope<'_>, how: Walk<'_>) -> Result<Vec<Value>> {
    for node in &graph.nodes {
        let mut made = node.outputs.iter().filter(|name| !name.is_empty());
        if made.all(|name| scope.constants.contains_key(name)) {
            continue;
        }
        let outputs = run_node(node, &scope, how)?;
        scope.keep(node, outputs);
    }
    let find = |name: &str| {
        let missing = || Error::invalid(format!("no node makes the graph's output '{name}'"));
        scope.find(name).cloned().ok_or_else(missing)
    };
    graph.outputs.iter().map(|port| find(&port.name)).collect()
}

fn run_node(node: &Node, scope: &Scope<'_>, how: Walk<'_>) -> Result<Vec<Value>> {
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
    let Walk { opset, engine, kept } = how;
    let call = Call { node, inputs, opset, engine };
    // A file can state any extent beside one of 0, and operators count and list places of an axis.
    for value in call.inputs.iter().flatten() {
        call.size(value.shape())?;
    }
    let outputs = match node.operator.as_str() {
        "If" => branch(&call, scope, how)?,
        "RNN" | "LSTM" | "GRU" => {
            let weights = recurrent::WEIGHTS.iter().filter_map(|&place| node.inputs.get(place));
            let last = weights.into_iter().all(|name| scope.lasts(name));
            let place = std::ptr::from_ref(node).addr();
            let before = kept.borrow_mut().remove(&place);
            let (outputs, after) = recurrent::run(&call, before, last)?;
            kept.borrow_mut().insert(place, after);
            outputs
        }
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

fn branch(call: &Call<'_>, scope: &Scope<'_>, how: Walk<'_>) -> Result<Vec<Value>> {
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
    let (constants, inputs, values) = (&graph.constants, &graph.inputs[..], HashMap::new());
    let inner = Scope { constants, inputs, values, outer: Some(scope) };
    walk(graph, inner, how)
}
