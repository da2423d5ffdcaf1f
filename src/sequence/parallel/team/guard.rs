//! A caller's hold on its team: jobs for all who have joined, offers to whoever comes, and the way back to
//! one thread where something goes wrong.

use std::sync::Arc;
use std::time::Duration;

use super::super::sync::Ordering;
use super::super::wait::{now, spin};
use super::{Barrier, Crew, HELPERS, Job, OFFER, OFFERED, Offer, Team, WORKER_BITS, WORKERS};
use crate::dispatch::FloatMode;

/// How long a caller stays awake for a worker that it has woken.
const AWAKE: Duration = Duration::from_micros(200);
/// Calls of a team that follow each other so closely make a stream: what it costs to wake a worker comes
/// back.
const SOON: Duration = Duration::from_millis(1);

/// A caller's hold on its team.
pub(in super::super::super) struct TeamGuard {
    pub(super) team: Arc<Team>,
    pub(super) crew: Option<Arc<dyn Crew>>,
    /// Whether time was lost, so that the caller is alone for now.
    pub(super) was_lost: bool,
}

impl Drop for TeamGuard {
    fn drop(&mut self) {
        self.team.given_back.store(self.team.now(), Ordering::Relaxed);
        self.team.taken.store(false, Ordering::Release);
    }
}

impl TeamGuard {
    /// Whether the team was in use a moment ago.
    pub(in super::super) fn is_soon(&self) -> bool {
        let last = self.team.given_back.load(Ordering::Relaxed);
        last > 0 && u128::from(self.team.now().saturating_sub(last)) < SOON.as_nanos()
    }

    /// Workers that are awake, after a wait of up to `timeout` for the first.
    pub(in super::super::super) fn workers(&mut self, timeout: Duration) -> usize {
        let is_alone = self.is_alone();
        let is_here = || self.team.here() > 0;
        if !is_alone && !timeout.is_zero() && !spin(is_here, timeout.min(AWAKE)) {
            let rest = timeout.saturating_sub(AWAKE);
            if !rest.is_zero() {
                self.team.sleepers.sleep(is_here, Some(rest));
            }
        }
        if is_alone { 0 } else { self.team.here() }
    }

    /// Sums up what `work` of one processor took with several.
    fn settle(&mut self, work: Duration, took: Duration) {
        self.was_lost |= self.team.balance.settle(work, took);
    }

    /// Whether the caller is better off alone; when that is over, workers are asked once more.
    fn is_alone(&mut self) -> bool {
        if self.was_lost && !self.team.balance.is_alone() {
            self.was_lost = false;
            if let Some(crew) = &self.crew {
                crew.send();
            }
        }
        self.was_lost
    }

    /// Carries out `job` with everybody who has joined; of so many threads, all but the caller do `others`
    /// times the caller's work.
    pub(in super::super::super) fn run(&mut self, others: impl Fn(usize) -> f64, job: Job<'_>) {
        if self.is_alone() || self.team.here() == 0 {
            return job(0, 1, &Barrier::new(&self.team, 1));
        }
        let team = &*Arc::clone(&self.team);
        let threads = team.begin_job(&job);
        let barrier = Barrier::of_caller(team, threads);
        let mut ending = Ending { barrier: &barrier, completed: false };
        job(0, threads, &barrier);
        ending.completed = true;
        drop(ending);
        let took = now() - barrier.begun;
        let all = barrier.worked().as_secs_f64() * (1.0 + others(threads));
        self.settle(Duration::try_from_secs_f64(all).unwrap_or(took), took);
        assert!(!team.panicked.load(Ordering::Acquire), "another thread's share panicked");
    }

    /// Calls `claim` here and in whoever helps; it claims pieces of work until none is left, and all are done
    /// when this returns.
    pub(in super::super) fn share(&mut self, claim: Offer<'_>) {
        if self.is_alone() {
            return claim();
        }
        let team = &*Arc::clone(&self.team);
        team.prepare(std::ptr::from_ref(&claim).cast());
        // The offer's number goes up by one.
        team.open.fetch_add(OFFER | OFFERED, Ordering::AcqRel);
        let barrier = Barrier::of_caller(team, 2);
        let closing = Closing { barrier: &barrier };
        claim();
        drop(closing);
        // Pieces differ, so what helpers did is measured, too.
        let helped = Duration::from_nanos(team.saved.load(Ordering::Relaxed));
        if !helped.is_zero() {
            self.settle(barrier.worked() + helped, now() - barrier.begun);
        }
        assert!(!team.panicked.load(Ordering::Acquire), "another thread's share panicked");
    }
}

/// Workers must have finished before the job's memory goes, even where the caller's share panics.
struct Ending<'a> {
    barrier: &'a Barrier<'a>,
    completed: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Barrier { team, threads, .. } = *self.barrier;
        if !self.completed {
            team.panicked.store(true, Ordering::Release);
            team.sleepers.wake();
        }
        self.barrier.wait_even_so(|| team.finished.load(Ordering::Acquire) == threads - 1);
    }
}

/// Takes the offer back even where the work panics: workers must not see it after its end.
struct Closing<'a> {
    barrier: &'a Barrier<'a>,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let open = &self.barrier.team.open;
        open.fetch_and(!OFFERED, Ordering::AcqRel);
        self.barrier.wait_even_so(|| open.load(Ordering::Acquire) & HELPERS == 0);
    }
}

impl Team {
    /// Gets ready for work at this address, which `word` or `open` will publish.
    fn prepare(&self, work: *const ()) {
        self.panicked.store(false, Ordering::Relaxed);
        self.saved.store(0, Ordering::Relaxed);
        self.mode.store(FloatMode::current().bits(), Ordering::Relaxed);
        self.work.store(work.cast_mut(), Ordering::Relaxed);
    }

    /// Begins a job for everybody who has joined; gives the number of threads, the caller among them.
    fn begin_job(&self, job: &Job<'_>) -> usize {
        self.prepare(std::ptr::from_ref(job).cast());
        self.finished.store(0, Ordering::Relaxed);
        self.arrivals.store(0, Ordering::Relaxed);
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let threads = 1 + (word & WORKERS);
            self.threads.store(threads, Ordering::Relaxed);
            // The job's number goes up by one; the workers stay.
            let next = word.wrapping_add(1 << WORKER_BITS);
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return threads,
                Err(other) => word = other,
            }
        }
    }
}
