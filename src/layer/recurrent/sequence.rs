//! What is known of a batch of sequences: lengths, masks, resets, padding, packing.

use crate::error::{Error, Result};
use crate::kernel::{
    RESET, SelectRows, SelectRowsParams, SequenceFlags, SequenceFlagsParams, VALID, View,
};
use crate::schedule::{Recorder, Var};

/// T steps of B rows, and which of them take part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence {
    /// T.
    pub time: usize,
    /// B (with a convolution B·S: the flags below are of B rows still).
    pub batch: usize,
    /// Steps of each row, u32 \[B\], in any order; 0 is an empty one. A length beyond T is an error
    /// where the host writes it (on the device, where no host looks, it counts as T).
    pub lengths: Option<View>,
    /// 1 where a row takes part in a step, else 0, \[T,B\].
    pub mask: Option<View>,
    /// 1 where a row's states are 0 before a step (in the direction's order; learned initial states are for a
    /// sequence's beginning alone), else 0, \[T,B\].
    pub resets: Option<View>,
    /// What the outputs of steps that take no part are.
    pub padding: Padding,
}

/// Outputs where a row takes no part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    /// A value; ONNX has 0.
    Value(f32),
    /// The last state, repeated (Keras).
    Repeat,
}

impl Sequence {
    /// Every row takes part in every step.
    pub fn new(time: usize, batch: usize) -> Self {
        let padding = Padding::Value(0.0);
        Sequence { time, batch, lengths: None, mask: None, resets: None, padding }
    }

    /// Rows end after their own lengths.
    pub fn with_lengths(self, lengths: View) -> Self {
        Sequence { lengths: Some(lengths), ..self }
    }

    /// Rows take part where the mask is not 0.
    pub fn with_mask(self, mask: View) -> Self {
        Sequence { mask: Some(mask), ..self }
    }

    /// Rows start anew where the resets are not 0.
    pub fn with_resets(self, resets: View) -> Self {
        Sequence { resets: Some(resets), ..self }
    }

    /// What the outputs are where a row takes no part.
    pub fn with_padding(self, padding: Padding) -> Self {
        Sequence { padding, ..self }
    }

    /// T and B; `places` rows share their flags.
    pub(super) fn check(&self, places: usize) -> Result<[usize; 2]> {
        super::positive("the number of time steps", self.time)?;
        super::positive("the batch", self.batch)?;
        let rows = self.time.checked_mul(self.batch);
        if rows.is_none_or(|rows| u32::try_from(rows).is_err()) {
            return Err(Error::invalid(format!(
                "{} time steps of {} rows are more than kernels count to: {} at most",
                self.time,
                self.batch,
                u32::MAX
            )));
        }
        if !self.batch.is_multiple_of(places) {
            return Err(Error::invalid(format!(
                "a batch of {} rows is no whole number of maps of {places} places",
                self.batch
            )));
        }
        let rows = self.batch / places;
        for (view, want, what) in [
            (self.lengths, rows, "lengths"),
            (self.mask, self.time * rows, "mask"),
            (self.resets, self.time * rows, "resets"),
        ] {
            if let Some(view) = view
                && view.len != want
            {
                return Err(Error::shape(what, &[want], &[view.len]));
            }
        }
        Ok([self.time, self.batch])
    }

    /// Records which rows take part in which steps, u32 \[T·B\], where there are lengths, a mask or resets: the mask of
    /// a loss over the sequence's rows.
    ///
    /// # Errors
    /// Sizes of zero; lengths, a mask or resets of another shape.
    pub fn record_flags(&self, rec: &mut Recorder) -> Result<Option<View>> {
        self.check(1)?;
        self.record_flags_of(rec, 1)
    }

    /// The flags \[T,B\] of the steps, where there are any.
    pub(super) fn record_flags_of(
        &self,
        rec: &mut Recorder,
        places: usize,
    ) -> Result<Option<View>> {
        if self.lengths.is_none() && self.mask.is_none() && self.resets.is_none() {
            return Ok(None);
        }
        let batch = self.batch / places;
        let flags = rec.temporary_ids("flags", self.time * batch)?;
        let params = SequenceFlagsParams { time: self.time as u32, batch: batch as u32 };
        let op = SequenceFlags {
            params,
            lengths: self.lengths.is_some(),
            mask: self.mask.is_some(),
            resets: self.resets.is_some(),
        };
        if let Some(lengths) = self.lengths {
            rec.bound(lengths, self.time);
        }
        let mut views = vec![flags];
        views.extend([self.lengths, self.mask, self.resets].into_iter().flatten());
        rec.launch(op, &views)?;
        Ok(Some(flags))
    }
}

