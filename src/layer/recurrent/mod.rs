//! A stack of recurrent layers with all options of docs/operator.md.

mod direction;
mod gradients;
mod init;
mod input;
mod parameters;
mod scope;
mod segments;
mod sequence;
mod table;

pub use init::{ForgetBias, RecurrentInit, WeightInit};
pub use scope::Scope;
pub use segments::Memory;
pub use sequence::{Padding, Sequence, pack_indices};

use super::positive;
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::kernel::{Combine, Convolution, Fill, Rows, View, With};
use crate::schedule::{Recorder, Var};
use direction::Around;
use table::table_bytes;

/// The most launches of one pass, over all layers.
const MOST_STEPS: usize = 1 << 21;
/// L layers of one cell, each over the outputs of the one below. All fields but the first four have
/// a neutral value in [`Recurrent::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// The parameters are `{name}.weight_ih_l0` and so on, PyTorch's names.
    pub name: String,
    /// The equations with their options.
    pub cell: Cell,
    /// I, the width of the first layer's input; with a convolution its channels.
    pub input: usize,
    /// H; with a convolution the cell's channels.
    pub hidden: usize,
    /// L.
    pub layers: usize,
    /// Forward, reverse, or both.
    pub direction: Direction,
    /// The rate of dropout on the outputs of all layers but the last, drawn anew each step.
    pub dropout: f32,
    /// The rate of dropout on every layer's input, one mask a sequence (Gal and Ghahramani 2016).
    pub input_dropout: f32,
    /// The rate of dropout on h in the recurrent product, one mask a sequence.
    pub recurrent_dropout: f32,
    /// That mask is another one for each gate.
    pub per_gate: bool,
    /// The rate of dropout on the recurrent weights, drawn anew each run (Merity 2017).
    pub weight_drop: f32,
    /// Zoneout's rates for h and for the other states (Krueger 2017).
    pub zoneout: [f32; 2],
    /// Block-diagonal recurrent weights: the number of blocks. H is IndRNN.
    pub heads: usize,
    /// Both products are convolutions; the batch's rows are B·S then.
    pub convolution: Option<Convolution>,
    /// Batch norm of the input product, with this ε (Laurent 2016).
    pub batch_norm: Option<f32>,
    /// Every layer but the first adds the output below to its own, where the widths are equal.
    pub residual: bool,
    /// Every layer but the first sees the network's input beside the output below.
    pub skip: bool,
    /// Initial states are parameters `{name}.initial_l0` …, the same for all rows: h, then the other states. They
    /// start at 0, an sLSTM's n at 1, as no gradient flows into an empty state. States that are carried have none.
    pub learned_initial: bool,
    /// What is kept between forward and backward.
    pub memory: Memory,
}

/// In which order a layer goes through time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From the last step to the first.
    Reverse,
    /// Both, with weights of their own, put together at each step.
    Both(Merge),
}

/// How the outputs of the two directions are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Side by side, forward first.
    Concat,
    /// Their sum.
    Sum,
    /// Their product.
    Mul,
    /// Half their sum.
    Average,
}

impl Direction {
    /// D.
    pub fn count(self) -> usize {
        if matches!(self, Direction::Both(_)) { 2 } else { 1 }
    }

    /// Whether direction `d` of the layer goes backwards.
    pub fn is_reverse(self, d: usize) -> bool {
        self == Direction::Reverse || d == 1
    }
}

/// Where a stack's initial states come from.
#[derive(Clone, Debug)]
pub enum InitialState {
    /// Zeros, or the learned ones of a stack that has them.
    Zero,
    /// One matrix for each layer and direction (directions inner), of [`Recurrent::state_shape`].
    /// Gradients reach those that need one.
    Given(Vec<Var>),
    /// States of the store named `{prefix}.l{layer}` (`{prefix}.l{layer}_reverse`): the final state
    /// of a run is the initial state of the next, on the device (truncated backpropagation through
    /// time). Zeros at first; a stack with learned initial states is refused, as no run could tell whether a row's
    /// state is its first ([`LiveBatch`](crate::live::LiveBatch) can, and starts from them).
    Carried(String),
    /// The same with the state after so many steps in the direction's order in the place of the final one: the
    /// next run goes over the others once more. In segments ([`Memory`]) one has to end there.
    CarriedFrom(String, usize),
}

/// What a stack computes.
#[derive(Clone, Debug)]
pub struct RecurrentOutput {
    /// The last layer's output at every step, \[T·B, D·P\] (P where directions are not concatenated).
    pub output: Var,
    /// Final states for each layer and direction, of [`Recurrent::state_shape`]: h, then the other
    /// states. Empty for carried states.
    pub finals: Vec<Var>,
    /// Which rows take part in which steps, \[T,B\], where there are lengths, a mask or resets.
    pub flags: Option<View>,
    /// What each layer and direction kept, for [`Trace::states`] and [`Trace::gates`].
    pub traces: Vec<Trace>,
}

