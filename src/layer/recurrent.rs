//! A stack of recurrent layers.

use super::{Initializer, insert, positive};
use crate::cell::{CellKind, parameters};
use crate::error::{Error, Result};
use crate::kernel::Operand;
use crate::schedule::{Recorder, Recurrence, Var};
use crate::tensor::NamedTensors;

/// The most steps, over all layers, that are unrolled into one recording.
const MOST_STEPS: usize = 1 << 21;

/// L layers of one cell, each over the outputs of the one below, with dropout between them.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// The parameters are `{name}.weight_ih_l0` and so on, PyTorch's names.
    pub name: String,
    /// The equations.
    pub cell: CellKind,
    /// I, the width of the first layer's input.
    pub input: usize,
    /// H.
    pub hidden: usize,
    /// L.
    pub layers: usize,
    /// The rate of dropout on the outputs of all layers but the last.
    pub dropout: f32,
}

/// Where a stack's initial states come from.
#[derive(Clone, Debug)]
pub enum InitialState {
    /// Zeros.
    Zero,
    /// One matrix a layer, \[S·B, H\]: h, then c. Gradients reach those that need one.
    Given(Vec<Var>),
    /// States of the store named `{prefix}.l{layer}`: the final state of a run is the initial
    /// state of the next, on the device (truncated backpropagation through time). Zeros at first.
    Carried(String),
}

/// What a stack computes.
#[derive(Clone, Debug)]
pub struct RecurrentOutput {
    /// The last layer's h at every step, \[T·B, H\].
    pub output: Var,
    /// Each layer's final states, \[S·B, H\]: h, then c. Empty for carried states.
    pub finals: Vec<Var>,
}

impl Recurrent {
    /// Initial weights as PyTorch's: U(±1/√H), the biases too.
    pub fn init(&self, generator: &mut Initializer, into: &mut NamedTensors) {
        let bound = 1.0 / (self.hidden as f32).sqrt();
        for layer in 0..self.layers {
            for parameter in parameters(self.cell, layer, self.layer_input(layer), self.hidden) {
                let n = parameter.shape.iter().product();
                let name = format!("{}.{}", self.name, parameter.name);
                insert(into, name, &parameter.shape, generator.uniform(n, bound));
            }
        }
    }

    /// The input width of a layer.
    pub fn layer_input(&self, layer: usize) -> usize {
        if layer == 0 { self.input } else { self.hidden }
    }

    /// Rows of one layer's states, S·B.
    pub fn state_rows(&self, batch: usize) -> usize {
        self.cell.states() * batch
    }

    /// Records the stack over x \[T·B, I\], time slowest.
    ///
    /// # Errors
    /// A size of zero, an input or states of another shape, a rate outside \[0, 1).
    pub fn record(
        &self,
        rec: &mut Recorder,
        x: Var,
        [time, batch]: [usize; 2],
        initial: &InitialState,
    ) -> Result<RecurrentOutput> {
        positive("the number of time steps", time)?;
        positive("the batch", batch)?;
        positive("the hidden size", self.hidden)?;
        positive("the number of layers", self.layers)?;
        if time.saturating_mul(self.layers) > MOST_STEPS {
            return Err(Error::invalid(format!(
                "{} layers over {time} steps would be more than {MOST_STEPS} launches a pass; \
                 use fewer layers or a shorter sequence",
                self.layers
            )));
        }
        if [x.rows, x.columns] != [time * batch, self.input] {
            let want = [time * batch, self.input];
            return Err(Error::shape(
                format!("input of '{}'", self.name),
                &want,
                &[x.rows, x.columns],
            ));
        }
        if let InitialState::Given(given) = initial {
            if given.len() != self.layers {
                let got = [given.len()];
                return Err(Error::shape("initial states (layers)", &[self.layers], &got));
            }
            for state in given {
                let want = [self.state_rows(batch), self.hidden];
                if [state.rows, state.columns] != want {
                    let got = [state.rows, state.columns];
                    return Err(Error::shape("initial state", &want, &got));
                }
            }
        }
        let mut output = x;
        let mut finals = Vec::new();
        for layer in 0..self.layers {
            if layer > 0 {
                output = rec.dropout(output, self.dropout)?;
            }
            let (next, last) = self.record_layer(rec, layer, output, [time, batch], initial)?;
            output = next;
            finals.extend(last);
        }
        Ok(RecurrentOutput { output, finals })
    }

