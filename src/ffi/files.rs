//! Networks as files and bytes.

use std::ffi::c_char;
use std::io;
use std::mem::MaybeUninit;

use super::boundary::boundary;
use super::cancellation::uncancelled;
use super::raw::{Input, Place, Span, check_pointer, path};
use super::sequential::{elman_sequential, reading};
use super::status::{ELMAN_STATUS_LENGTH_MISMATCH, Failure, elman_status};
use crate::formats::Image;
use crate::sequential::Sequential;

/// A file's bytes, as many as C has room for, and how many they are.
pub(super) struct Bytes {
    bytes: *mut u8,
    capacity: usize,
    needed: *mut usize,
}

impl Bytes {
    /// NULL and 0 for `bytes` and `capacity` ask for the size alone; only where they are an array may
    /// `needed` be NULL.
    pub(super) fn new(bytes: *mut u8, capacity: usize, needed: *mut usize) -> Result<Self, Failure> {
        let asks_for_size = bytes.is_null() && capacity == 0;
        if asks_for_size || !needed.is_null() {
            check_pointer("needed", needed)?;
        }
        if !asks_for_size {
            Span::of("bytes", bytes, capacity)?;
        }
        Ok(Self { bytes, capacity, needed })
    }

    /// Writes a file, or only its size.
    ///
    /// # Safety
    /// `bytes` points to `capacity` bytes that nobody else reads or writes during the call, initialised or
    /// not, and `needed`, unless it is NULL, is valid for a write.
    pub(super) unsafe fn put(self, file: &Image<'_>) -> Result<(), Failure> {
        let len = file.len();
        if !self.needed.is_null() {
            // SAFETY: aligned, checked by `new`; valid: the caller's duty.
            unsafe { self.needed.write(len) };
        }
        if self.bytes.is_null() {
            return Ok(());
        }
        if len > self.capacity {
            return Err(Failure::new(
                ELMAN_STATUS_LENGTH_MISMATCH,
                format!("bytes: the file needs {len} bytes, got {}", self.capacity),
            ));
        }
        // SAFETY: not NULL and of a size that memory has, checked by `new`; the caller's alone; may be
        // uninitialised.
        let mut room = Room(unsafe { std::slice::from_raw_parts_mut(self.bytes.cast(), len) });
        file.write(&mut room).map_err(|error| Failure::invalid(error.to_string()))
    }
}

/// Room that is written from its beginning on, and never read.
struct Room<'a>(&'a mut [MaybeUninit<u8>]);

impl io::Write for Room<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.0.len());
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        for (to, byte) in to.iter_mut().zip(bytes) {
            to.write(*byte);
        }
        self.0 = rest;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes layers and weights to a file in elman's safetensors layout. path is nul-terminated: on Unix any
/// bytes, elsewhere UTF-8.
///
/// The file is there complete or not at all: it is written beside path under another name (.elman-*.tmp),
/// flushed to the disk and renamed. A file that was there before stays whole if anything fails; its mode and
/// owner are kept, but not its hard links, access lists and extended attributes. Symbolic links are followed.
/// What is there and no regular file (a directory, a FIFO, a device), or may not be written, is left alone:
/// IO.
///
/// A file that can be written and not be replaced (a mount point, in a directory that takes no new files, of
/// another owner) is written in place. That is not atomic: a failure leaves it damaged, and elman_last_error
/// says so. A process that is killed while it saves leaves its unfinished file; the next save into the same
/// directory removes it.
///
/// Fails with NOT_BUILT, IO, OUT_OF_MEMORY, INVALID_ARGUMENT (a path that is not UTF-8 where it must be),
/// UNSUPPORTED (elman_sequential_drop_weights has freed the weights).
///
/// Threads: any number at once on one network. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_save(
    network: *const elman_sequential,
    path: *const c_char,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        uncancelled(|| network.save(path))?;
        Ok(())
    })
}

