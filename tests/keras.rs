//! Real Keras's outputs and final states over odd sizes, every activation and option, stacks, Dense, Embedding
//! (`tests/vectors/forward.safetensors`).

mod common;

use common::backends;
use common::vectors::{Case, each_case};

#[test]
fn forward() {
    assert_eq!(each_case("forward.safetensors", Case::check_elman), 90);
}

#[test]
fn every_backend() {
    backends::run_others("keras");
}
