//! What it costs to be asked: time to build and to load a model, its first call against later ones.
//!
//! `cargo bench --bench asking`. Each round makes a new model, so its first call finds no scratch and cold weights; the
//! medians of the rounds are printed.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for people, whose inputs are its own"
)]

use std::hint::black_box;
use std::time::Instant;

use elman::{Sequential, SimpleRnn};

const ROUNDS: usize = 15;
const LATER: usize = 20;

/// Batch, steps, features, units, layers.
const CASES: [(&str, [usize; 5]); 4] = [
    ("audio", [1, 1, 1, 20, 1]),
    ("seed", [8, 80, 100, 64, 2]),
    ("mid", [32, 100, 256, 256, 2]),
    ("b1wide", [1, 256, 1024, 1024, 1]),
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds that `run` takes, and what it gives.
fn timed<T>(run: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let result = black_box(run());
    (start.elapsed().as_secs_f64(), result)
}

fn main() {
    println!("| case | build | load from memory | first call | a later call |");
    println!("|---|---:|---:|---:|---:|");
    for (name, [batch, steps, features, units, layers]) in CASES {
        let build = || {
            let rnn = |layer| SimpleRnn::new(units).return_sequences(layer + 1 < layers);
            (0..layers).map(rnn).fold(Sequential::new(features), Sequential::add).build(1).expect("a model")
        };
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        build().save(file.path()).expect("a built model");
        let bytes = std::fs::read(file.path()).expect("what was saved");
        let x: Vec<f32> = (0..batch * steps * features).map(|i| (i % 19) as f32 / 9.0 - 1.0).collect();
        let mut y = vec![0.0; build().output_len(batch, steps).expect("sizes")];
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            times[0].push(timed(build).0);
            let (load, model) = timed(|| Sequential::load_bytes(&bytes).expect("what was saved"));
            times[1].push(load);
            let mut call = || timed(|| model.predict_into(&x, batch, steps, &mut y).expect("sizes")).0;
            times[2].push(call());
            times[3].push(median((0..LATER).map(|_| call()).collect()));
        }
        let columns = times.map(|times| format!("{:.1} us", median(times) * 1e6));
        println!("| {name} | {} |", columns.join(" | "));
    }
}
