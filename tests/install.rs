//! What `make install` and CMake's install leave behind is enough for programs outside the tree: by
//! pkg-config and by CMake, in C and C++, static and shared, after the installed folder was moved, and beside
//! another library in Rust.
//!
//! ELMAN_LIB_DIR=target/c runs all of it with the libraries that ship.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::backends::report;
use common::programs::{
    WARNINGS, is_here, library_dir, root, run, shared_library, shipped_libraries, soname,
};
use tempfile::TempDir;

fn compilers() -> Vec<(&'static str, &'static str)> {
    common::programs::compilers("install")
}

/// Whether all these tools are here; says so where one is not.
fn are_here(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().filter(|tool| !is_here(tool)).collect();
    if !missing.is_empty() {
        report(&format!("install: SKIPPED: {missing:?} are not here"));
    }
    missing.is_empty()
}

/// `make`, as if no other make ran this test.
fn make(target: &str) -> Command {
    let mut make = Command::new("make");
    make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
    make.arg("--no-print-directory").arg("-C").arg(root()).arg(target);
    make.arg(format!("LIB_DIR={}", library_dir().display()));
    make
}

/// An installed tree that lies elsewhere than it was installed for: staged, then moved.
struct Installed {
    directory: TempDir,
}

impl Installed {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stage = directory.path().join("stage");
        run(make("install").arg("PREFIX=/opt/elman").arg(format!("DESTDIR={}", stage.display())));
        let installed = Self { directory };
        fs::rename(stage.join("opt/elman"), installed.prefix()).expect("a folder can be moved");
        installed
    }

    fn prefix(&self) -> PathBuf {
        self.directory.path().join("moved")
    }

    fn lib(&self) -> PathBuf {
        self.prefix().join("lib")
    }

    fn pkg_config(&self, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_PATH", self.lib().join("pkgconfig")).args(arguments).arg("elman");
        run(&mut command).split_whitespace().map(str::to_owned).collect()
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory can be read");
    let paths = entries.map(|entry| entry.expect("a directory can be read").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The libraries that a program asks the system for.
fn needed(program: &Path) -> Vec<String> {
    let listed = run(Command::new("readelf").arg("-d").arg(program));
    let needed = listed.lines().filter(|line| line.contains("(NEEDED)"));
    needed.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']').to_owned())).collect()
}

/// The program says its version and four numbers, and `needed` tells how it was linked.
#[track_caller]
fn check_program(program: &Path, is_shared: bool) {
    let output = run(&mut Command::new(program));
    assert!(output.starts_with(concat!("elman ", env!("CARGO_PKG_VERSION"), ": ")), "{output}");
    assert_eq!(output.split_whitespace().count(), 6, "{output}");
    assert_eq!(needed(program).contains(&soname()), is_shared, "{:?}", needed(program));
}

