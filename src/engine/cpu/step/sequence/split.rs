//! Who of a team makes what.

use crate::engine::cpu::panel::WIDTH;
use crate::engine::cpu::team::Exchange;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

type Parts = SmallVec<[Range<usize>; 1]>;

/// Groups of batch rows, each of which several threads make, a share of the units each. A group's
/// rows go in bands, each through all steps before the next begins.
pub struct Split {
    hidden: usize,
    /// Multiply-adds of a row and unit.
    terms: usize,
    groups: Parts,
    /// Of one group after another.
    bands: SmallVec<[Band; 1]>,
    /// In blocks of sixteen units.
    shares: Parts,
}

/// Rows that go through all steps together.
#[derive(Clone, Debug)]
pub struct Band {
    pub group: usize,
    /// Which of its group's bands it is.
    pub turn: usize,
    pub rows: Range<usize>,
}

/// What one thread makes of one band.
#[derive(Clone)]
pub struct Member {
    pub group: usize,
    pub turn: usize,
    pub share: usize,
    pub rows: Range<usize>,
    pub blocks: Range<usize>,
    pub units: Range<usize>,
}

impl Member {
    /// The units of some blocks, counted from the member's first.
    #[inline(always)]
    pub fn within(&self, blocks: &Range<usize>) -> Range<usize> {
        let [first, end] = [blocks.start, blocks.end].map(|b| b * WIDTH - self.units.start);
        first..end.min(self.units.len())
    }
}

/// Rows that a group should have, so that weights that are read serve several; many where the weights, of more than
/// so many words, come from memory at every step.
const ROWS: usize = 8;
const MANY_ROWS: usize = 32;
const MANY_WORDS: usize = 1 << 21;

/// Rows of a band at most: two tiles of twelve. Their gates stay in the second-level cache from the
/// product to the cell, and lie in rows that are read one after another.
const MOST_BAND_ROWS: usize = 24;

/// Multiply-adds of a step that are worth telling each other; and of all steps, or of a single one,
/// that are worth waking anybody.
const WORTH: usize = 1 << 15;
const WORTH_WAKING: usize = 1 << 20;
const WORTH_WAKING_ONCE: usize = 1 << 19;

/// Multiply-adds that telling each other takes the time of, on a machine that has other work now and then.
const TELLING: usize = 1 << 15;

impl Split {
    /// Over `threads` threads at most. `even`: the rows are all as long.
    pub fn new(
        threads: usize,
        batch: usize,
        hidden: usize,
        products: usize,
        even: bool,
        steps: usize,
    ) -> Self {
        let blocks = hidden.div_ceil(WIDTH);
        let weights = products * hidden * hidden;
        let worth = if steps > 1 { WORTH_WAKING } else { WORTH_WAKING_ONCE };
        let wakes = steps * batch * weights >= worth;
        let threads = if wakes { threads } else { 1 };
        let rows = if weights > MANY_WORDS { MANY_ROWS } else { ROWS };
        let groups = if even { threads.min(batch / rows).max(1) } else { 1 };
        let work = batch.div_ceil(groups) * weights;
        let shares = (threads / groups).min(blocks).min(work / WORTH).max(1);
        let groups = parts(0..batch, groups);
        let most = if weights > MANY_WORDS { batch } else { MOST_BAND_ROWS };
        let bands = groups.iter().enumerate().flat_map(|(group, rows)| {
            let bands = parts(rows.clone(), rows.len().div_ceil(most)).into_iter().enumerate();
            bands.map(move |(turn, rows)| Band { group, turn, rows })
        });
        Split {
            hidden,
            terms: products * hidden,
            bands: bands.collect(),
            groups,
            shares: parts(0..blocks, shares),
        }
    }

    /// The same groups, each by one thread.
    pub fn without_shares(self) -> Self {
        let blocks = self.hidden.div_ceil(WIDTH);
        Split { shares: parts(0..blocks, 1), ..self }
    }

