//! Structs that begin with their size, so that programs and libraries of different versions can meet: no more
//! bytes of them are read or written than `struct_size` says, and no reference to one is made, as its tail
//! may not be there.

use super::raw::check_pointer;
use super::status::Failure;

fn check_size(given: usize, least: usize) -> Result<(), Failure> {
    if given >= least {
        Ok(())
    } else {
        Err(Failure::invalid(format!(
            "struct_size is {given}, and the first fields alone have {least} bytes; was the struct initialised?"
        )))
    }
}

/// Writes the defaults, which `defaults` makes for the bytes that are filled. `least` is the size of the
/// first version's first fields.
///
/// # Safety
/// `place` is NULL or has `struct_size` bytes to write.
pub(super) unsafe fn fill<T: Copy>(
    what: &str,
    place: *mut T,
    struct_size: usize,
    least: usize,
    defaults: impl FnOnce(usize) -> T,
) -> Result<(), Failure> {
    check_pointer(what, place)?;
    check_size(struct_size, least)?;
    let filled = struct_size.min(size_of::<T>());
    let defaults = defaults(filled);
    // SAFETY: not NULL, checked above; `filled` is neither more than the caller's struct has nor more than ours, and bytes
    // need no alignment.
    unsafe { std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), place.cast::<u8>(), filled) };
    Ok(())
}

/// The size that a struct gives itself.
///
/// # Safety
/// `place` is NULL or points to a struct that begins with its size.
pub(super) unsafe fn size_of_given<T>(what: &str, place: *const T, least: usize) -> Result<usize, Failure> {
    check_pointer(what, place)?;
    // SAFETY: not NULL and aligned, checked above; readable: the caller's duty.
    let given = unsafe { place.cast::<usize>().read() };
    check_size(given, least).map(|()| given)
}

/// Reads those fields into `$given` that lie wholly within `$struct_size` bytes.
///
/// `$place` must be aligned and valid for reads of `$struct_size` bytes.
macro_rules! read_fields {
    ($place:expr, $struct_size:expr, $given:ident: $type:ty { $($name:ident),* $(,)? }) => {$(
        if std::mem::offset_of!($type, $name) + size_of_val(&$given.$name) <= $struct_size {
            // SAFETY: aligned, checked by `size_of_given`; readable for struct_size bytes: the caller's duty.
            $given.$name = unsafe { (&raw const (*$place).$name).read() };
        }
    )*};
}
pub(super) use read_fields;
