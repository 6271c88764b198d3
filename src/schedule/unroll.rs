//! A recurrent layer over time, with the step strategy: one launch a time step.

use super::{Recorder, Var};
use crate::error::Result;
use crate::kernel::{CellKind, StepBackward, StepForward, StepParams, View};

/// The recurrence of one layer over T steps: everything but the input product.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence {
    /// The equations.
    pub cell: CellKind,
    /// T.
    pub time: usize,
    /// B.
    pub batch: usize,
    /// H.
    pub hidden: usize,
    /// R \[G·H, H\].
    pub w_hh: Var,
    /// b′ \[1, G·H\].
    pub b_hh: Var,
    /// \[T·B, K·H\]: the input product, then the activations, then the gate gradients.
    pub gates: Var,
    /// \[S·(T+1)·B, H\]: every state of every step, slot 0 the initial one.
    pub states: Var,
}

impl Recurrence {
    /// Buffers for a layer whose weights are given.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn new(
        rec: &mut Recorder,
        cell: CellKind,
        [time, batch, hidden]: [usize; 3],
        w_hh: Var,
        b_hh: Var,
    ) -> Result<Self> {
        let gates = rec.temporary("gates", [time * batch, cell.saved() * hidden])?;
        let states = rec.temporary("states", [cell.states() * (time + 1) * batch, hidden])?;
        Ok(Recurrence { cell, time, batch, hidden, w_hh, b_hh, gates, states })
    }

    /// Words of one state of one step.
    fn words(&self) -> usize {
        self.batch * self.hidden
    }

    /// h after every step: \[T·B, H\].
    pub fn outputs(&self) -> Var {
        let rows = self.states.rows(self.batch, self.time * self.batch);
        Var { needs_gradient: self.states.needs_gradient, ..rows }
    }

    /// h before every step: \[T·B, H\].
    pub fn previous(&self) -> Var {
        self.states.rows(0, self.time * self.batch)
    }

    /// All states of slot `t`: S rows of B·H, with the distance from one to the next.
    fn slot(&self, t: usize) -> (View, usize) {
        let stride = (self.time + 1) * self.words();
        let offset = t * self.words();
        let len = (self.cell.states() - 1) * stride + self.words();
        (self.states.view.part(offset, len), stride)
    }

    /// Initial states from `source` \[S·B, H\], or zeros.
    ///
    /// # Errors
    /// `source` lies in the states' buffer.
    pub fn set_initial(&self, rec: &mut Recorder, source: Option<Var>) -> Result<()> {
        match source {
            Some(source) => rec.copy_rows(
                [self.cell.states(), self.words()],
                (source.view, self.words()),
                self.slot(0),
            ),
            None => {
                let stride = (self.time + 1) * self.words();
                for state in 0..self.cell.states() {
                    rec.fill(self.states.view.part(state * stride, self.words()), 0.0)?;
                }
                Ok(())
            }
        }
    }

    /// Final states into `target` \[S·B, H\].
    ///
    /// # Errors
    /// `target` lies in the states' buffer.
    pub fn get_final(&self, rec: &mut Recorder, target: Var) -> Result<()> {
        rec.copy_rows(
            [self.cell.states(), self.words()],
            self.slot(self.time),
            (target.view, self.words()),
        )
    }

    /// T launches: states from the input products in `gates`.
    ///
    /// # Errors
    /// Weights of another shape.
    pub fn forward(&self, rec: &mut Recorder) -> Result<()> {
        let shape = [self.time, self.batch, self.hidden];
        let (w, b) = (self.w_hh.view, self.b_hh.view);
        let params = StepParams::new(shape, self.gates.view, w, Some(b), None);
        for t in 0..self.time {
            let op = StepForward { params: params.at(t), cell: self.cell };
            rec.launch(op, &[self.gates.view, w, b, self.states.view])?;
        }
        Ok(())
    }

    /// T launches: gate gradients over the activations in `gates`. `d_final` \[S·B, H\] reaches the
    /// final states. With `initial`, one launch more leaves the initial states' gradient in the
    /// matrix that is returned.
    ///
    /// # Errors
    /// Gradients of another shape.
    pub fn backward(
        &self,
        rec: &mut Recorder,
        d_output: Option<View>,
        d_final: Option<View>,
        initial: bool,
    ) -> Result<Var> {
        let shape = [self.time, self.batch, self.hidden];
        let carry = rec.temporary("carry", [self.cell.states() * self.batch, self.hidden])?;
        match d_final {
            Some(view) => rec.copy(Var { view, ..carry }, carry)?,
            None => rec.fill(carry.view, 0.0)?,
        }
        let (gates, w) = (self.gates.view, self.w_hh.view);
        let params = StepParams::new(shape, gates, w, None, d_output);
        for step in (1..=self.time).rev() {
            let op = StepBackward {
                params: params.at(step),
                cell: self.cell,
                d_output: d_output.is_some(),
            };
            let mut buffers = vec![gates, w, carry.view, self.states.view];
            buffers.extend(d_output);
            rec.launch(op, &buffers)?;
        }
        if initial {
            let op = StepBackward { params: params.at(0), cell: self.cell, d_output: false };
            rec.launch(op, &[gates, w, carry.view])?;
        }
        Ok(carry)
    }
}
