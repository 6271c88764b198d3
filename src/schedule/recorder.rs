//! Recording forward, and backward from the tape.

use super::micro_batches::MicroBatches;
use crate::error::{Error, Result};
use crate::kernel::{
    BufferId, Combine, Dropout, EmbeddingBackward, EmbeddingForward, EmbeddingParams, Fill,
    LossScale, Matmul, Op, Operand, Rows, SequenceRows, SequenceSide, View, With,
};
use crate::recording::{Recording, Role};
use crate::tensor::{DType, Precision};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A dense matrix \[rows, columns\] of floats in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var {
    /// Where it lies.
    pub view: View,
    /// Rows; for sequences T·B, time slowest.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Whether backward computes its gradient.
    pub needs_gradient: bool,
}

impl Var {
    /// The matrix as the operand of a product.
    pub fn operand(self) -> Operand {
        Operand::new(self.view, self.columns)
    }

    /// Its transpose as the operand of a product.
    pub fn transposed(self) -> Operand {
        Operand::transposed(self.view, self.columns)
    }

    /// `rows` of its rows, from `first` on; gradients do not flow through.
    pub fn rows(self, first: usize, rows: usize) -> Var {
        let view = self.view.part(first * self.columns, rows * self.columns);
        Var { view, rows, needs_gradient: false, ..self }
    }

    fn key(self) -> Key {
        (self.view.buffer.0, self.view.offset)
    }
}

/// Rows of a table by their ids.
struct Gather {
    table: Var,
    ids: View,
    rows: Var,
    /// Nothing has read them so far.
    waiting: bool,
}

type Key = (usize, usize);
pub(super) type Tape = Vec<Box<dyn FnOnce(&mut Recorder) -> Result<()>>>;

/// The store's name for the average of a parameter ([`Averaging`](crate::optim::Averaging)).
pub fn average_name(parameter: &str) -> String {
    format!("{AVERAGE_PREFIX}{parameter}")
}

/// What names of averages begin with.
pub const AVERAGE_PREFIX: &str = "average.";

/// Appends launches to a [`Recording`].
pub struct Recorder {
    recording: Recording,
    training: bool,
    precision: Precision,
    scoped: bool,
    pub(super) tape: Tape,
    gradients: HashMap<Key, View>,
    parameters: BTreeMap<String, Var>,
    /// Copies in the products' precision: what each is of, and by what it is of.
    loss_scale: Option<View>,
    originals: HashMap<Key, Var>,
    copies: HashMap<Key, Var>,
    /// Tails whose gradients have their way back.
    tails: HashSet<Key>,
    /// Rows of parameters by their ids, which are looked up when something first reads them.
    gathers: HashMap<BufferId, Gather>,
    /// Temporary buffers made so far, for their names.
    temporaries: usize,
    /// Dropouts recorded so far: each is a random stream of its own.
    streams: u32,
    /// Whether a parameter of that name needs no gradient.
    frozen: Box<dyn Fn(&str) -> bool>,
    /// Room for gradients that nothing reads.
    unread: HashMap<Key, View>,
    /// Parameters are read from their averages.
    averaged: bool,
    /// Losses behind the first add to it.
    adds_losses: bool,
    pub(super) micro: MicroBatches,
}

impl Recorder {
    /// For a training step: dropout is on and backward can be recorded.
    pub fn training() -> Self {
        Self::new(true)
    }

    /// For inference: dropout is off, no tape.
    pub fn inference() -> Self {
        Self::new(false)
    }

    fn new(training: bool) -> Self {
        Recorder {
            recording: Recording::new(),
            training,
            precision: Precision::F32,
            scoped: false,
            tape: Vec::new(),
            gradients: HashMap::new(),
            parameters: BTreeMap::new(),
            loss_scale: None,
            originals: HashMap::new(),
            copies: HashMap::new(),
            tails: HashSet::new(),
            gathers: HashMap::new(),
            temporaries: 0,
            streams: 0,
            frozen: Box::new(|_| false),
            unread: HashMap::new(),
            averaged: false,
            adds_losses: false,
            micro: MicroBatches::default(),
        }
    }

    /// Reads each parameter from its average ([`average_name`]), as a training step over
    /// the same store keeps it: for validation and use of averaged weights.
    pub fn averaged(self) -> Self {
        Recorder { averaged: true, ..self }
    }

    /// Parameters whose names `is_frozen` says yes to need no gradient, if asked for after this.
    pub fn freeze(&mut self, is_frozen: impl Fn(&str) -> bool + 'static) {
        self.frozen = Box::new(is_frozen);
    }

