//! Writing with a trained model, a token at a time.

use super::LanguageModel;
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::schedule::Recorder;
use crate::task::{TaskModel, load_recording};
use crate::tensor::{NamedTensors, require_shapes};
use crate::wait;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next token is drawn.
#[derive(Clone, Copy, Debug)]
pub struct SampleOptions {
    /// Logits are divided by it; 0 takes the likeliest always.
    pub temperature: f32,
    /// Only so many of the likeliest are drawn from; 0 is all.
    pub top_k: usize,
    /// Only the likeliest that together have this probability are drawn from (Holtzman 2020, nucleus sampling);
    /// 1 is all.
    pub top_p: f32,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for SampleOptions {
    /// From all tokens, as the model predicts them.
    fn default() -> Self {
        SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1 }
    }
}

impl SampleOptions {
    fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let got = self.temperature;
            return Err(Error::invalid(format!("the temperature must be 0 or more, not {got}")));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let got = self.top_p;
            return Err(Error::invalid(format!("top-p must be above 0 and at most 1, not {got}")));
        }
        Ok(())
    }

    /// Draws the number of a token from its logits; `chance` is uniform in \[0, 1).
    ///
    /// # Errors
    /// Logits that are no numbers.
    fn draw(&self, logits: &[f32], chance: impl FnOnce() -> f64) -> Result<usize> {
        if logits.iter().any(|x| !x.is_finite()) {
            return Err(Error::invalid("the model's output is no number: its weights are broken"));
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // Ties keep the order of the vocabulary.
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.temperature == 0.0 {
            return Ok(order[0]);
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let most = logits[order[0]];
        let weight = |&i: &usize| f64::from((logits[i] - most) / self.temperature).exp();
        let mut total: f64 = order.iter().map(weight).sum();
        if self.top_p < 1.0 {
            let enough = f64::from(self.top_p) * total;
            let (mut sum, mut kept) = (0.0, 0);
            while sum < enough && kept < order.len() {
                sum += weight(&order[kept]);
                kept += 1;
            }
            order.truncate(kept.max(1));
            total = order.iter().map(weight).sum();
        }
        let mut left = chance() * total;
        for i in &order {
            left -= weight(i);
            if left <= 0.0 {
                return Ok(*i);
            }
        }
        Ok(order[order.len() - 1])
    }
}

/// A model that goes on from what it has read.
pub struct Generator {
    model: LanguageModel,
    program: Program,
    _store: Store,
    ids: BufferId,
    logits: BufferId,
    options: SampleOptions,
    random: ChaCha8Rng,
    /// Logits for the next token; none before anything was read.
    next: Vec<f32>,
}

impl Generator {
    /// Loads the model for one row and one step.
    ///
    /// # Errors
    /// A temperature that is negative or no number, top-p outside (0, 1]; an ensemble's engine; weights that are
    /// missing or of another shape; what the device refuses.
    pub fn new(
        engine: &Engine,
        model: LanguageModel,
        weights: &NamedTensors,
        options: SampleOptions,
    ) -> Result<Self> {
        options.check()?;
        if engine.members() > 1 {
            return Err(Error::invalid("one model writes, on an engine for one"));
        }
        require_shapes(&model.weight_shapes(), weights)?;
        let mut rec = Recorder::inference();
        let ids = rec.input_ids("ids", 1)?;
        let logits = model.record(&mut rec, ids, [1, 1], "state")?;
        let logits = rec.output("logits", logits)?.view.buffer;
        let (program, store) = load_recording(engine, rec, weights)?;
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        let (ids, next) = (ids.buffer, Vec::new());
        Ok(Generator { model, program, _store: store, ids, logits, options, random, next })
    }

    /// The model.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    async fn read_token(&mut self, token: u32) -> Result<()> {
        self.program.write_u32(self.ids, &[token])?;
        self.program.run()?;
        self.next = self.program.read_async(self.logits).await?;
        Ok(())
    }

    /// Reads a prompt.
    ///
    /// # Errors
    /// A character that the model does not know; the device failed.
    pub fn read(&mut self, prompt: &str) -> Result<()> {
        wait::here(self.read_async(prompt))
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Generator::read`].
    pub async fn read_async(&mut self, prompt: &str) -> Result<()> {
        for token in self.model.vocabulary().encode(prompt)? {
            self.read_token(token).await?;
        }
        Ok(())
    }

    /// Draws the next token and reads it: its number, for
    /// [`Vocabulary::writer`](crate::data::Vocabulary::writer). Before any prompt the first is drawn evenly.
    ///
    /// # Errors
    /// The device failed, or the model's weights give no numbers.
    pub fn write(&mut self) -> Result<usize> {
        wait::here(self.write_async())
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// As [`Generator::write`].
    pub async fn write_async(&mut self) -> Result<usize> {
        if self.next.is_empty() {
            self.next = vec![0.0; self.model.vocabulary().len()];
        }
        let token = self.options.draw(&self.next, || self.random.random::<f64>())?;
        self.read_token(token as u32).await?;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 1/2, 1/4, 1/8, 1/8 of tokens 2, 0, 1, 3.
    const LOGITS: [f32; 4] =
        [0.0, -std::f32::consts::LN_2, std::f32::consts::LN_2, -std::f32::consts::LN_2];

    fn draws(options: SampleOptions) -> Vec<usize> {
        let draw = |n: i32| options.draw(&LOGITS, || (f64::from(n) + 0.5) / 16.0).unwrap();
        (0..16).map(draw).collect()
    }

    #[test]
    fn tokens_are_drawn_as_likely_as_they_are() {
        let all = SampleOptions::default();
        let counts = |options| {
            let list = draws(options);
            [0, 1, 2, 3].map(|token| list.iter().filter(|&&t| t == token).count())
        };
        assert_eq!(counts(all), [4, 2, 8, 2]);
        assert_eq!(counts(SampleOptions { top_k: 2, ..all })[1..], [0, 11, 0]);
        // 0.5 is reached by the first alone, anything above takes the second too.
        assert_eq!(counts(SampleOptions { top_p: 0.5, ..all }), [0, 0, 16, 0]);
        assert_eq!(counts(SampleOptions { top_p: 0.6, ..all })[1..], [0, 11, 0]);
        assert_eq!(counts(SampleOptions { top_p: 1e-9, ..all }), [0, 0, 16, 0]);
        assert_eq!(counts(SampleOptions { temperature: 0.0, ..all }), [0, 0, 16, 0]);
        // Twice as bold: 16 to 4 to 1 to 1.
        assert_eq!(counts(SampleOptions { temperature: 0.5, ..all })[2], 12);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let all = SampleOptions::default();
        for bad in [
            SampleOptions { temperature: -1.0, ..all },
            SampleOptions { temperature: f32::NAN, ..all },
            SampleOptions { top_p: 0.0, ..all },
            SampleOptions { top_p: 1.1, ..all },
        ] {
            assert!(bad.check().is_err());
        }
        assert!(all.draw(&[0.0, f32::NAN], || 0.5).is_err());
    }
}
