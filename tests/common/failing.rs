//! The system's allocator, which can be told to fail. A suite that wants that makes it its own:
//! `#[global_allocator] static ALLOCATOR: Failing = Failing;`, and has one test, since it fails whoever asks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

pub(crate) struct Failing;

/// Bytes below which nothing fails. Everything whose size comes from the caller is made larger by the tests;
/// smaller are error messages, boxes and handles, and lists as long as the model has layers or the pool has
/// threads.
pub(crate) const LARGE: usize = 2048;

/// The same for threads other than the one that called: a pool's thread that is just starting takes 2304 bytes, and
/// nobody could be told that it got none.
const LARGE_ELSEWHERE: usize = 4096;

thread_local! {
    /// Whether this is the thread that called.
    static CALLS: Cell<bool> = const { Cell::new(false) };
}

/// How many large allocations succeed before one fails; below 0 those after it succeed.
static LEFT: AtomicIsize = AtomicIsize::new(isize::MAX);
/// Whether those after the first that fails fail too.
static FOR_GOOD: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicUsize = AtomicUsize::new(0);

fn fails(size: usize) -> bool {
    if size < LARGE || LEFT.load(Ordering::Relaxed) == isize::MAX {
        return false;
    }
    // A thread that is ending does not call.
    if size < LARGE_ELSEWHERE && !CALLS.try_with(Cell::get).unwrap_or(false) {
        return false;
    }
    let left = LEFT.fetch_sub(1, Ordering::Relaxed);
    let fails = left == 0 || (left < 0 && FOR_GOOD.load(Ordering::Relaxed));
    if fails {
        FAILED.fetch_add(1, Ordering::Relaxed);
    }
    fails
}

// SAFETY: everything is the system allocator's, or null, which is how an allocator says no.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails(layout.size()) { null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails(layout.size()) { null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails(size) { null_mut() } else { unsafe { System.realloc(block, layout, size) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What `run` gives where, in whatever thread, large allocation number `n` fails, and all behind it too where
/// `for_good`; and how many failed.
pub(crate) fn failing<T>(n: usize, for_good: bool, run: impl FnOnce() -> T) -> (T, usize) {
    CALLS.set(true);
    FAILED.store(0, Ordering::Relaxed);
    FOR_GOOD.store(for_good, Ordering::Relaxed);
    LEFT.store(isize::try_from(n).expect("a small number"), Ordering::Relaxed);
    let result = run();
    LEFT.store(isize::MAX, Ordering::Relaxed);
    (result, FAILED.load(Ordering::Relaxed))
}
