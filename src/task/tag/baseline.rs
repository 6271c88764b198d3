//! What a model has to beat: the most frequent tag of each word, and the most frequent intent.

use super::{Guess, Sentence, normal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most frequent tag of each word of the training part, of unknown words the most frequent of all; the most
/// frequent intent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The most frequent tag.
    pub tag: String,
    /// The words (as they are looked up) whose most frequent tag is another one.
    pub words: BTreeMap<String, String>,
    /// The most frequent intent, where there are intents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    lower: bool,
    digits: bool,
}

/// The most frequent name; of equally frequent ones the first.
fn most(counts: &BTreeMap<&str, usize>) -> String {
    let mut best = ("", 0);
    for (&name, &count) in counts {
        if count > best.1 {
            best = (name, count);
        }
    }
    best.0.to_string()
}

impl Baseline {
    /// Counts over the sentences of the training part; words are looked up as [`normal`] makes them.
    pub fn of(sentences: &[Sentence], lower: bool, digits: bool) -> Self {
        let mut all: BTreeMap<&str, usize> = BTreeMap::new();
        let mut by_word: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
        let mut intents: BTreeMap<&str, usize> = BTreeMap::new();
        for sentence in sentences {
            for (word, tag) in sentence.tokens.iter().zip(&sentence.tags) {
                *all.entry(tag).or_default() += 1;
                let own = by_word.entry(normal(word, lower, digits)).or_default();
                *own.entry(tag).or_default() += 1;
            }
            if let Some(intent) = &sentence.intent {
                *intents.entry(intent).or_default() += 1;
            }
        }
        let tag = most(&all);
        let words = by_word.into_iter().map(|(word, counts)| (word, most(&counts)));
        let words = words.filter(|(_, own)| *own != tag).collect();
        let intent = (!intents.is_empty()).then(|| most(&intents));
        Baseline { tag, words, intent, lower, digits }
    }

    /// What it says of a sentence's words.
    pub fn guess(&self, tokens: &[String]) -> Guess<'_> {
        let tag = |word: &String| {
            let word = normal(word, self.lower, self.digits);
            self.words.get(&word).unwrap_or(&self.tag).as_str()
        };
        Guess { tags: tokens.iter().map(tag).collect(), intent: self.intent.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_most_frequent_tag() {
        let list = [
            Sentence::new(&["Ann", "saw", "it", "7"], &["B-x", "O", "O", "B-n"]).with_intent("see"),
            Sentence::new(&["ann", "saw"], &["B-x", "B-t"]).with_intent("see"),
            Sentence::new(&["saw", "ann"], &["B-t", "O"]).with_intent("buy"),
        ];
        let baseline = Baseline::of(&list, true, true);
        let words = ["ANN", "saw", "it", "9", "new"].map(String::from);
        let guess = baseline.guess(&words);
        assert_eq!(guess.tags, ["B-x", "B-t", "O", "B-n", "O"]);
        assert_eq!(guess.intent, Some("see"));
        // As they are written, the two Anns are two words.
        let exact = Baseline::of(&list, false, false);
        assert_eq!(exact.guess(&words).tags, ["O", "B-t", "O", "O", "O"]);
        assert_eq!(exact.guess(&["Ann".to_string()]).tags, ["B-x"]);
    }
}
