//! Playing with a trained model, a step at a time.

use super::{MusicModel, NOTES};
use crate::engine::{Engine, Program, Store};
use crate::error::{Error, Result};
use crate::kernel::BufferId;
use crate::schedule::Recorder;
use crate::task::load_recording;
use crate::tensor::NamedTensors;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A model that goes on from what it has heard: each step's notes are drawn, each by itself, and heard before the
/// next step's.
pub struct Composer {
    program: Program,
    _store: Store,
    x: BufferId,
    logits: BufferId,
    temperature: f32,
    random: ChaCha8Rng,
    next: Vec<f32>,
}

impl Composer {
    /// Loads the model for one tune and one step. Logits are divided by the temperature; at 0 those notes sound that
    /// are likelier than not.
    ///
    /// # Errors
    /// A temperature that is negative or no number; what the device refuses.
    pub fn new(
        engine: &Engine,
        model: &MusicModel,
        weights: &NamedTensors,
        temperature: f32,
        seed: u64,
    ) -> Result<Self> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            let what = format!("the temperature must be 0 or more, not {temperature}");
            return Err(Error::invalid(what));
        }
        let mut rec = Recorder::inference();
        let x = rec.input("x", [1, NOTES], false)?;
        let logits = model.record_step(&mut rec, x)?;
        let logits = rec.output("logits", logits)?.view.buffer;
        let (program, store) = load_recording(engine, rec, weights)?;
        let random = ChaCha8Rng::seed_from_u64(seed);
        let x = x.view.buffer;
        let mut composer =
            Composer { program, _store: store, x, logits, temperature, random, next: Vec::new() };
        // Before the first step none sounds.
        composer.hear(&[])?;
        Ok(composer)
    }

    /// Hears a step of keys, from 0 for the lowest.
    ///
    /// # Errors
    /// A key beyond 87; the device failed.
    pub fn hear(&mut self, notes: &[u32]) -> Result<()> {
        let mut x = vec![0.0; NOTES];
        for &key in notes {
            let place = x.get_mut(key as usize);
            *place.ok_or_else(|| Error::invalid(format!("there is no key {key} of {NOTES}")))? =
                1.0;
        }
        self.program.write(self.x, &x)?;
        self.program.run()?;
        self.next = self.program.read(self.logits)?;
        Ok(())
    }

    /// Draws the next step's keys and hears them.
    ///
    /// # Errors
    /// The device failed, or the model's weights give no numbers.
    pub fn play(&mut self) -> Result<Vec<u32>> {
        if self.next.iter().any(|x| !x.is_finite()) {
            return Err(Error::invalid("the model's output is no number: its weights are broken"));
        }
        let mut notes = Vec::new();
        for (key, &logit) in self.next.iter().enumerate() {
            let sounds = match self.temperature {
                0.0 => logit > 0.0,
                temperature => {
                    let p = 1.0 / (1.0 + (-f64::from(logit) / f64::from(temperature)).exp());
                    self.random.random::<f64>() < p
                }
            };
            if sounds {
                notes.push(key as u32);
            }
        }
        self.hear(&notes)?;
        Ok(notes)
    }
}
