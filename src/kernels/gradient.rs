//! Backward counterparts: the tile of a product over rows, and an activation passed backwards.
//!
//! # The product over rows
//! A weight's gradient is `c[f, u] = Σ_n a[n, f] · b[n, u]`: the sum runs over rows (every step of every
//! sequence), which both factors have side by side. So a tile of `MR` by `NV` vectors of sums reads, for each
//! n, `MR` neighbouring floats of one row of `a` and `NV` vectors of the packed `b`; one running sum an
//! element, in the order of n. Where the rows of `a` are long, a tile's floats of each lie packed beside each
//! other: read in place, every term is a cache line of its own, of which a tile uses six floats, and lines a
//! power of two apart push each other out of the first cache.
//!
//! # Activations backwards
//! Every derivative is a function of the activation's own result, so backward needs the states and nothing
//! else. What is stored for the step before becomes zero below 2^-100, as states do in the forward pass. The
//! squares that the norm of `dLoss/dh` is made of are summed on the way, row by row, so that no bit depends
//! on which rows a thread has, in 16 columns side by side whatever the vectors' width, those of small values
//! apart and lifted, so that neither an exploding nor a vanishing gradient leaves the range of `f32` early.

use super::activation::{Function, TINY};
use super::cells::derive;
use super::tile::unroll;
use crate::simd::Simd;

/// Floats of a cache line.
const LINE: usize = 16;

/// A product over rows, for the columns of one panel: `c += Σ_n a[n]ᵀ·b[n]`.
#[derive(Clone, Copy)]
pub(crate) struct WeightGradient {
    /// Row 0 of the left factor where `offsets` is null, otherwise what the offsets count from; or the packed
    /// tiles.
    pub(crate) a: *const f32,
    /// For each term its row's distance from `a` in floats; null where rows lie `a_stride` apart, or are
    /// packed.
    pub(crate) offsets: *const usize,
    /// Floats from term to term, where `offsets` is null.
    pub(crate) a_stride: usize,
    /// Whether `a` holds, for each tile of an [`even_split`] and each term, `a_stride` floats, of which the
    /// tile's are used.
    pub(crate) packed: bool,
    /// Rows of a tile, at most: what the kernel set says for the panel's vectors, or less.
    pub(crate) tile_rows: usize,
    /// Terms of each sum: rows of both factors.
    pub(crate) terms: usize,
    /// The right factor's columns, term by term without gaps: whole vectors.
    pub(crate) b: *const f32,
    /// Vectors of the panel.
    pub(crate) vectors: usize,
    /// Rows of `c`: floats of a row of `a`.
    pub(crate) rows: usize,
    /// The sums, which go on from what is there.
    pub(crate) c: *mut f32,
    /// Floats from row to row of `c`.
    pub(crate) c_stride: usize,
    /// Whether they begin with these terms, and nothing is there yet.
    pub(crate) fresh: bool,
}

/// One term of the right factor of a [`WeightGradient`], copied into the panels of a block of terms.
#[derive(Clone, Copy)]
pub(crate) struct PackRow {
    pub(crate) from: *const f32,
    pub(crate) columns: usize,
    /// The panels, each with its columns of all terms, padded with zeros to whole vectors.
    pub(crate) to: *mut f32,
    /// Columns of a full panel.
    pub(crate) panel: usize,
    /// Which term it is, and how many the block has.
    pub(crate) term: usize,
    pub(crate) terms: usize,
    /// Sums of all terms, which it is added to; or null.
    pub(crate) sums: *mut f32,
    /// A row that will be asked for next: it is fetched meanwhile. Any address will do.
    pub(crate) prefetch: *const f32,
}

