//! A lock that no thread of another process can hold.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::fork::{generation, watch_forks};
use crate::error::{Error, Result};

/// A [`RwLock`] that a forked child can go on with. Threads that only read at the fork have changed nothing,
/// so the child takes a new lock for the same value. What a thread was writing at the fork is torn: an error
/// from then on, and not even dropped.
#[derive(Debug)]
pub(crate) struct ForkLock<T> {
    state: AtomicPtr<State>,
    value: ManuallyDrop<UnsafeCell<T>>,
    /// What to say of a torn value.
    torn: &'static str,
}

/// The lock of one generation.
#[derive(Debug)]
struct State {
    generation: u64,
    lock: RwLock<()>,
    /// Whether somebody has the lock for writing.
    writing: AtomicBool,
}

// SAFETY: as for `RwLock`: the value goes to another thread with the lock, or by `&mut` through it.
unsafe impl<T: Send> Send for ForkLock<T> {}
// SAFETY: as for `RwLock`: readers share the value, a writer has it alone and may take it out.
unsafe impl<T: Send + Sync> Sync for ForkLock<T> {}

impl State {
    fn new() -> Self {
        Self { generation: generation(), lock: RwLock::new(()), writing: AtomicBool::new(false) }
    }

    fn is_torn(&self) -> bool {
        self.generation != generation() && self.writing.load(Ordering::Acquire)
    }
}

impl<T> ForkLock<T> {
    /// `torn` is the sentence for whoever asks for a value that a vanished thread was writing.
    pub(crate) fn new(value: T, torn: &'static str) -> Self {
        watch_forks();
        let state = AtomicPtr::new(Box::into_raw(Box::new(State::new())));
        Self { state, value: ManuallyDrop::new(UnsafeCell::new(value)), torn }
    }

    /// # Errors
    /// [`Error::Unsupported`] where this process was forked while another thread was writing.
    pub(crate) fn read(&self) -> Result<ReadGuard<'_, T>> {
        let lock = self.here()?.lock.read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lock of this generation is held for reading as long as the guard lives, and threads of
        // other generations do not exist in this process.
        Ok(ReadGuard { value: unsafe { &*self.value.get() }, _lock: lock })
    }

    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn write(&self) -> Result<WriteGuard<'_, T>> {
        let state = self.here()?;
        let lock = state.lock.write().unwrap_or_else(PoisonError::into_inner);
        state.writing.store(true, Ordering::Relaxed);
        // Before any change of the value, also in the memory that a fork copies.
        fence(Ordering::SeqCst);
        // SAFETY: as in `read`, for writing.
        Ok(WriteGuard { value: unsafe { &mut *self.value.get() }, state, _lock: lock })
    }

    /// Puts a value in the place of the one before, be it torn.
    pub(crate) fn replace(&self, value: T) {
        loop {
            if let Ok(mut before) = self.write() {
                *before = value;
                return;
            }
            let torn = self.state.load(Ordering::Acquire);
            let fresh = Box::into_raw(Box::new(State::new()));
            // SAFETY: made just now, and nobody frees it before the lock is dropped.
            let state = unsafe { &*fresh };
            let _lock = state.lock.write();
            state.writing.store(true, Ordering::Relaxed);
            if self.state.compare_exchange(torn, fresh, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // SAFETY: the lock of this generation is held for writing. The torn value is not dropped.
                unsafe { self.value.get().write(value) };
                state.writing.store(false, Ordering::Release);
                return;
            }
            // Another thread of this process was quicker; a lock that nobody has seen is leaked.
        }
    }

    /// Whether this process was forked while another thread was writing.
    pub(crate) fn is_torn(&self) -> bool {
        // SAFETY: a state lives as long as this lock.
        unsafe { &*self.state.load(Ordering::Acquire) }.is_torn()
    }

    /// The lock of this generation.
    fn here(&self) -> Result<&State> {
        let state = self.state.load(Ordering::Acquire);
        // SAFETY: a state lives as long as this lock.
        let here = unsafe { &*state };
        if here.generation == generation() { Ok(here) } else { self.renewed(state) }
    }

    /// A new lock in a child. The one before is leaked: to destroy a lock that is held is not allowed
    /// everywhere.
    #[cold]
    fn renewed(&self, before: *mut State) -> Result<&State> {
        // SAFETY: a state lives as long as this lock.
        if unsafe { &*before }.is_torn() {
            return Err(Error::Unsupported(self.torn.into()));
        }
        let fresh = Box::into_raw(Box::new(State::new()));
        match self.state.compare_exchange(before, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was just put there, and lives as long as this lock.
            Ok(_) => Ok(unsafe { &*fresh }),
            Err(_) => {
                // SAFETY: made above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
                self.here()
            }
        }
    }
}

impl<T> Drop for ForkLock<T> {
    fn drop(&mut self) {
        let state = *self.state.get_mut();
        // SAFETY: a state lives as long as this lock.
        let here = unsafe { &*state };
        if !here.is_torn() {
            // SAFETY: once, here, and nobody looks at it any more.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
        if here.generation == generation() {
            // SAFETY: made by `Box::into_raw`, and no guard of this process is left.
            drop(unsafe { Box::from_raw(state) });
        }
    }
}

/// The value, shared with other readers.
pub(crate) struct ReadGuard<'a, T> {
    value: &'a T,
    _lock: RwLockReadGuard<'a, ()>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

/// The value alone.
pub(crate) struct WriteGuard<'a, T> {
    value: &'a mut T,
    state: &'a State,
    _lock: RwLockWriteGuard<'a, ()>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // After every change, and before the lock is free.
        self.state.writing.store(false, Ordering::Release);
    }
}
