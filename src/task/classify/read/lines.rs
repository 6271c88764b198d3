//! A text and its label on each line.

use super::Source;
use crate::error::Result;
use crate::task::classify::{Examples, Format};

/// What stands before a label in fastText's files.
pub(super) const FASTTEXT: &str = "__label__";

/// Lines of one of the forms. Empty ones are passed over.
pub(super) fn read(source: &Source, text: &str, format: Format) -> Result<Examples> {
    let (mut texts, mut labels, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim().is_empty() {
            continue;
        }
        let number = number + 1;
        let end = line.chars().count() + 1;
        let bad = |column: usize, what: &str| source.bad(number, Some(column), what);
        if !source.labelled {
            texts.push(line.to_string());
            places.push(number);
            continue;
        }
        let (text, label, column) = match format {
            Format::Tsv => {
                let (text, label) = line
                    .rsplit_once('\t')
                    .ok_or_else(|| bad(end, "there is no TAB with a label behind the text"))?;
                (text, label, text.chars().count() + 2)
            }
            Format::LabelTsv => {
                let (label, text) = line
                    .split_once('\t')
                    .ok_or_else(|| bad(end, "there is no TAB with a text behind the label"))?;
                (text, label, 1)
            }
            Format::Fasttext => {
                let rest = line.trim_start().strip_prefix(FASTTEXT);
                let rest = rest.ok_or_else(|| bad(1, "it does not begin with __label__"))?;
                let (label, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                if text.trim_start().starts_with(FASTTEXT) {
                    let column = FASTTEXT.len() + label.chars().count() + 2;
                    return Err(bad(column, "a second label: each sequence has one class here"));
                }
                (text, label, 1 + FASTTEXT.len())
            }
            _ => return Err(bad(1, "lines of text alone have no labels to learn or to compare")),
        };
        let label = label.trim();
        if label.is_empty() {
            return Err(bad(column, "the label is empty"));
        }
        texts.push(text.to_string());
        labels.push(label.to_string());
        columns.push(column);
        places.push(number);
    }
    let examples = Examples::texts(texts, labels)?.found(source.path, "line", places);
    Ok(examples.labelled_in(columns))
}
