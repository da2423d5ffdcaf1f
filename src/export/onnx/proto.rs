//! ONNX's protobuf messages, as much of them as is written.
//!
//! The fields' numbers are those of `onnx.proto`. What a message has in it is made first, since its length
//! stands before it; weights, which are most of a file, are made last, straight into it.

use super::super::bytes::Bytes;
use super::graph::{Attribute, Dim, Graph, Kind, List, Node, Port};
use super::{Tensor, unsupported};
use crate::error::Result;

/// The version of the file format, and of the operators: those of ONNX 1.9, which have all that is needed
/// here and are old enough to be read everywhere.
const IR_VERSION: u64 = 7;
const OPSET: u64 = 14;

const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// A number in seven bits a byte.
fn varint(to: &mut Bytes, mut number: u64) -> Result<()> {
    while number >= 0x80 {
        to.u8(number as u8 | 0x80)?;
        number >>= 7;
    }
    to.u8(number as u8)
}

const fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - number.leading_zeros();
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

fn number(to: &mut Bytes, field: u64, number: u64) -> Result<()> {
    varint(to, field << 3)?;
    varint(to, number)
}

fn signed(to: &mut Bytes, field: u64, value: i64) -> Result<()> {
    number(to, field, value.cast_unsigned())
}

fn float(to: &mut Bytes, field: u64, value: f32) -> Result<()> {
    varint(to, field << 3 | 5)?;
    to.put(&value.to_le_bytes())
}

/// What stands before so many bytes of a field.
fn begin(to: &mut Bytes, field: u64, len: usize) -> Result<()> {
    varint(to, field << 3 | 2)?;
    varint(to, len as u64)
}

fn text(to: &mut Bytes, field: u64, text: &str) -> Result<()> {
    begin(to, field, text.len())?;
    to.put(text.as_bytes())
}

/// A message inside another one.
fn message(to: &mut Bytes, field: u64, write: impl FnOnce(&mut Bytes) -> Result<()>) -> Result<()> {
    let mut inside = Bytes::default();
    write(&mut inside)?;
    begin(to, field, inside.len())?;
    to.put(inside.as_slice())
}

/// The file of a graph.
pub(super) fn model(graph: &Graph<'_>) -> Result<Bytes> {
    let mut small = Bytes::default();
    graph.nodes.iter().try_for_each(|node| message(&mut small, 1, |to| self::node(to, node)))?;
    text(&mut small, 2, "elman")?;
    for List { name, numbers, is_scalar } in &graph.lists {
        message(&mut small, 5, |to| {
            let shape = if *is_scalar { &[][..] } else { &[numbers.len()] };
            tensor_head(to, name, shape, INT64, numbers.len() * size_of::<i64>())?;
            numbers.iter().try_for_each(|number| to.put(&number.to_le_bytes()))
        })?;
    }
    graph.inputs.iter().try_for_each(|port| message(&mut small, 11, |to| self::port(to, port)))?;
    graph.outputs.iter().try_for_each(|port| message(&mut small, 12, |to| self::port(to, port)))?;
    // Everything of a weight but its values.
    let heads = graph.weights.iter().map(|weight| {
        let mut head = Bytes::default();
        tensor_head(&mut head, &weight.name, &weight.shape, FLOAT, weight.bytes())?;
        Ok((head, weight))
    });
    let heads = heads.collect::<Result<Vec<_>>>()?;
    let whole = |(head, weight): &(Bytes, &Tensor<'_>)| head.len() + weight.bytes();
    // One byte for the field.
    let len = heads.iter().map(|head| 1 + varint_len(whole(head) as u64) + whole(head)).sum::<usize>();
    let len = small.len() + len;
    /// Far more than stands beside the graph.
    const BESIDE: usize = 256;
    if len + BESIDE > i32::MAX as usize {
        return Err(unsupported(format_args!(
            "a graph of {len} bytes: an ONNX file has at most 2 GiB, and weights beside it are not written"
        )));
    }
    let mut to = Bytes::with_room(len + BESIDE)?;
    number(&mut to, 1, IR_VERSION)?;
    text(&mut to, 2, "elman")?;
    text(&mut to, 3, env!("CARGO_PKG_VERSION"))?;
    message(&mut to, 8, |to| {
        text(to, 1, "")?;
        number(to, 2, OPSET)
    })?;
    begin(&mut to, 7, len)?;
    to.put(small.as_slice())?;
    for head in &heads {
        begin(&mut to, 5, whole(head))?;
        let (head, weight) = head;
        to.put(head.as_slice())?;
        weight.put(&mut to)?;
    }
    Ok(to)
}

fn node(to: &mut Bytes, node: &Node) -> Result<()> {
    node.inputs.iter().try_for_each(|input| text(to, 1, input))?;
    node.outputs.iter().try_for_each(|output| text(to, 2, output))?;
    text(to, 3, &node.name)?;
    text(to, 4, node.operator)?;
    node.attributes.iter().try_for_each(|(name, value)| message(to, 5, |to| attribute(to, name, value)))
}

fn attribute(to: &mut Bytes, name: &str, value: &Attribute) -> Result<()> {
    text(to, 1, name)?;
    let kind = match value {
        Attribute::Float(value) => {
            float(to, 2, *value)?;
            1
        }
        Attribute::Int(value) => {
            signed(to, 3, *value)?;
            2
        }
        Attribute::Text(value) => {
            text(to, 4, value)?;
            3
        }
        Attribute::Floats(values) => {
            values.iter().try_for_each(|&value| float(to, 7, value))?;
            6
        }
        Attribute::Ints(values) => {
            values.iter().try_for_each(|&value| signed(to, 8, value))?;
            7
        }
        Attribute::Texts(values) => {
            values.iter().try_for_each(|value| text(to, 9, value))?;
            8
        }
    };
    number(to, 20, kind)
}

/// A tensor as far as its values, of which there are so many bytes.
fn tensor_head(to: &mut Bytes, name: &str, shape: &[usize], kind: u64, bytes: usize) -> Result<()> {
    shape.iter().try_for_each(|&dim| number(to, 1, dim as u64))?;
    number(to, 2, kind)?;
    text(to, 8, name)?;
    begin(to, 9, bytes)
}

fn port(to: &mut Bytes, port: &Port) -> Result<()> {
    text(to, 1, &port.name)?;
    let kind = match port.kind {
        Kind::Floats => FLOAT,
        Kind::Ids => INT64,
    };
    // Type, tensor, and shape of it.
    message(to, 2, |to| {
        message(to, 1, |to| {
            number(to, 1, kind)?;
            message(to, 2, |to| port.dims.iter().try_for_each(|dim| message(to, 1, |to| self::dim(to, *dim))))
        })
    })
}

fn dim(to: &mut Bytes, dim: Dim) -> Result<()> {
    match dim {
        Dim::Known(size) => number(to, 1, size as u64),
        Dim::Named(name) => text(to, 2, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbers_length_is_what_is_written() {
        for bits in 0..64 {
            for value in [(1u64 << bits) - 1, 1 << bits, u64::MAX >> (63 - bits)] {
                let mut bytes = Bytes::default();
                varint(&mut bytes, value).expect("small");
                assert_eq!(bytes.len(), varint_len(value), "{value}");
            }
        }
    }
}
