//! Axes: where a value lies between two ends, and the values that are named on the way.

/// A linear or logarithmic axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// The value at the start.
    pub low: f64,
    /// The value at the end.
    pub high: f64,
    /// Equal steps are equal factors.
    pub log: bool,
}

impl Axis {
    /// An axis over the values that can lie on it; with `room`, a little more at both ends.
    pub fn over(values: impl Iterator<Item = f64>, log: bool, room: bool) -> Self {
        let usable = values.filter(|&v| v.is_finite() && (!log || v >= f64::MIN_POSITIVE));
        let (low, high) =
            usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low > high {
            return if log {
                Axis { low: 0.1, high: 10.0, log }
            } else {
                Axis { low: 0.0, high: 1.0, log }
            };
        }
        let share = if room { 0.04 } else { 0.0 };
        if log {
            let factor = ((high.ln() - low.ln()) * share).exp();
            let factor = if low == high { 2.0 } else { factor };
            // An axis has to end before the numbers do.
            let (low, high) = (low / factor, high * factor);
            return Axis { low: low.max(f64::MIN_POSITIVE), high: high.min(f64::MAX), log };
        }
        let margin = match high / 2.0 - low / 2.0 {
            0.0 if low == 0.0 => 1.0,
            0.0 => low.abs() * 0.1,
            half => half * 2.0 * share,
        };
        Axis { low: (low - margin).max(f64::MIN), high: (high + margin).min(f64::MAX), log }
    }

    /// Where a value lies: 0 at the start, 1 at the end. None where it has no place.
    pub fn share(&self, value: f64) -> Option<f64> {
        let Axis { low, high, log } = *self;
        let share = if log {
            (value.ln() - low.ln()) / (high.ln() - low.ln())
        } else {
            // Halves, as the difference of two large numbers may be infinite.
            (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
        };
        share.is_finite().then_some(share)
    }

    /// About `count` round values on the axis, in order.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        if self.log { self.log_ticks(count) } else { self.linear_ticks(count) }
    }

    fn linear_ticks(&self, count: usize) -> Vec<f64> {
        let raw = (self.high / 2.0 - self.low / 2.0) * 2.0 / count.max(1) as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0].map(|digit| digit * power).into_iter().find(|s| *s >= raw);
        let step = step.unwrap_or(power * 10.0);
        if !step.is_finite() || step <= 0.0 {
            return vec![self.low, self.high];
        }
        let first = (self.low / step).ceil();
        (0..=2 * count + 2)
            .map(|i| (first + i as f64) * step)
            // What is not quite 0 is meant as 0.
            .map(|value| if value.abs() < step * 1e-9 { 0.0 } else { value })
            .take_while(|&value| value.is_finite() && value <= self.high + step * 1e-9)
            .collect()
    }

    /// Powers of ten, with 2 and 5 times them where there are few.
    fn log_ticks(&self, count: usize) -> Vec<f64> {
        let decades = self.high.log10() - self.low.log10();
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let digits: &[f64] = match decades {
            d if d < 1.0 => return Axis { log: false, ..*self }.linear_ticks(count),
            d if d * 3.0 <= count as f64 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (decades / count.max(1) as f64).ceil().max(1.0) as i32;
        powers
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)))
            .filter(|value| (self.low..=self.high).contains(value))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::over([0.0, 997.0].into_iter(), false, false);
        assert_eq!(axis.ticks(5), [0.0, 200.0, 400.0, 600.0, 800.0]);
        let axis = Axis::over([-0.31, 0.3].into_iter(), false, true);
        assert_eq!(axis.ticks(4), [-0.2, 0.0, 0.2]);
        let axis = Axis { low: 1e-6, high: 2.0, log: true };
        assert_eq!(axis.ticks(8).len(), 7);
        let axis = Axis { low: 0.9, high: 60.0, log: true };
        assert_eq!(axis.ticks(6), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert!(Axis { low: 2.0, high: 7.0, log: true }.ticks(5).len() >= 4);
    }

    #[test]
    fn odd_ranges_have_an_axis_too() {
        let ranges: [&[f64]; 8] = [
            &[],
            &[f64::NAN, f64::INFINITY],
            &[0.0],
            &[-3.0, -3.0],
            &[f64::MIN, f64::MAX],
            &[1e-300, 1e300],
            &[5e-324, 1e-323],
            &[-1.0, 0.0],
        ];
        for values in ranges {
            for log in [false, true] {
                let axis = Axis::over(values.iter().copied(), log, true);
                assert!(axis.low < axis.high, "{values:?} {axis:?}");
                assert!(axis.low.is_finite() && axis.high.is_finite());
                let ticks = axis.ticks(5);
                assert!(!ticks.is_empty() && ticks.len() < 20, "{values:?} {log} {ticks:?}");
                assert!(ticks.iter().all(|t| t.is_finite()));
            }
        }
    }

    #[test]
    fn shares_run_from_0_to_1() {
        let axis = Axis { low: 0.01, high: 100.0, log: true };
        assert!((axis.share(1.0).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(axis.share(0.0), None);
        assert_eq!(axis.share(-1.0), None);
        let axis = Axis { low: -1.0, high: 3.0, log: false };
        assert_eq!(
            (axis.share(-1.0), axis.share(3.0), axis.share(f64::NAN)),
            (Some(0.0), Some(1.0), None)
        );
    }
}
