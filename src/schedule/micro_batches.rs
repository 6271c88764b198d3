//! Gradients that add up over micro-batches.

use super::{Recorder, Var};
use crate::error::{Error, Result};
use crate::kernel::{Combine, Rows};
use std::collections::BTreeMap;

/// The micro-batches of a recording.
pub(super) struct MicroBatches {
    count: usize,
    /// Which one is being recorded; none where there is one alone, or besides.
    number: Option<usize>,
    /// Outputs by their plain names.
    outputs: Vec<(String, Var)>,
    /// States that earlier ones asked for, and those that this one did.
    earlier: BTreeMap<String, Var>,
    states: Vec<(String, Var)>,
}

impl Default for MicroBatches {
    fn default() -> Self {
        let (outputs, states) = (Vec::new(), Vec::new());
        MicroBatches { count: 1, number: None, outputs, earlier: BTreeMap::new(), states }
    }
}

impl MicroBatches {
    /// The name of an input or output of the one that is being recorded.
    pub(super) fn name(&self, name: &str) -> String {
        self.number.map_or_else(|| name.to_string(), |number| format!("{name}.{number}"))
    }

    /// The state of that name of an earlier one, once.
    pub(super) fn state(&mut self, name: &str) -> Option<Var> {
        self.earlier.remove(name)
    }

    pub(super) fn keep_state(&mut self, name: &str, var: Var) {
        if self.number.is_some() {
            self.states.push((name.to_string(), var));
        }
    }

    pub(super) fn keep_output(&mut self, name: &str, var: Var) {
        if self.number.is_some() {
            self.outputs.push((name.to_string(), var));
        }
    }
}

/// The name of an input or output of micro-batch `number` (from 0) of `count`.
pub fn micro_batch_name(name: &str, number: usize, count: usize) -> String {
    let number = (count > 1).then_some(number);
    MicroBatches { number, ..MicroBatches::default() }.name(name)
}

impl Recorder {
    /// Records N = `count` micro-batches, whose gradients add up to those of one batch: `record` for each of
    /// them in turn, forward with its loss, and after each its backward, so that temporary memory is that of
    /// one. [`Update::record`](crate::optim::Update::record) takes the mean over them.
    ///
    /// - Inputs are a micro-batch's own, named `NAME.n` (n from 0; [`micro_batch_name`]).
    /// - Outputs too; of those that all have, such as [`LOSS`](crate::loss::LOSS), the mean lies in the
    ///   output `NAME`.
    /// - A state that a later micro-batch asks for again is the same one: micro-batches with the same name of
    ///   a carried state are windows one after another of the same streams, those with names of their own
    ///   are other streams.
    ///
    /// Micro-batches weigh the same, whatever their sizes. One alone has plain names. What was recorded before
    /// is shared by all.
    ///
    /// # Errors
    /// No micro-batch at all; micro-batches were recorded before; what `record` and backward refuse.
    pub fn micro_batches(
        &mut self,
        count: usize,
        mut record: impl FnMut(&mut Recorder, usize) -> Result<()>,
    ) -> Result<()> {
        if count == 0 {
            return Err(Error::invalid("the number of micro-batches must be at least 1"));
        }
        if self.micro.count > 1 {
            return Err(Error::invalid("micro-batches were recorded before"));
        }
        if count > 1 {
            // Several take turns for the sake of memory.
            self.set_frugal();
        }
        // What all share has its gradient when all have given theirs.
        let shared = std::mem::take(&mut self.tape);
        self.micro = MicroBatches { count, ..MicroBatches::default() };
        for number in 0..count {
            self.micro.number = (count > 1).then_some(number);
            record(self, number)?;
            self.backward()?;
            let states = std::mem::take(&mut self.micro.states);
            self.micro.earlier.extend(states);
        }
        let outputs = std::mem::take(&mut self.micro.outputs);
        // What is asked for later is no micro-batch's.
        self.micro = MicroBatches { count, ..MicroBatches::default() };
        self.tape = shared;
        self.backward()?;
        for (place, (name, first)) in outputs.iter().enumerate() {
            let parts: Vec<Var> = outputs.iter().filter(|o| o.0 == *name).map(|o| o.1).collect();
            let is_first = outputs.iter().position(|o| o.0 == *name) == Some(place);
            let alike = parts.iter().all(|part| part.view.len == first.view.len);
            if !is_first || !alike || parts.len() != count {
                continue;
            }
            let mean = self.output_buffer(name, [first.rows, first.columns])?;
            let row = |var: Var| Rows::new(var.view, var.view.len);
            for (number, part) in parts.into_iter().enumerate() {
                let op = Combine::copy([1, mean.view.len], row(part), row(mean));
                let op = op.scaled(1.0 / count as f32).accumulating(number > 0);
                self.combine(op, part.view, mean.view, None)?;
            }
        }
        Ok(())
    }

    /// How many micro-batches the gradients are sums of.
    pub fn micro_batch_count(&self) -> usize {
        self.micro.count
    }
}
