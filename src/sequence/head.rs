//! What stands above time: the last step of each row, and the layers that compute row by row.
//!
//! A layer that gives its last output alone gives the last state of each row, or zeros where the row's last
//! position is padding. The layers above it, the head, compute row by row. So do the dense layers above the
//! last recurrent layer of a sequence, and what they make of zeros is the padding row: the output of a masked
//! step before any other.
//!
//! A call and a stream run these layers here. A tape keeps what each one gives, so there each is an operation
//! of its own.

use std::sync::Arc;

use super::merge::Merged;
use super::network::Network;
use super::output::Materialised;
use super::pipeline::fully_connected;
use super::schedule::{Direction, StepSchedule};
use super::scratch::Buffer;
use crate::gemm::Rows;
use crate::layers::{BuiltLayer, Layer, Options};
use crate::memory::row_stride;

/// Rows `stride` floats apart.
///
/// [`Rows`] are made of them where they are used: handed on from layer to layer, the enum goes through memory
/// in pieces and is read back whole, which stalls for as long as a small layer's product takes.
#[derive(Clone, Copy)]
pub(super) struct StridedRows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> StridedRows<'a> {
    #[inline(always)]
    pub(super) fn rows(&self, count: usize) -> Rows<'a> {
        Rows::Strided { values: self.values, stride: self.stride, count }
    }

    /// From the first float of a row on.
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..]
    }
}

/// Applies layers that compute row by row to `count` rows, and gives the rows of the last one. There is
/// [room](row_wise_len) for what each layer gives.
pub(super) fn row_wise<'a>(
    layers: &[Arc<BuiltLayer>],
    x: StridedRows<'a>,
    count: usize,
    room: &'a mut [f32],
) -> StridedRows<'a> {
    let (mut x, mut rest) = (x, room);
    for layer in layers {
        if let Some(dense) = layer.packed.row_wise() {
            let stride = row_stride(dense.kernel.columns());
            let (y, others) = std::mem::take(&mut rest).split_at_mut(count * stride);
            rest = others;
            fully_connected(dense, x.rows(count), count, y, stride);
            x = StridedRows { values: y, stride };
        }
    }
    x
}

/// Floats of room for what [`row_wise`] layers give for one row.
fn row_wise_len(layers: &[Arc<BuiltLayer>]) -> usize {
    layers.iter().map(|layer| row_stride(layer.output.features)).sum()
}

/// The layers of a stage above its last recurrent one, which compute row by row.
pub(super) fn above_recurrent(layers: &[Arc<BuiltLayer>]) -> &[Arc<BuiltLayer>] {
    let recurrent = layers.iter().rposition(|layer| layer.packed.is_recurrent());
    &layers[recurrent.map_or(0, |at| at + 1)..]
}

/// Floats that [`padding_row`] needs for a stage's layers.
pub(super) fn padding_len(layers: &[Arc<BuiltLayer>]) -> usize {
    widest_row(layers) + row_wise_len(layers)
}

/// Floats of the longest row that a stage's layers read or give.
fn widest_row(layers: &[Arc<BuiltLayer>]) -> usize {
    let features = layers.iter().flat_map(|layer| [layer.input.features, layer.output.features]);
    features.map(row_stride).max().unwrap_or(0)
}

/// What a stage gives for a masked step before any other: zeros out of its last recurrent layer, or out of
/// the Bidirectional below it, through the dense layers above. Where no step is masked nobody reads it, and
/// it is zeros.
pub(super) fn padding_row<'a>(
    layers: &[Arc<BuiltLayer>],
    schedule: &StepSchedule,
    room: &'a mut Buffer,
) -> &'a [f32] {
    let (zeros, room) = room.0.split_at_mut(widest_row(layers));
    zeros.fill(0.0);
    let zeros = StridedRows { values: zeros, stride: 0 };
    if schedule.is_full() { zeros.values } else { row_wise(above_recurrent(layers), zeros, 1, room).values }
}

