//! The spectral radius of a matrix.

/// Multiplications that settle in, and those that are measured.
const SETTLE: usize = 40;
const MEASURED: usize = 120;

/// The largest |eigenvalue| of a square matrix \[n, n\], by rows: how much Aᵏx grows with each k, as the geometric mean
/// over many (a pair of complex eigenvalues makes single steps go up and down).
pub fn spectral_radius(matrix: &[f32], n: usize) -> f32 {
    if n == 0 || matrix.iter().any(|x| !x.is_finite()) {
        return f32::NAN;
    }
    // Not at right angles to anything in particular.
    let mut x: Vec<f64> = (0..n).map(|i| 1.0 + (i as f64 * 0.754_877_666).fract()).collect();
    let (mut sum, mut length) = (0.0, 0.0);
    for step in 0..SETTLE + MEASURED {
        let y: Vec<f64> = matrix
            .chunks_exact(n)
            .map(|row| row.iter().zip(&x).map(|(&a, x)| f64::from(a) * x).sum())
            .collect();
        length = y.iter().map(|y| y * y).sum::<f64>().sqrt();
        if length < 1e-280 {
            return 0.0;
        }
        if step >= SETTLE {
            sum += length.ln();
        }
        x = y.into_iter().map(|y| y / length).collect();
    }
    debug_assert!(length.is_finite());
    (sum / MEASURED as f64).exp() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_that_are_known() {
        let close = |got: f32, want: f32| assert!((got - want).abs() < 2e-2 * want, "{got} {want}");
        close(spectral_radius(&[3.0, 1.0, 0.0, 2.0], 2), 3.0);
        // A turn by 1 radian, stretched to 0.7: complex eigenvalues.
        let (s, c) = 1f32.sin_cos();
        close(spectral_radius(&[0.7 * c, -0.7 * s, 0.7 * s, 0.7 * c], 2), 0.7);
        // The same in other axes: single steps go up and down.
        close(spectral_radius(&[0.7 * c, -7.0 * s, 0.07 * s, 0.7 * c], 2), 0.7);
        // A negative one.
        close(spectral_radius(&[-1.5, 0.0, 0.0, 0.2], 2), 1.5);
        assert_eq!(spectral_radius(&[0.0, 1.0, 0.0, 0.0], 2), 0.0);
        // Random, uniform with variance 1/(3n): a disk of radius √(1/3) (Ginibre's law).
        let n = 200;
        let bound = 1.0 / (n as f32).sqrt();
        let values = crate::layer::Initializer::new(5).uniform(n * n, bound);
        close(spectral_radius(&values, n) / (1.0 / 3f32).sqrt(), 1.0);
        assert!(spectral_radius(&[f32::NAN], 1).is_nan());
    }
}
