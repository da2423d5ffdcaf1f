//! LSTM and GRU: their configurations, layers and cells.

use std::mem::offset_of;

use super::boundary::boundary;
use super::cell::Step;
use super::config::*;
use super::enums::*;
use super::raw::{Input, Output, Place, at_least_one, flag, free, shared, unshared};
use super::sequential::{add, elman_sequential};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use crate::cell::{GruCell, LstmCell};
use crate::layers::{Bidirectional, Gru, Lstm};

/// What an LSTM layer or cell is: i, f, o = s(x W + b + h U), each with columns of its own, g =
/// a(x W + b + h U) with the candidate's, c_t = f c_{t-1} + i g, h_t = o a(c_t). The columns stand in Keras's
/// order: those of i, f, the candidate, o.
///
/// Fill it by elman_lstm_config_init, then change what you want; setting every field by hand leaves fields of
/// later versions unset. It is only read during a call; keep or discard it afterwards.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_lstm_config {
    /// Bytes of this struct that are filled; set by elman_lstm_config_init.
    pub struct_size: usize,
    /// Outputs a step, at least 1.
    pub units: usize,
    /// The function a: tanh (the default) or any other but softmax.
    pub activation: elman_activation,
    /// 1: a bias is added (the default).
    pub use_bias: u8,
    /// 1: the layer gives every step's output; 0: the last one's (the default). A cell ignores it.
    pub return_sequences: u8,
    /// 1: the layer walks the time axis from its end, padding included, and its outputs stay in processing
    /// order; default 0. A cell ignores it.
    pub go_backwards: u8,
    /// 1: as in Keras, each predict, run, training step and evaluation begins with the states that the last
    /// one left, unless it is given others or elman_sequential_reset_states has come between; default 0. A
    /// cell and a tape ignore it.
    pub stateful: u8,
    /// 1: a masked step gives zeros; 0: it repeats the previous output (the default). A cell ignores it, and
    /// so does a Bidirectional layer, whose masked steps give zeros.
    pub zero_output_for_mask: u8,
    /// Which driver walks the steps; the results have the same bits. A cell ignores it.
    pub unroll: elman_unroll,
    /// Share of the inputs dropped in training, 0 to 1; default 0. One mask for all gates, and one for each
    /// gate where recurrent_dropout is not 0. A share of 1 drops everything, where Keras's LSTM and GRU would
    /// drop nothing. A cell ignores it.
    pub dropout: f32,
    /// Share of h dropped in training on its way into the gates, 0 to 1; default 0. One mask for each gate. A
    /// share of 1 drops everything here too. A cell ignores it.
    pub recurrent_dropout: f32,
    /// How the kernel [input, 4 x units] starts; default glorot-uniform.
    pub kernel_initializer: elman_initializer,
    /// How the recurrent kernel [units, 4 x units] starts; default orthogonal with gain 1.
    pub recurrent_initializer: elman_initializer,
    /// How the bias [4 x units] starts, but for the forget gate's part where unit_forget_bias is 1; default
    /// zeros.
    pub bias_initializer: elman_initializer,
    /// The function s of the gates: sigmoid (the default) or any other but softmax.
    pub recurrent_activation: elman_activation,
    /// 1: the bias of the forget gate starts at one, whatever bias_initializer says (the default).
    pub unit_forget_bias: u8,
}

/// Fills `config` with Keras's defaults for a layer of `units` outputs.
///
/// struct_size is `sizeof *config` as your compiler sees it: no more bytes than that are written, so programs
/// compiled against an older header meet a newer library safely, and the other way round.
///
/// Fails with INVALID_ARGUMENT where units is 0 or struct_size does not even hold struct_size and units.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_lstm_config_init(
    config: *mut elman_lstm_config,
    struct_size: usize,
    units: usize,
) -> elman_status {
    boundary(|| {
        at_least_one("units", units)?;
        let least = offset_of!(elman_lstm_config, activation);
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe {
            fill("config", config, struct_size, least, |struct_size| elman_lstm_config {
                struct_size,
                ..lstm_defaults(units)
            })
        }
    })
}

