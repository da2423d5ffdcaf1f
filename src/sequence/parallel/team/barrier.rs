//! Where the threads of a job wait for each other.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::super::sync::Ordering;
use super::super::wait::{SPIN, glance, now, spin};
use super::Team;
use crate::process::thread_time;

/// A wait in a job that is longer than a step of it is spent asleep; so is one that is longer than this.
const LONGEST_SPIN: Duration = Duration::from_millis(1);

/// Where the threads of a job meet, seen by one of them.
pub(in super::super::super) struct Barrier<'a> {
    pub(super) team: &'a Team,
    pub(super) threads: usize,
    pub(super) begun: Instant,
    waits: Cell<u32>,
    /// What long waits took together, and what of it was spent awake.
    waited: Cell<Duration>,
    awake: Cell<Duration>,
    /// How much of a processor this thread had had when it began.
    before: Duration,
}

impl<'a> Barrier<'a> {
    pub(super) fn new(team: &'a Team, threads: usize) -> Self {
        Self::from(team, threads, Duration::ZERO)
    }

    /// The caller's, which asks how much it has [`worked`](Self::worked).
    pub(super) fn of_caller(team: &'a Team, threads: usize) -> Self {
        Self::from(team, threads, thread_time())
    }

    fn from(team: &'a Team, threads: usize, before: Duration) -> Self {
        let (waits, waited, awake) = (Cell::new(0), Cell::default(), Cell::default());
        Self { team, threads, begun: now(), waits, waited, awake, before }
    }

    /// How much of a processor this thread has had, but for waiting.
    pub(super) fn worked(&self) -> Duration {
        thread_time().saturating_sub(self.before).saturating_sub(self.awake.get())
    }

    /// Waits until every thread has called this as often as this one. What they wrote before is visible
    /// after.
    pub(in super::super) fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let arrivals = &self.team.arrivals;
        let mine = arrivals.fetch_add(1, Ordering::AcqRel) + 1;
        let all = mine.next_multiple_of(self.threads);
        if mine == all {
            // The last one keeps nobody waiting any longer.
            self.changed();
        } else {
            self.wait_for(|| arrivals.load(Ordering::Acquire) >= all);
        }
    }

    /// Tells the others that what they [`wait_for`](Self::wait_for) may have come true.
    pub(in super::super::super) fn changed(&self) {
        if self.threads > 1 {
            self.team.sleepers.wake();
        }
    }

    /// Waits until other threads have made `done` true.
    pub(in super::super::super) fn wait_for(&self, done: impl Fn() -> bool) {
        self.wait_even_so(|| done() || self.team.panicked.load(Ordering::Acquire));
        assert!(!self.team.panicked.load(Ordering::Acquire), "another thread has panicked");
    }

    /// The same where a panic does not end the wait.
    pub(super) fn wait_even_so(&self, done: impl Fn() -> bool) {
        self.waits.set(self.waits.get() + 1);
        if glance(&done) {
            return;
        }
        let begun = now();
        // A large layer's threads differ by more: waiting for as long as a step takes is better than to
        // sleep.
        let step = (begun - self.begun).saturating_sub(self.waited.get()) / self.waits.get();
        let comes = spin(&done, step.clamp(SPIN, LONGEST_SPIN));
        self.awake.set(self.awake.get() + (now() - begun));
        if !comes {
            self.team.sleepers.sleep(done, None);
        }
        self.waited.set(self.waited.get() + (now() - begun));
    }
}