/// Everything that one layer and direction computed at each step.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The stack, for messages.
    name: String,
    /// States and gates, where they are kept.
    kept: Option<(Var, Var)>,
}

impl Trace {
    fn kept(&self) -> Result<(Var, Var)> {
        self.kept.ok_or_else(|| {
            Error::invalid(format!(
                "'{}' computes in segments and keeps no trace of all steps",
                self.name
            ))
        })
    }

    /// All states before and behind each step: h \[T+1,B,P\], then the others \[S−1,T+1,B,H\], flat.
    /// Slot t lies before step t in forward order, slot t + 1 before step t in reverse order.
    ///
    /// # Errors
    /// A taken name, or a stack that keeps only the borders of segments.
    pub fn states(&self, rec: &mut Recorder, name: &str) -> Result<Var> {
        let (states, _) = self.kept()?;
        rec.output(name, states)
    }

    /// The words kept of each gate \[T·B, K·H\]: activations i, f, g, o and so on. Rows of steps that
    /// take no part mean nothing. To be asked for before backward is recorded, which puts gradients in
    /// their place.
    ///
    /// # Errors
    /// A taken name, or a stack that keeps only the borders of segments.
    pub fn gates(&self, rec: &mut Recorder, name: &str) -> Result<Var> {
        let (_, gates) = self.kept()?;
        rec.output(name, gates)
    }
}

impl Recurrent {
    /// One layer, forward, without options.
    pub fn new(
        name: impl Into<String>,
        cell: impl Into<Cell>,
        input: usize,
        hidden: usize,
    ) -> Self {
        Recurrent {
            name: name.into(),
            cell: cell.into(),
            input,
            hidden,
            layers: 1,
            direction: Direction::Forward,
            dropout: 0.0,
            input_dropout: 0.0,
            recurrent_dropout: 0.0,
            per_gate: false,
            weight_drop: 0.0,
            zoneout: [0.0; 2],
            heads: 1,
            convolution: None,
            batch_norm: None,
            residual: false,
            skip: false,
            learned_initial: false,
            memory: Memory::Keep,
        }
    }

    /// The width of a layer's output: D·P where directions are concatenated, else P.
    pub fn output_width(&self) -> usize {
        let width = self.cell.width(self.hidden);
        if self.direction == Direction::Both(Merge::Concat) { 2 * width } else { width }
    }

    /// The input width of a layer.
    pub fn layer_input(&self, layer: usize) -> usize {
        match (layer, self.skip) {
            (0, _) => self.input,
            (_, false) => self.output_width(),
            (_, true) => self.input + self.output_width(),
        }
    }

    /// The matrix that holds one layer's and direction's states: \[S·B, H\], h first; one row
    /// \[1, B·(P + (S−1)·H)\] where h is projected to another width.
    pub fn state_shape(&self, batch: usize) -> [usize; 2] {
        if self.cell.width(self.hidden) == self.hidden {
            [self.cell.states() * batch, self.hidden]
        } else {
            [1, batch * self.cell.state_words(self.hidden)]
        }
    }

    /// Places that share a row's flags: S of a convolution, else 1.
    fn places(&self) -> usize {
        self.convolution.map_or(1, |c| c.places())
    }

