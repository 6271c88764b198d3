//! Tables of numbers over time, from CSV files.

use super::cells::Cells;
use super::{Layout, Request};
use crate::error::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Numbers over time, of one series or several.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Which columns are what.
    pub layout: Layout,
    /// The series, in the order in which they begin.
    pub series: Vec<Rows>,
    /// Rows that the file lacks, and that were put between others as missing.
    pub filled: usize,
    /// A column that is called as times are and was not read as such, where rows are counted, and its first cell.
    pub unread_time: Option<[String; 2]>,
}

/// The rows of a series, evenly spaced. What is missing is NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The series' name; empty where there is one alone.
    pub name: String,
    /// The time of the first row.
    pub start: i64,
    /// Each target's values.
    pub targets: Vec<Vec<f64>>,
    /// The values of what is known ahead; of labels 0 and 1 for each.
    pub known: Vec<Vec<f64>>,
    /// Those of what is not.
    pub past: Vec<Vec<f64>>,
    /// The file's line of each row; 0 of one that the file lacks.
    pub lines: Vec<u64>,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Table {
    /// Reads the columns that are asked for from a CSV file with a header, separated by commas, semicolons or tabs.
    /// Empty cells, NA, NaN, null, none and ? are missing. Rows that lack between two times are put in as missing.
    ///
    /// # Errors
    /// The file can't be read or is empty; a ragged line; a column that is not there, or asked for twice; what is no
    /// number or no time; times that don't rise, or are unevenly spaced. The line and the column are named.
    pub fn read(path: &Path, request: &Request) -> Result<Self> {
        Self::from_reader(path, open(path)?, request)
    }

    /// The same of a model's columns.
    ///
    /// # Errors
    /// As [`Table::read`]; a label that the model does not know.
    pub fn read_as(path: &Path, layout: &Layout) -> Result<Self> {
        Self::from_reader_as(path, open(path)?, layout)
    }

    /// As [`Table::read`]; `name` is what messages call the file.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn from_reader(name: &Path, from: impl Read, request: &Request) -> Result<Self> {
        let read = || {
            let cells = Cells::read(from, name)?;
            let layout = cells.resolve(request)?;
            let unread_time = cells.unread_time(request, &layout);
            Ok(Table { unread_time, ..cells.table(&layout)? })
        };
        read().map_err(|e| in_file(name, e))
    }

    /// As [`Table::read_as`]; `name` is what messages call the file.
    ///
    /// # Errors
    /// As [`Table::read_as`].
    pub fn from_reader_as(name: &Path, from: impl Read, layout: &Layout) -> Result<Self> {
        let read = || Cells::read(from, name)?.table(layout);
        read().map_err(|e| in_file(name, e))
    }
}

fn open(path: &Path) -> Result<std::fs::File> {
    std::fs::File::open(path).map_err(|e| Error::io(path, "read", e))
}

fn in_file(name: &Path, error: Error) -> Error {
    match error {
        Error::Invalid(what) => Error::format(name, what),
        other => other,
    }
}
