//! The inner bodies, each written once, generic over [`Simd`](crate::simd::Simd) and constant tile sizes.
//!
//! Everything here is `#[inline(always)]`: compiled inside a wrapper of `dispatch` it takes that wrapper's
//! instruction set; called from anywhere else each intrinsic would be a function call.

pub(crate) mod activation;
pub(crate) mod cells;
pub(crate) mod elementwise;
#[cfg(feature = "training")]
pub(crate) mod gradient;
pub(crate) mod peak;
pub(crate) mod tile;
