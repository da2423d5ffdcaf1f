//! How fast the kernels are, and how far from what this machine could do.
//!
//! `cargo bench` runs all of it in a few minutes; `cargo bench -- layer/mid` only what contains those words.
//!
//! Criterion prints one figure a case, its throughput being elements where the case is an activation and floating-point
//! operations of the products elsewhere, so that there `Gelem/s` reads as GF/s. At the end comes a table of
//! the same cases: each is timed again in turn with the others of its group and with a loop of independent multiply-adds
//! of the instruction set in use, so that on a machine that is shared, or that changes its clock, `share` still compares
//! things that happened side by side. All figures of the table are medians over the rounds.
//!
//! What is timed is what a caller gets: `gemm` goes through a linear Dense layer and so includes the model's call and
//! the copy of the result to the caller's buffer. Its weights were packed when the model was built; matrixmultiply has
//! no such form and packs them in each call.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use elman::{Activation, Dense, Isa, Sequential, SimpleRnn, SimpleRnnCell, Stream, Unroll, activate};

/// Time that a case may take in the final table.
const TABLE_TIME: Duration = Duration::from_millis(600);
/// Shortest thing worth timing: far above the clock's own cost, far below a scheduler's slice.
const SLICE: Duration = Duration::from_micros(200);

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
        home_group(),
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
        print_table(&mut groups);
    }
}

type Run = Box<dyn FnMut()>;

/// One thing to time; it is made when a filter lets it through.
struct Case {
    name: String,
    work: Work,
    threads: usize,
    make: Box<dyn Fn() -> Run>,
    run: Option<Run>,
}

/// What one call does.
#[derive(Clone, Copy)]
enum Work {
    Elements(u64),
    /// Floating-point operations, and the steps of one row that they are.
    Steps {
        flops: u64,
        steps: u64,
    },
    Flops(u64),
}

impl Work {
    fn throughput(self) -> u64 {
        match self {
            Work::Elements(count) | Work::Flops(count) | Work::Steps { flops: count, .. } => count,
        }
    }
}

impl Case {
    fn new<R: FnMut() + 'static>(
        name: impl Into<String>,
        work: Work,
        make: impl Fn() -> R + 'static,
    ) -> Self {
        Self { name: name.into(), work, threads: 1, make: Box::new(move || Box::new(make())), run: None }
    }
}

type Group = (&'static str, Vec<Case>);

fn peak_group() -> Group {
    ("peak", vec![Case::new("multiply-add", Work::Flops(peak_flops()), || run_peak)])
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
        cases.push(Case::new(format!("{m}x{k}x{n}/matrixmultiply"), work, move || {
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
        }));
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

/// One sample a call through a stream and a Dense, as an audio host makes it; `latency.rs` shows how calls are spread.
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

    fn run(self, unroll: Unroll, threads: usize) -> impl FnMut() {
        let mut net = Sequential::new(self.features);
        for layer in 1..=self.layers {
            let sequences = self.sequence || layer < self.layers;
            net = net.add(SimpleRnn::new(self.units).return_sequences(sequences).unroll(unroll));
        }
        let mut net = net.build(1).expect("a network");
        net.set_threads(threads).expect("threads");
        predict(net, self.batch, self.steps)
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
            cases.push(Case::new(format!("{name}/{driver}"), work, move || stack.run(unroll, 1)));
        }
    }
    ("layer", cases)
}

