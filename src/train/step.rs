//! Steps of training: which batches they have, how they are taken, and what their losses were.

use super::checkpoint::seeds;
use super::feed::Ahead;
use super::trainer::{Loaded, zero_states};
use super::{Feed, MemberLosses, Phase, Task, Trainer};
use crate::clock::Instant;
use crate::engine::{Engine, Later, Span};
use crate::error::{Error, Result};
use crate::loss::{LOSS, RING};
use crate::measure::{Profile, median};
use crate::schedule::micro_batch_name;
use crate::wait;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The batches of a step: of each member its micro-batches.
pub(super) type StepFeeds = Vec<Vec<Feed>>;

/// Which batches a step has.
#[derive(Clone, Copy)]
struct Order {
    /// Batches and steps of a pass.
    batches: u64,
    steps: u64,
    micro_batches: u64,
    /// All passes have the batches of the first.
    repeats: bool,
    seed: u64,
    members: usize,
}

impl Order {
    /// The first batch of a step (from 0). What is left of a pass is no whole step: every second pass leaves its first
    /// batches out instead of its last, so that those of data in its order are trained with too.
    fn first_batch(&self, step: u64) -> u64 {
        let (pass, step) = (step / self.steps, step % self.steps);
        let pass = if self.repeats { 0 } else { pass };
        let left = self.batches.saturating_sub(self.steps * self.micro_batches);
        let skipped = if self.repeats || pass % 2 == 0 { 0 } else { left };
        pass * self.batches + skipped + step * self.micro_batches
    }
}

/// Feeds that a profile makes to see how long that takes.
const MOST_FEEDS: usize = 20;

/// A ring that was asked for.
pub(super) struct LaterRing {
    /// Of each step the shape, and its place in the ring of that shape.
    steps: Vec<(usize, usize)>,
    rings: BTreeMap<usize, Later>,
}

impl LaterRing {
    /// The members' values of each step.
    pub fn wait(self) -> Result<Vec<MemberLosses>> {
        wait::here(self.wait_async())
    }

    /// The same in a browser.
    async fn wait_async(self) -> Result<Vec<MemberLosses>> {
        let mut rings = BTreeMap::new();
        for (shape, later) in self.rings {
            rings.insert(shape, later.wait_async().await?);
        }
        let of_step = |(shape, at): (usize, usize)| {
            MemberLosses(rings[&shape].chunks(RING).map(|ring| ring[at]).collect())
        };
        Ok(self.steps.into_iter().map(of_step).collect())
    }
}

impl<'a, T: Task> Trainer<'a, T> {
    /// Takes the next steps and profiles them: two of each shape to warm up, `runs` as they are, one taken apart.
    ///
    /// # Errors
    /// As a run; a GPU without timestamps.
    pub fn profile(&mut self, engine: &Engine, runs: usize) -> Result<Profile> {
        std::thread::scope(|scope| {
            let warm_up = 2 * self.training.len();
            let last = self.step + (warm_up + runs) as u64 + 1;
            let mut feeds = Ahead::start(scope, self.step..last, self.maker());
            for _ in 0..warm_up {
                self.one_step(feeds.take(self.step)?)?;
            }
            self.training.iter_mut().try_for_each(|loaded| loaded.program.watch(runs))?;
            let zero = Instant::now();
            for _ in 0..runs {
                self.one_step(feeds.take(self.step)?)?;
            }
            let mut times = Vec::new();
            for loaded in &mut self.training {
                times.extend(loaded.program.watched_since(zero)?);
            }
            let shape = self.prepare_step(feeds.take(self.step)?, None)?;
            let launches = self.training[shape].program.profile()?;
            // The first batches of a pass are made with the pass itself.
            let make = self.maker();
            let mut feeding = Vec::new();
            for step in self.step..self.step + runs.min(MOST_FEEDS) as u64 {
                let start = Instant::now();
                make(step)?;
                feeding.push(start.elapsed().as_secs_f64() * 1e3);
            }
            let (runs, feed_ms) = (Span::runs(times), median(feeding.into_iter()));
            Ok(Profile { device: engine.name(), launches, runs, feed_ms })
        })
    }

    /// Takes the next training step, for loops of one's own; its batch is made now. On a GPU this returns when the step
    /// is submitted.
    ///
    /// # Errors
    /// The data can't be read, or the device failed.
    pub fn train_step(&mut self) -> Result<()> {
        let feeds = self.maker()(self.step)?;
        self.one_step(feeds)
    }

    /// The members' losses of the last step; waits for it. None before the first.
    ///
    /// # Errors
    /// The device failed.
    pub fn last_losses(&self) -> Result<Option<MemberLosses>> {
        wait::here(self.last_losses_async())
    }

    /// The same in a browser. Elsewhere this thread waits.
    ///
    /// # Errors
    /// The device failed.
    pub async fn last_losses_async(&self) -> Result<Option<MemberLosses>> {
        match self.ring_later(LOSS, self.step.saturating_sub(1))? {
            Some(ring) => Ok(ring.wait_async().await?.pop()),
            None => Ok(None),
        }
    }

    /// One training step.
    pub(super) fn one_step(&mut self, feeds: StepFeeds) -> Result<()> {
        let shape = self.prepare_step(feeds, None)?;
        self.training[shape].program.run()
    }

