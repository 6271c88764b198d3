//! Puts graphs together, to be written.

use super::messages::{
    AttributeProto, AttributeType, DimensionProto, Extent, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use super::tensor::tensor_proto;
use crate::tensor::Value;

/// The operator set that is written.
pub const OPSET: i64 = 22;
/// The version of the format that goes with it.
const IR_VERSION: i64 = 10;

/// A graph in the making. Names that it makes up have a slash in them.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    graph: GraphProto,
}

impl Builder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Builder { graph: GraphProto { name: name.to_string(), ..GraphProto::default() } }
    }

    /// A constant.
    pub fn constant(&mut self, name: &str, value: &Value) -> String {
        self.graph.initializer.push(tensor_proto(name, value));
        name.to_string()
    }

    /// A constant list of integers.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> String {
        self.constant(name, &Value::I64(ndarray::arr1(values).into_dyn()))
    }

    /// A node: its outputs' names are given.
    pub fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_string()).collect();
        self.graph.node.push(NodeProto {
            input: names(inputs),
            output: names(outputs),
            name: name.to_string(),
            op_type: operator.to_string(),
            attribute: attributes,
            domain: String::new(),
        });
    }

    /// A node of one output, which is named as the node.
    pub fn one(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.node(operator, name, inputs, &[name], attributes);
        name.to_string()
    }

    /// An input of the graph; it has a default if there is a constant of its name.
    pub fn input(&mut self, name: &str, element: i32, axes: &[Extent]) {
        self.graph.input.push(port(name, element, axes));
    }

    /// An output of the graph.
    pub fn output(&mut self, name: &str, element: i32, axes: &[Extent]) {
        self.graph.output.push(port(name, element, axes));
    }

    /// The model, with text by key.
    pub fn finish(self, metadata: &[(&str, &str)]) -> ModelProto {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: (*key).to_string(),
            value: (*value).to_string(),
        };
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: env!("CARGO_PKG_NAME").to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: Some(OPSET) }],
            metadata_props: metadata.iter().map(entry).collect(),
            functions: Vec::new(),
        }
    }
}

fn port(name: &str, element: i32, axes: &[Extent]) -> ValueInfoProto {
    let dim = |extent: &Extent| DimensionProto { value: Some(extent.clone()) };
    let shape = TensorShapeProto { dim: axes.iter().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: element, shape: Some(shape) };
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// An axis of that name.
pub fn named(name: &str) -> Extent {
    Extent::Named(name.to_string())
}

/// An axis of that extent.
pub fn fixed(extent: usize) -> Extent {
    Extent::Fixed(extent as i64)
}

fn attribute(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: of.into(), ..AttributeProto::default() }
}

/// An attribute that is an integer.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// An attribute that is a float.
pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// An attribute that is text.
pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

/// An attribute that is a list of integers.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// An attribute that is a list of floats.
pub fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, AttributeType::Floats) }
}

/// An attribute that is a list of texts.
pub fn texts(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}
