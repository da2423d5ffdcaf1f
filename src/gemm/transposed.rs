//! Products over rows: the gradients of weights.
//!
//! `c = aᵀ·b`, both factors having the summed index as their rows: terms. Terms go in blocks; of each block the columns
//! of `b` are copied into panels, one of which stays in the first cache while all rows of `c` pass over it. Very long rows of
//! `a` are copied too, as the tiles read them. Blocks and panels change no bit, since sums go to memory and come back.
//!
//! Measured, ms forward and backward, 256 and 1024 units: 36 and 700 as it is; `b` copied panel by panel rather than row by
//! row 36 and 770; `a` always read in place 36 and 718, always copied 37 and 700; blocks of 384 terms 36 and 715; groups of
//! columns of `c` that stay in the second cache while all terms pass 37 and 755.

use std::ops::Range;

use super::Rows;
use crate::dispatch::{KernelSet, Outer, even_split};
use crate::error::Result;
use crate::memory::AlignedVec;

/// Terms of a block: of a full panel of 64 columns this is 32 KiB.
const TERMS: usize = 128;
/// Columns of `a` from which it is copied.
const PACK_FROM: usize = 512;

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

/// What a product copies its factors into.
#[derive(Debug)]
pub(crate) struct Copies {
    a: AlignedVec,
    b: AlignedVec,
}

impl Copies {
    /// No room yet.
    pub(crate) const fn empty() -> Self {
        Self { a: AlignedVec::empty(), b: AlignedVec::empty() }
    }

    /// Room for a product with `rows` rows of results and `columns` columns; `packs`: of terms that are
    /// parts.
    pub(crate) fn reserve(
        &mut self,
        kernels: &KernelSet,
        rows: usize,
        columns: usize,
        packs: bool,
    ) -> Result<()> {
        let padded = columns.next_multiple_of(kernels.lanes);
        self.b.reserve_rows(padded, TERMS)?;
        if rows >= PACK_FROM || packs {
            self.a.reserve_rows(rows.div_ceil(tile_rows(kernels, padded)), TERMS * TILE_STRIDE)?;
        }
        Ok(())
    }

    /// Floats that it holds.
    pub(crate) fn len(&self) -> usize {
        self.a.len() + self.b.len()
    }
}

