//! C's pointers, looked at in the order that is safe: NULL, alignment, length, overlap, and only then a
//! slice.
//!
//! No slice is made of an array whose length is not the one its shape asks for, so a wrong length never
//! counts as an overlap with what lies behind the array, and never reads or writes it.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use super::boundary::guarded;
use super::status::{ELMAN_STATUS_LENGTH_MISMATCH, Failure};
use crate::error::Error;
use crate::memory;

/// The place of an array in memory, for comparing only.
#[derive(Clone, Copy)]
pub(super) struct Span {
    what: &'static str,
    start: usize,
    bytes: usize,
}

impl Span {
    #[inline(always)]
    pub(super) fn of<T>(what: &'static str, start: *const T, len: usize) -> Result<Self, Failure> {
        check_pointer(what, start)?;
        match len.checked_mul(size_of::<T>()) {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(Self { what, start: start.addr(), bytes }),
            _ => Err(too_long(what, len)),
        }
    }

    fn overlaps(self, other: Self) -> bool {
        let end = |span: Self| span.start.saturating_add(span.bytes);
        self.start < end(other) && other.start < end(self)
    }
}

/// An array to be read.
pub(super) struct Input<T> {
    start: *const T,
    len: usize,
    span: Span,
}

impl<T> Input<T> {
    pub(super) fn new(what: &'static str, start: *const T, len: usize) -> Result<Self, Failure> {
        Ok(Self { start, len, span: Span::of(what, start, len)? })
    }

    /// `names` says in words what `dims` are.
    #[inline(always)]
    pub(super) fn check(&self, names: &str, dims: &[usize]) -> Result<(), Failure> {
        Ok(memory::check_len(self.span.what, self.len, names, dims)?)
    }

    /// The array, if [`check`](Self::check) finds no fault.
    #[inline(always)]
    pub(super) fn expect(self, names: &str, dims: &[usize]) -> Result<Self, Failure> {
        self.check(names, dims)?;
        Ok(self)
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// # Safety
    /// `start` points to `len` elements that nobody writes during the call.
    pub(super) unsafe fn slice<'a>(&self) -> &'a [T] {
        // SAFETY: not NULL, aligned and at most isize::MAX bytes, checked by `Span::of`; the rest is the caller's duty.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// An array to be written.
pub(super) struct Output<T> {
    start: *mut T,
    len: usize,
    span: Span,
}

impl<T> Output<T> {
    pub(super) fn new(what: &'static str, start: *mut T, len: usize) -> Result<Self, Failure> {
        Ok(Self { start, len, span: Span::of(what, start, len)? })
    }

    /// `names` says in words what `dims` are.
    #[inline(always)]
    pub(super) fn check(&self, names: &str, dims: &[usize]) -> Result<(), Failure> {
        Ok(memory::check_len(self.span.what, self.len, names, dims)?)
    }

    /// The array, if [`check`](Self::check) finds no fault.
    #[inline(always)]
    pub(super) fn expect(self, names: &str, dims: &[usize]) -> Result<Self, Failure> {
        self.check(names, dims)?;
        Ok(self)
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Whether this is the very same array.
    pub(super) fn is(&self, input: &Input<T>) -> bool {
        self.start.cast_const() == input.start && self.len == input.len
    }

    pub(super) fn apart_from(&self, other: Span) -> Result<(), Failure> {
        if self.span.overlaps(other) { Err(overlap(self.span.what, other.what)) } else { Ok(()) }
    }
}

impl Output<f32> {
    /// The array as a slice, through which it may be read and written. It need not be initialised: any bits
    /// are a float, and [`settle`] makes what is there count as written.
    ///
    /// # Safety
    /// `start` points to `len` floats, writable, that nobody else reads or writes during the call.
    pub(super) unsafe fn slice<'a>(self) -> &'a mut [f32] {
        settle(self.start);
        // SAFETY: not NULL, aligned and at most isize::MAX bytes, checked by `Span::of`; valid and this
        // call's alone: the caller's duty; initialised, by the caller or by `settle`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Copies `values`, whose shape the array must have.
    ///
    /// # Safety
    /// As for [`Output::slice`].
    pub(super) unsafe fn copy_from(self, names: &str, dims: &[usize], values: &[f32]) -> Result<(), Failure> {
        let to = self.expect(names, dims)?;
        assert_eq!(to.len, values.len(), "{}: dims are not the values'", to.span.what);
        // SAFETY: `values` has as many floats as the array, the assert. Not NULL and aligned, checked by
        // `Span::of`; writable, and apart from what the library owns: the caller's duty.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to.start, values.len()) };
        Ok(())
    }
}

/// Makes the memory that `start` points into count as initialised, whatever is there, and changes none of it.
///
/// C hands over arrays straight from `malloc`, and a `&mut [f32]` must be initialised even where it is only
/// written. Filling them first would cost a pass, and a failed call would have written. To the compiler an
/// assembly block without `nomem` may write any bytes to memory that its operands lead to, so afterwards it
/// has to take what is there for written; the bytes that this block "writes" are those that are there
/// already.
#[cfg(all(
    not(miri),
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    )
))]
#[inline(always)]
fn settle(start: *mut f32) {
    // SAFETY: the block has no instruction, so it uses no stack and changes no flag. What it may be taken to
    // have written is an output's array, which C hands over for writing.
    unsafe { std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags)) }
}

