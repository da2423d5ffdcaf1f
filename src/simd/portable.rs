//! The portable backend, by the `wide` crate: 4 lanes; SSE2 on x86-64, NEON on aarch64, simd128 on wasm, chosen
//! when the crate is compiled.

use wide::f32x4;

use super::{Simd, Table};

/// The token of the backend that every machine has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Applies `f` to the bit pattern of every lane.
#[inline(always)]
fn map_bits(a: f32x4, f: impl Fn(u32) -> u32) -> f32x4 {
    f32x4::from(a.to_array().map(|lane| f32::from_bits(f(lane.to_bits()))))
}

// SAFETY: an `f32x4` is four floats, which `load` and `store` copy as an array of four, in order. Indices
// into tables are cut to three bits and checked. Nothing here needs more than the target has.
unsafe impl Simd for Portable {
    type V = f32x4;
    type I = [u32; 4];
    type Half = Self;
    const LANES: usize = 4;
    // SSE2 has 16 registers, and every x86-64 machine of the last decade has a better backend: smaller tiles,
    // less code.
    const ACCUMULATORS: usize = if cfg!(target_arch = "x86_64") { 8 } else { 12 };
    const WRITES_OUT: bool = false;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }

    #[inline(always)]
    fn halves(self, a: f32x4) -> [f32x4; 2] {
        [a; 2]
    }

    #[inline(always)]
    fn splat(self, value: f32) -> f32x4 {
        f32x4::splat(value)
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> f32x4 {
        // SAFETY: the caller vouches for 4 readable floats.
        f32x4::from(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: f32x4) {
        // SAFETY: the caller vouches for 4 writable floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(value.to_array()) }
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        a + b
    }

    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        a - b
    }

    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        a * b
    }

    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        a / b
    }

    #[inline(always)]
    fn fma(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    fn min(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_lt(b).select(a, b)
    }

    #[inline(always)]
    fn max(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_gt(b).select(a, b)
    }

    #[inline(always)]
    fn abs(self, a: f32x4) -> f32x4 {
        a.abs()
    }

    #[inline(always)]
    fn with_sign_of(self, magnitude: f32x4, sign: f32x4) -> f32x4 {
        magnitude | (sign & f32x4::splat(-0.0))
    }

    #[inline(always)]
    fn with_sign_from(self, magnitude: f32x4, sign: f32x4, bound: f32) -> f32x4 {
        sign.abs().simd_lt(f32x4::splat(bound)).select(f32x4::ZERO, self.with_sign_of(magnitude, sign))
    }

    #[inline(always)]
    fn select_ge_zero(self, a: f32x4, yes: f32x4, no: f32x4) -> f32x4 {
        a.simd_ge(f32x4::ZERO).select(yes, no)
    }

    #[inline(always)]
    fn flush_below(self, a: f32x4, bound: f32) -> f32x4 {
        a.abs().simd_lt(f32x4::splat(bound)).select(f32x4::ZERO, a)
    }

    #[inline(always)]
    fn half_binade(self, a: f32x4) -> [u32; 4] {
        a.to_array().map(|lane| lane.to_bits() >> 22)
    }

    #[inline(always)]
    fn lookup(self, table: &Table, index: [u32; 4]) -> f32x4 {
        f32x4::from(index.map(|i| table.0[(i & 7) as usize]))
    }

    #[inline(always)]
    fn lookup_scaled(self, table: &Table, a: f32x4) -> f32x4 {
        map_bits(a, |bits| table.0[(bits & 7) as usize].to_bits().wrapping_add(bits << 20))
    }
}
