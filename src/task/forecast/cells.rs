//! The cells of a CSV file, and what is asked for among them.

use super::times::{form_of, parse};
use super::{Clock, Covariate, Layout, Request, Rows, Table};
use crate::error::{Error, Result};
use crate::task::records::records;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// The most labels of a column: each is an input.
const MOST_LABELS: usize = 64;
/// Numbers beyond are none.
const LARGEST: f64 = 1e30;

/// A file's cells.
pub(super) struct Cells {
    header: Vec<String>,
    /// Lines and their fields.
    rows: Vec<(u64, csv::StringRecord)>,
}

/// A number, NaN where it is missing; none of what is neither.
fn number(cell: &str) -> Option<f64> {
    let missing = ["", "na", "nan", "n/a", "null", "none", "?"];
    if missing.iter().any(|word| cell.eq_ignore_ascii_case(word)) {
        return Some(f64::NAN);
    }
    cell.parse::<f64>().ok().filter(|x| x.abs() <= LARGEST)
}

/// Why a cell is no number that is read.
fn no_number(cell: &str) -> String {
    match cell.parse::<f64>() {
        Ok(x) if x.is_finite() => format!("'{cell}' is too large: numbers go to {LARGEST:e}"),
        _ => format!("'{cell}' is no number"),
    }
}

/// Whether a column is called as times are.
fn is_named_time(name: &str) -> bool {
    let name = name.to_lowercase();
    let names = "date time datetime timestamp ds day week month quarter year hour minute period";
    let ends = ["_date", "_time", " date", " time", "_at"];
    names.split(' ').any(|own| own == name) || ends.iter().any(|end| name.ends_with(end))
}

fn at(line: u64, column: &str, what: &str) -> Error {
    Error::invalid(format!("line {line}, column '{column}': {what}"))
}

