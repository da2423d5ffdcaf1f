//! The safetensors format: eight bytes with the header's length, the header in JSON, and the tensors' bytes
//! behind it.
//!
//! Read and written by a few lines of our own: the crate of that name takes a key that is there twice, adds
//! up sizes unchecked, keeps metadata in an order that changes from run to run, and wants everything in
//! memory at once.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::json::{Json, Object, Quoted, Text};
use super::{as_bad_format, bad, file, prefixed};
use crate::error::{Error, Result};
use crate::layers::Weight;
use crate::memory::{checked_product, with_room};

/// The longest header that the format's own readers take.
const LONGEST_HEADER: u64 = 100_000_000;

const METADATA: &str = "__metadata__";

/// The name of a tensor.
#[derive(Clone, Copy)]
pub(super) enum Name {
    /// A weight of a layer, counted from 0 over all layers.
    Weight(usize, Weight),
    /// What the optimizer keeps beside a weight, counted from 0.
    Slot(usize, usize, Weight),
    /// An array of states that a recurrent layer keeps, counted from 0 over all arrays of all layers.
    State(usize),
}

impl Name {
    /// The shape in a file: Keras's, where a bias of one row has one dimension.
    fn shape_in_file(self, shape: &[usize; 2]) -> &[usize] {
        match self {
            Name::Weight(_, Weight::Bias | Weight::BackwardBias)
            | Name::Slot(_, _, Weight::Bias | Weight::BackwardBias)
                if shape[0] == 1 =>
            {
                &shape[1..]
            }
            Name::Weight(..) | Name::Slot(..) | Name::State(_) => shape,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Name::Weight(layer, which) => write!(formatter, "layers.{layer}.{}", which.name()),
            Name::Slot(slot, layer, which) => {
                write!(formatter, "slot.{slot}.layers.{layer}.{}", which.name())
            }
            Name::State(array) => write!(formatter, "state.{array}"),
        }
    }
}

/// A tensor to be written. The shape is a weight's, where a bias has a row, or two.
pub(super) struct Tensor<'a> {
    pub(super) name: Name,
    pub(super) shape: [usize; 2],
    pub(super) values: Cow<'a, [f32]>,
}

/// A file to be written: its header, and the arrays behind it. Weights and slots are not copied.
pub(crate) struct Image<'a> {
    header: Vec<u8>,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct TensorObject<'a> {
    dtype: &'a str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

struct HeaderObject<'a, T> {
    metadata: &'a [(&'a str, &'a str)],
    /// Names and shapes, in the order of the data.
    tensors: T,
}

struct MetadataObject<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for MetadataObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl<N: fmt::Display, S: AsRef<[usize]>, T: Iterator<Item = (N, S)> + Clone> Serialize
    for HeaderObject<'_, T>
{
    fn serialize<Z: Serializer>(&self, serializer: Z) -> std::result::Result<Z::Ok, Z::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, &MetadataObject(self.metadata))?;
        let mut start = 0;
        for (name, shape) in self.tensors.clone() {
            let shape = shape.as_ref();
            let end = start + shape.iter().product::<usize>() * size_of::<f32>();
            let object = TensorObject { dtype: "F32", shape, data_offsets: [start, end] };
            map.serialize_entry(&format_args!("{name}"), &object)?;
            start = end;
        }
        map.end()
    }
}

/// The header of a file whose tensors are floats and lie one behind the other, without the eight bytes of its
/// length.
pub(crate) fn header<N: fmt::Display, S: AsRef<[usize]>>(
    metadata: &[(&str, &str)],
    tensors: impl Iterator<Item = (N, S)> + Clone,
) -> Result<Vec<u8>> {
    let mut header = Text::default();
    serde_json::to_writer(&mut header, &HeaderObject { metadata, tensors })
        .and_then(|()| {
            // Spaces at the end of the header are the format's own way to align the data.
            let spaces = header.0.len().next_multiple_of(size_of::<u64>()) - header.0.len();
            header.write_all(&b"       "[..spaces]).map_err(serde_json::Error::io)
        })
        .map_err(|_| Error::OutOfMemory { bytes: header.0.capacity() })?;
    Ok(header.0)
}