/// `c[f - start, u] = Σ_n a[n, f] · b[n, u]` for f in `features` and `columns` columns, in the order of n; rows of `c` are
/// `c_stride` apart and whole vectors are written. There is [room](Copies::reserve) for the copies.
///
/// # Panics
/// Where an array is too small, or the factors have different numbers of terms.
pub(crate) fn multiply_over_rows(
    kernels: &KernelSet,
    (a, features): (Terms<'_>, Range<usize>),
    (b, columns): (Terms<'_>, usize),
    c: &mut [f32],
    c_stride: usize,
    copies: &mut Copies,
) {
    let (count, rows) = (a.count(), features.len());
    let padded = columns.next_multiple_of(kernels.lanes);
    assert!(b.count() == count && a.hold(features.end) && b.hold(columns), "the factors do not fit");
    assert!(padded <= c_stride && rows.saturating_mul(c_stride) <= c.len(), "output too small");
    c[..rows * c_stride].fill(0.0);
    let panel = kernels.panel();
    let tile_rows = tile_rows(kernels, padded);
    let pack = rows >= PACK_FROM || matches!(a, Terms::Parts { .. });
    let packed = if pack { rows.div_ceil(tile_rows) * TERMS * TILE_STRIDE } else { 0 };
    assert!(TERMS * padded <= copies.b.len() && packed <= copies.a.len(), "no room for the copies");
    for first in (0..count).step_by(TERMS) {
        let terms = first..count.min(first + TERMS);
        if pack {
            pack_tiles(a, terms.clone(), &features, tile_rows, &mut copies.a);
        }
        pack_panels(b, terms.clone(), columns, (panel, kernels.lanes), &mut copies.b);
        for column in (0..columns).step_by(panel) {
            let width = (padded - column).min(panel);
            let (start, offsets, a_stride) = match a {
                _ if pack => (copies.a.as_ptr(), std::ptr::null(), TILE_STRIDE),
                Terms::Rows(Rows::Strided { values, stride, .. }) => {
                    (values[first * stride + features.start..].as_ptr(), std::ptr::null(), stride)
                }
                Terms::Rows(Rows::Scattered { values, offsets }) => {
                    (values[features.start..].as_ptr(), offsets[first..].as_ptr(), 0)
                }
                Terms::Parts { .. } => unreachable!("parts are packed"),
            };
            let outer = Outer {
                a: start,
                offsets,
                a_stride,
                packed: pack,
                tile_rows,
                terms: terms.len(),
                b: copies.b[column * terms.len()..].as_ptr(),
                vectors: width / kernels.lanes,
                rows,
                c: c[column..].as_mut_ptr(),
                c_stride,
            };
            // SAFETY: `outer` reads `rows` floats of each term from `a`: each has them behind
            // `features.start`, as the assert found, or `pack_tiles` has just written `a_stride` for each
            // term of each tile. It reads the panel, `terms` rows of `width` floats that `pack_panels` has
            // just written, and reads and writes `width` floats behind `column` at each row of `c`: whole
            // vectors of `padded`, which the assert found inside the rows. Each pointer is taken from all
            // that lies behind it in its array, and is only moved forwards. `c` is borrowed apart from the
            // factors. The kernels are those that this process may run, and `tile_rows` is theirs.
            unsafe { (kernels.outer)(&outer) };
        }
    }
}

/// Rows of a tile, for `padded` columns: of the widest panel, since a narrower one could have higher tiles.
fn tile_rows(kernels: &KernelSet, padded: usize) -> usize {
    kernels.outer_rows[padded.min(kernels.panel()) / kernels.lanes - 1]
}

/// Floats from term to term of a packed tile: the highest tile, so that eight can be copied at once.
const TILE_STRIDE: usize = 8;

/// Copies the floats `features` of some terms tile by tile; see [`Outer::packed`].
fn pack_tiles(a: Terms<'_>, terms: Range<usize>, features: &Range<usize>, tile_rows: usize, to: &mut [f32]) {
    let tile_len = terms.len() * TILE_STRIDE;
    for (i, n) in terms.enumerate() {
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

/// At the end of the array. Apart, because the compiler would make one call with a variable length of both copies.
#[cold]
#[inline(never)]
fn copy_last(from: &[f32], to: &mut [f32]) {
    to[..from.len()].copy_from_slice(from);
}

/// Copies `columns` columns of some terms panel by panel, each padded with zeros to whole vectors.
fn pack_panels(
    b: Terms<'_>,
    terms: Range<usize>,
    columns: usize,
    (panel, lanes): (usize, usize),
    to: &mut [f32],
) {
    let count = terms.len();
    for (i, n) in terms.enumerate() {
        let row = &b.row(n)[..columns];
        for (from, to) in row.chunks(panel).zip(to.chunks_mut(count * panel)) {
            let width = from.len().next_multiple_of(lanes);
            let to = &mut to[i * width..][..width];
            let (to, rest) = to.split_at_mut(from.len());
            to.copy_from_slice(from);
            rest.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::available_kernels;

    #[test]
    fn a_product_over_rows_is_the_sum_over_rows() {
        // Miri is some thousand times slower.
        let [most, some, wide] = if cfg!(miri) { [3, 3, 18] } else { [PACK_FROM + 3, 9, 66] };
        for kernels in available_kernels() {
            for [terms, rows, columns] in [[1, 1, 1], [5, 7, 17], [TERMS + 2, some, wide], [3, most, 5]] {
                let a: Vec<f32> = (0..terms * rows).map(|i| (i % 23) as f32 - 11.0).collect();
                let b: Vec<f32> = (0..terms * columns).map(|i| (i % 19) as f32 - 9.0).collect();
                let stride = columns.next_multiple_of(kernels.lanes) + 2;
                let mut c = vec![-77.0; rows * stride];
                let in_order = |values, stride| Terms::Rows(Rows::Strided { values, stride, count: terms });
                let order: Vec<[u32; 2]> = (0..terms as u32).map(|n| [0, n]).collect();
                let part = [Rows::Strided { values: &a, stride: rows, count: terms }];
                for a_terms in [in_order(&a, rows), Terms::Parts { parts: &part, order: &order }] {
                    let (a_terms, b_terms) = ((a_terms, 0..rows), (in_order(&b, columns), columns));
                    let mut copies = Copies::empty();
                    let packs = matches!(a_terms.0, Terms::Parts { .. });
                    copies.reserve(kernels, rows, columns, packs).expect("small");
                    multiply_over_rows(kernels, a_terms, b_terms, &mut c, stride, &mut copies);
                    for (f, u) in (0..rows).flat_map(|f| (0..columns).map(move |u| (f, u))) {
                        // Whole numbers below 2^24: exact in any order.
                        let sum: f32 = (0..terms).map(|n| a[n * rows + f] * b[n * columns + u]).sum();
                        assert_eq!(
                            c[f * stride + u],
                            sum,
                            "{kernels:?} {terms} {rows} {columns}: [{f}, {u}]"
                        );
                    }
                }
            }
        }
    }
}