fn lstm_defaults(units: usize) -> elman_lstm_config {
    recurrent_defaults!(
        elman_lstm_config,
        units,
        recurrent_activation: ELMAN_ACTIVATION_SIGMOID,
        unit_forget_bias: 1
    )
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
unsafe fn read_lstm(config: *const elman_lstm_config) -> Result<Lstm, Failure> {
    let (given, layer) = read_recurrent!(
        config,
        elman_lstm_config { recurrent_activation, unit_forget_bias },
        lstm_defaults(0),
        Lstm
    );
    Ok(layer
        .recurrent_activation(given.recurrent_activation.read()?)
        .unit_forget_bias(flag("unit_forget_bias", given.unit_forget_bias)?))
}

/// Adds an LSTM layer; its input must be a sequence, so the recurrent layer below must have return_sequences
/// set. Wherever states of layers stand one after another it has two, h [batch, units] and then c
/// [batch, units].
///
/// Fails like elman_sequential_add_simple_rnn, softmax being no function for its gates either; the network is
/// unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_lstm(
    network: *mut elman_sequential,
    config: *const elman_lstm_config,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s and `read_lstm`'s.
    unsafe { add(network, || Ok(read_lstm(config)?.into())) }
}

/// Adds an LSTM layer that runs in both directions, each with weights of its own, and joins the two outputs;
/// the configuration is both halves'. The forward half's states h and c stand before the backward half's. As
/// in Keras its masked steps give zeros, whatever zero_output_for_mask says.
///
/// Fails like elman_sequential_add_bidirectional.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_bidirectional_lstm(
    network: *mut elman_sequential,
    config: *const elman_lstm_config,
    merge_mode: elman_merge_mode,
) -> elman_status {
    let layer = || {
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_lstm(config) }?;
        Ok(Bidirectional::new(config).merge_mode(merge_mode.read()?).into())
    };
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, layer) }
}

/// One step of an LSTM by hand. Made by elman_lstm_cell_new, ended by elman_lstm_cell_free.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
pub struct elman_lstm_cell(LstmCell);

/// Makes a cell for rows of `input_size` features, with initial weights that depend on nothing but the
/// configuration, input_size and seed: the same ones on every machine.
///
/// On success *out is the new cell, and yours to free.
///
/// Fails like elman_simple_rnn_cell_new, softmax being no function for its gates either.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_lstm_cell_new(
    config: *const elman_lstm_config,
    input_size: usize,
    seed: u64,
    out: *mut *mut elman_lstm_cell,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_lstm(config) }?;
        let cell = LstmCell::new(config, input_size, seed)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_lstm_cell(cell)) };
        Ok(())
    })
}

/// One step for `batch` rows: i, f, o = s(x W + b + h U), g = a(x W + b + h U), c_next = f c + i g,
/// h_next = o a(c_next), as in elman_lstm_config.
///
/// x is [batch, input_size]; h, c, h_next and c_next are [batch, units]. h_next may be the very same array as
/// h, and c_next as c, which steps in place; any other overlap of h_next or c_next with another array is an
/// error. The bits of a row are those of the same row in a network's LSTM layer, whatever the batch. What a
/// large step needs beside its arrays the cell keeps for the next, which then allocates nothing.
///
/// Fails with INVALID_ARGUMENT (batch is 0, an overflowed product), LENGTH_MISMATCH, OVERLAP, OUT_OF_MEMORY.
///
/// Threads: any number at once on one cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_lstm_cell_step(
    cell: *const elman_lstm_cell,
    x: *const f32,
    x_len: usize,
    h: *const f32,
    h_len: usize,
    c: *const f32,
    c_len: usize,
    batch: usize,
    h_next: *mut f32,
    h_next_len: usize,
    c_next: *mut f32,
    c_next_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_lstm_cell(cell) = unsafe { shared("cell", cell) }?;
        let x = Input::new("x", x, x_len)?;
        let before = [Input::new("h", h, h_len)?, Input::new("c", c, c_len)?];
        let next = [Output::new("h_next", h_next, h_next_len)?, Output::new("c_next", c_next, c_next_len)?];
        let step = Step::new(x, before, next, [batch, cell.input_size(), cell.units()])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        let (x, before, next) = unsafe { step.slices() };
        cell.step_from(x, before, batch, next)?;
        Ok(())
    })
}

