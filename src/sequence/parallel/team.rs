//! Threads that work on one call together: rows shared out, or columns, step by step.
//!
//! Rows are independent: threads claim runs of rows until none is left. Where rows are too few and the
//! recurrent kernel is larger than a core's cache, each thread takes some panels of the kernel, whose weights
//! then stay in its own second-level cache, and all threads meet at a barrier after every step.
//!
//! # No thread waits for one that has not started
//! A task that a busy pool has not started yet cannot be counted on: two callers on one pool would wait for
//! each other's forever. So a worker *joins* when its task begins to run. A job with barriers is shared among
//! those that have joined when it begins; runs of rows may be claimed by whoever joins later, too. One caller
//! has the team at a time; another that finds it taken works alone.
//!
//! # No wait is long, and none is awake for long
//! Waking a sleeping thread takes longer than many a call: some ten microseconds of the caller's, and up to
//! milliseconds until it runs. So a worker without work stays awake for a while before it goes back to the
//! pool, and a stream of short calls finds it there. Short calls wake workers only where they follow each
//! other closely: else each would pay for a worker that comes when the call is over. Who waits for
//! another thread stays awake for microseconds, and then sleeps.
//!
//! # A worker that cannot run
//! The processor that a thread needs may be somebody else's: another program's, or the caller's own. Then two
//! threads take longer than one. Each job is measured: how long it took, and how much of a processor its work
//! took, which is what one thread would take that has a processor to itself. The differences are summed up.
//! What was saved lately pays for a delay now and then, which a machine has where nobody else works, too.
//! Where the sum falls below zero the caller goes on alone: so many times longer than the loss that it does
//! not matter, and longer still where the next attempt fails, too.
//!
//! # Floating-point modes
//! A thread computes in the caller's mode, and has its own back afterwards: a result must not depend on who
//! computes it.
//!
//! # Panics
//! A panic in a thread is a bug. It must not leave the others waiting, nor reach the pool, which would abort:
//! it is kept, whoever waits stops waiting, and the caller goes on panicking when nobody looks at its work
//! any more.

// By path, since the models under `tests/models` name this file by its path too.
#[path = "team/balance.rs"]
mod balance;
#[path = "team/barrier.rs"]
mod barrier;
#[path = "team/guard.rs"]
mod guard;
#[cfg(all(test, not(loom)))]
#[path = "team/tests.rs"]
mod tests;
#[path = "team/worker.rs"]
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use super::wait::{Sleepers, now};
use balance::Balance;
pub(in super::super) use barrier::Barrier;
pub(in super::super) use guard::TeamGuard;

/// `word` is the number of the last job with barriers, shifted, and the number of workers.
const WORKER_BITS: u32 = 16;
const WORKERS: usize = (1 << WORKER_BITS) - 1;

/// `open` is the number of the last offer, shifted; whether it still stands; and the number of workers that
/// look at it.
const OFFERED: u64 = 1 << 16;
const OFFER: u64 = 1 << 17;
const HELPERS: u64 = OFFERED - 1;

/// What a job's threads carry out: called with the thread's number, the number of threads, and where they
/// meet.
type Job<'a> = &'a (dyn Fn(usize, usize, &Barrier<'_>) + Sync);
/// What anybody may help with: claims work until none is left.
type Offer<'a> = &'a (dyn Fn() + Sync);

/// Sends workers to a team.
pub(super) trait Crew: Send + Sync {
    fn send(&self);
}

/// A caller and the workers that have joined it.
#[derive(Debug)]
pub(super) struct Team {
    made: Instant,
    /// Nanoseconds from then until a caller gave the team back the last time; 0 before the first.
    given_back: AtomicU64,
    balance: Balance,
    /// Whether a caller has the team.
    taken: AtomicBool,
    /// Workers and jobs in one word, so that joining, leaving and beginning a job exclude each other.
    word: AtomicUsize,
    /// Workers that have joined or whose task waits in the pool.
    expected: AtomicUsize,
    /// The address of the current [`Job`] or [`Offer`] reference: valid from the change of `word` until all
    /// threads have finished, or from the change of `open` until nobody looks at it.
    work: AtomicPtr<()>,
    /// The caller's floating-point mode.
    mode: AtomicU64,
    /// Threads of the current job.
    threads: AtomicUsize,
    /// Workers that have finished the current job.
    finished: AtomicUsize,
    /// Arrivals at the current job's barriers.
    arrivals: AtomicUsize,
    /// Offers and who looks at them in one word, so that looking and taking back exclude each other.
    open: AtomicU64,
    /// Nanoseconds of a processor that helpers have spent on the current offer.
    saved: AtomicU64,
    /// Whether a thread of the current job, or a helper, has panicked.
    panicked: AtomicBool,
    sleepers: Sleepers,
    /// How often a worker has carried out a job or looked for offered work.
    #[cfg(test)]
    pub(super) helped: std::sync::atomic::AtomicUsize,
}

impl Team {
    pub(super) fn new() -> Self {
        Self {
            made: now(),
            given_back: AtomicU64::new(0),
            balance: Balance::new(),
            taken: AtomicBool::new(false),
            word: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            mode: AtomicU64::new(0),
            threads: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            arrivals: AtomicUsize::new(0),
            open: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            panicked: AtomicBool::new(false),
            sleepers: Sleepers::new(),
            #[cfg(test)]
            helped: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// The team, unless another caller has it or a caller is better off alone; `crew` sends workers when that
    /// has changed.
    pub(super) fn take(self: &Arc<Self>, crew: Option<Arc<dyn Crew>>) -> Option<TeamGuard> {
        if self.balance.is_alone() || self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(TeamGuard { team: Arc::clone(self), crew, was_lost: false })
    }

    /// Nanoseconds since the team was made.
    fn now(&self) -> u64 {
        nanoseconds(now() - self.made)
    }

    /// Whether one more worker should be asked to [`take_part`](Self::take_part); counts it as expected if
    /// so.
    pub(super) fn wants(&self, workers: usize) -> bool {
        let more = |expected| (expected < workers).then_some(expected + 1);
        self.expected.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Workers that have joined.
    fn here(&self) -> usize {
        self.word.load(Ordering::Acquire) & WORKERS
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
