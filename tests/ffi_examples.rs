//! The C and C++ examples, and the headers on their own, with every compiler that is here. (Those in Rust have tests of
//! their own.)
#![cfg(unix)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::backends::report;
use common::programs::{STRICT, WARNINGS, is_here, library_dir, root, run, shared_library, text};

/// Tells what ran and what did not. The test harness hides what passing tests print, and skips are not to be hidden.
fn say(line: &str) {
    report(&format!("ffi_examples: {line}"));
}

fn compilers() -> Vec<(&'static str, &'static str)> {
    common::programs::compilers("ffi_examples")
}

/// The number behind `name: `.
#[track_caller]
fn figure(output: &str, name: &str) -> f64 {
    let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {output}")).parse().expect("a number")
}

#[track_caller]
fn check_sentiment(output: &str) {
    let (accuracy, difference) =
        (figure(output, "accuracy"), figure(output, "largest difference from Keras"));
    assert!(accuracy >= 0.74, "{output}");
    assert!(difference < 1e-5, "{output}");
    assert!(figure(output, "sentences per second") > 0.0, "{output}");
}

/// The models of other frameworks: what these computed, and each file by itself.
fn check_imported(run: impl Fn(&[&str]) -> String) {
    let all = run(&[]);
    assert_eq!(figure(&all, "files"), 3.0, "{all}");
    assert!(figure(&all, "largest difference from their frameworks") <= 1e-5, "{all}");
    let data = root().join("ffi-examples/data");
    let expected = std::fs::read_to_string(data.join("imported.txt")).expect("the list is there");
    for line in expected.lines() {
        let [name, numbers @ ..] = &line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let output = run(&[data.join(name).to_str().expect("UTF-8")]);
        let ours: Vec<&str> = output.trim().split(' ').collect();
        assert_eq!(ours.len(), numbers.len(), "{name}: {output}");
        for (ours, theirs) in ours.iter().zip(numbers) {
            let number = |text: &str| text.parse::<f64>().expect("a number");
            assert!((number(ours) - number(theirs)).abs() <= 1e-5, "{name}: {ours} for {theirs}");
        }
    }
}

/// The examples of padded batches, taggers and streams say themselves whether their bits are right.
fn check_streams(run: impl Fn(&str, &[&str]) -> String) {
    let padded = run("padded", &[]);
    assert!(padded.contains("each row is equal bit for bit to itself alone"), "{padded}");
    let tagger = run("tagger", &[]);
    assert!(tagger.contains("every word has its label"), "{tagger}");
    for arguments in [&["5000"][..], &["5000", "lstm", "40"], &["5000", "gru", "40"]] {
        let audio = run("audio", arguments);
        assert!(audio.contains("samples and blocks are equal bit for bit"), "{audio}");
        assert!(figure(&audio, "median ns") > 0.0, "{audio}");
    }
    let amplifier = run("amplifier", &["5000"]);
    assert!(amplifier.contains("the states of the stream and of the cell are equal"), "{amplifier}");
    let server = run("server", &["5"]);
    assert!(server.contains("11 of 11 conversations are equal bit for bit"), "{server}");
}

fn score_of(line: &str, sentence: &str) -> f64 {
    let (score, rest) = line.split_once('\t').unwrap_or_else(|| panic!("no tab in {line:?}"));
    assert_eq!(rest, sentence);
    score.parse().expect("a score")
}

