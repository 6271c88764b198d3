//! Sequences in batches of a few shapes, and their inputs as the device reads them.

use super::samples::{Content, Samples};
use super::sequential::{INPUT, input};
use super::{ENDS, Flow, Form, LAST, LENGTHS, Model, SHARES, Sequences, Targets};
use crate::data::{Batch, Buckets};
use crate::error::Result;
use crate::layer::Sequence;
use crate::schedule::Recorder;
use crate::train::{Feed, Values};

/// The input of targets.
pub(super) const TARGETS: &str = "targets";

/// Sequences in batches of so many rows of the longest, and more of shorter ones; `most` shapes. Where rows are `equal`,
/// of shorter ones no more than that.
pub(super) fn cut(lengths: &[usize], batch: usize, most: usize, equal: bool) -> Result<Buckets> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let buckets = Buckets::new(lengths, longest.saturating_mul(batch.max(1)), most)?;
    Ok(if equal { buckets.with_rows(batch) } else { buckets })
}

/// The shapes of batches of sequences.
pub(super) struct Shapes {
    /// T and B of each.
    pub sizes: Vec<[usize; 2]>,
    /// Of each, whether all rows of all its batches have all steps: then nothing needs lengths.
    whole: Vec<bool>,
}

impl Shapes {
    /// Those of buckets of sequences of these lengths.
    pub fn of(buckets: &Buckets, lengths: &[usize]) -> Self {
        let sizes = buckets.shapes().to_vec();
        let mut whole = vec![true; sizes.len()];
        for Batch { shape, rows } in buckets.in_order() {
            let [time, batch] = sizes[shape];
            whole[shape] &= rows.len() == batch && rows.iter().all(|&row| lengths[row] == time);
        }
        Shapes { sizes, whole }
    }

    /// Of sequences that are not there yet.
    pub fn given(sizes: Vec<[usize; 2]>) -> Self {
        Shapes { whole: vec![false; sizes.len()], sizes }
    }

    /// Records a model over a batch of a shape.
    pub fn record(&self, rec: &mut Recorder, model: &Model, shape: usize) -> Result<Flow> {
        let [time, batch] = self.sizes[shape];
        let mut sequence = Sequence::new(time, batch);
        if !self.whole[shape] {
            let lengths = rec.input_ids(LENGTHS, batch)?;
            rec.bound(lengths, time);
            sequence = sequence.with_lengths(lengths);
        }
        let flow = input(rec, model.features, sequence)?;
        model.record(rec, flow)
    }

    /// A batch of sequences.
    pub fn feed(&self, sequences: &Sequences, lengths: &[usize], batch: &Batch) -> Feed {
        let [_, rows] = self.sizes[batch.shape];
        let mut feed = Feed::new(batch.shape);
        feed.put(INPUT, self.content(&sequences.0, Form::Steps, batch));
        let own = |row: usize| batch.rows.get(row).map_or(0, |&sequence| lengths[sequence]);
        // A layer that needs one of these has recorded it.
        let all: Vec<u32> = (0..rows).map(|row| own(row) as u32).collect();
        feed.put_if_recorded(LENGTHS, all);
        let last = |row: usize| (own(row).saturating_sub(1) * rows + row) as u32;
        feed.put_if_recorded(LAST, (0..rows).map(last).collect::<Vec<_>>());
        let ends = |row: usize| [2 * last(row), 2 * row as u32 + 1];
        feed.put_if_recorded(ENDS, (0..rows).flat_map(ends).collect::<Vec<_>>());
        let share = |row: usize| if own(row) > 0 { 1.0 / own(row) as f32 } else { 0.0 };
        feed.put_if_recorded(SHARES, (0..rows).map(share).collect::<Vec<_>>());
        feed
    }

    /// The targets of a batch.
    pub fn targets(&self, samples: &Samples, batch: &Batch) -> Values {
        let Targets { content, form } = &samples.targets;
        self.content(content, *form, batch)
    }

    /// Time-major, with zeros where a row has no step.
    fn content(&self, content: &Content, form: Form, batch: &Batch) -> Values {
        let [time, rows] = self.sizes[batch.shape];
        let steps = if form == Form::Steps { time } else { 1 };
        match content {
            Content::Ids(list) => {
                let mut all = vec![0; steps * rows];
                for (row, &sequence) in batch.rows.iter().enumerate() {
                    let own = list[sequence].iter().enumerate();
                    own.for_each(|(t, &value)| all[t * rows + row] = value);
                }
                all.into()
            }
            Content::Values { width, list } => {
                let mut all = vec![0.0; steps * rows * width];
                for (row, &sequence) in batch.rows.iter().enumerate() {
                    for (t, values) in list[sequence].chunks(*width).enumerate() {
                        all[(t * rows + row) * width..][..*width].copy_from_slice(values);
                    }
                }
                all.into()
            }
        }
    }
}

impl Samples {
    /// What a batch's mean loss counts: its rows, or its steps that count.
    pub(super) fn weight(&self, batch: &Batch, ignored: Option<u32>) -> f64 {
        batch.rows.iter().map(|&row| self.targets.counted(row, ignored)).sum::<usize>() as f64
    }
}
