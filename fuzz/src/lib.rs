//! What the targets share: a reader, its first files, and mutants whose checksums and lengths are right.

#[path = "../../tests/parsers/mod.rs"]
mod parsers;

use std::path::Path;

pub use libfuzzer_sys;
use parsers::{Frame, Parser};

/// A target for the reader of this name.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::sow(stringify!($name)),
            |bytes: &[u8]| $crate::read(stringify!($name), bytes)
        );
        $crate::libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate(stringify!($name), data, size, max_size, seed)
        });
    };
}

/// Puts whole files into the reader's corpus, where libFuzzer begins.
pub fn sow(name: &str) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    std::fs::create_dir_all(&corpus).expect("the corpus can be made");
    for (file, bytes) in Parser::named(name).seeds() {
        std::fs::write(corpus.join(file.replace('/', "-")), bytes).expect("the corpus can be written");
    }
}

/// Reads a file; what the reader must not do is a panic.
pub fn read(name: &str, bytes: &[u8]) {
    Parser::named(name).read(bytes);
}

/// libFuzzer's mutants; every second one with right checksums, or of one part of the file alone.
pub fn mutate(name: &str, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let frame = Parser::named(name).frame;
    let mut parts = if frame == Frame::Plain { Vec::new() } else { frame.parts(&data[..size]) };
    if parts.is_empty() || seed % 4 < 2 {
        let size = libfuzzer_sys::fuzzer_mutate(data, size, max_size);
        if seed % 4 == 1 {
            frame.mend(&mut data[..size]);
        }
        return size;
    }
    let at = seed as usize / 4 % parts.len();
    let part = &mut parts[at].1;
    let len = part.len();
    part.resize(len + 64, 0);
    let mutated = libfuzzer_sys::fuzzer_mutate(part, len, len + 64);
    part.truncate(mutated);
    let file = frame.join(&parts);
    match data.get_mut(..file.len()) {
        Some(place) if file.len() <= max_size => place.copy_from_slice(&file),
        _ => return libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
    file.len()
}
