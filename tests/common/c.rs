//! The C ABI as a test sees it: statuses, and the sentences behind them.

use std::ffi::CStr;

use elman::ffi::{ELMAN_STATUS_OK, elman_last_error, elman_status};

pub(crate) fn last_error() -> String {
    // SAFETY: never NULL, and valid until this thread's next failure.
    unsafe { CStr::from_ptr(elman_last_error()) }.to_str().expect("messages are UTF-8").to_owned()
}

#[track_caller]
pub(crate) fn ok(status: elman_status) {
    assert_eq!(status, ELMAN_STATUS_OK, "{}", last_error());
}

/// The call failed with `wanted`, and the message has all of `words`.
#[track_caller]
pub(crate) fn fails(status: elman_status, wanted: elman_status, words: &[&str]) {
    let message = last_error();
    assert_eq!(status, wanted, "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
}
