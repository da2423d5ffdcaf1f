//! Status codes, and each thread's last failure in words.

use std::cell::RefCell;
use std::ffi::{CString, c_char};

use crate::error::Error;

/// How a call ended: one of the ELMAN_STATUS_ constants. Codes are never reused; a newer library may have
/// more.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_status(pub u32);

/// Done.
pub const ELMAN_STATUS_OK: elman_status = elman_status(0);
/// A pointer that must not be NULL is NULL.
pub const ELMAN_STATUS_NULL_POINTER: elman_status = elman_status(1);
/// A value outside its range: a zero size, an overflowed product of sizes, an unknown enum value, a
/// misaligned pointer, a layer in an impossible place, a weight that the layer does not have.
pub const ELMAN_STATUS_INVALID_ARGUMENT: elman_status = elman_status(2);
/// An array has another length than its shape says.
pub const ELMAN_STATUS_LENGTH_MISMATCH: elman_status = elman_status(3);
/// The network has no weights yet: elman_sequential_build was not called.
pub const ELMAN_STATUS_NOT_BUILT: elman_status = elman_status(4);
/// An allocation whose size came from the caller failed.
pub const ELMAN_STATUS_OUT_OF_MEMORY: elman_status = elman_status(5);
/// The file system refused.
pub const ELMAN_STATUS_IO: elman_status = elman_status(6);
/// A file or byte string is not what its format says.
pub const ELMAN_STATUS_BAD_FORMAT: elman_status = elman_status(7);
/// Well-formed, but this library or this machine cannot carry it out.
pub const ELMAN_STATUS_UNSUPPORTED: elman_status = elman_status(8);
/// An output shares memory with another array of the call.
pub const ELMAN_STATUS_OVERLAP: elman_status = elman_status(9);
/// A NaN or an infinity where a number is needed.
pub const ELMAN_STATUS_NOT_FINITE: elman_status = elman_status(10);
/// A bug in the library, stopped at its boundary. The message says where. A handle that the call could change
/// may be half-changed: free it.
pub const ELMAN_STATUS_PANIC: elman_status = elman_status(99);

/// The name of a status without its prefix, for example "LENGTH_MISMATCH"; "UNKNOWN" for a code this library
/// does not have. Static text, never NULL.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn elman_status_name(status: elman_status) -> *const c_char {
    let name = match status {
        ELMAN_STATUS_OK => c"OK",
        ELMAN_STATUS_NULL_POINTER => c"NULL_POINTER",
        ELMAN_STATUS_INVALID_ARGUMENT => c"INVALID_ARGUMENT",
        ELMAN_STATUS_LENGTH_MISMATCH => c"LENGTH_MISMATCH",
        ELMAN_STATUS_NOT_BUILT => c"NOT_BUILT",
        ELMAN_STATUS_OUT_OF_MEMORY => c"OUT_OF_MEMORY",
        ELMAN_STATUS_IO => c"IO",
        ELMAN_STATUS_BAD_FORMAT => c"BAD_FORMAT",
        ELMAN_STATUS_UNSUPPORTED => c"UNSUPPORTED",
        ELMAN_STATUS_OVERLAP => c"OVERLAP",
        ELMAN_STATUS_NOT_FINITE => c"NOT_FINITE",
        ELMAN_STATUS_PANIC => c"PANIC",
        _ => c"UNKNOWN",
    };
    name.as_ptr()
}

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// This thread's last failure in words, with the numbers that were wrong; "" before the first one. Calls that
/// succeed leave it as it is, so look at it only after a status other than ELMAN_STATUS_OK.
///
/// The text is UTF-8, never NULL, owned by the library and valid until this thread's next failing call or its
/// end. Copy it to keep it.
///
/// Threads: any; each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn elman_last_error() -> *const c_char {
    // A destructor that runs while the thread ends may ask when the text is gone already.
    let text = LAST_ERROR.try_with(|text| text.borrow().as_ref().map(|text| text.as_ptr()));
    text.ok().flatten().unwrap_or(c"".as_ptr())
}

/// A failed call: its status, and the sentence for `elman_last_error`. Boxed, because every function hands it
/// through and none expects it: what is right stays in a register.
#[derive(Debug)]
pub(super) struct Failure(Box<(elman_status, String)>);

// All made out of line: a call for one row makes a dozen checks.
impl Failure {
    #[cold]
    #[inline(never)]
    pub(super) fn new(status: elman_status, text: String) -> Self {
        Self(Box::new((status, text)))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn null(what: &str) -> Self {
        Self::new(ELMAN_STATUS_NULL_POINTER, format!("{what} is NULL"))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn invalid(text: String) -> Self {
        Self::new(ELMAN_STATUS_INVALID_ARGUMENT, text)
    }

    /// Makes this the thread's last failure.
    #[cold]
    #[inline(never)]
    pub(super) fn report(self) -> elman_status {
        let (status, text) = *self.0;
        // A nul byte can come in with a file's own text.
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // Only a thread that is ending has no place for it, and then the status has to do.
        let _ = LAST_ERROR.try_with(|last| last.replace(Some(text)));
        status
    }
}

impl From<Error> for Failure {
    #[cold]
    #[inline(never)]
    fn from(error: Error) -> Self {
        let status = match error {
            Error::InvalidArgument(_) => ELMAN_STATUS_INVALID_ARGUMENT,
            Error::LengthMismatch { .. } => ELMAN_STATUS_LENGTH_MISMATCH,
            Error::NotBuilt(_) => ELMAN_STATUS_NOT_BUILT,
            Error::OutOfMemory { .. } => ELMAN_STATUS_OUT_OF_MEMORY,
            Error::Io { .. } => ELMAN_STATUS_IO,
            Error::BadFormat(_) => ELMAN_STATUS_BAD_FORMAT,
            Error::Unsupported(_) => ELMAN_STATUS_UNSUPPORTED,
            Error::Overlap { .. } => ELMAN_STATUS_OVERLAP,
            Error::NotFinite(_) => ELMAN_STATUS_NOT_FINITE,
        };
        Self::new(status, error.to_string())
    }
}
