//! How much a stack keeps between forward and backward: everything, or the states at the borders of
//! segments, from which each segment is computed once more when backward comes to it (Chen 2016,
//! "Training deep nets with sublinear memory cost", for a chain of time steps).

use super::{Recurrent, Sequence};
use crate::error::{Error, Result};
use crate::kernel::{NORM_WORDS, SCAN_BLOCK, SequenceRows, View};
use crate::tensor::{Precision, WORD_BYTES};
use std::ops::Range;

/// Rows that a block of a sequence has at least: sums over rows go block by block, and segments end
/// where blocks end, so that they have the same bits however the sequence is cut.
const BLOCK_ROWS: usize = 512;

/// What a stack may keep between forward and backward. Outputs and gradients have the same bits whatever
/// it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// The gates and states of all steps.
    #[default]
    Keep,
    /// At most so many bytes for what the layers keep and work in, their outputs included: everything
    /// where it fits, else the states at the borders of segments, as few as fit.
    Budget(u64),
    /// Segments of at least so many steps each: they end where blocks of rows end.
    Segments(usize),
}

/// A sequence cut into segments of steps, in time order.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    list: Vec<Range<usize>>,
    /// Steps of a block.
    block: usize,
    batch: usize,
    places: usize,
    flags: Option<View>,
}

impl Segments {
    /// The flags of the sequence.
    pub fn flags(&self) -> Option<View> {
        self.flags
    }

    /// The segments in the direction's order.
    pub fn in_order(&self, reverse: bool) -> Vec<Range<usize>> {
        let mut list = self.list.clone();
        if reverse {
            list.reverse();
        }
        list
    }

    /// Rows of a segment, as products and sums over them take them.
    pub fn rows(&self, first_step: usize, reverse: bool) -> SequenceRows {
        SequenceRows {
            flags: self.flags,
            places: self.places,
            first: first_step * self.batch,
            block: self.block * self.batch,
            descending: !reverse,
        }
    }
}

impl Recurrent {
    /// Steps of a block.
    fn block_steps(&self, batch: usize) -> usize {
        let unit = if self.cell.kind.is_scan() { SCAN_BLOCK } else { 1 };
        BLOCK_ROWS.div_ceil(batch * unit) * unit
    }

    /// Bytes that one layer and direction works in for so many steps.
    fn work_bytes(&self, steps: usize, batch: usize, precision: Precision) -> u64 {
        let cell = &self.cell;
        let h = self.hidden;
        let size = precision.dtype().bytes();
        let mut row = cell.saved() * h * size;
        if cell.layer_norm.is_some() {
            row += 2 * cell.gates() * h * size + (NORM_WORDS + 1) * WORD_BYTES;
        }
        row += cell.projection.unwrap_or(0) * size;
        let states = cell.state_words(h) * size;
        (steps as u64 * row as u64 + (steps as u64 + 1) * states as u64) * batch as u64
    }

    /// Bytes of everything that is kept and worked in with segments of so many steps, but for the table.
    fn segment_bytes(&self, steps: usize, [time, batch]: [usize; 2], precision: Precision) -> u64 {
        let parts = (self.layers * self.direction.count()) as u64;
        let border = (self.cell.state_words(self.hidden) * WORD_BYTES) as u64;
        let output = (self.cell.width(self.hidden) * precision.dtype().bytes()) as u64;
        let kept = time.div_ceil(steps) as u64 * border + time as u64 * output;
        parts * kept * batch as u64 + self.work_bytes(steps, batch, precision)
    }

    /// Steps of a segment.
    fn segment_steps(
        &self,
        [time, batch]: [usize; 2],
        precision: Precision,
        table: u64,
    ) -> Result<usize> {
        let block = self.block_steps(batch);
        // A single step would be computed another way than the same step among others.
        let least = if block == 1 { 2 } else { block };
        match self.memory {
            Memory::Keep => Ok(time),
            Memory::Segments(steps) => {
                Ok(steps.min(time).max(least).next_multiple_of(block).min(time))
            }
            Memory::Budget(bytes) => {
                let parts = (self.layers * self.direction.count()) as u64;
                // The first layer's directions keep what they make of a table of inputs.
                let table = table * self.direction.count() as u64;
                let all = parts * self.work_bytes(time, batch, precision) + table;
                if all <= bytes {
                    return Ok(time);
                }
                let choices = (least..time).step_by(block);
                let needed = |steps| self.segment_bytes(steps, [time, batch], precision) + table;
                let fits = |&steps: &usize| needed(steps) <= bytes;
                let least = |least: u64, steps| least.min(needed(steps));
                choices.clone().rev().find(fits).ok_or_else(|| {
                    Error::invalid(format!(
                        "'{}' can't keep within {bytes} bytes: {time} steps of {batch} rows need {}",
                        self.name,
                        choices.fold(all, least)
                    ))
                })
            }
        }
    }

