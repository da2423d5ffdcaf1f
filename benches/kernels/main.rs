//! How fast the kernels are, and how far from what this machine could do.
//!
//! `cargo bench` runs all of it in a few minutes; `cargo bench -- layer/mid` only what contains those words.
//!
//! Criterion prints one figure a case, its throughput being elements where the case is an activation and
//! floating-point operations of the products elsewhere, so that there `Gelem/s` reads as GF/s. At the end
//! comes a table of the same cases: each is timed again in turn with the others of its group and with a loop
//! of independent multiply-adds of the instruction set in use, so that on a machine that is shared, or that
//! changes its clock, `share` still compares things that happened side by side. All figures of the table are
//! medians over the rounds.
//!
//! What is timed is what a caller gets: `gemm` goes through a linear Dense layer and so includes the model's
//! call and the copy of the result to the caller's buffer. Its weights were packed when the model was built;
//! matrixmultiply has no such form and packs them in each call.

#![expect(clippy::print_stdout, reason = "a bench prints")]

mod rows;
mod timing;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use elman::{
    Activation, Dense, RunOptions, Sequential, SimpleRnn, SimpleRnnCell, Stream, Tape, Unroll, activate,
};
use timing::{Case, Group, Work};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1200))
        .sample_size(20)
        .configure_from_args();
    let mut groups = [
        peak_group(),
        activation_group(),
        gemm_group(),
        cell_group(),
        stream_group(),
        layer_group(),
        threads_group(),
        training_group(),
    ];
    for (name, cases) in &mut groups {
        let mut group = criterion.benchmark_group(*name);
        for case in cases {
            group.throughput(Throughput::Elements(case.work.throughput()));
            let (make, run) = (&case.make, &mut case.run);
            group.bench_function(&case.name, |bencher| {
                let run = run.get_or_insert_with(make);
                bencher.iter(&mut *run);
            });
        }
        group.finish();
    }
    criterion.final_summary();
    // `cargo test --benches` passes no --bench.
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked("--bench") && !["--test", "--list", "--profile-time"].into_iter().any(asked) {
        timing::print_table(&mut groups);
    }
}

fn peak_group() -> Group {
    (
        "peak",
        vec![Case::new("multiply-add", Work::Flops(timing::run_peak()), || {
            || {
                timing::run_peak();
            }
        })],
    )
}

fn activation_group() -> Group {
    const COUNT: usize = 4096;
    /// Passes over the values before they are laid out anew, so that the copy is a hundredth of the time.
    const PASSES: usize = 8;
    let case = |name, activation| {
        Case::new(name, Work::Elements((COUNT * PASSES) as u64), move || {
            let fresh: Vec<f32> = numbers(COUNT).map(|value| 9.0 * value).collect();
            let mut values = fresh.clone();
            move || {
                values.copy_from_slice(&fresh);
                for _ in 0..PASSES {
                    activate(activation, black_box(&mut values)).expect("an activation");
                }
            }
        })
    };
    ("activation", vec![case("tanh", Activation::Tanh), case("sigmoid", Activation::Sigmoid)])
}

fn gemm_group() -> Group {
    let mut cases = Vec::new();
    for (m, k, n) in [(640, 100, 64), (256, 256, 256), (512, 1024, 1024), (37, 33, 29)] {
        let work = Work::Flops((2 * m * k * n) as u64);
        cases.push(Case::new(format!("{m}x{k}x{n}/elman"), work, move || {
            let net = Sequential::new(k).add(Dense::new(n).use_bias(false)).build(1).expect("a network");
            predict(net, m, 1)
        }));
        let rival = Case::new(format!("{m}x{k}x{n}/matrixmultiply"), work, move || {
            let a: Vec<f32> = numbers(m * k).collect();
            let b: Vec<f32> = numbers(k * n).collect();
            let mut c = vec![0.0f32; m * n];
            move || {
                // SAFETY: the arrays have the sizes that these shapes and strides reach.
                unsafe {
                    matrixmultiply::sgemm(
                        m,
                        k,
                        n,
                        1.0,
                        black_box(&a).as_ptr(),
                        k as isize,
                        1,
                        b.as_ptr(),
                        n as isize,
                        1,
                        0.0,
                        c.as_mut_ptr(),
                        n as isize,
                        1,
                    );
                }
                black_box(&c);
            }
        });
        cases.push(Case { library: "matrixmultiply", ..rival });
    }
    ("gemm", cases)
}

fn cell_group() -> Group {
    const UNITS: usize = 64;
    let cases = [1, 8].map(|rows| {
        let work = Work::Steps { flops: (2 * rows * (UNITS + UNITS) * UNITS) as u64, steps: 1 };
        Case::new(format!("64->64, rows {rows}"), work, move || {
            let cell = SimpleRnnCell::new(SimpleRnn::new(UNITS), UNITS, 1).expect("a cell");
            let x: Vec<f32> = numbers(rows * UNITS).collect();
            let h: Vec<f32> = numbers(rows * UNITS).collect();
            let mut next = vec![0.0; rows * UNITS];
            move || cell.step(black_box(&x), &h, rows, black_box(&mut next)).expect("a step")
        })
    });
    ("cell", cases.into())
}

