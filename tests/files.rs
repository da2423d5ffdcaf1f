//! Files as systems, hosts and strangers have them: what a save replaces and what it leaves alone, what a
//! load costs, and whose checkpoint it is.
#![cfg(unix)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::backends::report;
use common::numbers::{assert_same_bits, values};
use common::programs::{WARNINGS, compilers, library_dir, root, run, shared_library, text, this_executable};
use elman::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Error, Examples, Loss, Masking, MergeMode,
    Optimizer, Sequential, SimpleRnn, Tape, Trainer, TrainerConfig, Unroll, Weight,
};

/// The system's allocator, which remembers the most that was held, and fails when it is told to.
struct Watched;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    /// Large allocations until one fails; negative: none does.
    static UNTIL_FAILURE: Cell<isize> = const { Cell::new(-1) };
}

/// What is smaller is a handle, a message, or a buffer of fixed size.
const LARGE: usize = 16 * 1024;

/// Whether an allocation that makes a block of `size`, `more` than before, may go on.
fn admit(size: usize, more: isize) -> bool {
    if more > 0 && size >= LARGE {
        let left = UNTIL_FAILURE.try_with(|left| left.replace(left.get() - isize::from(left.get() >= 0)));
        if left == Ok(0) {
            return false;
        }
    }
    let _ = HELD.try_with(|held| {
        held.set(held.get() + more);
        MOST.try_with(|most| most.set(most.get().max(held.get())))
    });
    true
}

// SAFETY: everything is the system allocator's, or a failure; counting allocates nothing.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match admit(layout.size(), layout.size() as isize) {
            // SAFETY: the caller's promise.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match admit(layout.size(), layout.size() as isize) {
            // SAFETY: the caller's promise.
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match admit(size, size as isize - layout.size() as isize) {
            // SAFETY: the caller's promise.
            true => unsafe { System.realloc(block, layout, size) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        admit(0, -(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// What `run` gives, and the most that was held in it beyond what was held before.
fn peak<T>(run: impl FnOnce() -> T) -> (T, isize) {
    let before = HELD.get();
    MOST.set(before);
    let outcome = run();
    (outcome, MOST.get() - before)
}

fn say(line: &str) {
    report(&format!("files: {line}"));
}

fn network() -> Sequential {
    Sequential::new(3).add(SimpleRnn::new(5)).add(Dense::new(2)).build(7).unwrap()
}

/// 1 MB of weights.
fn large_network() -> Sequential {
    Sequential::new(500).add(Dense::new(500)).build(7).unwrap()
}

fn io_error<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(error @ Error::Io { .. }) => error.to_string(),
        Err(other) => panic!("should be Io, is {other:?}"),
        Ok(_) => panic!("should fail"),
    }
}

fn bad_format<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(error @ Error::BadFormat(_)) => error.to_string(),
        Err(other) => panic!("should be BadFormat, is {other:?}"),
        Ok(_) => panic!("should fail"),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

#[test]
fn mode_and_owner_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network");
    network().save(&path).unwrap();
    let other = directory.path().join("other");
    File::create(&other).unwrap();
    assert_eq!(mode(&path), mode(&other), "a new file is like any other");
    for wanted in [0o600, 0o640, 0o664, 0o666, 0o4755] {
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        network().save(&path).unwrap();
        assert_eq!(format!("{:o}", mode(&path)), format!("{wanted:o}"));
        assert_ne!(fs::metadata(&path).unwrap().ino(), before, "replaced, not written over");
    }
    if !is_root() {
        say("SKIPPED: only root can give files away");
        return;
    }
    std::os::unix::fs::chown(&path, Some(12345), Some(54321)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    network().save(&path).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (12345, 54321, 0o640));
    Sequential::load(&path).unwrap();
}

#[test]
fn symbolic_links_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("deep")).unwrap();
    fs::write(at("deep/file"), "old").unwrap();
    symlink("deep/file", at("link")).unwrap();
    symlink(at("link"), at("second")).unwrap();
    symlink("deep/none", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    for (link, target) in [("link", "deep/file"), ("second", "deep/file"), ("dangling", "deep/none")] {
        network().save(at(link)).unwrap();
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link} is no link any more");
        assert!(fs::symlink_metadata(at(target)).unwrap().is_file());
        Sequential::load(at(link)).unwrap();
        fs::write(at(target), "old").unwrap();
    }
    io_error(network().save(at("loop")));
    assert_eq!(names(&at("deep")), ["file", "none"]);
    assert_eq!(names(directory.path()), ["dangling", "deep", "link", "loop", "second"]);
}

