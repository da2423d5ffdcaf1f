//! The walk over panels, blocks of terms and rows.

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
}

impl<'a> Rows<'a> {
    /// From the first float of a row on.
    pub(crate) fn row(&self, index: usize) -> &'a [f32] {
        match *self {
            Rows::Strided { values, stride, .. } => &values[index * stride..],
            Rows::Scattered { values, offsets } => &values[offsets[index]..],
        }
    }

    fn count(&self) -> usize {
        match *self {
            Rows::Strided { count, .. } => count,
            Rows::Scattered { offsets, .. } => offsets.len(),
        }
    }

    /// Whether every row has `terms` floats.
    fn hold(&self, terms: usize) -> bool {
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

/// `c = init + rows·matrix`, whole vectors written, rows of `c` being `c_stride` apart.
pub(crate) fn multiply(
    rows: Rows<'_>,
    matrix: &PackedMatrix,
    init: Init<'_>,
    c: &mut [f32],
    c_stride: usize,
) {
    let count = rows.count();
    if count == 0 {
        return;
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
    };
    let block = Block {
        a,
        offsets,
        a_stride,
        terms: matrix.terms(),
        segments: matrix.segments(),
        b: std::ptr::null(),
        b_stride: 0,
        panel_stride: 0,
        ahead: std::ptr::null(),
        ahead_len: 0,
        init,
        init_stride,
        c,
        c_stride,
        finish: Finish::Keep,
    };
    // SAFETY: the asserts above: every row has `terms` floats, `c` has `width` floats at each row, `init` is `c` or a
    // bias of `width` floats that a shared reference keeps apart from `c`.
    unsafe { sweep(matrix, &block, count, None, false) };
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
        offsets: std::ptr::null(),
        a_stride: stride,
        terms: matrix.terms(),
        segments: matrix.segments(),
        b: std::ptr::null(),
        b_stride: 0,
        panel_stride: 0,
        ahead: std::ptr::null(),
        ahead_len: 0,
        init: c.cast_const(),
        init_stride: stride,
        c,
        c_stride: stride,
        finish: Finish::Keep,
    };
    // SAFETY: the asserts: every row of `h` has `terms` floats and every row of `c` whole vectors; `h` is borrowed
    // apart from `c`.
    unsafe { sweep(matrix, &block, count, Some(function), false) };
}

/// Carries out `block` (whose `b` fields and `finish` are filled in here) for `rows` rows over all panels of `matrix`, from the
/// last to the first when `backward`. With `state`, what is stored is the next state of a recurrent layer: that function of the
/// sum, tiny values as zero.
///
/// # Safety
/// As `kernels::tile::product` for all columns of the matrix, padded to whole vectors; `terms` and `segments` must
/// be the matrix's.
#[inline(always)]
pub(crate) unsafe fn sweep(
    matrix: &PackedMatrix,
    block: &Block,
    rows: usize,
    state: Option<Function>,
    backward: bool,
) {
    let kernels = matrix.kernels();
    let count = matrix.panel_count();
    // A lone row takes several panels at once, to have enough independent sums.
    let abreast = if rows == 1 { matrix.abreast() } else { 0 };
    let singles = abreast * kernels.abreast;
    let groups = abreast + count - singles;
    // The panels in their order, each with the one that follows.
    let at = |group: usize| {
        let group = if backward { groups - 1 - group } else { group };
        match group.checked_sub(abreast) {
            None => (group * kernels.abreast, kernels.abreast),
            Some(single) => (singles + single, 1),
        }
    };
    for group in 0..groups {
        let (index, together) = at(group);
        let (next, _) = if group + 1 < groups { at(group + 1) } else { (index, 1) };
        // SAFETY: the caller's promise, for the columns of these panels.
        unsafe { panels(matrix, block, rows, state, index, together, next) };
    }
}

/// `together` panels from `index` on: one, or as many as go abreast; `next` is the panel after them.
///
/// Inlined, as is [`sweep`], so that the block's fields reach the kernel's block through registers: see
/// `kernels::tile::Place`.
///
/// # Safety
/// As [`sweep`].
#[inline(always)]
unsafe fn panels(
    matrix: &PackedMatrix,
    block: &Block,
    rows: usize,
    state: Option<Function>,
    index: usize,
    together: usize,
    next: usize,
) {
    let kernels = matrix.kernels();
    let panel = matrix.panel(index);
    let mut part = *block;
    part.b_stride = panel.width;
    part.panel_stride = panel.values.len();
    let steps = if together > 1 { kernels.steps_abreast } else { kernels.steps_of(panel.width) };
    // Blocks of terms pay when several tiles pass over them, and may be cut where there is one segment only.
    let most = if block.segments == 1 && rows > 8 { kernels.terms_in_cache } else { block.terms };
    let next = if rows > 8 { matrix.panel(next).values } else { &[] };
    let mut done = 0;
    // A matrix without terms still writes its initial values.
    while done < block.terms || done == 0 {
        part.terms = (block.terms - done).min(most);
        let ahead = panel.values.get((done + part.terms) * panel.width..).unwrap_or_default();
        let ahead = if ahead.is_empty() { next } else { ahead };
        (part.ahead, part.ahead_len) = (ahead.as_ptr(), ahead.len().min(part.terms * panel.width));
        // SAFETY: `done` terms into the rows and the panel, `column` columns into output and initial values: all
        // inside what the caller vouched for.
        unsafe {
            part.a = block.a.add(done);
            part.b = panel.values.as_ptr().add(done * part.b_stride);
            part.c = block.c.add(panel.column);
            (part.init, part.init_stride) = if done == 0 {
                (block.init.add(panel.column), block.init_stride)
            } else {
                (part.c.cast_const(), block.c_stride)
            };
        }
        done += part.terms.max(1);
        let last = done >= block.terms;
        if last && state == Some(Function::Tanh) {
            part.finish = Finish::TanhState;
        }
        // SAFETY: as above; the shells belong to the kernels that this process may run.
        unsafe {
            steps(&part, &[rows]);
            if let Some(function) = state
                && last
                && function != Function::Tanh
            {
                let columns = together * part.b_stride;
                (kernels.apply_state)(function, part.c, rows, columns, block.c_stride);
            }
        }
    }
}
