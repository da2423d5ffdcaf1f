//! Whole epochs, with functions of the host's that are called in between.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::{null, null_mut};

use super::boundary::boundary;
use super::enums::elman_bool;
use super::examples::{Checked, elman_examples};
use super::raw::{Place, flag, shared, unshared};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use super::trainer::elman_trainer;
use crate::training::{Advance, BatchEnd, Epoch, Fit, Fitting, Score};

/// What a step of elman_trainer_fit came to. Accuracies are a NaN for the mean squared error.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_batch_end {
    /// Bytes of this struct that are filled.
    pub struct_size: usize,
    /// The epoch's number, from 0.
    pub epoch: usize,
    /// The batch's number in its epoch, from 0.
    pub batch: usize,
    /// Batches of an epoch.
    pub batches: usize,
    /// The batch's, before the weights moved.
    pub loss: f32,
    /// The batch's.
    pub accuracy: f32,
    /// The batch's, by the weights of its rows.
    pub weighted_accuracy: f32,
}

/// What an epoch of elman_trainer_fit came to. Accuracies are a NaN for the mean squared error, and what is
/// of validation rows where there are none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_epoch_end {
    /// Bytes of this struct that are filled.
    pub struct_size: usize,
    /// The epoch's number, from 0.
    pub epoch: usize,
    /// The mean over the rows, with dropout active and weights on the move.
    pub loss: f32,
    /// Over all outputs that count.
    pub accuracy: f32,
    /// By the weights of the outputs.
    pub weighted_accuracy: f32,
    /// Of the validation rows, after the epoch.
    pub validation_loss: f32,
    /// Of the validation rows.
    pub validation_accuracy: f32,
    /// Of the validation rows, by the weights of the outputs.
    pub validation_weighted_accuracy: f32,
    /// Of the steps alone.
    pub seconds: f64,
}

/// How elman_trainer_fit goes about it. Fill it by elman_fit_config_init, then change what you want. It is
/// only read during a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_fit_config {
    /// Bytes of this struct that are filled; set by elman_fit_config_init.
    pub struct_size: usize,
    /// Times that every row is seen, at most; default 1.
    pub epochs: usize,
    /// Rows a step; the last step of an epoch takes what is left. With stateful layers it must divide the
    /// rows. Default 32.
    pub batch_size: usize,
    /// 1: rows come in a new order in each epoch, drawn from the trainer's seed (the default). Stateful
    /// layers want 0.
    pub shuffle: u8,
    /// Ends the training after so many epochs without a smaller loss (on the validation rows where there are
    /// any); default 0: never.
    pub patience: usize,
    /// Rows that are only looked at, after each epoch; default NULL: none.
    pub validation: *const elman_examples,
    /// Called after each step, where it is not NULL; false ends the training. The struct is valid during this
    /// call of it.
    pub on_batch: Option<unsafe extern "C" fn(user: *mut c_void, end: *const elman_batch_end) -> elman_bool>,
    /// Called after each epoch, where it is not NULL; false ends the training. The struct is valid during
    /// this call of it.
    pub on_epoch: Option<unsafe extern "C" fn(user: *mut c_void, end: *const elman_epoch_end) -> elman_bool>,
    /// Handed to on_batch and on_epoch.
    pub user: *mut c_void,
}

const DEFAULTS: elman_fit_config = elman_fit_config {
    struct_size: size_of::<elman_fit_config>(),
    epochs: 1,
    batch_size: 32,
    shuffle: 1,
    patience: 0,
    validation: null(),
    on_batch: None,
    on_epoch: None,
    user: null_mut(),
};

/// Fills `config` with Keras's defaults: one epoch, 32 rows a step, shuffled. struct_size is `sizeof *config`
/// as your compiler sees it: no more bytes than that are written.
///
/// Fails with INVALID_ARGUMENT where struct_size does not even hold epochs and batch_size.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_fit_config_init(
    config: *mut elman_fit_config,
    struct_size: usize,
) -> elman_status {
    boundary(|| {
        let least = offset_of!(elman_fit_config, shuffle);
        let defaults = |struct_size| elman_fit_config { struct_size, ..DEFAULTS };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("config", config, struct_size, least, defaults) }
    })
}

