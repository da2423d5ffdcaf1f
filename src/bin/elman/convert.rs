//! `elman convert`.

use std::path::Path;
use std::process::ExitCode;

use elman::Format;
use serde::Serialize;

use crate::arguments::Arguments;
use crate::failure::{Failure, Result};
use crate::output::{grouped, print, print_json};

/// A format that is written: its name, and how names of its files end.
const FORMATS: [(&str, Format, &[&str]); 4] = [
    ("elman", Format::Elman, &[".safetensors", ".elman"]),
    ("torch", Format::Torch, &[".pt", ".pth"]),
    ("onnx", Format::Onnx, &[".onnx"]),
    ("keras-weights", Format::KerasWeights, &[".weights.h5"]),
];

#[derive(Serialize)]
struct Written<'a> {
    file: String,
    format: &'a str,
    bytes: u64,
}

pub(crate) fn convert(arguments: &Arguments) -> Result<ExitCode> {
    let out = &arguments.files[1];
    let (name, format) = format(arguments.to.as_deref(), out)?;
    let model = arguments.model()?;
    if model.states()?.is_some() {
        return Err(Failure::unsupported(format_args!(
            "{}: the model begins at states of its own, which files of other formats do not keep",
            arguments.model_path().display()
        )));
    }
    model.export(out, format).map_err(|error| Failure::of(out, error))?;
    let bytes = std::fs::metadata(out).map_or(0, |about| about.len());
    let written = Written { file: out.display().to_string(), format: name, bytes };
    if arguments.json {
        print_json(&written)?;
    } else {
        print(&format!("{}: {name}, {} bytes\n", written.file, grouped(bytes as usize)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The format that is asked for, or that the name of the file says.
fn format(asked: Option<&str>, out: &Path) -> Result<(&'static str, Format)> {
    let all = || FORMATS.map(|(name, ..)| name).join(", ");
    let file = out.to_string_lossy().to_lowercase();
    let fits = |(name, _, endings): &&(&str, Format, &[&str])| match asked {
        Some(asked) => *name == asked,
        None => endings.iter().any(|ending| file.ends_with(ending)),
    };
    let found = FORMATS.iter().find(fits).map(|(name, format, _)| (*name, *format));
    found.ok_or_else(|| match asked {
        Some(asked) => Failure::usage(format_args!("--to: {asked:?} is none of {}", all())),
        None => Failure::usage(format_args!(
            "{}: the name does not say a format; --to takes one of {}",
            out.display(),
            all()
        )),
    })
}
