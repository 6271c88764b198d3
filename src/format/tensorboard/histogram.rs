//! How values are spread.

use super::messages::HistogramProto;

/// Buckets of a histogram; TensorBoard shows 30 of them by default.
const BUCKETS: usize = 64;

/// How the values of a tensor are spread: counts in equal steps from the smallest to the largest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// The smallest finite value.
    pub min: f64,
    /// The largest finite value.
    pub max: f64,
    /// The sum of the finite values.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// The upper end of each bucket, where the next begins. Empty where no value is finite.
    pub limits: Vec<f64>,
    /// How many values lie in each bucket, its lower end included, the last one's upper end too.
    pub counts: Vec<u64>,
    /// Values that are infinite or no numbers; they are in none of the others.
    pub left_out: u64,
}

impl Histogram {
    /// Counts values.
    pub fn of(values: &[f32]) -> Self {
        let finite = || values.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v));
        let count = finite().count();
        let left_out = (values.len() - count) as u64;
        if count == 0 {
            return Histogram { left_out, ..Histogram::default() };
        }
        let (min, max) = finite().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let buckets = if min == max { 1 } else { BUCKETS };
        let width = (max - min) / buckets as f64;
        let mut counts = vec![0; buckets];
        for value in finite() {
            let bucket = if width > 0.0 { ((value - min) / width) as usize } else { 0 };
            counts[bucket.min(buckets - 1)] += 1;
        }
        let mut limits: Vec<f64> = (1..=buckets).map(|i| min + width * i as f64).collect();
        limits[buckets - 1] = max;
        let (sum, sum_squares) = (finite().sum(), finite().map(|v| v * v).sum());
        Histogram { min, max, sum, sum_squares, limits, counts, left_out }
    }

    /// Finite values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn message(&self) -> HistogramProto {
        HistogramProto {
            min: self.min,
            max: self.max,
            num: self.count() as f64,
            sum: self.sum,
            sum_squares: self.sum_squares,
            bucket_limit: self.limits.clone(),
            bucket: self.counts.iter().map(|&n| n as f64).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_counted_once() {
        let mut values: Vec<f32> = (0..=640).map(|i| i as f32 / 10.0).collect();
        values.extend([f32::NAN, f32::INFINITY]);
        let h = Histogram::of(&values);
        assert_eq!((h.count(), h.left_out, h.min, h.max), (641, 2, 0.0, 64.0));
        assert_eq!((h.limits.len(), h.limits[63], h.counts[63]), (64, 64.0, 11));
        assert!((h.sum - 20512.0).abs() < 1e-2);
    }

    #[test]
    fn values_that_are_all_alike_or_no_numbers_have_a_histogram_too() {
        let h = Histogram::of(&[2.5; 7]);
        assert_eq!((h.limits, h.counts), (vec![2.5], vec![7]));
        assert_eq!(Histogram::of(&[f32::NAN]).left_out, 1);
        assert!(Histogram::of(&[]).limits.is_empty());
        let wide = Histogram::of(&[f32::MIN, f32::MAX, 0.0]);
        assert_eq!(wide.count(), 3);
        assert!(wide.limits.iter().all(|l| l.is_finite()));
    }
}
