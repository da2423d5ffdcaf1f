//! Memory: aligned buffers and checked sizes.
//!
//! Everything a kernel reads or writes lives in an [`AlignedVec`]: 64-byte aligned, so no vector load of ours
//! crosses a cache line, and allocated fallibly, since its size comes from the caller. Row strides are padded to
//! whole vectors ([`row_stride`]), so kernels need no scalar tails. What counts rows or steps is a [`List`].

mod aligned;
mod list;
mod pages;

pub(crate) use aligned::{Aligned, AlignedVec, Number};
pub(crate) use list::{Few, List, refill};

use crate::error::{Error, Result};

/// Floats in a cache line, and in the widest vector.
pub(crate) const LINE: usize = 16;

/// Bytes in a cache line, and what every [`AlignedVec`] is aligned to.
pub(crate) const ALIGNMENT: usize = LINE * size_of::<f32>();

/// The product of sizes, or `None` when it (or its size in bytes as `f32`) does not fit in `isize`.
#[inline(always)]
pub(crate) fn product(dims: &[usize]) -> Option<usize> {
    let count = dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim))?;
    (count <= isize::MAX as usize / size_of::<f32>()).then_some(count)
}

/// Floats from the first of `count` rows to the end of the last, rows of `width` being `stride` apart. What
/// overflows is longer than any array.
#[inline]
pub(crate) fn extent(count: usize, stride: usize, width: usize) -> usize {
    match count.checked_sub(1) {
        None => 0,
        Some(before) => before.saturating_mul(stride).saturating_add(width),
    }
}

/// `len` zeros in a plain vector, allocated fallibly.
pub(crate) fn zeros(len: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    refill(&mut values, len, 0.0)?;
    Ok(values)
}

/// An empty vector with room for `len` elements, allocated fallibly.
pub(crate) fn with_room<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    values.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(values)
}

/// [`product`] as a `Result` that names the array.
pub(crate) fn checked_product(what: &str, dims: &[usize]) -> Result<usize> {
    product(dims).ok_or_else(|| Error::InvalidArgument(format!("{what}: size overflows: {}", by(dims))))
}

/// Checks a slice's length against its shape; `names` says in words what the dimensions are. A call for one small row
/// makes half a dozen of these checks, so what is right returns from here.
#[inline(always)]
pub(crate) fn check_len(what: &'static str, got: usize, names: &str, dims: &[usize]) -> Result<()> {
    if product(dims) == Some(got) { Ok(()) } else { Err(wrong_len(what, got, names, dims)) }
}

#[cold]
#[inline(never)]
fn wrong_len(what: &'static str, got: usize, names: &str, dims: &[usize]) -> Error {
    match checked_product(what, dims) {
        Ok(expected) => {
            Error::LengthMismatch { what, shape: format!("{names} = {}", by(dims)), expected, got }
        }
        Err(error) => error,
    }
}

fn by(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// Floats from one row to the next for rows of `columns`: whole cache lines, and never a multiple of 4 KiB, where
/// the rows of a tile would compete for the same few cache ways.
pub(crate) fn row_stride(columns: usize) -> usize {
    const PAGE: usize = 4096 / size_of::<f32>();
    let stride = columns.next_multiple_of(LINE);
    if stride > 0 && stride.is_multiple_of(PAGE) { stride + LINE } else { stride }
}
