//! A recurrent layer carried over a chunk of steps: the one place where sums become states.
//!
//! A layer's rows stand in one buffer: the states before the chunk, then a slot of rows for each step,
//! longest rows first. The product of the inputs is made for all rows of the chunk at once. A simple cell
//! makes it in the slots themselves, which then become states in place. A gated cell makes it in a buffer of
//! gates beside them; each step then makes the product of the states in a few rows more, and the cell's
//! kernel puts the new states into the slot.
//!
//! # Cell states
//! Ranks are ordered by length, so a row that has a step has every earlier one. An LSTM's cell states
//! therefore need one row a rank, changed in place, and a row that has ended keeps its last.

mod gated;
mod lone;
mod shared;

use super::parallel::{self, TeamGuard};
use super::walk::Steps;
use super::{looped, unrolled};
use crate::error::{Error, Result};
use crate::gemm::{Init, Rows, multiply};
use crate::layers::{PackedCell, PackedRnn};
use crate::memory::{checked_product, row_stride};

pub(super) use gated::{GatedStep, gated_step};
#[cfg(feature = "training")]
pub(super) use gated::{Kept, Product, gated_step_with};
use lone::{LoneSteps, lone_steps, no_input};
pub(super) use lone::{has_lone_steps, input_of, lone_step};
use shared::shared_steps;

/// What a layer works in over a chunk.
pub(super) struct Chunk<'a> {
    /// `carried` rows with the states before the first step, then a row for each row of each step.
    pub(super) rows: &'a mut [f32],
    pub(super) carried: usize,
    /// Of a gated cell: [`gates_len`] floats.
    pub(super) gates: &'a mut [f32],
    /// Of an LSTM: the cell states by rank, `row_stride` apart.
    pub(super) cell_states: &'a mut [f32],
}

/// Floats of [`Chunk::gates`] for `rows` rows in all, `most` in a step.
pub(super) fn gates_len(rnn: &PackedRnn, rows: usize, most: usize) -> usize {
    match rnn.cell {
        PackedCell::SimpleRnn(_) => 0,
        PackedCell::Lstm(_) | PackedCell::Gru(_) => {
            rows.saturating_add(most).saturating_mul(gate_stride(rnn))
        }
        PackedCell::GruResetBefore(..) => rows
            .saturating_add(most)
            .saturating_mul(gate_stride(rnn))
            .saturating_add(most.saturating_mul(row_stride(rnn.units()))),
    }
}

/// Floats from row to row of gates.
pub(super) fn gate_stride(rnn: &PackedRnn) -> usize {
    row_stride(rnn.kernel.columns())
}

/// Carries the layer over `steps`, whose rows read `input`; the new states stand in the slots.
pub(super) fn carry(
    rnn: &PackedRnn,
    input: Rows<'_>,
    chunk: Chunk<'_>,
    steps: Steps<'_>,
    team: Option<&mut TeamGuard>,
) {
    let Steps { counts, first } = steps;
    let Chunk { rows, carried, gates, cell_states } = chunk;
    let stride = row_stride(rnn.units());
    if let PackedCell::SimpleRnn(_) = rnn.cell {
        let (_, sums) = rows.split_at_mut(carried * stride);
        let init = Init::Bias(&rnn.bias);
        match team {
            Some(team) => {
                parallel::multiply(team, input, &rnn.kernel, init, sums, stride);
                parallel::steps(team, rnn, rows, stride, carried, steps);
            }
            None => {
                multiply(input, &rnn.kernel, init, sums, stride);
                let drive = if rnn.unrolled { unrolled::run } else { looped::run };
                drive(rnn, rows, stride, carried, steps);
            }
        }
        return;
    }
    let gate_stride = gate_stride(rnn);
    if counts == [1] && team.is_none() && has_lone_steps(rnn) {
        // Nothing is gained by making the sums of the input beforehand, and a call is saved.
        let x = &input.row(0)[..rnn.kernel.depth()];
        let input = input_of(rnn, x.as_ptr());
        let lone = LoneSteps { steps: 1, odd: first % 2 == 1, previous: 0, here: carried * stride };
        return lone_steps(rnn, lone, rows, (std::ptr::null(), input), cell_states);
    }
    let (gates, scratch) = gates.split_at_mut(steps.rows() * gate_stride);
    let init = Init::Bias(&rnn.bias);
    if let Some(team) = team {
        parallel::multiply(team, input, &rnn.kernel, init, gates, gate_stride);
        return shared_steps(rnn, team, Chunk { rows, carried, gates, cell_states }, scratch, steps);
    }
    multiply(input, &rnn.kernel, init, gates, gate_stride);
    let (mut previous, mut here, mut gate) = (0, carried * stride, 0);
    for (step, &count) in counts.iter().enumerate() {
        if count == 1 && has_lone_steps(rnn) {
            // No step has more rows than the one before.
            let lone = LoneSteps { steps: counts.len() - step, odd: (first + step) % 2 == 1, previous, here };
            let given = &gates[gate..];
            assert!(given.len() >= lone.steps * gate_stride, "gates: {} floats", given.len());
            let sums = (given.as_ptr(), no_input());
            return lone_steps(rnn, lone, rows, sums, cell_states);
        }
        let (before, after) = rows.split_at_mut(here);
        let state = GatedStep {
            count,
            gates: &mut gates[gate..][..count * gate_stride],
            h: &before[previous..],
            h_next: after,
            kept: None,
        };
        gated_step(rnn, state, cell_states, scratch, (first + step) % 2 == 1);
        (previous, here, gate) = (here, here + count * stride, gate + count * gate_stride);
    }
}

/// Floats of scratch of a gated cell's [`step`](step_gated) of `batch` rows.
pub(crate) fn gated_step_len(rnn: &PackedRnn, batch: usize) -> Result<usize> {
    let rows = checked_product("states", &[batch, 3, row_stride(rnn.units())])?;
    let len = rows.checked_add(gates_len(rnn, batch, batch));
    len.ok_or_else(|| Error::InvalidArgument(format!("a step of {batch} rows overflows")))
}

/// In the scratch of a step: where its states before it stand, h and c, `row_stride` apart.
pub(crate) fn states_before<'a>(rnn: &PackedRnn, batch: usize, scratch: &'a mut [f32]) -> [&'a mut [f32]; 2] {
    let states = batch * row_stride(rnn.units());
    let [h, c] = scratch.get_disjoint_mut([0..states, 2 * states..3 * states]).expect("apart");
    [h, c]
}

/// One step of a gated cell for `batch` rows; `scratch` has the [states before it](states_before). Gives the
/// next ones.
pub(crate) fn step_gated<'a>(
    rnn: &PackedRnn,
    x: &[f32],
    batch: usize,
    scratch: &'a mut [f32],
) -> [&'a [f32]; 2] {
    let states = batch * row_stride(rnn.units());
    let (rows, rest) = scratch.split_at_mut(2 * states);
    let (cell_states, gates) = rest.split_at_mut(states);
    let x = Rows::Strided { values: x, stride: rnn.kernel.depth(), count: batch };
    let chunk = Chunk { rows, carried: batch, gates, cell_states };
    carry(rnn, x, chunk, Steps { counts: &[batch], first: 0 }, None);
    [&rows[states..], cell_states]
}
