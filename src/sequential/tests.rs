//! What is not seen through the public interface.

use super::*;
use crate::layers::{Bidirectional, LastStep, SimpleRnn};

const FEATURES: usize = 40;

/// Calls `model` until its threads have helped often, each time for the bits that one thread gives.
fn helps(mut model: Sequential, batch: usize, steps: usize) {
    let x: Vec<f32> = (0..batch * steps * FEATURES).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let alone = model.predict(&x, batch, steps).expect("the input fits");
    model.set_exact_threads(3);
    let begun = std::time::Instant::now();
    while model.threads.helped() < 20 {
        let together = model.predict(&x, batch, steps).expect("the input fits");
        assert!(alone.iter().zip(&together).all(|(a, b)| a.to_bits() == b.to_bits()), "other bits");
        assert!(begun.elapsed().as_secs() < 60, "nobody helped with {batch} rows of {steps} steps");
    }
}

fn stack(layers: usize, units: usize) -> Sequential {
    let rnn = |_| SimpleRnn::new(units).return_sequences(true);
    (0..layers).map(rnn).fold(Sequential::new(FEATURES), Sequential::add).build(5).expect("the layers fit")
}

#[test]
fn threads_share_rows_columns_halves_and_layers() {
    helps(stack(1, 64), 33, 40);
    // So few are cut only for those that are awake.
    helps(stack(1, 64), 7, 200);
    helps(stack(1, 600), 1, 20);
    helps(stack(4, 65), 1, 300);
    let both = Bidirectional::new(SimpleRnn::new(70).return_sequences(true));
    helps(Sequential::new(FEATURES).add(both).build(5).expect("the layer fits"), 2, 200);
    let last = Sequential::new(FEATURES).add(both).add(LastStep::new());
    helps(last.build(5).expect("the layers fit"), 2, 200);
    let last = Sequential::new(FEATURES).add(both).add(LastStep::new());
    helps(last.build(5).expect("the layers fit"), 40, 40);
}
