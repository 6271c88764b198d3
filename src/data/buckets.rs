//! Sequences of many lengths in batches of few shapes.

use super::{Draw, random};
use crate::error::{Error, Result};
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A batch of sequences: which shape it has, and which sequences are its rows. A batch with fewer rows than the
/// shape is filled up with empty ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of its shape in [`Buckets::shapes`].
    pub shape: usize,
    /// The numbers of its sequences.
    pub rows: Vec<usize>,
}

/// Sequences by length: those of one bucket are padded to its longest, and a batch of it has as many rows as fit a
/// budget of T·B steps. So the device computes little padding, and has few shapes to prepare for.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// T and B of each bucket, from the shortest on.
    shapes: Vec<[usize; 2]>,
    /// The sequences of each.
    members: Vec<Vec<usize>>,
    lengths: Vec<usize>,
}

impl Buckets {
    /// Buckets for sequences of these lengths, `most` of them at most, in batches of `budget` steps T·B, padding
    /// among them.
    ///
    /// # Errors
    /// No sequence that is not empty; a sequence that is longer than the budget, with its number.
    pub fn new(lengths: &[usize], budget: usize, most: usize) -> Result<Self> {
        let mut order: Vec<usize> = (0..lengths.len()).filter(|&i| lengths[i] > 0).collect();
        if order.is_empty() {
            return Err(Error::invalid("there is no sequence that is not empty"));
        }
        if let Some(&long) = order.iter().find(|&&i| lengths[i] > budget) {
            return Err(Error::invalid(format!(
                "sequence {} has {} steps, more than a batch may have ({budget})",
                long + 1,
                lengths[long]
            )));
        }
        order.sort_by_key(|&i| (lengths[i], i));
        let borders = borders(&order, lengths, most.max(1));
        let (mut shapes, mut members) = (Vec::new(), Vec::new());
        let mut from = 0;
        for end in borders {
            let own = order[from..end].to_vec();
            let time = lengths[order[end - 1]];
            shapes.push([time, (budget / time).clamp(1, own.len())]);
            members.push(own);
            from = end;
        }
        Ok(Buckets { shapes, members, lengths: lengths.to_vec() })
    }

    /// The same with so many rows at most in a batch, of short sequences too.
    pub fn with_rows(mut self, most: usize) -> Self {
        self.shapes.iter_mut().for_each(|[_, batch]| *batch = (*batch).min(most.max(1)));
        self
    }

    /// T and B of each shape.
    pub fn shapes(&self) -> &[[usize; 2]] {
        &self.shapes
    }

    /// Batches of a pass.
    pub fn count(&self) -> usize {
        let each = self.members.iter().zip(&self.shapes);
        each.map(|(own, [_, batch])| own.len().div_ceil(*batch)).sum()
    }

    /// The share of all steps of a pass that is padding.
    pub fn padding(&self) -> f64 {
        let real: usize = self.members.iter().flatten().map(|&i| self.lengths[i]).sum();
        let each = self.members.iter().zip(&self.shapes);
        let all: usize =
            each.map(|(own, [time, batch])| own.len().div_ceil(*batch) * time * batch).sum();
        1.0 - real as f64 / all as f64
    }

    /// The batches in order of their lengths, the same at each pass: for evaluations.
    pub fn in_order(&self) -> Vec<Batch> {
        let each = self.members.iter().zip(&self.shapes).enumerate();
        each.flat_map(|(shape, (own, [_, batch]))| {
            own.chunks(*batch).map(move |rows| Batch { shape, rows: rows.to_vec() })
        })
        .collect()
    }

    /// The batches of a pass: who is with whom, and in which order they come, is drawn from the seed and the
    /// number of the pass alone.
    pub fn shuffled(&self, seed: u64, epoch: u64) -> Vec<Batch> {
        let mut random = random(Draw::Order, seed, epoch);
        let mut list = Vec::new();
        for (shape, (own, [_, batch])) in self.members.iter().zip(&self.shapes).enumerate() {
            let mut own = own.clone();
            own.shuffle(&mut random);
            list.extend(own.chunks(*batch).map(|rows| Batch { shape, rows: rows.to_vec() }));
        }
        list.shuffle(&mut random);
        list
    }
}

