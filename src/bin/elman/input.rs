//! What a model is given.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use elman::{Input, Layer, Sequential, Weight};

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::npy::{self, Array, Values};
use crate::text::{self, Vocabulary};

/// Rows with the same number of steps.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) values: Given,
}

/// Floats `[batch, steps, features]` or token ids `[batch, steps]`.
#[derive(Debug)]
pub(crate) enum Given {
    Floats(Vec<f32>),
    Tokens(Vec<i32>),
}

impl Rows {
    /// `count` rows from row `first`.
    pub(crate) fn part(&self, first: usize, count: usize) -> Input<'_> {
        let part = |len: usize| {
            let row = len / self.batch;
            first * row..(first + count) * row
        };
        match &self.values {
            Given::Floats(values) => Input::Floats(&values[part(values.len())]),
            Given::Tokens(ids) => Input::Tokens(&ids[part(ids.len())]),
        }
    }
}

/// Tokens that a model knows; `None` where it reads floats.
pub(crate) fn vocabulary_of(model: &Sequential) -> Option<usize> {
    match model.layers().first() {
        Some(Layer::Embedding(_)) => model.weight_shape(0, Weight::Embedding).ok().map(|[words, _]| words),
        _ => None,
    }
}

pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let outcome = if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    outcome.map_err(|error| Failure::file(format_args!("{}: {error}", path.display())))
}

pub(crate) fn as_text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    // Some programs begin text with a mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    str::from_utf8(bytes).map_err(|error| {
        Failure::file(format_args!(
            "{}: neither a .npy array nor text: byte {} is no UTF-8",
            path.display(),
            error.valid_up_to()
        ))
    })
}

/// Reads the rows of a file for `model`: those with one number of steps together, in the file's order.
pub(crate) fn read(model: &Sequential, path: &Path, arguments: &Arguments) -> Result<Vec<Rows>> {
    let bytes = read_bytes(path)?;
    let reads_tokens = vocabulary_of(model).is_some();
    if arguments.vocabulary.is_some() && !reads_tokens {
        return Err(Failure::usage(format_args!(
            "--vocabulary: the model reads {} floats a step, not tokens",
            model.input_size()
        )));
    }
    let is_array = bytes.starts_with(npy::MAGIC);
    let rows = match (is_array, reads_tokens) {
        (true, false) => floats_of_array(path, npy::read(path, &bytes)?, model.input_size())?,
        (true, true) => tokens(path, ids_of_array(path, npy::read(path, &bytes)?)?, arguments.steps)?,
        (false, false) => floats_of_text(path, as_text(path, &bytes)?, model.input_size())?,
        (false, true) => {
            tokens(path, ids_of_text(path, as_text(path, &bytes)?, arguments)?, arguments.steps)?
        }
    };
    if rows.iter().map(|rows| rows.batch).sum::<usize>() == 0 {
        return Err(Failure::file(format_args!("{}: there are no rows in it", path.display())));
    }
    match arguments.steps {
        Some(_) if !reads_tokens => Err(Failure::usage("--steps: only rows of tokens can be padded")),
        _ => Ok(rows),
    }
}

fn floats_of_array(path: &Path, array: Array, features: usize) -> Result<Vec<Rows>> {
    let [batch, steps] = match array.shape[..] {
        [batch, steps, last] if last == features => [batch, steps],
        [steps, last] if last == features => [1, steps],
        [steps] if features == 1 => [1, steps],
        _ => {
            return Err(Failure::file(format_args!(
                "{}: the array is {:?}, and the model reads [batch, steps, {features}]",
                path.display(),
                array.shape
            )));
        }
    };
    if steps == 0 && batch > 0 {
        return Err(Failure::file(format_args!(
            "{}: the array {:?} has no steps",
            path.display(),
            array.shape
        )));
    }
    Ok(vec![Rows { batch, steps, values: Given::Floats(array.values.into_floats()) }])
}

fn floats_of_text(path: &Path, text: &str, features: usize) -> Result<Vec<Rows>> {
    let table = text::table(path, text)?;
    if table.columns != features && !table.steps.is_empty() {
        return Err(Failure::file(format_args!(
            "{}: a line has {} numbers, and the model reads {features} a step",
            path.display(),
            table.columns
        )));
    }
    let mut all: Vec<Rows> = Vec::new();
    let mut rest = &table.values[..];
    for steps in table.steps {
        let (row, behind) = rest.split_at(steps * features);
        rest = behind;
        match all.last_mut() {
            Some(Rows { batch, steps: before, values: Given::Floats(values) }) if *before == steps => {
                values.extend_from_slice(row);
                *batch += 1;
            }
            _ => all.push(Rows { batch: 1, steps, values: Given::Floats(row.to_vec()) }),
        }
    }
    Ok(all)
}

fn ids_of_array(path: &Path, array: Array) -> Result<Vec<Vec<i32>>> {
    let Values::Whole(ids) = array.values else {
        return Err(Failure::file(format_args!(
            "{}: the array has floats, and the model reads token ids",
            path.display()
        )));
    };
    let steps = match array.shape[..] {
        [_, steps] => steps,
        [steps] => steps,
        _ => {
            return Err(Failure::file(format_args!(
                "{}: the array is {:?}, and the model reads token ids [batch, steps]",
                path.display(),
                array.shape
            )));
        }
    };
    let id = |&id: &i64| {
        i32::try_from(id).map_err(|_| Failure::file(format_args!("{}: {id} is no token id", path.display())))
    };
    ids.chunks(steps.max(1)).map(|row| row.iter().map(id).collect()).collect()
}

fn ids_of_text(path: &Path, text: &str, arguments: &Arguments) -> Result<Vec<Vec<i32>>> {
    match &arguments.vocabulary {
        None => text::ids(path, text),
        Some(words) => {
            let bytes = read_bytes(words)?;
            Vocabulary::new(words, as_text(words, &bytes)?)?.rows(path, text)
        }
    }
}

/// Rows of ids, each with `exactly` so many steps where that is asked for.
fn tokens(path: &Path, ids: Vec<Vec<i32>>, exactly: Option<usize>) -> Result<Vec<Rows>> {
    let mut all: Vec<Rows> = Vec::new();
    for (number, row) in ids.into_iter().enumerate() {
        let row = exactly.map_or_else(|| row.clone(), |steps| padded(&row, steps));
        let steps = row.len();
        if steps == 0 {
            let path = path.display();
            return Err(Failure::file(format_args!("{path}: row {number} has no tokens; --steps N pads it")));
        }
        match all.last_mut() {
            Some(Rows { batch, steps: before, values: Given::Tokens(ids) }) if *before == steps => {
                ids.extend(row);
                *batch += 1;
            }
            _ => all.push(Rows { batch: 1, steps, values: Given::Tokens(row) }),
        }
    }
    Ok(all)
}

/// The last `steps` tokens, or zeros in front of fewer: as Keras's `pad_sequences`.
fn padded(row: &[i32], steps: usize) -> Vec<i32> {
    let kept = &row[row.len().saturating_sub(steps)..];
    let mut padded = vec![0; steps - kept.len()];
    padded.extend_from_slice(kept);
    padded
}
