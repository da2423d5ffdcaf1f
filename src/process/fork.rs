//! Which process this is, counted in forks.

use std::sync::atomic::{AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Grows with every fork on the way from the process in which [`watch_forks`] was called first.
#[inline]
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Sees to it that [`generation`] grows in a child.
#[cfg(unix)]
pub(crate) fn watch_forks() {
    use std::sync::atomic::AtomicBool;

    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    // No lock that a fork could leave locked: two threads at once register twice, and the generation grows by
    // two.
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.load(Ordering::Acquire) {
        // SAFETY: the handler does nothing but count, which is safe in the child of a process with several
        // threads.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // Out of memory: the next handle asks again.
        if failed == 0 {
            WATCHED.store(true, Ordering::Release);
        }
    }
}

/// Without `fork` there is one generation.
#[cfg(not(unix))]
pub(crate) fn watch_forks() {}
