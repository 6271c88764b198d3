//! The microscope in a run: when it looks, what a step moved, and where a run that failed went wrong.

use super::{Checkpoint, Microscope, Task, Trainer, UpdateRatio, View};
use crate::clock::Instant;
use crate::engine::{Engine, Inputs};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// The share of a run's time that looking may take, where nothing else was asked for.
const SHARE: f64 = 0.05;
/// Looks of a run, at most, where nothing else was asked for.
const LOOKS: u64 = 50;

/// Writes the inputs of a step.
type Feed<'a> = dyn FnMut(&mut Inputs) -> Result<()> + 'a;

/// When and at what a run looks.
pub(super) struct Watcher {
    engine: Engine,
    /// By the shapes of steps, made when they are needed.
    microscopes: BTreeMap<usize, Microscope>,
    every: Option<u64>,
    /// The next step (from 1) that is looked at.
    next: u64,
    looks: u64,
    /// Where a run that fails is begun again.
    safe: Checkpoint,
    started: Instant,
    first_step: u64,
    spent: Duration,
}

/// A look that waits for its step.
pub(super) struct Look {
    view: View,
    before: BTreeMap<String, Vec<f32>>,
    spent: Duration,
}

impl<T: Task> Trainer<'_, T> {
    /// Looks through the [`Microscope`] at every so many steps of runs, and tells it
    /// ([`Event::Look`](super::Event)); none: at most fifty times a run, in a twentieth of its time.
    ///
    /// # Errors
    /// As [`Microscope::new`]; zero steps.
    pub fn with_microscope(mut self, engine: &Engine, every: Option<u64>) -> Result<Self> {
        if every == Some(0) {
            return Err(Error::invalid("the microscope looks at every step at most"));
        }
        let shape = self.next_feed()?.shape();
        let microscope = Microscope::new(engine, &self.store, self.task, shape)?;
        self.watcher = Some(Watcher {
            engine: engine.clone(),
            microscopes: BTreeMap::from([(shape, microscope)]),
            every,
            next: self.step + 1,
            looks: 0,
            safe: self.checkpoint()?,
            started: Instant::now(),
            first_step: self.step,
            spent: Duration::ZERO,
        });
        Ok(self)
    }

    /// What `through` sees of the next step, of whose micro-batches it is given the first.
    fn look_through<R>(
        &mut self,
        through: impl FnOnce(&mut Microscope, bool, &mut Feed) -> Result<R>,
    ) -> Result<R> {
        let (anew, seed) = (self.begins_anew(), self.options.seed);
        let next = self.next_feed()?;
        let shape = next.shape();
        let control = self.options.update.optimizer.control(self.step as u32 + 1, seed, 0.0);
        let watcher = self.watcher.as_mut();
        let watcher = watcher.ok_or_else(|| Error::invalid("this trainer has no microscope"))?;
        if !watcher.microscopes.contains_key(&shape) {
            let new = Microscope::new(&watcher.engine, &self.store, self.task, shape)?;
            watcher.microscopes.insert(shape, new);
        }
        let missing = || Error::invalid("a microscope that was made is gone");
        let microscope = watcher.microscopes.get_mut(&shape).ok_or_else(missing)?;
        through(microscope, anew, &mut |inputs| {
            next.clone().write(inputs)?;
            inputs.set_control(control);
            Ok(())
        })
    }

    /// Looks at the next step, without taking it.
    ///
    /// # Errors
    /// There is no microscope; the device failed.
    pub fn look(&mut self) -> Result<View> {
        let step = self.step + 1;
        let view = self.look_through(|microscope, anew, feed| microscope.look(anew, feed))?;
        Ok(View { step, ..view })
    }

    /// Looks at the next step, if it is its turn.
    pub(super) fn look_if_due(&mut self) -> Result<Option<Look>> {
        if !self.looks_now() {
            return Ok(None);
        }
        self.training.iter().try_for_each(|loaded| loaded.program.wait())?;
        let begin = Instant::now();
        let view = match self.look() {
            // The run is about to end: it says so itself.
            Err(Error::NotFinite { .. }) => return Ok(None),
            other => other?,
        };
        let names = self.task.weight_shapes().into_keys();
        let before = names.map(|name| Ok((name.clone(), self.store.get(&name)?)));
        let before = before.collect::<Result<_>>()?;
        Ok(Some(Look { view, before, spent: begin.elapsed() }))
    }

    /// Whether the next step is looked at.
    pub(super) fn looks_now(&self) -> bool {
        self.watcher.as_ref().is_some_and(|watcher| self.step + 1 >= watcher.next)
    }

    /// The look, behind its step: what that moved. And how long both took that is no training.
    pub(super) fn finish_look(&mut self, look: Look) -> Result<(View, Duration)> {
        let begin = Instant::now();
        let Look { mut view, before, spent } = look;
        for (parameter, before) in before {
            let after = self.store.get(&parameter)?;
            let square = |x: f32| f64::from(x).powi(2);
            let norm: f64 = before.iter().map(|&w| square(w)).sum();
            let moved: f64 = after.iter().zip(&before).map(|(a, b)| square(a - b)).sum();
            let ratio = if norm > 0.0 { (moved / norm).sqrt() as f32 } else { 0.0 };
            view.updates.push(UpdateRatio { parameter, ratio });
        }
        let (step, steps) = (self.step, self.options.steps);
        let spent = spent + begin.elapsed();
        if let Some(watcher) = &mut self.watcher {
            watcher.spent += spent;
            watcher.looks += 1;
            let pause = watcher.every.unwrap_or_else(|| watcher.pause(step, steps, spent));
            watcher.next = step.saturating_add(pause);
        }
        Ok((view, spent))
    }

    /// A run that fails begins again here to find out where.
    pub(super) fn is_safe(&mut self) -> Result<()> {
        if self.watcher.is_some() {
            let checkpoint = self.checkpoint()?;
            if let Some(watcher) = &mut self.watcher {
                watcher.safe = checkpoint;
            }
        }
        Ok(())
    }

    /// Goes back to the last safe step and on to the one that failed, and says where its first value lies that is
    /// no number. The trainer stands before that step then.
    pub(super) fn locate(&mut self, error: Error) -> Error {
        let Error::NotFinite { what, step, value, hint } = error else { return error };
        let hint = match self.locate_at(step) {
            Ok(Some(place)) => format!("the first was {place}; {hint}"),
            _ => hint,
        };
        Error::NotFinite { what, step, value, hint }
    }

    fn locate_at(&mut self, step: u64) -> Result<Option<String>> {
        let Some(watcher) = &self.watcher else { return Ok(None) };
        let safe = watcher.safe.clone();
        if safe.step >= step {
            return Ok(None);
        }
        self.set_back(&safe)?;
        while self.step + 1 < step {
            self.train_step()?;
        }
        let found = self.look_through(|scope, anew, feed| scope.find_trouble(anew, feed))?;
        Ok(found.map(|trouble| trouble.to_string()))
    }
}

impl Watcher {
    /// Steps to the next look, by what looks cost and steps take.
    fn pause(&self, step: u64, steps: u64, spent: Duration) -> u64 {
        let least = (steps / LOOKS).max(1);
        // The first look, and the first step, prepare.
        if self.looks < 2 {
            return least;
        }
        let others = self.started.elapsed().saturating_sub(self.spent).as_secs_f64();
        let each = others / (step - self.first_step).max(1) as f64;
        least.max((spent.as_secs_f64() / (SHARE * each.max(1e-9))) as u64)
    }
}
