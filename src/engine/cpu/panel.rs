//! The products of a few rows with weights that are kept for many steps.
//!
//! The weights are packed in panels: of [`WIDTH`] columns, term by term, so that a product walks through them in the
//! order they lie in. A tile of a few rows and one panel, or of one row and a few panels, has its sums in registers:
//!   sums\[r\]\[c\] += Σ_k rows\[r\]\[k\]·panel\[k\]\[c\], with k in order, from zero.
//! So an element's bits depend on nothing but its own row and column.

use super::product::Strided;
use pulp::{Simd, WithSimd};
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

/// Panels of all columns of a matrix \[terms, columns\].
pub fn pack_matrix(matrix: Strided, terms: usize, columns: usize, to: &mut Vec<f32>) {
    to.clear();
    to.resize(columns.next_multiple_of(WIDTH) * terms, 0.0);
    for (panel, words) in to.chunks_mut(WIDTH * terms).enumerate() {
        for column in panel * WIDTH..columns.min((panel + 1) * WIDTH) {
            for (k, words) in words.chunks_mut(WIDTH).enumerate() {
                words[column % WIDTH] = matrix.data[k * matrix.row + column * matrix.column];
            }
        }
    }
}

/// All rows' products with all panels, which lie one after another in the sums as they do in `panels`.
pub struct WholeProduct<'a, 'b> {
    pub rows: &'a [&'a [f32]],
    pub terms: usize,
    pub panels: &'a [f32],
    pub sums: Sums<'b>,
}

impl WithSimd for WholeProduct<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let words = self.terms * WIDTH;
        let (rows, count) = (self.rows, self.panels.len() / words);
        let panel = |i: usize| &self.panels[i * words..][..words];
        add_products(simd, self.terms, rows, count, panel, |i| i * WIDTH, &mut self.sums);
    }
}

/// Where the sums of a tile lie, to which the products are added.
pub struct Sums<'a> {
    pub words: &'a mut [f32],
    /// Words from one row to the next.
    pub stride: usize,
}

/// Adds its product to each of the sums of some rows and panels: panel `i`'s lie from `at(i)` on, in each row.
#[inline(always)]
pub fn add_products<'a, S: Simd>(
    simd: S,
    terms: usize,
    rows: &[&[f32]],
    panels: usize,
    panel: impl Fn(usize) -> &'a [f32],
    at: impl Fn(usize) -> usize,
    sums: &mut Sums,
) {
    // As many sums as hide the latency of a multiply-add, and no more than there are registers. A panel stays in the
    // first-level cache while it meets all rows.
    macro_rules! tiles {
        ($vectors:literal, $most:literal, [$($few:literal: $together:literal),*], [$($count:literal),*]) => {{
            match rows.len() {
                $($few => {
                    let whole = panels / $together * $together;
                    for i in (0..whole).step_by($together) {
                        tile::<S, $vectors, $together, $few>(simd, terms, rows, 0, &panel, &at, i, sums);
                    }
                    for i in whole..panels {
                        tile::<S, $vectors, 1, $few>(simd, terms, rows, 0, &panel, &at, i, sums);
                    }
                })*
                many => {
                    let parts = many.div_ceil($most);
                    for i in 0..panels {
                        for part in 0..parts {
                            let [first, end] = [part, part + 1].map(|n| many * n / parts);
                            match end - first {
                                $($count => tile::<S, $vectors, 1, $count>(
                                    simd, terms, rows, first, &panel, &at, i, sums,
                                ),)*
                                _ => {}
                            }
                        }
                    }
                }
            }
        }};
    }
    match S::F32_LANES {
        8 => tiles!(2, 6, [1: 4, 2: 2], [3, 4, 5, 6]),
        16 => tiles!(1, 12, [1: 4, 2: 4, 3: 2], [4, 5, 6, 7, 8, 9, 10, 11, 12]),
        4 => tiles!(4, 6, [1: 2, 2: 2], [3, 4, 5, 6]),
        _ => tiles!(16, 1, [], [1]),
    }
}

/// Terms that the loop of a tile takes at once.
const UNROLLED: usize = 4;

