//! Everything that changes while a network runs, held apart from the network and used again.

use super::work::{Bounds, Work};
use crate::memory::{AlignedVec, List};
use crate::process::Spares;

/// A whole sequence in memory, between stages.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// Rows of outputs, `stride` floats apart; the last one is the blank row.
    pub(super) values: Buffer,
    pub(super) stride: usize,
    /// For each row of the batch and position, `[batch, steps]`: where its output begins in `values`.
    pub(super) offsets: List<usize>,
}

/// An aligned buffer that starts empty.
#[derive(Debug)]
pub(super) struct Buffer(pub(super) AlignedVec);

impl Default for Buffer {
    fn default() -> Self {
        Self(AlignedVec::empty())
    }
}

/// The buffers of one walk over the chunks of a stage.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// By layer: the rows of a chunk.
    pub(super) chunks: List<Buffer>,
    /// By layer: the gates of a chunk, where the layer has such.
    pub(super) gates: List<Buffer>,
    /// Where the rows of a chunk begin in the input.
    pub(super) offsets: List<usize>,
    /// The rows of a chunk of the input side by side, where that pays.
    pub(super) gathered: Buffer,
    /// By layer, where another thread runs the layer above: what it gave for a chunk and for the one before, and what of it
    /// has arrived.
    pub(super) handed: List<[Buffer; 3]>,
}

/// The buffers of one run.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) work: Work,
    /// What a walk over the chunks needs; the halves of a Bidirectional layer may walk at the same time.
    pub(super) lanes: [Lane; 2],
    /// By direction of a recurrent layer: the last states of each rank, array by array.
    pub(super) states: List<Buffer>,
    /// What the stage before gave, and what this one gives.
    pub(super) wholes: [Whole; 2],
    /// The halves of a Bidirectional layer.
    pub(super) halves: [Whole; 2],
    /// The output of a masked step before any other.
    pub(super) blank: [Buffer; 2],
    /// The rows of the head.
    pub(super) head: [Buffer; 2],
    /// What there is room for, and whether layers may run on different threads.
    pub(super) ready: (Bounds, bool),
}

/// Scratch that is not in use, each in a box: it is a kilobyte, and a short call hands it on a few times.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool(Spares<Box<Scratch>>);

impl ScratchPool {
    /// A used one where there is one.
    pub(crate) fn take(&self) -> Box<Scratch> {
        self.0.take().unwrap_or_default()
    }

    /// Keeps it for the next call, unless there is no memory for the list.
    pub(crate) fn give(&self, scratch: Box<Scratch>) {
        self.0.give(scratch);
    }
}
