//! Layers one behind the other.

use super::layers::form;
use super::{Dropout, Flow, Form, LastStep, Layer, MeanOverTime, Stack};
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::kernel::Activation;
use crate::layer::{Embedding, Initializer, Linear, Recurrent, RecurrentInit, Sequence};
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;
use std::collections::BTreeMap;
use std::fmt::Write;

/// T and B of the recording that layers are tried on.
const TRIAL: [usize; 2] = [3, 2];

/// What a model reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Features {
    Tokens(usize),
    Values(usize),
}

/// Puts layers one behind the other. Each is tried when it comes; what doesn't fit is told by [`Sequential::build`],
/// with the layer's name.
///
/// ```
/// use recurra::model::Sequential;
/// # fn main() -> recurra::Result<()> {
/// let model = Sequential::values(6).gru(32).dropout(0.2).mean_over_time().linear(4).build()?;
/// assert_eq!(model.parameter_count(), 3 * 32 * (6 + 32 + 2) + 4 * 33);
///
/// let error = Sequential::tokens(50).gru(32).build().unwrap_err().to_string();
/// assert!(error.contains("layer 1, 'gru'") && error.contains("embedding"), "{error}");
/// # Ok(())
/// # }
/// ```
pub struct Sequential {
    features: Features,
    layers: Vec<Box<dyn Layer>>,
    lines: Vec<[String; 3]>,
    shapes: BTreeMap<String, Vec<usize>>,
    trial: Recorder,
    flow: Option<Flow>,
    error: Option<Error>,
}

impl Sequential {
    /// A model of sequences of token ids, each under `vocabulary`.
    pub fn tokens(vocabulary: usize) -> Self {
        Self::new(Features::Tokens(vocabulary))
    }

    /// A model of sequences of `width` values a step.
    pub fn values(width: usize) -> Self {
        Self::new(Features::Values(width))
    }

    fn new(features: Features) -> Self {
        let mut trial = Recorder::training();
        let (flow, error) = match input(&mut trial, features, Sequence::from(TRIAL)) {
            Ok(flow) => (Some(flow), None),
            Err(error) => (None, Some(error)),
        };
        let (layers, lines, shapes) = (Vec::new(), Vec::new(), BTreeMap::new());
        Sequential { features, layers, lines, shapes, trial, flow, error }
    }

    /// The width of what the last layer gives; 0 of token ids, or where something doesn't fit.
    pub fn width(&self) -> usize {
        self.flow.as_ref().and_then(Flow::width).unwrap_or(0)
    }

    /// A table of vectors of `width` for the token ids.
    pub fn embedding(self, width: usize) -> Self {
        let Features::Tokens(vocabulary) = self.features else {
            return self
                .refused("embedding", Error::invalid("the model reads values, not token ids"));
        };
        let name = self.free("embedding");
        self.layer(Embedding { name, vocabulary, width })
    }

    /// A recurrent layer of a cell: `CellKind::Lstm`, `CellKind::Gru` …
    pub fn recurrent(self, cell: impl Into<Cell>, hidden: usize) -> Self {
        self.recurrent_with(cell, hidden, |_| {})
    }

