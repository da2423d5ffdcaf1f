//! The handle of a trainer: made, freed.

use super::config::{elman_trainer_config, read_config};
use crate::ffi::boundary::boundary;
use crate::ffi::raw::{Place, free, shared};
use crate::ffi::sequential::elman_sequential;
use crate::ffi::status::elman_status;
use crate::training::Trainer;

/// A network's training: the optimizer's state and the buffers. Made by elman_trainer_new or
/// elman_trainer_load, ended by elman_trainer_free. It changes the network in each step, and keeps it alive:
/// elman_sequential_free may come before elman_trainer_free.
///
/// Stateful layers go on from where the last call ended, be it a step, an evaluation, a predict or a run, and
/// leave their states to the next, as in Keras; gradients do not run back into them.
/// elman_sequential_reset_states makes them zero.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
/// Other threads may use the network during a step: they and the step wait for each other.
pub struct elman_trainer {
    pub(in crate::ffi) trainer: Trainer,
    pub(in crate::ffi) network: elman_sequential,
}

/// Makes a trainer for a built network, before the first step.
///
/// On success *out is the new trainer, and yours to free.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (a number outside its range, an unknown enum value, a flag other
/// than 0 and 1, a loss that does not fit the output: from_logits behind a sigmoid or softmax, a
/// cross-entropy without it on outputs that are no probabilities, a categorical one of a single output),
/// UNSUPPORTED (the last layer gives two arrays, truncation of a network that it is not for,
/// elman_sequential_drop_weights has freed the weights), OUT_OF_MEMORY.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_new(
    network: *mut elman_sequential,
    config: *const elman_trainer_config,
    out: *mut *mut elman_trainer,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { shared("network", network) }?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_config(config) }?;
        let out = Place::new("out", out)?;
        let trainer = Trainer::new(&*network.read()?, config)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_trainer { trainer, network: network.share() }) };
        Ok(())
    })
}

/// Frees a trainer; its network stays unless it is freed already. NULL is fine; a second time is not. In a
/// child process whose parent was in a step of it, nothing happens: its memory is half changed.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_free(trainer: *mut elman_trainer) {
    // SAFETY: NULL or a live handle: the contract at the top of the header.
    if unsafe { trainer.as_ref() }.is_some_and(|trainer| trainer.network.is_torn()) {
        return;
    }
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(trainer) }
}
