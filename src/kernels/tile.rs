//! The tile of the blocked product, and the recurrent step that is built on it.
//!
//! A tile holds `MR` rows by `NV` vectors of sums in registers, walks the terms once, and for each term loads `NV`
//! vectors of the packed panel and one float of each row.
//!
//! # The order of the terms
//! One output element is `init + Σ a[k]·b[k]`. The terms are cut into segments (`gemm::segments`), whose
//! number depends on the layer's shape alone. The first segment starts at `init`, the others at zero; each is summed
//! in order; then they are added in order. A tile with few sums walks all segments side by side, which keeps both
//! multiply-add ports busy; a tile with many walks them one after another. The bits are the same.

use std::sync::atomic::{Ordering, compiler_fence};

use super::activation::tanh_state;
use crate::simd::Simd;

/// Repeats the body for each index below the constant limit (at most 8), written out rather than looped: a loop that
/// the compiler chose not to unroll would keep the sums of a tile in memory, at a quarter of the speed.
macro_rules! unroll {
    ($i:ident < $limit:expr, $body:block) => {
        unroll!(@ $i, $limit, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident, $limit:expr, $body:block, $($n:literal)*) => {
        $({
            let $i: usize = $n;
            if $i < $limit $body
        })*
    };
}

pub(super) use unroll;

/// One product `c = init + a·b`, for some rows and the columns of one panel (or, for a lone row, of several).
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// The first row's first term, where `offsets` is null; otherwise what the offsets count from.
    pub(crate) a: *const f32,
    /// For each row its distance from `a` in floats; null where rows lie `a_stride` apart.
    pub(crate) offsets: *const usize,
    /// Floats from row to row, where `offsets` is null.
    pub(crate) a_stride: usize,
    /// Terms of each sum.
    pub(crate) depth: usize,
    /// Into how many segments the terms are cut: a power of two.
    pub(crate) segments: usize,
    /// The panel: for each term its columns side by side, no more of them and no fewer.
    pub(crate) b: *const f32,
    /// Floats from one panel to the next; used by a lone row that takes several panels at once.
    pub(crate) panel_stride: usize,
    /// What the next block will read of its panel, fetched into the second-level cache meanwhile.
    pub(crate) prefetch: *const f32,
    /// Floats of `prefetch`.
    pub(crate) prefetch_len: usize,
    /// Where the sums start, and its floats from row to row: 0 for a bias. May be `c`.
    pub(crate) init: *const f32,
    /// See `init`.
    pub(crate) init_stride: usize,
    /// Where the results go; whole vectors are written.
    pub(crate) c: *mut f32,
    /// Floats from row to row of `c`.
    pub(crate) c_stride: usize,
    /// What is stored.
    pub(crate) epilogue: Epilogue,
}

/// Where a step's rows are. Its fields are read from the [`Block`] one by one: the caller wrote them one by one just
/// before, and a copy of the whole struct by wide loads would wait until those stores have reached the cache.
#[derive(Clone, Copy)]
struct Operands {
    a: *const f32,
    offsets: *const usize,
    a_stride: usize,
    rows: usize,
    init: *const f32,
    init_stride: usize,
    c: *mut f32,
}

/// What is stored for a finished sum. A field and not a type parameter: the branch costs one prediction a tile, a
/// parameter would compile every tile twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Epilogue {
    /// The sum itself.
    Keep,
    /// The next state of a tanh layer.
    TanhState,
}

/// As many rows as the registers hold, and no more than eight: beyond that row pointers run out. At least
/// three, so that an even split of two rows or more has no tile of one.
#[inline(always)]
const fn most_rows(accumulators: usize, vectors: usize) -> usize {
    let rows = accumulators / vectors;
    if rows > 8 { 8 } else { rows }
}