    /// Stores activations, and copies of the weights for products, in another precision. Gradients of
    /// losses are times a loss scale then, which [`Optimizer::record`](crate::optim::Optimizer::record)
    /// takes out again.
    pub fn with_precision(self, precision: Precision) -> Self {
        Recorder { precision, ..self }
    }

    /// Records recurrent layers so that what flows through each step can be seen: gates, states, and in a training
    /// step the gradients that come back, in outputs that [`Scope`](crate::layer::Scope) names. For looking, not
    /// for speed: a layer goes step by step, and each step is computed once more in backward.
    pub fn with_scope(self) -> Self {
        Recorder { scoped: true, ..self }
    }

    /// Whether recurrent layers show each step.
    pub fn is_scoped(&self) -> bool {
        self.scoped
    }

    /// How activations are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether a training step is being recorded.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Appends a launch; see [`Recording::launch`].
    ///
    /// # Errors
    /// As [`Recording::launch`].
    pub fn launch(&mut self, op: impl Into<Op>, buffers: &[View]) -> Result<()> {
        for view in buffers {
            self.gather_if_waiting(view.buffer)?;
        }
        self.recording.launch(op, buffers)
    }

    /// Something reads a buffer.
    fn gather_if_waiting(&mut self, buffer: BufferId) -> Result<()> {
        let Some(gather) = self.gathers.get_mut(&buffer) else { return Ok(()) };
        if !std::mem::take(&mut gather.waiting) {
            return Ok(());
        }
        let Gather { table, ids, rows, .. } = *gather;
        self.look_up(table, ids, rows.operand())
    }

    /// The control buffer.
    pub fn control(&mut self) -> View {
        self.recording.control()
    }

    fn matrix(
        &mut self,
        name: String,
        [rows, columns]: [usize; 2],
        dtype: DType,
        role: Role,
        needs_gradient: bool,
    ) -> Result<Var> {
        let len = rows.checked_mul(columns).ok_or_else(|| {
            Error::invalid(format!("'{name}' would have {rows} x {columns} elements"))
        })?;
        let view = self.recording.buffer(name, len, dtype, role)?;
        Ok(Var { view, rows, columns, needs_gradient: needs_gradient && self.training })
    }

    /// A temporary matrix of activations; `what` names it in print-outs.
    ///
    /// # Errors
    /// A size of zero, or beyond 32 bits.
    pub fn temporary(&mut self, what: &str, shape: [usize; 2]) -> Result<Var> {
        self.temporary_of(what, shape, self.precision.dtype())
    }

    /// A temporary matrix of f32 in every precision: sums that grow over time, statistics, masks.
    ///
    /// # Errors
    /// As [`Recorder::temporary`].
    pub fn temporary_f32(&mut self, what: &str, shape: [usize; 2]) -> Result<Var> {
        self.temporary_of(what, shape, DType::F32)
    }

    fn temporary_of(&mut self, what: &str, shape: [usize; 2], dtype: DType) -> Result<Var> {
        let name = format!("{what}#{}", self.temporaries);
        self.temporaries += 1;
        self.matrix(name, shape, dtype, Role::Temporary, true)
    }

    /// The element type of a view's buffer.
    pub fn dtype(&self, view: View) -> DType {
        self.recording.get(view.buffer).dtype
    }

    /// A matrix as products read it: itself, or in a shorter precision a copy that each run makes once.
    /// The copy's gradient is the matrix's own.
    ///
    /// # Errors
    /// A size beyond 32 bits.
    pub fn in_precision(&mut self, matrix: Var) -> Result<Var> {
        if self.dtype(matrix.view) == self.precision.dtype() {
            return Ok(matrix);
        }
        if let Some(&copy) = self.copies.get(&matrix.key()) {
            return Ok(copy);
        }
        let copy = self.temporary("copy", [matrix.rows, matrix.columns])?;
        self.copy(matrix, copy)?;
        self.copies.insert(matrix.key(), copy);
        self.originals.insert(copy.key(), matrix);
        Ok(copy)
    }

    /// A matrix that the host writes before a run.
    ///
    /// # Errors
    /// A taken name, a size of zero, or beyond 32 bits.
    pub fn input(&mut self, name: &str, shape: [usize; 2], needs_gradient: bool) -> Result<Var> {
        self.matrix(self.micro.name(name), shape, DType::F32, Role::Input, needs_gradient)
    }