/// Neither replaced nor waited for nor read to an end that does not come.
#[test]
fn what_is_no_regular_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    let link = directory.path().join("link");
    symlink("/dev/zero", &link).unwrap();
    let socket = directory.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut places = vec![fifo.clone(), socket, directory.path().to_owned(), link];
    places.extend(["/dev/null", "/dev/full", "/dev/zero"].map(PathBuf::from));
    for place in places {
        let (network, trained) = (network(), place.clone());
        let (done, waits) = std::sync::mpsc::channel();
        // A thread of its own: what waits would wait for ever.
        std::thread::spawn(move || {
            let mut model = network;
            let trainer = Trainer::new(&model, adam()).unwrap();
            let failures = [
                io_error(model.save(&trained)),
                io_error(Sequential::load(&trained)),
                io_error(trainer.save(&model, &trained)),
                io_error(Trainer::load(&mut model, &trained)),
            ];
            let _ = done.send(failures);
        });
        let failures =
            waits.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{place:?} hangs"));
        for failure in failures {
            assert!(failure.contains("not a regular file"), "{failure}");
        }
    }
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(names(directory.path()), ["fifo", "link", "socket"]);
}

/// A name that is a file's when it is looked at, and a FIFO's when it is opened, and the other way round.
#[test]
fn a_fifo_that_takes_a_name_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    run(Command::new("mkfifo").arg(at("fifo")));
    network().save(at("name")).unwrap();
    let (done, waits) = std::sync::mpsc::channel();
    let name = at("name");
    // A thread of its own: what waits would wait for ever.
    std::thread::spawn(move || {
        let begun = Instant::now();
        let mut model = network();
        let trainer = Trainer::new(&model, adam()).unwrap();
        let mut seen = [0; 2];
        while begun.elapsed() < Duration::from_secs(2) {
            for failed in [Sequential::load(&name).err(), Trainer::load(&mut model, &name).err()] {
                seen[usize::from(matches!(failed, Some(Error::Io { .. })))] += 1;
            }
            let _ = trainer.save(&model, &name);
        }
        let _ = done.send(seen);
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        fs::hard_link(at("fifo"), at("next")).unwrap();
        fs::rename(at("next"), at("name")).unwrap();
        network().save(at("next")).unwrap();
        fs::rename(at("next"), at("name")).unwrap();
    }
    let seen = waits.recv_timeout(Duration::from_secs(20)).expect("nothing hangs");
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_read_only_file_stays() {
    if is_root() {
        say("SKIPPED: root may write read-only files");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network");
    fs::write(&path, "kept").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    io_error(network().save(&path));
    assert_eq!(fs::read(&path).unwrap(), b"kept");
}

/// A mount that ends with the test.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this process may not mount.
    fn new(what: &str, at: &Path, arguments: &[&str]) -> Option<Self> {
        let mut mount = Command::new("mount");
        let done = mount.args(arguments).arg(what).arg(at).stderr(Stdio::null()).status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        say(&format!("SKIPPED: this process may not mount {what}"));
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_mounted_file_is_written_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let (path, outside) = (directory.path().join("mounted"), directory.path().join("outside"));
    fs::write(&path, "").unwrap();
    fs::write(&outside, vec![7; 100_000]).unwrap();
    let Some(_mounted) = Mounted::new(outside.to_str().unwrap(), &path, &["--bind"]) else { return };
    let network = network();
    network.save(&path).unwrap();
    assert_eq!(
        fs::read(&outside).unwrap(),
        network.to_bytes().unwrap(),
        "longer than before, or not written"
    );
    Sequential::load(&path).unwrap();
    assert_eq!(names(directory.path()), ["mounted", "outside"]);
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::new("tmpfs", directory.path(), &["-t", "tmpfs", "-o", "size=256k"]) else {
        return;
    };
    let path = directory.path().join("network");
    network().save(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let large = large_network();
    io_error(large.save(&path));
    io_error(large.save(directory.path().join("new")));
    let trainer = Trainer::new(&large, adam()).unwrap();
    io_error(trainer.save(&large, &path));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(directory.path()), ["network"]);
}

#[test]
fn leftovers_of_killed_saves_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for leftover in [".elman-1-0.tmp", ".elman-4000000-17.tmp"] {
        fs::write(at(leftover), "half").unwrap();
    }
    let others = [".elman-notes", ".tmp", "elman-1-0.tmp"];
    others.iter().for_each(|other| fs::write(at(other), "").unwrap());
    // Another process is just saving.
    let at_work = File::create(at(".elman-2-0.tmp")).unwrap();
    at_work.lock().unwrap();
    network().save(at("network")).unwrap();
    assert_eq!(
        names(directory.path()),
        [".elman-2-0.tmp", ".elman-notes", ".tmp", "elman-1-0.tmp", "network"]
    );
    drop(at_work);
    network().save(at("network")).unwrap();
    assert_eq!(names(directory.path()), [".elman-notes", ".tmp", "elman-1-0.tmp", "network"]);
}

const SAVE_IN: &str = "ELMAN_TEST_SAVE_IN";

#[test]
#[ignore = "run by killed_saves_harm_nothing, and killed"]
fn saves_for_ever() {
    let Some(directory) = std::env::var_os(SAVE_IN) else { return };
    let network = large_network();
    loop {
        network.save(Path::new(&directory).join("network")).unwrap();
    }
}

#[test]
fn killed_saves_harm_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network");
    let expected = large_network().to_bytes().unwrap();
    let mut left = 0;
    for _ in 0..10 {
        let before = names(directory.path());
        let mut child = this_executable()
            .args(["--ignored", "--exact", "saves_for_ever"])
            .env(SAVE_IN, directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        // Killed as soon as it has begun a file, once there is a whole one.
        let is_saving = || {
            let new = |name: &String| name.starts_with(".elman-") && !before.contains(name);
            path.exists() && names(directory.path()).iter().any(new)
        };
        while !is_saving() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it saves nothing");
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        left += usize::from(names(directory.path()).len() > 1);
    }
    assert!(left > 0, "no kill has met a save");
    large_network().save(&path).unwrap();
    assert_eq!(names(directory.path()), ["network"], "after {left} of 10 kills had left a file");
}

/// Two processes' worth of savers and a reader: each read is one whole file.
#[test]
fn savers_at_the_same_time_do_not_meet() {
    let directory = tempfile::tempdir().unwrap();
    let path = &directory.path().join("network");
    network().save(path).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| network().save(path).unwrap()));
        }
        (0..50).for_each(|_| drop(Sequential::load(path).unwrap()));
    });
    assert_eq!(names(directory.path()), ["network"]);
}

