//! Operations on matrices of a recording, each with the way back of its gradient where it has one.

use super::recorder::{Gather, Recorder, Var};
use crate::error::{Error, Result};
use crate::kernel::{
    BufferId, Combine, Dropout, EmbeddingBackward, EmbeddingForward, EmbeddingParams, Fill, Matmul,
    Operand, Rows, SequenceRows, SequenceSide, View, With,
};

impl Recorder {
    /// target = source, of equal size.
    ///
    /// # Errors
    /// The two lie in one buffer.
    pub fn copy(&mut self, source: Var, target: Var) -> Result<()> {
        let n = source.view.len;
        self.copy_rows([1, n], (source.view, n), (target.view, n))
    }

    /// Copies `rows` of `columns` elements between views with row strides.
    ///
    /// # Errors
    /// The two lie in one buffer, or rows reach past one's end.
    pub fn copy_rows(
        &mut self,
        [rows, columns]: [usize; 2],
        (source, source_stride): (View, usize),
        (target, target_stride): (View, usize),
    ) -> Result<()> {
        let (from, to) = (Rows::new(source, source_stride), Rows::new(target, target_stride));
        self.launch(Combine::copy([rows, columns], from, to), &[source, target])
    }

    /// target += source, of equal size.
    ///
    /// # Errors
    /// The two lie in one buffer.
    pub fn add(&mut self, source: View, target: View) -> Result<()> {
        let n = source.len;
        let op = Combine::copy([1, n], Rows::new(source, n), Rows::new(target, n));
        self.launch(op.accumulating(true), &[source, target])
    }

    /// target = scale·f(a, b) by rows, or added to it: sums, products, strided copies.
    ///
    /// # Errors
    /// Rows that reach past a buffer, or a buffer that is used twice.
    pub fn combine(&mut self, op: Combine, a: View, target: View, b: Option<View>) -> Result<()> {
        let mut views = vec![a, target];
        views.extend(b.filter(|_| op.with != With::Nothing));
        self.launch(op, &views)
    }

    /// Sets every element.
    ///
    /// # Errors
    /// None that a valid view could cause.
    pub fn fill(&mut self, target: View, value: f32) -> Result<()> {
        self.launch(Fill::new(target, value), &[target])
    }

    /// C = op(A)·op(B) of shape \[m,n,k\], with an optional bias and on request the row sums of op(A), both of the
    /// latter or one of them added to what is there.
    ///
    /// # Errors
    /// Operands that reach past their buffers.
    pub fn product(
        &mut self,
        shape: [usize; 3],
        operands: [Operand; 3],
        bias: Option<View>,
        row_sum: Option<(View, bool)>,
        accumulate: bool,
    ) -> Result<()> {
        self.sequence_product(shape, operands, bias, row_sum, accumulate, None)
    }

    /// The same with rows of a sequence on one side.
    ///
    /// # Errors
    /// Operands that reach past their buffers.
    pub fn sequence_product(
        &mut self,
        shape: [usize; 3],
        [a, b, c]: [Operand; 3],
        bias: Option<View>,
        row_sum: Option<(View, bool)>,
        accumulate: bool,
        sequence: Option<(SequenceSide, SequenceRows)>,
    ) -> Result<()> {
        let mut op = Matmul::new(shape, a, b, c).accumulating(accumulate);
        let mut buffers = vec![a.view, b.view, c.view];
        // The kernel adds to both or to neither.
        let mut own = None;
        let row_sum = match row_sum {
            Some((sums, again)) if again && !accumulate => {
                let dtype = self.dtype(sums);
                let fresh = self.temporary_of("row_sum", [1, sums.len], dtype)?.view;
                own = Some((fresh, sums));
                Some(fresh)
            }
            Some((sums, again)) => {
                if accumulate && !again {
                    self.fill(sums, 0.0)?;
                }
                Some(sums)
            }
            None => None,
        };
        if let Some(bias) = bias {
            op = op.with_bias(bias);
            buffers.push(bias);
        }
        if let Some(row_sum) = row_sum {
            op = op.with_row_sum(row_sum);
            buffers.push(row_sum);
        }
        if let Some((side, rows)) = sequence {
            op = op.over(side, &rows);
            buffers.extend(rows.flags);
        }
        self.launch(op, &buffers)?;
        match own {
            Some((fresh, sums)) => self.add(fresh, sums),
            None => Ok(()),
        }
    }

