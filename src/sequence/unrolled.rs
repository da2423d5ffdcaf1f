//! The unrolled driver: several steps inside one kernel call.
//!
//! Where a layer's columns are one panel, the kernel itself walks the steps; where the weights stay in the second-level
//! cache, the walk is two plain loops around the kernel. A larger layer walks its panels within a step forwards on even
//! steps and backwards on odd ones, so that a step starts on the weights that the last one left in the cache; the order of
//! panels changes no sum.

use crate::dispatch::Block;
use crate::gemm::walk;
use crate::layers::PackedRnn;

/// Turns the sums of `counts.len()` steps into states in place.
///
/// `rows` holds, `stride` floats apart, `carried` rows with the states before the first step, then `counts[0]` rows of
/// sums, `counts[1]` rows, and so on; `counts` never grows. `first` is the number of the first step.
pub(super) fn run(
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    carried: usize,
    counts: &[usize],
    first: usize,
) {
    advance(rnn, rows, stride, carried * stride, counts, first);
}

/// [`run`], the sums lying `distance` floats behind the previous states.
pub(super) fn advance(
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    distance: usize,
    counts: &[usize],
    first: usize,
) {
    if let Some(block) = block_of(rnn, rows, stride, distance, counts) {
        // SAFETY: see `block_of`.
        unsafe { walk(&rnn.recurrent, block, counts, Some(rnn.function()), first) };
    }
}

/// The block of the first step, checked so that walking all `counts` over it is sound: there are states for the first
/// step's rows before the sums, every step's rows lie inside `rows`, whole vectors inside a row, and no step has more rows
/// than the one before, whose states it reads.
///
/// # Panics
/// Where that does not hold.
pub(super) fn block_of(
    rnn: &PackedRnn,
    rows: &mut [f32],
    stride: usize,
    distance: usize,
    counts: &[usize],
) -> Option<Block> {
    let matrix = &rnn.recurrent;
    let all: usize = counts.iter().sum();
    let &most = counts.first()?;
    let width = matrix.padded_columns();
    let needed = all.saturating_mul(stride).saturating_add(distance);
    assert!(width <= stride && needed <= rows.len(), "rows too short");
    assert!(most.saturating_mul(stride) <= distance, "the first step's rows exceed the states before it");
    assert!(counts.is_sorted_by(|a, b| a >= b), "rows cannot come back");
    let a = rows.as_mut_ptr();
    // SAFETY: `distance` is at most `rows.len()`, the assert, so this is in `rows` or at its end.
    let c = unsafe { a.add(distance) };
    Some(Block { a, a_stride: stride, init: c, init_stride: stride, c, c_stride: stride, ..matrix.block() })
}
