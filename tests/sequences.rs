//! Real Keras's outputs and final states for masks of every shape, Masking, Bidirectional, initial and kept states
//! (`tests/vectors/sequences.safetensors`), for elman and for the oracle of the other suites.

mod common;

use common::{arms, vectors};

#[test]
fn sequences() {
    assert_eq!(vectors::run_file("sequences.safetensors"), 89);
}

#[test]
fn every_arm() {
    arms::run_others("sequences");
}
