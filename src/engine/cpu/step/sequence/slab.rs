//! What of a written buffer is whose.

use super::split::{Member, Split};
use crate::engine::cpu::step::Few;
use std::ops::Range;

/// A member's part of a buffer \[steps, rows, blocks, H\]: its rows, and its units of each block.
#[derive(Default)]
pub struct Slab<'a> {
    /// All of the rows of a step, or of each row and block the units.
    pieces: Few<&'a mut [f32]>,
    whole: bool,
    rows: usize,
    blocks: usize,
    hidden: usize,
}

impl<'a> Slab<'a> {
    /// The parts of all members, in their order; of an absent buffer, nothing.
    pub fn of_members(mut buffer: &'a mut [f32], blocks: usize, split: &Split) -> Few<Slab<'a>> {
        let hidden = split.hidden();
        let mut slabs: Few<_> = split.members().map(|m| Slab::empty(&m, blocks, split)).collect();
        while !buffer.is_empty() {
            for (number, band) in split.bands().iter().enumerate() {
                let (first, rows) = (number * split.shares(), band.rows.len());
                if split.shares() == 1 {
                    let of_rows = take(&mut buffer, rows * blocks * hidden);
                    slabs[first].pieces.push(of_rows);
                    continue;
                }
                for _ in 0..rows * blocks {
                    for share in 0..split.shares() {
                        let units = take(&mut buffer, split.units(share).len());
                        slabs[first + share].pieces.push(units);
                    }
                }
            }
        }
        slabs
    }

    fn empty(member: &Member, blocks: usize, split: &Split) -> Self {
        Slab {
            pieces: Few::new(),
            whole: split.shares() == 1,
            rows: member.rows.len(),
            blocks,
            hidden: split.hidden(),
        }
    }

    /// All rows of one step, to be read if there is one, and of another, to be written, where they
    /// lie one after another.
    #[inline(always)]
    pub fn pair(&mut self, read: Option<usize>, written: usize) -> (Option<&[f32]>, &mut [f32]) {
        match read {
            None => (None, self.pieces[written]),
            Some(read) if read < written => {
                let (before, behind) = self.pieces.split_at_mut(written);
                (Some(before[read]), behind[0])
            }
            Some(read) => {
                let (before, behind) = self.pieces.split_at_mut(read);
                (Some(behind[0]), before[written])
            }
        }
    }

    /// All rows of a step, where they lie one after another.
    #[inline(always)]
    pub fn step(&mut self, step: usize) -> &mut [f32] {
        self.pieces[step]
    }

    /// Some of the member's units of a block: `within` counts from the first of them.
    #[inline(always)]
    pub fn of(
        &mut self,
        step: usize,
        row: usize,
        block: usize,
        within: Range<usize>,
    ) -> &mut [f32] {
        if self.whole {
            let at = (row * self.blocks + block) * self.hidden;
            &mut self.pieces[step][at + within.start..at + within.end]
        } else {
            &mut self.pieces[(step * self.rows + row) * self.blocks + block][within]
        }
    }
}

fn take<'a>(buffer: &mut &'a mut [f32], words: usize) -> &'a mut [f32] {
    let words = words.min(buffer.len());
    let (first, rest) = std::mem::take(buffer).split_at_mut(words);
    *buffer = rest;
    first
}