    /// Elements dropped with probability `rate`, the rest scaled by 1/(1−rate). Off in inference
    /// and at rate 0.
    ///
    /// # Errors
    /// A rate outside \[0, 1).
    pub fn dropout(&mut self, x: Var, rate: f32) -> Result<Var> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::invalid(format!("the dropout rate must be in [0, 1), not {rate}")));
        }
        if rate == 0.0 || !self.training {
            return Ok(x);
        }
        let y = self.temporary_of("dropout", [x.rows, x.columns], self.dtype(x.view))?;
        let stream = self.stream();
        let control = self.control();
        self.launch(Dropout::new(x.view, y.view, stream, rate), &[x.view, y.view, control])?;
        self.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
            let op = Dropout { accumulate, ..Dropout::new(dy, dx, stream, rate) };
            rec.launch(op, &[dy, dx, control])
        });
        Ok(y)
    }

    /// y\[n\] = table\[ids\[n\]\], \[N, columns\]: rows of a table, or of packed sequences
    /// ([`pack_indices`](crate::layer::pack_indices)). Writing an id beyond the table is an error. Of a parameter the
    /// rows are looked up when a launch first reads them, if any does.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn gather(&mut self, table: Var, ids: View) -> Result<Var> {
        let columns = table.columns;
        self.bound(ids, table.rows.saturating_sub(1));
        let y = self.temporary("gathered", [ids.len, columns])?;
        if self.parameters.values().any(|parameter| parameter.key() == table.key()) {
            self.gathers.insert(y.view.buffer, Gather { table, ids, rows: y, waiting: true });
        } else {
            self.look_up(table, ids, y.operand())?;
        }
        self.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dt, accumulate)) = rec.gradient_target(table)? else { return Ok(()) };
            let params = EmbeddingParams::new(table.rows, columns, ids, dt, dy);
            rec.launch(EmbeddingBackward { params, accumulate }, &[ids, dy, dt])
        });
        Ok(y)
    }

    /// Something reads a buffer.
    pub(super) fn gather_if_waiting(&mut self, buffer: BufferId) -> Result<()> {
        let Some(gather) = self.gathers.get_mut(&buffer) else { return Ok(()) };
        if !std::mem::take(&mut gather.waiting) {
            return Ok(());
        }
        let Gather { table, ids, rows, .. } = *gather;
        self.look_up(table, ids, rows.operand())
    }

    /// The table and the ids that `rows` of it were gathered by, if they are rows of a parameter that it has its
    /// gradient from.
    pub(crate) fn gathered(&self, rows: Var) -> Option<(Var, View)> {
        if self.training && !rows.needs_gradient {
            return None;
        }
        let Gather { table, ids, .. } = self.gathers.get(&rows.view.buffer)?;
        let first = rows.view.offset / table.columns;
        let whole = rows.columns == table.columns && first * table.columns == rows.view.offset;
        whole.then(|| (*table, ids.part(first, rows.rows)))
    }

    /// to\[n\] = table\[ids\[n\]\].
    pub(crate) fn look_up(&mut self, table: Var, ids: View, to: Operand) -> Result<()> {
        let params = EmbeddingParams::new(table.rows, table.columns, ids, table.view, to.view);
        let params = params.with_stride(to.stride);
        self.launch(EmbeddingForward { params }, &[ids, table.view, to.view])
    }

    /// sums\[v\] = Σ over n with ids\[n\] = v of rows\[n\], or added to it, of a sequence's rows in
    /// the order of its blocks.
    pub(crate) fn sum_by_id(
        &mut self,
        rows: Operand,
        ids: View,
        sums: Var,
        sequence: &SequenceRows,
        accumulate: bool,
    ) -> Result<()> {
        let params = EmbeddingParams::new(sums.rows, sums.columns, ids, sums.view, rows.view);
        let params = params.with_stride(rows.stride).over(sequence);
        self.launch(EmbeddingBackward { params, accumulate }, &[ids, rows.view, sums.view])
    }

    /// The rows of x from `first` on, where it lies.
    ///
    /// # Errors
    /// No row is left.
    pub fn tail(&mut self, x: Var, first: usize) -> Result<Var> {
        if first == 0 {
            return Ok(x);
        }
        if first >= x.rows {
            return Err(Error::shape("first row of a tail", &[x.rows], &[first]));
        }
        let before = first * x.columns;
        let y = Var { needs_gradient: x.needs_gradient, ..x.rows(first, x.rows - first) };
        // Asked for again it is the same matrix, with one gradient, which goes to x once.
        if !self.tails.insert(y.key()) {
            return Ok(y);
        }
        self.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
            let target = dx.part(before, dx.len - before);
            if accumulate {
                return rec.add(dy, target);
            }
            rec.fill(dx.part(0, before), 0.0)?;
            let n = dy.len;
            rec.copy_rows([1, n], (dy, n), (target, n))
        });
        Ok(y)
    }

    /// The rows of x, (outer, inner) with `inner` inner ones, as (inner, outer): \[B·T\] to \[T·B\] with
    /// `inner` = T, and back with `inner` = B.
    ///
    /// # Errors
    /// The rows are no whole number of inner ones.
    pub fn swap_rows(&mut self, x: Var, inner: usize) -> Result<Var> {
        if inner == 0 || !x.rows.is_multiple_of(inner) {
            let what = format!("{} rows are no whole number of {inner}", x.rows);
            return Err(Error::invalid(what));
        }
        let (shape, outer) = ([x.rows, x.columns], x.rows / inner);
        let y = self.temporary_of("swapped", shape, self.dtype(x.view))?;
        let swap = move |rec: &mut Self, from: View, to: View, inner: usize, accumulate: bool| {
            let (source, target) = (Rows::new(from, shape[1]), Rows::new(to, shape[1]));
            let op = Combine::copy(shape, source, target).swapping(inner);
            rec.combine(op.accumulating(accumulate), from, to, None)
        };
        // The result's inner rows are the outer ones of x.
        swap(self, x.view, y.view, outer, false)?;
        self.on_backward(move |rec| {
            let Some(dy) = rec.gradient(y) else { return Ok(()) };
            let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
            swap(rec, dy, dx, inner, accumulate)
        });
        Ok(y)
    }
}
