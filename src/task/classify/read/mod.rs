//! People's files of labelled sequences.

mod arrays;
mod blocks;
mod lines;
mod table;
mod ts;

use super::{Examples, Format, Reading};
use crate::data::{text_of, unpacked};
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its sequences.
    pub examples: Examples,
    /// Those that an archive has for tests besides.
    pub test: Option<Examples>,
    /// The file's form.
    pub format: Format,
    /// The names of a table's columns, where it has some.
    pub columns: Vec<String>,
}

impl Found {
    fn plain(examples: Examples, format: Format) -> Self {
        Found { examples, test: None, format, columns: Vec::new() }
    }
}

/// A file on its way to sequences.
struct Source<'a> {
    reading: &'a Reading,
    path: &'a Path,
    /// The labels, where they lie in a file of their own.
    labels: Option<(&'a Path, Vec<u8>)>,
    /// Whether there must be labels.
    labelled: bool,
}

impl Source<'_> {
    /// What is wrong, in a line (from 1) and perhaps a column (from 1).
    fn bad(&self, line: usize, column: Option<usize>, what: &str) -> Error {
        let column = column.map_or(String::new(), |column| format!(", column {column}"));
        Error::format(self.path, format!("line {line}{column}: {what}"))
    }

    /// Labels of a file of their own, one for each of `count` sequences; none where none are needed.
    fn own_labels(&self, count: usize) -> Result<Vec<String>> {
        let Some((path, bytes)) = &self.labels else {
            if self.labelled {
                let what = "its labels lie in a file of their own: name it with --labels";
                return Err(Error::format(self.path, what));
            }
            return Ok(Vec::new());
        };
        let list = arrays::labels(path, bytes)?;
        match list.len() == count {
            true => Ok(list),
            false => Err(Error::format(
                *path,
                format!(
                    "there are {} labels, and {} has {count} sequences",
                    list.len(),
                    self.path.display()
                ),
            )),
        }
    }
}

impl Reading {
    /// Reads files of one kind, one behind the other; `labels` are the files with their labels, in the same order, or
    /// none. The tests of archives are put together too.
    ///
    /// # Errors
    /// As [`Reading::read`]; files that do not fit together; not one file of labels for each.
    pub fn read_all(&self, files: &[PathBuf], labels: &[PathBuf], labelled: bool) -> Result<Found> {
        if !labels.is_empty() && labels.len() != files.len() {
            let (n, all) = (labels.len(), files.len());
            let what = format!("there are {n} files of labels (--labels) for {all} files of data");
            return Err(Error::invalid(what));
        }
        let mut all: Option<Found> = None;
        let mut reading = self.clone();
        for (i, file) in files.iter().enumerate() {
            let found = reading.read(file, labels.get(i).map(PathBuf::as_path), labelled)?;
            // The files behind the first have its columns, in whatever order.
            reading = reading.settled(found.format, &found.columns);
            all = Some(match all {
                None => found,
                Some(before) => {
                    let test = match (before.test, found.test) {
                        (Some(a), Some(b)) => Some(a.and(b)?),
                        (a, b) => a.or(b),
                    };
                    Found { examples: before.examples.and(found.examples)?, test, ..found }
                }
            });
        }
        all.ok_or_else(|| Error::invalid("no file is named"))
    }

    /// Reads a file, compressed by gzip or not. Where `labelled`, each sequence must have a label; else labels are left
    /// out, or there are none.
    ///
    /// # Errors
    /// The file can't be read, is empty, or is not of its form: line and column, or the sequence, are named.
    pub fn read(&self, file: &Path, labels: Option<&Path>, labelled: bool) -> Result<Found> {
        let bytes = |path: &Path| {
            let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
            unpacked(path, bytes)
        };
        let labels = labels.map(|path| Ok::<_, Error>((path, bytes(path)?))).transpose()?;
        self.parse(file, bytes(file)?, labels, labelled)
    }

    /// The same of bytes that were read already; `file` is their name in messages, and its ending counts.
    ///
    /// # Errors
    /// As [`Reading::read`].
    pub fn parse(
        &self,
        file: &Path,
        bytes: Vec<u8>,
        labels: Option<(&Path, Vec<u8>)>,
        labelled: bool,
    ) -> Result<Found> {
        if bytes.is_empty() {
            return Err(Error::format(file, "the file is empty"));
        }
        let source = Source { reading: self, path: file, labels, labelled };
        let format = match self.format {
            Some(format) => format,
            None => self.detect(file, &bytes, labelled)?,
        };
        let apart = matches!(format, Format::Idx | Format::Numpy | Format::Blocks);
        if let Some((path, _)) = source.labels.as_ref().filter(|_| !apart) {
            let what =
                format!("{} has the form '{format}', whose labels lie in it", file.display());
            return Err(Error::format(*path, what));
        }
        let found = match format {
            Format::Idx => Found::plain(arrays::idx(&source, &bytes)?, format),
            Format::Numpy => arrays::numpy(&source, &bytes)?,
            _ => {
                let text = text_of(file, bytes)?;
                let (examples, columns) = match format {
                    Format::Csv => table::texts(&source, &text)?,
                    Format::Wide => table::wide(&source, &text)?,
                    Format::Long => table::long(&source, &text)?,
                    Format::Ts => (ts::read(&source, &text)?, Vec::new()),
                    Format::Blocks => (blocks::read(&source, &text)?, Vec::new()),
                    _ => (lines::read(&source, &text, format)?, Vec::new()),
                };
                Found { columns, ..Found::plain(examples, format) }
            }
        };
        match found.examples.is_empty() {
            true => Err(Error::format(file, "there is no sequence in it")),
            false => Ok(found),
        }
    }

