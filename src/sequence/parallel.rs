//! Threads: the only user of rayon.
//!
//! Rows are independent, so a batch is cut into runs of rows and each run walks the whole network by itself: one fork
//! and one join a call, and the bits of a row cannot depend on the cut. Where rows are few and a layer is large, threads
//! share its columns instead; see [`team`](super::team).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::team::{Held, Team};
use crate::error::{Error, Result};

/// Multiply-adds below which a second thread costs more than it brings: about 20 us of one core's work, a few times
/// what waking a thread takes.
const WORK_A_THREAD: usize = 1 << 20;

/// Multiply-adds from which a call wakes threads that sleep, even where no other came just before: about a millisecond.
const WORK_TO_WAKE: usize = 1 << 26;
/// Multiply-adds of a call for each nanosecond that it would wait for a thread that it woke: a fortieth of its time.
const WORK_A_NANOSECOND_OF_PATIENCE: usize = 3200;
/// And no longer than this: what has not come by then is kept from coming.
const MOST_PATIENCE: Duration = Duration::from_millis(2);

/// How many threads a model may use, and the pool they come from; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads(Option<Arc<(rayon::ThreadPool, Arc<Team>)>>);

impl Threads {
    /// The caller and `threads - 1` others; 0 means one for each core. One thread needs no pool.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        const MOST: usize = 1024;
        if threads > MOST {
            return Err(Error::InvalidArgument(format!("threads must be at most {MOST}, got {threads}")));
        }
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        if threads == 1 {
            return Ok(Self(None));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads - 1)
            .thread_name(|i| format!("elman-{i}"))
            .build()
            .map(|pool| Self(Some(Arc::new((pool, Arc::default())))))
            .map_err(|why| Error::Unsupported(format!("could not start {} threads: {why}", threads - 1)))
    }

    /// Threads, the caller included.
    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |threads| threads.0.current_num_threads() + 1)
    }

    /// How often threads other than a caller's have done something.
    #[cfg(test)]
    pub(crate) fn helped(&self) -> usize {
        self.0.as_ref().map_or(0, |threads| threads.1.helped.load(Ordering::Relaxed))
    }

    /// Into how many parts to cut `rows` rows that cost `work` multiply-adds together.
    pub(super) fn parts(&self, rows: usize, work: usize) -> usize {
        self.count().min(rows).min(work / WORK_A_THREAD).max(1)
    }

    /// The team of all threads, for one caller at a time; none where there is one thread or another caller has it. `work`
    /// multiply-adds say whether threads that sleep are worth waking.
    pub(super) fn team(&self, work: usize) -> Option<Held<'_>> {
        let (pool, team) = &**self.0.as_ref()?;
        let held = team.take()?;
        if work >= WORK_TO_WAKE || held.is_soon() {
            while team.wants(pool.current_num_threads()) {
                let partner = Arc::clone(team);
                pool.spawn(move || partner.take_part());
            }
        }
        Some(held)
    }

    /// Runs `run` on every part, in whatever threads help; `work` as for [`team`](Self::team).
    pub(super) fn for_each<T: Send>(&self, work: usize, parts: &mut [T], run: impl Fn(&mut T) + Sync) {
        match (parts.len() > 1).then(|| self.team(work)).flatten() {
            Some(team) => share_out(&team, parts, run),
            None => parts.iter_mut().for_each(run),
        }
    }
}

/// How long a call of `work` multiply-adds may wait for a thread that it woke.
pub(super) fn patience(work: usize) -> Duration {
    let nanoseconds = if work < WORK_TO_WAKE { 0 } else { work / WORK_A_NANOSECOND_OF_PATIENCE };
    Duration::from_nanos(nanoseconds as u64).min(MOST_PATIENCE)
}

/// Runs `run` on every part, here and in the partners that help.
pub(super) fn share_out<T: Send>(team: &Held<'_>, parts: &mut [T], run: impl Fn(&mut T) + Sync) {
    let next = AtomicUsize::new(0);
    let parts: Vec<Mutex<&mut T>> = parts.iter_mut().map(Mutex::new).collect();
    team.share(&|| {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Each part is claimed once, so its lock is free.
            run(&mut part.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_calls_wake_partners_only_where_they_follow_each_other() {
        let threads = Threads::new(2).expect("threads can be started");
        let partners = |work, patience| {
            let team = threads.team(work).expect("nobody else has it");
            team.partners(Duration::from_millis(patience))
        };
        for _ in 0..3 {
            assert_eq!(partners(WORK_TO_WAKE - 1, 20), 0, "a short call alone woke one");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!((0..1000).any(|_| partners(1, 0) + partners(1, 20) > 0), "a stream of calls woke none");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(partners(WORK_TO_WAKE, 10_000), 1, "a long call woke none");
        assert_eq!(patience(WORK_TO_WAKE - 1), Duration::ZERO);
        assert_eq!(patience(WORK_TO_WAKE), Duration::from_nanos(20_971));
        assert_eq!(patience(usize::MAX), MOST_PATIENCE);
    }

    /// Whoever ran it: now a partner's panic aborts the process.
    #[test]
    fn a_panic_in_a_part_comes_back_to_the_caller() {
        let threads = Threads::new(3).expect("threads can be started");
        let caller = std::thread::current().id();
        for _ in 0..1000 {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.for_each(usize::MAX, &mut [0; 3], |_| {
                    std::thread::sleep(std::time::Duration::from_micros(100));
                    assert_eq!(std::thread::current().id(), caller, "a partner's");
                });
            }));
        }
    }
}
