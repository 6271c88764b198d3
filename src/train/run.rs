//! The loop.

use super::feed::Ahead;
use super::step::{LaterRing, StepFeeds};
use super::{Event, MemberLosses, Outcome, Progress, Task, Trainer};
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::loss::LOSS;
use crate::optim::GRADIENT_NORM;
use std::path::Path;
use std::sync::atomic::Ordering;

impl<T: Task> Trainer<'_, T> {
    /// Trains to the last step, or until it should end. Saves to `folder`, which is made where there is none, at
    /// intervals and at the end: the weights with the lowest validation loss as the model, and all that it takes to go
    /// on.
    ///
    /// # Errors
    /// The folder can't be made: before any step. The loss is no number any more: the last good checkpoint is kept.
    /// The device or the disk failed.
    pub fn run(
        &mut self,
        folder: Option<&Path>,
        on_event: impl FnMut(&Event) -> Result<()>,
    ) -> Result<Outcome> {
        if let Some(folder) = folder {
            // Not at the first save, when the work would be lost.
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        }
        self.saves = folder.is_some();
        std::thread::scope(|scope| {
            let steps = self.step..self.options.steps;
            let mut feeds = Ahead::start(scope, steps, self.maker());
            self.run_fed(|step| feeds.take(step), folder, on_event)
        })
    }

    fn run_fed(
        &mut self,
        mut feed: impl FnMut(u64) -> Result<StepFeeds>,
        folder: Option<&Path>,
        mut on_event: impl FnMut(&Event) -> Result<()>,
    ) -> Result<Outcome> {
        let mut watch = Watch { start: Instant::now(), since: Instant::now(), reported: self.step };
        // Losses that were asked for behind the last step: a step more is submitted before they are waited for, so
        // that the device has the next step and its data while the host tells of the ones before.
        let mut asked: Option<Asked> = None;
        while self.step < self.options.steps {
            if self.has_waited_enough() {
                return Ok(Outcome::StoppedEarly);
            }
            if self.looks_now()
                && let Some(asked) = asked.take()
            {
                self.tell(asked, &mut watch, &mut on_event)?;
            }
            let look = self.look_if_due()?;
            self.one_step(feed(self.step)?)?;
            if let Some(asked) = asked.take() {
                self.tell(asked, &mut watch, &mut on_event)?;
            }
            if let Some(look) = look {
                let (view, spent) = self.finish_look(look)?;
                watch.since += spent;
                on_event(&Event::Look(Box::new(view)))?;
            }
            let (done, options) = (self.step, &self.options);
            let stop = options.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
            let last = done == options.steps;
            let evaluate = done.is_multiple_of(options.evaluate_every) || last;
            let save = done.is_multiple_of(options.save_every) || last || stop;
            if !(evaluate || save || done.is_multiple_of(options.report_every)) {
                continue;
            }
            let losses = self.ask(&mut watch)?;
            if !(evaluate || save) {
                asked = Some(losses);
                continue;
            }
            let progress = self.tell(losses, &mut watch, &mut on_event)?;
            if evaluate {
                self.evaluate_now(progress, &watch, &mut on_event)?;
            }
            // What is walked again must not have an evaluation in it, which moves rates and averages.
            self.is_safe()?;
            if (save || self.has_waited_enough())
                && let Some(folder) = folder
            {
                on_event(&Event::Saving(done))?;
                self.save(folder)?;
                on_event(&Event::Saved(done))?;
            }
            if stop && !last {
                return Ok(Outcome::Interrupted);
            }
            watch.since = Instant::now();
        }
        Ok(Outcome::Finished)
    }

    fn has_waited_enough(&self) -> bool {
        self.options.patience.is_some_and(|patience| self.state.waited >= patience)
    }

    /// Asks for the losses since the last report.
    fn ask(&self, watch: &mut Watch) -> Result<Asked> {
        let missing = || Error::Missing {
            tensor: LOSS.to_string(),
            place: "the task's recording".to_string(),
        };
        let reported = std::mem::replace(&mut watch.reported, self.step);
        let losses = self.ring_later(LOSS, reported)?.ok_or_else(missing)?;
        let norms = self.ring_later(GRADIENT_NORM, reported)?;
        Ok(Asked { reported, done: self.step, losses, norms })
    }

    /// Tells losses that were asked for.
    fn tell(
        &mut self,
        asked: Asked,
        watch: &mut Watch,
        on_event: &mut impl FnMut(&Event) -> Result<()>,
    ) -> Result<Progress> {
        let told = self.report(asked, watch, on_event);
        watch.since = Instant::now();
        told.map_err(|error| self.locate(error))
    }

    fn report(
        &self,
        asked: Asked,
        watch: &Watch,
        on_event: &mut impl FnMut(&Event) -> Result<()>,
    ) -> Result<Progress> {
        let Asked { reported, done, losses, norms } = asked;
        let losses = losses.wait()?;
        let norms = norms.map(LaterRing::wait).transpose()?;
        let (batches, members) = (self.options.micro_batches as u64, self.members as u64);
        let symbols = (done - reported) * self.task.symbols_per_batch() * batches * members;
        let progress = |step: u64, loss: f32| Progress {
            step,
            loss,
            learning_rate: self.rate(step),
            gradient_norm: norms.as_ref().map(|norms| {
                let of = &norms[(step - 1 - reported) as usize];
                // One that is no number is what has to be seen.
                of.0.iter().fold(0.0, |most: f32, &norm| if norm <= most { most } else { norm })
            }),
            symbols_per_second: symbols as f64 / watch.since.elapsed().as_secs_f64().max(1e-9),
            elapsed: watch.start.elapsed().as_secs_f64(),
        };
        let bad = losses.iter().enumerate().find_map(|(at, l)| Some((at, l.first_bad()?)));
        if let Some((at, (member, value))) = bad {
            let step = reported + at as u64 + 1;
            let (whole, _) = losses.split_at(at);
            if let Some(last) = whole.last() {
                on_event(&Event::Losses(progress(step - 1, last.mean()), whole.to_vec()))?;
            }
            return Err(self.not_finite("the loss", step, value, member));
        }
        let progress = progress(done, losses.last().map_or(f32::NAN, MemberLosses::mean));
        on_event(&Event::Losses(progress, losses))?;
        Ok(progress)
    }

    /// Evaluates, tells it, and keeps the models that are the best so far.
    fn evaluate_now(
        &mut self,
        progress: Progress,
        watch: &Watch,
        on_event: &mut impl FnMut(&Event) -> Result<()>,
    ) -> Result<()> {
        let Some(losses) = self.evaluate()? else { return Ok(()) };
        let step = self.step;
        if let Some((member, value)) = losses.first_bad() {
            return Err(self.not_finite("the validation loss", step, value, member));
        }
        let better = self.state.evaluated(step, &losses);
        let (options, mean) = (&self.options, losses.mean());
        options.schedule.observe(&mut self.state.schedule, mean.into());
        if let Some(averaging) = options.update.averaging {
            averaging.observe(&mut self.state.averaging, step, mean);
        }
        self.keep_best(&better)?;
        let elapsed = watch.start.elapsed().as_secs_f64();
        on_event(&Event::Validation(Progress { elapsed, ..progress }, losses.clone()))?;
        let told = |member: &usize| Event::Best { member: *member, step, loss: losses.0[*member] };
        better.iter().map(told).try_for_each(|event| on_event(&event))
    }
}

/// Losses and norms of the steps from `reported` to `done`, asked for.
struct Asked {
    reported: u64,
    done: u64,
    losses: LaterRing,
    norms: Option<LaterRing>,
}

/// The times and the step of the last report.
struct Watch {
    start: Instant,
    since: Instant,
    reported: u64,
}