/// Copies a weight of the cell to `values`: ELMAN_WEIGHT_KERNEL [input_size, 4 x units],
/// ELMAN_WEIGHT_RECURRENT_KERNEL [units, 4 x units] or ELMAN_WEIGHT_BIAS [4 x units], in Keras's layout and
/// order of gates. len is the number of elements of that shape.
///
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH.
///
/// Threads: any number at once on one cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_lstm_cell_get_weight(
    cell: *const elman_lstm_cell,
    which: elman_weight,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_lstm_cell(cell) = unsafe { shared("cell", cell) }?;
        let values = Output::new("values", values, len)?;
        let weight = cell.weight(which.read()?)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("rows x columns", &weight.shape(), weight.values()) }
    })
}

/// Replaces a weight of the cell by a copy of `values`; shapes as in elman_lstm_cell_get_weight.
///
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH,
/// OUT_OF_MEMORY; the cell is unchanged then.
///
/// Threads: the cell must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_lstm_cell_set_weight(
    cell: *mut elman_lstm_cell,
    which: elman_weight,
    values: *const f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_lstm_cell(cell) = unsafe { unshared("cell", cell) }?;
        let values = Input::new("values", values, len)?;
        let which = which.read()?;
        let values = values.expect("rows x columns", &cell.weight(which)?.shape())?;
        // SAFETY: as long as C says: the contract at the top of the header.
        cell.set_weight(which, unsafe { values.slice() })?;
        Ok(())
    })
}

/// Frees a cell. NULL is fine; a second time is not.
///
/// Threads: the cell must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_lstm_cell_free(cell: *mut elman_lstm_cell) {
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(cell) }
}

/// What a GRU layer or cell is: z, r = s(x W + b + h U), each with columns of its own, h_t = z h_{t-1} +
/// (1 - z) n. The candidate is n = a(x Wn + bn + r (h Un + brn)), where the bias has a row for the input and
/// a recurrent one; with reset_after 0 it is n = a(x Wn + bn + (r h) Un), and the bias has one row. The
/// columns stand in Keras's order: those of z, r, the candidate.
///
/// Fill it by elman_gru_config_init, then change what you want; setting every field by hand leaves fields of
/// later versions unset. It is only read during a call; keep or discard it afterwards.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_gru_config {
    /// Bytes of this struct that are filled; set by elman_gru_config_init.
    pub struct_size: usize,
    /// Outputs a step, at least 1.
    pub units: usize,
    /// The function a: tanh (the default) or any other but softmax.
    pub activation: elman_activation,
    /// 1: a bias is added (the default).
    pub use_bias: u8,
    /// 1: the layer gives every step's output; 0: the last one's (the default). A cell ignores it.
    pub return_sequences: u8,
    /// 1: the layer walks the time axis from its end, padding included, and its outputs stay in processing
    /// order; default 0. A cell ignores it.
    pub go_backwards: u8,
    /// 1: as in Keras, each predict, run, training step and evaluation begins with the states that the last
    /// one left, unless it is given others or elman_sequential_reset_states has come between; default 0. A
    /// cell and a tape ignore it.
    pub stateful: u8,
    /// 1: a masked step gives zeros; 0: it repeats the previous output (the default). A cell ignores it, and
    /// so does a Bidirectional layer, whose masked steps give zeros.
    pub zero_output_for_mask: u8,
    /// Which driver walks the steps; the results have the same bits. A cell ignores it.
    pub unroll: elman_unroll,
    /// Share of the inputs dropped in training, 0 to 1; default 0. One mask for all gates, and one for each
    /// gate where recurrent_dropout is not 0. A share of 1 drops everything, where Keras's LSTM and GRU would
    /// drop nothing. A cell ignores it.
    pub dropout: f32,
    /// Share of h dropped in training on its way into the gates, 0 to 1; default 0. One mask for each gate. A
    /// share of 1 drops everything here too. A cell ignores it.
    pub recurrent_dropout: f32,
    /// How the kernel [input, 3 x units] starts; default glorot-uniform.
    pub kernel_initializer: elman_initializer,
    /// How the recurrent kernel [units, 3 x units] starts; default orthogonal with gain 1.
    pub recurrent_initializer: elman_initializer,
    /// How the bias starts, [2, 3 x units] with reset_after (the input's row, then the recurrent one), else
    /// [3 x units]; default zeros.
    pub bias_initializer: elman_initializer,
    /// The function s of the gates: sigmoid (the default) or any other but softmax.
    pub recurrent_activation: elman_activation,
    /// 1: the reset gate works after the recurrent product, as in Keras 2.3 and later and in PyTorch (the
    /// default); 0: before it.
    pub reset_after: u8,
}

