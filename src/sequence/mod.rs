//! Time: how a network walks a batch of sequences.
//!
//! # The idea
//! Rows are ordered by how many steps they really have, the longest first, and each row's steps are counted
//! without its masked ones. Then *compact step* j runs the first `counts[j]` rows, `counts` never grows, and
//! a masked step costs nothing, wherever it lies. A recurrent layer keeps for a chunk of compact steps one
//! buffer of rows: first the states before the chunk, then a slot of rows for each step. One product over all
//! rows of the chunk fills the slots with `x·W + b`; the driver then turns slot after slot into states in
//! place. The layer above reads them from there while they are still in the second-level cache.
//!
//! Layers that can follow each other chunk by chunk form a [`Stage`](network::Stage). A layer that must see
//! the end of a sequence first (one that walks backwards above another recurrent layer, a Bidirectional)
//! begins a stage of its own, fed from a whole sequence in memory. The layers above the last step are the
//! head.
//!
//! Threads share the rows of a batch; where there are too few, they share the columns of large layers, the
//! halves of a Bidirectional layer, or the layers of a stack on different chunks.
//!
//! A [`Streaming`] goes on from where its last call ended, in memory of its own.
//!
//! A masked step's output repeats the one before (or is padding); that is filled in only where somebody reads
//! it.
//!
//! # Where what is said
//! Three executors carry a network over time: `run` a call, `streaming` a stream, `tape` a pass
//! that is gone back. What they share is said once:
//! - `schedule`: the order of rows and steps, which position each output has, and which ones are padding;
//! - `cells`: a layer over a chunk of steps; `walk`: a simple cell's sums become states, step by step;
//! - `output`: rows to their positions; `merge`: two directions into one sequence;
//! - `head`: the last step of each row, the layers above it, and the padding row;
//! - `states`: the caller's states to the rows of ranks and back; `input`: what a call reads.

mod cells;
mod halves;
mod head;
mod input;
mod layered;
mod looped;
mod merge;
mod network;
mod output;
mod parallel;
mod pipeline;
mod run;
mod schedule;
mod scratch;
mod states;
mod streaming;
#[cfg(feature = "training")]
mod tape;
mod unrolled;
mod walk;

pub(crate) use cells::{gated_step_len, states_before, step_gated};
pub(crate) use input::{Call, check_tokens};
pub use input::{Input, Padding};
pub(crate) use network::Network;
pub(crate) use parallel::Threads;
pub use pipeline::activate;
pub(crate) use pipeline::{step, step_padded};
pub(crate) use run::run;
pub(crate) use scratch::ScratchPool;
pub(crate) use streaming::{Memory, Plan, Slot, Streaming};
#[cfg(feature = "training")]
pub(crate) use tape::{Mode, Tape, clip_factor, scale, sum_of_squares};
