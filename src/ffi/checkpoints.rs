//! Trainings as files and bytes.

use std::ffi::c_char;

use super::boundary::boundary;
use super::cancellation::uncancelled;
use super::files::Bytes;
use super::raw::{Input, Place, path, shared};
use super::sequential::elman_sequential;
use super::status::elman_status;
use super::trainer::elman_trainer;
use crate::training::Trainer;

/// Writes the training's state, and its network's layers and weights, to a file, from which
/// elman_trainer_load goes on to the same bits: with the learning rate, the frozen layers, the weights
/// without decay and the states of stateful layers as they are now. Save between two steps: what
/// elman_trainer_backward has left to elman_trainer_apply is not kept. The file is replaced as
/// elman_sequential_save does it; path is as there.
///
/// Fails with IO, OUT_OF_MEMORY, NOT_FINITE (the states of stateful layers are not: reset or set them first),
/// INVALID_ARGUMENT (a path that is not UTF-8 where it must be), UNSUPPORTED (elman_sequential_drop_weights
/// has freed the weights).
///
/// Threads: any number at once on one trainer. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_save(
    trainer: *const elman_trainer,
    path: *const c_char,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, network } = unsafe { shared("trainer", trainer) }?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        let network = network.read()?;
        uncancelled(|| trainer.save(&network, path))?;
        Ok(())
    })
}

/// The bytes of the file that elman_trainer_save writes; elman_trainer_load_bytes reads them. bytes, capacity
/// and needed are as in elman_sequential_save_bytes.
///
/// Fails with OUT_OF_MEMORY, NOT_FINITE and UNSUPPORTED as elman_trainer_save does, and with LENGTH_MISMATCH
/// where the file needs more than capacity bytes: *needed is then set all the same, and bytes is not touched.
///
/// Threads: any number at once on one trainer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_save_bytes(
    trainer: *const elman_trainer,
    bytes: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_trainer { trainer, network } = unsafe { shared("trainer", trainer) }?;
        let bytes = Bytes::new(bytes, capacity, needed)?;
        // SAFETY: valid for writes: the contract at the top of the header.
        unsafe { bytes.put(&trainer.image(&*network.read()?)?) }
    })
}

/// Reads what elman_trainer_save wrote: gives the network the weights and the states of stateful layers (none
/// where none were kept), and makes the trainer to go on with. The network must be built and have the layers
/// of the one that was trained, in all that a result depends on: sizes, activations, directions, rates,
/// everything but initialisers and unroll.
///
/// On success *out is the new trainer, and yours to free.
///
/// Fails with IO (also for what is no regular file), BAD_FORMAT (of another network too: elman_last_error
/// says what differs), NOT_BUILT, OUT_OF_MEMORY, INVALID_ARGUMENT (a path that is not UTF-8 where it must
/// be), UNSUPPORTED (elman_sequential_drop_weights has freed the weights); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_load(
    network: *mut elman_sequential,
    path: *const c_char,
    out: *mut *mut elman_trainer,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let network = unsafe { shared("network", network.cast_const()) }?;
        let out = Place::new("out", out)?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        let mut changing = network.write()?;
        let trainer = uncancelled(|| Trainer::load(&mut changing, path))?;
        drop(changing);
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_trainer { trainer, network: network.share() }) };
        Ok(())
    })
}

/// elman_trainer_load from memory: the `len` bytes of such a file, at any alignment. They are not needed
/// afterwards.
///
/// On success *out is the new trainer, and yours to free.
///
/// Fails with BAD_FORMAT, NOT_BUILT, OUT_OF_MEMORY, UNSUPPORTED as elman_trainer_load does; the network is
/// unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_trainer_load_bytes(
    network: *mut elman_sequential,
    bytes: *const u8,
    len: usize,
    out: *mut *mut elman_trainer,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let network = unsafe { shared("network", network.cast_const()) }?;
        let out = Place::new("out", out)?;
        let bytes = Input::new("bytes", bytes, len)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        let trainer = Trainer::load_bytes(&mut *network.write()?, unsafe { bytes.slice() })?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_trainer { trainer, network: network.share() }) };
        Ok(())
    })
}
