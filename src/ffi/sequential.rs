//! The stack of layers.

use std::ffi::c_char;
use std::ptr::null;
use std::sync::Arc;

use super::arrays::{Arrays, Element, Given};
use super::boundary::boundary;
use super::cancellation::uncancelled;
use super::config::{
    elman_dense_config, elman_embedding_config, elman_simple_rnn_config, read_config, read_dense,
    read_embedding,
};
use super::enums::{elman_activation, elman_bool, elman_merge_mode, elman_weight};
use super::options::elman_run_options;
use super::raw::{Input, Output, Place, at_least_one, check_pointer, free, shared};
use super::status::{ELMAN_STATUS_LENGTH_MISMATCH, Failure, elman_status};
use crate::layers::{Bidirectional, Dense, Dropout, Embedding, LastStep, Layer, Masking};
use crate::process::{ForkLock, ReadGuard, WriteGuard};
use crate::sequential::Sequential;

/// A network: layers one after another, from input to output. Made by elman_sequential_new,
/// elman_sequential_load or elman_sequential_load_bytes, ended by elman_sequential_free. Add the layers,
/// build, then set weights or predict.
///
/// A network with stateful layers keeps their last states from one predict or run to the next, which begins
/// with them unless it is given initial states. Such a network runs one call at a time: the others wait.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
/// A trainer's step waits for those that run, and those that begin wait for it.
///
/// Fork: a child process may go on with a network that other threads were reading at the fork. One that
/// another thread's trainer was changing is UNSUPPORTED there, and may be freed.
pub struct elman_sequential(Arc<ForkLock<Sequential>>);

/// What a child process is told whose parent was changing the network.
const TORN: &str = "this process was forked while another thread changed the network, so its weights may be half changed: \
                    free it and load or build another";

impl elman_sequential {
    pub(super) fn new(network: Sequential) -> Self {
        Self(Arc::new(ForkLock::new(network, TORN)))
    }

    /// The same network once more, for a trainer.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    // What a panic leaves is memory-safe, and the header says what to do with it: free it.
    pub(super) fn read(&self) -> Result<ReadGuard<'_, Sequential>, Failure> {
        Ok(self.0.read()?)
    }

    pub(super) fn write(&self) -> Result<WriteGuard<'_, Sequential>, Failure> {
        Ok(self.0.write()?)
    }

    /// Whether this process was forked while another thread changed it.
    pub(super) fn is_torn(&self) -> bool {
        self.0.is_torn()
    }
}

/// The network of a handle that is read.
///
/// # Safety
/// As for [`shared`].
pub(super) unsafe fn reading<'a>(
    network: *const elman_sequential,
) -> Result<ReadGuard<'a, Sequential>, Failure> {
    // SAFETY: the caller's duty is the same.
    unsafe { shared("network", network) }?.read()
}

/// The network of a handle that is changed.
///
/// # Safety
/// As for [`shared`].
pub(super) unsafe fn changing<'a>(
    network: *const elman_sequential,
) -> Result<WriteGuard<'a, Sequential>, Failure> {
    // SAFETY: the caller's duty is the same.
    unsafe { shared("network", network) }?.write()
}

/// Makes an empty network for steps of `input_size` features; 1 when an embedding comes first, which reads
/// one token id a step.
///
/// On success *out is the new network, and yours to free.
///
/// Fails with INVALID_ARGUMENT where input_size is 0.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_new(
    input_size: usize,
    out: *mut *mut elman_sequential,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        at_least_one("input_size", input_size)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_sequential::new(Sequential::new(input_size))) };
        Ok(())
    })
}

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
pub(super) unsafe fn add(
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

/// How many threads one predict, run or training step may use, and one pass of a tape that is made
/// afterwards, the caller's among them: 1 unless set, 0 for one for each processor. There are never more than
/// processors that the calling thread may use (its affinity mask, a container's quota), for the new threads
/// inherit them. A call whose threads keep it waiting, because their processors are somebody else's, goes on
/// alone for a while. The results have the same bits.
///
/// Fails with INVALID_ARGUMENT above 1024, UNSUPPORTED where the system starts no threads.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_set_threads(
    network: *mut elman_sequential,
    threads: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        // How many cores there are is asked of files, too.
        uncancelled(|| network.set_threads(threads))?;
        Ok(())
    })
}

/// How many floats predict and run give for `batch` rows of `steps`: batch x steps x features where the last
/// layer gives a sequence, else batch x features; twice as many behind ELMAN_MERGE_MODE_NONE.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (a zero size, an overflowed product).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_output_len(
    network: *const elman_sequential,
    batch: usize,
    steps: usize,
    len: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let len = Place::new("len", len)?;
        let outputs = network.output_len(batch, steps)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { len.put(outputs) };
        Ok(())
    })
}

/// How many floats the states of `batch` rows are: those of all recurrent layers one after another, in layer
/// order, a Bidirectional layer's forward half before its backward half. Each state is an array
/// [batch, units]: a SimpleRNN or a GRU has one, h, and an LSTM has two, h and then c. 0 for a network
/// without recurrent layers.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (batch is 0, an overflowed product).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_state_len(
    network: *const elman_sequential,
    batch: usize,
    len: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let len = Place::new("len", len)?;
        at_least_one("batch", batch)?;
        let states = network.state_len(batch)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { len.put(states) };
        Ok(())
    })
}