/// Carries out `row`. A block's rows lie a page or more apart, where a processor does not see by itself what
/// comes next.
///
/// # Safety
/// `from` must be valid for `columns` floats, and `sums` too, where it is not null. `to` must be valid for
/// `terms` times `columns` floats, rounded up to whole vectors, and overlap nothing else.
#[inline(always)]
pub(crate) unsafe fn pack_row<S: Simd>(s: S, row: &PackRow) {
    let PackRow { from, columns, to, panel, term, terms, sums, prefetch } = *row;
    for first in (0..columns).step_by(panel) {
        let width = panel.min((columns - first).next_multiple_of(S::LANES));
        let mut column = first;
        // SAFETY: the panel begins behind `terms` rows of the columns before it, and the term's columns
        // behind those of the terms before it, all inside `to`. Whole vectors of `from` and `sums` end at
        // `columns` or before it; of the last one, where it is no whole vector, the floats up to there are
        // copied.
        unsafe {
            let to = to.add(first * terms + term * width);
            while column + S::LANES <= columns.min(first + width) {
                if column.is_multiple_of(LINE) {
                    s.prefetch(prefetch.wrapping_add(column));
                }
                let values = s.load(from.add(column));
                s.store(to.add(column - first), values);
                if !sums.is_null() {
                    s.store(sums.add(column), s.add(s.load(sums.add(column)), values));
                }
                column += S::LANES;
            }
            if column < first + width {
                s.store(to.add(column - first), s.splat(0.0));
                for column in column..columns {
                    let value = *from.add(column);
                    *to.add(column - first) = value;
                    if !sums.is_null() {
                        *sums.add(column) += value;
                    }
                }
            }
        }
    }
}

/// Asks for the cache lines of `floats` floats from `at` on in the second-level cache; any address will do.
#[inline(always)]
pub(crate) fn prefetch<S: Simd>(s: S, at: *const f32, floats: usize) {
    for line in (0..floats).step_by(LINE) {
        s.prefetch(at.wrapping_add(line));
    }
}

/// As many rows as the registers hold, and at most eight.
pub(crate) const fn most_rows(accumulators: usize, vectors: usize) -> usize {
    let rows = accumulators / vectors;
    if rows > 8 { 8 } else { rows }
}

/// The tiles of `rows` rows, as even as possible and at most `most` high.
#[inline(always)]
pub(crate) fn even_split(rows: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let tiles = rows.div_ceil(most);
    let (least, more) = (rows / tiles.max(1), rows % tiles.max(1));
    (0..tiles).map(move |tile| {
        let start = tile * least + tile.min(more);
        start..start + least + usize::from(tile < more)
    })
}

/// Carries out `product`, whose panel has at most `WIDTH` vectors.
///
/// # Safety
/// Every pointer of `product` must be valid for what its field says: `a` for `rows` floats at each term
/// (packed: `a_stride` floats, at least a tile's rows, for each term of each tile), `b` for `terms` times
/// `vectors` vectors, `c` for `vectors` vectors at each of `rows` rows, overlapping nothing else. There is at
/// least one term.
#[inline(always)]
pub(crate) unsafe fn weight_gradient<S: Simd, const WIDTH: usize>(s: S, product: &WeightGradient) {
    macro_rules! panel {
        ($($nv:literal)*) => {
            match product.vectors {
                // SAFETY: the caller's promise; `NV` is the panel's vectors. The condition is a constant: no
                // panel is wider.
                $($nv if $nv <= WIDTH => unsafe { panel::<S, $nv>(s, product) },)*
                _ => unreachable!("a panel of {} vectors", product.vectors),
            }
        };
    }
    panel!(1 2 3 4);
}

/// [`weight_gradient`] for `NV` vectors of columns.
///
/// # Safety
/// As [`weight_gradient`], `NV` being the panel's vectors.
#[inline(always)]
unsafe fn panel<S: Simd, const NV: usize>(s: S, product: &WeightGradient) {
    for (index, tile) in even_split(product.rows, product.tile_rows).enumerate() {
        let a = if product.packed { index * product.terms * product.a_stride } else { tile.start };
        macro_rules! tile {
            ($($mr:literal)*) => {
                match tile.len() {
                    // SAFETY: the tile's rows are rows of `c`, and `a` is where its floats of the first term
                    // begin: inside that term's floats, or at the tile's own where they are packed. The rest
                    // is the caller's promise. The condition is a constant: it drops tiles that this backend's
                    // registers cannot hold.
                    $($mr if $mr <= most_rows(S::ACCUMULATORS, NV) => unsafe {
                        self::tile::<S, $mr, NV>(s, product, product.a.add(a), product.c.add(tile.start * product.c_stride))
                    },)*
                    rows => unreachable!("a tile of {rows} rows and {} vectors", NV),
                }
            };
        }
        tile!(1 2 3 4 5 6 7 8);
    }
}

