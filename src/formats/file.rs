//! Files: read where they lie, and replaced so that a reader never meets half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Error, ErrorKind, IntoInnerError, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::with_room;

/// What writes the content of a file; twice, where the first attempt cannot be given the file's name.
type Content<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// How the names of unfinished files begin and end.
const UNFINISHED: (&str, &str) = (".elman-", ".tmp");

/// Opens a regular file for reading. A FIFO would wait, a device may never end.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    let (file, found) = open_regular(path, OpenOptions::new().read(true))?;
    Ok((file, found.len()))
}

/// The bytes of a regular file.
pub(crate) fn read(path: &Path) -> crate::error::Result<Vec<u8>> {
    let io = |source| crate::error::Error::Io { path: path.into(), source };
    let (file, len) = open(path).map_err(io)?;
    let mut bytes = with_room(usize::try_from(len).unwrap_or(usize::MAX))?;
    // A file that grows meanwhile is read as long as it was.
    file.take(len).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// The first bytes of a regular file, as many as there are up to `most`.
pub(crate) fn read_head(path: &Path, most: usize) -> crate::error::Result<Vec<u8>> {
    let io = |source| crate::error::Error::Io { path: path.into(), source };
    let (file, _) = open(path).map_err(io)?;
    let mut bytes = with_room(most)?;
    file.take(most as u64).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Writes a file of these bytes as [`replace`] does.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> crate::error::Result<()> {
    replace(path, &|out| out.write_all(bytes))
        .map_err(|source| crate::error::Error::Io { path: path.into(), source })
}

/// Opens what is there if it is a regular file, and does not wait for anything else.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<(File, fs::Metadata)> {
    // Looked at before, since some devices act when they are opened.
    check_regular(&fs::metadata(path)?)?;
    // And after, since the name may mean another file by then. Opening a FIFO waits for its other end unless
    // told not to; for regular files the flags mean nothing.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(|error| match is_other_end_missing(&error) {
        true => no_regular_file(),
        false => error,
    })?;
    let found = file.metadata()?;
    check_regular(&found)?;
    Ok((file, found))
}

/// Whether there was a FIFO that nobody reads, or a socket.
#[cfg(unix)]
fn is_other_end_missing(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::ENXIO)
}

/// Elsewhere a path names no such things.
#[cfg(not(unix))]
fn is_other_end_missing(_: &Error) -> bool {
    false
}

fn check_regular(found: &fs::Metadata) -> io::Result<()> {
    if found.is_file() { Ok(()) } else { Err(no_regular_file()) }
}

fn no_regular_file() -> Error {
    Error::new(ErrorKind::InvalidInput, "not a regular file (a directory, a FIFO, a socket or a device)")
}

/// Writes a file so that at `path` there is always either what was there before or all of the new bytes.
///
/// They go to a new file in the same directory, are flushed to the disk, and then take the name in one step;
/// the new file gets the mode and the owner of the one it replaces. Symbolic links are followed. When
/// anything fails, the new file is removed.
///
/// What can be written and not be replaced is written in place, and a failure then leaves it damaged: a file
/// that is a mount point, one whose owner only its owner can keep, or one in a directory that takes no new
/// files.
pub(super) fn replace(path: &Path, write: Content<'_>) -> io::Result<()> {
    if path.file_name().is_none() {
        return Err(Error::new(ErrorKind::InvalidInput, "the path does not end in a file name"));
    }
    // Before any link is followed by hand: what is behind one of the system's own may have no name.
    let old = match fs::metadata(path) {
        Ok(found) => {
            check_regular(&found)?;
            Some(found)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let target = follow_links(path)?;
    let Some(old) = old else {
        return write_and_rename(&target, None, write).map_err(Failed::into_error);
    };
    // A file that its owner has made read-only stays.
    let (mut opened, _) = open_regular(&target, OpenOptions::new().write(true))?;
    match write_and_rename(&target, Some(&old), write) {
        Err(Failed::ToReplace(_)) => write_in_place(&mut opened, write),
        outcome => outcome.map_err(Failed::into_error),
    }
}

/// Why there is no new file.
enum Failed {
    /// The content could not be written.
    ToWrite(Error),
    /// There may be no new file in this directory, or none of this name or owner.
    ToReplace(Error),
}

impl Failed {
    /// Sorts by the kind of failure that beginning a new file, or giving it the name and owner, has met.
    fn to_replace(error: Error) -> Self {
        match error.kind() {
            ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem => Failed::ToReplace(error),
            _ => Failed::ToWrite(error),
        }
    }

    fn into_error(self) -> Error {
        match self {
            Failed::ToWrite(error) | Failed::ToReplace(error) => error,
        }
    }
}

/// Where the file itself is, or would be, that a path leads to.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    /// As many as Linux follows.
    const MOST: usize = 40;
    let mut at = path.to_owned();
    for _ in 0..MOST {
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => {
                let to = fs::read_link(&at)?;
                // A relative link begins at its own directory; an absolute one replaces everything.
                at.pop();
                at.push(to);
            }
            _ => return Ok(at),
        }
    }
    Err(Error::other("too many symbolic links"))
}