/// As above, where the language has no assembly: the same block in practice, if not by promise. Under Miri
/// outputs come from Rust's tests, which have written them.
#[cfg(not(all(
    not(miri),
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    )
)))]
#[inline(always)]
fn settle(start: *mut f32) {
    std::hint::black_box(start);
}

/// Neither NULL nor misaligned.
#[inline(always)]
pub(super) fn check_pointer<T>(what: &str, pointer: *const T) -> Result<(), Failure> {
    if !pointer.is_null() && pointer.is_aligned() {
        Ok(())
    } else {
        Err(bad_pointer(what, pointer.cast(), align_of::<T>()))
    }
}

pub(super) fn at_least_one(what: &str, size: usize) -> Result<(), Failure> {
    if size > 0 { Ok(()) } else { Err(zero(what)) }
}

// What is wrong is said out of line: formatting would be most of the code of most functions here.

#[cold]
#[inline(never)]
fn bad_pointer(what: &str, pointer: *const (), alignment: usize) -> Failure {
    if pointer.is_null() {
        Failure::null(what)
    } else {
        Failure::invalid(format!("{what} is at address {pointer:p}, not a multiple of {alignment}"))
    }
}

#[cold]
#[inline(never)]
fn too_long(what: &str, len: usize) -> Failure {
    Failure::new(ELMAN_STATUS_LENGTH_MISMATCH, format!("{what}: no array in memory has {len} elements"))
}

#[cold]
#[inline(never)]
fn zero(what: &str) -> Failure {
    Failure::invalid(format!("{what} must be at least 1, got 0"))
}

#[cold]
#[inline(never)]
fn overlap(output: &'static str, input: &'static str) -> Failure {
    Error::Overlap { output, input }.into()
}

#[cold]
#[inline(never)]
fn no_flag(what: &str, value: u8) -> Failure {
    Failure::invalid(format!("{what} must be 0 or 1, got {value}"))
}

/// A handle that is read.
///
/// # Safety
/// `handle` is NULL or came from the library's `_new` or `_load`, is not freed, and nobody changes it during
/// the call.
pub(super) unsafe fn shared<'a, T>(what: &str, handle: *const T) -> Result<&'a T, Failure> {
    check_pointer(what, handle)?;
    // SAFETY: not NULL and aligned, checked above; alive and not changed: the caller's duty.
    Ok(unsafe { &*handle })
}

/// A handle that is changed.
///
/// # Safety
/// `handle` is NULL or came from the library's `_new` or `_load`, is not freed, and nobody else uses it
/// during the call.
pub(super) unsafe fn unshared<'a, T>(what: &str, handle: *mut T) -> Result<&'a mut T, Failure> {
    check_pointer(what, handle)?;
    // SAFETY: not NULL and aligned, checked above; alive and used by this call alone: the caller's duty.
    Ok(unsafe { &mut *handle })
}

