//! Training on several processes by MPI: `ffi-examples/distributed.c`.
#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::backends::report;
use common::programs::{is_here, library_dir, root, run};

const STEPS: &str = "60";

fn mpirun(ranks: usize, program: &Path) -> Command {
    let mut command = Command::new("mpirun");
    // Containers are root, and have fewer processors than ranks.
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]).arg(program);
    command
}

/// The losses that a run printed, by step, and the digest of its weights.
#[track_caller]
fn results(output: &str) -> (Vec<(u64, f64)>, String) {
    let losses = output.lines().filter_map(|line| {
        let (step, loss) = line.strip_prefix("step ")?.split_once(": loss ")?;
        Some((step.parse().expect("a step"), loss.parse().expect("a loss")))
    });
    let digest = output.lines().find_map(|line| line.strip_prefix("weights: "));
    (losses.collect(), digest.unwrap_or_else(|| panic!("no digest in {output}")).to_owned())
}

#[test]
fn processes_train_as_one_and_a_killed_run_goes_on() {
    if !(is_here("mpicc") && is_here("mpirun") && is_here("make") && is_here("pkill")) {
        report("distributed: SKIPPED: mpicc, mpirun, make and pkill are not all here");
        return;
    }
    let build = tempfile::tempdir().expect("a temporary directory");
    let mut make = Command::new("make");
    make.arg("-C").arg(root().join("ffi-examples")).args(["mpi", "--no-print-directory"]);
    make.arg(format!("BUILD={}", build.path().display())).arg(format!("LIB_DIR={}", library_dir().display()));
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    run(&mut make);
    let program = build.path().join("distributed");

    let (alone, _) = results(&run(mpirun(1, &program).arg(STEPS)));
    let (shared, _) = results(&run(mpirun(2, &program).arg(STEPS)));
    assert_eq!(alone.len(), 6);
    for ((step, one), (_, two)) in alone.iter().zip(&shared) {
        assert!((one - two).abs() <= 1e-6, "step {step}: loss {one} of one process, {two} of two");
    }
    assert!(shared[5].1 < shared[0].1 - 0.1, "nothing is learned: {shared:?}");
    // Three, whose parts of a batch differ.
    let (three, _) = results(&run(mpirun(3, &program).arg("11")));
    assert!((three[1].1 - alone[1].1).abs() <= 1e-6, "{three:?}, {alone:?}");

    // Killed between checkpoints: every 20 steps one is written.
    let checkpoint = build.path().join("model.ckpt");
    let mut killed = mpirun(2, &program)
        .args(["100000", checkpoint.to_str().expect("UTF-8")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mpirun starts");
    let begun = Instant::now();
    while !checkpoint.exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    run(Command::new("pkill").args(["-KILL", "-P", &killed.id().to_string()]));
    assert!(!killed.wait().expect("it ends").success(), "nothing was killed");
    let checkpoint = checkpoint.to_str().expect("UTF-8");
    // Asked for no further step, it says where it would go on.
    let stands = run(mpirun(1, &program).args(["0", checkpoint]));
    let done: u64 = stands
        .split_once("steps ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no step in {stands}"));
    assert!(done >= 20 && done.is_multiple_of(20), "{stands}");
    let target = (done + 15).to_string();
    let resumed = run(mpirun(2, &program).args([&target, checkpoint]));
    assert!(resumed.contains(&format!("steps {done} to {target}")), "{resumed}");
    let unbroken = run(mpirun(2, &program).arg(&target));
    assert_eq!(results(&resumed).1, results(&unbroken).1, "{resumed}{unbroken}");
}
