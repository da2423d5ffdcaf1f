//! What `Stream::run` and `elman_stream_run` promise a host's audio thread: no allocation, no lock that waits, no system
//! call. An allocator that counts and a trace of system calls look on, on every backend and with every option.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::ptr::null_mut;

use common::backends::{self, report};
use common::c::{fails, ok};
use common::counting::{Counting, asked};
use common::network::{ACTIVATIONS, BOUNDED, GATED, Network, Rnn, Spec};
use common::numbers::{assert_same_bits, tokens, values};
use common::programs::{WARNINGS, compilers, is_emulated, library_dir, root, run, shared_library, thinned};
use elman::ffi::*;
use elman::{Activation, Sequential, Stream, Unroll};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_allocator_counts() {
    assert_eq!(asked(|| drop(std::hint::black_box(vec![1.0_f32; 10]))), 2);
    assert_eq!(asked(|| ()), 0);
}

/// Networks with every layer and option that a stream can meet, and widths around every edge.
fn networks() -> Vec<Network> {
    let mut networks = Vec::new();
    let activations = [Activation::Tanh, Activation::Relu, Activation::Sigmoid, Activation::Linear];
    for (i, units) in [1, 8, 20, 33, 64, 129, 300].into_iter().enumerate() {
        for unroll in [Unroll::Looped, Unroll::Unrolled] {
            for return_sequences in [false, true] {
                let rnn = |units, return_sequences| {
                    let activation = activations[i % 4];
                    let zero_output_for_mask = i % 3 == 0;
                    Spec::SimpleRnn(Rnn {
                        activation,
                        unroll,
                        return_sequences,
                        zero_output_for_mask,
                        ..Rnn::new(units)
                    })
                };
                let dense = |activation| Spec::Dense { units: 3, activation, use_bias: true };
                let embedding = |mask_zero| Spec::Embedding { vocabulary: 5, size: 9, mask_zero };
                let masking = Spec::Masking { mask_value: 0.0 };
                let seed = networks.len() as u64;
                let plain = vec![rnn(units, return_sequences), dense(Activation::Softmax)];
                let deep = vec![
                    masking,
                    rnn(units, true),
                    Spec::Dropout { rate: 0.5 },
                    rnn(7, return_sequences),
                    dense(Activation::Linear),
                    dense(Activation::Sigmoid),
                ];
                networks.push(Network::new(3, plain, seed));
                networks.push(Network::new(5, deep, seed));
                for mask_zero in [false, true] {
                    networks.push(Network::new(
                        1,
                        vec![embedding(mask_zero), rnn(units, return_sequences)],
                        seed,
                    ));
                }
            }
        }
    }
    networks.extend(gated_networks());
    networks
}

/// The same of the cells with gates.
fn gated_networks() -> Vec<Network> {
    let mut networks = Vec::new();
    for (i, units) in [1, 8, 16, 20, 40, 64, 129].into_iter().enumerate() {
        for (k, cell) in GATED.into_iter().enumerate() {
            for return_sequences in [false, true] {
                let rnn = |units, return_sequences| Rnn {
                    activation: ACTIVATIONS[(i + k) % 9],
                    recurrent_activation: BOUNDED[(i + 2 * k) % 4],
                    unroll: if (i + k) % 2 == 0 { Unroll::Looped } else { Unroll::Unrolled },
                    return_sequences,
                    zero_output_for_mask: i % 3 == 0,
                    ..Rnn::new(units)
                };
                let dense = Spec::Dense { units: 3, activation: Activation::Softmax, use_bias: true };
                let embedding = Spec::Embedding { vocabulary: 5, size: 9, mask_zero: i % 2 == 0 };
                let deep = vec![
                    Spec::Masking { mask_value: 0.0 },
                    cell(rnn(units, true)).into(),
                    Spec::Dropout { rate: 0.5 },
                    GATED[(k + 1) % 3](rnn(7, true)).into(),
                    Spec::SimpleRnn(rnn(9, return_sequences)),
                    dense,
                ];
                let last = Spec::from(cell(rnn(units, return_sequences)));
                networks.push(Network::new(3, vec![last, dense], i as u64));
                networks.push(Network::new(5, deep, i as u64));
                networks.push(Network::new(1, vec![embedding, last], i as u64));
            }
        }
    }
    networks
}

