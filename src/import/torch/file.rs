//! The files of `torch.save`, of today (zip) and of old, and safetensors: named tensors.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::super::bytes::{Cursor, shown};
use super::super::values::{bfloat, half};
use super::super::zip::Archive;
use super::super::{bad, unsupported};
use super::pickle::{Id, Object, Pickle};
use crate::error::Result;
use crate::formats;
use crate::memory::with_room;

/// Dictionaries inside each other.
const DEEPEST: usize = 8;

/// The keys that checkpoints keep a state dict under.
const KEYS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// How values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F32,
    F64,
    F16,
    Bf16,
    /// Whole numbers of so many bytes: counters, which no layer reads.
    Other(usize),
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::F32 => 4,
            Kind::F64 => 8,
            Kind::F16 | Kind::Bf16 => 2,
            Kind::Other(bytes) => bytes,
        }
    }

    fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "FloatStorage" => Kind::F32,
            "DoubleStorage" => Kind::F64,
            "HalfStorage" => Kind::F16,
            "BFloat16Storage" => Kind::Bf16,
            "LongStorage" => Kind::Other(8),
            "IntStorage" => Kind::Other(4),
            "ShortStorage" => Kind::Other(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" => Kind::Other(1),
            _ => return None,
        })
    }

    fn of_safetensors(dtype: &str) -> Option<Self> {
        Some(match dtype {
            "F32" => Kind::F32,
            "F64" => Kind::F64,
            "F16" => Kind::F16,
            "BF16" => Kind::Bf16,
            "I64" | "U64" => Kind::Other(8),
            "I32" | "U32" => Kind::Other(4),
            "I16" | "U16" => Kind::Other(2),
            "I8" | "U8" | "BOOL" => Kind::Other(1),
            _ => return None,
        })
    }
}

/// A named tensor.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    kind: Kind,
    bytes: Rc<Cow<'a, [u8]>>,
    /// In values, as PyTorch has them: where the first is, and how far the next ones are.
    offset: usize,
    strides: Vec<usize>,
}

impl Tensor<'_> {
    /// The values, row by row.
    pub(super) fn floats(&self) -> Result<Vec<f32>> {
        let wrong = |why: String| bad(format_args!("tensor {:?}: {why}", shown(self.name.as_bytes())));
        let read: fn(&[u8]) -> f32 = match self.kind {
            Kind::F32 => |bytes| f32::from_le_bytes(first(bytes)),
            Kind::F64 => |bytes| f64::from_le_bytes(first(bytes)) as f32,
            Kind::F16 => |bytes| half(u16::from_le_bytes(first(bytes))),
            Kind::Bf16 => |bytes| bfloat(u16::from_le_bytes(first(bytes))),
            Kind::Other(_) => return Err(wrong("whole numbers where floats should be".into())),
        };
        let stored = self.bytes.len() / self.kind.bytes();
        let count = self.shape.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim));
        // What lies in several places at once is no weight, and could be of any size.
        let count = count.filter(|&count| count <= stored);
        let count = count.ok_or_else(|| wrong(format!("{:?} values of {stored}", self.shape)))?;
        let reach = self.shape.iter().zip(&self.strides).try_fold(self.offset, |reach, (&dim, &stride)| {
            reach.checked_add(dim.saturating_sub(1).checked_mul(stride)?)
        });
        if count > 0 && reach.is_none_or(|reach| reach >= stored) {
            return Err(wrong(format!("reaches beyond the {stored} values of its storage")));
        }
        let mut values = with_room(count)?;
        for at in 0..count {
            let (mut rest, mut place) = (at, self.offset);
            for (dim, stride) in self.shape.iter().zip(&self.strides).rev() {
                place += rest % dim * stride;
                rest /= dim;
            }
            values.push(read(&self.bytes[place * self.kind.bytes()..]));
        }
        Ok(values)
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}

