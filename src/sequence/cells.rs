//! A recurrent layer carried over a chunk of steps: the one place where sums become states.
//!
//! A layer's rows stand in one buffer: the states before the chunk, then a slot of rows for each step, longest rows first.
//! The product of the inputs is made for all rows of the chunk at once. A simple cell makes it in the slots themselves,
//! which then become states in place. A gated cell makes it in a buffer of gates beside them; each step then makes the
//! product of the states in a few rows more, and the cell's kernel puts the new states into the slot.
//!
//! # Cell states
//! Ranks are ordered by length, so a row that has a step has every earlier one. An LSTM's cell states therefore need one
//! row a rank, changed in place, and a row that has ended keeps its last.

use super::parallel::{self, Held};
use super::{looped, unrolled};
use crate::dispatch::{gru, lstm};
use crate::error::{Error, Result};
use crate::gemm::{Init, Rows, block_of, multiply, walk};
use crate::layers::{Gated, PackedCell, PackedRnn};
use crate::memory::{checked_product, row_stride};

/// Steps that follow each other: how many rows each has, never more than the one before, and the number of the first.
#[derive(Clone, Copy)]
pub(super) struct Steps<'a> {
    pub(super) counts: &'a [usize],
    pub(super) first: usize,
}

impl Steps<'_> {
    fn rows(&self) -> usize {
        self.counts.iter().sum()
    }
}

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
            .saturating_add(most.saturating_mul(2 * row_stride(rnn.units()))),
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
    team: Option<&mut Held>,
) {
    let Steps { counts, first } = steps;
    let Chunk { rows, carried, gates, cell_states } = chunk;
    let stride = row_stride(rnn.units());
    if let PackedCell::SimpleRnn(_) = rnn.cell {
        let (_, sums) = rows.split_at_mut(carried * stride);
        let init = Init::Bias(&rnn.bias);
        match team {
            Some(team) => {
                parallel::multiply(team, input, steps.rows(), &rnn.kernel, init, sums, stride);
                parallel::steps(team, rnn, rows, stride, carried, counts, first);
            }
            None => {
                multiply(input, &rnn.kernel, init, sums, stride);
                let drive = if rnn.unrolled { unrolled::run } else { looped::run };
                drive(rnn, rows, stride, carried, counts, first);
            }
        }
        return;
    }
    let gate_stride = gate_stride(rnn);
    let (gates, scratch) = gates.split_at_mut(steps.rows() * gate_stride);
    multiply(input, &rnn.kernel, Init::Bias(&rnn.bias), gates, gate_stride);
    let (mut previous, mut here, mut gate) = (0, carried * stride, 0);
    for (step, &count) in counts.iter().enumerate() {
        let (before, after) = rows.split_at_mut(here);
        let state = GatedStep {
            count,
            gates: &mut gates[gate..][..count * gate_stride],
            h: &before[previous..],
            h_next: after,
            kept: None,
        };
        let products = products(rnn, (first + step) % 2 == 1);
        gated_step(rnn, state, cell_states, scratch, products);
        (previous, here, gate) = (here, here + count * stride, gate + count * gate_stride);
    }
}

/// One step of a gated cell.
pub(super) struct GatedStep<'a> {
    pub(super) count: usize,
    /// `x·W + b`; where the step is kept for the way back, the gates afterwards.
    pub(super) gates: &'a mut [f32],
    pub(super) h: &'a [f32],
    pub(super) h_next: &'a mut [f32],
    pub(super) kept: Option<Kept<'a>>,
}

/// What the way back needs of a step beside gates and states.
pub(super) struct Kept<'a> {
    /// Of an LSTM: the cell states before the step, which are otherwise changed in place.
    pub(super) cell_states: &'a [f32],
    /// Of a GRU with reset after: receives the candidate's share of the state.
    pub(super) candidate: &'a mut [f32],
}

/// The product of states that a step asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// With the columns of [`PackedRnn::recurrent`].
    Gates,
    /// Of a GRU with reset before: `(r·h)·Un`.
    Candidate,
}