/// One sample a call through a stream and a Dense, as an audio host makes it; `latency.rs` shows how calls
/// are spread.
fn stream_group() -> Group {
    let cases = [8, 20, 64].map(|units| {
        let flops = 2 * (units + units * units + units) as u64;
        Case::new(format!("1->{units}->1, a sample"), Work::Steps { flops, steps: 1 }, move || {
            let rnn = SimpleRnn::new(units).return_sequences(true);
            let net = Sequential::new(1).add(rnn).add(Dense::new(1)).build(1).expect("a model");
            let mut stream = Stream::new(&net, 1).expect("a stream");
            let mut y = [0.0];
            move || stream.run(black_box(&[0.3]), 1, black_box(&mut y)).expect("a sample")
        })
    });
    ("stream", cases.into())
}

/// A stack of SimpleRNN layers of one width.
#[derive(Clone, Copy)]
struct Stack {
    batch: usize,
    steps: usize,
    features: usize,
    units: usize,
    layers: usize,
    /// Whether the last layer gives every step.
    sequence: bool,
}

impl Stack {
    const fn new([batch, steps, features, units, layers]: [usize; 5]) -> Self {
        Self { batch, steps, features, units, layers, sequence: false }
    }

    fn flops(self) -> u64 {
        let terms = self.features + (2 * self.layers - 1) * self.units;
        (2 * self.batch * self.steps * terms * self.units) as u64
    }

    fn shape(self) -> [usize; 5] {
        [self.batch, self.steps, self.features, self.units, self.layers]
    }

    fn net(self, unroll: Unroll, threads: usize) -> Sequential {
        let mut net = Sequential::new(self.features);
        for layer in 1..=self.layers {
            let sequences = self.sequence || layer < self.layers;
            net = net.add(SimpleRnn::new(self.units).return_sequences(sequences).unroll(unroll));
        }
        let mut net = net.build(1).expect("a network");
        net.set_threads(threads).expect("threads");
        net
    }

    fn run(self, unroll: Unroll, threads: usize) -> impl FnMut() {
        predict(self.net(unroll, threads), self.batch, self.steps)
    }

    /// A forward and a backward pass.
    fn train(self, threads: usize) -> impl FnMut() {
        let net = self.net(Unroll::Auto, threads);
        let x: Vec<f32> = numbers(self.batch * self.steps * self.features).collect();
        let mut y = vec![0.0; self.batch * self.units];
        let mut tape = Tape::new(&net, self.batch, self.steps).expect("there is memory");
        move || {
            let options = RunOptions::default();
            tape.forward(&x, self.batch, self.steps, options, true, 0, &mut y).expect("the call is right");
            tape.backward(&y, None).expect("a forward pass came before");
        }
    }
}

/// The cases that elman is compared with other runtimes on: batch, steps, features, units, layers.
const STACKS: [(&str, [usize; 5]); 5] = [
    ("seed", [8, 80, 100, 64, 2]),
    ("b1small", [1, 256, 64, 64, 1]),
    ("mid", [32, 100, 256, 256, 2]),
    ("wide", [64, 128, 1024, 1024, 1]),
    ("b1wide", [1, 256, 1024, 1024, 1]),
];

fn layer_group() -> Group {
    let mut stacks: Vec<_> = STACKS.map(|(name, shape)| (name, Stack::new(shape))).into();
    // Sound, sample by sample: every step's output is wanted.
    stacks.push(("1->20", Stack { sequence: true, ..Stack::new([1, 1000, 1, 20, 1]) }));
    let mut cases = Vec::new();
    for (name, stack) in stacks {
        for (driver, unroll) in [("looped", Unroll::Looped), ("unrolled", Unroll::Unrolled)] {
            let flops = stack.flops();
            let work = match stack.batch {
                1 => Work::Steps { flops, steps: stack.steps as u64 },
                _ => Work::Flops(flops),
            };
            let case = Case::new(format!("{name}/{driver}"), work, move || stack.run(unroll, 1));
            cases.push(Case { shape: Some(stack.shape()), ..case });
        }
    }
    ("layer", cases)
}

/// What a call takes as it is made without further ado, with one thread and with two.
fn threads_group() -> Group {
    let case = |(name, shape), threads| {
        let stack = Stack::new(shape);
        let make = move || stack.run(Unroll::Auto, threads);
        let case = Case::new(named(name, threads), Work::Flops(stack.flops()), make);
        Case { threads, shape: Some(shape), ..case }
    };
    ("threads", STACKS.into_iter().flat_map(|stack| [1, 2].map(|threads| case(stack, threads))).collect())
}

/// A forward and a backward pass; the backward pass has two products for each of the forward one.
fn training_group() -> Group {
    let case = |(name, shape), threads| {
        let stack = Stack::new(shape);
        let work = Work::Flops(3 * stack.flops());
        let case = Case::new(named(name, threads), work, move || stack.train(threads));
        Case { threads, shape: Some(shape), ..case }
    };
    let stacks = STACKS.into_iter().filter(|&(name, _)| name != "b1wide");
    ("training", stacks.flat_map(|stack| [1, 2].map(|threads| case(stack, threads))).collect())
}

fn named(name: &str, threads: usize) -> String {
    format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// One call of `net` on rows of random numbers.
fn predict(net: Sequential, batch: usize, steps: usize) -> impl FnMut() {
    let x: Vec<f32> = numbers(batch * steps * net.input_size()).collect();
    let mut y = vec![0.0; net.output_len(batch, steps).expect("a length")];
    move || net.predict_into(black_box(&x), batch, steps, black_box(&mut y)).expect("a prediction")
}

/// `count` numbers spread evenly between -1 and 1, the same ones each time.
fn numbers(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
    .take(count)
}
