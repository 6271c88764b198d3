//! Tags that mark entities: how they are written, and which entities they mark.

use super::Sentence;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// How tags mark entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// They mark none: each word has its own, as parts of speech.
    Plain,
    /// I-TYPE inside of an entity; B-TYPE only where one follows another of its type.
    Iob1,
    /// B-TYPE at an entity's first word, I-TYPE at the others.
    Bio,
    /// E-TYPE (or L) at its last word and S-TYPE (or U) at an only one besides.
    Bioes,
}

/// An entity: words `start` to `end` (exclusive), from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Entity<'a> {
    /// Its type; empty where tags have none.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Its first word.
    pub start: usize,
    /// The word behind its last.
    pub end: usize,
}

/// A tag's letter and type: `O` has no type; none of a tag that marks no entities.
pub(super) fn parts(tag: &str) -> Option<(u8, &str)> {
    if tag == "O" {
        return Some((b'O', ""));
    }
    let (letter, kind) = match tag.split_once('-') {
        Some((_, "")) => return None,
        Some((letter, kind)) => (letter, kind),
        None => (tag, ""),
    };
    match letter.as_bytes() {
        // BILOU's letters for E and S.
        [b'L'] => Some((b'E', kind)),
        [b'U'] => Some((b'S', kind)),
        &[letter @ (b'B' | b'I' | b'E' | b'S')] => Some((letter, kind)),
        _ => None,
    }
}

/// The entities of a sentence's tags, as the script `conlleval` of CoNLL-2000 counts them. One begins at B and S, at a
/// word behind O or the sentence's start, at another type than the word before has, and behind E and S; it goes on
/// until O, or until the next begins. So I behind O begins one too. What is no such tag is as O.
pub fn entities<'a>(tags: &[&'a str]) -> Vec<Entity<'a>> {
    let mut list: Vec<Entity<'a>> = Vec::new();
    let mut before = (b'O', "");
    for (at, tag) in tags.iter().enumerate() {
        let now = parts(tag).unwrap_or((b'O', ""));
        if now.0 != b'O' {
            let begins = matches!(now.0, b'B' | b'S')
                || matches!(before.0, b'O' | b'E' | b'S')
                || before.1 != now.1;
            match list.last_mut().filter(|_| !begins) {
                Some(entity) => entity.end = at + 1,
                None => list.push(Entity { kind: now.1, start: at, end: at + 1 }),
            }
        }
        before = now;
    }
    list
}

impl Scheme {
    /// How the tags of these sentences mark entities.
    ///
    /// # Errors
    /// Some tags mark entities by type and others can't: the first such one is named.
    pub fn of(sentences: &[Sentence]) -> Result<Self> {
        let mut other = None;
        let (mut typed, mut letters) = (false, [0usize; 4]);
        let (mut inside_first, mut any) = (0usize, false);
        for sentence in sentences {
            let mut before = (b'O', "");
            for (token, tag) in sentence.tags.iter().enumerate() {
                any = true;
                let Some(now) = parts(tag) else {
                    other.get_or_insert((sentence, token));
                    before = (b'O', "");
                    continue;
                };
                typed |= !now.1.is_empty();
                if let Some(letter) = b"BIES".iter().position(|&letter| letter == now.0) {
                    letters[letter] += 1;
                }
                let begins = before.0 == b'O' || before.1 != now.1;
                inside_first += usize::from(now.0 == b'I' && begins);
                before = now;
            }
        }
        match other {
            Some((sentence, token)) if typed => {
                let tag = &sentence.tags[token];
                let what = format!(
                    "the tag '{tag}' is none of O, B-TYPE, I-TYPE, E-TYPE, S-TYPE, as others are"
                );
                Err(sentence.error_at(token, &what))
            }
            Some(_) => Ok(Scheme::Plain),
            None if !any => Ok(Scheme::Plain),
            None if letters[2] + letters[3] > 0 => Ok(Scheme::Bioes),
            None if inside_first > letters[0] => Ok(Scheme::Iob1),
            None => Ok(Scheme::Bio),
        }
    }

