//! Models of other frameworks.

use std::ffi::{CStr, c_char};
use std::mem::offset_of;

use super::boundary::boundary;
use super::cancellation::uncancelled;
use super::enums::{ELMAN_ACTIVATION_LINEAR, ELMAN_ACTIVATION_TANH, elman_activation, unknown};
use super::raw::{Input, Place, flag, path};
use super::sequential::{changing, elman_sequential};
use super::sized::{fill, read_fields, size_of_given};
use super::status::{Failure, elman_status};
use crate::import::{LoadOptions, Output};
use crate::sequential::Sequential;

/// What the topmost recurrent layer of a state dict hands on: one of the ELMAN_OUTPUT_ constants.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct elman_output(pub u32);

/// Every step's output.
pub const ELMAN_OUTPUT_SEQUENCE: elman_output = elman_output(0);
/// The output of the last step, out[:, -1] in PyTorch. Of a bidirectional layer that is the last state of the
/// forward half and the first output of the backward one, which elman_sequential_add_last_step hands on.
pub const ELMAN_OUTPUT_LAST_STEP: elman_output = elman_output(1);
/// The last state of each direction, h_n in PyTorch.
pub const ELMAN_OUTPUT_LAST_STATE: elman_output = elman_output(2);

impl elman_output {
    fn read(self) -> Result<Output, Failure> {
        Ok(match self {
            ELMAN_OUTPUT_SEQUENCE => Output::Sequence,
            ELMAN_OUTPUT_LAST_STEP => Output::LastStep,
            ELMAN_OUTPUT_LAST_STATE => Output::LastState,
            elman_output(other) => return Err(unknown("output", other)),
        })
    }
}

/// What PyTorch's state dicts do not say; files of other kinds say everything themselves. Fill it by
/// elman_load_options_init, then set what you use. It is only read during a call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct elman_load_options {
    /// Bytes of this struct that are filled; set by elman_load_options_init.
    pub struct_size: usize,
    /// Only the tensors whose names begin so are read, without that beginning: nul-terminated UTF-8. NULL:
    /// all tensors.
    pub prefix: *const c_char,
    /// What the topmost recurrent layer hands on; ELMAN_OUTPUT_LAST_STEP by default.
    pub output: elman_output,
    /// The function of nn.RNN; ELMAN_ACTIVATION_TANH by default.
    pub activation: elman_activation,
    /// What stands between two linear layers, where has_between is 1.
    pub between: elman_activation,
    /// What stands behind the last layer; ELMAN_ACTIVATION_LINEAR by default.
    pub last: elman_activation,
    /// 1 where between is set. Otherwise a file with one linear layer behind another is UNSUPPORTED.
    pub has_between: u8,
}

const DEFAULTS: elman_load_options = elman_load_options {
    struct_size: size_of::<elman_load_options>(),
    prefix: std::ptr::null(),
    output: ELMAN_OUTPUT_LAST_STEP,
    activation: ELMAN_ACTIVATION_TANH,
    between: ELMAN_ACTIVATION_LINEAR,
    last: ELMAN_ACTIVATION_LINEAR,
    has_between: 0,
};

/// Fills `options` with defaults: all tensors, the last step, tanh, and nothing said about what stands
/// between.
///
/// struct_size is `sizeof *options` as your compiler sees it: no more bytes than that are written.
///
/// Fails with INVALID_ARGUMENT where struct_size does not even hold the prefix.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_load_options_init(
    options: *mut elman_load_options,
    struct_size: usize,
) -> elman_status {
    boundary(|| {
        let least = offset_of!(elman_load_options, output);
        let defaults = |struct_size| elman_load_options { struct_size, ..DEFAULTS };
        // SAFETY: struct_size bytes to write: the contract at the top of the header.
        unsafe { fill("options", options, struct_size, least, defaults) }
    })
}

/// What C wrote; NULL means the defaults.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its first field says, and its prefix is NULL or
/// nul-terminated.
unsafe fn read(options: *const elman_load_options) -> Result<LoadOptions, Failure> {
    let mut given = DEFAULTS;
    if !options.is_null() {
        let least = offset_of!(elman_load_options, output);
        // SAFETY: the caller's duty is the same.
        let struct_size = unsafe { size_of_given("options", options, least) }?;
        read_fields!(options, struct_size, given: elman_load_options {
            prefix, output, activation, between, last, has_between,
        });
    }
    let mut read = LoadOptions::default()
        .output(given.output.read()?)
        .activation(given.activation.read()?)
        .last(given.last.read()?);
    if flag("has_between", given.has_between)? {
        read = read.between(given.between.read()?);
    }
    if !given.prefix.is_null() {
        // SAFETY: not NULL, checked here; nul-terminated: the caller's duty.
        let prefix = unsafe { CStr::from_ptr(given.prefix) }.to_str();
        read =
            read.prefix(prefix.map_err(|error| Failure::invalid(format!("prefix is not UTF-8: {error}")))?);
    }
    Ok(read)
}

/// elman_sequential_load with what a state dict does not say. options may be NULL.
///
/// On success *out is the new network, and yours to free.
///
/// Fails as elman_sequential_load does, and with INVALID_ARGUMENT for a value of an option that is none.
///
/// Threads: any. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_load_with(
    path: *const c_char,
    options: *const elman_load_options,
    out: *mut *mut elman_sequential,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        // SAFETY: as many bytes as it says, and nul-terminated text: the contract at the top of the header.
        let options = unsafe { read(options) }?;
        let network = uncancelled(|| Sequential::load_with(path, &options))?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_sequential::new(network)) };
        Ok(())
    })
}

/// elman_sequential_load_with from memory: the `len` bytes of such a file, at any alignment. They are not
/// needed afterwards. options may be NULL.
///
/// On success *out is the new network, and yours to free.
///
/// Fails as elman_sequential_load_with does, but for IO.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_load_bytes_with(
    bytes: *const u8,
    len: usize,
    options: *const elman_load_options,
    out: *mut *mut elman_sequential,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        let bytes = Input::new("bytes", bytes, len)?;
        // SAFETY: as many bytes as it says, and nul-terminated text: the contract at the top of the header.
        let options = unsafe { read(options) }?;
        // SAFETY: as long as C says: the contract at the top of the header.
        let network = Sequential::load_bytes_with(unsafe { bytes.slice() }, &options)?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_sequential::new(network)) };
        Ok(())
    })
}

/// Reads the weights of a .weights.h5 file of Keras 3, or of an .h5 file of weights alone of Keras 1 and 2,
/// into a built network, whose layers must be those of the file: all of them, or none. path is as in
/// elman_sequential_save.
///
/// Fails with NOT_BUILT, IO, BAD_FORMAT (also a weight that is missing or left over), INVALID_ARGUMENT (a
/// weight of another shape; a path that is not UTF-8 where it must be), UNSUPPORTED (weights in chunks or
/// compressed; elman_sequential_drop_weights has freed the network's; a library built without Keras's files),
/// OUT_OF_MEMORY. The network is unchanged then.
///
/// Threads: not while another thread uses the network. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_load_weights(
    network: *mut elman_sequential,
    path: *const c_char,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody else uses meanwhile: the contract at the top of the header.
        let mut network = unsafe { changing(network) }?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        uncancelled(|| network.load_weights(path))?;
        Ok(())
    })
}
