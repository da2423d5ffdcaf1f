//! `include/elman.h` is what cbindgen makes of `src/ffi` today.
//!
//! `ELMAN_BLESS=1 cargo test --test ffi_header` writes it anew.

use std::fs;
use std::path::Path;

/// The files with C items, in the order of the header.
const SOURCES: [&str; 25] = [
    "status.rs",
    "library.rs",
    "enums.rs",
    "config.rs",
    "cell.rs",
    "gated.rs",
    "options.rs",
    "sequential/handle.rs",
    "sequential/layers.rs",
    "sequential/weights.rs",
    "sequential/states.rs",
    "sequential/runs.rs",
    "files.rs",
    "import.rs",
    "export.rs",
    "stream.rs",
    "tape.rs",
    "trainer/config.rs",
    "trainer/handle.rs",
    "trainer/steps.rs",
    "trainer/halves.rs",
    "trainer/settings.rs",
    "checkpoints.rs",
    "examples.rs",
    "fit.rs",
];

/// The files without; cbindgen follows the modules of `mod.rs`, and would find everything twice.
const OTHERS: [&str; 9] = [
    "arrays.rs",
    "boundary.rs",
    "cancellation.rs",
    "mod.rs",
    "raw.rs",
    "sequential/mod.rs",
    "sized.rs",
    "trainer/mod.rs",
    "trainer/rows.rs",
];

/// What a program compares with the library's answers, and `#if` with numbers.
fn version_macros() -> String {
    let [major, minor, patch] =
        [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "
/* The version of this header; elman_version() and elman_version_number() give the library's. */
#define ELMAN_VERSION_MAJOR {major}
#define ELMAN_VERSION_MINOR {minor}
#define ELMAN_VERSION_PATCH {patch}
#define ELMAN_VERSION_NUMBER \\
    (ELMAN_VERSION_MAJOR * 1000000 + ELMAN_VERSION_MINOR * 1000 + ELMAN_VERSION_PATCH)
#define ELMAN_VERSION_STRING \"{version}\"
"
    )
}

/// The type whose values these constants are, by the longest name that fits.
fn type_of<'a>(constant: &str, types: &[&'a str]) -> &'a str {
    let fits = |name: &&&str| {
        let stem = name.strip_suffix("_kind").unwrap_or(name).to_uppercase();
        constant.strip_prefix(&stem).is_some_and(|rest| rest.starts_with('_'))
    };
    let longest = types.iter().filter(fits).max_by_key(|name| name.len());
    longest.unwrap_or_else(|| panic!("{constant} belongs to no type of the header"))
}

/// cbindgen writes constants as macros, which tools that read headers for other languages never see. Here the
/// constants of each type become the values of an enum without a name: the type stays 32 bits, and `case`
/// takes them.
fn constants_as_enums(header: &str) -> String {
    let lines: Vec<&str> = header.lines().collect();
    let types: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("typedef uint32_t ")?.strip_suffix(';')).collect();
    // A constant is its comment, its line, and an empty one. Macros with a value in brackets or quotes stay
    // macros.
    let constant = |line: &str| {
        let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
        (!name.starts_with("ELMAN_VERSION_") && value.parse::<u32>().is_ok())
            .then(|| (name.to_owned(), value.to_owned()))
    };
    let (mut out, mut open, mut rest) = (Vec::new(), None, lines.as_slice());
    while !rest.is_empty() {
        let comment = rest.iter().take_while(|line| line.starts_with("///")).count();
        if let Some((name, value)) = rest.get(comment).and_then(|line| constant(line)) {
            let of = type_of(&name, &types);
            if open != Some(of) {
                out.extend(open.map(|_| "};\n".to_owned()));
                out.extend([format!("/// The values of {of}."), "enum {".to_owned()]);
                open = Some(of);
            }
            out.extend(rest[..comment].iter().map(|line| format!("    {line}")));
            out.push(format!("    {name} = {value},"));
            rest = &rest[(comment + 2).min(rest.len())..];
        } else {
            out.extend(open.take().map(|_| "};\n".to_owned()));
            let passed = comment.max(1);
            out.extend(rest[..passed].iter().map(|&line| line.to_owned()));
            rest = &rest[passed..];
        }
    }
    out.join("\n") + "\n"
}

fn generate(root: &Path) -> String {
    let mut config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is well-formed");
    config.after_includes = config.after_includes.map(|text| version_macros() + &text);
    // Single files rather than the crate: no cargo, and the order is ours.
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(root.join("src/ffi").join(file))
    });
    let mut header = Vec::new();
    builder.generate().expect("cbindgen reads src/ffi").write(&mut header);
    constants_as_enums(&String::from_utf8(header).expect("the header is UTF-8"))
}

#[test]
fn the_header_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("include/elman.h");
    let fresh = generate(root);
    if std::env::var_os("ELMAN_BLESS").is_some() {
        fs::write(&path, &fresh).expect("include/elman.h can be written");
    }
    let committed = fs::read_to_string(&path).expect("include/elman.h can be read");
    let difference = committed.lines().zip(fresh.lines()).position(|(old, new)| old != new);
    assert!(
        committed == fresh,
        "include/elman.h is stale from line {} on; run ELMAN_BLESS=1 cargo test --test ffi_header",
        difference.map_or(committed.lines().count().min(fresh.lines().count()), |line| line) + 1
    );
}

/// The files below a folder, each by its path there.
fn files_below(folder: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join(name)).expect("src/ffi can be read");
    let entries = entries.flat_map(|entry| {
        let entry = entry.expect("src/ffi can be read");
        let inside = [name, entry.file_name().to_str().expect("names are UTF-8")].join("/");
        let is_folder = entry.file_type().expect("src/ffi can be read").is_dir();
        if is_folder { files_below(folder, &inside) } else { vec![inside] }
    });
    entries.collect()
}

#[test]
fn every_file_of_the_room_is_listed() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut found = files_below(&room, ".");
    found.sort();
    let listed = SOURCES.into_iter().chain(OTHERS).map(|file| format!("./{file}"));
    let mut listed: Vec<String> = listed.collect();
    listed.sort();
    assert_eq!(found, listed, "tests/ffi_header.rs lists the files of src/ffi");
}
