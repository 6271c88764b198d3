//! Numbers that look random, of tests' own, so that they stay the same whatever the library draws.

use ndarray::{Array, Array2, Dimension, ShapeBuilder};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Generator(pub u64);

impl Generator {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform between −1 and 1.
    pub fn value(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 33) as usize % n
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Uniform between −scale and scale.
    pub fn array<D: Dimension, S: ShapeBuilder<Dim = D>>(
        &mut self,
        shape: S,
        scale: f64,
    ) -> Array<f64, D> {
        Array::from_shape_simple_fn(shape, || scale * self.value())
    }

    /// 0, or 1/keep with probability keep.
    pub fn multipliers<D: Dimension, S: ShapeBuilder<Dim = D>>(
        &mut self,
        shape: S,
        keep: f64,
    ) -> Array<f64, D> {
        let mut one = || if self.value() < 2.0 * keep - 1.0 { 1.0 / keep } else { 0.0 };
        Array::from_shape_simple_fn(shape, &mut one)
    }

    pub fn flags(&mut self, rows: usize, columns: usize, once_in: usize) -> Array2<bool> {
        Array2::from_shape_simple_fn((rows, columns), || self.once_in(once_in))
    }
}

/// A number's own bits, where data are made in any order: the high ones are mixed best.
fn mixed(number: usize) -> u64 {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A number's own one of `0..below`.
pub fn drawn(number: usize, below: usize) -> usize {
    (mixed(number) >> 33) as usize % below
}

/// A number's own one between 0 and 1.
pub fn noise(number: usize) -> f64 {
    (mixed(number) >> 40) as f64 / (1u64 << 24) as f64
}
