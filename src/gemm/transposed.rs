//! Products over rows: the gradients of weights.
//!
//! `c = aᵀ·b`, both factors having the summed index as their rows. Terms go in blocks; of each block a panel of `b` is
//! copied into one piece, where it stays in the first cache while all rows of `c` pass over it. `a` is read where it
//! lies: a term's floats are neighbours already. Blocks and panels change no bit, since sums go to memory and come back.

use super::Rows;
use crate::dispatch::{KernelSet, Outer};
use crate::error::Result;
use crate::memory::AlignedVec;

/// Terms of a block: of a full panel of 64 columns this is 32 KiB.
const TERMS: usize = 128;
/// Terms of a block where `c` is larger than the second-level cache holds beside the factors and is walked once a block.
const TERMS_OF_LARGE: usize = 384;
/// Floats of `c` from which on it counts as large.
const LARGE: usize = 1 << 17;

/// `c[f, u] = Σ_n a[n, f] · b[n, u]` for `features` and `columns`, in the order of n; rows of `c` are `c_stride` apart and
/// whole vectors are written. `panel` is scratch.
pub(crate) fn multiply_over_rows(
    kernels: &KernelSet,
    (a, features): (Rows<'_>, usize),
    (b, columns): (Rows<'_>, usize),
    c: &mut [f32],
    c_stride: usize,
    panel: &mut AlignedVec,
) -> Result<()> {
    let count = a.count();
    let padded = columns.next_multiple_of(kernels.lanes);
    assert!(b.count() == count && a.hold(features) && b.hold(columns), "the factors do not fit");
    assert!(padded <= c_stride && features * c_stride <= c.len(), "output too small");
    c[..features * c_stride].fill(0.0);
    let block = if features * columns < LARGE { TERMS } else { TERMS_OF_LARGE };
    panel.reserve_scratch(block * kernels.panel())?;
    let (start, offsets, a_stride) = match a {
        Rows::Strided { values, stride, .. } => (values.as_ptr(), None, stride),
        Rows::Scattered { values, offsets } => (values.as_ptr(), Some(offsets), 0),
    };
    for first in (0..count).step_by(block) {
        let terms = (count - first).min(block);
        for column in (0..columns).step_by(kernels.panel()) {
            let width = (padded - column).min(kernels.panel());
            let here = (columns - column).min(width);
            for (term, to) in panel.chunks_exact_mut(width).take(terms).enumerate() {
                to[..here].copy_from_slice(&b.row(first + term)[column..column + here]);
                to[here..].fill(0.0);
            }
            let outer = Outer {
                a: if offsets.is_some() { start } else { start.wrapping_add(first * a_stride) },
                offsets: offsets.map_or(std::ptr::null(), |offsets| offsets[first..].as_ptr()),
                a_stride,
                terms,
                b: panel.as_ptr(),
                vectors: width / kernels.lanes,
                rows: features,
                c: c[column..].as_mut_ptr(),
                c_stride,
            };
            // SAFETY: the asserts: every row of `a` has `features` floats and every row of `c` `padded` ones; the panel
            // has `terms` rows of `width` floats, just written; `c` is borrowed apart from both. The kernels are this
            // process's.
            unsafe { (kernels.outer)(&outer) };
        }
    }
    Ok(())
}
