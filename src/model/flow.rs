//! What goes from layer to layer while a model is recorded.

use crate::error::{Error, Result};
use crate::kernel::{SequenceFlags, SequenceFlagsParams, View};
use crate::layer::{Direction, Sequence};
use crate::schedule::{Recorder, Var};
use std::cell::OnceCell;
use std::rc::Rc;

/// The input that [`Flow::lengths`] records: the steps of each row, u32 \[B\].
pub const LENGTHS: &str = "lengths";
/// The input that [`LastStep`](super::LastStep) records where rows have lengths: row (length − 1)·B + b for each b,
/// u32 \[B\]; b of an empty one.
pub const LAST: &str = "last";
/// The input that [`BothEnds`](super::BothEnds) records: row 2·((length − 1)·B + b), then 2·b + 1, for each b, u32
/// \[2·B\].
pub const ENDS: &str = "ends";
/// The input that [`MeanOverTime`](super::MeanOverTime) records where rows have lengths: 1/length, \[B\]; 0 of an
/// empty one.
pub const SHARES: &str = "shares";

/// Whether there is a row for each step of a sequence, or one for the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// \[T·B, C\], time slowest.
    Steps,
    /// \[B, C\].
    Rows,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Ids(View),
    Values(Var),
}

/// What goes from layer to layer while a model is recorded: token ids or values, and which sequences they are of.
#[derive(Clone, Debug)]
pub struct Flow {
    content: Content,
    form: Form,
    sequence: Sequence,
    /// Of the last recurrent layers so far.
    direction: Option<Direction>,
    /// What several layers read is recorded once.
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    step_flags: OnceCell<Option<View>>,
    row_flags: OnceCell<View>,
    last: OnceCell<View>,
    ends: OnceCell<View>,
    shares: OnceCell<Var>,
}

impl Flow {
    /// Token ids, u32 \[T·B\].
    ///
    /// # Errors
    /// Another number of ids.
    pub fn tokens(ids: View, sequence: impl Into<Sequence>) -> Result<Self> {
        let sequence = sequence.into();
        let rows = sequence.time.saturating_mul(sequence.batch);
        if ids.len != rows {
            return Err(Error::shape("token ids", &[rows], &[ids.len]));
        }
        Ok(Self::new(Content::Ids(ids), sequence))
    }

    /// Values \[T·B, C\].
    ///
    /// # Errors
    /// Another number of rows.
    pub fn values(x: Var, sequence: impl Into<Sequence>) -> Result<Self> {
        let sequence = sequence.into();
        let rows = sequence.time.saturating_mul(sequence.batch);
        if x.rows != rows {
            return Err(Error::shape("values", &[rows, x.columns], &[x.rows, x.columns]));
        }
        Ok(Self::new(Content::Values(x), sequence))
    }

    fn new(content: Content, sequence: Sequence) -> Self {
        Flow { content, form: Form::Steps, sequence, direction: None, shared: Rc::default() }
    }

    /// The same behind recurrent layers that go so.
    pub(super) fn behind(self, direction: Direction) -> Self {
        Flow { direction: Some(direction), ..self }
    }

    /// How the last recurrent layers so far go; none where there were none.
    pub(super) fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// T.
    pub fn time(&self) -> usize {
        self.sequence.time
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.sequence.batch
    }

    /// T, B, and which steps take part.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// A row a step, or a row a sequence.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Columns C; none of token ids.
    pub fn width(&self) -> Option<usize> {
        match self.content {
            Content::Ids(_) => None,
            Content::Values(x) => Some(x.columns),
        }
    }

    /// The token ids.
    ///
    /// # Errors
    /// They are values.
    pub fn ids(&self) -> Result<View> {
        match self.content {
            Content::Ids(ids) => Ok(ids),
            Content::Values(x) => {
                let what = format!("it needs token ids, and gets values of width {}", x.columns);
                Err(Error::invalid(what))
            }
        }
    }

    /// The values, a row a step or a row a sequence.
    ///
    /// # Errors
    /// They are token ids.
    pub fn rows(&self) -> Result<Var> {
        match self.content {
            Content::Values(x) => Ok(x),
            Content::Ids(_) => {
                Err(Error::invalid("it needs values, and gets token ids: put an embedding before"))
            }
        }
    }

    /// The values of the steps, \[T·B, C\].
    ///
    /// # Errors
    /// They are token ids, or one row a sequence.
    pub fn steps(&self) -> Result<Var> {
        match self.form {
            Form::Steps => self.rows(),
            Form::Rows => {
                let what = "it needs the steps of sequences, and gets one row a sequence: \
                            put it before what pools over time";
                Err(Error::invalid(what))
            }
        }
    }

    /// The same with other values.
    ///
    /// # Errors
    /// Another number of rows.
    pub fn with(self, x: Var) -> Result<Self> {
        let rows = match self.form {
            Form::Steps => self.time() * self.batch(),
            Form::Rows => self.batch(),
        };
        if x.rows != rows {
            return Err(Error::shape("what comes out", &[rows, x.columns], &[x.rows, x.columns]));
        }
        Ok(Flow { content: Content::Values(x), ..self })
    }

    /// One row a sequence, \[B, C\].
    ///
    /// # Errors
    /// Another number of rows.
    pub fn pooled(self, x: Var) -> Result<Self> {
        Flow { form: Form::Rows, ..self }.with(x)
    }

    /// Which rows take part, u32 \[T·B\] (or \[B\], where there is one row a sequence: those that are not empty), for
    /// the mask of a loss; none where all do.
    ///
    /// # Errors
    /// As [`Sequence::record_flags`].
    pub fn flags(&self, rec: &mut Recorder) -> Result<Option<View>> {
        if self.form == Form::Steps {
            return once(&self.shared.step_flags, || self.sequence.record_flags(rec));
        }
        let Some(lengths) = self.lengths()? else { return Ok(None) };
        // Of one step: a row that has a step has the first one.
        let flags = once(&self.shared.row_flags, || {
            let flags = rec.temporary_ids("flags", self.batch())?;
            let params = SequenceFlagsParams { time: 1, batch: self.batch() as u32 };
            let op = SequenceFlags { params, lengths: true, mask: false, resets: false };
            rec.launch(op, &[flags, lengths])?;
            Ok(flags)
        })?;
        Ok(Some(flags))
    }

    /// The lengths, u32 \[B\]; none where all rows have T steps.
    ///
    /// # Errors
    /// Steps are left out by a mask, or rows begin anew: then a row has no one end.
    pub fn lengths(&self) -> Result<Option<View>> {
        if self.sequence.mask.is_some() || self.sequence.resets.is_some() {
            return Err(Error::invalid(
                "pooling over time goes by lengths, not by masks or resets",
            ));
        }
        Ok(self.sequence.lengths)
    }

    /// The input [`LAST`].
    pub(super) fn last(&self, rec: &mut Recorder) -> Result<View> {
        once(&self.shared.last, || rec.input_ids(LAST, self.batch()))
    }

    /// The input [`ENDS`].
    pub(super) fn ends(&self, rec: &mut Recorder) -> Result<View> {
        once(&self.shared.ends, || rec.input_ids(ENDS, 2 * self.batch()))
    }

    /// The input [`SHARES`], \[B, 1\].
    pub(super) fn shares(&self, rec: &mut Recorder) -> Result<Var> {
        once(&self.shared.shares, || rec.input(SHARES, [self.batch(), 1], false))
    }
}

/// What is in the cell, or is put there.
fn once<T: Copy>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(&value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(*cell.get_or_init(|| value))
}
