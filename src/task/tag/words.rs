//! What a word is to a model: its number, its capitalisation, its characters.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};

/// A word as it is looked up: in lower case if asked for, digits as 0 if asked for.
pub fn normal(word: &str, lower: bool, digits: bool) -> String {
    let word = if lower { word.to_lowercase() } else { word.to_string() };
    match digits {
        true => word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect(),
        false => word,
    }
}

/// Kinds that [`shape`] tells apart.
pub const SHAPES: usize = 7;

/// How a word is capitalised: 0 without capitals, 1 with one at its start, 2 in capitals alone, 3 with capitals
/// elsewhere; 4 digits (and signs) alone, 5 digits and letters; 6 neither.
pub fn shape(word: &str) -> u32 {
    let any = |test: fn(char) -> bool| word.chars().any(test);
    match (any(char::is_numeric), any(char::is_alphabetic)) {
        (true, false) => return 4,
        (true, true) => return 5,
        (false, false) => return 6,
        (false, true) => {}
    }
    let capitals = word.chars().filter(|c| c.is_uppercase()).count();
    let starts = word.chars().next().is_some_and(char::is_uppercase);
    match (capitals, starts, any(char::is_lowercase)) {
        (0, ..) => 0,
        (1, true, _) => 1,
        (_, _, false) => 2,
        _ => 3,
    }
}

/// A word's characters, at most `longest`: of a longer one those at its start and at its end.
pub(super) fn cut(word: &str, longest: usize) -> Vec<char> {
    let all: Vec<char> = word.chars().collect();
    if all.len() <= longest {
        return all;
    }
    let head = longest.div_ceil(2);
    let tail = all.len() - (longest - head);
    all[..head].iter().chain(&all[tail..]).copied().collect()
}

/// Names by number, and numbers by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    numbers: HashMap<String, u32>,
}

impl Index {
    /// Of a list, numbered from `first` on.
    pub fn new(what: &str, list: &[String], first: usize) -> Result<Self> {
        let mut numbers = HashMap::new();
        for (number, name) in list.iter().enumerate() {
            if numbers.insert(name.clone(), (number + first) as u32).is_some() {
                return Err(Error::invalid(format!("the {what} '{name}' is listed twice")));
            }
        }
        Ok(Index { numbers })
    }

    /// The number of a name.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// Those that come so often, the most frequent first, equally frequent ones in their order.
pub(super) fn frequent<T: Ord + Clone>(counts: BTreeMap<T, usize>, least: usize) -> Vec<T> {
    let mut list: Vec<(T, usize)> = counts.into_iter().filter(|(_, n)| *n >= least).collect();
    list.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    list.into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_shapes_and_normal_forms() {
        for (word, wanted) in [
            ("play", 0),
            ("Play", 1),
            ("A", 1),
            ("USA", 2),
            ("iPhone", 3),
            ("McDonald", 3),
            ("1999", 4),
            ("3.5", 4),
            ("4th", 5),
            (",", 6),
            ("", 6),
            ("été", 0),
            ("Ärzte", 1),
            ("日本", 0),
        ] {
            assert_eq!(shape(word), wanted, "{word}");
        }
        assert_eq!(normal("Ab19", true, true), "ab00");
        assert_eq!(normal("Ab19", false, true), "Ab00");
        assert_eq!(normal("Ab19", true, false), "ab19");
    }

    #[test]
    fn long_words_keep_both_ends() {
        let of = |word: &str, longest| cut(word, longest).into_iter().collect::<String>();
        assert_eq!(of("abcdefg", 4), "abfg");
        assert_eq!(of("abcdefg", 5), "abcfg");
        assert_eq!(of("abcdefg", 7), "abcdefg");
        assert_eq!(of("äöü", 1), "ä");
    }
}
