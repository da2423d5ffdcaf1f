//! What a host does to its process must not stop, slow down or change a call: it forks, limits processors,
//! rounds upwards, blocks signals, runs in a real-time class. A C program does it all; what hangs here fails
//! by a time limit.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::backends::report;
use common::programs::{WARNINGS, compilers, library_dir, root, run, shared_library, text};

/// The program, with the first compiler that is here.
fn host(directory: &Path) -> Option<std::path::PathBuf> {
    let Some((c, _)) = compilers("host_threads").into_iter().next() else {
        report("host_threads: SKIPPED: no C compiler is here");
        return None;
    };
    let program = directory.join("host");
    let mut compile = Command::new(c);
    compile.args(WARNINGS).args(["-std=c11", "-O1", "-frounding-math"]).arg("-I").arg(root().join("include"));
    compile.arg(root().join("tests/ffi/host.c")).arg(library_dir().join(shared_library()));
    compile.arg(format!("-Wl,-rpath,{}", library_dir().display()));
    compile.arg("-o").arg(&program).args(["-lm", "-lpthread"]);
    run(&mut compile);
    Some(program)
}

/// Runs the program, or ends it after a time in which it cannot but be done.
#[track_caller]
fn within(limit: Duration, command: &mut Command) -> String {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let begun = Instant::now();
    let hangs = loop {
        if child.try_wait().expect("it is a child").is_some() {
            break false;
        }
        if begun.elapsed() > limit {
            child.kill().expect("it is a child");
            break true;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = child.wait_with_output().expect("it is a child");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!hangs, "{command:?} hangs: nothing came in {limit:?}\n{stdout}\n{stderr}");
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Asks the program for `what` with each number of threads.
fn ask(what: &str, threads: &[usize]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(program) = host(directory.path()) else { return };
    for &threads in threads {
        let mut command = Command::new(&program);
        let said = within(Duration::from_secs(240), command.arg(what).arg(threads.to_string()));
        for line in said.lines() {
            report(&format!("host_threads: {what}, {threads} threads: {line}"));
        }
    }
}

#[test]
fn a_child_after_calls_works() {
    ask("fork-idle", &[1, 2, 64]);
}

#[test]
fn a_child_of_a_process_in_a_call_works() {
    ask("fork-in-call", &[1, 2]);
}

#[test]
fn a_child_of_a_process_in_a_stateful_call_works() {
    ask("fork-in-stateful-call", &[1, 2]);
}

#[test]
fn a_child_of_a_process_in_training_works() {
    ask("fork-in-training", &[1, 2]);
}

#[test]
fn threads_round_as_their_caller_does() {
    ask("rounding", &[2]);
}

#[test]
fn pool_threads_take_no_signals() {
    ask("signals", &[2]);
}

#[test]
fn one_processor_is_no_hindrance() {
    ask("affinity", &[2]);
    ask("confined", &[2]);
}

#[test]
fn a_real_time_caller_does_not_wait_for_ever() {
    ask("fifo", &[2]);
}

#[test]
fn nothing_is_burnt_after_the_last_call() {
    ask("idle", &[2, 64]);
}
