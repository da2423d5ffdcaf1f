//! What the library for C has.
pub use elman::*;
