//! One layer in one direction: its parameters, the input product, the recurrence, the gradients.

use super::input::InputProduct;
use super::parameters::Parameters;
use super::scope::{Scope, ScopeVars};
use super::segments::Segments;
use super::table::Input;
use super::{InitialState, Recurrent, Sequence, Trace, draw_mask};
use crate::error::{Error, Result};
use crate::kernel::{ColumnSum, Operand, SequenceRows, StepKind, View, Zoneout};
use crate::schedule::{Incoming, Recorder, Recurrence, RecurrentWeights, Var};
use std::ops::Range;

/// What all layers and directions of a stack are given.
pub(super) struct Around<'a> {
    pub sequence: Sequence,
    pub initial: &'a InitialState,
    pub segments: Segments,
}

/// What a direction computed.
pub(super) struct DirectionRun {
    pub output: Var,
    pub last: Option<Var>,
    pub trace: Trace,
}

/// One layer and direction as it is recorded: what its segments share.
pub(super) struct DirectionRecord {
    pub layer: Recurrent,
    pub parameters: Parameters,
    /// The recurrent weights after weight drop.
    pub hh: Option<Var>,
    /// The rows start anew at some steps.
    pub resets: bool,
    /// Batch norm's running state.
    running: String,
    /// The segments in the direction's order.
    order: Vec<Range<usize>>,
    segments: Segments,
    kind: StepKind,
    stream: u32,
    masks: Option<View>,
    weights: RecurrentWeights,
    reverse: bool,
    /// Backward starts with this layer and direction.
    is_last: bool,
    input: Input,
    batch: usize,
    scope: Option<ScopeVars>,
}

/// A segment's launches and buffers.
pub(super) struct Segment {
    pub run: Recurrence,
    pub rows: SequenceRows,
    product: InputProduct,
}

/// What is kept from forward to backward.
struct Kept {
    /// The states before each segment, in the direction's order; none before the first are zeros.
    borders: Vec<Option<Var>>,
    /// The last segment whole, where it is the first that backward comes to.
    last: Option<Segment>,
}

impl DirectionRecord {
    /// One segment forward: its final states go to `last`.
    fn segment(
        &self,
        rec: &mut Recorder,
        steps: &Range<usize>,
        initial: Option<Var>,
        last: Option<Var>,
    ) -> Result<Segment> {
        let layer = &self.layer;
        let size = [steps.len(), self.batch, layer.hidden];
        let mut run = Recurrence::new(rec, self.kind.clone(), size)?;
        run.reverse = self.reverse;
        run.heads = layer.heads;
        run.convolution = layer.convolution;
        run.zoneout = layer.zoneout;
        run.stream = self.stream;
        run.first = steps.start;
        run.weights = self.weights;
        run.flags = self.segments.flags();
        run.masks = self.masks;
        // Before the input product, which then stands beside the steps that may take it into theirs.
        run.set_initial(rec, initial.map(|s| s.view))?;
        let rows = self.segments.rows(steps.start, self.reverse);
        let product = InputProduct::record(
            rec,
            layer,
            [self.parameters.ih, self.parameters.b_ih],
            self.parameters.gain,
            &self.running,
            self.input.part(steps.start * self.batch, steps.len() * self.batch),
            run.gates.operand(),
            steps.len(),
            rows,
        )?;
        run.forward(rec)?;
        if let Some(last) = last {
            run.get_final(rec, last.view)?;
        }
        Ok(Segment { run, rows, product })
    }

