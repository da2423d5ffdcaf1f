//! The tile of the blocked product, and the recurrent step that is built on it.
//!
//! A tile holds `MR` rows by `NV` vectors of sums in registers, walks the terms once, and for each term loads `NV`
//! vectors of the packed panel and one float of each row.
//!
//! # The order of the terms
//! One output element is `init + Σ a[k]·b[k]`. The terms are cut into segments (`gemm::segments`), whose
//! number depends on the layer's shape alone. The first segment starts at `init`, the others at zero; each is summed
//! in order; then they are added in order. A tile with few sums walks all segments side by side (`SIDE`), which
//! keeps both multiply-add ports busy; a tile with many walks them one after another (`ROUNDS`). The bits are the same.

use super::activation::{TINY, tanh};
use crate::simd::Simd;

/// One product `c = init + a·b`, for some rows and the columns of one panel (or, for a lone row, of several).
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The first row's first term, where `offsets` is null; otherwise what the offsets count from.
    pub(crate) a: *const f32,
    /// For each row its distance from `a` in floats; null where rows lie `a_stride` apart.
    pub(crate) offsets: *const usize,
    /// Floats from row to row, where `offsets` is null.
    pub(crate) a_stride: usize,
    /// Rows.
    pub(crate) rows: usize,
    /// Terms of each sum.
    pub(crate) terms: usize,
    /// Into how many segments the terms are cut; divides nothing in particular.
    pub(crate) segments: usize,
    /// The panel: for each term its columns side by side.
    pub(crate) b: *const f32,
    /// Floats from one term to the next.
    pub(crate) b_stride: usize,
    /// Floats from one panel to the next; used by a lone row that takes several panels at once.
    pub(crate) panel_stride: usize,
    /// Where the sums start, and its floats from row to row: 0 for a bias. May be `c`.
    pub(crate) init: *const f32,
    /// See `init`.
    pub(crate) init_stride: usize,
    /// Where the results go; whole vectors are written.
    pub(crate) c: *mut f32,
    /// Floats from row to row of `c`.
    pub(crate) c_stride: usize,
}

/// What happens to a finished sum on its way to memory.
pub(crate) trait Epilogue<S: Simd>: Copy {
    fn apply(self, s: S, sum: S::V) -> S::V;
}

/// The sum itself.
#[derive(Clone, Copy)]
pub(crate) struct Keep;

impl<S: Simd> Epilogue<S> for Keep {
    #[inline(always)]
    fn apply(self, _: S, sum: S::V) -> S::V {
        sum
    }
}

/// The next state of a tanh layer.
#[derive(Clone, Copy)]
pub(crate) struct TanhState;

impl<S: Simd> Epilogue<S> for TanhState {
    #[inline(always)]
    fn apply(self, s: S, sum: S::V) -> S::V {
        s.flush_below(tanh(s, sum), TINY)
    }
}

