//! Whole steps, and what a step would find.

use super::handle::elman_trainer;
use super::rows::GivenRows;
use crate::ffi::arrays::{Element, Given};
use crate::ffi::boundary::boundary;
use crate::ffi::options::{Options, elman_run_options, used};
use crate::ffi::raw::{Output, shared, unshared};
use crate::ffi::status::elman_status;

/// One step on x [batch, steps, features] and target, which is laid out as the network's output (the sparse
/// loss: one class number for each row of it). *loss receives the batch's loss before the weights moved.
/// `options` may be NULL. Where the network gives sequences, masked steps do not count in the loss; a batch
/// that is masked throughout has loss 0 (but for penalties), and is no step: nothing moves.
///
/// elman_trainer_step_examples does the same on a struct, elman_examples, which holds whatever is optional
/// too: weights, class weights, masks. It serves floats and token ids.
///
/// Fails like elman_sequential_run, and with INVALID_ARGUMENT for a class number that is none where its
/// weight is not 0, NOT_FINITE where the loss, a gradient, a new weight or what the optimizer keeps is a NaN
/// or an infinity, UNSUPPORTED where truncation meets ONNX padding or elman_sequential_drop_weights has freed
/// the weights: weights, optimizer and states are unchanged then, as after any other failure.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step(
    trainer: *mut elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_step for token ids [batch, steps].
///
/// Fails like elman_trainer_step, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_tokens(
    trainer: *mut elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_step where each row counts by its weight: weights is [batch], or [batch, steps] where the
/// network gives sequences. The loss is the sum of weight x loss over what counts, divided by its number and
/// not by the weights' sum, as in Keras. elman_trainer_step_examples takes the weights in a struct.
///
/// Fails like elman_trainer_step.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_weighted(
    trainer: *mut elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len))
        .weighted(Some((weights, weights_len)));
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_step_weighted for token ids [batch, steps].
///
/// Fails like elman_trainer_step_tokens.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_step_weighted_tokens(
    trainer: *mut elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len))
        .weighted(Some((weights, weights_len)));
    // SAFETY: the contract at the top of the header is `step`'s.
    unsafe { step(trainer, given, options, loss) }
}

/// elman_trainer_evaluate_examples on x [batch, steps, features] and target, laid out as in
/// elman_trainer_step: *loss receives the loss, *accuracy, which may be NULL, the share of right answers.
/// weights may be NULL, with weights_len 0, where all rows count alike. With masks, lengths or states, class
/// weights, and for a weighted accuracy, call that function.
///
/// Fails like elman_trainer_step, but for NOT_FINITE: a loss that is a NaN or an infinity is given as it is.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_evaluate(
    trainer: *const elman_trainer,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    loss: *mut f32,
    accuracy: *mut f32,
) -> elman_status {
    let given = GivenRows::new((x, x_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `evaluate`'s.
    unsafe { evaluate(trainer, given, (weights, weights_len), loss, accuracy) }
}

/// elman_trainer_evaluate for token ids [batch, steps].
///
/// Fails like elman_trainer_evaluate, and with INVALID_ARGUMENT where an id is outside the vocabulary.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_evaluate_tokens(
    trainer: *const elman_trainer,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    target: *const f32,
    target_len: usize,
    weights: *const f32,
    weights_len: usize,
    loss: *mut f32,
    accuracy: *mut f32,
) -> elman_status {
    let given = GivenRows::new((ids, ids_len), (batch, steps), (target, target_len));
    // SAFETY: the contract at the top of the header is `evaluate`'s.
    unsafe { evaluate(trainer, given, (weights, weights_len), loss, accuracy) }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn step<T: Element>(
    trainer: *mut elman_trainer,
    given: GivenRows<T>,
    options: *const elman_run_options,
    loss: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the caller's duty.
        let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
        let mut network = network.write()?;
        let loss = Output::new("loss", loss, 1)?;
        let (batch, steps) = given.sizes;
        let rows = given.check(trainer, &network)?;
        // SAFETY: readable for its struct_size bytes: the caller's duty.
        let options = unsafe { Options::read(options, &network, batch, steps) }?;
        rows.spans().try_for_each(|span| options.check_overlap(span, &loss))?;
        // SAFETY: as long as C says: the caller's duty; apart, checked above.
        let (examples, options) = unsafe { (rows.examples(), options.into_run_options()) };
        let value = trainer.step(&mut network, examples, options)?;
        // SAFETY: valid for a write: the caller's duty.
        unsafe { loss.copy_from("one", &[1], &[value]) }
    })
}

/// # Safety
/// What the header asks of its callers.
unsafe fn evaluate<T: Element>(
    trainer: *const elman_trainer,
    given: GivenRows<T>,
    weights: Given<f32>,
    loss: *mut f32,
    accuracy: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the caller's duty.
        let elman_trainer { trainer, network } = unsafe { shared("trainer", trainer) }?;
        let network = network.read()?;
        let loss = Output::new("loss", loss, 1)?;
        let accuracy = if accuracy.is_null() { None } else { Some(Output::new("accuracy", accuracy, 1)?) };
        let weights = used("weights", weights.0, weights.1)?;
        let rows = given.weighted(weights).check(trainer, &network)?;
        for span in rows.spans() {
            loss.apart_from(span)?;
            accuracy.as_ref().map_or(Ok(()), |accuracy| accuracy.apart_from(span))?;
        }
        accuracy.as_ref().map_or(Ok(()), |accuracy| accuracy.apart_from(loss.span()))?;
        // SAFETY: as long as C says: the caller's duty.
        let score = trainer.evaluate(&network, unsafe { rows.examples() })?;
        // SAFETY: both valid for a write: the caller's duty; apart, checked above.
        unsafe {
            loss.copy_from("one", &[1], &[score.loss])?;
            accuracy.map_or(Ok(()), |to| to.copy_from("one", &[1], &[score.accuracy.unwrap_or(f32::NAN)]))
        }
    })
}
