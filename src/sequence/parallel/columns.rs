//! Products whose columns several threads share out.

use super::super::walk::{self, Steps, walk_share};
use super::team::TeamGuard;
use crate::dispatch::{Block, Epilogue};
use crate::gemm::{Init, PackedMatrix, Pass, Rows, block_of, over_panels};
use crate::layers::PackedRnn;

/// Multiply-adds of a job: a few hundred microseconds, after which whoever has joined meanwhile takes part,
/// and who cannot run is done without.
const MACS_PER_JOB: usize = 1 << 23;
/// And so many steps at the most.
const STEPS_PER_JOB: usize = 32;

/// A block that the threads of a team share.
struct Shared(Block);

// SAFETY: threads write disjoint columns of `c` and read what was written before they met; see `walk_share`.
unsafe impl Sync for Shared {}

impl Shared {
    fn block(&self) -> Block {
        self.0
    }
}

/// Threads have as many columns each.
fn even(threads: usize) -> f64 {
    (threads - 1) as f64
}

/// Steps of `macs` multiply-adds each that go into a job.
pub(in super::super) fn steps_per_job(macs: usize) -> usize {
    (MACS_PER_JOB / macs.max(1)).clamp(1, STEPS_PER_JOB)
}

/// Calls `part` in every thread, with its share of all and what it meets the others by.
pub(in super::super) fn evenly(team: &mut TeamGuard, part: &(impl Fn((usize, usize), &dyn Fn()) + Sync)) {
    team.run(even, &|thread, threads, barrier| part((thread, threads), &|| barrier.wait()));
}

/// `gemm::multiply` with the columns shared out.
pub(in super::super) fn multiply(
    team: &mut TeamGuard,
    rows: Rows<'_>,
    matrix: &PackedMatrix,
    init: Init<'_>,
    c: &mut [f32],
    c_stride: usize,
) {
    let Some(block) = block_of(rows, matrix, init, c, c_stride).map(Shared) else { return };
    let pass = Pass { rows: rows.count(), epilogue: Epilogue::Keep, backward: false };
    team.run(even, &|thread, threads, _| {
        // SAFETY: `block_of` checked the arrays, which are borrowed until all threads have finished. A thread
        // writes the columns of its own panels.
        unsafe { over_panels(matrix, &block.block(), pass, &matrix.panels_of((thread, threads))) };
    });
}

/// `unrolled::run` with the columns shared out.
pub(in super::super) fn steps(
    team: &mut TeamGuard,
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    carried: usize,
    steps: Steps<'_>,
) {
    let Steps { counts, mut first } = steps;
    let (mut before, mut here) = (0, carried * stride);
    let macs = counts.first().map_or(1, |most| most * rnn.units() * rnn.units());
    for counts in counts.chunks(steps_per_job(macs)) {
        let rows = &mut rows[before..];
        let Some(block) = walk::block_of(rnn, rows, stride, here - before, counts).map(Shared) else {
            return;
        };
        team.run(even, &|thread, threads, barrier| {
            let steps = Steps { counts, first };
            let share = (thread, threads);
            // SAFETY: `block_of` checked the rows, which are borrowed until all threads have finished.
            unsafe {
                walk_share(&rnn.recurrent, block.block(), steps, rnn.function(), share, || barrier.wait());
            }
        });
        let all: usize = counts.iter().sum();
        before = here + (all - counts[counts.len() - 1]) * stride;
        here += all * stride;
        first += counts.len();
    }
}
