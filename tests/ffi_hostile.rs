//! A C program that calls every kind of function rightly and wrongly at random, each array before a page that nobody may
//! touch: `tests/ffi/hostile.c`.
//!
//! `ELMAN_HOSTILE_CALLS` is the number of calls for each of four seeds; millions of them are for a night.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use common::arms::report;
use common::programs::{STRICT, WARNINGS, compilers, library_dir, root, run, shared_library};

#[test]
fn random_calls_end_in_a_status_and_write_nothing_when_refused() {
    let Some((c, _)) = compilers("ffi_hostile").into_iter().next() else {
        report("ffi_hostile: SKIPPED: no C compiler is here");
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = directory.path().join("hostile");
    let mut compile = Command::new(c);
    compile.args(WARNINGS).args(STRICT).args(["-std=c11", "-O1", "-I"]).arg(root().join("include"));
    compile.arg(root().join("tests/ffi/hostile.c")).arg(library_dir().join(shared_library()));
    compile.arg(format!("-Wl,-rpath,{}", library_dir().display())).arg("-o").arg(&program).arg("-lm");
    run(&mut compile);
    let calls = std::env::var("ELMAN_HOSTILE_CALLS").unwrap_or_else(|_| "100000".to_owned());
    for seed in ["1", "2", "3", "4"] {
        let said = run(Command::new(&program).args([&calls, seed]));
        let count = |name: &str| -> u64 {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {said}")).parse().expect("a number")
        };
        // The calls get far, and are refused for every reason.
        let all = count("calls");
        assert!(count("OK") > all / 4, "{said}");
        for status in [
            "NULL_POINTER",
            "INVALID_ARGUMENT",
            "LENGTH_MISMATCH",
            "NOT_BUILT",
            "BAD_FORMAT",
            "UNSUPPORTED",
            "OVERLAP",
        ] {
            assert!(count(status) > 0, "{said}");
        }
        report(&format!("ffi_hostile: seed {seed}, {all} calls"));
    }
}
