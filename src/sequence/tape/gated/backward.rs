//! An LSTM's and a GRU's steps backwards: from the gradients of a step's states to those of its gates' sums.
//!
//! # Tried
//! Fetching a step's gates, gradients and states ahead, during the product before it, since they come from beyond
//! the second-level cache (256 units, AVX-512, 2026-11): the kernel took half the time, and the product as much
//! longer. LSTM 1.00 to 1.03 of the time of a forward and a backward pass, GRU 0.97 to 1.01.

use super::super::backward::{AfterStep, BackwardPass, Recurrence};
use super::super::steps::each_position;
use super::super::{RnnOp, Value, add_row, put_row};
use super::{Gates, first_of_state, gradient_rows, gradient_stride};
use crate::dispatch::{Function, KernelSet, gru, lstm};
use crate::gemm::{Init, multiply};
use crate::layers::{PackedCell, PackedRnn};
use crate::memory::row_stride;
use crate::sequence::cells::gate_stride;

impl Recurrence<'_> {
    /// What is carried back from behind the last steps: an LSTM's gradient of the cell states, where the loss
    /// depends on them.
    pub(in super::super) fn begin_gates(&self, gates: &mut Gates) {
        let stride = row_stride(self.rnn.units());
        for (to, &row) in gates.carried.chunks_exact_mut(stride).zip(self.pass.plan.schedule.order.iter()) {
            let given = if self.rnn.states() > 1 { self.final_gradient(1, row) } else { None };
            match given {
                Some(from) => put_row(to, from),
                None => to.fill(0.0),
            }
        }
    }

    /// To `dh`, the gradients of the states before a step, what went straight through that step, and the
    /// product of its gradients.
    pub(in super::super) fn add_gated(&mut self, after: AfterStep, gates: &Gates, dh: &mut [f32]) {
        let Self { op, pass, rnn, .. } = self;
        let (rnn, plan, stride) = (*rnn, pass.plan, row_stride(rnn.units()));
        let AfterStep { step, rows, onto } = after;
        if !onto {
            dh[..rows * stride].fill(0.0);
        }
        if rows == 0 {
            return;
        }
        if rnn.states() == 1 {
            let carried = gates.carried.chunks_exact(stride);
            dh.chunks_exact_mut(stride).zip(carried).take(rows).for_each(|(to, from)| add_row(to, from));
        }
        let dz = &gates.dz[plan.bases[step] * gradient_stride(rnn)..];
        if !op.by_gate() {
            let dz = gradient_rows(dz, rnn, 0, rows);
            return multiply(dz, pass.recurrent(), Init::Output, dh, stride);
        }
        let matrices = pass.by_gate();
        // With reset before, the candidate's product is made in its step.
        let with_state = if rnn.resets_before() { matrices.len() - 1 } else { matrices.len() };
        for (gate, matrices) in matrices[..with_state].iter().enumerate() {
            let of_gate = gradient_rows(dz, rnn, first_of_state(rnn, gate), rows);
            multiply(of_gate, &matrices.recurrent_back, Init::Bias(&plan.zeros), self.scratch, stride);
            self.add_masked(gate, rows, dh);
        }
    }

    /// One step back: the gradients of the gates' sums, and of what the step before hands on. `h` are the
    /// layer's states, those before the first step in front.
    pub(in super::super) fn gated_step_backward(
        &mut self,
        gates: &mut Gates,
        step: usize,
        dh: &[f32],
        h: &[f32],
    ) {
        let (plan, rnn) = (self.pass.plan, self.rnn);
        let count = plan.schedule.counts[step];
        let stride = row_stride(rnn.units());
        let (rows, before) = (count * stride, plan.slot_before(step) * stride);
        let step = StepBackward {
            rnn,
            kernels: plan.kernels,
            count,
            first: plan.bases[step],
            before,
            here: plan.slot(step) * stride,
            dh: &dh[..rows],
            h: &h[before..][..rows],
        };
        match &rnn.cell {
            PackedCell::SimpleRnn(_) => unreachable!("a simple cell has no gates"),
            PackedCell::Lstm(of) => step.lstm(gates, of.functions),
            PackedCell::Gru(of) => step.gru(gates, of.functions),
            PackedCell::GruResetBefore(of, _) => {
                let of_reset = &mut self.scratch[..rows];
                step.gru_update(gates, of.functions);
                step.reset_states(self.op, self.pass, gates, of_reset);
                step.gru_reset(gates, of.functions, of_reset);
            }
        }
    }
}