    /// Whether a tag may stand behind another; `None` is the sentence's start or end.
    pub(super) fn allows(self, before: Option<&str>, now: Option<&str>) -> bool {
        let of = |tag: Option<&'_ str>| tag.and_then(parts).map(|(l, k)| (l, k.to_string()));
        let outside = (b'O', String::new());
        let (before, now) = (of(before).unwrap_or(outside.clone()), of(now).unwrap_or(outside));
        let same = before.1 == now.1;
        match self {
            Scheme::Plain => true,
            Scheme::Iob1 => now.0 != b'B' || (matches!(before.0, b'B' | b'I') && same),
            Scheme::Bio => now.0 != b'I' || (matches!(before.0, b'B' | b'I') && same),
            Scheme::Bioes => match (before.0, now.0) {
                (b'B' | b'I', b'I' | b'E') => same,
                (b'B' | b'I', _) | (_, b'I' | b'E') => false,
                _ => true,
            },
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Plain => "plain",
            Scheme::Iob1 => "IOB1",
            Scheme::Bio => "BIO",
            Scheme::Bioes => "BIOES",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tags: &str) -> Vec<(String, usize, usize)> {
        let tags: Vec<&str> = tags.split(' ').collect();
        entities(&tags).into_iter().map(|e| (e.kind.to_string(), e.start, e.end)).collect()
    }

    #[test]
    fn entities_are_those_that_the_script_counts() {
        for (tags, wanted) in [
            ("O O", vec![]),
            ("B-x I-x O B-x", vec![("x", 0, 2), ("x", 3, 4)]),
            // Behind each other, of one type and of two.
            ("B-x B-x I-x", vec![("x", 0, 1), ("x", 1, 3)]),
            ("B-x I-y", vec![("x", 0, 1), ("y", 1, 2)]),
            // I at the start, behind O, behind another type.
            ("I-x I-x O I-y", vec![("x", 0, 2), ("y", 3, 4)]),
            ("I-x B-x", vec![("x", 0, 1), ("x", 1, 2)]),
            ("S-x S-x B-y E-y I-y", vec![("x", 0, 1), ("x", 1, 2), ("y", 2, 4), ("y", 4, 5)]),
            ("O E-x E-x O", vec![("x", 1, 2), ("x", 2, 3)]),
            ("U-x B-y L-y", vec![("x", 0, 1), ("y", 1, 3)]),
            ("B-x-y I-x-y I-x", vec![("x-y", 0, 2), ("x", 2, 3)]),
            ("B I O I", vec![("", 0, 2), ("", 3, 4)]),
        ] {
            let wanted: Vec<_> =
                wanted.into_iter().map(|(k, a, b)| (k.to_string(), a, b)).collect();
            assert_eq!(found(tags), wanted, "{tags}");
        }
    }

    fn of(tags: &str) -> Result<Scheme> {
        let tags: Vec<&str> = tags.split(' ').collect();
        Scheme::of(&[Sentence::new(&vec!["w"; tags.len()], &tags)])
    }

    #[test]
    fn schemes_are_told_apart() {
        for (tags, wanted) in [
            ("O B-x I-x O", Scheme::Bio),
            ("O I-x I-x O I-y B-y", Scheme::Iob1),
            ("B-x E-x O S-y", Scheme::Bioes),
            ("B-x L-x U-y O", Scheme::Bioes),
            ("NN VB O I", Scheme::Plain),
            ("O O", Scheme::Bio),
            // A slip does not make it another one.
            ("B-x I-x O I-y B-y O B-z", Scheme::Bio),
        ] {
            assert_eq!(of(tags).unwrap(), wanted, "{tags}");
        }
        let error = of("B-x NN").unwrap_err().to_string();
        assert!(error.contains("'NN'") && error.contains("word 2"), "{error}");
        assert!(of("B-x B-").is_err());
    }

    #[test]
    fn what_may_follow() {
        let bio = |a, b| Scheme::Bio.allows(a, b);
        assert!(!bio(Some("O"), Some("I-x")) && !bio(None, Some("I-x")));
        assert!(bio(Some("B-x"), Some("I-x")) && !bio(Some("B-y"), Some("I-x")));
        let bioes = |a, b| Scheme::Bioes.allows(a, b);
        assert!(!bioes(Some("B-x"), Some("O")) && !bioes(Some("B-x"), None));
        assert!(bioes(Some("I-x"), Some("E-x")) && !bioes(Some("E-x"), Some("E-x")));
        assert!(bioes(None, Some("S-x")) && !bioes(None, Some("E-x")) && bioes(Some("S-x"), None));
        assert!(
            Scheme::Iob1.allows(Some("I-x"), Some("B-x"))
                && !Scheme::Iob1.allows(None, Some("B-x"))
        );
    }
}
