//! Text files and their characters.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Reads a UTF-8 text.
///
/// # Errors
/// The file can't be read, is empty, or is no UTF-8: the error names line and byte.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        let byte = e.as_bytes()[at];
        let reason = format!(
            "the text is not UTF-8: byte 0x{byte:02x} at offset {at} (line {line}); \
             convert it first, for example with iconv -t utf-8"
        );
        Error::format(path, reason)
    })?;
    if text.is_empty() { Err(Error::format(path, "the text is empty")) } else { Ok(text) }
}

/// The characters of a model, each with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    characters: Vec<char>,
}

impl Vocabulary {
    /// The distinct characters of a text, in the order of their code points.
    pub fn of(text: &str) -> Self {
        let distinct: BTreeSet<char> = text.chars().collect();
        Vocabulary { characters: distinct.into_iter().collect() }
    }

    /// From the characters themselves, as [`Vocabulary::characters`] gives them.
    ///
    /// # Errors
    /// None at all, or not in order without repetition.
    pub fn from_characters(characters: &str) -> Result<Self> {
        let characters: Vec<char> = characters.chars().collect();
        if characters.is_empty() || !characters.is_sorted_by(|a, b| a < b) {
            return Err(Error::invalid("the vocabulary is empty or not in order"));
        }
        Ok(Vocabulary { characters })
    }

    /// All characters, in the order of their numbers.
    pub fn characters(&self) -> String {
        self.characters.iter().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.characters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// The numbers of a text's characters.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, named.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let number = |c: char| {
            self.characters
                .binary_search(&c)
                .map(|n| n as u32)
                .map_err(|_| Error::invalid(format!("the model does not know the character {c:?}")))
        };
        text.chars().map(number).collect()
    }

    /// The character of a number.
    pub fn character(&self, number: usize) -> Option<char> {
        self.characters.get(number).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabulary_round_trip() {
        let v = Vocabulary::of("hällo\nwelt");
        let ids = v.encode("wall").unwrap_err().to_string();
        assert!(ids.contains("'a'"));
        let ids = v.encode("hällo").unwrap();
        let back: String = ids.iter().filter_map(|&i| v.character(i as usize)).collect();
        assert_eq!(back, "hällo");
        assert_eq!(Vocabulary::from_characters(&v.characters()).unwrap(), v);
        assert!(Vocabulary::from_characters("ba").is_err());
    }

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.txt");
        std::fs::write(&path, b"one\ntw\xff").unwrap();
        let message = read_text(&path).unwrap_err().to_string();
        assert!(message.contains("0xff at offset 6 (line 2)"), "{message}");
        std::fs::write(&path, b"").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("empty"));
    }
}
