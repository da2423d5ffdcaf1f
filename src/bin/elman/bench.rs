//! `elman bench`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use elman::{Isa, Sequential, Stream};
use serde::Serialize;

use crate::arguments::{Arguments, set_threads};
use crate::failure::Result;
use crate::input::{Given, Rows, vocabulary_of};
use crate::inspect::flops;
use crate::output::{print, print_json};
use crate::progress::Progress;

/// Steps a row, unless it is said.
const STEPS: usize = 100;
/// For each figure, unless it is said.
const SECONDS: f64 = 0.5;
/// Multiply-adds a chain in one measurement of the peak, about a fifth of a millisecond.
const CHAIN_LENGTH: usize = 60_000;
/// Shortest thing worth timing: far above the clock's own cost, far below a scheduler's slice.
const SLICE: Duration = Duration::from_micros(200);

#[derive(Serialize)]
struct Benched {
    cpu: String,
    isa: &'static str,
    processors: usize,
    /// Of one core, in floating-point operations a second.
    peak_flops: f64,
    latency: Latency,
    throughput: Vec<Throughput>,
}

/// Of one step through a stream, or of one row where there is no stream; seconds.
#[derive(Serialize)]
struct Latency {
    of: &'static str,
    steps: usize,
    calls: usize,
    p50: f64,
    p99: f64,
    most: f64,
    /// What looking at the clock takes, which is in every figure.
    clock: f64,
}

#[derive(Serialize)]
struct Throughput {
    batch: usize,
    steps: usize,
    threads: usize,
    rows_per_second: f64,
    steps_per_second: f64,
    flops: f64,
    /// Of the peak of as many cores.
    share_of_peak: f64,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let mut model = arguments.model_of_one_thread()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let steps = arguments.steps.unwrap_or(STEPS);
    let time = Duration::from_secs_f64(arguments.seconds.unwrap_or(SECONDS).min(3600.0));
    let or = |asked: &[usize], otherwise: &[usize]| {
        let mut numbers = if asked.is_empty() { otherwise } else { asked }.to_vec();
        numbers.dedup();
        numbers
    };
    let batches = or(&arguments.batch, &[1, 8, 32]);
    let threads: Vec<usize> = or(&arguments.threads, &[1, processors]);
    let progress = Progress::new("bench", 1 + batches.len() * threads.len());
    let latency = latency(&model, steps, time)?;
    progress.step();
    let mut throughput = Vec::new();
    let mut peaks = Vec::new();
    for &threads in &threads {
        set_threads(&mut model, threads)?;
        // The library never takes more than there are.
        let threads = if threads == 0 { processors } else { threads.min(processors) };
        for &batch in &batches {
            model.reset_states();
            let (figures, peak) = through(&model, &random_rows(&model, batch, steps), threads, time)?;
            throughput.push(figures);
            peaks.push(peak);
            progress.step();
        }
    }
    drop(progress);
    let isa = elman::isa().map_or("unavailable", Isa::name);
    let benched =
        Benched { cpu: cpu(), isa, processors, peak_flops: median(&mut peaks), latency, throughput };
    if arguments.json {
        print_json(&benched)?;
    } else {
        print(&table(&benched))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The processor's name, where the system tells it.
fn cpu() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or("unknown processor", |(_, name)| name.trim()).to_owned()
}

/// Numbers between -1 and 1, or tokens, the same each time.
fn random_rows(model: &Sequential, batch: usize, steps: usize) -> Rows {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // An LCG, of which the upper bits are good.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    let values = match vocabulary_of(model) {
        Some(words) => Given::Tokens((0..batch * steps).map(|_| (next() as usize % words) as i32).collect()),
        None => {
            let count = batch * steps * model.input_size();
            Given::Floats((0..count).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).collect())
        }
    };
    Rows { batch, steps, values }
}

fn latency(model: &Sequential, steps: usize, time: Duration) -> Result<Latency> {
    let clock = {
        let begun = Instant::now();
        for _ in 0..1000 {
            black_box(Instant::now());
        }
        begun.elapsed().as_secs_f64() / 1000.0
    };
    let (of, steps, mut seconds) = match Stream::new(model, 1) {
        Ok(mut stream) => {
            let rows = random_rows(model, 1, 1);
            let mut y = vec![0.0; stream.output_len(1)?];
            ("a step of a stream", 1, timed(time, || stream.run(rows.part(0, 1), 1, &mut y))?)
        }
        Err(elman::Error::Unsupported(_)) => {
            let rows = random_rows(model, 1, steps);
            let mut y = vec![0.0; model.output_len(1, steps)?];
            model.reset_states();
            ("a row", steps, timed(time, || model.predict_into(rows.part(0, 1), 1, steps, &mut y))?)
        }
        Err(error) => return Err(error.into()),
    };
    seconds.sort_unstable_by(f64::total_cmp);
    let share = |percent: usize| seconds[(seconds.len() - 1) * percent / 100];
    Ok(Latency { of, steps, calls: seconds.len(), p50: share(50), p99: share(99), most: share(100), clock })
}

