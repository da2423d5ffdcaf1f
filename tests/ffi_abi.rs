//! Wrong input through the C ABI: each mistake has its status and a sentence with the numbers, and writes nothing.

mod common;

use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

use common::c::{UNTOUCHED, fails, last_error, misaligned, ok, untouched};
use elman::ffi::*;

fn config(units: usize) -> elman_simple_rnn_config {
    let mut config = std::mem::MaybeUninit::uninit();
    // SAFETY: room for the struct, and on success it is filled.
    unsafe {
        ok(elman_simple_rnn_config_init(config.as_mut_ptr(), size_of::<elman_simple_rnn_config>(), units));
        config.assume_init()
    }
}

fn options() -> elman_run_options {
    let mut options = std::mem::MaybeUninit::uninit();
    // SAFETY: room for the struct, and on success it is filled.
    unsafe {
        ok(elman_run_options_init(options.as_mut_ptr(), size_of::<elman_run_options>()));
        options.assume_init()
    }
}

/// A handle that frees itself, for tests only.
struct Network(*mut elman_sequential);

// SAFETY: the tests share it for const functions only.
unsafe impl Sync for Network {}

impl Network {
    fn new(input_size: usize) -> Self {
        let mut network = null_mut();
        // SAFETY: a place for the handle.
        ok(unsafe { elman_sequential_new(input_size, &mut network) });
        Self(network)
    }

    /// Two features a step, a recurrent layer of 4 for every step, one of 3 for the last.
    fn floats() -> Self {
        let network = Self::new(2);
        let mut lower = config(4);
        lower.return_sequences = 1;
        // SAFETY: live handles and configurations.
        unsafe {
            ok(elman_sequential_add_simple_rnn(network.0, &lower));
            ok(elman_sequential_add_simple_rnn(network.0, &config(3)));
            ok(elman_sequential_build(network.0, 1));
        }
        network
    }

    /// A vocabulary of 10 with token 0 masked, a recurrent layer of 3.
    fn tokens() -> Self {
        let network = Self::new(1);
        // SAFETY: live handles and configurations.
        unsafe {
            ok(elman_sequential_add_embedding(network.0, 10, 2, elman_bool(1)));
            ok(elman_sequential_add_simple_rnn(network.0, &config(3)));
            ok(elman_sequential_build(network.0, 1));
        }
        network
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed here only.
        unsafe { elman_sequential_free(self.0) }
    }
}

struct Cell(*mut elman_simple_rnn_cell);

impl Cell {
    /// Two features, three units.
    fn new() -> Self {
        let mut cell = null_mut();
        // SAFETY: a live configuration and a place for the handle.
        ok(unsafe { elman_simple_rnn_cell_new(&config(3), 2, 1, &mut cell) });
        Self(cell)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed here only.
        unsafe { elman_simple_rnn_cell_free(self.0) }
    }
}

