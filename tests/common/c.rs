//! The C ABI as a test sees it: statuses, and the sentences behind them.

use std::ffi::CStr;

use elman::ffi::{
    ELMAN_STATUS_OK, elman_last_error, elman_status, elman_trainer_config, elman_trainer_config_init,
};

/// What an output holds before a call, to see that a failed one has not touched it.
pub(crate) const UNTOUCHED: f32 = -12345.0;

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

#[track_caller]
pub(crate) fn untouched(values: &[f32]) {
    assert!(values.iter().all(|&value| value == UNTOUCHED), "a failed call has written: {values:?}");
}

/// The address one byte further: no float lies there.
pub(crate) fn misaligned<T>(pointer: *const T) -> *mut T {
    pointer.wrapping_byte_add(1).cast_mut()
}

pub(crate) fn trainer_config() -> elman_trainer_config {
    let mut config = std::mem::MaybeUninit::uninit();
    // SAFETY: room for the struct, and on success it is filled.
    unsafe {
        ok(elman_trainer_config_init(config.as_mut_ptr(), size_of::<elman_trainer_config>()));
        config.assume_init()
    }
}
