//! Recurrent layers over the notes of a step, linear; its folder; its scores.

use super::{NAME, NOTES};
use crate::data::Buckets;
use crate::engine::Engine;
use crate::error::Result;
use crate::kernel::View;
use crate::layer::{InitialState, Initializer, Linear, Memory, Recurrent, RecurrentInit, Sequence};
use crate::schedule::{Recorder, Var};
use crate::task::{RecurrentConfig, TaskModel, load_recording};
use crate::tensor::NamedTensors;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a model of notes is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoteModel {
    /// Its layers.
    #[serde(flatten)]
    pub recurrent: RecurrentConfig,
    /// Quarter notes of a step, for MIDI files.
    #[serde(default = "quarter")]
    pub quarters: f32,
}

/// Folders of before had none but quarter notes.
fn quarter() -> f32 {
    1.0
}

impl NoteModel {
    /// Of these layers, with steps of quarter notes.
    pub fn new(recurrent: RecurrentConfig) -> Self {
        NoteModel { recurrent, quarters: quarter() }
    }
}

/// A model of which notes sound: its layers.
#[derive(Clone, Debug)]
pub struct MusicModel {
    config: NoteModel,
    recurrent: Recurrent,
    linear: Linear,
    init: RecurrentInit,
}

/// How likely a model finds tunes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MusicScore {
    /// Steps.
    pub steps: usize,
    /// −ln p of all notes of a step, sounding or not, the mean over the steps, in nats.
    pub loss: f64,
    /// Of notes that are likelier than not: right ones over right, wrong and missed ones, all frames together
    /// (Bay 2009's accuracy).
    pub accuracy: f64,
    /// Right notes, and right, wrong and missed ones.
    #[serde(skip)]
    notes: [usize; 2],
}

impl MusicModel {
    /// The same model, keeping so much between forward and backward.
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.recurrent.memory = memory;
        self
    }

    /// The recurrent layers.
    pub fn recurrent(&self) -> &Recurrent {
        &self.recurrent
    }

    /// Logits \[T·B, 88\] of the notes behind those of `x` \[T·B, 88\], with the flags of the steps that take part.
    ///
    /// # Errors
    /// Sizes beyond 32 bits.
    pub fn record(
        &self,
        rec: &mut Recorder,
        x: Var,
        [time, batch]: [usize; 2],
        lengths: View,
    ) -> Result<(Var, Option<View>)> {
        let sequence = Sequence::new(time, batch).with_lengths(lengths);
        let h = self.recurrent.record(rec, x, sequence, &InitialState::Zero)?;
        let output = rec.dropout(h.output, self.config.recurrent.dropout)?;
        Ok((self.linear.record(rec, output)?, h.flags))
    }

    /// Logits \[1, 88\] of the notes behind a step's `x` \[1, 88\], from the states that are carried from run to run.
    pub(super) fn record_step(&self, rec: &mut Recorder, x: Var) -> Result<Var> {
        let carried = InitialState::Carried("state".to_string());
        let h = self.recurrent.record(rec, x, [1, 1], &carried)?;
        self.linear.record(rec, h.output)
    }

    /// Initial weights as PyTorch's modules draw them, but for what the configuration says.
    pub fn initial_weights(&self, seed: u64) -> NamedTensors {
        let mut generator = Initializer::new(seed);
        let mut weights = NamedTensors::new();
        // Refused in `new`, if at all.
        let _ = self.recurrent.init_with(self.init, &mut generator, &mut weights);
        self.linear.init(&mut generator, &mut weights);
        weights
    }

    /// The mean over all steps of tunes.
    ///
    /// # Errors
    /// As [`MusicModel::score`]; there is no step.
    pub fn mean_score(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        tunes: &[Vec<Vec<u32>>],
    ) -> Result<MusicScore> {
        let scores = self.score(engine, weights, tunes)?;
        let mut mean = MusicScore::default();
        for (score, _) in &scores {
            mean.steps += score.steps;
            mean.loss += score.loss * score.steps as f64;
            mean.notes = [0, 1].map(|i| mean.notes[i] + score.notes[i]);
        }
        if mean.steps == 0 {
            return Err(crate::Error::invalid("there is no step to score"));
        }
        mean.loss /= mean.steps as f64;
        mean.accuracy = accuracy(mean.notes);
        Ok(mean)
    }

    /// How likely the model finds each tune, and the probabilities \[88\] of the notes behind it. A tune without a
    /// step has a score of nothing.
    ///
    /// # Errors
    /// The device failed.
    pub fn score(
        &self,
        engine: &Engine,
        weights: &NamedTensors,
        tunes: &[Vec<Vec<u32>>],
    ) -> Result<Vec<(MusicScore, Vec<f32>)>> {
        check_notes(tunes)?;
        // One step more: what comes behind.
        let lengths: Vec<usize> = tunes.iter().map(|tune| tune.len() + 1).collect();
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let mut scores = vec![(MusicScore::default(), Vec::new()); tunes.len()];
        let buckets = Buckets::new(&lengths, longest.max(4096), 6)?;
        for (shape, &[time, batch]) in buckets.shapes().iter().enumerate() {
            let mut rec = Recorder::inference();
            let x = rec.input("x", [time * batch, NOTES], false)?;
            let view = rec.input_ids("lengths", batch)?;
            let (logits, _) = self.record(&mut rec, x, [time, batch], view)?;
            let logits = rec.output("logits", logits)?.view.buffer;
            let (mut program, _store) = load_recording(engine, rec, weights)?;
            for rows in buckets.in_order().into_iter().filter(|b| b.shape == shape) {
                let (inputs, counts) = inputs(&rows.rows, tunes, [time, batch], 1);
                program.write(x.view.buffer, &inputs)?;
                program.write_u32(view.buffer, &counts)?;
                program.run()?;
                let logits = program.read(logits)?;
                for (row, &tune) in rows.rows.iter().enumerate() {
                    let step = |t: usize| &logits[(t * batch + row) * NOTES..][..NOTES];
                    scores[tune] = of_tune(&tunes[tune], step);
                }
            }
        }
        Ok(scores)
    }
}

