//! Real Keras's outputs and final states for masks of every shape, Masking, Bidirectional, initial and kept states
//! (`tests/vectors/sequences.safetensors`).

mod common;

use common::backends;
use common::vectors::{Case, each_case};

#[test]
fn sequences() {
    assert_eq!(each_case("sequences.safetensors", Case::check_elman), 89);
}

#[test]
fn every_backend() {
    backends::run_others("sequences");
}
