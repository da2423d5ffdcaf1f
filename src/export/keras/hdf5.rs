//! HDF5, as much of it as a file of weights needs: groups of few members, and arrays of floats in one piece.
//!
//! The oldest version of each structure, which every reader knows. Members are written before the group that
//! names them, so that all addresses are known; only the file's first block is filled in at the end.

use std::collections::BTreeMap;

use super::super::bytes::Bytes;
use super::unsupported;
use crate::error::Result;

/// What a file has at a name.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// By name, in the order that readers search them by.
    Group(BTreeMap<String, Node<'a>>),
    Array {
        dims: Vec<usize>,
        values: &'a [f32],
    },
}

impl<'a> Node<'a> {
    pub(super) fn group() -> Self {
        Node::Group(BTreeMap::new())
    }

    /// Puts a node at a path below this group.
    pub(super) fn put<'n>(&mut self, mut path: impl Iterator<Item = &'n str>, node: Node<'a>) {
        match (self, path.next()) {
            (Node::Group(members), Some(name)) => {
                members.entry(name.to_owned()).or_insert_with(Node::group).put(path, node);
            }
            (place, _) => *place = node,
        }
    }

    /// Members of the largest group.
    fn largest(&self) -> usize {
        match self {
            Node::Group(members) => members.values().map(Node::largest).max().unwrap_or(0).max(members.len()),
            Node::Array { .. } => 0,
        }
    }

    /// Bytes of all arrays.
    fn bytes(&self) -> usize {
        match self {
            Node::Group(members) => members.values().map(Node::bytes).sum(),
            Node::Array { values, .. } => size_of_val(*values),
        }
    }
}

/// An address that means none.
const NOWHERE: u64 = u64::MAX;

/// Everything begins at a multiple of it.
const ALIGNMENT: usize = 8;

/// Bytes of the file's first block.
const SUPERBLOCK: usize = 96;

/// Half of the lists of members that a group's tree has room for: the library's default.
const LISTS: usize = 16;

/// Half of the members that a list has room for, by default and at most. One number holds for a whole file,
/// and small groups leave as much room empty as large ones use.
const MEMBERS: usize = 4;
const MOST_MEMBERS: usize = 32;

/// Kinds of messages in an object's header.
mod message {
    pub(super) const DATASPACE: u16 = 1;
    pub(super) const DATATYPE: u16 = 3;
    pub(super) const FILL_VALUE: u16 = 5;
    pub(super) const LAYOUT: u16 = 8;
    pub(super) const SYMBOL_TABLE: u16 = 17;
}

/// A little-endian binary32: class and version, order and normalisation, the sign's bit, and the size; then
/// offset and precision, exponent's place and size, mantissa's place and size, and the exponent's bias.
const FLOAT: [u8; 20] = [0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];

/// Version 2: allocated late, written where somebody sets it, and nobody has.
const NO_FILL_VALUE: [u8; 8] = [2, 2, 2, 1, 0, 0, 0, 0];

/// The file of a group.
pub(super) fn file(root: &Node<'_>) -> Result<Bytes> {
    let largest = root.largest();
    let members = largest.div_ceil(4 * LISTS).max(MEMBERS);
    if members > MOST_MEMBERS {
        return Err(unsupported(format_args!(
            "{largest} layers with weights: a .weights.h5 is written of up to {}",
            4 * LISTS * MOST_MEMBERS
        )));
    }
    let mut writer = Writer { bytes: Bytes::with_room(SUPERBLOCK + root.bytes())?, members };
    writer.bytes.zeros(SUPERBLOCK)?;
    let root = writer.node(root)?;
    let superblock = superblock(&root, members, writer.bytes.len())?;
    writer.bytes.overwrite(0, superblock.as_slice());
    Ok(writer.bytes)
}

/// Where an object is; of a group also its tree and its names.
struct Written {
    header: u64,
    group: Option<[u64; 2]>,
}

fn superblock(root: &Written, members: usize, end: usize) -> Result<Bytes> {
    let mut to = Bytes::default();
    to.put(b"\x89HDF\r\n\x1a\n")?;
    // Versions, and 8 bytes for addresses and for lengths.
    to.put(&[0, 0, 0, 0, 0, 8, 8, 0])?;
    to.u16(members as u16)?;
    to.u16(LISTS as u16)?;
    to.u32(0)?;
    for address in [0, NOWHERE, end as u64, NOWHERE] {
        to.u64(address)?;
    }
    entry(&mut to, 0, root)?;
    Ok(to)
}

/// A member of a group, by where its name stands among the names.
fn entry(to: &mut Bytes, name: usize, written: &Written) -> Result<()> {
    to.u64(name as u64)?;
    to.u64(written.header)?;
    // Whether what is known of a group stands here, too.
    to.u32(written.group.is_some().into())?;
    to.u32(0)?;
    let [tree, names] = written.group.unwrap_or_default();
    to.u64(tree)?;
    to.u64(names)
}

/// A file on its way out.
struct Writer {
    bytes: Bytes,
    /// Half of the members that a list has room for.
    members: usize,
}

impl Writer {
    /// Writes a node and everything below it.
    fn node(&mut self, node: &Node<'_>) -> Result<Written> {
        match node {
            Node::Array { dims, values } => self.array(dims, values),
            Node::Group(members) => {
                let mut written = Vec::new();
                for (name, member) in members {
                    written.push((name.as_str(), self.node(member)?));
                }
                self.group(&written)
            }
        }
    }

