//! File formats: bytes in, layers out, and back.
//!
//! Bytes come from strangers. Everything they claim is compared with what is really there before anything is
//! allocated by their word, and what a reader does not understand is an error, never ignored: a model that loads
//! computes what its file says.

#![forbid(unsafe_code)]

mod checkpoint;
mod safetensors;

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, IntoInnerError};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// The bytes of a file.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| match source.kind() {
        // Larger than what there is, as a sparse file can be without taking any of the disk.
        ErrorKind::OutOfMemory => {
            let bytes =
                fs::metadata(path).map_or(usize::MAX, |file| file.len().try_into().unwrap_or(usize::MAX));
            Error::OutOfMemory { bytes }
        }
        _ => Error::Io { path: path.into(), source },
    })
}

/// Writes a file so that at `path` there is always either what was there before or all of the new bytes.
///
/// They go to a new file in the same directory, are flushed to the disk, and then take the name `path` in one step.
/// When anything fails the new file is removed. Where `path` is a symbolic link, the link is replaced.
fn replace_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let failed = |source| Error::Io { path: path.into(), source };
    if path.file_name().is_none() {
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, "the path does not end in a file name")));
    }
    let (temporary, file) = create_beside(path).map_err(failed)?;
    let fill_and_rename = || {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        let file = out.into_inner().map_err(IntoInnerError::into_error)?;
        file.sync_all()?;
        // Closed first: some systems do not rename an open file.
        drop(file);
        fs::rename(&temporary, path)
    };
    fill_and_rename().map_err(|source| {
        // The failure to report is the first one; a leftover that cannot be removed does no harm.
        let _ = fs::remove_file(&temporary);
        failed(source)
    })
}

/// A new file in the directory of `path`. Its short name fits wherever `path`'s own does.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(format!(".elman-{}-{count}.tmp", process::id()));
        match File::create_new(&temporary) {
            // Left behind by a process that had our id and died, or another host's on a shared disk.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|file| (temporary, file)),
        }
    }
}