fn home_group() -> Group {
    let stack = Stack::new(STACKS[0].1);
    let cases = [(1, "1 thread"), (2, "2 threads")].map(|(threads, name)| {
        let make = move || stack.run(Unroll::Auto, threads);
        Case { threads, ..Case::new(name, Work::Flops(stack.flops()), make) }
    });
    ("home", cases.into())
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

/// What the final table says of a case.
struct Figures {
    /// Of one call.
    seconds: f64,
    /// Of the multiply-adds, a second.
    peak: f64,
    /// The call's operations a second, to those of the peak beside it.
    share: f64,
}

fn print_table(groups: &mut [Group]) {
    let isa = elman::isa().map_or("unavailable", Isa::name);
    println!("\n{isa}; share: of the multiply-adds that as many threads could do, measured beside the case");
    println!(
        "{:<36} {:>12} {:>8} {:>8} {:>7}  in other words",
        "case", "a call, us", "GF/s", "peak", "share"
    );
    for (group, cases) in groups {
        let mut cases: Vec<_> = cases.iter_mut().filter(|case| case.run.is_some()).collect();
        let figures = time_in_turn(&mut cases);
        for (case, Figures { seconds, peak, share }) in cases.iter().zip(figures) {
            let name = format!("{group}/{}", case.name);
            print!("{name:<36} {:>12.3}", seconds * 1e6);
            let rates = |flops: u64| {
                format!(" {:>8.1} {:>8.1} {:>5.1} %", flops as f64 / seconds / 1e9, peak / 1e9, 100.0 * share)
            };
            match case.work {
                Work::Elements(count) => {
                    println!("{:>28}{:.3} ns an element", "", seconds * 1e9 / count as f64)
                }
                Work::Flops(flops) => println!("{}", rates(flops)),
                Work::Steps { flops, steps } => {
                    println!("{}  {:.1} ns a step", rates(flops), seconds * 1e9 / steps as f64);
                }
            }
        }
    }
}

/// Times the cases in turn, each beside the peak, until each has had its time.
fn time_in_turn(cases: &mut [&mut Case]) -> Vec<Figures> {
    const FEWEST_ROUNDS: usize = 5;
    let calls: Vec<u32> = cases
        .iter_mut()
        .map(|case| {
            let once = seconds_of(case, 1).max(1e-9);
            // Again, now that the first call is over.
            let once = seconds_of(case, (1e-5 / once).ceil() as u32).max(1e-9);
            (SLICE.as_secs_f64() / once).ceil() as u32
        })
        .collect();
    let mut rounds = vec![Vec::new(); cases.len()];
    let begun = Instant::now();
    while rounds.iter().any(|of_case| of_case.len() < FEWEST_ROUNDS)
        || begun.elapsed() < TABLE_TIME * cases.len() as u32
    {
        for ((case, &calls), of_case) in cases.iter_mut().zip(&calls).zip(&mut rounds) {
            let now = Instant::now();
            run_peak();
            let peak = peak_flops() as f64 / now.elapsed().as_secs_f64() * case.threads as f64;
            of_case.push((seconds_of(case, calls), peak));
        }
    }
    let figures = |(case, of_case): (&&mut Case, &Vec<(f64, f64)>)| {
        let flops = case.work.throughput() as f64;
        Figures {
            seconds: median(of_case.iter().map(|&(seconds, _)| seconds)),
            peak: median(of_case.iter().map(|&(_, peak)| peak)),
            share: median(of_case.iter().map(|&(seconds, peak)| flops / seconds / peak)),
        }
    };
    cases.iter().zip(&rounds).map(figures).collect()
}

/// Of one call, the mean over `calls`.
fn seconds_of(case: &mut Case, calls: u32) -> f64 {
    let run = case.run.as_mut().expect("a case that was made");
    let now = Instant::now();
    for _ in 0..calls {
        run();
    }
    now.elapsed().as_secs_f64() / f64::from(calls)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sums that do not wait for each other: more than two ports of latency four, or four of three, can have under way,
/// and few enough for the registers.
const CHAINS: usize = 12;
/// All different: a compiler may see that equal sums stay equal (GCC does) and keep one of them.
const FIRST_SUMS: [f32; CHAINS] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
/// Multiply-adds a chain in one measurement of the peak, about a fifth of a millisecond.
const CHAIN_LENGTH: usize = 60_000;

fn peak_flops() -> u64 {
    let lanes = match elman::isa() {
        Ok(Isa::Avx512) => 16,
        Ok(Isa::Avx2) => 8,
        _ => 4,
    };
    2 * (lanes * CHAINS * CHAIN_LENGTH) as u64
}

/// Multiply-adds with vectors of the instruction set in use, and nothing else.
fn run_peak() {
    match elman::isa() {
        // SAFETY: elman runs with it, so this machine has it.
        #[cfg(target_arch = "x86_64")]
        Ok(Isa::Avx512) => unsafe { x86::multiply_add_avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Ok(Isa::Avx2) => unsafe { x86::multiply_add_avx2() },
        _ => multiply_add_portable(),
    }
}

/// A product and a sum, as the portable arm's vectors have no fused form on every machine.
fn multiply_add_portable() {
    let (a, b) = (black_box([0.999_f32; 4]), black_box([0.001_f32; 4]));
    let mut sums = FIRST_SUMS.map(|first| [first; 4]);
    for _ in 0..CHAIN_LENGTH {
        for sum in &mut sums {
            for lane in 0..4 {
                sum[lane] = sum[lane] * a[lane] + b[lane];
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;
    use core::array;
    use core::hint::black_box;

    use super::{CHAIN_LENGTH, CHAINS, FIRST_SUMS};

    #[target_feature(enable = "avx512f")]
    pub(super) fn multiply_add_avx512() {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums: [__m512; CHAINS] = array::from_fn(|chain| _mm512_set1_ps(FIRST_SUMS[chain]));
        for _ in 0..CHAIN_LENGTH {
            sums = array::from_fn(|chain| _mm512_fmadd_ps(sums[chain], a, b));
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn multiply_add_avx2() {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums: [__m256; CHAINS] = array::from_fn(|chain| _mm256_set1_ps(FIRST_SUMS[chain]));
        for _ in 0..CHAIN_LENGTH {
            sums = array::from_fn(|chain| _mm256_fmadd_ps(sums[chain], a, b));
        }
        black_box(sums);
    }
}
