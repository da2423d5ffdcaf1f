//! LSTM and GRU on the tape.
//!
//! # What is kept
//! Beside the states of a simple layer: every gate, a row for each compact row, in the kernels' order; an
//! LSTM's cell states, laid out as its states; of a GRU the candidate's share of the state, or with reset
//! before `r·h`. The gradients of the gates' sums have as many rows, gate after gate as in Keras's matrices,
//! so the products that follow are those of a layer with as many columns. The candidate of a GRU with reset
//! after has a sum of the state apart from that of the input, and its gradient stands before the others: the
//! gradients of the sums of the state are then a row's first three gates, n, z and r, and those of the sums
//! of the input its last three, z, r and n.
//!
//! # The backward pass
//! Step by step from the end, as in a simple layer: `dh_t` is what comes from above, what goes straight to a
//! GRU's state before, and the product of the next step's gradients. An LSTM's `dc` is carried on in place.
//!
//! # Masks by gate
//! As in Keras, recurrent dropout draws a mask for each gate, and input dropout beside it too. Each gate then
//! multiplies a state of its own, with matrices of its own.

mod backward;
mod forward;

use super::super::cells::{gate_stride, gates_len};
use super::{Plan, RnnOp};
use crate::dispatch::KernelSet;
use crate::error::Result;
use crate::gemm::{PackedMatrix, Rows, gated_segments};
use crate::layers::{PackedCell, PackedRnn};
use crate::memory::{AlignedVec, row_stride};

pub(super) use forward::ByGate;

/// What a gated layer keeps.
#[derive(Debug)]
pub(super) struct Gates {
    /// By compact row, in the kernels' order.
    gates: AlignedVec,
    /// By compact row, gate after gate: the gradients of the sums.
    dz: AlignedVec,
    /// Of an LSTM: a row a rank before the first step, then by compact row.
    cells: AlignedVec,
    /// Of a GRU, by compact row: the candidate's share of the state, or with reset before `r·h`.
    candidate: AlignedVec,
    /// By rank: an LSTM's gradient of the cell states; of a GRU, what goes straight to the state before.
    carried: AlignedVec,
    /// What a step works in.
    scratch: AlignedVec,
}

impl Default for Gates {
    fn default() -> Self {
        let [gates, dz, cells, candidate, carried, scratch] = [const { AlignedVec::empty() }; 6];
        Self { gates, dz, cells, candidate, carried, scratch }
    }
}

/// The matrices of one gate, forwards and back.
#[derive(Debug)]
pub(super) struct GateMatrices {
    kernel: PackedMatrix,
    recurrent: PackedMatrix,
    kernel_back: PackedMatrix,
    recurrent_back: PackedMatrix,
}

impl GateMatrices {
    pub(super) fn new(kernels: &'static KernelSet, features: usize, rnn: &PackedRnn) -> Result<Self> {
        let units = rnn.units();
        let forwards = |terms: usize| -> Result<PackedMatrix> {
            Ok(PackedMatrix::zeroed(kernels, terms, units)?.with_segments(gated_segments(terms, units)))
        };
        Ok(Self {
            kernel: forwards(features)?,
            recurrent: forwards(units)?,
            kernel_back: PackedMatrix::zeroed(kernels, units, features)?,
            recurrent_back: PackedMatrix::zeroed(kernels, units, units)?,
        })
    }

    /// Takes the columns of gate `gate` of Keras's matrices.
    pub(super) fn fill(&mut self, gate: usize, kernel: &[f32], recurrent: &[f32]) {
        let units = self.recurrent.columns();
        // Both matrices have as many columns.
        let all = recurrent.len() / units;
        self.kernel.fill_part(kernel, all, gate * units);
        self.recurrent.fill_part(recurrent, all, gate * units);
        self.kernel_back.fill_transposed_part(kernel, all, gate * units, 0..units);
        self.recurrent_back.fill_transposed_part(recurrent, all, gate * units, 0..units);
    }

    pub(super) fn bytes(&self) -> usize {
        let Self { kernel, recurrent, kernel_back, recurrent_back } = self;
        [kernel, recurrent, kernel_back, recurrent_back].into_iter().map(PackedMatrix::bytes).sum()
    }
}

impl Gates {
    /// Room for a batch.
    pub(super) fn reserve(&mut self, rnn: &PackedRnn, batch: usize, steps: usize) -> Result<()> {
        let total = batch.saturating_mul(steps);
        let (stride, dz_stride) = (row_stride(rnn.units()), gradient_stride(rnn));
        self.gates.reserve_rows(total, gate_stride(rnn))?;
        self.dz.reserve_rows(total, dz_stride)?;
        self.carried.reserve_rows(batch, stride)?;
        self.scratch.reserve_scratch(gates_len(rnn, 0, batch))?;
        match rnn.cell {
            PackedCell::SimpleRnn(_) => Ok(()),
            PackedCell::Lstm(_) => self.cells.reserve_rows(total.saturating_add(batch), stride),
            PackedCell::Gru(_) | PackedCell::GruResetBefore(..) => self.candidate.reserve_rows(total, stride),
        }
    }