#[test]
fn the_examples_build_and_run() {
    if !is_here("make") {
        say("SKIPPED: make is not here");
        return;
    }
    for (c, cpp) in compilers() {
        let build = tempfile::tempdir().expect("a temporary directory");
        let mut make = Command::new("make");
        make.arg("-C").arg(root().join("ffi-examples")).args(["all", "--no-print-directory"]);
        make.arg(format!("CC={c}")).arg(format!("CXX={cpp}"));
        make.arg(format!("BUILD={}", build.path().display()));
        make.arg(format!("LIB_DIR={}", library_dir().display()));
        // Not the flags of a make that runs this test.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
        run(&mut make);

        for link in ["static", "shared"] {
            let program = |name: &str| Command::new(build.path().join(format!("{name}-{link}")));
            let cells = run(&mut program("cells"));
            assert!(cells.contains("the results are equal bit for bit"), "{cells}");
            let sequential = run(&mut program("sequential"));
            assert!(sequential.contains("as it should be, LENGTH_MISMATCH: x: expected 36"), "{sequential}");

            check_streams(|name, arguments| run(program(name).args(arguments)));
            check_imported(|arguments| run(program("imported").args(arguments)));

            let sentences = ["A warm, funny and moving film.", "Dull, slow and far too long.", ""];
            let sentiment = run(program("sentiment").args(sentences));
            check_sentiment(&sentiment);
            let scores: Vec<&str> = sentiment.lines().skip(3).collect();
            assert_eq!(scores.len(), 3, "{sentiment}");
            assert!(score_of(scores[0], sentences[0]) > 0.9, "{sentiment}");
            assert!(score_of(scores[1], sentences[1]) < 0.1, "{sentiment}");
            score_of(scores[2], "");
        }
        sentences_come_on_standard_input(&build.path().join("sentiment-static"));
        an_unknown_isa_is_an_error(&build.path().join("cells-static"));
    }
}

fn sentences_come_on_standard_input(program: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("sentences.txt");
    let long = "a very good film ".repeat(20_000);
    std::fs::write(&file, format!("Good.\n\n{long}\r\nno line break at the end"))
        .expect("the file can be written");
    for arguments in [&[][..], &["-"], &["first", "-"]] {
        let input = std::fs::File::open(&file).expect("the file was written");
        let output =
            Command::new(program).args(arguments).stdin(input).output().expect("the program can be started");
        let output = text(&output.stdout);
        let mut lines = output.lines().skip(3);
        if arguments.len() == 2 {
            score_of(lines.next().unwrap_or_default(), "first");
        }
        for sentence in ["Good.", "", &long, "no line break at the end"] {
            score_of(lines.next().unwrap_or_default(), sentence);
        }
        assert_eq!(lines.next(), None);
    }
}

fn an_unknown_isa_is_an_error(program: &Path) {
    let output =
        Command::new(program).env("ELMAN_ISA", "abacus").output().expect("the program can be started");
    assert!(!output.status.success());
    assert!(text(&output.stdout).contains("on unavailable"), "{}", text(&output.stdout));
    let message = text(&output.stderr);
    assert!(message.contains("UNSUPPORTED") && message.contains("abacus"), "{message}");
}

#[test]
fn the_cmake_project_builds_and_runs() {
    if !is_here("cmake") {
        say("SKIPPED: cmake is not here");
        return;
    }
    let build = tempfile::tempdir().expect("a temporary directory");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(root().join("ffi-examples")).arg("-B").arg(build.path());
    configure.arg(format!("-DELMAN_LIB_DIR={}", library_dir().display()));
    run(&mut configure);
    run(Command::new("cmake").arg("--build").arg(build.path()));
    for link in ["static", "shared"] {
        check_sentiment(&run(&mut Command::new(build.path().join(format!("sentiment-{link}")))));
        run(&mut Command::new(build.path().join(format!("cells-{link}"))));
        check_imported(|arguments| {
            run(Command::new(build.path().join(format!("imported-{link}"))).args(arguments))
        });
        run(&mut Command::new(build.path().join(format!("sequential-{link}"))));
        check_streams(|name, arguments| {
            run(Command::new(build.path().join(format!("{name}-{link}"))).args(arguments))
        });
    }
    let training = run(&mut Command::new(build.path().join("train-static")));
    assert!(figure(&training, "test accuracy") >= 0.74, "{training}");
}

/// A program that uses every status as a case, and includes the header twice.
const C_USE: &str = r#"
#include "elman.h"
#include "elman.h"
int use(elman_status status);
int use(elman_status status) {
    switch (status) {
    case ELMAN_STATUS_OK: return elman_sequential_new(0, 0) == ELMAN_STATUS_NULL_POINTER;
    case ELMAN_STATUS_NULL_POINTER: case ELMAN_STATUS_INVALID_ARGUMENT: case ELMAN_STATUS_LENGTH_MISMATCH:
    case ELMAN_STATUS_NOT_BUILT: case ELMAN_STATUS_OUT_OF_MEMORY: case ELMAN_STATUS_IO: case ELMAN_STATUS_BAD_FORMAT:
    case ELMAN_STATUS_UNSUPPORTED: case ELMAN_STATUS_OVERLAP: case ELMAN_STATUS_NOT_FINITE: case ELMAN_STATUS_PANIC:
        return 1;
    default: return 0;
    }
}
#if ELMAN_VERSION_NUMBER < 1000 || ELMAN_VERSION_MAJOR < 0 || ELMAN_VERSION_MINOR < 0 || ELMAN_VERSION_PATCH < 0
#error "the version is no number"
#endif
const char *version(void);
const char *version(void) { return "elman " ELMAN_VERSION_STRING; }
/* Constants are numbers in a declaration, and the types keep 32 bits. */
typedef char status_has_32_bits[sizeof(elman_status) == 4 ? 1 : -1];
typedef char ok_is_constant[ELMAN_STATUS_OK == 0 && ELMAN_STATUS_PANIC == 99 ? 1 : -1];
"#;

