//! What a model gives, and how it is written.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use elman::Sequential;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::input::Rows;
use crate::npy;
use crate::progress::Progress;

/// What came of some rows: `[batch, features]`, or `[batch, steps, features]`; of a Bidirectional layer that does
/// not merge its halves, two of these one behind the other.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Runs all rows, in parts, so that progress can be seen. Each row begins where the model begins.
pub(crate) fn run(model: &Sequential, rows: &[Rows]) -> Result<Vec<Outcome>> {
    /// Rows of one call. Enough to fill any tile.
    const ROWS_AT_ONCE: usize = 256;
    let at_once = match (is_twofold(model)?, model.is_stateful()) {
        // The halves of all rows stand one behind the other.
        (true, _) => usize::MAX,
        // The states at the beginning may be of one row.
        (false, true) => 1,
        (false, false) => ROWS_AT_ONCE,
    };
    let first_states = model.states()?;
    let progress = Progress::new("run", rows.iter().map(|rows| rows.batch.div_ceil(at_once)).sum());
    let mut outcomes = Vec::new();
    for rows in rows {
        let mut values = Vec::new();
        let mut first = 0;
        while first < rows.batch {
            let count = at_once.min(rows.batch - first);
            match &first_states {
                Some((rows, states)) => model.set_states(*rows, states)?,
                None => model.reset_states(),
            }
            values.extend(model.predict(rows.part(first, count), count, rows.steps)?);
            first += count;
            progress.step();
        }
        outcomes.push(Outcome { shape: shape(model, rows.batch, rows.steps)?, values });
    }
    Ok(outcomes)
}

/// Whether there are two arrays of output.
pub(crate) fn is_twofold(model: &Sequential) -> Result<bool> {
    let features = model.output_shapes().last().map_or(0, |last| last.features);
    Ok(model.output_len(1, 1)? == 2 * features)
}

fn shape(model: &Sequential, batch: usize, steps: usize) -> Result<Vec<usize>> {
    let mut shape = if is_twofold(model)? { vec![2] } else { Vec::new() };
    shape.push(batch);
    if let Some(last) = model.output_shapes().last() {
        shape.extend(last.sequence.then_some(steps));
        shape.push(last.features);
    }
    Ok(shape)
}

impl Outcome {
    /// One line a row, or one line a step and an empty line behind each row.
    fn write_text(&self, text: &mut String) {
        let features = self.shape[self.shape.len() - 1];
        // Without halves `[batch, features]` has two dimensions.
        let lines_a_row = match self.shape[..] {
            [_, steps, _] | [_, _, steps, _] => steps,
            _ => 0,
        };
        for (number, line) in self.values.chunks(features).enumerate() {
            if lines_a_row > 0 && number % lines_a_row == 0 && !text.is_empty() {
                text.push('\n');
            }
            for (i, value) in line.iter().enumerate() {
                // The shortest decimal number that is read as this one.
                let _ = write!(text, "{}{value:?}", if i > 0 { "," } else { "" });
            }
            text.push('\n');
        }
    }
}

/// All outcomes as text.
pub(crate) fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    outcomes.iter().for_each(|outcome| outcome.write_text(&mut text));
    text
}

/// All outcomes as one array: `[batch, ...]`.
fn array(path: &Path, outcomes: &[Outcome]) -> Result<Vec<u8>> {
    let first = &outcomes[0].shape;
    let batch_at = usize::from(first.len() > 3);
    let others = |shape: &[usize]| {
        let mut shape = shape.to_vec();
        shape[batch_at] = 0;
        shape
    };
    if outcomes.iter().any(|outcome| others(&outcome.shape) != others(first)) {
        return Err(Failure::file(format_args!(
            "{}: rows of several lengths are no array; write text, or pad them by --steps",
            path.display()
        )));
    }
    let mut shape = first.clone();
    shape[batch_at] = outcomes.iter().map(|outcome| outcome.shape[batch_at]).sum();
    let values: Vec<f32> = outcomes.iter().flat_map(|outcome| outcome.values.iter().copied()).collect();
    Ok(npy::write(&shape, &values))
}

/// Writes all outcomes to a file whose name says how.
pub(crate) fn save(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let is_array = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
    let bytes = if is_array { array(path, outcomes)? } else { text(outcomes).into_bytes() };
    fs::write(path, bytes).map_err(|error| Failure::file(format_args!("{}: {error}", path.display())))
}

/// Rows of numbers as JSON, lists inside lists as deep as the shape.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Nested<'a> {
    Numbers(&'a [f32]),
    Lists(Vec<Nested<'a>>),
}

impl<'a> Nested<'a> {
    pub(crate) fn of(outcome: &'a Outcome) -> Self {
        Self::new(&outcome.shape, &outcome.values)
    }

    fn new(shape: &[usize], values: &'a [f32]) -> Self {
        match shape {
            [] | [_] => Nested::Numbers(values),
            [_, inner @ ..] => {
                let len = inner.iter().product::<usize>().max(1);
                Nested::Lists(values.chunks(len).map(|part| Self::new(inner, part)).collect())
            }
        }
    }
}

/// Writes text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a value to standard output as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string(value).map_err(Failure::file)?;
    print(&(json + "\n"))
}

/// A number of bytes, operations or the like, with commas.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
