//! The walk over panels, blocks of terms and rows.
//!
//! Tried without gain: with 2 to 8 rows fetching all of the next panel ahead, as many rows together do (8 rows of 1024 units: 166 us a step,
//! of which reading what the second-level cache does not hold is 113, as with 4 rows; the memory's own prefetcher is at its limit).

use std::ops::Range;

use super::PackedMatrix;
use crate::dispatch::{Block, Finish, Function};

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

    /// The first `count` rows, and the others.
    fn split_at(self, count: usize) -> (Self, Self) {
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

    pub(super) fn count(&self) -> usize {
        match *self {
            Rows::Strided { count, .. } => count,
            Rows::Scattered { offsets, .. } => offsets.len(),
        }
    }

    /// Whether every row has `terms` floats.
    pub(super) fn hold(&self, terms: usize) -> bool {
        match *self {
            Rows::Strided { values, stride, count } => {
                count == 0 || (count - 1) * stride + terms <= values.len()
            }
            Rows::Scattered { values, offsets } => {
                offsets.iter().all(|&offset| offset <= values.len() && terms <= values.len() - offset)
            }
        }
    }
}

/// Bytes of the left-hand rows that go together through all panels: a quarter of a second-level cache.
const ROWS_BYTES: usize = 512 << 10;
/// Rows that go together at the least, so that fetching large matrices pays.
const ROWS_LEAST: usize = 256;

