//! SIMD-optimised CPU kernels for recurrent neural networks: Keras's SimpleRNN (the Elman network), as a Rust crate
//! and as a C library.
//!
//! - [`SimpleRnnCell`]: one step by hand.
//! - [`SimpleRnn`], [`Dense`], [`Embedding`], [`Dropout`], [`Masking`], [`Bidirectional`]: layers.
//! - [`Sequential`]: the stack, run as a pipeline over chunks of steps.
//! - [`Stream`]: state kept between calls, real-time safe.
//!
//! Arrays are row-major `f32`, batch-major `[batch, steps, features]`, as in Keras. One model and one input give the
//! same bits however they are run: any batch, any number of threads, looped or unrolled, AVX2 or AVX-512.
//!
//! `ELMAN_ISA=portable|avx2|avx512` forces an instruction set.

// What only a left-out feature uses, the linker leaves out. The build with all of them, which is linted, has no dead code.
#![cfg_attr(
    not(all(feature = "training", feature = "threads", feature = "files", feature = "capi")),
    allow(dead_code, unused_imports)
)]

mod cell;
mod dispatch;
mod error;
#[cfg(feature = "capi")]
#[doc(hidden)]
pub mod ffi;
#[cfg(feature = "files")]
mod formats;
mod gemm;
mod kernels;
mod layers;
mod memory;
mod process;
mod sequence;
mod sequential;
mod simd;
mod stream;
#[cfg(feature = "training")]
mod tape;
#[cfg(feature = "training")]
mod training;

pub use cell::SimpleRnnCell;
pub use dispatch::{Isa, isa};
pub use error::{Error, Result};
pub use layers::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Initializer, Layer, Masking, MergeMode, SimpleRnn,
    Unroll, Variable, Weight,
};
pub use sequence::activate;
pub use sequential::{Padding, RunOptions, Sequential, WeightBytes};
pub use stream::Stream;
#[cfg(feature = "training")]
pub use tape::Tape;
#[cfg(feature = "training")]
pub use training::{
    Advance, Batch, BatchEnd, Clipping, Epoch, Examples, Fit, Fitting, Loss, Optimizer, OptimizerState,
    Schedule, Score, Step, Trainer, TrainerConfig, Truncation,
};
