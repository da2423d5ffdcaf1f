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
//! # The way back
//! Step by step from the end, as in a simple layer: `dh_t` is what comes from above, what goes straight to a
//! GRU's state before, and the product of the next step's gradients. An LSTM's `dc` is carried on in place.
//!
//! # Masks by gate
//! As in Keras, recurrent dropout draws a mask for each gate, and input dropout beside it too. Each gate then
//! multiplies a state of its own, with matrices of its own.

use super::super::cells::{GatedStep, Kept, Product, gate_stride, gated_step, gated_step_with, gates_len};
use super::backward::To;
use super::{Back, Plan, RnnOp, Value, add_row, put_row};
use crate::dispatch::{Function, KernelSet, gru, lstm};
use crate::error::Result;
use crate::gemm::{Init, PackedMatrix, Rows, gated_segments, multiply};
use crate::layers::{PackedCell, PackedRnn};
use crate::memory::{AlignedVec, row_stride};
use crate::sequence::Padding;

/// Rows of a chunk, unless its first step has more; see [`chunk_rows`].
const CHUNK_ROWS: usize = 64;

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

    /// By compact row, what the candidate's recurrent kernel multiplied, with reset before; after a way back.
    pub(super) fn reset_states(&self, rnn: &PackedRnn, count: usize) -> Rows<'_> {
        Rows::Strided { values: &self.candidate, stride: row_stride(rnn.units()), count }
    }

    /// An LSTM's cell states, which lie as its states do.
    pub(super) fn cell_states(&self) -> &[f32] {
        &self.cells
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
    let terms = matrix.terms();
    if parts_candidate(rnn) {
        let units = rnn.units();
        matrix.fill_transposed_part(values, all, terms - units, 0..units);
        matrix.fill_transposed_part(values, all, 0, units..terms);
    } else {
        matrix.fill_transposed_part(values, all, 0, 0..terms);
    }
    if let Some(candidate) = candidate {
        candidate.fill_transposed_part(values, all, terms, 0..candidate.terms());
    }
}

/// A layer's weights, and the batch that it runs over.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) rnn: &'a PackedRnn,
    pub(super) plan: &'a Plan,
}

/// Rows whose sums of the input are made at once, so that they are still in the second-level cache when their
/// step comes: those of whole steps, the first of which `counts` begins with.
fn chunk_rows(counts: &[usize]) -> usize {
    let mut rows = 0;
    for count in counts {
        if rows > 0 && rows + count > CHUNK_ROWS {
            break;
        }
        rows += count;
    }
    rows
}