/// Floats a row that [`run`] needs, for one row more than the batch has.
pub(super) fn head_len(network: &Network) -> usize {
    let top = network.layers[..network.head.start].last().map_or(0, |top| top.output.features);
    row_stride(top) + row_wise_len(&network.layers[network.head.clone()])
}

/// What there is of a network's last steps: the last states of each direction by rank, and a whole sequence
/// where the last position of one is asked for.
#[derive(Clone, Copy)]
pub(super) struct Last<'a> {
    pub(super) states: &'a [Buffer],
    pub(super) sequence: &'a Materialised,
}

/// The last step of each row, and the layers above it.
pub(super) fn run(
    network: &Network,
    schedule: &StepSchedule,
    last: Last<'_>,
    room: &mut Buffer,
    output: &mut [f32],
) {
    let Some(top) = network.layers[..network.head.start].last() else { return };
    let layers = &network.layers[network.head.clone()];
    let (columns, stride) = (network.output.features, row_stride(top.output.features));
    let (zeros, room) = room.0.split_at_mut(stride);
    zeros.fill(0.0);
    let rows = LastRows { network, top, schedule, last, zeros };
    if layers.iter().all(|layer| layer.packed.row_wise().is_none()) {
        rows.put(output, columns);
        return;
    }
    let (x, room) = room.split_at_mut(schedule.batch * stride);
    rows.put(x, stride);
    put_rows(row_wise(layers, StridedRows { values: x, stride }, schedule.batch, room), output, columns);
}

/// Copies rows to the caller's, which have no gaps.
pub(super) fn put_rows(rows: StridedRows<'_>, output: &mut [f32], columns: usize) {
    for (row, to) in output.chunks_exact_mut(columns).enumerate() {
        to.copy_from_slice(&rows.row(row)[..columns]);
    }
}

/// The last step of each row, as the layer below the head gives it.
struct LastRows<'a> {
    network: &'a Network,
    top: &'a BuiltLayer,
    schedule: &'a StepSchedule,
    last: Last<'a>,
    zeros: &'a [f32],
}

impl LastRows<'_> {
    /// Writes the rows to `to`, in the order of the batch, `stride` floats apart.
    fn put(&self, to: &mut [f32], stride: usize) {
        let Self { network, top, schedule, last, .. } = self;
        let features = top.output.features;
        match &top.layer {
            Layer::Recurrent(rnn) => {
                let &Options { zero_output_for_mask: zero_output, .. } = rnn.options();
                let reversed = network.stages.last().is_some_and(|stage| stage.reversed);
                schedule.each_last(Direction { reversed, zero_output }, |row, rank| {
                    to[row * stride..][..features].copy_from_slice(self.state(1, rank, features));
                });
            }
            Layer::Bidirectional(both) => {
                let units = both.layer.options().units;
                let mut merged = Merged { mode: both.merge_mode, to, stride, count: schedule.batch };
                // Whatever the layer inside says: its masked steps repeat the last state, in both directions.
                schedule.each_last(Direction { reversed: false, zero_output: false }, |row, rank| {
                    merged.put(row, self.state(2, rank, units), self.state(1, rank, units));
                });
            }
            Layer::LastStep(_) => {
                for (row, to) in to.chunks_mut(stride).take(schedule.batch).enumerate() {
                    to[..features].copy_from_slice(last.sequence.row(schedule.last_place(row), features));
                }
            }
            Layer::Embedding(_) | Layer::Masking(_) | Layer::Dense(_) | Layer::Dropout(_) => {
                unreachable!("these turn no sequence into its last step")
            }
        }
    }

    /// The last state of a rank, or zeros, `back` directions before the end.
    fn state(&self, back: usize, rank: Option<usize>, units: usize) -> &[f32] {
        let states = self.last.states;
        match rank {
            Some(rank) => &states[states.len() - back].0[rank * row_stride(units)..][..units],
            None => &self.zeros[..units],
        }
    }
}