/// A place for one result, checked before the work and written after it.
pub(super) struct Place<T>(*mut T);

impl<T> Place<T> {
    pub(super) fn new(what: &str, place: *mut T) -> Result<Self, Failure> {
        check_pointer(what, place)?;
        Ok(Self(place))
    }

    /// # Safety
    /// The place is valid for one write.
    pub(super) unsafe fn put(self, value: T) {
        // SAFETY: not NULL and aligned, checked by `new`; valid: the caller's duty.
        unsafe { self.0.write(value) }
    }
}

impl<T> Place<*mut T> {
    /// Hands a new handle to C, which frees it by the type's `_free`.
    ///
    /// # Safety
    /// As for [`Place::put`].
    pub(super) unsafe fn put_handle(self, value: T) {
        // SAFETY: the caller's duty is the same.
        unsafe { self.put(Box::into_raw(Box::new(value))) }
    }
}

/// Ends what [`Place::put_handle`] handed over. NULL is fine.
///
/// # Safety
/// `handle` is NULL, or came from there, is not freed before and not in use.
pub(super) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: a box's own pointer, not used again: the caller's duty.
        guarded(|| drop(unsafe { Box::from_raw(handle) }));
    }
}

/// A flag as C hands it over: `bool` in a signature, `uint8_t` in a struct. C can put any byte there.
pub(super) fn flag(what: &str, value: u8) -> Result<bool, Failure> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(no_flag(what, other)),
    }
}

