//! NEON of 64-bit ARM: 4 lanes, 32 registers.
//!
//! The bits are those of the x86 backends. Additions, products, quotients and fused multiply-adds are IEEE's on
//! both; `min`, `max` and the selections are a comparison and a bitwise select, because `fmin` and `fmax` order
//! zeros and propagate NaN where the x86 instructions return their second operand.
//!
//! # How far from the limit
//! No loop of a product has a vector on the stack, and four terms of 24 sums, 96 multiply-adds by element, take 116 to
//! 129 instructions (read from what Rust 1.95 makes of them). So the multiply-adds are the limit on a core that starts
//! four instructions a cycle and has two pipes for them, and on one that starts eight and has four: together, all
//! instructions fill at most two thirds of the slots. No ARM's time was measured.

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::{Simd, Table};

/// Proof that this CPU has NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// The token, where the CPU and the operating system have the feature.
    pub(crate) fn new() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// The token without asking.
    ///
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }

    /// For each lane the places of its table entry's four bytes: `4 (index mod 8)` and the three bytes behind.
    #[inline(always)]
    fn bytes(self, index: uint32x4_t) -> uint8x16_t {
        // SAFETY: the token proves NEON.
        unsafe {
            let entry = vandq_u32(index, vdupq_n_u32(7));
            vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x0302_0100), entry, 0x0404_0404))
        }
    }
}

// SAFETY: a `float32x4_t` is four floats, and `ld1` and `st1` move these four, lane 0 at the address: the module
// is compiled for little-endian targets alone. Look-ups load the first eight of a table's sixteen entries and permute
// them in registers. A token exists only where `new` found NEON, or where the caller of `assume` vouches for it;
// that is also the one obligation of the blocks without a pointer below.
unsafe impl Simd for Neon {
    type V = float32x4_t;
    /// The places of bytes, as the table look-up takes them.
    type I = uint8x16_t;
    type Half = Self;
    const LANES: usize = 4;
    const ACCUMULATORS: usize = 24;
    const WRITES_OUT: bool = false;
    const BY_LANE: bool = true;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }

    #[inline(always)]
    fn halves(self, a: float32x4_t) -> [float32x4_t; 2] {
        [a; 2]
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: the token proves NEON; the caller vouches for the pointer.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: the token proves NEON; the caller vouches for the pointer.
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // The intrinsic is not stable.
        // SAFETY: every 64-bit ARM has the instruction, and it is a hint: whatever the address, it cannot fault.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{}]", in(reg) at.addr(), options(nomem, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn fma_lane<const I: i32>(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vfmaq_laneq_f32::<I>(c, b, a) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }

    #[inline(always)]
    fn abs(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vabsq_f32(a) }
    }

    #[inline(always)]
    fn with_sign_of(self, magnitude: float32x4_t, sign: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_f32(vdupq_n_u32(1 << 31), sign, magnitude) }
    }

    #[inline(always)]
    fn with_sign_from(self, magnitude: float32x4_t, sign: float32x4_t, bound: f32) -> float32x4_t {
        let signed = self.with_sign_of(magnitude, sign);
        // SAFETY: the token proves NEON.
        unsafe {
            let small = vcaltq_f32(sign, vdupq_n_f32(bound));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(signed), small))
        }
    }

    #[inline(always)]
    fn select_ge_zero(self, a: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe { vbslq_f32(vcgezq_f32(a), yes, no) }
    }

    #[inline(always)]
    fn flush_below(self, a: float32x4_t, bound: f32) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe {
            let small = vcaltq_f32(a, vdupq_n_f32(bound));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), small))
        }
    }

    #[inline(always)]
    fn half_binade(self, a: float32x4_t) -> uint8x16_t {
        // SAFETY: the token proves NEON.
        self.bytes(unsafe { vshrq_n_u32::<22>(vreinterpretq_u32_f32(a)) })
    }

    #[inline(always)]
    fn lookup(self, table: &Table, index: uint8x16_t) -> float32x4_t {
        let entries = table.0.as_ptr().cast::<u8>();
        // SAFETY: the token proves NEON; the table's sixteen entries are 64 bytes, of which the first 32 are read.
        unsafe {
            let entries = uint8x16x2_t(vld1q_u8(entries), vld1q_u8(entries.add(16)));
            vreinterpretq_f32_u8(vqtbl2q_u8(entries, index))
        }
    }

    #[inline(always)]
    fn lookup_scaled(self, table: &Table, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves NEON.
        unsafe {
            let bits = vreinterpretq_u32_f32(a);
            let entry = vreinterpretq_u32_f32(self.lookup(table, self.bytes(bits)));
            vreinterpretq_f32_u32(vaddq_u32(entry, vshlq_n_u32::<20>(bits)))
        }
    }
}
