//! The system's allocator, which counts what each thread asks of it. A suite that wants to know makes it its own:
//! `#[global_allocator] static ALLOCATOR: Counting = Counting;`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub(crate) struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending counts no more.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
    let held = BYTES.try_with(|held| {
        held.set(held.get() + bytes);
        held.get()
    });
    let _ = MOST.try_with(|most| most.set(most.get().max(held.unwrap_or(0))));
}

/// Sizes are at most `isize::MAX`.
fn signed(size: usize) -> isize {
    size as isize
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How often `run` asks the allocator for something, or gives something back.
pub(crate) fn asked(run: impl FnOnce()) -> usize {
    let before = ASKED.get();
    run();
    ASKED.get() - before
}

/// What `make` gives, and how many bytes more are held afterwards.
pub(crate) fn held<T>(make: impl FnOnce() -> T) -> (T, isize) {
    let before = BYTES.get();
    let made = make();
    (made, BYTES.get() - before)
}

/// What `make` gives, and how many bytes more this thread held meanwhile, at the most.
pub(crate) fn most_held<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.get();
    MOST.set(before);
    let made = make();
    (made, (MOST.get() - before).unsigned_abs())
}
