//! The tool `elman`, run as a user runs it.

#![cfg(all(feature = "cli", feature = "keras", feature = "torch", feature = "onnx"))]

mod common;
mod import_cases;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use import_cases::{Cases, directory};
use serde_json::Value;

fn tool() -> Command {
    common::programs::program(Path::new(env!("CARGO_BIN_EXE_elman")))
}

/// What a run left behind.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What it said, with nothing said to be wrong.
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.code, &self.err[..]), (Some(0), ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.fine()).expect("JSON")
    }

    /// That it ended with this code and one line that has these words, and said nothing else.
    #[track_caller]
    fn fails(self, code: i32, words: &[&str]) {
        let Ran { code: got, out, err } = self;
        assert_eq!((got, &out[..]), (Some(code), ""), "{err}");
        assert!(err.starts_with("elman: ") && err.ends_with('\n') && err.lines().count() == 1, "{err:?}");
        for word in words {
            assert!(err.contains(word), "{word:?} in {err}");
        }
    }
}

fn elman<A: AsRef<OsStr>>(arguments: &[A]) -> Ran {
    Ran::of(tool().args(arguments).stdin(Stdio::null()).output().expect("it can be started"))
}

/// The same with words on standard input.
fn fed<A: AsRef<OsStr>>(input: &str, arguments: &[A]) -> Ran {
    let mut command = tool();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it can be started");
    let mut to = child.stdin.take().expect("a pipe");
    // What refuses the command line reads nothing.
    let _ = to.write_all(input.as_bytes());
    drop(to);
    Ran::of(child.wait_with_output().expect("it ends"))
}

fn file(name: &str) -> String {
    path(directory(name))
}

fn path(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().expect("UTF-8").to_owned()
}

fn data(name: &str) -> String {
    path(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("ffi-examples/data").join(name))
}

/// A `.npy` file as NumPy writes it.
fn npy(kind: &str, shape: &[usize], data: impl Iterator<Item = u8>) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(|dim| format!("{dim},")).collect();
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
    while (10 + header.len() + 1) % 64 > 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes().chain(data));
    bytes
}

fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len());
    npy("<f4", shape, values.iter().flat_map(|value| value.to_le_bytes()))
}

/// A directory with the input and the output of a case, `[3, 7, 5]` and `shape`.
struct Case {
    directory: tempfile::TempDir,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Case {
    fn new(framework: &str, name: &str, shape: &[usize]) -> Self {
        let cases = Cases::read(framework);
        let (x, y) = cases.floats(name);
        let case =
            Self { directory: tempfile::tempdir().expect("a directory"), x: x.to_vec(), y: y.to_vec() };
        case.write("x.npy", floats(&[3, 7, 5], x));
        case.write("y.npy", floats(shape, y));
        case
    }

    fn path(&self, name: &str) -> String {
        path(self.directory.path().join(name))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("it can be written");
        path
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("it was written")
    }
}

/// Rows of steps as text.
fn lines(values: &[f32], columns: usize, steps: usize) -> String {
    let mut text = String::new();
    for (number, line) in values.chunks(columns).enumerate() {
        if number > 0 && steps > 0 && number % steps == 0 {
            text.push('\n');
        }
        let words: Vec<String> = line.iter().map(|value| format!("{value:?}")).collect();
        text += &(words.join(",") + "\n");
    }
    text
}

fn numbers(text: &str) -> Vec<f32> {
    text.split([',', '\n'])
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().expect("a number"))
        .collect()
}

#[track_caller]
fn close(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-5, "{ours} for {theirs}");
    }
}

