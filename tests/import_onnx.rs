//! ONNX models of PyTorch's and TensorFlow's exporters, the standard's node tests and models made by hand
//! (`tests/vectors/import/make_onnx.py`): what ONNX Runtime computes, elman computes; and what it does not is
//! named.

#![cfg(feature = "onnx")]

mod import_cases;

use elman::{Error, Sequential};
use import_cases::{Cases, directory};

/// What is refused, by words of the message.
const REFUSED: [(&str, &[&str]); 12] = [
    ("refused_external", &["\"w\"", "external_data=False"]),
    ("refused_clip", &["\"first\" (RNN)", "clip = 3"]),
    ("refused_activation", &["\"first\" (RNN)", "activations = Elu", "0.5"]),
    ("refused_operator", &["\"second\" (Erf)"]),
    ("refused_middle_step", &["\"second\" (Gather)"]),
    ("refused_mean_of_steps", &["\"second\" (ReduceMean)", "axes [0]", "both directions"]),
    ("refused_turned", &["\"second\" (Slice)", "turns around", "direction = reverse"]),
    ("refused_two_ways", &["\"second\" (Add)"]),
    ("dynamo_rnn_unrolled", &["Slice", "step by step", "dynamo=False"]),
    ("keras_gru_loop", &["(Loop)"]),
    ("node_lstm_with_peepholes", &["LSTM", "peepholes"]),
    ("node_gru_reverse", &["GRU", "direction = reverse"]),
];

#[test]
fn models_compute_what_onnx_runtime_computes() {
    let cases = Cases::read("onnx");
    let mut ran = 0;
    for name in cases.names() {
        if REFUSED.iter().any(|(refused, _)| *refused == name) {
            continue;
        }
        let model = Sequential::load(directory("onnx").join(format!("{name}.onnx")));
        let model = model.unwrap_or_else(|error| panic!("{name}: {error}"));
        cases.check(&name, &model);
        ran += 1;
    }
    assert_eq!(ran, 67);
}

#[test]
fn what_is_not_carried_out_is_named() {
    for (name, words) in REFUSED {
        let path = directory("onnx").join(format!("{name}.onnx"));
        match Sequential::load(&path) {
            Err(Error::Unsupported(message)) => {
                for word in words {
                    assert!(message.contains(word), "{name}: {message}");
                }
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
