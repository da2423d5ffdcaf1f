//! ONNX's protobuf messages, as much of them as is used.
//!
//! A reader of our own: tensors stay where they lie in the file, and nothing takes more memory than a small
//! multiple of its bytes. A generated one copies every tensor, and makes 300 bytes of a node that takes two.

use super::super::bad;
use super::super::bytes::Cursor;
use super::super::values::{bfloat, half};
use crate::error::Result;
use crate::memory::with_room;

/// Nodes of a graph, more than any network of layers has: they bound what a small file can ask for.
const MOST_NODES: usize = 1 << 16;

/// Graphs inside graphs.
const DEEPEST: usize = 8;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Number(u64),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
    Fixed64,
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            _ => Err(bad("protobuf: a number where a message should be")),
        }
    }

    fn text(self) -> Result<&'a str> {
        str::from_utf8(self.bytes()?).map_err(|_| bad("protobuf: a name that is no UTF-8"))
    }

    fn number(self) -> Result<i64> {
        match self {
            Field::Number(number) => Ok(number.cast_signed()),
            _ => Err(bad("protobuf: a message where a number should be")),
        }
    }

    fn float(self) -> Result<f32> {
        match self {
            Field::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(bad("protobuf: no float where one should be")),
        }
    }
}

fn varint(cursor: &mut Cursor<'_>) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = cursor.u8()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(bad(format_args!("protobuf: a number without end at byte {}", cursor.position())))
}

/// Gives `each` the fields of a message.
fn fields<'a>(message: &'a [u8], mut each: impl FnMut(u64, Field<'a>) -> Result<()>) -> Result<()> {
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        let key = varint(&mut cursor)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut cursor)?),
            1 => {
                cursor.u64()?;
                Field::Fixed64
            }
            2 => {
                let len = varint(&mut cursor)?;
                let len = usize::try_from(len).map_err(|_| bad("protobuf: a length beyond memory"))?;
                Field::Bytes(cursor.take(len)?)
            }
            5 => Field::Fixed32(cursor.array()?),
            other => return Err(bad(format_args!("protobuf: wire type {other}"))),
        };
        each(key >> 3, field)?;
    }
    Ok(())
}

/// Numbers, packed or one by one.
fn extend_numbers(to: &mut Vec<i64>, field: Field<'_>) -> Result<()> {
    match field {
        Field::Bytes(packed) => {
            let mut cursor = Cursor::new(packed);
            while !cursor.is_at_end() {
                to.push(varint(&mut cursor)?.cast_signed());
            }
            Ok(())
        }
        single => {
            to.push(single.number()?);
            Ok(())
        }
    }
}

/// Floats, packed or one by one.
fn extend_floats(to: &mut Vec<f32>, field: Field<'_>) -> Result<()> {
    match field {
        Field::Bytes(packed) => {
            let (floats, rest) = packed.as_chunks();
            if !rest.is_empty() {
                return Err(bad("protobuf: half a float"));
            }
            to.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            Ok(())
        }
        single => {
            to.push(single.float()?);
            Ok(())
        }
    }
}

/// A model: its graph, and the version of the operators that it uses.
#[derive(Debug)]
pub(super) struct Model<'a> {
    pub(super) graph: Graph<'a>,
    pub(super) opset: i64,
}