#[test]
fn statuses_have_their_numbers_and_names() {
    let statuses = [
        (ELMAN_STATUS_OK, 0, "OK"),
        (ELMAN_STATUS_NULL_POINTER, 1, "NULL_POINTER"),
        (ELMAN_STATUS_INVALID_ARGUMENT, 2, "INVALID_ARGUMENT"),
        (ELMAN_STATUS_LENGTH_MISMATCH, 3, "LENGTH_MISMATCH"),
        (ELMAN_STATUS_NOT_BUILT, 4, "NOT_BUILT"),
        (ELMAN_STATUS_OUT_OF_MEMORY, 5, "OUT_OF_MEMORY"),
        (ELMAN_STATUS_IO, 6, "IO"),
        (ELMAN_STATUS_BAD_FORMAT, 7, "BAD_FORMAT"),
        (ELMAN_STATUS_UNSUPPORTED, 8, "UNSUPPORTED"),
        (ELMAN_STATUS_OVERLAP, 9, "OVERLAP"),
        (ELMAN_STATUS_NOT_FINITE, 10, "NOT_FINITE"),
        (ELMAN_STATUS_PANIC, 99, "PANIC"),
        (elman_status(11), 11, "UNKNOWN"),
        (elman_status(u32::MAX), u32::MAX, "UNKNOWN"),
    ];
    for (status, number, name) in statuses {
        assert_eq!(status.0, number);
        // SAFETY: static text.
        assert_eq!(unsafe { CStr::from_ptr(elman_status_name(status)) }.to_str(), Ok(name));
    }
    // SAFETY: static texts.
    let (version, isa) = unsafe { (CStr::from_ptr(elman_version()), CStr::from_ptr(elman_isa())) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    assert!(["portable", "neon", "avx2", "avx512"].contains(&isa.to_str().expect("ASCII")), "{isa:?}");
}

#[test]
fn each_thread_has_its_own_last_error() {
    // SAFETY: NULL is a mistake that the library catches.
    fails(unsafe { elman_sequential_new(2, null_mut()) }, ELMAN_STATUS_NULL_POINTER, &["out"]);
    let before = last_error();
    std::thread::spawn(|| assert_eq!(last_error(), "")).join().expect("the other thread has no failure");
    drop(Network::floats());
    assert_eq!(last_error(), before, "success leaves the last failure as it is");
}

#[test]
fn null_is_named() {
    let (network, cell, config, mut size) = (Network::floats(), Cell::new(), config(3), 77);
    let (x, ids, mut y) = ([0.5; 8], [1; 4], [UNTOUCHED; 3]);
    let (yp, x) = (y.as_mut_ptr(), x.as_ptr());
    let null_pointer = |status, word| fails(status, ELMAN_STATUS_NULL_POINTER, &[word, "NULL"]);
    // SAFETY: what is not NULL is live and long enough; NULL is the mistake that the library catches.
    unsafe {
        elman_sequential_free(null_mut());
        elman_simple_rnn_cell_free(null_mut());
        assert_eq!(elman_sequential_layer_count(null()), 0);

        let (n, c) = (network.0, cell.0);
        let (kernel, mut out_cell, mut out_network) = (ELMAN_WEIGHT_KERNEL, null_mut(), null_mut());
        null_pointer(elman_simple_rnn_config_init(null_mut(), 64, 3), "config");
        null_pointer(elman_run_options_init(null_mut(), 64), "options");
        null_pointer(elman_simple_rnn_cell_new(null(), 2, 1, &mut out_cell), "config");
        null_pointer(elman_simple_rnn_cell_new(&config, 2, 1, null_mut()), "out");
        null_pointer(elman_simple_rnn_cell_step(null(), x, 2, x, 3, 1, yp, 3), "cell");
        null_pointer(elman_simple_rnn_cell_step(c, null(), 2, x, 3, 1, yp, 3), "x");
        null_pointer(elman_simple_rnn_cell_step(c, x, 2, null(), 3, 1, yp, 3), "h");
        null_pointer(elman_simple_rnn_cell_step(c, x, 2, x, 3, 1, null_mut(), 3), "h_next");
        null_pointer(elman_simple_rnn_cell_get_weight(null(), kernel, yp, 6), "cell");
        null_pointer(elman_simple_rnn_cell_get_weight(c, kernel, null_mut(), 6), "values");
        null_pointer(elman_simple_rnn_cell_set_weight(null_mut(), kernel, x, 6), "cell");
        null_pointer(elman_simple_rnn_cell_set_weight(c, kernel, null(), 6), "values");

        null_pointer(elman_sequential_new(2, null_mut()), "out");
        null_pointer(elman_sequential_add_embedding(null_mut(), 10, 2, elman_bool(0)), "network");
        null_pointer(elman_sequential_add_simple_rnn(null_mut(), &config), "network");
        null_pointer(elman_sequential_add_simple_rnn(Network::new(2).0, null()), "config");
        null_pointer(
            elman_sequential_add_bidirectional(null_mut(), &config, ELMAN_MERGE_MODE_SUM),
            "network",
        );
        null_pointer(
            elman_sequential_add_bidirectional(Network::new(2).0, null(), ELMAN_MERGE_MODE_SUM),
            "config",
        );
        null_pointer(elman_sequential_add_dense(null_mut(), 1, ELMAN_ACTIVATION_RELU), "network");
        null_pointer(elman_sequential_add_dropout(null_mut(), 0.5), "network");
        null_pointer(elman_sequential_add_masking(null_mut(), 0.5), "network");
        null_pointer(elman_sequential_add_last_step(null_mut()), "network");
        null_pointer(elman_sequential_build(null_mut(), 0), "network");
        null_pointer(elman_sequential_summary(null(), null_mut(), 0, &mut size), "network");
        null_pointer(elman_sequential_summary(n, null_mut(), 0, null_mut()), "needed");
        null_pointer(elman_sequential_summary(n, null_mut(), 9, &mut size), "text");
        null_pointer(elman_sequential_weight_shape(null(), 0, kernel, &mut size, &mut size), "network");
        null_pointer(elman_sequential_weight_shape(n, 0, kernel, null_mut(), &mut size), "rows");
        null_pointer(elman_sequential_weight_shape(n, 0, kernel, &mut size, null_mut()), "columns");
        null_pointer(elman_sequential_get_weight(null(), 0, kernel, yp, 8), "network");
        null_pointer(elman_sequential_get_weight(n, 0, kernel, null_mut(), 8), "values");
        null_pointer(elman_sequential_set_weight(null_mut(), 0, kernel, x, 8), "network");
        null_pointer(elman_sequential_set_weight(n, 0, kernel, null(), 8), "values");
        null_pointer(elman_sequential_weight_bytes(null(), &mut size, &mut size), "network");
        null_pointer(elman_sequential_weight_bytes(n, null_mut(), &mut size), "plain");
        null_pointer(elman_sequential_weight_bytes(n, &mut size, null_mut()), "packed");
        null_pointer(elman_sequential_drop_weights(null_mut()), "network");
        null_pointer(elman_sequential_set_threads(null_mut(), 1), "network");
        null_pointer(elman_sequential_output_len(null(), 1, 1, &mut size), "network");
        null_pointer(elman_sequential_output_len(n, 1, 1, null_mut()), "len");
        null_pointer(elman_sequential_state_len(null(), 1, &mut size), "network");
        null_pointer(elman_sequential_state_len(n, 1, null_mut()), "len");
        null_pointer(elman_sequential_get_states(null(), yp, 3, &mut size), "network");
        null_pointer(elman_sequential_get_states(n, yp, 3, null_mut()), "batch");
        null_pointer(elman_sequential_get_states(n, null_mut(), 3, &mut size), "states");
        null_pointer(elman_sequential_set_states(null_mut(), 1, x, 3), "network");
        null_pointer(elman_sequential_set_states(n, 1, null(), 3), "states");
        null_pointer(elman_sequential_predict(null(), x, 4, 1, 2, yp, 3), "network");
        null_pointer(elman_sequential_predict(n, null(), 4, 1, 2, yp, 3), "x");
        null_pointer(elman_sequential_predict(n, x, 4, 1, 2, null_mut(), 3), "y");
        null_pointer(elman_sequential_run(null(), x, 4, 1, 2, null(), yp, 3), "network");
        null_pointer(elman_sequential_run(n, null(), 4, 1, 2, null(), yp, 3), "x");
        null_pointer(elman_sequential_run(n, x, 4, 1, 2, null(), null_mut(), 3), "y");
        let (t, i) = (Network::tokens(), ids.as_ptr());
        null_pointer(elman_sequential_predict_tokens(null(), i, 4, 1, 4, yp, 3), "network");
        null_pointer(elman_sequential_predict_tokens(t.0, null(), 4, 1, 4, yp, 3), "ids");
        null_pointer(elman_sequential_predict_tokens(t.0, i, 4, 1, 4, null_mut(), 3), "y");
        null_pointer(elman_sequential_run_tokens(null(), i, 4, 1, 4, null(), yp, 3), "network");
        null_pointer(elman_sequential_run_tokens(t.0, null(), 4, 1, 4, null(), yp, 3), "ids");
        null_pointer(elman_sequential_run_tokens(t.0, i, 4, 1, 4, null(), null_mut(), 3), "y");
        null_pointer(elman_sequential_save(null(), c"x".as_ptr()), "network");
        null_pointer(elman_sequential_save(n, null()), "path");
        null_pointer(elman_sequential_load(null(), &mut out_network), "path");
        null_pointer(elman_sequential_load(c"x".as_ptr(), null_mut()), "out");
        null_pointer(elman_sequential_load_bytes(null(), 8, &mut out_network), "bytes");
        null_pointer(elman_sequential_load_bytes(c"x".as_ptr().cast(), 1, null_mut()), "out");
        assert!(out_cell.is_null() && out_network.is_null());
    }
    assert_eq!(size, 77, "no size was written");
    untouched(&y);
}

#[test]
fn zero_sizes_are_invalid() {
    let (network, cell, mut size) = (Network::floats(), Cell::new(), 77);
    let (x, mut y) = ([0.5; 8], [UNTOUCHED; 3]);
    let (yp, x) = (y.as_mut_ptr(), x.as_ptr());
    let invalid = |status, word| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &[word]);
    // SAFETY: every pointer is live and long enough.
    unsafe {
        let (mut out_cell, mut out_network) = (null_mut(), null_mut());
        let mut zero_units = config(3);
        invalid(elman_simple_rnn_config_init(&mut zero_units, size_of_val(&zero_units), 0), "units");
        assert_eq!(zero_units.units, 3);
        zero_units.units = 0;
        invalid(elman_simple_rnn_cell_new(&zero_units, 2, 1, &mut out_cell), "units");
        invalid(elman_simple_rnn_cell_new(&config(3), 0, 1, &mut out_cell), "input size");
        invalid(elman_simple_rnn_cell_step(cell.0, x, 0, x, 0, 0, yp, 0), "batch");
        invalid(elman_sequential_new(0, &mut out_network), "input_size");
        let empty = Network::new(1);
        invalid(elman_sequential_add_embedding(empty.0, 0, 2, elman_bool(0)), "vocabulary");
        invalid(elman_sequential_add_embedding(empty.0, 10, 0, elman_bool(0)), "size");
        invalid(elman_sequential_add_simple_rnn(empty.0, &zero_units), "units");
        invalid(elman_sequential_add_bidirectional(empty.0, &zero_units, ELMAN_MERGE_MODE_SUM), "units");
        invalid(elman_sequential_add_dense(empty.0, 0, ELMAN_ACTIVATION_RELU), "units");
        assert_eq!(elman_sequential_layer_count(empty.0), 0, "a refused layer is not added");
        invalid(elman_sequential_build(empty.0, 0), "layer");
        invalid(elman_sequential_output_len(network.0, 0, 1, &mut size), "batch");
        invalid(elman_sequential_output_len(network.0, 1, 0, &mut size), "steps");
        invalid(elman_sequential_state_len(network.0, 0, &mut size), "batch");
        invalid(elman_sequential_predict(network.0, x, 0, 0, 2, yp, 0), "batch");
        invalid(elman_sequential_predict(network.0, x, 0, 1, 0, yp, 3), "steps");
        invalid(elman_sequential_run(network.0, x, 0, 1, 0, null(), yp, 3), "steps");
        assert!(out_cell.is_null() && out_network.is_null());
    }
    assert_eq!(size, 77);
    untouched(&y);
}

