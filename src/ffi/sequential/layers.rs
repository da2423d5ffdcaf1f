//! Layers are added, and what was added is built and described.

use std::ffi::c_char;

use super::handle::{changing, elman_sequential, reading};
use crate::ffi::boundary::boundary;
use crate::ffi::config::{
    elman_dense_config, elman_embedding_config, elman_simple_rnn_config, read_config, read_dense,
    read_embedding,
};
use crate::ffi::enums::{elman_activation, elman_bool, elman_merge_mode};
use crate::ffi::raw::check_pointer;
use crate::ffi::status::{ELMAN_STATUS_LENGTH_MISMATCH, Failure, elman_status};
use crate::layers::{Bidirectional, Dense, Dropout, Embedding, LastStep, Layer, Masking};

/// Adds an embedding: token ids 0 to vocabulary - 1 become rows of `size` features. First layer only, and the
/// network's input_size must be 1. With mask_zero the layers above skip the steps whose token is 0, as in
/// Keras.
///
/// Fails with INVALID_ARGUMENT (a zero size, not the first layer, an input_size other than 1, the network is
/// built already); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_embedding(
    network: *mut elman_sequential,
    vocabulary: usize,
    size: usize,
    mask_zero: elman_bool,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe {
        add(network, || Ok(Embedding::new(vocabulary, size).mask_zero(mask_zero.read("mask_zero")?).into()))
    }
}

/// Adds a SimpleRNN layer; its input must be a sequence, so the recurrent layer below must have
/// return_sequences set.
///
/// Fails with INVALID_ARGUMENT (a zero size, a rate outside 0 to 1, an unknown enum value, a flag other than
/// 0 and 1, softmax, an initializer's number outside its range or a matrix for a bias, an impossible place,
/// the network is built already); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_simple_rnn(
    network: *mut elman_sequential,
    config: *const elman_simple_rnn_config,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s and `read_config`'s.
    unsafe { add(network, || Ok(read_config(config)?.into())) }
}

/// Adds a SimpleRNN layer that runs in both directions, each with weights of its own, and joins the two
/// outputs; the configuration is both halves'. As in Keras its masked steps give zeros, whatever
/// zero_output_for_mask says.
///
/// Fails like elman_sequential_add_simple_rnn, and with INVALID_ARGUMENT where the configuration has
/// go_backwards set.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_bidirectional(
    network: *mut elman_sequential,
    config: *const elman_simple_rnn_config,
    merge_mode: elman_merge_mode,
) -> elman_status {
    let layer = || {
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_config(config) }?;
        Ok(Bidirectional::new(config).merge_mode(merge_mode.read()?).into())
    };
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, layer) }
}

/// Adds a fully connected layer of `units` outputs with a bias: on the last output, or on every step where it
/// is given a sequence.
///
/// Fails with INVALID_ARGUMENT (units is 0, an unknown activation, an impossible place, the network is built
/// already); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_dense(
    network: *mut elman_sequential,
    units: usize,
    activation: elman_activation,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, || Ok(Dense::new(units).activation(activation.read()?).into())) }
}

/// elman_sequential_add_dense with everything that a fully connected layer has: without a bias, with other
/// initial weights.
///
/// Fails like elman_sequential_add_dense, and with INVALID_ARGUMENT for a flag other than 0 and 1 or an
/// unknown initializer.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_dense_with(
    network: *mut elman_sequential,
    config: *const elman_dense_config,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s and `read_dense`'s.
    unsafe { add(network, || Ok(read_dense(config)?.into())) }
}

/// elman_sequential_add_embedding with everything that an embedding has: with other initial weights.
///
/// Fails like elman_sequential_add_embedding, and with INVALID_ARGUMENT for a flag other than 0 and 1 or an
/// unknown initializer.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_embedding_with(
    network: *mut elman_sequential,
    config: *const elman_embedding_config,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s and `read_embedding`'s.
    unsafe { add(network, || Ok(read_embedding(config)?.into())) }
}