/// Batches of bucketed sequences by their numbers over all passes, as a [`Task`](crate::train::Task) is asked for
/// them: each pass shuffled by the seed and its number.
#[derive(Clone, Debug)]
pub struct Passes {
    buckets: Buckets,
    last: LastPass<Vec<Batch>>,
}

impl Passes {
    /// Of these buckets.
    pub fn new(buckets: Buckets) -> Self {
        Passes { buckets, last: LastPass::default() }
    }

    /// The buckets.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Batch `batch` (from 0, counted over all passes) under a seed.
    pub fn batch(&self, batch: u64, seed: u64) -> Batch {
        let count = self.buckets.count() as u64;
        let make = |epoch| self.buckets.shuffled(seed, epoch);
        self.last.get(seed, batch / count, make)[(batch % count) as usize].clone()
    }
}

/// What was made for the pass that was asked for last, of each seed: members of an ensemble have their own.
#[derive(Debug)]
pub(crate) struct LastPass<P>(Mutex<BTreeMap<u64, (u64, Arc<P>)>>);

impl<P> LastPass<P> {
    /// Of the pass of that number, made if it is another than the last.
    pub fn get(&self, seed: u64, epoch: u64, make: impl FnOnce(u64) -> P) -> Arc<P> {
        // Who panicked had not put anything in yet.
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match passes.get(&seed) {
            Some((known, pass)) if *known == epoch => pass.clone(),
            _ => {
                let pass = Arc::new(make(epoch));
                passes.insert(seed, (epoch, pass.clone()));
                pass
            }
        }
    }
}

impl<P> Default for LastPass<P> {
    fn default() -> Self {
        LastPass(Mutex::default())
    }
}

impl<P> Clone for LastPass<P> {
    /// Which has not been asked for any.
    fn clone(&self) -> Self {
        LastPass::default()
    }
}

