//! The one public error type.
//!
//! Every message carries the numbers that were wrong, so that a caller far away (a C host, a log file) can mend
//! the call without a debugger. A failed call has written nothing.

#![forbid(unsafe_code)]

use std::path::PathBuf;

/// What went wrong. The C ABI maps each variant to one `elman_status` code.
///
/// ```
/// use elman::{Error, Sequential, SimpleRnn};
///
/// let wrong = Sequential::new(3).add(SimpleRnn::new(0)).build(1);
/// assert!(matches!(wrong, Err(Error::InvalidArgument(why)) if why.contains("units")));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is outside its range: a zero size, a rate beyond 0..=1, a layer in an impossible place.
    #[error("{0}")]
    InvalidArgument(String),
    /// A slice has another length than its shape says.
    #[error("{what}: expected {expected} elements ({shape}), got {got}")]
    LengthMismatch {
        /// Which argument.
        what: &'static str,
        /// The shape in words, with its numbers.
        shape: String,
        /// Elements the shape asks for.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// The model has no weights yet: `build` was not called.
    #[error("{0}: the model is not built; call build first")]
    NotBuilt(&'static str),
    /// An allocation whose size came from the caller failed.
    #[error("out of memory: could not allocate {bytes} bytes")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The file system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or byte string is not what its format says.
    #[error("bad format: {0}")]
    BadFormat(String),
    /// The request is well-formed, and this build or machine cannot carry it out.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Two buffers share memory where they must not.
    #[error("{output} overlaps {input}")]
    Overlap {
        /// The buffer to be written.
        output: &'static str,
        /// The buffer it touches.
        input: &'static str,
    },
    /// A NaN or an infinity where a number is needed.
    #[error("not finite: {0}")]
    NotFinite(String),
}

/// `std::result::Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
