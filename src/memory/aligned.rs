//! A growable-by-replacement vector of `f32` on cache-line boundaries.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::LINE;
use crate::error::{Error, Result};

/// A boxed slice of `f32`, 64-byte aligned, made of zeros.
pub(crate) struct AlignedVec {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: the vector owns its memory alone, and `f32` may be sent and shared.
unsafe impl Send for AlignedVec {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for AlignedVec {}

impl AlignedVec {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self::empty());
        }
        let layout = Self::layout(len).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        // SAFETY: the layout is not empty, since len > 0.
        let start = unsafe { alloc_zeroed(layout) }.cast::<f32>();
        match NonNull::new(start) {
            Some(start) => Ok(Self { start, len }),
            None => Err(Error::OutOfMemory { bytes: layout.size() }),
        }
    }

    /// No elements, no allocation.
    pub(crate) const fn empty() -> Self {
        Self { start: NonNull::dangling(), len: 0 }
    }

    /// A copy of `values`.
    pub(crate) fn copy_of(values: &[f32]) -> Result<Self> {
        let mut copy = Self::zeroed(values.len())?;
        copy.copy_from_slice(values);
        Ok(copy)
    }

    /// Makes room for at least `len` elements. The contents are zeros or leftovers afterwards: this is for scratch.
    pub(crate) fn reserve_scratch(&mut self, len: usize) -> Result<()> {
        if self.len < len {
            *self = Self::empty();
            *self = Self::zeroed(len)?;
        }
        Ok(())
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.checked_mul(size_of::<f32>())?;
        Layout::from_size_align(bytes, LINE * size_of::<f32>()).ok()
    }
}

impl Drop for AlignedVec {
    fn drop(&mut self) {
        if self.len > 0
            && let Some(layout) = Self::layout(self.len)
        {
            // SAFETY: allocated in `zeroed` with this same layout, and not freed before.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

impl Deref for AlignedVec {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `start` is valid for `len` initialised elements (dangling and aligned where len is 0).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for AlignedVec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedVec({} floats)", self.len)
    }
}
