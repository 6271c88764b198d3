//! The products of a few rows with weights that are kept for many steps.
//!
//! The weights are packed in panels: of [`WIDTH`] columns, term by term, so that a product walks through them in the
//! order they lie in. A tile of a few rows and one panel, or of one row and a few panels, has its sums in registers:
//!   sums\[r\]\[c\] += Σ_k rows\[r\]\[k\]·panel\[k\]\[c\], with k in order, from zero.
//! So an element's bits depend on nothing but its own row and column.

mod dot;
mod holds;
mod round;
mod rows;
#[cfg(test)]
mod tests;
mod whole;

pub use holds::panel_words;
pub use round::{Column, MOST_TERMS, pack_panels};
pub use rows::{Packed, PackedRows};
pub use whole::{ProductRoom, Start, is_for_one, product_with_panels};

use crate::engine::WeightFormat;
use holds::{Bf16, F32, Holds, Int8, add_vectors};
use pulp::{Simd, WithSimd};
use rows::{Part, parts};
use std::ops::Range;

/// Columns of a panel.
pub const WIDTH: usize = 16;

/// Packed weights, kept for as long as they are those of the same tensor.
#[derive(Default)]
pub struct Kept {
    pub words: Vec<f32>,
    of: Option<Label>,
}

/// A tensor's version, where in it the weights begin, and which panels are packed.
#[derive(Clone, PartialEq)]
struct Label {
    version: u64,
    first: u32,
    panels: Range<usize>,
}

impl Kept {
    /// Packs, unless this is what is there. Weights without a version may be others each time.
    pub fn pack(
        &mut self,
        version: Option<u64>,
        first: u32,
        panels: Range<usize>,
        pack: impl FnOnce(Range<usize>, &mut Vec<f32>),
    ) {
        let now = version.map(|version| Label { version, first, panels: panels.clone() });
        if now.is_none() || now != self.of {
            pack(panels, &mut self.words);
            self.of = now;
        }
    }
}

/// Panels one after another.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    pub words: &'a [f32],
    pub format: WeightFormat,
    pub terms: usize,
    /// Of so many one after another the first is taken.
    pub every: usize,
}

impl<'a> Panels<'a> {
    /// All of those that lie one after another.
    pub fn new(words: &'a [f32], format: WeightFormat, terms: usize) -> Self {
        Panels { words, format, terms, every: 1 }
    }

    /// Words of a panel.
    #[inline(always)]
    pub fn each(&self) -> usize {
        panel_words(self.format, self.terms)
    }

    /// Those from panel `first` on.
    #[inline(always)]
    pub fn from(self, first: usize) -> Self {
        Panels { words: &self.words[first * self.each()..], ..self }
    }

    #[inline(always)]
    pub fn get(&self, i: usize) -> &'a [f32] {
        let each = self.each();
        &self.words[i * self.every * each..][..each]
    }
}

/// What the sums of a product begin with.
#[derive(Clone, Copy)]
pub enum Base<'a> {
    /// What lies in their place.
    There,
    /// One vector, and another behind the product: (a + Σ) + b, both by panels as these lie.
    Biases([&'a [f32]; 2]),
}

/// The rows' products with the first `count` panels, panel `i`'s from `at(i)` on in each row of the sums.
pub struct Product<'a, 'b> {
    pub rows: PackedRows<'a>,
    pub panels: Panels<'a>,
    pub count: usize,
    pub base: Base<'a>,
    pub at: &'b dyn Fn(usize) -> usize,
    pub sums: Sums<'b>,
}

impl Product<'_, '_> {
    /// Adds them: a function of its own for all callers, as it takes long to compile, and inside of a larger one the
    /// compiler runs out of registers.
    #[inline(always)]
    pub fn add<S: Simd>(self, simd: S) {
        simd.vectorize(self);
    }
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.panels.format {
            WeightFormat::F32 => add_rows(simd, F32, self),
            WeightFormat::Bf16 => add_rows(simd, Bf16, self),
            WeightFormat::Int8 => add_rows(simd, Int8, self),
        }
    }
}

/// Where the sums of a tile lie, to which the products are added.
pub struct Sums<'a> {
    pub words: &'a mut [f32],
    /// Words from one row to the next.
    pub stride: usize,
}

impl Sums<'_> {
    /// Sixteen of a row, from `at` on.
    #[inline(always)]
    fn tile(&mut self, row: usize, at: usize) -> &mut [f32] {
        &mut self.words[row * self.stride + at..][..WIDTH]
    }
}

