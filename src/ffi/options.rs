//! The options of one run: masks, lengths, padding, states.

use std::mem::offset_of;

use super::boundary::boundary;
use super::enums::{ELMAN_PADDING_KERAS, elman_padding};
use super::raw::{Input, Output, Span};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use crate::sequential::{Padding, RunOptions, Sequential};

/// What one run does beyond predict: masked or shorter rows, initial states, final states. Fill it by
/// elman_run_options_init, then set what you use; a NULL array is not used. The struct is only read during a
/// call, its arrays stay yours, and they must not overlap with final_state or with the run's output.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_run_options {
    /// Bytes of this struct that are filled; set by elman_run_options_init.
    pub struct_size: usize,
    /// [batch, steps]: 0 = skip the step, any other number = use it. Not together with lengths. Where the
    /// network masks token 0 or a value itself, both must allow a step. A network without recurrent layers
    /// skips no step.
    pub mask: *const u8,
    /// Elements of mask: batch x steps.
    pub mask_len: usize,
    /// [batch]: how many steps of each row count, 0 to steps; the others are at its end. Not together with
    /// mask.
    pub lengths: *const usize,
    /// Elements of lengths: batch.
    pub lengths_len: usize,
    /// What skipped steps leave behind: ELMAN_PADDING_KERAS (the default) or ELMAN_PADDING_ONNX, which goes
    /// with lengths and not with a mask.
    pub padding: elman_padding,
    /// The states before the first step, laid out as elman_sequential_state_len says; NULL: zeros, and for
    /// stateful layers the states that they keep.
    pub initial_state: *const f32,
    /// Elements of initial_state: elman_sequential_state_len.
    pub initial_state_len: usize,
    /// Output: the states after the last step, laid out as elman_sequential_state_len says. Written only on
    /// success.
    pub final_state: *mut f32,
    /// Elements of final_state: elman_sequential_state_len.
    pub final_state_len: usize,
}

/// Fills `options` with defaults: nothing masked, no initial states given and no final ones asked for, which
/// is what predict does.
///
/// struct_size is `sizeof *options` as your compiler sees it: no more bytes than that are written.
///
/// Fails with INVALID_ARGUMENT where struct_size does not even hold the mask.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_run_options_init(
    options: *mut elman_run_options,
    struct_size: usize,
) -> elman_status {
    boundary(|| {
        let least = offset_of!(elman_run_options, lengths);
        let defaults = |struct_size| elman_run_options { struct_size, ..DEFAULTS };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("options", options, struct_size, least, defaults) }
    })
}

const DEFAULTS: elman_run_options = elman_run_options {
    struct_size: size_of::<elman_run_options>(),
    mask: std::ptr::null(),
    mask_len: 0,
    lengths: std::ptr::null(),
    lengths_len: 0,
    padding: ELMAN_PADDING_KERAS,
    initial_state: std::ptr::null(),
    initial_state_len: 0,
    final_state: std::ptr::null_mut(),
    final_state_len: 0,
};

/// The arrays of a run's options, with their lengths checked.
pub(super) struct Options {
    mask: Option<Input<u8>>,
    lengths: Option<Input<usize>>,
    padding: Padding,
    initial_state: Option<Input<f32>>,
    final_state: Option<Output<f32>>,
}

impl Options {
    /// Reads what C wrote for a run of `batch` rows of `steps` through `network`. NULL means the defaults.
    ///
    /// # Safety
    /// `options` is NULL or points to as many readable bytes as its first field says.
    pub(super) unsafe fn read(
        options: *const elman_run_options,
        network: &Sequential,
        batch: usize,
        steps: usize,
    ) -> Result<Self, Failure> {
        let mut given = DEFAULTS;
        if !options.is_null() {
            // SAFETY: the caller's duty is the same.
            let struct_size =
                unsafe { size_of_given("options", options, offset_of!(elman_run_options, lengths)) }?;
            read_fields!(options, struct_size, given: elman_run_options {
                mask, mask_len, lengths, lengths_len, padding, initial_state, initial_state_len, final_state,
                final_state_len,
            });
        }
        let mask = used("mask", given.mask, given.mask_len)?
            .map(|(start, len)| Input::new("mask", start, len)?.expect("batch x steps", &[batch, steps]));
        let lengths = used("lengths", given.lengths, given.lengths_len)?
            .map(|(start, len)| Input::new("lengths", start, len)?.expect("batch", &[batch]));
        let state_len = network.state_len(batch)?;
        let initial_state = used("initial_state", given.initial_state, given.initial_state_len)?
            .map(|(start, len)| Input::new("initial_state", start, len)?.expect("state_len", &[state_len]));
        let final_state = used("final_state", given.final_state.cast_const(), given.final_state_len)?.map(
            |(start, len)| {
                Output::new("final_state", start.cast_mut(), len)?.expect("state_len", &[state_len])
            },
        );
        Ok(Self {
            mask: mask.transpose()?,
            lengths: lengths.transpose()?,
            padding: given.padding.read()?,
            initial_state: initial_state.transpose()?,
            final_state: final_state.transpose()?,
        })
    }

    /// Checks that the outputs, `y` and the final state, share no memory with `x`, with each other or with an
    /// array here.
    pub(super) fn check_overlap(&self, x: Span, y: &Output<f32>) -> Result<(), Failure> {
        let inputs = [
            Some(x),
            self.mask.as_ref().map(Input::span),
            self.lengths.as_ref().map(Input::span),
            self.initial_state.as_ref().map(Input::span),
        ];
        let inputs = || inputs.into_iter().flatten();
        for input in inputs() {
            y.apart_from(input)?;
        }
        if let Some(final_state) = &self.final_state {
            for input in inputs() {
                final_state.apart_from(input)?;
            }
            final_state.apart_from(y.span())?;
        }
        Ok(())
    }

    /// # Safety
    /// The arrays are as long as C said, nobody writes the inputs and nobody else uses the final state during
    /// the call; and [`Options::check_overlap`] found nothing.
    pub(super) unsafe fn into_run_options<'a>(self) -> RunOptions<'a> {
        // SAFETY: the caller's duty is the same for each.
        unsafe {
            RunOptions {
                mask: self.mask.map(|array| array.slice()),
                lengths: self.lengths.map(|array| array.slice()),
                padding: self.padding,
                initial_state: self.initial_state.map(|array| array.slice()),
                final_state: self.final_state.map(|array| array.slice()),
            }
        }
    }
}

/// An array that may be NULL, and then must not claim a length: a failed malloc is no unused option.
pub(super) fn used<T>(what: &str, start: *const T, len: usize) -> Result<Option<(*const T, usize)>, Failure> {
    match (start.is_null(), len) {
        (false, len) => Ok(Some((start, len))),
        (true, 0) => Ok(None),
        (true, len) => Err(Failure::new(
            super::ELMAN_STATUS_NULL_POINTER,
            format!("{what} is NULL, and {what}_len is {len}; an unused option has length 0"),
        )),
    }
}
