//! Zip archives with members as they are, each begun at a multiple of 64 bytes as PyTorch does it, so that it
//! can be mapped into memory.

use super::super::bytes::Bytes;
use super::super::unsupported;
use crate::error::Result;

/// Where the content of a member begins.
const ALIGNMENT: usize = 64;

/// The extra field that PyTorch pads with.
const PADDING: u16 = u16::from_le_bytes(*b"FB");

/// 1980-01-01, the first day that zip knows: one model gives one file.
const DAY: u16 = 0x21;

/// Names are UTF-8.
const FLAGS: u16 = 1 << 11;

/// A member that was written.
struct Member {
    name: String,
    crc: u32,
    len: u32,
    header: u32,
}

/// An archive on its way out.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Bytes,
    members: Vec<Member>,
}

impl Writer {
    /// Adds a member with what `content` writes.
    pub(super) fn add(&mut self, name: &str, content: impl FnOnce(&mut Bytes) -> Result<()>) -> Result<()> {
        /// Of a header without name and extra field, and of an extra field without content.
        const HEADER: usize = 30;
        const FIELD: usize = 4;
        let header = self.bytes.len();
        let begin = header + HEADER + name.len() + FIELD;
        let padding = begin.next_multiple_of(ALIGNMENT) - begin;
        // The content comes first, since the header has its checksum.
        let mut member = Bytes::default();
        content(&mut member)?;
        let crc = crc32fast::hash(member.as_slice());
        let [len, header] = [in_four_bytes(member.len())?, in_four_bytes(header)?];
        let member_of = Member { name: name.to_owned(), crc, len, header };
        let bytes = &mut self.bytes;
        bytes.reserve(HEADER + name.len() + FIELD + padding + member.len())?;
        bytes.put(b"PK\x03\x04")?;
        bytes.u16(20)?;
        member_of.put_common(bytes)?;
        // Field lengths are below 64.
        bytes.u16((FIELD + padding) as u16)?;
        bytes.put(name.as_bytes())?;
        bytes.u16(PADDING)?;
        bytes.u16(padding as u16)?;
        bytes.zeros(padding)?;
        bytes.put(member.as_slice())?;
        self.members.push(member_of);
        Ok(())
    }

    /// The archive with its directory.
    pub(super) fn finish(self) -> Result<Bytes> {
        let Self { mut bytes, members } = self;
        let start = in_four_bytes(bytes.len())?;
        for member in &members {
            bytes.put(b"PK\x01\x02")?;
            bytes.u16(20)?;
            bytes.u16(20)?;
            member.put_common(&mut bytes)?;
            // Extra field, remark, disk, and attributes of two kinds.
            bytes.zeros(12)?;
            bytes.u32(member.header)?;
            bytes.put(member.name.as_bytes())?;
        }
        let len = in_four_bytes(bytes.len())? - start;
        let count = u16::try_from(members.len()).ok().filter(|&count| count < u16::MAX);
        let count = count.ok_or_else(|| too_large(format_args!("{} members", members.len())))?;
        bytes.put(b"PK\x05\x06")?;
        bytes.zeros(4)?;
        bytes.u16(count)?;
        bytes.u16(count)?;
        bytes.u32(len)?;
        bytes.u32(start)?;
        bytes.u16(0)?;
        Ok(bytes)
    }
}

impl Member {
    /// What its header and its entry in the directory share.
    fn put_common(&self, to: &mut Bytes) -> Result<()> {
        to.u16(FLAGS)?;
        // Stored, at midnight.
        to.zeros(4)?;
        to.u16(DAY)?;
        to.u32(self.crc)?;
        to.u32(self.len)?;
        to.u32(self.len)?;
        // Names are short.
        to.u16(self.name.len() as u16)
    }
}

/// A size that the format's first version has room for.
fn in_four_bytes(size: usize) -> Result<u32> {
    let fits = u32::try_from(size).ok().filter(|&size| size < u32::MAX);
    fits.ok_or_else(|| too_large(format_args!("{size} bytes")))
}

fn too_large(what: std::fmt::Arguments<'_>) -> crate::error::Error {
    unsupported(format_args!(
        "a zip of {what}: a file of torch.save is written up to 4 GiB and 65,534 tensors; a name that ends in .safetensors \
         has no such limits"
    ))
}
