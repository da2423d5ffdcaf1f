//! Zip archives: what `.keras` and PyTorch's files are in.
//!
//! A reader of our own, since both frameworks store their members as they are: such a member is read where it
//! lies, without a copy. Deflated ones, which people who zip again make, may grow to [`MOST_GROWTH`] times
//! their size.

use std::borrow::Cow;

use super::bad;
use super::bytes::{Cursor, shown};
use crate::error::Result;
use crate::memory::with_room;

/// How a zip archive begins.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// How many times its size a deflated member may become: weights with many zeros come to some 20, bombs to
/// 1000.
const MOST_GROWTH: usize = 64;

/// Bytes that any member may become, however few it has.
const LEAST_GROWN: usize = 4096;

const END: &[u8] = b"PK\x05\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const END_64: &[u8] = b"PK\x06\x06";
const ENTRY: &[u8] = b"PK\x01\x02";

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// A member of an archive, as the directory at its end has it.
#[derive(Debug)]
struct Member<'a> {
    name: &'a str,
    flags: u16,
    method: u16,
    crc: u32,
    compressed: usize,
    size: usize,
    header: u64,
}

/// An archive.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    /// By name, each once.
    members: Vec<Member<'a>>,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let (count, start) = directory(bytes)?;
        let mut cursor = Cursor::at(bytes, start)?;
        // An entry has 46 bytes at least.
        let mut members = with_room(count.min(bytes.len() / 46))?;
        for _ in 0..count {
            members.push(member(&mut cursor)?);
        }
        members.sort_unstable_by_key(|member| member.name);
        if let Some(pair) = members.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(bad(format_args!("zip: {} is there twice", shown(pair[0].name.as_bytes()))));
        }
        // Members that share bytes are how small archives become large ones.
        let together = members.iter().fold(0, |sum, member| usize::saturating_add(sum, member.compressed));
        if together > bytes.len() {
            return Err(bad(format_args!(
                "zip: the members should have {together} bytes together, and there are {}",
                bytes.len()
            )));
        }
        Ok(Self { bytes, members })
    }

    /// The names of all members, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.members.iter().map(|member| member.name)
    }

    /// The content of a member; `None` where there is none of this name.
    pub(super) fn read(&self, name: &str) -> Result<Option<Cow<'a, [u8]>>> {
        match self.members.binary_search_by_key(&name, |member| member.name) {
            Ok(at) => self.content(&self.members[at]).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn content(&self, member: &Member<'_>) -> Result<Cow<'a, [u8]>> {
        let wrong = |why: &str| bad(format_args!("zip: {}: {why}", shown(member.name.as_bytes())));
        if member.flags & 1 != 0 {
            return Err(wrong("is encrypted"));
        }
        let mut cursor = Cursor::at(self.bytes, member.header)?;
        if cursor.take(4)? != MAGIC {
            return Err(wrong("the directory refers to what is no member"));
        }
        cursor.take(22)?;
        let (name, extra) = (cursor.u16()?, cursor.u16()?);
        cursor.take(usize::from(name) + usize::from(extra))?;
        let compressed = cursor.take(member.compressed)?;
        let content = match member.method {
            STORED if member.size == member.compressed => Cow::Borrowed(compressed),
            STORED => return Err(wrong("is stored in another size than it has")),
            DEFLATED => Cow::Owned(inflate(compressed, member.size).map_err(|why| wrong(&why))?),
            other => return Err(wrong(&format!("compression method {other}; read are 0 and 8 (deflate)"))),
        };
        if crc32fast::hash(&content) != member.crc {
            return Err(wrong("the content has another checksum than it should have"));
        }
        Ok(content)
    }
}

fn inflate(compressed: &[u8], size: usize) -> std::result::Result<Vec<u8>, String> {
    let most = compressed.len().saturating_mul(MOST_GROWTH).max(LEAST_GROWN);
    if size > most {
        return Err(format!("{} bytes should become {size}; at most {most} are read", compressed.len()));
    }
    let content = miniz_oxide::inflate::decompress_to_vec_with_limit(compressed, size)
        .map_err(|error| format!("deflate: {error}"))?;
    if content.len() == size { Ok(content) } else { Err(format!("has {} bytes, not {size}", content.len())) }
}

/// How many members there are, and where the directory begins.
fn directory(bytes: &[u8]) -> Result<(usize, u64)> {
    /// Of the record at the end, without the remark that may follow it.
    const LEN: usize = 22;
    let Some(last) = bytes.len().checked_sub(LEN) else {
        return Err(bad("zip: too short"));
    };
    let first = last.saturating_sub(usize::from(u16::MAX));
    let ends = |at: &usize| bytes[*at..].starts_with(END);
    let at =
        (first..=last).rev().find(ends).ok_or_else(|| bad("zip: no directory at the end: truncated?"))?;
    let mut cursor = Cursor::at(bytes, at as u64 + 10)?;
    let (count, _, start) = (cursor.u16()?, cursor.u32()?, cursor.u32()?);
    if count != u16::MAX && start != u32::MAX {
        return Ok((count.into(), start.into()));
    }
    let locator = at.checked_sub(20).map(|at| &bytes[at..]).filter(|rest| rest.starts_with(END_64_LOCATOR));
    let locator = locator.ok_or_else(|| bad("zip: the directory of a large archive is missing"))?;
    let mut cursor = Cursor::at(bytes, Cursor::at(locator, 8)?.u64()?)?;
    if cursor.take(4)? != END_64 {
        return Err(bad("zip: the directory of a large archive is missing"));
    }
    cursor.take(28)?;
    let count = cursor.size()?;
    cursor.take(8)?;
    Ok((count, cursor.u64()?))
}

fn member<'a>(cursor: &mut Cursor<'a>) -> Result<Member<'a>> {
    if cursor.take(4)? != ENTRY {
        return Err(bad(format_args!("zip: no entry of the directory at byte {}", cursor.position() - 4)));
    }
    cursor.take(4)?;
    let (flags, method) = (cursor.u16()?, cursor.u16()?);
    cursor.take(4)?;
    let crc = cursor.u32()?;
    let [compressed, size] = [cursor.u32()?, cursor.u32()?];
    let [name, extra, remark] = [cursor.u16()?, cursor.u16()?, cursor.u16()?].map(usize::from);
    cursor.take(8)?;
    let header = cursor.u32()?;
    let name = cursor.take(name)?;
    let name =
        str::from_utf8(name).map_err(|_| bad(format_args!("zip: the name {} is no UTF-8", shown(name))))?;
    let mut large = large_numbers(cursor.take(extra)?)?;
    cursor.take(remark)?;
    // Each number that does not fit is in the extra field instead, in this order.
    let mut number = |small: u32| if small == u32::MAX { large.u64() } else { Ok(small.into()) };
    let (size, compressed, header) = (number(size)?, number(compressed)?, number(header)?);
    let fits =
        |size: u64| usize::try_from(size).map_err(|_| bad(format_args!("zip: a member of {size} bytes")));
    Ok(Member { name, flags, method, crc, compressed: fits(compressed)?, size: fits(size)?, header })
}

/// The part of an extra field that has the numbers of large archives.
fn large_numbers(extra: &[u8]) -> Result<Cursor<'_>> {
    const ZIP64: u16 = 1;
    let mut cursor = Cursor::new(extra);
    while !cursor.is_at_end() {
        // What is no list of fields is some writer's padding.
        let (Ok(kind), Ok(len)) = (cursor.u16(), cursor.u16()) else { break };
        let Ok(field) = cursor.take(len.into()) else { break };
        if kind == ZIP64 {
            return Ok(Cursor::new(field));
        }
    }
    Ok(Cursor::new(&[]))
}
