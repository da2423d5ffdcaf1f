//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use elman::{Activation, LoadOptions, Output, Sequential};
use lexopt::{Arg, Parser, ValueExt};

use crate::failure::{Failure, Result};
use crate::help;

/// What may stand behind a command's name; each command says which options it takes.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// The command's files.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) load: LoadOptions,
    pub(crate) json: bool,
    pub(crate) output: Option<PathBuf>,
    pub(crate) vocabulary: Option<PathBuf>,
    pub(crate) steps: Option<usize>,
    /// As the library counts them: 0 for one a processor.
    pub(crate) threads: Vec<usize>,
    pub(crate) batch: Vec<usize>,
    pub(crate) tolerance: Option<f32>,
    pub(crate) seconds: Option<f64>,
    pub(crate) to: Option<String>,
}

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Its files, as its help names them.
    files: &'static [&'static str],
    /// Its options but those of models.
    options: &'static [&'static str],
}

pub(crate) const COMMANDS: [Command; 5] = [
    Command { name: "inspect", help: help::INSPECT, files: &["MODEL"], options: &[] },
    Command { name: "convert", help: help::CONVERT, files: &["IN", "OUT"], options: &["to"] },
    Command {
        name: "run",
        help: help::RUN,
        files: &["MODEL", "INPUT"],
        options: &["output", "vocabulary", "steps", "threads"],
    },
    Command {
        name: "bench",
        help: help::BENCH,
        files: &["MODEL"],
        options: &["steps", "threads", "batch", "seconds"],
    },
    Command {
        name: "check",
        help: help::CHECK,
        files: &["MODEL", "INPUT", "EXPECTED"],
        options: &["vocabulary", "steps", "threads", "tolerance"],
    },
];

/// What every command takes: how a state dict is to be read.
const COMMON: [&str; 5] = ["prefix", "take", "activation", "between", "last"];

impl Command {
    pub(crate) fn named(name: &OsStr) -> Result<&'static Command> {
        COMMANDS.iter().find(|command| name == command.name).ok_or_else(|| {
            let all = COMMANDS.map(|command| command.name).join(", ");
            Failure::usage(format_args!("no command {name:?}: there are {all}; see elman --help"))
        })
    }

    /// The rest of the command line; `None` where it asks for help.
    pub(crate) fn parse(&self, parser: &mut Parser) -> Result<Option<Arguments>> {
        let mut arguments = Arguments::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(None),
                Arg::Long("json") => arguments.json = true,
                Arg::Long(name) if COMMON.contains(&name) || self.options.contains(&name) => {
                    let name = name.to_owned();
                    arguments.set(&name, parser.value()?)?;
                }
                Arg::Short('o') if self.options.contains(&"output") => {
                    arguments.set("output", parser.value()?)?;
                }
                Arg::Value(file) => arguments.files.push(file.into()),
                Arg::Long(name) => return Err(self.wrong(format_args!("no option --{name}"))),
                Arg::Short(letter) => return Err(self.wrong(format_args!("no option -{letter}"))),
            }
        }
        let (wanted, got) = (self.files.len(), arguments.files.len());
        if wanted != got {
            let files = self.files.join(" ");
            return Err(self.wrong(format_args!("takes {wanted} files ({files}), got {got}")));
        }
        Ok(Some(arguments))
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        Failure::usage(format_args!("{}: {what}; see elman {} --help", self.name, self.name))
    }
}

impl Arguments {
    fn set(&mut self, name: &str, value: OsString) -> Result<()> {
        let file = || Some(PathBuf::from(&value));
        match name {
            "output" => self.output = file(),
            "vocabulary" => self.vocabulary = file(),
            "steps" => self.steps = Some(positive(name, &value)?),
            "threads" => self.threads = list(name, &value)?,
            "batch" => {
                self.batch = list(name, &value)?;
                if self.batch.contains(&0) {
                    return Err(Failure::usage(format_args!("--batch: must be at least 1, got {value:?}")));
                }
            }
            "tolerance" => self.tolerance = Some(not_negative(name, &value)?),
            "seconds" => self.seconds = Some(not_negative(name, &value)?),
            "to" => self.to = Some(value.string()?),
            "prefix" => self.load.prefix = value.string()?,
            "take" => self.load.output = output(&value)?,
            "activation" => self.load.activation = activation(name, &value)?,
            "between" => self.load.between = Some(activation(name, &value)?),
            "last" => self.load.last = activation(name, &value)?,
            _ => return Err(Failure::usage(format_args!("no option --{name}"))),
        }
        Ok(())
    }

    pub(crate) fn model_path(&self) -> &Path {
        &self.files[0]
    }

    pub(crate) fn model_of_one_thread(&self) -> Result<Sequential> {
        let path = self.model_path();
        Sequential::load_with(path, &self.load).map_err(|error| Failure::of(path, error))
    }

    /// The model, with one thread unless several are asked for.
    pub(crate) fn model(&self) -> Result<Sequential> {
        let mut model = self.model_of_one_thread()?;
        match self.threads[..] {
            [] => {}
            [threads] => set_threads(&mut model, threads)?,
            _ => return Err(Failure::usage("--threads: only bench takes more than one number")),
        }
        Ok(model)
    }
}

pub(crate) fn set_threads(model: &mut Sequential, threads: usize) -> Result<()> {
    model.set_threads(threads).map_err(|error| match error {
        elman::Error::InvalidArgument(why) => Failure::usage(format_args!("--threads: {why}")),
        other => other.into(),
    })
}

fn number<T: FromStr>(name: &str, value: &OsStr, what: &str) -> Result<T> {
    let number = value.to_str().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Failure::usage(format_args!("--{name}: {value:?} is not {what}")))
}

fn positive(name: &str, value: &OsStr) -> Result<usize> {
    match number(name, value, "a whole number")? {
        0 => Err(Failure::usage(format_args!("--{name}: must be at least 1, got 0"))),
        number => Ok(number),
    }
}

fn not_negative<T: FromStr + PartialOrd + Default>(name: &str, value: &OsStr) -> Result<T> {
    let number: T = number(name, value, "a number")?;
    if number >= T::default() {
        Ok(number)
    } else {
        Err(Failure::usage(format_args!("--{name}: must not be below 0, got {value:?}")))
    }
}

/// Whole numbers with commas between them.
fn list(name: &str, value: &OsStr) -> Result<Vec<usize>> {
    let text = value.to_string_lossy();
    text.split(',').map(|part| number(name, OsStr::new(part), "a whole number")).collect()
}

fn output(value: &OsStr) -> Result<Output> {
    match value.to_str() {
        Some("sequence") => Ok(Output::Sequence),
        Some("last-step") => Ok(Output::LastStep),
        Some("last-state") => Ok(Output::LastState),
        _ => {
            Err(Failure::usage(format_args!("--take: {value:?} is none of sequence, last-step, last-state")))
        }
    }
}

fn activation(name: &str, value: &OsStr) -> Result<Activation> {
    Activation::ALL.into_iter().find(|activation| value == activation.name()).ok_or_else(|| {
        let all = Activation::ALL.map(Activation::name).join(", ");
        Failure::usage(format_args!("--{name}: {value:?} is none of {all}"))
    })
}
