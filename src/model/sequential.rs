//! Layers one behind the other.

use super::layers::form;
use super::whole::{grouped, size};
use super::{BothEnds, Dropout, Flow, LastStep, Layer, MaxPool, MeanOverTime, Model, Stack};
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::kernel::Activation;
use crate::layer::{Embedding, Linear, Recurrent, RecurrentInit, Sequence};
use crate::schedule::Recorder;
use std::collections::BTreeMap;

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

    /// From steps to the last state of either direction; refused behind layers of one direction ([`BothEnds`]).
    pub fn both_ends(self) -> Self {
        self.layer(BothEnds)
    }

    /// From steps to the largest of each column.
    pub fn max_over_time(self) -> Self {
        self.layer(MaxPool)
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
        // A list of the parameters of a stack of far too many layers would not fit in memory.
        layer.check()?;
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
