//! How well tags are guessed: by entities, words and whole sentences.

use super::{Scheme, Sentence, entities};
use serde::Serialize;
use std::collections::BTreeMap;

/// What was guessed of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess<'a> {
    /// A tag a word.
    pub tags: Vec<&'a str>,
    /// The sentence's intent.
    pub intent: Option<&'a str>,
}

/// Entities, or words of a tag: right ones, guessed ones, and those that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Guessed ones that are there.
    pub right: usize,
    /// Guessed ones.
    pub guessed: usize,
    /// Those that there are.
    pub wanted: usize,
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

impl Counts {
    /// The share of the guessed ones that is right; 0 without any.
    pub fn precision(&self) -> f64 {
        share(self.right, self.guessed)
    }

    /// The share of those that there are that was found; 0 without any.
    pub fn recall(&self) -> f64 {
        share(self.right, self.wanted)
    }

    /// 2PR / (P + R), which is 2·right / (guessed + wanted); 0 where nothing is right.
    pub fn f1(&self) -> f64 {
        share(2 * self.right, self.guessed + self.wanted)
    }

    fn add(&mut self, other: Counts) {
        self.right += other.right;
        self.guessed += other.guessed;
        self.wanted += other.wanted;
    }
}

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut all = to.serialize_struct("Counts", 6)?;
        all.serialize_field("precision", &self.precision())?;
        all.serialize_field("recall", &self.recall())?;
        all.serialize_field("f1", &self.f1())?;
        all.serialize_field("right", &self.right)?;
        all.serialize_field("guessed", &self.guessed)?;
        all.serialize_field("wanted", &self.wanted)?;
        all.end()
    }
}

/// How well sentences were guessed. An entity is right if its first word, its last and its type are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TagScore {
    /// Sentences.
    pub sentences: usize,
    /// Words.
    pub words: usize,
    /// The share of words with the right tag.
    pub accuracy: f64,
    /// All entities; none of tags that mark none.
    pub entities: Option<Counts>,
    /// By type of entity; of tags that mark none, by tag.
    pub types: BTreeMap<String, Counts>,
    /// The share of sentences with the right intent, where they have one.
    pub intent_accuracy: Option<f64>,
    /// The share of sentences of which all is right: each word's tag, and the intent.
    pub sentence_accuracy: f64,
    /// Words with a tag that was not learned: they are wrong in all measures.
    pub unknown_tags: usize,
    /// Sentences with an intent that was not learned: they are wrong too.
    pub unknown_intents: usize,
}

