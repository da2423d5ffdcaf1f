//! A server: `cargo run --release --example server [rounds]`.
//!
//! 1,000 conversations, each with a stream of its own on one shared model, served by 2 threads. Messages of different
//! lengths arrive in turns; each goes on from where the conversation's last one ended. At the end, some of the
//! conversations are run once more as a whole, and the results are equal bit for bit, or the program fails.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use elman::{Activation, Dense, Sequential, SimpleRnn, Stream};

const STREAMS: usize = 1000;
const THREADS: usize = 2;
const FEATURES: usize = 16;
const CLASSES: usize = 4;
const LONGEST: usize = 7;

struct Conversation {
    stream: Stream,
    noise: u32,
    steps: usize,
    answer: [f32; CLASSES],
}

fn next(noise: &mut u32) -> u32 {
    *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *noise
}

/// Appends the next message of a conversation; gives its number of steps.
fn receive(noise: &mut u32, messages: &mut Vec<f32>) -> usize {
    let steps = 1 + (next(noise) >> 16) as usize % LONGEST;
    messages.extend((0..steps * FEATURES).map(|_| (next(noise) >> 8) as f32 / 8_388_608.0 - 1.0));
    steps
}

fn serve(conversations: &mut [Conversation], rounds: usize) -> elman::Result<()> {
    let mut message = Vec::with_capacity(LONGEST * FEATURES);
    for _ in 0..rounds {
        for with in &mut *conversations {
            message.clear();
            let steps = receive(&mut with.noise, &mut message);
            with.stream.run(&message, steps, &mut with.answer)?;
            with.steps += steps;
        }
    }
    Ok(())
}

/// Whether the same conversation as a whole has the same answer.
fn is_right(network: &Sequential, index: usize, rounds: usize, was: &Conversation) -> elman::Result<bool> {
    let (mut noise, mut x) = (index as u32, Vec::new());
    let steps = (0..rounds).map(|_| receive(&mut noise, &mut x)).sum();
    let answer = network.predict(&x, 1, steps)?;
    Ok(steps == was.steps && answer.iter().map(|a| a.to_bits()).eq(was.answer.iter().map(|a| a.to_bits())))
}

fn run(rounds: usize) -> Result<(), Box<dyn Error>> {
    if rounds == 0 {
        return Err("usage: server [rounds]".into());
    }
    let network = Sequential::new(FEATURES)
        .add(SimpleRnn::new(32).return_sequences(true))
        .add(SimpleRnn::new(32))
        .add(Dense::new(CLASSES).activation(Activation::Softmax))
        .build(1)?;
    let mut conversations = (0..STREAMS)
        .map(|i| {
            let stream = Stream::new(&network, 1)?;
            Ok(Conversation { stream, noise: i as u32, steps: 0, answer: [0.0; CLASSES] })
        })
        .collect::<elman::Result<Vec<_>>>()?;

    let start = Instant::now();
    // Each thread serves its own conversations: a stream belongs to one thread at a time, the model to all.
    std::thread::scope(|scope| {
        let shares = conversations.chunks_mut(STREAMS.div_ceil(THREADS));
        let threads: Vec<_> = shares.map(|share| scope.spawn(|| serve(share, rounds))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread that does not panic"))
    })?;
    let took = start.elapsed();
    let steps: usize = conversations.iter().map(|with| with.steps).sum();
    let messages = rounds * STREAMS;
    println!("{STREAMS} streams on one model, {THREADS} threads: {messages} messages, {steps} steps");
    println!("messages per second: {:.0}", messages as f64 / took.as_secs_f64());

    let (mut checked, mut right) = (0, 0);
    for (i, with) in conversations.iter().enumerate().step_by(97) {
        checked += 1;
        right += usize::from(is_right(&network, i, rounds, with)?);
    }
    println!("{right} of {checked} conversations are equal bit for bit to their run as a whole");
    if right == checked { Ok(()) } else { Err("conversations differ".into()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    run(std::env::args().nth(1).map_or(Ok(50), |rounds| rounds.parse())?)
}

#[test]
fn conversations_are_equal() {
    run(5).expect("it runs");
}