/// Carries out `block`, its rows being at `operands`, for `NV` vectors of columns, in panels of `WIDTH` vectors.
///
/// # Safety
/// Every pointer of `block` must be valid for what its field says: `a` for `depth` floats at each row, `b` for the
/// panel(s), `init` and `c` for `NV` vectors at each row. `c` may be the very same memory as `init` and must not
/// overlap anything else. With `LONE` there is one row, otherwise there are more.
#[inline(always)]
unsafe fn product<S: Simd, const NV: usize, const WIDTH: usize, const LONE: bool>(
    s: S,
    block: &Block,
    operands: Operands,
) {
    if LONE {
        // SAFETY: row 0 of the one row that the caller promises with `LONE`.
        unsafe { rows_of_tile::<S, 1, NV, WIDTH>(s, block, operands, 0) };
        return;
    }
    let most = const { most_rows(S::ACCUMULATORS, NV) };
    const { assert!(LONE || most_rows(S::ACCUMULATORS, NV) >= 3, "a tile of one row") };
    let tiles = operands.rows.div_ceil(most);
    // As even as possible: 8 rows at most 6 a tile are 4 and 4, never 6 and a slow 2. But where registers are
    // few, even tiles are small too, and two rows that walk two segments side by side keep the ports as busy as
    // six (AVX2, 8 rows of 64 units: 0.350 ms for 0.363).
    let full = S::ACCUMULATORS < 16 && block.segments > 1 && operands.rows % most == 2;
    let (least, more) =
        if tiles <= 1 { (operands.rows, 0) } else { (operands.rows / tiles, operands.rows % tiles) };
    let mut row = 0;
    for tile in 0..tiles {
        let rows = match full {
            false => least + usize::from(tile < more),
            true if tile + 1 == tiles => 2,
            true => most,
        };
        macro_rules! tile {
            ($($mr:literal)*) => {
                match rows {
                    // SAFETY: the rows row..row + rows are rows of the block; the rest is the caller's promise.
                    // The condition is a constant: it drops tiles that this backend's registers cannot hold.
                    $($mr if $mr <= most_rows(S::ACCUMULATORS, NV) => unsafe {
                        rows_of_tile::<S, $mr, NV, WIDTH>(s, block, operands, row)
                    },)*
                    _ => unreachable!("a tile of {rows} rows and {} vectors", NV),
                }
            };
        }
        tile!(2 3 4 5 6 7 8);
        row += rows;
    }
}

/// Picks the way through the segments for one tile.
///
/// # Safety
/// As [`product`], with `row + MR <= operands.rows`.
#[inline(always)]
unsafe fn rows_of_tile<S: Simd, const MR: usize, const NV: usize, const WIDTH: usize>(
    s: S,
    block: &Block,
    operands: Operands,
    row: usize,
) {
    // Side by side pays where a tile has too few sums to keep the ports busy, and while the sums of all segments fit
    // in registers with room for operands.
    let few = MR * NV <= 4;
    let room = S::ACCUMULATORS * 2 / 3;
    // SAFETY: the caller's promise, handed on.
    unsafe {
        match block.segments {
            2 if few && MR * NV * 2 <= room => tile::<S, MR, NV, WIDTH, 2>(s, block, operands, row),
            4 if few && MR * NV * 4 <= room => tile::<S, MR, NV, WIDTH, 4>(s, block, operands, row),
            _ => tile::<S, MR, NV, WIDTH, 1>(s, block, operands, row),
        }
    }
}

