//! A model whose layers fit.

use super::sequential::Features;
use super::{Flow, Form, Layer};
use crate::error::{Error, Result};
use crate::layer::{Initializer, Recurrent};
use crate::schedule::Recorder;
use crate::tensor::{NamedTensors, require_shapes};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Layers one behind the other, which fit: what they read, their parameters, what they give.
pub struct Model {
    pub(super) features: Features,
    pub(super) layers: Vec<Box<dyn Layer>>,
    pub(super) lines: Vec<[String; 3]>,
    pub(super) shapes: BTreeMap<String, Vec<usize>>,
    pub(super) width: usize,
    pub(super) form: Form,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.describe()).finish()
    }
}

impl Model {
    /// Records the layers, one behind the other.
    ///
    /// # Errors
    /// Another input than the model's; sizes beyond 32 bits.
    pub fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let mut flow = flow;
        for (number, layer) in self.layers.iter().enumerate() {
            flow = layer.record(rec, flow).map_err(|error| {
                Error::invalid(format!("layer {}, '{}': {error}", number + 1, layer.name()))
            })?;
        }
        Ok(flow)
    }

    /// The shapes of all parameters by their names.
    pub fn parameter_shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    /// How many numbers the model learns.
    pub fn parameter_count(&self) -> u64 {
        self.shapes.values().map(|shape| size(shape)).sum()
    }

    /// The width of what the model gives.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether it gives a row a step or a row a sequence.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Initial weights from a seed.
    ///
    /// # Errors
    /// A layer that leaves out one of its parameters, gives it another shape, or makes one that it doesn't have.
    pub fn initial_weights(&self, seed: u64) -> Result<NamedTensors> {
        let weights = self.draw(seed);
        self.check_weights(&weights)?;
        Ok(weights)
    }

    /// What the layers make.
    pub(super) fn draw(&self, seed: u64) -> NamedTensors {
        let mut generator = Initializer::new(seed);
        let mut weights = NamedTensors::new();
        self.layers.iter().for_each(|layer| layer.init(&mut generator, &mut weights));
        weights
    }

    /// Whether weights are this model's, all of them.
    pub(super) fn check_weights(&self, weights: &NamedTensors) -> Result<()> {
        require_shapes(&self.shapes, weights)?;
        match weights.keys().find(|name| !self.shapes.contains_key(*name)) {
            Some(name) => Err(Error::invalid(format!("weights of an unknown parameter '{name}'"))),
            None => Ok(()),
        }
    }

    /// The recurrent layers.
    pub fn recurrent(&self) -> Vec<&Recurrent> {
        self.layers.iter().flat_map(|layer| layer.recurrent()).collect()
    }

    /// What the model reads, and each layer in a few words.
    pub(super) fn describe(&self) -> Vec<String> {
        let first = match self.features {
            Features::Tokens(vocabulary) => format!("tokens {vocabulary}"),
            Features::Values(width) => format!("values {width}"),
        };
        let layers = self.layers.iter().map(|l| format!("{}: {}", l.name(), l.describe()));
        std::iter::once(first).chain(layers).collect()
    }

    /// A table of the layers: what each gives (T steps, or one row a sequence) and how many parameters it has.
    pub fn summary(&self) -> String {
        let header = ["layer", "gives", "parameters"].map(String::from);
        let total = ["all".to_string(), String::new(), grouped(self.parameter_count())];
        let rows: Vec<&[String; 3]> =
            std::iter::once(&header).chain(&self.lines).chain([&total]).collect();
        let widest = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
        let [a, b, c] = [0, 1, 2].map(widest);
        let mut text = String::new();
        for [layer, gives, count] in rows {
            let _ = writeln!(text, "{layer:<a$}  {gives:>b$}  {count:>c$}");
        }
        text
    }
}

pub(super) fn size(shape: &[usize]) -> u64 {
    shape.iter().map(|&n| n as u64).product()
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