#[test]
fn a_running_stream_allocates_nothing() {
    let mut runs = 0;
    for network in thinned(networks()) {
        let model = network.elman();
        for batch in [1, 3, 40] {
            let mut stream = Stream::new(&model, batch).expect("a stream can be made");
            let mut state = vec![0.0; stream.state_len()];
            for steps in [1, 2, 33, 100] {
                let len = batch * steps;
                let mut x = values(1, len * network.input_size, 1.0);
                // Masked steps, where anything masks them.
                x.iter_mut().step_by(2).for_each(|x| *x = x.max(0.0));
                let ids = tokens(2, len, 5);
                let mut y = vec![0.0; stream.output_len(steps).expect("the sizes are right")];
                let is_tokens = matches!(network.layers[0], Spec::Embedding { .. });
                let asked = asked(|| {
                    for _ in 0..3 {
                        let outcome = match is_tokens {
                            true => stream.run_tokens(&ids, steps, &mut y),
                            false => stream.run(&x, steps, &mut y),
                        };
                        assert!(outcome.is_ok());
                        assert!(stream.get_state(&mut state).is_ok() && stream.set_state(&state).is_ok());
                        assert!(stream.reset_row(batch - 1).is_ok());
                    }
                    stream.reset();
                });
                assert_eq!(asked, 0, "{:?}, batch {batch}, steps {steps}", network.layers);
                runs += 1;
            }
        }
    }
    report(&format!("realtime: {runs} shapes on {}, no allocation", elman::isa().expect("a backend").name()));
}

#[derive(Clone, Copy, Debug)]
enum Cell {
    SimpleRnn,
    Lstm,
    Gru,
}

/// Memory of a C host, at multiples of 64.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// A layer of 20 units and a dense one.
fn c_network(cell: Cell, sequence: bool) -> *mut elman_sequential {
    let mut network = null_mut();
    macro_rules! add {
        ($config:ident, $init:ident, $add:ident) => {{
            let mut config = std::mem::MaybeUninit::uninit();
            ok($init(config.as_mut_ptr(), size_of::<$config>(), 20));
            let mut config: $config = config.assume_init();
            config.return_sequences = u8::from(sequence);
            ok($add(network, &config));
        }};
    }
    // SAFETY: places for the handle and the structs, which are filled on success; a live handle.
    unsafe {
        ok(elman_sequential_new(2, &mut network));
        match cell {
            Cell::SimpleRnn => {
                add!(elman_simple_rnn_config, elman_simple_rnn_config_init, elman_sequential_add_simple_rnn)
            }
            Cell::Lstm => add!(elman_lstm_config, elman_lstm_config_init, elman_sequential_add_lstm),
            Cell::Gru => add!(elman_gru_config, elman_gru_config_init, elman_sequential_add_gru),
        }
        ok(elman_sequential_add_dense(network, 3, ELMAN_ACTIVATION_TANH));
        ok(elman_sequential_build(network, 1));
    }
    network
}

#[test]
fn a_stream_in_the_hosts_memory_needs_no_heap() {
    let cells = [(Cell::SimpleRnn, 20), (Cell::Lstm, 2 * 20), (Cell::Gru, 20)];
    for (batch, (cell, states)) in [1, 5, 50].into_iter().flat_map(|batch| cells.map(|cell| (batch, cell))) {
        let network = c_network(cell, true);
        let steps = 70;
        let x = values(9, batch * steps * 2, 1.0);
        let mut expected = vec![0.0; batch * steps * 3];
        let mut y = vec![0.0; expected.len()];
        // SAFETY: live handles, and arrays of the lengths given.
        unsafe {
            ok(elman_sequential_predict(
                network,
                x.as_ptr(),
                x.len(),
                batch,
                steps,
                expected.as_mut_ptr(),
                y.len(),
            ));
            let (mut bytes, mut alignment) = (0, 0);
            ok(elman_stream_size(network, batch, &mut bytes, &mut alignment));
            assert_eq!(alignment, 64);
            // Guarded on both sides, and dirty.
            let lines = bytes.div_ceil(64);
            let mut memory = vec![Line([0xAB; 64]); lines + 2];
            let start = (&raw mut memory[1]).cast::<std::ffi::c_void>();
            let mut stream = null_mut();
            let mut state = vec![0.0; batch * states];
            let asked = asked(|| {
                ok(elman_stream_new_in(network, batch, start, bytes, &mut stream));
                for _ in 0..2 {
                    ok(elman_stream_run(stream, x.as_ptr(), x.len(), steps, y.as_mut_ptr(), y.len()));
                    ok(elman_stream_get_state(stream, state.as_mut_ptr(), state.len()));
                    ok(elman_stream_set_state(stream, state.as_ptr(), state.len()));
                    ok(elman_stream_reset_row(stream, 0));
                    ok(elman_stream_reset(stream));
                }
            });
            assert_eq!(asked, 0);
            assert_same_bits("in the host's memory", &y, &expected);
            assert_eq!(stream.cast::<std::ffi::c_void>(), start);
            // The network may go first.
            elman_sequential_free(network);
            ok(elman_stream_run(stream, x.as_ptr(), x.len(), steps, y.as_mut_ptr(), y.len()));
            assert_same_bits("without the network", &y, &expected);
            elman_stream_free(stream);
            let guards = [memory[0].0, memory[lines + 1].0].concat();
            assert!(guards.iter().all(|&byte| byte == 0xAB), "it has written outside its memory");
            assert!(memory[lines].0[(bytes + 63) % 64 + 1..].iter().all(|&byte| byte == 0xAB));
        }
    }
}