    /// Floats that it holds.
    pub(super) fn len(&self) -> usize {
        let Self { gates, dz, cells, candidate, carried, scratch } = self;
        [gates, dz, cells, candidate, carried, scratch].iter().map(|buffer| buffer.len()).sum()
    }

    /// The gradients of the sums of the input, by compact row, from gate `gate` on.
    pub(super) fn of_input(&self, rnn: &PackedRnn, gate: usize, count: usize) -> Rows<'_> {
        gradient_rows(&self.dz, rnn, gate + usize::from(parts_candidate(rnn)), count)
    }

    /// The gradients of the sums of the state, from gate `gate` on, which the candidate's do not follow where
    /// they stand apart.
    pub(super) fn of_state(&self, rnn: &PackedRnn, gate: usize, count: usize) -> Rows<'_> {
        gradient_rows(&self.dz, rnn, first_of_state(rnn, gate), count)
    }

    /// By compact row, what the candidate's recurrent kernel multiplied, with reset before; after a backward
    /// pass.
    pub(super) fn reset_states(&self, rnn: &PackedRnn, count: usize) -> Rows<'_> {
        Rows::Strided { values: &self.candidate, stride: row_stride(rnn.units()), count }
    }

    /// An LSTM's cell states, which lie as its states do.
    pub(super) fn cell_states(&self) -> &[f32] {
        &self.cells
    }

    /// By rank, an LSTM's gradient of the cell states before the step that the backward pass has come to.
    pub(super) fn carried(&self) -> &[f32] {
        &self.carried
    }

    /// [`cell_states`](Self::cell_states), to be changed.
    pub(super) fn cell_states_mut(&mut self) -> &mut [f32] {
        &mut self.cells
    }
}

/// Whether the candidate's sum of the state has a gradient of its own: of a GRU with reset after.
fn parts_candidate(rnn: &PackedRnn) -> bool {
    matches!(rnn.cell, PackedCell::Gru(_))
}

/// Floats from row to row of gradients.
fn gradient_stride(rnn: &PackedRnn) -> usize {
    row_stride((rnn.gates() + usize::from(parts_candidate(rnn))) * rnn.units())
}

/// Which of a row's gradients is that of a gate's sum of the state.
fn first_of_state(rnn: &PackedRnn, gate: usize) -> usize {
    let apart = usize::from(parts_candidate(rnn));
    if gate + apart == rnn.gates() { 0 } else { gate + apart }
}

/// Rows of gradients, from the `first` of each on.
fn gradient_rows<'a>(gradients: &'a [f32], rnn: &PackedRnn, first: usize, count: usize) -> Rows<'a> {
    // A part without a used step has none.
    let values = gradients.get(first * rnn.units()..).unwrap_or_default();
    Rows::Strided { values, stride: gradient_stride(rnn), count }
}

/// Packs the transpose of a layer's recurrent kernel, whose terms stand as the gradients of the sums of the
/// state do. `candidate` is there where the gate has a product of its own; rows of `values` are `all` floats
/// apart.
pub(super) fn fill_recurrent_back(
    matrix: &mut PackedMatrix,
    candidate: Option<&mut PackedMatrix>,
    rnn: &PackedRnn,
    (values, all): (&[f32], usize),
) {
    let depth = matrix.depth();
    if parts_candidate(rnn) {
        let units = rnn.units();
        matrix.fill_transposed_part(values, all, depth - units, 0..units);
        matrix.fill_transposed_part(values, all, 0, units..depth);
    } else {
        matrix.fill_transposed_part(values, all, 0, 0..depth);
    }
    if let Some(candidate) = candidate {
        candidate.fill_transposed_part(values, all, depth, 0..candidate.depth());
    }
}

/// A layer's weights, and the batch that it runs over.
#[derive(Clone, Copy)]
pub(super) struct RnnPlan<'a> {
    pub(super) rnn: &'a PackedRnn,
    pub(super) plan: &'a Plan,
}

impl RnnOp {
    /// Whether each gate has masks of its own.
    pub(super) fn by_gate(&self) -> bool {
        self.cell.gates() > 1 && self.drops[1]
    }

    /// Masks of the input, and of the state, for a row.
    pub(super) fn masks(&self) -> usize {
        if self.by_gate() { self.cell.gates() } else { 1 }
    }

    /// The recurrent mask of a rank.
    pub(super) fn mask_of(&self, plan: &Plan, gate: usize, rank: usize, units: usize) -> &[f32] {
        let gate = if self.by_gate() { gate } else { 0 };
        &self.recurrent_mask[(gate * plan.schedule.batch + plan.schedule.order[rank]) * units..][..units]
    }
}