#[test]
fn lengths_off_by_one_are_noticed() {
    let (network, tokens, cell) = (Network::floats(), Network::tokens(), Cell::new());
    let (x, ids, mut y) = ([0.5; 64], [1; 64], [UNTOUCHED; 64]);
    let (x, ids, yp) = (x.as_ptr(), ids.as_ptr(), y.as_mut_ptr());
    let off = |right: usize| [right - 1, right + 1, 0, usize::MAX];
    let wrong = |status, what, len: usize| {
        fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &[what, &len.to_string()]);
    };
    // SAFETY: every pointer is live; wrong lengths are the mistake that the library catches.
    unsafe {
        for len in off(4) {
            wrong(elman_simple_rnn_cell_step(cell.0, x, len, x, 6, 2, yp, 6), "x", len);
            wrong(elman_sequential_predict(network.0, x, len, 1, 2, yp, 3), "x", len);
            wrong(elman_sequential_run(network.0, x, len, 1, 2, null(), yp, 3), "x", len);
            wrong(elman_sequential_predict_tokens(tokens.0, ids, len, 2, 2, yp, 6), "ids", len);
            wrong(elman_sequential_run_tokens(tokens.0, ids, len, 2, 2, null(), yp, 6), "ids", len);
        }
        for len in off(6) {
            wrong(elman_simple_rnn_cell_step(cell.0, x, 4, x, len, 2, yp, 6), "h", len);
            wrong(elman_simple_rnn_cell_step(cell.0, x, 4, x, 6, 2, yp, len), "h_next", len);
            wrong(elman_simple_rnn_cell_get_weight(cell.0, ELMAN_WEIGHT_KERNEL, yp, len), "values", len);
            wrong(elman_simple_rnn_cell_set_weight(cell.0, ELMAN_WEIGHT_KERNEL, x, len), "values", len);
            wrong(elman_sequential_predict(network.0, x, 8, 2, 2, yp, len), "y", len);
            wrong(elman_sequential_predict_tokens(tokens.0, ids, 4, 2, 2, yp, len), "y", len);
        }
        for len in off(8) {
            wrong(elman_sequential_get_weight(network.0, 0, ELMAN_WEIGHT_KERNEL, yp, len), "values", len);
            wrong(elman_sequential_set_weight(network.0, 0, ELMAN_WEIGHT_KERNEL, x, len), "values", len);
        }
        // A length that reaches into the neighbour is a wrong length, not an overlap.
        let mut both = [UNTOUCHED; 7];
        let y_behind_x = both.as_mut_ptr().add(4);
        wrong(elman_sequential_predict(network.0, both.as_ptr(), 5, 1, 2, y_behind_x, 3), "x", 5);
    }
    untouched(&y);
}

