//! What is asked of a trainer, and changed, between steps.

use super::config::ELMAN_LEARNING_RATE_DEFAULT;
use super::handle::elman_trainer;
use crate::ffi::boundary::boundary;
use crate::ffi::enums::{elman_bool, elman_weight};
use crate::ffi::raw::{Place, shared, unshared};
use crate::ffi::status::elman_status;

/// *steps receives how many steps the trainer has taken, those before a checkpoint included.
///
/// Fails with nothing but what all functions may.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_steps(trainer: *const elman_trainer, steps: *mut u64) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let trainer = unsafe { shared("trainer", trainer) }?;
        let steps = Place::new("steps", steps)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { steps.put(trainer.trainer.steps()) };
        Ok(())
    })
}

/// *learning_rate receives the rate of the next step.
///
/// Fails with nothing but what all functions may.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_get_learning_rate(
    trainer: *const elman_trainer,
    learning_rate: *mut f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let trainer = unsafe { shared("trainer", trainer) }?;
        let learning_rate = Place::new("learning_rate", learning_rate)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { learning_rate.put(trainer.trainer.learning_rate()) };
        Ok(())
    })
}

/// Takes all further steps at this rate, in place of the configuration's schedule;
/// ELMAN_LEARNING_RATE_DEFAULT stands for the optimizer's own. 0 moves nothing but what momentum moves.
///
/// Fails with INVALID_ARGUMENT for another rate below 0, or one that is not finite.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_set_learning_rate(
    trainer: *mut elman_trainer,
    learning_rate: f32,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, .. } = unsafe { unshared("trainer", trainer) }?;
        let default = trainer.config().optimizer.default_rate();
        let is_default = learning_rate == ELMAN_LEARNING_RATE_DEFAULT;
        trainer.set_learning_rate(if is_default { default } else { learning_rate })?;
        Ok(())
    })
}

/// Freezes the weights of a layer (false), or lets them move again: Keras's trainable. What is frozen has
/// gradients of 0, counts in no norm and no penalty, and keeps what the optimizer has beside it. Its dropout
/// stays active.
///
/// Fails with INVALID_ARGUMENT (no such layer, or one without weights).
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_set_trainable(
    trainer: *mut elman_trainer,
    layer: usize,
    trainable: elman_bool,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, .. } = unsafe { unshared("trainer", trainer) }?;
        trainer.set_trainable(layer, trainable.read("trainable")?)?;
        Ok(())
    })
}

/// Keeps a weight out of AdamW's weight decay (false), or lets it in again: Keras's
/// exclude_from_weight_decay. At first it acts on every weight, biases included, as in Keras.
///
/// Fails with INVALID_ARGUMENT (no such layer, an unknown weight, or one that the layer does not have).
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_set_weight_decay(
    trainer: *mut elman_trainer,
    layer: usize,
    which: elman_weight,
    decays: elman_bool,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, .. } = unsafe { unshared("trainer", trainer) }?;
        trainer.set_decays(layer, which.read()?, decays.read("decays")?)?;
        Ok(())
    })
}
