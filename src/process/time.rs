//! What a thread has had of a processor.

use std::time::Duration;

/// How long this thread has run.
#[cfg(all(unix, not(loom)))]
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time. It fails only where there is no such clock, and leaves zero then.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    // A clock that counts from the thread's start gives no negative numbers.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The model checker's time stands still.
#[cfg(loom)]
pub(crate) fn thread_time() -> Duration {
    Duration::ZERO
}

/// Where the system is not asked, all time counts.
#[cfg(not(any(unix, loom)))]
pub(crate) fn thread_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
