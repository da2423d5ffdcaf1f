//! LSTM and GRU: their configurations, layers and cells.

use std::mem::offset_of;

use super::boundary::boundary;
use super::config::*;
use super::enums::*;
use super::raw::{Input, Output, Place, at_least_one, flag, free, shared, unshared};
use super::sequential::{add, elman_sequential};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use crate::cell::{GruCell, LstmCell};
use crate::layers::{Bidirectional, Gru, Lstm};

/// What an LSTM layer or cell is: i, f, o = s(x W + b + h U), each
/// with its columns, g = a(...), c' = f c + i g, h' = o a(c'). Gates stand in Keras's order i f c o. Fill it by elman_lstm_config_init, then change what you want; setting every field
/// by hand leaves fields of later versions unset. It is only read during a call; keep or discard it afterwards.
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
    /// 1: the layer walks the time axis from its end, padding included, and its outputs stay in processing order;
    /// default 0. A cell ignores it.
    pub go_backwards: u8,
    /// 1: the last states are the next call's first ones, until elman_sequential_reset_states; default 0. A cell ignores
    /// it.
    pub stateful: u8,
    /// 1: a masked step gives zeros; 0: it repeats the previous output (the default). A cell ignores it.
    pub zero_output_for_mask: u8,
    /// Which driver walks the steps; the results have the same bits. A cell ignores it.
    pub unroll: elman_unroll,
    /// Share of the inputs dropped in training, 0 to 1; default 0.
    pub dropout: f32,
    /// Share of the state dropped in training, 0 to 1; default 0.
    pub recurrent_dropout: f32,
    /// How the kernel [input, 4 units] starts; default glorot-uniform.
    pub kernel_initializer: elman_initializer,
    /// How the recurrent kernel [units, 4 units] starts; default orthogonal with gain 1.
    pub recurrent_initializer: elman_initializer,
    /// How the bias [1, 4 units] starts; default zeros.
    pub bias_initializer: elman_initializer,
    /// The function s of the gates: sigmoid (the default) or any other but softmax.
    pub recurrent_activation: elman_activation,
    /// 1: the bias of the forget gate starts at one (the default).
    pub unit_forget_bias: u8,
}

/// Fills `config` with Keras's defaults for a layer of `units` outputs.
///
/// struct_size is `sizeof *config` as your compiler sees it: no more bytes than that are written, so programs compiled
/// against an older header meet a newer library safely, and the other way round.
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
    let initializer = |kind, a| elman_initializer { kind, a, b: 0.0 };
    elman_lstm_config {
        struct_size: size_of::<elman_lstm_config>(),
        units,
        activation: ELMAN_ACTIVATION_TANH,
        use_bias: 1,
        return_sequences: 0,
        go_backwards: 0,
        stateful: 0,
        zero_output_for_mask: 0,
        unroll: ELMAN_UNROLL_AUTO,
        dropout: 0.0,
        recurrent_dropout: 0.0,
        kernel_initializer: initializer(ELMAN_INITIALIZER_GLOROT_UNIFORM, 0.0),
        recurrent_initializer: initializer(ELMAN_INITIALIZER_ORTHOGONAL, 1.0),
        bias_initializer: initializer(ELMAN_INITIALIZER_ZEROS, 0.0),
        recurrent_activation: ELMAN_ACTIVATION_SIGMOID,
        unit_forget_bias: 1,
    }
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
unsafe fn read_lstm(config: *const elman_lstm_config) -> Result<Lstm, Failure> {
    // SAFETY: the caller's duty is the same.
    let struct_size = unsafe { size_of_given("config", config, offset_of!(elman_lstm_config, activation)) }?;
    let mut given = lstm_defaults(0);
    read_fields!(config, struct_size, given: elman_lstm_config {
        units, activation, use_bias, return_sequences, go_backwards, stateful, zero_output_for_mask, unroll, dropout,
        recurrent_dropout, kernel_initializer, recurrent_initializer, bias_initializer, recurrent_activation, unit_forget_bias,
    });
    Ok(Lstm::new(given.units)
        .activation(given.activation.read()?)
        .use_bias(flag("use_bias", given.use_bias)?)
        .return_sequences(flag("return_sequences", given.return_sequences)?)
        .go_backwards(flag("go_backwards", given.go_backwards)?)
        .stateful(flag("stateful", given.stateful)?)
        .zero_output_for_mask(flag("zero_output_for_mask", given.zero_output_for_mask)?)
        .unroll(given.unroll.read()?)
        .dropout(given.dropout)
        .recurrent_dropout(given.recurrent_dropout)
        .kernel_initializer(given.kernel_initializer.read("kernel_initializer")?)
        .recurrent_initializer(given.recurrent_initializer.read("recurrent_initializer")?)
        .bias_initializer(given.bias_initializer.read("bias_initializer")?)
        .recurrent_activation(given.recurrent_activation.read()?)
        .unit_forget_bias(flag("unit_forget_bias", given.unit_forget_bias)?))
}

