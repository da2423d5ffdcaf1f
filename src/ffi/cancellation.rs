//! Threads that their host cancels (`pthread_cancel`).
//!
//! A cancelled thread unwinds from the system call it is in, through Rust frames, where a foreign unwinding
//! ends the process. Only calls that touch files make system calls that are cancellation points.

/// Runs `body` with the thread's cancellation put off: one that is pending acts at the host's next
/// cancellation point.
pub(super) fn uncancelled<T>(body: impl FnOnce() -> T) -> T {
    let _off = system::Off::new();
    body()
}

/// The systems whose C library has thread cancellation.
#[cfg(any(
    target_os = "linux",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
))]
mod system {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    /// PTHREAD_CANCEL_DISABLE of the system's pthread.h.
    const DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };

    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }

    /// Cancellation is off as long as this lives; afterwards it is as before.
    pub(super) struct Off(c_int);

    impl Off {
        pub(super) fn new() -> Self {
            let mut before = DISABLE;
            // SAFETY: a valid state, and a place for the one before. It fails for no valid state.
            unsafe { pthread_setcancelstate(DISABLE, &mut before) };
            Self(before)
        }
    }

    impl Drop for Off {
        fn drop(&mut self) {
            // SAFETY: a state that the system gave, and NULL where the one before is not wanted.
            unsafe { pthread_setcancelstate(self.0, null_mut()) };
        }
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
mod system {
    pub(super) struct Off;

    impl Off {
        pub(super) fn new() -> Self {
            Self
        }
    }
}
