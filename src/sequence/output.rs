//! Where the outputs of compact steps go: to their positions in a sequence.
//!
//! [`StepSchedule`] says which position each output has, and how many masked ones follow it. A masked
//! position shows the output before it, or the padding row: what the layers make of zeros. Positions before a
//! row's first output always show that.
//!
//! [`Scatter`] writes rows into an array `[batch, steps]`: the caller's, or a tape's. [`Materialise`] keeps
//! every row once and lists where each position's begins, for a stage that must see the whole sequence first.

use super::pipeline::Chunk;
use super::schedule::{Direction, StepSchedule};
use super::scratch::Buffer;
use crate::error::Result;
use crate::memory::{List, row_stride};

/// Writes the rows of chunks into a sequence.
pub(super) struct Scatter<'a> {
    pub(super) schedule: &'a StepSchedule,
    pub(super) direction: Direction,
    /// `[batch, steps, columns]`.
    pub(super) to: &'a mut [f32],
    pub(super) columns: usize,
    pub(super) padding: &'a [f32],
}

impl Scatter<'_> {
    /// The positions before each row's first output.
    pub(super) fn lead(&mut self) {
        let Self { schedule, direction, ref mut to, columns, padding } = *self;
        schedule.each_lead(direction, |positions| {
            for to in to[positions.start * columns..positions.end * columns].chunks_exact_mut(columns) {
                to.copy_from_slice(&padding[..columns]);
            }
        });
    }

    /// The rows of a chunk, and the masked positions behind them.
    pub(super) fn take(&mut self, chunk: Chunk<'_>) {
        let Self { schedule, direction, ref mut to, columns, padding } = *self;
        if schedule.is_full() {
            debug_assert_eq!(schedule.output_positions(0, chunk.first, direction.reversed).0, chunk.first);
            return take_all(schedule, to, columns, chunk);
        }
        let pads = schedule.pads_between(direction);
        schedule.each_output(direction, (chunk.first, chunk.counts), |index, positions| {
            let from = &chunk.rows.row(index)[..columns];
            let mut to = to[positions.start * columns..positions.end * columns].chunks_exact_mut(columns);
            if let Some(to) = to.next() {
                to.copy_from_slice(from);
            }
            let masked = if pads { &padding[..columns] } else { from };
            to.for_each(|to| to.copy_from_slice(masked));
        });
    }
}

/// Every row has every step, in its place: an audio model of 20 units gives an output every 45 ns, so nothing
/// is looked up for it.
fn take_all(schedule: &StepSchedule, to: &mut [f32], columns: usize, chunk: Chunk<'_>) {
    let (steps, batch) = (chunk.counts.len(), schedule.batch);
    for row in 0..batch {
        let at = (row * schedule.steps + chunk.first) * columns;
        for (step, to) in to[at..at + steps * columns].chunks_exact_mut(columns).enumerate() {
            copy_short(to, &chunk.rows.row(step * batch + row)[..columns]);
        }
    }
}

/// `copy_from_slice` without a call where there are few.
fn copy_short(to: &mut [f32], from: &[f32]) {
    if to.len() > 64 {
        to.copy_from_slice(from);
        return;
    }
    let (to_blocks, to_rest) = to.as_chunks_mut::<8>();
    let (from_blocks, from_rest) = from.as_chunks::<8>();
    for (to, from) in to_blocks.iter_mut().zip(from_blocks) {
        *to = *from;
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = *from;
    }
}

/// A whole sequence in memory, between stages.
#[derive(Debug, Default)]
pub(super) struct Materialised {
    /// Rows of outputs, `stride` floats apart; the last one is the padding row.
    pub(super) values: Buffer,
    pub(super) stride: usize,
    /// For each position, `[batch, steps]`: where its output begins in `values`.
    pub(super) offsets: List<usize>,
}

impl Materialised {
    /// Room for `rows` rows at `positions` positions.
    pub(super) fn reserve(&mut self, rows: usize, positions: usize, columns: usize) -> Result<()> {
        self.offsets.make_room(positions)?;
        self.values.0.reserve_rows(rows, row_stride(columns))
    }

    /// The output at a position.
    pub(super) fn row(&self, position: usize, columns: usize) -> &[f32] {
        &self.values.0[self.offsets[position]..][..columns]
    }

    /// Room for one row at each position, one behind the other.
    pub(super) fn fill_all(&mut self, positions: usize, columns: usize) -> &mut [f32] {
        let stride = row_stride(columns);
        self.stride = stride;
        self.offsets.clear();
        self.offsets.extend((0..positions).map(|position| position * stride));
        &mut self.values.0
    }
}

/// Keeps the rows of chunks for the stage above.
pub(super) struct Materialise<'a> {
    schedule: &'a StepSchedule,
    direction: Direction,
    values: &'a mut [f32],
    offsets: &'a mut [usize],
    stride: usize,
    columns: usize,
    used: usize,
}

impl<'a> Materialise<'a> {
    /// There is room for every row, and for one of padding (zeros unless given).
    pub(super) fn new(
        to: &'a mut Materialised,
        schedule: &'a StepSchedule,
        direction: Direction,
        columns: usize,
        padding: Option<&[f32]>,
    ) -> Self {
        let stride = row_stride(columns);
        let total = schedule.total();
        to.stride = stride;
        to.offsets.clear();
        to.offsets.resize(schedule.batch * schedule.steps, total * stride);
        let last = &mut to.values.0[total * stride..][..columns];
        match padding {
            Some(padding) => last.copy_from_slice(&padding[..columns]),
            None => last.fill(0.0),
        }
        let (values, offsets) = (&mut to.values.0[..], &mut to.offsets[..]);
        Self { schedule, direction, values, offsets, stride, columns, used: 0 }
    }

    /// The rows of a chunk, and which positions show them.
    pub(super) fn take(&mut self, chunk: Chunk<'_>) {
        let Self { schedule, direction, ref mut values, ref mut offsets, stride, columns, ref mut used } =
            *self;
        let pads = schedule.pads_between(direction);
        schedule.each_output(direction, (chunk.first, chunk.counts), |index, positions| {
            let to = *used * stride;
            values[to..to + columns].copy_from_slice(&chunk.rows.row(index)[..columns]);
            let end = if pads { positions.start + 1 } else { positions.end };
            offsets[positions.start..end].fill(to);
            *used += 1;
        });
    }
}
