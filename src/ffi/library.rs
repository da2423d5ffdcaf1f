//! What runs: version and instruction set.

use std::ffi::{CStr, c_char};

use super::boundary::guarded;
use crate::dispatch::{self, Isa};

/// The library's version, for example "0.1.0": static text.
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

/// The instruction set that models use in this process: "avx512", "avx2" or "portable"; static text.
///
/// It is chosen once: the best that the machine has, or the one that the environment variable ELMAN_ISA names. When
/// ELMAN_ISA names something unknown or not available here, this is "unavailable", and whatever makes or loads a model
/// fails with ELMAN_STATUS_UNSUPPORTED and a message that says why.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn elman_isa() -> *const c_char {
    let name = guarded(|| match dispatch::isa() {
        Ok(Isa::Portable) => c"portable",
        Ok(Isa::Avx2) => c"avx2",
        Ok(Isa::Avx512) => c"avx512",
        Err(_) => c"unavailable",
    });
    name.unwrap_or(c"unavailable").as_ptr()
}