    /// Token ids that the host writes before a run.
    ///
    /// # Errors
    /// A taken name or a size of zero.
    pub fn input_ids(&mut self, name: &str, len: usize) -> Result<View> {
        self.recording.buffer(self.micro.name(name), len, DType::U32, Role::Input)
    }

    /// Memory comes before speed where an engine orders launches.
    pub(crate) fn set_frugal(&mut self) {
        self.recording.set_frugal();
    }

    /// What the host writes into an input of integers must be `most` at most.
    pub fn bound(&mut self, ids: View, most: usize) {
        self.recording.bound(ids, most);
    }

    /// The same but for one value; see [`Recording::bound_but`].
    pub fn bound_but(&mut self, ids: View, most: usize, except: u32) {
        self.recording.bound_but(ids, most, except);
    }

    /// A trainable matrix (a vector is one row) of the store; asked for again, the same one.
    ///
    /// # Errors
    /// Asked for again with another shape, or a size of zero.
    pub fn parameter(&mut self, name: &str, shape: [usize; 2]) -> Result<Var> {
        if let Some(&var) = self.parameters.get(name) {
            if [var.rows, var.columns] != shape {
                return Err(Error::shape(name, &[var.rows, var.columns], &shape));
            }
            return Ok(var);
        }
        let needs_gradient = !(self.frozen)(name);
        let var = match self.averaged {
            true => self.matrix(average_name(name), shape, DType::F32, Role::State, false)?,
            false => {
                let (name, role) = (name.to_string(), Role::Parameter);
                self.matrix(name, shape, DType::F32, role, needs_gradient)?
            }
        };
        self.parameters.insert(name.to_string(), var);
        Ok(var)
    }

    /// A matrix of the store that starts as zeros and stays from run to run. A later micro-batch that asks for
    /// it again gets the same one, as the earlier left it.
    ///
    /// # Errors
    /// A taken name or a size of zero.
    pub fn state(&mut self, name: &str, shape: [usize; 2]) -> Result<Var> {
        let var = match self.micro.state(name) {
            Some(var) if [var.rows, var.columns] != shape => {
                return Err(Error::shape(name, &[var.rows, var.columns], &shape));
            }
            Some(var) => var,
            None => self.matrix(name.to_string(), shape, DType::F32, Role::State, false)?,
        };
        self.micro.keep_state(name, var);
        Ok(var)
    }

    /// A matrix that launches write and the host reads.
    ///
    /// # Errors
    /// A taken name or a size of zero.
    pub fn output_buffer(&mut self, name: &str, shape: [usize; 2]) -> Result<Var> {
        let own = self.micro.name(name);
        let var = self.matrix(own, shape, DType::F32, Role::Output, false)?;
        self.micro.keep_output(name, var);
        Ok(var)
    }

    /// From now on a further loss is added to the one that was recorded before, in the output
    /// [`LOSS`](crate::loss::LOSS), instead of being refused: what is trained is their sum.
    pub fn add_losses(&mut self) {
        self.adds_losses = true;
    }

    /// The loss's ring, where there is one and others may be added to it.
    pub(crate) fn loss_to_add_to(&self) -> Option<View> {
        let name = self.micro.name(crate::loss::LOSS);
        let buffer = self.adds_losses.then(|| self.recording.find(&name)).flatten()?;
        Some(View { buffer, offset: 0, len: self.recording.get(buffer).len })
    }

    /// Copies a matrix to an output of that name.
    ///
    /// # Errors
    /// A taken name.
    pub fn output(&mut self, name: &str, source: Var) -> Result<Var> {
        let target = self.output_buffer(name, [source.rows, source.columns])?;
        self.copy(source, target)?;
        Ok(target)
    }

    /// All parameters asked for so far, by name.
    pub fn parameters(&self) -> Vec<(String, Var)> {
        self.parameters.iter().map(|(name, var)| (name.clone(), *var)).collect()
    }

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

