//! The tokens of a model, each with its number.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// How a text is cut into tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Unicode characters; one that training did not see is an error.
    #[default]
    Characters,
    /// Bytes: any file is a text.
    Bytes,
    /// What lies between white space, and the end of each line; a word outside the vocabulary counts as
    /// [`UNKNOWN`].
    Words,
}

/// The word that stands for all others.
pub const UNKNOWN: &str = "<unk>";
/// The word that ends a line.
pub const END_OF_LINE: &str = "<eos>";

impl Tokens {
    /// All ways, in the order in which they are offered.
    pub const ALL: [Tokens; 3] = [Tokens::Characters, Tokens::Bytes, Tokens::Words];

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Tokens::Characters => "characters",
            Tokens::Bytes => "bytes",
            Tokens::Words => "words",
        }
    }

    /// One of them.
    pub fn singular(self) -> &'static str {
        self.name().trim_end_matches('s')
    }
}

/// The tokens of a model, each with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// Characters, in the order of their code points.
    Characters(Vec<char>),
    /// All 256 bytes.
    Bytes,
    /// Words: [`UNKNOWN`], [`END_OF_LINE`], then the most frequent first, equals in the order of the alphabet.
    Words(Vec<String>, HashMap<String, u32>),
}

/// What a file keeps of a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VocabularyText {
    /// The characters in a row; of bytes none.
    Characters(String),
    /// The words in the order of their numbers.
    Words(Vec<String>),
}

impl Default for VocabularyText {
    fn default() -> Self {
        VocabularyText::Characters(String::new())
    }
}

impl From<String> for VocabularyText {
    fn from(characters: String) -> Self {
        VocabularyText::Characters(characters)
    }
}

impl Vocabulary {
    /// The distinct characters of a text, in the order of their code points.
    pub fn of(text: &str) -> Self {
        let distinct: BTreeSet<char> = text.chars().collect();
        Vocabulary::Characters(distinct.into_iter().collect())
    }

    /// The tokens of a text. Of words the `most` most frequent, [`UNKNOWN`] and [`END_OF_LINE`] among them.
    ///
    /// # Errors
    /// An empty text of characters; fewer than three words are allowed.
    pub fn build(tokens: Tokens, text: &str, most: Option<usize>) -> Result<Self> {
        match tokens {
            Tokens::Bytes => Ok(Vocabulary::Bytes),
            Tokens::Characters if text.is_empty() => Err(Error::invalid("the text is empty")),
            Tokens::Characters => Ok(Vocabulary::of(text)),
            Tokens::Words => Self::of_tokens(text.split_whitespace(), most, 1),
        }
    }

