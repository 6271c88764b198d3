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
        let Some([(dw, accumulate), (db, accumulate_b)]) = rec.gradient_targets([hh, b])? else {
            return Ok(());
        };
        let gates = run.gates.operand();
        let normed = run.recurrent.filter(|_| cell.layer_norm.is_some());
        // (operand, its first block, first weight block, blocks, gradient of R for the bias)
        let before = cell.kind == CellKind::GruResetBefore;
        let blocks: Vec<(Operand, usize, usize, usize)> = match normed {
            Some(recurrent) => {
                vec![(recurrent.operand(), 0, 0, if before { 2 } else { cell.gates() })]
            }
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
                let d = behind(operand, (saved + gate) * h);
                let row = (first + gate) * h;
                let target = dw.part(row * depth, count * h * depth);
                let sum = plain.then(|| (db.part(row, count * h), accumulate_b));
                self.weight_gradient(
                    rec,
                    segment,
                    d,
                    heard.operand(),
                    target,
                    count,
                    sum,
                    accumulate,
                )?;
            }
        }
        if before {
            // n's product heard s = r⊙h̃, which lies in the fourth block.
            let block = |n: usize| behind(gates, n * h);
            let target = dw.part(2 * h * depth, h * depth);
            let sum = plain.then(|| (db.part(2 * h, h), accumulate_b));
            let d = normed.map_or(block(2), |recurrent| behind(recurrent.operand(), 2 * h));
            self.weight_gradient(rec, segment, d, block(3), target, 1, sum, accumulate)?;
        }
        if !plain {
            // The bias's gradient lies in the gate rows, whatever the product's is.
            let mut own = cell.recurrent_blocks().to_vec();
            if before {
                own.push((2, 2, 1));
            }
            for (saved, first, count) in own {
                let (d, target) = (behind(gates, saved * h), db.part(first * h, count * h));
                let op = ColumnSum::new([run.gates.rows, count * h], d, None, target);
                let op = op.over(&segment.rows);
                let op = ColumnSum { accumulate: accumulate_b, ..op };
                rec.launch(op, &[d.view, target])?;
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
        right: Operand,
        target: View,
        blocks: usize,
        sum: Option<(View, bool)>,
        accumulate: bool,
    ) -> Result<()> {
        let (layer, run) = (&self.layer, &segment.run);
        let (h, depth, rows) = (layer.hidden, run.depth(), run.gates.rows);
        let d = Operand { transposed: true, ..d };
        let terms = Some((SequenceSide::Terms, segment.rows));
        if let Some(convolution) = layer.convolution {
            let cols = rec.temporary("columns", [run.batch, depth * layer.heads])?;
            for (i, t) in run.steps_back().enumerate() {
                let offset = right.view.offset + t * run.batch * right.stride;
                let width = run.width();
                let mut params = ColumnsParams::new(&convolution, run.batch, width, offset);
                params.source_stride = right.stride as u32;
                let op = ColumnsForward { params, flags: false, mask: false };
                rec.launch(op, &[right.view, cols.view])?;
                let sides = [behind(d, t * run.batch * d.stride), cols.operand()];
                let again = accumulate || i > 0;
                for (shape, operands) in self.by_head(run, blocks, run.batch, sides, target) {
                    rec.product(shape, operands, None, None, again)?;
                }
            }
            return Ok(());
        }
        if layer.heads > 1 && layer.heads == h && depth == 1 {
            // One weight a unit: the sum of products of two columns.
            for block in 0..blocks {
                let (d, target) = (behind(d, block * h), target.part(block * h, h));
                let op = ColumnSum::new([rows, h], d, Some(right), target).over(&segment.rows);
                rec.launch(ColumnSum { accumulate, ..op }, &[d.view, target, right.view])?;
            }
            return Ok(());
        }
        for (shape, operands) in self.by_head(run, blocks, rows, [d, right], target) {
            rec.sequence_product(shape, operands, None, sum, accumulate, terms)?;
        }
        Ok(())
    }

    /// The product target \[blocks·H, depth\] = d·right with sums of `terms` terms; of heads one for each
    /// block and head: (shape, operands).
    fn by_head(
        &self,
        run: &Recurrence,
        blocks: usize,
        terms: usize,
        [d, right]: [Operand; 2],
        target: View,
    ) -> Vec<([usize; 3], [Operand; 3])> {
        let (h, heads, depth) = (self.layer.hidden, self.layer.heads, run.depth());
        if heads == 1 {
            return vec![([blocks * h, depth, terms], [d, right, Operand::new(target, depth)])];
        }
        let units = h / heads;
        let mut list = Vec::new();
        for block in 0..blocks {
            for head in 0..heads {
                let row = block * h + head * units;
                let target = Operand::new(target.part(row * depth, units * depth), depth);
                let sides = [behind(d, row), behind(right, head * depth), target];
                list.push(([units, depth, terms], sides));
            }
        }
        list
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
        let shown = behind(run.gates.operand(), (self.layer.cell.saved() - 1) * h);
        let left = Operand { transposed: true, ..candidate.operand() };
        let operands = [left, shown, Operand::new(target, h)];
        let terms = Some((SequenceSide::Terms, segment.rows));
        let shape = [run.width(), h, run.gates.rows];
        rec.sequence_product(shape, operands, None, None, accumulate, terms)
    }

    /// The gradients of the parameters by unit, from what all rows gave, \[B, E·H\].
    pub(super) fn unit_gradients(&self, rec: &mut Recorder, unit: Var) -> Result<()> {
        for &(vector, parameter) in &self.parameters.by_unit {
            if let Some((target, accumulate)) = rec.gradient_target(parameter)? {
                let rows = behind(unit.operand(), vector * self.layer.hidden);
                let op = ColumnSum::new([unit.rows, parameter.view.len], rows, None, target);
                rec.launch(ColumnSum { accumulate, ..op }, &[rows.view, target])?;
            }
        }
        Ok(())
    }
}

/// The same matrix without its first `words` words: other columns, or other rows.
fn behind(matrix: Operand, words: usize) -> Operand {
    Operand { view: matrix.view.part(words, matrix.view.len - words), ..matrix }
}