/// One tile: `MR` rows by `NV` vectors, `SIDE` segments side by side: all of them, or one after the other.
///
/// # Safety
/// As [`rows_of_tile`]; `SIDE` is 1 or `block.segments`.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const WIDTH: usize, const SIDE: usize>(
    s: S,
    block: &Block,
    operands: Operands,
    row: usize,
) {
    let Block { depth, segments, .. } = *block;
    // SAFETY: row + r is a row of the block, k stays below `depth`, and vector v lies inside the panels, so
    // every address that is read or written is one that the caller vouched for, and so is every one on the
    // way: a row's first float, and the first vector of a row or term. What is fetched ahead is not read, and
    // its address is computed by `wrapping_add`.
    unsafe {
        let Operands { offsets, a_stride, init_stride, .. } = operands;
        let mut a = [operands.a; MR];
        unroll!(r < MR, {
            let i = row + r;
            a[r] = a[r].add(if offsets.is_null() { i * a_stride } else { *offsets.add(i) });
        });
        let init = operands.init.add(row * init_stride);
        let mut total = [[s.splat(0.0); NV]; MR];
        unroll!(r < MR, {
            let init = init.add(r * init_stride);
            unroll!(v < NV, { total[r][v] = s.load(init.add(v * S::LANES)) });
        });
        // All segments have `even` terms, and some one more.
        let shift = if SIDE == 1 { segments.trailing_zeros() } else { SIDE.trailing_zeros() };
        let even = depth >> shift;
        let start = |segment: usize| (segment * depth) >> shift;
        let mut sums = [[[s.splat(0.0); NV]; MR]; SIDE];
        sums[0] = total;
        let mut starts = [0; SIDE];
        unroll!(i < SIDE, { starts[i] = start(i) });
        // Large tiles of full panels fetch what comes next: a panel that comes from beyond the second-level
        // cache arrives at a third of the speed at which a tile eats it, and the tiles that follow the first
        // one eat it from the first-level cache.
        let mut k = 0;
        if MR * NV >= S::ACCUMULATORS / 2 && SIDE == 1 && NV == WIDTH {
            // Two cache lines every four terms; where all are fetched, an address that costs nothing.
            let done = row / MR * (even / 4) * 32;
            let mut prefetch =
                if done < block.prefetch_len { block.prefetch.wrapping_add(done) } else { block.b };
            while k + 4 <= even {
                s.prefetch(prefetch);
                s.prefetch(prefetch.wrapping_add(16));
                prefetch = prefetch.wrapping_add(32);
                four_terms::<S, MR, NV, WIDTH>(s, &mut sums[0], &a, block, starts[0] + k);
                k += 4;
            }
        }
        if S::BY_LANE {
            while k + 4 <= even {
                unroll!(i < SIDE, {
                    four_terms::<S, MR, NV, WIDTH>(s, &mut sums[i], &a, block, starts[i] + k)
                });
                k += 4;
            }
        }
        for k in k..even {
            unroll!(i < SIDE, { term::<S, MR, NV, WIDTH>(s, &mut sums[i], &a, block, starts[i] + k) });
        }
        unroll!(i < SIDE, {
            if starts[i] + even < start(i + 1) {
                term::<S, MR, NV, WIDTH>(s, &mut sums[i], &a, block, starts[i] + even);
            }
        });
        total = sums[0];
        unroll!(i < SIDE, {
            if i > 0 {
                add::<S, MR, NV>(s, &mut total, &sums[i]);
            }
        });
        if SIDE == 1 {
            for segment in 1..segments {
                let mut sums = [[s.splat(0.0); NV]; MR];
                let mut k = start(segment);
                // Where registers are short, the unrolled loop would keep sums in memory (AVX2, an LSTM of 16 units: one term
                // at a time takes 0.92 of the time).
                let roomy = S::ACCUMULATORS >= 16 || NV <= 2;
                if S::BY_LANE || MR * NV >= S::ACCUMULATORS / 2 && NV == WIDTH && roomy {
                    while k + 4 <= start(segment + 1) {
                        four_terms::<S, MR, NV, WIDTH>(s, &mut sums, &a, block, k);
                        k += 4;
                    }
                }
                for k in k..start(segment + 1) {
                    term::<S, MR, NV, WIDTH>(s, &mut sums, &a, block, k);
                }
                add::<S, MR, NV>(s, &mut total, &sums);
            }
        }
        let c = operands.c.add(row * block.c_stride);
        // From registers in full panels, and for a lone row, which has to wait for it.
        let at_once = NV >= WIDTH && S::WRITES_OUT || MR == 1;
        if !at_once || block.epilogue == Epilogue::Keep {
            unroll!(r < MR, {
                let c = c.add(r * block.c_stride);
                unroll!(v < NV, { s.store(c.add(v * S::LANES), total[r][v]) });
            });
        }
        if block.epilogue == Epilogue::TanhState {
            if at_once {
                unroll!(r < MR, {
                    let c = c.add(r * block.c_stride);
                    unroll!(v < NV, { s.store(c.add(v * S::LANES), tanh_state(s, total[r][v])) });
                });
            } else {
                for r in 0..MR {
                    let c = c.add(r * block.c_stride);
                    unroll!(v < NV, {
                        let c = c.add(v * S::LANES);
                        s.store(c, tanh_state(s, s.load(c)));
                    });
                }
            }
        }
    }
}

