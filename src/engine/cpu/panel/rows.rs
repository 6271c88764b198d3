//! The left side of a product with panels: some rows, packed as its tiles take them.
//!
//! A tile reads the terms of all its rows side by side, four of each row after four of the row
//! before, so that one pointer serves all of them: \[four, row, term\], and behind the fours what
//! is left of the terms, \[term, row\].

use super::UNROLLED;
use super::holds::Holds;
use super::round::round;
use crate::engine::WeightFormat;
use bytemuck::Pod;
use pulp::Simd;
use std::ops::Range;

/// Rows of a tile at most: as many sums as there are registers for.
const fn most<S: Simd>() -> usize {
    match S::F32_LANES {
        16 => 12,
        8 | 4 => 6,
        _ => 1,
    }
}

/// The rows of each tile of so many rows.
#[inline(always)]
pub fn parts<S: Simd>(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = rows.div_ceil(most::<S>());
    (0..parts).map(move |part| rows * part / parts..rows * (part + 1) / parts)
}

/// Rows packed; kept from product to product, as memory.
#[derive(Default)]
pub struct Packed {
    words: Vec<f32>,
    /// Of integers: what a row's sums are times.
    scales: Vec<f32>,
    row: Vec<f32>,
}

/// Rows that are multiplied with panels: in integers, rounded, if these are.
#[derive(Clone, Copy)]
pub struct PackedRows<'a> {
    words: &'a [f32],
    scales: &'a [f32],
    /// Words of a row.
    line: usize,
}

/// Rows of one tile: by fours of their terms, those that are left, and what their sums are times.
#[derive(Clone, Copy)]
pub struct Part<'a, T, const R: usize> {
    /// The first row's number.
    pub first: usize,
    pub fours: &'a [[T; R]],
    pub left: &'a [[f32; R]],
    pub scales: &'a [f32; R],
}

impl<'a> PackedRows<'a> {
    /// Packs so many rows, of which the first `terms` are multiplied with panels of this format.
    #[inline(always)]
    pub fn new<'r, S: Simd>(
        _: S,
        format: WeightFormat,
        [count, terms]: [usize; 2],
        row: impl Fn(usize) -> &'r [f32],
        to: &'a mut Packed,
    ) -> Self {
        let Packed { words, scales, row: rounded } = to;
        let integers = format == WeightFormat::Int8;
        let line = if integers { terms.div_ceil(UNROLLED) * 2 } else { terms };
        let long = count * line;
        if words.len() < long {
            words.resize(long, 0.0);
        }
        scales.clear();
        for part in parts::<S>(count) {
            let words = &mut words[part.start * line..part.end * line];
            let rows = part.len();
            for r in 0..rows {
                let from = &row(part.start + r)[..terms];
                if integers {
                    scales.push(round(from, line, rounded));
                    let (pairs, _) = rounded.as_chunks::<2>();
                    let places = words.as_chunks_mut::<2>().0.iter_mut().skip(r).step_by(rows);
                    places.zip(pairs).for_each(|(to, pair)| *to = *pair);
                } else {
                    scales.push(1.0);
                    let (fours, left) = from.as_chunks::<UNROLLED>();
                    let (of_fours, of_left) = words.split_at_mut(fours.len() * rows * UNROLLED);
                    let places = of_fours.as_chunks_mut::<UNROLLED>().0.iter_mut().skip(r);
                    places.step_by(rows).zip(fours).for_each(|(to, four)| *to = *four);
                    of_left.iter_mut().skip(r).step_by(rows).zip(left).for_each(|(to, x)| *to = *x);
                }
            }
        }
        PackedRows { words: &words[..long], scales, line }
    }

    #[inline(always)]
    pub fn count(self) -> usize {
        self.scales.len()
    }

    /// The R rows from row `first` on, which are one of [`parts`].
    #[inline(always)]
    pub fn part<F: Holds<W>, const W: usize, const R: usize>(
        self,
        first: usize,
    ) -> Part<'a, F::Four, R>
    where
        [F::Four; R]: Pod,
    {
        let words = &self.words[first * self.line..][..R * self.line];
        let each = size_of::<F::Four>() / size_of::<f32>();
        let whole = self.line / each;
        let (fours, left) = words.split_at(whole * each * R);
        let scales = self.scales[first..].first_chunk().unwrap_or(&[0.0; R]);
        Part { first, fours: bytemuck::cast_slice(fours), left: left.as_chunks().0, scales }
    }
}
