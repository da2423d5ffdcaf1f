//! Real Keras's outputs and final states over odd sizes, every activation and option, stacks, Dense, Embedding
//! (`tests/vectors/forward.safetensors`), for elman and for the oracle of the other suites.

mod common;

use common::{arms, vectors};

#[test]
fn forward() {
    assert_eq!(vectors::run_file("forward.safetensors"), 90);
}

#[test]
fn every_arm() {
    arms::run_others("keras");
}