#[test]
fn overflowed_sizes_are_invalid() {
    let (network, tokens, cell, mut size) = (Network::floats(), Network::tokens(), Cell::new(), 77);
    let (x, ids, mut y) = ([0.5; 8], [1; 4], [UNTOUCHED; 3]);
    let (x, ids, yp) = (x.as_ptr(), ids.as_ptr(), y.as_mut_ptr());
    let invalid = |status| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["overflow"]);
    let (huge, half) = (usize::MAX, usize::MAX / 2 + 1);
    // SAFETY: every pointer is live; the sizes are the mistake that the library catches.
    unsafe {
        invalid(elman_simple_rnn_cell_step(cell.0, x, 4, x, 6, huge, yp, 3));
        // 2 x half is 0 when it wraps.
        invalid(elman_simple_rnn_cell_step(cell.0, x, 0, x, 0, half, yp, 0));
        invalid(elman_sequential_output_len(network.0, huge, 1, &mut size));
        invalid(elman_sequential_state_len(network.0, huge, &mut size));
        for (batch, steps) in [(huge, 2), (2, huge), (huge, huge), (half, 2), (1 << 32, 1 << 32)] {
            invalid(elman_sequential_predict(network.0, x, 8, batch, steps, yp, 3));
            invalid(elman_sequential_predict_tokens(tokens.0, ids, 4, batch, steps, yp, 3));
            invalid(elman_sequential_run(network.0, x, 8, batch, steps, null(), yp, 3));
        }
        let mut out = null_mut();
        invalid(elman_simple_rnn_cell_new(&config(huge), 2, 1, &mut out));
        invalid(elman_simple_rnn_cell_new(&config(3), huge, 1, &mut out));
        assert!(out.is_null());
        let empty = Network::new(1);
        invalid(elman_sequential_add_embedding(empty.0, half, 2, elman_bool(0)));
        invalid(elman_sequential_add_simple_rnn(empty.0, &config(half)));
        assert_eq!(elman_sequential_layer_count(empty.0), 0);
    }
    assert_eq!(size, 77);
    untouched(&y);
}

/// By arithmetic: a system may promise memory that it does not have. (What it does not promise is OUT_OF_MEMORY:
/// tests/out_of_memory.rs.)
#[test]
fn weights_that_no_memory_has_are_refused() {
    let network = Network::new(1);
    // SAFETY: a live handle.
    unsafe {
        let status = elman_sequential_add_embedding(network.0, 1 << 30, 1 << 30, elman_bool(0));
        fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["2^38", &(1u64 << 30).to_string()]);
        assert_eq!(elman_sequential_layer_count(network.0), 0);
    }
}

#[test]
fn unbuilt_networks_say_so() {
    let (network, mut size) = (Network::new(2), 77);
    let (x, ids, mut y) = ([0.5; 8], [1; 4], [UNTOUCHED; 3]);
    let (x, ids, yp) = (x.as_ptr(), ids.as_ptr(), y.as_mut_ptr());
    let not_built = |status| fails(status, ELMAN_STATUS_NOT_BUILT, &["build"]);
    // SAFETY: every pointer is live and long enough.
    unsafe {
        let n = network.0;
        ok(elman_sequential_add_simple_rnn(n, &config(3)));
        not_built(elman_sequential_predict(n, x, 4, 1, 2, yp, 3));
        not_built(elman_sequential_predict_tokens(n, ids, 4, 1, 4, yp, 3));
        not_built(elman_sequential_run(n, x, 4, 1, 2, null(), yp, 3));
        not_built(elman_sequential_run_tokens(n, ids, 4, 1, 4, null(), yp, 3));
        not_built(elman_sequential_output_len(n, 1, 2, &mut size));
        not_built(elman_sequential_state_len(n, 1, &mut size));
        not_built(elman_sequential_set_states(n, 1, x, 3));
        not_built(elman_sequential_weight_shape(n, 0, ELMAN_WEIGHT_BIAS, &mut size, &mut size));
        not_built(elman_sequential_get_weight(n, 0, ELMAN_WEIGHT_BIAS, yp, 3));
        not_built(elman_sequential_set_weight(n, 0, ELMAN_WEIGHT_BIAS, x, 3));
        not_built(elman_sequential_weight_bytes(n, &mut size, &mut size));
        not_built(elman_sequential_drop_weights(n));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("unbuilt.safetensors");
        not_built(elman_sequential_save(n, c_path(&path).as_ptr()));
        assert!(!path.exists());

        ok(elman_sequential_build(n, 0));
        let late = elman_sequential_add_dropout(n, 0.5);
        fails(late, ELMAN_STATUS_INVALID_ARGUMENT, &["built"]);
        assert_eq!(elman_sequential_layer_count(n), 1);
    }
    assert_eq!(size, 77);
    untouched(&y);
}

