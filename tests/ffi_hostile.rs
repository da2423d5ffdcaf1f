//! A C program that calls every kind of function rightly and wrongly at random, each array before a page that nobody may
//! touch: `tests/ffi/hostile.c`.
//!
//! `ELMAN_HOSTILE_CALLS` is the number of calls for each of four seeds; millions of them are for a night.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::backends::report;
use common::programs::{STRICT, WARNINGS, compilers, is_here, library_dir, root, run, shared_library};

/// A program of `tests/ffi` with the first compiler that is here.
fn compile(directory: &Path, name: &str) -> Option<PathBuf> {
    let Some((c, _)) = compilers("ffi_hostile").into_iter().next() else {
        report("ffi_hostile: SKIPPED: no C compiler is here");
        return None;
    };
    let program = directory.join(name);
    let mut compile = Command::new(c);
    compile.args(WARNINGS).args(STRICT).args(["-std=c11", "-O1", "-g", "-I"]).arg(root().join("include"));
    compile.arg(root().join(format!("tests/ffi/{name}.c"))).arg(library_dir().join(shared_library()));
    compile
        .arg(format!("-Wl,-rpath,{}", library_dir().display()))
        .arg("-o")
        .arg(&program)
        .args(["-lm", "-lpthread"]);
    run(&mut compile);
    Some(program)
}

/// Memory that is read before it is written, or after it is gone, which guard pages do not see. `.ci/sanitizers` does more.
#[test]
#[cfg(target_arch = "x86_64")]
fn valgrind_finds_what_is_planted_and_nothing_else() {
    // It knows no AVX-512.
    if !is_here("valgrind") || !std::arch::is_x86_feature_detected!("avx2") {
        report("ffi_hostile: SKIPPED: no valgrind, or no AVX2");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let valgrind = |program: &Path| {
        let mut command = Command::new("valgrind");
        command.args(["--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
        command.arg(program).env("ELMAN_ISA", "avx2").env_remove("ELMAN_REQUIRE_ISA");
        command
    };
    let Some(planted) = compile(directory.path(), "planted") else { return };
    let found = valgrind(&planted).output().expect("valgrind starts");
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.code() == Some(9) && said.contains("Invalid read"), "the planted fault: {said}");
    let Some(hostile) = compile(directory.path(), "hostile") else { return };
    let said = run(valgrind(&hostile).args(["5000", "5"]));
    assert!(said.starts_with("calls: 500"), "{said}");
    report("ffi_hostile: valgrind, 5000 calls");
}

#[test]
fn random_calls_end_in_a_status_and_write_nothing_when_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(program) = compile(directory.path(), "hostile") else { return };
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
