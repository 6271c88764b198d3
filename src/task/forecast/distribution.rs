//! What a head says of one value: its quantiles, and how far it was from what came.

use std::f64::consts::PI;

/// What may come, of one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// One number, and nothing of how sure it is.
    Point(f64),
    /// Rising levels, and the value that is not exceeded with each as its probability.
    Quantiles(Vec<f64>, Vec<f64>),
    /// Normal: μ, σ.
    Normal(f64, f64),
    /// Student's: μ, σ, ν.
    Student(f64, f64, f64),
    /// Equally likely values, rising.
    Samples(Vec<f64>),
}

/// Levels that stand for a distribution whose CRPS has no closed form here.
const LEVELS: usize = 99;

impl Distribution {
    /// The value that is not exceeded with this probability. Between levels or samples straight lines, beyond them
    /// the outermost.
    pub fn quantile(&self, level: f64) -> f64 {
        match self {
            Distribution::Point(x) => *x,
            Distribution::Quantiles(levels, values) => between(levels, values, level),
            Distribution::Normal(mean, sigma) => mean + sigma * normal_quantile(level),
            Distribution::Student(mean, sigma, nu) => mean + sigma * student_quantile(level, *nu),
            Distribution::Samples(values) => {
                let place = level * values.len() as f64 - 0.5;
                let below = (place.max(0.0) as usize).min(values.len().saturating_sub(1));
                let above = (below + 1).min(values.len().saturating_sub(1));
                let share = (place - below as f64).clamp(0.0, 1.0);
                match (values.get(below), values.get(above)) {
                    (Some(a), Some(b)) => a + share * (b - a),
                    _ => f64::NAN,
                }
            }
        }
    }

    /// The middle: the median.
    pub fn point(&self) -> f64 {
        match self {
            Distribution::Normal(mean, _) | Distribution::Student(mean, _, _) => *mean,
            other => other.quantile(0.5),
        }
    }

    /// The same with every value changed by a rising function. Where the form does not stay, by quantiles.
    pub fn map(self, rising: impl Fn(f64) -> f64) -> Self {
        let quantiles = |of: &Distribution| {
            let levels: Vec<f64> = (0..LEVELS).map(|i| (i as f64 + 0.5) / LEVELS as f64).collect();
            let values = levels.iter().map(|&level| rising(of.quantile(level))).collect();
            Distribution::Quantiles(levels, values)
        };
        match self {
            Distribution::Point(x) => Distribution::Point(rising(x)),
            Distribution::Quantiles(levels, values) => {
                Distribution::Quantiles(levels, values.into_iter().map(rising).collect())
            }
            Distribution::Samples(values) => {
                Distribution::Samples(values.into_iter().map(rising).collect())
            }
            other => quantiles(&other),
        }
    }

    /// The same times a factor above 0, and a number added.
    pub fn scaled(self, factor: f64, shift: f64) -> Self {
        let at = |x: f64| factor * x + shift;
        match self {
            Distribution::Normal(mean, sigma) => Distribution::Normal(at(mean), factor * sigma),
            Distribution::Student(mean, sigma, nu) => {
                Distribution::Student(at(mean), factor * sigma, nu)
            }
            other => other.map(at),
        }
    }

    /// The continuous ranked probability score ∫(F(x) − 1\[x ≥ y\])² dx, in the value's unit: of a point |x − y|; of a
    /// normal and of Student's distribution in closed form (Gneiting and Raftery 2007; Jordan 2019); of samples
    /// Σ|xᵢ − y|/n − Σ|xᵢ − xⱼ|/(2n²); of quantiles twice the mean pinball loss over 99 levels of what
    /// [`Distribution::quantile`] makes of them: straight lines between, nothing beyond the outermost.
    pub fn crps(&self, y: f64) -> f64 {
        match self {
            Distribution::Point(x) => (x - y).abs(),
            Distribution::Quantiles(..) => {
                let pinball = |i: usize| {
                    let level = (i as f64 + 0.5) / LEVELS as f64;
                    let apart = y - self.quantile(level);
                    (level * apart).max((level - 1.0) * apart)
                };
                2.0 * (0..LEVELS).map(pinball).sum::<f64>() / LEVELS as f64
            }
            Distribution::Normal(mean, sigma) => {
                let z = (y - mean) / sigma;
                let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
                sigma * (z * (2.0 * normal(z) - 1.0) + 2.0 * density - 1.0 / PI.sqrt())
            }
            Distribution::Student(mean, sigma, nu) => {
                let (z, nu) = ((y - mean) / sigma, *nu);
                let ln_beta = |a: f64, b: f64| ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
                let spread = (ln_beta(0.5, nu - 0.5) - 2.0 * ln_beta(0.5, nu / 2.0)).exp();
                sigma
                    * (z * (2.0 * student(z, nu) - 1.0)
                        + 2.0 * student_density(z, nu) * (nu + z * z) / (nu - 1.0)
                        - 2.0 * nu.sqrt() * spread / (nu - 1.0))
            }
            Distribution::Samples(values) => {
                let n = values.len() as f64;
                let apart: f64 = values.iter().map(|x| (x - y).abs()).sum();
                // Of rising values: the i-th is added i times and taken away n − 1 − i times.
                let pairs: f64 =
                    (0..values.len()).map(|i| (2.0 * i as f64 + 1.0 - n) * values[i]).sum();
                apart / n - pairs / (n * n)
            }
        }
    }
}

