//! One step by hand: the simple cell, and what the steps of all cells check.

use super::boundary::boundary;
use super::config::{elman_simple_rnn_config, read_config};
use super::enums::elman_weight;
use super::raw::{Input, Output, Place, at_least_one, free, shared, unshared};
use super::status::{Failure, elman_status};
use crate::cell::SimpleRnnCell;

/// The arrays of a step, checked: the input, and for each state the array before the step and that of the
/// next one.
pub(super) struct Step<const STATES: usize> {
    x: Input<f32>,
    before: [Input<f32>; STATES],
    next: [Output<f32>; STATES],
}

/// The input, the states before the step, each `None` where the next one's array holds it, and the next
/// states.
pub(super) type StepSlices<'a, const STATES: usize> =
    (&'a [f32], [Option<&'a [f32]>; STATES], [&'a mut [f32]; STATES]);

impl<const STATES: usize> Step<STATES> {
    /// Checks lengths, and that an output shares no memory with another array, unless it is that of its own
    /// state.
    #[inline(always)]
    pub(super) fn new(
        x: Input<f32>,
        before: [Input<f32>; STATES],
        next: [Output<f32>; STATES],
        [batch, input_size, units]: [usize; 3],
    ) -> Result<Self, Failure> {
        at_least_one("batch", batch)?;
        x.check("batch x input_size", &[batch, input_size])?;
        for (before, next) in before.iter().zip(&next) {
            before.check("batch x units", &[batch, units])?;
            next.check("batch x units", &[batch, units])?;
        }
        for (i, output) in next.iter().enumerate() {
            output.apart_from(x.span())?;
            for (other, before) in before.iter().enumerate() {
                if other != i || !output.is(before) {
                    output.apart_from(before.span())?;
                }
            }
            for other in &next[..i] {
                output.apart_from(other.span())?;
            }
        }
        Ok(Self { x, before, next })
    }

    /// A state that is stepped in place becomes no slice of inputs: its memory is the output's slice alone.
    ///
    /// # Safety
    /// The arrays are as long as C said, nobody writes the inputs and nobody else uses the outputs during the
    /// call.
    #[inline(always)]
    pub(super) unsafe fn slices<'a>(self) -> StepSlices<'a, STATES> {
        let in_place: [bool; STATES] = std::array::from_fn(|i| self.next[i].is(&self.before[i]));
        // SAFETY: the caller's duty is the same for each array, and `new` found no other overlap.
        unsafe {
            let before = std::array::from_fn(|i| (!in_place[i]).then(|| self.before[i].slice()));
            (self.x.slice(), before, self.next.map(|next| next.slice()))
        }
    }
}

/// One step of a SimpleRNN by hand: h_next = activation(x W + b + h U). Made by elman_simple_rnn_cell_new,
/// ended by elman_simple_rnn_cell_free.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
pub struct elman_simple_rnn_cell(SimpleRnnCell);

/// Makes a cell for rows of `input_size` features, with initial weights that depend on nothing but the
/// configuration, input_size and seed: the same ones on every machine.
///
/// On success *out is the new cell, and yours to free.
///
/// Fails with INVALID_ARGUMENT (a zero size, a rate outside 0 to 1, an unknown enum value, a flag other than
/// 0 and 1, softmax, an initializer's number outside its range or a matrix for a bias), OUT_OF_MEMORY,
/// UNSUPPORTED (ELMAN_ISA names something unknown or not available here).
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_simple_rnn_cell_new(
    config: *const elman_simple_rnn_config,
    input_size: usize,
    seed: u64,
    out: *mut *mut elman_simple_rnn_cell,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_config(config) }?;
        let cell = SimpleRnnCell::new(config, input_size, seed)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_simple_rnn_cell(cell)) };
        Ok(())
    })
}

/// One step for `batch` rows: h_next = activation(x W + b + h U).
///
/// x is [batch, input_size], h and h_next are [batch, units]. h_next may be the very same array as h, which
/// steps in place; any other overlap of h_next with x or h is an error. The bits of a row are those of the
/// same row in a network's SimpleRNN layer, whatever the batch. What a step of more than 256 states needs
/// beside its arrays the cell keeps for the next, which then allocates nothing.
///
/// Fails with INVALID_ARGUMENT (batch is 0, an overflowed product), LENGTH_MISMATCH, OVERLAP, OUT_OF_MEMORY.
///
/// Threads: any number at once on one cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_simple_rnn_cell_step(
    cell: *const elman_simple_rnn_cell,
    x: *const f32,
    x_len: usize,
    h: *const f32,
    h_len: usize,
    batch: usize,
    h_next: *mut f32,
    h_next_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_simple_rnn_cell(cell) = unsafe { shared("cell", cell) }?;
        let x = Input::new("x", x, x_len)?;
        let before = [Input::new("h", h, h_len)?];
        let next = [Output::new("h_next", h_next, h_next_len)?];
        let step = Step::new(x, before, next, [batch, cell.input_size(), cell.units()])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        match unsafe { step.slices() } {
            (x, [Some(h)], [h_next]) => cell.step(x, h, batch, h_next)?,
            (x, [None], [h]) => cell.step_in_place(x, batch, h)?,
        }
        Ok(())
    })
}

/// Copies a weight of the cell to `values`: ELMAN_WEIGHT_KERNEL [input_size, units],
/// ELMAN_WEIGHT_RECURRENT_KERNEL [units, units] or ELMAN_WEIGHT_BIAS [units], in Keras's layout. len is the
/// number of elements of that shape.
///
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH.
///
/// Threads: any number at once on one cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_simple_rnn_cell_get_weight(
    cell: *const elman_simple_rnn_cell,
    which: elman_weight,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_simple_rnn_cell(cell) = unsafe { shared("cell", cell) }?;
        let values = Output::new("values", values, len)?;
        let weight = cell.weight(which.read()?)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("rows x columns", &weight.shape(), weight.values()) }
    })
}

/// Replaces a weight of the cell by a copy of `values`; shapes as in elman_simple_rnn_cell_get_weight.
///
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH,
/// OUT_OF_MEMORY; the cell is unchanged then.
///
/// Threads: the cell must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_simple_rnn_cell_set_weight(
    cell: *mut elman_simple_rnn_cell,
    which: elman_weight,
    values: *const f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_simple_rnn_cell(cell) = unsafe { unshared("cell", cell) }?;
        let values = Input::new("values", values, len)?;
        let which = which.read()?;
        let values = values.expect("rows x columns", &cell.weight(which)?.shape())?;
        // SAFETY: as long as C says: the contract at the top of the header.
        cell.set_weight(which, unsafe { values.slice() })?;
        Ok(())
    })
}

/// Frees a cell. NULL is fine; a second time is not.
///
/// Threads: the cell must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_simple_rnn_cell_free(cell: *mut elman_simple_rnn_cell) {
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(cell) }
}
