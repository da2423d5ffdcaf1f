//! Walks over steps: each step's sums become states, which the next step's product multiplies.
//!
//! A product is [`gemm`](crate::gemm)'s; that one follows the other is said here. Where a layer's columns are
//! one panel, the kernel itself walks the steps. Where the weights stay in the second-level cache, the walk
//! is two plain loops around the kernel. A larger matrix is walked from the first panel to the last on even
//! steps and from the last to the first on odd ones, so that a step starts on the weights that the last one
//! left in the cache; the order of panels changes no sum.

use crate::dispatch::{Block, Epilogue, Function};
use crate::gemm::{PackedMatrix, Pass, Rows, over_panels, over_small_panels};
use crate::layers::PackedRnn;
use crate::memory::extent;

/// Steps that follow each other: how many rows each has, never more than the one before, and the number of
/// the first.
#[derive(Clone, Copy)]
pub(super) struct Steps<'a> {
    pub(super) counts: &'a [usize],
    pub(super) first: usize,
}

impl Steps<'_> {
    pub(super) fn rows(&self) -> usize {
        self.counts.iter().sum()
    }
}

/// What a product's kernel does with its sums, where they are the next states, and what is left to do.
#[inline(always)]
pub(super) fn ending(function: Function) -> (Epilogue, Option<Function>) {
    if function == Function::Tanh { (Epilogue::TanhState, None) } else { (Epilogue::Keep, Some(function)) }
}

/// The block of the first step, checked so that walking all `counts` over it is sound: there are states for
/// the first step's rows before the sums, every step's rows lie inside `rows`, whole vectors inside a row,
/// and no step has more rows than the one before, whose states it reads. The sums lie `distance` floats
/// behind the states before them.
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

/// Turns the sums of `steps` into states in place, the sums lying `distance` floats behind the states before
/// them.
pub(super) fn advance(rnn: &PackedRnn, rows: &mut [f32], stride: usize, distance: usize, steps: Steps<'_>) {
    if let Some(mut block) = block_of(rnn, rows, stride, distance, steps.counts) {
        // SAFETY: see `block_of`.
        unsafe { walk(&rnn.recurrent, &mut block, steps, rnn.function()) };
    }
}

/// Turns the sums of one step into states in place: `c = function(c + h·matrix)` for `count` rows of `h` and
/// `c`, `stride` apart; tiny states become zero.
///
/// # Panics
/// Where an array is too small.
pub(super) fn recur(
    matrix: &PackedMatrix,
    function: Function,
    h: &[f32],
    c: &mut [f32],
    count: usize,
    stride: usize,
) {
    if count == 0 {
        return;
    }
    let width = matrix.padded_columns();
    let rows = Rows::Strided { values: h, stride, count };
    assert!(rows.hold(matrix.depth()), "a state lies outside its array");
    assert!(width <= stride && extent(count, stride, width) <= c.len(), "rows too short");
    let c = c.as_mut_ptr();
    let mut block = Block {
        a: h.as_ptr(),
        a_stride: stride,
        init: c.cast_const(),
        init_stride: stride,
        c,
        c_stride: stride,
        ..matrix.block()
    };
    // SAFETY: `walk` reads `depth` floats of every row of `h`, and reads and writes whole vectors of every
    // row of `c`: the asserts found all of them inside their arrays. `h` is borrowed shared and `c` is not,
    // so they are apart. There is no step after this one.
    unsafe { walk(matrix, &mut block, Steps { counts: &[count], first: 0 }, function) };
}

/// Carries out `block` for the rows of the first step over all panels of `matrix`, and then the steps that
/// follow: each one's sums lie behind those of the step before, whose results are its rows. What is stored is
/// the next state: `function` of the sum, tiny values as zero.
///
/// The block is changed where it is, here and below: a copy of what was just written field by field would
/// wait until all of that has reached the cache, which a single step of 64 units felt by 8 %.
///
/// # Safety
/// As `kernels::tile::steps` for all columns of the matrix, padded to whole vectors: the rows of every step
/// must lie inside their arrays. What would follow the last step need not be there. `block` must come from
/// [`PackedMatrix::block`] of this matrix, whose panels its pointer may read all of.
#[inline(always)]
unsafe fn walk(matrix: &PackedMatrix, block: &mut Block, steps: Steps<'_>, function: Function) {
    let Steps { counts, first } = steps;
    let Some(&most) = counts.first() else { return };
    let small = matrix.is_small(most);
    let (epilogue, after) = ending(function);
    // SAFETY: the caller's promise, in both.
    unsafe {
        if small && matrix.panel_count() == 1 && after.is_none() {
            block.epilogue = epilogue;
            return walk_in_kernel(matrix, block, counts);
        }
        if small {
            return walk_small(matrix, block, counts, function);
        }
    }
    let all = 0..matrix.panel_count();
    for (step, &rows) in counts.iter().enumerate() {
        let pass = Pass { rows, epilogue, backward: (first + step) % 2 == 1 };
        // SAFETY: the caller's promise for this step, whose rows are at `block.c`. The kernels are those that
        // this process may run.
        unsafe {
            over_panels(matrix, block, pass, &all);
            if let Some(function) = after {
                let (apply, columns) = (matrix.kernels().apply_state, matrix.padded_columns());
                apply(function, block.c, rows, columns, block.c_stride);
            }
        }
        follow(block, rows);
    }
}

