//! How likely a model finds a text.

use super::LanguageModel;
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::schedule::Recorder;
use crate::task::logits::{log_total, softmax};
use crate::task::{TaskModel, load_recording};
use crate::tensor::{NamedTensors, require_shapes};
use std::collections::BTreeMap;

/// Steps of a run.
const WINDOW: usize = 128;

/// How likely a model finds a text, all but its first token, each from all before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// −ln p of each token but the first, in nats.
    pub nats: Vec<f32>,
    /// The likeliest token at each of these places.
    pub likeliest: Vec<u32>,
    /// The probability of each token of the vocabulary to come after the text; empty of an empty text.
    pub next: Vec<f32>,
    /// Bytes of the text in UTF-8, all but the first token's.
    pub bytes: usize,
}

impl Score {
    /// The sum over all tokens, in nats.
    pub fn total(&self) -> f64 {
        self.nats.iter().fold(0.0, |sum, &nats| sum + f64::from(nats))
    }

    /// The mean over the tokens, in nats; none of a text of fewer than two.
    pub fn mean(&self) -> Option<f64> {
        (!self.nats.is_empty()).then(|| self.total() / self.nats.len() as f64)
    }

    /// e to the mean: as unsure as among so many equally likely tokens.
    pub fn perplexity(&self) -> Option<f64> {
        self.mean().map(f64::exp)
    }

    /// Bits a byte of the text, whatever the tokens are.
    pub fn bits_per_byte(&self) -> Option<f64> {
        (!self.nats.is_empty() && self.bytes > 0)
            .then(|| self.total() / std::f64::consts::LN_2 / self.bytes as f64)
    }
}

/// A model that reads texts of any length: the states go on from window to window.
pub struct Scorer {
    model: LanguageModel,
    engine: Engine,
    weights: NamedTensors,
    /// By the steps of a run.
    programs: BTreeMap<usize, Window>,
}

struct Window {
    program: Program,
    store: Store,
    ids: BufferId,
    logits: BufferId,
}

impl Scorer {
    /// A model with its weights on an engine.
    pub fn new(engine: &Engine, model: LanguageModel, weights: NamedTensors) -> Self {
        Scorer { model, engine: engine.clone(), weights, programs: BTreeMap::new() }
    }

    /// How likely the model finds a text, from empty states.
    ///
    /// # Errors
    /// A character that the model does not know; the device failed; weights that give no numbers.
    pub fn score(&mut self, text: &str) -> Result<Score> {
        let tokens = self.model.vocabulary().encode(text)?;
        let first = self.model.vocabulary().first_bytes(text);
        self.score_tokens(&tokens, text.len() - first)
    }

    /// The same of tokens, which stand for so many bytes but for the first one's.
    ///
    /// # Errors
    /// A token beyond the vocabulary; an ensemble's engine; weights that are missing or of another shape, or give no
    /// numbers; the device failed.
    pub fn score_tokens(&mut self, tokens: &[u32], bytes: usize) -> Result<Score> {
        let classes = self.model.vocabulary().len();
        // The last token is only ever a target, which no input's bound would look at.
        if let Some(at) = tokens.iter().position(|&token| token as usize >= classes) {
            let token = tokens[at];
            let what = format!("token {}: {token} of a vocabulary of {classes}", at + 1);
            return Err(Error::invalid(what));
        }
        if self.engine.members() > 1 {
            return Err(Error::invalid("one model scores, on an engine for one"));
        }
        let mut score = Score { nats: Vec::new(), likeliest: Vec::new(), next: Vec::new(), bytes };
        let mut states: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let mut at = 0;
        while at < tokens.len() {
            // Short rests in powers of two, so that few programs serve all texts.
            let rest = tokens.len() - at;
            let time = if rest >= WINDOW { WINDOW } else { 1 << rest.ilog2() };
            let window = self.window(time)?;
            for name in window.store.names().iter().filter(|n| n.starts_with("state.")) {
                let words = window.store.get(name)?.len();
                let zeros = || vec![0.0; words];
                window.store.set(name, &states.get(name).cloned().unwrap_or_else(zeros))?;
            }
            window.program.write_u32(window.ids, &tokens[at..at + time])?;
            window.program.run()?;
            let logits = window.program.read(window.logits)?;
            for (row, &target) in logits.chunks(classes).zip(&tokens[at + 1..]) {
                let (nats, likeliest) = surprise(row, target as usize)?;
                score.nats.push(nats);
                score.likeliest.push(likeliest);
            }
            if at + time == tokens.len() {
                let last = &logits[(time - 1) * classes..];
                // No text says how likely what comes next is: that it is a number at all is asked of any token.
                surprise(last, 0)?;
                score.next = softmax(last).into_iter().map(|p| p as f32).collect();
            }
            for name in window.store.names().into_iter().filter(|n| n.starts_with("state.")) {
                let state = window.store.get(&name)?;
                states.insert(name, state);
            }
            at += time;
        }
        Ok(score)
    }

