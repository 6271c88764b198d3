//! Recording forward, and backward from the tape.

use super::micro_batches::MicroBatches;
use crate::error::{Error, Result};
use crate::kernel::{BufferId, Op, Operand, View};
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

    pub(super) fn key(self) -> Key {
        (self.view.buffer.0, self.view.offset)
    }
}

/// Rows of a table by their ids.
pub(super) struct Gather {
    pub(super) table: Var,
    pub(super) ids: View,
    pub(super) rows: Var,
    /// Nothing has read them so far.
    pub(super) waiting: bool,
}

pub(super) type Key = (usize, usize);
pub(super) type Tape = Vec<Box<dyn FnOnce(&mut Recorder) -> Result<()>>>;

/// The store's name for the average of a parameter ([`Averaging`](crate::optim::Averaging)).
pub fn average_name(parameter: &str) -> String {
    format!("{AVERAGE_PREFIX}{parameter}")
}

/// What names of averages begin with.
pub const AVERAGE_PREFIX: &str = "average.";

/// Appends launches to a [`Recording`].
pub struct Recorder {
    pub(super) recording: Recording,
    pub(super) training: bool,
    pub(super) precision: Precision,
    scoped: bool,
    pub(super) tape: Tape,
    pub(super) gradients: HashMap<Key, View>,
    pub(super) parameters: BTreeMap<String, Var>,
    pub(super) loss_scale: Option<View>,
    /// Copies in the products' precision: what each is of, and by what it is of.
    pub(super) originals: HashMap<Key, Var>,
    copies: HashMap<Key, Var>,
    /// Tails whose gradients have their way back.
    pub(super) tails: HashSet<Key>,
    /// Rows of parameters by their ids, which are looked up when something first reads them.
    pub(super) gathers: HashMap<BufferId, Gather>,
    /// Temporary buffers made so far, for their names.
    temporaries: usize,
    /// Dropouts recorded so far: each is a random stream of its own.
    streams: u32,
    /// Whether a parameter of that name needs no gradient.
    frozen: Box<dyn Fn(&str) -> bool>,
    /// Room for gradients that nothing reads.
    pub(super) unread: HashMap<Key, View>,
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

    pub(super) fn temporary_of(
        &mut self,
        what: &str,
        shape: [usize; 2],
        dtype: DType,
    ) -> Result<Var> {
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

    /// The ring of a loss of that name, where there is one and others may be added to it.
    pub(crate) fn loss_to_add_to(&self, name: &str) -> Option<View> {
        let name = self.micro.name(name);
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

    /// Puts on the tape how to record a gradient. Ignored in inference.
    pub fn on_backward(&mut self, record: impl FnOnce(&mut Recorder) -> Result<()> + 'static) {
        if self.training {
            self.tape.push(Box::new(record));
        }
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