/// Where the rows of a compact step begin, and those before them, in rows of states.
fn slots(plan: &Plan, step: usize) -> [usize; 2] {
    let batch = plan.work.batch;
    let before = if step == 0 { 0 } else { batch + plan.bases[step - 1] };
    [before, batch + plan.bases[step]]
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

    /// Turns the rows that each gate reads into those of the states in `out`; the states before the first
    /// step are there. `masked` has room for two rows a rank.
    pub(super) fn forward_gated<'a>(
        &self,
        of: Of<'_>,
        gated: &mut Gates,
        input: impl Fn(usize) -> Rows<'a>,
        out: &mut [f32],
        (back, masked): (Option<&Back>, &mut [f32]),
    ) {
        let Of { rnn, plan } = of;
        let (work, stride, gate_stride) = (&plan.work, row_stride(rnn.units()), gate_stride(rnn));
        let by_gate = self.by_gate().then(|| back.map_or(&[][..], |back| &back.by_gate));
        let Gates { gates, dz, cells, candidate, scratch, .. } = gated;
        // Rows whose sums of the input are still to be made.
        let mut rest = None;
        match by_gate {
            Some(matrices) if self.drops[0] => {
                sums_by_gate(rnn, matrices, input, gates, dz);
            }
            _ => rest = Some(input(0)),
        }
        let mut made = 0;
        for (step, &count) in work.counts.iter().enumerate() {
            let [before, here] = slots(plan, step).map(|row| row * stride);
            let first = plan.bases[step];
            if let Some(rows) = rest.filter(|_| first == made) {
                let (now, others) = rows.split_at(chunk_rows(&work.counts[step..]));
                multiply(
                    now,
                    &rnn.kernel,
                    Init::Bias(&rnn.bias),
                    &mut gates[first * gate_stride..],
                    gate_stride,
                );
                (rest, made) = (Some(others), first + now.count());
            }
            let (states, after) = out.split_at_mut(here);
            let (cells_before, cell_states): (&[f32], &mut [f32]) = match rnn.cell {
                PackedCell::Lstm(_) => {
                    let (all_before, after) = cells.split_at_mut(here);
                    (&all_before[before..], after)
                }
                _ => (&[], &mut []),
            };
            let candidate = candidate.get_mut(first * stride..).unwrap_or_default();
            let step_now = GatedStep {
                count,
                gates: &mut gates[first * gate_stride..],
                h: &states[before..],
                h_next: after,
                kept: Some(Kept { cell_states: cells_before, candidate }),
            };
            match by_gate {
                None => gated_step(rnn, step_now, cell_states, scratch, step % 2 == 1),
                Some(matrices) => {
                    let product = self.products_by_gate(rnn, plan, matrices, masked);
                    gated_step_with(rnn, step_now, cell_states, scratch, product);
                }
            }
        }
    }

    /// The products of a step with states times the gates' masks; `masked` has room for two rows a rank.
    fn products_by_gate<'a>(
        &'a self,
        rnn: &'a PackedRnn,
        plan: &'a Plan,
        matrices: &'a [GateMatrices],
        masked: &'a mut [f32],
    ) -> impl FnMut(Product, Rows<'_>, &mut [f32], usize) {
        move |product, rows: Rows<'_>, sums: &mut [f32], sums_stride| {
            let (units, stride, count) = (rnn.units(), row_stride(rnn.units()), rows.count());
            let (masked, sum) = masked.split_at_mut(plan.work.batch * stride);
            let mut of_gate = |gate: usize, sum: &mut [f32]| {
                for (rank, to) in masked.chunks_exact_mut(stride).take(count).enumerate() {
                    let mask = self.mask_of(plan, gate, rank, units);
                    to.iter_mut().zip(rows.row(rank)).zip(mask).for_each(|((to, h), mask)| *to = h * mask);
                }
                let rows = Rows::Strided { values: masked, stride, count };
                multiply(rows, &matrices[gate].recurrent, Init::Bias(&plan.zeros), sum, stride);
            };
            if product == Product::Candidate {
                return of_gate(matrices.len() - 1, sums);
            }
            let mut order = rnn.order();
            order.gates = if rnn.resets_before() { matrices.len() - 1 } else { matrices.len() };
            for gate in 0..order.gates {
                of_gate(gate, sum);
                let start = match &rnn.cell {
                    PackedCell::Gru(gated) => &gated.start[..],
                    _ => &plan.zeros,
                };
                for (to, sum) in sums.chunks_mut(sums_stride).zip(sum.chunks_exact(stride)).take(count) {
                    for (unit, sum) in sum[..units].iter().enumerate() {
                        let column = order.column(gate, unit);
                        to[column] = start.get(column).copied().unwrap_or(0.0) + sum;
                    }
                }
            }
        }
    }

    /// The recurrent mask of a rank.
    fn mask_of(&self, plan: &Plan, gate: usize, rank: usize, units: usize) -> &[f32] {
        let gate = if self.by_gate() { gate } else { 0 };
        &self.recurrent_mask[(gate * plan.work.batch + plan.work.order[rank]) * units..][..units]
    }

    /// The way back through time: from the gradients of the states in `dh` to those of the sums.
    pub(super) fn gated_through_time(
        &mut self,
        of: Of<'_>,
        gated: &mut Gates,
        value: &mut Value,
        dh: &mut [f32],
        scratch: &mut [f32],
        results: &mut To<'_, '_, '_>,
    ) {
        let Of { rnn, plan } = of;
        let (work, units, stride) = (&plan.work, rnn.units(), row_stride(rnn.units()));
        let batch = work.batch;
        self.take_ends(plan, value, results);
        for (rank, &row) in work.order.iter().enumerate() {
            let to = &mut gated.carried[rank * stride..][..stride];
            let ends = (rnn.states() > 1).then_some(results.final_state);
            match ends.and_then(|ends| ends.of(self.state_base + units, results.first + row, units)) {
                Some(from) => put_row(to, from),
                None => to.fill(0.0),
            }
        }
        for (step, &count) in work.counts.iter().enumerate().rev() {
            let next = work.counts.get(step + 1).copied().unwrap_or(0);
            let [before, here] = slots(plan, step).map(|row| row * stride);
            let dh = &mut dh[here..][..count * stride];
            if !value.filled {
                dh[..next * stride].fill(0.0);
            }
            self.add_next_step(of, gated, (step + 1, next), dh, scratch, results);
            value.add_ends(dh, next..count);
            self.note_squares(plan, step, dh, &value.rows[here..]);
            let h = &value.rows[before..];
            self.one_gated_step_back(of, gated, (step, count), (dh, h), scratch, results);
        }
        // The states before the first step.
        let first = work.counts.first().copied().unwrap_or(0);
        let dh = &mut dh[..batch * stride];
        dh[..first * stride].fill(0.0);
        self.add_next_step(of, gated, (0, first), dh, scratch, results);
        self.put_initial(plan, results, dh, 0, [units, stride]);
        if rnn.states() > 1 {
            self.put_initial(plan, results, &gated.carried, units, [units, stride]);
        }
    }

    /// Adds to `dh`, the gradients of the states before compact step `step`, which `next` rows have, what
    /// went straight through it, and the product of its gradients.
    fn add_next_step(
        &self,
        of: Of<'_>,
        gated: &Gates,
        (step, next): (usize, usize),
        dh: &mut [f32],
        scratch: &mut [f32],
        results: &To<'_, '_, '_>,
    ) {
        if next == 0 {
            return;
        }
        let Of { rnn, plan } = of;
        let (units, stride) = (rnn.units(), row_stride(rnn.units()));
        for (rank, to) in dh.chunks_exact_mut(stride).take(next).enumerate() {
            if rnn.states() == 1 {
                add_row(to, &gated.carried[rank * stride..][..stride]);
            }
        }
        let gradients = &gated.dz[plan.bases[step] * gradient_stride(rnn)..];
        if !self.by_gate() {
            multiply(gradient_rows(gradients, rnn, 0, next), results.recurrent(), Init::Output, dh, stride);
            return;
        }
        let matrices = results.by_gate();
        // With reset before, the candidate's product is made in its step.
        let gates = if rnn.resets_before() { matrices.len() - 1 } else { matrices.len() };
        for (gate, matrices) in matrices[..gates].iter().enumerate() {
            let of_gate = gradient_rows(gradients, rnn, first_of_state(rnn, gate), next);
            multiply(of_gate, &matrices.recurrent_back, Init::Bias(&plan.zeros), scratch, stride);
            for (rank, to) in dh.chunks_exact_mut(stride).take(next).enumerate() {
                let mask = self.mask_of(plan, gate, rank, units);
                let from = &scratch[rank * stride..];
                to.iter_mut().zip(from).zip(mask).for_each(|((to, from), mask)| *to += from * mask);
            }
        }
    }

    /// One step back: the gradients of the gates' sums, and of what the step before hands on.
    fn one_gated_step_back(
        &self,
        of: Of<'_>,
        gated: &mut Gates,
        (step, count): (usize, usize),
        (dh, h): (&[f32], &[f32]),
        scratch: &mut [f32],
        results: &To<'_, '_, '_>,
    ) {
        let Of { rnn, plan } = of;
        let (units, stride, gate_stride) = (rnn.units(), row_stride(rnn.units()), gate_stride(rnn));
        let dz_stride = gradient_stride(rnn);
        let (rows, first) = (count * stride, plan.bases[step]);
        let [before, here] = slots(plan, step).map(|row| row * stride);
        let Gates { gates, dz, cells, candidate, carried, .. } = gated;
        let gates = &gates[first * gate_stride..][..count * gate_stride];
        let dz = &mut dz[first * dz_stride..][..count * dz_stride];
        let (dh, h, carried) = (&dh[..rows], &h[..rows], &mut carried[..rows]);
        let kernels = plan.kernels;
        let gru_back = |functions| gru::Back {
            rows: count,
            units,
            functions,
            gates: gates.as_ptr(),
            gates_stride: gate_stride,
            dz: std::ptr::null_mut(),
            du: std::ptr::null_mut(),
            dz_stride,
            h: h.as_ptr(),
            candidate: std::ptr::null(),
            dh: dh.as_ptr(),
            dh_before: std::ptr::null_mut(),
            stride,
        };
        match &rnn.cell {
            PackedCell::SimpleRnn(_) => unreachable!("a simple cell has no gates"),
            PackedCell::Lstm(of) => {
                let back = lstm::Back {
                    rows: count,
                    units,
                    functions: of.functions,
                    gates: gates.as_ptr(),
                    gates_stride: gate_stride,
                    dz: dz.as_mut_ptr(),
                    dz_stride,
                    c: cells[before..][..rows].as_ptr(),
                    c_next: cells[here..][..rows].as_ptr(),
                    dh: dh.as_ptr(),
                    dc: carried.as_mut_ptr(),
                    stride,
                };
                // SAFETY: the slices above hold `count` rows each: gates of `gate_stride` floats, which are
                // at least the columns of the kernel, gradients of at least four times `units`, and states of
                // `stride` floats, which are whole cache lines and so whole blocks. They are borrowed apart.
                // The kernels are this process's.
                unsafe { (kernels.lstm_back)(&back) };
            }
            PackedCell::Gru(of) => {
                let du = dz.as_mut_ptr();
                let back = gru::Back {
                    // SAFETY: inside the first of the rows sliced above, which hold four times `units` each.
                    dz: unsafe { du.add(units) },
                    du,
                    candidate: candidate[first * stride..][..rows].as_ptr(),
                    dh_before: carried.as_mut_ptr(),
                    ..gru_back(of.functions)
                };
                // SAFETY: as above, for three times `units` behind the first.
                unsafe { (kernels.gru_back)(&back) };
            }
            PackedCell::GruResetBefore(of, _) => {
                let back = gru::Back {
                    dz: dz.as_mut_ptr(),
                    dh_before: carried.as_mut_ptr(),
                    ..gru_back(of.functions)
                };
                // SAFETY: as above.
                unsafe { (kernels.gru_back_update)(&back) };
                let of_reset = &mut scratch[..rows];
                let gate = rnn.gates() - 1;
                let of_candidate = gradient_rows(dz, rnn, gate, count);
                multiply(of_candidate, results.candidate(), Init::Bias(&plan.zeros), of_reset, stride);
                let reset_states = &mut candidate[first * stride..][..rows];
                let order = rnn.order();
                for rank in 0..count {
                    let at = rank * stride;
                    let mask = self.drops[1].then(|| self.mask_of(plan, gate, rank, units));
                    for unit in 0..units {
                        let r = gates[rank * gate_stride + order.column(1, unit)];
                        let mask = mask.map_or(1.0, |mask| mask[unit]);
                        reset_states[at + unit] = r * h[at + unit] * mask;
                        of_reset[at + unit] *= mask;
                    }
                }
                let back = gru::Back {
                    dz: dz.as_mut_ptr(),
                    candidate: of_reset.as_ptr(),
                    dh_before: carried.as_mut_ptr(),
                    ..gru_back(of.functions)
                };
                // SAFETY: as above; `of_reset` has `count` rows.
                unsafe { (kernels.gru_back_reset)(&back) };
            }
        }
    }

    /// By time and row, what the norm of `dLoss/dh_t` is made of.
    fn note_squares(&mut self, plan: &Plan, step: usize, dh: &mut [f32], h: &[f32]) {
        let work = &plan.work;
        let (batch, count) = (work.batch, work.counts[step]);
        let stride = dh.len() / count;
        for rank in 0..count {
            let place = work.time(rank, step, self.reversed) * batch + work.order[rank];
            let squares = &mut self.squares[2 * place..];
            let at = rank * stride;
            super::backward::through(
                plan,
                Function::Linear,
                &mut dh[at..],
                &h[at..],
                [1, stride, stride],
                Some(squares),
            );
        }
    }

    /// Writes the gradients of an array of initial states, which begins `array` units into the layer's, from
    /// those by rank.
    pub(super) fn put_initial(
        &self,
        plan: &Plan,
        results: &mut To<'_, '_, '_>,
        from: &[f32],
        array: usize,
        [units, stride]: [usize; 2],
    ) {
        let work = &plan.work;
        let (batch, base) = (work.batch, self.state_base + array);
        let first = work.counts.first().copied().unwrap_or(0);
        let initial = &mut *results.initial;
        if initial.len() < (base + units) * batch {
            initial.resize((base + units) * batch, 0.0);
        }
        for (rank, &row) in work.order.iter().enumerate() {
            let to = &mut initial[batch * base + row * units..][..units];
            // A row without a step hands its state through, but for ONNX, where it has no final state; what
            // its output is does not depend on it.
            let handed = results.final_state.of(base, results.first + row, units);
            match handed.filter(|_| work.padding == Padding::Keras) {
                _ if rank < first => to.copy_from_slice(&from[rank * stride..][..units]),
                Some(given) => to.copy_from_slice(given),
                None => to.fill(0.0),
            }
        }
    }

    /// The gradients of the input where each gate has a mask: `Σ m_g·(dz_g·W_gᵀ)`, by compact row, into `to`.
    pub(super) fn input_back_by_gate(
        &self,
        of: Of<'_>,
        gated: &Gates,
        [features, stride]: [usize; 2],
        (to, of_gate): (&mut [f32], &mut [f32]),
        results: &To<'_, '_, '_>,
    ) {
        let Of { rnn, plan } = of;
        let work = &plan.work;
        let total = work.total();
        to[..total * stride].fill(0.0);
        for (gate, matrices) in results.by_gate().iter().enumerate() {
            let rows = gated.of_input(rnn, gate, total);
            multiply(rows, &matrices.kernel_back, Init::Bias(&plan.zeros), of_gate, stride);
            let mut n = 0;
            super::steps::each_place(work, self.layout(), |place| {
                let mask =
                    &self.input_mask[(gate * work.batch + place / work.steps) * features..][..features];
                let from = &of_gate[n..];
                to[n..].iter_mut().zip(from).zip(mask).for_each(|((to, from), mask)| *to += from * mask);
                n += stride;
            });
        }
    }
}

