//! What scores of classes say as probabilities.

/// log Σ exp(x), by the largest x, so that nothing overflows; no finite number where one of them is none.
pub(super) fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|x| (x - most).exp()).sum::<f64>().ln()
}

/// [`log_sum`] of a row of logits.
pub(super) fn log_total(logits: &[f32]) -> f64 {
    log_sum(logits.iter().map(|&x| f64::from(x)))
}

/// The probability of each class of a row of logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f64> {
    let total = log_total(logits);
    logits.iter().map(|&x| (f64::from(x) - total).exp()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_logits_neither_overflow_nor_vanish() {
        let shares = [0.5, 0.3, 0.2];
        for shift in [-2000.0, 0.0, 2000.0] {
            let logits = shares.map(|p: f64| (p.ln() + shift) as f32);
            let found = softmax(&logits);
            assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{found:?}");
            for (found, share) in found.iter().zip(shares) {
                assert!((found - share).abs() < 1e-4, "{found} {share}");
            }
        }
        for broken in [f32::NAN, f32::INFINITY] {
            assert!(!log_total(&[0.0, broken]).is_finite());
        }
    }
}
