//! The looped driver: one kernel call a step.

use super::unrolled::advance;
use crate::layers::PackedRnn;

/// Turns the sums of `counts.len()` steps into states in place; see [`unrolled::run`](super::unrolled::run).
pub(super) fn run(
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    carried: usize,
    counts: &[usize],
    first: usize,
) {
    let mut previous = 0;
    let mut here = carried * stride;
    for (step, count) in counts.iter().enumerate() {
        advance(
            rnn,
            &mut rows[previous..],
            stride,
            here - previous,
            std::slice::from_ref(count),
            first + step,
        );
        previous = here;
        here += count * stride;
    }
}
