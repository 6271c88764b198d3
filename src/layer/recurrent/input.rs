//! The input product of all steps, with its norms, and its gradients.

use super::Recurrent;
use super::table::Input;
use crate::error::Result;
use crate::kernel::{
    ColumnSum, ColumnsBackward, ColumnsForward, ColumnsParams, InputNormBackward, InputNormForward,
    InputNormParams, NormAxis, Operand, SequenceRows, SequenceSide, View,
};
use crate::schedule::{Recorder, Var};

/// X = W·x + b (or its normalised form) for all steps of one layer and direction, into the first G
/// blocks of the gate rows.
#[derive(Clone)]
pub(super) struct InputProduct {
    input: Input,
    w: Var,
    b: Var,
    /// γ, and what the norm keeps: the normalised product and the inverse deviations.
    norm: Option<(Var, Var, View)>,
    axis: NormAxis,
    params: Option<InputNormParams>,
    gates: Operand,
    /// T·B, G·H.
    shape: [usize; 2],
    rows: SequenceRows,
    layer: Recurrent,
    time: usize,
}

impl InputProduct {
    #[allow(clippy::too_many_arguments, reason = "one caller, which has them all apart")]
    pub fn record(
        rec: &mut Recorder,
        layer: &Recurrent,
        [w, b]: [Var; 2],
        gain: Option<Var>,
        name: &str,
        input: Input,
        gates: Operand,
        time: usize,
        rows: SequenceRows,
    ) -> Result<Self> {
        let shape = [input.rows(), layer.cell.gates() * layer.hidden];
        let axis = match layer.batch_norm {
            Some(_) => {
                NormAxis::Column { flags: rows.flags.is_some(), running: !rec.is_training() }
            }
            None => NormAxis::Row,
        };
        let mut this = InputProduct {
            input,
            w,
            b,
            norm: None,
            axis,
            params: None,
            gates,
            shape,
            rows,
            layer: layer.clone(),
            time,
        };
        // A layer with a gain has a norm, and each norm its ε.
        let epsilon = layer.batch_norm.or(layer.cell.layer_norm);
        if let Some((gain, epsilon)) = gain.zip(epsilon) {
            let normal = rec.temporary("normal", shape)?;
            let scales = if axis == NormAxis::Row { shape[0] } else { shape[1] };
            let scales = rec.temporary_f32("scales", [1, scales])?.view;
            this.norm = Some((gain, normal, scales));
            let mut params = InputNormParams::new(shape, gates, gain.view, b.view);
            params.epsilon = epsilon;
            params.places = layer.places() as u32;
            this.params = Some(params);
        }
        this.forward(rec, name)?;
        Ok(this)
    }

    /// The columns of step t's input, where the product is a convolution.
    fn columns(&self, rec: &mut Recorder, x: Var, t: usize, target: View) -> Result<()> {
        let Some(convolution) = &self.layer.convolution else { return Ok(()) };
        let (rows, channels) = (self.shape[0] / self.time, x.columns);
        let offset = x.view.offset + t * rows * channels;
        let params = ColumnsParams::new(convolution, rows, channels, offset);
        let op = ColumnsForward { params, flags: false, mask: false };
        rec.launch(op, &[x.view, target])
    }

    /// The part of an operand that belongs to step t.
    fn at(&self, operand: Operand, t: usize) -> Operand {
        let rows = self.shape[0] / self.time;
        let first = t * rows * operand.stride;
        let len = ((rows - 1) * operand.stride + self.shape[1]).min(operand.view.len - first);
        Operand { view: operand.view.part(first, len), ..operand }
    }

    fn forward(&self, rec: &mut Recorder, name: &str) -> Result<()> {
        let [rows, columns] = self.shape;
        let (target, bias) = match &self.norm {
            Some((_, normal, _)) => (normal.operand(), None),
            None => (self.gates, Some(self.b.view)),
        };
        match (self.input, self.layer.convolution) {
            (Input::Table(table, ids), _) => rec.look_up(table.products, ids, target)?,
            (Input::Rows(x), None) => {
                let operands = [x.operand(), self.w.transposed(), target];
                let sequence = Some((SequenceSide::Rows, self.rows));
                let shape = [rows, columns, x.columns];
                rec.sequence_product(shape, operands, bias, None, false, sequence)?;
            }
            // Step by step, so that the columns of one step are all there ever are.
            (Input::Rows(x), Some(convolution)) => {
                let (rows, terms) = (rows / self.time, x.columns * convolution.taps());
                let cols = rec.temporary("columns", [rows, terms])?;
                for t in 0..self.time {
                    self.columns(rec, x, t, cols.view)?;
                    let operands = [cols.operand(), self.w.transposed(), self.at(target, t)];
                    rec.product([rows, columns, terms], operands, bias, None, false)?;
                }
            }
        }
        let (Some((gain, normal, scales)), Some(params)) = (self.norm, self.params) else {
            return Ok(());
        };
        let mut views = vec![normal.view, self.gates.view, scales, gain.view, self.b.view];
        if let NormAxis::Column { .. } = self.axis {
            views.push(rec.state(name, [2, columns])?.view);
            views.extend(self.rows.flags);
        }
        rec.launch(InputNormForward { params, axis: self.axis }, &views)
    }

