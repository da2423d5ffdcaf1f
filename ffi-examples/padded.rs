//! Sequences of different lengths in one batch: `cargo run --release --example padded`.
//!
//! Each row is padded to the longest one, and `lengths` says how much of it counts. The padding costs nothing, and each
//! row's result is the one that it has alone, bit for bit, or the program fails.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;

use elman::{Activation, Dense, RunOptions, Sequential, SimpleRnn};

const LENGTHS: [usize; 5] = [3, 12, 1, 0, 7];
const BATCH: usize = LENGTHS.len();
const STEPS: usize = 12;
const FEATURES: usize = 3;
const UNITS: usize = 24;

fn main() -> Result<(), Box<dyn Error>> {
    let network = Sequential::new(FEATURES)
        .add(SimpleRnn::new(UNITS))
        .add(Dense::new(1).activation(Activation::Sigmoid))
        .build(1)?;

    let mut x = [[0.0; STEPS * FEATURES]; BATCH];
    let mut noise = 7u32;
    for (row, length) in x.iter_mut().zip(LENGTHS) {
        for value in &mut row[..length * FEATURES] {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = (noise >> 8) as f32 / 8_388_608.0 - 1.0;
        }
    }

    let (mut y, mut state) = ([0.0; BATCH], [0.0; BATCH * UNITS]);
    let options = RunOptions::default().lengths(&LENGTHS).final_state(&mut state);
    network.run(x.as_flattened(), BATCH, STEPS, options, &mut y)?;

    let mut wrong = 0;
    for (row, steps) in LENGTHS.into_iter().enumerate() {
        println!("row {row}, {steps:2} steps: {:.7}, state begins {:10.7}", y[row], state[row * UNITS]);
        // A row of no steps has no run of its own: its state stays at zeros.
        if steps > 0 {
            let alone = network.predict(&x[row][..steps * FEATURES], 1, steps)?;
            wrong += usize::from(alone[0].to_bits() != y[row].to_bits());
        }
    }
    if wrong > 0 {
        return Err(format!("{wrong} rows differ from themselves alone").into());
    }
    println!("each row is equal bit for bit to itself alone");
    Ok(())
}

#[test]
fn rows_are_equal() {
    main().expect("it runs");
}
