//! Random values of a head's distribution, for paths into the future.

use super::Distribution;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of one path: of a series, an origin and a number under a seed, whatever else is drawn.
pub fn generator(seed: u64, [series, origin, path]: [usize; 3]) -> ChaCha8Rng {
    let mut words = [0u8; 32];
    for (to, from) in words.chunks_mut(8).zip([seed, series as u64, origin as u64, path as u64]) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    ChaCha8Rng::from_seed(words)
}

/// A value that is drawn. Of quantiles none beyond the outermost.
pub fn draw(from: &Distribution, random: &mut ChaCha8Rng) -> f64 {
    let mut uniform = || f64::from(random.random::<f32>()).clamp(1e-7, 1.0 - 1e-7);
    match from {
        Distribution::Normal(mean, sigma) => {
            // Box and Muller 1958.
            let (u, v) = (uniform(), uniform());
            mean + sigma * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        }
        Distribution::Student(mean, sigma, nu) => {
            // Bailey 1994, "Polar generation of random variates with the t-distribution".
            let (u, v) = (uniform(), uniform());
            let radius = (nu * (u.powf(-2.0 / nu) - 1.0)).sqrt();
            mean + sigma * radius * (std::f64::consts::TAU * v).cos()
        }
        other => other.quantile(uniform()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares below quantiles are the quantiles' levels.
    #[test]
    fn draws_follow_their_distribution() {
        for from in [
            Distribution::Normal(1.0, 2.0),
            Distribution::Student(-1.0, 0.5, 3.5),
            Distribution::Quantiles(vec![0.1, 0.5, 0.9], vec![0.0, 1.0, 5.0]),
        ] {
            let values: Vec<f64> =
                (0..4000).map(|i| draw(&from, &mut generator(7, [0, 3, i]))).collect();
            for level in [0.15, 0.5, 0.8] {
                let border = from.quantile(level);
                let share = values.iter().filter(|&&x| x < border).count() as f64 / 4000.0;
                assert!((share - level).abs() < 0.03, "{from:?} {level}: {share}");
            }
        }
    }
}
