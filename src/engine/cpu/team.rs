//! Threads that stay at work together over all steps of a layer.

use super::Context;
use crate::clock::Instant;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Duration;

/// Rounds that a member waits at work, and then while it lets others have its core, before it goes to sleep: where the
/// one that it waits for has no core, it has this one then, instead of its turn on a core that others keep busy.
const ROUNDS_AWAKE: usize = 1 << 11;
const YIELDS: usize = 1 << 3;

/// The part of the time of a run that its members may lose waiting for each other; and how many times as long as a run
/// that lost more nobody shares units afterwards.
const LOSS: u32 = 4;
const PAUSE: u32 = 16;

/// Whether threads find cores at once, as those who wait for each other at every step need it.
#[derive(Default)]
pub struct Calm(Mutex<Option<Instant>>);

impl Calm {
    /// As far as is known.
    pub fn holds(&self) -> bool {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| Instant::now() >= until)
    }

    /// A run took so long, of which its members lost so much.
    pub fn note(&self, took: Duration, lost: Duration) {
        if lost * LOSS > took {
            let until = Instant::now().checked_add(took * PAUSE);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
    }
}

/// The engine's threads, all to oneself; a single one where another program has them.
pub struct ThreadTeam<'a> {
    context: &'a Context,
    size: usize,
    _taken: Option<MutexGuard<'a, ()>>,
}

impl<'a> ThreadTeam<'a> {
    /// A team of so many members at most. Two programs must not gather the same threads at once: each would wait for
    /// what the other has.
    pub fn new(context: &'a Context, most: usize) -> Self {
        let alone = ThreadTeam { context, size: 1, _taken: None };
        if most < 2 || context.threads < 2 {
            return alone;
        }
        let taken = match context.team.try_lock() {
            Ok(taken) => taken,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return alone,
        };
        ThreadTeam { size: most.min(context.threads), _taken: Some(taken), ..alone }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Its members may wait for each other at every step.
    pub fn may_share(&self) -> bool {
        self.size < 2 || self.context.calm.holds()
    }

    /// Runs the members of some exchanges, and notes how long they waited for each other.
    pub fn run_sharing<M: Send>(
        &self,
        exchanges: &[Exchange],
        members: impl ExactSizeIterator<Item = M>,
        work: impl Fn(M) + Sync,
    ) {
        if exchanges.iter().all(|exchange| exchange.members() < 2) {
            return self.run(members, work);
        }
        let start = Instant::now();
        self.run(members, work);
        let lost = exchanges.iter().map(Exchange::lost).max().unwrap_or_default();
        self.context.calm.note(start.elapsed(), lost);
    }

    /// Runs each member's part, all at the same time; no more members than the team's size.
    pub fn run<M: Send>(&self, members: impl ExactSizeIterator<Item = M>, work: impl Fn(M) + Sync) {
        let Some(pool) = self.context.pool.as_ref().filter(|_| members.len() > 1) else {
            return members.for_each(work);
        };
        let parts: Vec<Mutex<Option<M>>> = members.map(|member| Mutex::new(Some(member))).collect();
        pool.broadcast(|thread| {
            let part = parts.get(thread.index());
            let part =
                part.and_then(|part| part.lock().unwrap_or_else(PoisonError::into_inner).take());
            part.into_iter().for_each(&work);
        });
    }
}

/// Members that make the steps of the same rows, each for its own units: what one computes all others hear.
pub struct Exchange {
    /// Of every other step, what each member published.
    parts: [Vec<RwLock<Vec<f32>>>; 2],
    arrived: AtomicUsize,
    failed: AtomicBool,
    /// Members that sleep until they are woken.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    /// Nanoseconds that members waited longer than they spin.
    lost: AtomicU64,
}

impl Exchange {
    pub fn new(members: usize) -> Self {
        // Who is alone tells nobody.
        let several = if members > 1 { members } else { 0 };
        let parts = || (0..several).map(|_| RwLock::default()).collect();
        Exchange {
            parts: [parts(), parts()],
            arrived: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            lost: AtomicU64::new(0),
        }
    }

    pub fn members(&self) -> usize {
        self.parts[0].len()
    }

