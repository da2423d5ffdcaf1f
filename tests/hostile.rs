//! Files of other frameworks, damaged: bits flipped, bytes replaced, ends cut off, parts doubled. A reader
//! answers with an error or with a model, soon and with memory bounded by the file's size, and never ends the
//! process.

#![cfg(all(feature = "keras", feature = "torch", feature = "onnx"))]

mod import_cases;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use elman::{Error, LoadOptions, Sequential};
use import_cases::directory;

/// Counts the bytes that are taken at once.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's duty is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's duty is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A generator whose numbers are the same on every machine (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }
}

/// Bytes that formats mean something by.
const TELLING: [u8; 12] = [0, 1, 2, 7, 8, 0x10, 0x7f, 0x80, 0xff, b'{', b'(', b'.'];

fn mutant(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutant = bytes.to_vec();
    for _ in 0..=random.next(3) {
        let at = random.next(mutant.len());
        let Some(byte) = mutant.get_mut(at) else { break };
        match random.next(7) {
            0 | 1 => *byte ^= 1 << random.next(8),
            2 => *byte = TELLING[random.next(TELLING.len())],
            3 => *byte = random.next(256) as u8,
            4 => mutant.truncate(at),
            5 => {
                // A number made very large.
                let end = mutant.len().min(at + 1 + random.next(8));
                mutant[at..end].fill(0xff);
            }
            _ => {
                let from = random.next(mutant.len());
                let part = mutant[from..mutant.len().min(from + 1 + random.next(64))].to_vec();
                let end = mutant.len().min(at + part.len());
                mutant[at..end].copy_from_slice(&part[..end - at]);
            }
        }
    }
    mutant
}

/// The files of all frameworks, a few of each kind.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let names = [
        "onnx/legacy_rnn_state_both.onnx",
        "onnx/dynamo_lstm_states.onnx",
        "onnx/keras_lstm_ids.onnx",
        "onnx/folded.onnx",
        "onnx/lengths.onnx",
        "torch/forms.pt",
        "torch/forms_old.pt",
        "torch/forms_deflated.pt",
        "torch/forms_views.pt",
        "torch/normal.safetensors",
        "keras/gru_last.keras",
        "keras/forms_deflated.keras",
        "keras/lstm_cells.h5",
        "keras/cudnn.h5",
        "keras/keras_1.h5",
        "keras/many_new.h5",
        "audio/gru.json",
        "audio/nam.nam",
    ];
    let read = |name: &str| (name.to_owned(), std::fs::read(directory(name)).expect("the file is there"));
    names.map(read).into()
}

#[test]
fn damaged_files_are_errors_or_models() {
    // More by hand: ELMAN_MUTANTS=1000000.
    let mutants = std::env::var("ELMAN_MUTANTS").ok().and_then(|count| count.parse().ok()).unwrap_or(150);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let options = LoadOptions::default();
    let (mut errors, mut models) = (0, 0);
    for (name, seed) in seeds() {
        for number in 0..mutants {
            let mutant = mutant(&seed, &mut random);
            MOST.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
            let before = NOW.load(Ordering::Relaxed);
            let begun = Instant::now();
            let outcome = Sequential::load_bytes_with(&mutant, &options);
            let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
            assert!(
                begun.elapsed() < Duration::from_secs(1),
                "{name}, mutant {number}: {:?}",
                begun.elapsed()
            );
            // A model of a few units takes more packed than its file has bytes.
            assert!(taken < 40 * mutant.len() + (1 << 20), "{name}, mutant {number}: {taken} bytes");
            match outcome {
                Ok(_) => models += 1,
                Err(Error::BadFormat(_) | Error::Unsupported(_)) => errors += 1,
                Err(other) => panic!("{name}, mutant {number}: {other}"),
            }
        }
    }
    assert!(errors > mutants && models > 0, "{errors} errors, {models} models");
}

/// Every beginning of a file is damaged.
#[test]
fn truncated_files_are_errors() {
    for (name, seed) in seeds() {
        for len in (0..seed.len()).step_by(1 + seed.len() / 97) {
            let outcome = Sequential::load_bytes(&seed[..len]);
            assert!(
                matches!(outcome, Err(Error::BadFormat(_) | Error::Unsupported(_))),
                "{name}, {len} bytes: {:?}",
                outcome.err()
            );
        }
    }
}
