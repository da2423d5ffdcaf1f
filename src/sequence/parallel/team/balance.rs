//! Whether several threads gain anything here: what callers have saved and lost lately.

use std::time::{Duration, Instant};

use super::super::sync::{AtomicU64, Ordering};
use super::super::wait::now;
use super::nanoseconds;

/// How many times longer than what was lost a caller goes on alone.
const ALONE_FOR: u32 = 12;
/// What was saved counts for waits up to this: a few turns of another program on the same processor.
const MOST_CREDIT: Duration = Duration::from_millis(20);
/// At least so long, and at most.
const ALONE_AT_LEAST: Duration = Duration::from_millis(5);
const ALONE_AT_MOST: Duration = Duration::from_millis(500);
/// A sum so far below zero is within the clocks' error.
const LEAST_LOSS: Duration = Duration::from_micros(100);

/// What threads have saved callers, less what they have cost them.
#[derive(Debug)]
pub(super) struct Balance {
    /// What the times below count from.
    made: Instant,
    /// Nanoseconds until when callers are alone, and how long they were the last time.
    alone_until: AtomicU64,
    alone_for: AtomicU64,
    /// Nanoseconds that workers have saved callers lately, and [`LEAST_LOSS`].
    credit: AtomicU64,
}

impl Balance {
    pub(super) fn new() -> Self {
        Self {
            made: now(),
            alone_until: AtomicU64::new(0),
            alone_for: AtomicU64::new(0),
            credit: AtomicU64::new(nanoseconds(LEAST_LOSS)),
        }
    }

    /// Whether callers are better off alone.
    pub(super) fn is_alone(&self) -> bool {
        let until = self.alone_until.load(Ordering::Relaxed);
        until > 0 && nanoseconds(now() - self.made) < until
    }

    /// Sums up what `work` of one processor took with several; whether time was lost, so that callers are
    /// alone for now.
    pub(super) fn settle(&self, work: Duration, took: Duration) -> bool {
        // Counted from the lowest sum that is allowed, so that it is never negative.
        let before = Duration::from_nanos(self.credit.load(Ordering::Relaxed)).saturating_add(work);
        let mut left = before.saturating_sub(took).min(MOST_CREDIT);
        let lost = took > before;
        if lost {
            self.stay_alone(LEAST_LOSS + (took - before));
            left = LEAST_LOSS;
        } else if left == MOST_CREDIT {
            self.alone_for.store(0, Ordering::Relaxed);
        }
        self.credit.store(nanoseconds(left), Ordering::Relaxed);
        lost
    }

    /// Leaves callers alone after a loss.
    fn stay_alone(&self, lost: Duration) {
        let before = Duration::from_nanos(self.alone_for.load(Ordering::Relaxed));
        let until = Duration::from_nanos(self.alone_until.load(Ordering::Relaxed));
        let now = now() - self.made;
        // Soon after the last time: something stands in the way for longer.
        let again =
            if now.saturating_sub(until) < before { before.saturating_mul(2) } else { Duration::ZERO };
        let longest = ALONE_AT_MOST.max(lost.saturating_mul(ALONE_FOR));
        let alone = lost.saturating_mul(ALONE_FOR).max(again).max(ALONE_AT_LEAST).min(longest);
        self.alone_for.store(nanoseconds(alone), Ordering::Relaxed);
        self.alone_until.store(nanoseconds(now + alone), Ordering::Relaxed);
    }

    /// Has saved so much.
    #[cfg(all(test, not(loom)))]
    pub(super) fn save(&self, saved: Duration) {
        self.credit.store(nanoseconds(saved), Ordering::Relaxed);
    }
}
