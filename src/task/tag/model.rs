//! Words and characters, a recurrent layer both ways, a conditional random field; its folder.

use super::words::{Index, frequent};
use super::{Baseline, NAME, SHAPES, Scheme, Sentence, normal};
use crate::cell::CellKind;
use crate::error::{Error, Result};
use crate::kernel::View;
use crate::layer::{
    Crf, Direction, Embedding, InitialState, Initializer, Linear, Memory, Merge, Padding,
    Recurrent, RecurrentInit, Sequence, concat,
};
use crate::model::{Flow, Layer, MeanOverTime};
use crate::schedule::{Recorder, Var};
use crate::task::{RecurrentConfig, TaskModel};
use crate::tensor::NamedTensors;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How words are seen, and tags chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// Width of the words' embedding.
    pub word: usize,
    /// How often a word comes in the training part to have a vector of its own.
    pub min_count: usize,
    /// Words are looked up in lower case.
    pub lower: bool,
    /// Words are looked up with 0 for each digit.
    pub digits: bool,
    /// Width of the characters' embedding; 0: words are not spelled.
    pub character: usize,
    /// Units of the GRU over a word's characters, each way.
    pub character_hidden: usize,
    /// Characters of a word that it reads at most: of a longer one those at both ends.
    pub longest: usize,
    /// Width of the capitalisation's embedding; 0: none.
    pub shape: usize,
    /// Tags depend on their neighbours ([`Crf`]); if not, each is a softmax of its own.
    pub chained: bool,
    /// Tags that can't stand behind one another by the scheme are never chosen so. Needs `chained`.
    pub constrained: bool,
}

impl Default for Features {
    fn default() -> Self {
        Features {
            word: 100,
            min_count: 2,
            lower: true,
            digits: true,
            character: 32,
            character_hidden: 32,
            longest: 20,
            shape: 8,
            chained: true,
            constrained: false,
        }
    }
}

/// What a tagger is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagConfig {
    /// The recurrent layers over the words. Their dropout is that of the words' vectors too.
    #[serde(flatten)]
    pub recurrent: RecurrentConfig,
    /// How words are seen.
    pub features: Features,
    /// How tags mark entities.
    pub scheme: Scheme,
    /// The tags by number.
    pub tags: Vec<String>,
    /// The intents by number; none: sentences have none.
    pub intents: Vec<String>,
    /// The words by number, from 1 on; 0 is every other.
    pub words: Vec<String>,
    /// The characters by number, from 1 on; 0 is every other.
    pub characters: String,
    /// What the model has to beat.
    pub baseline: Baseline,
}

impl TagConfig {
    /// For these sentences: words, characters and the baseline are those of the training part, tags and intents those
    /// of `held_out` as well. `scheme` none: it is found ([`Scheme::of`]).
    ///
    /// # Errors
    /// As [`Scheme::of`]; no sentence to train on; a sentence without tags.
    pub fn new(
        recurrent: RecurrentConfig,
        features: Features,
        scheme: Option<Scheme>,
        training: &[Sentence],
        held_out: &[Sentence],
    ) -> Result<Self> {
        let all = || training.iter().chain(held_out);
        if training.iter().all(|s| s.tokens.is_empty()) {
            return Err(Error::invalid("there is no sentence to train on"));
        }
        if let Some(bad) = all().find(|s| s.tags.len() != s.tokens.len()) {
            let (tags, words) = (bad.tags.len(), bad.tokens.len());
            return Err(bad.error_at(0, &format!("{tags} tags for {words} words")));
        }
        let scheme = match scheme {
            Some(scheme) => scheme,
            None => Scheme::of(&all().cloned().collect::<Vec<_>>())?,
        };
        let (mut words, mut characters) = (BTreeMap::new(), BTreeMap::new());
        for token in training.iter().flat_map(|s| &s.tokens) {
            *words.entry(normal(token, features.lower, features.digits)).or_insert(0) += 1;
            token.chars().for_each(|c| *characters.entry(c).or_insert(0) += 1);
        }
        let tags: BTreeSet<&String> = all().flat_map(|s| &s.tags).collect();
        let intents: BTreeSet<&String> = all().filter_map(|s| s.intent.as_ref()).collect();
        Ok(TagConfig {
            recurrent,
            scheme,
            tags: tags.into_iter().cloned().collect(),
            intents: intents.into_iter().cloned().collect(),
            words: frequent(words, features.min_count),
            // What comes once teaches what an unknown one is.
            characters: frequent(characters, 2).into_iter().collect(),
            baseline: Baseline::of(training, features.lower, features.digits),
            features,
        })
    }
}

/// A tagger: its layers.
#[derive(Clone, Debug)]
pub struct TagModel {
    config: TagConfig,
    pub(super) word_numbers: Index,
    pub(super) character_numbers: BTreeMap<char, u32>,
    tag_numbers: Index,
    intent_numbers: Index,
    word: Embedding,
    character: Option<(Embedding, Recurrent)>,
    shape: Option<Embedding>,
    recurrent: Recurrent,
    linear: Linear,
    crf: Crf,
    intent: Option<Linear>,
    init: RecurrentInit,
}

