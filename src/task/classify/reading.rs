//! How people's files of labelled sequences are read.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A text, TAB, its label, on each line.
    Tsv,
    /// A label, TAB, its text, on each line.
    LabelTsv,
    /// `__label__x` and a text on each line, as fastText has them.
    Fasttext,
    /// Lines of text alone: there is no label, so they are for predictions.
    Lines,
    /// A table with a column of texts and one of labels.
    Csv,
    /// A table of numbers, one sequence a line: its values and a label.
    Wide,
    /// A table of numbers, one step a line: columns of the sequence's name, of its label, and of values.
    Long,
    /// The `.ts` files of sktime and aeon: a sequence a line, dimensions between colons, the label last.
    Ts,
    /// IDX images, whose rows are steps; labels in a file of their own.
    Idx,
    /// NumPy arrays \[N, T\] or \[N, T, I\], and labels \[N\].
    Numpy,
    /// Blocks of lines of numbers, a step a line, with an empty line behind each block; labels, a line each, in a file
    /// of their own.
    Blocks,
}

impl Format {
    /// All forms.
    pub const ALL: [Format; 11] = [
        Format::Tsv,
        Format::LabelTsv,
        Format::Fasttext,
        Format::Lines,
        Format::Csv,
        Format::Wide,
        Format::Long,
        Format::Ts,
        Format::Idx,
        Format::Numpy,
        Format::Blocks,
    ];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Format::Tsv => "tsv",
            Format::LabelTsv => "label-tsv",
            Format::Fasttext => "fasttext",
            Format::Lines => "lines",
            Format::Csv => "csv",
            Format::Wide => "wide",
            Format::Long => "long",
            Format::Ts => "ts",
            Format::Idx => "idx",
            Format::Numpy => "numpy",
            Format::Blocks => "blocks",
        }
    }

    /// Whether what it holds is text.
    pub fn is_text(self) -> bool {
        matches!(
            self,
            Format::Tsv | Format::LabelTsv | Format::Fasttext | Format::Lines | Format::Csv
        )
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Format::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            Error::invalid(format!("unknown format '{name}'; there are {}", known.join(", ")))
        })
    }
}

/// How files are read. What is not said is found out from a file's name and content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// A table's column of texts; else one that is called so: `text`, `sentence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A table's column of labels, or an archive's array of them; else one that is called so: `label`, `class`,
    /// `target`, `y`. Of a wide table without a header it is the first column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A long table's column that says which sequence a line belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// A long table's columns of values; none: all that are nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}
