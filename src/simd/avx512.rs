//! AVX-512 (F, DQ, BW, VL): 16 lanes, 32 registers.

use std::arch::x86_64::*;

use super::{Simd, Table};

/// Of a ternary logic instruction: `a | (b & c)`.
const OR_OF_AND: i32 = 0xf8;

/// Proof that this CPU has AVX-512 F, DQ, BW and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, where the CPU and the operating system have the features.
    pub(crate) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma"))
        .then_some(Self(()))
    }

    /// The token without asking.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F, DQ, BW and VL, AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

// SAFETY: a `__m512` is sixteen floats, and `loadu` and `storeu` move these sixteen, lane 0 at the address.
// Look-ups load a table's sixteen entries and permute them in registers. A token exists only where `new`
// found the features, or where the caller of `assume` vouches for them; that is also the one obligation of
// the blocks without a pointer below.
unsafe impl Simd for Avx512 {
    type V = __m512;
    type I = __m512i;
    type Half = super::Avx2;
    const LANES: usize = 16;
    const ACCUMULATORS: usize = 24;
    const WRITES_OUT: bool = true;

    #[inline(always)]
    fn half(self) -> super::Avx2 {
        // SAFETY: this token proves AVX2 and FMA too; see `new`.
        unsafe { super::Avx2::assume() }
    }

    #[inline(always)]
    fn halves(self, a: __m512) -> [__m256; 2] {
        // SAFETY: the token proves AVX-512 F and DQ.
        unsafe { [_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)] }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the token proves AVX-512F; the caller vouches for the pointer.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: the token proves AVX-512F; the caller vouches for the pointer.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: every x86-64 has the instruction, and it reads nothing: whatever the address, it cannot
        // fault.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    fn with_sign_of(self, magnitude: __m512, sign: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let bit = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<OR_OF_AND>(
                _mm512_castps_si512(magnitude),
                _mm512_castps_si512(sign),
                bit,
            ))
        }
    }

    #[inline(always)]
    fn with_sign_from(self, magnitude: __m512, sign: __m512, bound: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(sign), _mm512_set1_ps(bound));
            let bit = _mm512_set1_epi32(i32::MIN);
            _mm512_castsi512_ps(_mm512_maskz_ternarylogic_epi32::<OR_OF_AND>(
                keep,
                _mm512_castps_si512(magnitude),
                _mm512_castps_si512(sign),
                bit,
            ))
        }
    }

    #[inline(always)]
    fn select_ge_zero(self, a: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, _mm512_setzero_ps());
            _mm512_mask_blend_ps(mask, no, yes)
        }
    }

    #[inline(always)]
    fn flush_below(self, a: __m512, bound: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(a), _mm512_set1_ps(bound));
            _mm512_maskz_mov_ps(keep, a)
        }
    }

    #[inline(always)]
    fn half_binade(self, a: __m512) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_srli_epi32::<22>(_mm512_castps_si512(a)) }
    }

    #[inline(always)]
    fn lookup(self, table: &Table, index: __m512i) -> __m512 {
        // SAFETY: the token proves AVX-512F; the table has 16 entries on a 64-byte boundary.
        unsafe { _mm512_permutexvar_ps(index, _mm512_load_ps(table.0.as_ptr())) }
    }

    #[inline(always)]
    fn lookup_scaled(self, table: &Table, a: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let bits = _mm512_castps_si512(a);
            let entry = _mm512_castps_si512(self.lookup(table, bits));
            _mm512_castsi512_ps(_mm512_add_epi32(entry, _mm512_slli_epi32::<20>(bits)))
        }
    }
}
