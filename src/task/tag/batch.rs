//! Sentences as numbers, and batches of them as a model's inputs.

use super::words::{cut, normal, shape};
use super::{Sentence, TagModel};
use crate::data::{Batch, Buckets};
use crate::error::{Error, Result};
use crate::model::SHARES;
use crate::task::TaskModel;
use crate::train::Feed;

/// A sentence as numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Encoded {
    pub words: Vec<u32>,
    pub shapes: Vec<u32>,
    pub characters: Vec<Vec<u32>>,
    pub tags: Vec<u32>,
    pub intent: u32,
}

impl TagModel {
    /// Words as numbers; unknown ones are 0.
    pub(super) fn encode_words(&self, tokens: &[String]) -> Encoded {
        let features = &self.config().features;
        let word = |token: &String| {
            let word = normal(token, features.lower, features.digits);
            self.word_numbers.get(&word).unwrap_or(0)
        };
        let character = |c: char| self.character_numbers.get(&c).copied().unwrap_or(0);
        let longest = if self.spells() { features.longest } else { 0 };
        let characters = |token: &String| match longest {
            0 => Vec::new(),
            _ => cut(token, longest).into_iter().map(character).collect(),
        };
        Encoded {
            words: tokens.iter().map(word).collect(),
            shapes: tokens.iter().map(|token| shape(token)).collect(),
            characters: tokens.iter().map(characters).collect(),
            ..Encoded::default()
        }
    }

    /// Words, tags and the intent as numbers.
    pub(super) fn encode(&self, sentences: &[Sentence]) -> Result<Vec<Encoded>> {
        self.check(sentences)?;
        let one = |sentence: &Sentence| {
            let number = |tag: &String| self.tag_number(tag).unwrap_or(0);
            let intent = sentence.intent.as_ref().and_then(|name| self.intent_number(name));
            Encoded {
                tags: sentence.tags.iter().map(number).collect(),
                intent: intent.unwrap_or(0),
                ..self.encode_words(&sentence.tokens)
            }
        };
        Ok(sentences.iter().map(one).collect())
    }
}

/// Sentences in buckets, with the longest word of each.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    pub buckets: Buckets,
    /// Characters of the longest word, by shape; at least 1.
    pub longest: Vec<usize>,
}

impl Shapes {
    /// Of sentences, in batches of `budget` words.
    pub fn new(sentences: &[Encoded], budget: usize, most: usize) -> Result<Self> {
        let lengths: Vec<usize> = sentences.iter().map(|s| s.words.len()).collect();
        let buckets = Buckets::new(&lengths, budget, most)?;
        let mut longest = vec![1; buckets.shapes().len()];
        for batch in buckets.in_order() {
            let words = batch.rows.iter().flat_map(|&row| &sentences[row].characters);
            let most = words.map(Vec::len).max().unwrap_or(0);
            longest[batch.shape] = longest[batch.shape].max(most);
        }
        Ok(Shapes { buckets, longest })
    }

    /// T and B of a shape.
    pub fn shape(&self, shape: usize) -> [usize; 2] {
        self.buckets.shapes()[shape]
    }
}

/// The words of a batch; `drops` says of each word, in their order, whether it counts as unknown.
pub(super) fn words(
    model: &TagModel,
    sentences: &[Encoded],
    shapes: &Shapes,
    batch: &Batch,
    mut drops: impl FnMut() -> bool,
) -> Feed {
    let [time, rows] = shapes.shape(batch.shape);
    let (all, longest) = (time * rows, shapes.longest[batch.shape]);
    let (mut words, mut kinds, mut lengths) = (vec![0; all], vec![0; all], vec![0; rows]);
    let mut characters = vec![0; if model.spells() { longest * all } else { 0 }];
    let mut counts = vec![0; all];
    let mut shares = vec![0.0; rows];
    for (row, &number) in batch.rows.iter().enumerate() {
        let sentence = &sentences[number];
        lengths[row] = sentence.words.len() as u32;
        shares[row] = 1.0 / sentence.words.len().max(1) as f32;
        for (t, &word) in sentence.words.iter().enumerate() {
            let at = t * rows + row;
            words[at] = if drops() { 0 } else { word };
            kinds[at] = sentence.shapes[t];
            if characters.is_empty() {
                continue;
            }
            counts[at] = sentence.characters[t].len() as u32;
            for (place, &c) in sentence.characters[t].iter().enumerate() {
                characters[place * all + at] = c;
            }
        }
    }
    let mut feed = Feed::new(batch.shape);
    feed.put("words", words);
    feed.put("lengths", lengths);
    if model.spells() {
        feed.put("characters", characters);
        feed.put("characters.lengths", counts);
    }
    if model.config().features.shape > 0 {
        feed.put("shapes", kinds);
    }
    if !model.config().intents.is_empty() {
        feed.put(SHARES, shares);
    }
    feed
}

/// The tags and intents of a batch.
pub(super) fn put_targets(
    feed: &mut Feed,
    model: &TagModel,
    sentences: &[Encoded],
    shapes: &Shapes,
    batch: &Batch,
) {
    let [time, rows] = shapes.shape(batch.shape);
    let (mut tags, mut intents) = (vec![0; time * rows], vec![0; rows]);
    for (row, &number) in batch.rows.iter().enumerate() {
        let sentence = &sentences[number];
        intents[row] = sentence.intent;
        for (t, &tag) in sentence.tags.iter().enumerate() {
            tags[t * rows + row] = tag;
        }
    }
    feed.put("tags", tags);
    if !model.config().intents.is_empty() {
        feed.put("intents", intents);
    }
}

/// A sentence that no batch has room for, by its place.
pub(super) fn check_lengths(sentences: &[Sentence], budget: usize) -> Result<()> {
    match sentences.iter().find(|s| s.tokens.len() > budget) {
        Some(long) => Err(long.error_at(
            0,
            &format!(
                "a sentence of {} words; a batch has {budget} words at most",
                long.tokens.len()
            ),
        )),
        None if sentences.is_empty() => Err(Error::invalid("there is no sentence")),
        None => Ok(()),
    }
}