#[test]
fn everything_is_installed_and_uninstalled() {
    if !are_here(&["make", "strip", "readelf"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let prefix = format!("PREFIX={}", directory.path().display());
    run(make("install").arg(&prefix).arg(format!("LIBDIR={}/lib/here", directory.path().display())));
    let lib = directory.path().join("lib/here");
    let shared = format!("{}.{}", shared_library(), env!("CARGO_PKG_VERSION"));
    for file in ["libelman.a", &shared, "pkgconfig/elman.pc", "cmake/elman/elmanConfigVersion.cmake"] {
        assert!(lib.join(file).is_file(), "{file}");
    }
    for (link, to) in [(shared_library(), soname()), (soname(), shared)] {
        assert_eq!(fs::read_link(lib.join(link)).expect("a link"), Path::new(&to));
    }
    let dynamic = run(Command::new("readelf").arg("-d").arg(lib.join(shared_library())));
    assert!(dynamic.contains(&format!("[{}]", soname())), "{dynamic}");
    for file in ["elman.h", "elman.hpp"] {
        let installed = fs::read(directory.path().join("include").join(file)).expect("an installed header");
        assert_eq!(installed, fs::read(root().join("include").join(file)).expect("a header"), "{file}");
    }
    // Nothing is left to be filled in, and no file knows where it lies.
    for file in files_below(directory.path()).into_iter().filter(|file| !file.starts_with(lib.join("lib"))) {
        if file.extension().is_some_and(|extension| extension == "pc" || extension == "cmake") {
            let text = fs::read_to_string(&file).expect("a text");
            assert!(!text.contains('@'), "{}: {text}", file.display());
            assert!(!text.contains(&*directory.path().to_string_lossy()), "{}: {text}", file.display());
        }
    }
    run(make("uninstall").arg(&prefix).arg(format!("LIBDIR={}/lib/here", directory.path().display())));
    assert_eq!(files_below(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn programs_by_pkg_config() {
    if !are_here(&["make", "strip", "readelf", "pkg-config"]) {
        return;
    }
    let installed = Installed::new();
    assert_eq!(installed.pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let static_library = installed.lib().join("libelman.a").display().to_string();
    for (c, cpp) in compilers() {
        for (compiler, standard, source) in [(c, "-std=c99", "program.c"), (cpp, "-std=c++17", "program.cpp")]
        {
            let program = |link: &str| installed.prefix().join(format!("{compiler}-{link}"));
            let compile = |link: &str, libraries: &[String]| {
                let mut compile = Command::new(compiler);
                compile.args(WARNINGS).args([standard, "-ffunction-sections", "-Wl,--gc-sections"]);
                compile
                    .args(installed.pkg_config(&["--cflags"]))
                    .arg(root().join("tests/install").join(source));
                run(compile.args(libraries).arg("-o").arg(program(link)));
            };
            let rpath = format!("-Wl,-rpath,{}", installed.lib().display());
            compile("shared", &[installed.pkg_config(&["--libs"]), vec![rpath]].concat());
            check_program(&program("shared"), true);

            // The static library instead of the shared one that lies beside it.
            let libraries = installed.pkg_config(&["--static", "--libs"]).into_iter();
            let named = |library: String| if library == "-lelman" { static_library.clone() } else { library };
            compile("static", &libraries.map(named).collect::<Vec<_>>());
            check_program(&program("static"), false);

            // A program that needs nothing at all, where the C library can do that.
            let libc = run(Command::new(compiler).arg("-print-file-name=libc.a"));
            if Path::new(libc.trim()).is_absolute() {
                let libraries = installed.pkg_config(&["--static", "--libs"]);
                compile("alone", &[libraries, vec!["-static".to_owned()]].concat());
                check_program(&program("alone"), false);
                assert_eq!(needed(&program("alone")), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn programs_by_cmake() {
    if !are_here(&["make", "strip", "readelf", "cmake"]) {
        return;
    }
    let by_make = Installed::new();
    let by_cmake = by_make.directory.path().join("by-cmake");
    let build = by_make.directory.path().join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(root()).arg("-B").arg(&build).arg("-DCMAKE_INSTALL_PREFIX=/opt/elman");
    run(configure.arg(format!("-DELMAN_LIB_DIR={}", library_dir().display())));
    let stage = by_make.directory.path().join("cmake-stage");
    run(Command::new("cmake").arg("--install").arg(&build).env("DESTDIR", &stage));
    fs::rename(stage.join("opt/elman"), &by_cmake).expect("a folder can be moved");

    for (c, cpp) in compilers() {
        for (name, prefix) in [("make", by_make.prefix()), ("cmake", by_cmake.clone())] {
            let build = by_make.directory.path().join(format!("{c}-{name}"));
            let mut configure = Command::new("cmake");
            configure.arg("-S").arg(root().join("tests/install")).arg("-B").arg(&build);
            configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
            configure.arg(concat!("-DVERSION=", env!("CARGO_PKG_VERSION")));
            run(configure.env("CC", c).env("CXX", cpp));
            run(Command::new("cmake").arg("--build").arg(&build).env_remove("MAKEFLAGS"));
            for language in ["c", "cpp"] {
                check_program(&build.join(format!("{language}-elman")), true);
                check_program(&build.join(format!("{language}-static")), false);
            }
        }
    }
}

/// The name that a program remembers is the library's own, not the path that it was linked by.
#[test]
fn a_program_outlives_the_librarys_move() {
    if !are_here(&["make", "strip", "readelf"]) {
        return;
    }
    for (c, _) in compilers() {
        let installed = Installed::new();
        let program = installed.directory.path().join("program");
        let mut compile = Command::new(c);
        compile.arg(root().join("tests/install/program.c")).arg("-I").arg(installed.prefix().join("include"));
        run(compile.arg(installed.lib().join(shared_library())).arg("-o").arg(&program));
        assert!(needed(&program).contains(&soname()), "{:?}", needed(&program));
        let elsewhere = installed.directory.path().join("elsewhere");
        fs::rename(installed.lib(), &elsewhere).expect("a folder can be moved");
        // What is linked with at run time needs neither the plain name nor the static library.
        fs::remove_file(elsewhere.join(shared_library())).expect("a link can be removed");
        let output = run(Command::new(&program).env("LD_LIBRARY_PATH", &elsewhere));
        assert!(output.starts_with("elman "), "{output}");
    }
}

#[test]
fn two_rust_libraries_in_one_program() {
    if !are_here(&["make", "strip", "rustc"]) {
        return;
    }
    let installed = Installed::new();
    let source = root().join("tests/install");
    // As rustc makes it, and with everything in one object. The latter fits what ships, whose own copy of the standard
    // library shows no names; the tests' copy does.
    let others = [("plain", &[][..]), ("whole", &["-Clto=fat", "-Ccodegen-units=1"])];
    let fitting = if shipped_libraries().is_some() { &others[..] } else { &others[..1] };
    for &(name, flags) in fitting {
        let other = installed.prefix().join(format!("libother-{name}.a"));
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-O", "--crate-type=staticlib"]).args(flags);
        run(rustc.arg(source.join("other.rs")).arg("-o").arg(&other));
        for (c, _) in compilers() {
            let ours = installed.lib().join("libelman.a");
            for libraries in [[&ours, &other], [&other, &ours]] {
                let program = installed.prefix().join("program");
                let mut compile = Command::new(c);
                compile.arg(source.join("other.c")).arg("-I").arg(installed.prefix().join("include"));
                compile.args(libraries).args(["-lpthread", "-ldl", "-lm", "-Wl,--gc-sections", "-o"]);
                run(compile.arg(&program));
                let output = run(&mut Command::new(&program));
                assert!(output.ends_with(": beside another\n"), "{output}");
            }
        }
    }
}

/// Of the libraries that ship: nothing of the standard library is an object of its own, and nothing but elman
/// shows.
#[test]
fn what_ships_is_optimised_as_a_whole() {
    let Some(dir) = shipped_libraries() else {
        report("install: SKIPPED: what ships; ELMAN_LIB_DIR does not name it");
        return;
    };
    let members = run(Command::new("ar").arg("t").arg(dir.join("libelman.a")));
    let ours = members.lines().filter(|member| member.starts_with("elman.")).count();
    assert_eq!(ours, 1, "{members}");
    assert!(!members.lines().any(|member| member.starts_with("std-")), "{members}");
    let symbols = run(Command::new("nm").args(["-g", "--defined-only"]).arg(dir.join("libelman.a")));
    let shown = symbols.lines().filter_map(|line| line.split_whitespace().nth(2));
    let foreign: Vec<_> = shown
        .filter(|name| name.starts_with("_R") || name.starts_with("_ZN") || *name == "rust_eh_personality")
        // Their objects find each other by these.
        .filter(|name| !name.contains("compiler_builtins"))
        .collect();
    assert_eq!(foreign, Vec::<&str>::new());
}

/// A crate that depends on this one builds neither of the C libraries.
#[test]
fn the_crate_is_an_rlib_only() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml can be read");
    assert!(manifest.contains("\ncrate-type = [\"rlib\"]\n"));
}
