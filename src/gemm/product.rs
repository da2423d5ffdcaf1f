//! Products: rows times a packed matrix, panel by panel.
//!
//! What walks over the steps of a sequence makes these products one after the other; here nothing knows of
//! steps.
//!
//! # Tried
//! - Whole panels for a matrix of a megabyte, which the second-level cache holds: 256 units took 3 % longer forward.
//! - Equal blocks that stay in the first-level cache for large matrices: no gain, where whole panels gain 2 to 5 %.
//! - Rows of many terms in parts that stay in the second-level cache, all panels passing over a part before the
//!   next: 64 rows of 1024 units, forward and back, where the transposed products have 4096 terms, 0.99 to
//!   1.04 (medians).
//! - With 2 to 8 rows fetching all of the next panel ahead, as many rows together do, without gain: 8 rows of
//!   1024 units take 166 us a step, 113 of which go into reading what the second-level cache does not hold,
//!   as with 4 rows. The memory's own prefetcher is at its limit.

use std::ops::Range;

use super::PackedMatrix;
use crate::dispatch::{Block, Epilogue, StepsFn};
use crate::memory::extent;

/// The left-hand rows of a product.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// `count` rows, `stride` floats apart.
    Strided { values: &'a [f32], stride: usize, count: usize },
    /// Row i begins `offsets[i]` floats into `values`.
    Scattered { values: &'a [f32], offsets: &'a [usize] },
}

/// Where the sums start.
#[derive(Clone, Copy)]
pub(crate) enum Init<'a> {
    /// The same start for every row: a bias, padded to whole vectors.
    Bias(&'a [f32]),
    /// What the output holds already.
    Output,
}

impl<'a> Rows<'a> {
    /// From the first float of a row on.
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        match *self {
            Rows::Strided { values, stride, .. } => &values[index * stride..],
            Rows::Scattered { values, offsets } => &values[offsets[index]..],
        }
    }

    /// What the rows lie in.
    #[cfg(feature = "training")]
    pub(crate) fn values(&self) -> &'a [f32] {
        match *self {
            Rows::Strided { values, .. } | Rows::Scattered { values, .. } => values,
        }
    }

    /// The first `count` rows, and the others.
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        match self {
            _ if self.count() <= count => (self, Rows::Scattered { values: &[], offsets: &[] }),
            Rows::Strided { values, stride, count: all } => (
                Rows::Strided { values, stride, count },
                Rows::Strided { values: &values[count * stride..], stride, count: all - count },
            ),
            Rows::Scattered { values, offsets } => {
                let (first, others) = offsets.split_at(count);
                (Rows::Scattered { values, offsets: first }, Rows::Scattered { values, offsets: others })
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        match *self {
            Rows::Strided { count, .. } => count,
            Rows::Scattered { offsets, .. } => offsets.len(),
        }
    }

    /// Whether every row has `depth` floats.
    pub(crate) fn hold(&self, depth: usize) -> bool {
        match *self {
            Rows::Strided { values, stride, count } => extent(count, stride, depth) <= values.len(),
            Rows::Scattered { values, offsets } => {
                offsets.iter().all(|&offset| offset <= values.len() && depth <= values.len() - offset)
            }
        }
    }
}

/// Bytes of the left-hand rows that go together through all panels: a quarter of a second-level cache.
const ROWS_BYTES: usize = 512 << 10;
/// Rows that go together at the least, so that fetching large matrices pays.
pub(super) const ROWS_LEAST: usize = 256;

/// `c = init + rows·matrix`, whole vectors written, rows of `c` being `c_stride` apart.
///
/// # Panics
/// Where an array is too small.
pub(crate) fn multiply(
    rows: Rows<'_>,
    matrix: &PackedMatrix,
    init: Init<'_>,
    c: &mut [f32],
    c_stride: usize,
) {
    let mut rows = rows;
    let mut c = c;
    // So many rows at once stay in the second cache while all panels pass over them.
    let most = (ROWS_BYTES / size_of::<f32>() / matrix.depth().max(1)).max(ROWS_LEAST);
    loop {
        let (here, rest) = rows.split_at(most);
        if let Some(mut block) = block_of(here, matrix, init, c, c_stride) {
            // SAFETY: the product reads `depth` floats of every row and the initial values as wide as `c`,
            // and writes whole vectors of every row of `c`: `block_of` found all of them inside their arrays.
            // Rows and bias are borrowed shared and `c` is not, so they are apart.
            unsafe { multiply_block(matrix, &mut block, here.count(), false) };
        }
        if rest.count() == 0 {
            return;
        }
        rows = rest;
        c = &mut c[most * c_stride..];
    }
}

