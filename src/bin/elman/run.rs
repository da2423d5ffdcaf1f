//! `elman run`.

use std::process::ExitCode;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::input;
use crate::output::{self, Nested, print, print_json};

#[derive(Serialize)]
struct Ran<'a> {
    /// Of each part of rows with one number of steps.
    shapes: Vec<&'a [usize]>,
    outputs: Vec<Nested<'a>>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.json && arguments.output.is_some() {
        return Err(Failure::usage("--json writes to standard output: it does not go with --output"));
    }
    let model = arguments.model()?;
    let rows = input::read(&model, &arguments.files[1], arguments)?;
    let outcomes = output::run(&model, &rows).map_err(|failure| failure.about(&arguments.files[1]))?;
    match &arguments.output {
        Some(path) => output::save(path, &outcomes)?,
        None if arguments.json => print_json(&Ran {
            shapes: outcomes.iter().map(|outcome| &outcome.shape[..]).collect(),
            outputs: outcomes.iter().map(Nested::of).collect(),
        })?,
        None => print(&output::text(&outcomes))?,
    }
    Ok(ExitCode::SUCCESS)
}
