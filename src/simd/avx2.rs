//! AVX2 with FMA: 8 lanes, 16 registers.

use std::arch::x86_64::*;

use super::{Simd, Table};

/// Proof that this CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, where the CPU and the operating system have the features.
    pub(crate) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// The token without asking.
    ///
    /// # Safety
    /// The CPU must have AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

// SAFETY: a `__m256` is eight floats, and `loadu` and `storeu` move these eight, lane 0 at the address.
// Look-ups load the first eight of a table's sixteen entries and permute them in registers. A token exists
// only where `new` found AVX2 and FMA, or where the caller of `assume` vouches for them; that is also the one
// obligation of the blocks without a pointer below.
unsafe impl Simd for Avx2 {
    type V = __m256;
    type I = __m256i;
    type Half = Self;
    const LANES: usize = 8;
    const ACCUMULATORS: usize = 12;
    const WRITES_OUT: bool = false;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }

    #[inline(always)]
    fn halves(self, a: __m256) -> [__m256; 2] {
        [a; 2]
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA; the caller vouches for the pointer.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: the token proves AVX2 and FMA; the caller vouches for the pointer.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: every x86-64 has the instruction, and it reads nothing: whatever the address, it cannot
        // fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }

    #[inline(always)]
    fn with_sign_of(self, magnitude: __m256, sign: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_or_ps(magnitude, _mm256_and_ps(sign, _mm256_set1_ps(-0.0))) }
    }

    #[inline(always)]
    fn with_sign_from(self, magnitude: __m256, sign: __m256, bound: f32) -> __m256 {
        let signed = self.with_sign_of(magnitude, sign);
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(self.abs(sign), _mm256_set1_ps(bound)), signed) }
    }

    #[inline(always)]
    fn select_ge_zero(self, a: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GE_OQ>(a, _mm256_setzero_ps())) }
    }

    #[inline(always)]
    fn flush_below(self, a: __m256, bound: f32) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe {
            let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(magnitude, _mm256_set1_ps(bound)), a)
        }
    }

    #[inline(always)]
    fn half_binade(self, a: __m256) -> __m256i {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe { _mm256_srli_epi32::<22>(_mm256_castps_si256(a)) }
    }

    #[inline(always)]
    fn lookup(self, table: &Table, index: __m256i) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA; the table has at least 8 entries on a 64-byte boundary.
        unsafe { _mm256_permutevar8x32_ps(_mm256_load_ps(table.0.as_ptr()), index) }
    }

    #[inline(always)]
    fn lookup_scaled(self, table: &Table, a: __m256) -> __m256 {
        // SAFETY: the token proves AVX2 and FMA.
        unsafe {
            let bits = _mm256_castps_si256(a);
            let entry = _mm256_castps_si256(self.lookup(table, bits));
            _mm256_castsi256_ps(_mm256_add_epi32(entry, _mm256_slli_epi32::<20>(bits)))
        }
    }
}