/// Carries out `block` for `NV` vectors of columns, in panels of `WIDTH` vectors.
///
/// # Safety
/// Every pointer of `block` must be valid for what its field says: `a` for `terms` floats at each row, `b` for the
/// panel(s), `init` and `c` for `NV` vectors at each row. `c` may be the very same memory as `init` and must not
/// overlap anything else.
#[inline(always)]
pub(crate) unsafe fn product<S: Simd, E: Epilogue<S>, const NV: usize, const WIDTH: usize>(
    s: S,
    e: E,
    block: &Block,
) {
    // As many rows as the registers hold, and no more than eight: beyond that row pointers run out.
    let most = (S::ACCUMULATORS / NV).clamp(1, 8);
    let tiles = block.rows.div_ceil(most);
    let mut row = 0;
    for tile in 0..tiles {
        // As even as possible: 8 rows at most 6 a tile are 4 and 4, never 6 and a slow 2.
        let rows = (block.rows - row).div_ceil(tiles - tile);
        macro_rules! tile {
            ($($mr:literal)*) => {
                match rows {
                    // SAFETY: the rows row..row + rows are rows of the block; the rest is the caller's promise.
                    // The second condition is a constant: it drops tiles that this arm's registers cannot hold.
                    $($mr if $mr * NV <= S::ACCUMULATORS || $mr == 1 => unsafe {
                        rows_of_tile::<S, E, $mr, NV, WIDTH>(s, e, block, row)
                    },)*
                    _ => unreachable!("a tile of {rows} rows and {} vectors", NV),
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
        row += rows;
    }
}

/// Picks the way through the segments for one tile.
///
/// # Safety
/// As [`product`], with `row + MR <= block.rows`.
#[inline(always)]
unsafe fn rows_of_tile<S: Simd, E: Epilogue<S>, const MR: usize, const NV: usize, const WIDTH: usize>(
    s: S,
    e: E,
    block: &Block,
    row: usize,
) {
    // Side by side pays while the sums of all segments fit in registers with room for operands.
    let room = S::ACCUMULATORS * 2 / 3;
    // SAFETY: the caller's promise, handed on.
    unsafe {
        match block.segments {
            1 => tile::<S, E, MR, NV, WIDTH, 1, false>(s, e, block, row),
            2 if MR * NV * 2 <= room => tile::<S, E, MR, NV, WIDTH, 2, false>(s, e, block, row),
            4 if MR * NV * 4 <= room => tile::<S, E, MR, NV, WIDTH, 4, false>(s, e, block, row),
            _ => tile::<S, E, MR, NV, WIDTH, 1, true>(s, e, block, row),
        }
    }
}

/// One tile: `MR` rows by `NV` vectors.
///
/// # Safety
/// As [`rows_of_tile`]; `SIDE == block.segments` unless `ROUNDS`.
#[inline(always)]
unsafe fn tile<
    S: Simd,
    E: Epilogue<S>,
    const MR: usize,
    const NV: usize,
    const WIDTH: usize,
    const SIDE: usize,
    const ROUNDS: bool,
>(
    s: S,
    e: E,
    block: &Block,
    row: usize,
) {
    let terms = block.terms;
    let segments = if ROUNDS { block.segments } else { SIDE };
    // SAFETY (whole block): row + r is a row of the block, k stays below `terms`, and vector v lies inside the
    // panels, so every address is one that the caller vouched for.
    unsafe {
        let mut a = [block.a; MR];
        for (r, a) in a.iter_mut().enumerate() {
            let i = row + r;
            *a = a.add(if block.offsets.is_null() { i * block.a_stride } else { *block.offsets.add(i) });
        }
        let init = block.init.add(row * block.init_stride);
        let mut total = [[s.splat(0.0); NV]; MR];
        for (r, total) in total.iter_mut().enumerate() {
            for (v, total) in total.iter_mut().enumerate() {
                *total = s.load(init.add(r * block.init_stride + v * S::LANES));
            }
        }
        let mut segment = 0;
        loop {
            let mut sums = [[[s.splat(0.0); NV]; MR]; SIDE];
            if segment == 0 {
                sums[0] = total;
            }
            // All segments have `even` terms, and some one more.
            let even = terms / segments;
            let start = |i: usize| (segment + i) * terms / segments;
            for k in 0..even {
                for (i, sums) in sums.iter_mut().enumerate() {
                    term::<S, MR, NV, WIDTH>(s, sums, &a, block, start(i) + k);
                }
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                if start(i) + even < start(i + 1) {
                    term::<S, MR, NV, WIDTH>(s, sums, &a, block, start(i) + even);
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for r in 0..MR {
                    for v in 0..NV {
                        total[r][v] =
                            if segment + i == 0 { sums[r][v] } else { s.add(total[r][v], sums[r][v]) };
                    }
                }
            }
            segment += SIDE;
            if !ROUNDS || segment >= segments {
                break;
            }
        }
        let c = block.c.add(row * block.c_stride);
        for (r, total) in total.iter().enumerate() {
            for (v, total) in total.iter().enumerate() {
                s.store(c.add(r * block.c_stride + v * S::LANES), e.apply(s, *total));
            }
        }
    }
}

/// Adds term `k` to the sums of a tile. A function and not a closure: a closure that is not inlined would lose the
/// shell's instruction set, and every intrinsic in it would become a call.
///
/// # Safety
/// `k` is a term of the block, and `a` the tile's rows; otherwise as [`tile`].
#[inline(always)]
unsafe fn term<S: Simd, const MR: usize, const NV: usize, const WIDTH: usize>(
    s: S,
    sums: &mut [[S::V; NV]; MR],
    a: &[*const f32; MR],
    block: &Block,
    k: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let b = block.b.add(k * block.b_stride);
        let mut columns = [s.splat(0.0); NV];
        for (v, columns) in columns.iter_mut().enumerate() {
            *columns = s.load(b.add(v / WIDTH * block.panel_stride + v % WIDTH * S::LANES));
        }
        for r in 0..MR {
            let a = s.splat(*a[r].add(k));
            for v in 0..NV {
                sums[r][v] = s.fma(a, columns[v], sums[r][v]);
            }
        }
    }
}

/// Steps of a tanh layer whose columns are one panel: `block` describes the first step (`a`: the previous states, `c`
/// and `init`: the sums to be turned into states in place); the sums of the next steps follow behind, `counts[i]`
/// rows in step i, each step reading the states of the one before.
///
/// # Safety
/// As [`product`] for each step. `counts` never grows from one step to the next.
#[inline(always)]
pub(crate) unsafe fn tanh_steps<S: Simd, const NV: usize, const WIDTH: usize>(
    s: S,
    block: &Block,
    counts: &[usize],
) {
    let mut step = *block;
    for &rows in counts {
        step.rows = rows;
        // SAFETY: the caller's promise for this step.
        unsafe { product::<S, TanhState, NV, WIDTH>(s, TanhState, &step) };
        step.a = step.c;
        step.a_stride = step.c_stride;
        // SAFETY: the next step's sums follow, or this was the last step and the pointer is not used.
        step.c = unsafe { step.c.add(rows * step.c_stride) };
        step.init = step.c;
    }
}
