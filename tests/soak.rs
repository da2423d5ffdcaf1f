//! Hours of use in short: threads that predict, stream and train at once on shared models, and a thousand streams on
//! loaded cores.
//!
//! `ELMAN_SOAK_SECONDS` (2) is how long each test goes on; ten minutes are `ELMAN_SOAK_SECONDS=600 cargo test --release
//! --test soak`. What was measured goes to standard error.
#![cfg(target_os = "linux")]

mod common;

use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::backends::report;
use elman::{
    Dense, Examples, Gru, Loss, Lstm, Optimizer, RunOptions, Sequential, SimpleRnn, Stream, Trainer,
    TrainerConfig,
};

/// One test after the other: each measures the process.
static ALONE: Mutex<()> = Mutex::new(());

fn duration() -> Duration {
    let seconds = std::env::var("ELMAN_SOAK_SECONDS").ok().map(|it| it.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(2))
}

/// Bytes that the process has in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux says it");
    pages.split(' ').nth(1).expect("the second number").parse::<usize>().expect("a number") * 4096
}

fn samples(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 32.0 - 1.0).collect()
}

/// What one of eight threads does again and again; the same results every time.
fn work(thread: usize, models: &[Sequential; 3]) -> Vec<f32> {
    let model = &models[thread % 3];
    let (batch, steps, features) = (4, 20, 6);
    let x = samples(batch * steps * features, thread);
    match thread % 4 {
        0 | 1 => model.predict(&x, batch, steps).expect("right sizes"),
        2 => {
            let mut stream = Stream::new(model, 1).expect("it can stream");
            let mut out = Vec::new();
            for (i, x) in x[..steps * features].chunks(features).enumerate() {
                let mut y = [0.0; 2];
                stream.run(x, 1, &mut y).expect("right sizes");
                out.extend(y);
                if i == steps / 2 {
                    stream.reset();
                }
            }
            out
        }
        _ => {
            // A network of its own with the shared one's weights: a trainer needs it alone.
            let mut own = Sequential::load_bytes(&model.to_bytes().expect("built")).expect("its own bytes");
            let target = samples(batch * 2, 3);
            let mut trainer =
                Trainer::new(&own, TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError))
                    .expect("a valid configuration");
            let examples = Examples::new(&x[..], batch, steps, &target);
            let mut step = |own: &mut Sequential| {
                trainer.step(own, examples, RunOptions::default()).expect("right sizes")
            };
            let mut losses: Vec<f32> = (0..5).map(|_| step(&mut own)).collect();
            losses.extend(own.predict(&x, batch, steps).expect("right sizes"));
            losses
        }
    }
}

#[test]
fn eight_threads_keep_their_bits_and_their_memory() {
    let _alone = ALONE.lock();
    let model = |seed: u64, kind: usize| {
        let model = Sequential::new(6);
        let model = match kind {
            0 => model.add(SimpleRnn::new(40)),
            1 => model.add(Lstm::new(30)),
            _ => model.add(Gru::new(30)),
        };
        let mut model = model.add(Dense::new(2)).build(seed).expect("a valid model");
        model.set_threads(2).expect("a number of threads");
        model
    };
    let models = [model(1, 0), model(2, 1), model(3, 2)];
    let expected: Vec<Vec<f32>> = (0..8).map(|thread| work(thread, &models)).collect();
    let (rounds, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (begun, all) = (Instant::now(), duration());
    let mut early = 0;
    std::thread::scope(|scope| {
        for (thread, expected) in expected.iter().enumerate() {
            let (models, rounds, stop) = (&models, &rounds, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let same = work(thread, models) == *expected;
                    // Whoever fails ends the others too.
                    stop.fetch_or(!same, Ordering::Relaxed);
                    assert!(same, "thread {thread}: other bits than at the beginning");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while begun.elapsed() < all && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            // Spare buffers and the allocator's own arenas are there after a quarter of the time.
            if early == 0 && begun.elapsed() > all / 4 {
                early = resident();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let late = resident();
    assert!(late < early + early / 10 + (4 << 20), "{early} bytes in memory became {late}");
    let again: Vec<Vec<f32>> = (0..8).map(|thread| work(thread, &models)).collect();
    assert_eq!(again, expected, "other bits at the end");
    let rounds = rounds.into_inner();
    assert!(rounds > 8, "only {rounds} rounds");
    report(&format!("soak: {rounds} rounds in {:.0?}, memory {early} then {late} bytes", begun.elapsed()));
}

/// Processes that take the cores away; ended when dropped.
struct Load(Vec<Child>);

impl Load {
    fn new() -> Self {
        let busy = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self((0..cores).map(|_| busy()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A frame is a millisecond of sound at 48 kHz.
#[test]
fn a_thousand_streams_on_loaded_cores() {
    let _alone = ALONE.lock();
    const STREAMS: usize = 1000;
    const FRAME: usize = 48;
    let model = Sequential::new(1).add(Lstm::new(16).return_sequences(true)).add(Dense::new(1));
    let model = model.build(5).expect("a valid model");
    let mut streams: Vec<Stream> =
        (0..STREAMS).map(|_| Stream::new(&model, 1).expect("it can stream")).collect();
    let frame = samples(FRAME, 1);
    let mut y = vec![0.0; FRAME];
    let mut times = Vec::new();
    let mut measure = |all: Duration, times: &mut Vec<f64>| {
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < all || rounds < 2 {
            for stream in &mut streams {
                let start = Instant::now();
                stream.run(&frame, FRAME, &mut y).expect("right sizes");
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            rounds += 1;
        }
        rounds
    };
    let show = |what: &str, times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        report(&format!(
            "soak: {what}: {} frames of {FRAME} samples, microseconds: median {:.1}, 99 % {:.1}, 99.9 % {:.1}, most {:.1}",
            times.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        ));
        times.clear();
    };
    let quiet = measure(duration() / 2, &mut times);
    show("a core each", &mut times);
    let load = Load::new();
    let loaded = measure(duration() / 2, &mut times);
    show("loaded cores", &mut times);
    drop(load);
    // All streams heard the same frames.
    let mut one = Stream::new(&model, 1).expect("it can stream");
    let mut expected = vec![0.0; FRAME];
    for _ in 0..quiet + loaded {
        one.run(&frame, FRAME, &mut expected).expect("right sizes");
    }
    assert_eq!(y, expected, "the last stream's last frame");
}
