//! Vectors of `f32`: the trait [`Simd`] and its tokens, one for each instruction set.
//!
//! A kernel is written once, generic over `S: Simd`, and marked `#[inline(always)]`; `dispatch` wraps it in a shell
//! compiled with the instruction set's features. A token value proves that this CPU has the features: it can only
//! be made by the arm's `new`, which asks the CPU. Every method is one or a few instructions, correctly rounded, so
//! that the AVX2 and AVX-512 arms give the same bits; the portable arm has no fused multiply-add on plain x86-64
//! and is bit-stable within itself.
//!
//! `min`, `max` and comparisons treat NaN as the x86 instructions do; where it matters the method says so.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float_mode;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use float_mode::FloatMode;
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
    /// Whether a full tile's activations are written out one by one, straight from its registers: 1 to 2 % of the time of
    /// 64 units, for a third more code.
    const WRITES_OUT: bool;

    /// The token of the narrower vectors.
    fn half(self) -> Self::Half;
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
    /// `2^n` times the table's entry `i`, where each lane of `a` is `1.5 * 2^23 + 8 n + i`, i in 0..8. Of the bits of entry i
    /// of `table` `i << 20` is taken off: adding the lane's own bits there makes it whole and changes the exponent.
    fn lookup_scaled(self, table: &Table, a: Self::V) -> Self::V;
}
