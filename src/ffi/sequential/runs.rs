//! A network runs.

use std::ptr::null;

use super::handle::{changing, elman_sequential, reading};
use crate::ffi::arrays::{Arrays, Element, Given};
use crate::ffi::boundary::boundary;
use crate::ffi::cancellation::uncancelled;
use crate::ffi::options::elman_run_options;
use crate::ffi::raw::Place;
use crate::ffi::status::elman_status;

/// How many threads one predict, run or training step may use, and one pass of a tape that is made
/// afterwards, the caller's among them: 1 unless set, 0 for one for each processor. There are never more than
/// processors that the calling thread may use (its affinity mask, a container's quota), for the new threads
/// inherit them. A call whose threads keep it waiting, because their processors are somebody else's, goes on
/// alone for a while. The results have the same bits.
///
/// Fails with INVALID_ARGUMENT above 1024, UNSUPPORTED where the system starts no threads.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_set_threads(
    network: *mut elman_sequential,
    threads: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        // How many cores there are is asked of files, too.
        uncancelled(|| network.set_threads(threads))?;
        Ok(())
    })
}

/// How many floats predict and run give for `batch` rows of `steps`: batch x steps x features where the last
/// layer gives a sequence, else batch x features; twice as many behind ELMAN_MERGE_MODE_NONE.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (a zero size, an overflowed product).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_output_len(
    network: *const elman_sequential,
    batch: usize,
    steps: usize,
    len: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let len = Place::new("len", len)?;
        let outputs = network.output_len(batch, steps)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { len.put(outputs) };
        Ok(())
    })
}

/// Runs the network on floats: x is [batch, steps, input_size], y receives elman_sequential_output_len
/// floats. States start at zero, those of stateful layers where the last run ended.
///
/// The bits of a row depend neither on the other rows nor on the number of threads.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (a zero size, an overflowed product, a network that reads tokens,
/// another batch than the one whose states are kept), LENGTH_MISMATCH, OVERLAP, OUT_OF_MEMORY.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_predict(
    network: *const elman_sequential,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (x, x_len), (batch, steps), null(), (y, y_len)) }
}

/// Runs a network that begins with an embedding: ids is [batch, steps], each 0 to vocabulary - 1; else like
/// elman_sequential_predict.
///
/// Fails like elman_sequential_predict, and with INVALID_ARGUMENT (an id outside the vocabulary, a network
/// that does not begin with an embedding).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_predict_tokens(
    network: *const elman_sequential,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (ids, ids_len), (batch, steps), null(), (y, y_len)) }
}

/// elman_sequential_predict with options: masked or shorter rows, initial states, final states. NULL options
/// are the defaults.
///
/// Fails like elman_sequential_predict, and with NULL_POINTER (an array of the options is NULL and has a
/// length), INVALID_ARGUMENT (both mask and lengths, a length above steps, an unknown padding, ONNX padding
/// with a mask), LENGTH_MISMATCH and OVERLAP for the arrays of the options. initial_state and final_state may
/// not overlap either.
///
/// Threads: any number at once on one network, each with a final_state of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_run(
    network: *const elman_sequential,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    options: *const elman_run_options,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (x, x_len), (batch, steps), options, (y, y_len)) }
}

/// elman_sequential_predict_tokens with options, as in elman_sequential_run.
///
/// Fails like elman_sequential_predict_tokens and elman_sequential_run.
///
/// Threads: any number at once on one network, each with a final_state of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_run_tokens(
    network: *const elman_sequential,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    options: *const elman_run_options,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (ids, ids_len), (batch, steps), options, (y, y_len)) }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn run<T: Element>(
    network: *const elman_sequential,
    x: Given<T>,
    sizes: (usize, usize),
    options: *const elman_run_options,
    y: (*mut f32, usize),
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the caller's duty.
        let network = unsafe { reading(network) }?;
        // SAFETY: the caller's duty is the same.
        let arrays = unsafe { Arrays::read(&network, x, sizes, options, y) }?;
        let Arrays { x, y, options } = arrays;
        Ok(network.run(T::values(x), sizes.0, sizes.1, options, y)?)
    })
}