/// The time of each call, after some that warm up.
fn timed(time: Duration, mut call: impl FnMut() -> elman::Result<()>) -> Result<Vec<f64>> {
    const WARM_UP: usize = 100;
    const FEWEST: usize = 100;
    const MOST: usize = 1_000_000;
    for _ in 0..WARM_UP {
        call()?;
    }
    let mut seconds = Vec::new();
    let begun = Instant::now();
    while seconds.len() < FEWEST || (begun.elapsed() < time && seconds.len() < MOST) {
        let now = Instant::now();
        call()?;
        seconds.push(now.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// Rows a second, and the peak of one core that was measured meanwhile.
fn through(model: &Sequential, rows: &Rows, threads: usize, time: Duration) -> Result<(Throughput, f64)> {
    const FEWEST_ROUNDS: usize = 5;
    let Rows { batch, steps, .. } = *rows;
    let mut y = vec![0.0; model.output_len(batch, steps)?];
    let mut seconds_of = |calls: u32| -> Result<f64> {
        let now = Instant::now();
        for _ in 0..calls {
            model.predict_into(rows.part(0, batch), batch, steps, &mut y)?;
        }
        Ok(now.elapsed().as_secs_f64() / f64::from(calls))
    };
    // The first call takes memory and starts threads.
    seconds_of(1)?;
    let once = seconds_of(1)?.max(1e-9);
    let calls = (SLICE.as_secs_f64() / once).ceil() as u32;
    let per_call = flops(model, steps) as f64 * batch as f64;
    let (mut calls_took, mut peaks, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let begun = Instant::now();
    while calls_took.len() < FEWEST_ROUNDS || begun.elapsed() < time {
        let now = Instant::now();
        let peak = elman::multiply_adds(CHAIN_LENGTH)? as f64 / now.elapsed().as_secs_f64();
        let seconds = seconds_of(calls)?;
        calls_took.push(seconds);
        peaks.push(peak);
        shares.push(per_call / seconds / (peak * threads as f64));
    }
    let rate = 1.0 / median(&mut calls_took);
    let throughput = Throughput {
        batch,
        steps,
        threads,
        rows_per_second: batch as f64 * rate,
        steps_per_second: (batch * steps) as f64 * rate,
        flops: per_call * rate,
        share_of_peak: median(&mut shares),
    };
    Ok((throughput, median(&mut peaks)))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn table(benched: &Benched) -> String {
    let Benched { cpu, isa, processors, peak_flops, latency, throughput } = benched;
    let mut text = format!("{cpu}, {isa}, {processors} processors\n");
    let _ = writeln!(text, "peak of multiply-adds, one core: {:.1} GF/s\n", peak_flops / 1e9);
    let of = if latency.steps > 1 {
        format!("{} of {} steps", latency.of, latency.steps)
    } else {
        latency.of.to_owned()
    };
    let [p50, p99, most, clock] =
        [latency.p50, latency.p99, latency.most, latency.clock].map(|seconds| seconds * 1e6);
    let _ = writeln!(
        text,
        "latency of {of}, one row: p50 {p50:.3} us, p99 {p99:.3} us, largest {most:.3} us \
         ({} calls; the clock's {clock:.3} us are in it)\n",
        latency.calls
    );
    let _ = writeln!(
        text,
        "{:>6} {:>6} {:>8} {:>14} {:>14} {:>9} {:>14}",
        "batch", "steps", "threads", "rows/s", "steps/s", "GF/s", "share of peak"
    );
    for figures in throughput {
        let _ = writeln!(
            text,
            "{:>6} {:>6} {:>8} {:>14.0} {:>14.0} {:>9.1} {:>12.1} %",
            figures.batch,
            figures.steps,
            figures.threads,
            figures.rows_per_second,
            figures.steps_per_second,
            figures.flops / 1e9,
            100.0 * figures.share_of_peak
        );
    }
    text
}
