//! LSTM, GRU and the activations that came with them, against what real Keras, PyTorch and ONNX Runtime gave
//! (`tests/vectors/*_gated*.safetensors` and those of gradients), forwards and backwards.

mod common;

use common::backends;
use common::vectors::{Case, each_case};

fn check(file: &str) -> usize {
    each_case(file, Case::check_elman)
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
fn every_backend() {
    backends::run_others("gated");
}
