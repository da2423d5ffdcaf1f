//! Steps of a gated layer whose columns several threads share.

use super::super::parallel::{self, TeamGuard};
use super::super::walk::Steps;
use super::gated::{Arrays, Product};
use super::{Chunk, gate_stride};
use crate::layers::PackedRnn;
use crate::memory::row_stride;

/// The arrays of a chunk whose columns the threads of a team share.
struct Shared {
    rows: *mut f32,
    gates: *mut f32,
    c: *mut f32,
    sums: (*mut f32, usize),
    reset_states: *mut f32,
}

// SAFETY: threads write the units of their own panels, and read what was written before they met; see
// `Arrays::multiply`.
unsafe impl Sync for Shared {}

impl Shared {
    /// The arrays of a step: `gate` is where its gates begin, `previous` and `here` its states before and
    /// after.
    ///
    /// # Safety
    /// These are offsets into the arrays, with `count` rows behind them.
    unsafe fn step(&self, count: usize, gate: usize, [previous, here]: [usize; 2]) -> Arrays {
        // SAFETY: the caller's promise.
        unsafe {
            Arrays {
                count,
                gates: self.gates.add(gate),
                h: self.rows.add(previous).cast_const(),
                h_next: self.rows.add(here),
                c: self.c.cast_const(),
                c_next: self.c,
                candidate: std::ptr::null_mut(),
                reset_states: self.reset_states,
                keep: false,
            }
        }
    }
}

/// The steps of a chunk, whose sums of the input are made, the columns of their products shared out among a
/// team.
pub(super) fn shared_steps(
    rnn: &PackedRnn,
    team: &mut TeamGuard,
    chunk: Chunk<'_>,
    scratch: &mut [f32],
    steps: Steps<'_>,
) {
    let Chunk { rows, carried, gates, cell_states } = chunk;
    let Steps { counts, first } = steps;
    let Some(&most) = counts.first() else { return };
    let (stride, gate_stride) = (row_stride(rnn.units()), gate_stride(rnn));
    let all = steps.rows();
    assert!(counts.is_sorted_by(|a, b| a >= b) && most <= carried, "rows cannot come back");
    assert!(rows.len() >= (carried + all) * stride && gates.len() >= all * gate_stride, "rows too short");
    let (sums, scratch) = scratch.split_at_mut(most * gate_stride.max(stride));
    let of_reset = if rnn.resets_before() { most * stride } else { 0 };
    let of_cells = if rnn.states() > 1 { most * stride } else { 0 };
    let shared = Shared {
        rows: rows.as_mut_ptr(),
        gates: gates.as_mut_ptr(),
        c: cell_states[..of_cells].as_mut_ptr(),
        sums: (sums.as_mut_ptr(), sums.len()),
        reset_states: scratch[..of_reset].as_mut_ptr(),
    };
    let macs = most * rnn.units() * rnn.units() * rnn.gates();
    let mut done = 0;
    for job in counts.chunks(parallel::steps_per_job(macs)) {
        parallel::evenly(team, &|share, meet| {
            let shared = &shared;
            let offsets = (0..counts.len()).scan((0, carried * stride, 0), |(previous, here, gate), step| {
                let now = (*gate, [*previous, *here]);
                let count = counts[step];
                (*previous, *here, *gate) = (*here, *here + count * stride, *gate + count * gate_stride);
                Some((step, count, now))
            });
            for (step, count, (gate, offsets)) in offsets.skip(done).take(job.len()) {
                let odd = (first + step) % 2 == 1;
                // SAFETY: the asserts found all steps inside the arrays, which are borrowed until all threads
                // have finished; threads meet behind each product.
                unsafe {
                    let arrays = shared.step(count, gate, offsets);
                    arrays.multiply(rnn, Product::Gates, odd, shared.sums, share);
                    meet();
                    if rnn.resets_before() {
                        arrays.multiply(rnn, Product::Candidate, odd, shared.sums, share);
                        meet();
                    }
                }
            }
        });
        done += job.len();
    }
}