#[test]
fn wrong_calls_through_the_c_abi() {
    let network = c_network(Cell::SimpleRnn, false);
    let mut stream = null_mut();
    let (mut bytes, mut alignment, mut len) = (0, 0, 0);
    let mut memory = vec![Line([0; 64]); 400];
    let start = memory.as_mut_ptr().cast::<u8>();
    let (x, mut y) = ([0.5_f32; 8], [-1.0_f32; 9]);
    let mut state = [0.0; 41];
    let mismatch = ELMAN_STATUS_LENGTH_MISMATCH;
    // SAFETY: live handles, and arrays at least as long as given.
    unsafe {
        ok(elman_stream_size(network, 2, &mut bytes, &mut alignment));
        assert!(bytes < 400 * 64, "{bytes}");
        let few = elman_stream_new_in(network, 2, start.cast(), bytes - 1, &mut stream);
        fails(few, mismatch, &[&bytes.to_string(), &(bytes - 1).to_string()]);
        let skewed = elman_stream_new_in(network, 2, start.add(32).cast(), bytes, &mut stream);
        fails(skewed, ELMAN_STATUS_INVALID_ARGUMENT, &["memory", "64"]);
        let none = elman_stream_new_in(network, 2, null_mut(), bytes, &mut stream);
        fails(none, ELMAN_STATUS_NULL_POINTER, &["memory"]);
        fails(elman_stream_new(network, 0, &mut stream), ELMAN_STATUS_INVALID_ARGUMENT, &["batch", "0"]);
        fails(elman_stream_new(network, 2, null_mut()), ELMAN_STATUS_NULL_POINTER, &["out"]);
        fails(elman_stream_new(null_mut(), 2, &mut stream), ELMAN_STATUS_NULL_POINTER, &["network"]);
        assert!(stream.is_null());

        ok(elman_stream_new(network, 2, &mut stream));
        ok(elman_stream_output_len(stream, 7, &mut len));
        assert_eq!(len, 6);
        let nothing = null_mut::<elman_stream>();
        fails(
            elman_stream_run(nothing, x.as_ptr(), 8, 2, y.as_mut_ptr(), 6),
            ELMAN_STATUS_NULL_POINTER,
            &["stream"],
        );
        fails(elman_stream_run(stream, x.as_ptr(), 7, 2, y.as_mut_ptr(), 6), mismatch, &["x", "8", "7"]);
        fails(elman_stream_run(stream, x.as_ptr(), 8, 2, y.as_mut_ptr(), 5), mismatch, &["y", "6", "5"]);
        let zero = elman_stream_run(stream, x.as_ptr(), 0, 0, y.as_mut_ptr(), 6);
        fails(zero, ELMAN_STATUS_INVALID_ARGUMENT, &["steps", "0"]);
        let both = y.as_mut_ptr();
        fails(elman_stream_run(stream, both, 8, 2, both.add(1), 6), ELMAN_STATUS_OVERLAP, &["y", "x"]);
        let ids = [0_i32; 4];
        let tokens = elman_stream_run_tokens(stream, ids.as_ptr(), 4, 2, y.as_mut_ptr(), 6);
        fails(tokens, ELMAN_STATUS_INVALID_ARGUMENT, &["embedding"]);
        fails(elman_stream_get_state(stream, state.as_mut_ptr(), 41), mismatch, &["40", "41"]);
        fails(elman_stream_set_state(stream, state.as_ptr(), 39), mismatch, &["40", "39"]);
        fails(elman_stream_reset_row(stream, 2), ELMAN_STATUS_INVALID_ARGUMENT, &["row 2"]);
        assert!(y.iter().all(|&y| y == -1.0));
        ok(elman_stream_get_state(stream, state.as_mut_ptr(), 40));
        assert!(state.iter().all(|&h| h == 0.0));
        elman_stream_free(stream);
        elman_stream_free(null_mut());
        ok(elman_sequential_reset_states(network));
        fails(elman_sequential_reset_states(null_mut()), ELMAN_STATUS_NULL_POINTER, &["network"]);
        elman_sequential_free(network);
    }
}