#[test]
fn unknown_values_are_refused() {
    let (network, cell, mut y, mut size) = (Network::floats(), Cell::new(), [UNTOUCHED; 8], 77);
    let invalid = |status, words: &[&str]| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, words);
    let refused = |change: fn(&mut elman_simple_rnn_config), words: &[&str]| {
        let (mut wrong, mut out, network) = (config(3), null_mut(), Network::new(2));
        change(&mut wrong);
        // SAFETY: every pointer is live.
        unsafe {
            invalid(elman_simple_rnn_cell_new(&wrong, 2, 1, &mut out), words);
            invalid(elman_sequential_add_simple_rnn(network.0, &wrong), words);
            invalid(elman_sequential_add_bidirectional(network.0, &wrong, ELMAN_MERGE_MODE_SUM), words);
            assert!(out.is_null());
            assert_eq!(elman_sequential_layer_count(network.0), 0);
        }
    };
    refused(|wrong| wrong.activation = elman_activation(10), &["10", "activation"]);
    refused(|wrong| wrong.activation = ELMAN_ACTIVATION_SOFTMAX, &["softmax"]);
    refused(|wrong| wrong.unroll = elman_unroll(u32::MAX), &["4294967295", "unroll"]);
    refused(|wrong| wrong.use_bias = 2, &["use_bias", "2"]);
    refused(|wrong| wrong.return_sequences = 255, &["return_sequences", "255"]);
    refused(|wrong| wrong.go_backwards = 7, &["go_backwards", "7"]);
    refused(|wrong| wrong.stateful = 7, &["stateful", "7"]);
    refused(|wrong| wrong.zero_output_for_mask = 7, &["zero_output_for_mask", "7"]);
    refused(|wrong| wrong.dropout = 1.5, &["dropout", "1.5"]);
    refused(|wrong| wrong.dropout = f32::NAN, &["dropout", "NaN"]);
    refused(|wrong| wrong.recurrent_dropout = -0.25, &["recurrent_dropout", "-0.25"]);
    refused(
        |wrong| wrong.kernel_initializer.kind = elman_initializer_kind(13),
        &["13", "kernel_initializer"],
    );
    refused(
        |wrong| wrong.recurrent_initializer.kind = elman_initializer_kind(99),
        &["recurrent_initializer"],
    );
    refused(|wrong| wrong.bias_initializer.kind = elman_initializer_kind(99), &["bias_initializer"]);
    // SAFETY: every pointer is live and long enough.
    unsafe {
        let empty = Network::new(1);
        invalid(elman_sequential_add_embedding(empty.0, 10, 2, elman_bool(2)), &["mask_zero", "2"]);
        invalid(elman_sequential_add_dense(empty.0, 3, elman_activation(77)), &["77", "activation"]);
        let mode = elman_merge_mode(5);
        invalid(elman_sequential_add_bidirectional(empty.0, &config(3), mode), &["5", "merge mode"]);
        invalid(elman_sequential_add_dropout(empty.0, 2.0), &["rate", "2"]);
        invalid(elman_sequential_add_masking(empty.0, f32::INFINITY), &["mask_value", "inf"]);
        invalid(elman_sequential_add_last_step(empty.0), &["last_step", "recurrent"]);
        assert_eq!(elman_sequential_layer_count(empty.0), 0);
        assert_eq!(elman_sequential_add_dropout(empty.0, 0.5), ELMAN_STATUS_OK);
        assert_eq!(elman_sequential_add_masking(empty.0, 0.0), ELMAN_STATUS_UNSUPPORTED);
        assert_eq!(elman_sequential_layer_count(empty.0), 1);

        let unknown = elman_weight(7);
        let yp = y.as_mut_ptr();
        invalid(elman_sequential_get_weight(network.0, 0, unknown, yp, 8), &["7", "weight"]);
        invalid(elman_sequential_set_weight(network.0, 0, unknown, yp, 8), &["7", "weight"]);
        invalid(elman_sequential_weight_shape(network.0, 0, unknown, &mut size, &mut size), &["7", "weight"]);
        invalid(elman_simple_rnn_cell_get_weight(cell.0, unknown, yp, 6), &["7", "weight"]);
        invalid(elman_simple_rnn_cell_set_weight(cell.0, unknown, yp, 6), &["7", "weight"]);
        let embedding = ELMAN_WEIGHT_EMBEDDING;
        invalid(elman_sequential_get_weight(network.0, 0, embedding, yp, 8), &["embedding"]);
        invalid(elman_simple_rnn_cell_get_weight(cell.0, embedding, yp, 6), &["embedding"]);
        invalid(elman_sequential_get_weight(network.0, 2, ELMAN_WEIGHT_KERNEL, yp, 8), &["layer 2"]);
        invalid(elman_sequential_get_weight(network.0, usize::MAX, ELMAN_WEIGHT_KERNEL, yp, 8), &["layer"]);

        // A network of floats has no tokens, and the other way round; ids must be in the vocabulary.
        let (ids, tokens) = ([3, -1, 10, i32::MIN], Network::tokens());
        invalid(elman_sequential_predict_tokens(network.0, ids.as_ptr(), 4, 1, 4, yp, 3), &["embedding"]);
        invalid(elman_sequential_predict(tokens.0, [1.0; 4].as_ptr(), 4, 1, 4, yp, 3), &["embedding"]);
        for wrong in 1..4 {
            let row = [ids[0], ids[wrong]];
            let words = [ids[wrong].to_string(), "10".into()];
            let status = elman_sequential_predict_tokens(tokens.0, row.as_ptr(), 2, 1, 2, yp, 3);
            invalid(status, &[&words[0], &words[1]]);
        }
    }
    assert_eq!(size, 77);
    untouched(&y);
}

#[test]
fn misaligned_pointers_are_refused() {
    let (network, tokens, cell) = (Network::floats(), Network::tokens(), Cell::new());
    let (x, ids, mut y, size) = ([0.5; 16], [1; 16], [UNTOUCHED; 16], [77; 2]);
    let (bad_x, bad_y, bad_ids) = (misaligned(x.as_ptr()), misaligned(y.as_ptr()), misaligned(ids.as_ptr()));
    let (x, yp, bad_size) = (x.as_ptr(), y.as_mut_ptr(), misaligned(size.as_ptr()));
    let invalid = |status, word| fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &[word, "multiple of"]);
    // SAFETY: every pointer has room for what it claims; misalignment is the mistake that the library catches.
    unsafe {
        let (n, t, c) = (network.0, tokens.0, cell.0);
        invalid(elman_simple_rnn_cell_step(c, bad_x, 2, x, 3, 1, yp, 3), "x");
        invalid(elman_simple_rnn_cell_step(c, x, 2, bad_x, 3, 1, yp, 3), "h");
        invalid(elman_simple_rnn_cell_step(c, x, 2, x, 3, 1, bad_y, 3), "h_next");
        invalid(elman_simple_rnn_cell_get_weight(c, ELMAN_WEIGHT_KERNEL, bad_y, 6), "values");
        invalid(elman_simple_rnn_cell_set_weight(c, ELMAN_WEIGHT_KERNEL, bad_x, 6), "values");
        invalid(elman_sequential_get_weight(n, 0, ELMAN_WEIGHT_KERNEL, bad_y, 8), "values");
        invalid(elman_sequential_set_weight(n, 0, ELMAN_WEIGHT_KERNEL, bad_x, 8), "values");
        invalid(elman_sequential_predict(n, bad_x, 4, 1, 2, yp, 3), "x");
        invalid(elman_sequential_predict(n, x, 4, 1, 2, bad_y, 3), "y");
        invalid(elman_sequential_predict_tokens(t, bad_ids, 4, 1, 4, yp, 3), "ids");
        invalid(elman_sequential_output_len(n, 1, 2, bad_size), "len");
        invalid(elman_sequential_summary(n, null_mut(), 0, bad_size), "needed");
        invalid(elman_sequential_build(misaligned(n), 0), "network");
    }
    assert_eq!(size, [77; 2]);
    untouched(&y);
}

