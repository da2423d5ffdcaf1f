//! SIMD-optimised CPU kernels for recurrent neural networks: Keras's SimpleRNN (the Elman network), LSTM and GRU, as a
//! Rust crate and as a C library.
//!
//! ```
//! use elman::{Activation, Dense, Examples, Fit, Loss, Optimizer, Sequential, SimpleRnn, Trainer, TrainerConfig};
//!
//! # fn main() -> Result<(), elman::Error> {
//! let mut model = Sequential::new(3) // features a step
//!     .add(SimpleRnn::new(16))
//!     .add(Dense::new(1).activation(Activation::Sigmoid))
//!     .build(42)?;
//!
//! // Eight rows of ten steps, every other of which is to be answered by 1.
//! let x: Vec<f32> = (0..8 * 10 * 3).map(|i| if i / 30 % 2 == 0 { 0.5 } else { -0.5 }).collect();
//! let target = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
//! let examples = Examples::new(&x, 8, 10, &target);
//! let config = TrainerConfig::new(Optimizer::adam(), Loss::BinaryCrossentropy { from_logits: false });
//! let mut trainer = Trainer::new(&model, config)?;
//! let history = model.fit(&mut trainer, examples, Fit::default().epochs(100).batch_size(4))?;
//! assert_eq!(history[99].training.accuracy, Some(1.0));
//!
//! let answers = model.predict(&x, 8, 10)?; // [8, 10, 3] -> [8, 1]
//! assert!(answers[0] > 0.5 && answers[1] < 0.5);
//! # Ok(())
//! # }
//! ```
//!
//! # What there is
//! - **Models**: [`Sequential`], a stack of [`SimpleRnn`], [`Lstm`], [`Gru`], [`Bidirectional`], [`Dense`],
//!   [`Embedding`], [`Masking`], [`LastStep`] and [`Dropout`], run as a pipeline over chunks of steps.
//!   [`RunOptions`] are masks, lengths and states. [`SimpleRnnCell`], [`LstmCell`] and [`GruCell`] are one step
//!   by hand.
//! - **Streams**: [`Stream`] keeps its states between calls, and is real-time safe.
//! - **Training**: [`Sequential::fit`] with a [`Trainer`] does it all; [`Fitting`] is its loop in your own hands,
//!   [`Trainer::step`] one step of it, and a [`Tape`] gives the gradients for a training of your own.
//! - **Files**: [`Sequential::save`] and [`Sequential::load`] for models, [`Trainer::save`] and [`Trainer::load`] for
//!   checkpoints that go on to the same bits. Both are safetensors files, which Python reads.
//! - **Models from elsewhere**: [`Sequential::load`] takes the files of Keras, PyTorch and ONNX as well, and
//!   [`Sequential::export`] writes them.
//! - **Threads**: a model runs on the caller's thread alone until [`Sequential::set_threads`]; any number of threads may
//!   use one model at once.
//! - **C and C++**: `make install` puts `elman.h`, `elman.hpp`, a static and a shared library, and files for pkg-config
//!   and CMake under a prefix. The headers stand in `include` and say everything that C needs.
//! - **On the command line**: `make install-tool` brings `elman`, which inspects, converts, runs, times and checks
//!   models.
//!
//! Each of the Cargo features `training`, `threads`, `files`, `keras`, `torch`, `onnx`, `capi`, `progress` and `cli`
//! can be left out; all are on by default.
//!
//! Arrays are row-major `f32`, batch-major `[batch, steps, features]`, as in Keras. One model and one input give the
//! same bits however they are run: any batch, any number of threads, looped or unrolled, AVX2, AVX-512 or
//! NEON.
//!
//! # Speed
//! `ELMAN_ISA=portable|neon|avx2|avx512` forces an instruction set; [`isa`] says which one runs.
//!
//! A debug build is some 75 times slower, since every intrinsic is a function call there. Programs that are to be
//! debugged have the kernels optimised all the same with this in their `Cargo.toml`:
//!
//! ```toml
//! [profile.dev.package.elman]
//! opt-level = 3
//! ```

// What only a left-out feature uses, the linker leaves out. The build with all of them, which is linted, has no dead code.
#![cfg_attr(
    not(all(
        feature = "training",
        feature = "threads",
        feature = "files",
        feature = "capi",
        feature = "keras",
        feature = "torch",
        feature = "onnx"
    )),
    allow(dead_code, unused_imports, unused_variables)
)]

mod cell;
mod dispatch;
mod error;
#[cfg(feature = "files")]
mod export;
#[cfg(feature = "capi")]
#[doc(hidden)]
pub mod ffi;
#[cfg(feature = "files")]
mod formats;
mod gemm;
#[cfg(feature = "files")]
mod import;
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

pub use cell::{GruCell, LstmCell, SimpleRnnCell};
pub use dispatch::{Isa, isa, multiply_adds};
pub use error::{Error, Result};
#[cfg(feature = "files")]
pub use export::Format;
#[cfg(feature = "files")]
pub use import::{LoadOptions, Origin, Output};
pub use layers::{
    Activation, Bidirectional, Dense, Dropout, Embedding, Gru, Initializer, LastStep, Layer, Lstm, Masking,
    MergeMode, Recurrent, Shape, SimpleRnn, Unroll, Variable, Weight,
};
pub use sequence::activate;
pub use sequential::{Input, Padding, RunOptions, Sequential, WeightBytes};
pub use stream::Stream;
#[cfg(feature = "training")]
pub use tape::Tape;
#[cfg(feature = "training")]
pub use training::{
    Advance, Batch, BatchEnd, Clipping, Epoch, Examples, Fit, Fitting, Loss, Optimizer, OptimizerState,
    Schedule, Score, Step, Trainer, TrainerConfig, Truncation,
};
