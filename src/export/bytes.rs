//! A file's bytes on their way out, in memory that may run out.

use crate::error::{Error, Result};
use crate::memory::with_room;

/// Bytes one behind the other, numbers in little-endian order.
#[derive(Debug, Default)]
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    /// None yet, with room for `len`.
    pub(super) fn with_room(len: usize) -> Result<Self> {
        with_room(len).map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Has room for `more` bytes.
    pub(super) fn reserve(&mut self, more: usize) -> Result<()> {
        self.0.try_reserve(more).map_err(|_| Error::OutOfMemory { bytes: self.0.len().saturating_add(more) })
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn u8(&mut self, number: u8) -> Result<()> {
        self.put(&[number])
    }

    pub(super) fn u16(&mut self, number: u16) -> Result<()> {
        self.put(&number.to_le_bytes())
    }

    pub(super) fn u32(&mut self, number: u32) -> Result<()> {
        self.put(&number.to_le_bytes())
    }

    pub(super) fn u64(&mut self, number: u64) -> Result<()> {
        self.put(&number.to_le_bytes())
    }

    /// Writes over what is there from byte `at` on.
    #[cfg(feature = "keras")]
    pub(super) fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// So many zeros.
    pub(super) fn zeros(&mut self, count: usize) -> Result<()> {
        self.reserve(count)?;
        self.0.resize(self.0.len() + count, 0);
        Ok(())
    }
}
