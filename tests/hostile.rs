//! Files that came to harm: bits flipped, bytes replaced, ends cut off, parts doubled, numbers made absurd. A reader
//! answers with an error or with a model that runs, soon and with memory bounded by the file's size, and never ends
//! the process.
//!
//! A few thousand mutants a reader each time; by hand as many as are asked for:
//! `ELMAN_MUTANTS=1000000 cargo test --test hostile`. One again, by its number:
//! `ELMAN_MUTANTS=4711..4712`.

#![cfg(all(feature = "training", feature = "keras", feature = "torch", feature = "onnx"))]

mod common;
mod parsers;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::backends::report;
use common::counting::{Counting, most_held};
use elman::{Error, Origin, Sequential};
use parsers::{Frame, PARSERS, Parser};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of a reader, unless more are asked for.
const MUTANTS: u64 = 5_000;

/// What a file may cost: a model of a few units takes more packed than its file has bytes.
fn most_bytes(len: usize) -> usize {
    40 * len + (1 << 20)
}

const MOST_TIME: Duration = Duration::from_secs(1);

/// A generator whose numbers are the same on every machine (xorshift).
struct Random(u64);

impl Random {
    /// Of one mutant alone, so that it can be made again by its number (splitmix64).
    fn of(number: u64) -> Self {
        let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(state ^ state >> 31 | 1)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.next(all.len())]
    }
}

/// Bytes that formats mean something by.
const TELLING: [u8; 12] = [0, 1, 2, 7, 8, 0x10, 0x7f, 0x80, 0xff, b'{', b'(', b'.'];

/// Numbers as text, and what may stand in place of one.
const TEXTS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "2",
    "65536",
    "4294967295",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
];

/// Numbers as bytes.
const SIZES: [u64; 10] =
    [0, 1, 0x7f, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, 1 << 63, u64::MAX];

/// Damages the bytes in one to four places.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.next(3) {
        let at = random.next(bytes.len());
        let Some(byte) = bytes.get_mut(at) else { break };
        match random.next(11) {
            0 | 1 => *byte ^= 1 << random.next(8),
            2 => *byte = random.one_of(&TELLING),
            3 => *byte = random.next(256) as u8,
            4 => bytes.truncate(at),
            5 => {
                let end = bytes.len().min(at + 1 + random.next(8));
                bytes[at..end].fill(0xff);
            }
            6 | 7 => {
                let from = random.next(bytes.len());
                let part = bytes[from..bytes.len().min(from + 1 + random.next(64))].to_vec();
                // Over what is there, before it, or instead of as much or as little.
                let end = bytes.len().min(at + random.one_of(&[part.len(), 0, random.0 as usize % 64]));
                bytes.splice(at..end, part);
            }
            8 => {
                let end = bytes.len().min(at + 1 + random.next(64));
                bytes.drain(at..end);
            }
            9 => {
                let len = random.one_of(&[2, 4, 8]).min(bytes.len() - at);
                let size = match random.next(2) {
                    0 => random.one_of(&SIZES),
                    _ => bytes.len() as u64 - at as u64,
                };
                bytes[at..at + len].copy_from_slice(&size.to_le_bytes()[..len]);
            }
            _ => {
                // The next number that is text.
                let Some(first) = bytes[at..].iter().position(u8::is_ascii_digit) else { continue };
                let digits = bytes[at + first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let text = random.one_of(&TEXTS);
                bytes.splice(at + first..at + first + digits, text.bytes());
            }
        }
    }
}

/// A damaged file: as it is, or with right checksums, or damaged inside one of its parts.
fn mutant(parser: &Parser, seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut parts = parser.frame.parts(seed);
    let way = if parser.frame == Frame::Plain || parts.is_empty() { 0 } else { random.next(4) };
    if way < 2 {
        let mut mutant = seed.to_vec();
        damage(&mut mutant, random);
        if way == 1 {
            parser.frame.mend(&mut mutant);
        }
        return mutant;
    }
    let at = random.next(parts.len());
    damage(&mut parts[at].1, random);
    parser.frame.join(&parts)
}

/// The time that this thread has run, whatever else the machine does.
#[cfg(unix)]
fn time() -> Duration {
    // SAFETY: zeros are a time.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a time to be written.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn time() -> Duration {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed()
}

