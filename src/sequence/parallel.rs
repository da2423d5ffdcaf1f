//! Threads: the only user of rayon.
//!
//! Rows are independent, so a batch is cut into runs of rows and each run walks the whole network by itself: one fork
//! and one join a call, and the bits of a row cannot depend on the cut. Where rows are few and a layer is large, threads
//! share its columns instead; see [`team`](super::team).

use std::sync::Arc;

use super::team::Team;
use crate::error::{Error, Result};

/// Multiply-adds below which a second thread costs more than it brings: about 20 us of one core's work, a few times
/// what waking a thread takes.
const WORK_A_THREAD: usize = 1 << 20;

/// How many threads a model may use, and the pool they come from.
#[derive(Debug, Default)]
pub(crate) struct Threads(Option<rayon::ThreadPool>);

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
            .map(|pool| Self(Some(pool)))
            .map_err(|why| Error::Unsupported(format!("could not start {} threads: {why}", threads - 1)))
    }

    /// Threads, the caller included.
    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads() + 1)
    }

    /// Into how many parts to cut `rows` rows that cost `work` multiply-adds together.
    pub(super) fn parts(&self, rows: usize, work: usize) -> usize {
        self.count().min(rows).min(work / WORK_A_THREAD).max(1)
    }

    /// Runs `call` with a team of all threads.
    pub(super) fn with_team<T>(&self, call: impl FnOnce(&Team) -> T) -> T {
        /// Closes the team even where the call panics: partners would wait for it forever.
        struct Closing(Arc<Team>);
        impl Drop for Closing {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let team = Closing(Arc::new(Team::new()));
        if let Some(pool) = &self.0 {
            for _ in 0..pool.current_num_threads() {
                let partner = Arc::clone(&team.0);
                pool.spawn(move || partner.take_part());
            }
        }
        call(&team.0)
    }

    /// Runs all tasks, the first in the calling thread.
    pub(super) fn join<T: Send>(&self, mut tasks: Vec<T>, run: impl Fn(T) + Sync) {
        match &self.0 {
            Some(pool) if tasks.len() > 1 => {
                let others = tasks.split_off(1);
                pool.in_place_scope(|scope| {
                    for task in others {
                        scope.spawn(|_| run(task));
                    }
                    tasks.into_iter().for_each(&run);
                });
            }
            _ => tasks.into_iter().for_each(run),
        }
    }
}
