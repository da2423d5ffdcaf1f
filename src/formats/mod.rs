//! File formats: bytes in, layers out, and back.
//!
//! Bytes come from strangers. Everything they claim is compared with what is really there before anything is
//! allocated by their word, and what a reader does not understand is an error, never ignored: a model that
//! loads computes what its file says.
//!
//! `model` and `checkpoint` are the two kinds of file, both `safetensors` with the JSON of `layers` in its
//! metadata; `json` reads the JSON of strangers; `file` opens and replaces files.

#![forbid(unsafe_code)]

#[cfg(feature = "training")]
mod checkpoint;
mod file;
mod json;
mod layers;
mod model;
mod safetensors;

use std::fmt;

pub(crate) use file::{read as read_file, read_head, write as write_file};
pub(crate) use model::{format_of, is_of_others, is_of_others_bytes, load, load_bytes};
pub(crate) use safetensors::{Image, all_tensors, header as safetensors_header};

use crate::error::Error;

fn bad(message: impl fmt::Display) -> Error {
    Error::BadFormat(message.to_string())
}

/// What is an invalid argument in a program is a bad format in a file.
fn as_bad_format(error: Error) -> Error {
    match error {
        Error::InvalidArgument(message) => Error::BadFormat(message),
        other => other,
    }
}

/// Says in which part of a file it is.
fn prefixed(error: Error, part: impl fmt::Display) -> Error {
    match error {
        Error::BadFormat(message) => Error::BadFormat(format!("{part}: {message}")),
        other => other,
    }
}
