//! Threads: the only user of rayon.
//!
//! Rows are independent, so a batch is cut into runs of rows and each run walks the whole network by itself: one fork
//! and one join a call, and the bits of a row cannot depend on the cut. Where rows are few and a layer is large, threads
//! share its columns instead; see [`team`](super::team).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::team::{Held, Team};
use crate::error::{Error, Result};

/// Multiply-adds below which a second thread costs more than it brings: about 20 us of one core's work, a few times
/// what waking a thread takes.
const WORK_A_THREAD: usize = 1 << 20;

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

    /// The team of all threads, for one caller at a time; none where there is one thread or another caller has it.
    pub(super) fn team(&self) -> Option<Held<'_>> {
        let (pool, team) = &**self.0.as_ref()?;
        let held = team.take()?;
        while team.wants(pool.current_num_threads()) {
            let partner = Arc::clone(team);
            pool.spawn(move || partner.take_part());
        }
        Some(held)
    }

    /// Runs `run` on every part, in whatever threads help.
    pub(super) fn for_each<T: Send>(&self, parts: &mut [T], run: impl Fn(&mut T) + Sync) {
        match (parts.len() > 1).then(|| self.team()).flatten() {
            Some(team) => {
                let next = AtomicUsize::new(0);
                let parts: Vec<Mutex<&mut T>> = parts.iter_mut().map(Mutex::new).collect();
                team.share(&|| {
                    while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Each part is claimed once, so its lock is free.
                        run(&mut part.lock().unwrap_or_else(PoisonError::into_inner));
                    }
                });
            }
            None => parts.iter_mut().for_each(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever ran it: now a partner's panic aborts the process.
    #[test]
    fn a_panic_in_a_part_comes_back_to_the_caller() {
        let threads = Threads::new(3).expect("threads can be started");
        let caller = std::thread::current().id();
        for _ in 0..1000 {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.for_each(&mut [0; 3], |_| {
                    std::thread::sleep(std::time::Duration::from_micros(100));
                    assert_eq!(std::thread::current().id(), caller, "a partner's");
                });
            }));
        }
    }
}
