//! Activation functions on vectors.
//!
//! # tanh
//! `tanh(x) = sign(x) · P_i(|x| - c_i)`: one of eight polynomials of degree 7, its interval found from the half binade
//! of `|x| + 0.75` (one addition and one shift), its coefficients fetched by permutes that need no memory traffic
//! beyond the tables. No division, no branch, and every operation correctly rounded, so all backends with fused
//! multiply-add give the same bits.
//!
//! Provenance: each polynomial is a weighted minimax fit (reweighted least squares on 400 Chebyshev nodes, 40
//! digits), its coefficients rounded to `f32` one at a time from the constant upwards, the rest refitted each
//! time. Relative error of the fits: at most 0.55 · 2^-24. The centre `c_i` of an interval is a float near its
//! middle whose tanh is a float to 1/1000 ULP, so the constant term costs nothing; `|x| - c_i` is exact. In the
//! first interval [0, 0.25) the centre and the constant are 0 and the linear term is 1: exact for subnormals,
//! and -0 stays -0. Over all 2^32 inputs: at most 1.094 ULP with fused multiply-add, 1.140 ULP on the portable
//! backend, never down by more than 1 ULP where the argument goes up (the ignored tests in
//! `tests/activations.rs`).
//!
//! # Sigmoid
//! `e = exp(-|x|)`, then `1 / (1 + e)` or `e / (1 + e)`: relative accuracy on both sides, down into the
//! subnormals. The exponential is a power of two from a table of eighths, its exponent changed by one addition
//! of integers, and a polynomial of degree 3. Over all 2^32 inputs: at most 2.892 ULP with fused multiply-add,
//! 2.936 ULP on the portable backend.
//!
//! The division runs beside the rest: 0.26 ns an element (AVX-512 at 2.8 GHz), like tanh, of which 0.22 are twenty
//! instructions on two ports. With Cephes's `expf` and a scale of its own it was 0.36; with a reciprocal by a
//! quadratic and two of Newton's steps in place of the division 0.43.

use crate::simd::{Simd, Table};