#[test]
fn overlaps_are_refused_and_stepping_in_place_is_not() {
    let (network, tokens, cell) = (Network::floats(), Network::tokens(), Cell::new());
    let overlap = |status, words: &[&str]| fails(status, ELMAN_STATUS_OVERLAP, words);
    let mut room = [UNTOUCHED; 16];
    let p = room.as_mut_ptr();
    // SAFETY: every pointer is live and long enough; overlap is the mistake that the library catches.
    unsafe {
        // x has 2 elements, h and h_next 3.
        overlap(elman_simple_rnn_cell_step(cell.0, p, 2, p.add(8), 3, 1, p, 3), &["h_next", "x"]);
        overlap(elman_simple_rnn_cell_step(cell.0, p.add(2), 2, p.add(8), 3, 1, p, 3), &["h_next", "x"]);
        overlap(elman_simple_rnn_cell_step(cell.0, p, 2, p.add(8), 3, 1, p.add(10), 3), &["h_next", "h"]);
        overlap(elman_simple_rnn_cell_step(cell.0, p, 2, p.add(8), 3, 1, p.add(6), 3), &["h_next", "h"]);
        overlap(elman_sequential_predict(network.0, p, 4, 1, 2, p, 3), &["y", "x"]);
        overlap(elman_sequential_predict(network.0, p, 4, 1, 2, p.add(3), 3), &["y", "x"]);
        let ids = p.cast::<i32>();
        overlap(elman_sequential_predict_tokens(tokens.0, ids, 4, 1, 4, p.add(3), 3), &["y", "ids"]);
        untouched(&room);

        // Side by side is apart; two inputs may share; h_next may be h.
        room = [0.25; 16];
        ok(elman_simple_rnn_cell_step(cell.0, p, 2, p.add(2), 3, 1, p.add(5), 3));
        let apart: Vec<f32> = room[5..8].to_vec();
        ok(elman_simple_rnn_cell_step(cell.0, p.add(1), 2, p.add(1), 3, 1, p.add(5), 3));
        assert_eq!(room[5..8], apart);
        ok(elman_simple_rnn_cell_step(cell.0, p, 2, p.add(2), 3, 1, p.add(2), 3));
        assert_eq!(room[2..5], apart, "in place and apart have the same bits");
    }
}

/// A struct as an older or newer program has it: `size` bytes filled, and bytes behind them that are not the struct's.
fn with_size(units: usize, size: usize) -> (Vec<u64>, elman_status) {
    let mut memory = vec![0xABAB_ABAB_ABAB_ABAB_u64; 32];
    // SAFETY: the memory is larger than the struct and aligned for it.
    let status = unsafe { elman_simple_rnn_config_init(memory.as_mut_ptr().cast(), size, units) };
    (memory, status)
}

#[test]
fn config_structs_of_every_size_are_read_and_written_within_it() {
    let full = size_of::<elman_simple_rnn_config>();
    for size in 0..=200 {
        let (memory, status) = with_size(3, size);
        let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let filled = if size < 2 * size_of::<usize>() { 0 } else { size.min(full) };
        assert!(bytes[filled..].iter().all(|&byte| byte == 0xAB), "size {size}: wrote behind {filled}");
        if filled == 0 {
            fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["struct_size", &size.to_string()]);
            continue;
        }
        ok(status);
        // What lies behind struct_size is no valid flag or enum; the defaults stand in for it.
        let (mut cell, mut kernel) = (null_mut(), [UNTOUCHED; 6]);
        // SAFETY: the memory is larger than the struct; on success the cell is live until it is freed here.
        unsafe {
            ok(elman_simple_rnn_cell_new(memory.as_ptr().cast(), 2, 1, &mut cell));
            ok(elman_simple_rnn_cell_get_weight(cell, ELMAN_WEIGHT_KERNEL, kernel.as_mut_ptr(), 6));
            elman_simple_rnn_cell_free(cell);
        }
        let (mut default_kernel, cell) = ([0.0; 6], Cell::new());
        // SAFETY: a live handle and room for 6 floats.
        ok(unsafe {
            elman_simple_rnn_cell_get_weight(cell.0, ELMAN_WEIGHT_KERNEL, default_kernel.as_mut_ptr(), 6)
        });
        assert_eq!(kernel, default_kernel, "size {size}");
    }
    let mut never_initialised = config(3);
    never_initialised.struct_size = 0;
    let network = Network::new(2);
    // SAFETY: live handles.
    let status = unsafe { elman_sequential_add_simple_rnn(network.0, &never_initialised) };
    fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["struct_size is 0"]);
}

#[test]
fn run_options_of_every_size_are_read_and_written_within_it() {
    let (network, x) = (Network::floats(), [0.5; 4]);
    let (full, least) = (size_of::<elman_run_options>(), 3 * size_of::<usize>());
    for size in 0..=200 {
        let mut memory = vec![0xABAB_ABAB_ABAB_ABAB_u64; 32];
        // SAFETY: the memory is larger than the struct and aligned for it.
        let status = unsafe { elman_run_options_init(memory.as_mut_ptr().cast(), size) };
        let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let filled = if size < least { 0 } else { size.min(full) };
        assert!(bytes[filled..].iter().all(|&byte| byte == 0xAB), "size {size}: wrote behind {filled}");
        if filled == 0 {
            fails(status, ELMAN_STATUS_INVALID_ARGUMENT, &["struct_size", &size.to_string()]);
            continue;
        }
        ok(status);
        let (mut y, mut plain) = ([UNTOUCHED; 3], [UNTOUCHED; 3]);
        // SAFETY: live handles and arrays; the memory is larger than the struct. Half a pointer is never followed.
        unsafe {
            let options = memory.as_ptr().cast();
            ok(elman_sequential_run(network.0, x.as_ptr(), 4, 1, 2, options, y.as_mut_ptr(), 3));
            ok(elman_sequential_predict(network.0, x.as_ptr(), 4, 1, 2, plain.as_mut_ptr(), 3));
        }
        assert_eq!(y, plain, "size {size}");
    }
}