    /// How other files are read like one of this form that had these columns: the columns of values are known by their
    /// names then, so that another table may have them in another order.
    pub fn settled(&self, format: Format, columns: &[String]) -> Reading {
        let mut settled = self.clone();
        if format == Format::Long && self.values.is_empty() {
            settled.values = table::values_among(self, columns);
        }
        settled
    }

    /// Whether a line names columns of a table that had these: whoever reads another one without its name, from
    /// standard input, knows it by them. A column of texts must be among them where the table has one.
    pub fn is_header(&self, line: &str, columns: &[String], format: Format) -> bool {
        let named = table::named_columns(line);
        let there =
            |name: &String| columns.iter().any(|own| table::plain(own) == table::plain(name));
        let whole = format != Format::Csv || table::has_text_column(line, self.text.as_deref());
        !named.is_empty() && named.iter().all(there) && whole
    }

    /// The form of a file by its name and its beginning.
    fn detect(&self, file: &Path, bytes: &[u8], labelled: bool) -> Result<Format> {
        if bytes.starts_with(&[0, 0, 8]) && matches!(bytes.get(3), Some(2..=4)) {
            return Ok(Format::Idx);
        }
        if bytes.starts_with(b"\x93NUMPY") || bytes.starts_with(b"PK\x03\x04") {
            return Ok(Format::Numpy);
        }
        let name = file.to_string_lossy().to_lowercase();
        let name = name.trim_end_matches(".gz");
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]);
        let start = start.trim_start_matches('\u{feff}');
        let mut filled = start.split('\n').filter(|line| !line.trim().is_empty());
        let Some(first) = filled.next() else {
            return Err(Error::format(file, "there is no sequence in it, but empty lines alone"));
        };
        let first = first.trim_end_matches('\r');
        let numbers = |text: &str| {
            text.split([' ', ',', '\t', ';']).all(|x| x.is_empty() || x.parse::<f64>().is_ok())
        };
        let ts = |line: &str| line.to_lowercase().starts_with("@problemname");
        if name.ends_with(".ts") || start.split('\n').any(ts) {
            return Ok(Format::Ts);
        }
        if first.starts_with(lines::FASTTEXT) {
            return Ok(Format::Fasttext);
        }
        if self.sequence.is_some() {
            return Ok(Format::Long);
        }
        let tabs = first.matches('\t').count();
        if self.text.is_some() {
            return Ok(Format::Csv);
        }
        if name.ends_with(".csv")
            || (tabs > 1 && filled.clone().take(20).all(|l| l.matches('\t').count() == tabs))
        {
            return Ok(if table::has_text_column(first, None) {
                Format::Csv
            } else {
                Format::Wide
            });
        }
        if tabs > 0 && labelled {
            // The side with fewer different things is the labels'.
            let distinct = |side: &dyn Fn(&str) -> Option<String>| {
                let lines = std::iter::once(first).chain(filled.clone()).take(500);
                lines.filter_map(side).collect::<HashSet<_>>().len()
            };
            let before = distinct(&|line| Some(line.split_once('\t')?.0.to_string()));
            let behind = distinct(&|line| Some(line.rsplit_once('\t')?.1.trim().to_string()));
            return Ok(if before < behind { Format::LabelTsv } else { Format::Tsv });
        }
        if numbers(first) && start.contains("\n\n") {
            return Ok(Format::Blocks);
        }
        if numbers(first) && first.contains([',', ';', '\t']) {
            return Ok(Format::Wide);
        }
        if !labelled {
            return Ok(Format::Lines);
        }
        Err(Error::format(
            file,
            "line 1: this is no form that is known: a text, TAB, its label; a table (.csv) with a column of texts \
             (--text) or of numbers; __label__; .ts; IDX; NumPy; blocks of numbers. --format names one",
        ))
    }
}

/// A finite number.
fn number(text: &str) -> Option<f32> {
    text.trim().parse::<f32>().ok().filter(|x| x.is_finite())
}