/// One term of all sums of a tile.
#[inline(always)]
fn multiply_add<S: Simd, const V: usize, const P: usize, const R: usize>(
    simd: S,
    terms: [f32; R],
    weights: [[S::f32s; V]; P],
    sum: &mut [[[S::f32s; V]; P]; R],
) {
    for r in 0..R {
        let term = simd.splat_f32s(terms[r]);
        for i in 0..P {
            for v in 0..V {
                sum[r][i][v] = simd.mul_add_e_f32s(term, weights[i][v], sum[r][i][v]);
            }
        }
    }
}

/// One tile: V vectors a panel, P panels, R rows.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one caller")]
fn tile<'a, S: Simd, const V: usize, const P: usize, const R: usize>(
    simd: S,
    terms: usize,
    rows: &[&[f32]],
    first: usize,
    panel: &impl Fn(usize) -> &'a [f32],
    at: &impl Fn(usize) -> usize,
    from: usize,
    sums: &mut Sums,
) {
    let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[first + r][..terms]);
    let weights: [&[[S::f32s; V]]; P] = std::array::from_fn(|i| {
        let (vectors, _) = S::as_simd_f32s(&panel(from + i)[..terms * WIDTH]);
        &vectors.as_chunks::<V>().0[..terms]
    });
    // From zero: terms added one by one to what is there would each be rounded to its last place.
    let mut sum = [[[simd.splat_f32s(0.0); V]; P]; R];
    // Some terms at once, so that bounds are looked at once for all of them.
    let rows = rows.map(|row| row.as_chunks::<UNROLLED>());
    let weights = weights.map(|panel| panel.as_chunks::<UNROLLED>());
    for q in 0..terms / UNROLLED {
        let terms: [&[f32; UNROLLED]; R] = std::array::from_fn(|r| &rows[r].0[q]);
        let weights: [&[[S::f32s; V]; UNROLLED]; P] = std::array::from_fn(|i| &weights[i].0[q]);
        for k in 0..UNROLLED {
            multiply_add(simd, terms.map(|terms| terms[k]), weights.map(|w| w[k]), &mut sum);
        }
    }
    for k in 0..terms % UNROLLED {
        let (terms, weights) = (rows.map(|row| row.1[k]), weights.map(|panel| panel.1[k]));
        multiply_add(simd, terms, weights, &mut sum);
    }
    for (r, sum) in sum.iter().enumerate() {
        for (i, sum) in sum.iter().enumerate() {
            let place = (first + r) * sums.stride + at(from + i);
            let (vectors, _) = S::as_mut_simd_f32s(&mut sums.words[place..place + WIDTH]);
            for (word, &sum) in vectors.iter_mut().zip(sum) {
                *word = simd.add_f32s(*word, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products of the rows with panels, added to ones.
    fn products(rows: &[&[f32]], panels: &[f32], count: usize) -> Vec<f32> {
        let mut sums = vec![1.0; rows.len() * count * WIDTH];
        let terms = rows.first().map_or(1, |row| row.len());
        let to = Sums { words: &mut sums, stride: count * WIDTH };
        pulp::Arch::new().dispatch(WholeProduct { rows, terms, panels, sums: to });
        sums
    }

    #[test]
    fn each_row_has_its_own_bits_in_any_company() {
        for (terms, count) in [(1, 1), (3, 2), (4, 5), (7, 9), (33, 4)] {
            let panels: Vec<f32> =
                (0..count * terms * WIDTH).map(|i| (i as f32 * 0.37).sin()).collect();
            let words: Vec<f32> = (0..30 * terms).map(|i| (i as f32 * 0.71).cos()).collect();
            let rows: Vec<&[f32]> = words.chunks(terms).collect();
            let alone: Vec<Vec<f32>> =
                rows.iter().map(|row| products(&[row], &panels, count)).collect();
            for (row, sums) in rows.iter().zip(&alone) {
                for (column, &got) in sums.iter().enumerate() {
                    let panel = &panels[column / WIDTH * terms * WIDTH..][column % WIDTH..];
                    let terms = row.iter().zip(panel.iter().step_by(WIDTH));
                    let want = 1.0 + terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                    assert!((f64::from(got) - want).abs() < 1e-5, "{got} for {want}");
                }
            }
            for together in 0..=rows.len() {
                let sums = products(&rows[..together], &panels, count);
                assert_eq!(sums, alone[..together].concat(), "{together} rows of {terms} terms");
            }
        }
    }
}
