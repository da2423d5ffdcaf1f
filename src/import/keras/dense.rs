//! Groups and attributes of many entries in new HDF5 files: a fractal heap has them, and a tree has their
//! places.

use super::super::bytes::Cursor;
use super::super::{bad, unsupported};
use super::hdf5::{File, NOWHERE};
use crate::error::Result;

/// The parts of a heap's header that are needed to find an object.
struct Heap {
    id_len: usize,
    /// Blocks of the first two rows have this size, and each row after them has twice the last one's.
    start_block: u64,
    largest_direct: u64,
    /// Blocks a row.
    width: u64,
    /// Bits of an offset in the heap.
    offset_bits: u16,
    root: u64,
    /// Rows of the root, where that is no block of objects itself.
    rows: u16,
    largest_object: u64,
}

/// Where an object is: its place in the heap and its length.
type Place = (u64, usize);

/// The objects of a heap that a tree refers to.
pub(super) fn entries<'a>(file: &File<'a>, heap: u64, tree: u64) -> Result<Vec<&'a [u8]>> {
    let heap = Heap::read(file, heap)?;
    let mut entries = Vec::new();
    for place in places(file, &heap, tree)? {
        entries.push(heap.object(file, place)?);
    }
    Ok(entries)
}

impl Heap {
    fn read(file: &File<'_>, address: u64) -> Result<Self> {
        let mut cursor = file.signed(address, b"FRHP")?;
        cursor.u8()?;
        let id_len = cursor.u16()?.into();
        let filters = cursor.u16()?;
        cursor.u8()?;
        let largest_object = cursor.u32()?.into();
        if filters != 0 {
            return Err(unsupported("HDF5: a group with filters"));
        }
        // Huge objects, free space, and how many of each there are.
        cursor.take(12 * 8)?;
        let width = cursor.u16()?.into();
        let (start_block, largest_direct) = (cursor.u64()?, cursor.u64()?);
        let offset_bits = cursor.u16()?;
        cursor.u16()?;
        let root = cursor.u64()?;
        let rows = cursor.u16()?;
        if start_block == 0 || width == 0 || largest_direct < start_block || offset_bits > 64 {
            return Err(bad("HDF5: a heap of blocks without size"));
        }
        Ok(Self { id_len, start_block, largest_direct, width, offset_bits, root, rows, largest_object })
    }

    fn offset_len(&self) -> usize {
        usize::from(self.offset_bits).div_ceil(8)
    }

    /// Bytes that the length of an object takes in its place.
    fn length_len(&self) -> usize {
        let most = self.largest_direct.min(self.largest_object).max(1);
        (most.ilog2() as usize) / 8 + 1
    }

    /// Place and length in an object's identifier.
    fn place(&self, id: &[u8]) -> Result<Place> {
        let mut cursor = Cursor::new(id);
        if cursor.u8()? & 0x30 != 0 {
            return Err(unsupported("HDF5: a group with entries outside its heap"));
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |all, &byte| all << 8 | u64::from(byte));
        let offset = number(cursor.take(self.offset_len())?);
        let length = number(cursor.take(self.length_len())?);
        Ok((offset, usize::try_from(length).unwrap_or(usize::MAX)))
    }

    /// The size of the blocks of a row.
    fn block(&self, row: u64) -> Option<u64> {
        let doublings = u32::try_from(row.saturating_sub(1)).ok().filter(|&doublings| doublings < 64)?;
        self.start_block.checked_mul(1 << doublings)
    }

