//! What the words of panels hold: f32, bfloat16 in pairs, or integers of eight bits in fours.

use super::dot::{dot, halves};
use super::{UNROLLED, WIDTH};
use crate::engine::WeightFormat;
use bytemuck::Pod;
use pulp::Simd;

/// Four integers of sixteen bits, by pairs: words, as that is how they are read.
pub type Pairs = [i32; 2];

/// How W words a column hold the weights of four terms, and how a tile of V vectors a panel, P
/// panels and R rows adds up its products with them.
pub trait Holds<const W: usize> {
    /// Four terms of a row.
    type Four: Pod;
    type Sum<S: Simd>: Copy;

    fn zero<S: Simd>(simd: S) -> Self::Sum<S>;

    /// sum\[r\]\[i\] += four terms of row r · those of panel i, in order.
    fn add<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        terms: &[Self::Four; R],
        weights: [&[[S::f32s; V]; W]; P],
        sum: &mut [[[Self::Sum<S>; V]; P]; R],
    );

    /// The same for the terms that are left, fewer than four, in the words that are.
    fn add_left<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        left: &[[f32; R]],
        weights: [&[[S::f32s; V]]; P],
        sum: &mut [[[Self::Sum<S>; V]; P]; R],
    );

    /// Adds a sum, scaled, to what is there. `scales` are those of the panel's columns, if there are any.
    fn finish<S: Simd, const V: usize>(
        simd: S,
        sum: [Self::Sum<S>; V],
        row_scale: f32,
        scales: &[f32],
        to: &mut [f32],
    );
}

/// Words of a panel of so many terms: weights, and scales.
pub fn panel_words(format: WeightFormat, terms: usize) -> usize {
    WIDTH
        * match format {
            WeightFormat::F32 => terms,
            WeightFormat::Bf16 => terms.div_ceil(2),
            WeightFormat::Int8 => terms.div_ceil(UNROLLED) + 1,
        }
}

/// A weight a word.
pub struct F32;

/// The weights of two terms a word, the first in the lower half.
pub struct Bf16;

/// The weights of four terms a word, as bytes in the order of [`ORDER`]; behind all of a panel's the columns' scales.
pub struct Int8;

/// Which term each byte of a word is of: the even bytes are a pair of terms, and the odd ones are.
pub const ORDER: [usize; UNROLLED] = [0, 2, 1, 3];

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

/// Adds some vectors to what is there.
#[inline(always)]
pub fn add_vectors<S: Simd>(simd: S, sum: &[S::f32s], to: &mut [f32]) {
    let (vectors, _) = S::as_mut_simd_f32s(to);
    for (word, sum) in vectors.iter_mut().zip(sum) {
        *word = simd.add_f32s(*word, *sum);
    }
}

impl Holds<4> for F32 {
    type Four = [f32; UNROLLED];
    type Sum<S: Simd> = S::f32s;

    #[inline(always)]
    fn zero<S: Simd>(simd: S) -> S::f32s {
        simd.splat_f32s(0.0)
    }

    #[inline(always)]
    fn add<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        terms: &[[f32; UNROLLED]; R],
        weights: [&[[S::f32s; V]; 4]; P],
        sum: &mut [[[S::f32s; V]; P]; R],
    ) {
        for k in 0..UNROLLED {
            multiply_add(simd, std::array::from_fn(|r| terms[r][k]), weights.map(|w| w[k]), sum);
        }
    }

    #[inline(always)]
    fn add_left<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        left: &[[f32; R]],
        weights: [&[[S::f32s; V]]; P],
        sum: &mut [[[S::f32s; V]; P]; R],
    ) {
        for (k, terms) in left.iter().enumerate() {
            multiply_add(simd, *terms, weights.map(|w| w[k]), sum);
        }
    }

    #[inline(always)]
    fn finish<S: Simd, const V: usize>(
        simd: S,
        sum: [S::f32s; V],
        _: f32,
        _: &[f32],
        to: &mut [f32],
    ) {
        add_vectors(simd, &sum, to);
    }
}