/// Forgets the states that stateful layers keep from one predict or run to the next: the next one begins with
/// zeros, and may have another batch. Does nothing on a network without stateful layers, built or not.
///
/// Fails with nothing but what all functions may.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_reset_states(network: *mut elman_sequential) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let network = unsafe { changing(network) }?;
        network.reset_states();
        Ok(())
    })
}

/// Copies the states that stateful layers keep, and says of how many rows they are: *batch is 0 where none
/// are kept, and states is not touched then. They are laid out as elman_sequential_state_len says, zeros for
/// layers that are not stateful; states_len is elman_sequential_state_len floats for *batch rows. To ask for
/// *batch alone, pass NULL and 0 for states and states_len.
///
/// With elman_sequential_set_states a run can be gone on with later, or by another network of the same
/// layers.
///
/// Fails with LENGTH_MISMATCH, OUT_OF_MEMORY.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_get_states(
    network: *const elman_sequential,
    states: *mut f32,
    states_len: usize,
    batch: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let batch = Place::new("batch", batch)?;
        let asks_for_batch = states.is_null() && states_len == 0;
        let states = if asks_for_batch { None } else { Some(Output::new("states", states, states_len)?) };
        let kept = network.states()?;
        if let (Some(states), Some((_, kept))) = (states, &kept) {
            // SAFETY: as long as C says: the contract at the top of the header.
            unsafe { states.copy_from("state_len for the batch that is kept", &[kept.len()], kept) }?;
        }
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { batch.put(kept.map_or(0, |(batch, _)| batch)) };
        Ok(())
    })
}

/// Has stateful layers go on from `states` of `batch` rows, laid out as elman_sequential_get_states gives
/// them; what is there for layers that are not stateful is ignored. states_len is elman_sequential_state_len
/// floats for batch rows. Does nothing to a network without stateful layers.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (batch is 0, an overflowed product), LENGTH_MISMATCH,
/// OUT_OF_MEMORY; the states are as they were then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_set_states(
    network: *mut elman_sequential,
    batch: usize,
    states: *const f32,
    states_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let network = unsafe { changing(network) }?;
        at_least_one("batch", batch)?;
        let states = Input::new("states", states, states_len)?;
        let states = states.expect("state_len", &[network.state_len(batch)?])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        network.set_states(batch, unsafe { states.slice() })?;
        Ok(())
    })
}

/// Runs the network on floats: x is [batch, steps, input_size], y receives elman_sequential_output_len
/// floats. States start at zero, those of stateful layers where the last run ended.
///
/// The bits of a row depend neither on the other rows nor on the number of threads.
///
/// Fails with NOT_BUILT, INVALID_ARGUMENT (a zero size, an overflowed product, a network that reads tokens,
/// another batch than the one whose states are kept), LENGTH_MISMATCH, OVERLAP, OUT_OF_MEMORY.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_predict(
    network: *const elman_sequential,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (x, x_len), (batch, steps), null(), (y, y_len)) }
}

/// Runs a network that begins with an embedding: ids is [batch, steps], each 0 to vocabulary - 1; else like
/// elman_sequential_predict.
///
/// Fails like elman_sequential_predict, and with INVALID_ARGUMENT (an id outside the vocabulary, a network
/// that does not begin with an embedding).
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_predict_tokens(
    network: *const elman_sequential,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (ids, ids_len), (batch, steps), null(), (y, y_len)) }
}

/// elman_sequential_predict with options: masked or shorter rows, initial states, final states. NULL options
/// are the defaults.
///
/// Fails like elman_sequential_predict, and with NULL_POINTER (an array of the options is NULL and has a
/// length), INVALID_ARGUMENT (both mask and lengths, a length above steps, an unknown padding, ONNX padding
/// with a mask), LENGTH_MISMATCH and OVERLAP for the arrays of the options. initial_state and final_state may
/// not overlap either.
///
/// Threads: any number at once on one network, each with a final_state of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_run(
    network: *const elman_sequential,
    x: *const f32,
    x_len: usize,
    batch: usize,
    steps: usize,
    options: *const elman_run_options,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (x, x_len), (batch, steps), options, (y, y_len)) }
}

/// elman_sequential_predict_tokens with options, as in elman_sequential_run.
///
/// Fails like elman_sequential_predict_tokens and elman_sequential_run.
///
/// Threads: any number at once on one network, each with a final_state of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_run_tokens(
    network: *const elman_sequential,
    ids: *const i32,
    ids_len: usize,
    batch: usize,
    steps: usize,
    options: *const elman_run_options,
    y: *mut f32,
    y_len: usize,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `run`'s.
    unsafe { run(network, (ids, ids_len), (batch, steps), options, (y, y_len)) }
}

/// # Safety
/// What the header asks of its callers.
unsafe fn run<T: Element>(
    network: *const elman_sequential,
    x: Given<T>,
    sizes: (usize, usize),
    options: *const elman_run_options,
    y: (*mut f32, usize),
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the caller's duty.
        let network = unsafe { reading(network) }?;
        // SAFETY: the caller's duty is the same.
        let arrays = unsafe { Arrays::read(&network, x, sizes, options, y) }?;
        let Arrays { x, y, options } = arrays;
        Ok(network.run(T::values(x), sizes.0, sizes.1, options, y)?)
    })
}

/// Frees a network. NULL is fine; a second time is not.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_free(network: *mut elman_sequential) {
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(network) }
}
