//! How threads wait for each other: awake for microseconds, then asleep.
//!
//! What is waited for is a condition on atomic variables. Whoever may have made one true calls
//! [`Sleepers::wake`], which costs a fence and a load as long as nobody sleeps.

use std::time::{Duration, Instant};

use super::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, fence};

/// How long a thread that waits in the middle of a job stays awake: a few times what the work between two
/// waits takes, and about what it costs to be woken.
pub(super) const SPIN: Duration = Duration::from_micros(30);
/// Looks between two looks at the clock: some microseconds.
const LOOKS: usize = 64;

/// The time; the model checker's stands still, as it must not decide anything there.
pub(super) fn now() -> Instant {
    #[cfg(loom)]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now)
    }
    #[cfg(not(loom))]
    Instant::now()
}

/// Looks for some microseconds whether it is `done`: most waits end before the clock is asked for the first
/// time.
pub(super) fn glance(done: impl Fn() -> bool) -> bool {
    if cfg!(loom) {
        return done();
    }
    done()
        || (0..LOOKS).any(|_| {
            std::hint::spin_loop();
            done()
        })
}

/// Stays awake until `done`, for no longer than `limit`; gives what `done` said last.
pub(super) fn spin(done: impl Fn() -> bool, limit: Duration) -> bool {
    let begun = now();
    loop {
        if glance(&done) {
            return true;
        }
        if cfg!(loom) || begun.elapsed() >= limit {
            return false;
        }
    }
}

/// Threads that sleep until a condition holds.
#[derive(Debug)]
pub(super) struct Sleepers {
    count: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Sleepers {
    pub(super) fn new() -> Self {
        Self { count: AtomicUsize::new(0), lock: Mutex::new(()), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Wakes all, so that they look at their conditions again. To be called after a change.
    pub(super) fn wake(&self) {
        // Either this thread sees that somebody is about to sleep, or that one sees the change: see `sleep`.
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) > 0 {
            // Who has looked already, and found the change missing, holds the lock until it sleeps.
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    /// Sleeps until `done`, or until `limit` has passed where there is one.
    pub(super) fn sleep(&self, done: impl Fn() -> bool, limit: Option<Duration>) {
        let mut guard = self.lock();
        self.count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let begun = now();
        while !done() {
            let Some(limit) = limit else {
                guard = self.changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                continue;
            };
            let Some(rest) = limit.checked_sub(now() - begun).filter(|rest| !rest.is_zero()) else { break };
            guard = match self.changed.wait_timeout(guard, rest) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
