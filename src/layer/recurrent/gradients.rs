//! The gradients of the recurrent weights of one layer and direction.

use super::direction::{DirectionRecord, Segment};
use super::sequence;
use crate::error::Result;
use crate::kernel::{
    CellKind, ColumnSum, ColumnsForward, ColumnsParams, Operand, RESET, SequenceSide, View,
};
use crate::schedule::{Recorder, Recurrence, Swept, Var};

impl DirectionRecord {
    /// What one segment gives to the recurrent weights, their bias and the projection.
    pub(super) fn recurrent_gradients(
        &self,
        rec: &mut Recorder,
        segment: &Segment,
        swept: Swept,
    ) -> Result<()> {
        if let (Some(hh), Some(b)) = (self.hh, self.parameters.b_hh) {
            self.hidden_gradient(rec, segment, hh, b)?;
        }
        match (swept.candidate, self.parameters.hr) {
            (Some(candidate), Some(hr)) => self.projection_gradient(rec, segment, candidate, hr),
            _ => Ok(()),
        }
    }

    /// h̃ of all steps: h before them, under resets and a mask.
    fn heard(&self, rec: &mut Recorder, run: &Recurrence, mask: usize) -> Result<Var> {
        let previous = run.previous();
        if !run.hears_masked(self.resets) {
            return Ok(previous);
        }
        let (rows, columns) = (previous.rows, previous.columns);
        let heard = rec.temporary("heard", [rows, columns])?;
        let words = run.batch * columns;
        let mask = run.masks.map(|m| m.part(mask * words, words));
        let flags = run.flags.map(|f| (f, RESET, run.first * run.batch));
        let shape = [rows, columns, run.batch, self.layer.places()];
        sequence::select(rec, [previous.view, heard.view], shape, flags, mask, 0.0, false)?;
        Ok(heard)
    }

    /// dU = drᵀ·h̃ and db′ = drᵀ·1, with dr the gradient of the recurrent product: the gate gradients'
    /// own words, but for the blocks that keep one of their own.
    fn hidden_gradient(
        &self,
        rec: &mut Recorder,
        segment: &Segment,
        hh: Var,
        b: Var,
    ) -> Result<()> {
        let (layer, run) = (&self.layer, &segment.run);
        let h = layer.hidden;
        let (cell, depth) = (&layer.cell, run.depth());
        let Some((dw, accumulate)) = rec.gradient_target(hh)? else { return Ok(()) };
        let Some((db, accumulate_b)) = rec.gradient_target(b)? else { return Ok(()) };
        let gates = run.gates.operand();
        let normed = run.recurrent.filter(|_| cell.layer_norm.is_some());
        // (operand, its first block, first weight block, blocks, gradient of R for the bias)
        let blocks: Vec<(Operand, usize, usize, usize)> = match normed {
            Some(recurrent) => vec![(recurrent.operand(), 0, 0, cell.gates())],
            None => {
                let own = cell.recurrent_blocks().iter();
                own.map(|&(saved, first, blocks)| (gates, saved, first, blocks)).collect()
            }
        };
        let plain = layer.heads == 1 && layer.convolution.is_none() && normed.is_none();
        let per_gate = run.kind.masks > 1;
        let shared = if per_gate { None } else { Some(self.heard(rec, run, 0)?) };
        for &(operand, saved, first, count) in &blocks {
            let parts: Vec<(usize, usize)> =
                if per_gate { (0..count).map(|g| (g, 1)).collect() } else { vec![(0, count)] };
            for (gate, count) in parts {
                let heard = match shared {
                    Some(heard) => heard,
                    None => self.heard(rec, run, first + gate)?,
                };
                let view = operand.view;
                let from = (saved + gate) * h;
                let d = Operand { view: view.part(from, view.len - from), ..operand };
                let row = (first + gate) * h;
                let target = dw.part(row * depth, count * h * depth);
                let sum = plain.then(|| db.part(row, count * h));
                self.weight_gradient(rec, segment, d, heard, target, count, sum, accumulate)?;
            }
        }
        if cell.kind == CellKind::GruResetBefore {
            // n's product heard s = r⊙h̃, which lies in the fourth block.
            let block = |n: usize| {
                let view = gates.view.part(n * h, gates.view.len - n * h);
                Operand { view, ..gates }
            };
            let target = dw.part(2 * h * depth, h * depth);
            let s = Heard::Rows(block(3));
            let sum = plain.then(|| db.part(2 * h, h));
            self.weight_gradient(rec, segment, block(2), s, target, 1, sum, accumulate)?;
        }
        if !plain {
            // The bias's gradient lies in the gate rows, whatever the product's is.
            let mut own = cell.recurrent_blocks().to_vec();
            if cell.kind == CellKind::GruResetBefore {
                own.push((2, 2, 1));
            }
            for (saved, first, count) in own {
                let view = gates.view.part(saved * h, gates.view.len - saved * h);
                let (d, target) = (Operand { view, ..gates }, db.part(first * h, count * h));
                let op = ColumnSum::new([run.gates.rows, count * h], d, None, target);
                let op = op.over(&segment.rows);
                let op = ColumnSum { accumulate: accumulate_b, ..op };
                rec.launch(op, &[view, target])?;
            }
        }
        Ok(())
    }

