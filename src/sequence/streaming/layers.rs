//! The layers of a stream, one behind the other over a chunk of steps after the other.

use super::super::cells;
use super::super::head::StridedRows;
use super::super::input::{Given, Input, Inputs};
use super::super::network::Network;
use super::super::pipeline::{Map, fully_connected, keep_last};
use super::super::walk::Steps;
use super::masks::ByRank;
use super::plan::{Plan, Room, buffer_len};
use crate::error::Result;
use crate::gemm::Rows;
use crate::layers::{Packed, PackedDense, PackedRnn};
use crate::memory::row_stride;

/// A chunk of a call's steps.
#[derive(Clone, Copy)]
pub(super) struct StepRange {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Of the whole call.
    pub(super) steps: usize,
}

/// What a call reads. Steps are looked at for masks only where the plan says that there may be some.
pub(super) fn read<'a>(network: &'a Network, plan: &Plan, input: Input<'a>) -> Result<Given<'a>> {
    let inputs = Inputs { input, mask: None, lengths: None };
    if plan.masks { inputs.read(network) } else { inputs.read_unmasked(network) }
}

/// The rows that a layer reads; see [`StridedRows`] for why they are no [`Rows`].
#[derive(Clone, Copy)]
pub(super) struct Below<'a> {
    rows: StridedRows<'a>,
    /// Where each row begins; empty where they follow each other.
    offsets: &'a [usize],
}

impl<'a> Below<'a> {
    /// Rows that follow each other.
    #[inline(always)]
    fn strided(values: &'a [f32], stride: usize) -> Self {
        Self { rows: StridedRows { values, stride }, offsets: &[] }
    }

    /// Rows that begin at `offsets`.
    #[inline(always)]
    pub(super) fn scattered(values: &'a [f32], offsets: &'a [usize]) -> Self {
        Self { rows: StridedRows { values, stride: 0 }, offsets }
    }

    #[inline(always)]
    fn rows(&self, count: usize) -> Rows<'a> {
        if self.offsets.is_empty() {
            self.rows.rows(count)
        } else {
            Rows::Scattered { values: self.rows.values, offsets: self.offsets }
        }
    }

    /// From the first float of a row on.
    #[inline(always)]
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        let at = self.offsets.get(index).copied().unwrap_or(index * self.rows.stride);
        &self.rows.values[at..]
    }
}

/// The input rows of a chunk, step by step.
#[inline(always)]
pub(super) fn unmasked_rows<'a>(
    plan: &Plan,
    given: &Given<'a>,
    range: StepRange,
    offsets: &'a mut [usize],
) -> Below<'a> {
    if matches!(given.map, Map::Features(_)) && (plan.batch == 1 || range.count == 1) {
        let values = &given.values[range.first * plan.features..];
        let stride = if plan.batch == 1 { 1 } else { range.steps };
        return Below::strided(values, stride * plan.features);
    }
    let mut to = offsets.iter_mut();
    for step in 0..range.count {
        for (row, to) in to.by_ref().take(plan.batch).enumerate() {
            *to = given.map.offset(row * range.steps + range.first + step);
        }
    }
    Below::scattered(given.values, offsets)
}

/// Runs the layers over the steps of a chunk, and leaves the states where the next chunk finds them. Without
/// `by_rank` every row has every step. Gives the rows of the last layer.
pub(super) fn run_layers<'a>(
    network: &Network,
    plan: &Plan,
    body: &'a mut [f32],
    by_rank: Option<ByRank<'_>>,
    input: Below<'a>,
    steps: Steps<'_>,
) -> Below<'a> {
    let rows = steps.rows();
    let (mut input, mut rest, mut by_rank) = (input, body, by_rank);
    for layer in &network.layers[..network.head.start] {
        match &layer.packed {
            Packed::Rnn(rnn) => {
                let (buffer, others) = rest.split_at_mut(Room::of(rnn, plan).len());
                rest = others;
                input = recurrent(rnn, plan, buffer, by_rank.as_mut(), input.rows(rows), steps);
            }
            Packed::Dense(dense) => {
                let (buffer, others) = rest.split_at_mut(buffer_len(layer, plan));
                rest = others;
                input = dense_rows(dense, buffer, input.rows(rows), rows);
            }
            Packed::Plain | Packed::Both(_) => {}
        }
    }
    input
}

#[inline(always)]
fn recurrent<'a>(
    rnn: &PackedRnn,
    plan: &Plan,
    buffer: &'a mut [f32],
    by_rank: Option<&mut ByRank<'_>>,
    input: Rows<'_>,
    steps: Steps<'_>,
) -> Below<'a> {
    let (stride, room) = (row_stride(rnn.units()), Room::of(rnn, plan));
    let carried = room.states;
    let (buffer, rest) = buffer.split_at_mut(carried + room.rows);
    let (cell_states, gates) = rest.split_at_mut(room.cell_states);
    let mut by_rank = by_rank;
    if let Some(by_rank) = &mut by_rank {
        by_rank.order_by_rank(&mut buffer[..carried], stride);
        by_rank.order_by_rank(cell_states, stride);
    }
    let chunk = cells::Chunk { rows: buffer, carried: plan.batch, gates, cell_states: &mut *cell_states };
    cells::carry(rnn, input, chunk, steps, None);
    match by_rank {
        None => {
            let last = carried + (steps.rows() - plan.batch) * stride;
            buffer.copy_within(last..last + carried, 0);
        }
        Some(by_rank) => {
            let (states, sums) = buffer.split_at_mut(carried);
            keep_last(sums, stride, steps.counts, 0, states);
            by_rank.order_by_row(states, stride);
            by_rank.order_by_row(cell_states, stride);
        }
    }
    Below::strided(&buffer[carried..], stride)
}

#[inline(always)]
fn dense_rows<'a>(dense: &PackedDense, buffer: &'a mut [f32], input: Rows<'_>, rows: usize) -> Below<'a> {
    let stride = row_stride(dense.kernel.columns());
    fully_connected(dense, input, rows, buffer, stride);
    Below::strided(buffer, stride)
}

/// Puts the rows of a chunk without masked steps into the caller's sequence.
pub(super) fn write(plan: &Plan, rows: &Below<'_>, range: StepRange, y: &mut [f32]) {
    let columns = plan.columns;
    for step in 0..range.count {
        for row in 0..plan.batch {
            let at = row * range.steps + range.first + step;
            let from = &rows.row(step * plan.batch + row)[..columns];
            y[at * columns..][..columns].copy_from_slice(from);
        }
    }
}
