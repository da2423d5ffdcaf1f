//! The house's own lines, read out of the sources: who may name whom, what lives in one room only, where unsafe code is
//! forbidden.
//!
//! Comments, doc examples and text in quotes do not count, so they are taken out first; `#[cfg(test)]` modules do.
//! A room is a directory or a file directly under `src`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// For each room the rooms it may name; every room may also name itself, `memory` and `error`. Knowledge flows down.
const MAY_NAME: [(&str, &[&str]); 20] = [
    // The tool is a crate of its own, above this one: it has what everybody has.
    ("bin", &["*"]),
    (
        "ffi",
        &[
            "export",
            "import",
            "formats",
            "training",
            "tape",
            "stream",
            "sequential",
            "cell",
            "layers",
            "dispatch",
            "process",
        ],
    ),
    // Files for other frameworks; the orders of their gates are known where these are read.
    ("export", &["import", "formats", "sequential", "layers"]),
    // Files of other frameworks; the model that a path leads to may be our own.
    ("import", &["formats", "sequential", "layers"]),
    ("formats", &["training", "sequential", "layers"]),
    ("training", &["tape", "sequential", "sequence", "layers"]),
    ("tape", &["sequential", "sequence", "layers"]),
    // Building a model is where a forced backend that is not there is refused, so these ask dispatch for its
    // kernels. A stream is made of a model, whose snapshot it keeps.
    ("stream", &["sequential", "sequence", "layers", "dispatch"]),
    ("sequential", &["sequence", "layers", "dispatch", "process"]),
    ("cell", &["sequence", "layers", "dispatch", "process"]),
    ("sequence", &["layers", "gemm", "dispatch", "process"]),
    ("layers", &["gemm", "dispatch"]),
    ("gemm", &["dispatch"]),
    ("dispatch", &["kernels", "simd"]),
    ("kernels", &["simd"]),
    ("simd", &[]),
    // Forks and signals: what the operating system does to a process.
    ("process", &[]),
    // Checked sizes are reported in the public error type.
    ("memory", &[]),
    ("error", &[]),
    // The front door: everything is declared and re-exported there.
    ("lib", &["*"]),
];

/// What only one place may say: the words, the paths that may, and why.
const ONE_ROOM: [(&[&str], &[&str], &str); 6] = [
    (
        &["core::arch", "std::arch"],
        // An assembly block without an instruction, for outputs that C has not written.
        &["simd/", "dispatch/", "ffi/raw.rs"],
        "intrinsics live in simd, detection in dispatch",
    ),
    (&["wide::"], &["simd/portable.rs"], "wide is the portable backend"),
    (&["rayon::"], &["sequence/parallel/pool.rs"], "threads are sequence/parallel's"),
    (&["extern \"C\""], &["ffi/", "process/"], "the C ABI is ffi's, and process has a handler that C calls"),
    (&["std::fs"], &["formats/", "bin/"], "files are formats', and the tool's"),
    (&["std::env", "env::var"], &["dispatch/"], "the environment is read in dispatch"),
];

/// Rooms that must forbid unsafe code.
const SAFE: [&str; 8] =
    ["layers", "sequential", "stream", "training", "formats", "import", "export", "error"];

/// What the tool must not name: it uses what everybody may use.
const NOT_THE_TOOLS: [&str; 2] = ["elman::ffi", "unsafe {"];

/// Where every size comes from the caller: memory is taken by `List`, `AlignedVec` and `zeros`, which can say
/// that there is none, and `Few` is for what is as long as there are layers or threads.
const TAKES_ROOM: [&str; 14] = [
    "sequence/run.rs",
    "sequence/input.rs",
    "sequence/output.rs",
    "sequence/halves.rs",
    "sequence/head.rs",
    "sequence/states.rs",
    "sequence/schedule.rs",
    "sequence/pipeline.rs",
    "sequence/layered.rs",
    "sequence/streaming/",
    "sequence/scratch.rs",
    "sequence/tape/",
    "stream.rs",
    "cell.rs",
];

/// What ends the process where there is no memory.
const ENDS_THE_PROCESS: [&str; 7] =
    ["Vec::", ": Vec<", "<Vec<", "vec!", ".to_vec()", "with_capacity", ".into_boxed_slice()"];

/// What passes over a new kind of layer in silence, where a `match` would not compile.
const PASSES_OVER: [&str; 2] = ["let Packed::", "let Layer::"];

