//! State kept between calls.

use std::ptr::NonNull;

use super::boundary::{boundary, guarded};
use super::raw::{Input, Output, Place, Span, at_least_one, shared, unshared};
use super::sequential::{elman_sequential, reading};
use super::status::{ELMAN_STATUS_LENGTH_MISMATCH, Failure, elman_status};
use crate::memory::{ALIGNMENT, Aligned};
use crate::stream::{Memory, Plan, Slot, Stream};

/// The states of some rows, kept from call to call, for input that arrives piece by piece. Made by
/// elman_stream_new or elman_stream_new_in, ended by elman_stream_free. It keeps the weights that the network
/// had when the stream was made, and keeps them alive: the network may be changed or freed before the stream.
///
/// Threads: any number of streams of one network at once. On one stream, functions that take it const may run
/// on any number of threads at once; the others need it alone.
pub struct elman_stream(Stream, Home);

/// Where a stream lives.
enum Home {
    Heap,
    /// In the caller's memory, handle and all.
    Lent,
}

/// Makes a stream of `batch` rows at their beginning, their states zeros.
///
/// On success *out is the new stream, and yours to free.
///
/// Fails with NOT_BUILT, UNSUPPORTED (a Bidirectional layer, or one with go_backwards: a stream has no end to
/// begin from), INVALID_ARGUMENT (batch is 0, an overflowed product), OUT_OF_MEMORY.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_new(
    network: *const elman_sequential,
    batch: usize,
    out: *mut *mut elman_stream,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let out = Place::new("out", out)?;
        let stream = Stream::new(&network, batch)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_stream(stream, Home::Heap)) };
        Ok(())
    })
}

/// How much memory elman_stream_new_in needs for a stream of `batch` rows: *bytes of it, at an address that
/// is a multiple of *alignment. It depends on the network's layers, not on its weights.
///
/// Fails with NOT_BUILT, UNSUPPORTED, INVALID_ARGUMENT as elman_stream_new does.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_size(
    network: *const elman_sequential,
    batch: usize,
    bytes: *mut usize,
    alignment: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let (bytes, alignment) = (Place::new("bytes", bytes)?, Place::new("alignment", alignment)?);
        let needed = Layout::of(&Stream::plan(&network, batch)?).bytes;
        // SAFETY: both valid for a write: the contract at the top of the header.
        unsafe {
            bytes.put(needed);
            alignment.put(ALIGNMENT);
        }
        Ok(())
    })
}

/// elman_stream_new in memory of yours: `bytes` bytes at `memory`, at least those that elman_stream_size asks
/// for and aligned as it says. Neither this function nor any other one on the stream takes memory from the
/// heap, refused calls aside, whose messages are kept there.
///
/// On success *out is the new stream, which lies in `memory`. The memory must stay, and be left alone, until
/// elman_stream_free, and is yours again then.
///
/// Fails with NOT_BUILT, UNSUPPORTED, INVALID_ARGUMENT as elman_stream_new does, INVALID_ARGUMENT (memory is
/// misaligned), LENGTH_MISMATCH (too few bytes).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_new_in(
    network: *const elman_sequential,
    batch: usize,
    memory: *mut std::ffi::c_void,
    bytes: usize,
    out: *mut *mut elman_stream,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let memory = NonNull::new(memory.cast::<u8>()).ok_or_else(|| Failure::null("memory"))?;
        let out = Place::new("out", out)?;
        let plan = Stream::plan(&network, batch)?;
        let layout = Layout::of(&plan);
        if !memory.addr().get().is_multiple_of(ALIGNMENT) {
            return Err(Failure::invalid(format!(
                "memory is at address {memory:p}, not a multiple of {ALIGNMENT}"
            )));
        }
        if bytes < layout.bytes {
            return Err(Failure::new(
                ELMAN_STATUS_LENGTH_MISMATCH,
                format!("memory: a stream of {batch} rows needs {} bytes, got {bytes}", layout.bytes),
            ));
        }
        let handle = memory.cast::<elman_stream>();
        // SAFETY: `memory` has `bytes` bytes that nobody else touches until the stream is freed: the contract of this
        // function. They are enough and aligned, checked above, and the four parts lie one behind the other at
        // multiples of the alignment.
        unsafe {
            let memory = Memory {
                floats: Aligned::lent(memory.add(layout.floats).cast(), plan.floats()),
                indices: Aligned::lent(memory.add(layout.indices).cast(), plan.indices()),
                slots: Aligned::lent(memory.add(layout.slots).cast(), plan.slots()),
            };
            handle.write(elman_stream(Stream::with(&network, plan, memory)?, Home::Lent));
            out.put(handle.as_ptr());
        }
        Ok(())
    })
}

/// Where the parts of a stream lie in the caller's memory; the handle comes first.
struct Layout {
    floats: usize,
    indices: usize,
    slots: usize,
    bytes: usize,
}

impl Layout {
    fn of(plan: &Plan) -> Self {
        let floats = size_of::<elman_stream>().next_multiple_of(ALIGNMENT);
        // The plan keeps the number of floats and that of indices below an eighth of the address space.
        let indices = (floats + plan.floats() * size_of::<f32>()).next_multiple_of(ALIGNMENT);
        let slots = (indices + plan.indices() * size_of::<usize>()).next_multiple_of(ALIGNMENT);
        Self { floats, indices, slots, bytes: slots + plan.slots() * size_of::<Slot>() }
    }
}

