//! Everything that changes while a network runs, held apart from the network and used again.

use super::halves::stage_width;
use super::head::{head_len, padding_len};
use super::network::{Network, Stage};
use super::output::Materialised;
use super::pipeline::{self, StageHalf};
use super::schedule::{Bounds, StepSchedule};
use crate::error::Result;
use crate::memory::{AlignedVec, List, row_stride};
use crate::process::Spares;

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
pub(super) struct StageBuffers {
    /// By layer: the rows of a chunk.
    pub(super) chunks: List<Buffer>,
    /// By layer: the gates of a chunk, where the layer has such.
    pub(super) gates: List<Buffer>,
    /// Where the rows of a chunk begin in the input.
    pub(super) offsets: List<usize>,
    /// The rows of a chunk of the input side by side, where that pays.
    pub(super) gathered: Buffer,
    /// By layer, where another thread runs the layer above: what it gave for a chunk and for the one before,
    /// and what of it has arrived.
    pub(super) handed: List<[Buffer; 3]>,
}

/// The buffers of one run.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) schedule: StepSchedule,
    /// What a walk over the chunks needs; the halves of a Bidirectional layer may walk at the same time.
    pub(super) buffers: [StageBuffers; 2],
    /// By direction of a recurrent layer: the last states of each rank, array by array.
    pub(super) states: List<Buffer>,
    /// What the stage before gave, and what this one gives.
    pub(super) sequences: [Materialised; 2],
    /// The halves of a Bidirectional layer.
    pub(super) halves: [Materialised; 2],
    /// The output of a masked step before any other, and what it is made of.
    pub(super) padding: Buffer,
    /// The rows of the head.
    pub(super) head: Buffer,
    /// What there is room for, and whether layers may run on different threads.
    pub(super) ready: (Bounds, bool),
}

impl Scratch {
    /// Takes the room for a batch within `bounds`; `by_layers` where layers may run on different threads.
    pub(super) fn reserve(&mut self, network: &Network, bounds: Bounds, by_layers: bool) -> Result<()> {
        let (there, was_by_layers) = self.ready;
        if there.cover(&bounds) && (was_by_layers || !by_layers) {
            return Ok(());
        }
        self.ready = Default::default();
        self.schedule.reserve(&bounds)?;
        self.states.grow_with(network.recurrent().count(), Buffer::default)?;
        for ((_, rnn), state) in network.recurrent().zip(self.states.iter_mut()) {
            state.0.reserve_rows(bounds.batch.saturating_mul(rnn.states()), row_stride(rnn.units()))?;
        }
        for (at, stage) in network.stages.iter().enumerate() {
            self.reserve_stage(network, (at, stage), &bounds, by_layers)?;
        }
        if !network.output.sequence {
            self.head.0.reserve_rows(bounds.batch.saturating_add(1), head_len(network))?;
        }
        self.ready = (bounds, by_layers);
        Ok(())
    }

    fn reserve_stage(
        &mut self,
        network: &Network,
        (at, stage): (usize, &Stage),
        bounds: &Bounds,
        by_layers: bool,
    ) -> Result<()> {
        let layers = &network.layers[stage.layers.clone()];
        let output = layers.last().map_or(network.input, |layer| layer.output);
        let is_kept = output.sequence && !network.is_last_stage(at);
        let positions = bounds.batch.saturating_mul(bounds.steps);
        // One row more, of padding.
        let rows = bounds.total.saturating_add(1);
        // Stages write the two in turn.
        let sequence = &mut self.sequences[(at + 1) % 2];
        if stage.both {
            for (half, (buffers, sequence)) in self.buffers.iter_mut().zip(&mut self.halves).enumerate() {
                pipeline::reserve(StageHalf { network, stage, half: Some(half) }, buffers, bounds, false)?;
                if output.sequence {
                    sequence.reserve(rows, positions, stage_width(network, stage, half))?;
                }
            }
            if is_kept {
                sequence.reserve(positions, positions, output.features)?;
            }
            return Ok(());
        }
        let which = StageHalf { network, stage, half: None };
        pipeline::reserve(which, &mut self.buffers[0], bounds, by_layers)?;
        self.padding.0.reserve_scratch(padding_len(layers))?;
        if is_kept {
            sequence.reserve(rows, positions, output.features)?;
        }
        Ok(())
    }
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