/// One source file.
struct Source {
    /// Below `src`, with `/`.
    path: String,
    room: String,
    /// Without comments; string contents blanked, the quotes left.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let below = file.strip_prefix(&root).expect("it was found there");
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let room = parts[0].trim_end_matches(".rs").to_owned();
        let code = code(&fs::read_to_string(&file).expect("sources are UTF-8"));
        Source { path: parts.join("/"), room, code }
    };
    let sources: Vec<Source> = files.into_iter().map(read).collect();
    assert!(sources.len() > 20, "only {} sources found", sources.len());
    sources
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// What of a source is code. Strings lose their content, except the `C` of `extern "C"`.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            at += block_comment(rest);
        } else if let Some(len) = raw_string(rest).filter(|_| !code.last().is_some_and(is_word)) {
            code.extend_from_slice(b"\"\"");
            at += len;
        } else if rest.starts_with(b"\"C\"") {
            code.extend_from_slice(b"\"C\"");
            at += 3;
        } else if rest[0] == b'"' {
            code.extend_from_slice(b"\"\"");
            at += string(rest);
        } else if rest.starts_with(b"'\"'") || rest.starts_with(b"'\\") {
            // A quote as a character begins no string; an escaped character ends at the next quote.
            let end = rest.iter().skip(3).position(|&byte| byte == b'\'').map_or(rest.len(), |end| end + 4);
            at += if rest[1] == b'"' { 3 } else { end };
        } else {
            code.push(rest[0]);
            at += 1;
        }
    }
    String::from_utf8(code).expect("only whole characters were taken out")
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of a string literal, quotes included.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a raw string literal, where one begins.
fn raw_string(text: &[u8]) -> Option<usize> {
    let text = text.strip_prefix(b"r")?;
    let hashes = text.iter().take_while(|&&byte| byte == b'#').count();
    let body = text[hashes..].strip_prefix(b"\"")?;
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let len = body.windows(end.len()).position(|window| window == end)?;
    Some(1 + hashes + 1 + len + end.len())
}

/// The rooms that follow each `crate::`, and each `super::`, which reaches them from a room's own file.
fn named_rooms(code: &str) -> Vec<String> {
    let mut rooms = names_after("crate::", code);
    let through_super = names_after("super::", code);
    rooms.extend(through_super.into_iter().filter(|name| MAY_NAME.iter().any(|(room, _)| room == name)));
    rooms
}