/// The block of a [`multiply`], or `None` where there are no rows.
///
/// # Panics
/// Where an array is too small.
#[inline(always)]
pub(crate) fn block_of(
    rows: Rows<'_>,
    matrix: &PackedMatrix,
    init: Init<'_>,
    c: &mut [f32],
    c_stride: usize,
) -> Option<Block> {
    let count = rows.count();
    if count == 0 {
        return None;
    }
    let width = matrix.padded_columns();
    assert!(rows.hold(matrix.depth()), "a row lies outside its array");
    assert!(width <= c_stride && extent(count, c_stride, width) <= c.len(), "output too small");
    let (a, offsets, a_stride) = match rows {
        Rows::Strided { values, stride, .. } => (values.as_ptr(), std::ptr::null(), stride),
        Rows::Scattered { values, offsets } => (values.as_ptr(), offsets.as_ptr(), 0),
    };
    let c = c.as_mut_ptr();
    let (init, init_stride) = match init {
        Init::Bias(bias) => {
            assert!(width <= bias.len(), "bias too small");
            (bias.as_ptr(), 0)
        }
        Init::Output => (c.cast_const(), c_stride),
    };
    Some(Block { a, offsets, a_stride, init, init_stride, c, c_stride, ..matrix.block() })
}

/// Carries out `block` for `rows` rows over all panels of `matrix`; those of a large one from the last to the
/// first where `backward`.
///
/// # Safety
/// As `kernels::tile::product` for all columns of the matrix, padded to whole vectors: the rows must lie
/// inside their arrays. `block` must come from [`PackedMatrix::block`] of this matrix, whose panels its
/// pointer may read all of.
#[inline(always)]
pub(crate) unsafe fn multiply_block(matrix: &PackedMatrix, block: &mut Block, rows: usize, backward: bool) {
    // SAFETY: the caller's promise, in all three; the kernel is one that this process may run.
    unsafe {
        if !matrix.is_small(rows) {
            let pass = Pass { rows, epilogue: Epilogue::Keep, backward };
            over_panels(matrix, block, pass, &(0..matrix.panel_count()));
        } else if matrix.panel_count() == 1 {
            block.epilogue = Epilogue::Keep;
            matrix.steps_of(matrix.padded_columns(), rows)(block, &[rows]);
        } else {
            block.epilogue = Epilogue::Keep;
            let (init, c) = (block.init, block.c);
            over_small_panels(matrix, block, rows, init, c);
        }
    }
}

/// A product over panels: of how many rows, what is stored for its sums, and whether large matrices are
/// walked from the last panel to the first.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) rows: usize,
    pub(crate) epilogue: Epilogue,
    pub(crate) backward: bool,
}

/// The kernel for the panel of a small matrix that begins at `column`, and how many panels it takes: a lone
/// row takes several at once, where there are as many full ones.
#[inline(always)]
fn panels_at(matrix: &PackedMatrix, column: usize, rows: usize) -> (StepsFn, usize) {
    let (columns, width, together) = (matrix.padded_columns(), matrix.width(), matrix.panels_per_call());
    if rows == 1 && together > 1 && column + together * width <= columns {
        (matrix.kernels().steps_together, together)
    } else {
        (matrix.steps_of(width.min(columns - column), rows), 1)
    }
}

/// The product of `rows` rows with a small matrix, one panel after the other, from `init` to `c`; `block`
/// says the rest.
///
/// The block's fields change in place and one by one: a kernel that reads a field waits for no more than the
/// store of that field, where a copy of the block would wait for all of them.
///
/// # Safety
/// As [`multiply_block`], with these initial values and results.
#[inline(always)]
pub(crate) unsafe fn over_small_panels(
    matrix: &PackedMatrix,
    block: &mut Block,
    rows: usize,
    init: *const f32,
    c: *mut f32,
) {
    let columns = matrix.padded_columns();
    let mut column = 0;
    block.b = matrix.first_panel();
    while column < columns {
        let (kernel, panels) = panels_at(matrix, column, rows);
        // SAFETY: the caller's promise, for the columns of these panels: `column` is one of the matrix, so
        // `init` and `c` have it in their first row.
        unsafe {
            block.c = c.add(column);
            block.init = init.add(column);
            kernel(block, &[rows]);
        }
        block.b = block.b.wrapping_add(panels * block.panel_stride);
        column += panels * matrix.width();
    }
}

