//! The pickle of a state dict: what tells `torch.load` names, shapes and storages.
//!
//! Protocol 2, and of its instructions the few that a dictionary of tensors needs.

use super::super::bytes::Bytes;
use super::super::tensor::Tensor;
use crate::error::Result;

const PROTOCOL: &[u8] = &[0x80, 2];
const EMPTY_DICT: &[u8] = b"}";
const EMPTY_TUPLE: &[u8] = b")";
const MARK: &[u8] = b"(";
/// Everything since the mark as one.
const TUPLE: &[u8] = b"t";
/// Everything since the mark as keys and values of a dictionary.
const SET_ITEMS: &[u8] = b"u";
/// A storage, by the tuple that describes it.
const PERSISTENT_ID: &[u8] = b"Q";
const REDUCE: &[u8] = b"R";
const FALSE: &[u8] = &[0x89];
const STOP: &[u8] = b".";

/// Writes the state dict of `tensors`, whose values are in the storages named by their places.
pub(super) fn write(to: &mut Bytes, tensors: &[Tensor<'_>]) -> Result<()> {
    to.put(PROTOCOL)?;
    to.put(EMPTY_DICT)?;
    to.put(MARK)?;
    for (key, tensor) in tensors.iter().enumerate() {
        text(to, &tensor.name)?;
        write_tensor(to, key, tensor)?;
    }
    to.put(SET_ITEMS)?;
    to.put(STOP)
}

/// `torch._utils._rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks)`.
fn write_tensor(to: &mut Bytes, key: usize, tensor: &Tensor<'_>) -> Result<()> {
    to.put(b"ctorch._utils\n_rebuild_tensor_v2\n")?;
    to.put(MARK)?;
    to.put(MARK)?;
    text(to, "storage")?;
    to.put(b"ctorch\nFloatStorage\n")?;
    text(to, &key.to_string())?;
    text(to, "cpu")?;
    number(to, tensor.len())?;
    to.put(TUPLE)?;
    to.put(PERSISTENT_ID)?;
    number(to, 0)?;
    numbers(to, tensor.shape.iter().copied())?;
    let stride = |axis: usize| tensor.shape[axis + 1..].iter().product();
    numbers(to, (0..tensor.shape.len()).map(stride))?;
    to.put(FALSE)?;
    to.put(b"ccollections\nOrderedDict\n")?;
    to.put(EMPTY_TUPLE)?;
    to.put(REDUCE)?;
    to.put(TUPLE)?;
    to.put(REDUCE)
}

/// Names are short.
fn text(to: &mut Bytes, text: &str) -> Result<()> {
    to.put(b"X")?;
    to.u32(text.len() as u32)?;
    to.put(text.as_bytes())
}

/// A number in as few bytes as the instructions have.
fn number(to: &mut Bytes, number: usize) -> Result<()> {
    match (u8::try_from(number), i32::try_from(number)) {
        (Ok(small), _) => {
            to.put(b"K")?;
            to.u8(small)
        }
        (_, Ok(signed)) => {
            to.put(b"J")?;
            to.put(&signed.to_le_bytes())
        }
        _ => {
            // Nine bytes, since the last one has the sign.
            to.put(&[0x8a, 9])?;
            to.u64(number as u64)?;
            to.u8(0)
        }
    }
}

fn numbers(to: &mut Bytes, all: impl Iterator<Item = usize>) -> Result<()> {
    to.put(MARK)?;
    for one in all {
        number(to, one)?;
    }
    to.put(TUPLE)
}