/// One step of the backward pass.
struct StepBackward<'a> {
    rnn: &'a PackedRnn,
    kernels: &'static KernelSet,
    /// Rows that have the step.
    count: usize,
    /// The compact row of the first.
    first: usize,
    /// Where the states before it begin among the layer's, and its own.
    before: usize,
    here: usize,
    /// The gradients of its states: `count` rows, as of every array of states.
    dh: &'a [f32],
    /// The states before it.
    h: &'a [f32],
}

impl StepBackward<'_> {
    /// The gates of the step's rows, of all compact rows'.
    fn gates<'a>(&self, gates: &'a [f32]) -> &'a [f32] {
        let stride = gate_stride(self.rnn);
        &gates[self.first * stride..][..self.count * stride]
    }

    /// The gradients of the step's rows, of all compact rows'.
    fn dz<'a>(&self, dz: &'a mut [f32]) -> &'a mut [f32] {
        let stride = gradient_stride(self.rnn);
        &mut dz[self.first * stride..][..self.count * stride]
    }

    /// A GRU's candidate's rows of the step, of all compact rows'.
    fn candidate<'a>(&self, candidate: &'a mut [f32]) -> &'a mut [f32] {
        let stride = row_stride(self.rnn.units());
        &mut candidate[self.first * stride..][..self.count * stride]
    }

    fn lstm(&self, arrays: &mut Gates, functions: [Function; 2]) {
        let (rows, stride) = (self.dh.len(), row_stride(self.rnn.units()));
        let back = lstm::Back {
            rows: self.count,
            units: self.rnn.units(),
            functions,
            gates: self.gates(&arrays.gates).as_ptr(),
            gates_stride: gate_stride(self.rnn),
            dz: self.dz(&mut arrays.dz).as_mut_ptr(),
            dz_stride: gradient_stride(self.rnn),
            c: arrays.cells[self.before..][..rows].as_ptr(),
            c_next: arrays.cells[self.here..][..rows].as_ptr(),
            dh: self.dh.as_ptr(),
            dc: arrays.carried[..rows].as_mut_ptr(),
            stride,
        };
        // SAFETY: the slices above hold `count` rows each: gates of `gate_stride` floats, which are at least
        // the columns of the kernel, gradients of at least four times `units`, and states of `stride` floats,
        // which are whole cache lines and so whole blocks. They are borrowed apart. The kernels are this
        // process's.
        unsafe { (self.kernels.lstm_back)(&back) };
    }

    /// What the kernels of a GRU have in common; what they write beside `dz` and `dh_before` is not there.
    #[inline(always)]
    fn gru_arrays(&self, arrays: &mut Gates, functions: [Function; 2]) -> gru::Back {
        gru::Back {
            rows: self.count,
            units: self.rnn.units(),
            functions,
            gates: self.gates(&arrays.gates).as_ptr(),
            gates_stride: gate_stride(self.rnn),
            dz: self.dz(&mut arrays.dz).as_mut_ptr(),
            du: std::ptr::null_mut(),
            dz_stride: gradient_stride(self.rnn),
            h: self.h.as_ptr(),
            candidate: std::ptr::null(),
            dh: self.dh.as_ptr(),
            dh_before: arrays.carried[..self.dh.len()].as_mut_ptr(),
            stride: row_stride(self.rnn.units()),
        }
    }

    /// Reset after.
    fn gru(&self, arrays: &mut Gates, functions: [Function; 2]) {
        let mut back = self.gru_arrays(arrays, functions);
        // The gradient of the candidate's sum of the state stands before the others.
        back.du = back.dz;
        // SAFETY: inside the first of the rows that `dz` sliced, which hold four times `units` each.
        back.dz = unsafe { back.du.add(self.rnn.units()) };
        back.candidate = self.candidate(&mut arrays.candidate).as_ptr();
        // SAFETY: as in `lstm`, for three times `units` behind the first.
        unsafe { (self.kernels.gru_back)(&back) };
    }

    /// Reset before: the gradients of z's and n's sums.
    fn gru_update(&self, arrays: &mut Gates, functions: [Function; 2]) {
        let back = self.gru_arrays(arrays, functions);
        // SAFETY: as in `lstm`, for three times `units`.
        unsafe { (self.kernels.gru_back_update)(&back) };
    }

    /// Reset before: the gradient of `r·h` in `of_reset`, from that of n's sum; and `r·h` itself, which the
    /// gradient of the weights is made of. Both times the mask of n.
    fn reset_states(&self, op: &RnnOp, pass: &BackwardPass<'_>, arrays: &mut Gates, of_reset: &mut [f32]) {
        let rnn = self.rnn;
        let (units, stride, gates_stride) = (rnn.units(), row_stride(rnn.units()), gate_stride(rnn));
        let gate = rnn.gates() - 1;
        let of_candidate = gradient_rows(self.dz(&mut arrays.dz), rnn, gate, self.count);
        multiply(of_candidate, pass.candidate(), Init::Bias(&pass.plan.zeros), of_reset, stride);
        let gates = self.gates(&arrays.gates);
        let reset_states = self.candidate(&mut arrays.candidate);
        let order = rnn.order();
        for rank in 0..self.count {
            let at = rank * stride;
            let mask = op.drops[1].then(|| op.mask_of(pass.plan, gate, rank, units));
            for unit in 0..units {
                let r = gates[rank * gates_stride + order.column(1, unit)];
                let mask = mask.map_or(1.0, |mask| mask[unit]);
                reset_states[at + unit] = r * self.h[at + unit] * mask;
                of_reset[at + unit] *= mask;
            }
        }
    }

    /// Reset before: the gradient of r's sum, from that of `r·h`.
    fn gru_reset(&self, arrays: &mut Gates, functions: [Function; 2], of_reset: &[f32]) {
        let mut back = self.gru_arrays(arrays, functions);
        back.candidate = of_reset[..self.dh.len()].as_ptr();
        // SAFETY: as in `lstm`, for three times `units`; `of_reset` has `count` rows too.
        unsafe { (self.kernels.gru_back_reset)(&back) };
    }
}

