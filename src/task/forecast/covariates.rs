//! Which columns of a table are what.

use super::Clock;
use serde::{Deserialize, Serialize};

/// Columns as people ask for them; [`ALL`](Request::ALL) among names is every numeric column that is nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The columns of the time: one, or year, month, day, hour …; none: the first that looks like one, and else rows
    /// are counted.
    pub time: Vec<String>,
    /// Rows are counted, whatever looks like a time.
    pub untimed: bool,
    /// How times are written, where that can't be told by their looks (as chrono's `strftime`).
    pub time_format: Option<String>,
    /// The column that says which series a row belongs to.
    pub series: Option<String>,
    /// What is to be forecast.
    pub targets: Vec<String>,
    /// What is known ahead of the time that is forecast.
    pub known: Vec<String>,
    /// What is known only as it happens.
    pub past: Vec<String>,
}

impl Request {
    /// The name that stands for all columns that are nothing else.
    pub const ALL: &str = "all";

    /// A forecast of one column from its past.
    pub fn of(target: impl Into<String>) -> Self {
        Request { targets: vec![target.into()], ..Request::default() }
    }
}

/// A column that helps to forecast: numbers, or labels as yes-or-no inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covariate {
    /// The column.
    pub name: String,
    /// Its labels; none: numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

impl Covariate {
    /// How many inputs it makes: its number, or one a label.
    pub fn channels(&self) -> usize {
        self.labels.len().max(1)
    }
}

/// Which columns of a table are what, as a model keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The columns of the time, none where rows are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<String>,
    /// How times are written and spaced.
    pub clock: Clock,
    /// The column of the series' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// What is forecast.
    pub targets: Vec<String>,
    /// What is known ahead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Covariate>,
    /// What is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Covariate>,
}

impl Layout {
    /// Channels of a list of covariates.
    pub(super) fn channels(list: &[Covariate]) -> usize {
        list.iter().map(Covariate::channels).sum()
    }
}
