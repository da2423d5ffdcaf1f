//! Vectors of `f32`: the trait [`Simd`] and its tokens, one for each instruction set.
//!
//! A kernel is written once, generic over `S: Simd`, and marked `#[inline(always)]`; `dispatch` puts a wrapper
//! around it, compiled with the instruction set's features. A token value proves that this CPU has the
//! features: it can only be made by the backend's `new`, which asks the CPU. Every method is one or a few
//! instructions, correctly rounded, so that the AVX2, AVX-512 and NEON backends give the same bits; the
//! portable backend has no fused multiply-add on plain x86-64 and is bit-stable within itself.
//!
//! `min`, `max` and comparisons treat NaN as the x86 instructions do; where it matters the method says so.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float_mode;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use float_mode::FloatMode;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// A look-up table of eight entries, stored twice, because a 16-lane permute indexes with four bits.
#[repr(C, align(64))]
pub(crate) struct Table([f32; 16]);

impl Table {
    /// From the bit patterns of the eight entries.
    pub(crate) const fn new(bits: [u32; 8]) -> Self {
        let mut entries = [0.0; 16];
        let mut i = 0;
        while i < 16 {
            entries[i] = f32::from_bits(bits[i % 8]);
            i += 1;
        }
        Self(entries)
    }
}

/// One instruction set's vector of `f32`.
///
/// # Safety
/// Kernels compute addresses from what an implementation says, and leave no check in their loops:
///
/// - `LANES` is a power of two, at most 16. A row padded to whole cache lines therefore has whole vectors,
///   and 16 floats
///   have room for any vector.
/// - [`load`](Self::load) reads exactly the `LANES` floats at its address, and [`store`](Self::store) writes
///   exactly those,
///   lane 0 first.
/// - No other method reads or writes memory but the table that it is given, whatever the vectors hold.
/// - `V` and `I` are plain bits: nothing happens when they are copied or go.
/// - Where a method needs more of the CPU than the crate's target has, a value of the type exists only where
///   the CPU has it.
pub(crate) unsafe trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// A vector of table indices.
    type I: Copy;
    /// Vectors of at most eight lanes that this instruction set has too: the same where they are no wider anyway.
    type Half: Simd;
    /// Floats in a vector: a power of two, at most 16.
    const LANES: usize;
    /// Vectors of sums that a tile may hold, the rest of the registers left for operands.
    const ACCUMULATORS: usize;
    /// Whether a full tile's activations are written out one by one, straight from its registers: 1 to 2 % of
    /// the time of 64 units, for a third more code.
    const WRITES_OUT: bool;
    /// Whether a multiply-add takes one lane of a vector for its factor without a broadcast. Then rows are read
    /// four floats at a time, a vector having four lanes.
    const BY_LANE: bool = false;

    /// The token of the narrower vectors.
    fn half(self) -> Self::Half;
    /// The first lanes of a vector and the last ones; where the narrower vectors are no narrower, twice the
    /// vector itself.
    fn halves(self, a: Self::V) -> [<Self::Half as Simd>::V; 2];
    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// Reads `LANES` floats, aligned or not.
    ///
    /// # Safety
    /// `from` must be valid for reading `LANES` floats.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes `LANES` floats, aligned or not.
    ///
    /// # Safety
    /// `to` must be valid for writing `LANES` floats.
    unsafe fn store(self, to: *mut f32, value: Self::V);
    /// Asks for the cache line at `at` in the second-level cache; any address will do.
    fn prefetch(self, at: *const f32);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, in one rounding where the instruction set has it.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a[I] * b + c`, lane `I` of `a` being the factor of all lanes; as [`fma`](Self::fma).
    #[inline(always)]
    fn fma_lane<const I: i32>(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector has more lanes than these.
        unsafe { self.store(lanes.as_mut_ptr(), a) };
        self.fma(self.splat(lanes[I as usize]), b, c)
    }
    /// `a < b ? a : b`, so a NaN in `b` (and a NaN in `a`) gives `b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b`, so a NaN in `b` (and a NaN in `a`) gives `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Clears the sign bit.
    fn abs(self, a: Self::V) -> Self::V;
    /// `magnitude`, whose sign bit is clear, with the sign bit of `sign`.
    fn with_sign_of(self, magnitude: Self::V, sign: Self::V) -> Self::V;
    /// [`with_sign_of`](Self::with_sign_of) in the lanes where not `|sign| < bound`, so in those of NaN, +0 elsewhere.
    fn with_sign_from(self, magnitude: Self::V, sign: Self::V, bound: f32) -> Self::V;
    /// Lane by lane `a >= 0 ? yes : no`; NaN gives `no`.
    fn select_ge_zero(self, a: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// +0 in the lanes where `|a| < bound`, `a` elsewhere; NaN stays.
    fn flush_below(self, a: Self::V, bound: f32) -> Self::V;
    /// The half binade of each lane: exponent and top mantissa bit, as an index whose low three bits count.
    fn half_binade(self, a: Self::V) -> Self::I;
    /// The table's entry at each index.
    fn lookup(self, table: &Table, index: Self::I) -> Self::V;
    /// `2^n` times the table's entry `i`, where each lane of `a` is `1.5 * 2^23 + 8 n + i`, i in 0..8. Of the
    /// bits of entry i of `table` `i << 20` is taken off: adding the lane's own bits there makes it whole and
    /// changes the exponent.
    fn lookup_scaled(self, table: &Table, a: Self::V) -> Self::V;
}

