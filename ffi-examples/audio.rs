//! Sound, sample by sample: `cargo run --release --example audio [calls [simple_rnn|lstm|gru [units]]]`.
//!
//! A network of 1 feature, a recurrent layer (a SimpleRNN of 20 units unless said) and a Dense of 1, the size
//! of a guitar amplifier's model, runs at 48 kHz, one call a sample, as on an audio thread. Prints how the time
//! of a call is distributed, and how many such streams one core runs in real time.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use elman::{Dense, Gru, Layer, Lstm, Sequential, SimpleRnn, Stream};

const RATE: usize = 48_000;
const BLOCK: usize = 64;

/// A plucked string, struck once a second: Karplus and Strong's noise that goes round and is averaged.
fn pluck(samples: usize) -> Vec<f32> {
    const PERIOD: usize = RATE / 220;
    let (mut string, mut noise) = ([0.0; PERIOD], 1u32);
    let sample = |i| {
        if i % RATE == 0 {
            string.fill_with(|| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 8) as f32 / 8_388_608.0 - 1.0
            });
        }
        let (here, next) = (string[i % PERIOD], string[(i + 1) % PERIOD]);
        string[i % PERIOD] = 0.498 * (here + next);
        here
    };
    (0..samples).map(sample).collect()
}

/// The whole sound in calls of `block` samples; seconds a sample.
fn run_in_blocks(stream: &mut Stream, sound: &[f32], block: usize, heard: &mut [f32]) -> elman::Result<f64> {
    stream.reset();
    let start = Instant::now();
    for (x, y) in sound.chunks(block).zip(heard.chunks_mut(block)) {
        stream.run(x, x.len(), y)?;
    }
    Ok(start.elapsed().as_secs_f64() / sound.len() as f64)
}

fn recurrent(cell: &str, units: usize) -> Option<Layer> {
    Some(match cell {
        "simple_rnn" => SimpleRnn::new(units).return_sequences(true).into(),
        "lstm" => Lstm::new(units).return_sequences(true).into(),
        "gru" => Gru::new(units).return_sequences(true).into(),
        _ => return None,
    })
}

fn run(calls: usize, cell: &str, units: usize) -> Result<(), Box<dyn Error>> {
    let layer = recurrent(cell, units).filter(|_| calls > 0);
    let layer = layer.ok_or("usage: audio [calls [simple_rnn|lstm|gru [units]]]")?;
    let network = Sequential::new(1).add(layer).add(Dense::new(1)).build(1)?;
    let mut stream = Stream::new(&network, 1)?;
    println!("elman {} on {}: 1 -> {units} -> 1 ({cell})", env!("CARGO_PKG_VERSION"), elman::isa()?.name());
    let sound = pluck(calls);
    // Written once, so that the system has handed out every page before the clock runs.
    let (mut heard, mut at_once, mut times) = (vec![1.0; calls], vec![1.0; calls], vec![1; calls]);

    let clock = |_| Instant::now().elapsed().as_nanos();
    let clock = (0..1000).map(clock).min().unwrap_or(0);
    // Every call by itself.
    for ((x, y), time) in sound.chunks(1).zip(heard.chunks_mut(1)).zip(&mut times) {
        let start = Instant::now();
        stream.run(x, 1, y)?;
        *time = start.elapsed().as_nanos().saturating_sub(clock);
    }
    times.sort_unstable();
    println!("{calls} calls of one sample");
    println!("median ns: {}", times[calls / 2]);
    println!("99.9th percentile ns: {}", times[calls - 1 - calls / 1000]);
    println!("maximum ns: {}", times[calls - 1]);

    // The same without looking at the clock between, and in blocks as a host hands them over.
    let by_sample = run_in_blocks(&mut stream, &sound, 1, &mut at_once)?;
    let in_blocks = run_in_blocks(&mut stream, &sound, BLOCK, &mut at_once)?;
    let streams = |seconds: f64| 1.0 / RATE as f64 / seconds;
    println!("mean ns without a clock between: {:.1}", 1e9 * by_sample);
    println!("streams in real time on one core, by sample: {:.0}", streams(by_sample));
    println!("streams in real time on one core, in blocks of {BLOCK}: {:.0}", streams(in_blocks));

    if !heard.iter().map(|y| y.to_bits()).eq(at_once.iter().map(|y| y.to_bits())) {
        return Err("samples and blocks differ".into());
    }
    println!("samples and blocks are equal bit for bit");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |index| std::env::args().nth(index);
    let calls = argument(1).map_or(Ok(1_000_000), |calls| calls.parse())?;
    let units = argument(3).map_or(Ok(20), |units| units.parse())?;
    run(calls, argument(2).as_deref().unwrap_or("simple_rnn"), units)
}

#[test]
fn samples_and_blocks_are_equal() {
    for (cell, units) in [("simple_rnn", 20), ("lstm", 40), ("gru", 40)] {
        run(5000, cell, units).expect("it runs");
    }
    assert!(run(5000, "elman", 20).is_err());
}
