//! Tasks that need a long memory, and models for them. (A test reads this file too.)

use recurra::cell::CellKind;
use recurra::layer::{ForgetBias, Initializer, WeightInit};
use recurra::model::{Fit, IGNORE, Model, Samples, Sequences, Sequential, Targets};
use recurra::train::{Event, TrainOptions, Trainer, View};
use recurra::{Engine, Result};

/// The adding problem (Hochreiter and Schmidhuber 1997, "Long short-term memory", section 5.4), of one length: two
/// inputs a step, a value of U(0, 1) and a mark, which is 1 at a step of either half and 0 elsewhere. Wanted is the sum
/// of the two marked values. Who always says 1 has a mean square error of 2·1/12 = 1/6.
pub fn adding(count: usize, time: usize, seed: u64) -> Result<Samples> {
    let mut random = Initializer::new(seed);
    let (mut inputs, mut sums) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let values: Vec<f32> = random.uniform(time, 0.5).into_iter().map(|u| u + 0.5).collect();
        let half = time / 2;
        let marked = [below(&mut random, half), half + below(&mut random, time - half)];
        let mark = |t: usize| if marked.contains(&t) { 1.0 } else { 0.0 };
        inputs.push(values.iter().enumerate().flat_map(|(t, &value)| [value, mark(t)]).collect());
        sums.push(vec![marked.iter().map(|&t| values[t]).sum()]);
    }
    Samples::new(Sequences::values(2, inputs), Targets::value(1, sums))
}

/// Who always says 1 in the adding problem.
pub const ADDING_BASELINE: f32 = 1.0 / 6.0;

/// The copying problem (Hochreiter and Schmidhuber 1997, section 5.1; the form of Arjovsky 2016,
/// "Unitary evolution recurrent neural networks"): `length` symbols of `kinds`, blanks, a sign, and
/// then as many steps in which the symbols are wanted again, which alone count. Who remembers
/// nothing has a cross-entropy of ln(kinds).
pub fn copying(count: usize, [length, kinds, blanks]: [usize; 3], seed: u64) -> Result<Samples> {
    let mut random = Initializer::new(seed);
    let (blank, sign) = (kinds as u32, kinds as u32 + 1);
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let symbols: Vec<u32> = (0..length).map(|_| below(&mut random, kinds) as u32).collect();
        let before = length + blanks;
        inputs
            .push([&symbols[..], &vec![blank; blanks], &[sign], &vec![blank; length - 1]].concat());
        targets.push([&vec![IGNORE; before][..], &symbols].concat());
    }
    Samples::new(Sequences::tokens(inputs), Targets::classes(targets))
}

fn below(random: &mut Initializer, n: usize) -> usize {
    let uniform = 0.5 * (random.uniform(1, 1.0)[0] + 1.0);
    ((uniform * n as f32) as usize).min(n - 1)
}

/// What a practitioner starts with: orthogonal recurrent weights, and gates that keep for as long as it takes (Tallec
/// and Ollivier 2018).
fn start(before: Sequential, cell: CellKind, hidden: usize, longest: usize) -> Sequential {
    before.recurrent_with(cell, hidden, |stack| {
        stack.init.recurrent = WeightInit::OrthogonalPerGate;
        if matches!(cell, CellKind::Lstm | CellKind::Gru) {
            stack.init.forget = ForgetBias::Chrono { longest: longest as f32 };
        }
    })
}

/// A model for [`adding`].
pub fn adder(cell: CellKind, hidden: usize, time: usize) -> Result<Model> {
    start(Sequential::values(2), cell, hidden, time).last_step().linear(1).build()
}

/// A model for [`copying`].
pub fn copier(cell: CellKind, hidden: usize, [_, kinds, blanks]: [usize; 3]) -> Result<Model> {
    let before = Sequential::tokens(kinds + 2).embedding(kinds + 2);
    start(before, cell, hidden, blanks).linear(kinds).build()
}

/// What came of a model.
pub struct Run {
    /// The validation loss by step.
    pub losses: Vec<(u64, f32)>,
    /// What the microscope saw, at ten steps.
    pub views: Vec<View>,
}

impl Run {
    /// The last validation loss.
    pub fn loss(&self) -> f32 {
        self.losses.last().map_or(f32::NAN, |loss| loss.1)
    }

    /// What is left of a gradient one step further back, when the microscope looked last.
    pub fn kept(&self) -> f32 {
        let last = self.views.last().and_then(|view| view.layers[0].gradients.kept);
        last.unwrap_or(f32::NAN)
    }

    /// What was left then of all states' gradient at the first step, of that at the last.
    pub fn over_the_window(&self) -> f32 {
        let Some(view) = self.views.last() else { return f32::NAN };
        let gradients = &view.layers[0].gradients;
        let whole = |t: usize| gradients.h[t].hypot(gradients.c.get(t).copied().unwrap_or(0.0));
        whole(0) / whole(gradients.h.len() - 1)
    }

    /// Whether it said then that gradients vanish.
    pub fn vanish(&self) -> bool {
        let lines = self.views.last().map(View::verdict).unwrap_or_default();
        lines.iter().any(|line| line.contains("gradients vanish"))
    }
}

/// Trains a model under the microscope, by Adam with clipped gradients, in batches of 32.
pub fn train(
    engine: &Engine,
    model: &Model,
    parts: &[Samples; 2],
    rate: f32,
    steps: u64,
) -> Result<Run> {
    let fit = Fit::new(model, &parts[0])?.with_validation(&parts[1])?;
    let options = TrainOptions { learning_rate: rate, ..TrainOptions::new(steps) };
    let trainer = Trainer::new(engine, &fit, options, None)?;
    let mut run = Run { losses: Vec::new(), views: Vec::new() };
    trainer.with_microscope(engine, Some((steps / 10).max(1)))?.run(None, |event| {
        match event {
            Event::Validation(progress, loss) => run.losses.push((progress.step, loss.mean())),
            Event::Look(view) => run.views.push((**view).clone()),
            _ => {}
        }
        Ok(())
    })?;
    Ok(run)
}
