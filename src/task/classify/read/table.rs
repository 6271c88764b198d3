//! Tables: texts in a column, a sequence a line, or a step a line.

use super::{Source, number};
use crate::error::{Error, Result};
use crate::task::classify::{Examples, Reading};
use crate::task::records::{records, separator};
use csv::StringRecord;
use std::collections::{HashMap, HashSet};

/// Names that columns have where nobody said which it is.
const TEXTS: [&str; 4] = ["text", "sentence", "review", "comment"];
const LABELS: [&str; 5] = ["label", "class", "target", "y", "category"];
const SEQUENCES: [&str; 2] = ["sequence", "id"];

/// Whether a first line names a column of texts: this one, or one that is usual.
pub(super) fn has_text_column(first: &str, given: Option<&str>) -> bool {
    named_columns(first).iter().any(|name| match given {
        Some(given) => plain(name) == plain(given),
        None => TEXTS.contains(&plain(name).as_str()),
    })
}

/// The names in a first line.
pub(super) fn named_columns(first: &str) -> Vec<String> {
    let fields = first.trim_end().split(char::from(separator(first.as_bytes())));
    fields.map(|name| name.trim().trim_matches('"').to_string()).collect()
}

pub(super) fn plain(name: &str) -> String {
    name.trim().trim_matches('"').to_lowercase()
}

/// The column of this name among others, or of one of these where none is given.
fn column_of<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    given: Option<&str>,
    usual: &[&str],
) -> Option<usize> {
    let at = |name: &str| names.clone().position(|own| plain(own) == plain(name));
    match given {
        Some(name) => at(name),
        None => usual.iter().find_map(|name| at(name)),
    }
}

/// The columns of a long table that are values where none were named: all but those of the sequence and the label.
pub(super) fn values_among(reading: &Reading, columns: &[String]) -> Vec<String> {
    let find = |given: &Option<String>, usual: &[&str]| {
        column_of(columns.iter().map(String::as_str), given.as_deref(), usual)
    };
    let others = [find(&reading.sequence, &SEQUENCES), find(&reading.label, &LABELS)];
    let values = columns.iter().enumerate().filter(|(c, _)| !others.contains(&Some(*c)));
    values.map(|(_, name)| name.clone()).collect()
}

/// The lines of a table, with the line of the file that each begins at.
struct Rows<'a> {
    source: &'a Source<'a>,
    header: Option<StringRecord>,
    rows: Vec<(usize, StringRecord)>,
}

impl<'a> Rows<'a> {
    /// All of them, of the same number of fields. `is_header`: whether the first line names the columns.
    fn read(
        source: &'a Source<'a>,
        text: &str,
        is_header: impl FnOnce(&StringRecord) -> bool,
    ) -> Result<Self> {
        let (mut rows, mut width) = (Vec::new(), None);
        for (line, record) in records(text.as_bytes(), csv::Trim::None) {
            let line = line as usize;
            let record = record.map_err(|e| source.bad(line, None, &e.to_string()))?;
            let wanted = *width.get_or_insert(record.len());
            if record.len() != wanted {
                let n = record.len();
                let what = format!("{n} columns, not {wanted} as in the first line");
                return Err(source.bad(line, Some(n.min(wanted) + 1), &what));
            }
            rows.push((line, record));
        }
        let header = match rows.first() {
            Some((_, first)) if is_header(first) => Some(rows.remove(0).1),
            _ => None,
        };
        Ok(Rows { source, header, rows })
    }

    /// The column of this name, or of one of these where none is given.
    fn find(&self, given: Option<&str>, usual: &[&str]) -> Option<usize> {
        column_of(self.header.as_ref()?.iter(), given, usual)
    }