impl TaskModel for MusicModel {
    const TASK: &'static str = NAME;
    type Config = NoteModel;

    /// A model from its configuration.
    ///
    /// # Errors
    /// As [`RecurrentConfig::build`]; both directions, as the notes to come would be known.
    fn new(config: NoteModel) -> Result<Self> {
        if config.recurrent.both {
            let what = "a model of what comes next can't read both ways";
            return Err(crate::Error::invalid(what));
        }
        if !(config.quarters > 0.0 && config.quarters.is_finite()) {
            let what = format!("steps of {} quarter notes are none", config.quarters);
            return Err(crate::Error::invalid(what));
        }
        let (recurrent, init) = config.recurrent.build(NOTES)?;
        let linear = Linear::new("linear", config.recurrent.hidden, NOTES);
        Ok(MusicModel { config, recurrent, linear, init })
    }

    fn config(&self) -> &NoteModel {
        &self.config
    }

    fn weight_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = BTreeMap::from([
            ("linear.weight".to_string(), vec![NOTES, self.config.recurrent.hidden]),
            ("linear.bias".to_string(), vec![NOTES]),
        ]);
        shapes.extend(self.recurrent.all_parameters().into_iter().map(|p| (p.name, p.shape)));
        shapes
    }
}

/// Keys beyond the last would be another row's.
pub(super) fn check_notes(tunes: &[Vec<Vec<u32>>]) -> Result<()> {
    match tunes.iter().flatten().flatten().find(|&&key| key as usize >= NOTES) {
        Some(key) => Err(crate::Error::invalid(format!("there is no key {key} of {NOTES}"))),
        None => Ok(()),
    }
}

/// The notes before each step of tunes \[T·B, 88\] (none before the first), and how many steps each row has: its
/// tune's and `more`.
pub(super) fn inputs(
    rows: &[usize],
    tunes: &[Vec<Vec<u32>>],
    [time, batch]: [usize; 2],
    more: usize,
) -> (Vec<f32>, Vec<u32>) {
    let (mut x, mut counts) = (vec![0.0; time * batch * NOTES], vec![0; batch]);
    for (row, &tune) in rows.iter().enumerate() {
        let tune = &tunes[tune];
        counts[row] = (tune.len() + more) as u32;
        for (t, notes) in tune.iter().enumerate().filter(|(t, _)| t + 1 < tune.len() + more) {
            notes.iter().for_each(|&n| x[((t + 1) * batch + row) * NOTES + n as usize] = 1.0);
        }
    }
    (x, counts)
}

fn of_tune<'a>(tune: &[Vec<u32>], logits: impl Fn(usize) -> &'a [f32]) -> (MusicScore, Vec<f32>) {
    let (mut nats, mut right, mut any) = (0.0, 0usize, 0usize);
    for (t, notes) in tune.iter().enumerate() {
        for (note, &x) in logits(t).iter().enumerate() {
            let (x, sounds) = (f64::from(x), notes.contains(&(note as u32)));
            // −ln σ(x), or −ln(1 − σ(x)): log(1 + e^∓x).
            let z = if sounds { -x } else { x };
            nats += z.max(0.0) + (-z.abs()).exp().ln_1p();
            right += usize::from(sounds && x > 0.0);
            any += usize::from(sounds || x > 0.0);
        }
    }
    let next = logits(tune.len()).iter().map(|&x| 1.0 / (1.0 + (-x).exp())).collect();
    let steps = tune.len();
    let (loss, notes) = (nats / steps.max(1) as f64, [right, any]);
    (MusicScore { steps, loss, accuracy: accuracy(notes), notes }, next)
}

fn accuracy([right, all]: [usize; 2]) -> f64 {
    if all > 0 { right as f64 / all as f64 } else { 1.0 }
}