    /// Leaves what `member` made of step number `step`, and waits for all others.
    pub fn publish(&self, member: usize, step: usize, fill: impl FnOnce(&mut Vec<f32>)) {
        let part = &self.parts[step % 2][member];
        fill(&mut part.write().unwrap_or_else(PoisonError::into_inner));
        self.arrived.fetch_add(1, Ordering::SeqCst);
        self.ring();
        let all = (step + 1) * self.members();
        for _ in 0..ROUNDS_AWAKE {
            if self.has_come(all) {
                return;
            }
            std::hint::spin_loop();
        }
        let late = Instant::now();
        self.sleep(all);
        let lost = u64::try_from(late.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// Waits for so many without a core.
    fn sleep(&self, all: usize) {
        for _ in 0..YIELDS {
            if self.has_come(all) {
                return;
            }
            std::thread::yield_now();
        }
        // Whoever comes later sees that someone sleeps, or had come before the last look: both are in one order.
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while !self.has_come(all) {
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }

    /// How long members waited in all, but for waits that are as short as they should be.
    pub fn lost(&self) -> Duration {
        Duration::from_nanos(self.lost.load(Ordering::Relaxed))
    }

    /// Whether so many have arrived in all.
    fn has_come(&self, all: usize) -> bool {
        let failed = self.failed.load(Ordering::SeqCst);
        assert!(!failed, "another thread of the team failed");
        self.arrived.load(Ordering::SeqCst) >= all
    }

    /// Wakes who sleeps.
    fn ring(&self) {
        if self.asleep.load(Ordering::SeqCst) > 0 {
            drop(self.bed.lock());
            self.bell.notify_all();
        }
    }

    /// What another member published at that step: to be read before one publishes the next but one.
    pub fn part(&self, member: usize, step: usize) -> RwLockReadGuard<'_, Vec<f32>> {
        self.parts[step % 2][member].read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while at work: who panics takes the others along, as they would wait for ever.
    pub fn attend(&self) -> Attendance<'_> {
        Attendance(self)
    }
}

pub struct Attendance<'a>(&'a Exchange);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
            self.0.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(threads: usize) -> Context {
        Context::new(threads).unwrap()
    }

    /// Each member's number of a step comes from all numbers of the step before.
    #[test]
    fn members_hear_what_all_made() {
        let (context, members, steps) = (context(3), 3, 200);
        let exchange = Exchange::new(members);
        let team = ThreadTeam::new(&context, 8);
        assert_eq!(team.size(), 3);
        let results = Mutex::new(Vec::new());
        team.run(0..members, |member| {
            let mut value = member as f32;
            for step in 0..steps {
                exchange.publish(member, step, |part| *part = vec![value]);
                let heard = (0..members).map(|other| exchange.part(other, step)[0]);
                value = (heard.sum::<f32>() + member as f32) % 97.0;
            }
            results.lock().unwrap().push((member, value));
        });
        let mut want = [0.0, 1.0, 2.0];
        for _ in 0..steps {
            let sum: f32 = want.iter().sum();
            want = [0, 1, 2].map(|member| (sum + member as f32) % 97.0);
        }
        let mut got = results.into_inner().unwrap();
        got.sort_by_key(|(member, _)| *member);
        assert_eq!(got.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), want);
    }

    #[test]
    fn who_finds_the_threads_taken_works_alone() {
        let context = context(2);
        let first = ThreadTeam::new(&context, 2);
        assert_eq!((first.size(), ThreadTeam::new(&context, 2).size()), (2, 1));
        drop(first);
        assert_eq!(ThreadTeam::new(&context, 2).size(), 2);
        assert_eq!(ThreadTeam::new(&context, 1).size(), 1);
    }

    /// Whoever waits long sleeps and is woken; what was lost counts, and units are not shared for a while.
    #[test]
    fn who_waits_long_shares_no_more_for_a_while() {
        let context = context(2);
        let exchanges = [Exchange::new(2)];
        let team = ThreadTeam::new(&context, 2);
        assert!(team.may_share());
        let slow = Duration::from_millis(20);
        team.run_sharing(&exchanges, 0..2, |member| {
            for step in 0..3 {
                if step % 2 == member {
                    std::thread::sleep(slow);
                }
                exchanges[0].publish(member, step, |part| part.clear());
            }
        });
        assert!(exchanges[0].lost() > slow);
        assert!(!team.may_share());
        let calm = Calm::default();
        calm.note(slow, slow / 5);
        assert!(calm.holds());
        calm.note(Duration::ZERO, slow);
        assert!(calm.holds(), "the pause is over");
    }

    #[test]
    fn who_fails_takes_the_others_along() {
        let context = context(2);
        let exchange = Exchange::new(2);
        let team = ThreadTeam::new(&context, 2);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.run(0..2, |member| {
                let _attends = exchange.attend();
                assert!(member == 0, "on purpose");
                exchange.publish(member, 0, |_| {});
            });
        }));
        assert!(result.is_err());
    }
}
