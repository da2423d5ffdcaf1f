//! C and C++ programs, with every compiler that is here.
//!
//! They link with a static and a shared library that cargo builds when the first of them is asked for: the
//! crate itself is an rlib only. The one that runs the tests holds no lock any more then. They are built as
//! the tests are, with debug assertions, overflow checks and no link-time optimisation.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::backends::report;

/// C and C++ compilers that belong together.
const COMPILERS: [(&str, &str); 3] = [("gcc", "g++"), ("clang", "clang++"), ("cc", "c++")];

pub(crate) const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// What careful projects compile headers of others with.
pub(crate) const STRICT: [&str; 3] = ["-Wshadow", "-Wconversion", "-Wsign-conversion"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder with libelman.a and the shared library, under the names that `make` gives them in target/c.
/// ELMAN_LIB_DIR names another one: that of the libraries that ship, say.
pub(crate) fn library_dir() -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| shipped_libraries().unwrap_or_else(build_libraries)).clone()
}

/// What ELMAN_LIB_DIR names.
pub(crate) fn shipped_libraries() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("ELMAN_LIB_DIR")?);
    Some(dir.canonicalize().unwrap_or_else(|error| panic!("ELMAN_LIB_DIR, {}: {error}", dir.display())))
}

pub(crate) fn soname() -> String {
    format!("{}.{}", shared_library(), abi())
}

/// What the header calls the ABI's line.
fn abi() -> String {
    match env!("CARGO_PKG_VERSION_MAJOR") {
        "0" => concat!("0.", env!("CARGO_PKG_VERSION_MINOR")).to_owned(),
        major => major.to_owned(),
    }
}

fn build_libraries() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its executable");
    // target/debug/deps/test
    let target = test.ancestors().nth(3).expect("cargo puts tests three folders deep");
    let mut cargo = Command::new(env!("CARGO"));
    // What the test links with is here already.
    cargo.args(["rustc", "--lib", "--crate-type", "staticlib,cdylib", "--offline", "--locked"]);
    cargo.arg("--manifest-path").arg(root().join("Cargo.toml")).arg("--target-dir").arg(target);
    if cfg!(target_os = "linux") {
        cargo.args(["--", "-C"]).arg(format!("link-arg=-Wl,-soname,{}", soname()));
    }
    run(&mut cargo);

    let (built, dir) = (target.join("debug"), target.join("debug/c"));
    std::fs::create_dir_all(&dir).expect("cargo's folder can be written");
    let links = [
        ("libelman.a".to_owned(), built.join("libelman.a")),
        (shared_library(), built.join(shared_library())),
        (soname(), built.join(shared_library())),
        (format!("{}.{}", shared_library(), env!("CARGO_PKG_VERSION")), built.join(shared_library())),
    ];
    for (name, to) in links {
        link(&to, &dir.join(name));
    }
    dir
}

/// A test in another process may be making the same link.
#[cfg(unix)]
fn link(to: &Path, from: &Path) {
    assert!(to.exists(), "cargo has not built {}", to.display());
    if let Err(error) = std::os::unix::fs::symlink(to, from) {
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{}: {error}", from.display());
    }
}

#[cfg(not(unix))]
fn link(to: &Path, from: &Path) {
    std::fs::copy(to, from).expect("cargo has built the libraries");
}

pub(crate) fn shared_library() -> String {
    format!("libelman{}", std::env::consts::DLL_SUFFIX)
}

/// What a program says of its version, if it is here.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    output.status.success().then(|| text(&output.stdout))
}

/// What cargo starts this target's programs with, an emulator say: the words of `CARGO_TARGET_…_RUNNER`.
fn runner() -> Vec<String> {
    let [arch, os] = [std::env::consts::ARCH, std::env::consts::OS].map(str::to_ascii_uppercase);
    let is_ours = |name: &str| {
        let target = name.strip_prefix("CARGO_TARGET_").and_then(|name| name.strip_suffix("_RUNNER"));
        target.is_some_and(|target| target.starts_with(&arch) && target.contains(&os))
    };
    let mut set = std::env::vars().filter(|(name, _)| is_ours(name));
    set.next().map_or_else(Vec::new, |(_, words)| words.split_whitespace().map(str::to_owned).collect())
}

/// Whether this machine's own programs are others than those of the tests' target; says in the name of `suite` that such are
/// left out.
pub(crate) fn is_emulated(suite: &str) -> bool {
    let runner = runner();
    if !runner.is_empty() {
        report(&format!("{suite}: SKIPPED under {}: the machine's own tools are of no use", runner[0]));
    }
    !runner.is_empty()
}

/// Of random cases every seventh under an emulator, which takes some fifty times as long; else all.
pub(crate) fn thinned<I: IntoIterator>(cases: I) -> std::iter::StepBy<I::IntoIter> {
    cases.into_iter().step_by(if runner().is_empty() { 1 } else { 7 })
}

/// This executable, to be started again.
pub(crate) fn this_executable() -> Command {
    program(&std::env::current_exe().expect("a test has an executable"))
}

/// A program that cargo has built for this target, to be started.
pub(crate) fn program(executable: &Path) -> Command {
    let mut words = runner().into_iter();
    match words.next() {
        None => Command::new(executable),
        Some(runner) => {
            let mut command = Command::new(runner);
            command.args(words).arg(executable);
            command
        }
    }
}

/// Whether there is a program that can be used on what the tests build.
pub(crate) fn is_here(program: &str) -> bool {
    runner().is_empty() && version(program).is_some()
}

/// The compilers that are here, each once though it may have two names; what is skipped is said, in the name
/// of `suite`.
pub(crate) fn compilers(suite: &str) -> Vec<(&'static str, &'static str)> {
    if is_emulated(suite) {
        return Vec::new();
    }
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
