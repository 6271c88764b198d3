//! The `.ts` files of sktime and aeon: what the file is in lines that begin with @, then a sequence a line.

use super::{Source, number};
use crate::error::{Error, Result};
use crate::task::classify::Examples;

/// Values between commas, dimensions between colons, the label behind the last colon.
pub(super) fn read(source: &Source, text: &str) -> Result<Examples> {
    let mut header = Header::default();
    let (mut lists, mut labels, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut data = false;
    for (at, line) in text.split('\n').enumerate() {
        let (at, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', '%']) {
            continue;
        }
        if !data {
            data = header.line(source, at, line)?;
            continue;
        }
        let mut parts: Vec<&str> = line.split(':').collect();
        if header.labels.is_some() {
            let label = parts.pop().unwrap_or("").trim();
            if source.labelled {
                let column = line.chars().count() - label.chars().count() + 1;
                let known = header.labels.as_deref().unwrap_or_default();
                if label.is_empty() || (!known.is_empty() && !known.iter().any(|k| k == label)) {
                    let what = format!("'{label}' is none of the labels of @classLabel");
                    return Err(source.bad(at, Some(column), &what));
                }
                labels.push(label.to_string());
            }
        }
        let wanted = *header.dimensions.get_or_insert(parts.len());
        if parts.len() != wanted || wanted == 0 {
            let n = parts.len();
            let what = format!("it has {n} dimensions between colons, not {wanted}");
            return Err(source.bad(at, None, &what));
        }
        let steps = parts.first().map_or(0, |part| part.split(',').count());
        let mut values = vec![0.0; steps * wanted];
        let mut column = 1;
        for (dimension, part) in parts.iter().enumerate() {
            let mut count = 0;
            for field in part.split(',') {
                let value = number(field).ok_or_else(|| {
                    let missing = if field.trim() == "?" { " (a missing value)" } else { "" };
                    let what =
                        format!("dimension {}: '{field}' is no number{missing}", dimension + 1);
                    source.bad(at, Some(column), &what)
                })?;
                if let Some(place) = values.get_mut(count * wanted + dimension) {
                    *place = value;
                }
                count += 1;
                column += field.chars().count() + 1;
            }
            if count != steps {
                let what =
                    format!("dimension {} has {count} steps, and the first {steps}", dimension + 1);
                return Err(source.bad(at, None, &what));
            }
        }
        lists.push(values);
        places.push(at);
    }
    if !data {
        return Err(Error::format(source.path, "there is no line @data"));
    }
    if source.labelled && header.labels.is_none() {
        return Err(Error::format(source.path, "@classLabel says that there are no labels"));
    }
    let width = header.dimensions.unwrap_or(1);
    Ok(Examples::numbers(width, lists, labels)?.found(source.path, "line", places))
}

#[derive(Default)]
struct Header {
    dimensions: Option<usize>,
    /// Whether each line ends with a label, and which there are.
    labels: Option<Vec<String>>,
}

impl Header {
    /// Whether the data begin behind this line.
    fn line(&mut self, source: &Source, at: usize, line: &str) -> Result<bool> {
        let mut words = line.split_whitespace();
        let key = words.next().unwrap_or("").to_lowercase();
        let rest: Vec<&str> = words.collect();
        let yes = rest.first().is_some_and(|word| word.eq_ignore_ascii_case("true"));
        match key.as_str() {
            "@data" => return Ok(true),
            "@timestamps" if yes => {
                let what = "values with time stamps are not read";
                return Err(source.bad(at, None, what));
            }
            "@dimensions" | "@dimension" => {
                let count = rest.first().and_then(|word| word.parse::<usize>().ok());
                let bad = || source.bad(at, None, "there is no number of dimensions");
                self.dimensions = Some(count.filter(|&n| n > 0).ok_or_else(bad)?);
            }
            "@univariate" if yes => self.dimensions = Some(1),
            "@classlabel" if yes => {
                self.labels = Some(rest.iter().skip(1).map(|word| (*word).to_string()).collect());
            }
            _ if key.starts_with('@') => {}
            _ => return Err(source.bad(at, Some(1), "there is no line @data before the values")),
        }
        Ok(false)
    }
}
