//! A step alone beside a step among others.

use super::*;
use crate::layers::{Activation, Dense, Dropout, Embedding, Gru, Lstm, Masking, SimpleRnn};

/// Samples of a call, none of them alike.
fn samples(first: usize, count: usize) -> Vec<f32> {
    (first..first + count).map(|i| (i * 37 % 64) as f32 / 64.0 - 0.5).collect()
}

/// A step of its own gives the bits that it has among others, and goes on from what they left.
fn check(what: &str, model: Sequential, listed: bool) {
    let model = model.build(7).expect("a valid model");
    let mut single = Stream::new(&model, 1).expect("it can stream");
    assert_eq!(single.streaming.lists_steps(), listed, "{what}");
    let mut several = Stream::new(&model, 1).expect("it can stream");
    let features = model.input_size();
    let sequence = single.output_len(2).expect("small") > single.output_len(1).expect("small");
    let width = single.output_len(1).expect("small");
    let steps = if cfg!(miri) { 2 } else { 12 };
    for first in (0..steps).step_by(2) {
        let x = samples(first * features, 2 * features);
        let mut expected = vec![0.0; several.output_len(2).expect("small")];
        several.run(&x, 2, &mut expected).expect("right sizes");
        let mut y = vec![0.0; width];
        let mut got = Vec::new();
        for x in x.chunks(features) {
            single.run(x, 1, &mut y).expect("right sizes");
            got.extend_from_slice(&y);
        }
        let last = if sequence { 0 } else { width };
        assert_eq!(got[last..], expected, "{what}, step {first}");
        let mut states = [vec![0.0; single.state_len()], vec![0.0; several.state_len()]];
        single.get_state(&mut states[0]).expect("its length");
        several.get_state(&mut states[1]).expect("its length");
        assert_eq!(states[0], states[1], "{what}, after step {first}");
        // In turn, so that each goes on from the other's floats, and once from the beginning.
        std::mem::swap(&mut single, &mut several);
        if first == steps / 4 * 2 {
            single.reset();
            several.reset();
        }
    }
}

#[test]
fn a_step_alone_has_the_bits_of_a_step_among_others() {
    // Nine are two panels of the portable backend.
    let size = |size: usize| if cfg!(miri) { size.min(9) } else { size };
    let rnn = |units: usize| SimpleRnn::new(size(units)).return_sequences(true);
    check("one panel", Sequential::new(1).add(rnn(8)).add(Dense::new(1)), true);
    let three = Sequential::new(size(26)).add(rnn(25)).add(rnn(25)).add(rnn(25));
    check("three layers", three.add(Dense::new(3).activation(Activation::Sigmoid)), true);
    let relu = SimpleRnn::new(size(70)).activation(Activation::Relu);
    check("a head", Sequential::new(3).add(Dropout::new(0.5)).add(relu).add(Dense::new(5)), true);
    check(
        "softmax",
        Sequential::new(1).add(rnn(8)).add(Dense::new(3).activation(Activation::Softmax)),
        false,
    );
    // Beyond what a lone row keeps in the second cache.
    if !cfg!(miri) {
        check("large", Sequential::new(2).add(rnn(600)), false);
    }
}

#[test]
fn gated_cells_too() {
    let Ok(isa) = crate::dispatch::isa() else { return };
    // The portable backend has no kernel for a lone row.
    let listed = isa != crate::dispatch::Isa::Portable;
    let lstm = |units: usize| Lstm::new(units).return_sequences(true);
    let gru = |units: usize| Gru::new(units).return_sequences(true);
    for units in if cfg!(miri) { 3..4 } else { 1..50 } {
        check("LSTM", Sequential::new(1).add(lstm(units)).add(Dense::new(1)), listed);
        check("GRU", Sequential::new(5).add(gru(units)).add(Gru::new(units)).add(Dense::new(2)), listed);
    }
    if !cfg!(miri) {
        check("several passes", Sequential::new(2).add(lstm(150)).add(gru(100)), listed);
    }
    check("reset before", Sequential::new(1).add(gru(4).reset_after(false)), false);
}

#[test]
fn what_cannot_be_listed_is_not() {
    let tokens = Sequential::new(1).add(Embedding::new(4, 3)).add(SimpleRnn::new(4)).build(1);
    let masked = Sequential::new(2).add(Masking::new(0.0)).add(SimpleRnn::new(4)).build(1);
    let plain = Sequential::new(2).add(SimpleRnn::new(4)).build(1).expect("a valid model");
    for model in [tokens, masked] {
        let stream = Stream::new(&model.expect("a valid model"), 1).expect("it can stream");
        assert!(!stream.streaming.lists_steps());
    }
    assert!(!Stream::new(&plain, 2).expect("it can stream").streaming.lists_steps());
    assert!(Stream::new(&plain, 1).expect("it can stream").streaming.lists_steps());
}
