//! A growable-by-replacement vector of numbers on cache-line boundaries.

use std::alloc::{Layout, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ALIGNMENT, pages};
use crate::error::{Error, Result};

/// Numbers that all bits zero make a zero of.
///
/// # Safety
/// All bits zero are a value of the type, which has a size and needs no more alignment than [`ALIGNMENT`].
pub(crate) unsafe trait Number: Copy + Send + Sync {}
// SAFETY: 0.0 is all bits zero, in 4 bytes that are aligned to 4.
unsafe impl Number for f32 {}
// SAFETY: 0 is all bits zero, in at most 8 bytes that are aligned to their number.
unsafe impl Number for usize {}

/// A boxed slice of numbers, 64-byte aligned, made of zeros; its memory is its own, or lent.
pub(crate) struct Aligned<T: Number> {
    start: NonNull<T>,
    len: usize,
    /// Numbers between the beginning of the allocation and `start`; see [`colour`].
    skipped: usize,
    lent: bool,
}

/// The vector of everything that a kernel reads or writes.
pub(crate) type AlignedVec = Aligned<f32>;

// SAFETY: the vector owns its memory alone (or has it lent for itself alone), and a `Number` may be sent.
unsafe impl<T: Number> Send for Aligned<T> {}
// SAFETY: shared access only reads, and a `Number` may be shared.
unsafe impl<T: Number> Sync for Aligned<T> {}

/// Bytes that a buffer of `bytes` is moved by from where the allocator puts it: another multiple of a cache line for each
/// of 64 buffers that follow each other.
///
/// Allocators put large buffers at the same place of a page, and a layer's input rows and output rows have the same
/// strides. A load then looks like one of the store before it to the core, which compares the lower twelve bits only, and
/// waits; and equal rows compete for the same few cache ways.
fn colour(bytes: usize) -> usize {
    const LINES_A_PAGE: usize = 4096 / ALIGNMENT;
    /// Odd, so that all lines have their turn, and neighbours in time are far apart.
    const STEP: usize = 25;
    static BUFFERS: AtomicUsize = AtomicUsize::new(0);
    if bytes < 4 * 4096 {
        return 0;
    }
    BUFFERS.fetch_add(STEP, Ordering::Relaxed) % LINES_A_PAGE * ALIGNMENT
}

impl<T: Number> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self::empty());
        }
        // Whole numbers, and whole cache lines.
        let colour = colour(len.saturating_mul(size_of::<T>()));
        let skipped = if ALIGNMENT.is_multiple_of(size_of::<T>()) { colour / size_of::<T>() } else { 0 };
        let whole = len.checked_add(skipped).and_then(Self::layout);
        let layout = whole.ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        // SAFETY: the layout is not empty, since len > 0 and a `Number` has a size.
        let start = unsafe { pages::alloc_zeroed(layout) }.cast::<T>();
        match NonNull::new(start) {
            // SAFETY: the allocation has `skipped` numbers and `len` more, so this is inside it.
            Some(start) => Ok(Self { start: unsafe { start.add(skipped) }, len, skipped, lent: false }),
            None => Err(Error::OutOfMemory { bytes: layout.size() }),
        }
    }

    /// `len` zeros in somebody else's memory, which is not freed here.
    ///
    /// # Safety
    /// `start` is a multiple of [`ALIGNMENT`] and valid for writing `len` numbers, and nobody else touches them as long
    /// as the vector lives.
    pub(crate) unsafe fn lent(start: NonNull<T>, len: usize) -> Self {
        // SAFETY: aligned and valid for writing `len` numbers: the caller's duty.
        unsafe { start.write_bytes(0, len) };
        Self { start, len, skipped: 0, lent: true }
    }

    /// Where the numbers begin, without a reference to them.
    pub(crate) fn start(&self) -> NonNull<T> {
        self.start
    }

    /// No elements, no allocation.
    pub(crate) const fn empty() -> Self {
        Self { start: NonNull::dangling(), len: 0, skipped: 0, lent: false }
    }

    /// A copy of `values`.
    pub(crate) fn copy_of(values: &[T]) -> Result<Self> {
        let mut copy = Self::zeroed(values.len())?;
        copy.copy_from_slice(values);
        Ok(copy)
    }

    /// Makes room for at least `len` elements. The contents are zeros or leftovers afterwards: this is for
    /// scratch. Where that fails nothing is left: the old memory is given back first, so that a buffer never
    /// takes both.
    pub(crate) fn reserve_scratch(&mut self, len: usize) -> Result<()> {
        if self.len < len {
            *self = Self::empty();
            *self = Self::zeroed(len)?;
        }
        Ok(())
    }

    /// [`reserve_scratch`](Self::reserve_scratch) for rows `stride` apart.
    pub(crate) fn reserve_rows(&mut self, rows: usize, stride: usize) -> Result<()> {
        let len = rows.checked_mul(stride).ok_or(Error::OutOfMemory { bytes: usize::MAX })?;
        self.reserve_scratch(len)
    }

    fn layout(len: usize) -> Option<Layout> {
        let bytes = len.checked_mul(size_of::<T>())?;
        Layout::from_size_align(bytes, pages::alignment(bytes)).ok()
    }
}

impl<T: Number> Drop for Aligned<T> {
    fn drop(&mut self) {
        if self.len > 0
            && !self.lent
            && let Some(layout) = Self::layout(self.len + self.skipped)
        {
            // SAFETY: `start` lies `skipped` numbers into its allocation, so `sub` gives the allocation's own
            // pointer, which `zeroed` got from the allocator with this same layout, and which is freed here
            // alone.
            unsafe { dealloc(self.start.sub(self.skipped).as_ptr().cast(), layout) }
        }
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` is aligned and valid for `len` numbers, which are initialised: zeros, or what was
        // written over them (dangling and aligned where len is 0). They are one allocation, whose layout says
        // that they are no more than isize::MAX bytes, and nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique: the memory is this vector's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Number> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aligned({} numbers)", self.len)
    }
}