fn write_and_rename(target: &Path, old: Option<&fs::Metadata>, write: Content<'_>) -> Result<(), Failed> {
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let (file, temporary) = create_in(directory, old.is_some()).map_err(Failed::to_replace)?;
    remove_leftovers(directory);
    let mut temporary = Temporary(Some(temporary));
    let file = fill(file, write).map_err(Failed::ToWrite)?;
    if let Some(old) = old {
        keep_owner_and_mode(&file, old).map_err(Failed::to_replace)?;
    }
    file.sync_all().map_err(Failed::ToWrite)?;
    // Still open, and so still locked: nobody takes it for a leftover.
    fs::rename(temporary.path(), target).map_err(Failed::to_replace)?;
    temporary.0 = None;
    // The name is on the disk when its directory is. A file system that cannot say so has not failed to save.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// An unfinished file, removed unless it has got its name.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The failure to report is the first one; the next save removes a leftover.
            let _ = fs::remove_file(path);
        }
    }
}

/// A new file, locked as long as it is open, and its path. Its short name fits wherever another does.
fn create_in(directory: &Path, private: bool) -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        // Until it has the mode of the file it replaces, nobody else may look in.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{}{}-{count}{}", UNFINISHED.0, process::id(), UNFINISHED.1));
        match options.open(&path) {
            // Of another host on a shared disk, of another container, or of a dead process that had our
            // number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                // Whoever has the lock already takes the file for a leftover and removes it.
                if !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) && path.exists() {
                    return Ok((file, path));
                }
            }
        }
    }
}

/// Removes the unfinished files of processes that were killed: those that nobody has locked. Without locks
/// there is no telling them from others, and they stay.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = |name: &str| name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1);
        if !name.to_str().is_some_and(ours) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // Locked until it is gone: whoever has just made it would else lock it in between, and lose it.
        if let Ok((file, _)) = open_regular(&entry.path(), OpenOptions::new().write(true))
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes the content from the beginning on.
fn fill(file: File, write: Content<'_>) -> io::Result<File> {
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.into_inner().map_err(IntoInnerError::into_error)
}

#[cfg(unix)]
fn keep_owner_and_mode(file: &File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    // Last, since a new owner takes some bits away. Some file systems have one mode for all, and refuse to
    // set it.
    if file.metadata()?.mode() == old.mode() { Ok(()) } else { file.set_permissions(old.permissions()) }
}

#[cfg(not(unix))]
fn keep_owner_and_mode(file: &File, old: &fs::Metadata) -> io::Result<()> {
    file.set_permissions(old.permissions())
}

fn write_in_place(file: &mut File, write: Content<'_>) -> io::Result<()> {
    let write = || {
        let mut file = fill(file.try_clone()?, write)?;
        // Cut off last: what was there has blocks that need not be found anew.
        let end = file.stream_position()?;
        file.set_len(end)?;
        file.sync_all()
    };
    write().map_err(|error| {
        Error::new(
            error.kind(),
            format!("{error}; the file could only be written in place, and is damaged now"),
        )
    })
}
