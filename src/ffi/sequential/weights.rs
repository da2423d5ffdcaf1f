//! The weights of a layer, and what all of them take.

use super::handle::{changing, elman_sequential, reading};
use crate::ffi::boundary::boundary;
use crate::ffi::enums::elman_weight;
use crate::ffi::raw::{Input, Output, Place};
use crate::ffi::status::elman_status;

/// The shape of a weight: *rows x *columns elements, row by row. A bias has one row, that of a GRU with
/// reset_after two.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (no such layer, an unknown weight, or one that the layer does not
/// have).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_weight_shape(
    network: *const elman_sequential,
    layer: usize,
    which: elman_weight,
    rows: *mut usize,
    columns: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let (rows, columns) = (Place::new("rows", rows)?, Place::new("columns", columns)?);
        let shape = network.weight_shape(layer, which.read()?)?;
        // SAFETY: both valid for a write: the contract at the top of the header.
        unsafe {
            rows.put(shape[0]);
            columns.put(shape[1]);
        }
        Ok(())
    })
}

/// Copies a weight to `values`, in Keras's layout. len is rows x columns of elman_sequential_weight_shape.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (no such layer, an unknown weight, or one that the layer does not
/// have), LENGTH_MISMATCH, UNSUPPORTED (elman_sequential_drop_weights has freed it).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_get_weight(
    network: *const elman_sequential,
    layer: usize,
    which: elman_weight,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let values = Output::new("values", values, len)?;
        let weight = network.weight(layer, which.read()?)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("rows x columns", &weight.shape(), weight.values()) }
    })
}

/// Replaces a weight by a copy of `values`, in Keras's layout. len is rows x columns of
/// elman_sequential_weight_shape.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (no such layer, an unknown weight, or one that the layer does not
/// have), LENGTH_MISMATCH, OUT_OF_MEMORY, UNSUPPORTED (elman_sequential_drop_weights has freed it); the
/// network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_set_weight(
    network: *mut elman_sequential,
    layer: usize,
    which: elman_weight,
    values: *const f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        let values = Input::new("values", values, len)?;
        let which = which.read()?;
        let values = values.expect("rows x columns", &network.weight_shape(layer, which)?)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        network.set_weight(layer, which, unsafe { values.slice() })?;
        Ok(())
    })
}

/// How many bytes the weights of a network take: *plain those in Keras's layout, embedding tables among them,
/// and *packed the same as a run reads them.
///
/// Fails with NOT_BUILT.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_weight_bytes(
    network: *const elman_sequential,
    plain: *mut usize,
    packed: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let places = (Place::new("plain", plain)?, Place::new("packed", packed)?);
        let bytes = network.weight_bytes()?;
        // SAFETY: both valid for a write: the contract at the top of the header.
        unsafe {
            places.0.put(bytes.plain);
            places.1.put(bytes.packed);
        }
        Ok(())
    })
}

/// Frees the weights in Keras's layout, about half of the network's memory, where it will only run: predict,
/// run and streams read the packed ones, and go on with the same bits. Embedding tables, which are not
/// packed, stay. Whatever else reads or changes weights (get and set, save, tapes, trainers) fails with
/// UNSUPPORTED from then on, until elman_sequential_build. A second time does nothing.
///
/// Streams and tapes that are there already keep all that they were made with, and then the network takes
/// packed weights of its own: drop first.
///
/// Fails with NOT_BUILT, OUT_OF_MEMORY (for those packed weights); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_drop_weights(network: *mut elman_sequential) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        network.drop_weights()?;
        Ok(())
    })
}