#[test]
fn help_teaches_and_says_every_option() {
    let all = elman(&["--help"]).fine();
    assert_eq!(elman(&["help"]).fine(), all);
    for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  "] {
        assert!(all.contains(code), "{code}");
    }
    for command in ["inspect", "convert", "run", "bench", "check"] {
        assert!(all.contains(&format!("\n  {command} ")), "{command}");
        let help = elman(&[command, "--help"]).fine();
        assert_eq!(elman(&[command, "-h"]).fine(), help);
        assert_eq!(elman(&["help", command]).fine(), help);
        assert!(help.starts_with(&format!("elman {command} ")) && help.contains("\n  elman "), "{help}");
        for option in ["--prefix", "--take", "--activation", "--between", "--last", "--json"] {
            assert!(help.contains(option), "{command} {option}");
        }
        assert!(help.lines().all(|line| line.len() <= 120), "{command}");
    }
    assert_eq!(elman(&["--version"]).fine(), concat!("elman ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_command_lines_are_said_to_be() {
    elman::<&str>(&[]).fails(2, &["--help"]);
    elman(&["sing"]).fails(2, &["sing", "inspect", "bench"]);
    elman(&["--sing"]).fails(2, &["--sing"]);
    elman(&["inspect"]).fails(2, &["MODEL", "got 0"]);
    elman(&["run", "a", "b", "c"]).fails(2, &["MODEL INPUT", "got 3"]);
    elman(&["inspect", "a", "--vocabulary", "b"]).fails(2, &["--vocabulary"]);
    elman(&["inspect", "a", "-x"]).fails(2, &["-x"]);
    elman(&["run", "a", "b", "--threads"]).fails(2, &["--threads"]);
    elman(&["run", "a", "b", "--threads", "two"]).fails(2, &["--threads", "two"]);
    elman(&["run", "a", "b", "--steps", "0"]).fails(2, &["--steps", "at least 1"]);
    elman(&["check", "a", "b", "c", "--tolerance", "NaN"]).fails(2, &["--tolerance", "NaN"]);
    elman(&["check", "a", "b", "c", "--tolerance", "-1"]).fails(2, &["--tolerance", "-1"]);
    elman(&["inspect", "a", "--take", "all"]).fails(2, &["all", "last-step"]);
    elman(&["inspect", "a", "--last", "gelu"]).fails(2, &["gelu", "softmax"]);
    elman(&["convert", "a", "b.xyz"]).fails(2, &["b.xyz", "elman"]);
    elman(&["convert", "a", "b", "--to", "tflite"]).fails(2, &["tflite", "elman"]);
    let model = file("audio/gru.json");
    elman(&["run", &model, "-", "--threads", "1,2"]).fails(2, &["--threads"]);
    elman(&["run", &model, "-", "--threads", "9999"]).fails(2, &["--threads", "9999"]);
    elman(&["run", &model, "-", "--vocabulary", &data("vocabulary.txt")]).fails(2, &["floats"]);
    elman(&["run", &model, "-", "--json", "-o", "x.npy"]).fails(2, &["--json"]);
}

#[test]
fn inspect_says_what_a_model_is() {
    let keras = elman(&["inspect", &file("keras/gru_last.keras")]).fine();
    for words in ["Keras 3 (.keras)", "0 embedding", "[batch, steps, 5]", "[batch, 3]", "ids 0 to 10", "yes"]
    {
        assert!(keras.contains(words), "{words} in {keras}");
    }
    let json = elman(&["inspect", "--json", &file("keras/lstm_both.keras")]).json();
    assert_eq!(json["origin"], "Keras 3 (.keras)");
    assert_eq!(json["layers"][0]["type"], "bidirectional");
    assert_eq!(json["layers"][0]["output_shape"], serde_json::json!([null, null, 12]));
    // 2 directions, 4 gates of 6 units over 5 inputs, 6 states and a bias.
    assert_eq!(json["layers"][0]["parameters"], 2 * 4 * 6 * (5 + 6 + 1));
    // Its second layer adds the halves: 2 directions, 4 gates of 4 units over 12 inputs and 4 states. Dense is above.
    assert_eq!(json["flops_per_step"], 2 * (2 * 4 * 6 * (5 + 6) + 2 * 4 * 4 * (12 + 4)));
    assert_eq!(json["flops_per_row"], 2 * 4 * 3);
    assert_eq!(json["parameters"], 2 * 4 * 6 * 12 + 2 * 4 * 4 * 17 + 3 * 5);
    assert_eq!((&json["streams"], &json["stateful"]), (&false.into(), &false.into()));
    assert_eq!(json["input_shape"], serde_json::json!([null, null, 5]));
    for (name, origin) in [
        ("keras/lstm_last.h5", "Keras (HDF5)"),
        ("torch/forms.pt", "PyTorch (torch.save)"),
        ("torch/forms_old.pt", "PyTorch (torch.save before 1.6)"),
        ("torch/normal.safetensors", "PyTorch (safetensors)"),
        ("onnx/legacy_gru_last.onnx", "ONNX"),
        ("audio/gru.json", "RTNeural (JSON)"),
        ("audio/nam.nam", "Neural Amp Modeler"),
    ] {
        assert_eq!(elman(&["inspect", "--json", &file(name)]).json()["origin"], origin, "{name}");
    }
    let own = elman(&["inspect", "--json", &data("sentiment.safetensors")]).json();
    assert_eq!((&own["origin"], &own["vocabulary"]), (&"elman's own".into(), &5000.into()));
}

#[test]
fn run_gives_what_the_framework_gives() {
    let case = Case::new("keras", "lstm_both", &[3, 3]);
    let (model, x) = (file("keras/lstm_both.keras"), case.path("x.npy"));
    let text = elman(&["run", &model, &x]).fine();
    assert_eq!(text.lines().count(), 3);
    close(&numbers(&text), &case.y);
    // The same numbers by every road: text in, arrays out, JSON, threads.
    let table = case.write("x.csv", "a,b,c,d,e\n".to_owned() + &lines(&case.x, 5, 7));
    assert_eq!(elman(&["run", &model, &table, "--threads", "0"]).fine(), text);
    assert_eq!(fed(&lines(&case.x, 5, 7).replace(',', " "), &["run", &model, "-"]).fine(), text);
    let out = case.path("out.npy");
    assert_eq!(elman(&["run", &model, &x, "--output", &out]).fine(), "");
    assert_eq!(case.read("out.npy"), floats(&[3, 3], &numbers(&text)));
    elman(&["run", &model, &x, "-o", &case.path("out.csv")]).fine();
    assert_eq!(case.read("out.csv"), text.as_bytes());
    let json = elman(&["run", &model, &x, "--json"]).json();
    assert_eq!(json["shapes"], serde_json::json!([[3, 3]]));
    let values: Vec<f32> = json["outputs"][0]
        .as_array()
        .expect("rows")
        .iter()
        .flat_map(|row| {
            row.as_array().expect("numbers").iter().map(|value| value.as_f64().expect("one") as f32)
        })
        .collect();
    assert_eq!(values, numbers(&text));
    // Big-endian doubles, the first index fastest.
    let doubles: Vec<f32> = (0..105).map(|i| case.x[i % 3 * 35 + i / 3 % 7 * 5 + i / 21]).collect();
    let bytes = npy(">f8", &[3, 7, 5], doubles.iter().flat_map(|value| f64::from(*value).to_be_bytes()));
    let at = bytes.windows(5).position(|five| five == b"False").expect("the header");
    let columns_first = [&bytes[..at], b"True ", &bytes[at + 5..]].concat();
    let columns_first = case.write("columns.npy", columns_first);
    assert_eq!(elman(&["run", &model, &columns_first]).fine(), text);
}

#[test]
fn sequences_have_a_line_for_each_step() {
    let case = Case::new("torch", "gru_sequence_both", &[3, 7, 3]);
    let (model, x) = (file("torch/gru_sequence_both.pt"), case.path("x.npy"));
    let text = elman(&["run", &model, &x, "--take", "sequence"]).fine();
    let blocks: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|block| block.trim().lines().count() == 7));
    close(&numbers(&text), &case.y);
    // Rows of several lengths: each as alone.
    let shorter = lines(&case.x[..35], 5, 7) + "\n" + &lines(&case.x[35..60], 5, 7);
    let both = fed(&shorter, &["run", &model, "-", "--take", "sequence"]).fine();
    assert!(both.starts_with(blocks[0]));
    let alone = fed(&lines(&case.x[35..60], 5, 7), &["run", &model, "-", "--take", "sequence"]).fine();
    assert!(both.ends_with(&alone) && alone.lines().count() == 5);
    let json = fed(&shorter, &["run", &model, "-", "--take", "sequence", "--json"]).json();
    assert_eq!(json["shapes"], serde_json::json!([[1, 7, 3], [1, 5, 3]]));
    fed(&shorter, &["run", &model, "-", "--take", "sequence", "-o", &case.path("no.npy")])
        .fails(3, &["no.npy", "several lengths"]);
}

