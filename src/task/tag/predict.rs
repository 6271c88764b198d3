//! What a trained tagger says of sentences.

use super::batch::{Encoded, Shapes, words};
use super::{Guess, Sentence, TagModel, TagScore};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::schedule::Recorder;
use crate::task::logits::{log_sum, softmax};
use crate::task::{TaskModel, load_recording};
use crate::tensor::NamedTensors;

/// Words of a batch, at least: a longer sentence is a batch of its own.
const WORDS: usize = 2048;
/// Shapes of batches, at most.
const SHAPES: usize = 6;
/// The score of a transition that may not be.
const NEVER: f32 = -1e4;

/// What a tagger says of a sentence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicted {
    /// The tags of the likeliest sequence, by number.
    pub tags: Vec<usize>,
    /// How likely each of them is at its word, whatever the others are.
    pub probabilities: Vec<f64>,
    /// The probabilities of the intents; none of a model without intents, or a sentence without words.
    pub intents: Vec<f64>,
}

impl Predicted {
    /// The likeliest intent, by number, and its probability.
    pub fn intent(&self) -> Option<(usize, f64)> {
        let mut best: Option<(usize, f64)> = None;
        for (number, &p) in self.intents.iter().enumerate() {
            if best.is_none_or(|best| p > best.1) {
                best = Some((number, p));
            }
        }
        best
    }
}

impl TagModel {
    /// Tags sentences, each a list of words; `probabilities` asks for those of the tags too.
    ///
    /// # Errors
    /// The device failed; weights that are not this model's; a sentence of more words than a
    /// [`Crf`](crate::layer::Crf) takes.
    pub fn tag(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        sentences: &[&[String]],
        probabilities: bool,
    ) -> Result<Vec<Predicted>> {
        let mut results = vec![Predicted::default(); sentences.len()];
        if sentences.iter().all(|words| words.is_empty()) {
            return Ok(results);
        }
        let weights = self.constrained(weights);
        let table = self.table(&weights)?;
        let encoded: Vec<Encoded> = sentences.iter().map(|s| self.encode_words(s)).collect();
        let longest = encoded.iter().map(|s| s.words.len()).max().unwrap_or(1);
        let shapes = Shapes::new(&encoded, longest.max(WORDS), SHAPES)?;
        let kinds = self.config().tags.len();
        for (shape, &characters) in shapes.longest.iter().enumerate() {
            let [time, batch] = shapes.shape(shape);
            let mut rec = Recorder::inference();
            let recorded = self.record(&mut rec, [time, batch], characters)?;
            let crf = self.crf();
            let best =
                crf.record_decode(&mut rec, "best", recorded.emissions, recorded.sequence)?;
            let emissions = match probabilities {
                true => Some(rec.output("emissions", recorded.emissions)?.view.buffer),
                false => None,
            };
            let intents = match recorded.intents {
                Some((logits, _)) => Some(rec.output("intent.scores", logits)?.view.buffer),
                None => None,
            };
            let (mut program, _store) = load_recording(engine, rec, &weights)?;
            for rows in shapes.buckets.in_order().into_iter().filter(|b| b.shape == shape) {
                let feed = words(self, &encoded, &shapes, &rows, || false);
                feed.write(&mut program.inputs())?;
                program.run()?;
                let tags = program.read(best.tags.view.buffer)?;
                let emissions = emissions.map(|id| program.read(id)).transpose()?;
                let intents = intents.map(|id| program.read(id)).transpose()?;
                for (row, &number) in rows.rows.iter().enumerate() {
                    let words = encoded[number].words.len();
                    let result = &mut results[number];
                    result.tags =
                        (0..words).map(|t| tags[t * batch + row].max(0.0) as usize).collect();
                    if let Some(emissions) = &emissions {
                        let step = |t: usize| &emissions[(t * batch + row) * kinds..][..kinds];
                        let steps: Vec<&[f32]> = (0..words).map(step).collect();
                        let all = posteriors(&steps, &table);
                        let own = all.iter().zip(&result.tags);
                        result.probabilities = own.map(|(p, &tag)| p[tag]).collect();
                    }
                    if let Some(intents) = &intents {
                        let count = self.config().intents.len();
                        result.intents = softmax(&intents[row * count..][..count]);
                    }
                }
            }
        }
        Ok(results)
    }