/// The names that follow each `prefix`: one, or those at the head of each branch of a brace.
fn names_after(prefix: &str, code: &str) -> Vec<String> {
    let mut rooms: Vec<String> = Vec::new();
    for (at, found) in code.match_indices(prefix) {
        // `$crate::` counts, `mycrate::` does not.
        if code.as_bytes()[..at].last().is_some_and(is_word) {
            continue;
        }
        let rest = &code[at + found.len()..];
        let word =
            |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(branches) = rest.strip_prefix('{') else {
            rooms.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in branches.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    rooms.push(word(&branches[start..i]));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    // A comma at the end of a brace leaves an empty branch.
    rooms.retain(|room| !room.is_empty());
    rooms
}

/// Code with white space out of the way, so that a path broken over lines is still found.
fn squeezed(code: &str) -> String {
    code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::").replace(":: ", "::")
}

/// Whether `code` says `words` as words of their own.
fn says(code: &str, words: &str) -> bool {
    code.match_indices(words).any(|(at, _)| !code.as_bytes()[..at].last().is_some_and(is_word))
}

/// The same for `std::fs` as in `use std::{fs, io}`.
fn says_in_braces(code: &str, words: &str) -> bool {
    let Some((head, tail)) = words.rsplit_once("::").filter(|(_, tail)| !tail.is_empty()) else {
        return false;
    };
    let opening = format!("{head}::{{");
    code.match_indices(&opening).any(|(at, _)| {
        let inside = &code[at + opening.len()..];
        let inside = &inside[..inside.find(';').unwrap_or(inside.len())];
        inside
            .split([',', '{', '}'])
            .any(|branch| branch.trim() == tail || branch.trim().starts_with(&format!("{tail}::")))
    })
}

#[test]
fn knowledge_flows_down() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.into_iter().collect();
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for source in sources() {
        let Some(may) = allowed.get(source.room.as_str()) else {
            wrong.push(format!("src/{}: the room {} is not in MAY_NAME", source.path, source.room));
            continue;
        };
        for named in named_rooms(&squeezed(&source.code)) {
            arrows += 1;
            let fine = named == source.room
                || ["memory", "error"].contains(&named.as_str())
                || may.contains(&"*")
                || may.contains(&named.as_str());
            // `memory` and `error` name nothing but, for sizes, the error.
            let fine = fine && !(source.room == "error" && named == "memory");
            if !fine {
                wrong.push(format!("src/{}: {} must not name {named}", source.path, source.room));
            }
        }
    }
    assert!(arrows > 50, "only {arrows} names found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_room_each() {
    let mut wrong = Vec::new();
    let mut found = BTreeMap::new();
    for source in sources() {
        let code = squeezed(&source.code);
        for (spellings, places, why) in ONE_ROOM {
            for words in spellings {
                if !says(&code, words) && !says_in_braces(&code, words) {
                    continue;
                }
                found.insert(why, ());
                if !places.iter().any(|place| source.path.starts_with(place)) {
                    wrong.push(format!("src/{}: {words}: {why}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A line that nothing meets any more is a line that watches nothing.
    assert_eq!(found.len(), ONE_ROOM.len(), "found only {:?}", found.keys());
}

#[test]
fn unsafe_code_is_forbidden_where_the_house_says_so() {
    let mut wrong = Vec::new();
    for source in sources() {
        let root = SAFE
            .iter()
            .any(|room| source.path == format!("{room}.rs") || source.path == format!("{room}/mod.rs"));
        if root && !source.code.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("src/{}: lacks #![forbid(unsafe_code)]", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_tool_uses_what_everybody_has() {
    let tool: Vec<Source> = sources().into_iter().filter(|source| source.room == "bin").collect();
    assert!(tool.iter().any(|source| {
        source.path == "bin/elman/main.rs" && source.code.contains("#![forbid(unsafe_code)]")
    }));
    for source in tool {
        let code = squeezed(&source.code);
        let named = NOT_THE_TOOLS.iter().find(|words| says(&code, words));
        assert_eq!(named, None, "src/{}", source.path);
        assert!(!says_in_braces(&code, "elman::ffi"), "src/{}", source.path);
    }
}

#[test]
fn sizes_from_the_caller_are_taken_by_what_can_refuse() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for source in sources().iter().filter(|source| TAKES_ROOM.iter().any(|at| source.path.starts_with(at))) {
        let code = squeezed(&source.code);
        let all = ENDS_THE_PROCESS.iter().filter(|words| code.contains(**words));
        // `AlignedVec::` is not a `Vec`.
        wrong.extend(
            all.filter(|words| !words.starts_with("Vec") || says(&code, words))
                .map(|words| format!("src/{}: {words} cannot say that there is no memory", source.path)),
        );
        read += usize::from(["List", "AlignedVec", "Aligned"].iter().any(|word| code.contains(word)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 8, "only {read} sources take memory");
}

#[test]
fn a_new_kind_of_layer_is_passed_over_nowhere() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("sequence/")) {
        let code = squeezed(&source.code);
        for words in PASSES_OVER.iter().filter(|words| says(&code, words)) {
            wrong.push(format!("src/{}: {words} passes over other kinds: match all of them", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_code_counts() {
    let text = r##"
        // use crate::kernels
        /* std::fs /* rayon:: */ */
        let a = "crate::simd \" wide::"; let b = r#"std::env "quoted" "#; let c = '"'; let d = '\'';
        extern "C" fn e() {}
        use crate::{gemm::{Rows, Init}, layers, memory::AlignedVec as A,};
        use std::{fs::File, io};
        use super::super::sequence::run; use super::own;
    "##;
    let code = squeezed(&code(text));
    assert_eq!(named_rooms(&code), ["gemm", "layers", "memory", "sequence"]);
    for absent in ["kernels", "simd", "wide", "rayon", "std::env", "std::fs"] {
        assert!(!code.contains(absent), "{absent} in {code}");
    }
    assert!(
        says(&code, "extern \"C\"") && says_in_braces(&code, "std::fs") && !says_in_braces(&code, "std::env")
    );
    assert!(says("a wide::f32x4", "wide::") && !says("world_wide::web", "wide::"));
}
