//! HDF5, as much of it as Keras writes: groups, contiguous datasets of floats, attributes of text.
//!
//! A reader of our own: those that are there bring 9 to 37 crates or a C library, for a format that can refer
//! to other files, to itself and to tables of any size. This one knows addresses inside the file, and bounds
//! what it looks at and what it copies by the file's length. What it does not know is refused by name:
//! chunks, filters, other files.

use std::cell::Cell;

use super::super::bytes::{Cursor, shown};
use super::super::values::{bfloat, half};
use super::super::{bad, unsupported};
use super::dense;
use crate::error::Result;
use crate::memory::with_room;

/// How an HDF5 file begins.
pub(super) const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// An address that means none.
pub(super) const NOWHERE: u64 = u64::MAX;

/// Kinds of messages in an object's header.
mod message {
    pub(super) const DATASPACE: u16 = 1;
    pub(super) const LINK_INFO: u16 = 2;
    pub(super) const DATATYPE: u16 = 3;
    pub(super) const LINK: u16 = 6;
    pub(super) const EXTERNAL: u16 = 7;
    pub(super) const LAYOUT: u16 = 8;
    pub(super) const FILTERS: u16 = 11;
    pub(super) const ATTRIBUTE: u16 = 12;
    pub(super) const CONTINUATION: u16 = 16;
    pub(super) const SYMBOL_TABLE: u16 = 17;
    pub(super) const ATTRIBUTE_INFO: u16 = 21;
}

/// A file.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) bytes: &'a [u8],
    root: u64,
    /// Nodes, messages and entries that may still be looked at.
    steps: Cell<usize>,
    /// Bytes of values that may still be copied.
    copied: Cell<usize>,
}

/// What a group has: a name, and where the object is.
pub(super) type Link<'a> = (&'a str, u64);

/// An object: a group or a dataset.
#[derive(Debug)]
pub(super) struct Object<'a> {
    messages: Vec<Message<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    kind: u16,
    data: &'a [u8],
}