/// What a tagger computes of a batch.
pub(super) struct Recorded {
    /// Scores of tags \[T·B, K\].
    pub emissions: Var,
    /// T, B and the lengths.
    pub sequence: Sequence,
    /// Scores of intents \[B, N\], and which rows are sentences.
    pub intents: Option<(Var, Option<View>)>,
}

impl TagModel {
    /// The same model, keeping so much between forward and backward.
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.recurrent.memory = memory;
        self
    }

    /// The recurrent layers: over characters, if there are some, and over words.
    pub fn recurrent(&self) -> Vec<&Recurrent> {
        self.character.iter().map(|c| &c.1).chain([&self.recurrent]).collect()
    }

    /// The number of a tag.
    pub fn tag_number(&self, tag: &str) -> Option<u32> {
        self.tag_numbers.get(tag)
    }

    /// The number of an intent.
    pub fn intent_number(&self, intent: &str) -> Option<u32> {
        self.intent_numbers.get(intent)
    }

    pub(super) fn crf(&self) -> &Crf {
        &self.crf
    }

    /// Whether words are spelled.
    pub(super) fn spells(&self) -> bool {
        self.character.is_some()
    }

    /// Refuses sentences that can't be measured: without tags, or without an intent where the model has some. A model
    /// without intents reads none.
    ///
    /// # Errors
    /// As said: file and line are named.
    pub fn check_measurable(&self, sentences: &[Sentence]) -> Result<()> {
        for sentence in sentences {
            if sentence.tags.len() != sentence.tokens.len() {
                return Err(sentence.error_at(0, "this sentence has no tags"));
            }
            if self.intent.is_some() && sentence.intent.is_none() {
                return Err(sentence.error_at(0, "this sentence has no intent"));
            }
        }
        Ok(())
    }

    /// The same, and refuses a tag or an intent that the model doesn't know: it can't be learned.
    ///
    /// # Errors
    /// As said: file, line and column are named.
    pub fn check(&self, sentences: &[Sentence]) -> Result<()> {
        self.check_measurable(sentences)?;
        for sentence in sentences {
            for (token, tag) in sentence.tags.iter().enumerate() {
                if self.tag_number(tag).is_none() {
                    let what = format!("the tag '{tag}' is not among those the model learned");
                    return Err(sentence.error_at(token, &what));
                }
            }
            if let Some(intent) = sentence.intent.as_ref().filter(|_| self.intent.is_some())
                && self.intent_number(intent).is_none()
            {
                let what = format!("the intent '{intent}' is not among those the model learned");
                return Err(sentence.error_at_intent(&what));
            }
        }
        Ok(())
    }

    /// Records the model over T steps of B sentences, of whose words `longest` characters are read. Its inputs are
    /// `words`, `shapes` \[T·B\], `characters` \[longest·T·B\], `characters.lengths` \[T·B\], `lengths` \[B\] and
    /// `shares` \[B\]; all but the last are integers.
    pub(super) fn record(
        &self,
        rec: &mut Recorder,
        [time, batch]: [usize; 2],
        longest: usize,
    ) -> Result<Recorded> {
        let rows = time * batch;
        let words = rec.input_ids("words", rows)?;
        let mut x = self.word.record(rec, words)?;
        if let Some((embedding, layer)) = &self.character {
            let ids = rec.input_ids("characters", longest * rows)?;
            let counts = rec.input_ids("characters.lengths", rows)?;
            let characters = embedding.record(rec, ids)?;
            // All words side by side; nobody reads what comes out at a step.
            let sequence = Sequence::new(longest, rows).with_lengths(counts);
            let sequence = sequence.with_padding(Padding::Repeat);
            let run = layer.record(rec, characters, sequence, &InitialState::Zero)?;
            for last in run.finals {
                let last = rec.in_precision(last)?;
                x = concat(rec, x, last)?;
            }
        }
        if let Some(embedding) = &self.shape {
            let shapes = rec.input_ids("shapes", rows)?;
            let shapes = embedding.record(rec, shapes)?;
            x = concat(rec, x, shapes)?;
        }
        let rate = self.config.recurrent.dropout;
        let x = rec.dropout(x, rate)?;
        let lengths = rec.input_ids("lengths", batch)?;
        let sequence = Sequence::new(time, batch).with_lengths(lengths);
        let h = self.recurrent.record(rec, x, sequence, &InitialState::Zero)?;
        let output = rec.dropout(h.output, rate)?;
        let emissions = self.linear.record(rec, output)?;
        let mut intents = None;
        if let Some(linear) = &self.intent {
            let flow = MeanOverTime.record(rec, Flow::values(output, sequence)?)?;
            let mask = flow.flags(rec)?;
            intents = Some((linear.record(rec, flow.rows()?)?, mask));
        }
        Ok(Recorded { emissions, sequence, intents })
    }

    /// Initial weights: embeddings of words and characters uniform with variance 1/width, the rest as PyTorch's
    /// modules draw them but for what the configuration says.
    pub fn initial_weights(&self, seed: u64) -> NamedTensors {
        let mut generator = Initializer::new(seed);
        let mut weights = NamedTensors::new();
        let tables = [Some(&self.word), self.character.as_ref().map(|c| &c.0), self.shape.as_ref()];
        for table in tables.into_iter().flatten() {
            table.init(&mut generator, &mut weights);
            let narrow = 1.0 / (table.width as f32).sqrt();
            if let Some(tensor) = weights.get_mut(&table.weight_name()) {
                tensor.mapv_inplace(|value| narrow * value);
            }
        }
        if let Some((_, layer)) = &self.character {
            layer.init(&mut generator, &mut weights);
        }
        // Refused in `new`, if at all.
        let _ = self.recurrent.init_with(self.init, &mut generator, &mut weights);
        self.linear.init(&mut generator, &mut weights);
        self.crf.init(&mut generator, &mut weights);
        if let Some(intent) = &self.intent {
            intent.init(&mut generator, &mut weights);
        }
        weights
    }
}

