//! Which rows are for training, validation and test.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::str::FromStr;

/// How the rows of each series are divided, from the first on: shares of all rows (0.7/0.1/0.2), or numbers of rows
/// (8640/2880/2880), of which more rows are left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Split {
    training: f64,
    validation: f64,
    test: f64,
}

/// The rows of one series that are for training, validation and test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// To train on, and to scale by.
    pub training: Range<usize>,
    /// To choose by.
    pub validation: Range<usize>,
    /// To measure by.
    pub test: Range<usize>,
}

impl Default for Split {
    /// Seven tenths, a tenth, two tenths.
    fn default() -> Self {
        Split { training: 0.7, validation: 0.1, test: 0.2 }
    }
}

impl Split {
    /// The parts of a series of so many rows.
    ///
    /// # Errors
    /// There are fewer rows than are asked for, or fewer than two to train on.
    pub fn parts(&self, rows: usize) -> Result<Parts> {
        let all = [self.training, self.validation, self.test];
        let mut ends = [0; 3];
        let mut sum = 0.0;
        for (end, part) in ends.iter_mut().zip(all) {
            sum += part;
            // By the sums, so that shares of 1 in all reach the last row.
            *end = if self.is_share() { (sum * rows as f64 + 1e-6) as usize } else { sum as usize };
        }
        let [a, b, c] = ends;
        if c > rows {
            return Err(Error::invalid(format!(
                "{rows} rows are fewer than the {c} of the split {self}"
            )));
        }
        if a < 2 {
            return Err(Error::invalid(format!(
                "{a} of {rows} rows to train on are too few (split {self})"
            )));
        }
        Ok(Parts { training: 0..a, validation: a..b, test: b..c })
    }

    fn is_share(&self) -> bool {
        self.training < 1.0
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let what =
                "a split is TRAINING/VALIDATION/TEST: shares that are 1 at most together, or rows";
            Error::invalid(format!("{what}, not '{text}'"))
        };
        let parts: Vec<f64> = text
            .split('/')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| bad())?;
        let &[training, validation, test] = parts.as_slice() else { return Err(bad()) };
        let split = Split { training, validation, test };
        let sum = training + validation + test;
        let good = match split.is_share() {
            true => sum <= 1.0 + 1e-9,
            false => parts.iter().all(|p| p.fract() == 0.0) && sum < 1e12,
        };
        let positive = training > 0.0 && validation >= 0.0 && test >= 0.0;
        if good && positive { Ok(split) } else { Err(bad()) }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.training, self.validation, self.test)
    }
}

impl From<Split> for String {
    fn from(split: Split) -> String {
        split.to_string()
    }
}

impl TryFrom<String> for Split {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another() {
        let split: Split = "8640/2880/2880".parse().unwrap();
        let parts = split.parts(17_420).unwrap();
        assert_eq!(
            [parts.training.end, parts.validation.end, parts.test.end],
            [8640, 11_520, 14_400]
        );
        assert!(split.parts(14_399).unwrap_err().to_string().contains("14399 rows"));
        let parts = Split::default().parts(10).unwrap();
        assert_eq!([parts.training.end, parts.validation.end, parts.test.end], [7, 8, 10]);
        let text: String = split.into();
        assert_eq!(text.parse::<Split>().unwrap(), split);
        for bad in
            ["0.7/0.2", "0.7/0.2/0.2", "a/b/c", "10.5/1/1", "0/1/1", "0.5/-0.1/0.2", "NaN/1/1"]
        {
            assert!(bad.parse::<Split>().is_err(), "{bad}");
        }
        assert!(Split::default().parts(2).is_err());
    }
}