/// The bytes of the file that elman_sequential_save writes, for hosts without files;
/// elman_sequential_load_bytes reads them.
///
/// bytes has room for `capacity` bytes; *needed is the number of bytes. To ask for the size alone, pass NULL
/// and 0 for bytes and capacity. needed may be NULL where bytes is not.
///
/// Fails with NOT_BUILT, OUT_OF_MEMORY, UNSUPPORTED (elman_sequential_drop_weights has freed the weights),
/// and with LENGTH_MISMATCH where the file needs more than capacity bytes: *needed is then set all the same,
/// and bytes is not touched.
///
/// Threads: any number at once on one network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_save_bytes(
    network: *const elman_sequential,
    bytes: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> elman_status {
    boundary(|| {
        // SAFETY: a live handle that nobody changes meanwhile: the contract at the top of the header.
        let network = unsafe { reading(network) }?;
        let bytes = Bytes::new(bytes, capacity, needed)?;
        // SAFETY: valid for writes: the contract at the top of the header.
        unsafe { bytes.put(&network.image()?) }
    })
}

/// Reads a built network from a file, which may be one of another framework's: the content says what it is,
/// not the name. path is as in elman_sequential_save. Read are
///
/// - what elman_sequential_save wrote;
/// - Keras's .keras files, and .h5 files with layers, of Keras 1 to 3;
/// - PyTorch's state dicts, in safetensors files and as torch.save writes them; elman_sequential_load_with
///   says what they do not say;
/// - ONNX models of recurrent and dense layers, as the exporters of PyTorch and TensorFlow write them;
/// - what audio plug-ins load: RTNeural's JSON, and LSTMs of Neural Amp Modeler (.nam), which are stateful.
///
/// A model of another framework computes what it computes there, to 1e-5, and reads [batch, steps, features]
/// whatever order of axes it has at home. A graph's states are those of elman_run_options, and rows with
/// lengths in an ONNX model go with ELMAN_PADDING_ONNX. What cannot be carried out is UNSUPPORTED, and
/// elman_last_error names the layer or node, the attribute and its value; nothing is passed over, and no code
/// in a file is run.
///
/// Files may come from strangers: every size in one is compared with the file before it is allocated. Reading
/// takes at most six times the bytes of a file of elman's own, and some twenty times those of others. The
/// network that comes of it takes its weights once plain and once packed, where columns are padded to a
/// multiple of up to 16, and 2 KB a layer, of which there are at most 65,536.
///
/// On success *out is the new network, and yours to free.
///
/// Fails with IO (also for what is no regular file), BAD_FORMAT (something missing, left over, there twice,
/// of another shape or unknown), UNSUPPORTED (see above; also where ELMAN_ISA names something unknown or not
/// available here, and for the files of a framework that the library was built without), OUT_OF_MEMORY,
/// INVALID_ARGUMENT (a path that is not UTF-8 where it must be).
///
/// Threads: any. pthread_cancel acts after the call, not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_load(
    path: *const c_char,
    out: *mut *mut elman_sequential,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        // SAFETY: nul-terminated: the contract at the top of the header.
        let path = unsafe { self::path(path) }?;
        let network = uncancelled(|| Sequential::load(path))?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_sequential::new(network)) };
        Ok(())
    })
}

/// elman_sequential_load from memory: the `len` bytes of such a file, at any alignment. They are not needed
/// afterwards.
///
/// On success *out is the new network, and yours to free.
///
/// Fails with BAD_FORMAT, UNSUPPORTED, OUT_OF_MEMORY as elman_sequential_load does.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn elman_sequential_load_bytes(
    bytes: *const u8,
    len: usize,
    out: *mut *mut elman_sequential,
) -> elman_status {
    boundary(|| {
        let out = Place::new("out", out)?;
        let bytes = Input::new("bytes", bytes, len)?;
        // SAFETY: as long as C says: the contract at the top of the header.
        let network = Sequential::load_bytes(unsafe { bytes.slice() })?;
        // SAFETY: valid for a write: the contract at the top of the header.
        unsafe { out.put_handle(elman_sequential::new(network)) };
        Ok(())
    })
}