/// [`walk`] over a small matrix of one panel, whose kernel makes states of its sums: steps of several rows,
/// then those of one.
///
/// # Safety
/// As [`walk`].
#[inline(always)]
unsafe fn walk_in_kernel(matrix: &PackedMatrix, block: &mut Block, counts: &[usize]) {
    let most = counts[0];
    let several = if most == 1 { 0 } else { counts.iter().take_while(|&&count| count > 1).count() };
    let (counts, lone) = counts.split_at(several);
    // SAFETY: the caller's promise for the steps of several rows and for those of one; the kernels are
    // those that this process may run. The two `add` are computed only where a step of one row follows:
    // its states are the last step's results and its sums lie behind them, both inside `c`.
    unsafe {
        if let Some(last) = counts.last() {
            matrix.steps_of(matrix.padded_columns(), most)(block, counts);
            if lone.is_empty() {
                return;
            }
            let rows: usize = counts.iter().sum();
            block.a = block.c.add((rows - last) * block.c_stride);
            block.offsets = std::ptr::null();
            block.a_stride = block.c_stride;
            block.c = block.c.add(rows * block.c_stride);
            block.init = block.c;
            block.init_stride = block.c_stride;
        }
        matrix.steps_of(matrix.padded_columns(), 1)(block, lone);
    }
}

/// [`walk`] over a small matrix: for every step one panel after the other. The block's fields change in
/// place; see [`over_small_panels`].
///
/// # Safety
/// As [`walk`].
unsafe fn walk_small(matrix: &PackedMatrix, block: &mut Block, counts: &[usize], function: Function) {
    let kernels = matrix.kernels();
    let columns = matrix.padded_columns();
    let (epilogue, after) = ending(function);
    block.epilogue = epilogue;
    let (mut init, mut c) = (block.init, block.c);
    for &rows in counts {
        // SAFETY: the caller's promise: `c` has whole vectors at each of this step's rows.
        unsafe {
            over_small_panels(matrix, block, rows, init, c);
            if let Some(function) = after {
                (kernels.apply_state)(function, c, rows, columns, block.c_stride);
            }
        }
        block.a = c;
        // After the last step nothing needs to be there.
        c = c.wrapping_add(rows * block.c_stride);
        block.offsets = std::ptr::null();
        block.a_stride = block.c_stride;
        block.init_stride = block.c_stride;
        init = c;
    }
}

/// Moves `block` on by a step of `rows` rows: they are the next step's rows, and its sums lie behind them.
/// After the last step nothing needs to be there, so the address is computed without a claim that it is
/// inside the array.
#[inline(always)]
fn follow(block: &mut Block, rows: usize) {
    block.a = block.c;
    block.offsets = std::ptr::null();
    block.a_stride = block.c_stride;
    block.c = block.c.wrapping_add(rows * block.c_stride);
    block.init = block.c;
    block.init_stride = block.c_stride;
}

/// [`walk`] over the panels that fall to one of several threads; `meet` is called after every step and
/// returns when all threads have called it.
///
/// # Safety
/// As [`walk`], all threads together; each must be called with its own `share`, and the memory of the rows
/// must outlive them all.
pub(super) unsafe fn walk_share(
    matrix: &PackedMatrix,
    mut block: Block,
    steps: Steps<'_>,
    function: Function,
    share: (usize, usize),
    meet: impl Fn(),
) {
    let Steps { counts, first } = steps;
    let panels = matrix.panels_of(share);
    let (column, columns) = matrix.share(share);
    let (epilogue, after) = ending(function);
    for (step, &rows) in counts.iter().enumerate() {
        let pass = Pass { rows, epilogue, backward: (first + step) % 2 == 1 };
        // SAFETY: the caller's promise for this step, whose rows are at `block.c`. A thread writes the
        // columns of its own panels and no others, and reads the states of the step before, which all threads
        // have finished. It has `column` columns before its own, so they begin inside the first row.
        unsafe {
            over_panels(matrix, &block, pass, &panels);
            if let Some(function) = after {
                let apply = matrix.kernels().apply_state;
                apply(function, block.c.add(column), rows, columns, block.c_stride);
            }
        }
        meet();
        follow(&mut block, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::available_kernels;
    use crate::gemm::samples::{CANARY, Product, sizes};

    #[test]
    fn states_stay_inside_arrays_that_end_with_their_last_row() {
        type Case = (Function, fn(f64) -> f64);
        let functions: [Case; 4] = [
            (Function::Linear, |sum| sum),
            (Function::Tanh, f64::tanh),
            (Function::Relu, |sum| sum.max(0.0)),
            (Function::Sigmoid, |sum| 1.0 / (1.0 + (-sum).exp())),
        ];
        for kernels in available_kernels() {
            for [rows, units, _] in sizes().into_iter().filter(|[_, _, columns]| *columns == 16) {
                for units in [units, 16, 70] {
                    let it = Product::new(rows, units, units);
                    let matrix = PackedMatrix::new(kernels, units, units, &it.b).expect("small");
                    let padded = matrix.padded_columns();
                    let stride = padded + 3;
                    let mut h = vec![CANARY; extent(rows, stride, units)];
                    let mut c = vec![CANARY; extent(rows, stride, padded)];
                    for row in 0..rows {
                        h[row * stride..][..units].copy_from_slice(&it.a[row * units..][..units]);
                        c[row * stride..][..units].copy_from_slice(&it.init[row * units..][..units]);
                    }
                    for (function, exact) in functions {
                        let mut c = c.clone();
                        recur(&matrix, function, &h, &mut c, rows, stride);
                        it.check(&format!("{kernels:?} {function:?}"), &c, [stride, padded], exact);
                    }
                }
            }
        }
    }
}