impl TagScore {
    /// Of sentences and what was guessed of each. A guess that is too short is wrong where it ends.
    pub fn of<'a>(
        scheme: Scheme,
        sentences: &[Sentence],
        guesses: impl IntoIterator<Item = Guess<'a>>,
    ) -> Self {
        let mut types: BTreeMap<String, Counts> = BTreeMap::new();
        let (mut words, mut right, mut whole) = (0, 0, 0);
        let (mut intents, mut right_intents) = (0, 0);
        for (sentence, guess) in sentences.iter().zip(guesses) {
            let tags: Vec<&str> = sentence.tags.iter().map(String::as_str).collect();
            let hits = tags.iter().zip(&guess.tags).filter(|(a, b)| a == b).count();
            words += tags.len();
            right += hits;
            let hit = sentence.intent.as_deref() == guess.intent;
            if sentence.intent.is_some() {
                intents += 1;
                right_intents += usize::from(hit);
            }
            whole += usize::from(hits == tags.len() && (hit || sentence.intent.is_none()));
            let mut of = |kind: &str, counts: Counts| match types.get_mut(kind) {
                Some(own) => own.add(counts),
                None => drop(types.insert(kind.to_string(), counts)),
            };
            let (none, one) = (Counts::default(), 1);
            if scheme == Scheme::Plain {
                for (place, tag) in tags.iter().enumerate() {
                    let right = usize::from(guess.tags.get(place) == Some(tag));
                    of(tag, Counts { wanted: one, right, ..none });
                }
                guess.tags.iter().for_each(|tag| of(tag, Counts { guessed: one, ..none }));
                continue;
            }
            let (wanted, guessed) = (entities(&tags), entities(&guess.tags));
            for entity in &wanted {
                let right = usize::from(guessed.contains(entity));
                of(entity.kind, Counts { wanted: one, right, ..none });
            }
            guessed.iter().for_each(|entity| of(entity.kind, Counts { guessed: one, ..none }));
        }
        let all = types.values().fold(Counts::default(), |mut all, own| {
            all.add(*own);
            all
        });
        TagScore {
            sentences: sentences.len(),
            words,
            accuracy: share(right, words),
            entities: (scheme != Scheme::Plain).then_some(all),
            types,
            intent_accuracy: (intents > 0).then(|| share(right_intents, intents)),
            sentence_accuracy: share(whole, sentences.len()),
            unknown_tags: 0,
            unknown_intents: 0,
        }
    }

    /// What tells most, and its name: the F1 of entities; of tags that mark none, the accuracy of words.
    pub fn main(&self) -> (&'static str, f64) {
        match self.entities {
            Some(entities) => ("F1 of entities", entities.f1()),
            None => ("accuracy of words", self.accuracy),
        }
    }

    /// In words, in which measures this is no better than a baseline.
    pub fn complaints(&self, baseline: &TagScore) -> Vec<String> {
        let mut list = Vec::new();
        let mut compare = |what: &str, own: f64, other: f64, simple: &str| {
            if own <= other {
                list.push(format!(
                    "the model does not beat its baseline: {what} {:.2} %, and {simple} gives {:.2} %",
                    100.0 * own,
                    100.0 * other
                ));
            }
        };
        let ((what, own), (_, other)) = (self.main(), baseline.main());
        compare(what, own, other, "the most frequent tag of each word");
        if let (Some(own), Some(other)) = (self.intent_accuracy, baseline.intent_accuracy) {
            compare("accuracy of intents", own, other, "the most frequent intent");
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess<'a>(tags: &'a str, intent: Option<&'a str>) -> Guess<'a> {
        Guess { tags: tags.split(' ').collect(), intent }
    }

    fn sentence(tags: &str, intent: &str) -> Sentence {
        let tags: Vec<&str> = tags.split(' ').collect();
        Sentence::new(&vec!["w"; tags.len()], &tags).with_intent(intent)
    }

    #[test]
    fn entities_words_and_sentences_are_counted_by_hand() {
        let sentences =
            [sentence("B-x I-x O B-y", "a"), sentence("O B-x O O", "b"), sentence("O O", "a")];
        let guesses = [
            // The first one is cut short, the second right.
            guess("B-x O O B-y", Some("a")),
            // Another type, and one that is not there.
            guess("O B-y O B-x", Some("b")),
            guess("O O", Some("b")),
        ];
        let score = TagScore::of(Scheme::Bio, &sentences, guesses);
        let all = score.entities.unwrap();
        assert_eq!((all.right, all.guessed, all.wanted), (1, 4, 3));
        assert!((all.f1() - 2.0 / 7.0).abs() < 1e-12 && all.precision() == 0.25);
        assert!((all.recall() - 1.0 / 3.0).abs() < 1e-12);
        let of = |kind: &str| score.types[kind];
        assert_eq!(of("x"), Counts { right: 0, guessed: 2, wanted: 2 });
        assert_eq!(of("y"), Counts { right: 1, guessed: 2, wanted: 1 });
        assert!((score.accuracy - 7.0 / 10.0).abs() < 1e-12);
        assert!((score.intent_accuracy.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        // The third has the right tags and the wrong intent.
        assert_eq!(score.sentence_accuracy, 0.0);
        let json = serde_json::to_value(&score).unwrap();
        assert_eq!(json["types"]["y"]["f1"], 2.0 / 3.0);
    }

    #[test]
    fn tags_that_mark_nothing_are_counted_by_word() {
        let sentences = [Sentence::new(&["a", "b", "c"], &["N", "V", "N"])];
        let score = TagScore::of(Scheme::Plain, &sentences, [guess("N N N", None)]);
        assert_eq!(score.types["N"], Counts { right: 2, guessed: 3, wanted: 2 });
        assert_eq!(score.types["V"], Counts { right: 0, guessed: 0, wanted: 1 });
        assert_eq!((score.entities, score.intent_accuracy), (None, None));
        assert!((score.main().1 - 2.0 / 3.0).abs() < 1e-12);
        let better = TagScore::of(Scheme::Plain, &sentences, [guess("N V N", None)]);
        assert!(better.complaints(&score).is_empty() && better.sentence_accuracy == 1.0);
        let words = score.complaints(&better);
        assert!(
            words[0].contains("does not beat its baseline: accuracy of words 66.67 %"),
            "{words:?}"
        );
        assert_eq!(score.complaints(&score).len(), 1);
    }
}
