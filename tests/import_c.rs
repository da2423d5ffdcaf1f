//! Every kind of file through a C program (`tests/ffi/imports.c`): what the framework computes, by path and from
//! bytes, and what is refused.

#![cfg(all(unix, feature = "capi", feature = "keras", feature = "torch", feature = "onnx"))]

mod common;
mod import_cases;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::programs::{WARNINGS, compilers, library_dir, root, run, text};
use elman::Input;
use elman::ffi::*;
use import_cases::{Cases, directory};

/// Files with an expected output that are refused, which the suites of their readers hold them to.
const REFUSED: [&str; 4] =
    ["dynamo_rnn_unrolled", "keras_gru_loop", "node_lstm_with_peepholes", "node_gru_reverse"];

/// What a state dict does not say, in the order of the program's lines.
fn options(name: &str) -> [u32; 5] {
    let (tanh, relu, linear) = (ELMAN_ACTIVATION_TANH.0, ELMAN_ACTIVATION_RELU.0, ELMAN_ACTIVATION_LINEAR.0);
    let output = match name {
        "head" => return [ELMAN_OUTPUT_LAST_STEP.0, relu, 1, relu, ELMAN_ACTIVATION_SOFTMAX.0],
        _ if name.ends_with("_state_both") || name == "cell" => ELMAN_OUTPUT_LAST_STATE,
        _ if name.ends_with("_sequence_both") || name.ends_with("_bare") => ELMAN_OUTPUT_SEQUENCE,
        _ => ELMAN_OUTPUT_LAST_STEP,
    };
    [output.0, tanh, 0, linear, linear]
}

/// The case that a file belongs to, if there is one that needs nothing but input.
fn case_of<'a>(cases: &'a Cases, stem: &str) -> Option<&'a str> {
    let plain = ["_new", "_deflated", "_checkpoint", "_views"]
        .iter()
        .fold(stem, |stem, ending| stem.strip_suffix(ending).unwrap_or(stem));
    let known = |name: &str| cases.plain(name);
    known(plain).or_else(|| known(plain.strip_suffix("_old")?))
}

fn join<T: std::fmt::Debug>(values: &[T]) -> String {
    values.iter().fold(values.len().to_string(), |mut line, value| {
        let _ = write!(line, " {value:?}");
        line
    })
}

/// A line for each file of a framework that has a case.
fn lines_of(framework: &str) -> (String, usize) {
    let cases = Cases::read(framework);
    let mut files: Vec<_> = std::fs::read_dir(directory(framework))
        .expect("the files are there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    let (mut lines, mut count) = (String::new(), 0);
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        // Weights alone go into a network that is there; the other is another layout of the same numbers.
        if name.ends_with(".weights.h5") || name.contains("_weights") || name == "forms_prefix.pt" {
            continue;
        }
        let stem = name.split('.').next().expect("a name");
        if stem.starts_with("refused") || REFUSED.iter().any(|refused| stem.ends_with(refused)) {
            continue;
        }
        let Some(case) = case_of(&cases, stem) else { continue };
        let options = if framework == "torch" { options(case) } else { options("") };
        let (input, [batch, steps], y) = cases.question(case);
        let (kind, x) = match input {
            Input::Floats(x) => ("floats", join(x)),
            Input::Tokens(ids) => ("tokens", join(ids)),
        };
        let options = options.map(|option| option.to_string()).join(" ");
        // The program's directory is ours, whatever it is called.
        let path = file.strip_prefix(root()).expect("it is below").display();
        let _ = writeln!(lines, "same {path} {options} {kind} {batch} {steps} {x} {}", join(y));
        count += 1;
    }
    (lines, count)
}

/// Files that are refused, and such as are none.
fn wrong_files(directory: &Path) -> (String, usize) {
    let mut lines = String::new();
    let mut count = 0;
    let mut fails = |path: &Path, status: &str| {
        let path = path.strip_prefix(root()).unwrap_or(path).display();
        let _ = writeln!(lines, "fails {path} {status}");
        count += 1;
    };
    for file in [
        "keras/refused_selu.keras",
        "keras/refused_chunks.h5",
        "keras/forms.weights.h5",
        "torch/refused_projection.pt",
        "torch/refused_module.pt",
        "onnx/refused_clip.onnx",
        "onnx/refused_external.onnx",
        "onnx/node_lstm_with_peepholes.onnx",
        "audio/refused_conv.json",
        "audio/refused_wavenet.nam",
    ] {
        fails(&import_cases::directory(file), "UNSUPPORTED");
    }
    for file in [
        "keras/gru_last.keras",
        "keras/lstm_last.h5",
        "torch/forms.pt",
        "torch/forms_old.pt",
        "onnx/lengths.onnx",
    ] {
        let bytes = std::fs::read(import_cases::directory(file)).expect("the file is there");
        let half = directory.join(file.replace('/', "_"));
        std::fs::write(&half, &bytes[..bytes.len() / 2]).expect("it can be written");
        fails(&half, "BAD_FORMAT");
    }
    for (name, bytes) in
        [("empty", &b""[..]), ("words", b"a model"), ("zip", b"PK\x03\x04"), ("json", b"{\"a\": 1}")]
    {
        let path = directory.join(name);
        std::fs::write(&path, bytes).expect("it can be written");
        fails(&path, "BAD_FORMAT");
    }
    fails(&directory.join("missing"), "IO");
    fails(directory, "IO");
    (lines, count)
}

#[test]
fn a_c_program_loads_every_kind_of_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let frameworks = ["keras", "torch", "onnx", "audio"].map(lines_of);
    let of_each = frameworks.each_ref().map(|(_, count)| *count);
    let fewest = [31, 45, 47, 3];
    assert!(of_each.iter().zip(fewest).all(|(count, fewest)| *count >= fewest), "{of_each:?}");
    let (wrong, wrong_count) = wrong_files(directory.path());
    let mut list: String = frameworks.iter().map(|(lines, _)| lines.as_str()).collect();
    list += &wrong;
    let count = of_each.iter().sum::<usize>() + wrong_count;
    for (c, _) in compilers("import_c") {
        let program = directory.path().join("imports");
        let mut compile = Command::new(c);
        compile.args(WARNINGS).args(["-std=c99", "-I"]).arg(root().join("include")).arg("-o").arg(&program);
        compile.arg(root().join("tests/ffi/imports.c")).arg(library_dir().join("libelman.a"));
        run(compile.args(["-lutil", "-lrt", "-lpthread", "-lm", "-ldl"]));
        let mut child = Command::new(&program)
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut to = child.stdin.take().expect("a pipe");
        // What fails reads no further.
        let _ = to.write_all(list.as_bytes());
        drop(to);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{c}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), format!("{count} files\n"));
    }
}
