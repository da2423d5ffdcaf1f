//! Products over rows: the gradients of weights.
//!
//! `c = aᵀ·b`, both factors having the summed index as their rows: terms. Terms go in blocks; of each block
//! the columns of `b` are copied into panels, one of which stays in the first cache while rows of `c` pass
//! over it. Products with the same `b`, those of a kernel and of a recurrent kernel, share the copy, and the
//! sum of its rows, a bias's gradient, is made on the way: `b` comes from memory once. Very long rows of `a`
//! are copied too, as the tiles read them, for as many rows of `c` at a time as stay in the second cache
//! while all panels pass over them. Blocks and panels change no bit, since sums go to memory and come back.
//!
//! # Tried
//! One core of an Intel Xeon (model 167), forward and backward, November 2026; ratios of times in turn.
//!
//! * Both kernels' gradients from one copy, the bias summed on the way, results where they belong rather than
//!   copied there: LSTM and GRU of 64 units 0.94 and 0.91, of 256 units 0.96 and 0.98.
//! * Sums apart, panel by panel, where they are [many](LARGE): 1024 units 0.98 to 0.88; with two blocks of
//!   terms 1.08.
//! * A kernel that copies a term, adds it to the bias and fetches a later one: LSTM of 1024 units 0.90, GRU
//!   of 256 units 0.95; the later one a fixed two terms on rather than 4 KiB: 1.06 and 1.03.
//! * Tiles of twelve rows and two vectors, blocks of 256 and 384 terms, `a` copied at 256 units: no gain or a
//!   loss.

use std::ops::Range;

use super::Rows;
use crate::dispatch::{KernelSet, PackRow, WeightGradient, even_split};
use crate::error::Result;
use crate::memory::{AlignedVec, extent};

/// Terms of a block: of a full panel of 64 columns this is 32 KiB. With 192 and 256, for which sums come and go
/// less often, large layers took as long, and small ones up to 2 % longer.
const TERMS: usize = 128;
/// Columns of `a` from which it is copied. Copying 256 of them where `b` has 1024 took 0.99 to 1.0 of the time,
/// 128 where it has 512 1.02.
const PACK_FROM: usize = 512;
/// Floats between what is copied and what is fetched: copying them takes about as long as memory.
const PREFETCH_FLOATS: usize = 1024;
/// Rows of `c` whose columns of `a` are copied at a time: 256 KiB.
const ROWS: usize = 384;
/// Bytes of sums from which they are made panel by panel, apart: no second-level cache keeps so many from one
/// block of terms to the next, and rows of a page or more that come from memory, a few lines of each at a
/// time, take longer than whole panels.
///
/// Unit tests have few enough for an emulator.
const LARGE: usize = if cfg!(test) { 64 << 10 } else { 2 << 20 };
/// Blocks of terms from which that is worth the copy at the end.
const BLOCKS: usize = 8;

/// The terms of a factor.
#[derive(Clone, Copy)]
pub(crate) enum Terms<'a> {
    /// In order.
    Rows(Rows<'a>),
    /// Row `i` of `parts[p]` for each `[p, i]`.
    Parts { parts: &'a [Rows<'a>], order: &'a [[u32; 2]] },
}

impl<'a> Terms<'a> {
    /// From the first float of term `n` on.
    #[inline]
    pub(crate) fn row(&self, n: usize) -> &'a [f32] {
        match *self {
            Terms::Rows(rows) => rows.row(n),
            Terms::Parts { parts, order } => {
                let [part, row] = order[n];
                parts[part as usize].row(row as usize)
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match *self {
            Terms::Rows(rows) => rows.count(),
            Terms::Parts { order, .. } => order.len(),
        }
    }

    fn hold(&self, columns: usize) -> bool {
        match self {
            Terms::Rows(rows) => rows.hold(columns),
            Terms::Parts { parts, .. } => parts.iter().all(|rows| rows.hold(columns)),
        }
    }
}

/// A left factor, and where its product with the right one goes.
pub(crate) struct Left<'a> {
    pub(crate) terms: Terms<'a>,
    /// Its columns that are multiplied: rows of the product.
    pub(crate) features: Range<usize>,
    /// Its product, from the first float on.
    pub(crate) c: &'a mut [f32],
    /// Floats from row to row of `c`.
    pub(crate) c_stride: usize,
}

impl Left<'_> {
    fn is_packed(&self) -> bool {
        self.features.len() >= PACK_FROM || matches!(self.terms, Terms::Parts { .. })
    }
}

/// What products copy their factors into.
#[derive(Debug)]
pub(crate) struct Copies {
    a: AlignedVec,
    b: AlignedVec,
    /// Sums that are made apart, panel by panel; see [`first_apart`].
    sums: AlignedVec,
}

