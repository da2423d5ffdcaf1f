//! The looped driver: one kernel call a step.

use super::walk::{Steps, advance};
use crate::layers::PackedRnn;

/// Turns the sums of `steps` into states in place; see [`unrolled::run`](super::unrolled::run).
pub(super) fn run(rnn: &PackedRnn, rows: &mut [f32], stride: usize, carried: usize, steps: Steps<'_>) {
    let (mut previous, mut here) = (0, carried * stride);
    for (step, count) in steps.counts.iter().enumerate() {
        let one = Steps { counts: std::slice::from_ref(count), first: steps.first + step };
        advance(rnn, &mut rows[previous..], stride, here - previous, one);
        previous = here;
        here += count * stride;
    }
}