/// A model that keeps states begins each row where it began.
#[test]
fn rows_do_not_go_on_from_each_other() {
    let nam = file("audio/nam.nam");
    let run = |input: &str| fed(input, &["run", &nam, "-"]).fine();
    let (one, other) = (run("1\n0.5\n"), run("0.25\n"));
    assert_eq!(
        run("\u{feff}1\n0.5\n\n1\n0.5\n\n0.25\n\n1\n0.5\n"),
        [&one[..], &one, &other, &one].join("\n")
    );
}

#[test]
fn options_of_state_dicts_are_those_of_the_library() {
    let case = Case::new("torch", "head", &[3, 2]);
    let (model, x, y) = (file("torch/head.pt"), case.path("x.npy"), case.path("y.npy"));
    let options = ["--activation", "relu", "--between", "relu", "--last", "softmax"];
    let check = |options: &[&str]| elman(&[&["check", &model, &x, &y][..], options].concat());
    assert!(check(&options).fine().starts_with("the same"));
    assert_eq!(check(&[&options[..4], &["--last", "tanh"]].concat()).code, Some(1));
    check(&options[..2]).fails(4, &["head.pt"]);
    let prefixed = file("torch/forms_prefix.pt");
    let layers = elman(&["inspect", "--json", &prefixed, "--prefix", "encoder.deep."]).json();
    assert!(layers["parameters"].as_u64() > Some(0));
    elman(&["inspect", &prefixed, "--prefix", "decoder."]).fails(3, &["decoder."]);
}