/// Adds an LSTM layer; its input must be a sequence, so the recurrent layer below must have return_sequences set.
/// Its states are h [batch, units], then c [batch, units], wherever states of layers stand one after another.
///
/// Fails like elman_sequential_add_simple_rnn; the network is unchanged then.
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

/// Adds an LSTM layer that runs in both directions, each with weights of its own, and joins the two outputs; the
/// configuration is both halves'. The forward half's states stand before the backward half's.
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

/// Makes a cell for rows of `input_size` features, with initial weights that depend on nothing but the configuration,
/// input_size and seed: the same ones on every machine.
///
/// On success *out is the new cell, and yours to free.
///
/// Fails like elman_simple_rnn_cell_new.
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

/// One step for `batch` rows: i, f, o = s(x W + b + h U), g = a(...), c_next = f c + i g, h_next = o a(c_next).
///
/// x is [batch, input_size]; h, c, h_next and c_next are [batch, units]. h_next may be the very same array as h, and c_next
/// as c, which steps in place; any other overlap of an output is an error. It allocates nothing that outlives the call, and
/// the bits of a row are those of the same row in a network's LSTM layer, whatever the batch.
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
        let h = Input::new("h", h, h_len)?;
        let c = Input::new("c", c, c_len)?;
        let h_next = Output::new("h_next", h_next, h_next_len)?;
        let c_next = Output::new("c_next", c_next, c_next_len)?;
        at_least_one("batch", batch)?;
        let units = [batch, cell.units()];
        let x = x.expect("batch x input_size", &[batch, cell.input_size()])?;
        let h = h.expect("batch x units", &units)?;
        let c = c.expect("batch x units", &units)?;
        let h_next = h_next.expect("batch x units", &units)?;
        let c_next = c_next.expect("batch x units", &units)?;
        for output in [&h_next, &c_next] {
            output.apart_from(x.span())?;
        }
        h_next.apart_from(c_next.span())?;
        h_next.apart_from(c.span())?;
        c_next.apart_from(h.span())?;
        let (h_in_place, c_in_place) = (h_next.is(&h), c_next.is(&c));
        if !h_in_place {
            h_next.apart_from(h.span())?;
        }
        if !c_in_place {
            c_next.apart_from(c.span())?;
        }
        // SAFETY: as long as C says: the contract at the top of the header. What is stepped in place is not made a slice of
        // inputs beside it.
        unsafe {
            let h = if h_in_place { None } else { Some(h.slice()) };
            let c = if c_in_place { None } else { Some(c.slice()) };
            cell.step_from(x.slice(), [h, c], batch, [h_next.slice(), c_next.slice()])?;
        }
        Ok(())
    })
}

/// Copies a weight of the cell to `values`: ELMAN_WEIGHT_KERNEL [input_size, 4 units], ELMAN_WEIGHT_RECURRENT_KERNEL
/// [units, 4 units] or ELMAN_WEIGHT_BIAS [4 units], in Keras's layout and order of gates. len is the number of
/// elements of that shape.
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
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH, OUT_OF_MEMORY;
/// the cell is unchanged then.
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

/// What a GRU layer or cell is: z, r = s(x W + b + h U), each with its
/// columns, n = a(x Wn + bn + r (h Un + brn)) or, with reset_after 0, a(x Wn + bn + (r h) Un), h' = z h + (1 - z) n. Gates
/// stand in Keras's order z r h. Fill it by elman_gru_config_init, then change what you want; setting every field
/// by hand leaves fields of later versions unset. It is only read during a call; keep or discard it afterwards.
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
    /// 1: the layer walks the time axis from its end, padding included, and its outputs stay in processing order;
    /// default 0. A cell ignores it.
    pub go_backwards: u8,
    /// 1: the last states are the next call's first ones, until elman_sequential_reset_states; default 0. A cell ignores
    /// it.
    pub stateful: u8,
    /// 1: a masked step gives zeros; 0: it repeats the previous output (the default). A cell ignores it.
    pub zero_output_for_mask: u8,
    /// Which driver walks the steps; the results have the same bits. A cell ignores it.
    pub unroll: elman_unroll,
    /// Share of the inputs dropped in training, 0 to 1; default 0.
    pub dropout: f32,
    /// Share of the state dropped in training, 0 to 1; default 0.
    pub recurrent_dropout: f32,
    /// How the kernel [input, 3 units] starts; default glorot-uniform.
    pub kernel_initializer: elman_initializer,
    /// How the recurrent kernel [units, 3 units] starts; default orthogonal with gain 1.
    pub recurrent_initializer: elman_initializer,
    /// How the bias [1, 3 units], with reset_after [2, 3 units] (the
    /// input's row, then the recurrent one), starts; default zeros.
    pub bias_initializer: elman_initializer,
    /// The function s of the gates: sigmoid (the default) or any other but softmax.
    pub recurrent_activation: elman_activation,
    /// 1: the reset gate works after the recurrent product (the default); 0: before it.
    pub reset_after: u8,
}

