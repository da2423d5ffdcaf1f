//! Where workers come from: rayon's pool, or nowhere in a build without the feature `threads`.

use crate::error::{Error, Result};

/// Threads that tasks can be sent to.
#[cfg(feature = "threads")]
#[derive(Debug)]
pub(super) struct Workers(rayon::ThreadPool);

#[cfg(feature = "threads")]
impl Workers {
    /// So many threads.
    pub(super) fn new(count: usize) -> Result<Self> {
        let builder =
            rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("elman-{i}"));
        crate::process::with_signals_blocked(|| builder.build())
            .map(Self)
            .map_err(|why| Error::Unsupported(format!("could not start {count} threads: {why}")))
    }

    pub(super) fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    pub(super) fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        self.0.spawn(task);
    }
}

/// There are none.
#[cfg(not(feature = "threads"))]
#[derive(Debug)]
pub(super) enum Workers {}

#[cfg(not(feature = "threads"))]
impl Workers {
    /// # Errors
    /// [`Error::Unsupported`].
    pub(super) fn new(count: usize) -> Result<Self> {
        Err(Error::Unsupported(format!(
            "{count} more threads: this build of elman is without the feature `threads`"
        )))
    }

    pub(super) fn count(&self) -> usize {
        match *self {}
    }

    pub(super) fn spawn(&self, _: impl FnOnce() + Send + 'static) {
        match *self {}
    }
}
