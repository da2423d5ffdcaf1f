//! The handle of a network: made, lent, freed.

use std::sync::Arc;

use crate::ffi::boundary::boundary;
use crate::ffi::raw::{Place, at_least_one, free, shared};
use crate::ffi::status::{Failure, elman_status};
use crate::process::{ForkLock, ReadGuard, WriteGuard};
use crate::sequential::Sequential;

/// A network: layers one after another, from input to output. Made by elman_sequential_new,
/// elman_sequential_load or elman_sequential_load_bytes, ended by elman_sequential_free. Add the layers,
/// build, then set weights or predict.
///
/// A network with stateful layers keeps their last states from one predict or run to the next, which begins
/// with them unless it is given initial states. Such a network runs one call at a time: the others wait.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
/// A trainer's step waits for those that run, and those that begin wait for it.
///
/// Fork: a child process may go on with a network that other threads were reading at the fork. One that
/// another thread's trainer was changing is UNSUPPORTED there, and may be freed.
pub struct elman_sequential(Arc<ForkLock<Sequential>>);

/// What a child process is told whose parent was changing the network.
const TORN: &str = "this process was forked while another thread changed the network, so its weights may be half changed: \
                    free it and load or build another";

impl elman_sequential {
    pub(in crate::ffi) fn new(network: Sequential) -> Self {
        Self(Arc::new(ForkLock::new(network, TORN)))
    }

    /// The same network once more, for a trainer.
    pub(in crate::ffi) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    // What a panic leaves is memory-safe, and the header says what to do with it: free it.
    pub(in crate::ffi) fn read(&self) -> Result<ReadGuard<'_, Sequential>, Failure> {
        Ok(self.0.read()?)
    }

    pub(in crate::ffi) fn write(&self) -> Result<WriteGuard<'_, Sequential>, Failure> {
        Ok(self.0.write()?)
    }

    /// Whether this process was forked while another thread changed it.
    pub(in crate::ffi) fn is_torn(&self) -> bool {
        self.0.is_torn()
    }
}

/// The network of a handle that is read.
///
/// # Safety
/// As for [`shared`].
pub(in crate::ffi) unsafe fn reading<'a>(
    network: *const elman_sequential,
) -> Result<ReadGuard<'a, Sequential>, Failure> {
    // SAFETY: the caller's duty is the same.
    unsafe { shared("network", network) }?.read()
}

/// The network of a handle that is changed.
///
/// # Safety
/// As for [`shared`].
pub(in crate::ffi) unsafe fn changing<'a>(
    network: *const elman_sequential,
) -> Result<WriteGuard<'a, Sequential>, Failure> {
    // SAFETY: the caller's duty is the same.
    unsafe { shared("network", network) }?.write()
}

/// Makes an empty network for steps of `input_size` features; 1 when an embedding comes first, which reads
/// one token id a step.
///
/// On success *out is the new network, and yours to free.
///
/// Fails with INVALID_ARGUMENT where input_size is 0.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_new(
    input_size: usize,
    out: *mut *mut elman_sequential,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        at_least_one("input_size", input_size)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_sequential::new(Sequential::new(input_size))) };
        Ok(())
    })
}

/// Frees a network. NULL is fine; a second time is not.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_free(network: *mut elman_sequential) {
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(network) }
}
