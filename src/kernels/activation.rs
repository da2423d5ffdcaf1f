//! Activation functions on vectors.
//!
//! # tanh
//! `tanh(x) = sign(x) · P_i(|x| - c_i)`: one of eight polynomials of degree 7, its interval found from the half binade
//! of `|x| + 0.75` (one addition and one shift), its coefficients fetched by permutes that need no memory traffic
//! beyond the tables. No division, no branch, and every operation correctly rounded, so all arms with fused
//! multiply-add give the same bits.
//!
//! Provenance: each polynomial is a weighted minimax fit (reweighted least squares on 400 Chebyshev nodes, 40 digits),
//! its coefficients rounded to `f32` one at a time from the constant upwards, the rest refitted each time. Relative
//! error of the fits: at most 0.55 · 2^-24. The centre `c_i` of an interval is a float near its middle whose tanh is
//! a float to 1/1000 ULP, so the constant term costs nothing; `|x| - c_i` is exact. In the first interval
//! [0, 0.25) the centre and the constant are 0 and the linear term is 1: exact for subnormals, and -0 stays -0.
//! Over all 2^32 inputs: at most 1.094 ULP with fused multiply-add, 1.140 ULP on the portable arm, never down by more
//! than 1 ULP where the argument goes up (the ignored tests in `tests/activations.rs`).
//!
//! # Sigmoid
//! `e = exp(-|x|)`, then `1 / (1 + e)` or `e / (1 + e)`: relative accuracy on both sides, down into the subnormals. Over all
//! 2^32 inputs: at most 2.402 ULP on every arm. The division takes half of the time, but beside the rest: a reciprocal by a
//! quadratic and two of Newton's steps made it 0.43 ns an element rather than 0.36 (AVX2: 0.74 rather than 0.52).

use crate::simd::{Simd, Table};

/// An element-wise function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Linear,
    Tanh,
    Relu,
    Sigmoid,
    Exp,
}

/// States smaller than this are stored as zero: a subnormal costs a hundred cycles, and a fading state or a silent
/// stream would drift into them. The control word stays the host's.
pub(crate) const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// From here on tanh rounds to 1: `1 - tanh(x) < 2^-25` for `x > 9.011`.
const TANH_LIMIT: f32 = 9.03;
/// Added to `|x|` so that the eight intervals are half binades: [0, 0.25), [0.25, 0.75), [0.75, 1.25), [1.25, 2.25),
/// [2.25, 3.25), [3.25, 5.25), [5.25, 7.25), [7.25, limit]. Half binades modulo 8 begin the tables at the fourth.
const TANH_OFFSET: f32 = 0.75;