/// Evaluates the expression for `$s` being each token that this CPU has.
#[cfg(test)]
macro_rules! with_every_token {
    ($s:ident => $body:expr) => {{
        use $crate::simd;
        with_every_token!(@ Some(simd::Portable), $s, $body);
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        with_every_token!(@ simd::Neon::new(), $s, $body);
        #[cfg(target_arch = "x86_64")]
        {
            with_every_token!(@ simd::Avx2::new(), $s, $body);
            with_every_token!(@ simd::Avx512::new(), $s, $body);
        }
    }};
    (@ $token:expr, $s:ident, $body:expr) => {
        if let Some($s) = $token {
            $body;
        }
    };
}
#[cfg(test)]
pub(crate) use with_every_token;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of number, in every lane.
    fn numbers() -> Vec<f32> {
        let mut numbers =
            vec![0.0, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE, f32::from_bits(1), 1.0, f32::MAX];
        numbers.extend((0..40u32).map(|i| f32::from_bits(0x3b00_0000 + i * 0x0023_4567)));
        numbers.iter().flat_map(|&x| [x, -x]).collect()
    }

    /// What an operation gives for `a`, `b` and `c` in its last lane; all lanes must have it.
    fn check<S: Simd>(s: S) {
        let lanes = |v: S::V| {
            let mut lanes = [0.0; 16];
            // SAFETY: no vector is wider than 16 lanes.
            unsafe { s.store(lanes.as_mut_ptr(), v) };
            lanes
        };
        let same = |what: &str, got: S::V, expected: f32| {
            for got in &lanes(got)[..S::LANES] {
                // Which NaN arithmetic gives is not defined.
                let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
                assert!(same, "{what}: {got:e} is not {expected:e}");
            }
        };
        let each: Vec<f32> = (0..16).map(|lane| lane as f32).collect();
        // SAFETY: no vector is wider than 16 lanes.
        let halves = s.halves(unsafe { s.load(each.as_ptr()) });
        for (half, first) in halves.into_iter().zip([0, S::LANES - S::Half::LANES]) {
            let mut lanes = [0.0; 16];
            // SAFETY: as above.
            unsafe { s.half().store(lanes.as_mut_ptr(), half) };
            assert_eq!(lanes[..S::Half::LANES], each[first..][..S::Half::LANES]);
        }
        for a in numbers() {
            let va = s.splat(a);
            same("abs", s.abs(va), a.abs());
            same("flush", s.flush_below(va, 1e-3), if a.abs() < 1e-3 { 0.0 } else { a });
            for b in numbers() {
                let (vb, what) = (s.splat(b), format!("{a:e} and {b:e}"));
                same(&what, s.add(va, vb), a + b);
                same(&what, s.sub(va, vb), a - b);
                same(&what, s.mul(va, vb), a * b);
                same(&what, s.div(va, vb), a / b);
                same(&what, s.min(va, vb), if a < b { a } else { b });
                same(&what, s.max(va, vb), if a > b { a } else { b });
                same(&what, s.with_sign_of(s.abs(va), vb), a.abs().copysign(b));
                let signed = if b.abs() < 1e-3 { 0.0 } else { a.abs().copysign(b) };
                same(&what, s.with_sign_from(s.abs(va), vb, 1e-3), signed);
                same(&what, s.select_ge_zero(va, vb, s.splat(7.0)), if a >= 0.0 { b } else { 7.0 });
            }
        }
        // Each lane of its own.
        let row: Vec<f32> = (0..16u8).map(|i| f32::from(i) - 5.25).collect();
        // SAFETY: no vector is wider than these.
        let row_vector = unsafe { s.load(row.as_ptr()) };
        let (two, three) = (s.splat(2.0), s.splat(3.0));
        same("lane 0", s.fma_lane::<0>(row_vector, two, three), row[0] * 2.0 + 3.0);
        same("lane 1", s.fma_lane::<1>(row_vector, two, three), row[1] * 2.0 + 3.0);
        same("lane 2", s.fma_lane::<2>(row_vector, two, three), row[2] * 2.0 + 3.0);
        same("lane 3", s.fma_lane::<3>(row_vector, two, three), row[3] * 2.0 + 3.0);
        static TABLE: Table = Table::new([
            0x3f80_0000,
            0x4000_0001,
            0x4040_0002,
            0x4080_0003,
            0x40a0_0004,
            0x40c0_0005,
            0xc0e0_0006,
            0xc100_0007,
        ]);
        // Half binades from 2^-4 up: every entry, and in neighbouring lanes others.
        let scale = |i: usize| f32::from_bits((0x3d80_0000 >> 22 << 22) + ((i as u32) << 22));
        for first in 0..20 {
            let at: Vec<f32> = (first..first + 16).map(scale).collect();
            // SAFETY: no vector is wider than these.
            let v = unsafe { s.load(at.as_ptr()) };
            let found = lanes(s.lookup(&TABLE, s.half_binade(v)));
            for (lane, found) in found[..S::LANES].iter().enumerate() {
                let entry = TABLE.0[(at[lane].to_bits() >> 22) as usize % 8];
                assert_eq!(found.to_bits(), entry.to_bits(), "half binade {}", first + lane);
            }
            let shifted: Vec<f32> = (0..16).map(|i| 12_582_912.0 - (3 * first + i) as f32).collect();
            // SAFETY: as above.
            let scaled = lanes(s.lookup_scaled(&TABLE, unsafe { s.load(shifted.as_ptr()) }));
            for (lane, scaled) in scaled[..S::LANES].iter().enumerate() {
                let bits = shifted[lane].to_bits();
                let expected = TABLE.0[bits as usize % 8].to_bits().wrapping_add(bits << 20);
                assert_eq!(scaled.to_bits(), expected, "{} scaled", shifted[lane]);
            }
        }
    }

    #[test]
    fn every_operation_of_every_token_is_that_of_a_single_float() {
        with_every_token!(s => check(s));
    }
}