impl Copies {
    /// No room yet.
    pub(crate) const fn empty() -> Self {
        Self { a: AlignedVec::empty(), b: AlignedVec::empty(), sums: AlignedVec::empty() }
    }

    /// Room for products of so many terms with so many rows in all and so many columns; `packs`: of terms
    /// that are parts.
    pub(crate) fn reserve(
        &mut self,
        kernels: &KernelSet,
        [terms, rows, columns]: [usize; 3],
        packs: bool,
    ) -> Result<()> {
        let padded = columns.next_multiple_of(kernels.lanes);
        self.b.reserve_rows(padded, TERMS)?;
        if rows >= PACK_FROM || packs {
            let tiles = rows.min(ROWS).div_ceil(tile_rows(kernels, padded));
            self.a.reserve_rows(tiles, TERMS * TILE_STRIDE)?;
        }
        self.sums.reserve_rows(rows, padded - first_apart(kernels, [terms, rows, columns]))
    }

    /// Floats that it holds.
    pub(crate) fn len(&self) -> usize {
        self.a.len() + self.b.len() + self.sums.len()
    }
}

/// From which column on a product's sums are made apart: those of the last panel where they are no whole
/// vectors, all of them where there are [many](LARGE).
fn first_apart(kernels: &KernelSet, [terms, rows, columns]: [usize; 3]) -> usize {
    match columns.is_multiple_of(kernels.lanes) {
        _ if terms > (BLOCKS - 1) * TERMS && rows.saturating_mul(columns) >= LARGE / size_of::<f32>() => 0,
        true => columns,
        false => columns / kernels.panel() * kernels.panel(),
    }
}

