//! The unrolled driver: several steps inside one kernel call.
//!
//! Where a layer's columns are one panel, the kernel itself walks the steps. A wider layer walks its panels within a
//! step, forwards on even steps and backwards on odd ones, so that a step starts on the weights that the last one
//! left in the cache; the order of panels changes no sum.

use crate::dispatch::{Block, Finish, Function};
use crate::gemm::sweep;
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
    let matrix = &rnn.recurrent;
    let all: usize = counts.iter().sum();
    let Some(&most) = counts.first() else { return };
    let width = matrix.padded_columns();
    assert!(width <= stride && distance + all * stride <= rows.len(), "rows too short");
    assert!(most * stride <= distance, "the first step's rows exceed the states before it");
    assert!(counts.is_sorted_by(|a, b| a >= b), "rows cannot come back");
    let a = rows.as_mut_ptr();
    // SAFETY: distance <= rows.len().
    let c = unsafe { a.add(distance) };
    let mut block = Block {
        a,
        offsets: std::ptr::null(),
        a_stride: stride,
        terms: matrix.terms(),
        segments: matrix.segments(),
        b: std::ptr::null(),
        b_stride: 0,
        panel_stride: 0,
        ahead: std::ptr::null(),
        ahead_len: 0,
        init: c,
        init_stride: stride,
        c,
        c_stride: stride,
        finish: Finish::Keep,
    };
    if let Some((steps, panel)) = matrix.only_panel()
        && rnn.function == Function::Tanh
    {
        (block.b, block.b_stride) = panel;
        block.finish = Finish::TanhState;
        // SAFETY: the asserts above: `most` states before the sums, every step's rows inside `rows`, whole vectors
        // inside a row, and no step has more rows than the one before, whose states it reads.
        unsafe { steps(&block, counts) };
        return;
    }
    for (step, &count) in counts.iter().enumerate() {
        // SAFETY: as above; the states read and the sums written are different steps' rows.
        unsafe { sweep(matrix, &block, count, Some(rnn.function), (first + step) % 2 == 1) };
        block.a = block.c;
        // SAFETY: the next step's rows follow, or this was the last step.
        block.c = unsafe { block.c.add(count * stride) };
        block.init = block.c;
    }
}