/// Where buckets end: so that the padding of all is the least, by dynamic programming over the distinct lengths.
fn borders(order: &[usize], lengths: &[usize], most: usize) -> Vec<usize> {
    // One past the last sequence of each distinct length.
    let mut ends: Vec<usize> = (1..order.len())
        .filter(|&i| lengths[order[i]] != lengths[order[i - 1]])
        .chain([order.len()])
        .collect();
    // Many lengths are thinned: a border at every so many sequences is near enough.
    const CANDIDATES: usize = 256;
    if ends.len() > CANDIDATES {
        let every = ends.len().div_ceil(CANDIDATES);
        let last = ends.len() - 1;
        ends = ends
            .iter()
            .enumerate()
            .filter(|(i, _)| (last - i).is_multiple_of(every))
            .map(|e| *e.1)
            .collect();
    }
    let n = ends.len();
    let start = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
    // Steps of a bucket from the candidates i to j, padding included.
    let cost = |i: usize, j: usize| (ends[j] - start(i)) * lengths[order[ends[j] - 1]];
    // best[k][j]: the least for the candidates up to j in k + 1 buckets, and where the last one begins.
    let mut best: Vec<Vec<(usize, usize)>> = vec![(0..n).map(|j| (cost(0, j), 0)).collect()];
    for k in 1..most.min(n) {
        let before = &best[k - 1];
        let row = (0..n).map(|j| {
            let splits = (1..=j).map(|i| (before[i - 1].0 + cost(i, j), i));
            splits.chain([(cost(0, j), 0)]).min().unwrap_or((usize::MAX, 0))
        });
        let row = row.collect();
        best.push(row);
    }
    let (mut list, mut j) = (Vec::new(), n - 1);
    for k in (0..best.len()).rev() {
        list.push(ends[j]);
        let begin = best[k][j].1;
        if begin == 0 {
            break;
        }
        j = begin - 1;
    }
    list.reverse();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_comes_once_a_pass_within_its_shape() {
        let lengths: Vec<usize> = (0..200).map(|i| i * i * 7 % 61).collect();
        for most in [1, 3, 8, 100] {
            let buckets = Buckets::new(&lengths, 400, most).unwrap();
            assert!(buckets.shapes().len() <= most);
            for batches in [buckets.in_order(), buckets.shuffled(3, 0), buckets.shuffled(3, 1)] {
                assert_eq!(batches.len(), buckets.count());
                let mut seen = vec![0; lengths.len()];
                for batch in &batches {
                    let [time, rows] = buckets.shapes()[batch.shape];
                    assert!(
                        time * rows <= 400 && batch.rows.len() <= rows && !batch.rows.is_empty()
                    );
                    batch.rows.iter().for_each(|&i| seen[i] += 1);
                    assert!(batch.rows.iter().all(|&i| lengths[i] <= time));
                }
                let once = |i: usize| usize::from(lengths[i] > 0);
                assert!(seen.iter().enumerate().all(|(i, &n)| n == once(i)));
            }
            assert_eq!(buckets.shuffled(3, 1), buckets.shuffled(3, 1));
            assert_ne!(buckets.shuffled(3, 1), buckets.shuffled(3, 2));
            assert_ne!(buckets.shuffled(3, 1), buckets.shuffled(4, 1));
        }
        let padding = |most| Buckets::new(&lengths, 400, most).unwrap().padding();
        let few = Buckets::new(&lengths, 400, 8).unwrap().with_rows(5);
        assert!(few.in_order().iter().all(|batch| batch.rows.len() <= 5));
        assert_eq!(few.in_order().iter().map(|batch| batch.rows.len()).sum::<usize>(), 196);
        assert_eq!(few.in_order().len(), few.count());
        assert!(padding(1) > 0.4 && padding(8) < 0.2, "{} {}", padding(1), padding(8));
    }

    #[test]
    fn passes_are_made_once_a_seed() {
        let passes = Passes::new(Buckets::new(&[3, 4, 5, 6, 7, 8], 16, 2).unwrap());
        let count = passes.buckets().count() as u64;
        for epoch in [0, 1, 0] {
            for seed in [5, 6] {
                let want = passes.buckets().shuffled(seed, epoch);
                let got: Vec<_> =
                    (0..count).map(|i| passes.batch(epoch * count + i, seed)).collect();
                assert_eq!(got, want);
            }
        }
        let last = LastPass::default();
        let mut made = 0;
        for (seed, epoch) in [(1, 0), (2, 0), (1, 0), (2, 0), (1, 1), (2, 0)] {
            let pass = last.get(seed, epoch, |epoch| {
                made += 1;
                10 * seed + epoch
            });
            assert_eq!(*pass, 10 * seed + epoch);
        }
        assert_eq!(made, 3);
    }

    #[test]
    fn borders_leave_the_least_padding() {
        // Two lengths and two buckets: none is padded.
        let lengths = [5, 9, 5, 9, 9];
        let buckets = Buckets::new(&lengths, 18, 2).unwrap();
        assert_eq!(buckets.shapes(), [[5, 2], [9, 2]]);
        // Three lengths in two buckets: the one that costs less joins.
        let buckets = Buckets::new(&[2, 9, 10, 10], 40, 2).unwrap();
        assert_eq!(buckets.shapes(), [[2, 1], [10, 3]]);
        let buckets = Buckets::new(&[8, 9, 30, 30], 60, 2).unwrap();
        assert_eq!(buckets.shapes(), [[9, 2], [30, 2]]);
    }

    #[test]
    fn what_fits_no_batch_is_named() {
        let error = Buckets::new(&[3, 50], 40, 2).unwrap_err().to_string();
        assert!(error.contains("sequence 2 has 50 steps") && error.contains("40"), "{error}");
        assert!(Buckets::new(&[0, 0], 40, 2).is_err());
    }
}