/// Adds the sums of a segment to those before it.
#[inline(always)]
fn add<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    total: &mut [[S::V; NV]; MR],
    sums: &[[S::V; NV]; MR],
) {
    unroll!(r < MR, {
        unroll!(v < NV, { total[r][v] = s.add(total[r][v], sums[r][v]) });
    });
}

/// Adds term `k` to the sums of a tile. A function and not a closure: a closure that is not inlined would lose the
/// wrapper's instruction set, and every intrinsic in it would become a call.
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
    // SAFETY: `k` is a term, which each row of `a` has, and each panel a vector for every v: the caller's
    // promise. Term k begins k times the panel's width behind the panel's first.
    unsafe {
        // A constant, so that the terms of an unrolled loop are one address and displacements.
        let b = block.b.add(k * if NV < WIDTH { NV } else { WIDTH } * S::LANES);
        // Three or four vectors by as many rows leave no register for a term's weights before its turn (AVX2,
        // an LSTM's step: 54 % of the peak with what the compiler loads ahead, 80 without).
        let tight = S::ACCUMULATORS < 16 && MR > 1 && NV > 2;
        if tight {
            compiler_fence(Ordering::SeqCst);
        }
        // Where there are more vectors than rows, the rows are held.
        if S::ACCUMULATORS < 16 && MR > 1 && MR < NV {
            let mut rows = [s.splat(0.0); MR];
            unroll!(r < MR, { rows[r] = s.splat(*a[r].add(k)) });
            unroll!(v < NV, {
                let column = s.load(b.add(v / WIDTH * block.panel_stride + v % WIDTH * S::LANES));
                unroll!(r < MR, { sums[r][v] = s.fma(rows[r], column, sums[r][v]) });
            });
            return;
        }
        // Four rows of three vectors, their weights and a row's term would be all sixteen registers, and a sum
        // went to memory and back in every term. So the last vector of weights is loaded for each row, as an
        // operand of its multiply-add; the fence keeps the compiler from loading it once (AVX2, a GRU of 256
        // units: 0.70 of the time; with tiles of three rows instead 0.74). All three lie in one panel.
        if tight && NV == 3 && WIDTH >= NV && MR * NV >= S::ACCUMULATORS {
            let held = [s.load(b), s.load(b.add(S::LANES))];
            unroll!(r < MR, {
                if r > 0 {
                    compiler_fence(Ordering::SeqCst);
                }
                let a = s.splat(*a[r].add(k));
                sums[r][0] = s.fma(a, held[0], sums[r][0]);
                sums[r][1] = s.fma(a, held[1], sums[r][1]);
                sums[r][2] = s.fma(a, s.load(b.add(2 * S::LANES)), sums[r][2]);
            });
            return;
        }
        let mut columns = [s.splat(0.0); NV];
        unroll!(v < NV, {
            columns[v] = s.load(b.add(v / WIDTH * block.panel_stride + v % WIDTH * S::LANES));
        });
        unroll!(r < MR, {
            let a = s.splat(*a[r].add(k));
            unroll!(v < NV, { sums[r][v] = s.fma(a, columns[v], sums[r][v]) });
        });
    }
}