/// Trains on `examples` for some epochs: rows in a shuffled order, batch by batch, a step each. *epochs,
/// which may be NULL, receives how many came to their end.
///
/// on_batch and on_epoch are called on the thread of this call, between the steps. They may use the trainer
/// and its network as they like (save, evaluate, set the learning rate, freeze layers), but not free the
/// trainer, and must return: neither a C++ exception nor a longjmp may leave them. What `examples` and
/// `config` point to must stay as it is all the while.
///
/// Fails like elman_trainer_step_examples, and with INVALID_ARGUMENT (no rows, a batch_size of 0, one that
/// does not divide the rows where there are stateful layers, a final_state in the options). What the steps
/// before did stays.
///
/// Threads: the trainer must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_fit(
    trainer: *mut elman_trainer,
    examples: *const elman_examples,
    config: *const elman_fit_config,
    epochs: *mut usize,
) -> elman_status {
    boundary(|| {
        let places = (!epochs.is_null()).then(|| Place::new("epochs", epochs)).transpose()?;
        // SAFETY: a live handle, readable structs: the contract at the top of the header.
        let (mut fitting, config) = unsafe { begin(trainer, examples, config) }?;
        let mut ended = 0;
        loop {
            let advance = {
                // Taken anew for each step, and not held while the host's functions run: they may use it.
                // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the
                // header.
                let elman_trainer { trainer, network } = unsafe { unshared("trainer", trainer) }?;
                fitting.advance(&mut *network.write()?, trainer)?
            };
            let go_on = match advance {
                Advance::Batch(end) => config.on_batch.map(|call| {
                    // SAFETY: a function of this signature, its struct alive: the contract at the top of the
                    // header.
                    unsafe { call(config.user, &batch_end(&end)) }.read("on_batch's answer")
                }),
                Advance::Epoch(end) => {
                    ended += 1;
                    config.on_epoch.map(|call| {
                        // SAFETY: as for a batch.
                        unsafe { call(config.user, &epoch_end(&end)) }.read("on_epoch's answer")
                    })
                }
                Advance::Done => break,
            };
            if !go_on.unwrap_or(Ok(true))? {
                fitting.stop();
            }
        }
        if let Some(place) = places {
            // SAFETY: valid for a write: the contract at the top of the header.
            unsafe { place.put(ended) };
        }
        Ok(())
    })
}

/// # Safety
/// What the header asks of its callers.
unsafe fn begin<'a>(
    trainer: *mut elman_trainer,
    examples: *const elman_examples,
    config: *const elman_fit_config,
) -> Result<(Fitting<'a>, elman_fit_config), Failure> {
    // SAFETY: a live handle that nobody changes meanwhile: the caller's duty.
    let elman_trainer { trainer, network } = unsafe { shared("trainer", trainer.cast_const()) }?;
    let network = network.read()?;
    let mut given = DEFAULTS;
    // SAFETY: the caller's duty is the same.
    let struct_size = unsafe { size_of_given("config", config, offset_of!(elman_fit_config, shuffle)) }?;
    read_fields!(config, struct_size, given: elman_fit_config {
        epochs, batch_size, shuffle, patience, validation, on_batch, on_epoch, user,
    });
    // SAFETY: the caller's duty is the same.
    let examples = unsafe { Checked::read(examples, trainer, &network)?.into_rows() }?;
    let validation = (!given.validation.is_null())
        // SAFETY: the caller's duty is the same.
        .then(|| unsafe { Checked::read(given.validation, trainer, &network)?.into_rows() })
        .transpose()?;
    let fit = Fit {
        epochs: given.epochs,
        batch_size: given.batch_size,
        shuffle: flag("shuffle", given.shuffle)?,
        validation,
        patience: (given.patience > 0).then_some(given.patience),
        progress: false,
    };
    Ok((Fitting::new(&network, trainer, examples, fit)?, given))
}

/// Loss and accuracies, NaN where there are none.
fn numbers(score: Option<Score>) -> [f32; 3] {
    let share = |share: Option<f32>| share.unwrap_or(f32::NAN);
    score.map_or([f32::NAN; 3], |score| [score.loss, share(score.accuracy), share(score.weighted_accuracy)])
}

fn batch_end(end: &BatchEnd) -> elman_batch_end {
    let [loss, accuracy, weighted_accuracy] = numbers(Some(end.score));
    elman_batch_end {
        struct_size: size_of::<elman_batch_end>(),
        epoch: end.epoch,
        batch: end.number,
        batches: end.batches,
        loss,
        accuracy,
        weighted_accuracy,
    }
}

fn epoch_end(end: &Epoch) -> elman_epoch_end {
    let [loss, accuracy, weighted_accuracy] = numbers(Some(end.training));
    let [validation_loss, validation_accuracy, validation_weighted_accuracy] = numbers(end.validation);
    elman_epoch_end {
        struct_size: size_of::<elman_epoch_end>(),
        epoch: end.number,
        loss,
        accuracy,
        weighted_accuracy,
        validation_loss,
        validation_accuracy,
        validation_weighted_accuracy,
        seconds: end.took.as_secs_f64(),
    }
}