    /// The same with options, and another start:
    ///
    /// ```
    /// use recurra::layer::{Direction, ForgetBias, Merge};
    /// use recurra::{CellKind, model::Sequential};
    /// # fn main() -> recurra::Result<()> {
    /// let model = Sequential::values(3)
    ///     .recurrent_with(CellKind::Lstm, 16, |stack| {
    ///         stack.recurrent.direction = Direction::Both(Merge::Concat);
    ///         stack.init.forget = ForgetBias::Value(1.0);
    ///     })
    ///     .linear(2)
    ///     .build()?;
    /// assert_eq!(model.parameter_shapes()["linear.weight"], [2, 32]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn recurrent_with(
        self,
        cell: impl Into<Cell>,
        hidden: usize,
        change: impl FnOnce(&mut Stack),
    ) -> Self {
        let cell = cell.into();
        let name = self.free(cell.name());
        let recurrent = Recurrent::new(name, cell, self.width(), hidden);
        let mut stack = Stack { recurrent, init: RecurrentInit::PYTORCH };
        change(&mut stack);
        self.layer(stack)
    }

    /// An LSTM.
    pub fn lstm(self, hidden: usize) -> Self {
        self.recurrent(crate::CellKind::Lstm, hidden)
    }

    /// A GRU.
    pub fn gru(self, hidden: usize) -> Self {
        self.recurrent(crate::CellKind::Gru, hidden)
    }

    /// W·x + b, at each step or once a sequence.
    pub fn linear(self, output: usize) -> Self {
        let linear = Linear::new(self.free("linear"), self.width(), output);
        self.layer(linear)
    }

    /// f(W·x + b).
    pub fn activated(self, output: usize, activation: Activation) -> Self {
        let linear = Linear::new(self.free("linear"), self.width(), output);
        self.layer(Linear { activation: Some(activation), ..linear })
    }

    /// Dropout in training.
    pub fn dropout(self, rate: f32) -> Self {
        self.layer(Dropout { rate })
    }

    /// From steps to the last one of each sequence.
    pub fn last_step(self) -> Self {
        self.layer(LastStep)
    }

    /// From steps to their mean.
    pub fn mean_over_time(self) -> Self {
        self.layer(MeanOverTime)
    }

    /// Any layer, one of your own among them.
    pub fn layer(mut self, layer: impl Layer + 'static) -> Self {
        let Some(flow) = self.flow.take() else { return self };
        match self.add(&layer, flow) {
            Ok(flow) => self.flow = Some(flow),
            Err(error) => return self.refused(layer.name(), error),
        }
        self.layers.push(Box::new(layer));
        self
    }

    fn add(&mut self, layer: &dyn Layer, flow: Flow) -> Result<Flow> {
        let own = layer.parameters();
        for (name, shape) in &own {
            if self.shapes.insert(name.clone(), shape.clone()).is_some() {
                let what =
                    format!("there is a parameter '{name}' already: give the layer another name");
                return Err(Error::invalid(what));
            }
        }
        let flow = layer.record(&mut self.trial, flow)?;
        for (name, var) in self.trial.parameters() {
            let Some(shape) = self.shapes.get(&name) else {
                let what = format!("it uses a parameter '{name}' that no layer has");
                return Err(Error::invalid(what));
            };
            if shape.iter().product::<usize>() != var.view.len {
                return Err(Error::shape(name, shape, &[var.rows, var.columns]));
            }
        }
        let count: u64 = own.iter().map(|(_, shape)| size(shape)).sum();
        let gives = flow.width().map_or("ids".to_string(), |width| form(flow.form(), width));
        self.lines.push([
            format!("{} ({})", layer.name(), layer.describe()),
            gives,
            grouped(count),
        ]);
        Ok(flow)
    }

    fn refused(mut self, name: &str, error: Error) -> Self {
        if self.error.is_none() {
            let number = self.layers.len() + 1;
            self.error = Some(Error::invalid(format!("layer {number}, '{name}': {error}")));
        }
        self.flow = None;
        self
    }

    /// A name that no layer has: `linear`, `linear_2` …
    fn free(&self, stem: &str) -> String {
        let taken = |name: &String| self.layers.iter().any(|layer| layer.name() == name);
        let numbered = (2..).map(|n| format!("{stem}_{n}"));
        let mut names = std::iter::once(stem.to_string()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    /// The model.
    ///
    /// # Errors
    /// The first layer that didn't fit, by its number and name; no layer; one whose gradient can't be recorded.
    pub fn build(self) -> Result<Model> {
        let Sequential { features, layers, lines, shapes, mut trial, flow, error } = self;
        if let Some(error) = error {
            return Err(error);
        }
        let last = flow.as_ref().and_then(|flow| Some((flow.rows().ok()?, flow.form())));
        let Some((output, form)) = last.filter(|_| !layers.is_empty()) else {
            return Err(Error::invalid("a model needs a layer at least"));
        };
        // Backward as well: a layer of one's own is found out here.
        let seed = trial.temporary_f32("seed", [output.rows, output.columns])?;
        trial.fill(seed.view, 1.0)?;
        trial.seed_gradient(output, seed)?;
        trial.backward()?;
        Ok(Model { features, layers, lines, shapes, width: output.columns, form })
    }
}

/// The input of a model.
pub(super) fn input(rec: &mut Recorder, features: Features, sequence: Sequence) -> Result<Flow> {
    let rows = sequence.time * sequence.batch;
    match features {
        Features::Tokens(0) | Features::Values(0) => {
            Err(Error::invalid("the vocabulary, or the width of the inputs, must be at least 1"))
        }
        Features::Tokens(vocabulary) => {
            let ids = rec.input_ids(INPUT, rows)?;
            rec.bound(ids, vocabulary - 1);
            Flow::tokens(ids, sequence)
        }
        Features::Values(width) => Flow::values(rec.input(INPUT, [rows, width], false)?, sequence),
    }
}

/// The name of the input: ids, u32 \[T·B\], or values \[T·B, I\].
pub(super) const INPUT: &str = "x";

/// Layers one behind the other, which fit: what they read, their parameters, what they give.
pub struct Model {
    pub(super) features: Features,
    layers: Vec<Box<dyn Layer>>,
    lines: Vec<[String; 3]>,
    shapes: BTreeMap<String, Vec<usize>>,
    pub(super) width: usize,
    pub(super) form: Form,
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
        for (name, shape) in &self.shapes {
            let tensor = weights.get(name).ok_or_else(|| Error::Missing {
                tensor: name.clone(),
                place: "the weights".to_string(),
            })?;
            if tensor.shape() != shape.as_slice() {
                return Err(Error::shape(name, shape, tensor.shape()));
            }
        }
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

fn size(shape: &[usize]) -> u64 {
    shape.iter().map(|&n| n as u64).product()
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
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
