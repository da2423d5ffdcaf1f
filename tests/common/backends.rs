//! Every backend on every run.
//!
//! A process has one instruction set, chosen when it first builds a model. So a suite runs once in the process
//! that `cargo test` starts, on the best backend, and a test of it, usually `every_backend`, starts the same
//! executable again with `ELMAN_ISA` set for each of the others. What ran and what did not is written straight
//! to standard error, where the test harness's capture does not reach. `ELMAN_REQUIRE_ISA=portable,neon`, say,
//! makes a skip of one of these a failure, for machines that are there to run them; so is a name that no
//! backend has.
//!
//! When `ELMAN_ISA` is set from outside, that backend alone runs: the wish of whoever set it, and what a child
//! does.

use std::io::Write;

use elman::Isa;

use super::programs::this_executable;

/// A line on standard error, past the harness's capture.
pub(crate) fn report(line: &str) {
    // A test must not fail for want of a terminal.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// What makes a skip a failure.
const REQUIRE: &str = "ELMAN_REQUIRE_ISA";

/// The backends that must run.
fn required() -> Vec<Isa> {
    let named = std::env::var(REQUIRE).unwrap_or_default();
    let backend = |name: &str| {
        let backend = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        backend.unwrap_or_else(|| panic!("{REQUIRE} is {named:?}, and no backend has the name {name:?}"))
    };
    named.split(',').map(str::trim).filter(|name| !name.is_empty()).map(backend).collect()
}

/// Whether `ELMAN_ISA` decides.
pub(crate) fn is_forced() -> bool {
    std::env::var_os("ELMAN_ISA").is_some()
}

/// Runs all tests of this executable on every backend that this process does not run on. `suite` is its name in
/// reports.
pub(crate) fn run_others(suite: &str) {
    let this = elman::isa().expect("a backend can be chosen");
    if is_forced() {
        report(&format!("{suite}: backend {}: runs here, forced by ELMAN_ISA", this.name()));
        let missed: Vec<_> = required().into_iter().filter(|&isa| isa != this).map(Isa::name).collect();
        assert!(
            missed.is_empty(),
            "{REQUIRE} wants {missed:?}, and ELMAN_ISA lets {} alone run",
            this.name()
        );
        return;
    }
    // Names are looked at where nothing is skipped, too.
    required();
    for isa in Isa::ALL {
        if isa == this {
            report(&format!("{suite}: backend {}: runs here", isa.name()));
        } else if is_there(suite, isa) {
            let passed = passed(&child(isa, &[]));
            report(&format!("{suite}: backend {}: ran, {passed} tests passed", isa.name()));
        }
    }
}

/// Whether this machine has the backend; says so where not.
pub(crate) fn is_there(suite: &str, isa: Isa) -> bool {
    if isa.is_available() {
        return true;
    }
    report(&format!("{suite}: backend {}: SKIPPED, this CPU does not have it", isa.name()));
    assert!(!required().contains(&isa), "{REQUIRE} wants {}, and this CPU does not have it", isa.name());
    false
}

/// This executable again on `isa`, with the harness's arguments `args`; what it wrote. It must succeed.
pub(crate) fn child(isa: Isa, args: &[&str]) -> String {
    child_with(isa.name(), args)
}

/// [`child`] with any value of `ELMAN_ISA`.
pub(crate) fn child_with(isa: &str, args: &[&str]) -> String {
    let output = this_executable().args(args).env("ELMAN_ISA", isa).env_remove(REQUIRE).output();
    let output = output.expect("the executable can be started again");
    let written =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "on backend {isa}:\n{written}");
    passed(&written);
    written
}

/// How many tests passed, from the harness's last line; at least one.
fn passed(written: &str) -> usize {
    let count = written
        .lines()
        .find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().ok());
    let count = count.unwrap_or_else(|| panic!("no result in:\n{written}"));
    assert!(count > 0, "nothing ran:\n{written}");
    count
}