/// Views are made of whatever is an array of the right elements, and of nothing else; handles move and are not copied.
const CPP_USE: &str = r#"
#include "elman.hpp"
#include "elman.hpp"
#include <array>
#if __cplusplus >= 202002L
#include <span>
static_assert(std::is_convertible_v<std::span<float>, elman::view<float>>);
static_assert(std::is_convertible_v<std::span<float>, elman::view<const float>>);
static_assert(!std::is_convertible_v<std::span<const float>, elman::view<float>>);
#endif
using floats = elman::view<float>;
using const_floats = elman::view<const float>;
static_assert(std::is_convertible_v<std::vector<float> &, floats>);
static_assert(std::is_convertible_v<const std::vector<float> &, const_floats>);
static_assert(std::is_convertible_v<std::array<float, 3> &, floats>);
static_assert(std::is_convertible_v<float (&)[3], floats>);
static_assert(std::is_convertible_v<const float (&)[3], const_floats>);
static_assert(std::is_convertible_v<floats, const_floats>);
static_assert(!std::is_convertible_v<const_floats, floats>);
static_assert(!std::is_convertible_v<const std::vector<float> &, floats>);
static_assert(!std::is_convertible_v<std::vector<double> &, floats>);
static_assert(!std::is_convertible_v<std::vector<int> &, const_floats>);
static_assert(!std::is_copy_constructible_v<elman::sequential> && std::is_nothrow_move_constructible_v<elman::sequential>);
static_assert(!std::is_copy_constructible_v<elman::simple_rnn_cell>);
static_assert(!std::is_copy_constructible_v<elman::lstm_cell> && std::is_nothrow_move_constructible_v<elman::lstm_cell>);
static_assert(!std::is_copy_constructible_v<elman::gru_cell> && std::is_nothrow_move_constructible_v<elman::gru_cell>);
static_assert(!std::is_copy_constructible_v<elman::stream> && std::is_nothrow_move_constructible_v<elman::stream>);
static_assert(!std::is_copy_constructible_v<elman::tape> && std::is_nothrow_move_constructible_v<elman::tape>);
static_assert(!std::is_copy_constructible_v<elman::trainer> && std::is_nothrow_move_constructible_v<elman::trainer>);
static_assert(std::is_nothrow_move_assignable_v<elman::simple_rnn_cell>);
#ifndef ELMAN_NO_EXCEPTIONS
static_assert(std::is_base_of_v<std::exception, elman::error>);
#endif
"#;

#[test]
fn the_headers_are_clean() {
    for (c, cpp) in compilers() {
        let uses: [(&str, &str, &str, &[&str], &str); 8] = [
            (c, "c", "c99", &[], C_USE),
            (c, "c", "c11", &[], C_USE),
            (cpp, "c++", "c++11", &["-Wold-style-cast"], C_USE),
            (cpp, "c++", "c++17", &["-Wold-style-cast"], CPP_USE),
            (cpp, "c++", "c++20", &["-Wold-style-cast"], CPP_USE),
            (cpp, "c++", "c++17", &["-Wold-style-cast", "-fno-exceptions"], CPP_USE),
            (cpp, "c++", "c++20", &["-Wold-style-cast", "-fno-exceptions"], CPP_USE),
            (cpp, "c++", "c++17", &["-Wold-style-cast", "-DELMAN_NO_EXCEPTIONS"], CPP_USE),
        ];
        for (compiler, language, standard, flags, program) in uses {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let file = directory.path().join("use");
            std::fs::write(&file, program).expect("the file can be written");
            let mut command = Command::new(compiler);
            command.args(WARNINGS).args(STRICT).args(flags);
            command.arg(format!("-std={standard}")).arg("-fsyntax-only");
            command.arg("-I").arg(root().join("include")).args(["-x", language]).arg(&file);
            run(&mut command);
        }
    }
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header =
        std::fs::read_to_string(root().join("include/elman.h")).expect("include/elman.h can be read");
    let declarations = header.lines().filter(|line| !line.starts_with(['/', ' ', '#', '}']));
    let names = declarations.filter_map(|line| line.split_once('(')?.0.split([' ', '*']).next_back());
    names.map(str::to_owned).collect()
}

