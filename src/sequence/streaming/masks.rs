//! Masked steps in a stream.
//!
//! A chunk's rows are ordered as a call's are, see [`StepSchedule`](crate::sequence::schedule::StepSchedule),
//! in the stream's own memory. The states stand in the order of the batch between chunks, and in that of the
//! ranks while a layer runs.

use super::super::input::Given;
use super::super::schedule::{count_ranks, rank_rows};
use super::layers::{Below, StepRange};
use super::plan::Plan;
use crate::memory::row_stride;

/// The index arrays of a stream, cut from its memory.
pub(super) struct Indices<'a> {
    /// The batch, for each step of a chunk: the counts of a chunk without masked steps.
    pub(super) full: &'a [usize],
    /// Where the rows of a chunk begin in the input.
    pub(super) offsets: &'a mut [usize],
    /// Those of masks; empty without.
    ordering: &'a mut [usize],
}

/// The order of a chunk's steps: see [`StepSchedule`](crate::sequence::schedule::StepSchedule).
pub(super) struct Order<'a> {
    /// By rank: the row of the batch.
    pub(super) order: &'a [usize],
    /// By compact step: how many ranks have it.
    pub(super) counts: &'a [usize],
    /// By compact row: where its input begins.
    pub(super) offsets: &'a [usize],
    /// By compact row: which row and step of the call it is.
    pub(super) positions: &'a [usize],
}

impl<'a> Indices<'a> {
    pub(super) fn new(plan: &Plan, indices: &'a mut [usize]) -> Self {
        let (full, rest) = indices.split_at_mut(plan.chunk);
        let (offsets, ordering) = rest.split_at_mut(plan.batch * plan.chunk);
        Self { full, offsets, ordering }
    }

    /// Whether no step of a chunk is masked.
    pub(super) fn uses_all(&self, plan: &Plan, given: &Given<'_>, range: StepRange) -> bool {
        let mut times = range.first..range.first + range.count;
        times.all(|time| (0..plan.batch).all(|row| given.mask.uses(row, time, range.steps)))
    }

    /// Orders the rows of a chunk by their number of used steps, the longest first.
    pub(super) fn arrange(&mut self, plan: &Plan, given: &Given<'_>, range: StepRange) -> Order<'_> {
        let batch = plan.batch;
        let end = range.first + range.count;
        let (order, rest) = self.ordering.split_at_mut(batch);
        let (lengths, rest) = rest.split_at_mut(batch);
        let (next, rest) = rest.split_at_mut(batch);
        let (counts, positions) = rest.split_at_mut(plan.chunk + 1);
        let uses = |row: usize, time: usize| given.mask.uses(row, time, range.steps);
        for (row, length) in lengths.iter_mut().enumerate() {
            *length = (range.first..end).filter(|&time| uses(row, time)).count();
        }
        // `counts` serves as the first ranks by length until it is known.
        rank_rows(lengths, counts, order);
        let mut steps = 0;
        count_ranks(
            batch,
            |rank| lengths[order[rank]],
            |count| {
                counts[steps] = count;
                steps += 1;
            },
        );
        let counts = &counts[..steps];
        next.fill(range.first);
        let mut compact = 0;
        for &count in counts {
            for (&row, next) in order[..count].iter().zip(next.iter_mut()) {
                while !uses(row, *next) {
                    *next += 1;
                }
                let position = row * range.steps + *next;
                (self.offsets[compact], positions[compact]) = (given.map.offset(position), position);
                *next += 1;
                compact += 1;
            }
        }
        Order { order, counts, offsets: &self.offsets[..compact], positions: &positions[..compact] }
    }
}

/// Which row of the batch each rank is, and room for the states of one layer.
pub(super) struct ByRank<'a> {
    pub(super) order: &'a [usize],
    pub(super) aside: &'a mut [f32],
}

impl ByRank<'_> {
    /// Puts an array of states, `stride` apart, into the order of ranks; there may be none.
    pub(super) fn order_by_rank(&mut self, states: &mut [f32], stride: usize) {
        let aside = &mut self.aside[..states.len()];
        aside.copy_from_slice(states);
        for (to, &row) in states.chunks_exact_mut(stride).zip(self.order) {
            to.copy_from_slice(&aside[row * stride..][..stride]);
        }
    }

    /// Puts them back into the order of the batch.
    pub(super) fn order_by_row(&mut self, states: &mut [f32], stride: usize) {
        let aside = &mut self.aside[..states.len()];
        aside.copy_from_slice(states);
        for (from, &row) in aside.chunks_exact(stride).zip(self.order) {
            states[row * stride..][..stride].copy_from_slice(from);
        }
    }
}

/// Puts the rows of a chunk into the caller's sequence.
pub(super) fn write_masked(plan: &Plan, rows: &Below<'_>, positions: &[usize], y: &mut [f32]) {
    for (i, &position) in positions.iter().enumerate() {
        y[position * plan.columns..][..plan.columns].copy_from_slice(&rows.row(i)[..plan.columns]);
    }
}

/// Fills the masked steps of a chunk: with the output before, or with that of zeros.
pub(super) fn repeat(plan: &Plan, given: &Given<'_>, range: StepRange, repeated: &[f32], y: &mut [f32]) {
    let (columns, stride) = (plan.columns, row_stride(plan.columns));
    let zeros = &repeated[plan.batch * stride..][..columns];
    for row in 0..plan.batch {
        for time in range.first..range.first + range.count {
            if given.mask.uses(row, time, range.steps) {
                continue;
            }
            let at = (row * range.steps + time) * columns;
            if plan.zero_output {
                y[at..at + columns].copy_from_slice(zeros);
            } else if time == 0 {
                y[at..at + columns].copy_from_slice(&repeated[row * stride..][..columns]);
            } else {
                y.copy_within(at - columns..at, at);
            }
        }
    }
}
