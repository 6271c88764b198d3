//! A reader of the few ONNX messages that the operator cases need, over the protobuf wire format.

use std::path::Path;

/// One field of a message: its number and its value.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, len))
            }
            5 => Field::Fixed32(take(&mut bytes, 4).try_into().unwrap()),
            other => panic!("wire type {other} is not read here"),
        };
        list.push((key >> 3, field));
    }
    list
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes")
}

/// The bytes of all fields of that number.
fn all(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter_map(move |(n, field)| match field {
        Field::Bytes(bytes) if n == number => Some(bytes),
        _ => None,
    })
}

/// The numbers of a repeated field, packed or not.
fn numbers(message: &[u8], number: u64) -> Vec<i64> {
    let mut list = Vec::new();
    for (n, field) in fields(message) {
        match field {
            Field::Number(value) if n == number => list.push(value as i64),
            Field::Bytes(mut packed) if n == number => {
                while !packed.is_empty() {
                    list.push(varint(&mut packed) as i64);
                }
            }
            _ => {}
        }
    }
    list
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A TensorProto of 32-bit floats or integers.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Of either type; small integers are exact.
    pub values: Vec<f32>,
}

impl Tensor {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // TensorProto: dims 1, data_type 2, float_data 4, int32_data 5, name 8, raw_data 9.
        let shape: Vec<usize> = numbers(&bytes, 1).into_iter().map(|d| d as usize).collect();
        let raw = all(&bytes, 9).next();
        let values: Vec<f32> = match (numbers(&bytes, 2)[..].first(), raw) {
            (Some(1), Some(raw)) => {
                raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
            }
            (Some(1), None) => floats(&bytes),
            (Some(6), Some(raw)) => {
                raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect()
            }
            (Some(6), None) => numbers(&bytes, 5).into_iter().map(|v| v as f32).collect(),
            (other, _) => panic!("{}: data type {other:?} is not read here", path.display()),
        };
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{}", path.display());
        Tensor { name: all(&bytes, 8).next().map(text).unwrap_or_default(), shape, values }
    }
}

/// The float_data of a TensorProto, packed or not.
fn floats(message: &[u8]) -> Vec<f32> {
    let mut list = Vec::new();
    for (n, field) in fields(message) {
        match field {
            Field::Fixed32(bytes) if n == 4 => list.push(f32::from_le_bytes(bytes)),
            Field::Bytes(packed) if n == 4 => {
                list.extend(packed.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
            _ => {}
        }
    }
    list
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Int(i64),
    Text(String),
    Texts(Vec<String>),
    /// Floats, lists of floats: not read.
    Other,
}

/// A NodeProto: the operator, the names of what goes in and comes out (empty: left out), the
/// attributes.
#[derive(Clone, Debug)]
pub struct Node {
    pub operator: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: Vec<(String, Attribute)>,
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
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // ModelProto: graph 7. GraphProto: node 1, input 11, output 12. ValueInfoProto: name 1.
        let graph = all(&bytes, 7).next().expect("a model has a graph");
        let nodes: Vec<_> = all(graph, 1).collect();
        let [node] = nodes[..] else { panic!("{}: {} nodes", path.display(), nodes.len()) };
        let named = |number| all(graph, number).map(|v| text(all(v, 1).next().unwrap())).collect();
        Model { node: Node::new(node), inputs: named(11), outputs: named(12) }
    }
}

impl Node {
    /// NodeProto: input 1, output 2, op_type 4, attribute 5.
    fn new(message: &[u8]) -> Self {
        Node {
            operator: all(message, 4).next().map(text).unwrap_or_default(),
            inputs: all(message, 1).map(text).collect(),
            outputs: all(message, 2).map(text).collect(),
            attributes: all(message, 5).map(attribute).collect(),
        }
    }

    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// An integer attribute, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.attribute(name) {
            None => default,
            Some(Attribute::Int(value)) => *value,
            Some(other) => panic!("{name}: {other:?}"),
        }
    }
}

/// AttributeProto: name 1, i 3, s 4, strings 9, type 20 (2: int, 3: string, 8: strings).
fn attribute(message: &[u8]) -> (String, Attribute) {
    let name = text(all(message, 1).next().expect("an attribute has a name"));
    let value = match numbers(message, 20)[..] {
        // A zero need not be written.
        [2] => Attribute::Int(numbers(message, 3).first().copied().unwrap_or(0)),
        [3] => Attribute::Text(all(message, 4).next().map(text).unwrap_or_default()),
        [8] => Attribute::Texts(all(message, 9).map(text).collect()),
        _ => Attribute::Other,
    };
    (name, value)
}