/// The names that `nm` lists with these arguments.
fn symbols(arguments: &[&str], file: &Path) -> BTreeSet<String> {
    let listed = run(Command::new("nm").args(arguments).arg(file));
    listed.lines().filter_map(|line| line.split_whitespace().next_back()).map(str::to_owned).collect()
}

#[test]
fn training_from_cpp() {
    let source = root().join("tests/ffi/training.cpp");
    for (_, cpp) in compilers() {
        for standard in ["c++17", "c++20"] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let (object, program) = (directory.path().join("training.o"), directory.path().join("training"));
            let mut compile = Command::new(cpp);
            compile.args(WARNINGS).arg(format!("-std={standard}")).arg("-c").arg(&source);
            run(compile.arg("-I").arg(root().join("include")).arg("-o").arg(&object));
            let mut link = Command::new(cpp);
            link.arg(&object).arg("-o").arg(&program).arg("-L").arg(library_dir()).arg("-lelman");
            run(link.arg(format!("-Wl,-rpath,{}", library_dir().display())));
            let output = run(Command::new(&program).arg(directory.path().join("checkpoint")));
            assert!(output.contains("everything is as it should be"), "{output}");
            if is_here("nm") {
                // Without optimization only what is called is there.
                let called = symbols(&["-u"], &object);
                let ours = |name: &&String| {
                    ["_tape_", "_trainer_", "_parameter", "_states"].iter().any(|part| name.contains(part))
                };
                let declared = declared();
                let missing: Vec<_> =
                    declared.iter().filter(ours).filter(|name| !called.contains(*name)).collect();
                assert!(missing.is_empty(), "training.cpp calls no wrapper of {missing:?}");
            }
        }
    }
}

/// A file without exceptions and one with them in one program.
#[test]
fn outcomes_from_cpp_without_exceptions() {
    let source = root().join("tests/ffi/outcomes.cpp");
    for (_, cpp) in compilers() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let object = |name: &str| directory.path().join(name);
        for (name, flags) in [("without.o", &["-fno-exceptions"][..]), ("with.o", &["-DTHROWING"])] {
            let mut compile = Command::new(cpp);
            compile.args(WARNINGS).args(STRICT).args(flags).args(["-std=c++17", "-c"]).arg(&source);
            run(compile.arg("-I").arg(root().join("include")).arg("-o").arg(object(name)));
        }
        if is_here("nm") {
            let called = symbols(&["-u"], &object("without.o"));
            let gated = |name: &String| name.contains("_lstm") || name.contains("_gru");
            let missing: Vec<_> =
                declared().into_iter().filter(gated).filter(|name| !called.contains(name)).collect();
            assert!(missing.is_empty(), "outcomes.cpp calls no wrapper of {missing:?}");
        }
        let mut link = Command::new(cpp);
        link.arg(object("without.o")).arg(object("with.o")).arg("-o").arg(object("outcomes"));
        link.arg("-L").arg(library_dir()).arg("-lelman");
        run(link.arg(format!("-Wl,-rpath,{}", library_dir().display())));
        let output = run(Command::new(object("outcomes")).arg(object("network.safetensors")));
        assert!(output.contains("everything is as it should be"), "{output}");
    }
}

#[test]
fn the_shared_library_exports_what_the_header_declares() {
    if !is_here("nm") || !cfg!(target_os = "linux") {
        say("SKIPPED: nm for ELF is not here");
        return;
    }
    let exported = symbols(&["-D", "--defined-only"], &library_dir().join(shared_library()));
    let declared = declared();
    assert!(declared.contains("elman_version") && declared.contains("elman_sequential_run"), "{declared:?}");
    assert_eq!(exported, declared);
}
