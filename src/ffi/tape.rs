//! Gradients: forward passes that can be gone back, and all weights as one array.

use super::arrays::{Arrays, Element, Given};
use super::boundary::boundary;
use super::enums::{elman_bool, elman_weight};
use super::options::elman_run_options;
use super::raw::{Input, Output, Place, free, shared, unshared};
use super::sequential::{changing, elman_sequential, reading};
use super::status::elman_status;
use crate::tape::Tape;

/// A recorder of forward passes, which can then be gone back for the gradients. Made by elman_tape_new, ended
/// by elman_tape_free. It keeps the weights that the network had when the tape was made, and keeps them
/// alive: the network may be changed or freed before the tape. It keeps no states: a pass through stateful
/// layers too begins with zeros, or with the states that it is given.
///
/// Threads: any number of tapes of one network at once. On one tape, functions that take it const may run on
/// any number of threads at once; the others need it alone.
pub struct elman_tape(Tape);

/// Makes a tape for batches of up to `batch` rows and up to `steps` steps.
///
/// On success *out is the new tape, and yours to free.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (batch or steps is 0, an overflowed product), UNSUPPORTED (a
/// network without a layer that computes, elman_sequential_drop_weights has freed the weights),
/// OUT_OF_MEMORY.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_new(
    network: *const elman_sequential,
    batch: usize,
    steps: usize,
    out: *mut *mut elman_tape,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let out = Place::new("out", out)?;
        let tape = Tape::new(&network, batch, steps)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_tape(tape)) };
        Ok(())
    })
}

/// Writes the output y for the input x [batch, steps, features], as elman_sequential_run does, and records
/// what elman_tape_backward needs. With `training` dropout is active, its masks drawn from `seed`: one seed,
/// the same masks on every machine. `options` may be NULL. A tape keeps no states: stateful layers begin with
/// zeros too, unless initial states are given.
///
/// Fails like elman_sequential_run, and with INVALID_ARGUMENT where batch or steps exceed the tape's. The
/// last forward and backward pass stay on the tape then, unless it is OUT_OF_MEMORY: there is none after
/// that.
///
/// Threads: the tape must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_forward(
    tape: *mut elman_tape,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    options: *const elman_run_options,
    training: elman_bool,
    seed: u64,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `forward`'s.
    unsafe { forward(tape, (x, x_len), (batch, steps), options, (training, seed), (y, y_len)) }
}

/// elman_tape_forward for token ids [batch, steps].
///
/// Fails like elman_tape_forward, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: the tape must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_forward_tokens(
    tape: *mut elman_tape,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    options: *const elman_run_options,
    training: elman_bool,
    seed: u64,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `forward`'s.
    unsafe { forward(tape, (ids, ids_len), (batch, steps), options, (training, seed), (y, y_len)) }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn forward<T: Element>(
    tape: *mut elman_tape,
    x: Given<T>,
    sizes: (usize, usize),
    options: *const elman_run_options,
    (training, seed): (elman_bool, u64),
    y: (*mut f32, usize),
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the caller's duty.
        let elman_tape(tape) = unsafe { unshared("tape", tape) }?;
        let training = training.read("training")?;
        // SAFETY: the caller's duty is the same.
        let arrays = unsafe { Arrays::read(tape.model(), x, sizes, options, y) }?;
        let Arrays { x, y, options } = arrays;
        Ok(tape.forward(T::values(x), sizes.0, sizes.1, options, training, seed, y)?)
    })
}

/// Goes back through the last forward pass: dy is the loss's gradient by its output, as long as that; dx
/// receives the gradient by the input x and may be NULL with dx_len 0. The gradients of an earlier call are
/// overwritten.
///
/// Fails with LENGTH_MISMATCH, OVERLAP (dx and dy), INVALID_ARGUMENT (no forward pass yet, dx for a network
/// that reads tokens), OUT_OF_MEMORY.
///
/// Threads: the tape must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_backward(
    tape: *mut elman_tape,
    dy: *const f32,
    dy_len: usize,
    dx: *mut f32,
    dx_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_tape(tape) = unsafe { unshared("tape", tape) }?;
        let [batch, steps] = tape.sizes()?;
        let dy = Input::new("dy", dy, dy_len)?;
        let dy = dy.expect("output_len", &[tape.model().output_len(batch, steps)?])?;
        let dx = if dx.is_null() && dx_len == 0 {
            None
        } else {
            let features = tape.model().input_size();
            let dx = Output::new("dx", dx, dx_len)?
                .expect("batch x steps x features", &[batch, steps, features])?;
            dx.apart_from(dy.span())?;
            Some(dx)
        };
        // SAFETY: as long as C says: the contract at the top of the header; apart, checked above.
        unsafe { tape.backward(dy.slice(), dx.map(|dx| dx.slice())) }?;
        Ok(())
    })
}