/// The straight line through points at a place.
fn between(places: &[f64], values: &[f64], at: f64) -> f64 {
    let right = places.partition_point(|&p| p < at);
    match (right.checked_sub(1), values.get(right)) {
        (Some(left), Some(&b)) => {
            let share = (at - places[left]) / (places[right] - places[left]);
            values[left] + share * (b - values[left])
        }
        (None, Some(&first)) => first,
        (_, None) => values.last().copied().unwrap_or(f64::NAN),
    }
}

/// ln Γ(x), x > 0: Stirling's series from 8 on, Γ(x) = Γ(x + 1)/x below.
pub(super) fn ln_gamma(mut x: f64) -> f64 {
    let mut product = 1.0;
    while x < 8.0 {
        product *= x;
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series =
        (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0 - r * (1.0 / 1680.0 - r / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - product.ln()
}

/// The share of Γ's integral beyond x (or below it): the regularised incomplete gamma functions of a = 1/2, which make
/// the normal distribution.
fn normal(z: f64) -> f64 {
    let x = z * z / 2.0;
    // P(1/2, x) by its series for small x; 1 − P by a continued fraction else.
    let weight = (-x + 0.5 * x.max(1e-300).ln() - ln_gamma(0.5)).exp();
    let inner = if x < 1.5 {
        let (mut term, mut sum, mut a) = (2.0, 2.0, 0.5);
        while term > sum * 1e-17 {
            a += 1.0;
            term *= x / a;
            sum += term;
        }
        weight * sum
    } else {
        let mut tail = 0.0;
        for n in (1..=60).rev() {
            let n = f64::from(n);
            tail = n * (n - 0.5) / (x + 2.0 * n + 0.5 - tail);
        }
        1.0 - weight / (x + 0.5 - tail)
    };
    if z < 0.0 { 0.5 - inner / 2.0 } else { 0.5 + inner / 2.0 }
}

fn normal_quantile(level: f64) -> f64 {
    root(level, normal, |z| (-z * z / 2.0).exp() / (2.0 * PI).sqrt())
}

fn student_density(z: f64, nu: f64) -> f64 {
    let ln = ln_gamma((nu + 1.0) / 2.0) - ln_gamma(nu / 2.0) - 0.5 * (nu * PI).ln();
    (ln - 0.5 * (nu + 1.0) * (z * z / nu).ln_1p()).exp()
}

/// The integral of the density by the angle θ = atan(z/√ν), where it is cos^(ν−1) θ: Simpson's rule.
fn student(z: f64, nu: f64) -> f64 {
    // What is normal within f64's reach.
    if nu > 1e7 {
        return normal(z);
    }
    const PARTS: usize = 64;
    let end = (z.abs() / nu.sqrt()).atan();
    // For large ν the integrand is narrow: beyond 12 standard deviations nothing is left.
    let end = end.min(12.0 / nu.sqrt());
    let at = |i: usize| {
        let cosine = (end * i as f64 / PARTS as f64).cos().max(0.0);
        if cosine == 0.0 { 0.0 } else { ((nu - 1.0) * cosine.ln()).exp() }
    };
    let inner: f64 = (1..PARTS).map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    let sum = (at(0) + inner + at(PARTS)) * end / (3.0 * PARTS as f64);
    let half = sum * student_density(0.0, nu) * nu.sqrt();
    let half = half.min(0.5);
    if z < 0.0 { 0.5 - half } else { 0.5 + half }
}

fn student_quantile(level: f64, nu: f64) -> f64 {
    root(level, |z| student(z, nu), |z| student_density(z, nu))
}

/// Where a symmetric distribution reaches a level: Newton's method from the middle, which comes nearer from one side,
/// as the distribution bends one way there.
fn root(level: f64, distribution: impl Fn(f64) -> f64, density: impl Fn(f64) -> f64) -> f64 {
    let upper = level.max(1.0 - level).min(1.0 - 1e-12);
    let mut z = 0.0;
    for _ in 0..100 {
        let step = (upper - distribution(z)) / density(z).max(1e-300);
        z += step;
        if step.abs() < 1e-9 * (1.0 + z) {
            break;
        }
    }
    if level < 0.5 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ∫(F(x) − 1[x ≥ y])² dx by the midpoint rule.
    fn integral(distribution: impl Fn(f64) -> f64, y: f64) -> f64 {
        let (low, high, parts) = (-400.0, 400.0, 100_000);
        let width = (high - low) / f64::from(parts);
        (0..parts)
            .map(|i| {
                let x = low + (f64::from(i) + 0.5) * width;
                (distribution(x) - f64::from(x >= y)).powi(2) * width
            })
            .sum()
    }

    #[test]
    fn distributions_are_their_tables() {
        // From tables of the normal and of Student's distribution.
        for (z, p) in
            [(0.0, 0.5), (1.0, 0.841_344_746), (1.959_963_985, 0.975), (-3.0, 0.001_349_898)]
        {
            assert!((normal(z) - p).abs() < 1e-9, "{z} {}", normal(z));
        }
        for (nu, level, z) in [
            (3.0, 0.975, 3.182_446_305),
            (5.0, 0.9, 1.475_884_049),
            (30.0, 0.95, 1.697_260_887),
            (2.0, 0.9, 1.885_618_083),
        ] {
            assert!((student_quantile(level, nu) - z).abs() < 1e-6, "{nu} {level}");
            assert!((student_quantile(1.0 - level, nu) + z).abs() < 1e-6);
        }
        assert!((student_quantile(0.9, 1e6) - normal_quantile(0.9)).abs() < 1e-5);
        assert!((ln_gamma(0.5) - PI.sqrt().ln()).abs() < 1e-12 && ln_gamma(2.0).abs() < 1e-12);
        assert!((ln_gamma(11.0) - 3_628_800f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn scores_are_the_integral() {
        for y in [-2.0, 0.3, 4.0] {
            let normal_score = Distribution::Normal(0.5, 1.5).crps(y);
            let want = integral(|x| normal((x - 0.5) / 1.5), y);
            assert!((normal_score - want).abs() < 2e-3, "{y}: {normal_score} {want}");
            let score = Distribution::Student(0.5, 1.5, 4.0).crps(y);
            let want = integral(|x| student((x - 0.5) / 1.5, 4.0), y);
            assert!((score - want).abs() < 2e-3, "{y}: {score} {want}");
            // Quantiles and samples of the same distribution come near it.
            let levels: Vec<f64> = (0..999).map(|i| (f64::from(i) + 0.5) / 999.0).collect();
            let normal = Distribution::Normal(0.5, 1.5);
            let values: Vec<f64> = levels.iter().map(|&l| normal.quantile(l)).collect();
            let samples = Distribution::Samples(values.clone()).crps(y);
            let quantiles = Distribution::Quantiles(levels, values).crps(y);
            assert!((samples - normal_score).abs() < 0.01, "{samples} {normal_score}");
            assert!((quantiles - normal_score).abs() < 0.01, "{quantiles} {normal_score}");
        }
        assert_eq!(Distribution::Point(3.0).crps(1.0), 2.0);
        // Two samples, by hand: (1 + 3)/2 − |4|·2/(2·4).
        assert!((Distribution::Samples(vec![-1.0, 3.0]).crps(0.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_of_few_and_of_changed_values() {
        let few = Distribution::Quantiles(vec![0.1, 0.5, 0.9], vec![1.0, 2.0, 6.0]);
        for (level, value) in [(0.05, 1.0), (0.3, 1.5), (0.5, 2.0), (0.7, 4.0), (0.99, 6.0)] {
            assert!((few.quantile(level) - value).abs() < 1e-9, "{level}");
        }
        assert_eq!(few.scaled(2.0, 1.0).point(), 5.0);
        let log = Distribution::Normal(1.0, 0.5).map(f64::exp);
        assert!((log.point() - 1f64.exp()).abs() < 1e-9);
        assert!((log.quantile(0.9) - (1.0 + 0.5 * 1.281_551_566f64).exp()).abs() < 1e-2);
        assert_eq!(Distribution::Samples(vec![4.0]).quantile(0.9), 4.0);
        let even = Distribution::Samples(vec![0.0, 1.0, 2.0, 3.0]);
        for (level, value) in [(0.125, 0.0), (0.5, 1.5), (0.875, 3.0), (1.0, 3.0)] {
            assert!((even.quantile(level) - value).abs() < 1e-9, "{level}");
        }
    }
}
