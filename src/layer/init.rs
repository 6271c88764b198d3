//! Initial weights from a seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator of initial weights: the same seed gives the same weights on every machine.
pub struct Initializer {
    generator: ChaCha8Rng,
}

impl Initializer {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Initializer { generator: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// `n` values of U(−bound, bound).
    pub fn uniform(&mut self, n: usize, bound: f32) -> Vec<f32> {
        (0..n).map(|_| (self.generator.random::<f32>() * 2.0 - 1.0) * bound).collect()
    }

    /// `n` values of N(0, 1), by Box and Muller 1958: √(−2 ln u)·cos 2πv.
    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        let mut one = || {
            let u = 1.0 - self.generator.random::<f64>();
            let v = self.generator.random::<f64>();
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        };
        (0..n).map(|_| one()).collect()
    }
}
