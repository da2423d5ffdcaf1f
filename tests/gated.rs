//! LSTM, GRU and the activations that came with them, against what real Keras, PyTorch and ONNX Runtime gave
//! (`tests/vectors/*_gated*.safetensors` and those of gradients), forwards and backwards.

mod common;

use common::arms;
use common::gated_vectors::Case;
use common::vectors::each_case;

/// Of a tensor's largest magnitude.
const FORWARD: f64 = 1e-5;
const BACKWARD: f64 = 1e-4;

fn check(file: &str) -> usize {
    each_case(file, |case: &Case, tensors| case.check_elman(tensors, FORWARD, BACKWARD))
}

#[test]
fn keras() {
    assert_eq!(check("keras_gated_cells.safetensors"), 147);
    assert_eq!(check("keras_gated_masks.safetensors"), 78);
    assert_eq!(check("keras_gated_sequences.safetensors"), 125);
}

#[test]
fn keras_gradients() {
    assert_eq!(check("keras_lstm_gradients.safetensors"), 50);
    assert_eq!(check("keras_gru_gradients.safetensors"), 96);
}

#[test]
fn pytorch() {
    assert_eq!(check("pytorch_gated.safetensors"), 48);
}

#[test]
fn onnx_runtime() {
    assert_eq!(check("onnx_gated.safetensors"), 110);
}

#[test]
fn every_arm() {
    arms::run_others("gated");
}
