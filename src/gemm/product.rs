//! The walk over panels, blocks of terms and rows.
//!
//! Tried without gain: with 2 to 8 rows fetching all of the next panel ahead, as many rows together do (8 rows of 1024 units: 166 us a step,
//! of which reading what the second-level cache does not hold is 113, as with 4 rows; the memory's own prefetcher is at its limit).

use std::ops::Range;

use super::PackedMatrix;
use crate::dispatch::{Block, Finish, Function, StepsFn};
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

    pub(crate) fn count(&self) -> usize {
        match *self {
            Rows::Strided { count, .. } => count,
            Rows::Scattered { offsets, .. } => offsets.len(),
        }
    }

    /// Whether every row has `terms` floats.
    pub(super) fn hold(&self, terms: usize) -> bool {
        match *self {
            Rows::Strided { values, stride, count } => extent(count, stride, terms) <= values.len(),
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
    let most = (ROWS_BYTES / size_of::<f32>() / matrix.terms().max(1)).max(ROWS_LEAST);
    loop {
        let (here, rest) = rows.split_at(most);
        if let Some(block) = block_of(here, matrix, init, c, c_stride) {
            // SAFETY: `walk` reads `terms` floats of every row and the initial values as wide as `c`, and
            // writes whole vectors of every row of `c`: `block_of` found all of them inside their arrays.
            // Rows and bias are borrowed shared and `c` is not, so they are apart. There is no step after
            // this one.
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

/// Turns sums into states in place: `c = function(c + h·matrix)` for `count` rows of `h` and `c`, `stride` apart; tiny
/// states become zero.
///
/// # Panics
/// Where an array is too small.
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
    assert!(width <= stride && extent(count, stride, width) <= c.len(), "rows too short");
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
    // SAFETY: `walk` reads `terms` floats of every row of `h`, and reads and writes whole vectors of every
    // row of `c`: the asserts found all of them inside their arrays. `h` is borrowed shared and `c` is not,
    // so they are apart. There is no step after this one.
    unsafe { walk(matrix, block, &[count], Some(function), 0) };
}

/// Carries out `block` for `counts[0]` rows over all panels of `matrix`, and then the steps of a recurrent layer that
/// follow: `counts[i]` rows in step i, its sums lying behind those of the step before, whose results are its rows. With
/// `state`, what is stored is the next state of a recurrent layer: that function of the sum, tiny values as zero.
/// `first` is the number of the first step: large matrices are walked forwards on even steps and backwards on odd ones, so
/// that a step starts on the weights that the last one left in the cache.
///
/// # Safety
/// As `kernels::tile::steps` for all columns of the matrix, padded to whole vectors: the rows of every step
/// must lie inside their arrays. What would follow the last step need not be there. `block` must come from
/// [`PackedMatrix::block`] of this matrix, whose panels its pointer may read all of.
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
        // SAFETY: the caller's promise for the steps of several rows and for those of one; the kernels are
        // those that this process may run. The two `add` are computed only where a step of one row follows:
        // its states are the last step's results and its sums lie behind them, both inside `c`.
        unsafe {
            if let Some(last) = counts.last() {
                matrix.steps_of(matrix.padded_columns(), most)(&block, counts);
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
            matrix.steps_of(matrix.padded_columns(), 1)(&block, lone);
        }
        return;
    }
    if small {
        // SAFETY: the caller's promise.
        unsafe { walk_plainly(matrix, &mut block, counts, state) };
        return;
    }
    for (step, &rows) in counts.iter().enumerate() {
        // SAFETY: the caller's promise for this step, whose rows are at `block.c`.
        unsafe {
            panels(matrix, &block, rows, in_registers, (first + step) % 2 == 1, &(0..matrix.panel_count()));
            if let Some(function) = state
                && !in_registers
            {
                (kernels.apply_state)(function, block.c, rows, matrix.padded_columns(), block.c_stride);
            }
        }
        follow(&mut block, rows);
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
    let column = share.start * matrix.width();
    let columns = (share.end * matrix.width()).min(matrix.padded_columns()).saturating_sub(column);
    let in_registers = state == Some(Function::Tanh);
    for (step, &rows) in counts.iter().enumerate() {
        // SAFETY: the caller's promise for this step, whose rows are at `block.c`. A member writes the
        // columns of its own panels and no others, and reads the states of the step before, which all members
        // have finished. It has `column` columns before its own, so they begin inside the first row.
        unsafe {
            panels(matrix, &block, rows, in_registers, (first + step) % 2 == 1, &share);
            if let Some(function) = state
                && !in_registers
            {
                (kernels.apply_state)(function, block.c.add(column), rows, columns, block.c_stride);
            }
        }
        meet();
        follow(&mut block, rows);
    }
}

/// The kernel for the panel of a small matrix that begins at `column`, and how many panels it takes: a lone row takes several at
/// once, where there are as many full ones.
#[inline(always)]
fn panels_at(matrix: &PackedMatrix, column: usize, rows: usize) -> (StepsFn, usize) {
    let (columns, width, together) = (matrix.padded_columns(), matrix.width(), matrix.abreast());
    if rows == 1 && together > 1 && column + together * width <= columns {
        (matrix.kernels().steps_abreast, together)
    } else {
        (matrix.steps_of(width.min(columns - column), rows), 1)
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
    let columns = matrix.padded_columns();
    let in_registers = state == Some(Function::Tanh);
    block.finish = if in_registers { Finish::TanhState } else { Finish::Keep };
    let (first_panel, mut init, mut c) = (block.b, block.init, block.c);
    for &rows in counts {
        let mut column = 0;
        block.b = first_panel;
        while column < columns {
            let (steps, panels) = panels_at(matrix, column, rows);
            // SAFETY: the caller's promise, for the columns of these panels: `column` is one of the matrix,
            // so `init` and `c` have it in their first row.
            unsafe {
                block.c = c.add(column);
                block.init = init.add(column);
                steps(block, &[rows]);
            }
            block.b = block.b.wrapping_add(panels * block.panel_stride);
            column += panels * matrix.width();
        }
        if let Some(function) = state
            && !in_registers
        {
            // SAFETY: the caller's promise: `c` has whole vectors at each of this step's rows.
            unsafe { (kernels.apply_state)(function, c, rows, columns, block.c_stride) };
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

/// How many calls of kernels make the product of one row with a small matrix; `None` for a large one, whose panels are walked
/// in turn forwards and backwards.
pub(crate) fn calls_of_lone_row(matrix: &PackedMatrix) -> Option<usize> {
    let mut calls = 0;
    for_lone_row(matrix, matrix.block(), false, |_, _| calls += 1)?;
    Some(calls)
}

/// Gives the calls of kernels that [`walk`] makes for a step of one row over a small matrix, which has a tanh layer's states or
/// the sums themselves as results; `None` for a large matrix.
///
/// They may be made by whom [`walk`] may be called by. A product that is one call may write to its row.
pub(crate) fn for_lone_row(
    matrix: &PackedMatrix,
    block: Block,
    tanh_state: bool,
    mut call: impl FnMut(StepsFn, Block),
) -> Option<()> {
    if !matrix.is_small(1) {
        return None;
    }
    let finish = if tanh_state { Finish::TanhState } else { Finish::Keep };
    let mut column = 0;
    while column < matrix.padded_columns() {
        let (steps, panels) = panels_at(matrix, column, 1);
        let part = Block {
            b: block.b.wrapping_add(column * block.terms),
            init: block.init.wrapping_add(column),
            c: block.c.wrapping_add(column),
            finish,
            ..block
        };
        call(steps, part);
        column += panels * matrix.width();
    }
    Some(())
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
    // SAFETY: the caller's promise.
    unsafe { panels_to::<false>(matrix, block, rows, (tanh_state, backward), share, &mut |_, _| ()) }
}

/// [`panels`], `done` being called after each one, or after each few that a lone row takes at once, with its first column and
/// how many there are. With `COMPACT` each writes to the first columns of `c`, where the one before wrote too.
///
/// # Safety
/// As [`walk`]; with `COMPACT` for as many columns of `c` as are taken at once.
#[inline(always)]
unsafe fn panels_to<const COMPACT: bool>(
    matrix: &PackedMatrix,
    block: &Block,
    rows: usize,
    (tanh_state, backward): (bool, bool),
    share: &Range<usize>,
    done_with: &mut impl FnMut(usize, usize),
) {
    let kernels = matrix.kernels();
    // A lone row takes several panels at once, to have enough independent sums.
    let together = if rows == 1 { matrix.abreast() } else { 1 };
    // Blocks of terms pay when several tiles pass over them, and may be cut where there is one segment only.
    let most = if block.segments == 1 && rows > 8 { kernels.terms_in_cache } else { block.terms };
    let full = share.end.min(matrix.padded_columns() / matrix.width()).saturating_sub(share.start);
    let whole = if together > 1 { full / together } else { 0 };
    let groups = whole + share.len() - whole * together;
    let at = |group: usize| {
        let group = if backward { groups - 1 - group } else { group };
        match group.checked_sub(whole) {
            None => (share.start + group * together, kernels.steps_abreast),
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
        let b = block.b.wrapping_add(panel.column * block.terms);
        let next = if group + 1 < groups && rows > 8 { matrix.panel(at(group + 1).0).values } else { &[] };
        let mut part = *block;
        let mut done = 0;
        while done < block.terms {
            part.terms = (block.terms - done).min(most);
            let ahead = panel.values.get((done + part.terms) * panel.width..).unwrap_or_default();
            let ahead = if ahead.is_empty() { next } else { ahead };
            (part.ahead, part.ahead_len) = (ahead.as_ptr(), ahead.len().min(part.terms * panel.width));
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
            done += part.terms;
            let last = done == block.terms;
            part.finish = if last && tanh_state { Finish::TanhState } else { Finish::Keep };
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

/// The product of one step with the panels that fall to one of several members, from the last to the first when `backward`;
/// each panel's sums go to the first columns of `c`, where the one before wrote too, and `done` is called then with its first
/// column and how many there are.
///
/// # Safety
/// As [`walk`] for one step, `c` being valid for [`PackedMatrix::columns_at_once`] columns; for all members together as
/// [`walk_share`].
pub(crate) unsafe fn walk_by_panels(
    matrix: &PackedMatrix,
    block: &mut Block,
    rows: usize,
    backward: bool,
    (member, members): (usize, usize),
    mut done: impl FnMut(usize, usize),
) {
    let panel_of = |member: usize| member * matrix.panel_count() / members;
    let share = panel_of(member)..panel_of(member + 1);
    if !matrix.is_small(rows) || matrix.abreast() > 1 && rows == 1 {
        // SAFETY: the caller's promise.
        unsafe { panels_to::<true>(matrix, block, rows, (false, backward), &share, &mut done) };
        return;
    }
    block.finish = Finish::Keep;
    let (first, init) = (block.b, block.init);
    for i in 0..share.len() {
        let index = if backward { share.end - 1 - i } else { share.start + i };
        let column = index * matrix.width();
        let width = matrix.width().min(matrix.padded_columns() - column);
        block.b = first.wrapping_add(column * block.terms);
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
    use super::*;
    use crate::dispatch::available_kernels;

    /// What stands where nothing may be written.
    const CANARY: f32 = -77.0;

    /// Some floats around 0, the same each time.
    fn floats(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 64.0 - 0.5).collect()
    }

    /// Rows and matrix of a product, and where its sums start, row by row without gaps.
    struct Product {
        a: Vec<f32>,
        b: Vec<f32>,
        init: Vec<f32>,
        sizes: [usize; 3],
    }

    impl Product {
        fn new(rows: usize, terms: usize, columns: usize) -> Self {
            Self {
                a: floats(rows * terms, 1),
                b: floats(terms * columns, 2),
                init: floats(rows * columns, 3),
                sizes: [rows, terms, columns],
            }
        }

        /// In `f64`, and no value's error is more than the last number.
        fn expected(&self, row: usize, column: usize) -> (f64, f64) {
            let [_, terms, columns] = self.sizes;
            let product =
                |k: usize| f64::from(self.a[row * terms + k]) * f64::from(self.b[k * columns + column]);
            let sum: f64 = (0..terms).map(product).sum();
            (f64::from(self.init[row * columns + column]) + sum, 1e-6 * (terms + 1) as f64)
        }

        /// Checks rows `stride` apart, of which `padded` floats are whole vectors.
        fn check(&self, what: &str, c: &[f32], [stride, padded]: [usize; 2], function: fn(f64) -> f64) {
            let [rows, _, columns] = self.sizes;
            for row in 0..rows {
                for (column, &got) in c[row * stride..].iter().take(columns).enumerate() {
                    let (sum, error) = self.expected(row, column);
                    let wanted = function(sum);
                    assert!(
                        (f64::from(got) - wanted).abs() <= error,
                        "{what}: [{row}, {column}] {got} {wanted}"
                    );
                }
                let gap = c[row * stride..].iter().take(stride).skip(padded);
                assert!(gap.into_iter().all(|&it| it == CANARY), "{what}: written behind row {row}");
            }
        }
    }

    /// Rows, terms and columns: one of each, the edges of vectors and panels, several panels, lone rows over
    /// several panels at once, a matrix beyond the second-level cache, and more rows than go together.
    fn sizes() -> Vec<[usize; 3]> {
        // Miri is some thousand times slower: one of each kind.
        if cfg!(miri) {
            return vec![[1, 9, 17], [2, 2, 16], [7, 5, 9], [1, 20, 130], [2, 20, 66]];
        }
        let mut sizes = vec![[ROWS_LEAST + 3, 2, 3], [300, 1, 1]];
        for rows in [1, 2, 3, 7, 9] {
            for columns in [1, 4, 15, 16, 17, 33, 64, 65] {
                sizes.extend([1, 9].map(|terms| [rows, terms, columns]));
            }
        }
        sizes.extend([[1, 530, 530], [12, 530, 530]]);
        sizes
    }

    /// The output ends with its last row's last vector, where the next row would begin beyond it.
    #[test]
    fn a_product_stays_inside_arrays_that_end_with_its_last_row() {
        for kernels in available_kernels() {
            for [rows, terms, columns] in sizes() {
                let it = Product::new(rows, terms, columns);
                let what = format!("{kernels:?} {:?}", it.sizes);
                let matrix = PackedMatrix::new(kernels, terms, columns, &it.b).expect("small");
                let padded = matrix.padded_columns();
                let stride = padded + 5;
                let mut c = vec![CANARY; extent(rows, stride, padded)];
                for (row, init) in it.init.chunks(columns).enumerate() {
                    c[row * stride..][..columns].copy_from_slice(init);
                }
                let offsets: Vec<usize> = (0..rows).map(|row| row * terms).collect();
                let scattered = Rows::Scattered { values: &it.a, offsets: &offsets };
                for a in [Rows::Strided { values: &it.a, stride: terms, count: rows }, scattered] {
                    let mut c = c.clone();
                    multiply(a, &matrix, Init::Output, &mut c, stride);
                    it.check(&what, &c, [stride, padded], |sum| sum);
                }
            }
        }
    }

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