/// The numbers of the mutants that are asked for.
fn asked_for() -> Range<u64> {
    let Ok(asked) = std::env::var("ELMAN_MUTANTS") else { return 0..MUTANTS };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("ELMAN_MUTANTS={asked} is no number"));
    match asked.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&asked),
    }
}

/// What came of the mutants of a reader.
#[derive(Default)]
struct Figures {
    models: u64,
    errors: u64,
    slowest: Duration,
    /// Bytes held at once, by those of the file.
    most: f64,
}

fn damaged_files_are_errors_or_models(name: &str) {
    let parser = Parser::named(name);
    let seeds = parser.seeds();
    let asked = asked_for();
    let mut figures = Figures::default();
    for number in asked.clone() {
        let mut random = Random::of(number);
        let (file, seed) = &seeds[random.next(seeds.len())];
        let mutant = mutant(parser, seed, &mut random);
        let begun = time();
        let (outcome, bytes) = most_held(|| catch_unwind(AssertUnwindSafe(|| parser.read(&mutant))));
        let taken = time() - begun;
        let about = format!("{name}, mutant {number} (of {file}, {} bytes)", mutant.len());
        match outcome {
            Ok(true) => figures.models += 1,
            Ok(false) => figures.errors += 1,
            Err(_) => panic!("{about}: the reader panicked, see above"),
        }
        assert!(taken < MOST_TIME, "{about}: {taken:?}");
        assert!(bytes < most_bytes(mutant.len()), "{about}: {bytes} bytes held at once");
        figures.slowest = figures.slowest.max(taken);
        // What a reader of next to nothing takes is its message.
        figures.most = figures.most.max(bytes as f64 / mutant.len().max(1 << 12) as f64);
    }
    let Figures { models, errors, slowest, most } = figures;
    if asked != (0..MUTANTS) {
        report(&format!(
            "{name}: {errors} errors, {models} models, slowest {slowest:?}, {most:.1} times a file's bytes"
        ));
    }
    if asked.end - asked.start >= MUTANTS {
        assert!(errors > 0 && models > 0, "{name}: {errors} errors, {models} models");
    }
}

macro_rules! readers {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            damaged_files_are_errors_or_models(stringify!($name));
        })*

        #[test]
        fn each_reader_has_its_test() {
            assert_eq!(PARSERS.map(|parser| parser.name), [$(stringify!($name)),*]);
        }
    };
}
readers!(
    keras_zip,
    keras_h5,
    keras_weights,
    torch_zip,
    torch_legacy,
    torch_safetensors,
    onnx,
    rtneural,
    nam,
    elman_model,
    elman_checkpoint
);

/// Whose files a reader's are.
fn origin(parser: &str) -> Origin {
    match parser {
        "keras_zip" => Origin::Keras,
        "keras_h5" | "keras_weights" => Origin::KerasH5,
        "torch_zip" => Origin::Torch,
        "torch_legacy" => Origin::TorchLegacy,
        "torch_safetensors" => Origin::TorchSafetensors,
        "onnx" => Origin::Onnx,
        "rtneural" => Origin::RtNeural,
        "nam" => Origin::NeuralAmpModeler,
        "elman_model" => Origin::Elman,
        "elman_checkpoint" => Origin::Checkpoint,
        other => panic!("{other} has no origin"),
    }
}

/// Seeds are what a reader takes, and are the same when they have been taken apart and put together again.
#[test]
fn whole_files_are_read() {
    for parser in &PARSERS {
        for (name, seed) in parser.seeds() {
            assert_eq!(Origin::of(&seed), Some(origin(parser.name)), "{name}");
            // Keras's GRU on TensorFlow is a loop, which is refused by name.
            assert_eq!(parser.read(&seed), name != "onnx/keras_gru_loop.onnx", "{name}");
            let parts = parser.frame.parts(&seed);
            if !parts.is_empty() {
                assert!(parser.read(&parser.frame.join(&parts)), "{name}, put together again");
            }
            let mut mended = seed.clone();
            parser.frame.mend(&mut mended);
            assert!(mended == seed, "{name}: other checksums");
        }
    }
}

/// Every beginning of a file is damaged.
#[test]
fn truncated_files_are_errors() {
    for parser in &PARSERS {
        for (name, seed) in parser.seeds() {
            for len in (0..seed.len()).step_by(1 + seed.len() / 97) {
                assert!(!parser.read(&seed[..len]), "{name}, {len} bytes");
            }
        }
    }
    assert!(matches!(Sequential::load_bytes(&[]), Err(Error::BadFormat(_))));
}