    /// The names of what was predicted.
    pub fn guess(&self, predicted: &Predicted) -> Guess<'_> {
        let config = self.config();
        let name = |&tag: &usize| config.tags.get(tag).map_or("", String::as_str);
        let intent = predicted.intent().and_then(|(number, _)| config.intents.get(number));
        Guess {
            tags: predicted.tags.iter().map(name).collect(),
            intent: intent.map(String::as_str),
        }
    }

    /// How well the model tags sentences, and how well its baseline does.
    ///
    /// # Errors
    /// As [`TagModel::check`] and [`TagModel::tag`]; no sentence.
    pub fn score(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        sentences: &[Sentence],
    ) -> Result<[TagScore; 2]> {
        self.check_measurable(sentences)?;
        if sentences.is_empty() {
            return Err(Error::invalid("there is no sentence to score"));
        }
        let words: Vec<&[String]> = sentences.iter().map(|s| &s.tokens[..]).collect();
        let predicted = self.tag(engine, weights, &words, false)?;
        Ok(self.score_predicted(sentences, &predicted))
    }

    /// The same of what was predicted before.
    pub fn score_predicted(
        &self,
        sentences: &[Sentence],
        predicted: &[Predicted],
    ) -> [TagScore; 2] {
        let config = self.config();
        // A model without intents is not asked for them.
        let own: Vec<Sentence> = match config.intents.is_empty() {
            true => sentences.iter().map(|s| Sentence { intent: None, ..s.clone() }).collect(),
            false => sentences.to_vec(),
        };
        let baseline = own.iter().map(|s| config.baseline.guess(&s.tokens));
        let tags = own.iter().flat_map(|s| &s.tags);
        let unknown_tags = tags.filter(|tag| self.tag_number(tag).is_none()).count();
        let intents = own.iter().filter_map(|s| s.intent.as_ref());
        let unknown_intents = intents.filter(|i| self.intent_number(i).is_none()).count();
        [
            TagScore::of(config.scheme, &own, predicted.iter().map(|p| self.guess(p))),
            TagScore::of(config.scheme, &own, baseline),
        ]
        .map(|score| TagScore { unknown_tags, unknown_intents, ..score })
    }

    /// The weights with transitions that the scheme forbids at a score that none can make up for.
    fn constrained(&self, weights: &NamedTensors) -> NamedTensors {
        let mut weights = weights.clone();
        let config = self.config();
        if !config.features.constrained {
            return weights;
        }
        let [transitions, start, end] = self.crf().shapes().map(|shape| shape.0);
        let tags = &config.tags;
        let allows = |a: Option<&String>, b: Option<&String>| {
            config.scheme.allows(a.map(String::as_str), b.map(String::as_str))
        };
        let mut forbid = |name: &str, is_allowed: &dyn Fn(usize) -> bool| {
            if let Some(tensor) = weights.get_mut(name) {
                let scores = tensor.iter_mut().enumerate();
                scores.filter(|(at, _)| !is_allowed(*at)).for_each(|(_, score)| *score = NEVER);
            }
        };
        let n = tags.len();
        forbid(&transitions, &|at| allows(tags.get(at / n), tags.get(at % n)));
        forbid(&start, &|at| allows(None, tags.get(at)));
        forbid(&end, &|at| allows(tags.get(at), None));
        weights
    }

    /// Transitions, start and end one behind another, \[(K + 2)·K\]; zeros without a chain.
    fn table(&self, weights: &NamedTensors) -> Result<Vec<f32>> {
        let kinds = self.config().tags.len();
        if !self.config().features.chained {
            return Ok(vec![0.0; (kinds + 2) * kinds]);
        }
        let mut table = Vec::new();
        for (name, _) in self.crf().shapes() {
            let tensor = weights.get(&name).ok_or_else(|| Error::Missing {
                tensor: name.clone(),
                place: "the model".to_string(),
            })?;
            table.extend(tensor.iter().copied());
        }
        Ok(table)
    }
}

/// The probability of each tag at each step over all sequences of tags, from emissions \[T\]\[K\] and a table of
/// transitions, start and end \[(K + 2)·K\]: forward and backward sums in logarithms (Rabiner 1989).
fn posteriors(emissions: &[&[f32]], table: &[f32]) -> Vec<Vec<f64>> {
    let Some(first) = emissions.first() else { return Vec::new() };
    let kinds = first.len();
    let score = |from: usize, to: usize| f64::from(table[from * kinds + to]);
    let (start, end) = (kinds, kinds + 1);
    let e = |t: usize, k: usize| f64::from(emissions[t][k]);
    let last = emissions.len() - 1;
    let mut forward = vec![vec![0.0; kinds]; last + 1];
    let mut backward = forward.clone();
    for k in 0..kinds {
        forward[0][k] = score(start, k) + e(0, k);
        backward[last][k] = score(end, k);
    }
    for t in 1..=last {
        for k in 0..kinds {
            let before = &forward[t - 1];
            forward[t][k] = e(t, k) + log_sum((0..kinds).map(|j| before[j] + score(j, k)));
        }
    }
    for t in (0..last).rev() {
        for k in 0..kinds {
            let behind = &backward[t + 1];
            backward[t][k] = log_sum((0..kinds).map(|j| score(k, j) + e(t + 1, j) + behind[j]));
        }
    }
    let all = log_sum((0..kinds).map(|k| forward[last][k] + backward[last][k]));
    let step =
        |t: usize| (0..kinds).map(|k| (forward[t][k] + backward[t][k] - all).exp()).collect();
    (0..=last).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posteriors_are_sums_over_all_paths() {
        let (kinds, time) = (3, 4);
        let number = |i: usize| ((i * 37 + 11) % 29) as f32 / 7.0 - 2.0;
        let table: Vec<f32> = (0..(kinds + 2) * kinds).map(number).collect();
        let emissions: Vec<Vec<f32>> =
            (0..time).map(|t| (0..kinds).map(|k| number(100 + t * kinds + k)).collect()).collect();
        let mut wanted = vec![vec![0.0; kinds]; time];
        let mut total = 0.0;
        for path in 0..kinds.pow(time as u32) {
            let tag = |t: usize| path / kinds.pow(t as u32) % kinds;
            let mut score =
                table[kinds * kinds + tag(0)] + table[(kinds + 1) * kinds + tag(time - 1)];
            for t in 0..time {
                score += emissions[t][tag(t)];
                score += if t > 0 { table[tag(t - 1) * kinds + tag(t)] } else { 0.0 };
            }
            let p = f64::from(score).exp();
            total += p;
            (0..time).for_each(|t| wanted[t][tag(t)] += p);
        }
        let steps: Vec<&[f32]> = emissions.iter().map(Vec::as_slice).collect();
        for (own, wanted) in posteriors(&steps, &table).iter().zip(&wanted) {
            for (own, wanted) in own.iter().zip(wanted) {
                assert!((own - wanted / total).abs() < 1e-5, "{own} {}", wanted / total);
            }
        }
        assert!(posteriors(&[], &table).is_empty());
    }
}