/// Writes the gradient of one weight, in its layout (elman_sequential_weight_shape).
///
/// Fails with INVALID_ARGUMENT (no backward pass yet, no such layer, the layer has no such weight),
/// LENGTH_MISMATCH.
///
/// Threads: any number at once on one tape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_get_gradient(
    tape: *const elman_tape,
    layer: usize,
    which: elman_weight,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_tape(tape) = unsafe { shared("tape", tape) }?;
        let values = Output::new("values", values, len)?;
        let gradient = tape.gradient(layer, which.read()?)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("rows x columns", &[gradient.len()], gradient) }
    })
}

/// Writes all gradients, one behind the other, in the order of elman_sequential_get_parameters.
///
/// Fails with INVALID_ARGUMENT (no backward pass yet), LENGTH_MISMATCH.
///
/// Threads: any number at once on one tape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_get_gradients(
    tape: *const elman_tape,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_tape(tape) = unsafe { shared("tape", tape) }?;
        let values = Output::new("values", values, len)?;
        let gradients = tape.gradients()?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("parameter_count", &[gradients.len()], gradients) }
    })
}

/// Writes the gradient by the initial states, laid out as elman_sequential_state_len says for the last batch.
///
/// Fails with INVALID_ARGUMENT (no backward pass yet), LENGTH_MISMATCH.
///
/// Threads: any number at once on one tape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_get_initial_state_gradient(
    tape: *const elman_tape,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_tape(tape) = unsafe { shared("tape", tape) }?;
        let values = Output::new("values", values, len)?;
        let gradient = tape.initial_state_gradient()?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("state_len", &[gradient.len()], gradient) }
    })
}

/// Writes, for each step of the last forward pass, the L2 norm of the loss's gradient by a recurrent layer's
/// state h after that step, over batch and units: how it fades or explodes on its way back. An LSTM's c does
/// not count. A Bidirectional layer's directions count together.
///
/// Fails with INVALID_ARGUMENT (no backward pass yet, the layer is not recurrent), LENGTH_MISMATCH.
///
/// Threads: any number at once on one tape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_gradient_norms(
    tape: *const elman_tape,
    layer: usize,
    norms: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_tape(tape) = unsafe { shared("tape", tape) }?;
        let [_, steps] = tape.sizes()?;
        let norms = Output::new("norms", norms, len)?;
        let mut found = crate::memory::zeros(steps)?;
        tape.gradient_norms(layer, &mut found)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { norms.copy_from("steps", &[steps], &found) }
    })
}

/// Scales all gradients by one factor, so that their common L2 norm is at most max_norm; *norm_before
/// receives the norm that they had and may be NULL.
///
/// Fails with INVALID_ARGUMENT (no backward pass yet, max_norm is not a finite number above 0), NOT_FINITE (a
/// gradient is a NaN or an infinity); the gradients are unchanged then.
///
/// Threads: the tape must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_clip_by_global_norm(
    tape: *mut elman_tape,
    max_norm: f32,
    norm_before: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_tape(tape) = unsafe { unshared("tape", tape) }?;
        let place = if norm_before.is_null() { None } else { Some(Place::new("norm_before", norm_before)?) };
        let norm = tape.clip_by_global_norm(max_norm)?;
        if let Some(place) = place {
            // SAFETY: valid for a write: the contract at the top of the header.
            unsafe { place.put(norm) };
        }
        Ok(())
    })
}

/// Frees a tape. NULL is fine; a second time is not.
///
/// Threads: the tape must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_tape_free(tape: *mut elman_tape) {
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(tape) }
}

/// *count receives the floats in all weights together.
///
/// Fails with NOT_BUILT.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_parameter_count(
    network: *const elman_sequential,
    count: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let place = Place::new("count", count)?;
        let count = network.parameter_count()?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { place.put(count) };
        Ok(())
    })
}

/// Writes all weights, one behind the other: layer by layer, and within a layer in the order of the
/// ELMAN_WEIGHT_ constants.
///
/// Fails with NOT_BUILT, LENGTH_MISMATCH, UNSUPPORTED (elman_sequential_drop_weights has freed the weights).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_get_parameters(
    network: *const elman_sequential,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let values = Output::new("values", values, len)?;
        let values = values.expect("parameter_count", &[network.parameter_count()?])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        network.get_parameters(unsafe { values.slice() })?;
        Ok(())
    })
}

/// Replaces all weights at once, laid out as elman_sequential_get_parameters gives them.
///
/// Fails like elman_sequential_get_parameters, and with OUT_OF_MEMORY; the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_set_parameters(
    network: *mut elman_sequential,
    values: *const f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        let values = Input::new("values", values, len)?;
        let values = values.expect("parameter_count", &[network.parameter_count()?])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        network.set_parameters(unsafe { values.slice() })?;
        Ok(())
    })
}
