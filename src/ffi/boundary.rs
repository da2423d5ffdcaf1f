//! Where a panic stops.
//!
//! Unwinding into C is not allowed, so every function that runs library code runs it in here. The panic hook
//! would print to the host's standard error, and this library never prints; so the first call puts a hook in
//! front of the host's (a Rust host may have one) that keeps quiet on threads inside a call and keeps the
//! message for the last error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};

use super::status::{ELMAN_STATUS_OK, ELMAN_STATUS_PANIC, Failure, elman_status};

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn install_hook() {
    let before = take_hook();
    set_hook(Box::new(move |info| {
        if INSIDE.try_with(Cell::get).unwrap_or(false) {
            // Only a thread that is ending has no place for the message.
            let _ = MESSAGE.try_with(|message| *message.borrow_mut() = info.to_string().replace('\n', " "));
        } else {
            before(info);
        }
    }));
}

/// Runs `body`; `None` when it panicked, which is then the thread's last failure.
#[inline(always)]
pub(super) fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    // No lock that another thread could hold when the process forks: whoever comes while the first installs it goes on.
    static HOOKED: AtomicBool = AtomicBool::new(false);
    if !HOOKED.load(Ordering::Relaxed) && !HOOKED.swap(true, Ordering::Relaxed) {
        install_hook();
    }
    // Looked up once: in a shared library that is a function call. A cell without a destructor outlives its thread's others.
    INSIDE.with(|inside| {
        // A host's function that a call runs may call on its own.
        let outer = inside.replace(true);
        // A handle can be left half-changed, which is memory-safe, and the header says what to do with it: free it.
        let outcome = catch_unwind(AssertUnwindSafe(body));
        inside.set(outer);
        outcome.map_err(panicked).ok()
    })
}

#[cold]
#[inline(never)]
fn panicked(payload: Box<dyn Any + Send>) {
    // Dropping a payload can panic once more; leaking it cannot.
    std::mem::forget(payload);
    let message = MESSAGE.try_with(RefCell::take).unwrap_or_default();
    Failure::new(ELMAN_STATUS_PANIC, format!("a bug in elman: {message}")).report();
}

/// Runs the body of a C function and answers its status.
#[inline(always)]
pub(super) fn boundary(body: impl FnOnce() -> Result<(), Failure>) -> elman_status {
    match guarded(body) {
        Some(Ok(())) => ELMAN_STATUS_OK,
        Some(Err(failure)) => failure.report(),
        None => ELMAN_STATUS_PANIC,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::elman_last_error;
    use std::ffi::CStr;

    #[test]
    fn a_panic_becomes_a_status_and_a_sentence() {
        let empty: Vec<f32> = Vec::new();
        let status = boundary(|| {
            assert_eq!(empty[3], 0.0);
            Ok(())
        });
        assert_eq!(status, ELMAN_STATUS_PANIC);
        // SAFETY: the text is valid until this thread's next failure.
        let text = unsafe { CStr::from_ptr(elman_last_error()) }.to_str().unwrap();
        assert!(text.contains("boundary.rs") && text.contains("the index is 3"), "{text}");
        assert!(!INSIDE.get(), "panics outside a call are the host's again");
    }
}