/// One tile of [`weight_gradient`].
///
/// # Safety
/// As [`weight_gradient`]; `a` is the tile's first float of the first term, `c` its first row.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    product: &WeightGradient,
    a: *const f32,
    c: *mut f32,
) {
    // SAFETY: the tile has MR rows of `c` and MR floats of every term, and k stays below `terms`, so every
    // address that is read or written is one that the caller vouched for. `b` moves on by one term after
    // each: after the last one it is at the end of what the caller vouched for, where it may be and is not
    // read.
    unsafe {
        let WeightGradient { offsets, a_stride, terms, c_stride, fresh, .. } = *product;
        let mut sums = [[s.splat(0.0); NV]; MR];
        if !fresh {
            unroll!(r < MR, {
                unroll!(v < NV, { sums[r][v] = s.load(c.add(r * c_stride + v * S::LANES)) });
            });
        }
        let mut b = product.b;
        // The next tile's sums, which come from far away where the gradient is large, are fetched meanwhile.
        let lines = const { (NV * S::LANES).div_ceil(LINE) };
        let (mut prefetch, mut line) = (c.wrapping_add(MR * c_stride), 0);
        let mut k = 0;
        while k + 4 <= terms {
            s.prefetch(prefetch.wrapping_add(line * LINE));
            line += 1;
            if line == lines {
                (prefetch, line) = (prefetch.wrapping_add(c_stride), 0);
            }
            unroll!(i < 4, {
                let k = k + i;
                let a = a.add(if offsets.is_null() { k * a_stride } else { *offsets.add(k) });
                let columns = b.add(i * NV * S::LANES);
                term::<S, MR, NV>(s, &mut sums, a, columns);
            });
            b = b.add(4 * NV * S::LANES);
            k += 4;
        }
        for k in k..terms {
            let a = a.add(if offsets.is_null() { k * a_stride } else { *offsets.add(k) });
            term::<S, MR, NV>(s, &mut sums, a, b);
            b = b.add(NV * S::LANES);
        }
        unroll!(r < MR, {
            unroll!(v < NV, { s.store(c.add(r * c_stride + v * S::LANES), sums[r][v]) });
        });
    }
}

/// Adds one term: the floats of a row at `a`, and the vectors of one at `b`.
///
/// # Safety
/// They must be valid for `MR` floats, and for `NV` vectors.
#[inline(always)]
unsafe fn term<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    sums: &mut [[S::V; NV]; MR],
    a: *const f32,
    b: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [s.splat(0.0); NV];
        unroll!(v < NV, { columns[v] = s.load(b.add(v * S::LANES)) });
        if S::BY_LANE {
            macro_rules! four_rows {
                ($($first:literal)*) => {$(
                    if $first + 4 <= MR {
                        let a = s.load(a.add($first));
                        four_rows!(@ a, $first, 0 1 2 3);
                    }
                )*};
                (@ $a:ident, $first:literal, $($i:literal)*) => {$(
                    let r = $first + $i;
                    unroll!(v < NV, { sums[r][v] = s.fma_lane::<$i>($a, columns[v], sums[r][v]) });
                )*};
            }
            four_rows!(0 4);
        }
        unroll!(r < MR, {
            if !S::BY_LANE || r >= MR / 4 * 4 {
                let a = s.splat(*a.add(r));
                unroll!(v < NV, { sums[r][v] = s.fma(a, columns[v], sums[r][v]) });
            }
        });
    }
}

/// Columns that the squares are summed in.
pub(crate) const SQUARE_LANES: usize = 16;
/// Values below this are squared after lifting: their squares would be lost, or be subnormal.
const SMALL: f32 = f32::from_bits((127 - 40) << 23);
/// What small values are multiplied by.
pub(crate) const LIFT: f32 = f32::from_bits((127 + 80) << 23);

