//! The ONNX project's operator cases, through the library's reader.

pub use recurra::graph::{Attribute, Node};
use recurra::graph::{Model as AnyModel, Value};
use std::path::Path;

/// A tensor of a case's data file.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Of either type; small integers are exact.
    pub values: Vec<f32>,
}

impl Tensor {
    pub fn read(path: &Path) -> Self {
        let (name, value) = recurra::format::onnx::read_tensor(path).unwrap();
        let values = match &value {
            Value::F32(array) => array.iter().copied().collect(),
            Value::I64(array) => array.iter().map(|&v| v as f32).collect(),
            Value::Bool(_) => panic!("{}: truth values", path.display()),
        };
        Tensor { name, shape: value.shape().to_vec(), values }
    }
}

/// A model of one node.
#[derive(Clone, Debug)]
pub struct Model {
    pub node: Node,
    /// The names of the graph's inputs and outputs, in the order of the case's data files.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

impl Model {
    pub fn read(path: &Path) -> Self {
        let graph = AnyModel::read(path).unwrap().graph;
        let [node] = &graph.nodes[..] else {
            panic!("{}: {} nodes", path.display(), graph.nodes.len())
        };
        Model {
            node: node.clone(),
            inputs: graph.inputs.into_iter().map(|port| port.name).collect(),
            outputs: graph.outputs.into_iter().map(|port| port.name).collect(),
        }
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.node.attributes.get(name) {
            None => default,
            Some(Attribute::Int(value)) => *value,
            Some(other) => panic!("{name}: {other:?}"),
        }
    }
}