/// Adds dropout between layers: in training, inputs become zero with probability `rate` and the others are
/// scaled by 1 / (1 - rate). It does nothing in predict and run.
///
/// Fails with INVALID_ARGUMENT (a rate outside 0 to 1, an impossible place, the network is built already);
/// the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_dropout(
    network: *mut elman_sequential,
    rate: f32,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, || Ok(Dropout::new(rate).into())) }
}

/// Adds masking: the recurrent layers above skip the steps whose features all equal `mask_value`, as in
/// Keras. First layer only; elman_sequential_build fails where no recurrent layer is above it.
///
/// Fails with INVALID_ARGUMENT (a NaN or an infinity, the network is built already), UNSUPPORTED (not the
/// first layer); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_masking(
    network: *mut elman_sequential,
    mask_value: f32,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, || Ok(Masking::new(mask_value).into())) }
}

/// Adds a layer that hands on the last step of the sequence below, out[:, -1] in PyTorch. Below it there must
/// be a recurrent layer with return_sequences.
///
/// Above a Bidirectional layer that is another thing than return_sequences = 0 there, which gives the last
/// state of each half: the backward half has seen only one step by the last position of the sequence. The
/// last step is that of the sequence as it would come out, whatever is masked: a masked last position has what
/// such positions have, the output before it or zeros. A stream of such a network is UNSUPPORTED.
///
/// Fails with INVALID_ARGUMENT (no sequence of a recurrent layer below, the network is built already); the
/// network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_last_step(network: *mut elman_sequential) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, || Ok(LastStep::new().into())) }
}

/// # Safety
/// As for [`unshared`].
pub(in crate::ffi) unsafe fn add(
    network: *mut elman_sequential,
    layer: impl FnOnce() -> Result<Layer, Failure>,
) -> elman_status {
    boundary(|| {
        // SAFETY: the caller's duty is the same.
        let mut network = unsafe { changing(network) }?;
        network.push(layer()?)?;
        Ok(())
    })
}

/// Gives every weight its initial value; no more layers can be added afterwards. The weights depend on
/// nothing but the layers and seed: they are the same ones on every machine. Building again initialises anew.
///
/// Fails with INVALID_ARGUMENT (no layers, or an initializer's number outside its range), OUT_OF_MEMORY,
/// UNSUPPORTED (ELMAN_ISA names something unknown or not available here, or masking without a recurrent layer
/// above it); the network is unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_build(network: *mut elman_sequential, seed: u64) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        network.initialize(seed)?;
        Ok(())
    })
}

/// The number of layers added; layers count from 0 at the input. 0 for NULL.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_layer_count(network: *const elman_sequential) -> usize {
    // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
    let network = unsafe { reading(network) };
    network.map_or(0, |network| network.layers().len())
}

/// Describes the network in a few lines of text: layers, shapes, numbers of parameters, and the driver
/// chosen.
///
/// text has room for `capacity` bytes, and receives UTF-8 with a nul byte at its end; *needed is the number
/// of bytes with that nul byte. To ask for the size alone, pass NULL and 0 for text and capacity. needed may
/// be NULL where text is not.
///
/// Fails with LENGTH_MISMATCH where the text needs more than capacity bytes: *needed is then set all the
/// same, and text is not touched.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_summary(
    network: *const elman_sequential,
    text: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let asks_for_size = text.is_null() && capacity == 0;
        if asks_for_size || !needed.is_null() {
            check_pointer("needed", needed)?;
        }
        if !asks_for_size {
            check_pointer("text", text)?;
        }
        let mut summary = network.summary();
        summary.push('\0');
        if !needed.is_null() {
            // SAFETY: aligned, checked above; valid for a write: the contract at the top of the header.
            unsafe { needed.write(summary.len()) };
        }
        if asks_for_size {
            return Ok(());
        }
        if summary.len() > capacity {
            return Err(Failure::new(
                ELMAN_STATUS_LENGTH_MISMATCH,
                format!("text: the summary needs {} bytes, got {capacity}", summary.len()),
            ));
        }
        // SAFETY: `capacity` bytes, which is enough, are valid for writes: the contract at the top of the header.
        unsafe { std::ptr::copy_nonoverlapping(summary.as_ptr(), text.cast::<u8>(), summary.len()) };
        Ok(())
    })
}