    /// target \[blocks·H, depth\] = dᵀ·h̃ over all steps.
    #[allow(clippy::too_many_arguments, reason = "each call differs in all of them")]
    fn weight_gradient(
        &self,
        rec: &mut Recorder,
        segment: &Segment,
        d: Operand,
        heard: impl Into<Heard>,
        target: View,
        blocks: usize,
        sum: Option<View>,
        accumulate: bool,
    ) -> Result<()> {
        let (layer, run) = (&self.layer, &segment.run);
        let (h, depth, rows) = (layer.hidden, run.depth(), run.gates.rows);
        let transposed = Operand { transposed: true, ..d };
        let terms = Some((SequenceSide::Terms, segment.rows));
        let heard = heard.into();
        if let (Some(convolution), Heard::States(heard)) = (layer.convolution, heard) {
            let cols = rec.temporary("columns", [run.batch, depth])?;
            for (i, t) in run.steps_back().enumerate() {
                let offset = heard.view.offset + t * run.batch * heard.columns;
                let params = ColumnsParams::new(&convolution, run.batch, heard.columns, offset);
                let op = ColumnsForward { params, flags: false, mask: false };
                rec.launch(op, &[heard.view, cols.view])?;
                let first = t * run.batch * d.stride;
                let view = d.view.part(first, (run.batch * d.stride).min(d.view.len - first));
                let operands =
                    [Operand { view, ..transposed }, cols.operand(), Operand::new(target, depth)];
                let again = accumulate || i > 0;
                rec.product([blocks * h, depth, run.batch], operands, None, None, again)?;
            }
            return Ok(());
        }
        let right = heard.operand();
        if layer.heads == 1 {
            let operands = [transposed, right, Operand::new(target, depth)];
            let shape = [blocks * h, depth, rows];
            return rec.sequence_product(shape, operands, None, sum, accumulate, terms);
        }
        if depth == 1 {
            // One weight a unit: the sum of products of two columns.
            for block in 0..blocks {
                let view = d.view.part(block * h, d.view.len - block * h);
                let (d, target) = (Operand { view, ..d }, target.part(block * h, h));
                let op = ColumnSum::new([rows, h], d, Some(right), target).over(&segment.rows);
                rec.launch(ColumnSum { accumulate, ..op }, &[view, target, right.view])?;
            }
            return Ok(());
        }
        for block in 0..blocks {
            for first in (0..h).step_by(depth) {
                let at = block * h + first;
                let left = transposed.view.part(at, transposed.view.len - at);
                let heard = right.view.part(first, right.view.len - first);
                let target = target.part(at * depth, depth * depth);
                let operands = [
                    Operand { view: left, ..transposed },
                    Operand { view: heard, ..right },
                    Operand::new(target, depth),
                ];
                let shape = [depth, depth, rows];
                rec.sequence_product(shape, operands, None, None, accumulate, terms)?;
            }
        }
        Ok(())
    }

    /// dW_hr = dhᵀ·(o⊙tanh c), which lies in the last block.
    fn projection_gradient(
        &self,
        rec: &mut Recorder,
        segment: &Segment,
        candidate: Var,
        hr: Var,
    ) -> Result<()> {
        let Some((target, accumulate)) = rec.gradient_target(hr)? else { return Ok(()) };
        let (h, run) = (self.layer.hidden, &segment.run);
        let gates = run.gates.operand();
        let first = (self.layer.cell.saved() - 1) * h;
        let view = gates.view.part(first, gates.view.len - first);
        let left = Operand { transposed: true, ..candidate.operand() };
        let operands = [left, Operand { view, ..gates }, Operand::new(target, h)];
        let terms = Some((SequenceSide::Terms, segment.rows));
        let shape = [run.width(), h, run.gates.rows];
        rec.sequence_product(shape, operands, None, None, accumulate, terms)
    }

    /// The gradients of the parameters by unit, from what all rows gave, \[B, E·H\].
    pub(super) fn unit_gradients(&self, rec: &mut Recorder, unit: Var) -> Result<()> {
        for &(vector, parameter) in &self.parameters.by_unit {
            if let Some((target, accumulate)) = rec.gradient_target(parameter)? {
                let first = vector * self.layer.hidden;
                let view = unit.view.part(first, unit.view.len - first);
                let rows = Operand { view, ..unit.operand() };
                let op = ColumnSum::new([unit.rows, parameter.view.len], rows, None, target);
                rec.launch(ColumnSum { accumulate, ..op }, &[view, target])?;
            }
        }
        Ok(())
    }
}

/// What a recurrent product heard: h̃ of all steps, or rows of the gate buffer.
#[derive(Clone, Copy)]
enum Heard {
    States(Var),
    Rows(Operand),
}

impl From<Var> for Heard {
    fn from(var: Var) -> Self {
        Heard::States(var)
    }
}

impl Heard {
    fn operand(self) -> Operand {
        match self {
            Heard::States(var) => var.operand(),
            Heard::Rows(operand) => operand,
        }
    }
}
