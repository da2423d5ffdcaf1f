//! C and C++ programs, with every compiler that is here.
//!
//! They link with the static and the shared library that cargo has built for this very test: the library's crate types
//! are made in one go, beside the test's own executable. So no second cargo runs, and none waits for a lock.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::arms::report;

/// C and C++ compilers that belong together.
const COMPILERS: [(&str, &str); 3] = [("gcc", "g++"), ("clang", "clang++"), ("cc", "c++")];

pub(crate) const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo has put libelman.a and the shared library.
pub(crate) fn library_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its executable");
    let dir = test.parent().expect("an executable lies in a directory").to_path_buf();
    for file in ["libelman.a".to_owned(), shared_library()] {
        assert!(dir.join(&file).exists(), "cargo has not built {file} in {}", dir.display());
    }
    dir
}

pub(crate) fn shared_library() -> String {
    format!("libelman{}", std::env::consts::DLL_SUFFIX)
}

/// What a program says of its version, if it is here.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    output.status.success().then(|| text(&output.stdout))
}

pub(crate) fn is_here(program: &str) -> bool {
    version(program).is_some()
}

/// The compilers that are here, each once though it may have two names; what is skipped is said, in the name of `suite`.
pub(crate) fn compilers(suite: &str) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    // All but the first word, which is the name that the compiler was called by.
    let signature = |program| version(program)?.split_once(' ').map(|(_, rest)| rest.to_owned());
    for (c, cpp) in COMPILERS {
        if !is_here(c) || !is_here(cpp) {
            report(&format!("{suite}: SKIPPED: {c} and {cpp} are not here"));
        } else if let Some((same, _)) = found.iter().find(|(other, _)| signature(other) == signature(c)) {
            report(&format!("{suite}: {c} is {same}"));
        } else {
            report(&format!("{suite}: with {c} and {cpp}"));
            found.push((c, cpp));
        }
    }
    found
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command with nothing on standard input; it must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().expect("the program can be started");
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}
