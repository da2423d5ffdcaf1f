//! Multiply-adds and nothing else: the most that a core can do, for whoever wants to know a share of it.

use std::hint::black_box;

use crate::simd::Simd;

/// Sums that do not wait for each other: more than two ports of latency four, or four of three, can have
/// under way, and few enough for the registers.
pub(crate) const CHAINS: usize = 12;

/// `times` multiply-adds on each of [`CHAINS`] vectors.
#[inline(always)]
pub(crate) fn multiply_adds<S: Simd>(s: S, times: usize) {
    let (factor, term) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
    let mut sums = [s.splat(1.0); CHAINS];
    // All different: a compiler may see that equal sums stay equal (GCC does) and keep one of them.
    for (chain, sum) in sums.iter_mut().enumerate() {
        *sum = s.splat(black_box(chain as f32));
    }
    for _ in 0..times {
        for sum in &mut sums {
            *sum = s.fma(*sum, factor, term);
        }
    }
    black_box(sums);
}