const BEGIN: &str = "elman: the stream begins";
const END: &str = "elman: the stream ends";

#[test]
#[ignore = "run by no_system_call under a trace"]
fn between_markers() {
    let mark = |words: &str| {
        // One write, past the harness's capture.
        std::io::stderr().write_all(words.as_bytes()).expect("there is standard error");
    };
    for network in networks().iter().step_by(3) {
        let model: Sequential = network.elman();
        let mut stream = Stream::new(&model, 2).expect("a stream can be made");
        let is_tokens = matches!(network.layers[0], Spec::Embedding { .. });
        let x = values(1, 2 * 40 * network.input_size, 1.0);
        let ids = tokens(2, 2 * 40, 5);
        let mut y = vec![0.0; stream.output_len(40).expect("the sizes are right")];
        mark(BEGIN);
        for _ in 0..20 {
            match is_tokens {
                true => stream.run_tokens(&ids, 40, &mut y),
                false => stream.run(&x, 40, &mut y),
            }
            .expect("the call is right");
        }
        mark(END);
    }
}

/// Whether programs can be traced here; `test` says so where not.
fn may_trace(test: &str) -> bool {
    // A trace would be the emulator's own calls.
    if is_emulated(&format!("realtime: {test}")) {
        return false;
    }
    let traced = Command::new("strace").arg("-f").arg("true").output();
    let may = traced.is_ok_and(|output| output.status.success());
    if !may {
        report(&format!("realtime: {test}: SKIPPED, strace is not here or may not trace"));
    }
    may
}

/// Runs a program under a trace. Between its markers there must be no system call; how many such sections there were.
fn quiet_sections(program: &Path, arguments: &[&str]) -> usize {
    let trace = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new("strace");
    command.arg("-f").arg("-s").arg("100").arg("-o").arg(trace.path()).arg(program);
    run(command.args(arguments));
    let trace = std::fs::read_to_string(trace.path()).expect("the trace was written");
    // `PID call(...)`, one a line; other threads' calls are their own business.
    let (mut sections, mut inside) = (0, None);
    for line in trace.lines() {
        let thread = line.split_whitespace().next();
        if line.contains(BEGIN) {
            inside = thread;
        } else if inside.is_some() && inside == thread {
            // The second marker must be the next call of this thread.
            assert!(line.contains(END), "a system call while a stream ran: {line}");
            (sections, inside) = (sections + 1, None);
        }
    }
    assert_eq!(inside, None, "a section has no end:\n{trace}");
    sections
}

#[test]
fn no_system_call() {
    if may_trace("no_system_call") {
        let this = std::env::current_exe().expect("a test has an executable");
        let sections =
            quiet_sections(&this, &["--ignored", "--exact", "between_markers", "--test-threads=1"]);
        assert_eq!(sections, networks().iter().step_by(3).count());
        report(&format!("realtime: {sections} sections of 20 calls under strace, no system call"));
    }
}

/// A program of C, whose streams lie in memory of its own.
#[test]
fn no_system_call_of_a_c_program() {
    if !may_trace("no_system_call_of_a_c_program") {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (c, _) in compilers("realtime") {
        for (link, library) in [("static", "libelman.a".to_owned()), ("shared", shared_library())] {
            let program = directory.path().join(format!("{c}-{link}"));
            let mut compile = Command::new(c);
            compile.args(WARNINGS).args(["-std=c99", "-O2", "-I"]).arg(root().join("include"));
            for (name, words) in [("BEGIN", BEGIN), ("END", END)] {
                compile.arg(format!("-D{name}=\"{words}\""));
            }
            compile.arg(root().join("tests/ffi/realtime.c")).arg(library_dir().join(library));
            compile.arg(format!("-Wl,-rpath,{}", library_dir().display()));
            compile.args(["-lutil", "-lrt", "-lpthread", "-ldl", "-lm", "-o"]).arg(&program);
            run(&mut compile);
            // Six networks, three batches, four numbers of steps.
            assert_eq!(quiet_sections(&program, &[]), 72, "{c}, {link}");
        }
        report(&format!(
            "realtime: a program by {c}: 72 sections of 10 to 100 rounds under strace, no system call"
        ));
    }
}

#[test]
fn every_backend() {
    backends::run_others("realtime");
}