    fn object<'a>(&self, file: &File<'a>, (offset, len): Place) -> Result<&'a [u8]> {
        let lost = || bad("HDF5: an entry outside the heap");
        let (mut address, mut begin, mut rows) = (self.root, 0u64, u64::from(self.rows));
        // Each turn goes into a smaller block.
        while rows > 0 {
            let mut cursor = file.signed(address, b"FHIB")?;
            cursor.take(1 + 8 + self.offset_len())?;
            let mut found = None;
            'rows: for row in 0..rows {
                let size = self.block(row).ok_or_else(lost)?;
                for _ in 0..self.width {
                    file.step()?;
                    let child = cursor.u64()?;
                    let end = begin.checked_add(size).ok_or_else(lost)?;
                    if offset < end {
                        found = Some((child, size));
                        break 'rows;
                    }
                    begin = end;
                }
            }
            let (child, size) = found.ok_or_else(lost)?;
            // A block too large to have objects has rows of blocks again, which together are as large.
            let inside = match size.checked_div(self.largest_direct) {
                Some(0 | 1) => 0,
                _ => (1..=rows).find(|&more| self.rows_size(more) == Some(size)).ok_or_else(lost)?,
            };
            if inside >= rows && inside > 0 {
                return Err(lost());
            }
            (address, rows) = (child, inside);
        }
        if address == NOWHERE {
            return Err(lost());
        }
        file.signed(address, b"FHDB")?;
        // Offsets count from the beginning of the block, its head and checksum among it.
        let within = offset.checked_sub(begin).and_then(|within| address.checked_add(within));
        file.at(within.ok_or_else(lost)?)?.take(len)
    }

    /// Bytes that so many rows of blocks hold.
    fn rows_size(&self, rows: u64) -> Option<u64> {
        (0..rows).try_fold(0u64, |all, row| all.checked_add(self.block(row)?.checked_mul(self.width)?))
    }
}

/// The places that a tree of version 2 has, of links or attributes by name.
fn places(file: &File<'_>, heap: &Heap, address: u64) -> Result<Vec<Place>> {
    /// Trees of links and of attributes, each by name.
    const BY_NAME: [u8; 2] = [5, 8];
    let mut cursor = file.signed(address, b"BTHD")?;
    let (version, kind) = (cursor.u8()?, cursor.u8()?);
    if version != 0 || !BY_NAME.contains(&kind) {
        return Err(unsupported(format_args!("HDF5: a tree of kind {kind}")));
    }
    let node = cursor.u32()?;
    let record = usize::from(cursor.u16()?);
    let depth = cursor.u16()?;
    cursor.take(2)?;
    let (root, count) = (cursor.u64()?, cursor.u16()?);
    let least = heap.id_len + if kind == 5 { 4 } else { 0 };
    if record < least || record == 0 {
        return Err(bad("HDF5: a tree of empty records"));
    }
    let tree = Tree { heap, node, record, of_links: kind == 5 };
    let mut places = Vec::new();
    if count > 0 {
        tree.node(file, root, (count.into(), depth), &mut places)?;
    }
    Ok(places)
}

struct Tree<'h> {
    heap: &'h Heap,
    /// Bytes of a node and of a record.
    node: u32,
    record: usize,
    of_links: bool,
}

impl Tree<'_> {
    /// The records of a node and of those below it.
    fn node(
        &self,
        file: &File<'_>,
        address: u64,
        (count, depth): (usize, u16),
        places: &mut Vec<Place>,
    ) -> Result<()> {
        let signature: &[u8] = if depth == 0 { b"BTLF" } else { b"BTIN" };
        let mut cursor = file.signed(address, signature)?;
        cursor.take(2)?;
        for _ in 0..count {
            file.step()?;
            let record = cursor.take(self.record)?;
            // A link's hash stands first, an attribute's place.
            let id = if self.of_links { record.get(4..) } else { Some(record) };
            let id = id.and_then(|id| id.get(..self.heap.id_len));
            places.push(self.heap.place(id.ok_or_else(|| bad("HDF5: a short record"))?)?);
        }
        if depth == 0 {
            return Ok(());
        }
        if depth > 1 {
            return Err(unsupported(format_args!("HDF5: a group with a tree of {} levels", depth + 1)));
        }
        // Records that a leaf can have, whose number takes as few bytes as it needs.
        let most = (self.node as usize).saturating_sub(10) / self.record;
        let width = (most.max(1).ilog2() as usize) / 8 + 1;
        for _ in 0..=count {
            let child = cursor.u64()?;
            let count = cursor.take(width)?.iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte));
            self.node(file, child, (count, 0), places)?;
        }
        Ok(())
    }
}