/// An array of floats.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl<'a> File<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(bad("HDF5: does not begin as HDF5 files do"));
        }
        let version = cursor.u8()?;
        let root = match version {
            0 | 1 => {
                cursor.take(4)?;
                let sizes = [cursor.u8()?, cursor.u8()?];
                check_sizes(sizes)?;
                cursor.take(if version == 0 { 9 } else { 13 })?;
                check_base(cursor.u64()?)?;
                // Free space, before the end; drivers and the root's name behind it.
                cursor.u64()?;
                check_end(bytes, cursor.u64()?)?;
                cursor.take(16)?;
                cursor.u64()?
            }
            2 | 3 => {
                let sizes = [cursor.u8()?, cursor.u8()?];
                check_sizes(sizes)?;
                cursor.u8()?;
                check_base(cursor.u64()?)?;
                cursor.u64()?;
                check_end(bytes, cursor.u64()?)?;
                cursor.u64()?
            }
            other => return Err(unsupported(format_args!("HDF5: superblock of version {other}"))),
        };
        let steps = Cell::new(bytes.len() / 4 + 1024);
        Ok(Self { bytes, root, steps, copied: Cell::new(bytes.len().saturating_mul(2)) })
    }

    /// One more thing that is looked at: what refers to itself ends here.
    pub(super) fn step(&self) -> Result<()> {
        let left = self.steps.get().checked_sub(1);
        self.steps.set(left.ok_or_else(|| bad("HDF5: refers to itself, or again and again to the same"))?);
        Ok(())
    }

    pub(super) fn at(&self, address: u64) -> Result<Cursor<'a>> {
        Cursor::at(self.bytes, address)
    }

    /// At a structure that begins with a signature.
    pub(super) fn signed(&self, address: u64, signature: &[u8]) -> Result<Cursor<'a>> {
        self.step()?;
        let mut cursor = self.at(address)?;
        if cursor.take(signature.len())? == signature {
            Ok(cursor)
        } else {
            Err(bad(format_args!("HDF5: no {} at byte {address}", shown(signature))))
        }
    }

    pub(super) fn root(&self) -> Result<Object<'a>> {
        self.object(self.root)
    }

    /// The object at a path below the root; `None` where there is none.
    pub(super) fn find(&self, path: &str) -> Result<Option<Object<'a>>> {
        let mut object = self.root()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match self.links(&object)?.into_iter().find(|(link, _)| *link == name) {
                Some((_, address)) => object = self.object(address)?,
                None => return Ok(None),
            }
        }
        Ok(Some(object))
    }

    pub(super) fn object(&self, address: u64) -> Result<Object<'a>> {
        self.step()?;
        let mut cursor = self.at(address)?;
        let mut messages = Vec::new();
        match cursor.u8()? {
            1 => {
                cursor.take(7)?;
                let size = cursor.u32()? as usize;
                cursor.take(4)?;
                self.messages(cursor.take(size)?, None, &mut messages)?;
            }
            b'O' => {
                let mut cursor = self.signed(address, b"OHDR")?;
                let (version, flags) = (cursor.u8()?, cursor.u8()?);
                if version != 2 {
                    return Err(unsupported(format_args!("HDF5: object header of version {version}")));
                }
                cursor.take(if flags & 0x20 == 0 { 0 } else { 16 })?;
                cursor.take(if flags & 0x10 == 0 { 0 } else { 4 })?;
                let size = sized(&mut cursor, flags & 3)?;
                self.messages(cursor.take(size)?, Some(flags), &mut messages)?;
            }
            _ => return Err(bad(format_args!("HDF5: no object at byte {address}"))),
        }
        Ok(Object { messages })
    }

    /// The messages of a block, and of those that continue it. `flags` are those of a header of version 2.
    fn messages(&self, block: &'a [u8], flags: Option<u8>, to: &mut Vec<Message<'a>>) -> Result<()> {
        let mut blocks = vec![block];
        while let Some(block) = blocks.pop() {
            let mut cursor = Cursor::new(block);
            let least = if flags.is_some() { 4 } else { 8 };
            // What is shorter is a gap.
            while block.len() - cursor.position() >= least {
                self.step()?;
                let kind = if flags.is_some() { cursor.u8()?.into() } else { cursor.u16()? };
                let size = cursor.u16()?;
                let shared = cursor.u8()? & 2 != 0;
                match flags {
                    None => cursor.take(3)?,
                    Some(flags) => cursor.take(if flags & 4 == 0 { 0 } else { 2 })?,
                };
                let data = cursor.take(size.into())?;
                if kind == message::CONTINUATION {
                    let mut data = Cursor::new(data);
                    let (address, size) = (data.u64()?, data.size()?);
                    let block = self.at(address)?.take(size)?;
                    blocks.push(match flags {
                        None => block,
                        Some(_) => {
                            let inside =
                                block.strip_prefix(b"OCHK").and_then(|rest| rest.split_last_chunk::<4>());
                            inside.ok_or_else(|| bad("HDF5: a header does not go on where it should"))?.0
                        }
                    });
                } else if shared && [message::DATASPACE, message::DATATYPE].contains(&kind) {
                    return Err(unsupported("HDF5: a datatype that objects share"));
                } else {
                    to.push(Message { kind, data });
                }
            }
        }
        Ok(())
    }

    /// The members of a group; those that lead elsewhere by name are none.
    pub(super) fn links(&self, object: &Object<'a>) -> Result<Vec<Link<'a>>> {
        let mut links = Vec::new();
        for message in &object.messages {
            let mut data = Cursor::new(message.data);
            match message.kind {
                message::SYMBOL_TABLE => {
                    let (tree, heap) = (data.u64()?, data.u64()?);
                    self.tree(tree, self.heap(heap)?, u8::MAX, &mut links)?;
                }
                message::LINK => links.extend(link(message.data)?),
                message::LINK_INFO => {
                    let (_, flags) = (data.u8()?, data.u8()?);
                    data.take(if flags & 1 == 0 { 0 } else { 8 })?;
                    let heap = data.u64()?;
                    if heap != NOWHERE {
                        for entry in dense::entries(self, heap, data.u64()?)? {
                            links.extend(link(entry)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(links)
    }

    /// The text of a local heap.
    fn heap(&self, address: u64) -> Result<&'a [u8]> {
        let mut cursor = self.signed(address, b"HEAP")?;
        cursor.take(4)?;
        let size = cursor.size()?;
        cursor.u64()?;
        self.at(cursor.u64()?)?.take(size)
    }

    /// The entries of a tree of groups, whose level is below `above`.
    fn tree(&self, address: u64, heap: &'a [u8], above: u8, links: &mut Vec<Link<'a>>) -> Result<()> {
        let mut cursor = self.signed(address, b"TREE")?;
        let (kind, level, count) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
        if kind != 0 || level >= above {
            return Err(bad("HDF5: a tree of groups that is none"));
        }
        cursor.take(16)?;
        for _ in 0..count {
            cursor.u64()?;
            let child = cursor.u64()?;
            if level > 0 {
                self.tree(child, heap, level, links)?;
            } else {
                self.symbols(child, heap, links)?;
            }
        }
        Ok(())
    }

    fn symbols(&self, address: u64, heap: &'a [u8], links: &mut Vec<Link<'a>>) -> Result<()> {
        /// How an entry says that it is a link by name.
        const SYMBOLIC: u32 = 2;
        let mut cursor = self.signed(address, b"SNOD")?;
        cursor.take(2)?;
        for _ in 0..cursor.u16()? {
            self.step()?;
            let (name, object, cache) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
            cursor.take(20)?;
            if cache != SYMBOLIC {
                links.push((utf8(Cursor::at(heap, name)?.until(0)?)?, object));
            }
        }
        Ok(())
    }

    /// The values of a dataset; `name` is for messages.
    pub(super) fn floats(&self, object: &Object<'a>, name: &str) -> Result<Array> {
        let name = shown(name.as_bytes());
        for (kind, what) in
            [(message::FILTERS, "filters (compression)"), (message::EXTERNAL, "values in other files")]
        {
            if object.message(kind).is_some() {
                return Err(unsupported(format_args!("HDF5: dataset {name:?}: {what}")));
            }
        }
        let needed =
            |kind| object.message(kind).ok_or_else(|| bad(format_args!("HDF5: {name:?} is no dataset")));
        let dims = dataspace(needed(message::DATASPACE)?)?;
        let Type::Float { bytes, exponent } = datatype(needed(message::DATATYPE)?)? else {
            return Err(unsupported(format_args!("HDF5: dataset {name:?}: values that are no floats")));
        };
        let data = self.layout(needed(message::LAYOUT)?, &name)?;
        let count = dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim));
        let count = count.filter(|count| count.checked_mul(bytes) == Some(data.len()));
        let count = count.ok_or_else(|| {
            bad(format_args!("HDF5: dataset {name:?} of {dims:?} has {} bytes", data.len()))
        })?;
        self.copy(data.len())?;
        let read: fn(&[u8]) -> f32 = match (bytes, exponent) {
            (4, 8) => |bytes| f32::from_le_bytes(first(bytes)),
            (8, 11) => |bytes| f64::from_le_bytes(first(bytes)) as f32,
            (2, 5) => |bytes| half(u16::from_le_bytes(first(bytes))),
            (2, 8) => |bytes| bfloat(u16::from_le_bytes(first(bytes))),
            _ => return Err(unsupported(format_args!("HDF5: dataset {name:?}: floats of {bytes} bytes"))),
        };
        let mut values = with_room(count)?;
        values.extend(data.chunks_exact(bytes).map(read));
        Ok(Array { dims, values })
    }

    /// Values of so many bytes are copied: more often than once or twice no file asks for the same ones.
    fn copy(&self, bytes: usize) -> Result<()> {
        let left = self.copied.get().checked_sub(bytes);
        self.copied.set(left.ok_or_else(|| bad("HDF5: datasets share their bytes"))?);
        Ok(())
    }

    /// Where the values of a dataset lie.
    fn layout(&self, data: &'a [u8], name: &str) -> Result<&'a [u8]> {
        let mut cursor = Cursor::new(data);
        let (version, class) = (cursor.u8()?, cursor.u8()?);
        match (version, class) {
            (3..=5, 0) => {
                let size = cursor.u16()?;
                cursor.take(size.into())
            }
            (3..=5, 1) => {
                let (address, size) = (cursor.u64()?, cursor.size()?);
                // A dataset without values has no address.
                if size == 0 || address == NOWHERE { Ok(&[]) } else { self.at(address)?.take(size) }
            }
            (3..=5, 2) => Err(unsupported(format_args!("HDF5: dataset {name:?}: chunks"))),
            _ => {
                Err(unsupported(format_args!("HDF5: dataset {name:?}: layout {class} of version {version}")))
            }
        }
    }

    /// The text of an attribute, each element of it; `None` where there is none of this name.
    pub(super) fn texts(&self, object: &Object<'a>, name: &str) -> Result<Option<Vec<String>>> {
        for message in &object.messages {
            match message.kind {
                message::ATTRIBUTE => {
                    if let Some(texts) = self.attribute(message.data, name)? {
                        return Ok(Some(texts));
                    }
                }
                message::ATTRIBUTE_INFO => {
                    let mut data = Cursor::new(message.data);
                    let (_, flags) = (data.u8()?, data.u8()?);
                    data.take(if flags & 1 == 0 { 0 } else { 2 })?;
                    let heap = data.u64()?;
                    if heap != NOWHERE {
                        for entry in dense::entries(self, heap, data.u64()?)? {
                            if let Some(texts) = self.attribute(entry, name)? {
                                return Ok(Some(texts));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The text of an attribute, if it has this name.
    fn attribute(&self, data: &'a [u8], wanted: &str) -> Result<Option<Vec<String>>> {
        self.step()?;
        let mut cursor = Cursor::new(data);
        let version = cursor.u8()?;
        let shared = cursor.u8()? & 3 != 0 && version > 1;
        let [name, datatype, dataspace] = [cursor.u16()?, cursor.u16()?, cursor.u16()?].map(usize::from);
        // The first version has each part begin at a multiple of 8.
        let padded = |size: usize| if version == 1 { size.next_multiple_of(8) } else { size };
        if version == 3 {
            cursor.u8()?;
        }
        let name = cursor.take(padded(name))?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if name != wanted.as_bytes() {
            return Ok(None);
        }
        if shared || !(1..=3).contains(&version) {
            return Err(unsupported(format_args!(
                "HDF5: attribute {wanted:?} of version {version}, or shared"
            )));
        }
        let kind = self::datatype(cursor.take(padded(datatype))?)?;
        let dims = self::dataspace(cursor.take(padded(dataspace))?)?;
        let count = dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim));
        let count = count.ok_or_else(|| bad(format_args!("HDF5: attribute {wanted:?} of {dims:?}")))?;
        let mut texts = Vec::new();
        for _ in 0..count {
            self.step()?;
            let text = match kind {
                Type::Text(size) => cursor.take(size)?,
                Type::Variable => self.global(&mut cursor)?,
                Type::Float { .. } | Type::Other => {
                    return Err(unsupported(format_args!("HDF5: attribute {wanted:?} is no text")));
                }
            };
            self.copy(text.len())?;
            let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
            texts.push(utf8(text)?.to_owned());
        }
        Ok(Some(texts))
    }

    /// Text in the global heap that an element refers to.
    fn global(&self, element: &mut Cursor<'a>) -> Result<&'a [u8]> {
        let (len, address, wanted) = (element.u32()?, element.u64()?, element.u32()?);
        if len == 0 {
            return Ok(&[]);
        }
        let mut cursor = self.signed(address, b"GCOL")?;
        cursor.take(4)?;
        let size = cursor.size()?;
        let head = 16;
        let size = size.checked_sub(head).ok_or_else(|| bad("HDF5: a heap smaller than its head"))?;
        let mut cursor = Cursor::new(cursor.take(size)?);
        loop {
            self.step()?;
            let (index, _, _, size) = (cursor.u16()?, cursor.u16()?, cursor.u32()?, cursor.size()?);
            if index == 0 {
                return Err(bad(format_args!("HDF5: the heap has no object {wanted}")));
            }
            let object = cursor.take(size)?;
            if u32::from(index) == wanted {
                return object.get(..len as usize).ok_or_else(|| bad("HDF5: text longer than its place"));
            }
            cursor.take(size.next_multiple_of(8) - size)?;
        }
    }
}

impl<'a> Object<'a> {
    fn message(&self, kind: u16) -> Option<&'a [u8]> {
        self.messages.iter().find(|message| message.kind == kind).map(|message| message.data)
    }

    /// Whether it has values.
    pub(super) fn is_dataset(&self) -> bool {
        self.message(message::LAYOUT).is_some()
    }
}

fn check_sizes(sizes: [u8; 2]) -> Result<()> {
    if sizes == [8, 8] {
        Ok(())
    } else {
        Err(unsupported(format_args!("HDF5: addresses of {sizes:?} bytes")))
    }
}

fn check_base(base: u64) -> Result<()> {
    if base == 0 {
        Ok(())
    } else {
        Err(unsupported(format_args!("HDF5: {base} bytes before the file's own")))
    }
}

fn check_end(bytes: &[u8], end: u64) -> Result<()> {
    let len = bytes.len() as u64;
    if end <= len { Ok(()) } else { Err(bad(format_args!("HDF5: {len} bytes of {end}: truncated"))) }
}

/// A size of 1, 2, 4 or 8 bytes.
pub(super) fn sized(cursor: &mut Cursor<'_>, width: u8) -> Result<usize> {
    Ok(match width {
        0 => cursor.u8()?.into(),
        1 => cursor.u16()?.into(),
        2 => cursor.u32()? as usize,
        _ => cursor.size()?,
    })
}

fn utf8(text: &[u8]) -> Result<&str> {
    str::from_utf8(text).map_err(|_| bad(format_args!("HDF5: {:?} is no UTF-8", shown(text))))
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}

/// A member of a group, as new files have it; `None` where it leads elsewhere by name.
fn link(data: &[u8]) -> Result<Option<Link<'_>>> {
    let mut cursor = Cursor::new(data);
    let (version, flags) = (cursor.u8()?, cursor.u8()?);
    if version != 1 {
        return Err(unsupported(format_args!("HDF5: a link of version {version}")));
    }
    let kind = if flags & 8 == 0 { 0 } else { cursor.u8()? };
    cursor.take(if flags & 4 == 0 { 0 } else { 8 })?;
    cursor.take(if flags & 16 == 0 { 0 } else { 1 })?;
    let len = sized(&mut cursor, flags & 3)?;
    let name = utf8(cursor.take(len)?)?;
    if kind == 0 { Ok(Some((name, cursor.u64()?))) } else { Ok(None) }
}

/// The sizes of a dataspace; none for a single value.
fn dataspace(data: &[u8]) -> Result<Vec<usize>> {
    /// As many as HDF5 has.
    const MOST: u8 = 32;
    let mut cursor = Cursor::new(data);
    let (version, rank, _) = (cursor.u8()?, cursor.u8()?, cursor.u8()?);
    match version {
        1 => {
            cursor.take(5)?;
        }
        2 => {
            // No value at all.
            if cursor.u8()? == 2 {
                return Ok(vec![0]);
            }
        }
        other => return Err(unsupported(format_args!("HDF5: dataspace of version {other}"))),
    }
    if rank > MOST {
        return Err(bad(format_args!("HDF5: {rank} dimensions")));
    }
    (0..rank).map(|_| cursor.size()).collect()
}

/// What values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// Little-endian, with so many bits of exponent.
    Float {
        bytes: usize,
        exponent: u8,
    },
    /// Text of a fixed length.
    Text(usize),
    /// Text of any length, in the global heap.
    Variable,
    Other,
}

fn datatype(data: &[u8]) -> Result<Type> {
    let mut cursor = Cursor::new(data);
    let class = cursor.u8()? & 15;
    let [low, _, _] = cursor.array()?;
    let size = cursor.u32()? as usize;
    Ok(match class {
        1 if low & 0x41 == 0 => {
            cursor.take(5)?;
            Type::Float { bytes: size, exponent: cursor.u8()? }
        }
        3 => Type::Text(size),
        9 if low & 15 == 1 => Type::Variable,
        _ => Type::Other,
    })
}
