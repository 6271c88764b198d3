//! From a row a step to a row a sequence.

use super::{Flow, Layer};
use crate::error::{Error, Result};
use crate::kernel::{
    ColumnSum, Combine, MaxOverTime, MaxOverTimeBackward, MaxOverTimeParams, Operand, Rows,
    SelectRows, SelectRowsParams, VALID, View,
};
use crate::layer::{Direction, Merge};
use crate::schedule::{Recorder, Var};

/// The last step of each sequence: y(b) = x(length(b) − 1, b), \[B, C\]. Of a sequence without a step it is what stands
/// at step 0. Behind recurrent layers that go both ways it is refused, as their reverse direction has read nothing but that
/// step there: take [`BothEnds`] or [`MeanOverTime`].
#[derive(Clone, Copy, Debug)]
pub struct LastStep;

impl Layer for LastStep {
    fn name(&self) -> &str {
        "last_step"
    }

    fn describe(&self) -> String {
        "last step".to_string()
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let x = flow.steps()?;
        if matches!(flow.direction(), Some(Direction::Both(_) | Direction::Reverse)) {
            let what = "at the last step a reverse direction of the recurrent layers before has read that step \
                        alone: take both ends, or a mean";
            return Err(Error::invalid(what));
        }
        if flow.lengths()?.is_none() {
            let y = rec.tail(x, x.rows - flow.batch())?;
            return flow.pooled(y);
        }
        let x = rec.in_precision(x)?;
        let last = flow.last(rec)?;
        let y = rec.gather(x, last)?;
        flow.pooled(y)
    }
}

/// The last state of each direction of layers that go both ways, side by side: of columns \[→ C/2, ← C/2\] the first
/// half at the last step, the second at step 0, where the reverse direction has read all, \[B, C\]. Of a sequence
/// without a step it is what stands at step 0. Behind recurrent layers whose directions don't lie side by side it is
/// refused: of one direction, or a sum of both, half of the columns at step 0 have read that step alone.
#[derive(Clone, Copy, Debug)]
pub struct BothEnds;

impl Layer for BothEnds {
    fn name(&self) -> &str {
        "both_ends"
    }

    fn describe(&self) -> String {
        "both ends".to_string()
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let x = flow.steps()?;
        if !x.columns.is_multiple_of(2) {
            let what = format!("{} columns are no two directions side by side", x.columns);
            return Err(Error::invalid(what));
        }
        if flow.direction().is_some_and(|d| d != Direction::Both(Merge::Concat)) {
            let what = "both ends are of two directions side by side, and the recurrent layers before have \
                        none such: take the last step, or a mean";
            return Err(Error::invalid(what));
        }
        // As lengths say where the last step is.
        flow.lengths()?;
        let x = rec.in_precision(x)?;
        // The two halves of a row are rows of their own in the same place.
        let halves = Var { rows: 2 * x.rows, columns: x.columns / 2, ..x };
        let ends = flow.ends(rec)?;
        let y = rec.gather(halves, ends)?;
        let y = Var { rows: flow.batch(), columns: x.columns, ..y };
        flow.pooled(y)
    }
}

/// The largest over the steps of each sequence, column by column: y(b, c) = max over t < length(b) of x(t, b, c),
/// \[B, C\]; 0 of a sequence without a step.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool;

impl Layer for MaxPool {
    fn name(&self) -> &str {
        "max_over_time"
    }

    fn describe(&self) -> String {
        "largest over time".to_string()
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let x = flow.steps()?;
        let lengths = flow.lengths()?;
        let x = rec.in_precision(x)?;
        let [time, batch, columns] = [flow.time(), flow.batch(), x.columns];
        let y = rec.temporary("largest", [batch, columns])?;
        let places = rec.temporary_ids("places", batch * columns)?;
        let sizes = [time, batch, columns];
        let params = MaxOverTimeParams::new(sizes, x.view, y.view);
        let views: Vec<View> = [x.view, y.view, places].into_iter().chain(lengths).collect();
        rec.launch(MaxOverTime { params, lengths: lengths.is_some() }, &views)?;
        rec.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
            let params = MaxOverTimeParams::new(sizes, dx, dy);
            rec.launch(MaxOverTimeBackward { params, accumulate }, &[places, dy, dx])
        });
        flow.pooled(y)
    }
}

/// The mean over the steps of each sequence: y(b) = 1/length(b)·Σ over t < length(b) of x(t, b), \[B, C\]; 0 of a
/// sequence without a step.
#[derive(Clone, Copy, Debug)]
pub struct MeanOverTime;

impl Layer for MeanOverTime {
    fn name(&self) -> &str {
        "mean_over_time"
    }

    fn describe(&self) -> String {
        "mean over time".to_string()
    }

    fn record(&self, rec: &mut Recorder, flow: Flow) -> Result<Flow> {
        let x = flow.steps()?;
        let x = rec.in_precision(x)?;
        let [time, batch, columns] = [flow.time(), flow.batch(), x.columns];
        let words = batch * columns;
        // What each step of a row is multiplied with, the same for all steps and columns.
        let shares = rec.temporary_f32("shares", [batch, columns])?;
        let mut flags = None;
        if flow.lengths()?.is_some() {
            flags = flow.flags(rec)?;
            let own = flow.shares(rec)?;
            let ones = rec.temporary_f32("ones", [1, columns])?;
            rec.fill(ones.view, 1.0)?;
            let operands = [own.operand(), ones.operand(), shares.operand()];
            rec.product([batch, columns, 1], operands, None, None, false)?;
        } else {
            rec.fill(shares.view, 1.0 / time as f32)?;
        }
        let weigh = move |rec: &mut Recorder, [from, to]: [View; 2], accumulate: bool| {
            let params = SelectRowsParams {
                rows: (time * batch) as u32,
                columns: columns as u32,
                source_offset: from.offset as u32,
                target_offset: to.offset as u32,
                flag: VALID,
                wanted: VALID,
                places: 1,
                batch: batch as u32,
                first: 0,
                mask_offset: 0,
                value: 0.0,
            };
            let op = SelectRows { params, flags: flags.is_some(), mask: true, accumulate };
            let views: Vec<View> =
                [from, to].into_iter().chain(flags).chain([shares.view]).collect();
            rec.launch(op, &views)
        };
        let weighed = rec.temporary("weighed", [x.rows, columns])?;
        weigh(rec, [x.view, weighed.view], false)?;
        let y = rec.temporary_f32("mean", [batch, columns])?;
        let steps = Operand::new(weighed.view, words);
        let sum = ColumnSum::new([time, words], steps, None, y.view);
        rec.launch(sum, &[weighed.view, y.view])?;
        // dx(t, b) = dy(b)/length(b).
        rec.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
            let every: Var = rec.temporary("every", [time * batch, columns])?;
            let (source, target) = (Rows::new(dy, 0), Rows::new(every.view, words));
            rec.combine(Combine::copy([time, words], source, target), dy, every.view, None)?;
            weigh(rec, [every.view, dx], accumulate)
        });
        flow.pooled(y)
    }
}