    /// From the gate gradients in the gate rows: dW = dXᵀ·x, db, dγ, and dx = dX·W into `dx` (or added
    /// to it). Of a table only the gate gradients' sums by id, for [`Table::gradients`](super::table::Table), added
    /// to what other segments gave with `again`.
    pub fn backward(
        &self,
        rec: &mut Recorder,
        dx: Option<(View, bool)>,
        again: bool,
    ) -> Result<()> {
        let [rows, columns] = self.shape;
        let mut d = self.gates;
        let (w, b) = (self.w, self.b);
        if let (Some((gain, normal, scales)), Some(params)) = (self.norm, self.params) {
            // The norm's own gradients, before dX takes the place of the normalised product.
            for (parameter, other) in [(b, None), (gain, Some(normal.operand()))] {
                if let Some((target, accumulate)) = rec.gradient_target(parameter)? {
                    let op = ColumnSum::new([rows, columns], d, other, target).over(&self.rows);
                    let mut views = vec![d.view, target];
                    views.extend(other.map(|o| o.view));
                    rec.launch(ColumnSum { accumulate, ..op }, &views)?;
                }
            }
            let mut views = vec![normal.view, d.view, scales, gain.view];
            if let NormAxis::Column { .. } = self.axis {
                views.extend(self.rows.flags);
            }
            rec.launch(InputNormBackward { params, axis: self.axis }, &views)?;
            d = normal.operand();
        }
        let x = match self.input {
            Input::Rows(x) => x,
            Input::Table(table, ids) => return table.sum(rec, d, ids, &self.rows, again),
        };
        // With a norm the bias has its gradient already.
        let [dw, db] = match self.norm {
            None => rec.gradient_targets([w, b])?.map_or([None; 2], |pair| pair.map(Some)),
            Some(_) => [rec.gradient_target(w)?, None],
        };
        let transposed = Operand { transposed: true, ..d };
        let Some(convolution) = self.layer.convolution else {
            let width = x.columns;
            if let Some((dw, accumulate)) = dw {
                let operands = [transposed, x.operand(), Operand::new(dw, width)];
                let sequence = Some((SequenceSide::Terms, self.rows));
                let shape = [columns, width, rows];
                rec.sequence_product(shape, operands, None, db, accumulate, sequence)?;
            }
            if let Some((dx, accumulate)) = dx {
                let operands = [d, w.operand(), Operand::new(dx, width)];
                let sequence = Some((SequenceSide::Rows, self.rows));
                let shape = [rows, width, columns];
                rec.sequence_product(shape, operands, None, None, accumulate, sequence)?;
            }
            return Ok(());
        };
        let (step_rows, terms) = (rows / self.time, x.columns * convolution.taps());
        let cols = rec.temporary("columns", [step_rows, terms])?;
        for i in 0..self.time {
            // In the order of backward, as all sums over steps.
            let t = if self.rows.descending { self.time - 1 - i } else { i };
            let d_t = self.at(d, t);
            let again = i > 0;
            if let Some((dw, accumulate)) = dw {
                self.columns(rec, x, t, cols.view)?;
                let left = Operand { transposed: true, ..d_t };
                let operands = [left, cols.operand(), Operand::new(dw, terms)];
                let shape = [columns, terms, step_rows];
                let sum = db.map(|(db, accumulate)| (db, accumulate || again));
                rec.product(shape, operands, None, sum, accumulate || again)?;
            }
            if let Some((dx, accumulate)) = dx {
                let operands = [d_t, w.operand(), cols.operand()];
                rec.product([step_rows, terms, columns], operands, None, None, false)?;
                let offset = dx.offset + t * step_rows * x.columns;
                let params = ColumnsParams::new(&convolution, step_rows, x.columns, offset);
                rec.launch(ColumnsBackward { params, accumulate }, &[cols.view, dx])?;
            }
        }
        Ok(())
    }
}