impl<'a> Image<'a> {
    pub(super) fn new(metadata: &[(&str, &str)], tensors: Vec<Tensor<'a>>) -> Result<Self> {
        let named = tensors.iter().map(|tensor| (tensor.name, tensor.name.shape_in_file(&tensor.shape)));
        let header = header(metadata, named)?;
        Ok(Self { header, tensors })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        let data: usize = self.tensors.iter().map(|tensor| size_of_val(&tensor.values[..])).sum();
        size_of::<u64>() + self.header.len() + data
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        /// Few calls, and no more than the stack has room for.
        const VALUES_AT_A_TIME: usize = 1024;
        out.write_all(&(self.header.len() as u64).to_le_bytes())?;
        out.write_all(&self.header)?;
        let mut bytes = [0; VALUES_AT_A_TIME * size_of::<f32>()];
        for values in self.tensors.iter().flat_map(|tensor| tensor.values.chunks(VALUES_AT_A_TIME)) {
            for (to, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *to = value.to_le_bytes();
            }
            out.write_all(&bytes[..size_of_val(values)])?;
        }
        Ok(())
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Text(with_room(self.len())?);
        // It has room for all.
        self.write(&mut bytes).map_err(|_| Error::OutOfMemory { bytes: self.len() })?;
        Ok(bytes.0)
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        file::replace(path, &|out| self.write(out)).map_err(|source| Error::Io { path: path.into(), source })
    }
}

/// Where a file's bytes come from: a file, or memory.
pub(super) struct Source<R> {
    reader: R,
    len: u64,
    /// Empty where the bytes are in memory.
    path: PathBuf,
}

impl Source<File> {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (reader, len) = file::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Ok(Self { reader, len, path: path.into() })
    }
}

impl<'a> Source<Cursor<&'a [u8]>> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { reader: Cursor::new(bytes), len: bytes.len() as u64, path: PathBuf::new() }
    }
}

impl<R: Read + Seek> Source<R> {
    fn read(&mut self, to: &mut [u8]) -> Result<()> {
        self.reader.read_exact(to).map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// The text of the header. What it says is not looked at yet.
    pub(super) fn header(&mut self) -> Result<String> {
        let total = self.len;
        let Some(rest) = total.checked_sub(size_of::<u64>() as u64) else {
            return Err(bad(format_args!(
                "{total} bytes are too few for a safetensors file: it begins with 8"
            )));
        };
        let mut size = [0; size_of::<u64>()];
        self.read(&mut size)?;
        let size = u64::from_le_bytes(size);
        if size > rest {
            return Err(bad(format_args!(
                "the header should have {size} bytes, and only {rest} follow its length: not a safetensors file, or \
                 truncated"
            )));
        }
        if size > LONGEST_HEADER {
            return Err(bad(format_args!(
                "the header has {size} bytes, and safetensors files have at most {LONGEST_HEADER}"
            )));
        }
        // At most 100 MB.
        let size = size as usize;
        let mut header = with_room(size)?;
        header.resize(size, 0);
        self.read(&mut header)?;
        String::from_utf8(header)
            .map_err(|error| bad(format_args!("safetensors header of {size} bytes: {error}")))
    }

    /// Reads values that lie at this place in the file.
    pub(super) fn floats(&mut self, at: u64, to: &mut [f32]) -> Result<()> {
        const VALUES_AT_A_TIME: usize = 1024;
        let sought = self.reader.seek(SeekFrom::Start(at));
        sought.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        let mut bytes = [0; VALUES_AT_A_TIME * size_of::<f32>()];
        for values in to.chunks_mut(VALUES_AT_A_TIME) {
            let bytes = &mut bytes[..size_of_val(values)];
            self.read(bytes)?;
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    /// Says in a message which file is meant.
    pub(super) fn named(&self, error: Error) -> Error {
        match error {
            Error::BadFormat(message) if self.path != Path::new("") => {
                Error::BadFormat(format!("{}: {message}", self.path.display()))
            }
            other => other,
        }
    }

    pub(super) fn tensors<'a>(&self, header: &'a str) -> Result<Tensors<'a>> {
        Tensors::parse(header, self.len)
    }
}

/// A tensor of a file that is not elman's.
pub(crate) struct OtherTensor<'a> {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: &'a [u8],
}

