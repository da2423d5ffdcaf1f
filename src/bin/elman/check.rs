//! `elman check`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::failure::{DIFFERENT, Failure, Result};
use crate::input::{self, as_text, read_bytes};
use crate::output::{self, Outcome, print, print_json};
use crate::{npy, text};

/// What issue and documentation promise of models of other frameworks.
const TOLERANCE: f32 = 1e-5;

#[derive(Serialize)]
struct Checked {
    same: bool,
    values: usize,
    expected_values: usize,
    tolerance: f32,
    /// The largest difference; null where one number is none and the other is.
    difference: Option<f32>,
    /// Where it is: an index for each dimension of the output.
    at: Vec<usize>,
    here: Option<f32>,
    expected: Option<f32>,
}

pub(crate) fn check(arguments: &Arguments) -> Result<ExitCode> {
    let model = arguments.model()?;
    let rows = input::read(&model, &arguments.files[1], arguments)?;
    let outcomes = output::run(&model, &rows).map_err(|failure| failure.about(&arguments.files[1]))?;
    let expected = read_expected(&arguments.files[2])?;
    let checked = compare(&outcomes, &expected, arguments.tolerance.unwrap_or(TOLERANCE));
    let said = if arguments.json { print_json(&checked) } else { print(&words(&checked)) };
    match said {
        Err(failure) if !failure.is_quiet() => return Err(failure),
        // Whoever closed standard output may still ask for the code.
        _ => {}
    }
    Ok(if checked.same { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn read_expected(path: &Path) -> Result<Vec<f32>> {
    let bytes = read_bytes(path)?;
    if bytes.starts_with(npy::MAGIC) {
        return Ok(npy::read(path, &bytes)?.values.into_floats());
    }
    let values = text::table(path, as_text(path, &bytes)?)?.values;
    if values.is_empty() {
        return Err(Failure::file(format_args!("{}: there are no numbers in it", path.display())));
    }
    Ok(values)
}

/// How far apart two numbers are, relative to expected ones above 1. A NaN is like a NaN.
fn distance(here: f32, expected: f32) -> f32 {
    if here == expected || (here.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let distance = (here - expected).abs() / expected.abs().max(1.0);
    if distance.is_nan() { f32::INFINITY } else { distance }
}

fn compare(outcomes: &[Outcome], expected: &[f32], tolerance: f32) -> Checked {
    let all = || outcomes.iter().flat_map(|outcome| &outcome.values).copied();
    let pairs = all().zip(expected.iter().copied());
    let mut largest = (0.0, 0, f32::NAN, f32::NAN);
    for (number, (here, expected)) in pairs.enumerate() {
        let distance = distance(here, expected);
        if number == 0 || distance > largest.0 {
            largest = (distance, number, here, expected);
        }
    }
    let (values, (difference, number, here, there)) = (all().count(), largest);
    Checked {
        same: values == expected.len() && difference <= tolerance,
        values,
        expected_values: expected.len(),
        tolerance,
        difference: difference.is_finite().then_some(difference),
        at: place(outcomes, number),
        here: Some(here).filter(|here| here.is_finite()),
        expected: Some(there).filter(|there| there.is_finite()),
    }
}

/// The indices of a number among all outcomes, the rows of which are counted on.
fn place(outcomes: &[Outcome], number: usize) -> Vec<usize> {
    let mut rest = number;
    let mut rows = 0;
    for outcome in outcomes {
        if rest >= outcome.values.len() {
            rest -= outcome.values.len();
            rows += outcome.shape[0];
            continue;
        }
        let mut indices = Vec::new();
        for &dim in outcome.shape.iter().rev() {
            indices.push(rest % dim);
            rest /= dim;
        }
        indices.reverse();
        indices[0] += rows;
        return indices;
    }
    Vec::new()
}

fn words(checked: &Checked) -> String {
    let Checked { values, expected_values, tolerance, .. } = checked;
    if values != expected_values {
        return format!("different: the model gives {values} numbers, and {expected_values} are expected\n");
    }
    let verdict = if checked.same { "the same" } else { "different" };
    let number = |number: Option<f32>| number.map_or("no number".to_owned(), |number| format!("{number:?}"));
    format!(
        "{verdict}: {values} numbers, largest difference {} at {:?} ({} here, {} expected), tolerance {tolerance:?}\n",
        checked.difference.map_or("infinite".to_owned(), |difference| format!("{difference:?}")),
        checked.at,
        number(checked.here),
        number(checked.expected),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_differ_from_numbers_only() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (here, expected) in [(nan, nan), (inf, inf), (-inf, -inf), (0.0, -0.0), (3.0, 3.0)] {
            assert_eq!(distance(here, expected), 0.0, "{here} {expected}");
        }
        for (here, expected) in [(nan, 1.0), (1.0, nan), (inf, -inf), (inf, nan), (nan, inf), (inf, 1.0)] {
            assert_eq!(distance(here, expected), inf, "{here} {expected}");
        }
        assert_eq!(distance(1.0, inf), inf);
        assert_eq!(distance(202.0, 200.0), 0.01);
        assert_eq!(distance(0.5, 0.25), 0.25);
    }

    #[test]
    fn places_are_those_of_the_whole_output() {
        let outcome =
            |shape: &[usize]| Outcome { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] };
        let outcomes = [outcome(&[2, 3, 4]), outcome(&[1, 5, 4])];
        assert_eq!(place(&outcomes, 0), [0, 0, 0]);
        assert_eq!(place(&outcomes, 23), [1, 2, 3]);
        assert_eq!(place(&outcomes, 24), [2, 0, 0]);
        assert_eq!(place(&outcomes, 43), [2, 4, 3]);
    }
}