impl Value {
    /// Adds the gradients of the last states of the rows `ranks`, which have no further step, or puts them
    /// where nothing is yet.
    pub(super) fn add_ends(&self, dh: &mut [f32], ranks: std::ops::Range<usize>) {
        let stride = self.stride;
        for rank in ranks {
            let to = &mut dh[rank * stride..][..stride];
            match (self.filled, self.has_ends) {
                (true, true) => add_row(to, &self.ends[rank * stride..][..stride]),
                (true, false) => {}
                (false, true) => to.copy_from_slice(&self.ends[rank * stride..][..stride]),
                (false, false) => to.fill(0.0),
            }
        }
    }
}

/// `x·W + b`, gate by gate, each of an input of its own, in the kernels' order; `sum` has room for the rows
/// of a gate.
fn sums_by_gate<'a>(
    rnn: &PackedRnn,
    matrices: &[GateMatrices],
    input: impl Fn(usize) -> Rows<'a>,
    gates: &mut [f32],
    sum: &mut [f32],
) {
    let (units, stride, gate_stride) = (rnn.units(), row_stride(rnn.units()), gate_stride(rnn));
    let order = rnn.order();
    for (gate, matrices) in matrices.iter().enumerate() {
        let rows = input(gate);
        // The bias of this gate, side by side, is added below.
        sum[..rows.count() * stride].fill(0.0);
        multiply(rows, &matrices.kernel, Init::Output, sum, stride);
        for (to, sum) in gates.chunks_mut(gate_stride).zip(sum.chunks_exact(stride)).take(rows.count()) {
            for (unit, sum) in sum[..units].iter().enumerate() {
                let column = order.column(gate, unit);
                to[column] = rnn.bias[column] + sum;
            }
        }
    }
}