/// Multiplies `rows` rows of gradients by the derivative of `function`, whose results are `h`, in place;
/// results below [`TINY`] become zero. `squares`, where it is not null, receives two sums a row: of the
/// squares of the gradients that came in, and of the small ones.
///
/// # Safety
/// Both arrays must be valid for `columns` floats, rounded up to 16, at each of `rows` rows `stride` apart,
/// and `squares` null or valid for two floats a row; none overlaps another.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel's arguments travel in registers")]
pub(crate) unsafe fn activation_backward<S: Simd>(
    s: S,
    function: Function,
    gradient: *mut f32,
    h: *const f32,
    rows: usize,
    columns: usize,
    stride: usize,
    squares: *mut f32,
) {
    let zero = s.splat(0.0);
    macro_rules! each {
        ($g:ident, $h:ident => $passed:expr) => {
            for row in 0..rows {
                let mut big = [zero; 4];
                let mut small = [zero; 4];
                for column in (0..columns).step_by(SQUARE_LANES) {
                    unroll!(p < 4, {
                        if p * S::LANES < SQUARE_LANES {
                            let at = row * stride + column + p * S::LANES;
                            // SAFETY: inside the row rounded up to 16 floats, which the caller vouched for.
                            unsafe {
                                let $g = s.load(gradient.add(at));
                                let $h = s.load(h.add(at));
                                let large = s.flush_below($g, SMALL);
                                let lifted = s.mul(s.sub($g, large), s.splat(LIFT));
                                big[p] = s.fma(large, large, big[p]);
                                small[p] = s.fma(lifted, lifted, small[p]);
                                s.store(gradient.add(at), s.flush_below($passed, TINY));
                            }
                        }
                    });
                }
                if !squares.is_null() {
                    // SAFETY: two floats a row: the caller's promise.
                    unsafe {
                        *squares.add(2 * row) = total(s, &big);
                        *squares.add(2 * row + 1) = total(s, &small);
                    }
                }
            }
        };
    }
    match function {
        Function::Tanh => each!(g, y => derive(s, Function::Tanh, g, y)),
        Function::Sigmoid => each!(g, y => derive(s, Function::Sigmoid, g, y)),
        Function::Relu => each!(g, y => derive(s, Function::Relu, g, y)),
        Function::Linear | Function::Exp => each!(g, _y => g),
        // Rare functions share a loop that chooses at every vector.
        other => each!(g, y => derive(s, other, g, y)),
    }
}

/// The sum of 16 lanes, halves added to halves: the same order whatever the vectors' width.
#[inline(always)]
fn total<S: Simd>(s: S, parts: &[S::V; 4]) -> f32 {
    let mut lanes = [0.0f32; SQUARE_LANES];
    unroll!(p < 4, {
        if p * S::LANES < SQUARE_LANES {
            // SAFETY: the vector ends at or before the sixteenth lane.
            unsafe { s.store(lanes.as_mut_ptr().add(p * S::LANES), parts[p]) };
        }
    });
    let mut half = SQUARE_LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_token;

    /// A function, and its derivative by its result.
    type Case = (Function, fn(f32) -> f32);

    fn check<S: Simd>(s: S) {
        for (rows, columns) in [(1, 1), (3, 15), (2, 16), (2, 33)] {
            let padded = usize::next_multiple_of(columns, SQUARE_LANES);
            let stride = padded + 3;
            // They end with the last row's last vector.
            let len = (rows - 1) * stride + padded;
            let g: Vec<f32> = (0..len).map(|i| (i % 13) as f32 - 6.0).collect();
            let h: Vec<f32> = (0..len).map(|i| (i % 7) as f32 / 8.0 - 0.25).collect();
            let derivatives: [Case; 4] = [
                (Function::Linear, |_| 1.0),
                (Function::Tanh, |y| 1.0 - y * y),
                (Function::Sigmoid, |y| y * (1.0 - y)),
                (Function::Relu, |y| if y > 0.0 { 1.0 } else { 0.0 }),
            ];
            for (function, derivative) in derivatives {
                let (mut passed, mut squares) = (g.clone(), vec![0.0; 2 * rows]);
                let [to, from, sums] = [passed.as_mut_ptr(), h.as_ptr().cast_mut(), squares.as_mut_ptr()];
                // SAFETY: all arrays have `padded` floats at each row, or two, and are three.
                unsafe { activation_backward(s, function, to, from, rows, columns, stride, sums) };
                for row in 0..rows {
                    let here = row * stride..row * stride + padded;
                    // Small whole numbers over 64: every product and sum is exact.
                    for i in here.clone() {
                        assert_eq!(passed[i], g[i] * derivative(h[i]), "{function:?} at {i}");
                    }
                    let sum: f32 = g[here].iter().map(|g| g * g).sum();
                    assert_eq!(squares[2 * row..][..2], [sum, 0.0]);
                }
                let gaps = (0..len).filter(|i| i % stride >= padded);
                assert!(gaps.into_iter().all(|i| passed[i] == g[i]), "written between rows");
            }
        }
    }

    #[test]
    fn gradients_pass_through_by_the_derivative() {
        with_every_token!(s => check(s));
    }
}
