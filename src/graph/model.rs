//! A model as it is in memory: decoded once, whether or not its operators are supported.

use crate::error::{Error, Result};
use crate::format::onnx::{
    AttributeProto, AttributeType, Extent, GraphProto, ModelProto, NodeProto, ValueInfoProto,
    read_model, tensor_value,
};
use crate::tensor::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

/// A graph with the operator set that it is written in.
#[derive(Clone, Debug)]
pub struct Model {
    /// The file, for messages.
    pub path: PathBuf,
    /// The program that wrote it.
    pub producer: String,
    /// The number of ONNX's operator set.
    pub opset: i64,
    /// The graph.
    pub graph: Graph,
}

/// Nodes in topological order, and constants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Constants by name.
    pub constants: HashMap<String, Value>,
    /// Constants that can't be read: their names, and why.
    pub unreadable: BTreeMap<String, String>,
    /// What goes in, constants among them left in the list.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
}

/// A graph's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The number of its element type; 0 where none is given.
    pub element: i32,
    /// Its shape, where it is given.
    pub shape: Option<Vec<Axis>>,
}

/// The extent of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// A number.
    Fixed(usize),
    /// A name: all axes of that name have one extent.
    Named(String),
    /// Anything.
    Any,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name in the file, often empty.
    pub name: String,
    /// Its place in the graph, from 0.
    pub index: usize,
    /// The operator, with its domain before it where that isn't ONNX's own.
    pub operator: String,
    /// The names of the inputs; an empty one is left out.
    pub inputs: Vec<String>,
    /// The names of the outputs.
    pub outputs: Vec<String>,
    /// The attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// Text.
    Text(String),
    /// A tensor.
    Tensor(Value),
    /// A graph.
    Graph(Box<Graph>),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
    /// What can't be read, and why.
    Unreadable(String),
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axis::Fixed(n) => write!(f, "{n}"),
            Axis::Named(name) => f.write_str(name),
            Axis::Any => f.write_str("?"),
        }
    }
}

impl Node {
    /// How messages call it: the operator and the node's name, or its place and what it makes.
    pub fn title(&self) -> String {
        if !self.name.is_empty() {
            return format!("{} node '{}'", self.operator, self.name);
        }
        let output = self.outputs.iter().find(|name| !name.is_empty());
        let output = output.map_or("nothing", |name| name);
        format!("{} node #{} (which makes '{output}')", self.operator, self.index)
    }
}

impl Model {
    /// Reads a file.
    ///
    /// # Errors
    /// The file can't be read, is cut short or no ONNX model.
    pub fn read(path: &Path) -> Result<Self> {
        Self::new(read_model(path)?, path)
    }

    /// Decodes a model; `path` is for messages.
    ///
    /// # Errors
    /// No graph; no operator set.
    pub fn new(model: ModelProto, path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::format(path, reason);
        if !model.functions.is_empty() {
            let count = model.functions.len();
            return Err(fail(format!("it defines {count} functions of its own: not supported")));
        }
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let opset = model.opset_import.iter().find(|set| own(&set.domain));
        let opset = opset.and_then(|set| set.version);
        let opset = opset.ok_or_else(|| fail("it names no version of ONNX's operators".into()))?;
        let graph = model.graph.ok_or_else(|| fail("it has no graph".to_string()))?;
        Ok(Model {
            path: path.to_path_buf(),
            producer: format!("{} {}", model.producer_name, model.producer_version)
                .trim()
                .to_string(),
            opset,
            graph: Graph::new(graph),
        })
    }
}

impl Graph {
    fn new(graph: GraphProto) -> Self {
        let mut constants = HashMap::new();
        let mut unreadable = BTreeMap::new();
        for tensor in &graph.initializer {
            match tensor_value(tensor) {
                Ok(value) => drop(constants.insert(tensor.name.clone(), value)),
                Err(reason) => drop(unreadable.insert(tensor.name.clone(), reason)),
            }
        }
        if !graph.sparse_initializer.is_empty() {
            unreadable.insert("sparse".to_string(), "sparse constants are not read".to_string());
        }
        let ports = |list: Vec<ValueInfoProto>| list.into_iter().map(Port::new).collect();
        Graph {
            nodes: graph.node.into_iter().enumerate().map(|(i, n)| Node::new(i, n)).collect(),
            constants,
            unreadable,
            inputs: ports(graph.input),
            outputs: ports(graph.output),
        }
    }
}

impl Port {
    fn new(info: ValueInfoProto) -> Self {
        let tensor = info.r#type.and_then(|kind| kind.tensor_type);
        let shape = tensor.as_ref().and_then(|tensor| tensor.shape.clone());
        let axis = |extent: Option<Extent>| match extent {
            Some(Extent::Fixed(n)) => usize::try_from(n).map_or(Axis::Any, Axis::Fixed),
            Some(Extent::Named(name)) if !name.is_empty() => Axis::Named(name),
            _ => Axis::Any,
        };
        Port {
            name: info.name,
            element: tensor.map_or(0, |tensor| tensor.elem_type),
            shape: shape.map(|shape| shape.dim.into_iter().map(|dim| axis(dim.value)).collect()),
        }
    }
}

impl Node {
    fn new(index: usize, node: NodeProto) -> Self {
        let operator = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type,
            other => format!("{other}.{}", node.op_type),
        };
        let attributes = node.attribute.into_iter().map(|a| (a.name.clone(), Attribute::new(a)));
        Node {
            name: node.name,
            index,
            operator,
            inputs: node.input,
            outputs: node.output,
            attributes: attributes.collect(),
        }
    }
}

impl Attribute {
    fn new(attribute: AttributeProto) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let of = attribute.r#type();
        match of {
            _ if !attribute.ref_attr_name.is_empty() => {
                Attribute::Unreadable("it refers to a function's parameter".to_string())
            }
            // A zero need not be written.
            AttributeType::Float => Attribute::Float(attribute.f.unwrap_or(0.0)),
            AttributeType::Int => Attribute::Int(attribute.i.unwrap_or(0)),
            AttributeType::String => Attribute::Text(text(&attribute.s.unwrap_or_default())),
            AttributeType::Floats => Attribute::Floats(attribute.floats),
            AttributeType::Ints => Attribute::Ints(attribute.ints),
            AttributeType::Strings => {
                Attribute::Texts(attribute.strings.iter().map(|s| text(s)).collect())
            }
            AttributeType::Tensor => match attribute.t.map(|tensor| tensor_value(&tensor)) {
                Some(Ok(value)) => Attribute::Tensor(value),
                Some(Err(reason)) => Attribute::Unreadable(reason),
                None => Attribute::Unreadable("its tensor is missing".to_string()),
            },
            AttributeType::Graph => match attribute.g {
                Some(graph) => Attribute::Graph(Box::new(Graph::new(graph))),
                None => Attribute::Unreadable("its graph is missing".to_string()),
            },
            other => Attribute::Unreadable(format!("values of type {other:?} are not read")),
        }
    }

    /// What kind of value it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Attribute::Float(_) => "a float",
            Attribute::Int(_) => "an integer",
            Attribute::Text(_) => "a text",
            Attribute::Tensor(_) => "a tensor",
            Attribute::Graph(_) => "a graph",
            Attribute::Floats(_) => "a list of floats",
            Attribute::Ints(_) => "a list of integers",
            Attribute::Texts(_) => "a list of texts",
            Attribute::Unreadable(_) => "unreadable",
        }
    }
}