    /// The output of all steps, and what is kept for backward. The final states go to `last`, or those behind
    /// so many steps.
    fn forward(
        &self,
        rec: &mut Recorder,
        source: Option<Var>,
        last: Var,
        behind: Option<usize>,
    ) -> Result<(Var, Kept)> {
        if let ([all], None) = (&self.order[..], &self.scope) {
            let segment = self.segment(rec, all, source, behind.is_none().then_some(last))?;
            if let Some(steps) = behind {
                segment.run.get_behind(rec, steps, last.view)?;
            }
            let output = segment.run.outputs();
            return Ok((output, Kept { borders: vec![source], last: Some(segment) }));
        }
        let shape = [last.rows, last.columns];
        let mut before = source;
        if source == Some(last) {
            // The carried state is written over at the end.
            let copy = rec.temporary_f32("border", shape)?;
            rec.copy(last, copy)?;
            before = Some(copy);
        }
        let width = self.layer.cell.width(self.layer.hidden);
        let time: usize = self.order.iter().map(Range::len).sum();
        let output = rec.temporary("output", [time * self.batch, width])?;
        let mut kept = Kept { borders: Vec::new(), last: None };
        let (mut done, mut ends_there) = (0, behind.is_none());
        for (i, steps) in self.order.iter().enumerate() {
            let next = match i + 1 == self.order.len() && behind.is_none() {
                true => last,
                false => rec.temporary_f32("border", shape)?,
            };
            let segment = self.segment(rec, steps, before, Some(next))?;
            done += steps.len();
            if behind == Some(done) {
                rec.copy(next, last)?;
                ends_there = true;
            }
            if let Some(scope) = &self.scope {
                scope.keep_forward(rec, steps, &segment.run, next)?;
            }
            let outputs = segment.run.outputs();
            rec.copy(outputs, output.rows(steps.start * self.batch, outputs.rows))?;
            kept.borders.push(before);
            before = Some(next);
            // What comes between here and its own backward needs no room to work in.
            kept.last = Some(segment).filter(|_| self.is_last);
        }
        match behind {
            Some(steps) if !ends_there => Err(Error::invalid(format!(
                "the state behind {steps} steps lies inside of a segment of '{}': allow more memory, or take \
                 as many new steps as gradients go back over",
                self.layer.name
            ))),
            _ => Ok((output, kept)),
        }
    }

    /// Gradients of everything, from the last segment of the direction's order to the first.
    fn backward(
        &self,
        rec: &mut Recorder,
        mut kept: Kept,
        [d_output, d_final]: [Option<View>; 2],
        source: Option<Var>,
    ) -> Result<()> {
        let dx = match self.input {
            Input::Rows(x) => rec.gradient_target(x)?,
            Input::Table(..) => None,
        };
        let mut from: Option<Incoming> = None;
        for (i, steps) in self.order.iter().enumerate().rev() {
            let segment = match kept.last.take() {
                Some(segment) => segment,
                None => self.segment(rec, steps, kept.borders[i], None)?,
            };
            let part = |view: View, columns: usize| {
                let row = self.batch * columns;
                view.part(steps.start * row, steps.len() * row)
            };
            let run = &segment.run;
            let incoming = match from {
                Some(from) => from,
                None => run.incoming(rec, None, d_final)?,
            };
            let d_output = d_output.map(|d| part(d, run.width()));
            if let Some(scope) = &self.scope {
                scope.keep_gradients(rec, steps, d_output, incoming.carry)?;
            }
            let incoming = Incoming { d_output, ..incoming };
            let swept =
                run.backward(rec, incoming, i > 0 || source.is_some() || self.scope.is_some())?;
            from = Some(Incoming { carry: swept.carry, ..incoming });
            self.recurrent_gradients(rec, &segment, swept)?;
            let dx = dx.map(|(view, accumulate)| (part(view, self.input.columns()), accumulate));
            segment.product.backward(rec, dx, i + 1 < self.order.len())?;
        }
        if let Input::Table(table, _) = self.input {
            let b = self.parameters.gain.is_none().then_some(self.parameters.b_ih);
            table.gradients(rec, self.parameters.ih, b)?;
        }
        let Some(Incoming { carry, unit, .. }) = from else { return Ok(()) };
        if let Some(scope) = &self.scope {
            scope.keep_initial(rec, carry)?;
        }
        if let Some(unit) = unit {
            self.unit_gradients(rec, unit)?;
        }
        match source {
            Some(source) => rec
                .add_gradient(source, Var { rows: source.rows, columns: source.columns, ..carry }),
            None => Ok(()),
        }
    }
}