/// Makes a product: of these rows, into these sums, which are so many floats apart.
pub(super) trait Multiply: FnMut(Product, Rows<'_>, &mut [f32], usize) {}
impl<F: FnMut(Product, Rows<'_>, &mut [f32], usize)> Multiply for F {}

/// The products of a step with the layer's own matrices, the panels of large ones from the last to the first where `odd`, so
/// that a step starts on the weights that the last one left in the cache.
pub(super) fn products(rnn: &PackedRnn, odd: bool) -> impl Multiply {
    move |product, rows, sums: &mut [f32], stride| {
        let (matrix, start) = match (&rnn.cell, product) {
            (PackedCell::Lstm(gated) | PackedCell::Gru(gated), _)
            | (PackedCell::GruResetBefore(gated, _), Product::Gates) => (&rnn.recurrent, &gated.start),
            (PackedCell::GruResetBefore(gated, matrix), Product::Candidate) => (matrix, &gated.start),
            (PackedCell::SimpleRnn(_), _) => unreachable!("a simple cell has no gates"),
        };
        let count = rows.count();
        if let Some(block) = block_of(rows, matrix, Init::Bias(start), sums, stride) {
            // SAFETY: `block_of` checked the arrays, and `start`, which a shared reference keeps apart from `sums`. There is
            // no step after this one.
            unsafe { walk(matrix, block, &[count], None, usize::from(odd)) };
        }
    }
}

/// Carries out a step, whose products `multiply` makes. `cell_states` are those of an LSTM, `scratch` what [`gates_len`] has
/// beside the rows.
pub(super) fn gated_step(
    rnn: &PackedRnn,
    step: GatedStep<'_>,
    cell_states: &mut [f32],
    scratch: &mut [f32],
    mut multiply: impl Multiply,
) {
    let GatedStep { count, gates, h, h_next, kept } = step;
    let (units, stride, gate_stride) = (rnn.units(), row_stride(rnn.units()), gate_stride(rnn));
    let rows = count * stride;
    let h = &h[..rows];
    let h_next = &mut h_next[..rows];
    let gates = &mut gates[..count * gate_stride];
    let (sums, scratch) = scratch.split_at_mut(count * gate_stride);
    let kernels = rnn.recurrent.kernels();
    let states = Rows::Strided { values: h, stride, count };
    let keep = kept.is_some();
    multiply(Product::Gates, states, sums, gate_stride);
    match &rnn.cell {
        PackedCell::SimpleRnn(_) => unreachable!("a simple cell has no gates"),
        PackedCell::Lstm(gated) => {
            let c_next = cell_states[..rows].as_mut_ptr();
            let c = match &kept {
                Some(kept) => kept.cell_states[..rows].as_ptr(),
                None => c_next.cast_const(),
            };
            let step = lstm::Step {
                rows: count,
                units,
                functions: gated.functions,
                gates: gates.as_mut_ptr(),
                gates_stride: gate_stride,
                keep,
                sums: sums.as_ptr(),
                sums_stride: gate_stride,
                c,
                c_next,
                h_next: h_next.as_mut_ptr(),
                stride,
            };
            // SAFETY: the slices above hold `count` rows each: gates of `gate_stride` floats, which are at least the
            // columns of the kernel, and states of `stride` floats, which are whole cache lines and so whole blocks. They
            // are borrowed apart, or are `c` and `c_next`, which may be the same. The kernels are this process's.
            unsafe { (kernels.lstm)(&step) };
        }
        PackedCell::Gru(gated) => {
            let candidate = kept.map_or(std::ptr::null_mut(), |kept| kept.candidate[..rows].as_mut_ptr());
            let step = gru::Step {
                gates: gates.as_mut_ptr(),
                sums: sums.as_ptr(),
                h: h.as_ptr(),
                h_next: h_next.as_mut_ptr(),
                candidate,
                ..gru_step(rnn, gated, count, keep)
            };
            // SAFETY: as above; `candidate` has `count` rows where it is kept.
            unsafe { (kernels.gru)(&step) };
        }
        PackedCell::GruResetBefore(gated, _) => {
            let (reset_states, of_candidate) = scratch.split_at_mut(rows);
            let step = gru::Step {
                gates: gates.as_mut_ptr(),
                sums: sums.as_ptr(),
                h: h.as_ptr(),
                h_next: reset_states.as_mut_ptr(),
                ..gru_step(rnn, gated, count, keep)
            };
            // SAFETY: as above; the sums are those of two gates, which have fewer columns.
            unsafe { (kernels.gru_reset)(&step) };
            let of_candidate = &mut of_candidate[..rows];
            let reset_rows = Rows::Strided { values: reset_states, stride, count };
            multiply(Product::Candidate, reset_rows, of_candidate, stride);
            let step = gru::Step {
                gates: gates.as_mut_ptr(),
                sums: of_candidate.as_ptr(),
                sums_stride: stride,
                h: h.as_ptr(),
                h_next: h_next.as_mut_ptr(),
                ..gru_step(rnn, gated, count, keep)
            };
            // SAFETY: as above.
            unsafe { (kernels.gru_update)(&step) };
        }
    }
}

/// A GRU's step without its arrays.
fn gru_step(rnn: &PackedRnn, gated: &Gated, rows: usize, keep: bool) -> gru::Step {
    gru::Step {
        rows,
        units: rnn.units(),
        functions: gated.functions,
        gates: std::ptr::null_mut(),
        gates_stride: gate_stride(rnn),
        keep,
        sums: std::ptr::null(),
        sums_stride: gate_stride(rnn),
        h: std::ptr::null(),
        h_next: std::ptr::null_mut(),
        candidate: std::ptr::null_mut(),
        stride: row_stride(rnn.units()),
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

/// One step of a gated cell for `batch` rows; `scratch` has the [states before it](states_before). Gives the next ones.
pub(crate) fn step_gated<'a>(
    rnn: &PackedRnn,
    x: &[f32],
    batch: usize,
    scratch: &'a mut [f32],
) -> [&'a [f32]; 2] {
    let states = batch * row_stride(rnn.units());
    let (rows, rest) = scratch.split_at_mut(2 * states);
    let (cell_states, gates) = rest.split_at_mut(states);
    let x = Rows::Strided { values: x, stride: rnn.kernel.terms(), count: batch };
    let chunk = Chunk { rows, carried: batch, gates, cell_states };
    carry(rnn, x, chunk, Steps { counts: &[batch], first: 0 }, None);
    [&rows[states..], cell_states]
}
