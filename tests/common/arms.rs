//! Every arm on every run.
//!
//! A process has one instruction set, chosen when it first builds a model. So a suite runs once in the process that
//! `cargo test` starts, on the best arm, and a test of it, usually `every_arm`, starts the same executable again with
//! `ELMAN_ISA` set for each of the others. What ran and what did not is written straight to standard error, where
//! the test harness's capture does not reach. `ELMAN_REQUIRE_ARMS=portable,avx2,avx512` makes a skip of one of these
//! a failure, for machines that are there to run them.
//!
//! When `ELMAN_ISA` is set from outside, that arm alone runs: the wish of whoever set it, and what a child does.

use std::io::Write;
use std::process::Command;

use elman::Isa;

/// A line on standard error, past the harness's capture.
pub(crate) fn report(line: &str) {
    // A test must not fail for want of a terminal.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether `ELMAN_ISA` decides.
pub(crate) fn is_forced() -> bool {
    std::env::var_os("ELMAN_ISA").is_some()
}

/// Runs all tests of this executable on every arm that this process does not run on. `suite` is its name in reports.
pub(crate) fn run_others(suite: &str) {
    let this = elman::isa().expect("an arm can be chosen");
    if is_forced() {
        report(&format!("{suite}: arm {}: runs here, forced by ELMAN_ISA", this.name()));
        return;
    }
    for isa in Isa::ALL {
        if isa == this {
            report(&format!("{suite}: arm {}: runs here", isa.name()));
        } else if is_there(suite, isa) {
            let passed = passed(&child(isa, &[]));
            report(&format!("{suite}: arm {}: ran, {passed} tests passed", isa.name()));
        }
    }
}

/// Whether this machine has the arm; says so where not.
pub(crate) fn is_there(suite: &str, isa: Isa) -> bool {
    if isa.is_available() {
        return true;
    }
    report(&format!("{suite}: arm {}: SKIPPED, this CPU does not have it", isa.name()));
    let required = std::env::var("ELMAN_REQUIRE_ARMS").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == isa.name()),
        "ELMAN_REQUIRE_ARMS is {required:?}, and this CPU has no {}",
        isa.name()
    );
    false
}

/// This executable again on `isa`, with the harness's arguments `args`; what it wrote. It must succeed.
pub(crate) fn child(isa: Isa, args: &[&str]) -> String {
    child_with(isa.name(), args)
}

/// [`child`] with any value of `ELMAN_ISA`.
pub(crate) fn child_with(isa: &str, args: &[&str]) -> String {
    let executable = std::env::current_exe().expect("a test has an executable");
    let output = Command::new(executable).args(args).env("ELMAN_ISA", isa).output();
    let output = output.expect("the executable can be started again");
    let written =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "on arm {isa}:\n{written}");
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