/// Fills `config` with Keras's defaults for a layer of `units` outputs.
///
/// struct_size is `sizeof *config` as your compiler sees it: no more bytes than that are written, so programs
/// compiled against an older header meet a newer library safely, and the other way round.
///
/// Fails with INVALID_ARGUMENT where units is 0 or struct_size does not even hold struct_size and units.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_gru_config_init(
    config: *mut elman_gru_config,
    struct_size: usize,
    units: usize,
) -> elman_status {
    boundary(|| {
        at_least_one("units", units)?;
        let least = offset_of!(elman_gru_config, activation);
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe {
            fill("config", config, struct_size, least, |struct_size| elman_gru_config {
                struct_size,
                ..gru_defaults(units)
            })
        }
    })
}

fn gru_defaults(units: usize) -> elman_gru_config {
    recurrent_defaults!(
        elman_gru_config,
        units,
        recurrent_activation: ELMAN_ACTIVATION_SIGMOID,
        reset_after: 1
    )
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
unsafe fn read_gru(config: *const elman_gru_config) -> Result<Gru, Failure> {
    let (given, layer) =
        read_recurrent!(config, elman_gru_config { recurrent_activation, reset_after }, gru_defaults(0), Gru);
    Ok(layer
        .recurrent_activation(given.recurrent_activation.read()?)
        .reset_after(flag("reset_after", given.reset_after)?))
}

/// Adds a GRU layer; its input must be a sequence, so the recurrent layer below must have return_sequences
/// set. Its state is h [batch, units].
///
/// Fails like elman_sequential_add_simple_rnn, softmax being no function for its gates either; the network is
/// unchanged then.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_gru(
    network: *mut elman_sequential,
    config: *const elman_gru_config,
) -> elman_status {
    // SAFETY: the contract at the top of the header is `add`'s and `read_gru`'s.
    unsafe { add(network, || Ok(read_gru(config)?.into())) }
}

/// Adds a GRU layer that runs in both directions, each with weights of its own, and joins the two outputs;
/// the configuration is both halves'. The forward half's state stands before the backward half's. As in Keras
/// its masked steps give zeros, whatever zero_output_for_mask says.
///
/// Fails like elman_sequential_add_bidirectional.
///
/// Threads: the network must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_add_bidirectional_gru(
    network: *mut elman_sequential,
    config: *const elman_gru_config,
    merge_mode: elman_merge_mode,
) -> elman_status {
    let layer = || {
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_gru(config) }?;
        Ok(Bidirectional::new(config).merge_mode(merge_mode.read()?).into())
    };
    // SAFETY: the contract at the top of the header is `add`'s.
    unsafe { add(network, layer) }
}

/// One step of a GRU by hand. Made by elman_gru_cell_new, ended by elman_gru_cell_free.
///
/// Threads: functions that take it const may run on any number of threads at once; the others need it alone.
pub struct elman_gru_cell(GruCell);