impl Recurrent {
    fn step_kind(&self, rec: &Recorder, flags: bool) -> StepKind {
        let training = rec.is_training();
        let masks = match (self.recurrent_dropout > 0.0 && training, self.per_gate) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.cell.gates(),
        };
        let zoneout = match self.zoneout.iter().any(|&rate| rate > 0.0) {
            false => Zoneout::Off,
            true if training => Zoneout::Draw,
            true => Zoneout::Expect,
        };
        let columns = self.convolution.is_some();
        StepKind { masks, zoneout, columns, flags, ..StepKind::plain(self.cell.clone()) }
    }

    /// Records one layer and direction, segment by segment.
    pub(super) fn record_direction(
        &self,
        rec: &mut Recorder,
        place: [usize; 2],
        x: Var,
        around: &Around,
    ) -> Result<DirectionRun> {
        let Around { sequence, initial, segments } = around;
        let batch = sequence.batch;
        let parameters = self.record_parameters(rec, place)?;
        let kind = self.step_kind(rec, around.segments.flags().is_some());
        let stream = if kind.zoneout == Zoneout::Draw { rec.stream() } else { 0 };
        let masks = match kind.masks {
            0 => None,
            n => {
                let shape = [n * batch, self.cell.width(self.hidden)];
                Some(draw_mask(rec, shape, self.recurrent_dropout)?.view)
            }
        };
        // Weight drop has a gradient of its own way back to the weights.
        let hh = match parameters.hh {
            Some(hh) => {
                let hh = rec.dropout(hh, self.weight_drop)?;
                Some(rec.in_precision(hh)?)
            }
            None => None,
        };
        let weights = RecurrentWeights {
            hh: hh.map(|v| v.view),
            b: parameters.b_hh.map(|v| v.view),
            hr: parameters.hr.map(|v| v.view),
            unit: parameters.gather_by_unit(rec, self)?,
        };
        let reverse = self.direction.is_reverse(place[1]);
        let bias = parameters.gain.is_none().then_some(parameters.b_ih);
        let input = Input::record(rec, self, x, parameters.ih, bias)?;
        let this = DirectionRecord {
            layer: self.clone(),
            running: format!("{}.{}.running", self.name, self.parameter_name("batch_norm", place)),
            order: segments.in_order(reverse),
            segments: segments.clone(),
            parameters,
            kind,
            stream,
            masks,
            hh,
            weights,
            reverse,
            is_last: place == [self.layers - 1, self.direction.count() - 1],
            input,
            batch,
            scope: match rec.is_scoped() {
                true => {
                    Some(Scope::of(self, place).record(rec, self, sequence, segments.flags())?)
                }
                false => None,
            },
            resets: sequence.resets.is_some(),
        };

        let shape = self.state_shape(batch);
        let number = place[0] * self.direction.count() + place[1];
        let (source, carried) = match initial {
            InitialState::Zero => (self.learned(rec, &this.parameters, batch)?, None),
            InitialState::Given(given) => (Some(given[number]), None),
            InitialState::Carried(prefix) | InitialState::CarriedFrom(prefix, _) => {
                let suffix = if place[1] == 1 { "_reverse" } else { "" };
                let state = rec.state(&format!("{prefix}.l{}{suffix}", place[0]), shape)?;
                (Some(state), Some(state))
            }
        };
        let last = match carried {
            Some(state) => state,
            None => rec.temporary_f32("final", shape)?,
        };
        let behind = match initial {
            InitialState::CarriedFrom(_, steps) => Some(*steps),
            _ => None,
        };
        let (output, kept) = this.forward(rec, source, last, behind)?;
        let trace = Trace {
            name: self.name.clone(),
            kept: match (&kept.last, around.segments.in_order(reverse).len()) {
                (Some(segment), 1) if !rec.is_scoped() => {
                    Some((segment.run.states, segment.run.gates))
                }
                _ => None,
            },
        };
        rec.on_backward(move |rec| {
            let (d_output, d_final) = (rec.gradient(output), rec.gradient(last));
            if d_output.is_none() && d_final.is_none() {
                return Ok(());
            }
            this.backward(rec, kept, [d_output, d_final], source.filter(|s| s.needs_gradient))
        });
        Ok(DirectionRun { output, last: carried.is_none().then_some(last), trace })
    }

    /// The learned initial states, a copy for each row.
    fn learned(&self, rec: &mut Recorder, from: &Parameters, batch: usize) -> Result<Option<Var>> {
        let Some(parameter) = from.initial else { return Ok(None) };
        let [rows, columns] = self.state_shape(batch);
        let all = rec.temporary_f32("initial", [rows, columns])?;
        let (width, mut pieces) = (self.cell.width(self.hidden), Vec::new());
        let (mut at, mut word) = (0, 0);
        for state in 0..self.cell.states() {
            let n = if state == 0 { width } else { self.hidden };
            let (source, target) = (parameter.view.part(word, n), all.view.part(at, batch * n));
            rec.copy_rows([batch, n], (source, 0), (target, n))?;
            pieces.push((at, word, n));
            (at, word) = (at + batch * n, word + n);
        }
        rec.on_backward(move |rec| {
            let Some(d) = rec.gradient(all) else { return Ok(()) };
            let Some((target, accumulate)) = rec.gradient_target(parameter)? else { return Ok(()) };
            for &(at, word, n) in &pieces {
                let rows = Operand::new(d.part(at, batch * n), n);
                let op = ColumnSum::new([batch, n], rows, None, target.part(word, n));
                rec.launch(ColumnSum { accumulate, ..op }, &[d, target])?;
            }
            Ok(())
        });
        Ok(Some(all))
    }
}
