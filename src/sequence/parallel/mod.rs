//! Threads.
//!
//! Rows are independent, so a batch is cut into runs of rows and each run walks the whole network by itself:
//! one fork and one join a call, and the bits of a row cannot depend on the cut. Where rows are few and a
//! layer is large, threads share its columns instead; see [`team`].

mod columns;
mod pool;
mod sync;
mod team;
mod wait;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) use columns::{evenly, multiply, steps, steps_per_job};
use pool::Workers;
pub(super) use team::TeamGuard;
use team::{Crew, Team};

use crate::error::{Error, Result};
use crate::process::{generation, watch_forks};

/// Multiply-adds below which a second thread costs more than it brings: about 20 us of one core's work, a few
/// times what waking a thread takes.
const MACS_PER_THREAD: usize = 1 << 20;

/// Multiply-adds from which a call wakes threads that sleep, even where no other came just before: about a
/// millisecond.
const MACS_TO_WAKE: usize = 1 << 26;
/// Multiply-adds of a call for each nanosecond that it would wait for a thread that it woke: a fortieth of
/// its time.
const MACS_PER_NANOSECOND_OF_WAITING: usize = 3200;
/// And no longer than this: what has not come by then is kept from coming.
const LONGEST_WAKE: Duration = Duration::from_millis(2);

/// How many threads a model may use, and the pool they come from; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(Option<Arc<Pool>>);

/// Threads of one process.
#[derive(Debug)]
struct Pool {
    /// None after the last use.
    pool: Option<Workers>,
    team: Arc<Team>,
    /// Of the process that has the threads. A forked child has none of them, and leaves the pool alone: what
    /// its threads had locked stays locked.
    generation: u64,
}

impl Pool {
    fn new(workers: usize) -> Result<Self> {
        watch_forks();
        let pool = Workers::new(workers)?;
        Ok(Self { pool: Some(pool), team: Arc::new(Team::new()), generation: generation() })
    }

    fn is_here(&self) -> bool {
        self.generation == generation()
    }

    fn workers(&self) -> usize {
        self.pool.as_ref().map_or(0, Workers::count)
    }
}

impl Crew for Pool {
    fn send(&self) {
        let Some(pool) = &self.pool else { return };
        while self.team.wants(pool.count()) {
            let worker = Arc::clone(&self.team);
            pool.spawn(move || worker.take_part());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.pool.take());
        }
    }
}

impl Threads {
    /// The caller and `threads - 1` others, or fewer: as many as there are processors that this process may
    /// use. 0 means one for each of these. One thread needs no pool.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        const MOST: usize = 1024;
        if threads > MOST {
            return Err(Error::InvalidArgument(format!("threads must be at most {MOST}, got {threads}")));
        }
        // On Linux it knows the affinity mask, which new threads inherit, and a container's quota.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::exactly(if threads == 0 { processors } else { threads.min(processors) })
    }

    /// So many, whatever the machine has.
    pub(crate) fn exactly(threads: usize) -> Result<Self> {
        match threads {
            0 | 1 => Ok(Self(None)),
            _ => Pool::new(threads - 1).map(|pool| Self(Some(Arc::new(pool)))),
        }
    }

    /// The pool, where its threads are this process's.
    fn pool(&self) -> Option<&Arc<Pool>> {
        self.0.as_ref().filter(|pool| pool.is_here())
    }

    /// Threads, the caller included; a forked child has its own alone.
    pub(crate) fn count(&self) -> usize {
        self.pool().map_or(1, |pool| pool.workers() + 1)
    }

    /// How often threads other than a caller's have done something.
    #[cfg(test)]
    pub(crate) fn helped(&self) -> usize {
        self.pool().map_or(0, |pool| pool.team.helped.load(Ordering::Relaxed))
    }

    /// Into how many parts to cut `rows` rows that cost `macs` multiply-adds together.
    pub(super) fn parts(&self, rows: usize, macs: usize) -> usize {
        self.count().min(rows).min(macs / MACS_PER_THREAD).max(1)
    }

    /// The team of all threads, for one caller at a time; none where there is one thread, another caller has
    /// it, or threads have kept calls waiting. `macs` multiply-adds say whether threads that sleep are worth
    /// waking.
    pub(super) fn team(&self, macs: usize) -> Option<TeamGuard> {
        let pool = self.pool()?;
        let held = pool.team.take(Some(Arc::clone(pool) as Arc<dyn Crew>))?;
        if macs >= MACS_TO_WAKE || held.is_soon() {
            pool.send();
        }
        Some(held)
    }

    /// Runs `run` on every part, in whatever threads help; `macs` as for [`team`](Self::team).
    pub(super) fn for_each<T: Send>(&self, macs: usize, parts: &mut [T], run: impl Fn(&mut T) + Sync) {
        match (parts.len() > 1).then(|| self.team(macs)).flatten() {
            Some(mut team) => share_out(&mut team, parts, run),
            None => parts.iter_mut().for_each(run),
        }
    }
}

/// How long a call of `macs` multiply-adds may wait for a thread that it woke.
pub(super) fn wake_timeout(macs: usize) -> Duration {
    let nanoseconds = if macs < MACS_TO_WAKE { 0 } else { macs / MACS_PER_NANOSECOND_OF_WAITING };
    Duration::from_nanos(nanoseconds as u64).min(LONGEST_WAKE)
}

/// Runs `run` on every part, here and in the workers that help.
pub(super) fn share_out<T: Send>(team: &mut TeamGuard, parts: &mut [T], run: impl Fn(&mut T) + Sync) {
    let next = AtomicUsize::new(0);
    let parts: Vec<Mutex<&mut T>> = parts.iter_mut().map(Mutex::new).collect();
    team.share(&|| {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Each part is claimed once, so its lock is free.
            run(&mut part.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Instant;

    /// The team, when nothing keeps callers alone any more.
    fn team(threads: &Threads, macs: usize) -> TeamGuard {
        let begun = Instant::now();
        loop {
            if let Some(team) = threads.team(macs) {
                return team;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the team stays taken");
        }
    }

    #[test]
    fn short_calls_wake_workers_only_where_they_follow_each_other() {
        let threads = Threads::exactly(2).expect("threads can be started");
        let workers = |macs, timeout| team(&threads, macs).workers(Duration::from_millis(timeout));
        for _ in 0..3 {
            assert_eq!(workers(MACS_TO_WAKE - 1, 20), 0, "a short call alone woke one");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!((0..1000).any(|_| workers(1, 0) + workers(1, 20) > 0), "a stream of calls woke none");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(workers(MACS_TO_WAKE, 10_000), 1, "a long call woke none");
        assert_eq!(wake_timeout(MACS_TO_WAKE - 1), Duration::ZERO);
        assert_eq!(wake_timeout(MACS_TO_WAKE), Duration::from_nanos(20_971));
        assert_eq!(wake_timeout(usize::MAX), LONGEST_WAKE);
    }

    /// Whoever ran it: now a worker's panic aborts the process.
    #[test]
    fn a_panic_in_a_part_comes_back_to_the_caller() {
        let threads = Threads::exactly(3).expect("threads can be started");
        let caller = std::thread::current().id();
        for _ in 0..1000 {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.for_each(usize::MAX, &mut [0; 3], |_| {
                    std::thread::sleep(std::time::Duration::from_micros(100));
                    assert_eq!(std::thread::current().id(), caller, "a worker's");
                });
            }));
        }
    }

    #[test]
    fn no_more_threads_than_processors() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for threads in [0, 1000] {
            assert_eq!(Threads::new(threads).expect("threads can be started").count(), processors);
        }
    }
}