impl<'a> Model<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (mut graph, mut opset) = (None, None);
        fields(bytes, |number, field| {
            match number {
                7 => graph = Some(field.bytes()?),
                8 => {
                    let (domain, version) = operator_set(field.bytes()?)?;
                    if ["", "ai.onnx"].contains(&domain) {
                        opset = Some(version);
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        let graph = graph.ok_or_else(|| bad("ONNX: the model has no graph"))?;
        let opset = opset.ok_or_else(|| bad("ONNX: the model names no version of its operators"))?;
        Ok(Self { graph: Graph::parse(graph, DEEPEST)?, opset })
    }
}

fn operator_set(message: &[u8]) -> Result<(&str, i64)> {
    let mut set = ("", 1);
    fields(message, |number, field| {
        match number {
            1 => set.0 = field.text()?,
            2 => set.1 = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(set)
}

/// A graph.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) initializers: Vec<Tensor<'a>>,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Vec<&'a str>,
    /// Initialisers that say where their values are not zero.
    pub(super) sparse: bool,
}

impl<'a> Graph<'a> {
    fn parse(message: &'a [u8], depth: usize) -> Result<Self> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| bad(format_args!("ONNX: more than {DEEPEST} graphs inside each other")))?;
        let mut graph = Self::default();
        fields(message, |number, field| {
            match number {
                1 if graph.nodes.len() == MOST_NODES => {
                    return Err(bad(format_args!("ONNX: more than {MOST_NODES} nodes")));
                }
                1 => graph.nodes.push(Node::parse(field.bytes()?, depth)?),
                5 => graph.initializers.push(Tensor::parse(field.bytes()?)?),
                11 => graph.inputs.push(Input::parse(field.bytes()?)?),
                12 => graph.outputs.push(Input::parse(field.bytes()?)?.name),
                15 => graph.sparse = true,
                _ => {}
            }
            Ok(())
        })?;
        Ok(graph)
    }
}

/// An operation.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) name: &'a str,
    pub(super) operator: &'a str,
    pub(super) domain: &'a str,
    pub(super) attributes: Vec<Attribute<'a>>,
}

impl<'a> Node<'a> {
    fn parse(message: &'a [u8], depth: usize) -> Result<Self> {
        let mut node = Self::default();
        fields(message, |number, field| {
            match number {
                1 => node.inputs.push(field.text()?),
                2 => node.outputs.push(field.text()?),
                3 => node.name = field.text()?,
                4 => node.operator = field.text()?,
                5 => node.attributes.push(Attribute::parse(field.bytes()?, depth)?),
                7 => node.domain = field.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }

    /// The name of an input; empty where it is not given.
    pub(super) fn input(&self, at: usize) -> &'a str {
        self.inputs.get(at).copied().unwrap_or_default()
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// An attribute that is a number.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.int)
    }

    /// An attribute that is a float.
    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|attribute| attribute.float)
    }

    /// An attribute that is a list of numbers.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }
}

/// What an operation is given beside its inputs; what is not there is 0 or empty, as protobuf has it.
#[derive(Debug, Default)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) float: f32,
    pub(super) int: i64,
    pub(super) text: &'a [u8],
    pub(super) tensor: Option<Box<Tensor<'a>>>,
    pub(super) graph: Option<Box<Graph<'a>>>,
    pub(super) floats: Vec<f32>,
    pub(super) ints: Vec<i64>,
    pub(super) texts: Vec<&'a [u8]>,
}

impl<'a> Attribute<'a> {
    fn parse(message: &'a [u8], depth: usize) -> Result<Self> {
        let mut attribute = Self::default();
        fields(message, |number, field| {
            match number {
                1 => attribute.name = field.text()?,
                2 => attribute.float = field.float()?,
                3 => attribute.int = field.number()?,
                4 => attribute.text = field.bytes()?,
                5 => attribute.tensor = Some(Box::new(Tensor::parse(field.bytes()?)?)),
                6 => attribute.graph = Some(Box::new(Graph::parse(field.bytes()?, depth)?)),
                7 => extend_floats(&mut attribute.floats, field)?,
                8 => extend_numbers(&mut attribute.ints, field)?,
                9 => attribute.texts.push(field.bytes()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(attribute)
    }
}

/// A tensor of the file; its values are read when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<i64>,
    pub(super) kind: i64,
    pub(super) external: bool,
    raw: Option<&'a [u8]>,
    message: &'a [u8],
}

/// The numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl<'a> Tensor<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut tensor = Self { message, ..Self::default() };
        fields(message, |number, field| {
            match number {
                1 => extend_numbers(&mut tensor.dims, field)?,
                2 => tensor.kind = field.number()?,
                8 => tensor.name = field.text()?,
                9 => tensor.raw = Some(field.bytes()?),
                13 => tensor.external = true,
                14 => tensor.external |= field.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
        Ok(tensor)
    }

    /// The values; `None` for a type that is not read.
    pub(super) fn numbers(&self) -> Result<Option<Numbers>> {
        Ok(Some(match self.kind {
            1 => Numbers::Floats(self.floats(4, 4, |bytes| f32::from_le_bytes(first(bytes)))?),
            11 => Numbers::Floats(self.floats(8, 10, |bytes| f64::from_le_bytes(first(bytes)) as f32)?),
            10 => Numbers::Floats(self.floats(2, 5, |bytes| half(u16::from_le_bytes(first(bytes))))?),
            16 => Numbers::Floats(self.floats(2, 5, |bytes| bfloat(u16::from_le_bytes(first(bytes))))?),
            6 => Numbers::Ints(self.ints(4, 5, |bytes| i32::from_le_bytes(first(bytes)).into())?),
            7 => Numbers::Ints(self.ints(8, 7, |bytes| i64::from_le_bytes(first(bytes)))?),
            9 => Numbers::Ints(self.ints(1, 5, |bytes| bytes[0].into())?),
            _ => return Ok(None),
        }))
    }

    /// Floats from raw bytes, each `width` of them, or from the field that has them one by one.
    fn floats(&self, width: usize, field: u64, read: impl Fn(&[u8]) -> f32) -> Result<Vec<f32>> {
        if let Some(raw) = self.raw {
            return each(raw, width, read);
        }
        let mut values = Vec::new();
        fields(self.message, |number, found| match (number, found) {
            (10, Field::Bytes(bytes)) if field == 10 => {
                values.append(&mut each(bytes, 8, &read)?);
                Ok(())
            }
            (4, found) if field == 4 => extend_floats(&mut values, found),
            // Halves stand in 32 bits each.
            (5, found) if field == 5 => {
                let mut halves = Vec::new();
                extend_numbers(&mut halves, found)?;
                values.extend(halves.iter().map(|&bits| read(&(bits as u16).to_le_bytes())));
                Ok(())
            }
            _ => Ok(()),
        })?;
        Ok(values)
    }

    fn ints(&self, width: usize, field: u64, read: impl Fn(&[u8]) -> i64) -> Result<Vec<i64>> {
        if let Some(raw) = self.raw {
            return each(raw, width, read);
        }
        let mut values = Vec::new();
        fields(
            self.message,
            |number, found| {
                if number == field { extend_numbers(&mut values, found) } else { Ok(()) }
            },
        )?;
        Ok(values)
    }
}

/// What each `width` of these bytes are.
fn each<T>(bytes: &[u8], width: usize, read: impl Fn(&[u8]) -> T) -> Result<Vec<T>> {
    if !bytes.len().is_multiple_of(width) {
        return Err(bad(format_args!("ONNX: {} bytes of values of {width} bytes", bytes.len())));
    }
    let mut values = with_room(bytes.len() / width)?;
    values.extend(bytes.chunks_exact(width).map(read));
    Ok(values)
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}

/// An input of a graph.
#[derive(Debug, Default)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    /// Its sizes, where the file says them: `None` for one that it leaves open.
    pub(super) dims: Option<Vec<Option<i64>>>,
    /// Its values are no floats.
    pub(super) whole_numbers: bool,
}

impl<'a> Input<'a> {
    fn parse(message: &'a [u8]) -> Result<Self> {
        let mut input = Self::default();
        fields(message, |number, field| {
            match number {
                1 => input.name = field.text()?,
                2 => {
                    fields(field.bytes()?, |number, field| {
                        if number == 1 {
                            input.read_type(field.bytes()?)?;
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(input)
    }

    /// The type of a tensor: the kind of its values, and its sizes.
    fn read_type(&mut self, message: &[u8]) -> Result<()> {
        const FLOATS: [i64; 4] = [1, 10, 11, 16];
        fields(message, |number, field| {
            match number {
                1 => self.whole_numbers = !FLOATS.contains(&field.number()?),
                2 => self.dims = Some(dims(field.bytes()?)?),
                _ => {}
            }
            Ok(())
        })
    }
}

/// The sizes of a shape, of which a name is none.
fn dims(message: &[u8]) -> Result<Vec<Option<i64>>> {
    let mut list = Vec::new();
    fields(message, |number, field| {
        if number == 1 {
            let mut dim = None;
            fields(field.bytes()?, |number, field| {
                if number == 1 {
                    dim = Some(field.number()?);
                }
                Ok(())
            })?;
            list.push(dim);
        }
        Ok(())
    })?;
    Ok(list)
}