/// How many calls of kernels make the product of one row with a small matrix; `None` for a large one, whose
/// panels are walked in turn forwards and backwards.
pub(crate) fn calls_of_lone_row(matrix: &PackedMatrix) -> Option<usize> {
    let mut calls = 0;
    for_lone_row(matrix, matrix.block(), Epilogue::Keep, |_, _| calls += 1)?;
    Some(calls)
}

/// Gives the calls of kernels that make the product of one row with a small matrix; `None` for a large
/// matrix.
///
/// They may be made by whom [`multiply_block`] may be called by. A product that is one call may write to its
/// row.
pub(crate) fn for_lone_row(
    matrix: &PackedMatrix,
    block: Block,
    epilogue: Epilogue,
    mut call: impl FnMut(StepsFn, Block),
) -> Option<()> {
    if !matrix.is_small(1) {
        return None;
    }
    let mut column = 0;
    while column < matrix.padded_columns() {
        let (steps, panels) = panels_at(matrix, column, 1);
        let part = Block {
            b: block.b.wrapping_add(column * block.depth),
            init: block.init.wrapping_add(column),
            c: block.c.wrapping_add(column),
            epilogue,
            ..block
        };
        call(steps, part);
        column += panels * matrix.width();
    }
    Some(())
}

/// A product over the panels `share` of a large matrix, each in blocks of terms.
///
/// # Safety
/// As [`multiply_block`], for the columns of these panels.
pub(crate) unsafe fn over_panels(matrix: &PackedMatrix, block: &Block, pass: Pass, share: &Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { panels_to::<false>(matrix, block, pass, share, &mut |_, _| ()) }
}

/// [`over_panels`], `done_with` being called after each one, or after each few that a lone row takes at once,
/// with its first column and how many there are. With `COMPACT` each writes to the first columns of `c`,
/// where the one before wrote too.
///
/// # Safety
/// As [`over_panels`]; with `COMPACT` for as many columns of `c` as are taken at once.
#[inline(always)]
unsafe fn panels_to<const COMPACT: bool>(
    matrix: &PackedMatrix,
    block: &Block,
    pass: Pass,
    share: &Range<usize>,
    done_with: &mut impl FnMut(usize, usize),
) {
    let Pass { rows, epilogue, backward } = pass;
    let kernels = matrix.kernels();
    // A lone row takes several panels at once, to have enough independent sums.
    let together = if rows == 1 { matrix.panels_per_call() } else { 1 };
    // Blocks of terms pay when several tiles pass over them, and may be cut where there is one segment only.
    let most = if block.segments == 1 && rows > 8 { matrix.block_depth(rows) } else { block.depth };
    let full = share.end.min(matrix.padded_columns() / matrix.width()).saturating_sub(share.start);
    let whole = if together > 1 { full / together } else { 0 };
    let groups = whole + share.len() - whole * together;
    let at = |group: usize| {
        let group = if backward { groups - 1 - group } else { group };
        match group.checked_sub(whole) {
            None => (share.start + group * together, kernels.steps_together),
            Some(single) => {
                let index = share.start + whole * together + single;
                (index, matrix.steps_of(matrix.panel(index).width, rows))
            }
        }
    };
    for group in 0..groups {
        let (index, steps) = at(group);
        let panel = matrix.panel(index);
        // From the pointer to all panels: a lone row goes on into those that follow.
        let b = block.b.wrapping_add(panel.column * block.depth);
        let next = if group + 1 < groups && rows > 8 { matrix.panel(at(group + 1).0).values } else { &[] };
        let mut part = *block;
        let mut done = 0;
        while done < block.depth {
            part.depth = (block.depth - done).min(most);
            let prefetch = panel.values.get((done + part.depth) * panel.width..).unwrap_or_default();
            let prefetch = if prefetch.is_empty() { next } else { prefetch };
            (part.prefetch, part.prefetch_len) =
                (prefetch.as_ptr(), prefetch.len().min(part.depth * panel.width));
            part.b = b.wrapping_add(done * panel.width);
            // SAFETY: `done` is a term and `column` a column of the matrix: the rows' array has more than
            // `done` floats, and the first row of output and initial values more than `column`.
            unsafe {
                part.a = block.a.add(done);
                part.c = if COMPACT { block.c } else { block.c.add(panel.column) };
                (part.init, part.init_stride) = if done == 0 {
                    (block.init.add(panel.column), block.init_stride)
                } else {
                    (part.c.cast_const(), block.c_stride)
                };
            }
            done += part.depth;
            let last = done == block.depth;
            part.epilogue = if last { epilogue } else { Epilogue::Keep };
            // SAFETY: the caller's promise for these terms and columns; `b` is where the panel's term `done`
            // begins, and the panels taken together with it follow without a gap. The kernels are those that
            // this process may run.
            unsafe { steps(&part, &[rows]) };
        }
        let panels = if index < share.start + whole * together { together } else { 1 };
        let end = (panel.column + panels * matrix.width()).min(matrix.padded_columns());
        done_with(panel.column, end - panel.column);
    }
}