/// Whether a safetensors file is of somebody else: its metadata does not name elman, and names of tensors are PyTorch's.
/// What cannot be read is nobody's.
pub(crate) fn is_of_others(header: &str) -> bool {
    let parts = || {
        let objects = Json::new(header).object()?;
        let metadata = objects.get(METADATA).unwrap_or(Json::new("{}")).object()?;
        let format = metadata.get("format").map(|mut value| value.string()).transpose()?;
        Ok::<_, Error>(
            format.is_none_or(|format| format != "elman")
                && objects.iter().any(|(name, _)| name.contains("weight")),
        )
    };
    parts().unwrap_or(false)
}

/// All tensors of a file.
pub(crate) fn all_tensors(bytes: &[u8]) -> Result<Vec<OtherTensor<'_>>> {
    /// More dimensions than any weight has.
    const MOST_DIMENSIONS: usize = 8;
    let mut source = Source::of(bytes);
    let header = source.header()?;
    let tensors = source.tensors(&header)?;
    // Where it lies in memory, so does the data.
    let data = &bytes[tensors.data as usize..];
    let mut all = with_room(tensors.count())?;
    for (name, object) in tensors.objects.iter().filter(|(name, _)| *name != METADATA) {
        let mut said = Said::read(name, object)?;
        let mut shape = Vec::new();
        said.shape.list(|json| {
            if shape.len() == MOST_DIMENSIONS {
                return Err(bad(format_args!(
                    "tensor {} has more than {MOST_DIMENSIONS} dimensions",
                    Quoted(name)
                )));
            }
            shape.push(json.size()?);
            Ok(())
        })?;
        let [start, end] = said.offsets;
        let (name, dtype) = (name.to_owned(), said.dtype.into_owned());
        all.push(OtherTensor { name, dtype, shape, bytes: &data[start..end] });
    }
    Ok(all)
}

/// What a header says of its tensors: no two overlap, and together they are all of the data.
pub(super) struct Tensors<'a> {
    metadata: Object<'a>,
    /// The metadata among them.
    objects: Object<'a>,
    /// Which of them nobody has asked for.
    left: Vec<bool>,
    /// Where the data begins in the file.
    data: u64,
}

/// What a header says of one tensor.
struct Said<'a> {
    dtype: Cow<'a, str>,
    shape: Json<'a>,
    offsets: [usize; 2],
}

impl<'a> Said<'a> {
    fn read(name: &str, mut object: Json<'a>) -> Result<Self> {
        let object = object.object()?;
        let get = |key| {
            let value = object.get(key);
            value.ok_or_else(|| bad(format_args!("tensor {} has no \"{key}\"", Quoted(name))))
        };
        if let Some((key, _)) =
            object.iter().find(|(key, _)| !["dtype", "shape", "data_offsets"].contains(key))
        {
            return Err(bad(format_args!("tensor {}: unknown key {}", Quoted(name), Quoted(key))));
        }
        let mut offsets = [0; 2];
        let mut count = 0;
        get("data_offsets")?.list(|json| {
            let offset = json.size()?;
            if let Some(place) = offsets.get_mut(count) {
                *place = offset;
            }
            count += 1;
            Ok(())
        })?;
        if count != 2 || offsets[0] > offsets[1] {
            return Err(bad(format_args!(
                "tensor {}: \"data_offsets\" should be its begin and its end",
                Quoted(name)
            )));
        }
        Ok(Self { dtype: get("dtype")?.string()?, shape: get("shape")?, offsets })
    }

    /// Whether the shape is this one; else in words, what it is.
    fn check_shape(&self, expected: &[usize]) -> Result<std::result::Result<(), String>> {
        let mut rank = 0;
        let mut first = [0; 4];
        self.shape.clone().list(|json| {
            let dim = json.size()?;
            if let Some(place) = first.get_mut(rank) {
                *place = dim;
            }
            rank += 1;
            Ok(())
        })?;
        Ok(match first.get(..rank) {
            Some(shape) if shape == expected => Ok(()),
            Some(shape) => Err(format!("{shape:?}")),
            None => Err(format!("{rank} dimensions")),
        })
    }
}

