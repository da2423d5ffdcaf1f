//! A worker's life: it joins, takes part in jobs, helps with what is offered, and leaves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::super::sync::{Ordering, yield_now};
use super::super::wait::now;
use super::{Barrier, Job, OFFER, OFFERED, Offer, Team, WORKER_BITS, WORKERS, nanoseconds};
use crate::dispatch::FloatMode;
use crate::process::thread_time;

/// How long a worker stays awake without work.
const IDLE: Duration = Duration::from_micros(200);
/// And while a caller has the team: one that came too late for a job would otherwise be gone before the next,
/// call after call.
const IDLE_IN_CALL: Duration = Duration::from_millis(10);

/// How long a worker has had nothing to do.
struct Idle {
    since: Instant,
    /// The same, not counting the time that a caller had the team.
    free_since: Instant,
    looks: u32,
}

impl Idle {
    fn new() -> Self {
        Self { since: now(), free_since: now(), looks: 0 }
    }

    /// Waits for a moment; whether it was the last one.
    fn is_over(&mut self, taken: bool) -> bool {
        self.looks += 1;
        if cfg!(loom) {
            yield_now();
            return self.looks > 1;
        }
        std::hint::spin_loop();
        if !self.looks.is_multiple_of(64) {
            return false;
        }
        // Whoever else can use this processor goes first.
        yield_now();
        if taken {
            self.free_since = now();
            return self.since.elapsed() >= IDLE_IN_CALL;
        }
        self.free_since.elapsed() >= IDLE
    }
}

impl Team {
    /// The life of a worker: joins, helps, and leaves when there has been nothing to do for a while.
    pub(in super::super) fn take_part(&self) {
        // One operation joins and tells which job is the last that does not count on this worker: every later
        // one does.
        let before = self.word.fetch_add(1, Ordering::AcqRel);
        self.sleepers.wake();
        let me = (before & WORKERS) + 1;
        let mut seen = before >> WORKER_BITS;
        let mut helped = None;
        let mut idle = Idle::new();
        loop {
            let word = self.word.load(Ordering::Acquire);
            let open = self.open.load(Ordering::Acquire);
            if word >> WORKER_BITS != seen {
                seen = word >> WORKER_BITS;
                self.carry_out(me);
            } else if open & OFFERED != 0 && helped != Some(open / OFFER) {
                helped = self.help();
            } else {
                if idle.is_over(self.taken.load(Ordering::Relaxed)) && self.leave(seen, me) {
                    return;
                }
                continue;
            }
            idle = Idle::new();
        }
    }

    /// Only the worker with the highest number may leave, and only while no job has begun that counts on it.
    fn leave(&self, seen: usize, me: usize) -> bool {
        let last = seen << WORKER_BITS | me;
        let left = self.word.compare_exchange(last, last - 1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if left {
            self.expected.fetch_sub(1, Ordering::AcqRel);
        }
        left
    }

    /// A worker's share of the job that has begun.
    fn carry_out(&self, me: usize) {
        let threads = self.threads.load(Ordering::Relaxed);
        let job = self.work.load(Ordering::Relaxed).cast::<Job<'_>>();
        self.run_share(|| {
            // SAFETY: the job began after `me` had joined and counts on it, so the caller stays inside `run`,
            // where the job lives, until this worker has finished.
            unsafe { (*job)(me, threads, &Barrier::new(self, threads)) };
        });
        self.finished.fetch_add(1, Ordering::AcqRel);
        self.sleepers.wake();
    }

    /// Looks at what is offered; gives the offer's number where one stands.
    fn help(&self) -> Option<u64> {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        let stands = before & OFFERED != 0;
        if stands {
            let offer = self.work.load(Ordering::Relaxed).cast::<Offer<'_>>();
            let before = thread_time();
            self.run_share(|| {
                // SAFETY: this worker was counted while the offer stood, so the caller stays inside `share`,
                // where the work lives, until this worker is counted no longer.
                unsafe { (*offer)() };
            });
            let spent = nanoseconds(thread_time().saturating_sub(before));
            self.saved.fetch_add(spent, Ordering::Relaxed);
        }
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.sleepers.wake();
        stands.then_some(before / OFFER)
    }

    /// Runs a worker's share in the caller's floating-point mode, and keeps a panic from the pool.
    fn run_share(&self, share: impl FnOnce()) {
        let mode = FloatMode::from_bits(self.mode.load(Ordering::Relaxed));
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _restore = mode.enter();
            share();
        }));
        #[cfg(test)]
        self.helped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Err(payload) = outcome {
            // Dropping a payload can panic once more; leaking it cannot.
            std::mem::forget(payload);
            // Who calls this wakes those that sleep, next.
            self.panicked.store(true, Ordering::Release);
        }
    }
}
