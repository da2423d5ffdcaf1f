//! Signals are for the host's threads.

/// Calls `start` with all signals blocked; threads that it starts keep them blocked for their lives. A signal
/// that the host blocks in each of its threads must not find one that takes it.
#[cfg(unix)]
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the mask that this thread had before; nothing is to be written.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` fills the set in, and cannot fail for a valid address.
    let all = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    };
    // SAFETY: a filled set, and room for the one before.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, before.as_mut_ptr()) };
    // Only an unknown SIG_ constant makes it fail; then nothing was changed.
    // SAFETY: written by the call that succeeded.
    let _restore = (failed == 0).then(|| Restore(unsafe { before.assume_init() }));
    start()
}

/// Without POSIX signals there is nothing to block.
#[cfg(not(unix))]
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    start()
}
