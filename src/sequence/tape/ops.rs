//! What a network is on a tape: operations, the values that flow between them, and what the backward pass
//! multiplies by.

use super::super::schedule::{Direction, StepSchedule};
use super::gated::{GateMatrices, Gates};
use crate::dispatch::kernels;
use crate::error::{Error, Result};
use crate::gemm::PackedMatrix;
use crate::layers::{BuiltLayer, Cell, Dense, Layer, MergeMode, Packed, PackedDense, PackedRnn};
use crate::memory::{AlignedVec, List, row_stride};
use crate::sequence::network::Network;

/// How the rows of a value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In the input, which is kept apart.
    Source,
    /// Compact steps of a direction, longest rows first.
    Compact { reversed: bool },
    /// `[batch, steps]`.
    Positions,
    /// `[batch]`.
    Last,
}

/// What flows between operations, with its gradient.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) layout: Layout,
    pub(super) features: usize,
    pub(super) stride: usize,
    /// Arrays one behind the other: two where a Bidirectional layer does not merge.
    pub(super) arrays: usize,
    /// Whether a row for each rank, the states before the first step, stands in front.
    pub(super) carried: bool,
    pub(super) rows: AlignedVec,
    pub(super) gradient: AlignedVec,
    /// By rank, the gradient of the last state of each row, where `has_ends`.
    pub(super) ends: AlignedVec,
    pub(super) has_ends: bool,
    /// Whether `gradient` holds anything yet.
    pub(super) filled: bool,
}

/// One direction of a recurrent layer.
#[derive(Debug)]
pub(super) struct RnnOp {
    pub(super) layer: usize,
    pub(super) half: usize,
    /// Floats of state a row of the recurrent directions before this one.
    pub(super) state_base: usize,
    pub(super) cell: Cell,
    pub(super) reversed: bool,
    pub(super) input: usize,
    pub(super) output: usize,
    /// Where the rows of the input begin, where they do not stand in this layer's order.
    pub(super) offsets: List<usize>,
    /// Whether the last forward pass dropped something of the input, and of the states.
    pub(super) drops: [bool; 2],
    /// `[batch, features]`, where something is dropped; one for each gate where it is [by
    /// gate](RnnOp::by_gate).
    pub(super) input_mask: AlignedVec,
    /// `[batch, units]`, the same.
    pub(super) recurrent_mask: AlignedVec,
    /// Of an LSTM or a GRU.
    pub(super) gated: Option<Box<Gates>>,
    /// By time and row, two sums each: what the norm of `dLoss/dh_t` is made of.
    pub(super) squares: List<f32>,
}

#[derive(Debug)]
pub(super) struct DenseOp {
    pub(super) layer: usize,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) offsets: List<usize>,
    /// Whether the network's output is this layer's.
    pub(super) last: bool,
}

/// How a value is turned into another.
#[derive(Debug)]
pub(super) enum Op {
    Rnn(Box<RnnOp>),
    /// Compact steps to positions, masked ones repeating the output before them or padding.
    Expand {
        input: usize,
        output: usize,
        direction: Direction,
    },
    /// Compact steps to the last one.
    Last {
        input: usize,
        output: usize,
        direction: Direction,
    },
    /// Positions to the last one.
    LastPosition {
        input: usize,
        output: usize,
    },
    Merge {
        mode: MergeMode,
        inputs: [usize; 2],
        output: usize,
    },
    Dense(Box<DenseOp>),
    Dropout {
        layer: usize,
        rate: f32,
        input: usize,
        output: usize,
    },
}

/// What an operation's backward pass multiplies by: transposes, packed.
#[derive(Debug)]
pub(super) struct Back {
    pub(super) kernel: PackedMatrix,
    /// Of a recurrent layer; of a GRU with reset before, that of z and r.
    pub(super) recurrent: Option<PackedMatrix>,
    /// Of a GRU with reset before: that of n.
    pub(super) candidate: Option<PackedMatrix>,
    /// Of a layer whose gates may have masks of their own.
    pub(super) by_gate: List<GateMatrices>,
}