    /// Words that are found elsewhere than between white space: the `most` most frequent that occur `least` times,
    /// [`UNKNOWN`] and [`END_OF_LINE`] among them.
    ///
    /// # Errors
    /// No word; fewer than three are allowed.
    pub fn of_tokens<'a>(
        words: impl Iterator<Item = &'a str>,
        most: Option<usize>,
        least: u64,
    ) -> Result<Self> {
        let most = most.unwrap_or(usize::MAX);
        if most < 3 {
            let reason = format!("a vocabulary of words needs at least 3, not {most}");
            return Err(Error::invalid(reason));
        }
        let mut counts: HashMap<&str, u64> = HashMap::new();
        let own = |word: &&str| ![UNKNOWN, END_OF_LINE].contains(word);
        words.filter(own).for_each(|w| *counts.entry(w).or_default() += 1);
        let mut list: Vec<(&str, u64)> = counts.into_iter().filter(|w| w.1 >= least).collect();
        list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        if list.is_empty() {
            return Err(Error::invalid(match least {
                0..=1 => "the text has no words".to_string(),
                _ => format!("the text has no word that occurs {least} times"),
            }));
        }
        let frequent = list.into_iter().take(most - 2).map(|(word, _)| word);
        let words = [UNKNOWN, END_OF_LINE].into_iter().chain(frequent);
        Ok(Self::of_words(words.map(str::to_string).collect()))
    }

    /// A word's number, of an unknown one that of [`UNKNOWN`]; 0 where tokens are no words.
    pub fn word(&self, word: &str) -> u32 {
        match self {
            Vocabulary::Words(_, numbers) => numbers.get(word).copied().unwrap_or(0),
            _ => 0,
        }
    }

    fn of_words(words: Vec<String>) -> Self {
        let numbers = words.iter().enumerate().map(|(n, word)| (word.clone(), n as u32)).collect();
        Vocabulary::Words(words, numbers)
    }

    /// From what a file kept ([`Vocabulary::text`]).
    ///
    /// # Errors
    /// None at all, not in order without repetition, or not of these tokens.
    pub fn from_text(tokens: Tokens, text: &VocabularyText) -> Result<Self> {
        let bad = |what: &str| Err(Error::invalid(format!("the vocabulary {what}")));
        match (tokens, text) {
            (Tokens::Characters, VocabularyText::Characters(text)) => {
                let characters: Vec<char> = text.chars().collect();
                if characters.is_empty() || !characters.is_sorted_by(|a, b| a < b) {
                    return bad("is empty or not in order");
                }
                Ok(Vocabulary::Characters(characters))
            }
            (Tokens::Bytes, VocabularyText::Characters(text)) if text.is_empty() => {
                Ok(Vocabulary::Bytes)
            }
            (Tokens::Words, VocabularyText::Words(words)) => {
                if words.len() < 3 || words[0] != UNKNOWN || words[1] != END_OF_LINE {
                    return bad(&format!(
                        "does not begin with {UNKNOWN}, {END_OF_LINE} and a word"
                    ));
                }
                let distinct: BTreeSet<&String> = words.iter().collect();
                if distinct.len() < words.len() {
                    return bad("has a word twice");
                }
                Ok(Self::of_words(words.clone()))
            }
            _ => bad(&format!("is not one of {}", tokens.name())),
        }
    }

    /// What a file keeps of it.
    pub fn text(&self) -> VocabularyText {
        match self {
            Vocabulary::Characters(list) => VocabularyText::Characters(list.iter().collect()),
            Vocabulary::Bytes => VocabularyText::default(),
            Vocabulary::Words(words, _) => VocabularyText::Words(words.clone()),
        }
    }

    /// How a text is cut.
    pub fn tokens(&self) -> Tokens {
        match self {
            Vocabulary::Characters(_) => Tokens::Characters,
            Vocabulary::Bytes => Tokens::Bytes,
            Vocabulary::Words(..) => Tokens::Words,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Vocabulary::Characters(list) => list.len(),
            Vocabulary::Bytes => 256,
            Vocabulary::Words(words, _) => words.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of a text's tokens.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, named with its place.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Vocabulary::Characters(list) => {
                let number = |(at, c): (usize, char)| {
                    list.binary_search(&c).map(|n| n as u32).map_err(|_| {
                        let what = format!("the model does not know the character {c:?}");
                        // Who gives single lines knows which one it is.
                        Error::invalid(match text.contains('\n') {
                            true => {
                                format!("{what} (line {})", text[..at].matches('\n').count() + 1)
                            }
                            false => what,
                        })
                    })
                };
                text.char_indices().map(number).collect()
            }
            Vocabulary::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Vocabulary::Words(_, numbers) => {
                let mut list = Vec::new();
                for line in text.split_inclusive('\n') {
                    let words = line.split_whitespace();
                    list.extend(words.map(|word| numbers.get(word).copied().unwrap_or(0)));
                    if line.ends_with('\n') {
                        list.push(1);
                    }
                }
                Ok(list)
            }
        }
    }

    /// The bytes of a text up to the end of its first token.
    pub fn first_bytes(&self, text: &str) -> usize {
        match self {
            Vocabulary::Characters(_) => text.chars().next().map_or(0, char::len_utf8),
            Vocabulary::Bytes => text.len().min(1),
            Vocabulary::Words(..) => {
                let blank = |c: char| c.is_whitespace() && c != '\n';
                let rest = text.trim_start_matches(blank);
                let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
                // A line end is a token itself.
                text.len() - rest.len() + word.max(rest.len().min(1))
            }
        }
    }

    /// A token as people write it; none beyond the last. A byte that is no ASCII is written as `\xNN`.
    pub fn name(&self, number: usize) -> Option<String> {
        match self {
            Vocabulary::Characters(list) => list.get(number).map(char::to_string),
            Vocabulary::Bytes => u8::try_from(number).ok().map(|byte| match byte {
                0..=127 => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            }),
            Vocabulary::Words(words, _) => words.get(number).cloned(),
        }
    }

    /// Makes text of tokens as they come.
    pub fn writer(&self) -> TextWriter<'_> {
        TextWriter { vocabulary: self, bytes: Vec::new(), inside: false }
    }
}

/// Makes text of tokens as they come: bytes are held back until they are whole characters, words are set apart.
pub struct TextWriter<'a> {
    vocabulary: &'a Vocabulary,
    bytes: Vec<u8>,
    /// A word stands before, on the same line.
    inside: bool,
}