    /// The next address.
    fn here(&mut self) -> Result<u64> {
        let len = self.bytes.len();
        self.bytes.zeros(len.next_multiple_of(ALIGNMENT) - len)?;
        Ok(self.bytes.len() as u64)
    }

    fn array(&mut self, dims: &[usize], values: &[f32]) -> Result<Written> {
        let data = self.here()?;
        self.bytes.reserve(size_of_val(values))?;
        values.iter().try_for_each(|value| self.bytes.put(&value.to_le_bytes()))?;
        let mut dataspace = Bytes::default();
        // Version 1; a weight has two dimensions at most.
        dataspace.put(&[1, dims.len() as u8, 0, 0, 0, 0, 0, 0])?;
        dims.iter().try_for_each(|&dim| dataspace.u64(dim as u64))?;
        let mut layout = Bytes::default();
        // Version 3, in one piece.
        layout.put(&[3, 1])?;
        layout.u64(data)?;
        layout.u64(size_of_val(values) as u64)?;
        let header = self.header(&[
            (message::DATASPACE, dataspace.as_slice()),
            (message::DATATYPE, &FLOAT),
            (message::FILL_VALUE, &NO_FILL_VALUE),
            (message::LAYOUT, layout.as_slice()),
        ])?;
        Ok(Written { header, group: None })
    }

    /// An object's header, version 1. Messages are padded.
    fn header(&mut self, messages: &[(u16, &[u8])]) -> Result<u64> {
        let address = self.here()?;
        let size = |data: &[u8]| data.len().next_multiple_of(ALIGNMENT);
        let all: usize = messages.iter().map(|(_, data)| 8 + size(data)).sum();
        let to = &mut self.bytes;
        to.u16(1)?;
        to.u16(messages.len() as u16)?;
        // Referred to once.
        to.u32(1)?;
        to.u32(all as u32)?;
        to.u32(0)?;
        for (kind, data) in messages {
            to.u16(*kind)?;
            to.u16(size(data) as u16)?;
            to.u32(0)?;
            to.put(data)?;
            to.zeros(size(data) - data.len())?;
        }
        Ok(address)
    }

    /// A group of members that are written, in the order of their names.
    fn group(&mut self, members: &[(&str, Written)]) -> Result<Written> {
        // The first name is empty: it comes before all others.
        let mut names = Bytes::default();
        names.zeros(ALIGNMENT)?;
        let mut places = Vec::new();
        for (name, _) in members {
            places.push(names.len());
            names.put(name.as_bytes())?;
            let ended = (name.len() + 1).next_multiple_of(ALIGNMENT);
            names.zeros(ended - name.len())?;
        }
        let heap = self.names(&names)?;
        let mut lists = Vec::new();
        for (members, places) in members.chunks(2 * self.members).zip(places.chunks(2 * self.members)) {
            lists.push((self.list(members, places)?, places.last().copied().unwrap_or(0)));
        }
        let tree = self.tree(&lists)?;
        let mut table = Bytes::default();
        table.u64(tree)?;
        table.u64(heap)?;
        let header = self.header(&[(message::SYMBOL_TABLE, table.as_slice())])?;
        Ok(Written { header, group: Some([tree, heap]) })
    }

    /// A local heap of names, without room for more.
    fn names(&mut self, names: &Bytes) -> Result<u64> {
        /// No block of it is free.
        const NONE_FREE: u64 = 1;
        const HEAD: u64 = 32;
        let heap = self.here()?;
        let to = &mut self.bytes;
        to.put(b"HEAP")?;
        to.u32(0)?;
        to.u64(names.len() as u64)?;
        to.u64(NONE_FREE)?;
        to.u64(heap + HEAD)?;
        to.put(names.as_slice())?;
        Ok(heap)
    }

    /// A list of members, with room for as many as any has.
    fn list(&mut self, members: &[(&str, Written)], places: &[usize]) -> Result<u64> {
        const ENTRY: usize = 40;
        let list = self.here()?;
        self.bytes.put(b"SNOD")?;
        self.bytes.put(&[1, 0])?;
        self.bytes.u16(members.len() as u16)?;
        for ((_, member), &place) in members.iter().zip(places) {
            entry(&mut self.bytes, place, member)?;
        }
        self.bytes.zeros((2 * self.members - members.len()) * ENTRY)?;
        Ok(list)
    }

    /// The tree of a group's lists, each with the place of its last name: one node.
    fn tree(&mut self, lists: &[(u64, usize)]) -> Result<u64> {
        let tree = self.here()?;
        let to = &mut self.bytes;
        to.put(b"TREE")?;
        // Of a group, the lowest level.
        to.put(&[0, 0])?;
        to.u16(lists.len() as u16)?;
        to.u64(NOWHERE)?;
        to.u64(NOWHERE)?;
        // Between two lists stands the last name of the first.
        to.u64(0)?;
        for &(list, last) in lists {
            to.u64(list)?;
            to.u64(last as u64)?;
        }
        to.zeros((2 * LISTS - lists.len()) * 2 * size_of::<u64>())?;
        Ok(tree)
    }
}