impl From<[usize; 2]> for Sequence {
    fn from([time, batch]: [usize; 2]) -> Self {
        Sequence::new(time, batch)
    }
}

/// Rows of a sequence that are kept by a flag (the flags, the flag, rows of the sequence before these),
/// else `value`, times a mask \[B, columns\].
pub(super) fn select(
    rec: &mut Recorder,
    [source, target]: [View; 2],
    [rows, columns, batch, places]: [usize; 4],
    flags: Option<(View, u32, usize)>,
    mask: Option<View>,
    value: f32,
    accumulate: bool,
) -> Result<()> {
    let flag = flags.map_or(VALID, |f| f.1);
    let params = SelectRowsParams {
        rows: rows as u32,
        columns: columns as u32,
        source_offset: source.offset as u32,
        target_offset: target.offset as u32,
        flag,
        wanted: if flag == RESET { 0 } else { flag },
        places: places as u32,
        batch: batch as u32,
        first: flags.map_or(0, |f| f.2) as u32,
        mask_offset: mask.map_or(0, |m| m.offset) as u32,
        value,
    };
    let op = SelectRows { params, flags: flags.is_some(), mask: mask.is_some(), accumulate };
    let mut views = vec![source, target];
    views.extend(flags.map(|f| f.0));
    views.extend(mask);
    rec.launch(op, &views)
}

/// Outputs of rows that take no part become `value`.
pub(super) fn pad(
    rec: &mut Recorder,
    x: Var,
    flags: View,
    places: usize,
    value: f32,
) -> Result<Var> {
    let y = rec.temporary("padded", [x.rows, x.columns])?;
    let shape = [x.rows, x.columns, 1, places];
    select(rec, [x.view, y.view], shape, Some((flags, VALID, 0)), None, value, false)?;
    rec.on_backward(move |rec| {
        let Some(dy) = rec.gradient(y) else { return Ok(()) };
        let Some((dx, accumulate)) = rec.gradient_target(x)? else { return Ok(()) };
        select(rec, [dy, dx], shape, Some((flags, VALID, 0)), None, 0.0, accumulate)
    });
    Ok(y)
}

/// How packed rows (PyTorch's `PackedSequence`: step by step, the longest sequence first) lie in a
/// padded batch \[T·B\], with T the longest length: for each padded row the packed row it is (0 where
/// it is padding), and for each packed row the padded row. The two are ids for
/// [`Recorder::gather`].
///
/// # Errors
/// No sequence, or none that is not empty.
pub fn pack_indices(lengths: &[usize]) -> Result<(Vec<u32>, Vec<u32>)> {
    let time = lengths.iter().copied().max().unwrap_or(0);
    if time == 0 {
        return Err(Error::invalid("there is nothing to pack: all sequences are empty"));
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable, as PyTorch's sort of the lengths.
    order.sort_by_key(|&b| std::cmp::Reverse(lengths[b]));
    let mut padded = vec![0; time * lengths.len()];
    let mut packed = Vec::new();
    for t in 0..time {
        for &b in order.iter().take_while(|&&b| lengths[b] > t) {
            padded[t * lengths.len() + b] = packed.len() as u32;
            packed.push((t * lengths.len() + b) as u32);
        }
    }
    Ok((padded, packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_goes_step_by_step_with_the_longest_first() {
        let (padded, packed) = pack_indices(&[2, 3, 0, 2]).unwrap();
        // Rows at t = 0: 1, 0, 3; at t = 1: the same; at t = 2: 1.
        assert_eq!(packed, [1, 0, 3, 5, 4, 7, 9]);
        assert_eq!(padded, [1, 0, 0, 2, 4, 3, 0, 5, 0, 6, 0, 0]);
        assert!(pack_indices(&[0, 0]).is_err());
        assert!(pack_indices(&[]).is_err());
    }
}