/// How many floats elman_stream_run gives for `steps` steps: batch x steps x features where the last layer
/// gives a sequence, else batch x features.
///
/// Fails with INVALID_ARGUMENT (steps is 0, an overflowed product).
///
/// Threads: the stream must not be changed by another thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_output_len(
    stream: *const elman_stream,
    steps: usize,
    len: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { shared("stream", stream) }?;
        let len = Place::new("len", len)?;
        let outputs = stream.output_len(steps)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { len.put(outputs) };
        Ok(())
    })
}

/// Runs the next `steps` steps: x is [batch, steps, input_size], y receives elman_stream_output_len floats:
/// what elman_sequential_predict gives for these steps where the past is the stream's state, with the same
/// bits however a sequence is cut into calls.
///
/// Real-time safe: no allocation, no lock, no system call. Only a call that fails allocates, for its message.
///
/// Fails with INVALID_ARGUMENT (steps is 0, an overflowed product, a network that reads tokens),
/// LENGTH_MISMATCH, OVERLAP; the states are unchanged then.
///
/// Threads: the stream must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_run(
    stream: *mut elman_stream,
    x: *const f32,
    x_len: usize,
    steps: usize,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { unshared("stream", stream) }?;
        let x = Input::new("x", x, x_len)?;
        let dims = [stream.batch(), steps, stream.input_size()];
        let x = x.expect("batch x steps x input_size", &dims)?;
        let y = output(stream, steps, y, y_len, x.span())?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { stream.run_checked(x.slice(), steps, y.slice()) }?;
        Ok(())
    })
}

/// elman_stream_run for a network that begins with an embedding: ids is [batch, steps], each 0 to vocabulary
/// - 1.
///
/// Fails like elman_stream_run, and with INVALID_ARGUMENT (an id outside the vocabulary, a network that does
/// not begin with an embedding).
///
/// Threads: the stream must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_run_tokens(
    stream: *mut elman_stream,
    ids: *const i32,
    ids_len: usize,
    steps: usize,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { unshared("stream", stream) }?;
        let ids = Input::new("ids", ids, ids_len)?.expect("batch x steps", &[stream.batch(), steps])?;
        let y = output(stream, steps, y, y_len, ids.span())?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { stream.run(ids.slice(), steps, y.slice()) }?;
        Ok(())
    })
}

/// A run's output, its length checked, apart from the input `x`.
fn output(stream: &Stream, steps: usize, y: *mut f32, y_len: usize, x: Span) -> Result<Output<f32>, Failure> {
    let y = Output::new("y", y, y_len)?;
    at_least_one("steps", steps)?;
    let y = y.expect("output_len", &[stream.output_len(steps)?])?;
    y.apart_from(x)?;
    Ok(y)
}

/// Puts all rows back to their beginning: their states become zeros.
///
/// Fails with nothing but what all functions may.
///
/// Threads: the stream must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_reset(stream: *mut elman_stream) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { unshared("stream", stream) }?;
        stream.reset();
        Ok(())
    })
}

/// Puts one row back to its beginning, for a row whose sequence has ended and is followed by another.
///
/// Fails with INVALID_ARGUMENT (there is no such row).
///
/// Threads: the stream must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_reset_row(stream: *mut elman_stream, row: usize) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { unshared("stream", stream) }?;
        stream.reset_row(row)?;
        Ok(())
    })
}

/// Copies the states to `state`, laid out as elman_sequential_state_len says for the stream's batch. They are
/// all that a stream keeps: another stream that is given them goes on with the same bits.
///
/// Fails with LENGTH_MISMATCH.
///
/// Threads: the stream must not be changed by another thread meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_get_state(
    stream: *const elman_stream,
    state: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { shared("stream", stream) }?;
        if no_state(stream, len) {
            return Ok(());
        }
        let state = Output::new("state", state, len)?.expect("state_len", &[stream.state_len()])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        stream.get_state(unsafe { state.slice() })?;
        Ok(())
    })
}

/// Goes on from `state`, laid out as by elman_stream_get_state. A masked step that comes next repeats the
/// output that belongs to the state.
///
/// Fails with LENGTH_MISMATCH.
///
/// Threads: the stream must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_set_state(
    stream: *mut elman_stream,
    state: *const f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_stream(stream, _) = unsafe { unshared("stream", stream) }?;
        if no_state(stream, len) {
            return Ok(());
        }
        let state = Input::new("state", state, len)?.expect("state_len", &[stream.state_len()])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        stream.set_state(unsafe { state.slice() })?;
        Ok(())
    })
}

/// A network without recurrent layers has no state, and then the array may be NULL.
fn no_state(stream: &Stream, len: usize) -> bool {
    len == 0 && stream.state_len() == 0
}

/// Frees a stream; memory that was given to elman_stream_new_in is yours again. NULL is fine; a second time
/// is not. Not real-time safe: the last stream of a network that is freed already frees the weights.
///
/// Threads: the stream must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_stream_free(stream: *mut elman_stream) {
    if stream.is_null() {
        return;
    }
    // SAFETY: made by one of the two functions, not freed before and not in use: the contract at the top of the header.
    // What lies in the caller's memory is ended there, the memory itself is the caller's.
    guarded(|| unsafe {
        match (*stream).1 {
            Home::Heap => drop(Box::from_raw(stream)),
            Home::Lent => stream.drop_in_place(),
        }
    });
}
