//! The recurrent nodes of an ONNX model.

use super::{FoundLayer, LayerFacts, direction_name};
use crate::engine::Engine;
use crate::error::Result;
use crate::graph::{
    Attribute, Axis, Graph, Model, Node, Options, RecurrentNode, Weights, decode, options,
    unknown_attribute,
};
use crate::tensor::Value;
use ndarray::{ArrayView, Dimension};
use std::collections::HashMap;
use std::path::Path;

/// The layers of a file, those in branches included.
pub(super) fn layers(path: &Path) -> Result<Vec<FoundLayer>> {
    let model = Model::read(path)?;
    let engine = Engine::cpu(Some(1))?;
    let constants = model.constant_values(&engine);
    let mut layers = Vec::new();
    collect(&model.graph, &constants, &engine, &mut layers)?;
    Ok(layers)
}

fn collect(
    graph: &Graph,
    constants: &HashMap<String, Value>,
    engine: &Engine,
    layers: &mut Vec<FoundLayer>,
) -> Result<()> {
    for node in &graph.nodes {
        if matches!(node.operator.as_str(), "RNN" | "LSTM" | "GRU") {
            let options = options(node, engine)?;
            let place = place(node, layers);
            layers.push(layer(graph, node, place, &options, constants));
        }
        for attribute in node.attributes.values() {
            if let Attribute::Graph(inner) = attribute {
                let mut all = constants.clone();
                all.extend(inner.constants.iter().map(|(k, v)| (k.clone(), v.clone())));
                collect(inner, &all, engine, layers)?;
            }
        }
    }
    Ok(())
}

/// What comes before PyTorch's names, and the layer's place in its stack. Our own exports name a node
/// `stack/LSTM_l0`; of others it is the node's name with dots for slashes, or the operator's with a
/// number, layer 0.
fn place(node: &Node, layers: &[FoundLayer]) -> (String, usize) {
    let taken = |name: &str, layer: usize| {
        layers.iter().any(|found| found.facts.name == name && found.facts.layer == layer)
    };
    let own = node.name.trim_matches('/').replace('/', ".");
    let (stack, last) = own.rsplit_once('.').unwrap_or(("", &own));
    let number = last.strip_prefix(&node.operator).and_then(|rest| rest.strip_prefix("_l"));
    if let Some(layer) = number.and_then(|number| number.parse().ok())
        && !taken(stack, layer)
    {
        return (stack.to_string(), layer);
    }
    if !own.is_empty() && !taken(&own, 0) {
        return (own, 0);
    }
    let stem = if own.is_empty() { node.operator.to_ascii_lowercase() } else { own };
    let mut number = 0;
    while taken(&format!("{stem}_{number}"), 0) {
        number += 1;
    }
    (format!("{stem}_{number}"), 0)
}

fn layer(
    graph: &Graph,
    node: &Node,
    (name, layer): (String, usize),
    options: &Options,
    constants: &HashMap<String, Value>,
) -> FoundLayer {
    let input = |place: usize| node.inputs.get(place).filter(|name| !name.is_empty());
    let unreadable = |place: usize| graph.unreadable.get(input(place)?);
    let unreadable = [1, 2, 3, 7].into_iter().find_map(unreadable);
    let weights = match (unknown_attribute(node), unreadable) {
        (Some(unknown), _) => Err(format!("not supported: {unknown}")),
        (None, Some(reason)) => Err(format!("{}: {reason}", node.title())),
        (None, None) => weights(node, options, constants, &input),
    };
    let mut facts = match &weights {
        Ok(node) => LayerFacts::of(node, name, layer),
        // What can be known without the weights.
        Err(_) => LayerFacts {
            name,
            layer,
            cell: options.cell,
            input: input(1).and_then(|name| extent(graph, constants, name, 2)),
            hidden: options.hidden.or_else(|| extent(graph, constants, input(2)?, 2)),
            projection: None,
            directions: options.reverse.iter().map(|&reverse| direction_name(reverse)).collect(),
            bias: input(3).is_some(),
            peepholes: input(7).is_some(),
            coupled: options.coupled,
            clip: options.clip,
            activations: Some(options.activations.clone()),
            batch_first: None,
        },
    };
    facts.batch_first = Some(options.batch_first);
    FoundLayer { facts, weights }
}

/// The extent of an axis of a value, where it is a constant or a graph's input of a known shape.
fn extent(
    graph: &Graph,
    constants: &HashMap<String, Value>,
    name: &str,
    axis: usize,
) -> Option<usize> {
    if let Some(value) = constants.get(name) {
        return value.shape().get(axis).copied();
    }
    let port = graph.inputs.iter().find(|port| port.name == name)?;
    match port.shape.as_ref()?.get(axis)? {
        Axis::Fixed(extent) => Some(*extent),
        _ => None,
    }
}

fn weights<'a>(
    node: &Node,
    options: &Options,
    constants: &HashMap<String, Value>,
    input: &impl Fn(usize) -> Option<&'a String>,
) -> Result<RecurrentNode, String> {
    let title = node.title();
    fn view<'c, D: Dimension>(
        constants: &'c HashMap<String, Value>,
        title: &str,
        name: &str,
    ) -> Result<ArrayView<'c, f32, D>, String> {
        match constants.get(name) {
            Some(Value::F32(array)) => array
                .view()
                .into_dimensionality()
                .map_err(|_| format!("{title}: '{name}' has shape {:?}", array.shape())),
            Some(other) => Err(format!("{title}: '{name}' is {}", other.kind())),
            None => Err(format!("{title}: its weight '{name}' is no constant of the model")),
        }
    }
    let needed = |place: usize| input(place).ok_or_else(|| format!("{title}: a weight is missing"));
    let weights = Weights {
        w: view(constants, &title, needed(1)?)?,
        r: view(constants, &title, needed(2)?)?,
        b: input(3).map(|name| view(constants, &title, name)).transpose()?,
        p: input(7).map(|name| view(constants, &title, name)).transpose()?,
    };
    decode(&title, options, weights).map_err(|error| error.to_string())
}
