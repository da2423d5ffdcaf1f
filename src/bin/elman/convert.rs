//! `elman convert`.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::output::{grouped, print, print_json};

/// A format that is written: its name, and how names of its files end.
const FORMATS: [(&str, &[&str]); 1] = [("elman", &[".safetensors", ".elman"])];

#[derive(Serialize)]
struct Written<'a> {
    file: String,
    format: &'a str,
    bytes: u64,
}

pub(crate) fn convert(arguments: &Arguments) -> Result<ExitCode> {
    let out = &arguments.files[1];
    let format = format(arguments.to.as_deref(), out)?;
    let model = arguments.model()?;
    if model.states()?.is_some() {
        return Err(Failure::unsupported(format_args!(
            "{}: the model begins at states of its own, which files of other formats do not keep",
            arguments.model_path().display()
        )));
    }
    model.save(out).map_err(|error| Failure::of(out, error))?;
    let bytes = std::fs::metadata(out).map_or(0, |about| about.len());
    let written = Written { file: out.display().to_string(), format, bytes };
    if arguments.json {
        print_json(&written)?;
    } else {
        print(&format!("{}: {format}, {} bytes\n", written.file, grouped(bytes as usize)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The format that is asked for, or that the name of the file says.
fn format(asked: Option<&str>, out: &Path) -> Result<&'static str> {
    let all = || FORMATS.map(|(name, _)| name).join(", ");
    if let Some(asked) = asked {
        let format = FORMATS.iter().find(|(name, _)| *name == asked);
        return format
            .map(|(name, _)| *name)
            .ok_or_else(|| Failure::usage(format_args!("--to: {asked:?} is none of {}", all())));
    }
    let file = out.to_string_lossy().to_lowercase();
    let format = FORMATS.iter().find(|(_, endings)| endings.iter().any(|ending| file.ends_with(ending)));
    format.map(|(name, _)| *name).ok_or_else(|| {
        Failure::usage(format_args!(
            "{}: the name does not say a format; --to takes one of {}",
            out.display(),
            all()
        ))
    })
}