/// The tensors of a safetensors file. It does not keep the order of the layers.
pub(super) fn safetensors(bytes: &[u8]) -> Result<Vec<Tensor<'_>>> {
    let mut tensors = Vec::new();
    for found in formats::all_tensors(bytes)? {
        let kind = Kind::of_safetensors(&found.dtype).ok_or_else(|| {
            unsupported(format_args!(
                "tensor {:?}: data type {:?}",
                shown(found.name.as_bytes()),
                found.dtype
            ))
        })?;
        tensors.push(Tensor {
            strides: strides(&found.shape),
            name: found.name,
            shape: found.shape,
            kind,
            bytes: Rc::new(Cow::Borrowed(found.bytes)),
            offset: 0,
        });
    }
    Ok(tensors)
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The tensors of a zip of `torch.save`, in their order.
pub(super) fn zip<'a>(archive: &Archive<'a>) -> Result<Vec<Tensor<'a>>> {
    let pickle = archive.names().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
    let pickle = pickle.ok_or_else(|| bad("zip: neither Keras's config.json nor PyTorch's data.pkl"))?;
    let folder = &pickle[..pickle.len() - "data.pkl".len()];
    if let Some(order) = archive.read(&format!("{folder}byteorder"))?
        && *order != *b"little"
    {
        return Err(unsupported(format_args!("byteorder = {:?}", shown(&order))));
    }
    let bytes = archive.read(pickle)?.unwrap_or_default();
    let pickle = Pickle::read(&mut Cursor::new(&bytes))?;
    let mut storages = HashMap::new();
    let found = tensors(&pickle)?;
    for (_, raw) in &found {
        if !storages.contains_key(raw.key) {
            let content = archive.read(&format!("{folder}data/{}", raw.key))?;
            let content = content.ok_or_else(|| {
                bad(format_args!("zip: storage {:?} is missing", shown(raw.key.as_bytes())))
            })?;
            storages.insert(raw.key, Rc::new(content));
        }
    }
    Ok(found.into_iter().map(|(name, raw)| raw.tensor(name, &storages)).collect())
}

/// How a legacy file begins: a pickle of a number that nobody else writes.
pub(super) const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// The tensors of a file of `torch.save` before 1.6, or with `_use_new_zipfile_serialization=False`.
pub(super) fn legacy(bytes: &[u8]) -> Result<Vec<Tensor<'_>>> {
    let mut cursor = Cursor::at(bytes, LEGACY.len() as u64)?;
    // The version of the format, and what the machine was.
    Pickle::read(&mut cursor)?;
    Pickle::read(&mut cursor)?;
    let pickle = Pickle::read(&mut cursor)?;
    let keys = Pickle::read(&mut cursor)?;
    let found = tensors(&pickle)?;
    let kinds: HashMap<&str, Kind> = found.iter().map(|(_, raw)| (raw.key, raw.kind)).collect();
    let Object::List(list) = keys.get(keys.root()) else {
        return Err(bad("pickle: no list of storages"));
    };
    let mut storages = HashMap::new();
    for &key in list {
        let key = keys.text(key).ok_or_else(|| bad("pickle: a storage without a name"))?;
        let kind = *kinds.get(key).ok_or_else(|| {
            unsupported(format_args!("storage {:?} is used by no tensor that is read", shown(key.as_bytes())))
        })?;
        let len = cursor.size()?.checked_mul(kind.bytes());
        let content = cursor.take(len.ok_or_else(|| bad("a storage that is larger than memory"))?)?;
        storages.insert(key, Rc::new(Cow::Borrowed(content)));
    }
    if let Some((name, _)) = found.iter().find(|(_, raw)| !storages.contains_key(raw.key)) {
        return Err(bad(format_args!("the storage of tensor {:?} is missing", shown(name.as_bytes()))));
    }
    Ok(found.into_iter().map(|(name, raw)| raw.tensor(name, &storages)).collect())
}

/// A tensor whose values are in a storage.
struct Raw<'p> {
    key: &'p str,
    kind: Kind,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl<'p> Raw<'p> {
    fn tensor<'a>(self, name: String, storages: &HashMap<&'p str, Rc<Cow<'a, [u8]>>>) -> Tensor<'a> {
        let Self { key, kind, offset, shape, strides } = self;
        let bytes = storages.get(key).cloned().unwrap_or_default();
        Tensor { name, shape, kind, bytes, offset, strides }
    }
}