impl TextWriter<'_> {
    /// The text that can be written with one token more.
    pub fn push(&mut self, token: usize) -> String {
        match self.vocabulary {
            Vocabulary::Characters(list) => {
                list.get(token).map(char::to_string).unwrap_or_default()
            }
            Vocabulary::Bytes => {
                self.bytes.push(token as u8);
                self.whole()
            }
            Vocabulary::Words(words, _) => {
                if token == 1 {
                    self.inside = false;
                    return "\n".to_string();
                }
                let apart = if std::mem::replace(&mut self.inside, true) { " " } else { "" };
                format!("{apart}{}", words.get(token).map_or("", String::as_str))
            }
        }
    }

    /// The characters that are whole, and a replacement for what can't become one.
    fn whole(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.bytes.clear();
                    return text;
                }
                Err(e) => {
                    let (whole, rest) = self.bytes.split_at(e.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(bad) = e.error_len() else {
                        self.bytes = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.bytes = rest[bad..].to_vec();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(vocabulary: &Vocabulary, tokens: &[u32]) -> String {
        let mut writer = vocabulary.writer();
        tokens.iter().map(|&token| writer.push(token as usize)).collect()
    }

    #[test]
    fn characters_round_trip() {
        let v = Vocabulary::of("hällo\nwelt");
        let message = v.encode("he\nwall").unwrap_err().to_string();
        assert!(message.ends_with("'a' (line 2)"), "{message}");
        assert!(v.encode("a").unwrap_err().to_string().ends_with("'a'"));
        assert_eq!(written(&v, &v.encode("hällo").unwrap()), "hällo");
        assert_eq!(Vocabulary::from_text(Tokens::Characters, &v.text()).unwrap(), v);
        let bad = |text: &str| {
            Vocabulary::from_text(Tokens::Characters, &VocabularyText::Characters(text.to_string()))
        };
        assert!(bad("ba").is_err() && bad("").is_err() && bad("ab").is_ok());
    }

    #[test]
    fn bytes_become_characters_when_they_are_whole() {
        let v = Vocabulary::build(Tokens::Bytes, "", None).unwrap();
        let ids = v.encode("aé€\n").unwrap();
        assert_eq!(ids.len(), 1 + 2 + 3 + 1);
        assert_eq!(written(&v, &ids), "aé€\n");
        let mut writer = v.writer();
        assert_eq!(writer.push(0xe2), "");
        assert_eq!(writer.push(0x82), "");
        assert_eq!(writer.push(u32::from(b'x') as usize), "\u{fffd}x");
        assert_eq!(writer.push(0xff), "\u{fffd}");
        assert_eq!(v.name(0xe9).unwrap(), "\\xe9");
        assert_eq!(Vocabulary::from_text(Tokens::Bytes, &v.text()).unwrap(), v);
    }

    #[test]
    fn words_are_counted_and_the_rest_is_unknown() {
        let text = "b a b\nc a b\n\nd <unk>";
        let v = Vocabulary::build(Tokens::Words, text, Some(4)).unwrap();
        let Vocabulary::Words(words, _) = &v else { panic!() };
        assert_eq!(words, &[UNKNOWN, END_OF_LINE, "b", "a"]);
        let ids = v.encode(text).unwrap();
        assert_eq!(ids, [2, 3, 2, 1, 0, 3, 2, 1, 1, 0, 0]);
        assert_eq!(written(&v, &ids), "b a b\n<unk> a b\n\n<unk> <unk>");
        assert_eq!(Vocabulary::from_text(Tokens::Words, &v.text()).unwrap(), v);
        assert!(Vocabulary::from_text(Tokens::Characters, &v.text()).is_err());
        assert!(Vocabulary::build(Tokens::Words, text, Some(2)).is_err());
        assert!(Vocabulary::build(Tokens::Words, " \n", None).is_err());
        assert_eq!([" ab c", "\nab", "ab", ""].map(|t| v.first_bytes(t)), [3, 1, 2, 0]);
        assert_eq!(Vocabulary::of("é").first_bytes("éa"), 2);
        let twice =
            VocabularyText::Words([UNKNOWN, END_OF_LINE, "a", "a"].map(String::from).into());
        assert!(Vocabulary::from_text(Tokens::Words, &twice).is_err());
        let v = Vocabulary::of_tokens([" ", "x", " ", "y", "x"].into_iter(), None, 2).unwrap();
        assert_eq!((v.len(), v.word(" "), v.word("x"), v.word("y")), (4, 2, 3, 0));
        assert!(Vocabulary::of_tokens(["x"].into_iter(), None, 2).is_err());
        // As a configuration keeps them.
        let json = serde_json::to_string(&v.text()).unwrap();
        assert_eq!(serde_json::from_str::<VocabularyText>(&json).unwrap(), v.text());
    }
}