    /// Refuses two columns of one name, where it is one that counts.
    fn check_names(&self, counts: impl Fn(&str) -> bool) -> Result<()> {
        let mut seen = HashSet::new();
        for (at, name) in self.header.iter().flatten().enumerate() {
            let own = plain(name);
            if !own.is_empty() && counts(&own) && !seen.insert(own) {
                let what = format!("there are two columns of the name '{}'", name.trim());
                return Err(self.source.bad(1, Some(at + 1), &what));
            }
        }
        Ok(())
    }

    /// Refuses a column that is asked for twice.
    fn check_apart(&self, asked: &[usize]) -> Result<()> {
        let mut seen = HashSet::new();
        match asked.iter().find(|&&column| !seen.insert(column)) {
            None => Ok(()),
            Some(&column) => {
                let name = self.header.as_ref().and_then(|header| header.get(column));
                let what = format!("the column '{}' is asked for twice", name.unwrap_or("").trim());
                Err(self.source.bad(1, Some(column + 1), &what))
            }
        }
    }

    /// The same, where it must be there.
    fn need(&self, given: Option<&str>, usual: &[&str], option: &str) -> Result<usize> {
        self.find(given, usual).ok_or_else(|| {
            let there: Vec<&str> = self.header.iter().flatten().collect();
            let wanted = given.map_or(usual.join("' or '"), String::from);
            let there = match there.is_empty() {
                true => "the first line names no columns".to_string(),
                false => format!("there are {}", there.join(", ")),
            };
            let what = format!("there is no column '{wanted}' ({option}); {there}");
            self.source.bad(1, None, &what)
        })
    }

    fn label(&self, line: usize, record: &StringRecord, column: usize) -> Result<String> {
        match record.get(column).map(str::trim).filter(|label| !label.is_empty()) {
            Some(label) => Ok(label.to_string()),
            None => Err(self.source.bad(line, Some(column + 1), "the label is empty")),
        }
    }

    fn value(&self, line: usize, record: &StringRecord, column: usize) -> Result<f32> {
        let field = record.get(column).unwrap_or("");
        number(field).ok_or_else(|| {
            let name = self.header.as_ref().and_then(|header| header.get(column));
            let name = name.map_or(String::new(), |name| format!(" ('{}')", name.trim()));
            let what = format!("'{field}'{name} is no number");
            self.source.bad(line, Some(column + 1), &what)
        })
    }
}

/// Examples, and the names of their table's columns.
type Named = (Examples, Vec<String>);

/// Examples at their lines, with labels in a column.
fn placed(examples: Examples, rows: &Rows, places: Vec<usize>, label: Option<usize>) -> Named {
    let columns = vec![label.map_or(0, |column| column + 1); places.len()];
    let names = rows.header.iter().flatten().map(String::from).collect();
    (examples.found(rows.source.path, "line", places).labelled_in(columns), names)
}

