//! Blocks of lines of numbers: a step a line, an empty line behind each sequence.

use super::{Source, number};
use crate::error::Result;
use crate::task::classify::Examples;

pub(super) fn read(source: &Source, text: &str) -> Result<Examples> {
    let mut width: Option<usize> = None;
    let (mut lists, mut places) = (Vec::new(), Vec::new());
    let mut open = false;
    for (at, line) in text.split('\n').enumerate() {
        let at = at + 1;
        if line.trim().is_empty() {
            open = false;
            continue;
        }
        if !open {
            lists.push(Vec::new());
            places.push(at);
            open = true;
        }
        let fields = line.split([' ', '\t', ',', ';', '\r']).filter(|field| !field.is_empty());
        let mut count = 0;
        for field in fields {
            count += 1;
            let value = number(field)
                .ok_or_else(|| source.bad(at, Some(count), &format!("'{field}' is no number")))?;
            if let Some(list) = lists.last_mut() {
                list.push(value);
            }
        }
        let wanted = *width.get_or_insert(count);
        if count != wanted {
            let what = format!("{count} numbers in a line, not {wanted} as in the first");
            return Err(source.bad(at, Some(count.min(wanted) + 1), &what));
        }
    }
    let labels = source.own_labels(lists.len())?;
    Ok(Examples::numbers(width.unwrap_or(1), lists, labels)?.found(source.path, "line", places))
}
