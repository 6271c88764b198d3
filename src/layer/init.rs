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

    /// A value of N(0, 1) that is not beyond 2.
    pub fn cut_normal(&mut self) -> f32 {
        loop {
            let value = self.normal(1)[0];
            if value.abs() <= 2.0 {
                return value;
            }
        }
    }

    /// A matrix \[rows, columns\] with orthonormal columns, or rows where there are fewer of these:
    /// Gram and Schmidt on a normal matrix, which is uniform over all such matrices (Mezzadri 2007).
    pub fn orthogonal(&mut self, rows: usize, columns: usize) -> Vec<f32> {
        let (count, length) = (rows.min(columns), rows.max(columns));
        let mut vectors: Vec<Vec<f64>> = Vec::new();
        while vectors.len() < count {
            let mut v: Vec<f64> = self.normal(length).into_iter().map(f64::from).collect();
            // Twice is enough (Kahan and Parlett).
            for _ in 0..2 {
                for other in &vectors {
                    let dot: f64 = v.iter().zip(other).map(|(a, b)| a * b).sum();
                    v.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
                }
            }
            let norm = v.iter().map(|a| a * a).sum::<f64>().sqrt();
            if norm > 1e-6 {
                v.iter_mut().for_each(|a| *a /= norm);
                vectors.push(v);
            }
        }
        let at = |i: usize, j: usize| if columns <= rows { vectors[j][i] } else { vectors[i][j] };
        (0..rows * columns).map(|k| at(k / columns, k % columns) as f32).collect()
    }
}
