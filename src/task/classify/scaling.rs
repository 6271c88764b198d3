//! Numbers brought to a mean of 0 and a deviation of 1.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is brought to a mean of 0 and a deviation of 1, by the mean and the deviation over the training sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingKind {
    /// Each of the values of a step by itself.
    #[default]
    Each,
    /// All values alike: of pixels.
    All,
    /// Nothing: they are read as they are.
    None,
}

/// (x − mean)/deviation, by the values of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// \[I\].
    pub mean: Vec<f32>,
    /// \[I\]; 1 where values don't differ.
    pub deviation: Vec<f32>,
}

impl Scaling {
    /// Over sequences of `width` values a step.
    pub fn over(kind: ScalingKind, width: usize, list: &[Vec<f32>]) -> Self {
        // Columns of their own, or one for all.
        let groups = if kind == ScalingKind::Each { width } else { 1 };
        let (mut counts, mut sums) = (vec![0u64; groups], vec![0.0f64; groups]);
        let each = |visit: &mut dyn FnMut(usize, f64)| {
            for step in list.iter().flat_map(|own| own.chunks(width.max(1))) {
                step.iter().enumerate().for_each(|(i, &x)| visit(i % groups.max(1), f64::from(x)));
            }
        };
        if kind == ScalingKind::None || width == 0 {
            return Scaling { mean: vec![0.0; width], deviation: vec![1.0; width] };
        }
        each(&mut |group, x| {
            counts[group] += 1;
            sums[group] += x;
        });
        let mean: Vec<f64> =
            sums.iter().zip(&counts).map(|(sum, &n)| sum / n.max(1) as f64).collect();
        let mut squares = vec![0.0f64; groups];
        each(&mut |group, x| squares[group] += (x - mean[group]).powi(2));
        let deviation = squares.iter().zip(&counts).map(|(sum, &n)| {
            let deviation = (sum / n.max(1) as f64).sqrt() as f32;
            if deviation.is_normal() { deviation } else { 1.0 }
        });
        let deviation: Vec<f32> = deviation.collect();
        Scaling {
            mean: (0..width).map(|i| mean[i % groups] as f32).collect(),
            deviation: (0..width).map(|i| deviation[i % groups]).collect(),
        }
    }

    /// Values of a step.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// What makes no sense, as a folder might have it.
    ///
    /// # Errors
    /// No value; another number of deviations than of means; what is no number, or a deviation of 0.
    pub fn check(&self) -> Result<()> {
        let [means, deviations] = [self.mean.len(), self.deviation.len()];
        if means == 0 || means != deviations {
            let what = format!("a scaling of {means} means and {deviations} deviations");
            return Err(Error::invalid(what));
        }
        let bad = |(mean, deviation): (&f32, &f32)| !(mean.is_finite() && deviation.is_normal());
        match self.mean.iter().zip(&self.deviation).any(bad) {
            true => Err(Error::invalid("a scaling by what is no number, or by 0")),
            false => Ok(()),
        }
    }

    /// A sequence's values, scaled.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let scaled = |step: &[f32]| -> Vec<f32> {
            let parts = step.iter().zip(&self.mean).zip(&self.deviation);
            parts.map(|((x, mean), deviation)| (x - mean) / deviation).collect()
        };
        values.chunks(self.width().max(1)).flat_map(scaled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_by_themselves_or_alike() {
        let list = [vec![1.0, 10.0, 3.0, 10.0], vec![5.0, 10.0]];
        let each = Scaling::over(ScalingKind::Each, 2, &list);
        assert_eq!(each.mean, [3.0, 10.0]);
        assert!((each.deviation[0] - (8.0f32 / 3.0).sqrt()).abs() < 1e-6);
        assert_eq!(each.deviation[1], 1.0, "what does not differ is not divided");
        let scaled: Vec<f32> = list.iter().flat_map(|own| each.apply(own)).collect();
        let sum = |f: &dyn Fn(f32) -> f32| scaled.iter().step_by(2).map(|&x| f(x)).sum::<f32>();
        assert!(sum(&|x| x).abs() < 1e-6 && (sum(&|x| x * x) - 3.0).abs() < 1e-5);
        let all = Scaling::over(ScalingKind::All, 2, &list);
        assert_eq!(all.mean, [6.5, 6.5]);
        let none = Scaling::over(ScalingKind::None, 2, &list);
        assert_eq!(none.apply(&list[0]), list[0]);
        assert!(Scaling { mean: vec![], deviation: vec![] }.check().is_err());
        assert!(Scaling { mean: vec![0.0], deviation: vec![0.0] }.check().is_err());
        assert!(each.check().is_ok());
    }
}
