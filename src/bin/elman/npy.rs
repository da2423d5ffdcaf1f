//! NumPy's `.npy` files of numbers. The crate that reads them brings twenty others, a grammar of Python among
//! them; what NumPy writes into a header is three entries.

use std::path::Path;

use crate::failure::{Failure, Result};

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// An array, its values row by row.
#[derive(Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Values {
    Floats(Vec<f32>),
    Whole(Vec<i64>),
}

impl Values {
    pub(crate) fn into_floats(self) -> Vec<f32> {
        match self {
            Values::Floats(values) => values,
            Values::Whole(values) => values.into_iter().map(|value| value as f32).collect(),
        }
    }
}

/// Reads the bytes of a file named `path`.
pub(crate) fn read(path: &Path, bytes: &[u8]) -> Result<Array> {
    let wrong = |why: String| Failure::file(format_args!("{}: {why}", path.display()));
    let (header, data) = split(bytes).ok_or_else(|| wrong("the header of the array is cut off".into()))?;
    let missing = |key: &str| wrong(format!("the header of the array has no {key}: {header:?}"));
    let kind = entry(header, "descr").and_then(quoted).ok_or_else(|| missing("descr"))?;
    let fortran_order = entry(header, "fortran_order").ok_or_else(|| missing("fortran_order"))?;
    let shape = entry(header, "shape").and_then(tuple).ok_or_else(|| missing("shape"))?;
    let count = shape.iter().try_fold(1_usize, |all, &dim| all.checked_mul(dim));
    let (convert, size) = element(kind).ok_or_else(|| {
        Failure::unsupported(format_args!(
            "{}: elements of type {kind:?}; read are floats of 4 and 8 bytes and whole numbers",
            path.display()
        ))
    })?;
    let expected = count.and_then(|count| count.checked_mul(size));
    if expected != Some(data.len()) {
        return Err(wrong(format!(
            "the array {shape:?} of {kind} does not have the {} bytes that follow its header",
            data.len()
        )));
    }
    let big = kind.starts_with('>');
    let elements = data.chunks_exact(size).map(|element| {
        let mut little = [0; 8];
        little[..size].copy_from_slice(element);
        if big {
            little[..size].reverse();
        }
        little
    });
    let mut values = match convert {
        Convert::Float(convert) => Values::Floats(elements.map(convert).collect()),
        Convert::Whole(convert) => Values::Whole(elements.map(convert).collect()),
    };
    if fortran_order.starts_with("True") {
        values = match values {
            Values::Floats(values) => Values::Floats(row_by_row(&shape, &values)),
            Values::Whole(values) => Values::Whole(row_by_row(&shape, &values)),
        };
    }
    Ok(Array { shape, values })
}

/// The header's text, and what follows it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (len, rest) = if version[0] == 1 {
        let (len, rest) = rest.split_first_chunk()?;
        (u16::from_le_bytes(*len) as usize, rest)
    } else {
        let (len, rest) = rest.split_first_chunk()?;
        (u32::from_le_bytes(*len) as usize, rest)
    };
    let (header, data) = rest.split_at_checked(len)?;
    Some((str::from_utf8(header).ok()?, data))
}

/// What stands behind `'key':`.
fn entry<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(value: &str) -> Option<&str> {
    value.strip_prefix('\'')?.split('\'').next()
}

fn tuple(value: &str) -> Option<Vec<usize>> {
    let (inside, _) = value.strip_prefix('(')?.split_once(')')?;
    let numbers = inside.split(',').map(str::trim).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().ok()).collect()
}

/// What makes a number of eight bytes, of which those of the element are the first, and zeros the others.
enum Convert {
    Float(fn([u8; 8]) -> f32),
    Whole(fn([u8; 8]) -> i64),
}