impl RnnOp {
    /// The gradients of the input where each gate has a mask: `Σ m_g·(dz_g·W_gᵀ)`, by compact row, into `to`.
    /// `of_gate` has room for the rows of a gate.
    pub(in super::super) fn input_gradient_by_gate(
        &self,
        pass: &BackwardPass<'_>,
        (rnn, gates): (&PackedRnn, &Gates),
        input: &Value,
        to: &mut [f32],
        of_gate: &mut [f32],
    ) {
        let schedule = &pass.plan.schedule;
        let (total, features, stride) = (schedule.total(), input.features, input.stride);
        to[..total * stride].fill(0.0);
        for (gate, matrices) in pass.by_gate().iter().enumerate() {
            let rows = gates.of_input(rnn, gate, total);
            multiply(rows, &matrices.kernel_back, Init::Bias(&pass.plan.zeros), of_gate, stride);
            let masks = &self.input_mask[gate * schedule.batch * features..];
            let mut n = 0;
            each_position(schedule, self.layout(), |position| {
                let mask = &masks[position / schedule.steps * features..][..features];
                let from = &of_gate[n..];
                to[n..].iter_mut().zip(from).zip(mask).for_each(|((to, from), mask)| *to += from * mask);
                n += stride;
            });
        }
    }
}
