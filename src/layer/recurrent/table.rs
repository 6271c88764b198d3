//! Input that is rows of a table: an embedding in front of a layer.
//!
//! x\[n\] = table\[ids\[n\]\], so W·x\[n\] + b is row ids\[n\] of table·Wᵀ + b. Where the table has
//! fewer rows than x (letters, not words), that is the smaller product; it is made once, and the
//! steps' input is looked up in it. Backward, with S the sums by id of the gate gradients: dW =
//! Sᵀ·table, db = Sᵀ·1, d table = S·W. x itself is never there.

use super::Recurrent;
use crate::error::Result;
use crate::kernel::{Operand, SequenceRows, View};
use crate::schedule::{Recorder, Var};
use crate::tensor::{Precision, WORD_BYTES};

/// What a layer and direction reads.
#[derive(Clone, Copy)]
pub(super) enum Input {
    /// x \[T·B, I\].
    Rows(Var),
    /// Rows of a table by their ids \[T·B\].
    Table(Table, View),
}

/// A table \[V, I\] and what becomes of it.
#[derive(Clone, Copy)]
pub(super) struct Table {
    table: Var,
    /// table·Wᵀ, with b where no norm comes between: \[V, G·H\].
    pub products: Var,
    /// S \[V, G·H\], in training.
    sums: Option<Var>,
}

/// The table that x is read by, and the ids. In 16 bits the sums of many rows' gradients would
/// overflow before the gradients do.
fn table_of(rec: &Recorder, layer: &Recurrent, x: Var) -> Option<(Var, View)> {
    let may = layer.convolution.is_none() && rec.precision() == Precision::F32;
    rec.gathered(x).filter(|(table, _)| may && 2 * table.rows < x.rows)
}

/// Bytes that a layer and direction keeps of such a table.
pub(super) fn table_bytes(rec: &Recorder, layer: &Recurrent, x: Var) -> u64 {
    let words = |(table, _): (Var, View)| 2 * table.rows * layer.cell.gates() * layer.hidden;
    (table_of(rec, layer, x).map_or(0, words) * WORD_BYTES) as u64
}

impl Input {
    /// x, or its table.
    pub fn record(
        rec: &mut Recorder,
        layer: &Recurrent,
        x: Var,
        w: Var,
        b: Option<Var>,
    ) -> Result<Self> {
        let Some((table, ids)) = table_of(rec, layer, x) else {
            return Ok(Input::Rows(x));
        };
        let shape = [table.rows, layer.cell.gates() * layer.hidden];
        let products = rec.temporary("products", shape)?;
        let operands = [table.operand(), w.transposed(), products.operand()];
        rec.product([shape[0], shape[1], table.columns], operands, b.map(|b| b.view), None, false)?;
        let sums = match rec.is_training() {
            true => Some(rec.temporary("d_products", shape)?),
            false => None,
        };
        Ok(Input::Table(Table { table, products, sums }, ids))
    }

    /// Some of its rows.
    pub fn part(self, first: usize, rows: usize) -> Self {
        match self {
            Input::Rows(x) => Input::Rows(x.rows(first, rows)),
            Input::Table(table, ids) => Input::Table(table, ids.part(first, rows)),
        }
    }

    /// T·B.
    pub fn rows(self) -> usize {
        match self {
            Input::Rows(x) => x.rows,
            Input::Table(_, ids) => ids.len,
        }
    }

    /// I.
    pub fn columns(self) -> usize {
        match self {
            Input::Rows(x) => x.columns,
            Input::Table(table, _) => table.table.columns,
        }
    }
}

impl Table {
    /// S of the gate gradients `d` of some rows, or added to it. Rows that take no part have none.
    pub fn sum(
        &self,
        rec: &mut Recorder,
        d: Operand,
        ids: View,
        rows: &SequenceRows,
        again: bool,
    ) -> Result<()> {
        match self.sums {
            Some(sums) => rec.sum_by_id(d, ids, sums, rows, again),
            None => Ok(()),
        }
    }

    /// The gradients of the table, of W, and of b where no norm has it.
    pub fn gradients(&self, rec: &mut Recorder, w: Var, b: Option<Var>) -> Result<()> {
        let (Some(sums), table) = (self.sums, self.table) else { return Ok(()) };
        let [rows, columns, width] = [sums.rows, sums.columns, table.columns];
        let [dw, db] = match b {
            Some(b) => rec.gradient_targets([w, b])?.map_or([None; 2], |pair| pair.map(Some)),
            None => [rec.gradient_target(w)?, None],
        };
        if let Some((dw, accumulate)) = dw {
            let operands = [sums.transposed(), table.operand(), Operand::new(dw, width)];
            rec.product([columns, width, rows], operands, None, db, accumulate)?;
        }
        if let Some((d_table, accumulate)) = rec.gradient_target(table)? {
            let operands = [sums.operand(), w.operand(), Operand::new(d_table, width)];
            rec.product([rows, width, columns], operands, None, None, accumulate)?;
        }
        Ok(())
    }
}