    /// Band by band, and of each band share by share.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        self.bands.iter().flat_map(move |band| {
            self.shares.iter().enumerate().map(move |(share, blocks)| Member {
                group: band.group,
                turn: band.turn,
                share,
                rows: band.rows.clone(),
                blocks: blocks.clone(),
                units: self.units(share),
            })
        })
    }

    /// Threads at work.
    pub fn threads(&self) -> usize {
        self.groups.len() * self.shares()
    }

    /// Which of them makes a member's part.
    pub fn thread(&self, member: &Member) -> usize {
        member.group * self.shares() + member.share
    }

    /// How long so many steps take, in multiply-adds of one thread.
    pub fn time(&self, steps: usize) -> f64 {
        let longest = |of: &Parts| of.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let units = (0..self.shares()).map(|share| self.units(share).len()).max().unwrap_or(0);
        let told = if self.shares() > 1 { TELLING } else { 0 };
        (steps * (longest(&self.groups) * units * self.terms + told)) as f64
    }

    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    pub fn shares(&self) -> usize {
        self.shares.len()
    }

    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Tells the others of a group what a member made of step number `step`, and hears what they made: the units of
    /// `words`, `stride` words from one row to the next.
    #[inline(always)]
    pub fn tell(
        &self,
        exchange: &Exchange,
        share: usize,
        step: usize,
        words: &mut [f32],
        stride: usize,
    ) {
        if self.shares() == 1 {
            return;
        }
        let own = self.units(share);
        exchange.publish(share, step, |part| {
            part.clear();
            words.chunks(stride).for_each(|row| part.extend_from_slice(&row[own.clone()]));
        });
        for other in (0..self.shares()).filter(|&other| other != share) {
            let units = self.units(other);
            let part = exchange.part(other, step);
            for (row, from) in words.chunks_mut(stride).zip(part.chunks(units.len())) {
                row[units.clone()].copy_from_slice(from);
            }
        }
    }

    /// The units of a share.
    pub fn units(&self, share: usize) -> Range<usize> {
        let Range { start, end } = self.shares[share];
        start * WIDTH..(end * WIDTH).min(self.hidden)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = |n: usize, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        let [groups, shares] = [self.groups.len(), self.shares.len()];
        write!(f, "{} at work: ", several(groups * shares, "thread"))?;
        let rows = self.groups.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        write!(f, "{} of {}", several(groups, "group"), several(rows, "row"))?;
        let band = self.bands.iter().map(|band| band.rows.len()).max().unwrap_or(0);
        if band < rows {
            write!(f, ", {band} at a time through all steps")?;
        }
        if shares > 1 {
            write!(f, ", each by {shares} threads that tell each other what they made")?;
        }
        write!(f, "; weights packed once, in panels of {WIDTH} units")
    }
}

/// `whole` in so many parts.
fn parts(whole: Range<usize>, parts: usize) -> Parts {
    let border = |i: usize| whole.start + whole.len() * i / parts;
    (0..parts).map(|i| border(i)..border(i + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_every_row_is_one_members() {
        let mut seen = [0; 4];
        for threads in 1..9 {
            for [batch, hidden] in
                [[1, 1], [1, 300], [3, 7], [7, 129], [40, 64], [16, 300], [100, 20]]
            {
                for even in [false, true] {
                    let split = Split::new(threads, batch, hidden, 4, even, 1 << 12);
                    let split = if threads == 5 { split.without_shares() } else { split };
                    assert!(threads != 5 || split.shares() == 1);
                    let mut owners = vec![0; batch * hidden];
                    for member in split.members() {
                        assert!(
                            member.blocks.clone().all(|b| !member.within(&(b..b + 1)).is_empty())
                        );
                        for row in member.rows.clone() {
                            member.units.clone().for_each(|unit| owners[row * hidden + unit] += 1);
                        }
                    }
                    seen[3] += usize::from(split.shares() > 1 && split.bands().len() > 1);
                    assert!(owners.iter().all(|&n| n == 1), "{threads} {batch} {hidden}");
                    assert!(split.threads() <= threads);
                    let mut turns = vec![0; split.threads()];
                    for member in split.members() {
                        assert!(member.rows.len() <= MOST_BAND_ROWS);
                        let turn = &mut turns[split.thread(&member)];
                        assert_eq!(member.turn, *turn, "in their order");
                        *turn += 1;
                    }
                    seen[0] += usize::from(split.shares() > 1);
                    seen[1] += usize::from(split.groups() > 1);
                    seen[2] += usize::from(split.shares() > 1 && split.groups() > 1);
                }
            }
        }
        assert!(seen.iter().all(|&n| n > 0), "{seen:?}");
    }
}
