//! The two halves of a step.

use super::handle::elman_trainer;
use super::rows::GivenRows;
use crate::ffi::arrays::Element;
use crate::ffi::boundary::boundary;
use crate::ffi::options::{Options, elman_run_options};
use crate::ffi::raw::{Input, Output, unshared};
use crate::ffi::status::elman_status;

/// The first half of a step, for hosts that change gradients or average them between processes: *loss
/// receives the batch's loss, penalties included, and `gradients` (elman_sequential_parameter_count floats)
/// its gradients in the order of elman_sequential_get_parameters, before they are clipped; those of frozen
/// layers are 0. Nothing moves, neither weights nor the states of stateful layers, until elman_trainer_apply.
///
/// Fails like elman_trainer_step, and with UNSUPPORTED where the trainer truncates, whose step is several.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_backward(
    trainer: *mut elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    gradients: *mut f32,
    gradients_len: usize,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `backward`'s.
    unsafe { backward(trainer, given, options, (gradients, gradients_len), loss) }
}

/// elman_trainer_backward for token ids [batch, steps].
///
/// Fails like elman_trainer_backward, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_backward_tokens(
    trainer: *mut elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    gradients: *mut f32,
    gradients_len: usize,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `backward`'s.
    unsafe { backward(trainer, given, options, (gradients, gradients_len), loss) }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn backward<T: Element>(
    trainer: *mut elman_trainer,
    given: GivenRows<T>,
    options: *const elman_run_options,
    gradients: (*mut f32, usize),
    loss: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the caller's duty.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let network = network.read()?;
        let loss = Output::new("loss", loss, 1)?;
        let gradients = Output::new("gradients", gradients.0, gradients.1)?;
        let (batch, steps) = given.sizes;
        let rows = given.check(trainer, &network)?;
        let gradients = gradients.expect("parameter_count", &[network.parameter_count()?])?;
        // SAFETY: readable for its struct_size bytes: the caller's duty.
        let options = unsafe { Options::read(options, &network, batch, steps) }?;
        for span in rows.spans() {
            options.check_overlap(span, &loss)?;
            options.check_overlap(span, &gradients)?;
        }
        loss.apart_from(gradients.span())?;
        // SAFETY: as long as C says: the caller's duty; apart, checked above.
        let (examples, options) = unsafe { (rows.examples(), options.into_run_options()) };
        // SAFETY: as above.
        let value = trainer.backward(&network, examples, options, unsafe { gradients.slice() })?;
        // SAFETY: valid for a write: the caller's duty.
        unsafe { loss.copy_from("one", &[1], &[value]) }
    })
}

/// The second half of a step: clips `gradients`, laid out as elman_trainer_backward gives them, and moves the
/// weights by them. With the gradients of one elman_trainer_backward as they are, the two have the bits of
/// one elman_trainer_step: a batch that was masked throughout, for one, moves nothing. Stateful layers go on
/// from where the last elman_trainer_backward ended. With lazy_embeddings those rows move that it met or
/// whose gradient is not 0.
///
/// Fails with LENGTH_MISMATCH, OUT_OF_MEMORY, NOT_FINITE where a gradient, a new weight or what the optimizer
/// keeps is a NaN or an infinity, UNSUPPORTED (elman_sequential_drop_weights has freed the weights): nothing
/// has moved then.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_apply(
    trainer: *mut elman_trainer,
    gradients: *const f32,
    gradients_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let mut network = network.write()?;
        let gradients = Input::new("gradients", gradients, gradients_len)?
            .expect("parameter_count", &[network.parameter_count()?])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        trainer.apply(&mut network, unsafe { gradients.slice() })?;
        Ok(())
    })
}
