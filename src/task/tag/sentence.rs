//! A sentence, and where it stands in people's files.

use crate::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Words with their tags, and where there is one, the sentence's intent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence {
    /// The words.
    pub tokens: Vec<String>,
    /// A tag a word; none where there were none to read.
    pub tags: Vec<String>,
    /// What the whole sentence is.
    pub intent: Option<String>,
    pub(super) place: Place,
}

/// Where a sentence was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// The file of its tags; none of a sentence that was made in memory.
    pub file: Option<Arc<Path>>,
    /// The line of each word; one alone where they stand in one line.
    pub lines: Vec<usize>,
    /// The column of the tags, where each word has its line.
    pub column: Option<usize>,
    /// File and line of the intent.
    pub intent: Option<(Arc<Path>, usize)>,
}

impl Sentence {
    /// Of words and their tags.
    pub fn new(tokens: &[&str], tags: &[&str]) -> Self {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_string()).collect();
        Sentence { tokens: own(tokens), tags: own(tags), ..Sentence::default() }
    }

    /// The same with an intent.
    pub fn with_intent(self, intent: &str) -> Self {
        Sentence { intent: Some(intent.to_string()), ..self }
    }

    /// An error at the tag of a word (from 0): file, line and column, as far as they are known.
    pub fn error_at(&self, token: usize, what: &str) -> Error {
        let place = &self.place;
        let column = place.column.unwrap_or(token + 1);
        let line = place.lines.get(token).or(place.lines.first());
        match (&place.file, line) {
            (Some(file), Some(line)) => {
                Error::format(file.as_ref(), format!("line {line}, column {column}: {what}"))
            }
            _ => {
                let words: Vec<&str> = self.tokens.iter().take(5).map(String::as_str).collect();
                let words = words.join(" ");
                Error::invalid(format!("word {} of the sentence '{words} …': {what}", token + 1))
            }
        }
    }

    /// An error at the sentence's intent.
    pub fn error_at_intent(&self, what: &str) -> Error {
        match &self.place.intent {
            Some((file, line)) => Error::format(file.as_ref(), format!("line {line}: {what}")),
            None => self.error_at(0, what),
        }
    }
}