/// A column of texts and one of labels.
pub(super) fn texts(source: &Source, text: &str) -> Result<Named> {
    let rows = Rows::read(source, text, |_| true)?;
    rows.check_names(|_| true)?;
    let column = rows.need(source.reading.text.as_deref(), &TEXTS, "--text")?;
    let label = match source.labelled {
        true => Some(rows.need(source.reading.label.as_deref(), &LABELS, "--label")?),
        false => None,
    };
    rows.check_apart(&[Some(column), label].into_iter().flatten().collect::<Vec<_>>())?;
    let (mut list, mut labels, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (line, record) in &rows.rows {
        list.push(record.get(column).unwrap_or("").to_string());
        if let Some(label) = label {
            labels.push(rows.label(*line, record, label)?);
        }
        places.push(*line);
    }
    Ok(placed(Examples::texts(list, labels)?, &rows, places, label))
}

/// A sequence a line, one value a step; a label in a column of its name, or in the first where columns have no names.
/// Empty fields at the end, or NaN, make a sequence shorter.
pub(super) fn wide(source: &Source, text: &str) -> Result<Named> {
    let given = source.reading.label.as_deref();
    let names = |first: &StringRecord| {
        let named = |field: &str| {
            LABELS.contains(&plain(field).as_str())
                || given.is_some_and(|g| plain(g) == plain(field))
        };
        first.iter().all(|field| number(field).is_none()) || first.iter().any(named)
    };
    let rows = Rows::read(source, text, names)?;
    // Values have their places, whatever they are called.
    rows.check_names(|name| match given {
        Some(given) => name == plain(given),
        None => LABELS.contains(&name),
    })?;
    let label = match (&rows.header, source.labelled) {
        (Some(_), true) => Some(rows.need(given, &LABELS, "--label")?),
        (Some(_), false) => rows.find(given, &LABELS),
        (None, true) => Some(0),
        (None, false) => None,
    };
    let (mut lists, mut labels, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (line, record) in &rows.rows {
        let columns: Vec<usize> = (0..record.len()).filter(|&c| Some(c) != label).collect();
        let blank = |c: usize| {
            let field = record.get(c).unwrap_or("").trim();
            field.is_empty() || field.eq_ignore_ascii_case("nan")
        };
        let last = columns.iter().rposition(|&c| !blank(c));
        let Some(last) = last else {
            return Err(source.bad(*line, Some(1), "there is no value"));
        };
        let values = columns[..=last].iter().map(|&c| rows.value(*line, record, c));
        lists.push(values.collect::<Result<Vec<f32>>>()?);
        if let (Some(label), true) = (label, source.labelled) {
            labels.push(rows.label(*line, record, label)?);
        }
        places.push(*line);
    }
    Ok(placed(Examples::numbers(1, lists, labels)?, &rows, places, label))
}

/// A step a line: a column says of which sequence, one its label, the others are values.
pub(super) fn long(source: &Source, text: &str) -> Result<Named> {
    let rows = Rows::read(source, text, |_| true)?;
    rows.check_names(|_| true)?;
    let reading = source.reading;
    let sequence = rows.need(reading.sequence.as_deref(), &SEQUENCES, "--sequence")?;
    let label = match source.labelled {
        true => Some(rows.need(reading.label.as_deref(), &LABELS, "--label")?),
        false => rows.find(reading.label.as_deref(), &LABELS),
    };
    let columns: Vec<usize> = match reading.values.is_empty() {
        true => {
            let all = 0..rows.header.as_ref().map_or(0, StringRecord::len);
            all.filter(|&c| c != sequence && Some(c) != label).collect()
        }
        false => {
            let find = |name: &String| rows.need(Some(name), &[], "--values");
            reading.values.iter().map(find).collect::<Result<_>>()?
        }
    };
    if columns.is_empty() {
        return Err(Error::format(source.path, "line 1: there is no column of values"));
    }
    // Where labels are left out, a column of values may have one of their usual names.
    let label = label.filter(|_| source.labelled);
    rows.check_apart(&[&columns[..], &[sequence], label.as_slice()].concat())?;
    let (mut lists, mut labels, mut places) = (Vec::<Vec<f32>>::new(), Vec::new(), Vec::new());
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (line, record) in &rows.rows {
        let name = record.get(sequence).unwrap_or("");
        let next = lists.len();
        let at = *numbers.entry(name).or_insert(next);
        let own = label.map(|c| Ok::<_, Error>((c, rows.label(*line, record, c)?)));
        let own = own.transpose()?;
        if at == next {
            lists.push(Vec::new());
            places.push(*line);
            labels.extend(own.map(|own| own.1));
        } else if let Some((column, label)) = own
            && labels.get(at) != Some(&label)
        {
            let (first, place) = (&labels[at], places[at]);
            let what = format!(
                "sequence '{name}' has the label '{label}' here, and '{first}' in line {place}"
            );
            return Err(source.bad(*line, Some(column + 1), &what));
        }
        for &column in &columns {
            lists[at].push(rows.value(*line, record, column)?);
        }
    }
    Ok(placed(Examples::numbers(columns.len(), lists, labels)?, &rows, places, label))
}