    /// A random stream that nothing else in the recording uses.
    pub fn stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams - 1
    }

    /// Integers that launches write.
    ///
    /// # Errors
    /// A size of zero, or beyond 32 bits.
    pub fn temporary_ids(&mut self, what: &str, len: usize) -> Result<View> {
        let name = format!("{what}#{}", self.temporaries);
        self.temporaries += 1;
        self.recording.buffer(name, len, DType::U32, Role::Temporary)
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

    /// sums\[v\] = Σ over n with ids\[n\] = v of rows\[n\], or added to it, of a sequence's rows in the order of its blocks.
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

    /// Puts on the tape how to record a gradient. Ignored in inference.
    pub fn on_backward(&mut self, record: impl FnOnce(&mut Recorder) -> Result<()> + 'static) {
        if self.training {
            self.tape.push(Box::new(record));
        }
    }

    /// The gradient recorded so far for `var`, if any launch gave it one.
    pub fn gradient(&self, var: Var) -> Option<View> {
        self.gradients.get(&self.original(var).key()).copied()
    }

    /// What a copy for products is a copy of.
    fn original(&self, var: Var) -> Var {
        self.originals.get(&var.key()).copied().unwrap_or(var)
    }

    /// Where to write a gradient of `var`, and whether to add to what is there. `None` where `var`
    /// needs none.
    ///
    /// # Errors
    /// A size beyond 32 bits.
    pub fn gradient_target(&mut self, var: Var) -> Result<Option<(View, bool)>> {
        let var = self.original(var);
        if !var.needs_gradient {
            return Ok(None);
        }
        if let Some(&view) = self.gradients.get(&var.key()) {
            return Ok(Some((view, true)));
        }
        let what = format!("d.{}", self.recording.get(var.view.buffer).name);
        let dtype = self.dtype(var.view);
        let view = self.temporary_of(&what, [var.rows, var.columns], dtype)?.view;
        self.gradients.insert(var.key(), view);
        Ok(Some((view, false)))
    }

    /// Where to write the gradients of two matrices that one product gives: none where neither needs one, and
    /// room that nothing reads for one that needs none where the other does.
    ///
    /// # Errors
    /// A size beyond 32 bits.
    pub(crate) fn gradient_targets(&mut self, pair: [Var; 2]) -> Result<Option<[(View, bool); 2]>> {
        let (a, b) = (self.gradient_target(pair[0])?, self.gradient_target(pair[1])?);
        Ok(match (a, b) {
            (None, None) => None,
            (a, b) => Some([
                a.map_or_else(|| self.unread_target(pair[0]), Ok)?,
                b.map_or_else(|| self.unread_target(pair[1]), Ok)?,
            ]),
        })
    }

    fn unread_target(&mut self, var: Var) -> Result<(View, bool)> {
        let var = self.original(var);
        if let Some(&view) = self.unread.get(&var.key()) {
            return Ok((view, true));
        }
        let view = self.temporary_of("unread", [var.rows, var.columns], self.dtype(var.view))?.view;
        self.unread.insert(var.key(), view);
        Ok((view, false))
    }

    /// Adds a matrix to the gradient of `var`: how a host seeds backward. With 16-bit activations it is
    /// multiplied with the loss scale, as the gradients of losses are.
    ///
    /// # Errors
    /// Unequal sizes.
    pub fn seed_gradient(&mut self, var: Var, seed: Var) -> Result<()> {
        let scale = self.loss_scale()?;
        self.contribute(var, seed, scale)
    }

    /// Adds a matrix that is a gradient already to that of `var`.
    pub(crate) fn add_gradient(&mut self, var: Var, gradient: Var) -> Result<()> {
        self.contribute(var, gradient, None)
    }

    fn contribute(&mut self, var: Var, from: Var, scale: Option<View>) -> Result<()> {
        if var.view.len != from.view.len {
            return Err(Error::shape("gradient", &[var.view.len], &[from.view.len]));
        }
        let Some((target, accumulate)) = self.gradient_target(var)? else { return Ok(()) };
        let n = from.view.len;
        let op = Combine::copy([1, n], Rows::new(from.view, n), Rows::new(target, n));
        let op = Combine { scaled: scale.is_some(), ..op.accumulating(accumulate) };
        let views: Vec<View> = [from.view, target].into_iter().chain(scale).collect();
        self.launch(op, &views)
    }

    /// The state of dynamic loss scaling ([`LossScale`]): all gradients are times its scale, so that small
    /// ones are not lost in 16 bits. None where activations are f32.
    ///
    /// # Errors
    /// Its name is taken.
    pub fn loss_scale(&mut self) -> Result<Option<View>> {
        if self.precision == Precision::F32 {
            return Ok(None);
        }
        if let Some(view) = self.loss_scale {
            return Ok(Some(view));
        }
        let view = self.state(LossScale::NAME, [1, LossScale::WORDS])?.view;
        self.loss_scale = Some(view);
        Ok(Some(view))
    }

    /// Walks the tape backwards.
    ///
    /// # Errors
    /// What the layers' gradients may fail with.
    pub fn backward(&mut self) -> Result<()> {
        while let Some(record) = self.tape.pop() {
            record(self)?;
        }
        Ok(())
    }

    /// The recording.
    pub fn finish(self) -> Recording {
        self.recording
    }
}
