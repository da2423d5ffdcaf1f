//! The states that a network keeps from one call to the next.

use super::handle::{changing, elman_sequential, reading};
use crate::ffi::boundary::boundary;
use crate::ffi::raw::{Input, Output, Place, at_least_one};
use crate::ffi::status::elman_status;

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