/// The product with the panels that fall to one of several threads, its sums as they are; each panel's go to
/// the first columns of `c`, where the one before wrote too, and `done` is called then with its first column
/// and how many there are.
///
/// # Safety
/// As [`over_panels`], `c` being valid for [`PackedMatrix::columns_at_once`] columns.
pub(crate) unsafe fn multiply_by_panels(
    matrix: &PackedMatrix,
    block: &mut Block,
    rows: usize,
    backward: bool,
    share: (usize, usize),
    mut done: impl FnMut(usize, usize),
) {
    let share = matrix.panels_of(share);
    if !matrix.is_small(rows) || matrix.panels_per_call() > 1 && rows == 1 {
        let pass = Pass { rows, epilogue: Epilogue::Keep, backward };
        // SAFETY: the caller's promise.
        unsafe { panels_to::<true>(matrix, block, pass, &share, &mut done) };
        return;
    }
    block.epilogue = Epilogue::Keep;
    let (first, init) = (block.b, block.init);
    for i in 0..share.len() {
        let index = if backward { share.end - 1 - i } else { share.start + i };
        let column = index * matrix.width();
        let width = matrix.width().min(matrix.padded_columns() - column);
        block.b = first.wrapping_add(column * block.depth);
        // SAFETY: the caller's promise, for the columns of this panel: `column` is one of the matrix.
        unsafe {
            block.init = init.add(column);
            matrix.steps_of(width, rows)(block, &[rows]);
        }
        done(column, width);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{CANARY, Product, sizes};
    use super::*;
    use crate::dispatch::available_kernels;

    /// The output ends with its last row's last vector, where the next row would begin beyond it.
    #[test]
    fn a_product_stays_inside_arrays_that_end_with_its_last_row() {
        for kernels in available_kernels() {
            for [rows, depth, columns] in sizes() {
                let it = Product::new(rows, depth, columns);
                let what = format!("{kernels:?} {:?}", it.sizes);
                let matrix = PackedMatrix::new(kernels, depth, columns, &it.b).expect("small");
                let padded = matrix.padded_columns();
                let stride = padded + 5;
                let mut c = vec![CANARY; extent(rows, stride, padded)];
                for (row, init) in it.init.chunks(columns).enumerate() {
                    c[row * stride..][..columns].copy_from_slice(init);
                }
                let offsets: Vec<usize> = (0..rows).map(|row| row * depth).collect();
                let scattered = Rows::Scattered { values: &it.a, offsets: &offsets };
                for a in [Rows::Strided { values: &it.a, stride: depth, count: rows }, scattered] {
                    let mut c = c.clone();
                    multiply(a, &matrix, Init::Output, &mut c, stride);
                    it.check(&what, &c, [stride, padded], |sum| sum);
                }
            }
        }
    }

    /// Sizes whose product wraps around must not look small.
    #[test]
    fn what_overflows_fits_in_no_array() {
        let values = [0.0; 8];
        let rows = Rows::Strided { values: &values, stride: usize::MAX / 2 + 1, count: 3 };
        assert!(!rows.hold(4));
        assert_eq!(extent(3, usize::MAX / 2 + 1, 4), usize::MAX);
        assert_eq!((extent(0, 9, 4), extent(1, 9, 4), extent(3, 9, 4)), (0, 4, 22));
    }
}