/// A thread that is cancelled while it saves and loads, and a file larger than the process may write.
#[test]
fn a_c_host_cancels_and_limits() {
    for (c, _) in compilers("files") {
        let directory = tempfile::tempdir().unwrap();
        for (link, library) in [("static", "libelman.a".to_owned()), ("shared", shared_library())] {
            let program = directory.path().join(link);
            let mut compile = Command::new(c);
            compile
                .args(WARNINGS)
                .arg("-std=c11")
                .arg("-I")
                .arg(root().join("include"))
                .arg("-o")
                .arg(&program);
            compile.arg(root().join("tests/ffi/files.c")).arg(library_dir().join(library));
            compile.arg(format!("-Wl,-rpath,{}", library_dir().display())).args(["-lpthread", "-ldl", "-lm"]);
            run(&mut compile);
            let files = directory.path().join(format!("{link}-files"));
            fs::create_dir(&files).unwrap();
            let mut program = Command::new(&program);
            let output = program.arg(&files).stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{}: {}\n{}", c, output.status, text(&output.stderr));
            assert_eq!(names(&files), ["checkpoint", "network"]);
        }
    }
}

fn header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A model file of one Dense(1) that reads one feature, with the JSON of its metadata and its bias as given.
fn dense_file(metadata: &str, bias: &str) -> Vec<u8> {
    let kernel = r#""layers.0.kernel":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}"#;
    header(&format!(r#"{{"__metadata__":{metadata},{kernel},{bias}}}"#), &[0; 8])
}

const BIAS: &str = r#""layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;

fn model_metadata(config: &str) -> String {
    format!(r#"{{"format":"elman","version":"1","config":{}}}"#, serde_json::to_string(config).unwrap())
}

#[test]
fn what_is_there_twice_is_refused() {
    let dense = r#"{"type":"dense","units":1}"#;
    let config = |layer: &str| format!(r#"{{"input_size":1,"layers":[{layer}]}}"#);
    let metadata = model_metadata(&config(dense));
    Sequential::load_bytes(&dense_file(&metadata, BIAS)).unwrap();
    let twice = |metadata: &str, bias: &str, key: &str| {
        let message = bad_format(Sequential::load_bytes(&dense_file(metadata, bias)));
        assert!(
            message.contains(key) && (message.contains("twice") || message.contains("duplicate")),
            "{message}"
        );
    };
    twice(&metadata, &format!("{BIAS},{BIAS}"), "layers.0.bias");
    twice(
        &metadata,
        &format!(r#"{BIAS},"layers.0.\u0062ias":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#),
        "layers.0.bias",
    );
    twice(&metadata, &format!(r#"{BIAS},"__metadata__":{metadata}"#), "__metadata__");
    twice(
        &metadata,
        r#""layers.0.bias":{"dtype":"F32","shape":[1],"data_offsets":[4,8],"dtype":"F32"}"#,
        "dtype",
    );
    twice(&metadata.replacen('{', r#"{"remark":"a","remark":"b","#, 1), BIAS, "remark");
    twice(&metadata.replacen('{', r#"{"version":"1","#, 1), BIAS, "version");
    twice(&model_metadata(&config(r#"{"type":"dense","units":1,"units":1}"#)), BIAS, "units");
    twice(&model_metadata(&config(r#"{"type":"dense","type":"dense","units":1}"#)), BIAS, "type");
    twice(
        &model_metadata(&format!(r#"{{"input_size":1,"input_size":1,"layers":[{dense}]}}"#)),
        BIAS,
        "input_size",
    );
    let recurrent = r#"{"type":"bidirectional","simple_rnn":{"units":1,"units":1}}"#;
    twice(&model_metadata(&config(recurrent)), BIAS, "units");
}

#[test]
fn null_is_no_value() {
    for layer in [r#"{"type":"dense","units":1,"use_bias":null}"#, r#"{"type":null,"units":1}"#] {
        let config = format!(r#"{{"input_size":1,"layers":[{layer}]}}"#);
        let message = bad_format(Sequential::load_bytes(&dense_file(&model_metadata(&config), BIAS)));
        assert!(message.contains("layers.0"), "{message}");
    }
}

/// Files of a megabyte, made to cost as much memory as they can. Most of them cost gigabytes where the whole
/// of what JSON says is kept.
#[test]
fn what_a_file_costs_is_bounded_by_its_size() {
    const SIZE: usize = 1_000_000;
    let repeat = |one: &str| one.repeat(SIZE / one.len());
    let in_layers = |layers: &str| {
        let config = format!(r#"{{"input_size":1,"layers":[{}]}}"#, layers.trim_end_matches(','));
        dense_file(&model_metadata(&config), BIAS)
    };
    let tensors: String = (0..SIZE / 60)
        .map(|i| format!(r#","{i:x}":{{"dtype":"F32","shape":[],"data_offsets":[0,0]}}"#))
        .collect();
    let remarks: String = (0..SIZE / 12).map(|i| format!(r#""{i:x}":"","#)).collect();
    let metadata = model_metadata(r#"{"input_size":1,"layers":[{"type":"dense","units":1}]}"#);
    let long_name = repeat("x");
    let escaped = repeat(r"\u0061");
    let most_layers = r#"{"type":"dropout","rate":0},"#.repeat(65_535);
    let files = [
        ("layers", in_layers(&repeat(r#"{"type":"dropout","rate":0},"#))),
        ("no layers", in_layers(&repeat("{},"))),
        ("numbers for layers", in_layers(&repeat("0,"))),
        ("a list in a layer", in_layers(&format!(r#"{{"rate":[{}0],"type":"dropout"}}"#, repeat("0,")))),
        ("lists in a layer", in_layers(&format!(r#"{{"rate":[{}0],"type":"dropout"}}"#, repeat("[],")))),
        ("a long type", in_layers(&format!(r#"{{"type":"{long_name}"}}"#))),
        ("a long field", in_layers(&format!(r#"{{"type":"dense","{long_name}":1}}"#))),
        ("an escaped type", in_layers(&format!(r#"{{"type":"{escaped}"}}"#))),
        ("digits", in_layers(&format!(r#"{{"type":"dense","units":{}}}"#, repeat("1")))),
        ("depth", in_layers(&repeat("["))),
        ("tensors", dense_file(&metadata, &format!("{BIAS}{tensors}"))),
        ("remarks", dense_file(&metadata.replacen('{', &format!("{{{remarks}"), 1), BIAS)),
        ("a long remark", dense_file(&metadata.replacen('{', &format!(r#"{{"r":"{escaped}","#), 1), BIAS)),
        ("a long format", dense_file(&metadata.replacen("elman", &escaped, 1), BIAS)),
        ("a long dtype", dense_file(&metadata, &BIAS.replace("F32", &escaped))),
        ("a long shape", dense_file(&metadata, &BIAS.replace("[1]", &format!("[{}1]", repeat("1,"))))),
        ("no JSON", header(&repeat("\u{e9}"), &[])),
        ("no text", [&(SIZE as u64).to_le_bytes()[..], &vec![0xff; SIZE]].concat()),
        ("the most layers", in_layers(&format!(r#"{most_layers}{{"type":"dense","units":1}}"#))),
    ];
    let (mut worst, mut built) = (0.0f64, 0.0);
    for (name, file) in files {
        let (outcome, peak) = peak(|| Sequential::load_bytes(&file));
        let factor = peak as f64 / file.len() as f64;
        let of_layers = if name == "the most layers" { 65_536 * 2048 } else { 0 };
        assert!(peak <= 6 * file.len() as isize + of_layers, "{name}: {peak} bytes for {}", file.len());
        match outcome {
            // The dense layer is the last one: its weights have other names.
            Err(Error::BadFormat(message)) => {
                assert!(message.len() < 2000, "{name}: {} bytes", message.len())
            }
            Err(other) => panic!("{name}: {other:?}"),
            Ok(_) => assert!(name.contains("remark"), "{name} was loaded"),
        }
        if of_layers == 0 { worst = worst.max(factor) } else { built = peak as f64 / 65_536.0 }
    }
    // One that loads.
    let names = BIAS.replace("layers.0", "layers.65535");
    let file = in_layers(&format!(r#"{most_layers}{{"type":"dense","units":1}}"#));
    let length = file.len();
    let text = String::from_utf8(file[8..length - 8].to_vec()).unwrap();
    let text = text.replace("layers.0.kernel", "layers.65535.kernel").replace(BIAS, &names);
    let file = header(&text, &[0; 8]);
    let (outcome, most) = peak(|| Sequential::load_bytes(&file));
    assert_eq!(outcome.unwrap().layers().len(), 65_536);
    assert!(most <= 6 * file.len() as isize + 65_536 * 2048, "{most}");
    // Weights are there once plain, once packed, and never as the file's bytes.
    let large = large_network().to_bytes().unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("large"), &large).unwrap();
    let (outcome, of_large) = peak(|| Sequential::load(directory.path().join("large")));
    outcome.unwrap();
    let of_large = of_large as f64 / large.len() as f64;
    assert!(of_large < 2.2, "{of_large}");
    // A matrix of one column is packed in whole vectors: the most that a model can cost its file's owner.
    let narrow = Sequential::new(100_000).add(Dense::new(1)).build(1).unwrap().to_bytes().unwrap();
    let (outcome, of_narrow) = peak(|| Sequential::load_bytes(&narrow));
    outcome.unwrap();
    assert!(of_narrow < 18 * narrow.len() as isize, "{of_narrow} bytes for {}", narrow.len());
    say(&format!(
        "hostile files cost up to {worst:.1} times their size, the most layers {built:.0} bytes each, {:.0} where they \
         are loaded; 1 MB of weights {of_large:.2} times theirs",
        most as f64 / 65_536.0
    ));
}

/// A file whose length is a promise: 2^40 bytes, all of them zeros that nobody has written.
#[test]
fn a_sparse_file_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    let sparse = |start: &[u8]| {
        fs::write(&path, start).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1 << 40)
    };
    if sparse(&[]).is_err() {
        say("SKIPPED: this file system has no large files");
        return;
    }
    let metadata = model_metadata(r#"{"input_size":1,"layers":[{"type":"dense","units":1}]}"#);
    for start in [vec![], dense_file(&metadata, BIAS), (1u64 << 39).to_le_bytes().to_vec()] {
        sparse(&start).unwrap();
        let (outcome, most) = peak(|| Sequential::load(&path));
        bad_format(outcome);
        assert!(most < 100_000, "{most} bytes");
    }
}

/// Every large allocation fails once.
#[test]
fn no_memory_is_a_status() {
    let mut model = large_network();
    let trainer = Trainer::new(&model, adam()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (network, checkpoint) = (directory.path().join("network"), directory.path().join("checkpoint"));
    model.save(&network).unwrap();
    trainer.save(&model, &checkpoint).unwrap();
    let mut deep = (0..3000).fold(Sequential::new(2), |deep, _| deep.add(Dense::new(2))).build(1).unwrap();
    let deep_bytes = deep.to_bytes().unwrap();
    let before: Vec<f32> = parameters(&model);
    let mut failures = Vec::new();
    let mut fail = |what: &str, run: &mut dyn FnMut() -> Result<(), Error>| {
        for allocation in 0.. {
            UNTIL_FAILURE.set(allocation);
            let outcome = run();
            let met = UNTIL_FAILURE.replace(-1) < 0;
            match outcome {
                Ok(()) if !met => {
                    failures.push(format!("{what} {allocation}"));
                    break;
                }
                Ok(()) | Err(Error::OutOfMemory { .. }) => {}
                Err(other) => panic!("{what}, allocation {allocation}: {other:?}"),
            }
        }
    };
    fail("save", &mut || model.save(&network));
    fail("save deep", &mut || deep.save(&network));
    fail("to_bytes", &mut || deep.to_bytes().map(drop));
    fail("load", &mut || Sequential::load(&network).map(drop));
    fail("load deep", &mut || Sequential::load_bytes(&deep_bytes).map(drop));
    fail("save checkpoint", &mut || trainer.save(&model, &checkpoint));
    fail("checkpoint to_bytes", &mut || trainer.to_bytes(&model).map(drop));
    fail("load checkpoint", &mut || Trainer::load(&mut model, &checkpoint).map(drop));
    let mut stateful = Sequential::new(2).add(SimpleRnn::new(64).stateful(true)).build(1).unwrap();
    let kept = values(1, stateful.state_len(128).unwrap(), 1.0);
    stateful.set_states(128, &kept).unwrap();
    let bytes = Trainer::new(&stateful, adam()).unwrap().to_bytes(&stateful).unwrap();
    let stateful_trainer = Trainer::new(&stateful, adam()).unwrap();
    fail("save states", &mut || stateful_trainer.to_bytes(&stateful).map(drop));
    fail("load states", &mut || Trainer::load_bytes(&mut stateful, &bytes).map(drop));
    assert_eq!(stateful.states().unwrap(), Some((128, kept)));
    // Lists with an entry for each layer.
    fail("tape", &mut || Tape::new(&deep, 1, 1).map(drop));
    let flat = vec![0.5; deep.parameter_count().unwrap()];
    let shared = Tape::new(&deep, 1, 1).unwrap();
    fail("set_weight", &mut || deep.set_weight(7, Weight::Bias, &[1.0, 2.0]));
    let shared_too = Tape::new(&deep, 1, 1).unwrap();
    fail("set_parameters", &mut || deep.set_parameters(&flat));
    let shared_again = Tape::new(&deep, 1, 1).unwrap();
    fail("drop_weights", &mut || deep.drop_weights());
    drop((shared, shared_too, shared_again));
    assert_same_bits("weights", &parameters(&model), &before);
    assert_eq!(names(directory.path()), ["checkpoint", "network"]);
    say(&format!("large allocations, each of which failed once: {}", failures.join(", ")));
}

#[test]
fn a_save_copies_no_weights() {
    let model = large_network();
    let trainer = Trainer::new(&model, adam()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let (outcome, most) = peak(|| model.save(&path));
    outcome.unwrap();
    assert!(most < 50_000, "{most} bytes");
    let (outcome, most) = peak(|| trainer.save(&model, &path));
    outcome.unwrap();
    assert!(most < 50_000, "{most} bytes for a file of {}", fs::metadata(&path).unwrap().len());
    let (bytes, most) = peak(|| trainer.to_bytes(&model).unwrap());
    assert!(most < bytes.len() as isize + 50_000);
    assert_eq!(bytes, fs::read(&path).unwrap());
}

/// Adding a layer looks at the one below it, not at all of them: that took seconds, and takes milliseconds.
#[test]
fn layers_are_added_in_linear_time() {
    let begun = Instant::now();
    let mut model = Sequential::new(2);
    (0..16_000).for_each(|_| model.push(Dense::new(2)).unwrap());
    let added = begun.elapsed();
    model.initialize(1).unwrap();
    let built = begun.elapsed() - added;
    say(&format!("16,000 layers are added in {added:.1?} and built in {built:.1?}"));
    assert!(added < Duration::from_secs(1), "{added:?}");
}

#[test]
fn there_are_most_layers() {
    let mut model = Sequential::new(2);
    (0..65_536).for_each(|_| model.push(Dropout::new(0.0)).unwrap());
    let Err(Error::InvalidArgument(message)) = model.push(Dropout::new(0.0)) else { panic!("one more") };
    assert!(message.contains("65536"), "{message}");
}

fn adam() -> TrainerConfig {
    TrainerConfig::new(Optimizer::adam(), Loss::MeanSquaredError).seed(3)
}

fn parameters(model: &Sequential) -> Vec<f32> {
    let mut values = vec![0.0; model.parameter_count().unwrap()];
    model.get_parameters(&mut values).unwrap();
    values
}

fn trained(model: &mut Sequential) -> Trainer {
    let mut trainer = Trainer::new(model, adam()).unwrap();
    step(&mut trainer, model);
    trainer
}

fn step(trainer: &mut Trainer, model: &mut Sequential) {
    let (batch, steps) = (2, 3);
    let outputs = model.output_len(batch, steps).unwrap();
    let (x, target) = (values(1, batch * steps * model.input_size(), 1.0), values(2, outputs, 1.0));
    let examples = Examples::floats(&x, batch, steps, &target);
    trainer.step(model, examples, Default::default()).unwrap();
}

/// Each checkpoint is loaded into each of the other networks. Many have the same number of parameters.
#[test]
fn a_checkpoint_of_another_network_is_refused() {
    let rnn = || SimpleRnn::new(2).return_sequences(true);
    let one = |layer: SimpleRnn| Sequential::new(3).add(layer);
    let make = || {
        let networks: Vec<Sequential> = vec![
            // 8 parameters each.
            Sequential::new(3).add(Dense::new(2)),
            Sequential::new(1).add(Dense::new(4)),
            Sequential::new(3).add(Dense::new(2).activation(Activation::Sigmoid)),
            Sequential::new(4).add(Dense::new(2).use_bias(false)),
            Sequential::new(2).add(Dense::new(4).use_bias(false)),
            Sequential::new(3).add(Dense::new(2)).add(Dropout::new(0.5)),
            Sequential::new(3).add(Dropout::new(0.5)).add(Dense::new(2)),
            Sequential::new(3).add(Dropout::new(0.25)).add(Dense::new(2)),
            // Recurrent ones, of the same number of parameters too.
            one(rnn()),
            one(SimpleRnn::new(2)),
            one(rnn().activation(Activation::Relu)),
            one(rnn().go_backwards(true)),
            one(rnn().dropout(0.5)),
            one(rnn().recurrent_dropout(0.5)),
            one(rnn().zero_output_for_mask(true)),
            one(rnn().stateful(true)),
            Sequential::new(3).add(Masking::new(0.0)).add(rnn()),
            Sequential::new(3).add(Masking::new(1.0)).add(rnn()),
            Sequential::new(3).add(Bidirectional::new(rnn())),
            Sequential::new(3).add(Bidirectional::new(rnn()).merge_mode(MergeMode::Sum)),
            Sequential::new(3).add(rnn()).add(rnn()),
        ];
        networks.into_iter().map(|network| network.build(5).unwrap()).collect::<Vec<_>>()
    };
    let checkpoints: Vec<Vec<u8>> =
        make().iter_mut().map(|model| trained(model).to_bytes(model).unwrap()).collect();
    for (from, checkpoint) in checkpoints.iter().enumerate() {
        for (to, mut model) in make().into_iter().enumerate() {
            let before = parameters(&model);
            let outcome = Trainer::load_bytes(&mut model, checkpoint);
            if from == to {
                assert_eq!(outcome.unwrap().steps(), 1);
                continue;
            }
            let message = bad_format(outcome);
            assert!(message.contains("another network"), "{from} into {to}: {message}");
            assert_same_bits("weights", &parameters(&model), &before);
        }
    }
    let message =
        |from: usize, to: usize| bad_format(Trainer::load_bytes(&mut make()[to], &checkpoints[from]));
    let contains = |message: String, words: &[&str]| {
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    contains(message(0, 1), &["input size 3", "1"]);
    contains(message(0, 2), &["layer 0", "linear", "sigmoid"]);
    contains(message(0, 5), &["1 layers", "2"]);
    contains(message(12, 8), &["layer 0", "\"dropout\":0.5", "\"dropout\":0.0"]);
}

/// What no result depends on may differ.
#[test]
fn drivers_and_initialisers_may_differ() {
    let network = |unroll| {
        Sequential::new(3).add(Bidirectional::new(SimpleRnn::new(2).unroll(unroll))).build(5).unwrap()
    };
    let mut model = network(Unroll::Looped);
    let mut trainer = trained(&mut model);
    let bytes = trainer.to_bytes(&model).unwrap();
    let mut other = network(Unroll::Unrolled);
    let mut resumed = Trainer::load_bytes(&mut other, &bytes).unwrap();
    step(&mut trainer, &mut model);
    step(&mut resumed, &mut other);
    assert_same_bits("weights", &parameters(&other), &parameters(&model));
}

#[test]
fn a_trainer_saves_only_its_own_network() {
    let mut model = network();
    let trainer = trained(&mut model);
    let other = Sequential::new(3).add(SimpleRnn::new(5)).build(7).unwrap();
    let outcome = trainer.to_bytes(&other);
    assert!(matches!(outcome, Err(Error::InvalidArgument(_))), "{outcome:?}");
}

/// A checkpoint with another JSON of its training, or other parts.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let size = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + size].to_vec()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    header(&text.replacen(from, to, 1), &bytes[8 + size..])
}

#[test]
fn steps_are_bounded() {
    let mut model = network();
    let bytes = trained(&mut model).to_bytes(&model).unwrap();
    let with_steps = |steps: &str| edited(&bytes, r#"\"steps\":1"#, &format!(r#"\"steps\":{steps}"#));
    for steps in ["18446744073709551615", "9007199254740993", "-1", "1.5", "1e30", "null"] {
        let message = bad_format(Trainer::load_bytes(&mut model, &with_steps(steps)));
        assert!(message.contains("trainer"), "{message}");
    }
    let mut trainer = Trainer::load_bytes(&mut model, &with_steps("9007199254740992")).unwrap();
    step(&mut trainer, &mut model);
    assert!(parameters(&model).iter().all(|value| value.is_finite()));
}

#[test]
fn damaged_checkpoints_are_refused() {
    let mut model = network();
    let trainer = trained(&mut model);
    let bytes = trainer.to_bytes(&model).unwrap();
    let before = parameters(&model);
    for (from, to, words) in [
        ("slot.1.layers.0.bias", "slot.2.layers.0.bias", &["slot.1.layers.0.bias", "missing"][..]),
        ("\"layers.0.kernel\"", "\"layers.0.kernal\"", &["layers.0.kernel", "missing"]),
        ("\"shape\":[3,5]", "\"shape\":[5,3]", &["[3, 5]", "[5, 3]"]),
        (r#"\"adam\""#, r#"\"adamx\""#, &["trainer", "adamx"]),
        (r#"\"amsgrad\":false"#, r#"\"amsgrad\":true"#, &["slot.2", "missing"]),
        (r#"\"beta_1\":0.9"#, r#"\"beta_1\":9.5"#, &["9.5"]),
        (r#"\"seed\":3"#, r#"\"seed\":3,\"seed\":3"#, &["trainer", "seed"]),
        (r#"\"seed\":3"#, r#"\"seed\":3,\"more\":3"#, &["trainer", "more"]),
        (r#""version":"2""#, r#""version":"3""#, &["version", "3"]),
        (r#""format":"elman-trainer""#, r#""format":"elman""#, &["elman-trainer"]),
    ] {
        let message = bad_format(Trainer::load_bytes(&mut model, &edited(&bytes, from, to)));
        assert!(words.iter().all(|word| message.contains(word)), "{from}: {message}");
    }
    for len in (0..bytes.len()).step_by(53) {
        bad_format(Trainer::load_bytes(&mut model, &bytes[..len]));
    }
    let message = bad_format(Sequential::load_bytes(&bytes));
    assert!(message.contains("elman-trainer"), "{message}");
    assert_same_bits("weights", &parameters(&model), &before);
    // What the first layout had: one flat array each.
    let flat = r#"{"__metadata__":{"format":"elman-trainer","version":"1","trainer":"{}"},"parameters":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}"#;
    let message = bad_format(Trainer::load_bytes(&mut model, &header(flat, &[0; 32])));
    assert!(message.contains("version 1") && message.contains("parameters"), "{message}");
}

#[test]
fn checkpoints_are_plain_safetensors() {
    let mut model = network();
    let bytes = trained(&mut model).to_bytes(&model).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names.len(), 5 * 3);
    assert_eq!(names[..2], ["layers.0.bias", "layers.0.kernel"]);
    let kernel = file.tensor("layers.0.kernel").unwrap();
    let values = model.weight(0, Weight::Kernel).unwrap().values();
    assert_eq!(kernel.data(), values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(file.tensor("slot.1.layers.1.kernel").unwrap().shape(), [5, 2]);
}

#[test]
fn bytes_are_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut model = Sequential::new(1).add(Embedding::new(4, 3)).add(SimpleRnn::new(2)).build(1).unwrap();
    model.save(&path).unwrap();
    assert_eq!(model.to_bytes().unwrap(), fs::read(&path).unwrap());
    let trainer = Trainer::new(&model, adam()).unwrap();
    trainer.save(&model, &path).unwrap();
    let bytes = trainer.to_bytes(&model).unwrap();
    assert_eq!(bytes, fs::read(&path).unwrap());
    assert_eq!(Trainer::load_bytes(&mut model, &bytes).unwrap().to_bytes(&model).unwrap(), bytes);
    let unbuilt = Sequential::new(1).add(Embedding::new(4, 3));
    assert!(matches!(unbuilt.to_bytes(), Err(Error::NotBuilt(_))));
}