impl Value {
    pub(super) fn new(layout: Layout, features: usize) -> Self {
        Self {
            layout,
            features,
            stride: row_stride(features),
            arrays: 1,
            carried: false,
            rows: AlignedVec::empty(),
            gradient: AlignedVec::empty(),
            ends: AlignedVec::empty(),
            has_ends: false,
            filled: false,
        }
    }

    /// Rows, those in front not counted.
    pub(super) fn count(&self, schedule: &StepSchedule) -> usize {
        match self.layout {
            Layout::Source => 0,
            Layout::Compact { .. } => schedule.total(),
            Layout::Positions => self.arrays * schedule.batch * schedule.steps,
            Layout::Last => self.arrays * schedule.batch,
        }
    }

    /// Floats before the first row.
    pub(super) fn lead(&self, schedule: &StepSchedule) -> usize {
        if self.carried { schedule.batch * self.stride } else { 0 }
    }
}

impl Op {
    /// The layer and the half whose weights it has.
    pub(super) fn layer_and_half(&self) -> Option<(usize, usize)> {
        match self {
            Op::Rnn(op) => Some((op.layer, op.half)),
            Op::Dense(op) => Some((op.layer, 0)),
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => None,
        }
    }

    /// Room for what the backward pass multiplies by.
    pub(super) fn back(&self, network: &Network) -> Result<Option<Back>> {
        let kernels = kernels()?;
        let transposed = |rows, columns| PackedMatrix::zeroed(kernels, columns, rows);
        Ok(match self {
            Op::Rnn(op) => {
                let built = &network.layers[op.layer];
                let rnn = rnn_of(built, op.half)?;
                let (units, gates) = (rnn.units(), rnn.gates());
                let first = if rnn.resets_before() { gates - 1 } else { gates };
                let by_gate = match built.layer.recurrent() {
                    Some(layer) if gates > 1 && layer.options().recurrent_dropout > 0.0 => {
                        let make = |_| GateMatrices::new(kernels, built.input.features, rnn);
                        List::collected((0..gates).map(make))?
                    }
                    _ => List::new(),
                };
                Some(Back {
                    kernel: transposed(built.input.features, gates * units)?,
                    recurrent: Some(transposed(units, first * units)?),
                    candidate: (first < gates).then(|| transposed(units, units)).transpose()?,
                    by_gate,
                })
            }
            Op::Dense(op) => {
                let built = &network.layers[op.layer];
                let kernel = transposed(built.input.features, built.output.features)?;
                Some(Back { kernel, recurrent: None, candidate: None, by_gate: List::new() })
            }
            Op::Expand { .. }
            | Op::Last { .. }
            | Op::LastPosition { .. }
            | Op::Merge { .. }
            | Op::Dropout { .. } => None,
        })
    }
}

/// One direction of a layer.
pub(super) fn rnn_of(layer: &BuiltLayer, half: usize) -> Result<&PackedRnn> {
    match &layer.packed {
        Packed::Rnn(rnn) => Ok(rnn),
        Packed::Both(both) => Ok(&both[half]),
        Packed::Plain | Packed::Dense(_) => {
            Err(Error::Unsupported("the network has changed its layers".into()))
        }
    }
}

pub(super) fn dense_of(layer: &BuiltLayer) -> Result<(&Dense, &PackedDense)> {
    match (&layer.layer, &layer.packed) {
        (Layer::Dense(config), Packed::Dense(dense)) => Ok((config, dense)),
        _ => Err(Error::Unsupported("the network has changed its layers".into())),
    }
}

/// What was looked at when room was taken, before anything was computed.
pub(super) fn looked_at<T>(found: Result<T>) -> T {
    found.unwrap_or_else(|_| unreachable!("the layers were looked at when room was taken"))
}