/// The product with panels of one format.
#[inline(always)]
fn add_rows<S: Simd, F: Holds<W>, const W: usize>(simd: S, _: F, product: Product) {
    let Product { rows, panels, count, base, at, mut sums } = product;
    // As many sums as hide the latency of a multiply-add, and no more than there are registers. A panel stays in the
    // first-level cache while it meets all rows.
    macro_rules! tiles {
        ($vectors:literal, [$($few:literal: $together:literal),*], [$($count:literal),*]) => {{
            match rows.count() {
                $($few => {
                    let part = rows.part::<F, W, $few>(0);
                    let whole = count / $together * $together;
                    for i in (0..whole).step_by($together) {
                        tile::<S, F, W, $vectors, $together, $few>(simd, part, panels, base, at, i, &mut sums);
                    }
                    for i in whole..count {
                        tile::<S, F, W, $vectors, 1, $few>(simd, part, panels, base, at, i, &mut sums);
                    }
                })*
                many => {
                    for i in 0..count {
                        for part in parts::<S>(many) {
                            match part.len() {
                                $($count => {
                                    let part = rows.part::<F, W, $count>(part.start);
                                    tile::<S, F, W, $vectors, 1, $count>(simd, part, panels, base, at, i, &mut sums);
                                })*
                                _ => {}
                            }
                        }
                    }
                }
            }
        }};
    }
    match S::F32_LANES {
        8 => tiles!(2, [1: 4, 2: 2], [3, 4, 5, 6]),
        16 => tiles!(1, [1: 4, 2: 4, 3: 2], [4, 5, 6, 7, 8, 9, 10, 11, 12]),
        4 => tiles!(4, [1: 2, 2: 2], [3, 4, 5, 6]),
        _ => tiles!(16, [], [1]),
    }
}

/// Terms that the loop of a tile takes at once.
const UNROLLED: usize = 4;

/// One tile: V vectors a panel, P panels, R rows.
#[inline(always)]
fn tile<S, F, const W: usize, const V: usize, const P: usize, const R: usize>(
    simd: S,
    part: Part<F::Four, R>,
    panels: Panels,
    base: Base,
    at: &dyn Fn(usize) -> usize,
    from: usize,
    sums: &mut Sums,
) where
    S: Simd,
    F: Holds<W>,
{
    let places: [usize; P] = std::array::from_fn(|i| at(from + i));
    let all: [&[f32]; P] = std::array::from_fn(|i| panels.get(from + i));
    let (whole, left) = (part.fours.len(), part.left.len());
    let words = whole * W + (left * W).div_ceil(UNROLLED);
    let weights: [&[[S::f32s; V]]; P] = std::array::from_fn(|i| {
        let (vectors, _) = S::as_simd_f32s(&all[i][..words * WIDTH]);
        &vectors.as_chunks::<V>().0[..words]
    });
    // From zero: terms added one by one to what is there would each be rounded to its last place.
    let mut sum = [[[F::zero(simd); V]; P]; R];
    let fours_of = weights.map(|panel| &panel.as_chunks::<W>().0[..whole]);
    for (q, terms) in part.fours.iter().enumerate() {
        F::add(simd, terms, std::array::from_fn(|i| &fours_of[i][q]), &mut sum);
    }
    if left > 0 {
        F::add_left(simd, part.left, weights.map(|panel| &panel[whole * W..]), &mut sum);
    }
    // Loops of their own: the one over the sums must stay small, or it is not unrolled and the sums
    // leave their registers.
    if let Base::Biases([before, _]) = base {
        for (i, place) in places.into_iter().enumerate() {
            let before = &before[(from + i) * WIDTH..][..WIDTH];
            (0..R).for_each(|r| sums.tile(part.first + r, place).copy_from_slice(before));
        }
    }
    for (r, sum) in sum.iter().enumerate() {
        for (i, &sum) in sum.iter().enumerate() {
            let to = sums.tile(part.first + r, places[i]);
            F::finish(simd, sum, part.scales[r], &all[i][words * WIDTH..], to);
        }
    }
    if let Base::Biases([_, behind]) = base {
        for (i, place) in places.into_iter().enumerate() {
            let (behind, _) = S::as_simd_f32s(&behind[(from + i) * WIDTH..][..WIDTH]);
            (0..R).for_each(|r| add_vectors(simd, behind, sums.tile(part.first + r, place)));
        }
    }
}