#[test]
fn options_of_a_run_are_checked() {
    let network = Network::floats();
    let (x, mask, lengths, state) = ([0.5; 8], [1u8; 4], [2usize; 2], [0.0f32; 14]);
    // y lies in the middle, so that what begins near it overlaps with nothing else.
    let (mut room, mut final_state) = ([UNTOUCHED; 36], [UNTOUCHED; 14]);
    let (yp, final_p) = (room.as_mut_ptr().wrapping_add(15), final_state.as_mut_ptr());
    let run = |change: &dyn Fn(&mut elman_run_options)| {
        let mut options = options();
        change(&mut options);
        // SAFETY: x and y are live and long enough for 2 rows of 2 steps; so are the options' arrays, or the library
        // finds the mistake before it looks.
        unsafe { elman_sequential_run(network.0, x.as_ptr(), 8, 2, 2, &options, yp, 6) }
    };
    let mut len = 0;
    // SAFETY: a live handle and a place for the size.
    ok(unsafe { elman_sequential_state_len(network.0, 2, &mut len) });
    assert_eq!(len, 14, "2 rows of 4 and 3 units");

    for len in [3, 5, 0] {
        let status = run(&|options| (options.mask, options.mask_len) = (mask.as_ptr(), len));
        fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &["mask", &len.to_string()]);
    }
    for len in [1, 3, 0] {
        let status = run(&|options| (options.lengths, options.lengths_len) = (lengths.as_ptr(), len));
        fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &["lengths", &len.to_string()]);
    }
    for len in [13, 15, 0] {
        let status =
            run(&|options| (options.initial_state, options.initial_state_len) = (state.as_ptr(), len));
        fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &["initial_state", &len.to_string()]);
        let status = run(&|options| (options.final_state, options.final_state_len) = (final_p, len));
        fails(status, ELMAN_STATUS_LENGTH_MISMATCH, &["final_state", &len.to_string()]);
    }
    fails(run(&|options| options.mask_len = 4), ELMAN_STATUS_NULL_POINTER, &["mask", "4"]);
    fails(run(&|options| options.lengths_len = 2), ELMAN_STATUS_NULL_POINTER, &["lengths", "2"]);
    fails(run(&|options| options.initial_state_len = 14), ELMAN_STATUS_NULL_POINTER, &["initial_state"]);
    fails(run(&|options| options.final_state_len = 14), ELMAN_STATUS_NULL_POINTER, &["final_state"]);
    let invalid = ELMAN_STATUS_INVALID_ARGUMENT;
    fails(run(&|options| options.padding = elman_padding(2)), invalid, &["2", "padding"]);
    fails(run(&|options| options.struct_size = 8), invalid, &["struct_size is 8"]);
    let both = run(&|options| {
        (options.mask, options.mask_len) = (mask.as_ptr(), 4);
        (options.lengths, options.lengths_len) = (lengths.as_ptr(), 2);
    });
    fails(both, invalid, &["mask", "lengths"]);
    let too_long = [2usize, 3];
    let status = run(&|options| (options.lengths, options.lengths_len) = (too_long.as_ptr(), 2));
    fails(status, invalid, &["lengths", "3"]);
    let bad = misaligned(state.as_ptr());
    let status = run(&|options| (options.initial_state, options.initial_state_len) = (bad, 14));
    fails(status, invalid, &["initial_state", "multiple of"]);

    let onto = |start: *const f32| {
        run(&|options| {
            (options.initial_state, options.initial_state_len) = (state.as_ptr(), 14);
            (options.final_state, options.final_state_len) = (start.cast_mut(), 14);
        })
    };
    fails(onto(state.as_ptr()), ELMAN_STATUS_OVERLAP, &["final_state", "initial_state"]);
    fails(onto(x.as_ptr()), ELMAN_STATUS_OVERLAP, &["final_state", "x"]);
    fails(onto(yp), ELMAN_STATUS_OVERLAP, &["final_state", "y"]);
    let status =
        run(&|options| (options.initial_state, options.initial_state_len) = (yp.wrapping_sub(10), 14));
    fails(status, ELMAN_STATUS_OVERLAP, &["y", "initial_state"]);
    let status = run(&|options| (options.mask, options.mask_len) = (yp.cast::<u8>(), 4));
    fails(status, ELMAN_STATUS_OVERLAP, &["y", "mask"]);
    untouched(&room);
    untouched(&final_state);

    ok(run(&|options| (options.final_state, options.final_state_len) = (final_p, 14)));
    assert_eq!(final_state[8..], room[15..21], "the upper layer's state is its last output");
}

#[test]
fn the_summary_asks_for_room() {
    let (network, mut needed) = (Network::floats(), 0);
    // SAFETY: live handles; the text has the room it claims.
    unsafe {
        ok(elman_sequential_summary(network.0, null_mut(), 0, &mut needed));
        let mut text = vec![0x55u8; needed + 1];
        let wrong = elman_sequential_summary(network.0, text.as_mut_ptr().cast(), needed - 1, null_mut());
        fails(wrong, ELMAN_STATUS_LENGTH_MISMATCH, &[&needed.to_string(), &(needed - 1).to_string()]);
        let mut again = 0;
        let wrong = elman_sequential_summary(network.0, text.as_mut_ptr().cast(), 0, &mut again);
        fails(wrong, ELMAN_STATUS_LENGTH_MISMATCH, &["got 0"]);
        assert_eq!(again, needed);
        assert!(text.iter().all(|&byte| byte == 0x55));
        ok(elman_sequential_summary(network.0, text.as_mut_ptr().cast(), needed, null_mut()));
        assert_eq!(text[needed], 0x55);
        let text = CStr::from_bytes_with_nul(&text[..needed]).expect("one nul byte, at the end");
        assert!(text.to_str().expect("UTF-8").contains("simple_rnn"), "{text:?}");
    }
}

