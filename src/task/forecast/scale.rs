//! Scales of a series, from its training part.

use super::{Covariate, Layout, Rows, Transform};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Mean and standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, with n for the divisor; 1 of what never changes.
    pub deviation: f64,
}

/// A target's scales in its training part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetScale {
    /// Of what the model sees: of the logarithms, where they are taken.
    pub value: Scale,
    /// In the column's unit.
    pub raw: Scale,
    /// The mean absolute error of the seasonal naive forecast of the next season's value, in the column's unit: what
    /// MASE divides by (Hyndman and Koehler 2006). 0 where there is none.
    pub seasonal: f64,
}

/// The scales of a series, all from its training part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesScale {
    /// The series.
    pub name: String,
    /// Of each target.
    pub targets: Vec<TargetScale>,
    /// Of each input that is known ahead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Scale>,
    /// Of each that is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Scale>,
}

impl Scale {
    /// Of numbers; NaN are left out. None where there is no other.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Scale> {
        let values = || values.clone().filter(|x| !x.is_nan());
        let count = values().count() as f64;
        if count == 0.0 {
            return None;
        }
        let mean = values().sum::<f64>() / count;
        let deviation = (values().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        // Of equal numbers rounding leaves next to nothing.
        let deviation = if deviation > 1e-12 * mean.abs() { deviation } else { 1.0 };
        Some(Scale { mean, deviation })
    }

    pub(super) fn scaled(&self, x: f64) -> f32 {
        ((x - self.mean) / self.deviation) as f32
    }
}

impl SeriesScale {
    /// Of the first `end` rows of a series.
    ///
    /// # Errors
    /// A column has no value there, or one without a logarithm.
    pub(super) fn of(
        layout: &Layout,
        rows: &Rows,
        end: usize,
        season: usize,
        transform: Transform,
    ) -> Result<Self> {
        let empty = |name: &str| {
            let what = format!("column '{name}' has no value in the {end} rows to train on");
            Error::invalid(what)
        };
        let mut targets = Vec::new();
        for (name, values) in layout.targets.iter().zip(&rows.targets) {
            let seen = values.get(..end).unwrap_or(values);
            let changed: Vec<f64> = seen
                .iter()
                .zip(&rows.lines)
                .map(|(&x, &line)| transform.apply(x, line, name))
                .collect::<Result<_>>()?;
            let value = Scale::of(changed.into_iter()).ok_or_else(|| empty(name))?;
            let raw = Scale::of(seen.iter().copied()).ok_or_else(|| empty(name))?;
            let pairs = seen.iter().zip(seen.get(season..).unwrap_or_default());
            let apart: Vec<f64> =
                pairs.map(|(a, b)| (a - b).abs()).filter(|d| !d.is_nan()).collect();
            let seasonal = apart.iter().sum::<f64>() / apart.len().max(1) as f64;
            targets.push(TargetScale { value, raw, seasonal });
        }
        let covariates = |list: &[Covariate], columns: &[Vec<f64>]| -> Result<Vec<Scale>> {
            let names = list.iter().flat_map(|c| std::iter::repeat_n(c, c.channels()));
            names
                .zip(columns)
                .map(|(covariate, values)| {
                    if !covariate.labels.is_empty() {
                        return Ok(Scale { mean: 0.0, deviation: 1.0 });
                    }
                    let seen = values.get(..end).unwrap_or(values);
                    Scale::of(seen.iter().copied()).ok_or_else(|| empty(&covariate.name))
                })
                .collect()
        };
        let known = covariates(&layout.known, &rows.known)?;
        let past = covariates(&layout.past, &rows.past)?;
        Ok(SeriesScale { name: rows.name.clone(), targets, known, past })
    }
}

impl Transform {
    pub(super) fn apply(self, x: f64, line: u64, column: &str) -> Result<f64> {
        match self {
            Transform::None => Ok(x),
            Transform::Log if x > 0.0 || x.is_nan() => Ok(x.ln()),
            Transform::Log => {
                Err(Error::invalid(format!("line {line}, column '{column}': {x} has no logarithm")))
            }
        }
    }
}
