//! Models of other frameworks through the C functions.

#![cfg(all(feature = "capi", feature = "keras", feature = "torch", feature = "onnx"))]

mod common;
mod import_cases;

use std::ffi::{CString, c_char};
use std::ptr::{null, null_mut};

use common::c::{last_error, ok};
use elman::ffi::*;
use import_cases::{Cases, directory};

fn c_path(file: &str) -> CString {
    CString::new(directory(file).to_str().expect("UTF-8")).expect("no nul")
}

fn options() -> elman_load_options {
    let mut options = std::mem::MaybeUninit::uninit();
    // SAFETY: as large as is said.
    ok(unsafe { elman_load_options_init(options.as_mut_ptr(), size_of::<elman_load_options>()) });
    // SAFETY: filled, since it is of this version.
    unsafe { options.assume_init() }
}

/// What a network gives for a case, and what it should give.
fn check(network: *mut elman_sequential, framework: &str, name: &str, (batch, steps): (usize, usize)) {
    let cases = Cases::read(framework);
    let (x, expected) = cases.floats(name);
    let mut y = vec![0.0; expected.len()];
    // SAFETY: a live handle, and arrays of their lengths.
    ok(unsafe {
        elman_sequential_predict(network, x.as_ptr(), x.len(), batch, steps, y.as_mut_ptr(), y.len())
    });
    for (y, expected) in y.iter().zip(expected) {
        assert!((y - expected).abs() <= 1e-5, "{name}: {y} for {expected}");
    }
    // SAFETY: made by the library, and not used again.
    unsafe { elman_sequential_free(network) };
}

#[test]
fn one_call_takes_any_file() {
    for (file, name) in [
        ("onnx/legacy_lstm_last.onnx", "legacy_lstm_last"),
        ("keras/lstm_both.keras", "lstm_both"),
        ("keras/gru_both.h5", "gru_both"),
        ("torch/normal.pt", "normal"),
        ("torch/gru_last_both.pt", "gru_last_both"),
        ("onnx/legacy_lstm_last_both.onnx", "legacy_lstm_last_both"),
    ] {
        let framework = file.split('/').next().expect("a folder");
        let mut network = null_mut();
        // SAFETY: nul-terminated text and a place for a handle.
        ok(unsafe { elman_sequential_load(c_path(file).as_ptr(), &mut network) });
        check(network, framework, name, (3, 7));
        let bytes = std::fs::read(directory(file)).expect("the file is there");
        // SAFETY: bytes of their length and a place for a handle.
        ok(unsafe { elman_sequential_load_bytes_with(bytes.as_ptr(), bytes.len(), null(), &mut network) });
        check(network, framework, name, (3, 7));
    }
}

#[test]
fn options_say_what_a_state_dict_does_not() {
    let mut options = options();
    options.output = ELMAN_OUTPUT_SEQUENCE;
    let mut network = null_mut();
    let path = c_path("torch/gru_sequence_both.safetensors");
    // SAFETY: nul-terminated text, a filled struct and a place for a handle.
    ok(unsafe { elman_sequential_load_with(path.as_ptr(), &options, &mut network) });
    check(network, "torch", "gru_sequence_both", (3, 7));

    options = self::options();
    (options.activation, options.last) = (ELMAN_ACTIVATION_RELU, ELMAN_ACTIVATION_SOFTMAX);
    (options.between, options.has_between) = (ELMAN_ACTIVATION_RELU, 1);
    // SAFETY: as above.
    ok(unsafe { elman_sequential_load_with(c_path("torch/head.pt").as_ptr(), &options, &mut network) });
    check(network, "torch", "head", (3, 7));
}

#[test]
fn wrong_options_and_files_are_statuses() {
    let path = c_path("torch/forms.pt");
    let load = |options: &elman_load_options| {
        let mut network = null_mut();
        // SAFETY: nul-terminated text, a struct as large as it says and a place for a handle.
        let status = unsafe { elman_sequential_load_with(path.as_ptr(), options, &mut network) };
        assert!(network.is_null());
        status
    };
    let wrong: [fn(&mut elman_load_options); 5] = [
        |options| options.output = elman_output(3),
        |options| options.activation = elman_activation(99),
        |options| options.has_between = 2,
        |options| options.prefix = c"\xff".as_ptr().cast::<c_char>(),
        |options| options.struct_size = 8,
    ];
    for change in wrong {
        let mut options = options();
        change(&mut options);
        assert_eq!(load(&options), ELMAN_STATUS_INVALID_ARGUMENT, "{}", last_error());
    }
    let mut options = options();
    options.prefix = c"nobody.".as_ptr();
    assert_eq!(load(&options), ELMAN_STATUS_BAD_FORMAT);
    assert!(last_error().contains("nobody."), "{}", last_error());
    let mut network = null_mut();
    // SAFETY: nul-terminated text and a place for a handle.
    let status = unsafe { elman_sequential_load(c_path("onnx/refused_clip.onnx").as_ptr(), &mut network) };
    assert_eq!(status, ELMAN_STATUS_UNSUPPORTED);
    assert!(last_error().contains("clip = 3"), "{}", last_error());
}

