//! What one call of a stream costs: `cargo bench --bench latency`, or `-- audio` for what contains that word.
//!
//! An audio thread is late because of its slowest call, so what counts is how the calls are spread, which a mean over
//! thousands hides: every call is timed by itself, the clock's own cost taken off. Beside it stands the mean of
//! calls one after the other, with no clock between. On a machine with other work the last columns are that work's.
//!
//! The cases are small on purpose: what is timed beside the products is the way into the library and out again. `audio`
//! is one sample of a 48 kHz stream through the network of `ffi-examples/audio.c` and its like, and the same in blocks as an
//! audio host hands them over; `stream` is one sample through a layer alone, LSTM or GRU, at the sizes of
//! `benches/peers/compare.py --rtneural` and one smaller; `words` is one token of a stream whose embedding masks.

#![expect(clippy::print_stdout, reason = "a bench prints")]

#[path = "kernels/rows.rs"]
mod rows;

use std::hint::black_box;
use std::time::{Duration, Instant};

use elman::{Activation, Dense, Embedding, Gru, Layer, Lstm, Sequential, SimpleRnn, Stream};
use rows::Row;

/// How long the calls of a case are timed one by one, and as long again together.
const TIME: Duration = Duration::from_secs(1);

/// A name, and the making of what is timed.
type Case = (String, Box<dyn Fn() -> Box<dyn FnMut()>>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    // `cargo test --benches` passes no --bench: it wants to see each case run, and no figures.
    let time = if arguments.iter().any(|argument| argument == "--bench") { TIME } else { Duration::ZERO };
    let between = |_| Instant::now().elapsed();
    let clock = (0..10_000).map(between).min().unwrap_or_default();
    let isa = elman::isa().expect("an instruction set can be chosen").name();
    println!("ns a call on {isa}; audio's last number: samples a call");
    print!("{:<24}{:>10}{:>10}", "", "mean", "calls");
    ["median", "90 %", "99 %", "99.9 %", "most"].iter().for_each(|share| print!("{share:>9}"));
    println!();
    let mut recorded = Vec::new();
    for (name, make) in cases().iter().filter(|(name, _)| name.contains(wanted)) {
        let mut call = make();
        recorded.push(print_row(name, &mut call, time, clock));
    }
    rows::write(&recorded);
}

fn print_row(name: &str, call: &mut dyn FnMut(), time: Duration, clock: Duration) -> Row {
    // Counting how many calls fit warms up, too.
    let start = Instant::now();
    let mut calls = 0;
    while calls == 0 || start.elapsed() < time {
        (0..100).for_each(|_| call());
        calls += 100;
    }
    let start = Instant::now();
    (0..calls).for_each(|_| call());
    let mean = start.elapsed().as_nanos() as f64 / f64::from(calls);

    // Written once, so that the system has handed out every page before the clock runs.
    let mut times = vec![1; calls as usize];
    for time in &mut times {
        let start = Instant::now();
        call();
        *time = start.elapsed().saturating_sub(clock).as_nanos();
    }
    times.sort_unstable();
    print!("{name:<24}{mean:>10.1}{calls:>10}");
    let above = |part| times[times.len() - 1 - times.len() / part];
    for part in [2, 10, 100, 1000, usize::MAX] {
        print!("{:>9}", above(part));
    }
    println!();
    Row {
        pass: "forward",
        case: name.to_owned(),
        shape: None,
        threads: 1,
        library: "elman",
        seconds: above(2) as f64 * 1e-9,
        flops: None,
        share: None,
        note: format!(
            "least {} ns, mean of calls in a row {mean:.1} ns, 99 % within {} ns, most {} ns",
            times[0],
            above(100),
            above(usize::MAX)
        ),
    }
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (units, block) in [(8, 1), (20, 1), (40, 1), (64, 1), (128, 1), (20, 32), (20, 512), (64, 32)] {
        let make = move || {
            let layer = SimpleRnn::new(units).return_sequences(true);
            floats(Sequential::new(1).add(layer).add(Dense::new(1)), 1, block)
        };
        cases.push((format!("audio/1-{units}-1/{block}"), Box::new(make)));
    }
    for (name, layer) in gated_layers() {
        for units in [20, 40] {
            let make = move || floats(Sequential::new(1).add(layer(units)).add(Dense::new(1)), 1, 1);
            cases.push((format!("audio/{name} 1-{units}-1/1"), Box::new(make)));
        }
        for (features, units) in [(1, 8), (1, 20), (1, 40), (40, 40)] {
            let make = move || floats(Sequential::new(features).add(layer(units)), 1, 1);
            cases.push((format!("stream/{name} {features}-{units}"), Box::new(make)));
        }
    }
    for batch in [1, 32] {
        let make = move || {
            let layer = SimpleRnn::new(64).return_sequences(true);
            floats(Sequential::new(64).add(layer), batch, 1)
        };
        cases.push((format!("step/64-64/batch {batch}"), Box::new(make)));
    }
    for (name, id) in [("words/100-64-1/word", 7), ("words/100-64-1/masked", 0)] {
        cases.push((name.to_owned(), Box::new(move || words(id))));
    }
    cases
}

/// A cell's name, and a layer of it with so many units.
type Gated = (&'static str, fn(usize) -> Layer);

/// The cells with gates.
fn gated_layers() -> [Gated; 2] {
    [
        ("LSTM", |units| Lstm::new(units).return_sequences(true).into()),
        ("GRU", |units| Gru::new(units).return_sequences(true).into()),
    ]
}

fn stream(model: Sequential, batch: usize) -> Stream {
    let model = model.build(1).expect("the model is right");
    Stream::new(&model, batch).expect("a stream can be made")
}

fn floats(model: Sequential, batch: usize, steps: usize) -> Box<dyn FnMut()> {
    let x: Vec<f32> = (0..batch * steps * model.input_size()).map(|i| (i as f32 * 0.06).sin()).collect();
    let mut stream = stream(model, batch);
    let mut y = vec![0.0; stream.output_len(steps).expect("the sizes are right")];
    Box::new(move || stream.run(black_box(&x), steps, &mut y).expect("the call is right"))
}

fn words(id: i32) -> Box<dyn FnMut()> {
    let model = Sequential::new(1)
        .add(Embedding::new(1000, 100).mask_zero(true))
        .add(SimpleRnn::new(64))
        .add(Dense::new(1).activation(Activation::Sigmoid));
    let mut stream = stream(model, 1);
    let mut y = [0.0];
    Box::new(move || stream.run(black_box(&[id]), 1, &mut y).expect("the call is right"))
}
