//! The unrolled driver: several steps inside one call of a kernel.

use super::walk::{Steps, advance};
use crate::layers::PackedRnn;

/// Turns the sums of `steps` into states in place.
///
/// `rows` holds, `stride` floats apart, `carried` rows with the states before the first step, then the rows
/// of sums of the first step, of the second, and so on.
pub(super) fn run(rnn: &PackedRnn, rows: &mut [f32], stride: usize, carried: usize, steps: Steps<'_>) {
    advance(rnn, rows, stride, carried * stride, steps);
}
