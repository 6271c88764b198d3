//! What flows through the steps of a layer, in outputs: see [`Recorder::with_scope`].

use super::sequence::pad;
use super::{Recurrent, Sequence};
use crate::error::Result;
use crate::kernel::View;
use crate::schedule::{Recorder, Recurrence, Var};
use std::ops::Range;

/// The outputs of one layer and direction under [`Recorder::with_scope`]. Gradients are there in training alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whose they are: `{stack}.l{layer}`, of the direction backwards `{stack}.l{layer}_reverse`.
    pub name: String,
}

impl Scope {
    /// Of a stack's layer and direction, counted from 0.
    pub fn of(stack: &Recurrent, [layer, direction]: [usize; 2]) -> Self {
        let suffix = if direction == 1 { "_reverse" } else { "" };
        Scope { name: format!("{}.l{layer}{suffix}", stack.name) }
    }

    /// The output with what each gate's words are behind each step \[T·B, K·H\], as
    /// [`Trace::gates`](super::Trace::gates).
    pub fn gates(&self) -> String {
        format!("scope.{}.gates", self.name)
    }

    /// Whether each row takes part in each step \[T·B, 1\]: 1, or 0, and then its gates mean nothing.
    pub fn valid(&self) -> String {
        format!("scope.{}.valid", self.name)
    }

    /// The states behind each step \[T, words of a state\], each in the layout of
    /// [`Recurrent::state_shape`].
    pub fn states(&self) -> String {
        format!("scope.{}.states", self.name)
    }

    /// The gradient that reaches the states behind each step from later steps \[T + 1, words of a state\]; the
    /// last row is that of the states before the first step of the direction's order. Row t is of time t.
    pub fn carry(&self) -> String {
        format!("scope.{}.carry", self.name)
    }

    /// The gradient that reaches h behind each step from the layers above and the loss \[T·B, P\].
    pub fn d_output(&self) -> String {
        format!("scope.{}.d_output", self.name)
    }

    /// The outputs, empty.
    pub(super) fn record(
        &self,
        rec: &mut Recorder,
        stack: &Recurrent,
        sequence: &Sequence,
        flags: Option<View>,
    ) -> Result<ScopeVars> {
        let (time, batch, h) = (sequence.time, sequence.batch, stack.hidden);
        let words = batch * stack.cell.state_words(h);
        let rows = time * batch;
        let gates = rec.output_buffer(&self.gates(), [rows, stack.cell.saved() * h])?;
        let states = rec.output_buffer(&self.states(), [time, words])?;
        let ones = rec.temporary_f32("ones", [rows, 1])?;
        rec.fill(ones.view, 1.0)?;
        let ones = Var { needs_gradient: false, ..ones };
        let valid = match flags {
            Some(flags) => pad(rec, ones, flags, stack.places(), 0.0)?,
            None => ones,
        };
        rec.output(&self.valid(), valid)?;
        let gradients = match rec.is_training() {
            false => None,
            true => {
                let carry = rec.output_buffer(&self.carry(), [time + 1, words])?;
                let d_output = rec.output_buffer(&self.d_output(), [rows, stack.cell.width(h)])?;
                Some((carry, d_output))
            }
        };
        Ok(ScopeVars { gates, states, gradients, batch })
    }
}

/// Where a layer and direction shows its steps.
pub(super) struct ScopeVars {
    gates: Var,
    states: Var,
    gradients: Option<(Var, Var)>,
    batch: usize,
}

/// Some rows of a matrix.
fn rows(matrix: Var, first: usize, count: usize) -> View {
    matrix.view.part(first * matrix.columns, count * matrix.columns)
}

fn copy(rec: &mut Recorder, from: View, to: View) -> Result<()> {
    rec.copy_rows([1, to.len], (from, to.len), (to, to.len))
}

impl ScopeVars {
    /// The gates of a segment and the states behind it, which is a single step.
    pub fn keep_forward(
        &self,
        rec: &mut Recorder,
        steps: &Range<usize>,
        run: &Recurrence,
        behind: Var,
    ) -> Result<()> {
        let count = steps.len() * self.batch;
        copy(rec, run.gates.view, rows(self.gates, steps.start * self.batch, count))?;
        copy(rec, behind.view, rows(self.states, steps.start, 1))
    }

    /// What backward of a segment starts from.
    pub fn keep_gradients(
        &self,
        rec: &mut Recorder,
        steps: &Range<usize>,
        d_output: Option<View>,
        carry: Var,
    ) -> Result<()> {
        let Some((all, outputs)) = self.gradients else { return Ok(()) };
        copy(rec, carry.view, rows(all, steps.start, 1))?;
        let target = rows(outputs, steps.start * self.batch, steps.len() * self.batch);
        match d_output {
            Some(d) => copy(rec, d, target),
            None => rec.fill(target, 0.0),
        }
    }

    /// What reaches the states before the first step.
    pub fn keep_initial(&self, rec: &mut Recorder, carry: Var) -> Result<()> {
        let Some((all, _)) = self.gradients else { return Ok(()) };
        copy(rec, carry.view, rows(all, all.rows - 1, 1))
    }
}
