//! A place in a file's bytes that never leaves them.

use super::bad;
use crate::error::{Error, Result};

/// Reads little-endian numbers one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At a byte that a file names.
    pub(super) fn at(bytes: &'a [u8], at: u64) -> Result<Self> {
        match usize::try_from(at) {
            Ok(at) if at <= bytes.len() => Ok(Self { bytes, at }),
            _ => Err(bad(format_args!("refers to byte {at} of {}", bytes.len()))),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| self.too_short(count))?;
        self.at += count;
        Ok(taken)
    }

    fn too_short(&self, count: usize) -> Error {
        let left = self.bytes.len() - self.at;
        bad(format_args!("{count} bytes are needed at byte {}, and {left} are left: truncated?", self.at))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// [`u64`](Self::u64) as a size of this machine.
    pub(super) fn size(&mut self) -> Result<usize> {
        let size = self.u64()?;
        usize::try_from(size).map_err(|_| bad(format_args!("a size of {size}")))
    }

    /// Text up to a byte that ends it, which is passed over.
    pub(super) fn until(&mut self, end: u8) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == end).ok_or_else(|| self.too_short(rest.len() + 1))?;
        self.at += len + 1;
        Ok(&rest[..len])
    }
}

/// Text of a file inside a message: without control characters, and cut where it is long.
pub(super) fn shown(text: &[u8]) -> String {
    const MOST: usize = 80;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MOST)]);
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}
