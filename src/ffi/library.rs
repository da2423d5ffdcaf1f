//! What runs: version and instruction set.

use std::ffi::{CStr, c_char};

use super::boundary::guarded;
use crate::dispatch::{self, Isa};

/// The library's version, for example "0.1.0": static text. ELMAN_VERSION_STRING is the header's.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn elman_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("the version holds a nul byte"),
        };
    VERSION.as_ptr()
}

/// The library's version as a number: major x 1000000 + minor x 1000 + patch. ELMAN_VERSION_NUMBER is the
/// header's.
///
/// A program fits the library where both have one ABI, which is one major version, and while that is 0 one
/// minor version (ELMAN_VERSION_NUMBER / 1000 == elman_version_number() / 1000), and the library is not older
/// than the header.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn elman_version_number() -> u32 {
    const NUMBER: u32 = version_number(
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    );
    NUMBER
}

const fn version_number(major: &str, minor: &str, patch: &str) -> u32 {
    let (major, minor, patch) = (number(major), number(minor), number(patch));
    assert!(major < 1000 && minor < 1000 && patch < 1000, "a part of the version has more than three digits");
    major * 1_000_000 + minor * 1000 + patch
}

const fn number(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("a part of the version is no number"),
    }
}

/// The instruction set that models use in this process: "avx512", "avx2", "neon" or "portable"; static
/// text.
///
/// It is chosen once: the best that the machine has, or the one that the environment variable ELMAN_ISA
/// names. When ELMAN_ISA names something unknown or not available here, this is "unavailable", and whatever
/// makes or loads a model fails with ELMAN_STATUS_UNSUPPORTED and a message that says why.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn elman_isa() -> *const c_char {
    let name = guarded(|| match dispatch::isa() {
        Ok(Isa::Portable) => c"portable",
        Ok(Isa::Neon) => c"neon",
        Ok(Isa::Avx2) => c"avx2",
        Ok(Isa::Avx512) => c"avx512",
        Err(_) => c"unavailable",
    });
    name.unwrap_or(c"unavailable").as_ptr()
}