#[test]
fn weights_go_in_and_come_out() {
    let (network, cell) = (Network::floats(), Cell::new());
    let weights =
        [(ELMAN_WEIGHT_KERNEL, [4, 3]), (ELMAN_WEIGHT_RECURRENT_KERNEL, [3, 3]), (ELMAN_WEIGHT_BIAS, [1, 3])];
    for (which, shape) in weights {
        let (mut rows, mut columns) = (0, 0);
        // SAFETY: live handles and arrays of the lengths given.
        unsafe {
            ok(elman_sequential_weight_shape(network.0, 1, which, &mut rows, &mut columns));
            assert_eq!([rows, columns], shape);
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let mut read = vec![UNTOUCHED; values.len()];
            ok(elman_sequential_set_weight(network.0, 1, which, values.as_ptr(), values.len()));
            ok(elman_sequential_get_weight(network.0, 1, which, read.as_mut_ptr(), read.len()));
            assert_eq!(read, values);
        }
    }
    let (values, mut read) = ([0.5, 1.5, 2.5], [UNTOUCHED; 3]);
    // SAFETY: live handles and arrays of the lengths given.
    unsafe {
        ok(elman_simple_rnn_cell_set_weight(cell.0, ELMAN_WEIGHT_BIAS, values.as_ptr(), 3));
        ok(elman_simple_rnn_cell_get_weight(cell.0, ELMAN_WEIGHT_BIAS, read.as_mut_ptr(), 3));
    }
    assert_eq!(read, values);
}

#[test]
fn dropped_weights_are_not_needed_to_run() {
    let (network, words) = (Network::floats(), Network::tokens());
    let (x, mut before, mut after) = ([0.5; 4], [UNTOUCHED; 3], [UNTOUCHED; 3]);
    let (mut plain, mut packed, mut still) = (0, 0, 0);
    let (mut values, mut tape, mut trainer) = ([UNTOUCHED; 64], null_mut(), null_mut());
    let unsupported = |status| fails(status, ELMAN_STATUS_UNSUPPORTED, &["drop_weights"]);
    // SAFETY: live handles and arrays of the lengths given.
    unsafe {
        let n = network.0;
        ok(elman_sequential_predict(n, x.as_ptr(), 4, 1, 2, before.as_mut_ptr(), 3));
        ok(elman_sequential_weight_bytes(n, &mut plain, &mut packed));
        let floats = 4 * (2 + 4 + 1) + 3 * (4 + 3 + 1);
        assert_eq!(plain, floats * size_of::<f32>());
        ok(elman_sequential_drop_weights(n));
        ok(elman_sequential_drop_weights(n));
        ok(elman_sequential_weight_bytes(n, &mut plain, &mut still));
        assert_eq!((plain, still), (0, packed));
        ok(elman_sequential_predict(n, x.as_ptr(), 4, 1, 2, after.as_mut_ptr(), 3));
        assert_eq!(before, after);

        let (v, bias) = (values.as_mut_ptr(), ELMAN_WEIGHT_BIAS);
        unsupported(elman_sequential_get_weight(n, 0, bias, v, 4));
        unsupported(elman_sequential_set_weight(n, 0, bias, v, 4));
        unsupported(elman_sequential_get_parameters(n, v, floats));
        unsupported(elman_sequential_set_parameters(n, v, floats));
        unsupported(elman_sequential_save(n, c"elman-not-written".as_ptr()));
        unsupported(elman_tape_new(n, 1, 2, &mut tape));
        let config = common::c::trainer_config();
        unsupported(elman_trainer_new(n, &config, &mut trainer));
        assert!(tape.is_null() && trainer.is_null());
        untouched(&values);

        ok(elman_sequential_drop_weights(words.0));
        ok(elman_sequential_weight_bytes(words.0, &mut plain, &mut packed));
        assert_eq!(plain, 10 * 2 * size_of::<f32>(), "the table stays");
        ok(elman_sequential_get_weight(words.0, 0, ELMAN_WEIGHT_EMBEDDING, v, 20));
    }
}

fn c_path(path: &std::path::Path) -> CString {
    CString::new(path.to_str().expect("the temporary directory's name is UTF-8")).expect("no nul byte")
}

#[test]
fn files_come_back_and_wrong_ones_do_not() {
    let (network, x) = (Network::floats(), [0.5; 4]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("network.safetensors");
    let predict = |network: *const elman_sequential| {
        let mut y = [UNTOUCHED; 3];
        // SAFETY: a live handle and arrays of the lengths given.
        ok(unsafe { elman_sequential_predict(network, x.as_ptr(), 4, 1, 2, y.as_mut_ptr(), 3) });
        y
    };
    // SAFETY: live handles, nul-terminated paths, and bytes of the lengths given.
    unsafe {
        ok(elman_sequential_save(network.0, c_path(&path).as_ptr()));
        let (mut from_file, mut from_bytes) = (null_mut(), null_mut());
        ok(elman_sequential_load(c_path(&path).as_ptr(), &mut from_file));
        let from_file = Network(from_file);
        assert_eq!(predict(from_file.0), predict(network.0));

        // At an odd address.
        let mut bytes = vec![0];
        bytes.extend(std::fs::read(&path).expect("the file was written"));
        let file = &bytes[1..];
        ok(elman_sequential_load_bytes(file.as_ptr(), file.len(), &mut from_bytes));
        let from_bytes = Network(from_bytes);
        assert_eq!(predict(from_bytes.0), predict(network.0));

        let mut none = null_mut();
        for len in [0, 1, 8, 100, file.len() - 1] {
            let status = elman_sequential_load_bytes(file.as_ptr(), len, &mut none);
            fails(status, ELMAN_STATUS_BAD_FORMAT, &[]);
        }
        let missing = directory.path().join("missing.safetensors");
        let status = elman_sequential_load(c_path(&missing).as_ptr(), &mut none);
        fails(status, ELMAN_STATUS_IO, &["missing.safetensors"]);
        let nowhere = directory.path().join("no/such/directory.safetensors");
        fails(elman_sequential_save(network.0, c_path(&nowhere).as_ptr()), ELMAN_STATUS_IO, &["directory"]);
        assert!(none.is_null());
    }
}

#[test]
fn eight_threads_share_a_network() {
    let (network, x) = (Network::floats(), [0.5; 8]);
    let predict = |network: &Network| {
        let mut y = [UNTOUCHED; 6];
        // SAFETY: a live handle that nobody changes, and arrays of the lengths given.
        ok(unsafe { elman_sequential_predict(network.0, x.as_ptr(), 8, 2, 2, y.as_mut_ptr(), 6) });
        y
    };
    let expected = predict(&network);
    let network = &network;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || (0..200).for_each(|_| assert_eq!(predict(network), expected)));
        }
    });
}
