//! Rounding to fewer bits: weights when they are packed, rows before each product.

use super::holds::{ORDER, panel_words};
use super::{UNROLLED, WIDTH};
use crate::engine::WeightFormat;

/// The largest integer that a weight or a term becomes; −128 is not used.
const LARGEST: f32 = 127.0;

/// Terms of a sum of integers of 32 bits at most: 127·127·MOST_TERMS < 2³¹.
pub const MOST_TERMS: usize = (i32::MAX / (127 * 127)) as usize;

/// A column of a matrix: its terms are so many words apart.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    pub words: &'a [f32],
    pub stride: usize,
}

impl<'a> Column<'a> {
    #[inline(always)]
    fn terms(self, terms: usize) -> impl Iterator<Item = f32> + Clone + 'a {
        self.words.iter().step_by(self.stride).take(terms).copied()
    }
}

/// Packs so many panels; a column beyond the end is none.
pub fn pack_panels<'a>(
    format: WeightFormat,
    terms: usize,
    panels: usize,
    column: impl Fn(usize, usize) -> Option<Column<'a>>,
    to: &mut Vec<f32>,
) {
    let words = panel_words(format, terms);
    to.clear();
    to.resize(panels * words, 0.0);
    for (i, panel) in to.chunks_exact_mut(words).enumerate() {
        for c in 0..WIDTH {
            let Some(column) = column(i, c) else { continue };
            let values = column.terms(terms);
            match format {
                WeightFormat::F32 => {
                    for (words, value) in panel.chunks_exact_mut(WIDTH).zip(values) {
                        words[c] = value;
                    }
                }
                WeightFormat::Bf16 => {
                    for (k, value) in values.enumerate() {
                        let word = &mut panel[k / 2 * WIDTH + c];
                        *word = f32::from_bits(word.to_bits() | to_bf16(value) << (k % 2 * 16));
                    }
                }
                WeightFormat::Int8 => {
                    let (weights, scales) = panel.split_at_mut(words - WIDTH);
                    let largest = largest(values.clone());
                    scales[c] = scale(largest);
                    if !largest.is_finite() || largest == 0.0 {
                        continue;
                    }
                    for (k, value) in values.enumerate() {
                        let byte = (value / largest * LARGEST).round_ties_even() as i8;
                        let place = ORDER.iter().position(|&of| of == k % UNROLLED).unwrap_or(0);
                        let word = &mut weights[k / UNROLLED * WIDTH + c];
                        *word =
                            f32::from_bits(word.to_bits() | u32::from(byte as u8) << (8 * place));
                    }
                }
            }
        }
    }
}

/// The upper half of an f32 rounded to it, ties to even. NaN stays NaN; beyond the largest lies infinity.
fn to_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() {
        return bits >> 16 | 0x40;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) >> 16
}

/// The largest absolute value; NaN where there is one. Without their signs, floats are in the order
/// of their bits, and NaN is above all of them.
#[inline(always)]
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    let bits = values.map(|value| value.to_bits() & 0x7fff_ffff);
    f32::from_bits(bits.fold(0, u32::max))
}

/// What an integer of a column or a row is times: NaN where an element is not finite.
#[inline(always)]
fn scale(largest: f32) -> f32 {
    if largest.is_finite() { largest / LARGEST } else { f32::NAN }
}

/// Rounds a row to integers of so many words by its own largest element; returns what they are times.
#[inline(always)]
pub fn round(row: &[f32], words: usize, to: &mut Vec<f32>) -> f32 {
    to.clear();
    to.resize(words, 0.0);
    let largest = largest(row.iter().copied());
    if largest.is_finite() && largest > 0.0 {
        let to: &mut [i16] = bytemuck::cast_slice_mut(to);
        for (to, value) in to.iter_mut().zip(row) {
            *to = to_integer(value / largest * LARGEST);
        }
    }
    scale(largest)
}

/// The nearest integer to a number of a few hundred at most, ties to even: f32 has no fractions at
/// 1.5·2²³, so the sum is rounded to it. A conversion would look for numbers that have no integer.
#[inline(always)]
fn to_integer(value: f32) -> i16 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_the_nearest() {
        let round = |value: f32| f32::from_bits(to_bf16(value) << 16);
        let step = 1.0 / 128.0;
        for (value, want) in [
            (1.0, 1.0),
            (1.0 + step * 0.49, 1.0),
            (1.0 + step * 0.51, 1.0 + step),
            // Ties: to even.
            (1.0 + step * 0.5, 1.0),
            (1.0 + step * 1.5, 1.0 + 2.0 * step),
            (-1.0 - step * 1.5, -1.0 - 2.0 * step),
            // Carried into the exponent.
            (1.999, 2.0),
            (0.0, 0.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(round(value), want, "{value}");
        }
        assert_eq!(round(-0.0).to_bits(), (-0.0f32).to_bits());
        // NaN whose upper half has no bit of its fraction.
        assert!(round(f32::from_bits(0x7f80_0001)).is_nan());
        assert!(round(f32::from_bits(0xffff_ffff)).is_nan());
    }

    #[test]
    fn integers_are_the_nearest() {
        for i in -1270..=1270 {
            for value in [i as f32 / 10.0, i as f32 / 20.0] {
                assert_eq!(f32::from(to_integer(value)), value.round_ties_even(), "{value}");
            }
        }
    }

    #[test]
    fn the_largest_sum_fits() {
        assert!(127 * 127 * MOST_TERMS as i64 <= i64::from(i32::MAX));
        assert!(127 * 127 * (MOST_TERMS as i64 + 1) > i64::from(i32::MAX));
    }
}