    /// How the memory's limit cuts a sequence.
    ///
    /// # Errors
    /// A budget that no segments fit; batch norm, which needs all steps at once.
    ///
    /// Under a scope each step is a segment. `table`: bytes that a direction keeps of a table of inputs.
    pub(super) fn segments(
        &self,
        sequence: &Sequence,
        flags: Option<View>,
        precision: Precision,
        scoped: bool,
        table: u64,
    ) -> Result<Segments> {
        let (time, batch) = (sequence.time, sequence.batch);
        if self.memory == Memory::Segments(0) {
            return Err(Error::invalid("a segment needs at least 1 step"));
        }
        let steps = if scoped { 1 } else { self.segment_steps([time, batch], precision, table)? };
        if steps < time && self.batch_norm.is_some() {
            return Err(Error::invalid(format!(
                "'{}': batch norm goes over all steps at once and can't be cut into segments; \
                 keep everything",
                self.name
            )));
        }
        let mut list: Vec<_> = (0..time).step_by(steps).map(|t| t..time.min(t + steps)).collect();
        if let [.., before, last] = &mut list[..]
            && last.len() == 1
            && !scoped
        {
            before.end = last.end;
            list.pop();
        }
        let block = self.block_steps(batch);
        Ok(Segments { list, block, batch, places: self.places(), flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::CellKind;

    fn cut(memory: Memory, time: usize, batch: usize) -> Result<Vec<Range<usize>>> {
        let stack = Recurrent { memory, ..Recurrent::new("rnn", CellKind::Lstm, 2, 8) };
        Ok(stack.segments(&Sequence::new(time, batch), None, Precision::F32, false, 0)?.list)
    }

    #[test]
    fn segments_end_where_blocks_end() {
        // 512 rows are 16 steps of 32 rows.
        assert_eq!(cut(Memory::Keep, 70, 32).unwrap().len(), 1);
        assert_eq!(
            cut(Memory::Segments(1), 70, 32).unwrap(),
            [0..16, 16..32, 32..48, 48..64, 64..70]
        );
        assert_eq!(cut(Memory::Segments(17), 65, 32).unwrap(), [0..32, 32..65]);
        assert_eq!(cut(Memory::Segments(1), 5, 600).unwrap(), [0..2, 2..5]);
        assert_eq!(cut(Memory::Segments(1000), 70, 32).unwrap().len(), 1);
        assert_eq!(cut(Memory::Segments(usize::MAX), 70, 32).unwrap().len(), 1);
        assert!(cut(Memory::Segments(0), 70, 32).is_err());
    }

    #[test]
    fn a_budget_takes_the_longest_segments_that_fit() {
        // Words a step: gates 32·8·4, states 32·8·2; a border has 32·8·2, an output 32·8.
        let (gates, states, output) = (1024, 512, 256);
        let all = 4 * (64 * gates + 65 * states);
        assert_eq!(cut(Memory::Budget(all), 64, 32).unwrap().len(), 1);
        let halves = 4 * (64 * output + 2 * states + 32 * gates + 33 * states);
        let thirds = 4 * (64 * output + 2 * states + 48 * gates + 49 * states);
        assert_eq!(cut(Memory::Budget(halves), 64, 32).unwrap(), [0..32, 32..64]);
        assert_eq!(cut(Memory::Budget(thirds), 64, 32).unwrap(), [0..48, 48..64]);
        let error = cut(Memory::Budget(1000), 64, 32).unwrap_err().to_string();
        let least = 4 * (64 * output + 4 * states + 16 * gates + 17 * states);
        assert!(error.contains("1000 bytes") && error.contains(&least.to_string()), "{error}");
    }
}
