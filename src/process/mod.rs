//! What a library owes the process that it is a guest in: it may fork, block signals, and have its own ideas
//! of both.
//!
//! # Fork
//! A child has one thread. Whatever another thread of the parent was doing is cut off in the middle: its
//! locks stay locked, its pool has no threads. So nothing here ever waits for a thread that may belong to
//! another process: a handler that the system calls in the child starts a new [`generation`], and whoever
//! keeps something that threads share compares.

mod fork;
mod lock;
mod signals;
mod spares;
mod time;

pub(crate) use fork::{generation, watch_forks};
pub(crate) use lock::{ForkLock, ReadGuard, WriteGuard};
pub(crate) use signals::with_signals_blocked;
pub(crate) use spares::Spares;
pub(crate) use time::thread_time;