/// Fills `config` with Keras's defaults for a layer of `units` outputs.
///
/// struct_size is `sizeof *config` as your compiler sees it: no more bytes than that are written, so programs compiled
/// against an older header meet a newer library safely, and the other way round.
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
    let initializer = |kind, a| elman_initializer { kind, a, b: 0.0 };
    elman_gru_config {
        struct_size: size_of::<elman_gru_config>(),
        units,
        activation: ELMAN_ACTIVATION_TANH,
        use_bias: 1,
        return_sequences: 0,
        go_backwards: 0,
        stateful: 0,
        zero_output_for_mask: 0,
        unroll: ELMAN_UNROLL_AUTO,
        dropout: 0.0,
        recurrent_dropout: 0.0,
        kernel_initializer: initializer(ELMAN_INITIALIZER_GLOROT_UNIFORM, 0.0),
        recurrent_initializer: initializer(ELMAN_INITIALIZER_ORTHOGONAL, 1.0),
        bias_initializer: initializer(ELMAN_INITIALIZER_ZEROS, 0.0),
        recurrent_activation: ELMAN_ACTIVATION_SIGMOID,
        reset_after: 1,
    }
}

/// The configuration that C wrote.
///
/// # Safety
/// `config` is NULL or points to as many readable bytes as its first field says.
unsafe fn read_gru(config: *const elman_gru_config) -> Result<Gru, Failure> {
    // SAFETY: the caller's duty is the same.
    let struct_size = unsafe { size_of_given("config", config, offset_of!(elman_gru_config, activation)) }?;
    let mut given = gru_defaults(0);
    read_fields!(config, struct_size, given: elman_gru_config {
        units, activation, use_bias, return_sequences, go_backwards, stateful, zero_output_for_mask, unroll, dropout,
        recurrent_dropout, kernel_initializer, recurrent_initializer, bias_initializer, recurrent_activation, reset_after,
    });
    Ok(Gru::new(given.units)
        .activation(given.activation.read()?)
        .use_bias(flag("use_bias", given.use_bias)?)
        .return_sequences(flag("return_sequences", given.return_sequences)?)
        .go_backwards(flag("go_backwards", given.go_backwards)?)
        .stateful(flag("stateful", given.stateful)?)
        .zero_output_for_mask(flag("zero_output_for_mask", given.zero_output_for_mask)?)
        .unroll(given.unroll.read()?)
        .dropout(given.dropout)
        .recurrent_dropout(given.recurrent_dropout)
        .kernel_initializer(given.kernel_initializer.read("kernel_initializer")?)
        .recurrent_initializer(given.recurrent_initializer.read("recurrent_initializer")?)
        .bias_initializer(given.bias_initializer.read("bias_initializer")?)
        .recurrent_activation(given.recurrent_activation.read()?)
        .reset_after(flag("reset_after", given.reset_after)?))
}

/// Adds a GRU layer; its input must be a sequence, so the recurrent layer below must have return_sequences set.
/// Its state is h [batch, units].
///
/// Fails like elman_sequential_add_simple_rnn; the network is unchanged then.
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

/// Adds a GRU layer that runs in both directions, each with weights of its own, and joins the two outputs; the
/// configuration is both halves'. The forward half's states stand before the backward half's.
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

/// Makes a cell for rows of `input_size` features, with initial weights that depend on nothing but the configuration,
/// input_size and seed: the same ones on every machine.
///
/// On success *out is the new cell, and yours to free.
///
/// Fails like elman_simple_rnn_cell_new.
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

/// One step for `batch` rows, as elman_simple_rnn_cell_step: x is [batch, input_size], h and h_next are [batch, units], and
/// h_next may be the very same array as h.
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
        let h = Input::new("h", h, h_len)?;
        let h_next = Output::new("h_next", h_next, h_next_len)?;
        at_least_one("batch", batch)?;
        let x = x.expect("batch x input_size", &[batch, cell.input_size()])?;
        let h = h.expect("batch x units", &[batch, cell.units()])?;
        let h_next = h_next.expect("batch x units", &[batch, cell.units()])?;
        h_next.apart_from(x.span())?;
        if h_next.is(&h) {
            // SAFETY: as long as C says: the contract at the top of the header. h itself is not made a slice.
            unsafe { cell.step_in_place(x.slice(), batch, h_next.slice()) }?;
        } else {
            h_next.apart_from(h.span())?;
            // SAFETY: as long as C says: the contract at the top of the header.
            unsafe { cell.step(x.slice(), h.slice(), batch, h_next.slice()) }?;
        }
        Ok(())
    })
}

/// Copies a weight of the cell to `values`: ELMAN_WEIGHT_KERNEL [input_size, 3 units], ELMAN_WEIGHT_RECURRENT_KERNEL
/// [units, 3 units] or ELMAN_WEIGHT_BIAS [3 units, with reset_after 2 x 3 units], in Keras's layout and order of gates. len is the number of
/// elements of that shape.
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
/// Fails with INVALID_ARGUMENT (an unknown weight, or one that the cell does not have), LENGTH_MISMATCH, OUT_OF_MEMORY;
/// the cell is unchanged then.
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