#[test]
fn words_become_the_tokens_that_a_model_reads() {
    let (model, words) = (data("sentiment.safetensors"), data("vocabulary.txt"));
    let reviews = std::fs::read_to_string(data("movie_reviews.tsv")).expect("it is there");
    // Those that Keras was tested with.
    let test = reviews.lines().skip(1).filter_map(|line| {
        let [id, rating, text] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let (id, rating): (u32, f32) = (id.parse().ok()?, rating.parse().ok()?);
        (id % 5 == 0 && rating.abs() >= 0.2).then_some(text)
    });
    let sentences: String = test.map(|text| text.to_owned() + "\n").collect();
    let scores = fed(&sentences, &["run", &model, "-", "--vocabulary", &words, "--steps", "80"]).fine();
    let keras = std::fs::read_to_string(data("keras_predictions.txt")).expect("it is there");
    close(&numbers(&scores), &numbers(&keras));

    let ids = fed("17 42\n\n17,42\n", &["run", &model, "-"]).fine();
    let [first, second] = numbers(&ids)[..] else { panic!("{ids}") };
    assert_eq!(first, second);
    let directory = tempfile::tempdir().expect("a directory");
    let array = directory.path().join("ids.npy");
    for (kind, ids) in
        [("<i8", [17_i64, 42, 17, 42].map(i64::to_le_bytes).concat()), ("|u1", vec![17, 42, 17, 42])]
    {
        std::fs::write(&array, npy(kind, &[2, 2], ids.into_iter())).expect("it can be written");
        assert_eq!(elman(&["run", &model, &path(&array)]).fine(), format!("{first:?}\n{first:?}\n"));
    }

    fed("17 words\n", &["run", &model, "-"]).fails(3, &["line 1", "words", "--vocabulary"]);
    fed("good\n\n", &["run", &model, "-", "--vocabulary", &words]).fails(3, &["row 1", "--steps"]);
    fed("5000\n", &["run", &model, "-"]).fails(3, &["5000"]);
    fed("-1\n", &["run", &model, "-"]).fails(3, &["-1"]);
    fed("99999999999\n", &["run", &model, "-"]).fails(3, &["99999999999"]);
    std::fs::write(&array, floats(&[1, 2], &[1.0, 2.0])).expect("it can be written");
    elman(&["run", &model, &path(&array)]).fails(3, &["floats", "token ids"]);
    std::fs::write(&array, npy("<i8", &[1, 1], (1_i64 << 40).to_le_bytes().into_iter())).expect("written");
    elman(&["run", &model, &path(&array)]).fails(3, &["1099511627776"]);
}

