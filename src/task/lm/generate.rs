//! Writing with a trained model, a character at a time.

use super::LanguageModel;
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::recording::Role;
use crate::schedule::Recorder;
use crate::tensor::NamedTensors;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next character is drawn.
#[derive(Clone, Copy, Debug)]
pub struct SampleOptions {
    /// Logits are divided by it; 0 takes the likeliest always.
    pub temperature: f32,
    /// Only so many of the likeliest are drawn from; 0 is all.
    pub top_k: usize,
    /// The seed of the draws.
    pub seed: u64,
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
    /// Logits for the next character; none before anything was read.
    next: Vec<f32>,
}

impl Generator {
    /// Loads the model for one row and one step.
    ///
    /// # Errors
    /// A temperature that is negative or no number; what the device refuses.
    pub fn new(
        engine: &Engine,
        model: LanguageModel,
        weights: &NamedTensors,
        options: SampleOptions,
    ) -> Result<Self> {
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            let got = options.temperature;
            return Err(Error::invalid(format!("the temperature must be 0 or more, not {got}")));
        }
        let mut rec = Recorder::inference();
        let ids = rec.input_ids("ids", 1)?;
        let logits = model.record(&mut rec, ids, [1, 1], "state")?;
        let logits = rec.output("logits", logits)?.view.buffer;
        let recording = rec.finish();
        let store = engine.store();
        for buffer in recording.buffers().iter().filter(|b| b.role == Role::Parameter) {
            let tensor = weights.get(&buffer.name).ok_or_else(|| Error::Missing {
                tensor: buffer.name.clone(),
                place: "the model".to_string(),
            })?;
            store.set(&buffer.name, &tensor.iter().copied().collect::<Vec<_>>())?;
        }
        let program = engine.load(&recording, &store)?;
        let random = ChaCha8Rng::seed_from_u64(options.seed);
        let (ids, next) = (ids.buffer, Vec::new());
        Ok(Generator { model, program, _store: store, ids, logits, options, random, next })
    }

    fn read_token(&mut self, token: u32) -> Result<()> {
        self.program.write_u32(self.ids, &[token])?;
        self.program.run()?;
        self.next = self.program.read(self.logits)?;
        Ok(())
    }

    /// Reads a prompt.
    ///
    /// # Errors
    /// A character that the model does not know; the device failed.
    pub fn read(&mut self, prompt: &str) -> Result<()> {
        for token in self.model.vocabulary().encode(prompt)? {
            self.read_token(token)?;
        }
        Ok(())
    }

    /// Draws the next character and reads it. Before any prompt the first is drawn evenly.
    ///
    /// # Errors
    /// The device failed, or the model's weights give no numbers.
    pub fn write(&mut self) -> Result<char> {
        if self.next.is_empty() {
            self.next = vec![0.0; self.model.vocabulary().len()];
        }
        let token = self.draw()?;
        self.read_token(token as u32)?;
        let character = self.model.vocabulary().character(token);
        character.ok_or_else(|| Error::invalid("the draw is outside the vocabulary"))
    }

    fn draw(&mut self) -> Result<usize> {
        if self.next.iter().any(|x| !x.is_finite()) {
            return Err(Error::invalid("the model's output is no number: its weights are broken"));
        }
        let mut order: Vec<usize> = (0..self.next.len()).collect();
        // Ties keep the order of the vocabulary.
        order.sort_by(|&a, &b| self.next[b].total_cmp(&self.next[a]));
        if self.options.temperature == 0.0 {
            return Ok(order[0]);
        }
        if self.options.top_k > 0 {
            order.truncate(self.options.top_k);
        }
        let most = self.next[order[0]];
        let weight = |&i: &usize| f64::from((self.next[i] - most) / self.options.temperature).exp();
        let total: f64 = order.iter().map(weight).sum();
        let mut left = self.random.random::<f64>() * total;
        for i in &order {
            left -= weight(i);
            if left <= 0.0 {
                return Ok(*i);
            }
        }
        Ok(order[order.len() - 1])
    }
}