    /// Whether all options make sense, alone and together.
    ///
    /// # Errors
    /// The size, rate or option that does not, by name.
    pub fn check(&self) -> Result<()> {
        positive("the input size", self.input)?;
        positive("the hidden size", self.hidden)?;
        positive("the number of layers", self.layers)?;
        positive("the number of heads", self.heads)?;
        self.check_sizes()?;
        self.cell.check()?;
        for (rate, what) in [
            (self.dropout, "dropout"),
            (self.input_dropout, "input dropout"),
            (self.recurrent_dropout, "recurrent dropout"),
            (self.weight_drop, "weight drop"),
            (self.zoneout[0], "zoneout of h"),
            (self.zoneout[1], "zoneout of the other states"),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return Err(Error::invalid(format!(
                    "the rate of {what} must be in [0, 1), not {rate}"
                )));
            }
        }
        let refuse = |what: &str| {
            Err(Error::invalid(format!("'{}' ({}): {what}", self.name, self.cell.name())))
        };
        let (scan, recurrent) = (self.cell.kind.is_scan(), self.recurrent_dropout > 0.0);
        if scan && (recurrent || self.weight_drop > 0.0 || self.heads > 1) {
            return refuse(
                "the cell has no recurrent product: no recurrent dropout, weight drop or heads",
            );
        }
        if self.cell.layer_norm.is_some() && self.batch_norm.is_some() {
            return refuse("layer norm and batch norm would both normalise the input product");
        }
        let sizes = [self.hidden, self.cell.width(self.hidden)];
        if sizes.iter().any(|size| !size.is_multiple_of(self.heads)) {
            return refuse("the heads must divide the units of h (hidden, or projected) evenly");
        }
        if self.batch_norm.is_some_and(|e| !(e > 0.0 && e.is_finite())) {
            return refuse("batch norm's epsilon must be positive");
        }
        if let Some(convolution) = &self.convolution {
            let [map, kernel] = [convolution.map, convolution.kernel];
            if map.contains(&0) || kernel.iter().any(|k| k % 2 == 0) {
                return refuse(
                    "a convolution needs a map of at least one place and odd kernel sides",
                );
            }
        }
        Ok(())
    }

    /// Records the stack over x \[T·B, I\], time slowest (with a convolution \[T·B·S, I\]).
    ///
    /// # Errors
    /// What [`Recurrent::check`] refuses; an input, states or flags of another shape; carried states of a stack that
    /// learns its initial ones.
    pub fn record(
        &self,
        rec: &mut Recorder,
        x: Var,
        sequence: impl Into<Sequence>,
        initial: &InitialState,
    ) -> Result<RecurrentOutput> {
        let sequence = sequence.into();
        self.check()?;
        let [time, batch] = sequence.check(self.places())?;
        let steps = if self.cell.kind.is_scan() { 1 } else { time };
        if steps.saturating_mul(self.layers * self.direction.count()) > MOST_STEPS {
            return Err(Error::invalid(format!(
                "{} layers over {time} steps would be more than {MOST_STEPS} launches a pass; \
                 use fewer layers or a shorter sequence",
                self.layers
            )));
        }
        let want = [time * batch, self.input];
        if [x.rows, x.columns] != want {
            return Err(Error::shape(
                format!("input of '{}'", self.name),
                &want,
                &[x.rows, x.columns],
            ));
        }
        if let InitialState::Given(given) = initial {
            self.check_given(given, batch)?;
        }
        if let (InitialState::Carried(_) | InitialState::CarriedFrom(..), true) =
            (initial, self.learned_initial)
        {
            return Err(Error::invalid(format!(
                "'{}': states that are carried from run to run begin at zeros, and learned initial states would \
                 never be read: leave out one of the two",
                self.name
            )));
        }
        let flags = sequence.record_flags_of(rec, self.places())?;
        let table = table_bytes(rec, self, x);
        let segments = self.segments(&sequence, flags, rec.precision(), rec.is_scoped(), table)?;
        if self.memory != Memory::Keep {
            rec.set_frugal();
        }
        let around = Around { sequence, initial, segments };
        let x = rec.in_precision(x)?;
        let mut output = x;
        let (mut finals, mut traces) = (Vec::new(), Vec::new());
        for layer in 0..self.layers {
            let below = output;
            let mut input = output;
            if layer > 0 {
                if self.skip {
                    input = concat(rec, x, input)?;
                }
                input = rec.dropout(input, self.dropout)?;
            }
            input = self.mask_input(rec, input, batch)?;
            let mut outputs = Vec::new();
            for d in 0..self.direction.count() {
                let run = self.record_direction(rec, [layer, d], input, &around)?;
                outputs.push(run.output);
                finals.extend(run.last);
                traces.push(run.trace);
            }
            output = match (self.direction, &outputs[..]) {
                (Direction::Both(merge), &[a, b]) => merge_outputs(rec, merge, a, b)?,
                _ => outputs[0],
            };
            if self.residual && layer > 0 && below.columns == output.columns {
                output = sum(rec, output, below, 1.0)?;
            }
        }
        if let (Some(flags), Padding::Value(value)) = (flags, sequence.padding) {
            output = sequence::pad(rec, output, flags, self.places(), value)?;
        }
        Ok(RecurrentOutput { output, finals, flags, traces })
    }

    fn check_given(&self, given: &[Var], batch: usize) -> Result<()> {
        let count = self.layers * self.direction.count();
        if given.len() != count {
            let what = "initial states (layers times directions)";
            return Err(Error::shape(what, &[count], &[given.len()]));
        }
        for state in given {
            let want = self.state_shape(batch);
            if [state.rows, state.columns] != want {
                return Err(Error::shape("initial state", &want, &[state.rows, state.columns]));
            }
        }
        Ok(())
    }

    /// One mask for all steps on a layer's input.
    fn mask_input(&self, rec: &mut Recorder, x: Var, batch: usize) -> Result<Var> {
        if self.input_dropout == 0.0 || !rec.is_training() {
            return Ok(x);
        }
        let mask = draw_mask(rec, [batch, x.columns], self.input_dropout)?;
        let (time, words) = (x.rows / batch, batch * x.columns);
        let y = rec.temporary("masked", [x.rows, x.columns])?;
        let times = move |rec: &mut Recorder, from, to, accumulate| {
            let op = Combine::copy([time, words], Rows::new(from, words), Rows::new(to, words));
            let op = op.and(With::Product, Rows::new(mask.view, 0)).accumulating(accumulate);
            rec.combine(op, from, to, Some(mask.view))
        };
        times(rec, x.view, y.view, false)?;
        rec.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
            times(rec, dy, dx, accumulate)
        });
        Ok(y)
    }
}

