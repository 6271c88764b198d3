//! Texts as token ids.

use crate::data::{Tokens, Vocabulary, VocabularyText};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The number of the token that stands for all that are not in a vocabulary of words or characters.
pub(super) const UNKNOWN_ID: u32 = 0;
/// The number of the token behind the last of each text, so that no text is empty.
pub(super) const END_ID: u32 = 1;

/// How a text becomes token ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Words (runs of letters and digits, with apostrophes inside, and each other sign by itself), characters or bytes.
    pub tokens: Tokens,
    /// Capital letters stay.
    #[serde(default)]
    pub keep_case: bool,
    /// The words or characters that are known; of bytes none.
    pub vocabulary: VocabularyText,
    /// The width E of a token's vector.
    pub embedding: usize,
}

impl TextConfig {
    /// With the vocabulary of texts: the `most` most frequent of those tokens that occur `least` times.
    ///
    /// # Errors
    /// No such token.
    pub fn over(
        texts: &[String],
        tokens: Tokens,
        keep_case: bool,
        [most, least]: [usize; 2],
        embedding: usize,
    ) -> Result<Self> {
        let pieces = texts.iter().flat_map(|text| pieces(tokens, keep_case, text));
        let pieces: Vec<String> = pieces.collect();
        let vocabulary = match tokens {
            Tokens::Bytes => Vocabulary::Bytes,
            _ => {
                let pieces = pieces.iter().map(String::as_str);
                Vocabulary::of_tokens(pieces, Some(most), least as u64)?
            }
        };
        Ok(TextConfig { tokens, keep_case, vocabulary: vocabulary.text(), embedding })
    }

    /// The vocabulary itself.
    ///
    /// # Errors
    /// As [`Vocabulary::from_text`].
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        // Characters lie in a list as words do, since there are two tokens that no character is.
        let tokens = if self.tokens == Tokens::Bytes { Tokens::Bytes } else { Tokens::Words };
        Vocabulary::from_text(tokens, &self.vocabulary)
    }

    /// The ids of a text's tokens, and of the end behind them.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
        match self.tokens {
            Tokens::Bytes => {
                let lower = if self.keep_case { text.to_string() } else { text.to_lowercase() };
                lower.bytes().map(u32::from).chain([u32::from(b'\n')]).collect()
            }
            tokens => {
                let pieces = pieces(tokens, self.keep_case, text);
                let ids = pieces.into_iter().map(|piece| vocabulary.word(&piece));
                ids.chain([END_ID]).collect()
            }
        }
    }
}

/// A text in words and signs, or in characters.
fn pieces(tokens: Tokens, keep_case: bool, text: &str) -> Vec<String> {
    let lower;
    let text = if keep_case {
        text
    } else {
        lower = text.to_lowercase();
        &lower
    };
    if tokens != Tokens::Words {
        return text.chars().map(String::from).collect();
    }
    let (mut list, mut word) = (Vec::new(), String::new());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let inside = !word.is_empty() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        if c.is_alphanumeric() {
            word.push(c);
        } else if matches!(c, '\'' | '’') && inside {
            word.push('\'');
        } else {
            if !word.is_empty() {
                list.push(std::mem::take(&mut word));
            }
            if !c.is_whitespace() {
                list.push(c.to_string());
            }
        }
    }
    if !word.is_empty() {
        list.push(word);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_signs_and_what_is_unknown() {
        let cut = pieces(Tokens::Words, false, " Don’t WASTE it!! 'Tis 9/10,café's'\u{85}");
        let want = ["don't", "waste", "it", "!", "!", "'", "tis", "9", "/", "10", ",", "café's"];
        assert_eq!(cut[..12], want);
        assert_eq!(cut[12..], ["'"]);
        let texts = ["good good Bad".to_string(), "bad good one".to_string()];
        let text = TextConfig::over(&texts, Tokens::Words, false, [100, 2], 4).unwrap();
        let vocabulary = text.vocabulary().unwrap();
        assert_eq!(vocabulary.len(), 4);
        assert_eq!(text.encode(&vocabulary, "Good one"), [2, UNKNOWN_ID, END_ID]);
        assert_eq!(text.encode(&vocabulary, ""), [END_ID]);
        let kept = TextConfig::over(&texts, Tokens::Words, true, [100, 1], 4).unwrap();
        assert_eq!(kept.vocabulary().unwrap().len(), 6, "Bad and bad are two");
        assert!(TextConfig::over(&texts, Tokens::Words, false, [100, 9], 4).is_err());
    }

    #[test]
    fn characters_and_bytes() {
        let texts = ["a b".to_string(), "é a".to_string()];
        let text = TextConfig::over(&texts, Tokens::Characters, false, [100, 1], 4).unwrap();
        let vocabulary = text.vocabulary().unwrap();
        assert_eq!(vocabulary.len(), 2 + 4, "the blank is a character");
        assert_eq!(text.encode(&vocabulary, "zé").len(), 3);
        assert_eq!(text.encode(&vocabulary, "zé")[0], UNKNOWN_ID);
        let text = TextConfig::over(&texts, Tokens::Bytes, false, [100, 1], 4).unwrap();
        assert_eq!(text.encode(&text.vocabulary().unwrap(), "é"), [0xc3, 0xa9, 10]);
    }
}