    fn window(&mut self, time: usize) -> Result<&mut Window> {
        if !self.programs.contains_key(&time) {
            let mut rec = Recorder::inference();
            let ids = rec.input_ids("ids", time)?;
            let logits = self.model.record(&mut rec, ids, [time, 1], "state")?;
            let logits = rec.output("logits", logits)?.view.buffer;
            require_shapes(&self.model.weight_shapes(), &self.weights)?;
            let (program, store) = load_recording(&self.engine, rec, &self.weights)?;
            self.programs.insert(time, Window { program, store, ids: ids.buffer, logits });
        }
        let found = self.programs.get_mut(&time);
        found.ok_or_else(|| Error::invalid("a window that was made is gone"))
    }
}

/// −ln softmax(logits)\[target\] and the likeliest token.
fn surprise(logits: &[f32], target: usize) -> Result<(f32, u32)> {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
    let best = best.unwrap_or_default();
    let nats = log_total(logits) - f64::from(logits[target]);
    if !nats.is_finite() {
        return Err(Error::invalid("the model's output is no number: its weights are broken"));
    }
    Ok((nats as f32, best as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Vocabulary;
    use crate::task::lm::ModelConfig;

    /// Windows of all sizes give what one token after another gives.
    #[test]
    fn windows_join() {
        let text: String = (0..300).map(|i| ['a', 'b', 'c', '\n'][i * i % 7 % 4]).collect();
        let config =
            ModelConfig { hidden: 9, embedding: 4, ..ModelConfig::new(&Vocabulary::of(&text)) };
        let model = LanguageModel::new(config).unwrap();
        let weights = model.initial_weights(3);
        let engine = Engine::cpu(Some(1)).unwrap();
        let mut scorer = Scorer::new(&engine, model.clone(), weights.clone());
        let all = scorer.score(&text).unwrap();
        assert_eq!((all.nats.len(), all.bytes), (299, 299));
        // 1.5 nats a token or so: 4 tokens, hardly trained.
        assert!((all.mean().unwrap() - 4f64.ln()).abs() < 0.3);
        assert!((all.perplexity().unwrap().ln() - all.mean().unwrap()).abs() < 1e-9);
        for cut in [1, 2, 3, 77, 129, 150] {
            let part = scorer.score(&text[..cut]).unwrap();
            assert_eq!(part.nats.len(), cut - 1);
            for (a, b) in part.nats.iter().zip(&all.nats) {
                assert!((a - b).abs() < 1e-5, "{cut}: {a} {b}");
            }
        }
        // What comes next is what the next token's surprise says.
        let part = scorer.score(&text[..150]).unwrap();
        let token = model.vocabulary().encode(&text[150..151]).unwrap()[0];
        assert!((part.next[token as usize].ln() + all.nats[149]).abs() < 1e-5);
        assert!((part.next.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(scorer.score("").unwrap().mean(), None);
        assert!(scorer.score("ax").unwrap_err().to_string().contains("'x'"));
        // Beyond the vocabulary, in the last place too, which is no input.
        for tokens in [[1, 2, 99], [99, 1, 2]] {
            let error = scorer.score_tokens(&tokens, 0).unwrap_err().to_string();
            assert!(error.contains("99 of a vocabulary of 3"), "{error}");
        }
        let mut ensemble =
            Scorer::new(&engine.ensemble(2).unwrap(), model.clone(), weights.clone());
        assert!(ensemble.score("ab").unwrap_err().to_string().contains("engine for one"));
        // As many numbers, in another shape.
        let mut turned = weights.clone();
        let name = "lstm.weight_ih_l0";
        turned.insert(name.to_string(), weights[name].clone().reversed_axes());
        let mut turned = Scorer::new(&engine, model.clone(), turned);
        assert!(turned.score("ab").unwrap_err().to_string().contains(name));
    }
}