/// The state dict of a pickle, or that of a checkpoint.
fn tensors<'p>(pickle: &'p Pickle<'_>) -> Result<Vec<(String, Raw<'p>)>> {
    let root = pickle.root();
    let Some(entries) = pickle.entries(root) else {
        let what = match pickle.call(root) {
            Some(((module, name), _)) => format!("an object of {module}.{name}"),
            None => "no dictionary".into(),
        };
        return Err(unsupported(format_args!(
            "the file holds {}: save the state dict, torch.save(model.state_dict(), path)",
            shown(what.as_bytes())
        )));
    };
    let is_tensor = |&(_, value): &(Id, Id)| is_tensor(pickle, value);
    let chosen = if entries.iter().any(is_tensor) {
        root
    } else {
        let under = |key: &&str| {
            let of_key = |(name, _): &&(Id, Id)| pickle.text(*name) == Some(*key);
            let (_, value) = entries.iter().find(of_key)?;
            pickle.entries(*value).map(|_| *value)
        };
        KEYS.iter().find_map(under).unwrap_or(root)
    };
    let mut collected = Collected { pickle, found: Vec::new(), left: MOST_ENTRIES };
    collected.add(chosen, "", DEEPEST)?;
    let found = collected.found;
    let mut names = HashSet::new();
    if let Some((twice, _)) = found.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(bad(format_args!("tensor {:?} is there twice", shown(twice.as_bytes()))));
    }
    Ok(found)
}

/// Entries that are looked at, far more than any file has: dictionaries may share those inside them.
const MOST_ENTRIES: usize = 1 << 17;

/// The tensors of dictionaries inside each other, their names joined by dots.
struct Collected<'p, 'a> {
    pickle: &'p Pickle<'a>,
    found: Vec<(String, Raw<'p>)>,
    left: usize,
}

impl Collected<'_, '_> {
    fn add(&mut self, id: Id, prefix: &str, depth: usize) -> Result<()> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| bad(format_args!("pickle: more than {DEEPEST} dictionaries")))?;
        for &(key, value) in self.pickle.entries(id).unwrap_or_default() {
            self.left = self.left.checked_sub(1).ok_or_else(|| bad("pickle: too many entries"))?;
            let Some(key) = self.pickle.text(key) else { continue };
            let name = || format!("{prefix}{key}");
            if let Some(raw) = raw(self.pickle, value, &name)? {
                self.found.push((name(), raw));
            } else if self.pickle.entries(value).is_some() {
                self.add(value, &format!("{prefix}{key}."), depth)?;
            }
        }
        Ok(())
    }
}

fn is_tensor(pickle: &Pickle<'_>, id: Id) -> bool {
    matches!(pickle.call(id), Some((("torch._utils", _), _)))
}

/// The tensor that a call of PyTorch's would make; `None` for what is none.
fn raw<'p>(pickle: &'p Pickle<'_>, id: Id, name: &impl Fn() -> String) -> Result<Option<Raw<'p>>> {
    let Some((("torch._utils", function), mut arguments)) = pickle.call(id) else { return Ok(None) };
    let mut function = function;
    if function == "_rebuild_parameter" {
        // Of a tensor, which is the first argument.
        match arguments.first().and_then(|&tensor| pickle.call(tensor)) {
            Some(((_, inner), inside)) => (function, arguments) = (inner, inside),
            None => return Err(bad("pickle: a parameter of no tensor")),
        }
    }
    let refused = |what: &str| unsupported(format_args!("tensor {:?}: {what}", shown(name().as_bytes())));
    if !["_rebuild_tensor_v2", "_rebuild_tensor"].contains(&function) {
        return Err(refused(&format!("made by {}", shown(function.as_bytes()))));
    }
    let parts = match *arguments {
        [storage, offset, shape, strides, ..] => {
            let storage = match pickle.get(storage) {
                Object::Persistent(id) => pickle.tuple(*id),
                _ => None,
            };
            storage.zip(pickle.size(offset)).zip(pickle.sizes(shape)).zip(pickle.sizes(strides))
        }
        _ => None,
    };
    let wrong = || {
        bad(format_args!(
            "pickle: tensor {:?} has no storage, offset, shape and strides",
            shown(name().as_bytes())
        ))
    };
    let (((storage, offset), shape), strides) = parts.ok_or_else(wrong)?;
    let (class, key) = match *storage {
        [_, class, key, ..] => (class, pickle.text(key).ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    let Object::Global(_, class) = pickle.get(class) else { return Err(wrong()) };
    let kind =
        Kind::of_storage(class).ok_or_else(|| refused(&format!("values of {}", shown(class.as_bytes()))))?;
    if shape.len() != strides.len() {
        return Err(wrong());
    }
    Ok(Some(Raw { key, kind, offset, shape, strides }))
}