    /// What makes the batches of a step (from 0). It has nothing of the trainer's state, so another thread can do it.
    pub(super) fn maker(&self) -> impl Fn(u64) -> Result<StepFeeds> + Clone + Send + use<'a, T> {
        let (task, order) = (self.task, self.order());
        move |step| {
            let batches = order.first_batch(step)..;
            let batches = batches.take(order.micro_batches as usize);
            let of_member = |seed| {
                let feeds = batches.clone().map(|batch| task.feed(Phase::Training, batch, seed));
                feeds.collect::<Result<Vec<Feed>>>()
            };
            seeds(order.seed, order.members).map(of_member).collect()
        }
    }

    fn order(&self) -> Order {
        Order {
            batches: self.task.batches_per_epoch(),
            steps: self.steps_per_epoch(),
            micro_batches: self.options.micro_batches as u64,
            repeats: self.options.overfit.is_some(),
            seed: self.options.seed,
            members: self.members,
        }
    }

    /// Steps of a pass over the data, after which states begin anew.
    pub fn steps_per_epoch(&self) -> u64 {
        let all = self.task.batches_per_epoch() / self.options.micro_batches as u64;
        let few = self.options.overfit.map(|batches| batches / self.options.micro_batches as u64);
        few.map_or(all, |steps| steps.min(all)).max(1)
    }

    /// Whether the states begin anew with the next step.
    pub(super) fn begins_anew(&self) -> bool {
        self.step.is_multiple_of(self.steps_per_epoch())
    }

    /// The first of the next step's batches.
    pub(super) fn next_feed(&self) -> Result<Feed> {
        let batch = self.order().first_batch(self.step);
        self.task.feed(Phase::Training, batch, self.options.seed)
    }

    /// Writes the inputs of the next step, with its learning rate or another, and counts it: which shape it has.
    pub(super) fn prepare_step(&mut self, feeds: StepFeeds, rate: Option<f32>) -> Result<usize> {
        if self.begins_anew() {
            zero_states(&self.store, self.recording())?;
        }
        let step = u32::try_from(self.step + 1)
            .map_err(|_| Error::invalid("more than 2^32 training steps"))?;
        let rate = rate.unwrap_or_else(|| self.rate(self.step + 1));
        let (update, count) = (&self.options.update, self.options.micro_batches);
        let shape = feeds.first().and_then(|own| own.first()).map_or(0, Feed::shape);
        let shape_count = self.training.len();
        let Some(Loaded { program, .. }) = self.training.get_mut(shape) else {
            return Err(Error::invalid(format!("a batch of shape {shape} of {shape_count}")));
        };
        let members = seeds(self.options.seed, self.members).zip(feeds).enumerate();
        for (member, (seed, own)) in members {
            for (number, feed) in own.into_iter().enumerate() {
                let suffix = micro_batch_name("", number, count);
                feed.write(&mut program.member(member)?.with_suffix(suffix))?;
            }
            let control = update.control(step, seed, rate, &self.state.averaging);
            program.member(member)?.set_control(control);
        }
        self.shapes[(self.step % RING as u64) as usize] = shape;
        self.step += 1;
        Ok(shape)
    }

    /// The learning rate of a step (from 1), as far as evaluations have it now.
    pub(super) fn rate(&self, step: u64) -> f32 {
        self.options.rate(step, &self.state.schedule)
    }

    /// An output that is a ring, of the steps (from 0) from `first` on: the members' values of each; none where the
    /// recordings have no such output. At most as many steps as the ring has entries.
    pub(super) fn ring(&self, name: &str, first: u64) -> Result<Option<Vec<MemberLosses>>> {
        self.ring_later(name, first)?.map(LaterRing::wait).transpose()
    }

    /// The same, to be waited for when more steps were submitted.
    pub(super) fn ring_later(&self, name: &str, first: u64) -> Result<Option<LaterRing>> {
        let mut ring = LaterRing { steps: Vec::new(), rings: BTreeMap::new() };
        for step in first..self.step {
            let at = (step % RING as u64) as usize;
            let shape = self.shapes[at];
            let Loaded { recording, program } = &self.training[shape];
            let Some(id) = recording.find(name) else { return Ok(None) };
            if let Entry::Vacant(entry) = ring.rings.entry(shape) {
                entry.insert(program.read_later(id)?);
            }
            ring.steps.push((shape, at));
        }
        Ok(Some(ring))
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use std::collections::BTreeSet;

    /// Batches that are no whole step at the end of a pass are trained with in the next.
    #[test]
    fn every_batch_is_trained_with() {
        let order = |batches: u64, micro_batches: u64, repeats| {
            let steps = (batches / micro_batches).max(1);
            Order { batches, steps, micro_batches, repeats, seed: 1, members: 1 }
        };
        for (batches, micro_batches) in [(7, 4), (29, 16), (8, 4), (5, 1), (9, 2)] {
            let order = order(batches, micro_batches, false);
            let passes = 0..2 * order.steps;
            let of = |step| order.first_batch(step)..order.first_batch(step) + micro_batches;
            let places: BTreeSet<u64> = passes.clone().flat_map(of).map(|b| b % batches).collect();
            assert_eq!(places.len() as u64, batches, "{batches} {micro_batches}");
            // None of another pass.
            assert!(passes.clone().all(|step| of(step).end <= (step / order.steps + 1) * batches));
        }
        let again = order(7, 4, true);
        assert!((0..5).all(|step| again.first_batch(step) == 0));
    }
}