static TANH_CENTRE: Table = Table::new([
    0x3fdf_f84d,
    0x402f_f3f9,
    0x4087_f18c,
    0x40c8_017c,
    0x4102_2dd2,
    0x0000_0000,
    0x3eff_fc2c,
    0x3f80_0687,
]);
static TANH_C0: Table = Table::new([
    0x3f70_fc3c,
    0x3f7d_e9bd,
    0x3f7f_e53e,
    0x3f7f_ff83,
    0x3f7f_fffd,
    0x0000_0000,
    0x3eec_979c,
    0x3f42_fd51,
]);
static TANH_C1: Table = Table::new([
    0x3de9_30be,
    0x3c85_0561,
    0x3a56_0339,
    0x3779_fd6f,
    0x34b8_0bf1,
    0x3f80_0000,
    0x3f49_5608,
    0x3ed6_f62d,
]);
static TANH_C2: Table = Table::new([
    0xbddb_8227,
    0xbc83_efc5,
    0xba56_0f29,
    0xb77a_2824,
    0xb43f_1b8d,
    0xb324_b367,
    0xbeba_1280,
    0xbea3_bb4e,
]);
static TANH_C3: Table = Table::new([
    0x3d80_e773,
    0x3c2d_0a52,
    0x3a0e_95f7,
    0x3726_c78d,
    0x3473_b716,
    0xbeaa_aa4a,
    0xbdc0_f8b9,
    0x3dd4_3a8a,
]);
static TANH_C4: Table = Table::new([
    0xbcc1_318d,
    0xbba7_5834,
    0xb98c_bc2f,
    0xb6a4_bd25,
    0xb532_c5f9,
    0xb895_743d,
    0x3e28_98cf,
    0x3ce2_e2d1,
]);
static TANH_C5: Table = Table::new([
    0x3b73_c3a2,
    0x3af9_e981,
    0x38e0_b8d6,
    0x3603_c893,
    0x3371_35b0,
    0x3e09_5898,
    0xbcdd_a288,
    0xbd3d_ba2c,
]);
static TANH_C6: Table = Table::new([
    0x3b1c_e858,
    0xba0f_33f0,
    0xb82b_1c20,
    0xb54b_aac5,
    0x34ef_e611,
    0xbb8b_5879,
    0xbd4a_760b,
    0x3c94_476c,
]);
static TANH_C7: Table = Table::new([
    0xbb06_f65f,
    0x38d3_a639,
    0x373e_d47d,
    0x3468_6489,
    0xb214_8957,
    0xbd36_1de4,
    0x3cd5_8b5b,
    0x3b45_9c4e,
]);

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let magnitude = s.abs(x);
    // The limit comes first: min gives its second argument when that is NaN.
    let clamped = s.min(s.splat(TANH_LIMIT), magnitude);
    let i = s.half_binade(s.add(clamped, s.splat(TANH_OFFSET)));
    let d = s.sub(clamped, s.lookup(&TANH_CENTRE, i));
    let p = s.fma(s.lookup(&TANH_C7, i), d, s.lookup(&TANH_C6, i));
    let p = s.fma(p, d, s.lookup(&TANH_C5, i));
    let p = s.fma(p, d, s.lookup(&TANH_C4, i));
    let p = s.fma(p, d, s.lookup(&TANH_C3, i));
    let p = s.fma(p, d, s.lookup(&TANH_C2, i));
    let p = s.fma(p, d, s.lookup(&TANH_C1, i));
    let p = s.fma(p, d, s.lookup(&TANH_C0, i));
    s.with_sign_of(p, x)
}

/// `exp(x)` for `x <= 0`; below -104 the result is zero or the smallest subnormal. NaN stays NaN.
///
/// `x = n ln 2 + r`, `|r| <= ln 2 / 2`; the polynomial is Cephes's `expf` (relative error 1.7e-8 on the interval).
#[inline(always)]
pub(crate) fn exp_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the nearest integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    // 2^n is built with n raised by this and lowered again by one multiplication, which rounds once into the
    // subnormals that the exponent field cannot name.
    const LIFT: f32 = 24.0;
    const LOWER: f32 = f32::from_bits((127 - 24) << 23);
    let x = s.max(s.splat(-104.0), x);
    let shifted = s.fma(x, s.splat(LOG2_E), s.splat(ROUND));
    let n = s.sub(shifted, s.splat(ROUND));
    let r = s.fma(n, s.splat(-LN_2_HIGH), x);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let p = s.fma(s.splat(1.987_569_1e-4), r, s.splat(1.398_199_9e-3));
    let p = s.fma(p, r, s.splat(8.333_452e-3));
    let p = s.fma(p, r, s.splat(4.166_579_6e-2));
    let p = s.fma(p, r, s.splat(1.666_666_5e-1));
    let p = s.fma(p, r, s.splat(0.5));
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    let scale = s.pow2(s.add(shifted, s.splat(LIFT)));
    s.mul(s.mul(p, scale), s.splat(LOWER))
}

/// The logistic function.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let e = exp_of_negative(s, s.sub(s.splat(0.0), s.abs(x)));
    s.div(s.select_ge_zero(x, one, e), s.add(one, e))
}

/// `max(x, 0)`; NaN stays NaN.
#[inline(always)]
pub(crate) fn relu<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(0.0), x)
}
