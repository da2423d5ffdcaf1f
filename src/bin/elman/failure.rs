//! Why the tool ends, and with which code.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use elman::Error;

/// `check` found a difference.
pub(crate) const DIFFERENT: u8 = 1;
const USAGE: u8 = 2;
const FILE: u8 = 3;
const UNSUPPORTED: u8 = 4;
const OTHER: u8 = 5;

/// A code, and one line for standard error.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: Some(message.to_string().replace(['\n', '\r'], " ")) }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(USAGE, message)
    }

    /// A file is wrong, or does not fit the model.
    pub(crate) fn file(message: impl fmt::Display) -> Self {
        Self::new(FILE, message)
    }

    pub(crate) fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(UNSUPPORTED, message)
    }

    /// What the library says of a file, whose name it may have said already.
    pub(crate) fn of(path: &Path, error: Error) -> Self {
        let message = error.to_string();
        let path = path.display().to_string();
        let is_said = message.starts_with(&path) || message.contains(&format!(": {path}: "));
        let message = if is_said { message } else { format!("{path}: {message}") };
        Self { message: Some(message), ..Self::from(error) }
    }

    /// Says of which file it is.
    pub(crate) fn about(self, path: &Path) -> Self {
        Self { message: self.message.map(|message| format!("{}: {message}", path.display())), ..self }
    }

    /// Standard output was closed by whoever read it: `elman run … | head`. Nothing is wrong.
    pub(crate) fn is_quiet(&self) -> bool {
        self.message.is_none()
    }

    /// Says it on standard error.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            // Where that is closed too, there is nobody to tell.
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("elman: {message}\n"));
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Io { .. } | Error::BadFormat(_) => FILE,
            // Arguments that the tool has checked itself: what is left comes from files.
            Error::InvalidArgument(_) | Error::LengthMismatch { .. } => FILE,
            Error::Unsupported(_) => UNSUPPORTED,
            _ => OTHER,
        };
        Self::new(code, error)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::usage(error)
    }
}

/// Of standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: 0, message: None },
            _ => Self::file(format_args!("standard output: {error}")),
        }
    }
}