/// For the elements of a type, and how many bytes they have.
fn element(kind: &str) -> Option<(Convert, usize)> {
    fn first<const N: usize>(bytes: [u8; 8]) -> [u8; N] {
        std::array::from_fn(|i| bytes[i])
    }
    let (order, name) = kind.split_at_checked(1)?;
    if !["<", ">", "|", "="].contains(&order) {
        return None;
    }
    Some(match name {
        "f4" => (Convert::Float(|bytes| f32::from_le_bytes(first(bytes))), 4),
        "f8" => (Convert::Float(|bytes| f64::from_le_bytes(bytes) as f32), 8),
        "i1" => (Convert::Whole(|bytes| i64::from(bytes[0] as i8)), 1),
        "i2" => (Convert::Whole(|bytes| i16::from_le_bytes(first(bytes)).into()), 2),
        "i4" => (Convert::Whole(|bytes| i32::from_le_bytes(first(bytes)).into()), 4),
        "i8" => (Convert::Whole(i64::from_le_bytes), 8),
        "u1" | "b1" => (Convert::Whole(|bytes| bytes[0].into()), 1),
        "u2" => (Convert::Whole(|bytes| u16::from_le_bytes(first(bytes)).into()), 2),
        "u4" => (Convert::Whole(|bytes| u32::from_le_bytes(first(bytes)).into()), 4),
        // What is larger is no token, and no float either that would be told from its neighbours.
        "u8" => (Convert::Whole(|bytes| i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(i64::MAX)), 8),
        _ => return None,
    })
}

/// The values of an array whose first index runs fastest, with the last one running fastest.
fn row_by_row<T: Copy>(shape: &[usize], values: &[T]) -> Vec<T> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for &dim in shape {
        strides.push(stride);
        stride *= dim;
    }
    let at = |number: usize| {
        let dims = shape.iter().zip(&strides).rev();
        dims.fold((number, 0), |(rest, at), (&dim, &stride)| (rest / dim, at + rest % dim * stride)).1
    };
    (0..values.len()).map(|number| values[at(number)]).collect()
}

/// The bytes of a file with an array of floats.
pub(crate) fn write(shape: &[usize], values: &[f32]) -> Vec<u8> {
    /// Of magic, version and length, and what they and the header are to be a multiple of.
    const BEFORE: usize = 10;
    const ALIGNMENT: usize = 64;
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    while !(BEFORE + header.len() + 1).is_multiple_of(ALIGNMENT) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        bytes.extend(header.bytes().chain(data.iter().copied()));
        bytes
    }

    fn whole(kind: &str, data: &[u8]) -> Vec<i64> {
        let shape = format!("({},)", data.len() / kind[2..].parse::<usize>().unwrap());
        match read(Path::new("x"), &file(kind, "False", &shape, data)).unwrap().values {
            Values::Whole(values) => values,
            Values::Floats(values) => panic!("{values:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for shape in [&[2, 3, 1][..], &[6], &[0, 4]] {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 - 0.5).collect();
            let bytes = write(shape, &values);
            let header = bytes.len() - 4 * values.len();
            assert_eq!(header % 64, 0);
            let array = read(Path::new("x"), &bytes).unwrap();
            assert_eq!(array, Array { shape: shape.to_vec(), values: Values::Floats(values) });
        }
    }

    #[test]
    fn every_type_and_both_orders_of_bytes() {
        assert_eq!(whole("|i1", &[1, 0xff]), [1, -1]);
        assert_eq!(whole("|u1", &[1, 0xff]), [1, 255]);
        assert_eq!(whole("<i2", &[0xfe, 0xff]), [-2]);
        assert_eq!(whole(">u2", &[1, 2]), [258]);
        assert_eq!(whole("<i4", &(-7_i32).to_le_bytes()), [-7]);
        assert_eq!(whole(">i8", &(-7_i64).to_be_bytes()), [-7]);
        assert_eq!(whole("<u8", &u64::MAX.to_le_bytes()), [i64::MAX]);
        let big = file(">f8", "False", "(1,)", &0.25_f64.to_be_bytes());
        assert_eq!(read(Path::new("x"), &big).unwrap().values, Values::Floats(vec![0.25]));
    }

    #[test]
    fn columns_first_becomes_rows_first() {
        let array = read(Path::new("x"), &file("|u1", "True", "(2, 3)", &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(array.values, Values::Whole(vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn damaged_headers_are_errors() {
        let whole = file("<f4", "False", "(2,)", &[0; 8]);
        for len in 0..whole.len() {
            assert!(read(Path::new("x"), &whole[..len]).is_err(), "{len} bytes");
        }
        for (kind, shape) in [
            ("<f4", "(3,)"),
            ("<f4", "(18446744073709551615, 2)"),
            ("<c8", "(1,)"),
            ("", "(2,)"),
            ("<f4", "2"),
        ] {
            assert!(read(Path::new("x"), &file(kind, "False", shape, &[0; 8])).is_err(), "{kind} {shape}");
        }
    }
}