    fn record_layer(
        &self,
        rec: &mut Recorder,
        layer: usize,
        x: Var,
        [time, batch]: [usize; 2],
        initial: &InitialState,
    ) -> Result<(Var, Option<Var>)> {
        let (cell, h) = (self.cell, self.hidden);
        let (rows, width) = (time * batch, x.columns);
        let columns = cell.gates() * h;
        let mut weights = Vec::new();
        for parameter in parameters(cell, layer, width, h) {
            // A vector is one row.
            let shape = match parameter.shape[..] {
                [rows, columns] => [rows, columns],
                _ => [1, columns],
            };
            weights.push(rec.parameter(&format!("{}.{}", self.name, parameter.name), shape)?);
        }
        let [w_ih, w_hh, b_ih, b_hh] = weights[..] else { unreachable!("four parameters") };

        // The input product of all steps at once, into the first G of the K blocks of each row.
        let run = Recurrence::new(rec, cell, [time, batch, h], w_hh, b_hh)?;
        let gates = run.gates.operand();
        let operands = [x.operand(), w_ih.transposed(), gates];
        rec.product([rows, columns, width], operands, Some(b_ih.view), None, false)?;

        let state_shape = [self.state_rows(batch), h];
        let (source, carried) = match initial {
            InitialState::Zero => (None, None),
            InitialState::Given(given) => (Some(given[layer]), None),
            InitialState::Carried(prefix) => {
                let state = rec.state(&format!("{prefix}.l{layer}"), state_shape)?;
                (Some(state), Some(state))
            }
        };
        run.set_initial(rec, source)?;
        run.forward(rec)?;
        let last = match carried {
            Some(state) => state,
            None => rec.temporary("final", state_shape)?,
        };
        run.get_final(rec, last)?;

        let output = run.outputs();
        rec.on_backward(move |rec| {
            let (d_output, d_final) = (rec.gradient(output), rec.gradient(last));
            if d_output.is_none() && d_final.is_none() {
                return Ok(());
            }
            let wanted = source.filter(|s| s.needs_gradient);
            let carry = run.backward(rec, d_output, d_final, wanted.is_some())?;
            if let Some(source) = wanted {
                rec.seed_gradient(source, carry)?;
            }
            // dW = dxᵀ·x and db = dxᵀ·1 over all steps, dx the gradient of the input product.
            let accumulate_into = |rec: &mut Recorder, w, b| -> Result<_> {
                Ok(rec.gradient_target(w)?.zip(rec.gradient_target(b)?))
            };
            if let Some(((dw, accumulate), (db, _))) = accumulate_into(rec, w_ih, b_ih)? {
                let d_gates = Operand { transposed: true, ..gates };
                let operands = [d_gates, x.operand(), Operand::new(dw, width)];
                rec.product([columns, width, rows], operands, None, Some(db), accumulate)?;
            }
            // dR = drᵀ·h(t−1) and db' = drᵀ·1, dr the gradient of the recurrent product: the
            // same words, but for the blocks that keep one of their own.
            if let Some(((dw, accumulate), (db, _))) = accumulate_into(rec, w_hh, b_hh)? {
                for &(saved, first, blocks) in cell.recurrent_blocks() {
                    let view = gates.view.part(saved * h, gates.view.len - saved * h);
                    let d_gates = Operand { view, transposed: true, ..gates };
                    let dw = Operand::new(dw.part(first * h * h, blocks * h * h), h);
                    let operands = [d_gates, run.previous().operand(), dw];
                    let db = Some(db.part(first * h, blocks * h));
                    rec.product([blocks * h, h, rows], operands, None, db, accumulate)?;
                }
            }
            if let Some((dx, accumulate)) = rec.gradient_target(x)? {
                let operands = [gates, w_ih.operand(), Operand::new(dx, width)];
                rec.product([rows, width, columns], operands, None, None, accumulate)?;
            }
            Ok(())
        });
        Ok((output, carried.is_none().then_some(last)))
    }
}