/// An element-wise function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Linear,
    Tanh,
    Relu,
    Sigmoid,
    /// `x/6 + 1/2`, clipped to 0 and 1: Keras 3's.
    HardSigmoid,
    /// `x/5 + 1/2`, clipped to 0 and 1: that of Keras 1 and 2.
    HardSigmoidKeras2,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x` where it is not negative, `exp(x) - 1` elsewhere.
    Elu,
    /// `x` where it is not negative, [`LEAKY_SLOPE`] times it elsewhere.
    LeakyRelu,
    Exp,
}

/// The slope of Keras 3's hard sigmoid.
pub(crate) const HARD_SLOPE: f32 = 1.0 / 6.0;
/// The slope of the hard sigmoid of Keras 1 and 2.
pub(crate) const HARD_SLOPE_KERAS2: f32 = 0.2;
/// The slope of Keras's leaky_relu below zero.
pub(crate) const LEAKY_SLOPE: f32 = 0.2;

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
    s.with_sign_of(tanh_of_magnitude(s, s.abs(x)), x)
}

/// [`tanh`], and zero where that is below [`TINY`]: there, and only there, is `x` below it, as tanh is the identity on numbers so
/// small. So the comparison need not wait for the result, which is what the next step's state waits for.
#[inline(always)]
pub(crate) fn tanh_state<S: Simd>(s: S, x: S::V) -> S::V {
    s.with_sign_from(tanh_of_magnitude(s, s.abs(x)), x, TINY)
}

#[inline(always)]
fn tanh_of_magnitude<S: Simd>(s: S, magnitude: S::V) -> S::V {
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
    s.fma(p, d, s.lookup(&TANH_C0, i))
}

/// `2^(i/8)`, `i << 20` taken off the bits for `lookup_scaled`, and raised to [`RAISED`].
static EXP: Table = Table::new([
    0x4f80_0000,
    0x4f7b_95c2,
    0x4f78_37f0,
    0x4f75_fed7,
    0x4f75_04f3,
    0x4f75_672a,
    0x4f77_44fd,
    0x4f7a_c0c7,
]);
/// What [`raised_exp`] is raised by: as much as takes every power into the normal numbers.
const RAISED: f32 = f32::from_bits((127 + 32) << 23);

/// `RAISED · exp(-x)` for `x >= 0`, from 104 on as at 104, where `exp(-x)` rounds to zero. NaN stays NaN.
///
/// `-x = (8 n + i) ln 2 / 8 - r`, `|r| <= ln 2 / 16`, so `exp(-x) = 2^n · 2^(i/8) · exp(-r)`, the last of which is a minimax
/// polynomial (relative error 0.44 · 2^-24), the middle one a table.
#[inline(always)]
fn raised_exp<S: Simd>(s: S, x: S::V) -> S::V {
    let [factor, p, power] = raised_exp_parts(s, x);
    s.fma(factor, p, power)
}

/// [`raised_exp`] before its last operation: a product's factors, and the raised power that it is added to.
#[inline(always)]
fn raised_exp_parts<S: Simd>(s: S, x: S::V) -> [S::V; 3] {
    const EIGHTHS: f32 = -8.0 * std::f32::consts::LOG2_E;
    // Few enough bits that its product with 8 n + i is exact.
    const LN_2_HIGH: f32 = 0.693_359_4 / 8.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4 / 8.0;
    // Adding it leaves the nearest integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = s.min(s.splat(104.0), x);
    let shifted = s.fma(x, s.splat(EIGHTHS), s.splat(ROUND));
    let n = s.sub(shifted, s.splat(ROUND));
    let r = s.fma(n, s.splat(LN_2_HIGH), x);
    let r = s.fma(n, s.splat(LN_2_LOW), r);
    let power = s.lookup_scaled(&EXP, shifted);
    let p = s.fma(s.splat(f32::from_bits(0xbe2a_ab46)), r, s.splat(f32::from_bits(0x3f00_043b)));
    let p = s.fma(p, r, s.splat(-1.0));
    [s.mul(power, r), p, power]
}

/// `exp(x)` for `x <= 0`; below -104 zero. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    s.mul(raised_exp(s, s.abs(x)), s.splat(1.0 / RAISED))
}

/// `exp(-|x|) - 1`.
///
/// From 1/2 on it is the raised power less one. Nearer to zero one would be most of what is subtracted, and
/// the rounding of the power most of what is left; there it is the series of `exp(-y) - 1 + y`, whose rest is
/// below `2^-26` of the result, less `y`.
#[inline(always)]
pub(crate) fn expm1_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    let y = s.abs(x);
    let [factor, p, power] = raised_exp_parts(s, y);
    let far = s.mul(s.fma(factor, p, s.sub(power, s.splat(RAISED))), s.splat(1.0 / RAISED));
    let q = s.fma(s.splat(1.0 / 40320.0), y, s.splat(-1.0 / 5040.0));
    let q = s.fma(q, y, s.splat(1.0 / 720.0));
    let q = s.fma(q, y, s.splat(-1.0 / 120.0));
    let q = s.fma(q, y, s.splat(1.0 / 24.0));
    let q = s.fma(q, y, s.splat(-1.0 / 6.0));
    let q = s.fma(q, y, s.splat(0.5));
    let near = s.fma(s.mul(y, y), q, s.sub(s.splat(0.0), y));
    s.select_ge_zero(s.sub(y, s.splat(0.5)), far, near)
}

/// `x/6 + 1/2`, clipped to 0 and 1; NaN stays NaN.
#[inline(always)]
pub(crate) fn hard_sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    clipped(s, s.fma(x, s.splat(HARD_SLOPE), s.splat(0.5)))
}

/// `x/5 + 1/2`, clipped to 0 and 1; NaN stays NaN.
#[inline(always)]
pub(crate) fn hard_sigmoid_keras2<S: Simd>(s: S, x: S::V) -> S::V {
    clipped(s, s.fma(x, s.splat(HARD_SLOPE_KERAS2), s.splat(0.5)))
}

/// `x` in 0 to 1; NaN, as the second operand of both, stays.
#[inline(always)]
fn clipped<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(0.0), s.min(s.splat(1.0), x))
}

/// `ln(1 + exp(x)) = max(x, 0) + ln(1 + e)`, `e = exp(-|x|)`. With `t = e / (2 + e)`, at most 1/3, `ln(1 + e)` is twice the
/// inverse hyperbolic tangent of t, here by its power series, whose rest is below `2^-26`.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp_of_negative(s, x);
    let t = s.div(e, s.add(s.splat(2.0), e));
    let u = s.mul(t, t);
    let p = s.fma(s.splat(2.0 / 15.0), u, s.splat(2.0 / 13.0));
    let p = s.fma(p, u, s.splat(2.0 / 11.0));
    let p = s.fma(p, u, s.splat(2.0 / 9.0));
    let p = s.fma(p, u, s.splat(2.0 / 7.0));
    let p = s.fma(p, u, s.splat(2.0 / 5.0));
    let p = s.fma(p, u, s.splat(2.0 / 3.0));
    let p = s.fma(p, u, s.splat(2.0));
    s.fma(p, t, relu(s, x))
}

/// `x` where it is not negative, `exp(x) - 1` elsewhere; NaN stays NaN.
#[inline(always)]
pub(crate) fn elu<S: Simd>(s: S, x: S::V) -> S::V {
    s.select_ge_zero(x, x, expm1_of_negative(s, x))
}

/// `x` where it is not negative, [`LEAKY_SLOPE`] times it elsewhere; NaN stays NaN.
#[inline(always)]
pub(crate) fn leaky_relu<S: Simd>(s: S, x: S::V) -> S::V {
    s.select_ge_zero(x, x, s.mul(x, s.splat(LEAKY_SLOPE)))
}

/// The logistic function.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    // Numerator and denominator are raised alike, so that a small result is rounded once, by the division.
    let one = s.splat(RAISED);
    let e = raised_exp(s, s.abs(x));
    s.div(s.select_ge_zero(x, one, e), s.add(one, e))
}

/// `max(x, 0)`; NaN stays NaN.
#[inline(always)]
pub(crate) fn relu<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(0.0), x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_token;

    fn check<S: Simd>(s: S) {
        let near = if cfg!(miri) { 3 } else { 40 };
        let around =
            |x: f32| (-near..=near).map(move |ulp| f32::from_bits(x.to_bits().wrapping_add_signed(ulp)));
        let step = if cfg!(miri) { 3001 } else { 7 };
        let some = (1..0x7f80).step_by(step).map(|bits| f32::from_bits(bits << 16 | bits));
        let odd = [0.0, f32::INFINITY, f32::NAN, f32::from_bits(1), f32::MAX];
        for x in around(TINY).chain(around(0.25)).chain(around(TANH_LIMIT)).chain(some).chain(odd) {
            for x in [x, -x] {
                let value = |v: S::V| {
                    let mut lanes = [0.0; 16];
                    // SAFETY: no vector is wider than 16 lanes.
                    unsafe { s.store(lanes.as_mut_ptr(), v) };
                    lanes[S::LANES - 1]
                };
                let state = value(tanh_state(s, s.splat(x)));
                let flushed = value(s.flush_below(tanh(s, s.splat(x)), TINY));
                // Which NaN an operation gives is not defined.
                let same = state.to_bits() == flushed.to_bits() || state.is_nan() && flushed.is_nan();
                assert!(same, "{x:e}: {state:e} is not {flushed:e}");
            }
        }
    }

    #[test]
    fn a_state_is_tanh_with_tiny_values_as_zero() {
        with_every_token!(s => check(s));
    }
}
