//! Cases, and the final table in which they are timed in turn, beside the peak.

use std::time::{Duration, Instant};

use elman::Isa;

use crate::rows::{self, Row};

/// Time that a case may take in the final table.
const TABLE_TIME: Duration = Duration::from_millis(600);
/// Shortest thing worth timing: far above the clock's own cost, far below a scheduler's slice.
const SLICE: Duration = Duration::from_micros(200);

pub(crate) type Group = (&'static str, Vec<Case>);

pub(crate) type Run = Box<dyn FnMut()>;

/// One thing to time; it is made when a filter lets it through.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) threads: usize,
    /// Whose it is; where it is not elman's, the name ends with it after a slash.
    pub(crate) library: &'static str,
    /// Of SimpleRNN layers: batch, steps, features, units, layers.
    pub(crate) shape: Option<[usize; 5]>,
    pub(crate) make: Box<dyn Fn() -> Run>,
    pub(crate) run: Option<Run>,
}

/// What one call does.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Elements(u64),
    /// Floating-point operations, and the steps of one row that they are.
    Steps {
        flops: u64,
        steps: u64,
    },
    Flops(u64),
}

impl Work {
    pub(crate) fn throughput(self) -> u64 {
        match self {
            Work::Elements(count) | Work::Flops(count) | Work::Steps { flops: count, .. } => count,
        }
    }
}

impl Work {
    /// Floating-point operations of products.
    fn flops(self) -> Option<u64> {
        match self {
            Work::Elements(_) => None,
            Work::Flops(flops) | Work::Steps { flops, .. } => Some(flops),
        }
    }

    /// What a call's time is of one element or step.
    fn in_other_words(self, seconds: f64) -> String {
        match self {
            Work::Elements(count) => format!("{:.3} ns an element", seconds * 1e9 / count as f64),
            Work::Steps { steps, .. } => format!("{:.1} ns a step", seconds * 1e9 / steps as f64),
            Work::Flops(_) => String::new(),
        }
    }
}

impl Case {
    pub(crate) fn new<R: FnMut() + 'static>(
        name: impl Into<String>,
        work: Work,
        make: impl Fn() -> R + 'static,
    ) -> Self {
        let make = Box::new(move || -> Run { Box::new(make()) });
        Self { name: name.into(), work, threads: 1, library: "elman", shape: None, make, run: None }
    }
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

/// Prints the table, and records it where that is asked for.
pub(crate) fn print_table(groups: &mut [Group]) {
    let isa = elman::isa().map_or("unavailable", Isa::name);
    println!("\n{isa}; share: of the multiply-adds that as many threads could do, measured beside the case");
    println!(
        "{:<36} {:>12} {:>8} {:>8} {:>7}  in other words",
        "case", "a call, us", "GF/s", "peak", "share"
    );
    let mut recorded = Vec::new();
    for (group, cases) in groups {
        let mut cases: Vec<_> = cases.iter_mut().filter(|case| case.run.is_some()).collect();
        let figures = time_in_turn(&mut cases);
        for (case, figures) in cases.iter().zip(&figures) {
            let other_words = case.work.in_other_words(figures.seconds);
            print_figures(group, case, figures, &other_words);
            recorded.push(row(group, case, figures, other_words));
        }
    }
    rows::write(&recorded);
}

fn print_figures(group: &str, case: &Case, &Figures { seconds, peak, share }: &Figures, other_words: &str) {
    let name = format!("{group}/{}", case.name);
    print!("{name:<36} {:>12.3}", seconds * 1e6);
    match case.work.flops() {
        None => print!("{:>26}", ""),
        Some(flops) => {
            let rate = flops as f64 / seconds / 1e9;
            print!(" {rate:>8.1} {:>8.1} {:>5.1} %", peak / 1e9, 100.0 * share);
        }
    }
    println!("{}{other_words}", if other_words.is_empty() { "" } else { "  " });
}

fn row(group: &str, case: &Case, figures: &Figures, note: String) -> Row {
    let own_part = case.name.strip_suffix(&format!("/{}", case.library)).unwrap_or(&case.name);
    let flops = case.work.flops();
    Row {
        pass: if group == "training" { "training" } else { "forward" },
        case: format!("{group}/{own_part}"),
        shape: case.shape,
        threads: case.threads,
        library: case.library,
        seconds: figures.seconds,
        flops,
        share: flops.map(|_| figures.share),
        note,
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
            let peak = run_peak() as f64 / now.elapsed().as_secs_f64() * case.threads as f64;
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

/// Multiply-adds a chain in one measurement of the peak, about a fifth of a millisecond.
const CHAIN_LENGTH: usize = 60_000;

/// Multiply-adds with vectors of the instruction set in use, and nothing else; how many operations they are.
pub(crate) fn run_peak() -> u64 {
    elman::multiply_adds(CHAIN_LENGTH).expect("an instruction set")
}