/// Makes a cell for rows of `input_size` features, with initial weights that depend on nothing but the
/// configuration, input_size and seed: the same ones on every machine.
///
/// On success *out is the new cell, and yours to free.
///
/// Fails like elman_simple_rnn_cell_new, softmax being no function for its gates either.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_gru_cell_new(
    config: *const elman_gru_config,
    input_size: usize,
    seed: u64,
    out: *mut *mut elman_gru_cell,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        // SAFETY: readable for its struct_size bytes: the contract at the top of the header.
        let config = unsafe { read_gru(config) }?;
        let cell = GruCell::new(config, input_size, seed)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_gru_cell(cell)) };
        Ok(())
    })
}

/// One step for `batch` rows: z, r = s(x W + b + h U), h_next = z h + (1 - z) n with the candidate n of
/// elman_gru_config.
///
/// x is [batch, input_size], h and h_next are [batch, units]. h_next may be the very same array as h, which
/// steps in place; any other overlap of h_next with x or h is an error. The bits of a row are those of the
/// same row in a network's GRU layer, whatever the batch. What a large step needs beside its arrays the cell
/// keeps for the next, which then allocates nothing.
///
/// Fails with INVALID_ARGUMENT (batch is 0, an overflowed product), LENGTH_MISMATCH, OVERLAP, OUT_OF_MEMORY.
///
/// Threads: any number at once on one cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_gru_cell_step(
    cell: *const elman_gru_cell,
    x: *const f32,
    x_len: usize,
    h: *const f32,
    h_len: usize,
    batch: usize,
    h_next: *mut f32,
    h_next_len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_gru_cell(cell) = unsafe { shared("cell", cell) }?;
        let x = Input::new("x", x, x_len)?;
        let before = [Input::new("h", h, h_len)?];
        let next = [Output::new("h_next", h_next, h_next_len)?];
        let step = Step::new(x, before, next, [batch, cell.input_size(), cell.units()])?;
        // SAFETY: as long as C says: the contract at the top of the header.
        match unsafe { step.slices() } {
            (x, [Some(h)], [h_next]) => cell.step(x, h, batch, h_next)?,
            (x, [None], [h]) => cell.step_in_place(x, batch, h)?,
        }
        Ok(())
    })
}

/// Copies a weight of the cell to `values`: ELMAN_WEIGHT_KERNEL [input_size, 3 x units],
/// ELMAN_WEIGHT_RECURRENT_KERNEL [units, 3 x units] or ELMAN_WEIGHT_BIAS, [2, 3 x units] with reset_after and
/// else [3 x units], in Keras's layout and order of gates. len is the number of elements of that shape.
///
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH.
///
/// Threads: any number at once on one cell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_gru_cell_get_weight(
    cell: *const elman_gru_cell,
    which: elman_weight,
    values: *mut f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let elman_gru_cell(cell) = unsafe { shared("cell", cell) }?;
        let values = Output::new("values", values, len)?;
        let weight = cell.weight(which.read()?)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        unsafe { values.copy_from("rows x columns", &weight.shape(), weight.values()) }
    })
}

/// Replaces a weight of the cell by a copy of `values`; shapes as in elman_gru_cell_get_weight.
///
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH,
/// OUT_OF_MEMORY; the cell is unchanged then.
///
/// Threads: the cell must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_gru_cell_set_weight(
    cell: *mut elman_gru_cell,
    which: elman_weight,
    values: *const f32,
    len: usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let elman_gru_cell(cell) = unsafe { unshared("cell", cell) }?;
        let values = Input::new("values", values, len)?;
        let which = which.read()?;
        let values = values.expect("rows x columns", &cell.weight(which)?.shape())?;
        // SAFETY: as long as C says: the contract at the top of the header.
        cell.set_weight(which, unsafe { values.slice() })?;
        Ok(())
    })
}

/// Frees a cell. NULL is fine; a second time is not.
///
/// Threads: the cell must not be in use by another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_gru_cell_free(cell: *mut elman_gru_cell) {
    // SAFETY: made by `put_handle`, not freed before and not in use: the contract at the top of the header.
    unsafe { free(cell) }
}