#[test]
fn check_tells_the_same_from_the_different() {
    let case = Case::new("onnx", "legacy_lstm_last", &[3, 3]);
    let (model, x) = (file("onnx/legacy_lstm_last.onnx"), case.path("x.npy"));
    let check =
        |expected: &str, options: &[&str]| elman(&[&["check", &model, &x, expected][..], options].concat());
    assert!(check(&case.path("y.npy"), &[]).fine().starts_with("the same: 9 numbers"));
    let table = case.write("y.csv", lines(&case.y, 3, 0));
    let json = check(&table, &["--json"]).json();
    assert_eq!((&json["same"], &json["values"]), (&true.into(), &9.into()));
    assert!(json["difference"].as_f64() < Some(1e-5));

    let mut wrong = case.y.clone();
    wrong[7] += 0.25;
    let other = case.write("other.npy", floats(&[3, 3], &wrong));
    let Ran { code, out, err } = check(&other, &[]);
    assert_eq!((code, &err[..]), (Some(1), ""));
    assert!(out.starts_with("different: 9 numbers") && out.contains("at [2, 1]"), "{out}");
    assert!(out.contains(&format!("{:?} expected", wrong[7])) && out.contains(" 0.2"), "{out}");
    assert!(check(&other, &["--tolerance", "0.3"]).fine().starts_with("the same"));
    let json: Value = serde_json::from_str(&check(&other, &["--json"]).out).expect("JSON");
    assert_eq!((&json["same"], &json["at"]), (&false.into(), &serde_json::json!([2, 1])));

    wrong[1] = f32::NAN;
    let nan = case.write("nan.npy", floats(&[3, 3], &wrong));
    let Ran { code, out, .. } = check(&nan, &["--tolerance", "1000000"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("infinite at [0, 1]") && out.contains("no number expected"), "{out}");
    let json: Value = serde_json::from_str(&check(&nan, &["--json"]).out).expect("JSON");
    assert_eq!((&json["difference"], &json["expected"]), (&Value::Null, &Value::Null));

    let fewer = case.write("fewer.npy", floats(&[2, 3], &case.y[..6]));
    let Ran { code, out, .. } = check(&fewer, &[]);
    assert_eq!((code, out.contains("gives 9 numbers, and 6 are expected")), (Some(1), true), "{out}");
    check(&case.write("none.csv", ""), &[]).fails(3, &["none.csv", "no numbers"]);
    check(&case.path("missing.npy"), &[]).fails(3, &["missing.npy"]);
}

#[test]
fn numbers_that_are_none_go_through() {
    let model = file("audio/gru.json");
    let text = fed("0.5\nNaN\n0.5\n", &["run", &model, "-"]).fine();
    let values = numbers(&text);
    assert!(values[0].is_finite() && values[1].is_nan() && values[2].is_nan(), "{text}");
    let json = fed("0.5\nNaN\n", &["run", &model, "-", "--json"]).json();
    assert!(json["outputs"][0][0][0][0].is_number() && json["outputs"][0][0][1][0].is_null(), "{json}");
    let directory = tempfile::tempdir().expect("a directory");
    let expected = directory.path().join("y.csv");
    std::fs::write(&expected, &text).expect("it can be written");
    assert!(fed("0.5\nNaN\n0.5\n", &["check", &model, "-", &path(&expected)]).fine().starts_with("the same"));
}

#[test]
fn convert_writes_a_model_that_computes_the_same() {
    let case = Case::new("keras", "gru_both", &[3, 3]);
    let (model, out) = (file("keras/gru_both.h5"), case.path("out.safetensors"));
    let said = elman(&["convert", &model, &out]).fine();
    assert!(said.starts_with(&format!("{out}: elman, ")), "{said}");
    let (x, y) = (case.path("x.npy"), case.path("y.npy"));
    assert!(elman(&["check", &out, &x, &y]).fine().starts_with("the same"));
    assert_eq!(elman(&["inspect", "--json", &out]).json()["origin"], "elman's own");
    let named = case.path("model.bin");
    let json = elman(&["convert", &model, &named, "--to", "elman", "--json"]).json();
    assert_eq!(json["format"], "elman");
    assert_eq!(json["bytes"], case.read("model.bin").len());
    assert_eq!(case.read("model.bin"), case.read("out.safetensors"));
    // Its states at the beginning would be lost.
    elman(&["convert", &file("audio/nam.nam"), &out]).fails(4, &["nam.nam", "states of its own"]);
    elman(&["convert", &model, &case.path("no/such/directory.safetensors")])
        .fails(3, &["directory.safetensors"]);
}

/// Every format, by the name of the file and by the option; what comes back computes the same.
#[test]
fn convert_writes_every_format() {
    let case = Case::new("torch", "normal", &[3, 2]);
    let (model, x, y) = (file("torch/normal.pt"), case.path("x.npy"), case.path("y.npy"));
    for (name, to, format, origin) in [
        ("a.onnx", &[][..], "onnx", "ONNX"),
        ("a.pt", &[], "torch", "PyTorch (torch.save)"),
        ("A.PTH", &[], "torch", "PyTorch (torch.save)"),
        ("b.safetensors", &["--to", "torch"], "torch", "PyTorch (safetensors)"),
        ("c.safetensors", &[], "elman", "elman's own"),
        ("d.onnx", &["--to", "elman"], "elman", "elman's own"),
    ] {
        let out = case.path(name);
        let said = elman(&[&["convert", &model, &out, "--json"][..], to].concat()).json();
        assert_eq!(
            (&said["format"], &said["bytes"]),
            (&format.into(), &case.read(name).len().into()),
            "{name}"
        );
        assert_eq!(elman(&["inspect", "--json", &out]).json()["origin"], origin, "{name}");
        assert!(elman(&["check", &out, &x, &y]).fine().starts_with("the same"), "{name}");
    }
    // Weights alone are no model.
    let weights = case.path("a.weights.h5");
    let said = elman(&["convert", &model, &weights, "--json"]).json();
    assert_eq!(said["format"], "keras-weights");
    elman(&["inspect", &weights]).fails(4, &["a.weights.h5", "load_weights"]);
    // Tokens that are masked, which a state dict cannot say.
    let out = case.path("masked.pt");
    elman(&["convert", &file("keras/lstm_last.keras"), &out])
        .fails(4, &["masked.pt", "layer 0", "mask_zero"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn files_that_are_none_have_a_code_and_a_sentence() {
    let case = Case::new("keras", "lstm_both", &[3, 3]);
    let (model, x) = (file("keras/lstm_both.keras"), case.path("x.npy"));
    elman(&["inspect", &case.path("missing.keras")]).fails(3, &["missing.keras", "No such file"]);
    elman(&["inspect", &path(case.directory.path())]).fails(3, &[]);
    let bytes = std::fs::read(&model).expect("it is there");
    for len in [0, 1, 100, bytes.len() / 2, bytes.len() - 1] {
        elman(&["inspect", &case.write("cut.keras", &bytes[..len])]).fails(3, &["cut.keras"]);
    }
    elman(&["inspect", &file("keras/refused_selu.keras")]).fails(4, &["second", "selu"]);
    elman(&["inspect", &file("onnx/refused_clip.onnx")]).fails(4, &["refused_clip.onnx", "clip"]);

    // Input that does not fit, empty, cut off, no text.
    let run = |input: &str| elman(&["run", &model, input]);
    run(&case.write("other.npy", floats(&[3, 5, 7], &case.x)))
        .fails(3, &["other.npy", "[3, 5, 7]", "steps, 5]"]);
    run(&case.write("empty.csv", "")).fails(3, &["empty.csv", "no rows"]);
    run(&case.write("blank.csv", "\n\n\n")).fails(3, &["blank.csv", "no rows"]);
    run(&case.write("header.csv", "a,b\n")).fails(3, &["header.csv", "no rows"]);
    run(&case.write("none.npy", floats(&[0, 7, 5], &[]))).fails(3, &["none.npy", "no rows"]);
    run(&case.write("short.npy", floats(&[3, 0, 5], &[]))).fails(3, &["short.npy", "no steps"]);
    run(&case.write("narrow.csv", "1,2,3\n")).fails(3, &["narrow.csv", "3 numbers", "5 a step"]);
    run(&case.write("ragged.csv", "1,2,3,4,5\n1,2\n")).fails(3, &["ragged.csv, line 2", "2 numbers"]);
    run(&case.write("words.csv", "1,2,3,4,5\n1,2,three,4,5\n")).fails(3, &["line 2", "three"]);
    run(&case.write("bytes.csv", [0xff, 0xfe, 0])).fails(3, &["bytes.csv", "byte 0"]);
    run(&case.write("complex.npy", npy("<c8", &[1], [0; 8].into_iter()))).fails(4, &["complex.npy", "c8"]);
    let whole = case.read("x.npy");
    run(&case.write("cut.npy", &whole[..whole.len() - 1])).fails(3, &["cut.npy", "[3, 7, 5]", "419 bytes"]);
    run(&case.write("head.npy", &whole[..20])).fails(3, &["head.npy"]);
    elman(&["run", &model, &x, "-o", &case.path("no/such/y.npy")]).fails(3, &["y.npy"]);
    elman(&["run", &model, &x, "--steps", "3"]).fails(2, &["--steps"]);
    let isa = tool().args(["inspect", &model]).env("ELMAN_ISA", "abacus").output();
    Ran::of(isa.expect("it can be started")).fails(4, &["abacus"]);
}

/// `elman run … | head -1`: what is written is more than a pipe holds.
#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_is_nothing_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("x.csv");
    std::fs::write(&input, "0.5\n".repeat(100_000)).expect("it can be written");
    for options in [&[][..], &["--json"]] {
        let mut command = tool();
        command.arg("run").arg(file("audio/gru.json")).arg(&input).args(options);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
        // Nobody reads.
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().expect("it ends"));
        assert_eq!((ran.code, &ran.err[..]), (Some(0), ""), "{options:?}");
    }
    // The answer of `check` is its code.
    let case = Case::new("keras", "lstm_both", &[3, 3]);
    let other = case.write("other.npy", floats(&[3, 3], &[9.0; 9]));
    let mut command = tool();
    command.args(["check", &file("keras/lstm_both.keras"), &case.path("x.npy"), &other]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, &ran.err[..]), (Some(1), ""));
}

#[test]
fn bench_times_streams_and_rows() {
    let quick = ["--seconds", "0.01", "--steps", "20", "--batch", "1,5", "--threads", "1,2"];
    for (model, of, steps) in [
        (file("keras/gru_last.keras"), "a step of a stream", 1),
        (file("keras/lstm_both.keras"), "a row", 20),
        (file("audio/nam.nam"), "a step of a stream", 1),
    ] {
        let json = elman(&[&["bench", &model, "--json"][..], &quick].concat()).json();
        assert_eq!(
            (&json["latency"]["of"], &json["latency"]["steps"]),
            (&of.into(), &steps.into()),
            "{model}"
        );
        let figure = |name: &str| json["latency"][name].as_f64().expect("a number");
        assert!(0.0 < figure("p50") && figure("p50") <= figure("p99") && figure("p99") <= figure("most"));
        assert!(json["peak_flops"].as_f64() > Some(1e8), "{json}");
        let table = json["throughput"].as_array().expect("a list");
        assert_eq!(table.len(), 4);
        for row in table {
            let figure = |name: &str| row[name].as_f64().expect("a number");
            assert!(figure("rows_per_second") > 0.0 && figure("flops") > 0.0);
            assert!(0.0 < figure("share_of_peak") && figure("share_of_peak") < 1.1, "{row}");
            let steps = figure("steps_per_second") / figure("rows_per_second");
            assert!((steps - 20.0).abs() < 1e-6, "{row}");
        }
    }
    let text = elman(&[&["bench", &file("keras/gru_last.keras")][..], &quick].concat()).fine();
    assert!(text.contains("p50") && text.contains("p99") && text.contains("share of peak"), "{text}");
    elman(&["bench", &file("keras/gru_last.keras"), "--batch", "0"]).fails(2, &["--batch"]);
}
