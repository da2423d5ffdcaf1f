//! The command-line tool: models inspected, converted, run, timed and checked. It uses what the crate gives to
//! everybody.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod check;
mod convert;
mod failure;
mod help;
mod input;
mod inspect;
mod npy;
mod output;
mod progress;
mod run;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Command;
use failure::{Failure, Result};
use lexopt::{Arg, Parser};
use output::print;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn start() -> Result<ExitCode> {
    let mut parser = Parser::from_env();
    let name: OsString = match parser.next()? {
        Some(Arg::Short('h') | Arg::Long("help")) => return say(help::ALL),
        Some(Arg::Short('V') | Arg::Long("version")) => {
            return say(concat!("elman ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Some(Arg::Value(name)) if name == "help" => match parser.next()? {
            Some(Arg::Value(name)) => return say(Command::named(&name)?.help),
            _ => return say(help::ALL),
        },
        Some(Arg::Value(name)) => name,
        Some(other) => return Err(other.unexpected().into()),
        None => return Err(Failure::usage("what is to be done? See elman --help")),
    };
    let command = Command::named(&name)?;
    let Some(arguments) = command.parse(&mut parser)? else { return say(command.help) };
    match command.name {
        "inspect" => inspect::inspect(&arguments),
        "convert" => convert::convert(&arguments),
        "run" => run::run(&arguments),
        "bench" => bench::bench(&arguments),
        _ => check::check(&arguments),
    }
}

fn say(text: &str) -> Result<ExitCode> {
    print(text)?;
    Ok(ExitCode::SUCCESS)
}