impl<'a> Tensors<'a> {
    fn parse(header: &'a str, file: u64) -> Result<Self> {
        let in_header = |error| prefixed(error, format_args!("safetensors header of {} bytes", header.len()));
        let mut json = Json::new(header);
        let objects = json.object().map_err(in_header)?;
        json.end().map_err(in_header)?;
        let metadata = objects.get(METADATA).unwrap_or(Json::new("{}")).object().map_err(in_header)?;
        metadata.iter().try_for_each(|(_, mut value)| value.string().map(|_| ())).map_err(in_header)?;
        let mut left = with_room(objects.iter().count())?;
        left.extend(objects.iter().map(|(name, _)| name != METADATA));
        // What was read lies in the file: the sum fits.
        let data = size_of::<u64>() as u64 + header.len() as u64;
        let tensors = Self { metadata, objects, left, data };
        tensors.check_places(file - data)?;
        Ok(tensors)
    }

    /// Tensor lies behind tensor, without a gap, to the end of the data.
    fn check_places(&self, data: u64) -> Result<()> {
        let mut places = with_room(self.left.len())?;
        for (name, object) in self.objects.iter().filter(|(name, _)| *name != METADATA) {
            places.push(Said::read(name, object)?.offsets);
        }
        places.sort_unstable();
        let mut end = 0;
        for [start, next] in places {
            if start != end {
                return Err(bad(format_args!(
                    "tensors overlap or leave a gap: one ends at {end}, the next begins at {start}"
                )));
            }
            end = next;
        }
        if end as u64 != data {
            return Err(bad(format_args!(
                "the tensors should have {end} bytes together, got {data}: truncated, or something was appended"
            )));
        }
        Ok(())
    }

    /// How many tensors there are, and the metadata, where that is there.
    pub(super) fn count(&self) -> usize {
        self.left.len()
    }

    /// The value of a metadata key.
    pub(super) fn metadata_entry(&self, key: &str) -> Result<Cow<'a, str>> {
        match self.metadata.get(key) {
            Some(mut value) => value.string(),
            None => Err(bad(format_args!("not an elman file: the metadata has no \"{key}\""))),
        }
    }

    /// Checks that a metadata key has this value.
    pub(super) fn expect(&self, key: &str, expected: &str) -> Result<()> {
        let value = self.metadata_entry(key)?;
        if value == expected {
            Ok(())
        } else {
            Err(bad(format_args!("\"{key}\" should be \"{expected}\", got {}", Quoted(&value))))
        }
    }

    /// Where in the file the values of a tensor lie, which is F32 and of this shape.
    pub(super) fn find(&mut self, name: Name, shape: [usize; 2]) -> Result<u64> {
        let shape = name.shape_in_file(&shape);
        let name = name.to_string();
        let Some((at, object)) = self.objects.find(&name) else {
            return Err(bad(format_args!("tensor \"{name}\" of shape {shape:?} is missing")));
        };
        let said = Said::read(&name, object)?;
        if said.dtype != "F32" {
            return Err(bad(format_args!("tensor \"{name}\" should be F32, got {}", Quoted(&said.dtype))));
        }
        if let Err(got) = said.check_shape(shape)? {
            return Err(bad(format_args!("tensor \"{name}\" should have the shape {shape:?}, got {got}")));
        }
        let [start, end] = said.offsets;
        let bytes = checked_product(&name, shape).map_err(as_bad_format)? * size_of::<f32>();
        if end - start != bytes {
            return Err(bad(format_args!(
                "tensor \"{name}\" of shape {shape:?} should have {bytes} bytes, got {}",
                end - start
            )));
        }
        self.left[at] = false;
        Ok(self.data + start as u64)
    }

    /// No tensor is left over that nobody has asked for.
    pub(super) fn finish(&self, whose: impl fmt::Display) -> Result<()> {
        match self.objects.iter().zip(&self.left).find(|(_, left)| **left) {
            Some(((name, _), _)) => {
                Err(bad(format_args!("tensor {} belongs to nothing of {whose}", Quoted(name))))
            }
            None => Ok(()),
        }
    }
}
