//! `include/elman.h` is what cbindgen makes of `src/ffi` today.
//!
//! `ELMAN_BLESS=1 cargo test --test ffi_header` writes it anew.

use std::fs;
use std::path::Path;

/// The files with C items, in the order of the header.
const SOURCES: [&str; 10] = [
    "status.rs",
    "library.rs",
    "enums.rs",
    "config.rs",
    "cell.rs",
    "options.rs",
    "sequential.rs",
    "stream.rs",
    "tape.rs",
    "trainer.rs",
];

/// The files without; cbindgen follows the modules of `mod.rs`, and would find everything twice.
const OTHERS: [&str; 6] = ["arrays.rs", "boundary.rs", "cancellation.rs", "mod.rs", "raw.rs", "sized.rs"];

fn generate(root: &Path) -> String {
    let config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is well-formed");
    // Single files rather than the crate: no cargo, and the order is ours.
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(root.join("src/ffi").join(file))
    });
    let mut header = Vec::new();
    builder.generate().expect("cbindgen reads src/ffi").write(&mut header);
    String::from_utf8(header).expect("the header is UTF-8")
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

#[test]
fn every_file_of_the_room_is_listed() {
    let mut found: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi"))
        .expect("src/ffi can be read")
        .map(|entry| entry.expect("src/ffi can be read").file_name().into_string().expect("names are UTF-8"))
        .collect();
    found.sort();
    let mut listed: Vec<&str> = SOURCES.into_iter().chain(OTHERS).collect();
    listed.sort_unstable();
    assert_eq!(found, listed, "tests/ffi_header.rs lists the files of src/ffi");
}