/// A path: on Unix any bytes, elsewhere UTF-8.
///
/// # Safety
/// `path` is NULL or points to nul-terminated text.
pub(super) unsafe fn path(path: *const c_char) -> Result<PathBuf, Failure> {
    check_pointer("path", path)?;
    // SAFETY: not NULL, checked above; nul-terminated: the caller's duty.
    let text = unsafe { CStr::from_ptr(path) };
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Ok(std::ffi::OsStr::from_bytes(text.to_bytes()).into())
    }
    #[cfg(not(unix))]
    {
        let text = text.to_str().map_err(|error| Failure::invalid(format!("path is not UTF-8: {error}")))?;
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::*;
    use std::mem::MaybeUninit;
    use std::ptr::{null, null_mut};

    /// Memory as `malloc` gives it, where nothing has been written.
    fn unwritten(len: usize) -> Box<[MaybeUninit<f32>]> {
        Box::new_uninit_slice(len)
    }

    fn done(status: elman_status) {
        assert_eq!(status, ELMAN_STATUS_OK);
    }

    /// Two tanh units and a Dense over three steps: every output of a run, a stream, a tape and a cell, with
    /// the weights.
    fn outputs(make: impl Fn(usize) -> Box<[MaybeUninit<f32>]>) -> Vec<f32> {
        const BATCH: usize = 2;
        const STEPS: usize = 3;
        let x = [0.25f32; BATCH * STEPS];
        let mut written = Vec::new();
        let mut run = |len: usize, call: &mut dyn FnMut(*mut f32) -> elman_status| {
            let mut array = make(len);
            done(call(array.as_mut_ptr().cast()));
            // SAFETY: a call that succeeds has written all of its outputs.
            written.extend(array.iter().map(|value| unsafe { value.assume_init() }));
        };
        // SAFETY: every pointer is live and every array as long as it says; handles are freed once.
        unsafe {
            let mut config = MaybeUninit::uninit();
            done(elman_simple_rnn_config_init(config.as_mut_ptr(), size_of::<elman_simple_rnn_config>(), 2));
            let (mut network, mut cell) = (null_mut(), null_mut());
            done(elman_sequential_new(1, &raw mut network));
            done(elman_sequential_add_simple_rnn(network, config.as_ptr()));
            done(elman_sequential_add_dense(network, 1, ELMAN_ACTIVATION_LINEAR));
            done(elman_sequential_build(network, 7));
            let (xs, x_len) = (x.as_ptr(), x.len());
            run(BATCH, &mut |y| elman_sequential_predict(network, xs, x_len, BATCH, STEPS, y, BATCH));
            run(BATCH * 2, &mut |state| {
                let mut options = MaybeUninit::uninit();
                done(elman_run_options_init(options.as_mut_ptr(), size_of::<elman_run_options>()));
                let mut options = options.assume_init();
                (options.final_state, options.final_state_len) = (state, BATCH * 2);
                let mut y = make(BATCH);
                let y = y.as_mut_ptr().cast();
                elman_sequential_run(network, xs, x_len, BATCH, STEPS, &raw const options, y, BATCH)
            });
            run(2, &mut |values| elman_sequential_get_weight(network, 0, ELMAN_WEIGHT_KERNEL, values, 2));
            run(11, &mut |values| elman_sequential_get_parameters(network, values, 11));

            let mut stream = null_mut();
            done(elman_stream_new(network, BATCH, &raw mut stream));
            run(BATCH, &mut |y| elman_stream_run(stream, xs, x_len, STEPS, y, BATCH));
            run(BATCH * 2, &mut |state| elman_stream_get_state(stream, state, BATCH * 2));
            elman_stream_free(stream);

            let mut tape = null_mut();
            let (flag, options) = (elman_bool(0), null());
            done(elman_tape_new(network, BATCH, STEPS, &raw mut tape));
            run(BATCH, &mut |y| {
                elman_tape_forward(tape, xs, x_len, BATCH, STEPS, options, flag, 0, y, BATCH)
            });
            run(x_len, &mut |dx| elman_tape_backward(tape, [1.0; BATCH].as_ptr(), BATCH, dx, x_len));
            run(11, &mut |values| elman_tape_get_gradients(tape, values, 11));
            run(STEPS, &mut |norms| elman_tape_gradient_norms(tape, 0, norms, STEPS));
            elman_tape_free(tape);
            elman_sequential_free(network);

            done(elman_simple_rnn_cell_new(config.as_ptr(), 1, 7, &raw mut cell));
            let h = [0.5f32; BATCH * 2];
            run(BATCH * 2, &mut |next| {
                elman_simple_rnn_cell_step(cell, xs, BATCH, h.as_ptr(), h.len(), BATCH, next, h.len())
            });
            elman_simple_rnn_cell_free(cell);

            let (mut lstm, mut cell, len) = (MaybeUninit::uninit(), null_mut(), h.len());
            done(elman_lstm_config_init(lstm.as_mut_ptr(), size_of::<elman_lstm_config>(), 2));
            done(elman_lstm_cell_new(lstm.as_ptr(), 1, 7, &raw mut cell));
            run(2 * len, &mut |h_next| {
                let (h, c_next) = (h.as_ptr(), h_next.add(len));
                elman_lstm_cell_step(cell, xs, BATCH, h, len, h, len, BATCH, h_next, len, c_next, len)
            });
            elman_lstm_cell_free(cell);
        }
        written
    }

    /// Whatever was there before: what `malloc` gave, zeros, or NaNs.
    #[test]
    fn outputs_need_not_be_initialised() {
        let filled = |value: f32| {
            outputs(|len| {
                let mut array = unwritten(len);
                array.iter_mut().for_each(|place| {
                    place.write(value);
                });
                array
            })
        };
        let expected = filled(0.0);
        assert_eq!(expected.iter().filter(|value| value.is_finite()).count(), expected.len());
        assert_eq!(filled(f32::NAN), expected);
        assert_eq!(outputs(unwritten), expected);
    }

    /// The block that makes memory count as written leaves it as it is.
    #[test]
    fn a_slice_of_an_output_holds_what_was_there() {
        let mut array = [1.5f32, f32::NAN, -0.0];
        let before = array.map(f32::to_bits);
        let output = Output::new("y", array.as_mut_ptr(), array.len()).unwrap();
        // SAFETY: an array of this function, which uses it no other way until the slice is gone.
        let slice = unsafe { output.slice() };
        assert_eq!(slice.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), before);
    }
}