/// Multipliers 0 or 1/(1−rate), drawn anew for each run.
fn draw_mask(rec: &mut Recorder, shape: [usize; 2], rate: f32) -> Result<Var> {
    let ones = rec.temporary_f32("ones", shape)?;
    rec.launch(Fill::new(ones.view, 1.0), &[ones.view])?;
    let mask = rec.dropout(Var { needs_gradient: false, ..ones }, rate)?;
    Ok(Var { needs_gradient: false, ..mask })
}

/// scale·(a + b).
fn sum(rec: &mut Recorder, a: Var, b: Var, scale: f32) -> Result<Var> {
    let y = rec.temporary("sum", [a.rows, a.columns])?;
    let n = a.view.len;
    let row = move |view| Rows::new(view, n);
    let op = Combine::copy([1, n], row(a.view), row(y.view));
    let op = op.and(With::Sum, row(b.view)).scaled(scale);
    rec.combine(op, a.view, y.view, Some(b.view))?;
    rec.on_backward(move |rec| {
        let Some(dy) = rec.gradient(y) else { return Ok(()) };
        for operand in [a, b] {
            if let Some((d, accumulate)) = rec.gradient_target(operand)? {
                let op = Combine::copy([1, n], row(dy), row(d)).scaled(scale);
                rec.combine(op.accumulating(accumulate), dy, d, None)?;
            }
        }
        Ok(())
    });
    Ok(y)
}

/// a and b side by side.
pub(crate) fn concat(rec: &mut Recorder, a: Var, b: Var) -> Result<Var> {
    let columns = a.columns + b.columns;
    let y = rec.temporary("concat", [a.rows, columns])?;
    let halves = [(a, 0), (b, a.columns)];
    for (part, first) in halves {
        let target = y.view.part(first, y.view.len - first);
        let shape = [part.rows, part.columns];
        rec.copy_rows(shape, (part.view, part.columns), (target, columns))?;
    }
    rec.on_backward(move |rec| {
        let Some(dy) = rec.gradient(y) else { return Ok(()) };
        for (part, first) in halves {
            if let Some((d, accumulate)) = rec.gradient_target(part)? {
                let from = dy.part(first, dy.len - first);
                let (source, target) = (Rows::new(from, columns), Rows::new(d, part.columns));
                let op = Combine::copy([part.rows, part.columns], source, target);
                rec.combine(op.accumulating(accumulate), from, d, None)?;
            }
        }
        Ok(())
    });
    Ok(y)
}

fn merge_outputs(rec: &mut Recorder, merge: Merge, a: Var, b: Var) -> Result<Var> {
    match merge {
        Merge::Concat => concat(rec, a, b),
        Merge::Sum => sum(rec, a, b, 1.0),
        Merge::Average => sum(rec, a, b, 0.5),
        Merge::Mul => {
            let y = rec.temporary("product", [a.rows, a.columns])?;
            let n = a.view.len;
            let times = move |rec: &mut Recorder, [p, q, to]: [_; 3], accumulate| {
                let row = |view| Rows::new(view, n);
                let op = Combine::copy([1, n], row(p), row(to)).and(With::Product, row(q));
                rec.combine(op.accumulating(accumulate), p, to, Some(q))
            };
            times(rec, [a.view, b.view, y.view], false)?;
            rec.on_backward(move |rec| {
                let Some(dy) = rec.gradient(y) else { return Ok(()) };
                for (operand, other) in [(a, b), (b, a)] {
                    if let Some((d, accumulate)) = rec.gradient_target(operand)? {
                        times(rec, [dy, other.view, d], accumulate)?;
                    }
                }
                Ok(())
            });
            Ok(y)
        }
    }
}