impl TaskModel for TagModel {
    const TASK: &'static str = NAME;
    type Config = TagConfig;

    /// A model from its configuration.
    ///
    /// # Errors
    /// As [`RecurrentConfig::build`]; a width of zero; no tags, or more than a [`Crf`] may have; names that are listed
    /// twice; constraints without a chain.
    fn new(config: TagConfig) -> Result<Self> {
        let features = &config.features;
        for (size, what) in [
            (features.word, "the width of the words' embedding"),
            (config.tags.len(), "the number of tags"),
        ] {
            if size == 0 {
                return Err(Error::invalid(format!("{what} must be at least 1")));
            }
        }
        if config.tags.len() > crate::kernel::MAX_TAGS {
            let (most, got) = (crate::kernel::MAX_TAGS, config.tags.len());
            return Err(Error::invalid(format!("there are {got} tags, and {most} at most may be")));
        }
        if features.constrained && !features.chained {
            let what = "tags that don't depend on their neighbours can't be constrained by them";
            return Err(Error::invalid(what));
        }
        let table =
            |name: &str, vocabulary, width| Embedding { name: name.to_string(), vocabulary, width };
        let mut width = features.word;
        let mut character_numbers = BTreeMap::new();
        let mut character = None;
        if features.character > 0 {
            if features.longest == 0 {
                return Err(Error::invalid("at least 1 character of a word must be read"));
            }
            for (number, c) in config.characters.chars().enumerate() {
                if character_numbers.insert(c, number as u32 + 1).is_some() {
                    return Err(Error::invalid(format!("the character '{c}' is listed twice")));
                }
            }
            let embedding = table("character", character_numbers.len() + 1, features.character);
            let layer = Recurrent {
                direction: Direction::Both(Merge::Concat),
                ..Recurrent::new(
                    "spelling",
                    CellKind::Gru,
                    features.character,
                    features.character_hidden,
                )
            };
            layer.check()?;
            width += 2 * features.character_hidden;
            character = Some((embedding, layer));
        }
        let shape = (features.shape > 0).then(|| table("shape", SHAPES, features.shape));
        width += features.shape;
        let (recurrent, init) = config.recurrent.build(width)?;
        let output = recurrent.output_width();
        let crf = Crf { chained: features.chained, ..Crf::new("crf", config.tags.len()) };
        let intents = config.intents.len();
        Ok(TagModel {
            word_numbers: Index::new("word", &config.words, 1)?,
            character_numbers,
            tag_numbers: Index::new("tag", &config.tags, 0)?,
            intent_numbers: Index::new("intent", &config.intents, 0)?,
            word: table("word", config.words.len() + 1, features.word),
            character,
            shape,
            linear: Linear::new("linear", output, config.tags.len()),
            intent: (intents > 0).then(|| Linear::new("intent", output, intents)),
            crf,
            recurrent,
            init,
            config,
        })
    }

    fn config(&self) -> &TagConfig {
        &self.config
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::new();
        let tables = [Some(&self.word), self.character.as_ref().map(|c| &c.0), self.shape.as_ref()];
        for table in tables.into_iter().flatten() {
            shapes.insert(table.weight_name(), vec![table.vocabulary, table.width]);
        }
        for linear in [Some(&self.linear), self.intent.as_ref()].into_iter().flatten() {
            shapes.insert(linear.weight_name(), vec![linear.output, linear.input]);
            shapes.insert(format!("{}.bias", linear.name), vec![linear.output]);
        }
        if self.crf.chained {
            shapes.extend(self.crf.shapes());
        }
        let layers = self.recurrent().into_iter().flat_map(|layer| layer.all_parameters());
        shapes.extend(layers.map(|p| (p.name, p.shape)));
        shapes
    }
}
