//! Threads that stay at work together over all steps of a layer.

use super::Context;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};

/// Rounds that a member waits at work before it lets others have its core.
const SPINS: usize = 1 << 12;

/// The engine's threads, all to oneself; a single one where another program has them.
pub struct Team<'a> {
    context: &'a Context,
    size: usize,
    _taken: Option<MutexGuard<'a, ()>>,
}

impl<'a> Team<'a> {
    /// A team of so many members at most. Two programs must not gather the same threads at once: each would wait for
    /// what the other has.
    pub fn new(context: &'a Context, most: usize) -> Self {
        let alone = Team { context, size: 1, _taken: None };
        if most < 2 || context.threads < 2 {
            return alone;
        }
        let taken = match context.team.try_lock() {
            Ok(taken) => taken,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return alone,
        };
        Team { size: most.min(context.threads), _taken: Some(taken), ..alone }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Runs each member's part, all at the same time; no more members than the team's size.
    pub fn run<M: Send>(&self, members: impl ExactSizeIterator<Item = M>, work: impl Fn(M) + Sync) {
        if members.len() < 2 {
            return members.for_each(work);
        }
        let parts: Vec<Mutex<Option<M>>> = members.map(|member| Mutex::new(Some(member))).collect();
        self.context.pool.broadcast(|thread| {
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
        }
    }

    pub fn members(&self) -> usize {
        self.parts[0].len()
    }

    /// Leaves what `member` made of step number `step`, and waits for all others.
    pub fn publish(&self, member: usize, step: usize, fill: impl FnOnce(&mut Vec<f32>)) {
        let part = &self.parts[step % 2][member];
        fill(&mut part.write().unwrap_or_else(PoisonError::into_inner));
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (step + 1) * self.members();
        let mut rounds = 0usize;
        while self.arrived.load(Ordering::Acquire) < all {
            assert!(!self.failed.load(Ordering::Relaxed), "another thread of the team failed");
            rounds += 1;
            if rounds < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
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
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(threads: usize) -> Context {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        Context { threads, pool, team: Mutex::new(()) }
    }

    /// Each member's number of a step comes from all numbers of the step before.
    #[test]
    fn members_hear_what_all_made() {
        let (context, members, steps) = (context(3), 3, 200);
        let exchange = Exchange::new(members);
        let team = Team::new(&context, 8);
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
        let first = Team::new(&context, 2);
        assert_eq!((first.size(), Team::new(&context, 2).size()), (2, 1));
        drop(first);
        assert_eq!(Team::new(&context, 2).size(), 2);
        assert_eq!(Team::new(&context, 1).size(), 1);
    }

    #[test]
    fn who_fails_takes_the_others_along() {
        let context = context(2);
        let exchange = Exchange::new(2);
        let team = Team::new(&context, 2);
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