/// For each of `lefts`: `c[f - start, u] = Σ_n a[n, f] · b[n, u]` for f in `features` and `columns` columns,
/// in the order of n. `sums`, where it is not empty, receives the sums of the rows of `b`. There is
/// [room](Copies::reserve) for the copies.
///
/// # Panics
/// Where an array is too small, or the factors have different numbers of terms.
pub(crate) fn multiply_over_rows(
    kernels: &KernelSet,
    lefts: &mut [Option<Left<'_>>],
    (b, columns): (Terms<'_>, usize),
    sums: &mut [f32],
    copies: &mut Copies,
) {
    let count = b.count();
    let padded = columns.next_multiple_of(kernels.lanes);
    let panel = kernels.panel();
    assert!(b.hold(columns) && TERMS * padded <= copies.b.len(), "no room for {columns} columns");
    assert!(sums.is_empty() || sums.len() == columns, "no room for the sums");
    sums.fill(0.0);
    for left in lefts.iter_mut().flatten() {
        let rows = left.features.len();
        let end = extent(rows, left.c_stride, columns);
        assert!(left.terms.count() == count && left.terms.hold(left.features.end), "the factors do not fit");
        assert!(columns <= left.c_stride && end <= left.c.len(), "output too small");
        if count == 0 {
            left.c.chunks_mut(left.c_stride).take(rows).for_each(|row| row[..columns].fill(0.0));
        }
    }
    if count == 0 {
        return;
    }
    for first in (0..count).step_by(TERMS) {
        let terms = first..count.min(first + TERMS);
        pack_panels(kernels, b, terms.clone(), columns, sums, &mut copies.b);
        let (mut apart, panels) = (&mut copies.sums[..], &copies.b[..]);
        for left in lefts.iter_mut().flatten() {
            let mine =
                left.features.len() * (padded - first_apart(kernels, [count, left.features.len(), columns]));
            let (sums, others) = apart.split_at_mut(mine);
            apart = others;
            multiply_block(
                kernels,
                left,
                RightBlock { terms: terms.clone(), columns, panels },
                sums,
                &mut copies.a,
            );
        }
    }
    let mut apart = &copies.sums[..];
    for left in lefts.iter_mut().flatten() {
        let rows = left.features.len();
        for column in (first_apart(kernels, [count, rows, columns])..columns).step_by(panel) {
            let (width, here) = ((padded - column).min(panel), column..columns.min(column + panel));
            let (sums, others) = apart.split_at(rows * width);
            apart = others;
            for (to, from) in left.c.chunks_mut(left.c_stride).zip(sums.chunks_exact(width)) {
                to[here.clone()].copy_from_slice(&from[..here.len()]);
            }
        }
    }
}

/// Some terms of the right factor, copied into panels.
struct RightBlock<'a> {
    terms: Range<usize>,
    columns: usize,
    panels: &'a [f32],
}

/// Adds the products of some terms to what is in `left.c`, or puts the first ones there; those that are made
/// apart in `apart`.
fn multiply_block(
    kernels: &KernelSet,
    left: &mut Left<'_>,
    right: RightBlock<'_>,
    apart: &mut [f32],
    copy: &mut AlignedVec,
) {
    let RightBlock { terms, columns, panels } = right;
    let padded = columns.next_multiple_of(kernels.lanes);
    let (panel, tile_rows) = (kernels.panel(), tile_rows(kernels, padded));
    let (rows, packed) = (left.features.len(), left.is_packed());
    let first_apart = first_apart(kernels, [left.terms.count(), rows, columns]);
    for row in (0..rows).step_by(if packed { ROWS } else { rows.max(1) }) {
        let from = left.features.start + row;
        let features = from..if packed { left.features.end.min(from + ROWS) } else { left.features.end };
        let (a, offsets, a_stride) = match left.terms {
            all if packed => {
                let room = features.len().div_ceil(tile_rows) * terms.len() * TILE_STRIDE;
                assert!(room <= copy.len(), "no room for the tiles of {} rows", features.len());
                pack_tiles(kernels, all, terms.clone(), &features, tile_rows, copy);
                (copy.as_ptr(), std::ptr::null(), TILE_STRIDE)
            }
            Terms::Rows(Rows::Strided { values, stride, .. }) => {
                (values[terms.start * stride + from..].as_ptr(), std::ptr::null(), stride)
            }
            Terms::Rows(Rows::Scattered { values, offsets }) => {
                (values[from..].as_ptr(), offsets[terms.start..].as_ptr(), 0)
            }
            Terms::Parts { .. } => unreachable!("parts are packed"),
        };
        for column in (0..columns).step_by(panel) {
            let width = (padded - column).min(panel);
            let (c, c_stride) = match column < first_apart {
                true => (&mut left.c[row * left.c_stride + column..], left.c_stride),
                false => (&mut apart[(column - first_apart) * rows + row * width..], width),
            };
            assert!(extent(features.len(), c_stride, width) <= c.len(), "output too small");
            let product = WeightGradient {
                a,
                offsets,
                a_stride,
                packed,
                tile_rows,
                terms: terms.len(),
                b: panels[column * terms.len()..].as_ptr(),
                vectors: width / kernels.lanes,
                rows: features.len(),
                c: c.as_mut_ptr(),
                c_stride,
                fresh: terms.start == 0,
            };
            // SAFETY: `product` reads `rows` floats of each term from `a`: each has them behind
            // `features.start`, as `multiply_over_rows` found, or `pack_tiles` has just written `a_stride`
            // for each term of each tile. It reads the panel, `terms` rows of `width` floats that
            // `pack_panels` has just written, and reads (but for the first terms) and writes `width` floats
            // at each row of `c`, which is so long: the assert. Each pointer is taken from all that lies
            // behind it in its array, and is only moved forwards. `c` is borrowed apart from the factors. The
            // kernels are those that this process may run, and `tile_rows` is theirs.
            unsafe { (kernels.weight_gradient)(&product) };
        }
    }
}

/// Rows of a tile, for `padded` columns: of the widest panel, since a narrower one could have higher tiles.
fn tile_rows(kernels: &KernelSet, padded: usize) -> usize {
    kernels.weight_gradient_rows[padded.min(kernels.panel()) / kernels.lanes - 1]
}

/// Floats from term to term of a packed tile: the highest tile, so that eight can be copied at once.
const TILE_STRIDE: usize = 8;

/// Copies the floats `features` of some terms tile by tile; see [`WeightGradient::packed`]. Terms that follow
/// are fetched meanwhile: a processor does not see by itself which part of a row is next (64 rows of 1024
/// units, forward and back: 0.99 of the time; two terms at once, a whole cache line of each tile, brought
/// nothing).
fn pack_tiles(
    kernels: &KernelSet,
    a: Terms<'_>,
    terms: Range<usize>,
    features: &Range<usize>,
    tile_rows: usize,
    to: &mut [f32],
) {
    let tile_len = terms.len() * TILE_STRIDE;
    let distance = 1 + PREFETCH_FLOATS / features.len().max(1);
    for (i, n) in terms.enumerate() {
        if n + distance < a.count() {
            let next = a.row(n + distance)[features.start..].as_ptr();
            // SAFETY: the kernels are those that this process may run.
            unsafe { (kernels.prefetch)(next, features.len()) };
        }
        let row = &a.row(n)[features.start..];
        let tiles = to[i * TILE_STRIDE..].chunks_mut(tile_len);
        for (tile, to) in even_split(features.len(), tile_rows).zip(tiles) {
            let from = &row[tile.start..];
            match (from.first_chunk::<TILE_STRIDE>(), to.first_chunk_mut::<TILE_STRIDE>()) {
                (Some(from), Some(to)) => *to = *from,
                _ => copy_last(&from[..tile.len()], to),
            }
        }
    }
}

/// At the end of the array. Apart, because the compiler would make one call with a variable length of both
/// copies.
#[cold]
#[inline(never)]
fn copy_last(from: &[f32], to: &mut [f32]) {
    to[..from.len()].copy_from_slice(from);
}

/// Copies `columns` columns of some terms panel by panel, each padded with zeros to whole vectors, and adds
/// them to `sums`, where there are any.
///
/// # Panics
/// Where an array is too small.
fn pack_panels(
    kernels: &KernelSet,
    b: Terms<'_>,
    terms: Range<usize>,
    columns: usize,
    sums: &mut [f32],
    to: &mut [f32],
) {
    assert!(
        terms.len() * columns.next_multiple_of(kernels.lanes) <= to.len(),
        "no room for {columns} columns"
    );
    assert!(sums.is_empty() || sums.len() >= columns, "no room for the sums");
    let distance = 1 + PREFETCH_FLOATS / columns.max(1);
    let sums = if sums.is_empty() { std::ptr::null_mut() } else { sums.as_mut_ptr() };
    for (term, n) in terms.clone().enumerate() {
        let next = if n + distance < b.count() { b.row(n + distance).as_ptr() } else { std::ptr::null() };
        let row = PackRow {
            from: b.row(n)[..columns].as_ptr(),
            columns,
            to: to.as_mut_ptr(),
            panel: kernels.panel(),
            term,
            terms: terms.len(),
            sums,
            prefetch: next,
        };
        // SAFETY: the row is so long, and the asserts; the arrays are borrowed apart. The kernels are those
        // that this process may run.
        unsafe { (kernels.pack_row)(&row) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::available_kernels;

    #[test]
    fn a_product_over_rows_is_the_sum_over_rows() {
        // Miri is some thousand times slower.
        let [most, some, wide, large, several] =
            if cfg!(miri) { [3, 3, 18, 3, 1] } else { [PACK_FROM + 3, 9, 66, 70, 7] };
        for kernels in available_kernels() {
            for [terms, rows, columns] in [
                [1, 1, 1],
                [5, 7, 17],
                [TERMS + 2, some, wide],
                [3, most, 5],
                [several * TERMS + 1, most, large],
            ] {
                let a: Vec<f32> = (0..terms * rows).map(|i| (i % 23) as f32 - 11.0).collect();
                let b: Vec<f32> = (0..terms * columns).map(|i| (i % 19) as f32 - 9.0).collect();
                // A row of nothing but what was there ends each.
                let stride = columns + 2;
                let in_order = |values, stride| Terms::Rows(Rows::Strided { values, stride, count: terms });
                let order: Vec<[u32; 2]> = (0..terms as u32).map(|n| [0, n]).collect();
                let part = [Rows::Strided { values: &a, stride: rows, count: terms }];
                for a_terms in [in_order(&a, rows), Terms::Parts { parts: &part, order: &order }] {
                    let (mut whole, mut upper) = (vec![-77.0; rows * stride], vec![-77.0; rows * columns]);
                    let mut sums = vec![-77.0; columns];
                    // All rows, and beside them, with the same copy of `b`, those but the first.
                    let mut lefts = [
                        Some(Left { terms: a_terms, features: 0..rows, c: &mut whole, c_stride: stride }),
                        Some(Left { terms: a_terms, features: 1..rows, c: &mut upper, c_stride: columns }),
                    ];
                    let mut copies = Copies::empty();
                    let packs = matches!(a_terms, Terms::Parts { .. });
                    copies.reserve(kernels, [terms, 2 * rows, columns], packs).expect("small");
                    let right = (in_order(&b, columns), columns);
                    multiply_over_rows(kernels, &mut lefts, right, &mut sums, &mut copies);
                    for u in 0..columns {
                        assert_eq!(sums[u], (0..terms).map(|n| b[n * columns + u]).sum::<f32>());
                    }
                    // Some of many.
                    let every = 1 + rows * columns / 5000;
                    let all = (0..rows).flat_map(|f| (0..columns).map(move |u| (f, u)));
                    for (f, u) in all.step_by(every) {
                        // Whole numbers below 2^24: exact in any order.
                        let sum: f32 = (0..terms).map(|n| a[n * rows + f] * b[n * columns + u]).sum();
                        let case = format!("{kernels:?} {terms} {rows} {columns}: [{f}, {u}]");
                        assert_eq!(whole[f * stride + u], sum, "{case}");
                        assert!(f == 0 || upper[(f - 1) * columns + u] == sum, "{case}");
                    }
                    let gaps = whole.chunks(stride).flat_map(|row| &row[columns..]);
                    assert!(gaps.into_iter().chain(&upper[(rows - 1) * columns..]).all(|&c| c == -77.0));
                }
            }
        }
    }
}