#[test]
fn weights_go_into_a_network_that_is_there() {
    let mut network = null_mut();
    // SAFETY: a place for a handle.
    ok(unsafe { elman_sequential_new(5, &mut network) });
    for i in 0..12 {
        // SAFETY: a live handle.
        ok(unsafe { elman_sequential_add_dense(network, 3 + i % 2, ELMAN_ACTIVATION_LINEAR) });
    }
    let path = c_path("keras/many.weights.h5");
    // SAFETY: a live handle and nul-terminated text, here and below.
    let early = unsafe { elman_sequential_load_weights(network, path.as_ptr()) };
    assert_eq!(early, ELMAN_STATUS_NOT_BUILT);
    // SAFETY: a live handle.
    ok(unsafe { elman_sequential_build(network, 1) });
    // SAFETY: see above.
    ok(unsafe { elman_sequential_load_weights(network, path.as_ptr()) });
    check(network, "keras", "many", (3, 7));
}

#[test]
fn networks_go_out_as_they_came_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.pt");
    let path = CString::new(path.to_str().expect("UTF-8")).expect("no nul");
    let mut network = null_mut();
    // SAFETY: nul-terminated text and a place for a handle.
    ok(unsafe { elman_sequential_load(c_path("torch/gru_last.pt").as_ptr(), &mut network) });
    // SAFETY: a live handle and nul-terminated text, here and below.
    let export = |format| unsafe { elman_sequential_export(network, path.as_ptr(), format) };
    assert_eq!(export(elman_format(4)), ELMAN_STATUS_INVALID_ARGUMENT);
    assert!(last_error().contains("4 is no format"), "{}", last_error());
    for format in [ELMAN_FORMAT_ELMAN, ELMAN_FORMAT_TORCH, ELMAN_FORMAT_ONNX] {
        ok(export(format));
        let mut again = null_mut();
        // SAFETY: nul-terminated text and a place for a handle.
        ok(unsafe { elman_sequential_load(path.as_ptr(), &mut again) });
        let cases = Cases::read("torch");
        let (ids, expected) = cases.tokens("gru_last");
        let mut y = vec![0.0; expected.len()];
        // SAFETY: a live handle, and arrays of their lengths.
        ok(unsafe {
            elman_sequential_predict_tokens(again, ids.as_ptr(), ids.len(), 3, 7, y.as_mut_ptr(), y.len())
        });
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() <= 1e-5, "{y} for {expected}");
        }
        // SAFETY: made by the library, and not used again.
        unsafe { elman_sequential_free(again) };
    }
    ok(export(ELMAN_FORMAT_KERAS_WEIGHTS));
    // SAFETY: a live handle and nul-terminated text.
    ok(unsafe { elman_sequential_load_weights(network, path.as_ptr()) });
    // SAFETY: made by the library, and not used again.
    unsafe { elman_sequential_free(network) };
    // SAFETY: NULL is refused before anything is read.
    let status = unsafe { elman_sequential_export(null(), path.as_ptr(), ELMAN_FORMAT_ELMAN) };
    assert_eq!(status, ELMAN_STATUS_NULL_POINTER);
}

#[test]
fn the_last_step_is_a_layer() {
    let x: Vec<f32> = (0..2 * 5 * 3).map(|i| (i % 7) as f32 / 7.0 - 0.5).collect();
    let predicted = |last: bool| {
        let mut network = null_mut();
        let mut config = std::mem::MaybeUninit::uninit();
        let mut y = vec![0.0; if last { 2 * 8 } else { 2 * 5 * 8 }];
        // SAFETY: places of their types, live handles, arrays of their lengths, and no handle once it is freed.
        unsafe {
            ok(elman_sequential_new(3, &mut network));
            ok(elman_lstm_config_init(config.as_mut_ptr(), size_of::<elman_lstm_config>(), 4));
            let mut config = config.assume_init();
            config.return_sequences = 1;
            ok(elman_sequential_add_bidirectional_lstm(network, &config, ELMAN_MERGE_MODE_CONCAT));
            if last {
                ok(elman_sequential_add_last_step(network));
            }
            ok(elman_sequential_build(network, 1));
            ok(elman_sequential_predict(network, x.as_ptr(), x.len(), 2, 5, y.as_mut_ptr(), y.len()));
            elman_sequential_free(network);
        }
        y
    };
    let (sequence, last) = (predicted(false), predicted(true));
    assert_eq!(last[..8], sequence[4 * 8..5 * 8]);
    assert_eq!(last[8..], sequence[9 * 8..]);
}
