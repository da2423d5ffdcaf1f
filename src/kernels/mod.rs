//! The inner bodies, each written once, generic over [`Simd`](crate::simd::Simd) and constant tile sizes.
//!
//! Everything here is `#[inline(always)]`: compiled inside a shell of `dispatch` it takes that shell's instruction
//! set; called from anywhere else each intrinsic would be a function call.

pub(crate) mod activation;
pub(crate) mod cells;
pub(crate) mod elementwise;
#[cfg(feature = "training")]
pub(crate) mod gradient;
pub(crate) mod peak;
pub(crate) mod tile;