/// `c = init + rows·matrix`, whole vectors written, rows of `c` being `c_stride` apart.
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
    let most = (ROWS_BYTES / size_of::<f32>() / matrix.terms().max(1)).max(ROWS_LEAST);
    loop {
        let (here, rest) = rows.split_at(most);
        if let Some(block) = block_of(here, matrix, init, c, c_stride) {
            // SAFETY: `block_of` checked that every row has `terms` floats, that `c` has whole vectors at each row, and that
            // the bias, which a shared reference keeps apart from `c`, is as wide.
            unsafe { walk(matrix, block, &[here.count()], None, 0) };
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
    assert!(rows.hold(matrix.terms()), "a row lies outside its array");
    assert!(width <= c_stride && (count - 1) * c_stride + width <= c.len(), "output too small");
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

/// Turns sums into states in place: `c = function(c + h·matrix)` for `count` rows of `h` and `c`, `stride` apart; tiny
/// states become zero.
pub(crate) fn recur(
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
    assert!(rows.hold(matrix.terms()), "a state lies outside its array");
    assert!(width <= stride && (count - 1) * stride + width <= c.len(), "rows too short");
    let c = c.as_mut_ptr();
    let block = Block {
        a: h.as_ptr(),
        a_stride: stride,
        init: c.cast_const(),
        init_stride: stride,
        c,
        c_stride: stride,
        ..matrix.block()
    };
    // SAFETY: the asserts: every row of `h` has `terms` floats and every row of `c` whole vectors; `h` is borrowed
    // apart from `c`.
    unsafe { walk(matrix, block, &[count], Some(function), 0) };
}

/// Carries out `block` for `counts[0]` rows over all panels of `matrix`, and then the steps of a recurrent layer that
/// follow: `counts[i]` rows in step i, its sums lying behind those of the step before, whose results are its rows. With
/// `state`, what is stored is the next state of a recurrent layer: that function of the sum, tiny values as zero.
/// `first` is the number of the first step: large matrices are walked forwards on even steps and backwards on odd ones, so
/// that a step starts on the weights that the last one left in the cache.
///
/// # Safety
/// As `kernels::tile::steps` for all columns of the matrix, padded to whole vectors; `block` must come from
/// [`PackedMatrix::block`].
#[inline(always)]
pub(crate) unsafe fn walk(
    matrix: &PackedMatrix,
    mut block: Block,
    counts: &[usize],
    state: Option<Function>,
    first: usize,
) {
    let kernels = matrix.kernels();
    let Some(&most) = counts.first() else { return };
    let small = matrix.is_small(most);
    let in_registers = state == Some(Function::Tanh);
    if small && matrix.panel_count() == 1 && (in_registers || state.is_none()) {
        block.finish = if in_registers { Finish::TanhState } else { Finish::Keep };
        // Steps of several rows, then those of one.
        let several = if most == 1 { 0 } else { counts.iter().take_while(|&&count| count > 1).count() };
        let (counts, lone) = counts.split_at(several);
        // SAFETY: the caller's promise; the kernels are those that this process may run. The last step's rows are the next
        // one's, whose sums lie behind them.
        unsafe {
            if let Some(last) = counts.last() {
                kernels.steps_of(matrix.padded_columns(), most)(&block, counts);
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
            kernels.steps_of(matrix.padded_columns(), 1)(&block, lone);
        }
        return;
    }
    if small {
        // SAFETY: the caller's promise.
        unsafe { walk_plainly(matrix, &mut block, counts, state) };
        return;
    }
    for (step, &rows) in counts.iter().enumerate() {
        // SAFETY: the caller's promise for this step.
        unsafe {
            panels(matrix, &block, rows, in_registers, (first + step) % 2 == 1, &(0..matrix.panel_count()));
            if let Some(function) = state
                && !in_registers
            {
                (kernels.apply_state)(function, block.c, rows, matrix.padded_columns(), block.c_stride);
            }
            block.a = block.c;
            block.offsets = std::ptr::null();
            block.a_stride = block.c_stride;
            // The next step's sums follow, or this was the last step and the address is not used.
            block.c = block.c.add(rows * block.c_stride);
        }
        block.init = block.c;
    }
}

/// [`walk`] over the panels that fall to one of several members; `meet` is called after every step and returns when all
/// members have called it.
///
/// # Safety
/// As [`walk`], all members together; each must be called with its own `member` below `members`, and the memory of the
/// rows must outlive them all.
pub(crate) unsafe fn walk_share(
    matrix: &PackedMatrix,
    mut block: Block,
    counts: &[usize],
    state: Option<Function>,
    first: usize,
    (member, members): (usize, usize),
    meet: impl Fn(),
) {
    let kernels = matrix.kernels();
    let panel_of = |member: usize| member * matrix.panel_count() / members;
    let share = panel_of(member)..panel_of(member + 1);
    let column = share.start * kernels.panel();
    let columns = (share.end * kernels.panel()).min(matrix.padded_columns()).saturating_sub(column);
    let in_registers = state == Some(Function::Tanh);
    for (step, &rows) in counts.iter().enumerate() {
        // SAFETY: the caller's promise; a member writes its own columns of a step's sums, and reads the states of the
        // step before, which all members have finished.
        unsafe {
            panels(matrix, &block, rows, in_registers, (first + step) % 2 == 1, &share);
            if let Some(function) = state
                && !in_registers
            {
                (kernels.apply_state)(function, block.c.add(column), rows, columns, block.c_stride);
            }
            meet();
            block.a = block.c;
            block.offsets = std::ptr::null();
            block.a_stride = block.c_stride;
            // The next step's sums follow, or this was the last step and the address is not used.
            block.c = block.c.add(rows * block.c_stride);
        }
        block.init = block.c;
    }
}

/// [`walk`] over a small matrix: for every step one panel after the other.
///
/// The block's fields change in place and one by one: a kernel that reads a field waits for no more than the store of that
/// field, where a copy of the block would wait for all of them.
///
/// # Safety
/// As [`walk`].
unsafe fn walk_plainly(matrix: &PackedMatrix, block: &mut Block, counts: &[usize], state: Option<Function>) {
    let kernels = matrix.kernels();
    let width = kernels.panel();
    let columns = matrix.padded_columns();
    let in_registers = state == Some(Function::Tanh);
    block.finish = if in_registers { Finish::TanhState } else { Finish::Keep };
    let (first_panel, mut init, mut c) = (block.b, block.init, block.c);
    for &rows in counts {
        let mut column = 0;
        block.b = first_panel;
        while column < columns {
            let abreast = rows == 1 && column + kernels.abreast * width <= columns;
            let steps = if abreast {
                kernels.steps_abreast
            } else {
                kernels.steps_of(width.min(columns - column), rows)
            };
            let panels = if abreast { kernels.abreast } else { 1 };
            // SAFETY: the caller's promise, for the columns of these panels.
            unsafe {
                block.c = c.add(column);
                block.init = init.add(column);
                steps(block, &[rows]);
            }
            block.b = block.b.wrapping_add(panels * block.panel_stride);
            column += panels * width;
        }
        // SAFETY: the caller's promise; the next step's sums follow, or this was the last step and the address is not
        // used.
        unsafe {
            if let Some(function) = state
                && !in_registers
            {
                (kernels.apply_state)(function, c, rows, columns, block.c_stride);
            }
            block.a = c;
            c = c.add(rows * block.c_stride);
        }
        block.offsets = std::ptr::null();
        block.a_stride = block.c_stride;
        block.init_stride = block.c_stride;
        init = c;
    }
}

/// One step over the panels `share` of a large matrix, from the last to the first when `backward`, each in blocks of
/// terms.
///
/// # Safety
/// As [`walk`].
unsafe fn panels(
    matrix: &PackedMatrix,
    block: &Block,
    rows: usize,
    tanh_state: bool,
    backward: bool,
    share: &Range<usize>,
) {
    let kernels = matrix.kernels();
    // A lone row takes several panels at once, to have enough independent sums.
    let together = if rows == 1 { kernels.abreast } else { 1 };
    // Blocks of terms pay when several tiles pass over them, and may be cut where there is one segment only.
    let most = if block.segments == 1 && rows > 8 { kernels.terms_in_cache } else { block.terms };
    let full = share.end.min(matrix.padded_columns() / kernels.panel()).saturating_sub(share.start);
    let whole = if together > 1 { full / together } else { 0 };
    let groups = whole + share.len() - whole * together;
    let at = |group: usize| {
        let group = if backward { groups - 1 - group } else { group };
        match group.checked_sub(whole) {
            None => (share.start + group * together, kernels.steps_abreast),
            Some(single) => {
                let index = share.start + whole * together + single;
                (index, kernels.steps_of(matrix.panel(index).width, rows))
            }
        }
    };
    for group in 0..groups {
        let (index, steps) = at(group);
        let panel = matrix.panel(index);
        let next = if group + 1 < groups && rows > 8 { matrix.panel(at(group + 1).0).values } else { &[] };
        let mut part = *block;
        let mut done = 0;
        while done < block.terms {
            part.terms = (block.terms - done).min(most);
            let ahead = panel.values.get((done + part.terms) * panel.width..).unwrap_or_default();
            let ahead = if ahead.is_empty() { next } else { ahead };
            (part.ahead, part.ahead_len) = (ahead.as_ptr(), ahead.len().min(part.terms * panel.width));
            // SAFETY: `done` terms into the rows and the panel, `column` columns into output and initial values: all
            // inside what the caller vouched for.
            unsafe {
                part.a = block.a.add(done);
                part.b = panel.values.as_ptr().add(done * panel.width);
                part.c = block.c.add(panel.column);
                (part.init, part.init_stride) = if done == 0 {
                    (block.init.add(panel.column), block.init_stride)
                } else {
                    (part.c.cast_const(), block.c_stride)
                };
            }
            done += part.terms;
            let last = done == block.terms;
            part.finish = if last && tanh_state { Finish::TanhState } else { Finish::Keep };
            // SAFETY: as above; the kernels are those that this process may run.
            unsafe { steps(&part, &[rows]) };
        }
    }
}