/// Adds terms `k` to `k + 3` to the sums of a tile.
///
/// # Safety
/// As [`term`], for all four.
#[inline(always)]
unsafe fn four_terms<S: Simd, const MR: usize, const NV: usize, const WIDTH: usize>(
    s: S,
    sums: &mut [[S::V; NV]; MR],
    a: &[*const f32; MR],
    block: &Block,
    k: usize,
) {
    if !S::BY_LANE {
        // SAFETY: the caller's promise.
        unroll!(i < 4, { unsafe { term::<S, MR, NV, WIDTH>(s, sums, a, block, k + i) } });
        return;
    }
    const { assert!(!S::BY_LANE || S::LANES == 4, "a vector of a row is its four terms") };
    // Sums, a vector of each row and two columns have a register each; where there are too few, the rows go in
    // two halves, and the columns are loaded once more.
    let (halves, rows) = const {
        let fit = MR * (NV + 1) + 2 <= S::ACCUMULATORS + 8;
        if fit { (1, MR) } else { (2, MR.div_ceil(2)) }
    };
    unroll!(half < halves, {
        // Otherwise columns wait for the second half in registers that there are not.
        if half > 0 {
            compiler_fence(Ordering::SeqCst);
        }
        let mut floats = [s.splat(0.0); MR];
        unroll!(r < MR, {
            if r / rows == half {
                // SAFETY: the row has all four terms: the caller's promise.
                floats[r] = unsafe { s.load(a[r].add(k)) };
            }
        });
        macro_rules! lane {
            ($($i:literal)*) => {$(
                // SAFETY: `k + i` is a term, for which each panel has a vector for every v: the caller's promise.
                let b = unsafe { block.b.add((k + $i) * if NV < WIDTH { NV } else { WIDTH } * S::LANES) };
                unroll!(v < NV, {
                    // SAFETY: as above.
                    let column = unsafe { s.load(b.add(v / WIDTH * block.panel_stride + v % WIDTH * S::LANES)) };
                    unroll!(r < MR, {
                        if r / rows == half {
                            sums[r][v] = s.fma_lane::<$i>(floats[r], column, sums[r][v]);
                        }
                    });
                });
            )*};
        }
        lane!(0 1 2 3);
    });
}

/// Carries out `block`, `counts[0]` rows, and then the steps of a recurrent layer whose columns are all in the block:
/// `counts[i]` rows in step i, its sums lying behind those of the step before, whose results are its rows.
///
/// Steps of one row have a kernel of their own (`LONE`): the compiler prepares what every tile of a kernel will
/// need before the first, which takes as long as a small row's product.
///
/// # Safety
/// As [`product`] for each step; `counts` never grows from one step to the next. What would follow the last
/// step need not be there.
#[inline(always)]
pub(crate) unsafe fn steps<S: Simd, const NV: usize, const WIDTH: usize, const LONE: bool>(
    s: S,
    block: &Block,
    counts: &[usize],
) {
    let mut operands = Operands {
        a: block.a,
        offsets: block.offsets,
        a_stride: block.a_stride,
        rows: 0,
        init: block.init,
        init_stride: block.init_stride,
        c: block.c,
    };
    for &rows in counts {
        operands.rows = rows;
        // Read again in every step, so that what is made of it is made in the branch that needs it: a lone
        // row's kernel would prepare for all branches what takes a tenth of a step of 64 units. SAFETY: a
        // reference's own field: readable, aligned and initialised.
        let depth = unsafe { std::ptr::read_volatile(&raw const block.depth) };
        // SAFETY: the caller's promise for this step, whose rows are at `operands`.
        unsafe { product::<S, NV, WIDTH, LONE>(s, &Block { depth, ..*block }, operands) };
        operands.a = operands.c;
        operands.offsets = std::ptr::null();
        operands.a_stride = block.c_stride;
        // After the last step nothing needs to be there.
        operands.c = operands.c.wrapping_add(rows * block.c_stride);
        operands.init = operands.c;
    }
}