impl Cells {
    pub(super) fn read(mut from: impl Read, name: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|e| Error::io(name, "read", e))?;
        let (mut header, mut rows) = (None, Vec::new());
        for (line, record) in records(&bytes, csv::Trim::All) {
            let record =
                record.map_err(|e| Error::invalid(format!("line {line}: {}", no_text(&e))))?;
            let Some(names) = &header else {
                header = Some(record.iter().map(str::to_string).collect::<Vec<_>>());
                continue;
            };
            if record.len() != names.len() {
                let (fields, columns) = (record.len(), names.len());
                // Where it ends, or the first one that the header has not.
                let place = match names.get(fields) {
                    Some(name) => format!("column '{name}'"),
                    None => format!("column {}", columns + 1),
                };
                return Err(Error::invalid(format!(
                    "line {line}, {place}: {fields} fields, where the header has {columns}"
                )));
            }
            rows.push((line, record));
        }
        let header = header.ok_or_else(|| Error::invalid("the file is empty"))?;
        if rows.is_empty() {
            return Err(Error::invalid("line 1: there is no row behind the header"));
        }
        let mut seen = BTreeSet::new();
        match header.iter().find(|name| !seen.insert(name.as_str())) {
            Some(name) => Err(at(1, name, "there are two columns of that name")),
            None => Ok(Cells { header, rows }),
        }
    }

    fn column(&self, name: &str) -> Result<usize> {
        let found = self.header.iter().position(|n| n == name);
        found.ok_or_else(|| {
            let there = self.header.join(", ");
            at(1, name, &format!("there is no such column; there are {there}"))
        })
    }

    fn cell(&self, row: usize, column: usize) -> &str {
        self.rows.get(row).and_then(|row| row.1.get(column)).unwrap_or_default()
    }

    /// Whether the first cell that is not missing is a number. A column without any value is none of numbers.
    fn is_numeric(&self, column: usize) -> bool {
        // One that is too large counts: what is wrong with it is said where it is read.
        let mut filled = self.rows.iter().filter_map(|row| row.1.get(column));
        let first = filled.find(|cell| !number(cell).is_some_and(f64::is_nan));
        first.is_some_and(|cell| cell.parse::<f64>().is_ok_and(f64::is_finite))
    }

    /// A column as numbers or, of labels, as 0 and 1 for each.
    fn values(&self, covariate: &Covariate) -> Result<Vec<Vec<f64>>> {
        let (column, labels) = (self.column(&covariate.name)?, &covariate.labels);
        let mut all = vec![vec![0.0; self.rows.len()]; covariate.channels()];
        for row in 0..self.rows.len() {
            let (line, cell) = (self.rows[row].0, self.cell(row, column));
            if labels.is_empty() {
                all[0][row] =
                    number(cell).ok_or_else(|| at(line, &covariate.name, &no_number(cell)))?;
                continue;
            }
            match labels.iter().position(|label| label == cell) {
                Some(label) => all[label][row] = 1.0,
                None if number(cell).is_some_and(f64::is_nan) => {
                    all.iter_mut().for_each(|values| values[row] = f64::NAN);
                }
                None => {
                    let known = labels.join(", ");
                    let what = format!("unknown label '{cell}'; there are {known}");
                    return Err(at(line, &covariate.name, &what));
                }
            }
        }
        Ok(all)
    }

    fn time_text(&self, row: usize, columns: &[usize]) -> String {
        columns.iter().map(|&c| self.cell(row, c)).collect::<Vec<_>>().join(" ")
    }

    /// Which rows each series has, by its name, in the order in which they begin.
    fn groups(&self, series: Option<&str>) -> Result<Vec<(String, Vec<usize>)>> {
        let Some(name) = series else {
            return Ok(vec![(String::new(), (0..self.rows.len()).collect())]);
        };
        let column = self.column(name)?;
        let (mut groups, mut places) = (Vec::<(String, Vec<usize>)>::new(), BTreeMap::new());
        for row in 0..self.rows.len() {
            let label = self.cell(row, column);
            if label.is_empty() {
                return Err(at(
                    self.rows[row].0,
                    name,
                    "which series the row belongs to is missing",
                ));
            }
            let place = *places.entry(label).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.1.push(row),
                None => groups.push((label.to_string(), vec![row])),
            }
        }
        Ok(groups)
    }

    /// Times of rows in a form.
    fn times(&self, names: &[String], form: &str, rows: &[usize]) -> Result<Vec<i64>> {
        let columns: Vec<usize> = names.iter().map(|n| self.column(n)).collect::<Result<_>>()?;
        let mut times: Vec<i64> = Vec::new();
        for &row in rows {
            let (line, text) = (self.rows[row].0, self.time_text(row, &columns));
            let time = parse(&text, form).ok_or_else(|| {
                let what = format!("'{text}' is no time of the form {form} (--time-format)");
                at(line, &names.join(","), &what)
            })?;
            if times.last().is_some_and(|&last| last >= time) {
                let what = format!("'{text}' does not come behind the row before (of its series)");
                return Err(at(line, &names.join(","), &what));
            }
            times.push(time);
        }
        Ok(times)
    }

    /// What is asked for, in the columns that are there.
    pub(super) fn resolve(&self, request: &Request) -> Result<Layout> {
        self.check_header(request)?;
        let form = request.time_format.as_deref();
        if let (Some(form), true) = (form, request.untimed) {
            let what = format!("there are no times (--time none) to have a form ({form})");
            return Err(Error::invalid(what));
        }
        let mut time = request.time.clone();
        if time.is_empty() && !request.untimed {
            let looks = |column: &usize| {
                let text = self.cell(0, *column);
                form.map_or_else(|| form_of(text, 1).is_some(), |form| parse(text, form).is_some())
            };
            time.extend((0..self.header.len()).find(looks).map(|c| self.header[c].clone()));
            if let (Some(form), true) = (form, time.is_empty()) {
                let what = format!("no column has times of the form {form} (--time-format)");
                return Err(Error::invalid(what));
            }
        }
        let columns: Vec<usize> = time.iter().map(|n| self.column(n)).collect::<Result<_>>()?;
        let (mut form, mut clock) = (String::new(), Clock::rows());
        let groups = self.groups(request.series.as_deref())?;
        if !columns.is_empty() {
            let text = self.time_text(0, &columns);
            form = match &request.time_format {
                Some(form) => form.clone(),
                None => form_of(&text, columns.len()).ok_or_else(|| {
                    let what = format!("how is the time '{text}' written? (--time-format)");
                    at(self.rows[0].0, &time.join(","), &what)
                })?,
            };
        }
        if !columns.is_empty() {
            let times: Vec<Vec<i64>> = groups
                .iter()
                .map(|group| self.times(&time, &form, &group.1))
                .collect::<Result<_>>()?;
            clock = Clock::of(&times, &form)?;
        }
        let mut taken: BTreeSet<String> = time.iter().chain(&request.series).cloned().collect();
        for list in [&request.targets, &request.known, &request.past] {
            for name in list.iter().filter(|name| *name != Request::ALL) {
                self.column(name)?;
                if !taken.insert(name.clone()) {
                    let what = match time.contains(name) {
                        true => "the column is the time (--time names another, or none)",
                        false => "the column is asked for twice",
                    };
                    return Err(at(1, name, what));
                }
            }
        }
        let mut lists: [Vec<String>; 3] = Default::default();
        for (list, asked) in lists.iter_mut().zip([&request.targets, &request.known, &request.past])
        {
            for name in asked {
                if name != Request::ALL {
                    list.push(name.clone());
                    continue;
                }
                let others = (0..self.header.len()).filter(|&c| self.is_numeric(c));
                for name in others.map(|c| &self.header[c]) {
                    if taken.insert(name.clone()) {
                        list.push(name.clone());
                    }
                }
            }
        }
        let [targets, known, past] = lists;
        if targets.is_empty() {
            return Err(Error::invalid("no column is to be forecast"));
        }
        let covariates = |list: Vec<String>| -> Result<Vec<Covariate>> {
            list.into_iter().map(|name| self.covariate(name)).collect()
        };
        let (known, past) = (covariates(known)?, covariates(past)?);
        Ok(Layout { time, clock, series: request.series.clone(), targets, known, past })
    }

    /// Refuses a first line that is one of data: of numbers and times alone. Numbers that count the columns are names, and
    /// so are those that are asked for.
    fn check_header(&self, request: &Request) -> Result<()> {
        let is_value = |name: &String| match number(name) {
            Some(x) => !x.is_nan(),
            None => form_of(name, 1).is_some(),
        };
        let counts = |from: usize| {
            (from..).zip(&self.header).all(|(number, name)| *name == number.to_string())
        };
        let lists = [&request.time, &request.targets, &request.known, &request.past];
        let mut asked = lists.into_iter().flatten().chain(&request.series);
        let is_asked = asked.any(|name| self.header.contains(name));
        if is_asked || counts(0) || counts(1) || !self.header.iter().all(is_value) {
            return Ok(());
        }
        let first = self.header.join(", ");
        let what = format!(
            "line 1: the first line, {first}, looks like data: a header with the columns' names is needed"
        );
        Err(Error::invalid(what))
    }

    /// A column that is called as times are and was taken for nothing, where there are no times, and how it is written.
    pub(super) fn unread_time(&self, request: &Request, layout: &Layout) -> Option<[String; 2]> {
        if request.untimed || !layout.time.is_empty() {
            return None;
        }
        let covariates = layout.known.iter().chain(&layout.past).map(|c| &c.name);
        let taken: Vec<&String> = covariates.chain(&layout.targets).chain(&layout.series).collect();
        let column = (0..self.header.len()).find(|&column| {
            let name = &self.header[column];
            is_named_time(name) && !taken.contains(&name)
        })?;
        Some([self.header[column].clone(), self.cell(0, column).to_string()])
    }

    fn covariate(&self, name: String) -> Result<Covariate> {
        let column = self.column(&name)?;
        if self.is_numeric(column) {
            return Ok(Covariate { name, labels: Vec::new() });
        }
        let cells = (0..self.rows.len()).map(|row| self.cell(row, column));
        let labels: BTreeSet<&str> =
            cells.filter(|cell| !number(cell).is_some_and(f64::is_nan)).collect();
        match labels.len() {
            0 => Err(at(1, &name, "the column has no value")),
            1..=MOST_LABELS => {
                let labels = labels.into_iter().map(str::to_string).collect();
                Ok(Covariate { name, labels })
            }
            many => {
                let what = format!("{many} labels that are no numbers; {MOST_LABELS} at most");
                Err(at(1, &name, &what))
            }
        }
    }

    pub(super) fn table(&self, layout: &Layout) -> Result<Table> {
        let all = |list: &[Covariate]| -> Result<Vec<Vec<f64>>> {
            let columns: Result<Vec<_>> = list.iter().map(|c| self.values(c)).collect();
            Ok(columns?.into_iter().flatten().collect())
        };
        let plain = |name: &String| Covariate { name: name.clone(), labels: Vec::new() };
        let targets = all(&layout.targets.iter().map(plain).collect::<Vec<_>>())?;
        let (known, past) = (all(&layout.known)?, all(&layout.past)?);
        let (mut series, mut filled) = (Vec::new(), 0);
        for (name, rows) in self.groups(layout.series.as_deref())? {
            let mut places: Vec<usize> = (0..rows.len()).collect();
            let mut start = 0;
            if !layout.time.is_empty() {
                let times = self.times(&layout.time, &layout.clock.format, &rows)?;
                start = times.first().copied().unwrap_or_default();
                places = self.places(layout, &rows, &times)?;
            }
            let len = places.last().map_or(0, |last| last + 1);
            filled += len - rows.len();
            let spread = |columns: &[Vec<f64>]| -> Vec<Vec<f64>> {
                let one = |column: &Vec<f64>| {
                    let mut out = vec![f64::NAN; len];
                    rows.iter().zip(&places).for_each(|(&row, &place)| out[place] = column[row]);
                    out
                };
                columns.iter().map(one).collect()
            };
            let mut lines = vec![0; len];
            rows.iter().zip(&places).for_each(|(&row, &place)| lines[place] = self.rows[row].0);
            let (targets, known, past) = (spread(&targets), spread(&known), spread(&past));
            series.push(Rows { name, start, targets, known, past, lines });
        }
        Ok(Table { layout: layout.clone(), series, filled, unread_time: None })
    }

    /// The steps of rising times behind the first, gaps included.
    fn places(&self, layout: &Layout, rows: &[usize], times: &[i64]) -> Result<Vec<usize>> {
        let clock = &layout.clock;
        let (mut places, mut before) = (Vec::new(), None::<(i64, usize)>);
        let most = 10 * rows.len() + 1000;
        for (&row, &time) in rows.iter().zip(times) {
            let refuse = |what: String| Err(at(self.rows[row].0, &layout.time.join(","), &what));
            let place = match before {
                None => 0,
                Some((last, place)) => match clock.between(last, time) {
                    Some(steps) if steps > 0 => place.saturating_add(steps as usize),
                    _ => {
                        return refuse(format!(
                            "{} is no whole number of steps ({}) behind the row before, {}",
                            clock.text(time),
                            clock.step_name(),
                            clock.text(last)
                        ));
                    }
                },
            };
            if place > most {
                return refuse(format!("{} lies behind too large a gap", clock.text(time)));
            }
            before = Some((time, place));
            places.push(place);
        }
        Ok(places)
    }
}

fn no_text(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => format!("field {}: no UTF-8", err.field() + 1),
        _ => error.to_string(),
    }
}