/// The weights of term k in words of two terms. In loops, as a closure of `array::map` is not
/// compiled for the instruction set.
#[inline(always)]
fn halves_of<S: Simd, const V: usize, const P: usize>(
    simd: S,
    words: [[S::f32s; V]; P],
    k: usize,
) -> [[S::f32s; V]; P] {
    let mut half = words;
    for i in 0..P {
        for v in 0..V {
            let word = simd.transmute_u32s_f32s(words[i][v]);
            let upper = match k % 2 {
                0 => simd.wrapping_dyn_shl_u32s(word, simd.splat_u32s(16)),
                _ => simd.and_u32s(word, simd.splat_u32s(0xffff_0000)),
            };
            half[i][v] = simd.transmute_f32s_u32s(upper);
        }
    }
    half
}

impl Holds<2> for Bf16 {
    type Four = [f32; UNROLLED];
    type Sum<S: Simd> = S::f32s;

    #[inline(always)]
    fn zero<S: Simd>(simd: S) -> S::f32s {
        simd.splat_f32s(0.0)
    }

    #[inline(always)]
    fn add<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        terms: &[[f32; UNROLLED]; R],
        weights: [&[[S::f32s; V]; 2]; P],
        sum: &mut [[[S::f32s; V]; P]; R],
    ) {
        for k in 0..UNROLLED {
            let half = halves_of(simd, weights.map(|w| w[k / 2]), k);
            multiply_add(simd, std::array::from_fn(|r| terms[r][k]), half, sum);
        }
    }

    #[inline(always)]
    fn add_left<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        left: &[[f32; R]],
        weights: [&[[S::f32s; V]]; P],
        sum: &mut [[[S::f32s; V]; P]; R],
    ) {
        for (k, terms) in left.iter().enumerate() {
            let half = halves_of(simd, weights.map(|w| w[k / 2]), k);
            multiply_add(simd, *terms, half, sum);
        }
    }

    #[inline(always)]
    fn finish<S: Simd, const V: usize>(
        simd: S,
        sum: [S::f32s; V],
        _: f32,
        _: &[f32],
        to: &mut [f32],
    ) {
        add_vectors(simd, &sum, to);
    }
}

impl Holds<1> for Int8 {
    type Four = Pairs;
    type Sum<S: Simd> = S::i32s;

    #[inline(always)]
    fn zero<S: Simd>(simd: S) -> S::i32s {
        simd.splat_i32s(0)
    }

    /// None are: rounded rows have whole fours.
    #[inline(always)]
    fn add_left<S: Simd, const V: usize, const P: usize, const R: usize>(
        _: S,
        _: &[[f32; R]],
        _: [&[[S::f32s; V]]; P],
        _: &mut [[[S::i32s; V]; P]; R],
    ) {
    }

    #[inline(always)]
    fn add<S: Simd, const V: usize, const P: usize, const R: usize>(
        simd: S,
        terms: &[Pairs; R],
        weights: [&[[S::f32s; V]; 1]; P],
        sum: &mut [[[S::i32s; V]; P]; R],
    ) {
        for i in 0..P {
            for v in 0..V {
                let halves = halves(simd, simd.transmute_i32s_f32s(weights[i][0][v]));
                for r in 0..R {
                    sum[r][i][v] = dot(simd, sum[r][i][v], halves, &terms[r]);
                }
            }
        }
    }

    /// In two steps, as a product of the scales may be too small for f32 where the sum is large.
    #[inline(always)]
    fn finish<S: Simd, const V: usize>(
        _: S,
        sum: [S::i32s; V],
        row_scale: f32,
        scales: &[f32],
        to: &mut [f32],
    ) {
        let sums: &[i32] = bytemuck::cast_slice(&sum);
        for ((to, sum), scale) in to.iter_mut().zip(sums).zip(scales) {
            *to += *sum as f32 * row_scale * scale;
        }
    }
}
